//! The debug kernel: the same source as the stock kernel's, small, with the kernel's own checks of
//! locks, contexts, objects and memory.
//!
//! It is configured by `kernel/check/debug.config`; the variant with KASAN also by
//! `kernel/check/kasan.config`, and compiled by LLVM, which Rust and KASAN together demand.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::{KernelEnv, Maker, inside, repository};
use crate::process::run_logged;

/// Packages that the build with KASAN needs beside the others.
const LLVM: [&str; 3] = ["clang-19", "lld-19", "llvm-19"];

/// Which kernel a module is built for and booted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// The distribution's.
    Stock,
    /// The debug kernel without KASAN, by gcc.
    Debug,
    /// The debug kernel with KASAN, by LLVM.
    Kasan,
}

impl Flavour {
    /// What is added to names of folders and files.
    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::Stock => "",
            Self::Debug => "-debug",
            Self::Kasan => "-kasan",
        }
    }

    /// Arguments for the kernel's `make`, beside those that name folders.
    pub(super) fn make(self, local_version: &str) -> Vec<String> {
        let gcc = ["CC=x86_64-linux-gnu-gcc-14", "HOSTCC=gcc"].map(str::to_owned);
        let version = |version: &str| format!("LOCALVERSION={version}");
        match self {
            Self::Stock => [vec![version(local_version)], gcc.to_vec()].concat(),
            Self::Debug => [vec![version("-debug")], gcc.to_vec()].concat(),
            Self::Kasan => vec![version("-kasan"), "LLVM=-19".to_owned()],
        }
    }

    /// What the kernel is told when it boots. The debug kernels' watchdogs are off: they measure by
    /// a clock that a busy host slows down. Their warnings are printed at once, not only at the end.
    pub(crate) const fn arguments(self) -> &'static str {
        match self {
            Self::Stock => "",
            Self::Debug | Self::Kasan => " loglevel=5 rcupdate.rcu_cpu_stall_suppress=1",
        }
    }

    /// Files in `kernel/check` that configure it.
    const fn fragments(self) -> &'static [&'static str] {
        match self {
            Self::Stock => &[],
            Self::Debug => &["debug.config"],
            Self::Kasan => &["debug.config", "kasan.config"],
        }
    }

    const fn about(self) -> &'static str {
        match self {
            Self::Stock => "the stock kernel",
            Self::Debug => "a debug kernel (6 minutes on two cores)",
            Self::Kasan => "a debug kernel with KASAN (15 minutes on two cores)",
        }
    }
}

impl KernelEnv {
    /// The same environment for another kernel, which is built as far as it is not there yet.
    pub(crate) fn with(self, flavour: Flavour) -> Result<Self> {
        let env = Self { flavour, ..self };
        if flavour == Flavour::Stock {
            return Ok(env);
        }
        for folder in [env.logs(), env.scratch("")] {
            fs::create_dir_all(&folder)
                .with_context(|| format!("creating {}", folder.display()))?;
        }
        let started = Instant::now();
        let maker = Maker { cache: env.cache.clone() };
        let wanted = format!("{}\n{}", env.kernel.version, fragment(flavour)?);
        let step = format!("kernel{}", flavour.suffix());
        if maker.is_done(&step, &wanted) && env.vmlinuz().exists() {
            eprintln!("{}: present", flavour.about());
            return Ok(env);
        }
        eprintln!("building {}", flavour.about());
        maker.undo(&step)?;
        if flavour == Flavour::Kasan {
            maker.llvm()?;
        }
        env.build_kernel(&fragment(flavour)?)?;
        maker.done(&step, &wanted)?;
        eprintln!("built after {:.0} s: {}", started.elapsed().as_secs_f64(), env.release()?);
        Ok(env)
    }

    /// What `uname -r` says in the kernel of this environment.
    pub(crate) fn release(&self) -> Result<String> {
        if self.flavour == Flavour::Stock {
            return Ok(self.kernel.release.clone());
        }
        let file = self.objects().join("include/config/kernel.release");
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(text.trim().to_owned())
    }

    /// The kernel's build folder.
    fn objects(&self) -> PathBuf {
        self.root().join(format!("kernel/obj{}", self.flavour.suffix()))
    }

    /// The image of a kernel that was built here.
    pub(super) fn built_image(&self) -> PathBuf {
        self.objects().join("arch/x86/boot/bzImage")
    }

    /// The folder with modules of a kernel that was built here.
    pub(crate) fn built_modules(&self) -> PathBuf {
        self.objects()
    }

    fn build_kernel(&self, fragment: &str) -> Result<()> {
        let objects = self.objects();
        fs::create_dir_all(&objects)?;
        let make = |target: &str| {
            run_logged(self.make().arg(target), &self.logs().join(format!("{target}.log")))
        };
        make("tinyconfig")?;
        let config = objects.join(".config");
        fs::write(&config, fs::read_to_string(&config)? + fragment)?;
        make("olddefconfig")?;
        let dropped = dropped(fragment, &fs::read_to_string(&config)?);
        if !dropped.is_empty() {
            bail!("this kernel's configuration does not take: {}", dropped.join(" "))
        }
        make("rustavailable")?;
        make("all")
    }
}

impl Maker {
    fn llvm(&self) -> Result<()> {
        let wanted = LLVM.join(" ");
        if self.is_done("llvm", &wanted) && self.cache.join("root/usr/bin/clang-19").exists() {
            return Ok(());
        }
        eprintln!("installing {wanted}");
        let mut install = inside(&self.cache.join("root"), "apt-get");
        install.args(["install", "--yes", "--no-install-recommends"]).args(LLVM);
        run_logged(&mut install, &self.log("llvm"))?;
        run_logged(inside(&self.cache.join("root"), "apt-get").arg("clean"), &self.log("clean"))?;
        self.done("llvm", &wanted)
    }
}

/// The lines that configure a kernel, without comments: it is not built again for them.
fn fragment(flavour: Flavour) -> Result<String> {
    let folder = repository()?.join("kernel/check");
    let mut lines = String::new();
    for name in flavour.fragments() {
        let file: &Path = &folder.join(name);
        let text = fs::read_to_string(file);
        let text = text.with_context(|| format!("reading {}", file.display()))?;
        for line in text.lines().filter(|line| option(line).is_some()) {
            lines += line;
            lines.push('\n');
        }
    }
    Ok(lines)
}

/// The option that a line sets or leaves out.
fn option(line: &str) -> Option<&str> {
    let left_out = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set"));
    let name = left_out.or_else(|| line.split_once('=').map(|(name, _)| name));
    name.filter(|name| name.starts_with("CONFIG_"))
}

/// Settings of the fragment that a configuration does not have. The last line about an option is
/// what is wanted of it.
fn dropped<'a>(fragment: &'a str, config: &str) -> Vec<&'a str> {
    let mut wanted = std::collections::BTreeMap::new();
    for line in fragment.lines() {
        if let Some(name) = option(line) {
            wanted.insert(name, line);
        }
    }
    let holds = |name: &str, line: &str| {
        if line.starts_with('#') {
            !config.lines().any(|other| other.starts_with(&format!("{name}=")))
        } else {
            config.lines().any(|other| other == line)
        }
    };
    wanted.into_iter().filter(|(name, line)| !holds(name, line)).map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_kconfig_drops_are_named() {
        let fragment = "# a comment\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=y\n";
        let config = "CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\n";
        assert_eq!(dropped(fragment, config), ["CONFIG_B=m", "CONFIG_D=y"]);
        assert_eq!(dropped("# CONFIG_A is not set\n", config), ["# CONFIG_A is not set"]);
        assert!(dropped("CONFIG_A=n\nCONFIG_A=y\n", config).is_empty());
    }

    #[test]
    fn each_kernel_has_its_own_folders_and_release() {
        assert_eq!(Flavour::Stock.make("+deb13-amd64")[0], "LOCALVERSION=+deb13-amd64");
        assert_eq!(Flavour::Kasan.make("+deb13-amd64"), ["LOCALVERSION=-kasan", "LLVM=-19"]);
        assert_eq!((Flavour::Stock.suffix(), Flavour::Debug.suffix()), ("", "-debug"));
    }

    #[test]
    fn the_debug_kernels_are_configured_by_files_of_the_repository() {
        let (debug, kasan) = (fragment(Flavour::Debug).unwrap(), fragment(Flavour::Kasan).unwrap());
        assert!(debug.contains("CONFIG_PROVE_LOCKING=y\n"));
        assert!(kasan.starts_with(&debug) && kasan.contains("CONFIG_KASAN=y\n"));
    }
}
