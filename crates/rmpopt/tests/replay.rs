//! `rmpopt replay`: scripts and random operations, on model and oracle.

#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::fs;

use assert_cmd::assert::Assert;
use assert_cmd::cargo::cargo_bin_cmd;
use predicates::str::{contains, is_empty};
use serde_json::Value;

/// The example of docs/replay.md.
const EXAMPLE: &str = include_str!("../../../tests/data/trials/dropped-clear.trial");

fn replay(args: &[&str], stdin: &str) -> Assert {
    cargo_bin_cmd!("rmpopt").arg("replay").args(args).write_stdin(stdin).assert()
}

fn json(args: &[&str], stdin: &str) -> (Value, Option<i32>) {
    let output = replay(args, stdin).get_output().clone();
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.code())
}

#[test]
fn the_example_shows_its_defect_and_nothing_without() {
    replay(&["-"], EXAMPLE).code(1).stdout(contains("a difference after operation 3"));
    let sound = EXAMPLE.replace("fault=drop-clear", "fault=none");
    replay(&["-"], &sound).code(0).stdout(contains("model and oracle agree"));
    let (report, code) = json(&["--json", "-"], EXAMPLE);
    assert_eq!((report["agree"].as_bool(), code), (Some(false), Some(1)));
    assert_eq!(report["schema_version"], 1);
    assert_eq!(report["difference"]["what"], "rmpupdate: bit");
    assert_eq!(report["difference"]["operation"], 3);
    let docs = fs::read_to_string("../../docs/replay.md").unwrap();
    assert!(docs.contains(EXAMPLE), "docs/replay.md shows the example");
}

#[test]
fn each_operation_is_told_if_asked_for() {
    let sound = EXAMPLE.replace("fault=drop-clear", "fault=none");
    replay(&["--verbose", "-"], &sound)
        .code(0)
        .stdout(contains("CF=1, 512 RMP lines"))
        .stdout(contains("#PF 0x80000003 P W RMP"));
    let (report, _) = json(&["--json", "-v", "-"], &sound);
    let effects = report["effects"].as_array().unwrap();
    assert_eq!(effects.len() as u64, report["operations"].as_u64().unwrap());
    assert_eq!(effects[0]["operation"], "enable-snp core=0");
}

#[test]
fn random_operations_agree_and_repeat() {
    let (mut one, code) = json(&["--random", "120000", "--seed", "7", "--json"], "");
    assert_eq!(code, Some(0));
    assert_eq!((&one["operations"], &one["runs"]), (&Value::from(120_000), &Value::from(3)));
    let (mut two, _) = json(&["--random", "120000", "--seed", "7", "--json"], "");
    for report in [&mut one, &mut two] {
        report["wall_s"] = Value::Null;
    }
    assert_eq!(one, two);
    replay(&["--random", "1"], "").code(0).stdout(contains("1 operation in 1 run"));
}

#[test]
fn bad_scripts_and_usage() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    for (text, what) in [
        (&b"rmpopt-trial 1\n\nreset core=9\n"[..], ":3: core \"9\", expected a number from 0 to"),
        (b"rmpopt-trial 1\nreset", ":2: no \"core=\" in \"reset\""),
        (b"hello\n", ":1: \"hello\", expected \"rmpopt-trial 1\""),
        (b"", "empty"),
        (b"\0\0", "binary data"),
        (b"rmpopt-trial 1\n\xff", "not UTF-8"),
    ] {
        let path = write("bad.trial", text);
        replay(&[&path], "").code(2).stdout(is_empty()).stderr(contains(what));
    }
    replay(&["-"], "rmpopt-trial 2").code(2).stderr(contains("standard input:1:"));
    for args in [&[][..], &["a", "--random", "5"], &["--random", "0"], &["a", "--seed", "1"]] {
        replay(args, "").code(2).stdout(is_empty());
    }
    let none = folder.path().join("none.trial").display().to_string();
    replay(&[&none], "").code(3).stderr(contains(&none));
    replay(&[&folder.path().display().to_string()], "").code(3).stderr(contains("is a directory"));
}

/// Interrupted, it says how far it came.
#[cfg(unix)]
#[test]
fn an_interrupted_run_says_what_was_done() {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("rmpopt"))
        .args(["replay", "--random", "100000000000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Long enough for the handler to be there.
    std::thread::sleep(Duration::from_millis(700));
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut said).unwrap();
    assert!(said.starts_with("interrupted after ") && said.contains("agree so far"), "{said}");
}
