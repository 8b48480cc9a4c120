//! `cargo xtask bench`: how fast snp-model is, as ratios against bare loops. See `docs/bench.md`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A short run on a small table: shows that it runs, its ratios say little
    #[arg(long)]
    quick: bool,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Measure only rows whose name holds this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// The package whose program measures, optimised.
pub(crate) const RUN: [&str; 7] =
    ["run", "--release", "--quiet", "--locked", "--package", "snp-bench", "--"];

/// Builds and runs the program; fails if a limit was missed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent")?;
    let mut command = Command::new("cargo");
    command.current_dir(root).args(RUN);
    command.args(args.quick.then_some("--quick")).args(args.json.then_some("--json"));
    if let Some(text) = &args.only {
        command.args(["--only", text]);
    }
    let status = command.status().context("starting cargo")?;
    match status.code() {
        Some(0) => Ok(()),
        Some(1) => bail!("a ratio misses its limit"),
        _ => bail!("the measurement failed ({status})"),
    }
}
