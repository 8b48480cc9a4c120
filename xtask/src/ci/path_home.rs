//! Floors 1-2 as the kernel's build compiles them: rustc 1.85.1, edition 2021, no cargo.
//!
//! First home: one crate that takes in the folders with `#[path]` (`tests/path-home/kernel.rs`).
//! Second home: each crate by its own `lib.rs`, floor 1 given by `--extern`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{Ci, Outcome, tools};
use crate::process::{capture, is_installed};

/// The compiler that builds the stock kernel.
const VERSION: &str = "1.85.1";

/// As the kernel is built, with warnings refused.
const FLAGS: [&str; 7] = [
    "--edition=2021",
    "-Dwarnings",
    "-Coverflow-checks=y",
    "-Cpanic=abort",
    "-Copt-level=2",
    "-Cdebug-assertions=n",
    "--emit=metadata,obj",
];

pub(super) fn run(ci: &mut Ci) -> Result<Outcome> {
    let rustc = match compiler(ci) {
        Ok(rustc) => rustc,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let out = ci.target.join("path-home");
    fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    let compile = |source: &str, arguments: &[&str]| -> Result<Outcome> {
        let mut command = rustc.command(ci);
        command.args(FLAGS).args(["--crate-type", "lib", "--out-dir"]).arg(&out);
        command.args(arguments).arg(Path::new(source));
        ci.show(&mut command)
    };
    compile("tests/path-home/kernel.rs", &["--crate-name", "path_home"])?;

    compile("crates/snp-defs/src/lib.rs", &["--crate-name", "snp_defs"])?;
    let defs = format!("snp_defs={}", out.join("libsnp_defs.rmeta").display());
    for (package, name) in [("rmpopt-core", "rmpopt_core"), ("snp-model", "snp_model")] {
        let source = format!("crates/{package}/src/lib.rs");
        compile(&source, &["--crate-name", name, "--extern", &defs])?;
    }
    Ok(Outcome::Passed(rustc.name()))
}

/// Where the compiler is.
enum Rustc {
    Rustup,
    Path(PathBuf),
}

impl Rustc {
    fn command(&self, ci: &Ci) -> Command {
        match self {
            Self::Rustup => {
                let mut command = ci.program("rustup");
                command.args(["run", VERSION, "rustc"]);
                command
            }
            Self::Path(path) => ci.program(&path.to_string_lossy()),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Rustup => format!("rustc {VERSION} by rustup"),
            Self::Path(path) => format!("rustc {VERSION} at {}", path.display()),
        }
    }

    fn is_right(&self, ci: &Ci) -> bool {
        capture(self.command(ci).arg("--version"))
            .is_ok_and(|said| said.split_whitespace().nth(1) == Some(VERSION))
    }
}

/// rustup's toolchain, installed if need be and possible, else a distribution's; else the reason.
fn compiler(ci: &Ci) -> Result<Rustc, String> {
    if Rustc::Rustup.is_right(ci) {
        return Ok(Rustc::Rustup);
    }
    let system = Rustc::Path(PathBuf::from("/usr/bin/rustc"));
    if system.is_right(ci) {
        return Ok(system);
    }
    if !is_installed("rustup") {
        return Err(format!("no rustc {VERSION}: rustup is missing, /usr/bin/rustc is another"));
    }
    if !ci.install {
        return Err(format!("no rustc {VERSION} (rustup toolchain install {VERSION})"));
    }
    let mut install = tools::limited(ci, "rustup");
    install.args(["toolchain", "install", VERSION, "--profile", "minimal"]);
    match ci.show(&mut install) {
        Ok(_) if Rustc::Rustup.is_right(ci) => Ok(Rustc::Rustup),
        Ok(_) => Err(format!("rustup installed {VERSION}, and it does not answer")),
        Err(error) => Err(format!("no rustc {VERSION}, and rustup could not get it: {error:#}")),
    }
}
