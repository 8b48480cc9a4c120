//! `rmpopt run`: reads what is asked for, runs it, renders the report.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use snp_lab::report::RunReport;
use snp_lab::scenario::{Nanos, PlacementRule, PolicySpec, Progress, SECOND, Scenario, Setup};

use super::{engine, list};
use crate::cli::RunArgs;
use crate::exit::{Failure, LAW_VIOLATED};
use crate::trace_input::TraceOptions;
use crate::view::View;
use crate::{costs_input, host_input, output, scenario, trace_input, units};

/// Simulated time of a run that has a host and nothing to run on it.
const IDLE_RUN: Nanos = 60 * SECOND;

/// Runs the command; the exit code is 0, or 1 if a claimed law was broken.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    if args.list {
        return list::run(args.json);
    }
    let started = Instant::now();
    let setup = setup(args)?;
    let mut report = watched(&setup)?;
    report.wall_s = started.elapsed().as_secs_f64();
    output::result(&render(args, &report)?)?;
    Ok(if report.law_violations == 0 { ExitCode::SUCCESS } else { ExitCode::from(LAW_VIOLATED) })
}

/// Puts together what is to be run.
fn setup(args: &RunArgs) -> Result<Setup, Failure> {
    let costs = costs_input::load(args.costs.as_deref())?;
    let mut assumed = costs_input::changes(&costs);
    let bare = args.scenario.is_none() && (args.trace.is_some() || !args.host.is_empty());
    let mut scenario = scenario::load(args.scenario.as_deref().unwrap_or(scenario::DEFAULT))?;
    if bare {
        scenario = without_guests(scenario, args.trace.is_some());
    }
    if !args.host.is_empty() {
        let filler = args.scenario.as_deref().map_or(scenario::DEFAULT, |_| &scenario.name);
        let filler = filler.to_owned();
        host_input::apply(&args.host, &mut scenario, &filler, &mut assumed)?;
    } else if bare {
        assumed.push(format!("host: all of it from {}", scenario::DEFAULT));
    }
    if let Some(path) = &args.trace {
        if args.snp_share.is_none() {
            let share = trace_input::DEFAULT_SHARE;
            assumed.push(format!("share of SNP guests in the trace: {share} (--snp-share)"));
        }
        let options = TraceOptions {
            format: args.trace_format,
            sample: args.trace_sample.unwrap_or(1.0),
            sample_seed: args.seed,
            snp_share: args.snp_share.unwrap_or(trace_input::DEFAULT_SHARE),
            snp_by: args.snp_by.unwrap_or_default(),
        };
        let source = trace_input::Source::File(path);
        let trace = trace_input::read(source, options, &scenario.host)?;
        let end = trace_input::end(&trace);
        // A scenario that comes along ends no earlier than the trace.
        scenario.until = Some(scenario.until.map_or(end, |own| own.max(end)));
        scenario.trace = Some(trace);
    } else if bare {
        scenario.until = Some(IDLE_RUN);
        if args.until.is_none() {
            assumed.push(format!("simulated time: {}, no guests", units::exact_duration(IDLE_RUN)));
        }
    }
    if let Some(rule) = args.placement {
        scenario = scenario::placed(scenario, rule);
    }
    Ok(Setup {
        seed: args.seed,
        policy: args.policy.or(scenario.policy.name).unwrap_or_default(),
        fidelity: args.fidelity,
        costs,
        until: args.until,
        assumed,
        scenario,
    })
}

/// The host alone.
fn without_guests(scenario: Scenario, traced: bool) -> Scenario {
    Scenario {
        name: if traced { "trace" } else { "host" }.to_owned(),
        description: String::new(),
        why: String::new(),
        guests: Vec::new(),
        streams: Vec::new(),
        events: Vec::new(),
        policy: PolicySpec::default(),
        until: None,
        rule: PlacementRule::default(),
        trace: None,
        host: scenario.host,
    }
}

/// Runs it, with a bar on standard error if someone is watching.
fn watched(setup: &Setup) -> Result<RunReport, Failure> {
    if !output::stderr_is_watched() {
        return engine::run(setup, &mut |_| {});
    }
    let bar = ProgressBar::new(1);
    let template = "{prefix} [{bar:36}] {percent:>3} %  {msg}  ({elapsed} so far)";
    if let Ok(style) = ProgressStyle::with_template(template) {
        let chars = if output::locale_is_utf8() { "━━╌" } else { "=> " };
        bar.set_style(style.progress_chars(chars));
    }
    bar.set_prefix(setup.scenario.name.clone());
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut shown: Option<Instant> = None;
    let report = engine::run(setup, &mut |progress: Progress| {
        if shown.is_some_and(|at| at.elapsed() < Duration::from_millis(50)) {
            return;
        }
        shown = Some(Instant::now());
        bar.set_length(progress.until);
        bar.set_position(progress.now);
        let seconds = |n: Nanos| units::seconds((n / 1_000_000) as f64 / 1e3);
        bar.set_message(format!("{} of {}", seconds(progress.now), seconds(progress.until)));
    });
    bar.finish_and_clear();
    report
}

fn render(args: &RunArgs, report: &RunReport) -> Result<String, Failure> {
    if args.table {
        return Ok(report.table.clone());
    }
    if args.json {
        return output::json(report);
    }
    Ok(View { unicode: output::locale_is_utf8() }.report(report))
}
