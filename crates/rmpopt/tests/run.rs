//! Runs of the whole command.

#![expect(clippy::unwrap_used, reason = "a failed step of a test's helper fails the test")]

use std::process::{Command as Process, Stdio};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin_cmd;
use predicates::str::{contains, is_empty};
use serde_json::Value;

fn rmpopt(args: &[&str]) -> Command {
    let mut command = cargo_bin_cmd!("rmpopt");
    command.arg("run").args(args).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command
}

fn json(args: &[&str]) -> Value {
    let output = rmpopt(args).arg("--json").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    assert!(stderr.is_empty(), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn without_wall(mut value: Value) -> Value {
    value["wall_s"] = Value::Null;
    value
}

#[test]
fn the_default_scenario_keeps_every_law() {
    let report = json(&[]);
    assert_eq!(report["scenario"], "venice-2p");
    assert_eq!(report["emulated"], true);
    assert_eq!(report["law_violations"], 0);
    assert_eq!(report["policy"], "tracked");
    assert_eq!(report["host"]["cores"], 512);
    assert_eq!(report["host"]["cpus"], 1024);
    assert_eq!(report["host"]["memory_bytes"], 2_u64 << 40);
    let assumed = report["assumed"].as_array().unwrap();
    assert!(assumed.iter().all(|a| !a.as_str().unwrap().contains("venice-2p")), "{assumed:?}");
    assert!(report["trace"].is_null());
    assert!(report["optimized"]["optimizable_final"].as_f64().unwrap() > 0.99);
}

#[test]
fn one_seed_gives_the_same_bytes() {
    let text = |seed: &str| {
        let output = rmpopt(&["small", "--seed", seed, "--json"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (before, after) = text.split_once("\"wall_s\":").unwrap();
        let (_, after) = after.split_once(',').unwrap();
        format!("{before}{after}")
    };
    assert_eq!(text("7"), text("7"));
}

#[test]
fn every_policy_and_fidelity_runs() {
    for policy in snp_lab::scenario::PolicyName::ALL.map(snp_lab::scenario::PolicyName::as_str) {
        for fidelity in ["pages", "extents"] {
            let report = json(&["small", "--policy", policy, "--fidelity", fidelity]);
            assert_eq!(report["policy"], policy);
            assert_eq!(report["fidelity"], fidelity);
            assert_eq!(report["law_violations"], 0, "{policy} {fidelity}");
        }
    }
}

#[test]
fn the_fidelities_agree() {
    let run = |fidelity| {
        let mut report = without_wall(json(&["small", "--fidelity", fidelity]));
        report["fidelity"] = Value::Null;
        report
    };
    assert_eq!(run("pages"), run("extents"));
}

#[test]
fn small_shows_splits_and_a_leak() {
    let report = json(&["small"]);
    let guests = &report["guests"];
    // 3 MiB at any page: its ends lie inside 2 MiB entries.
    assert!((1..=2).contains(&guests["psmashes"].as_u64().unwrap()), "{guests}");
    assert_eq!(guests["psmashes"], guests["sizem_faults"]);
    assert_eq!((&guests["reclaim_failures"], &guests["leaked_pages"]), (&1.into(), &512.into()));
    let told = |what: &str| {
        let timeline = report["timeline"].as_array().unwrap();
        timeline.iter().any(|entry| entry["text"].as_str().unwrap().contains(what))
    };
    assert!(told("of its 2 MiB RMP entries w") && told("512 pages could not be given back"));
    assert!(report["map"]["states"].as_str().unwrap().contains('S'));
}

#[test]
fn a_pipe_gets_no_colour_and_the_locale_decides_the_characters() {
    let text = |locale: &str| {
        let output = rmpopt(&["small"]).env("LC_ALL", locale).output().unwrap();
        assert!(output.status.success());
        assert!(output.stderr.is_empty());
        String::from_utf8(output.stdout).unwrap()
    };
    let ascii = text("C");
    assert!(ascii.is_ascii());
    assert!(!ascii.contains('\x1b'));
    assert!(ascii.contains("EMULATED"));
    assert!(!text("C.UTF-8").is_ascii());
    for line in ascii.lines() {
        assert!(line.len() <= 80, "{line}");
    }
}

#[test]
fn the_table_is_upstreams_text() {
    let output = rmpopt(&["small", "--table"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.is_empty());
    for (n, line) in text.lines().enumerate() {
        assert!(line.starts_with(&format!("Memory @{n:>3}GB: CPU(s): ")), "{line}");
    }
}

#[test]
fn until_cuts_the_run() {
    let report = json(&["small", "--until", "10s"]);
    let simulated = report["simulated_s"].as_f64().unwrap();
    assert!((simulated - 10.0).abs() < 1e-9, "{simulated}");
}

#[test]
fn a_file_runs_like_the_built_in() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/small.toml");
    assert_eq!(without_wall(json(&[path])), without_wall(json(&["small"])));
}

#[test]
fn a_real_map_and_topology() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("dmesg"),
        "[ 0.0] BIOS-e820: [mem 0x0000000000000000-0x000000007fffffff] usable\n\
         [ 0.0] BIOS-e820: [mem 0x0000000080000000-0x00000000ffffffff] reserved\n\
         [ 0.0] BIOS-e820: [mem 0x0000000100000000-0x000000107fffffff] usable\n",
    )
    .unwrap();
    std::fs::write(
        dir.path().join("lscpu"),
        "CPU(s): 16\nThread(s) per core: 2\nCore(s) per socket: 4\nSocket(s): 2\n\
         NUMA node(s): 2\nNUMA node0 CPU(s): 0-3,8-11\nNUMA node1 CPU(s): 4-7,12-15\n",
    )
    .unwrap();
    let report = json(&["--host", &dir.path().display().to_string()]);
    assert_eq!(report["scenario"], "host");
    assert_eq!(report["host"]["cpus"], 16);
    assert_eq!(report["host"]["memory_bytes"], 64_u64 << 30);
    assert_eq!(
        (&report["host"]["regions"], &report["host"]["spanned_regions"]),
        (&64.into(), &66.into())
    );
    assert_eq!(report["law_violations"], 0);
    assert!(!report["assumed"].as_array().unwrap().is_empty());
}

#[test]
fn a_trace_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.csv");
    std::fs::write(
        &path,
        "name,cpu_milli,memory_mib,pod_phase,creation_time,deletion_time,scheduled_time\n\
         a,4000,8192,Succeeded,100,130,100\n\
         b,4000,8192,Running,110,160,110\n\
         c,4000,8192,Pending,110,160,\n\
         d,4000,8388608,Running,120,150,120\n\
         e,4000,8192,Failed,150,140,150\n",
    )
    .unwrap();
    let path = path.display().to_string();
    let report = json(&["--trace", &path, "--snp-share", "1"]);
    let trace = &report["trace"];
    let counts = ["rows", "unscheduled", "invalid", "admitted", "rejected", "snp", "ordinary"]
        .map(|key| trace[key].as_u64().unwrap());
    assert_eq!(counts, [5, 1, 1, 2, 1, 2, 0]);
    assert_eq!(trace["peak_bytes"], 16_u64 << 30);
    assert_eq!(report["law_violations"], 0);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Process::new(assert_cmd::cargo::cargo_bin!("rmpopt"))
        .args(["run", "small", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_full_disk_is_named() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let output = Process::new(assert_cmd::cargo::cargo_bin!("rmpopt"))
        .args(["run", "small", "--json"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("standard output: cannot be written"));
}

#[test]
fn a_host_without_the_segmented_rmp_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("contiguous.toml");
    std::fs::write(
        &path,
        "schema_version = 1\nname = \"contiguous\"\nuntil = \"20s\"\n[host]\nsockets = 1\n\
         cores_per_socket = 4\nmemory = \"8GiB\"\nrmp = \"contiguous\"\n",
    )
    .unwrap();
    let path = path.display().to_string();
    let report = json(&[&path]);
    assert!(!report["driver"]["refused"].is_null());
    assert_eq!(report["rmpopt"]["executed"], 0);
    rmpopt(&[&path]).assert().success().stdout(contains("RMPOPT is not in use")).stderr(is_empty());
}

/// The most memory the command held while it ran, in KiB, as Linux counts it.
#[cfg(target_os = "linux")]
fn peak_kib(args: &[&str]) -> u64 {
    let mut child = Process::new(env!("CARGO_BIN_EXE_rmpopt"))
        .arg("run")
        .args(args)
        .arg("--json")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        // The mark only rises, and what is left out between the last look and the end is the print.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = mark.and_then(|mark| mark.trim().trim_end_matches(" kB").parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        if let Some(ended) = child.try_wait().unwrap() {
            assert!(ended.success());
            return peak;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_largest_host_fits_in_little_memory() {
    for fidelity in ["pages", "extents"] {
        let peak = |until| peak_kib(&["idle-12t", "--fidelity", fidelity, "--until", until]);
        let (before, after) = (peak("500ms"), peak("60s"));
        println!("{fidelity}: {before} KiB before SNP_INIT, {after} KiB after");
        assert!((1..64 * 1024).contains(&before), "{fidelity}: {before} KiB before SNP_INIT");
        assert!((1..320 * 1024).contains(&after), "{fidelity}: {after} KiB after SNP_INIT");
    }
}

#[test]
fn an_idle_host_is_left_alone() {
    let report = json(&["idle-12t"]);
    assert_eq!(report["law_violations"], 0);
    assert_eq!(report["host"]["memory_bytes"], 12_u64 << 40);
    assert_eq!((&report["host"]["cores"], &report["host"]["cpus"]), (&512.into(), &1024.into()));
    assert_eq!(report["host"]["regions"], 12_288);
    // Two windows of 2,048 slots each.
    assert!(report["host"]["window_regions"].as_u64().unwrap() <= 4096);
    assert_eq!(report["passes"], 1);
    assert_eq!(report["steady"]["rmpopt"], 0);
    assert_eq!(report["optimized"]["optimizable_final"], 1.0);
}

#[test]
fn every_built_in_gives_the_same_bytes_twice() {
    let text = |args: &[&str]| {
        let output = rmpopt(args).arg("--json").output().unwrap();
        assert!(output.status.success(), "{args:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let (before, after) = text.split_once("\"wall_s\":").unwrap();
        let (_, after) = after.split_once(',').unwrap();
        format!("{before}{after}")
    };
    for (scenario, fidelities) in
        [("venice-2p", &["extents"][..]), ("small", &["pages", "extents"]), ("idle-12t", &["auto"])]
    {
        for policy in ["tracked", "v10", "off"] {
            for fidelity in fidelities {
                let args = [scenario, "--policy", policy, "--fidelity", fidelity, "--seed", "3"];
                assert_eq!(text(&args), text(&args), "{args:?}");
            }
        }
    }
}

#[test]
fn another_seed_differs_where_chance_plays() {
    let run = |seed: &str| {
        let mut report = without_wall(json(&["venice-2p", "--seed", seed]));
        report["seed"] = Value::Null;
        report
    };
    assert_ne!(run("1"), run("2"), "scattered pages lie elsewhere");
}

#[test]
fn names_of_files_do_not_steer_the_terminal() {
    // Colour forced: nothing is stripped then.
    let output = rmpopt(&["\u{1b}]0;title\u{7}.toml"]).env("CLICOLOR_FORCE", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains(r"\u{1b}]0;title\u{7}.toml: cannot be read"), "{text:?}");
    assert!(!text.contains("\u{1b}]0") && !text.contains('\u{7}'), "{text:?}");
}

#[test]
fn the_host_must_have_the_cpus_that_events_name() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("s.toml");
    let host = "host = { sockets = 1, cores_per_socket = 64, memory = \"8GiB\" }";
    let event = "[[event]]\nat = \"2s\"\naction = \"cpu-offline\"\ncpu = 100";
    std::fs::write(&scenario, format!("schema_version = 1\nname = \"s\"\n{host}\n{event}\n"))
        .unwrap();
    let lscpu = dir.path().join("lscpu");
    let text = "CPU(s): 8\nThread(s) per core: 2\nCore(s) per socket: 4\nSocket(s): 1\n\
        NUMA node(s): 1\nNUMA node0 CPU(s): 0-7\n";
    std::fs::write(&lscpu, text).unwrap();
    rmpopt(&[scenario.to_str().unwrap(), "--host", lscpu.to_str().unwrap()])
        .assert()
        .code(2)
        .stderr(contains("the event at 2s names CPU 100, which the host given by --host does not"));
}
