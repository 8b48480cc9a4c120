//! The module's files and the kernel's CPU lists.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;

use crate::table;

const FOLDER: &str = "/sys/kernel/debug/x86/rmpopt";

/// Reads one of the module's files.
pub(crate) fn read(name: &str) -> Result<String, String> {
    let path = format!("{FOLDER}/{name}");
    fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))
}

/// Writes commands to the control file, in one piece.
pub(crate) fn control(commands: &str) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(format!("{FOLDER}/emu/control"))?;
    file.write_all(commands.as_bytes())
}

/// Writes to one of the module's files in configfs.
pub(crate) fn set(name: &str, value: &str) -> Result<(), String> {
    let path = format!("/sys/kernel/config/rmpopt/{name}");
    fs::write(&path, value).map_err(|error| format!("{path}: {error}"))
}

/// CPUs that are online.
pub(crate) fn online() -> Result<BTreeSet<u32>, String> {
    let path = "/sys/devices/system/cpu/online";
    let list = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    table::cpus(list.trim()).ok_or_else(|| format!("{path}: {list:?} is no list of CPUs"))
}

/// The value of a key in a file of `key value` lines.
pub(crate) fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}
