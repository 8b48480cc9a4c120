//! Options that do not go together, and files that are not there.

use assert_cmd::assert::Assert;
use assert_cmd::cargo::cargo_bin_cmd;
use predicates::str::{contains, is_empty, starts_with};

fn run(args: &[&str]) -> Assert {
    cargo_bin_cmd!("rmpopt").arg("run").args(args).assert()
}

#[test]
fn usage_errors() {
    for (args, what) in [
        (&["--json", "--table"][..], "cannot be used with"),
        (&["--snp-share", "0.3"], "--trace"),
        (&["--snp-by", "memory"], "--trace"),
        (&["--trace", "x", "--snp-share", "1.5"], "expected a number from 0 to 1"),
        (
            &["--policy", "v11"],
            "[possible values: tracked, tracked-work, tracked-ipi, tracked-lowest, v1, v2, v3",
        ),
        (&["--fidelity", "exact"], "[possible values: auto, pages, extents]"),
        (&["--seed", "-1"], "invalid value"),
        (&["--until", "soon"], "expected a duration such as \"10s\", found \"soon\""),
        (&["--until", "0s"], "expected 1ms to 3653d"),
        (&["--frobnicate"], "unexpected argument"),
        (&["a", "b"], "unexpected argument"),
    ] {
        run(args).code(2).stdout(is_empty()).stderr(contains(what));
    }
    cargo_bin_cmd!("rmpopt").assert().code(2);
}

#[test]
fn what_cannot_be_opened() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none.toml").display().to_string();
    let dir = dir.path().display().to_string();
    for args in
        [&[none.as_str()][..], &["--host", &none], &["--trace", &none], &["small", "--host", &none]]
    {
        run(args).code(3).stdout(is_empty()).stderr(starts_with("error: ")).stderr(contains(&none));
    }
    run(&[&dir]).code(3).stderr(contains("is a directory"));
    run(&["venice"])
        .code(3)
        .stderr(contains("no built-in scenario (there are venice-2p, small, idle-12t, "))
        .stderr(contains(") and no file of that name"));
}

#[test]
fn files_of_the_wrong_kind() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let poem = write("poem.txt", "roses are red\n");
    run(&["--host", &poem]).code(2).stderr(contains("poem.txt: not recognised"));
    run(&["--trace", &poem]).code(2).stderr(contains("poem.txt:1: unsupported trace"));
    let other = write("huawei.csv", "vmid,cpu,memory,time,type\n1,2,3,4,0\n");
    run(&["--trace", &other]).code(4).stderr(contains("looks like the Huawei"));
    let azure = write("vmtable.csv", "a,s,d,0,soon,1,1,1,Unknown,2,4\r\n");
    run(&["--trace", &azure]).code(2).stderr(contains("vmtable.csv:1:vmdeleted: `soon`, expected"));
    let empty = write("empty", "");
    run(&["--host", &empty]).code(2).stderr(contains("empty: empty, expected text"));
}

#[test]
fn help_and_version() {
    cargo_bin_cmd!("rmpopt").arg("--version").assert().success().stdout(starts_with("rmpopt "));
    run(&["--help"]).success().stdout(contains("Exit codes:")).stdout(contains("venice-2p"));
}
