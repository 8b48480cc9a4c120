//! `rmpopt decode` as a command: inputs, codes, outputs, exit codes.

use std::fs;
use std::path::PathBuf;

use assert_cmd::assert::Assert;
use assert_cmd::cargo::cargo_bin_cmd;
use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::{contains, is_empty, starts_with};
use serde_json::Value;

fn data(name: &str) -> String {
    let path: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "..", "..", "tests", "data", name].iter().collect();
    path.display().to_string()
}

fn decode(args: &[&str]) -> Assert {
    cargo_bin_cmd!("rmpopt").arg("decode").args(args).write_stdin("").assert()
}

fn piped(input: impl Into<Vec<u8>>, args: &[&str]) -> Assert {
    cargo_bin_cmd!("rmpopt").arg("decode").args(args).write_stdin(input).assert()
}

fn json(assert: &Assert) -> Value {
    let out = &assert.get_output().stdout;
    let text = std::str::from_utf8(out).expect("UTF-8");
    assert_eq!(text.lines().count(), 1);
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn a_file_for_people() {
    decode(&[&data("dmesg-amdsev-245-rmpupdate.txt")])
        .code(1)
        .stderr(is_empty())
        .stdout(contains("of a host"))
        .stdout(contains("rmpupdate failed  line 1"))
        .stdout(contains("FAIL_PERMISSION(2)"))
        .stdout(contains("lines 4 to 16, 13 of them"));
    decode(&[&data("dmesg-hetzner-ax162-journal.txt")])
        .code(0)
        .stdout(contains("1030 MiB"))
        .stdout(contains("257.4961 GiB"));
}

#[test]
fn the_same_for_programs() {
    let (bad, good) =
        (data("dmesg-amdsev-143-rmpupdate.txt"), data("dmesg-hetzner-ax162-journal.txt"));
    let object = json(&decode(&[&bad, &good, "--json"]).code(1));
    assert_eq!((&object["schema_version"], &object["worst"]), (&1.into(), &"error".into()));
    assert_eq!(object["inputs"][1]["file"], good.as_str());
    assert_eq!(object["inputs"][1]["boots"][0]["role"], "host");
    let findings = object["findings"].as_array().unwrap();
    let failed = &findings[0];
    assert_eq!(failed["line"], 1);
    assert_eq!(failed["kind"], "rmpupdate-failed");
    assert_eq!(failed["severity"], "error");
    assert_eq!(failed["facts"]["pfn"], "0x37d4fe8");
    assert_eq!(failed["facts"]["max_attempts"], 96);
    assert_eq!(failed["facts"]["caller"], "sev_vm_destroy");
    assert!(failed["meaning"].as_str().unwrap().contains("overlap"));
    assert!(!failed["advice"].as_str().unwrap().is_empty());
    let counted: u64 =
        object["counts"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(counted, findings.len() as u64);
}

#[test]
fn codes_alone() {
    let args = [
        "--json",
        "--rmpupdate",
        "4",
        "--psmash",
        "7",
        "--pvalidate",
        "6",
        "--rmpadjust",
        "2",
        "--firmware",
        "0x1a",
        "--command",
        "0xa0",
        "--pf",
        "0x80000003",
        "--npf",
        "0x5_8000_0005",
        "--entry",
        "0x56700=0x8000000000000005:0x0",
        "--entry",
        "0x6010fffffffff001:1f",
    ];
    let object = json(&decode(&args).code(1));
    assert_eq!(object["inputs"].as_array().unwrap().len(), 0);
    let findings = object["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 10);
    assert!(findings.iter().all(|f| f["line"].is_null() && f["file"].is_null()));
    let told: Vec<&str> = findings.iter().map(|f| f["kind"].as_str().unwrap()).collect();
    assert_eq!(
        told,
        [
            "rmp-entry",
            "rmp-entry",
            "rmpupdate-result",
            "psmash-result",
            "pvalidate-result",
            "rmpadjust-result",
            "firmware-status",
            "firmware-command",
            "rmp-page-fault",
            "rmp-nested-fault",
        ]
    );
    assert_eq!(findings[0]["facts"]["state"], "Firmware");
    assert_eq!(findings[1]["facts"]["guest_address"], "0xfffffffff000");
    assert_eq!(findings[6]["facts"]["status"], "INVALID_PAGE_STATE(0x1a)");
    assert_eq!(findings[7]["facts"]["command"], "SNP_LAUNCH_START");
    // Nothing is read where only a code is asked for.
    piped("SEV-SNP: Leaking PFN range 0x1-0x2\n", &["--rmpupdate", "0"])
        .code(0)
        .stdout(contains("pages leaked").not());
}

#[test]
fn wrong_codes() {
    for args in [
        &["--rmpupdate", "x"][..],
        &["--firmware", "0x100000000"],
        &["--entry", "5"],
        &["--entry", "1:2:3"],
        &["--pf", ""],
        &["--color", "blue"],
        &["--table"],
    ] {
        decode(args).code(2).stdout(is_empty()).stderr(contains("error:"));
    }
}

#[test]
fn standard_input() {
    let log = "SEV-SNP: Leaking PFN range 0x4d5600-0x4d5608\n";
    for args in [&[][..], &["-"]] {
        piped(log, args)
            .code(1)
            .stdout(contains("standard input: 1 line"))
            .stdout(contains("8 pages"));
    }
    piped("", &[]).code(0).stdout(contains("The input is empty")).stderr(contains("is empty"));
    let object = json(&piped("", &["--json"]).code(0));
    assert_eq!((&object["inputs"][0]["bytes"], &object["worst"]), (&0.into(), &Value::Null));
    piped("hello\n", &[]).code(0).stdout(contains("Nothing here concerns"));
}

#[test]
fn what_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none").display().to_string();
    decode(&[&none])
        .code(3)
        .stdout(is_empty())
        .stderr(starts_with("error: "))
        .stderr(contains("none"));
    decode(&[&dir.path().display().to_string()]).code(3).stderr(contains("is a directory"));
    let packed = dir.path().join("log.gz");
    fs::write(&packed, b"\x1f\x8b\x08\0").unwrap();
    decode(&[&packed.display().to_string()]).code(2).stderr(contains("unpack it first"));
}

#[test]
fn any_bytes_and_no_escapes() {
    let mut bytes = b"\0\0SEV-SNP: odd \xff\0\x1b]0;own\x07 \xc2\x9b31m line\n".to_vec();
    bytes.extend_from_slice(b"SEV-SNP: RMPUPDATE failed for PFN 1, pg_level: 1, ret: 2\0\r\n");
    bytes.extend(std::iter::repeat_n(b'x', 1 << 20));
    for color in ["always", "never"] {
        let shown = piped(bytes.clone(), &["--color", color]).code(1);
        let text = String::from_utf8(shown.get_output().stdout.clone()).unwrap();
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert!(!plain.chars().any(|c| c.is_control() && c != '\n'), "{plain:?}");
        assert_eq!(text.contains("\u{1b}["), color == "always");
        assert!(!text.contains("\u{1b}]"));
    }
    cargo_bin_cmd!("rmpopt")
        .args(["decode", "--rmpupdate", "4"])
        .env("NO_COLOR", "1")
        .env("CLICOLOR_FORCE", "0")
        .assert()
        .stdout(contains("\u{1b}").not());
    let object = json(&piped(bytes, &["--json"]).code(1));
    assert_eq!(object["findings"].as_array().unwrap().len(), 2);
}

#[test]
fn a_guests_log_is_called_so() {
    let log = "[    0.2] Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP\n";
    piped(log, &[])
        .code(0)
        .stdout(contains("of a guest"))
        .stdout(contains("A guest's log says nothing"));
}
