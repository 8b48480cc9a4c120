//! Debian's packages of programs that tests run: those to which they show the emulated host, and a
//! terminal. They start no service.

use anyhow::Result;

use super::Ci;
use super::tools::limited;
use crate::process::is_installed;

/// Programs, and the packages that hold them.
const PACKAGES: [(&str, &str); 5] = [
    ("rdmsr", "msr-tools"),
    ("cpuid", "cpuid"),
    ("lscpu", "util-linux"),
    ("numactl", "numactl"),
    ("tmux", "tmux"),
];

/// Installs what is missing, as root; says what became of it.
pub(super) fn run(ci: &Ci) -> Option<String> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(program, _)| !is_installed(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return None;
    }
    let names = missing.join(", ");
    if !ci.install || !is_installed("apt-get") {
        return Some(format!("{names} missing (installed only as root, with apt-get)"));
    }
    Some(match install(ci, &missing) {
        Ok(()) => format!("installed {names}"),
        Err(error) => format!("{names} missing: {error:#}"),
    })
}

fn install(ci: &Ci, packages: &[&str]) -> Result<()> {
    let install = || {
        let mut apt = limited(ci, "apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt.args(["-q", "-y", "--no-install-recommends", "install"]).args(packages);
        ci.show(&mut apt)
    };
    // Lists of packages may be missing, or too old.
    if install().is_err() {
        ci.show(limited(ci, "apt-get").args(["-q", "update"]))?;
        install()?;
    }
    Ok(())
}
