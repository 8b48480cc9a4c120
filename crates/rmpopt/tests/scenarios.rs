//! The built-in scenarios, through the whole command.

#![expect(clippy::unwrap_used, reason = "a failed step of a test's helper fails the test")]

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin_cmd;
use predicates::str::{contains, is_empty, starts_with};
use serde_json::Value;

fn run() -> Command {
    let mut command = cargo_bin_cmd!("rmpopt");
    command.arg("run");
    command
}

fn json(args: &[&str]) -> Value {
    let output = run().args(args).arg("--json").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    assert!(stderr.is_empty(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn names() -> Vec<String> {
    let listing = json(&["--list"]);
    assert_eq!(listing["schema_version"], 1);
    let scenarios = listing["scenarios"].as_array().unwrap();
    scenarios.iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_list_names_what_runs() {
    let names = names();
    assert!(names.len() >= 20, "{names:?}");
    for needed in ["one-of-50", "one-of-50-scattered", "venice-2p"] {
        assert!(names.iter().any(|name| name == needed), "{needed}");
    }
    run()
        .arg("--list")
        .assert()
        .success()
        .stderr(is_empty())
        .stdout(starts_with("venice-2p\n    2 x 256 cores"));
    run().args(["--list", "small"]).assert().code(2).stderr(contains("cannot be used with"));
}

/// The first simulated minute of each, in which the first things happen.
#[test]
fn each_keeps_the_laws_and_launches_every_guest() {
    for name in names() {
        for policy in ["tracked", "v10"] {
            let report = json(&[&name, "--policy", policy, "--until", "60s"]);
            assert_eq!(report["law_violations"], 0, "{name} {policy}: {}", report["laws"]);
            assert_eq!(report["scenario"], *name);
            let timeline = report["timeline"].as_array().unwrap();
            // While SNP is down a guest is rightly refused; no scenario starts one then.
            let refused = timeline.iter().find(|e| e["text"].as_str().unwrap().contains("reject"));
            assert_eq!(refused, None, "{name}");
        }
    }
}

#[test]
fn one_of_fifty_costs_tracked_a_twentieth() {
    let steady =
        |policy| json(&["one-of-50", "--policy", policy, "--until", "60s"])["steady"].clone();
    let (tracked, v10) = (steady("tracked"), steady("v10"));
    let count = |of: &Value, key: &str| of[key].as_u64().unwrap();
    assert!(count(&tracked, "rmpopt") > 0);
    assert!(count(&tracked, "rmpopt") * 20 <= count(&v10, "rmpopt"), "{tracked} {v10}");
}

#[test]
fn churn_starves_v10_and_not_tracked() {
    let report = |policy| json(&["churn-day", "--policy", policy, "--until", "1h"]);
    let (tracked, v10) = (report("tracked"), report("v10"));
    // The 128 regions that were left after ten minutes, but for those a job holds just now.
    assert!(v10["reoptimize_s"]["never"].as_u64().unwrap() >= 120, "{}", v10["reoptimize_s"]);
    assert!(v10["reoptimize_s"]["never_longest"].as_f64().unwrap() > 2_900.0);
    assert!(tracked["reoptimize_s"]["count"].as_u64().unwrap() >= 128);
    assert!(tracked["reoptimize_s"]["max"].as_f64().unwrap() < 60.0);
}

#[test]
fn the_slow_guest_takes_forty_seconds() {
    let report = json(&["slow-conversion", "--policy", "tracked"]);
    let at = |what: &str| {
        let timeline = report["timeline"].as_array().unwrap();
        let entry = timeline.iter().find(|e| e["text"].as_str().unwrap().contains(what)).unwrap();
        entry["t_s"].as_f64().unwrap()
    };
    let took = at("huge: all its memory is shared again") - at("SNP guest huge shut down");
    assert!((39.0..42.0).contains(&took), "{took}");
}

#[test]
fn the_seed_decides_when_containers_come() {
    let run = |seed| {
        let mut report =
            json(&["containers-day", "--policy", "tracked", "--until", "20m", "--seed", seed]);
        report["wall_s"] = Value::Null;
        report
    };
    assert_eq!(run("3"), run("3"));
    assert_ne!(run("3")["timeline"], run("4")["timeline"]);
}

/// Rows made up by the documented columns of Azure's `vmtable`.
#[test]
fn an_azure_table_is_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vmtable.csv");
    let rows = "a,s,d,0,600,1,1,1,Unknown,2,4\r\nb,s,d,20,900,1,1,1,Interactive,>24,>64\r\n\
                c,s,d,40,2591700,1,1,1,Delay-insensitive,4,32\r\n";
    std::fs::write(&path, rows).unwrap();
    let output =
        run().args(["small", "--snp-share", "1", "--json", "--trace"]).arg(&path).output().unwrap();
    assert!(output.status.success());
    let note = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(note.contains("1 machines in a bucket without upper bound"), "{note}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let trace = &report["trace"];
    let of = |key: &str| trace[key].as_u64().unwrap();
    // 128 GiB do not fit into 64; the others are there before SNP goes down at 55 s.
    assert_eq!((of("rows"), of("admitted"), of("rejected"), of("snp")), (3, 2, 1, 2));
    // The last one ends with SNP.
    assert_eq!((of("left_censored"), of("right_censored")), (1, 0));
    assert_eq!(report["law_violations"], 0);
}
