//! One line of a memory map, in each wording the kernel has used.
//!
//! | since | wording | end |
//! |---|---|---|
//! | 2.6 and before | `BIOS-e820: 0000000000100000 - 000000001beb0000 (usable)` | exclusive |
//! | 3.5 | `BIOS-e820: [mem 0x0000000000100000-0x000000001beaffff] usable` | inclusive |
//! | 7.0 | `BIOS-e820: [mem 0x0000000000100000-0x000000001beaffff]  System RAM` | inclusive |
//! | 7.0 | `BIOS-e820: [gap 0x00000000000a0000-0x00000000000fffff]` | inclusive |
//! | kexec | `0000000000100000-000000001beaffff (1)` | inclusive |
//!
//! 7.0 calls the types `System RAM`, `device reserved`, `soft reserved`, `ACPI data`, `ACPI NVS`,
//! `unusable`, `persistent RAM (type 7)` and `type 20` (`e820_print_type()` in
//! `arch/x86/kernel/e820.c`). The same series as posted in April 2025 also printed a size,
//! `[mem 0x...-0x...]  639   KB kernel usable RAM` and `[gap 0x...-0x...]  320   KB ...`; that part
//! was not merged, but kernels built from it exist, so the column is accepted and not used.

use super::error::LogError;
use super::{Entry, Kind};
use crate::number::{ADDRESS_LIMIT, decimal, hex, hex_0x};
use crate::place::{At, quoted};

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// A range with a type.
    Entry(Entry),
    /// A range the map does not mention, printed by 7.0 and later: first and last byte.
    Gap(u64, u64),
}

const BRACKETS: &str = "`[mem 0xSTART-0xEND] TYPE` (is the line cut?)";
const DASHED: &str = "`START - END (TYPE)` in 16 hexadecimal digits each (is the line cut?)";
const KEXEC: &str = "`START-END (TYPE NUMBER)` in 16 hexadecimal digits each (is the line cut?)";
const RANGE: &str = "memory map range";

fn malformed(at: &At, value: &str, expected: &'static str) -> LogError {
    LogError::Malformed { at: at.clone(), field: RANGE, value: quoted(value.trim()), expected }
}

/// A line of the two printed forms; `rest` is what follows `BIOS-e820:`.
pub(super) fn printed(at: &At, rest: &str) -> Result<Line, LogError> {
    let rest = rest.trim();
    if let Some(inner) = rest.strip_prefix("[mem ") {
        let (start, end, kind) = bracketed(at, rest, inner)?;
        let kind = words(at, without_size(kind))?;
        return Ok(Line::Entry(Entry { start, end_inclusive: end, kind }));
    }
    if let Some(inner) = rest.strip_prefix("[gap ") {
        let (start, end, tail) = bracketed(at, rest, inner)?;
        return match without_size(tail) {
            "" | "..." => Ok(Line::Gap(start, end)),
            _ => Err(malformed(at, rest, "`[gap 0xSTART-0xEND]` and no type")),
        };
    }
    if rest.starts_with('[') {
        return Err(malformed(at, rest, BRACKETS));
    }
    dashed(at, rest).map(Line::Entry)
}

/// `0xSTART-0xEND] TAIL`: both ends and the tail.
fn bracketed<'a>(at: &At, whole: &str, inner: &'a str) -> Result<(u64, u64, &'a str), LogError> {
    let cut = || malformed(at, whole, BRACKETS);
    let (range, tail) = inner.split_once(']').ok_or_else(cut)?;
    let (start, end) = range.split_once('-').ok_or_else(cut)?;
    let start = hex_0x(start.trim()).ok_or_else(cut)?;
    let end = hex_0x(end.trim()).ok_or_else(cut)?;
    check(at, RANGE, start, end)?;
    Ok((start, end, tail.trim()))
}

/// The form before 3.5, whose end is exclusive.
fn dashed(at: &At, rest: &str) -> Result<Entry, LogError> {
    let cut = || malformed(at, rest, DASHED);
    let (start, tail) = rest.split_once(" - ").ok_or_else(cut)?;
    let (end, kind) = tail.split_once(' ').ok_or_else(cut)?;
    let start = hex(start.trim()).ok_or_else(cut)?;
    let end = hex(end.trim()).ok_or_else(cut)?;
    if end <= start {
        return Err(LogError::Reversed { at: at.clone(), field: RANGE, start, end });
    }
    check(at, RANGE, start, end - 1)?;
    let kind = kind.trim();
    let inner = match kind.strip_prefix('(') {
        Some(open) => open.strip_suffix(')').ok_or_else(cut)?,
        None => kind,
    };
    Ok(Entry { start, end_inclusive: end - 1, kind: words(at, inner)? })
}

/// Whether a line of an `E820 memmap:` listing: its last words are `START-END (N)` or a cut of it.
pub(super) fn looks_like_kexec(line: &str) -> bool {
    kexec_words(line).is_some()
}

fn kexec_words(line: &str) -> Option<(&str, &str)> {
    let shaped = |w: &str| {
        let mut ends = w.splitn(2, '-');
        let start = ends.next().unwrap_or_default();
        start.len() == 16 && hex(start).is_some() && ends.next().is_some()
    };
    let mut last = line.split_whitespace().rev();
    let word = last.next()?;
    if shaped(word) {
        return Some((word, ""));
    }
    let before = last.next()?;
    shaped(before).then_some((before, word))
}

/// A line of the table that kexec prints when it loads a kernel, types as numbers.
pub(super) fn kexec(at: &At, line: &str) -> Result<Entry, LogError> {
    let cut = || malformed(at, line, KEXEC);
    let (range, kind) = kexec_words(line).ok_or_else(cut)?;
    let (start, end) = range.split_once('-').ok_or_else(cut)?;
    let start = hex(start).ok_or_else(cut)?;
    let end = hex(end).filter(|_| end.len() == 16).ok_or_else(cut)?;
    check(at, RANGE, start, end)?;
    let number = kind.strip_prefix('(').and_then(|k| k.strip_suffix(')')).ok_or_else(cut)?;
    // Printed with %d: the soft-reserved type, 0xefffffff, comes out negative.
    let number: i64 = number.parse().map_err(|_| cut())?;
    let number = u32::try_from(number)
        .or_else(|_| i32::try_from(number).map(i32::cast_unsigned))
        .map_err(|_| cut())?;
    Ok(Entry { start, end_inclusive: end, kind: Kind::from_number(number) })
}

/// Both ends in order and within the address space.
pub(crate) fn check(at: &At, field: &'static str, start: u64, end: u64) -> Result<(), LogError> {
    if end < start {
        return Err(LogError::Reversed { at: at.clone(), field, start, end });
    }
    if end >= ADDRESS_LIMIT {
        return Err(LogError::TooHigh { at: at.clone(), field, value: end });
    }
    Ok(())
}

/// Drops a size column such as `639   KB` or `1.9 GB`.
fn without_size(tail: &str) -> &str {
    let tail = tail.trim();
    let is_size = |t: &str| t.split('.').count() <= 2 && t.split('.').all(|p| decimal(p).is_some());
    let Some((size, rest)) = tail.split_once(char::is_whitespace) else { return tail };
    if !is_size(size) {
        return tail;
    }
    let rest = rest.trim_start();
    let (unit, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if matches!(unit, "KB" | "MB" | "GB" | "TB") { rest.trim_start() } else { tail }
}

/// The type in the kernel's words.
fn words(at: &At, text: &str) -> Result<Kind, LogError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(LogError::Malformed {
            at: at.clone(),
            field: "memory type",
            value: String::new(),
            expected: "a type after the range (is the line cut?)",
        });
    }
    let typed = |prefix: &str| {
        text.strip_prefix(prefix)?.strip_prefix(" (type ")?.strip_suffix(')').and_then(decimal)
    };
    Ok(match text {
        "usable" | "System RAM" | "kernel usable RAM" => Kind::Usable,
        "reserved" | "device reserved" => Kind::Reserved,
        "ACPI data" => Kind::AcpiData,
        "ACPI NVS" => Kind::AcpiNvs,
        "unusable" => Kind::Unusable,
        "soft reserved" | "application reserved" => Kind::SoftReserved,
        _ => {
            let persistent = typed("persistent").or_else(|| typed("persistent RAM"));
            let number = text.strip_prefix("type ").and_then(decimal);
            match (persistent, number.and_then(|n| u32::try_from(n).ok())) {
                (Some(7), _) => Kind::Persistent,
                (Some(12), _) => Kind::PersistentLegacy,
                (None, Some(n)) => Kind::Other(n),
                _ => {
                    return Err(LogError::UnknownKind { at: at.clone(), value: quoted(text) });
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rest: &str) -> Result<Line, String> {
        printed(&At::new("log", 3), rest).map_err(|e| e.to_string())
    }

    fn entry(start: u64, end_inclusive: u64, kind: Kind) -> Line {
        Line::Entry(Entry { start, end_inclusive, kind })
    }

    #[test]
    fn wording_since_3_5() {
        assert_eq!(
            read(" [mem 0x0000000100000000-0x000000187fdfffff] usable"),
            Ok(entry(0x1_0000_0000, 0x18_7fdf_ffff, Kind::Usable))
        );
        for (words, kind) in [
            ("reserved", Kind::Reserved),
            ("ACPI data", Kind::AcpiData),
            ("ACPI NVS", Kind::AcpiNvs),
            ("unusable", Kind::Unusable),
            ("soft reserved", Kind::SoftReserved),
            ("persistent (type 7)", Kind::Persistent),
            ("persistent (type 12)", Kind::PersistentLegacy),
            ("type 20", Kind::Other(20)),
        ] {
            assert_eq!(
                read(&format!("[mem 0x0-0xfff] {words}")),
                Ok(entry(0, 0xfff, kind)),
                "{words}"
            );
        }
    }

    /// Lines of a 7.0.0-rc2 log, LKML 20260303175237.GB1114907@ax162.
    #[test]
    fn wording_since_7_0() {
        assert_eq!(
            read(" [mem 0x0000000100000000-0x000000055e2fffff]  System RAM"),
            Ok(entry(0x1_0000_0000, 0x5_5e2f_ffff, Kind::Usable))
        );
        assert_eq!(
            read(" [mem 0x000000055f340000-0x00000006801fffff]  device reserved"),
            Ok(entry(0x5_5f34_0000, 0x6_801f_ffff, Kind::Reserved))
        );
        assert_eq!(
            read(" [gap 0x000000055e300000-0x000000055f33ffff]"),
            Ok(Line::Gap(0x5_5e30_0000, 0x5_5f33_ffff))
        );
        assert_eq!(
            read("[mem 0x0-0xfff]  persistent RAM (type 7)"),
            Ok(entry(0, 0xfff, Kind::Persistent))
        );
    }

    /// Lines of the patch "x86/boot/e820: Print out sizes of E820 memory ranges", April 2025.
    #[test]
    fn wording_with_sizes() {
        assert_eq!(
            read(" [mem 0x0000000000000000-0x000000000009fbff]  639   KB kernel usable RAM"),
            Ok(entry(0, 0x9_fbff, Kind::Usable))
        );
        assert_eq!(
            read(" [mem 0x0000000000100000-0x000000007ffdbfff]    1.9 GB kernel usable RAM"),
            Ok(entry(0x10_0000, 0x7ffd_bfff, Kind::Usable))
        );
        assert_eq!(
            read(" [gap 0x00000000c0000000-0x00000000fed1bfff] 1005.1 MB ..."),
            Ok(Line::Gap(0xc000_0000, 0xfed1_bfff))
        );
        assert_eq!(
            read(" [mem 0x000000fd00000000-0x000000ffffffffff]   12   GB reserved"),
            Ok(entry(0xfd_0000_0000, 0xff_ffff_ffff, Kind::Reserved))
        );
    }

    #[test]
    fn wording_before_3_5_has_exclusive_ends() {
        assert_eq!(
            read(" 0000000000000000 - 000000000009f800 (usable)"),
            Ok(entry(0, 0x9_f7ff, Kind::Usable))
        );
        assert_eq!(
            read(" 000000003ff75000 - 000000003ff77000 (ACPI NVS)"),
            Ok(entry(0x3ff7_5000, 0x3ff7_6fff, Kind::AcpiNvs))
        );
        assert!(read("0000000000001000 - 0000000000002000 type 9").is_ok());
        assert!(read("0000000000001000 - 0000000000001000 (usable)").unwrap_err().contains("ends"));
    }

    #[test]
    fn kexec_listing() {
        let at = At::new("log", 1);
        let read = |l: &str| kexec(&at, l).map(|e| (e.start, e.end_inclusive, e.kind));
        assert_eq!(
            read("[  173.113298] 0000000000000000-000000000008efff (1)").unwrap(),
            (0, 0x8_efff, Kind::Usable)
        );
        assert_eq!(
            read("0000000000000000-000000000008efff (-268435457)").unwrap().2,
            Kind::SoftReserved
        );
        assert!(looks_like_kexec("[  173.1] 0000000000000000-0000000000"));
        assert!(read("[  173.1] 0000000000000000-0000000000").is_err());
        assert!(read("0000000000000000-000000000008efff (x)").is_err());
        assert!(!looks_like_kexec("nr_segments = 4"));
    }

    #[test]
    fn cut_anywhere_is_an_error() {
        let good = "[mem 0x0000000100000000-0x000000187fdfffff] usable";
        for n in 0..good.len() {
            let cut = good.get(..n).unwrap();
            assert!(read(cut).is_err(), "{cut}");
        }
        let good = "0000000000000000 - 000000000009f800 (usable)";
        for n in 0..good.len() {
            assert!(read(good.get(..n).unwrap()).is_err());
        }
    }

    #[test]
    fn errors_name_place_and_value() {
        assert_eq!(
            read("[mem 0x0-0xfff] usabel").unwrap_err(),
            "log:3: memory type: `usabel`, expected one the kernel prints, such as `usable`, \
             `System RAM`, `reserved`, `ACPI data`, `soft reserved` or `type 20`"
        );
        assert!(read("[mem 0x0-0xgff] usable").unwrap_err().starts_with("log:3: memory map range"));
        assert!(read("[mem 0x2000-0x1fff] usable").unwrap_err().contains("ends before it starts"));
        assert!(read("[mem 0x0-0x10000000000000] usable").unwrap_err().contains("below 2^52"));
        assert!(read("[mem 0x0-0x0fffffffffffff] reserved").is_ok());
        assert!(read("[gap 0x0-0xfff] usable").unwrap_err().contains("no type"));
    }
}
