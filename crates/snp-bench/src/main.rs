//! Ratios of snp-model against bare loops over the same memory: what `cargo xtask bench` runs. What
//! each row means: docs/bench.md.

#[path = "../../rmpopt/tests/fake_host/mod.rs"]
mod fake_host;
mod measure;
mod memory;
mod report;
mod rows;
#[allow(unsafe_code)] // Plain reads of atomics have no safe form.
mod sys;
mod table;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;

use crate::measure::Limit::{SpeedAtLeast, TimeAtMost};
use crate::report::{Report, Row, Subject};
use crate::table::Table;

/// Measure snp-model as ratios against bare loops over the same memory
#[derive(Debug, Parser)]
struct Args {
    /// A short run on a small table: shows that it runs, its ratios say little
    #[arg(long)]
    quick: bool,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Measure only rows whose name holds this text (and those measured together with them)
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

/// Memory that the large table and what stands beside it take.
const LARGE_GIB: u64 = 11;
/// The same of the small table.
const SMALL_GIB: u64 = 2;

const fn row(row: &'static str, unit: &'static str, limit: measure::Limit) -> Subject {
    Subject { row, unit, limit }
}

const UPDATE_LARGE: Subject = row("RMPUPDATE, 8 GiB RMP", "update", SpeedAtLeast(0.7));
const UPDATE_SMALL: Subject = row("RMPUPDATE, 1 GiB RMP", "update", SpeedAtLeast(0.7));
const UPDATE_CORES: Subject = row("RMPUPDATE, 512 cores to 1", "update", TimeAtMost(1.2));
const DENSE: Subject = row("dense verify to plain read", "region", SpeedAtLeast(0.85));
const HEADS: Subject = row("head verify to dense", "region", SpeedAtLeast(8.0));
const WRITE: Subject = row("optimised write to cold", "check", TimeAtMost(1.0 / 3.0));
const PASS_BY_CORE: Subject = row("pass, core by core", "RMPOPT", TimeAtMost(1.5));
const PASS_BY_REGION: Subject = row("pass, region by region", "RMPOPT", TimeAtMost(1.5));

/// On a host of 1,024 CPUs and 12 TiB: time over what is allowed.
const STATUS: Subject = row("status of a snapshot", "status", TimeAtMost(1.0));
const TOP_FRAME: Subject = row("top, frame of 200x60", "frame", TimeAtMost(1.0));
const TOP_SAMPLE: Subject = row("top, sample", "sample", TimeAtMost(1.0));
const DECODE: Subject = row("decode", "byte", TimeAtMost(1.0));
/// What they may take, in ns: 150 ms; 1 ms; a hundredth of a second's CPU; 50 MB/s.
const ALLOWED: [(Subject, f64); 4] =
    [(STATUS, 150e6), (TOP_FRAME, 1e6), (TOP_SAMPLE, 10e6), (DECODE, 20.0)];
/// Rounds of these rows at most: a status takes as long as a thousand turns of others.
const HOST_ROUNDS: usize = 61;

/// How much is done: many short turns, so that the median leaves out those in which the machine did
/// something else.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    updates: usize,
    /// Regions of a turn of the verifies.
    verified: u32,
    checks: usize,
    /// Regions of a turn of the passes.
    passed: usize,
}

const FULL: Effort = Effort { rounds: 601, updates: 1_000, verified: 2, checks: 1_000, passed: 16 };
const QUICK: Effort = Effort { rounds: 31, ..FULL };

/// Says on a terminal what is going on.
struct Progress {
    start: Instant,
    shown: bool,
}

impl Progress {
    fn say(&self, what: &str) {
        if self.shown {
            // Progress that cannot be shown is no failure.
            let _ = write!(
                std::io::stderr(),
                "\r\x1b[K[{:>3} s] {what}",
                self.start.elapsed().as_secs()
            );
        }
    }

    fn end(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let progress = Progress { start: Instant::now(), shown: std::io::stderr().is_terminal() };
    let result = run(&args, &progress);
    progress.end();
    match result {
        Ok(0) => ExitCode::SUCCESS,
        Ok(missed) => {
            eprintln!("{missed} limits missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Measures, prints, and says how many limits were missed.
fn run(args: &Args, progress: &Progress) -> Result<usize> {
    let effort = if args.quick { QUICK } else { FULL };
    let mut bench =
        Bench { effort, args, progress, report: Report { quick: args.quick, rows: Vec::new() } };
    bench.large()?;
    bench.small()?;
    bench.host()?;
    let report = bench.report;
    progress.end();
    if args.json {
        println!("{}", report.json()?);
    } else {
        print!("{}", report.text());
    }
    Ok(report.missed())
}

/// A run under way.
struct Bench<'a> {
    effort: Effort,
    args: &'a Args,
    progress: &'a Progress,
    report: Report,
}

impl Bench<'_> {
    fn wants(&self, subjects: &[Subject]) -> bool {
        subjects.iter().any(|subject| subject.row.contains(&self.args.only))
    }

    /// An RMP for this many GiB, or rows that say why there is none.
    fn table(&mut self, regions: u32, gib: u64, subjects: &[Subject]) -> Result<Option<Table>> {
        if !self.wants(subjects) {
            return Ok(None);
        }
        if let Err(reason) = memory::has_free(gib) {
            let skipped = subjects.iter().map(|&subject| Row::skipped(subject, reason.clone()));
            self.report.rows.extend(skipped);
            return Ok(None);
        }
        self.progress.say("writing an RMP");
        Table::new(regions).map(Some)
    }

    /// Rows on the RMP of 2 TiB, or in a short run on one of 256 GiB.
    fn large(&mut self) -> Result<()> {
        const PASSES: [Subject; 2] = [PASS_BY_CORE, PASS_BY_REGION];
        const ALL: [Subject; 6] = [DENSE, HEADS, WRITE, PASS_BY_CORE, PASS_BY_REGION, UPDATE_LARGE];
        let (regions, gib) = if self.args.quick { (256, SMALL_GIB) } else { (2048, LARGE_GIB) };
        let Some(table) = self.table(regions, gib, &ALL)? else { return Ok(()) };
        let Effort { rounds, updates, verified, checks, passed } = self.effort;
        if self.wants(&[DENSE, HEADS]) {
            self.progress.say("verifies");
            let sides = rows::verify::run(&table, rounds, verified)?;
            self.report.rows.push(Row::measured(DENSE, &sides.dense, &sides.read));
            self.report.rows.push(Row::measured(HEADS, &sides.heads, &sides.dense));
        }
        if self.wants(&[WRITE]) {
            self.progress.say("write checks");
            let sides = rows::write_check::run(&table, rounds, checks)?;
            self.report.rows.push(Row::measured(WRITE, &sides.optimised, &sides.cold));
        }
        if self.wants(&PASSES) {
            self.progress.say("passes");
            let sides = rows::pass::run(&table, rounds, passed)?;
            let by_core = Row::measured(PASS_BY_CORE, &sides.by_core, &sides.bare_by_core);
            let by_region = Row::measured(PASS_BY_REGION, &sides.by_region, &sides.bare_by_region);
            self.report.rows.extend([by_core, by_region]);
        }
        if !self.wants(&[UPDATE_LARGE]) {
            return Ok(());
        }
        if self.args.quick {
            let reason = "a short run has no RMP of 8 GiB".to_owned();
            self.report.rows.push(Row::skipped(UPDATE_LARGE, reason));
            return Ok(());
        }
        self.progress.say("updates, 8 GiB");
        let sides = rows::rmpupdate::run(&table, rounds, updates)?;
        self.report.rows.push(Row::measured(UPDATE_LARGE, &sides.one_core, &sides.bare));
        Ok(())
    }

    /// The operator's commands.
    fn host(&mut self) -> Result<()> {
        if !self.wants(&ALLOWED.map(|(subject, _)| subject)) {
            return Ok(());
        }
        self.progress.say("status, top, decode");
        let sides = rows::host::run(self.effort.rounds.min(HOST_ROUNDS))?;
        let ours = [sides.status, sides.frame, sides.sample, sides.decode];
        for ((subject, ns), ours) in ALLOWED.into_iter().zip(ours) {
            let allowed = rows::host::allowed(ns, &ours);
            self.report.rows.push(Row::measured(subject, &ours, &allowed));
        }
        Ok(())
    }

    /// Rows on the RMP of 256 GiB.
    fn small(&mut self) -> Result<()> {
        let subjects = [UPDATE_SMALL, UPDATE_CORES];
        let Some(table) = self.table(256, SMALL_GIB, &subjects)? else { return Ok(()) };
        let Effort { rounds, updates, .. } = self.effort;
        self.progress.say("updates, 1 GiB");
        let sides = rows::rmpupdate::run(&table, rounds, updates)?;
        self.report.rows.push(Row::measured(UPDATE_SMALL, &sides.one_core, &sides.bare));
        self.report.rows.push(Row::measured(UPDATE_CORES, &sides.many_cores, &sides.one_core));
        Ok(())
    }
}
