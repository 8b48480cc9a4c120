//! Programs that a test needs and may not have: then it says so and does nothing.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A program on the search path (or in the folders only root searches).
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The program, or the notice that `test` is skipped without it.
pub(crate) fn need(test: &str, program: &str) -> Option<PathBuf> {
    let found = find(program);
    if found.is_none() {
        println!("skipped: {test}: {program} is not installed");
    }
    found
}

/// Runs a program to its end and returns all it said; it must succeed.
pub(crate) fn said(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    said
}
