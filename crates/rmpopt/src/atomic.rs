//! Files that are whole at every moment: written beside, synced, and put in place by a rename.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::exit::Failure;

/// Replaces `path`, whether or not it is there, even if it is a link. `mode` is as for chmod; without
/// it the file has the rights of any new one. If it fails, what was there stays as it was.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: Option<u32>) -> Result<(), Failure> {
    put(path, bytes, mode).map_err(|error| unwritten(path, &error))
}

/// Writes the file at the end of any links. What is no regular file, such as a pipe, is written to.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = match replaced(path) {
        Some(target) => put(&target, bytes, None),
        None => std::fs::write(path, bytes),
    };
    written.map_err(|error| unwritten(path, &error))
}

/// Fails if [`write_whole`] could not write this file.
pub(crate) fn check_writable(path: &Path) -> Result<(), Failure> {
    let tried = match replaced(path) {
        Some(target) => beside(folder(&target)).map(drop),
        None => OpenOptions::new().append(true).open(path).map(drop),
    };
    tried.map_err(|error| unwritten(path, &error))
}

fn put(path: &Path, bytes: &[u8], mode: Option<u32>) -> io::Result<()> {
    if path.file_name().is_none() {
        return Err(io::Error::other("expected the name of a file"));
    }
    let folder = folder(path);
    let mut file = beside(folder)?;
    file.write_all(bytes)?;
    if let Some(mode) = mode {
        // Whatever the umask is.
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// The file that takes the place of `path`, at the end of any links; none if something else is there.
fn replaced(path: &Path) -> Option<PathBuf> {
    match path.canonicalize() {
        Ok(target) => target.is_file().then_some(target),
        Err(_) => Some(path.to_owned()),
    }
}

fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// A file for the bytes in the same folder, with the rights that a new file has. The beginning of its
/// name hides it, and the end keeps collectors of `*.prom` from reading it.
fn beside(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".rmpopt-").suffix(".tmp").permissions(Permissions::from_mode(0o666));
    builder.tempfile_in(folder)
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::CannotRead(format!("{}: cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_or_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.prom");
        for (text, mode) in [("one", 0o640), ("two", 0o644)] {
            replace(&path, text.as_bytes(), Some(mode)).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("kept"), "").unwrap();
        assert!(replace(&folder, b"x", None).is_err());
        assert!(replace(Path::new("/"), b"x", None).is_err());
        let names = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        assert_eq!(names, ["folder", "x.prom"], "nothing is left behind");
    }

    #[test]
    fn links_are_followed_or_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("page.html");
        check_writable(&file).unwrap();
        assert!(!file.exists());
        write_whole(&file, b"one").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_whole(&link, b"two").unwrap();
        assert!(link.is_symlink());
        replace(&link, b"three", None).unwrap();
        assert!(!link.is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        let names = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(names, 2, "nothing is left beside it");
        let rights = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(rights & 0o600, 0o600);
    }

    #[test]
    fn what_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        for bad in [dir.path().to_owned(), dir.path().join("none/page.html")] {
            assert!(check_writable(&bad).is_err());
            let error = write_whole(&bad, b"x").unwrap_err().to_string();
            assert!(error.contains("cannot be written"), "{error}");
        }
        write_whole(Path::new("/dev/null"), b"x").unwrap();
    }
}
