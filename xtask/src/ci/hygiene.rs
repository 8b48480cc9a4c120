//! What may not stand in the repository: paths of a machine, hosts of registries, crates from
//! elsewhere; and what must: each top-level folder in ARCHITECTURE.md.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::{Ci, Outcome};
use crate::process::capture;

/// Folders of people's machines: `/` + name + `/`.
const HOMES: [&str; 3] = ["root", "home", "Users"];

/// Hosts of registries. Written in parts, so that this list does not find itself.
const HOSTS: [&str; 8] = [
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("static.", "rust-lang.org"),
    concat!("deb.", "debian.org"),
    concat!("security.", "debian.org"),
    concat!("files.", "pythonhosted.org"),
    concat!("registry.", "npmjs.org"),
    concat!("proxy.", "golang.org"),
];

/// The only source of crates.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

const ARCHITECTURE: &str = "ARCHITECTURE.md";

pub(super) fn run(ci: &mut Ci) -> Result<Outcome> {
    let listed = capture(ci.program("git").args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]));
    let Ok(listed) = listed else {
        return Ok(Outcome::Skipped("not a git work tree".to_owned()));
    };
    let files: Vec<&str> = listed.split('\0').filter(|file| !file.is_empty()).collect();
    let mut wrong = Vec::new();
    for file in &files {
        // A listed file may be gone, and a file without text has no lines to look at.
        let Ok(text) = fs::read_to_string(ci.root.join(file)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(what) = stray(line) {
                wrong.push(format!("{file}:{}: {what}", number + 1));
            }
        }
    }
    wrong.extend(foreign_crates(&ci.root)?);
    let mut note = format!("{} files", files.len());
    let architecture = ci.root.join(ARCHITECTURE);
    if architecture.exists() {
        let text = fs::read_to_string(&architecture).context("reading ARCHITECTURE.md")?;
        wrong.extend(unmentioned(&files, &text));
    } else {
        note.push_str("; there is no ARCHITECTURE.md yet, folders were not looked up in it");
    }
    if !wrong.is_empty() {
        bail!("{} lines or folders:\n{}", wrong.len(), wrong.join("\n"));
    }
    Ok(Outcome::Passed(note))
}

/// What a line says that it should not.
fn stray(line: &str) -> Option<String> {
    for home in HOMES {
        let path = format!("/{home}/");
        for (at, _) in line.match_indices(&path) {
            let before = line.get(..at).and_then(|text| text.chars().next_back());
            let after = line.get(at + path.len()..).and_then(|text| text.chars().next());
            let starts = before.is_none_or(|c| !c.is_ascii_alphanumeric() && !"_./-".contains(c));
            if starts && after.is_some_and(|c| c.is_ascii_alphabetic()) {
                return Some(format!("a path of a machine: {path}"));
            }
        }
    }
    let host = HOSTS.iter().find(|host| line.contains(*host))?;
    Some(format!("a registry's host: {host}"))
}

/// Crates of the lock file that come from elsewhere.
fn foreign_crates(root: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(root.join("Cargo.lock")).context("reading Cargo.lock")?;
    Ok(text
        .lines()
        .filter_map(|line| line.strip_prefix("source = "))
        .filter(|source| source.trim_matches('"') != REGISTRY)
        .map(|source| format!("Cargo.lock: a crate from {source}, expected {REGISTRY}"))
        .collect())
}

/// Top-level folders that the text does not name as `folder/`.
fn unmentioned(files: &[&str], text: &str) -> Vec<String> {
    let folders: BTreeSet<&str> =
        files.iter().filter_map(|file| file.split_once('/')).map(|(top, _)| top).collect();
    folders
        .into_iter()
        .filter(|folder| !text.contains(&format!("{folder}/")))
        .map(|folder| format!("{ARCHITECTURE} does not mention {folder}/"))
        .collect()
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn stray_lines_are_found() {
        for bad in [
            format!("cd /{}/me", "home"),
            format!("\"/{}/x\"", "root"),
            format!("http://deb.{}", "debian.org/debian"),
        ] {
            assert!(stray(&bad).is_some(), "{bad}");
        }
        for good in ["target/root/etc", "the /root folder", "sys/home/x", "crates.io"] {
            assert_eq!(stray(good), None, "{good}");
        }
    }

    #[test]
    fn folders_are_looked_up() {
        let files = ["a.md", "crates/x.rs", "kernel/y.c", "crates/z.rs"];
        assert_eq!(unmentioned(&files, "`crates/`"), ["ARCHITECTURE.md does not mention kernel/"]);
    }
}
