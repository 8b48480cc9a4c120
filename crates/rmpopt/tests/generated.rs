//! Manual pages render, completions load and complete.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(dead_code, reason = "helpers of other tests")]

mod tools;

use std::path::{Path, PathBuf};
use std::process::Command;

use assert_cmd::cargo::cargo_bin_cmd;
use predicates::str::{contains, starts_with};

fn pages(dir: &Path) -> Vec<PathBuf> {
    cargo_bin_cmd!("rmpopt").arg("man").arg(dir).assert().code(0);
    let mut pages: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    pages.sort();
    pages
}

/// The subcommands that `--help` lists.
fn subcommands() -> Vec<String> {
    let help = tools::said(Command::new(env!("CARGO_BIN_EXE_rmpopt")).arg("--help"));
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect()
}

#[test]
fn each_command_has_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let pages = pages(dir.path());
    let commands = subcommands();
    assert!(commands.len() > 10, "{commands:?}");
    for name in commands {
        let page = std::fs::read_to_string(dir.path().join(format!("rmpopt-{name}.1"))).unwrap();
        assert!(page.contains(&format!("rmpopt\\-{name}")), "{page}");
        assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH OPTIONS"), "{page}");
    }
    assert!(pages.iter().any(|page| page.ends_with("rmpopt.1")));
    let main =
        || cargo_bin_cmd!("rmpopt").env_remove("SOURCE_DATE_EPOCH").arg("man").assert().code(0);
    let version = env!("CARGO_PKG_VERSION");
    main().stdout(contains(format!(".TH rmpopt 1 \" \" \"rmpopt {version}\"")));
    cargo_bin_cmd!("rmpopt")
        .env("SOURCE_DATE_EPOCH", "951782399")
        .arg("man")
        .assert()
        .code(0)
        .stdout(contains(".TH rmpopt 1 2000-02-28 "));
    cargo_bin_cmd!("rmpopt").args(["man", "/nonexistent"]).assert().code(3);
}

#[test]
fn pages_are_rendered_by_man() {
    let Some(man) = tools::need("pages_are_rendered_by_man", "man") else { return };
    if tools::need("pages_are_rendered_by_man", "groff").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for page in pages(dir.path()) {
        let mut command = Command::new(&man);
        command.args(["--warnings", "-l"]).arg(&page);
        command.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "100").env("MANROFFSEQ", "");
        let text = tools::said(&mut command);
        assert!(text.contains("SYNOPSIS"), "{}: {text}", page.display());
        assert!(!text.contains("warning:"), "{}: {text}", page.display());
    }
}

#[test]
fn pages_please_mandoc() {
    let Some(mandoc) = tools::need("pages_please_mandoc", "mandoc") else { return };
    let dir = tempfile::tempdir().unwrap();
    let pages = pages(dir.path());
    let mut command = Command::new(&mandoc);
    command.args(["-T", "lint", "-W", "warning"]).args(&pages);
    // Without a date the pages are the same whenever they are made, and mandoc misses it.
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // clap_mangen ends a paragraph twice before possible values, which shows nowhere.
    let known = ["date", "skipping paragraph macro"];
    let bad = |line: &&str| !known.iter().any(|known| line.contains(known));
    let bad: Vec<_> = said.lines().filter(bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn completions_complete_in_bash() {
    let Some(bash) = tools::need("completions_complete_in_bash", "bash") else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rmpopt");
    let script = cargo_bin_cmd!("rmpopt").args(["completions", "bash"]).assert().code(0);
    std::fs::write(&file, &script.get_output().stdout).unwrap();
    let complete = |words: &str| {
        let script = format!(
            "set -eu; source \"$1\"; complete -p rmpopt >/dev/null; COMP_WORDS=({words}); \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=(); \
             _rmpopt rmpopt \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             echo \"${{COMPREPLY[@]}}\""
        );
        tools::said(Command::new(&bash).args(["--norc", "-c", &script, "bash"]).arg(&file))
    };
    assert_eq!(complete("rmpopt doc").trim(), "doctor");
    assert_eq!(complete("rmpopt export --textf").trim(), "--textfile");
    assert!(complete("rmpopt regions --state ''").contains("partial"));
}

#[test]
fn completions_for_other_shells() {
    for (shell, beginning) in
        [("zsh", "#compdef rmpopt"), ("fish", "# Print an optspec"), ("elvish", "\nuse builtin;")]
    {
        let out = cargo_bin_cmd!("rmpopt").args(["completions", shell]).assert().code(0);
        out.stdout(starts_with(beginning)).stdout(contains("doctor"));
    }
    cargo_bin_cmd!("rmpopt").args(["completions", "cmd"]).assert().code(2);
}
