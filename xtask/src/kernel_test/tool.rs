//! The command in a test machine: the program with its libraries, and what it says of the lab's host in
//! the same state.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::kernel_env::{KernelEnv, repository};
use crate::process::{capture, is_installed};

/// Name of the emulated host while it is looked at.
const HOST: &str = "kernel-test";

/// `rmpopt`, and each library that it is linked with, the loader too.
pub(super) fn program(env: &KernelEnv) -> Result<Vec<PathBuf>> {
    let folder = env.scratch("program");
    fs::create_dir_all(&folder)?;
    let built = built()?;
    let program = folder.join("rmpopt");
    if is_installed("strip") {
        // Most of it is line numbers, and the machine's memory is small.
        capture(Command::new("strip").arg("-o").arg(&program).arg(&built))?;
    } else {
        fs::copy(&built, &program)?;
    }
    let mut all = libraries(&capture(Command::new("ldd").arg(&built))?);
    all.push(program);
    Ok(all)
}

/// The command as it is built for everything else.
fn built() -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(repository()?).args(["build", "--quiet", "--locked", "-p", "rmpopt"]);
    let told = capture(cargo.args(["--message-format", "json"]))?;
    let program = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == "rmpopt" && message["executable"].is_string();
        is_it.then(|| message["executable"].as_str().map(PathBuf::from))?
    };
    told.lines().find_map(program).context("cargo names no program rmpopt")
}

/// Files that `ldd` names: `libc.so.6 => /lib/libc.so.6 (0x7f)`, `/lib64/ld-linux-x86-64.so.2 (0x7f)`.
fn libraries(told: &str) -> Vec<PathBuf> {
    let file = |line: &str| {
        let words = line.split_whitespace();
        words.map(Path::new).find(|word| word.is_absolute()).map(Path::to_owned)
    };
    told.lines().filter_map(file).collect()
}

/// Snapshots of the lab's host at these times, each in a file `lab-TIME.json`.
pub(super) fn lab_snapshots(env: &KernelEnv, seconds: &[u32]) -> Result<Vec<PathBuf>> {
    let folder = env.scratch("tool");
    fs::create_dir_all(&folder)?;
    let (program, scenario) = (built()?, repository()?.join("kernel/check/table.toml"));
    let rmpopt = |args: &[&str]| {
        let mut command = Command::new(&program);
        // The host's socket and mount lie there, apart from those of any other.
        command.args(args).env("XDG_RUNTIME_DIR", &folder);
        capture(&mut command)
    };
    let scenario = scenario.to_str().context("a path that is no text")?;
    let up = ["host", "up", scenario, "--name", HOST, "--speed", "0", "--from-power-on"];
    if seconds.is_empty() {
        return Ok(Vec::new());
    }
    let root = rmpopt(&up)?;
    let mut files = Vec::new();
    let mut now = 0;
    let taken = seconds.iter().try_for_each(|&at| {
        let Some(step) = at.checked_sub(now) else { bail!("times must ascend") };
        now = at;
        rmpopt(&["host", "time", "--name", HOST, "--advance", &format!("{step}s")])?;
        let file = folder.join(format!("lab-{at}.json"));
        let to = file.to_str().context("a path that is no text")?;
        rmpopt(&["snapshot", "--deep", "--replace", "--root", root.trim(), "-o", to])?;
        files.push(file.clone());
        Ok(())
    });
    let down = rmpopt(&["host", "down", "--name", HOST]);
    taken.and(down)?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_what_ldd_names() {
        let told = "\tlinux-vdso.so.1 (0x00007f)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries(told), found.map(PathBuf::from));
        assert!(libraries("\tstatically linked\n").is_empty());
    }
}
