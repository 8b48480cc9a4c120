//! `cargo xtask hardware-doc`: the page is written by the test that otherwise compares it.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Runs the test `hardware` of snp-model so that it writes what it would compare.
pub(crate) fn run() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["test", "--quiet", "-p", "snp-model", "--test", "hardware"])
        .env("RMPOPT_HARDWARE_DOC", "1")
        .status()
        .context("starting cargo test")?;
    ensure!(status.success(), "writing docs/hardware.md failed ({status})");
    println!("docs/hardware.md and docs/images/page-states.svg are as the model has it");
    Ok(())
}
