//! Small Debians that the package is tried in, kept from run to run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::kernel_env::{SUITE, bootstrap, cache_folder, inside, mirror};
use crate::process::{capture, is_installed, run_logged};

/// What is installed in the one that is booted: what a server has, and who reads the textfile.
const BOOTED: [&str; 6] =
    ["systemd-sysv", "dbus", "libnss-systemd", "kmod", "iproute2", "prometheus-node-exporter"];

/// The folder that they are in; held by one command at a time.
#[derive(Debug)]
pub(super) struct Minimal {
    cache: PathBuf,
    _lock: File,
}

impl Minimal {
    /// The folder, with a minimal system in it.
    pub(super) fn ensure() -> Result<Self> {
        ensure!(capture(Command::new("id").arg("-u"))?.trim() == "0", "the chroot needs root");
        ensure!(is_installed("debootstrap"), "debootstrap is missing");
        let cache = cache_folder()?;
        for folder in ["logs", "scratch"] {
            fs::create_dir_all(cache.join(folder))?;
        }
        let lock = File::create(cache.join("lock-minimal"))?;
        lock.lock().context("waiting for another check")?;
        let minimal = Self { cache, _lock: lock };
        minimal.made("minimal", SUITE, |root, log| bootstrap(&mirror()?, root, log))?;
        Ok(minimal)
    }

    /// A copy of the minimal system, made anew.
    pub(super) fn copy(&self, name: &str) -> Result<PathBuf> {
        self.copy_of("minimal", name)
    }

    /// A copy of one that can be booted, made anew.
    pub(super) fn bootable(&self, name: &str) -> Result<PathBuf> {
        let packages = BOOTED.join(" ");
        self.made("booted", &format!("{SUITE}: {packages}"), |root, log| {
            copy(&self.cache.join("minimal"), root, log)?;
            if Path::new("/etc/resolv.conf").exists() {
                fs::copy("/etc/resolv.conf", root.join("etc/resolv.conf"))?;
            }
            run_logged(inside(root, "apt-get").arg("update"), log)?;
            let mut install = inside(root, "apt-get");
            install.args(["install", "--yes", "--no-install-recommends"]).args(BOOTED);
            run_logged(&mut install, log)?;
            run_logged(inside(root, "apt-get").arg("clean"), log)
        })?;
        self.copy_of("booted", name)
    }

    fn copy_of(&self, from: &str, name: &str) -> Result<PathBuf> {
        let root = self.cache.join("scratch").join(name);
        copy(&self.cache.join(from), &root, &self.log(name))?;
        Ok(root)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.cache.join("logs").join(format!("{name}.log"))
    }

    /// The system of this name, made by `make` unless it is there and of this kind.
    fn made(
        &self,
        name: &str,
        kind: &str,
        make: impl FnOnce(&Path, &Path) -> Result<()>,
    ) -> Result<()> {
        let (root, stamp) = (self.cache.join(name), self.cache.join(format!("{name}.suite")));
        if fs::read_to_string(&stamp).is_ok_and(|made| made == kind) {
            println!("{name} {SUITE}: present in {}", root.display());
            return Ok(());
        }
        println!("{name} {SUITE}: unpacking (half a minute)");
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        make(&root, &self.log(name))?;
        fs::write(&stamp, kind)?;
        Ok(())
    }
}

fn copy(from: &Path, to: &Path, log: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    run_logged(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to), log)
}
