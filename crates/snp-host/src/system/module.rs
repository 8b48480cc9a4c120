//! Our module's own files beside `rmpopt-table`: `stats` and `regions` (docs/kernel-module.md).

use std::collections::BTreeMap;

use super::error::Why;
use crate::number::decimal;

/// The folder of our module's files.
pub(super) const FILES: &str = "/sys/kernel/debug/x86/rmpopt";
/// Where our module's counters are.
pub const STATS: &str = "/sys/kernel/debug/x86/rmpopt/stats";
/// Where our module says how far it is with each region.
pub const REGIONS: &str = "/sys/kernel/debug/x86/rmpopt/regions";

const MAX_REGION: u64 = 1 << 22;
const MAX_STATS: usize = 1024;

/// Reads `stats`: `key value` lines.
pub fn parse_stats(text: &str) -> Result<BTreeMap<String, u64>, Why> {
    let mut stats = BTreeMap::new();
    for (n, line) in text.lines().enumerate() {
        let wrong = |expected| Why::malformed(n + 1, expected, line);
        let pair = line.split_once(' ').filter(|(key, _)| {
            !key.is_empty()
                && key
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._".contains(&b))
        });
        let (key, value) = pair
            .and_then(|(key, value)| Some((key, decimal(value.trim())?)))
            .ok_or_else(|| wrong("`key value`"))?;
        if stats.insert(key.to_owned(), value).is_some() || stats.len() > MAX_STATS {
            return Err(wrong("each key once, at most 1024"));
        }
    }
    Ok(stats)
}

/// What `regions` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleRegions {
    /// The policy in force: `tracked`, `v10`.
    pub policy: String,
    /// `runs`, `paused`, `stops` or `stopped`.
    pub life: String,
    /// Whether every region was looked at once since SNP came up.
    pub first_pass_over: bool,
    /// Age of what it believes: milliseconds since it last changed.
    pub changed_ms_ago: u64,
    /// RAM in MiB, whether clean, and the cores that have it, by region.
    pub rows: BTreeMap<u32, ModuleRegion>,
}

/// One region as our module believes it to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModuleRegion {
    /// RAM in it, in MiB.
    pub ram_mib: u64,
    /// Whether it was free of assigned pages when last looked at.
    pub clean: bool,
    /// Cores that have it optimised.
    pub cores: u32,
}

impl ModuleRegions {
    /// The head alone, of a text that may be cut behind it; there are no rows then.
    pub fn head(text: &str) -> Option<Self> {
        head_of(text.lines().next()?)
    }

    /// Reads the file.
    pub fn parse(text: &str) -> Result<Self, Why> {
        let mut lines = text.lines().enumerate();
        let (_, head) = lines.next().ok_or_else(|| Why::malformed(0, "a head", ""))?;
        let mut read = head_of(head).ok_or_else(|| {
            Why::malformed(1, "`# policy P, LIFE, first pass over, last change N ms ago`", head)
        })?;
        for (n, line) in lines {
            let wrong = |expected| Why::malformed(n + 1, expected, line);
            let words: Vec<&str> = line.split_whitespace().collect();
            let row = || {
                let [region, mib, clean, cores] = words[..] else { return None };
                let region = decimal(region).filter(|n| *n < MAX_REGION)? as u32;
                let ram_mib = decimal(mib).filter(|mib| *mib <= 1024)?;
                let clean = match clean {
                    "clean" => true,
                    "unknown" => false,
                    _ => return None,
                };
                let cores = u32::try_from(decimal(cores)?).ok()?;
                Some((region, ModuleRegion { ram_mib, clean, cores }))
            };
            let (region, row) = row().ok_or_else(|| wrong("`REGION MIB clean|unknown CORES`"))?;
            if read.rows.insert(region, row).is_some() {
                return Err(wrong("each region once"));
            }
        }
        Ok(read)
    }
}

fn head_of(head: &str) -> Option<ModuleRegions> {
    let mut parts = head.strip_prefix("# policy ")?.split(", ");
    let word = |part: &str| {
        let fits =
            !part.is_empty() && part.len() <= 32 && part.bytes().all(|b| b.is_ascii_alphanumeric());
        fits.then(|| part.to_owned())
    };
    let (policy, life) = (word(parts.next()?)?, word(parts.next()?)?);
    let first_pass_over = match parts.next()? {
        "first pass over" => true,
        "first pass under way" => false,
        _ => return None,
    };
    let age = parts.next()?.strip_prefix("last change ")?.strip_suffix(" ms ago")?;
    let changed_ms_ago = decimal(age)?;
    let rows = BTreeMap::new();
    Some(ModuleRegions { policy, life, first_pass_over, changed_ms_ago, rows })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn files_of_the_module() {
        let stats = parse_stats("rmpopt.executed 12\nhold.longest_ns 5\n").unwrap();
        assert_eq!(stats["rmpopt.executed"], 12);
        for wrong in ["a\n", "a b\n", "a 1\na 1\n", "A 1\n", " 1\n", "a -1\n"] {
            assert!(parse_stats(wrong).is_err(), "{wrong}");
        }
        let text = "# policy tracked, runs, first pass over, last change 15 ms ago\n0 512 unknown 0\n1 1024 clean 4\n";
        let regions = ModuleRegions::parse(text).unwrap();
        assert_eq!((regions.policy.as_str(), regions.changed_ms_ago), ("tracked", 15));
        assert_eq!(regions.rows[&1], ModuleRegion { ram_mib: 1024, clean: true, cores: 4 });
        for wrong in ["", "# policy\n", "# policy a, b, first pass over, last change x ms ago\n"] {
            assert!(ModuleRegions::parse(wrong).is_err(), "{wrong}");
        }
        assert!(ModuleRegions::parse(&text.replace("1024 clean", "1025 clean")).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in "(# policy |, |runs|first pass over|last change |[0-9 ]|\n){0,40}") {
            let _ = (ModuleRegions::parse(&text), parse_stats(&text));
        }
    }
}
