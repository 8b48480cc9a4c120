//! What the operator's commands take on a host of 1,024 CPUs and 12 TiB, against what is promised:
//! the second part of `cargo xtask bench` (docs/bench.md).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench")]
#![allow(dead_code, reason = "helpers of tests")]

#[path = "../../tests/exporter/mod.rs"]
mod exporter;
#[path = "../../tests/fake_host/mod.rs"]
mod fake_host;
#[path = "../../tests/live_host/mod.rs"]
mod live_host;
mod process;
mod terminal;

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::exporter::Exporter;
use crate::live_host::Host;

/// What is counted.
#[derive(Clone, Copy)]
enum Count {
    Ns,
    Kib,
    Series,
}

/// A row: its name, what one unit of work is, what is counted, and how much of it is promised.
#[derive(Clone, Copy)]
struct Subject {
    row: &'static str,
    unit: &'static str,
    count: Count,
    promised: f64,
}

const fn time(row: &'static str, unit: &'static str, promised: f64) -> Subject {
    Subject { row, unit, count: Count::Ns, promised }
}

const fn memory(row: &'static str) -> Subject {
    Subject { row, unit: "run", count: Count::Kib, promised: 65536.0 }
}

const SNAPSHOT: [Subject; 2] =
    [time("status from a snapshot", "run", 150e6), memory("status from a snapshot, memory")];
const FILES: [Subject; 2] =
    [time("status from files", "run", 500e6), memory("status from files, memory")];
const MOUNTED: [Subject; 2] =
    [time("status, mounted host", "run", 500e6), memory("status, mounted host, memory")];
const SCRAPE: Subject = time("scrape, CPU time", "scrape", 1e6);
const SERIES: Subject =
    Subject { row: "scrape, series", unit: "scrape", count: Count::Series, promised: 200.0 };
/// A hundredth of a core.
const TOP: Subject = time("top, mounted host, CPU time", "second", 10e6);
const TOP_BUSY: Subject = time("top, all changes, CPU time", "second", 10e6);

/// A host of 1,024 CPUs and 12 TiB.
const SCENARIO: &str = "idle-12t";

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
    bench.files();
    bench.mounted();
    let missed = bench.rows.iter().filter(|row| row["verdict"] == "missed").count();
    if has("--json") {
        let report = json!({ "schema_version": 1, "quick": bench.quick, "rows": bench.rows });
        println!("{report:#}");
    } else {
        bench.rows.iter().for_each(print);
    }
    ExitCode::from(u8::from(missed > 0))
}

fn print(row: &Value) {
    let text = |field: &str| row[field].as_str().unwrap();
    if let Some(why) = row["skipped"].as_str() {
        return println!("{:<30} skipped: {why}", text("row"));
    }
    let number = |field: &str| row[field].as_f64().unwrap();
    println!(
        "{:<30} {:>12.0} {:>12.0}  {:<10} {:>7.3}  {:<8} {}",
        text("row"),
        number("ours"),
        number("promised"),
        format!("{}/{}", text("counts"), text("unit")),
        number("ratio"),
        text("limit"),
        text("verdict"),
    );
}

impl Bench {
    fn wants(&self, subjects: &[Subject]) -> bool {
        subjects.iter().any(|subject| subject.row.contains(&self.only))
    }

    fn row(&mut self, subject: Subject, ours: f64) {
        let ratio = ours / subject.promised;
        let counts = match subject.count {
            Count::Ns => "ns",
            Count::Kib => "KiB",
            Count::Series => "series",
        };
        self.rows.push(json!({
            "row": subject.row, "unit": subject.unit, "counts": counts,
            "ours": ours, "promised": subject.promised,
            "ratio": ratio, "ratio_is": "ours / promised", "limit": "<= 1.00",
            "verdict": if ratio <= 1.0 { "holds" } else { "missed" },
        }));
    }

    fn skip(&mut self, subjects: &[Subject], why: &str) {
        for subject in subjects {
            self.rows.push(json!({ "row": subject.row, "verdict": "skipped", "skipped": why }));
        }
    }

    /// Rows on a host of files.
    fn files(&mut self) {
        let all = [&SNAPSHOT[..], &FILES, &[SCRAPE, SERIES, TOP_BUSY]].concat();
        if !self.wants(&all) {
            return;
        }
        let dir = fake_host::dir();
        let (tree, file) = (dir.path().join("tree"), dir.path().join("s.json"));
        fake_host::write(&tree);
        let (root, file) = (tree.to_str().unwrap(), file.to_str().unwrap());
        process::run(&["snapshot", "--root", root, "-o", file]);
        self.status(SNAPSHOT, &["status", "--json", "--from", file]);
        self.status(FILES, &["status", "--json", "--root", root]);
        if self.wants(&[SCRAPE, SERIES]) {
            self.scrape(root);
        }
        fake_host::belief_changes(&tree);
        self.top(TOP_BUSY, &tree);
    }

    /// Rows on an emulated host that is up, its clock that of the wall.
    fn mounted(&mut self) {
        let all = [&MOUNTED[..], &[TOP]].concat();
        if !self.wants(&all) {
            return;
        }
        if let Some(why) = live_host::cannot_mount() {
            return self.skip(&all, why);
        }
        let host = Host::up(SCENARIO, &[]);
        self.status(MOUNTED, &["status", "--json", "--root", host.root.to_str().unwrap()]);
        self.top(TOP, &host.root);
    }

    fn status(&mut self, [time, memory]: [Subject; 2], args: &[&str]) {
        if self.wants(&[time, memory]) {
            let taken = process::median(if self.quick { 3 } else { 21 }, || process::run(args));
            self.row(time, taken);
            self.row(memory, process::peak_kib(args) as f64);
        }
    }

    fn scrape(&mut self, root: &str) {
        let scrapes = if self.quick { 200 } else { 5_000 };
        // No reading of the host falls in between.
        let exporter = Exporter::start(&["--root", root, "--interval", "1d"]);
        for _ in 0..50 {
            exporter.metrics();
        }
        let process = exporter.process.0.id();
        let before = process::cpu_ns(process);
        for _ in 0..scrapes {
            exporter.metrics();
        }
        let taken = process::cpu_ns(process) - before;
        self.row(SCRAPE, taken as f64 / f64::from(scrapes));
        let page = exporter.metrics();
        let series = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        self.row(SERIES, series.count() as f64);
    }

    fn top(&mut self, subject: Subject, root: &Path) {
        if self.wants(&[subject]) {
            match terminal::top(root, if self.quick { 3 } else { 20 }) {
                Ok(taken) => self.row(subject, taken),
                Err(why) => self.skip(&[subject], &why),
            }
        }
    }
}
