//! `rmpopt-table`: upstream's debugfs text (v1 to v8 of AMD's series), which our module serves too.

use std::collections::BTreeMap;

use super::error::Why;
use crate::cpulist::CpuList;
use crate::number::decimal;

/// Where it is, newest first: below `x86` since v2, without it in v1.
pub const TABLE_PATHS: [&str; 2] =
    ["/sys/kernel/debug/x86/rmpopt/rmpopt-table", "/sys/kernel/debug/rmpopt/rmpopt-table"];

/// Regions end where physical addresses do (52 bits).
const MAX_REGION: u64 = 1 << 22;

/// The CPUs that report each 1 GiB region optimised, by the region's number.
///
/// v1 to v4 print one row too many: the address after the last byte of RAM, always `none`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RmpoptTable {
    /// CPUs by region.
    pub rows: BTreeMap<u32, CpuList>,
    /// Whether rows were left out by whoever sent it (a line `...`).
    pub cut: bool,
}

impl RmpoptTable {
    /// Reads the file. Every line must be a row, or `...` where somebody cut it.
    pub fn parse(text: &str) -> Result<Self, Why> {
        let mut table = Self::default();
        for (n, line) in text.lines().enumerate() {
            let wrong = |expected| Why::malformed(n + 1, expected, line);
            if line.trim() == "..." {
                table.cut = true;
                continue;
            }
            if line.trim().is_empty() {
                continue;
            }
            let row = || {
                let (number, cpus) = line.strip_prefix("Memory @")?.split_once("GB: CPU(s):")?;
                let number = decimal(number.trim()).filter(|n| *n < MAX_REGION)?;
                Some((number as u32, cpus.trim()))
            };
            let (region, cpus) =
                row().ok_or_else(|| wrong("`Memory @  2GB: CPU(s): 0-1023` or `none`"))?;
            let cpus = if cpus == "none" {
                CpuList::default()
            } else {
                let list = CpuList::parse(cpus).map_err(|e| wrong(e.expected()))?;
                if list.is_empty() {
                    return Err(wrong("a list of CPUs or `none` (is the line cut?)"));
                }
                list
            };
            if table.rows.insert(region, cpus).is_some() {
                return Err(wrong("each region once"));
            }
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_and_what_is_cut() {
        let table = RmpoptTable::parse(
            "Memory @  0GB: CPU(s): none\n...\nMemory @1025GB: CPU(s): 0-3,7\r\n",
        )
        .unwrap();
        assert!(table.cut && table.rows[&0].is_empty());
        assert_eq!((table.rows[&1025].len(), table.rows.len()), (5, 2));
        assert_eq!(RmpoptTable::parse("").unwrap(), RmpoptTable::default());
        for (text, at) in [
            ("Memory @  0GB: CPU(s): none\nMemory @  0GB: CPU(s): none\n", 2),
            ("Memory @  0GB: CPU(s):\n", 1),
            ("Memory @  0GB: CPU(s): 3-1\n", 1),
            ("Memory @4194304GB: CPU(s): none\n", 1),
            ("Memory @0x1GB: CPU(s): none\n", 1),
            ("hello\n", 1),
        ] {
            let error = RmpoptTable::parse(text).unwrap_err();
            assert!(matches!(error, Why::Malformed { line, .. } if line == at), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(Memory @|GB: CPU\\(s\\):|none|[0-9, -]|\n){0,40}") {
            let _ = RmpoptTable::parse(&text);
        }
    }
}
