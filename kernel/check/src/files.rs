//! The module's files and the kernel's CPU lists.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;

use crate::table;

/// The driver's folder.
pub(crate) const DRIVER: &str = "/sys/kernel/debug/x86/rmpopt";
/// The folder of `rmpopt_emu`, where the emulated host stays while the driver goes and comes.
const KEEPER: &str = "/sys/kernel/debug/x86/rmpopt_emu";
/// The driver's folder in configfs.
pub(crate) const CONFIG: &str = "/sys/kernel/config/rmpopt";

/// Where the emulated host shows itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Host {
    /// In the driver, with which it goes.
    Driver,
    /// In `rmpopt_emu`.
    Kept,
}

impl Host {
    fn folder(self) -> String {
        match self {
            Self::Driver => format!("{DRIVER}/emu"),
            Self::Kept => KEEPER.to_owned(),
        }
    }

    /// Reads one of the host's files.
    pub(crate) fn read(self, name: &str) -> Result<String, String> {
        text(&format!("{}/{name}", self.folder()))
    }

    /// Writes commands to the host's control file, in one piece.
    pub(crate) fn control(self, commands: &str) -> std::io::Result<()> {
        let path = format!("{}/control", self.folder());
        let mut file = fs::OpenOptions::new().write(true).open(path)?;
        file.write_all(commands.as_bytes())
    }
}

/// Reads one of the driver's files.
pub(crate) fn read(name: &str) -> Result<String, String> {
    text(&format!("{DRIVER}/{name}"))
}

fn text(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

/// Writes to one of the module's files in configfs.
pub(crate) fn set(name: &str, value: &str) -> Result<(), String> {
    let path = format!("{CONFIG}/{name}");
    fs::write(&path, value).map_err(|error| format!("{path}: {error}"))
}

/// CPUs that are online.
pub(crate) fn online() -> Result<BTreeSet<u32>, String> {
    let path = "/sys/devices/system/cpu/online";
    let list = text(path)?;
    table::cpus(list.trim()).ok_or_else(|| format!("{path}: {list:?} is no list of CPUs"))
}

/// The value of a key in a file of `key value` lines.
pub(crate) fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}
