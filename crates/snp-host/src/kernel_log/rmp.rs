//! Where the kernel says the RMP table is.
//!
//! Wordings, from `arch/x86/virt/svm/sev.c` and logs of hosts:
//!
//! * `SEV-SNP: RMP table physical range [0x0000007ffe800000 - 0x000000807f0fffff]`, inclusive;
//!   before Linux 6.9, in development trees, `physical address 0x... - 0x...` without brackets;
//! * segmented, since 6.14: `SEV-SNP: Segmented RMP base table physical range [0x... - 0x...]`
//!   (here the end is exclusive), `SEV-SNP: Segmented RMP using 128GB segments` and, for each,
//!   `SEV-SNP: RMP segment 0 physical address [0x8800000 - 0x10ffffff] covering [0x0 -
//!   0x87fffffff]`, inclusive.

use super::KernelFacts;
use crate::e820::line::check;
use crate::e820::{LogError, Span};
use crate::log::after;
use crate::number::{decimal, hex_0x};
use crate::place::{At, quoted};

/// The RMP table as the kernel printed it. Byte addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rmp {
    /// One table for all memory, bookkeeping area included.
    Contiguous(Span),
    /// A table of segments, each its own range.
    Segmented {
        /// The base table (bookkeeping area and segment table), if its line is in the log.
        base_table: Option<Span>,
        /// Memory covered by one segment at most, in bytes, if its line is in the log.
        segment_bytes: Option<u64>,
        /// The segments in use, by index.
        segments: Vec<RmpSegment>,
    },
}

/// One segment of a segmented RMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RmpSegment {
    /// Index in the segment table, 0 to 511.
    pub index: u64,
    /// Where the segment's entries lie.
    pub table: Span,
    /// The memory they describe.
    pub covers: Span,
}

const RANGE: &str = "`[0xSTART - 0xEND]` (is the line cut?)";

/// Takes one `SEV-SNP:` line.
pub(super) fn read(
    at: &dyn Fn() -> At,
    line: &str,
    facts: &mut KernelFacts,
) -> Result<(), LogError> {
    let Some(text) = after(line, "SEV-SNP:").map(str::trim) else { return Ok(()) };
    if text.starts_with("Memory for the RMP table has not been reserved by BIOS") {
        facts.rmp = None;
        facts.notes.push(format!("{}: firmware reserved no memory for an RMP table", at()));
    } else if let Some(rest) = text
        .strip_prefix("RMP table physical range")
        .or_else(|| text.strip_prefix("RMP table physical address"))
    {
        let (span, _) = span(at, "RMP table", rest, false)?;
        facts.rmp = Some(Rmp::Contiguous(span));
    } else if let Some(rest) = text.strip_prefix("Segmented RMP base table physical range") {
        // First of the segmented lines: what was known of an earlier boot goes.
        let (span, _) = span(at, "segmented RMP base table", rest, true)?;
        facts.rmp = Some(Rmp::Segmented {
            base_table: Some(span),
            segment_bytes: None,
            segments: Vec::new(),
        });
    } else if let Some(rest) = text.strip_prefix("Segmented RMP using ") {
        let gib = rest.strip_suffix("GB segments").and_then(decimal);
        let bytes = gib.filter(|g| (1..=1 << 22).contains(g)).map(|g| g << 30);
        let Some(bytes) = bytes else {
            return Err(malformed(at, "RMP segment size", rest, "`NGB segments`"));
        };
        segmented(&mut facts.rmp, |size, _| *size = Some(bytes));
    } else if let Some(rest) = text.strip_prefix("RMP segment ") {
        segment(at, rest, facts)?;
    }
    Ok(())
}

fn segment(at: &dyn Fn() -> At, rest: &str, facts: &mut KernelFacts) -> Result<(), LogError> {
    const FIELD: &str = "RMP segment";
    // Also begins lines of other meaning, such as `RMP segment size (..) is not within ...`.
    if !rest.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(());
    }
    let shape = || malformed(at, FIELD, rest, "`N physical address [..] covering [..]`");
    let (index, rest) = rest.split_once(" physical address").ok_or_else(shape)?;
    let index = decimal(index).filter(|i| *i < 512).ok_or_else(shape)?;
    let (table, tail) = span(at, FIELD, rest, false)?;
    let covering = tail.trim().strip_prefix("covering").ok_or_else(shape)?;
    let (covers, _) = span(at, FIELD, covering, false)?;
    // At most 512 of them: the index is below that and names each once.
    segmented(&mut facts.rmp, |_, segments| {
        segments.retain(|s| s.index != index);
        segments.push(RmpSegment { index, table, covers });
        segments.sort_by_key(|s| s.index);
    });
    Ok(())
}

/// Changes the parts of a segmented RMP, made if there is none yet.
fn segmented(rmp: &mut Option<Rmp>, change: impl FnOnce(&mut Option<u64>, &mut Vec<RmpSegment>)) {
    let (base_table, mut segment_bytes, mut segments) = match rmp.take() {
        Some(Rmp::Segmented { base_table, segment_bytes, segments }) => {
            (base_table, segment_bytes, segments)
        }
        _ => (None, None, Vec::new()),
    };
    change(&mut segment_bytes, &mut segments);
    *rmp = Some(Rmp::Segmented { base_table, segment_bytes, segments });
}

/// `[0xSTART - 0xEND]` or, in old trees, `0xSTART - 0xEND`; and what follows.
fn span<'a>(
    at: &dyn Fn() -> At,
    field: &'static str,
    text: &'a str,
    end_exclusive: bool,
) -> Result<(Span, &'a str), LogError> {
    let text = text.trim();
    let bad = || malformed(at, field, text, RANGE);
    let (inner, tail) = match text.strip_prefix('[') {
        Some(open) => open.split_once(']').ok_or_else(bad)?,
        None => (text, ""),
    };
    let (start, end) = inner.split_once(" - ").ok_or_else(bad)?;
    let start = hex_0x(start.trim()).ok_or_else(bad)?;
    let mut end = hex_0x(end.trim()).ok_or_else(bad)?;
    // A cut of the old, unbracketed form still ends in digits; the kernel pads to 16.
    if !text.starts_with('[') && inner.len() < "0x0000000000000000 - 0x0000000000000000".len() {
        return Err(bad());
    }
    if end_exclusive {
        if end <= start {
            return Err(LogError::Reversed { at: at(), field, start, end });
        }
        end -= 1;
    }
    check(&at(), field, start, end)?;
    Ok((Span { start, end_inclusive: end }, tail))
}

fn malformed(
    at: &dyn Fn() -> At,
    field: &'static str,
    value: &str,
    expected: &'static str,
) -> LogError {
    LogError::Malformed { at: at(), field, value: quoted(value.trim()), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rmp(log: &str) -> Result<Option<Rmp>, String> {
        KernelFacts::parse("log", log).map(|f| f.rmp).map_err(|e| e.to_string())
    }

    #[test]
    fn contiguous_old_and_new() {
        let new =
            "[    0.0] SEV-SNP: RMP table physical range [0x0000007ffe800000 - 0x000000807f0fffff]";
        let span = Span { start: 0x7f_fe80_0000, end_inclusive: 0x80_7f0f_ffff };
        assert_eq!(rmp(new), Ok(Some(Rmp::Contiguous(span))));
        assert_eq!(span.bytes() >> 20, 2057);
        let old = "SEV-SNP: RMP table physical address 0x0000000035600000 - 0x0000000075bfffff";
        let span = Span { start: 0x3560_0000, end_inclusive: 0x75bf_ffff };
        assert_eq!(rmp(old), Ok(Some(Rmp::Contiguous(span))));
    }

    /// Lines from AMDESE/AMDSEV README.md, section Verify.
    #[test]
    fn segmented_lines() {
        let log = "\
SEV-SNP: Segmented RMP base table physical range [0x000000009ba00000 - 0x000000009ba05000]
SEV-SNP: Reserving start/end of RMP table on a 2MB boundary [0x0000000055a00000]
SEV-SNP: Segmented RMP using 128GB segments
SEV-SNP: RMP segment 0 physical address [0x8800000 - 0x10ffffff] covering [0x0 - 0x87fffffff]
SEV-SNP: RMP segment 8 physical address [0x55b00000 - 0x75afffff] covering [0x10000000000 - 0x11fffffffff]
";
        let Ok(Some(Rmp::Segmented { base_table, segment_bytes, segments })) = rmp(log) else {
            panic!("not segmented");
        };
        assert_eq!(base_table.unwrap().bytes(), 0x5000);
        assert_eq!(segment_bytes, Some(128 << 30));
        let first = segments.first().unwrap();
        // 16 bytes of RMP for each 4 KiB page.
        assert_eq!(first.table.bytes(), first.covers.bytes() / 4096 * 16);
        assert_eq!(segments.last().unwrap().index, 8);
    }

    #[test]
    fn none_reserved_is_noted() {
        let log = "SEV-SNP: Memory for the RMP table has not been reserved by BIOS\n";
        let facts = KernelFacts::parse("log", log).unwrap();
        assert_eq!(facts.rmp, None);
        assert!(facts.notes.first().unwrap().starts_with("log:1:"));
    }

    #[test]
    fn other_lines_are_left_alone() {
        for line in [
            "SEV-SNP: RMPUPDATE failed for PFN 56700, pg_level: 1, ret: 2",
            "SEV-SNP: PFN: 0x56600, [0x80000000000007fd - 0x0000000000000000]",
            "SEV-SNP: RMP segment size (52) is not within advertised bounds (min=36, max=42)",
            "ccp 0000:03:00.5: SEV-SNP API:1.55 build:24",
        ] {
            assert_eq!(rmp(line), Ok(None), "{line}");
        }
    }

    #[test]
    fn cut_lines_are_errors() {
        for line in [
            "SEV-SNP: RMP table physical range [0x0000007ffe800000 - 0x000000807f0",
            "SEV-SNP: RMP table physical address 0x0000000035600000 - 0x0000000075b",
            "SEV-SNP: RMP segment 0 physical address [0x8800000 - 0x10ffffff] cov",
            "SEV-SNP: Segmented RMP using 128",
            "SEV-SNP: RMP table physical range [0x2000000 - 0x1000000]",
        ] {
            assert!(rmp(line).unwrap_err().starts_with("log:1: "), "{line}");
        }
    }
}
