//! Debian's packages of programs that tests run: those to which they show the emulated host, and a
//! terminal. Those whose packages would start services are unpacked, not installed.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};

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

/// Programs that tests run, and Debian's packages of them; each needs no library but libc and zlib.
const UNPACKED: [(&str, &str); 4] = [
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("prometheus-node-exporter", "prometheus-node-exporter"),
    ("mandoc", "mandoc"),
];

/// Downloads the packages and unpacks them; says what became of it.
fn unpack(ci: &Ci, packages: &BTreeSet<&str>) -> Result<()> {
    let (debs, root) = (ci.tools().join("debs"), ci.tools().join("debian"));
    for folder in [&debs, &root] {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    let download = || {
        let mut apt = limited(ci, "apt-get");
        apt.args(["-q", "-o", "APT::Sandbox::User=root", "download"]).args(packages);
        ci.show(apt.current_dir(&debs))
    };
    if download().is_err() {
        ci.show(limited(ci, "apt-get").args(["-q", "update"]))?;
        download()?;
    }
    for entry in fs::read_dir(&debs)? {
        let deb = entry?.path();
        let name = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if packages.iter().any(|package| name.starts_with(&format!("{package}_"))) {
            ci.show(ci.program("dpkg-deb").arg("--extract").arg(&deb).arg(&root))?;
        }
    }
    Ok(())
}

/// Unpacks what is missing of those whose packages would start services; says what became of it.
pub(super) fn unpacked(ci: &Ci) -> Option<String> {
    let here = |program: &str| {
        is_installed(program) || ci.tools().join("debian/usr/bin").join(program).is_file()
    };
    let missing: BTreeSet<&str> = UNPACKED
        .iter()
        .filter(|(program, _)| !here(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return None;
    }
    let names = missing.iter().copied().collect::<Vec<_>>().join(", ");
    if !ci.install || !is_installed("apt-get") || !is_installed("dpkg-deb") {
        return Some(format!("{names} missing (unpacked only as root, with apt-get)"));
    }
    Some(match unpack(ci, &missing) {
        Ok(()) => format!("unpacked {names}"),
        Err(error) => format!("{names} missing: {error:#}"),
    })
}
