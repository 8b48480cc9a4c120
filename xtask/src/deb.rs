//! `cargo xtask deb`: the Debian package, by dpkg-deb alone. See `docs/fleet.md`.
//!
//! The same commit and program give the same bytes: times are the commit's, owners root's, orders
//! sorted, and the program is built with the machine's paths mapped away.

mod boot;
mod check;
mod content;
mod minimal;
pub(crate) mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::kernel_env::repository;
use crate::process::capture;

/// Arguments of `deb`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Pack this program instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Also build it twice, look at it with lintian, and install, run, remove and purge it in a
    /// minimal Debian (needs root)
    #[arg(long)]
    check: bool,
    /// Also boot it: its units under systemd, on the stock kernel in QEMU (needs root)
    #[arg(long)]
    boot: bool,
}

/// Where everything is built, below the target folder.
const FOLDER: &str = "deb";

/// Builds the package and says where it is.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = repository()?;
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |folder| root.join(folder));
    let folder = target.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let binary = match &args.binary {
        Some(file) => std::path::absolute(file)?,
        None => build(&root, &folder)?,
    };
    let package = Package { binary, epoch: epoch(&root)?, version: version(&root)?, root, folder };
    let deb = package.pack("stage")?;
    println!("{} ({} bytes)", deb.display(), fs::metadata(&deb)?.len());
    if args.check {
        check::run(&package, &deb)?;
    }
    if args.boot {
        boot::run(&package, &deb)?;
    }
    Ok(())
}

/// What is packed.
#[derive(Debug)]
struct Package {
    root: PathBuf,
    folder: PathBuf,
    binary: PathBuf,
    version: String,
    /// Seconds since 1970 that every file's time is.
    epoch: String,
}

impl Package {
    /// Version of the Debian package.
    fn debian_version(&self) -> String {
        format!("{}-1", self.version)
    }

    /// Puts all files into a folder of this name and packs it.
    fn pack(&self, stage: &str) -> Result<PathBuf> {
        let stage = self.folder.join(stage);
        if stage.exists() {
            fs::remove_dir_all(&stage)?;
        }
        content::write(self, &stage)?;
        let deb = self.folder.join(format!("rmpopt_{}_amd64.deb", self.debian_version()));
        let mut dpkg = Command::new("dpkg-deb");
        // Threads would cut the stream elsewhere on another machine.
        dpkg.args(["--root-owner-group", "--threads-max=1", "-Zxz", "--build"]);
        dpkg.arg(&stage).arg(&deb).env("SOURCE_DATE_EPOCH", &self.epoch);
        capture(&mut dpkg)?;
        Ok(deb)
    }
}

/// Builds the program without a trace of where that was.
fn build(root: &Path, folder: &Path) -> Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    let flags = format!(
        "--remap-path-prefix={}=/cargo\u{1f}--remap-path-prefix={}=/rmpopt",
        home.display(),
        root.display()
    );
    let target = folder.join("target");
    let status = Command::new("cargo")
        .current_dir(root)
        .args(["build", "--release", "--locked", "--package", "rmpopt", "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "the program cannot be built");
    Ok(target.join("release/rmpopt"))
}

/// The time of the last commit, unless the caller says another.
fn epoch(root: &Path) -> Result<String> {
    let said = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(said) if !said.is_empty() => said,
        _ => capture(Command::new("git").current_dir(root).args(["log", "-1", "--format=%ct"]))
            .context("no commit and no SOURCE_DATE_EPOCH")?,
    };
    let said = said.trim().to_owned();
    if said.is_empty() || !said.bytes().all(|b| b.is_ascii_digit()) {
        bail!("SOURCE_DATE_EPOCH: `{said}`, expected seconds since 1970");
    }
    Ok(said)
}

/// The version of the workspace.
pub(crate) fn version(root: &Path) -> Result<String> {
    let manifest: toml::Table = toml::from_str(&fs::read_to_string(root.join("Cargo.toml"))?)?;
    let version =
        manifest.get("workspace").and_then(|w| w.get("package")?.get("version")?.as_str());
    Ok(version.context("Cargo.toml has no workspace.package.version")?.to_owned())
}
