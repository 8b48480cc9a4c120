//! `/proc/iomem`: where RAM is. Without root every address in it is 0.

use super::error::{Got, ReadError, Why};
use super::root::Root;
use crate::e820::Span;
use crate::number::{ADDRESS_LIMIT, hex};

/// The file.
pub const IOMEM: &str = "/proc/iomem";

/// Ranges of the top level, by address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Iomem {
    /// `System RAM`.
    pub ram: Vec<Span>,
    /// `Reserved`.
    pub reserved: Vec<Span>,
}

impl Iomem {
    /// Reads it.
    pub fn read(root: &Root) -> Got<Self> {
        let text = root.text(IOMEM)?;
        Self::parse(&text).map_err(|why| ReadError::new(IOMEM, why))
    }

    /// Reads its text; [`Why::Forbidden`] if all addresses are hidden.
    pub fn parse(text: &str) -> Result<Self, Why> {
        let mut read = Self::default();
        let (mut rows, mut shown) = (0u64, false);
        for (n, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let row = || {
                let (range, name) = line.trim_start().split_once(" : ")?;
                let (start, end) = range.split_once('-')?;
                Some((hex(start)?, hex(end)?, name))
            };
            let wrong = |expected| Why::malformed(n + 1, expected, line);
            let (start, end, name) = row().ok_or_else(|| wrong("`START-END : name`"))?;
            if end < start {
                return Err(wrong("a range that ends after its start"));
            }
            rows += 1;
            shown |= end != 0;
            let kept = match name.trim_end() {
                _ if line.starts_with(' ') => continue,
                "System RAM" => &mut read.ram,
                "Reserved" | "reserved" => &mut read.reserved,
                _ => continue,
            };
            if end >= ADDRESS_LIMIT {
                return Err(wrong("addresses below 2^52"));
            }
            kept.push(Span { start, end_inclusive: end });
        }
        if rows > 0 && !shown {
            return Err(Why::Forbidden);
        }
        let after = |pair: &[Span]| matches!(pair, [a, b] if a.end_inclusive < b.start);
        if shown && !read.ram.windows(2).all(after) {
            return Err(Why::malformed(0, "ranges of RAM in ascending order", "others"));
        }
        Ok(read)
    }

    /// Bytes of RAM in `start..end`.
    pub fn ram_in(&self, start: u64, end: u64) -> u64 {
        let first = self.ram.partition_point(|span| span.end_inclusive < start);
        let spans = self.ram.iter().skip(first).take_while(|span| span.start < end);
        spans.map(|s| (s.end_inclusive + 1).min(end) - s.start.max(start)).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn top_level_alone() {
        let text = "00001000-0009ffff : System RAM\n000a0000-000fffff : Reserved\n  000a0000-000fffff : PCI Bus\n100000000-1ffffffff : System RAM\n  1aab400000-1aac7fffff : System RAM\n";
        let read = Iomem::parse(text).unwrap();
        assert_eq!((read.ram.len(), read.reserved.len()), (2, 1));
        assert_eq!(read.ram_in(0, u64::MAX), 0x9f000 + 0x100000000);
        assert_eq!(read.ram_in(0x140000000, 0x180000000), 0x40000000);
        assert_eq!(Iomem::parse("00000000-00000000 : System RAM\n"), Err(Why::Forbidden));
        assert!(Iomem::parse("x\n").is_err());
        assert!(Iomem::parse("2-1 : System RAM\n").is_err());
        assert!(Iomem::parse("10-20 : System RAM\n15-30 : System RAM\n").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in "([0-9a-f]{1,17}| : |-|System RAM|Reserved|\n){0,40}") {
            let _ = Iomem::parse(&text);
        }
    }
}
