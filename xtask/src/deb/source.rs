//! The module's source as DKMS wants it, in the package and in `kernel-test`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::process::capture;

/// What the module is built from.
const MODULE: [&str; 6] = [
    "kernel/Kbuild",
    "kernel/Makefile",
    "kernel/src",
    "crates/rmpopt-core/src/rmpopt_core",
    "crates/snp-defs/src/snp_defs",
    "crates/snp-model/src/snp_model",
];

/// Each file of `/usr/src/rmpopt-VERSION`: its path there and what is in it.
pub(crate) fn files(root: &Path, version: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let read = |path: &str| fs::read(root.join(path)).with_context(|| format!("reading {path}"));
    let config = read("kernel/dkms.conf")?;
    let wanted = format!("PACKAGE_VERSION=\"{version}\"");
    ensure!(
        String::from_utf8_lossy(&config).contains(&wanted),
        "kernel/dkms.conf has another version, expected {version}"
    );
    let mut files = vec![("dkms.conf".to_owned(), config)];
    for path in tracked(root, &MODULE)? {
        let text = read(&path)?;
        files.push((path, text));
    }
    Ok(files)
}

/// Files that git knows at or below these paths.
pub(super) fn tracked(root: &Path, paths: &[&str]) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "--"]).args(paths);
    let listed = capture(&mut git)?;
    let files: Vec<String> = listed.lines().map(str::to_owned).collect();
    for path in paths {
        ensure!(files.iter().any(|file| file.starts_with(path)), "{path}: git knows no file");
    }
    Ok(files)
}
