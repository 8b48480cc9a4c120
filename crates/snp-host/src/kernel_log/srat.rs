//! Which memory belongs to which NUMA node: `ACPI: SRAT: Node 0 PXM 0 [mem 0x100000000-0x67fffffff]`.
//!
//! The ranges are what firmware's SRAT table says, before memory-mapped I/O and reservations are
//! taken out, so they are larger than the RAM in them, and ` hotplug` ranges may hold none at all.

use super::KernelFacts;
use crate::e820::line::check;
use crate::e820::{LogError, Span};
use crate::log::after;
use crate::number::{decimal, hex_0x};
use crate::place::{At, quoted};

/// A range of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SratRange {
    /// The kernel's node number, below 1024.
    pub node: u32,
    /// Firmware's proximity domain.
    pub pxm: u32,
    /// The range.
    pub span: Span,
    /// Memory may be added here later.
    pub hotplug: bool,
    /// Persistent memory.
    pub non_volatile: bool,
    /// The line it was read from.
    pub line: usize,
}

const NODES: u64 = 1024;
const RANGES: usize = 65_536;
const FIELD: &str = "SRAT range";

/// Takes one line that mentions the SRAT.
pub(super) fn read(
    at: &dyn Fn() -> At,
    line: &str,
    facts: &mut KernelFacts,
) -> Result<(), LogError> {
    if line.contains("SRAT not used") {
        facts.srat.clear();
        facts.notes.push(format!("{}: the kernel did not use firmware's SRAT", at()));
        return Ok(());
    }
    let Some(text) = after(line, "SRAT: Node ") else { return Ok(()) };
    let text = text.trim();
    // Kernels before 3.5 print `Node 0 PXM 0 0-a0000`; those are not read.
    let Some((head, range)) = text.split_once("[mem ") else { return Ok(()) };
    let bad = || LogError::Malformed {
        at: at(),
        field: FIELD,
        value: quoted(text),
        expected: "`Node N PXM N [mem 0xSTART-0xEND]` (is the line cut?)",
    };
    let (node, pxm) = head.split_once(" PXM ").ok_or_else(bad)?;
    let node = decimal(node.trim()).filter(|n| *n < NODES).ok_or_else(bad)?;
    let pxm = decimal(pxm.trim()).and_then(|n| u32::try_from(n).ok()).ok_or_else(bad)?;
    let (range, flags) = range.split_once(']').ok_or_else(bad)?;
    let (start, end) = range.split_once('-').ok_or_else(bad)?;
    let start = hex_0x(start.trim()).ok_or_else(bad)?;
    let end = hex_0x(end.trim()).ok_or_else(bad)?;
    let place = at();
    check(&place, FIELD, start, end)?;
    if facts.srat.len() >= RANGES {
        return Err(LogError::TooMany { at: place, field: FIELD, limit: RANGES });
    }
    facts.srat.push(SratRange {
        node: node as u32,
        pxm,
        span: Span { start, end_inclusive: end },
        hotplug: flags.contains("hotplug"),
        non_volatile: flags.contains("non-volatile"),
        line: place.line,
    });
    Ok(())
}

/// Two nodes cannot share memory; the same line twice is a log printed twice.
fn without_repeats(file: &str, ranges: &mut Vec<SratRange>) -> Result<(), LogError> {
    let mut by_address: Vec<SratRange> = ranges.clone();
    by_address.sort_by_key(|r| (r.span.start, r.line));
    let mut highest: Option<SratRange> = None;
    let mut repeats = Vec::new();
    for range in by_address {
        if let Some(before) = highest.filter(|b| b.span.overlaps(&range.span)) {
            if before.node != range.node {
                return Err(LogError::Overlap {
                    at: At::new(file, before.line.max(range.line)),
                    field: FIELD,
                    other: before.line.min(range.line),
                    start: range.span.start,
                });
            }
            if before.span == range.span {
                repeats.push(range.line);
            }
        }
        if highest.is_none_or(|h| h.span.end_inclusive < range.span.end_inclusive) {
            highest = Some(range);
        }
    }
    repeats.sort_unstable();
    ranges.retain(|r| repeats.binary_search(&r.line).is_err());
    Ok(())
}

/// Checks the ranges once all are known.
pub(super) fn finish(file: &str, facts: &mut KernelFacts) -> Result<(), LogError> {
    without_repeats(file, &mut facts.srat)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srat(log: &str) -> Result<Vec<SratRange>, String> {
        KernelFacts::parse("log", log).map(|f| f.srat).map_err(|e| e.to_string())
    }

    #[test]
    fn ranges_and_flags() {
        let log = "ACPI: SRAT: Node 4 PXM 4 [mem 0x1880000000-0x1e7fffffff]\n\
                   [ 0.0] SRAT: Node 3 PXM 9 [mem 0x1280000000-0x187fffffff] hotplug non-volatile\n\
                   [ 0.0] SRAT: PXM 0 -> APIC 0x00 -> Node 0\n\
                   [ 0.0] ACPI: SRAT 0x000000007A1 000330 (v03 AMD)\n\
                   [ 0.0] SRAT: Node 0 PXM 0 0-a0000\n";
        let ranges = srat(log).unwrap();
        assert_eq!(ranges.len(), 2);
        let first = ranges.first().unwrap();
        assert_eq!((first.node, first.pxm, first.line), (4, 4, 1));
        assert_eq!(first.span.bytes(), 24 << 30);
        assert!(!first.hotplug);
        assert!(ranges.last().unwrap().hotplug && ranges.last().unwrap().non_volatile);
    }

    #[test]
    fn overlaps_and_repeats() {
        let a = "SRAT: Node 0 PXM 0 [mem 0x00000000-0x7fffffff]\n";
        let b = "SRAT: Node 1 PXM 1 [mem 0x40000000-0xffffffff]\n";
        assert!(srat(&[a, b].concat()).unwrap_err().starts_with("log:2: SRAT range: overlaps"));
        assert_eq!(srat(&a.repeat(2)).unwrap().len(), 1);
        let refused = [a, "SRAT: SRAT not used.\n"].concat();
        assert_eq!(srat(&refused).unwrap(), []);
    }

    #[test]
    fn malformed() {
        for line in [
            "SRAT: Node 0 PXM 0 [mem 0x0-0x7ff",
            "SRAT: Node x PXM 0 [mem 0x0-0x7ff]",
            "SRAT: Node 1024 PXM 0 [mem 0x0-0x7ff]",
            "SRAT: Node 0 PXM 0 [mem 0x800-0x7ff]",
            "SRAT: Node 0 PXM 0 [mem 0x0-0xffffffffffffffff]",
        ] {
            assert!(srat(line).unwrap_err().starts_with("log:1: SRAT range"), "{line}");
        }
    }
}
