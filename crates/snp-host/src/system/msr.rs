//! MSRs of each CPU: `/dev/cpu/N/msr`, or what `rdmsr -a` printed.

use std::collections::BTreeMap;

use super::error::{Got, ReadError, Why};
use super::root::Root;
use crate::number::hex;
use crate::topology::MAX_CPUS;

/// One MSR's values by CPU.
pub type Values = BTreeMap<u32, u64>;

/// Where the output of `rdmsr -a 0xMSR` may lie at the top of a tree.
pub fn rdmsr_path(msr: u32) -> String {
    format!("/rdmsr-{msr:08x}.txt")
}

/// The values of `msr` on `cpus`, and the source that answered. CPUs without a device (offline) are
/// left out.
pub(super) fn read(root: &Root, cpus: &[u32], msr: u32) -> Got<(String, Values)> {
    let mut values = Values::new();
    let mut error = None;
    for cpu in cpus {
        match root.at::<8>(&format!("/dev/cpu/{cpu}/msr"), u64::from(msr)) {
            Ok(bytes) => {
                values.insert(*cpu, u64::from_le_bytes(bytes));
            }
            Err(e) if e.why == Why::Absent => {
                error.get_or_insert(e);
            }
            Err(e) => {
                error = Some(e);
                break;
            }
        }
    }
    if !values.is_empty() {
        return Ok((format!("/dev/cpu/N/msr {msr:#x}"), values));
    }
    let path = rdmsr_path(msr);
    match root.text(&path) {
        Ok(text) => {
            // A text interrupts nobody: all of it counts, whatever was asked for.
            let all = parse_rdmsr(&text).map_err(|why| ReadError::new(&path, why))?;
            Ok((path, all))
        }
        Err(text) if text.why == Why::Absent => Err(error.unwrap_or(text)),
        Err(text) => Err(text),
    }
}

/// Reads the output of `rdmsr -a`: one value a line for CPU 0, 1, ... in hexadecimal, with or
/// without `0x` and leading zeros.
pub fn parse_rdmsr(text: &str) -> Result<Values, Why> {
    let mut values = Values::new();
    for (n, line) in text.lines().enumerate() {
        let word = line.trim();
        if word.is_empty() {
            continue;
        }
        let value = hex(word.strip_prefix("0x").unwrap_or(word))
            .ok_or_else(|| Why::malformed(n + 1, "one hexadecimal value a line", line))?;
        let cpu = values.len() as u32;
        if cpu >= MAX_CPUS {
            return Err(Why::malformed(n + 1, "at most 1048576 values", line));
        }
        values.insert(cpu, value);
    }
    if values.is_empty() {
        return Err(Why::malformed(0, "the output of `rdmsr -a`", ""));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_by_cpu() {
        let read = parse_rdmsr("1\n80000001\r\n0x0000000000000001\n\n").unwrap();
        assert_eq!(read.into_values().collect::<Vec<_>>(), [1, 0x80000001, 1]);
        let error = parse_rdmsr("1\nrdmsr: CPU 1 cannot read MSR 0xc0010139\n").unwrap_err();
        assert!(matches!(error, Why::Malformed { line: 2, .. }), "{error:?}");
        assert!(parse_rdmsr("").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in "[0-9a-fx \n]{0,80}") {
            let _ = parse_rdmsr(&text);
        }
    }
}
