//! Traces through the whole command: their kinds, samples of them, and scenarios that name one.

#![expect(clippy::unwrap_used, reason = "a failed step of a test's helper fails the test")]

use std::path::Path;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin_cmd;
use predicates::str::{contains, is_empty};
use serde_json::Value;

fn run(args: &[&str]) -> Command {
    let mut command = cargo_bin_cmd!("rmpopt");
    command.arg("run").args(args);
    command
}

fn json(args: &[&str]) -> Value {
    let output = run(args).arg("--json").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// A tenth of a machine is a tenth of the emulated host, and days are days.
#[test]
fn a_packing_trace_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("packing.sqlite").display().to_string();
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch(
            "CREATE TABLE vmType (id INTEGER, vmTypeId INTEGER, machineId INTEGER, core REAL,
                                  memory REAL, hdd REAL, ssd REAL, nic REAL);
             CREATE TABLE vm (vmId INTEGER, tenantId INTEGER, vmTypeId INTEGER,
                              priority INTEGER, starttime REAL, endtime REAL);
             INSERT INTO vmType VALUES (0, 3, 1, 0.1, 0.1, 0, 0, 0);
             INSERT INTO vm VALUES (1, 1, 3, 0, -2.5, 0.01), (2, 1, 3, 0, 0.02, 0.05),
                                   (3, 1, 3, 1, 0.03, NULL);",
        )
        .unwrap();
    drop(database);
    let report = json(&["--trace", &path, "--snp-share", "1"]);
    let trace = &report["trace"];
    assert_eq!((&trace["rows"], &trace["admitted"]), (&3.into(), &3.into()));
    assert_eq!((&trace["left_censored"], &trace["right_censored"]), (&1.into(), &1.into()));
    // Two at once, each a tenth of 2 TiB in whole MiB.
    assert_eq!(trace["peak_bytes"].as_u64(), Some((2 * 209_715) << 20));
    // 0.05 days and the 2 s before SNP is up.
    assert_eq!(report["simulated_s"], 4322.0);
    assert_eq!(report["law_violations"], 0);
    assert_eq!(
        json(&["--trace", &path, "--trace-format", "azure-packing", "--snp-share", "1"])["map"],
        report["map"]
    );
}

const POD: &str =
    "name,cpu_milli,memory_mib,pod_phase,creation_time,deletion_time,scheduled_time\n";

#[test]
fn a_sample_is_the_seeds_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let row = |n| format!("p{n},1000,64,Failed,0,{},{n}\n", n + 20);
    let rows: Vec<String> = (0..200).map(row).collect();
    let path = write(dir.path(), "pods.csv", &format!("{POD}{}", rows.concat()));
    let trace = |args: &[&str]| {
        let report = json(&[&["small", "--trace", &path, "--until", "60s"], args].concat());
        report["trace"]["left_out"].as_u64().unwrap()
    };
    assert_eq!(trace(&[]), 0);
    let (one, two) = (trace(&["--trace-sample", "0.5"]), trace(&["--trace-sample", "0.5"]));
    assert_eq!(one, two);
    assert!((70..130).contains(&one), "{one}");
    assert_ne!(one, trace(&["--trace-sample", "0.1"]));
}

#[test]
fn a_scenario_names_its_trace_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("traces")).unwrap();
    write(
        dir.path(),
        "traces/t.csv",
        &format!("{POD}a,1000,1024,Failed,0,50,5\nb,1000,1024,Failed,0,90,9\n"),
    );
    let scenario = |trace: &str| {
        let host = "[host]\nsockets = 1\ncores_per_socket = 4\nmemory = \"16GiB\"\n";
        let text = format!("schema_version = 1\nname = \"t\"\n{host}[trace]\n{trace}\n");
        write(dir.path(), "t.toml", &text)
    };
    let report = json(&[&scenario("file = \"traces/t.csv\"\nsnp_share = 1")]);
    assert_eq!((&report["trace"]["admitted"], &report["trace"]["snp"]), (&2.into(), &2.into()));
    assert_eq!(report["simulated_s"], 87.0);
    // The command line's goes before it.
    let other = write(dir.path(), "o.csv", &format!("{POD}a,1000,1024,Failed,0,50,5\n"));
    let report = json(&[&scenario("file = \"traces/t.csv\""), "--trace", &other]);
    assert_eq!(report["trace"]["rows"], 1);
    run(&[&scenario("file = \"none.csv\"")])
        .assert()
        .code(3)
        .stdout(is_empty())
        .stderr(contains("none.csv: cannot be read"));
    run(&[&scenario("file = \"t.toml\"")]).assert().code(2).stderr(contains("unsupported trace"));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let odd = write(dir.path(), "odd.csv", "a,s,d,300,600,1,1,1,Spot,2,4\n");
    for (args, code, says) in [
        (&["--trace-sample", "0.5"][..], 2, "--trace"),
        (&["--trace-format", "dlrm"], 2, "--trace"),
        (&["--trace", &odd, "--trace-sample", "0"], 2, "expected a number above 0, at most 1"),
        (&["--trace", &odd, "--trace-format", "csv"], 2, "azure-packing"),
        (&["--trace", &odd], 2, "--trace-format names the kind"),
        (&["--trace", &odd, "--trace-format", "azure-packing"], 2, "not readable as SQLite"),
        (&["--trace", &odd, "--trace-format", "dlrm"], 2, "has no column `instance_sn`"),
    ] {
        run(args).assert().code(code).stdout(is_empty()).stderr(contains(says));
    }
    json(&["--trace", &odd, "--trace-format", "azure-v2"]);
}
