//! The steps by which the environment is made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::packages::deb;
use super::{Kernel, KernelEnv, SUITE, bootstrap, inside, mirror};
use crate::process::{is_installed, pipeline, run_logged};

/// Programs needed on the host, and the package each is in.
const HOST_PROGRAMS: [(&str, &str); 11] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("debootstrap", "debootstrap"),
    ("cpio", "cpio"),
    ("busybox", "busybox-static"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("gzip", "gzip"),
    ("unshare", "util-linux"),
    ("chroot", "coreutils"),
];

/// What the kernel's build needs, installed in the Debian it happens in.
const TOOLCHAIN: [&str; 23] = [
    "build-essential",
    "bc",
    "bison",
    "flex",
    "libelf-dev",
    "libssl-dev",
    "libdw-dev",
    "kmod",
    "cpio",
    "xz-utils",
    "python3",
    "perl",
    "rsync",
    "rustc",
    "rust-src",
    "bindgen",
    "rustfmt",
    "rust-clippy",
    "libclang-dev",
    "pahole",
    "zstd",
    "gcc-14",
    "dkms",
];

/// Steps printed, so that a reader knows how far it is.
const STEPS: usize = 8;

/// One step's line on the screen.
pub(super) fn say(step: usize, what: &str) {
    eprintln!("[{step}/{STEPS}] {what}");
}

/// Programs that the host lacks, with their packages.
pub(super) fn missing_programs() -> Vec<(&'static str, &'static str)> {
    HOST_PROGRAMS.into_iter().filter(|(program, _)| !is_installed(program)).collect()
}

/// The steps; each leaves a stamp that says for what it was done, and is passed over if it stands.
pub(super) struct Maker {
    pub(super) cache: PathBuf,
}

impl Maker {
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.cache.join("logs").join(format!("{name}.log"))
    }

    pub(super) fn stamp(&self, step: &str) -> PathBuf {
        self.cache.join("stamps").join(step)
    }

    pub(super) fn is_done(&self, step: &str, what: &str) -> bool {
        fs::read_to_string(self.stamp(step)).is_ok_and(|text| text == what)
    }

    pub(super) fn undo(&self, step: &str) -> Result<()> {
        match fs::remove_file(self.stamp(step)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn done(&self, step: &str, what: &str) -> Result<()> {
        fs::write(self.stamp(step), what).with_context(|| format!("marking {step} as done"))
    }

    /// Step 1: the programs on the host.
    pub(super) fn host_programs(&self, missing: &[(&str, &str)]) -> Result<()> {
        let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
        if missing.is_empty() {
            say(1, "host packages: present");
            return Ok(());
        }
        say(1, &format!("host packages: installing {}", packages.join(" ")));
        if !is_installed("apt-get") {
            bail!("no apt-get here; install by hand: {}", packages.join(" "))
        }
        let log = self.log("host-packages");
        let install = || {
            let mut apt = Command::new("apt-get");
            apt.env("DEBIAN_FRONTEND", "noninteractive");
            apt.args(["install", "--yes", "--no-install-recommends"]).args(&packages);
            apt
        };
        if run_logged(&mut install(), &log).is_err() {
            run_logged(Command::new("apt-get").arg("update"), &log)?;
            run_logged(&mut install(), &log)
                .with_context(|| format!("host packages not available: {}", packages.join(" ")))?;
        }
        for (program, package) in missing {
            if !is_installed(program) {
                bail!("package {package} is installed but brought no program {program}")
            }
        }
        Ok(())
    }

    /// Steps 4 and 5: a minimal Debian with the compiler that built the kernel.
    pub(super) fn debian(&self) -> Result<()> {
        let root = self.cache.join("root");
        let toolchain = TOOLCHAIN.join(" ");
        if self.is_done("debian", SUITE) {
            say(4, &format!("{SUITE}: present"));
        } else {
            let mirror = mirror()?;
            say(4, &format!("{SUITE}: unpacking a minimal system (half a minute)"));
            // What a broken-off run left cannot be trusted, and the kernel's tree lies inside.
            for step in ["toolchain", "source", "prepared"] {
                self.undo(step)?;
            }
            if root.exists() {
                fs::remove_dir_all(&root)?;
            }
            bootstrap(&mirror, &root, &self.log("debootstrap"))?;
            self.done("debian", SUITE)?;
        }
        if self.is_done("toolchain", &toolchain) {
            say(5, "compilers: present");
            return Ok(());
        }
        say(5, &format!("compilers: installing {toolchain}"));
        if Path::new("/etc/resolv.conf").exists() {
            fs::copy("/etc/resolv.conf", root.join("etc/resolv.conf"))?;
        }
        let log = self.log("toolchain");
        run_logged(inside(&root, "apt-get").arg("update"), &log)?;
        let mut install = inside(&root, "apt-get");
        install.args(["install", "--yes", "--no-install-recommends"]).args(TOOLCHAIN);
        run_logged(&mut install, &log)
            .with_context(|| format!("some package is not available in {SUITE}: {toolchain}"))?;
        run_logged(inside(&root, "apt-get").arg("clean"), &self.log("toolchain-clean"))?;
        self.done("toolchain", &toolchain)
    }

    /// Step 6: the kernel's source and Debian's configuration of it.
    pub(super) fn source(&self, env: &KernelEnv) -> Result<()> {
        if self.is_done("source", &env.kernel.version) {
            say(6, "kernel source: present");
            return Ok(());
        }
        say(6, "kernel source: unpacking (20 seconds)");
        self.undo("prepared")?;
        let debs = self.cache.join("debs");
        let [config, source, ..] = env.kernel.packages();
        let tree = env.root().join("kernel");
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        fs::create_dir_all(tree.join("src"))?;
        fs::create_dir_all(tree.join("obj"))?;
        let script = format!(
            "dpkg-deb --fsys-tarfile \"$1\" | tar -xO ./usr/src/{source}.tar.xz \
             | xz -dc -T0 | tar -x -C \"$2\" --strip-components=1"
        );
        let deb_of = |package: &str| deb(&debs, package, &env.kernel.version);
        pipeline(&script, &[&deb_of(&source)?, &tree.join("src")], &self.log("source"))?;
        let script = format!(
            "dpkg-deb --fsys-tarfile \"$1\" \
             | tar -xO ./usr/src/{config}/config.amd64_none_amd64.xz | xz -dc > \"$2\""
        );
        pipeline(&script, &[&deb_of(&config)?, &tree.join("obj/.config")], &self.log("config"))?;
        self.done("source", &env.kernel.version)
    }

    /// Step 7: what a module's build reads of a built kernel. Only its Rust half is compiled.
    pub(super) fn prepare(&self, env: &KernelEnv) -> Result<()> {
        if self.is_done("prepared", &env.kernel.version) {
            say(7, "kernel build folder: present");
            return Ok(());
        }
        say(7, "kernel build folder: preparing (two to three minutes)");
        for target in ["rustavailable", "olddefconfig", "modules_prepare"] {
            run_logged(env.make().arg(target), &self.log(target))?;
        }
        let release = env.root().join("kernel/obj/include/config/kernel.release");
        let release = fs::read_to_string(release)?;
        if release.trim() != env.kernel.release {
            bail!(
                "the prepared source calls itself {}, the stock kernel {}: its modules would not load",
                release.trim(),
                env.kernel.release
            )
        }
        self.done("prepared", &env.kernel.version)
    }

    /// Step 8: the stock kernel itself, its modules, and the list of what it exports.
    pub(super) fn stock(&self, kernel: &Kernel) -> Result<()> {
        let symbols = self.cache.join("root/kernel/obj/Module.symvers");
        if self.is_done("stock", &kernel.version) && symbols.exists() {
            say(8, "stock kernel: present");
            return Ok(());
        }
        say(8, "stock kernel: unpacking its image, modules and exported symbols");
        let stock = self.cache.join("stock");
        if stock.exists() {
            fs::remove_dir_all(&stock)?;
        }
        let debs = self.cache.join("debs");
        let [_, _, headers, binary, modules] = kernel.packages();
        for package in [&headers, &binary, &modules] {
            let file = deb(&debs, package, &kernel.version)?;
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(file).arg(&stock);
            run_logged(&mut unpack, &self.log("stock"))?;
        }
        fs::copy(stock.join("usr/src").join(&headers).join("Module.symvers"), symbols)
            .context("taking Module.symvers from the headers package")?;
        self.done("stock", &kernel.version)
    }
}
