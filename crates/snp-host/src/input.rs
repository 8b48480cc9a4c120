//! Files as text: one place for the limits every reader shares.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The largest file that is read, in bytes (256 MiB).
///
/// Kernel logs are megabytes and published traces tens of megabytes; a larger file is most likely
/// not what was meant, and every reader holds the whole text in memory.
pub const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// Why a file could not be taken as text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The operating system refused.
    #[error("{file}: cannot be read: {source}")]
    Io {
        /// The file.
        file: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Neither a regular file nor something that reads like one.
    #[error("{file}: is a directory, expected a file")]
    Directory {
        /// The path.
        file: String,
    },
    /// Larger than [`MAX_FILE_BYTES`].
    #[error("{file}: larger than {limit} bytes (256 MiB), expected a smaller text file")]
    TooLarge {
        /// The file.
        file: String,
        /// The limit, [`MAX_FILE_BYTES`].
        limit: u64,
    },
    /// No text at all.
    #[error("{file}: empty, expected text")]
    Empty {
        /// The file.
        file: String,
    },
    /// Not text: an archive, a compressed log, a log with runs of NUL bytes.
    #[error("{file}:{line}: binary data ({what}), expected UTF-8 text{hint}")]
    Binary {
        /// The file.
        file: String,
        /// Line (from 1) of the first byte that is not text.
        line: usize,
        /// What was seen.
        what: &'static str,
        /// What to do about it, or nothing.
        hint: &'static str,
    },
    /// Text in another encoding.
    #[error("{file}:{line}: byte {offset} is not UTF-8, expected UTF-8 text")]
    NotUtf8 {
        /// The file.
        file: String,
        /// Line (from 1) of the first bad byte.
        line: usize,
        /// Its offset from the start of the file, in bytes from 0.
        offset: usize,
    },
}

/// Reads a whole file as text, within [`MAX_FILE_BYTES`]. A UTF-8 byte order mark is dropped.
pub fn read_text(path: &Path) -> Result<String, InputError> {
    text_from_bytes(&path.display().to_string(), read_bytes(path)?)
}

/// Reads a whole file, within [`MAX_FILE_BYTES`].
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, InputError> {
    let file = path.display().to_string();
    let io = |source| InputError::Io { file: file.clone(), source };
    let opened = File::open(path).map_err(io)?;
    let meta = opened.metadata().map_err(io)?;
    if meta.is_dir() {
        return Err(InputError::Directory { file });
    }
    if meta.len() > MAX_FILE_BYTES {
        return Err(InputError::TooLarge { file, limit: MAX_FILE_BYTES });
    }
    bytes_from(&file, opened)
}

/// Reads all of `source`, within [`MAX_FILE_BYTES`]; `file` is its name for errors.
pub fn bytes_from(file: &str, source: impl Read) -> Result<Vec<u8>, InputError> {
    // Files below /proc and pipes state no length, so the limit holds for what is read too.
    let mut bytes = Vec::new();
    source
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| InputError::Io { file: file.to_owned(), source })?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(InputError::TooLarge { file: file.to_owned(), limit: MAX_FILE_BYTES });
    }
    Ok(bytes)
}

/// Refuses what is packed or in an encoding of two bytes, which no reader takes.
pub fn refuse_packed(file: &str, bytes: &[u8]) -> Result<(), InputError> {
    match signature(bytes) {
        Some((what, hint)) => {
            Err(InputError::Binary { file: file.to_owned(), line: 1, what, hint })
        }
        None => Ok(()),
    }
}

/// Takes bytes as text, by the same rules as [`read_text`]; `file` is the name for errors.
pub fn text_from_bytes(file: &str, mut bytes: Vec<u8>) -> Result<String, InputError> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(InputError::Empty { file: file.to_owned() });
    }
    refuse_packed(file, &bytes)?;
    if let Some(at) = bytes.iter().position(|b| *b == 0) {
        let line = line_of(&bytes, at);
        return Err(InputError::Binary {
            file: file.to_owned(),
            line,
            what: "a NUL byte",
            hint: "; a log written across a crash can hold them: remove them first",
        });
    }
    String::from_utf8(bytes).map_err(|e| {
        let offset = e.utf8_error().valid_up_to();
        let line = line_of(e.as_bytes(), offset);
        InputError::NotUtf8 { file: file.to_owned(), line, offset }
    })
}

fn line_of(bytes: &[u8], offset: usize) -> usize {
    bytes.iter().take(offset).filter(|b| **b == b'\n').count() + 1
}

/// Formats a log is often kept in, by their first bytes.
fn signature(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    const UNPACK: &str = "; unpack it first";
    const KNOWN: [(&[u8], &str, &str); 7] = [
        (b"\x1f\x8b", "gzip", UNPACK),
        (b"\x28\xb5\x2f\xfd", "zstd", UNPACK),
        (b"\xfd7zXZ\x00", "xz", UNPACK),
        (b"BZh", "bzip2", UNPACK),
        (b"\xff\xfe", "UTF-16", "; save it as UTF-8"),
        (b"\xfe\xff", "UTF-16", "; save it as UTF-8"),
        (b"LPKSHHRH", "systemd journal", "; use `journalctl -k --file`"),
    ];
    KNOWN.iter().find(|(magic, ..)| bytes.starts_with(magic)).map(|(_, what, hint)| (*what, *hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(bytes: &[u8]) -> String {
        text_from_bytes("f", bytes.to_vec()).unwrap_err().to_string()
    }

    #[test]
    fn plain_text_and_bom() {
        assert_eq!(text_from_bytes("f", b"a\r\nb".to_vec()).unwrap(), "a\r\nb");
        assert_eq!(text_from_bytes("f", b"\xef\xbb\xbfa".to_vec()).unwrap(), "a");
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(fails(b""), "f: empty, expected text");
        assert_eq!(fails(b" \r\n\n"), "f: empty, expected text");
        assert!(fails(b"a\nb\0c").starts_with("f:2: binary data (a NUL byte)"));
        assert!(fails(b"\x1f\x8b\x08\x00").contains("gzip"));
        assert!(fails(b"\xff\xfea\0").contains("UTF-16"));
        assert_eq!(fails(b"a\n\xff"), "f:2: byte 2 is not UTF-8, expected UTF-8 text");
    }

    #[test]
    fn too_large_is_refused_without_reading() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        File::create(&path).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        assert!(matches!(read_text(&path), Err(InputError::TooLarge { .. })));
        assert!(matches!(read_text(dir.path()), Err(InputError::Directory { .. })));
        assert!(matches!(read_text(&dir.path().join("none")), Err(InputError::Io { .. })));
    }
}
