//! From bytes to lines worth a look, fast: most of a log concerns nothing that is decoded here.

use std::borrow::Cow;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

/// Words one of which every known line has, in any case. Short, so that a search for all at once is
/// fast, and early in their lines, so that a line that was wrapped still has them.
const HOT: [&str; 21] = [
    "sev",
    "snp",
    "rmp",
    "psmash",
    "pvalidate",
    "amd-vi",
    "ccp ",
    "kvm_amd",
    "#pf:",
    "error_code",
    "npf",
    "exit_code",
    "encryption features",
    "linux version",
    "-- boot",
    "-- reboot",
    "leaking pfn",
    "validate address",
    "direct map for pfn",
    "memory @",
    "disabling vmpck",
];

static SEARCH: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| AhoCorasick::builder().ascii_case_insensitive(true).build(HOT).ok());

/// Longest part of a line that is looked at, in bytes. Kernel lines have at most about 1,000.
const LONGEST: usize = 64 * 1024;

/// A line of the input.
#[derive(Debug, Clone)]
pub(super) struct Line<'a> {
    /// Line number, from 1.
    pub(super) number: usize,
    /// Offset behind the line and its end.
    pub(super) next: usize,
    /// Its text, without colours, line end and what is not UTF-8.
    pub(super) text: Cow<'a, str>,
}

/// Bytes of a log, taken apart into lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Log<'a> {
    bytes: &'a [u8],
}

impl<'a> Log<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many lines there are; a last one without its end counts.
    pub(super) fn count(&self) -> usize {
        let ends = memchr::memchr_iter(b'\n', self.bytes).count();
        ends + usize::from(self.bytes.last().is_some_and(|last| *last != b'\n'))
    }

    /// The line that begins at `offset` and has this number.
    pub(super) fn line_at(&self, offset: usize, number: usize) -> Option<Line<'a>> {
        let rest = self.bytes.get(offset..).filter(|rest| !rest.is_empty())?;
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let text = rest.get(..length.min(LONGEST)).unwrap_or_default();
        Some(Line { number, next: offset + length + 1, text: clean(text) })
    }

    /// The lines from `offset` on.
    pub(super) fn from(self, offset: usize, number: usize) -> impl Iterator<Item = Line<'a>> {
        let mut place = (offset, number);
        std::iter::from_fn(move || {
            let line = self.line_at(place.0, place.1)?;
            place = (line.next, line.number + 1);
            Some(line)
        })
    }

    /// Calls `see` with each line that has a hot word, in order. It returns the offset and number of
    /// the line from which the search goes on.
    pub(super) fn each_hot(&self, mut see: impl FnMut(Line<'a>) -> (usize, usize)) {
        let Some(search) = &*SEARCH else { return };
        // Lines are counted as far as `counted`.
        let (mut counted, mut number) = (0, 1);
        for hit in search.find_iter(self.bytes) {
            if hit.start() < counted {
                continue;
            }
            let skipped = self.bytes.get(counted..hit.start()).unwrap_or_default();
            number += memchr::memchr_iter(b'\n', skipped).count();
            let start = memchr::memrchr(b'\n', skipped).map_or(counted, |at| counted + at + 1);
            let Some(line) = self.line_at(start, number) else { return };
            (counted, number) = see(line);
        }
    }
}

/// A line's text: no colours, no carriage return at its end.
fn clean(bytes: &[u8]) -> Cow<'_, str> {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if !bytes.contains(&0x1b) {
        return String::from_utf8_lossy(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(0x1b, rest) {
        out.extend_from_slice(rest.get(..at).unwrap_or_default());
        rest = after_escape(rest.get(at + 1..).unwrap_or_default());
    }
    out.extend_from_slice(rest);
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// What follows a terminal escape sequence (ECMA-48), whose ESC is gone already.
fn after_escape(rest: &[u8]) -> &[u8] {
    match rest.first() {
        // Control sequence: parameters, then one letter or sign.
        Some(b'[') => {
            let parameters = rest.iter().skip(1).take_while(|b| (0x20..0x40).contains(*b)).count();
            rest.get(parameters + 2..).unwrap_or_default()
        }
        // A string: to BEL or ESC \, and not past what is sensible.
        Some(b']' | b'P' | b'_' | b'^' | b'X') => {
            let end = rest.iter().take(256).position(|b| *b == 0x07 || *b == 0x1b);
            let tail = end.and_then(|at| rest.get(at..)).unwrap_or_default();
            tail.strip_prefix(b"\x07").or_else(|| tail.strip_prefix(b"\x1b\\")).unwrap_or(tail)
        }
        Some(_) => rest.get(1..).unwrap_or_default(),
        None => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hot_lines_with_their_numbers() {
        let log = Log::new(b"a\nSEV x\n\nb\nrmp rmp rmp\r\nlast sev");
        let mut seen = Vec::new();
        log.each_hot(|line| {
            seen.push((line.number, line.text.clone().into_owned()));
            (line.next, line.number + 1)
        });
        let expected = [(2, "SEV x"), (5, "rmp rmp rmp"), (6, "last sev")];
        assert_eq!(seen, expected.map(|(n, t)| (n, t.to_owned())));
        assert_eq!(log.count(), 6);
        assert_eq!((Log::new(b"").count(), Log::new(b"a\n").count()), (0, 1));
    }

    #[test]
    fn colours_and_strange_bytes() {
        assert_eq!(clean(b"\x1b[1;31mSEV\x1b[0m: x\r"), "SEV: x");
        assert_eq!(clean(b"\x1b]0;title\x07SEV\x1b]8;;u\x1b\\x"), "SEVx");
        assert_eq!(clean(b"a\x1b(Bb\x1b"), "aBb");
        assert_eq!(clean(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(clean(b"\x1b[31"), "");
    }

    #[test]
    fn a_huge_line_is_cut() {
        let mut bytes = vec![b'x'; 200_000];
        bytes.extend_from_slice(b"sev\nsev");
        let mut seen = Vec::new();
        Log::new(&bytes).each_hot(|line| {
            seen.push((line.number, line.text.len()));
            (line.next, line.number + 1)
        });
        assert_eq!(seen, [(1, LONGEST), (2, 3)]);
    }
}
