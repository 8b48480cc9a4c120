//! Lists of CPUs as the kernel prints them (`%*pbl`): `0-5,48-53`.

use std::fmt;
use std::str::FromStr;

use crate::number::decimal;
use crate::topology::MAX_CPUS;

/// A set of CPU numbers below [`MAX_CPUS`], kept as ranges: sorted, disjoint, not adjoining.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct CpuList {
    ranges: Vec<(u32, u32)>,
}

/// Why a text is not a list of CPUs. The reader that met it adds file and line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CpuListError {
    /// An item that is neither `N` nor `N-M`.
    #[error("CPU numbers and ranges such as `0-5,48-53`")]
    Item,
    /// A range that ends before it starts.
    #[error("ranges that end at or after their start")]
    Reversed,
    /// A CPU number of [`MAX_CPUS`] or more.
    #[error("CPU numbers below 1048576")]
    TooHigh,
    /// A CPU named twice.
    #[error("each CPU once")]
    Twice,
}

impl CpuListError {
    /// What would have been right, for an error's "expected".
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Self::Item => "CPU numbers and ranges such as `0-5,48-53`",
            Self::Reversed => "ranges that end at or after their start",
            Self::TooHigh => "CPU numbers below 1048576",
            Self::Twice => "each CPU once",
        }
    }
}

impl CpuList {
    /// Reads items separated by commas or blanks; an empty text is the empty list. Order does not
    /// matter. The kernel's input forms with strides (`0-31:2/4`) are never printed and refused.
    pub fn parse(text: &str) -> Result<Self, CpuListError> {
        let mut ranges = Vec::new();
        let text = text.trim();
        if text.starts_with(',') || text.ends_with(',') || text.contains(",,") {
            return Err(CpuListError::Item);
        }
        for item in text.split([',', ' ', '\t']).filter(|i| !i.is_empty()) {
            let (low, high) = item.split_once('-').unwrap_or((item, item));
            let low = decimal(low).ok_or(CpuListError::Item)?;
            let high = decimal(high).ok_or(CpuListError::Item)?;
            if high < low {
                return Err(CpuListError::Reversed);
            }
            if high >= u64::from(MAX_CPUS) {
                return Err(CpuListError::TooHigh);
            }
            ranges.push((low as u32, high as u32));
        }
        ranges.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::new();
        for (low, high) in ranges {
            match joined.last_mut() {
                Some((_, end)) if low <= *end => return Err(CpuListError::Twice),
                Some((_, end)) if low == *end + 1 => *end = high,
                _ => joined.push((low, high)),
            }
        }
        Ok(Self { ranges: joined })
    }

    /// These CPUs, each below [`MAX_CPUS`], in ascending order.
    pub(crate) fn of(ascending: impl Iterator<Item = u32>) -> Self {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for cpu in ascending {
            match ranges.last_mut() {
                Some((_, end)) if *end + 1 == cpu => *end = cpu,
                _ => ranges.push((cpu, cpu)),
            }
        }
        Self { ranges }
    }

    /// The ranges, first and last CPU of each, by number.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.ranges
    }

    /// How many CPUs, at most [`MAX_CPUS`].
    pub fn len(&self) -> u32 {
        self.ranges.iter().map(|(low, high)| high - low + 1).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether `cpu` is in the list.
    pub fn contains(&self, cpu: u32) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&cpu))
    }

    /// The CPUs by number.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges.iter().flat_map(|(low, high)| *low..=*high)
    }

    /// The lowest CPU that is in both lists.
    pub fn first_common(&self, other: &Self) -> Option<u32> {
        let (mut mine, mut others) = (self.ranges.iter(), other.ranges.iter());
        let (mut a, mut b) = (mine.next()?, others.next()?);
        loop {
            let low = a.0.max(b.0);
            if low <= a.1.min(b.1) {
                return Some(low);
            }
            if a.1 < b.1 {
                a = mine.next()?;
            } else {
                b = others.next()?;
            }
        }
    }
}

impl FromStr for CpuList {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (low, high)) in self.ranges.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            if low == high {
                write!(f, "{comma}{low}")?;
            } else {
                write!(f, "{comma}{low}-{high}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(text: &str) -> CpuList {
        CpuList::parse(text).unwrap()
    }

    #[test]
    fn reads_and_prints() {
        assert_eq!(list("0-5,48-53").to_string(), "0-5,48-53");
        assert_eq!(list("0-5,48-53").len(), 12);
        assert_eq!(list("3,1,2").to_string(), "1-3");
        assert_eq!(list("7").to_string(), "7");
        assert_eq!(list("0 1 2 3").to_string(), "0-3");
        assert!(list(" ").is_empty());
        assert_eq!(list("0-2").iter().collect::<Vec<_>>(), [0, 1, 2]);
        assert!(list("0-1048575").contains(1_048_575));
    }

    #[test]
    fn refuses() {
        for (text, error) in [
            ("0-5,3", CpuListError::Twice),
            ("1,1", CpuListError::Twice),
            ("5-0", CpuListError::Reversed),
            ("1048576", CpuListError::TooHigh),
            ("0-31:2/4", CpuListError::Item),
            ("0-", CpuListError::Item),
            ("-3", CpuListError::Item),
            ("0x3f", CpuListError::Item),
            ("0,,1", CpuListError::Item),
            ("0-5,", CpuListError::Item),
            ("99999999999999999999", CpuListError::Item),
        ] {
            assert_eq!(CpuList::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn common() {
        assert_eq!(list("0-5,48-53").first_common(&list("6-11,50")), Some(50));
        assert_eq!(list("0-5").first_common(&list("6-11")), None);
        assert_eq!(list("").first_common(&list("0")), None);
    }

    proptest! {
        #[test]
        fn prints_what_it_reads(cpus in prop::collection::btree_set(0u32..3000, 0..200)) {
            let text: Vec<String> = cpus.iter().rev().map(u32::to_string).collect();
            let read = list(&text.join(","));
            prop_assert_eq!(read.len() as usize, cpus.len());
            prop_assert!(read.iter().eq(cpus.iter().copied()));
            prop_assert_eq!(list(&read.to_string()), read);
        }

        #[test]
        fn never_panics(text in ".{0,60}") {
            let _ = CpuList::parse(&text);
        }
    }
}
