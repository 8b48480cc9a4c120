//! The text of upstream's debugfs file `rmpopt-table` (v6 to v8), byte for byte.
//!
//! One row per region of the window, no row for the end (spec/rmpopt.md 4):
//! `Memory @%3lluGB: CPU(s): %*pbl`, or `none` where no CPU reports the region optimised.

use core::fmt::{self, Write};

use crate::snp_defs::Region;

/// Writes one row. `cpus` are the CPUs that report the region, ascending.
pub fn write_row(
    out: &mut dyn Write,
    region: Region,
    cpus: impl Iterator<Item = u32>,
) -> fmt::Result {
    write!(out, "Memory @{:3}GB: CPU(s): ", region.get())?;
    if !write_cpu_list(out, cpus)? {
        out.write_str("none")?;
    }
    out.write_char('\n')
}

/// Writes ascending CPU numbers as the kernel's `%*pbl` does: `0-3,7`. Returns whether there were any.
pub fn write_cpu_list(
    out: &mut dyn Write,
    cpus: impl Iterator<Item = u32>,
) -> Result<bool, fmt::Error> {
    fn write_range(out: &mut dyn Write, (first, last): (u32, u32)) -> fmt::Result {
        if first == last {
            write!(out, "{first}")
        } else {
            write!(out, "{first}-{last}")
        }
    }
    let mut open: Option<(u32, u32)> = None;
    for cpu in cpus {
        match open {
            Some((first, last)) if last.checked_add(1) == Some(cpu) => open = Some((first, cpu)),
            Some(range) => {
                write_range(out, range)?;
                out.write_char(',')?;
                open = Some((cpu, cpu));
            }
            None => open = Some((cpu, cpu)),
        }
    }
    match open {
        Some(range) => write_range(out, range).map(|()| true),
        None => Ok(false),
    }
}

/// Reads what [`write_cpu_list`] writes; each range, first and last, goes to `take`. `None` where it is
/// no such list of ascending numbers; some ranges may have been taken then.
pub fn read_cpu_list(list: &str, mut take: impl FnMut(u32, u32)) -> Option<()> {
    let mut least = Some(0);
    for part in list.as_bytes().split(|&byte| byte == b',') {
        let mut ends = part.splitn(2, |&byte| byte == b'-').map(read_number);
        let first = ends.next()??;
        let last = ends.next().unwrap_or(Some(first))?;
        if first < least? || last < first {
            return None;
        }
        take(first, last);
        least = last.checked_add(1);
    }
    Some(())
}

/// Reads a decimal number, of digits only.
pub fn read_number(digits: &[u8]) -> Option<u32> {
    let value = |value: u32, &digit: &u8| {
        let digit = digit.checked_sub(b'0').filter(|&digit| digit < 10)?;
        value.checked_mul(10)?.checked_add(u32::from(digit))
    };
    digits.iter().try_fold(0, value).filter(|_| !digits.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(region: u32, cpus: &[u32]) -> String {
        let mut text = String::new();
        write_row(&mut text, Region::new(region).unwrap(), cpus.iter().copied()).unwrap();
        text
    }

    /// Rows of the sample in upstream's commit message.
    #[test]
    fn rows_are_upstreams() {
        let all: Vec<_> = (0..1024).collect();
        assert_eq!(row(0, &[]), "Memory @  0GB: CPU(s): none\n");
        assert_eq!(row(2, &all), "Memory @  2GB: CPU(s): 0-1023\n");
        assert_eq!(row(1038, &[]), "Memory @1038GB: CPU(s): none\n");
    }

    #[test]
    fn lists_join_neighbours() {
        assert_eq!(row(7, &[0, 1, 2, 5, 7, 8]), "Memory @  7GB: CPU(s): 0-2,5,7-8\n");
        assert_eq!(row(7, &[u32::MAX]), "Memory @  7GB: CPU(s): 4294967295\n");
    }

    #[test]
    fn lists_are_read_as_they_are_written() {
        let read = |list: &str| {
            let mut cpus = Vec::new();
            read_cpu_list(list, |first, last| cpus.extend(first..=last)).map(|()| cpus)
        };
        assert_eq!(read("0-2,5,7-8"), Some(vec![0, 1, 2, 5, 7, 8]));
        assert_eq!(read("4294967295"), Some(vec![u32::MAX]));
        for wrong in ["", "1-", "-1", "3-1", "2,1", "1-3,3", "none", "0 1", "+1", "4294967295,0"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
        assert_eq!(read("4294967296"), None);
    }
}
