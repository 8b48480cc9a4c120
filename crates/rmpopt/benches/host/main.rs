//! What the operator's commands take on a host of 1,024 CPUs and 12 TiB, against what is promised:
//! the second part of `cargo xtask bench` (docs/bench.md).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench")]
#![allow(dead_code, reason = "helpers of tests")]

#[path = "../tests/exporter/mod.rs"]
mod exporter;
#[path = "../tests/fake_host/mod.rs"]
mod fake_host;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::exporter::Exporter;

/// A row's name, what one unit of work is, and the nanoseconds that are promised for it.
type Subject = (&'static str, &'static str, u64);

const SCRAPE: Subject = ("scrape, CPU time", "scrape", 1_000_000);
const SNAPSHOT: Subject = ("status from a snapshot", "run", 150_000_000);
const TREE: Subject = ("status from files", "run", 500_000_000);

struct Bench {
    quick: bool,
    only: String,
    rows: Vec<Value>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let only = args.iter().position(|arg| arg == "--only").and_then(|at| args.get(at + 1));
    let mut bench =
        Bench { quick: has("--quick"), only: only.cloned().unwrap_or_default(), rows: Vec::new() };
    bench.run();
    let missed = bench.rows.iter().filter(|row| row["verdict"] == "missed").count();
    if has("--json") {
        let report = json!({ "schema_version": 1, "quick": bench.quick, "rows": bench.rows });
        println!("{report:#}");
    } else {
        for row in &bench.rows {
            println!(
                "{:<28} {:>12.1} {:>12.1}  {:<10} {:>7.3}  {:<8} {}",
                row["row"].as_str().unwrap(),
                row["ours_ns"].as_f64().unwrap(),
                row["other_ns"].as_f64().unwrap(),
                row["unit"].as_str().unwrap(),
                row["ratio"].as_f64().unwrap(),
                row["limit"].as_str().unwrap(),
                row["verdict"].as_str().unwrap(),
            );
        }
    }
    ExitCode::from(u8::from(missed > 0))
}

impl Bench {
    fn wants(&self, subject: Subject) -> bool {
        subject.0.contains(&self.only)
    }

    fn row(&mut self, (row, unit, promised): Subject, ours: f64) {
        let ratio = ours / promised as f64;
        self.rows.push(json!({
            "row": row, "unit": unit, "ours_ns": ours, "other_ns": promised, "ratio": ratio,
            "ratio_is": "ours_ns / other_ns", "limit": "<= 1.00",
            "verdict": if ratio <= 1.0 { "holds" } else { "missed" },
        }));
    }

    fn run(&mut self) {
        if ![SCRAPE, SNAPSHOT, TREE].into_iter().any(|subject| self.wants(subject)) {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (tree, file) = (dir.path().join("tree"), dir.path().join("s.json"));
        fake_host::write(&tree);
        let (tree, file) = (tree.to_str().unwrap(), file.to_str().unwrap());
        rmpopt(&["snapshot", "--root", tree, "-o", file]);
        let rounds = if self.quick { 3 } else { 21 };
        if self.wants(SNAPSHOT) {
            let time = median(rounds, || rmpopt(&["status", "--json", "--from", file]));
            self.row(SNAPSHOT, time);
        }
        if self.wants(TREE) {
            let time = median(rounds, || rmpopt(&["status", "--json", "--root", tree]));
            self.row(TREE, time);
        }
        if self.wants(SCRAPE) {
            let time = scrape(tree, if self.quick { 200 } else { 5_000 });
            self.row(SCRAPE, time);
        }
    }
}

fn rmpopt(args: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rmpopt"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success(), "{args:?}");
}

/// Wall-clock nanoseconds.
fn median(rounds: usize, mut work: impl FnMut()) -> f64 {
    work();
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed().as_nanos() as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// CPU time of the exporter for one scrape, all of its threads, the kernel's part included.
fn scrape(tree: &str, scrapes: u32) -> f64 {
    // No reading of the host falls in between.
    let exporter = Exporter::start(&["--root", tree, "--interval", "1d"]);
    for _ in 0..50 {
        exporter.metrics();
    }
    let process = exporter.process.0.id();
    let before = cpu_ns(process);
    for _ in 0..scrapes {
        exporter.metrics();
    }
    (cpu_ns(process) - before) as f64 / f64::from(scrapes)
}

/// Nanoseconds on a CPU of all threads, as the scheduler counts them.
fn cpu_ns(process: u32) -> u64 {
    let tasks = Path::new("/proc").join(process.to_string()).join("task");
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    std::fs::read_dir(tasks).unwrap().map(of).sum()
}
