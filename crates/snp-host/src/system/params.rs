//! Parameters of modules, and ASIDs as the misc cgroup counts them: neither needs root.

use std::collections::BTreeMap;

use super::cpus::optional;
use super::error::{Got, ReadError, Why};
use super::root::Root;
use crate::number::decimal;
use crate::place::{quoted, quoted_long};

/// Modules that are looked at.
pub(super) const MODULES: [&str; 3] = ["kvm_amd", "ccp", "rmpopt"];

/// The parameters of each module that is loaded, shortened and with control
/// characters shown. One that may not be read is left out.
pub(super) fn params(root: &Root) -> Got<BTreeMap<String, BTreeMap<String, String>>> {
    // Without the folder nothing is known of any module, which is not the same as none.
    root.names("/sys/module")?;
    let mut modules = BTreeMap::new();
    for module in MODULES {
        let dir = format!("/sys/module/{module}");
        if optional(root.names(&dir))?.is_none() {
            continue;
        }
        let mut values = BTreeMap::new();
        let dir = format!("{dir}/parameters");
        for name in optional(root.names(&dir))?.unwrap_or_default() {
            match root.text(&format!("{dir}/{name}")) {
                Ok(value) => {
                    values.insert(quoted(&name), quoted_long(value.trim()));
                }
                Err(error) if matches!(error.why, Why::Forbidden | Why::Absent) => {}
                Err(error) => return Err(error),
            }
        }
        modules.insert(module.to_owned(), values);
    }
    Ok(modules)
}

/// `Y`, `1`, `N`, `0`.
pub fn flag(value: &str) -> Option<bool> {
    match value {
        "Y" | "y" | "1" => Some(true),
        "N" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// ASIDs of one kind: in use, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asids {
    /// In use.
    pub used: u64,
    /// How many there are, if the file says so.
    pub capacity: Option<u64>,
}

/// `sev` and `sev_es` of the misc cgroup's root; SNP guests count as `sev_es`.
pub(super) fn asids(root: &Root) -> Got<BTreeMap<String, Asids>> {
    let capacity = misc(root, "/sys/fs/cgroup/misc.capacity")?;
    let used = misc(root, "/sys/fs/cgroup/misc.current")?;
    let pool = |(name, used): (String, u64)| {
        let capacity = capacity.get(&name).copied();
        (name, Asids { used, capacity })
    };
    Ok(used.into_iter().map(pool).filter(|(name, _)| name.starts_with("sev")).collect())
}

fn misc(root: &Root, path: &str) -> Got<BTreeMap<String, u64>> {
    let text = root.text(path)?;
    let mut read = BTreeMap::new();
    for (n, line) in text.lines().enumerate() {
        let pair = line.split_once(' ').and_then(|(k, v)| Some((k, decimal(v.trim())?)));
        let (key, value) =
            pair.ok_or_else(|| ReadError::new(path, Why::malformed(n + 1, "`name number`", line)))?;
        read.insert(key.to_owned(), value);
    }
    Ok(read)
}
