//! `cargo xtask deb --check`: the package in a Debian of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::Package;
use super::minimal::Minimal;
use crate::kernel_env::{SUITE, inside};
use crate::process::{capture, is_installed};

/// What may differ after the package was purged: what dpkg itself keeps.
const KEPT: [&str; 5] = ["./var/lib/dpkg", "./var/log", "./var/cache", "./proc", "./tmp"];

/// All checks; stops at the first that fails.
pub(super) fn run(package: &Package, deb: &Path) -> Result<()> {
    let first = fs::read(deb)?;
    package.pack("stage-again")?;
    ensure!(fs::read(deb)? == first, "the same commit and program gave other bytes");
    println!("built twice: the same {} bytes", first.len());
    lintian(deb)?;

    let minimal = Minimal::ensure()?;
    let root = minimal.copy("deb")?;
    let result = installed(package, deb, &root);
    fs::remove_dir_all(&root)?;
    result
}

fn lintian(deb: &Path) -> Result<()> {
    if !is_installed("lintian") {
        println!("skipped: lintian: it is not installed");
        return Ok(());
    }
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--allow-root", "--suppress-tags"]);
    // The package is not made for Debian's archive and closes no bug there.
    lintian.arg("initial-upload-closes-no-bugs").arg(deb);
    let output = lintian.output().context("starting lintian")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "lintian ({}):\n{said}", output.status);
    println!("lintian: no error, no warning");
    Ok(())
}

/// Installs, runs, installs again, removes, purges.
fn installed(package: &Package, deb: &Path, root: &Path) -> Result<()> {
    let before = listing(root)?;
    fs::copy(deb, root.join("tmp/rmpopt.deb"))?;
    let run = |program: &str, args: &[&str]| {
        capture(inside(root, program).args(args)).with_context(|| format!("{program} {args:?}"))
    };
    run("dpkg", &["--install", "/tmp/rmpopt.deb"])?;
    let version = run("rmpopt", &["--version"])?;
    ensure!(version.trim() == format!("rmpopt {}", package.version), "{version}");
    let report = run("rmpopt", &["run", "small"])?;
    ensure!(report.contains("laws kept"), "{report}");
    run("rmpopt", &["status"])?;
    let verified = run("dpkg", &["--verify", "rmpopt"])?;
    ensure!(verified.is_empty(), "dpkg --verify: {verified}");
    let module = root.join(format!("usr/src/rmpopt-{}/kernel/src/rmpopt.rs", package.version));
    ensure!(module.is_file(), "{} is missing", module.display());
    println!("installed and run in {SUITE}: {}", version.trim());

    run("dpkg", &["--install", "/tmp/rmpopt.deb"]).context("installing over itself")?;
    run("dpkg", &["--remove", "rmpopt"])?;
    same(&before, &listing(root)?).context("after the removal")?;
    run("dpkg", &["--install", "/tmp/rmpopt.deb"])?;
    run("dpkg", &["--purge", "rmpopt"])?;
    same(&before, &listing(root)?).context("after the purge")?;
    println!("removed and purged: nothing is left, nothing is missing");
    Ok(())
}

/// Every path of the system with its kind and mode.
fn listing(root: &Path) -> Result<BTreeSet<String>> {
    let mut find = Command::new("find");
    find.current_dir(root).args([".", "-xdev", "-printf", "%p %M %U %G\\n"]);
    let listed = capture(&mut find)?;
    let kept = |line: &&str| KEPT.iter().any(|kept| line.starts_with(kept));
    Ok(listed.lines().filter(|line| !kept(line)).map(str::to_owned).collect())
}

fn same(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Result<()> {
    let left: Vec<_> = after.difference(before).collect();
    let gone: Vec<_> = before.difference(after).collect();
    ensure!(left.is_empty() && gone.is_empty(), "left: {left:?}, gone: {gone:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_seen() {
        let of = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        let before: BTreeSet<String> = of(&["./usr drwx", "./usr/bin drwx"]);
        assert!(same(&before, &before).is_ok());
        assert!(same(&before, &of(&["./usr drwx", "./usr/bin drwx", "./run/x"])).is_err());
        assert!(same(&before, &of(&["./usr drwx"])).is_err());
    }
}
