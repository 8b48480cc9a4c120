//! Numbers of our module that can be set while it is loaded: its folder in configfs.
//!
//! The kernel shows no parameters of a module written in Rust in `/sys/module`, so these are the only
//! ones that can be seen.

use std::collections::BTreeMap;

use super::cpus::optional;
use super::error::{Got, ReadError, Why};
use super::root::Root;
use crate::number::decimal;

/// The folder.
pub const TUNABLES: &str = "/sys/kernel/config/rmpopt";

/// Its numbers, in the order of docs/kernel-module.md, each in the unit that its name ends with.
pub const NUMBERS: [&str; 11] = [
    "delay_ms",
    "bound_ms",
    "merge_ms",
    "follow_ms",
    "tick_ms",
    "hold_us",
    "slow_us",
    "followers",
    "audit_ms",
    "cap_ms",
    "sweep",
];

/// Reads those that are there. An error if the folder is not: configfs is not mounted, or there is no
/// module.
pub(super) fn tunables(root: &Root) -> Got<BTreeMap<&'static str, u64>> {
    let there = root.names(TUNABLES)?;
    let mut read = BTreeMap::new();
    for name in NUMBERS.into_iter().filter(|name| there.iter().any(|there| there == name)) {
        let path = format!("{TUNABLES}/{name}");
        // The module may go meanwhile.
        let Some(text) = optional(root.line(&path))? else { continue };
        let number = decimal(text.trim());
        let wrong = || ReadError::new(&path, Why::malformed(1, "a number", text.trim()));
        read.insert(name, number.ok_or_else(wrong)?);
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::tree(dir.path()).unwrap();
        assert_eq!(tunables(&root).unwrap_err().why, Why::Absent);
        let folder = dir.path().join("sys/kernel/config/rmpopt");
        std::fs::create_dir_all(&folder).unwrap();
        // Upstream's first version has a folder of that name too, without numbers.
        std::fs::write(folder.join("action"), "RMP optimization in progress: No\n").unwrap();
        assert_eq!(tunables(&root), Ok(BTreeMap::new()));
        std::fs::write(folder.join("delay_ms"), "1000\n").unwrap();
        std::fs::write(folder.join("sweep"), "0\n").unwrap();
        assert_eq!(tunables(&root), Ok(BTreeMap::from([("delay_ms", 1000), ("sweep", 0)])));
        for wrong in ["", "-1\n", "1 2\n", "99999999999999999999\n"] {
            std::fs::write(folder.join("sweep"), wrong).unwrap();
            let error = tunables(&root).unwrap_err();
            assert!(matches!(error.why, Why::Malformed { line: 1, .. }), "{wrong:?}: {error}");
        }
    }

    /// The module's own list, in its order.
    #[test]
    fn they_are_those_of_the_module() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../kernel/src/config.rs");
        let source = std::fs::read_to_string(path).unwrap();
        let files = source.split("File::new::<").skip(1).filter_map(|part| {
            let (number, rest) = part.split_once(">(c\"")?;
            number.parse::<u32>().ok()?;
            rest.split_once('"').map(|(name, _)| name)
        });
        assert_eq!(files.collect::<Vec<_>>(), NUMBERS);
    }
}
