//! Codes and RMP entries as they are given on the command line.

use snp_defs::{Pfn, RmpEntry};

/// A raw entry, perhaps with its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The two words.
    pub(crate) entry: RmpEntry,
    /// The page it belongs to.
    pub(crate) pfn: Option<Pfn>,
}

/// A number: decimal, or hexadecimal with `0x`; `_` may stand between digits.
pub(crate) fn long(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => hexadecimal(hex),
        None if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        None => None,
    };
    number.ok_or_else(|| "expected a number such as 26 or 0x1a".to_owned())
}

/// A number of 32 bits; -1, as Linux shows a firmware that was not asked, is one.
pub(crate) fn short(text: &str) -> Result<u32, String> {
    let number = long(text)?;
    u32::try_from(number).map_err(|_| "expected a number below 0x100000000".to_owned())
}

/// `LO:HI` or `PFN=LO:HI`, all hexadecimal, with or without `0x`.
pub(crate) fn entry(text: &str) -> Result<Entry, String> {
    let expected = || "expected [PFN=]LO:HI in hexadecimal, such as 0x8000000000000005:0x0";
    let (pfn, words) = match text.split_once('=') {
        Some((pfn, words)) => (Some(pfn), words),
        None => (None, text),
    };
    let (lo, hi) = words.split_once(':').ok_or_else(expected)?;
    let number = |text: &str| {
        let digits = text.trim().replace('_', "");
        let digits =
            digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")).unwrap_or(&digits);
        hexadecimal(digits).ok_or_else(expected)
    };
    let entry = RmpEntry { lo: number(lo)?, hi: number(hi)? };
    let pfn = pfn.map(number).transpose()?;
    let pfn = match pfn {
        Some(pfn) => Some(Pfn::new(pfn).ok_or("a page number has at most 40 bits")?),
        None => None,
    };
    Ok(Entry { entry, pfn })
}

fn hexadecimal(digits: &str) -> Option<u64> {
    let shaped = (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    shaped.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(long("0x8_0000_0004"), Ok(0x8_0000_0004));
        assert_eq!((long("26"), short("0X1a")), (Ok(26), Ok(26)));
        for wrong in ["", "1a", "0x", "-1", "+1", "0x10000000000000000", "four"] {
            assert!(long(wrong).is_err(), "{wrong}");
        }
        assert!(short("0x100000000").is_err());
    }

    #[test]
    fn entries() {
        let found = entry("0x56700=0x8000000000000005:0x0").unwrap();
        assert_eq!((found.entry, found.pfn), (RmpEntry::FIRMWARE, Pfn::new(0x56700)));
        assert_eq!(entry("8000000000000005:0").unwrap(), Entry { pfn: None, ..found });
        for wrong in ["5", "1:2:3", "x:0", "1=2", "10000000000=0:0", "0x:0"] {
            assert!(entry(wrong).is_err(), "{wrong}");
        }
    }
}
