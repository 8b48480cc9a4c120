//! Commands on the real machine as a user without rights: they say which facts need root, and show
//! the rest.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(dead_code, reason = "helpers of other tests")]

mod tools;

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use serde_json::Value;

/// A folder that nobody may read and write, with the program in it: the path to the repository may
/// not be open to others.
struct Stage {
    dir: tempfile::TempDir,
    as_root: bool,
}

impl Stage {
    fn new(test: &str) -> Option<Self> {
        let as_root = tools::said(Command::new("id").arg("-u")).trim() == "0";
        if as_root {
            tools::need(test, "setpriv")?;
        }
        let dir = tempfile::Builder::new().prefix("rmpopt-").tempdir_in("/tmp").unwrap();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let program = dir.path().join("rmpopt");
        // By another process: a test beside this one that forks meanwhile would hold the copy open for
        // writing, and then it cannot be run.
        tools::said(Command::new("cp").arg(env!("CARGO_BIN_EXE_rmpopt")).arg(&program));
        Some(Self { dir, as_root })
    }

    /// Runs it as somebody without rights.
    fn run(&self, args: &[&str]) -> Output {
        let program = self.dir.path().join("rmpopt");
        let mut command = if self.as_root {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
            command.args(["--bounding-set=-all", "--no-new-privs"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let output = command.args(args).current_dir(self.dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{args:?}: {said}");
        output
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
            panic!("{args:?}: {e}: {}", String::from_utf8_lossy(&output.stderr))
        })
    }
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

/// Whether this kernel hides addresses of RAM from others: the one fact that every Linux has.
fn hides_ram(status: &Value) -> bool {
    words(&status["needs_root"]).contains(&"ram")
}

#[test]
fn status_names_what_needs_root_and_shows_the_rest() {
    let test = "status_names_what_needs_root_and_shows_the_rest";
    let Some(stage) = Stage::new(test) else { return };
    let status = stage.json(&["status", "--json"]);
    assert!(hides_ram(&status), "{}", status["sources"]);
    for source in status["sources"].as_array().unwrap() {
        let fact = source["fact"].as_str().unwrap();
        let forbidden = source["state"] == "forbidden";
        assert_eq!(forbidden, words(&status["needs_root"]).contains(&fact), "{source}");
        if forbidden {
            assert!(source["detail"].as_str().unwrap().ends_with(": needs root"), "{source}");
        }
    }
    // What everybody may see.
    assert!(status["cpus"]["online"].as_u64().unwrap() > 0);
    assert!(status["capability"]["vendor"].is_string(), "{}", status["capability"]);
    assert!(status["guests"]["processes"].is_array());
    assert_ne!(status["memory"]["source"], "iomem", "addresses that are hidden are no RAM");
    let output = stage.run(&["status"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("needs root") && text.contains("ram"), "{text}");
    // With --deep too: the devices of every CPU are closed.
    assert_eq!(stage.run(&["status", "--deep"]).status.code(), Some(0));
}

#[test]
fn doctor_says_what_it_could_not_check() {
    let Some(stage) = Stage::new("doctor_says_what_it_could_not_check") else { return };
    let doctor = stage.json(&["doctor", "--strict=D003", "--json"]);
    assert!(hides_ram(&doctor));
    let check = |id: &str| {
        let checks = doctor["checks"].as_array().unwrap();
        checks.iter().find(|check| check["id"] == id).unwrap().clone()
    };
    // Nothing that was not seen is said to be fine or wrong.
    for id in ["D002", "D003", "D005", "D010"] {
        let check = check(id);
        assert!(check["status"] == "unknown" || check["status"] == "not_applicable", "{check}");
        assert!(!check["evidence"].as_str().unwrap().is_empty());
    }
    let missed = words(&doctor["missed"]).contains(&"D003");
    assert_eq!(missed, check("D003")["status"] == "unknown");
    let output = stage.run(&["doctor"]);
    assert!(matches!(output.status.code(), Some(0 | 1)));
    assert!(String::from_utf8_lossy(&output.stdout).contains("could not be made"));
}

#[test]
fn regions_snapshot_export_and_labels_without_rights() {
    let test = "regions_snapshot_export_and_labels_without_rights";
    let Some(stage) = Stage::new(test) else { return };
    let regions = stage.json(&["regions", "--json"]);
    assert_ne!(regions["ram_source"], "iomem");
    for region in regions["regions"].as_array().unwrap() {
        assert!(region["state"] == "unknown" || regions["source"]["state"] == "answered");
    }
    let output = stage.run(&["regions"]);
    assert_eq!(output.status.code(), Some(0));

    // A snapshot holds that something was forbidden: it says the same afterwards.
    let output = stage.run(&["snapshot", "-o", "s.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let status = stage.json(&["status", "--json", "--from", "s.json"]);
    assert!(hides_ram(&status));
    let snapshot = std::fs::read_to_string(stage.dir.path().join("s.json")).unwrap();
    assert!(snapshot.contains("{\"failed\":\"forbidden\"}") || snapshot.contains("00000000-"));

    let output = stage.run(&["export"]);
    assert_eq!(output.status.code(), Some(0));
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(page.contains("rmp_source_info{fact=\"ram\",state=\"forbidden\",source=\"\"} 1"));
    assert!(!page.contains("rmp_ram_uncovered_bytes"), "what is not known has no sample");
    assert!(page.contains("\nrmp_cpus{state=\"online\"} "));

    let labels = stage.json(&["labels", "--json"]);
    assert!(labels["labels"]["feature.node.kubernetes.io/rmp.covers-ram"].is_null());
    assert!(labels["labels"]["feature.node.kubernetes.io/rmpopt.capable"].is_string());
}

#[test]
fn a_file_that_may_not_be_written() {
    let Some(stage) = Stage::new("a_file_that_may_not_be_written") else { return };
    for args in [
        &["snapshot", "-o", "/etc/rmpopt-s.json"][..],
        &["snapshot", "--replace", "-o", "/etc/rmpopt-s.json"],
        &["export", "--once", "--textfile", "/etc/rmpopt.prom"],
        &["labels", "-o", "/etc/rmpopt-labels"],
    ] {
        let output = stage.run(args);
        assert_eq!(output.status.code(), Some(3), "{args:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("/etc/rmpopt") && said.contains("cannot be written"), "{said}");
    }
}
