//! `cargo xtask kernel-env`: a folder in which modules are built for a stock Debian kernel.
//!
//! Debian's header packages carry no Rust metadata, so a Rust module cannot be built against them.
//! Here the kernel's own source, with Debian's own configuration and the compiler that built the
//! stock image, is prepared inside a small Debian of its own; a module built there loads in the
//! unchanged kernel. See `docs/kernel-env.md`.

mod debug;
mod kernel;
mod maker;
mod mirror;
mod packages;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

pub(crate) use self::debug::Flavour;
pub(crate) use self::kernel::Kernel;
use self::maker::{Maker, missing_programs};
pub(crate) use self::mirror::{Mirror, mirror};
use crate::process::{capture, run_logged};

/// Where everything is kept, unless `RMPOPT_KERNEL_CACHE` names another folder.
const DEFAULT_CACHE: &str = "target/kernel-env";
/// The release whose compiler built the kernel.
pub(crate) const SUITE: &str = "trixie";
/// How an error begins that says that packages cannot be had here (no network, no mirror), or that the
/// kernel that can is another than the module was made for.
pub(crate) const UNAVAILABLE: &str = "error: not available here: ";

/// The same as the context of an error.
pub(crate) fn unavailable<T>(result: Result<T>) -> Result<T> {
    result.context("not available here")
}

/// Arguments of `kernel-env`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Look whether a newer kernel has come out, and go over to it
    #[arg(long)]
    refresh: bool,
    /// Also a debug kernel (lockdep, sleep in atomic context, debug objects, leaks, failslab)
    #[arg(long)]
    debug: bool,
    /// Also a debug kernel with KASAN
    #[arg(long)]
    kasan: bool,
}

/// Makes the environment and says what it is.
pub(crate) fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let env = ensure(args.refresh)?;
    println!(
        "kernel {} (Debian {}) is ready in {} after {:.1} s",
        env.kernel.release,
        env.kernel.version,
        env.cache.display(),
        started.elapsed().as_secs_f64()
    );
    let wanted = [(args.debug, Flavour::Debug), (args.kasan, Flavour::Kasan)];
    wanted.into_iter().filter(|(wanted, _)| *wanted).try_fold(env, |env, (_, flavour)| {
        let env = env.with(flavour)?;
        println!(
            "kernel {} is ready after {:.1} s",
            env.release()?,
            started.elapsed().as_secs_f64()
        );
        anyhow::Ok(env)
    })?;
    Ok(())
}

/// A folder in which modules can be built, and the kernel they load in.
#[derive(Debug)]
pub(crate) struct KernelEnv {
    cache: PathBuf,
    kernel: Kernel,
    flavour: Flavour,
    /// Held while this value lives: two commands must not build in one folder.
    _lock: File,
}

impl KernelEnv {
    /// The root of the Debian in which the build happens.
    pub(crate) fn root(&self) -> PathBuf {
        self.cache.join("root")
    }

    /// Where logs of commands are kept.
    pub(crate) fn logs(&self) -> PathBuf {
        self.cache.join(format!("logs{}", self.flavour.suffix()))
    }

    /// A folder for what a test makes, such as its initial file system.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.cache.join(format!("scratch{}", self.flavour.suffix())).join(name)
    }

    /// Which kernel modules are built for and booted in.
    pub(crate) const fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// The stock kernel of this environment, whose source all its kernels are built from.
    pub(crate) fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The kernel's image.
    pub(crate) fn vmlinuz(&self) -> PathBuf {
        if self.flavour != Flavour::Stock {
            return self.built_image();
        }
        self.cache.join("stock/usr/lib/modules").join(&self.kernel.release).join("vmlinuz")
    }

    /// A command run inside the Debian of this environment, with `/proc` mounted for it alone.
    pub(crate) fn command(&self, program: &str) -> Command {
        inside(&self.root(), program)
    }

    /// `make` in the kernel's prepared build folder.
    pub(crate) fn make(&self) -> Command {
        let mut make = self.command("make");
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        make.arg(format!("-j{jobs}")).args(["-C", "/kernel/src"]);
        make.arg(format!("O=/kernel/obj{}", self.flavour.suffix()));
        make.args(self.flavour.make(self.kernel.local_version()));
        make
    }
}

/// Unpacks a minimal Debian of [`SUITE`].
pub(crate) fn bootstrap(mirror: &Mirror, root: &Path, log: &Path) -> Result<()> {
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", "--arch=amd64"]);
    debootstrap.arg(format!("--keyring={}", mirror.keys));
    if mirror.address.starts_with("https:") {
        debootstrap.arg("--include=ca-certificates");
    }
    debootstrap.arg(SUITE).arg(root).arg(&mirror.address);
    run_logged(&mut debootstrap, log)
}

/// A command inside another root; the mount of `/proc` (objtool and rustfmt read it) is private to
/// the command and vanishes with it.
pub(crate) fn inside(root: &Path, program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-euc"]);
    command.arg("mount -t proc proc \"$1/proc\"; exec chroot \"$@\"");
    command.arg("sh").arg(root);
    // Nothing of the caller's: cargo's own variables would speak to clippy of another package.
    command.args(["/usr/bin/env", "-i"]);
    for name in ["http_proxy", "https_proxy", "no_proxy"] {
        if let Ok(value) = std::env::var(name) {
            command.arg(format!("{name}={value}"));
        }
    }
    command.args(["LC_ALL=C", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"]);
    command.arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.arg(program);
    command
}

/// The environment, made as far as it is not there yet.
pub(crate) fn ensure(refresh: bool) -> Result<KernelEnv> {
    let missing = missing_programs();
    require_root(&missing)?;
    let cache = cache_folder()?;
    for folder in ["", "logs", "debs", "stamps", "scratch"] {
        let folder = cache.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    let lock = File::create(cache.join("lock"))?;
    lock.lock().context("waiting for another command that uses the same folder")?;

    let maker = Maker { cache: cache.clone() };
    unavailable(maker.host_programs(&missing))?;
    let kernel = unavailable(maker.kernel(refresh))?;
    let env = KernelEnv { cache, kernel, flavour: Flavour::Stock, _lock: lock };
    unavailable(maker.packages(&env.kernel))?;
    unavailable(maker.debian())?;
    maker.source(&env)?;
    maker.prepare(&env)?;
    maker.stock(&env.kernel)?;
    Ok(env)
}

/// The repository this program was compiled in.
pub(crate) fn repository() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.parent().context("xtask stands outside a repository")?.to_owned())
}

pub(crate) fn cache_folder() -> Result<PathBuf> {
    let folder = match std::env::var_os("RMPOPT_KERNEL_CACHE") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => repository()?.join(DEFAULT_CACHE),
    };
    Ok(std::path::absolute(folder)?)
}

fn require_root(missing: &[(&str, &str)]) -> Result<()> {
    if capture(Command::new("id").arg("-u"))?.trim() == "0" {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    let packages = match packages.as_slice() {
        [] => "none".to_owned(),
        some => some.join(" "),
    };
    bail!(
        "this must be run as root, for it installs packages and uses chroot and mount \
         (host packages missing: {packages})"
    )
}
