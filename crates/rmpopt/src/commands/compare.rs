//! `rmpopt compare`: every policy in every scenario, and what came of it.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{engine, interrupt};
use crate::atomic;
use crate::cli::CompareArgs;
use crate::compare::plan::Plan;
use crate::compare::work::{Told, run as work};
use crate::compare::{Comparison, html};
use crate::exit::{Failure, INTERRUPTED, LAW_VIOLATED};
use crate::output;
use crate::view::View;

/// Runs the command; the exit code is 0, 1 if a claimed law was broken, or 130 if it was interrupted.
pub(crate) fn run(args: &CompareArgs) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let plan = Arc::new(Plan::new(args)?);
    if let Some(path) = &args.html {
        // Better now than after all the work.
        atomic::check_writable(path)?;
    }
    let stop = interrupt::catch()?;
    let jobs = args.jobs.map_or_else(
        || thread::available_parallelism().map_or(1, std::num::NonZero::get),
        |jobs| jobs as usize,
    );
    let bar = progress(&plan);
    let lab = |setup: &_| engine::run(setup, &mut |_| {});
    let (mut runs, all) = (0, plan.cases.len());
    let mut outcome = work(&plan, jobs, lab, stop, &mut |told| match told {
        Told::Begins(name) => bar.set_message(output::harmless(name).into_owned()),
        Told::Done(weight) => {
            runs += 1;
            bar.set_prefix(format!("{runs} of {all} runs"));
            bar.set_position(weight);
        }
    });
    bar.finish_and_clear();
    let failure = outcome.failure.take();
    if failure.is_some() && outcome.done.is_empty() {
        return failure.map_or(Ok(ExitCode::SUCCESS), Err);
    }
    let mut comparison = Comparison::new(&plan, outcome);
    comparison.wall_s = started.elapsed().as_secs_f64();
    // A page that cannot be written must not cost the result.
    let page = args
        .html
        .as_ref()
        .map_or(Ok(()), |path| atomic::write_whole(path, html::page(&comparison).as_bytes()));
    let text = if args.json {
        output::json(&comparison)?
    } else {
        View { unicode: output::locale_is_utf8() }.comparison(&comparison)
    };
    output::result(&text)?;
    page?;
    // One run that cannot be emulated: the others' results are printed all the same.
    if let Some(failure) = failure {
        return Err(failure);
    }
    Ok(ExitCode::from(exit_code(&comparison)))
}

/// Claimed laws alone make it fail.
fn exit_code(comparison: &Comparison) -> u8 {
    match (comparison.law_violations, comparison.incomplete) {
        (1.., _) => LAW_VIOLATED,
        (0, true) => INTERRUPTED,
        (0, false) => 0,
    }
}

/// A bar on standard error if someone is watching.
fn progress(plan: &Plan) -> ProgressBar {
    if !output::stderr_is_watched() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(plan.cases.iter().map(|&case| plan.weight(case)).sum());
    let template = "{prefix} [{bar:24}] {percent:>3} %, {eta} left  {wide_msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        let chars = if output::locale_is_utf8() { "━━╌" } else { "=> " };
        bar.set_style(style.progress_chars(chars));
    }
    bar.set_prefix(format!("0 of {} runs", plan.cases.len()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use snp_lab::report::RunReport;
    use snp_lab::scenario::{PolicyName, SECOND, Setup};
    use snp_lab::{Defect, Seeded, run_with_defects};

    use super::*;

    static NEVER: AtomicBool = AtomicBool::new(false);

    fn compare(policy: PolicyName, runner: crate::compare::work::Runner) -> Comparison {
        let args = CompareArgs {
            scenarios: vec!["small".into()],
            policies: vec![policy],
            seeds: Some(1),
            ..CompareArgs::default()
        };
        let plan = Arc::new(Plan::new(&args).unwrap());
        Comparison::new(&plan, work(&plan, 1, runner, &NEVER, &mut |_| {}))
    }

    fn skips_a_follower(setup: &Setup) -> Result<RunReport, Failure> {
        let defect = Seeded { at: SECOND, defect: Defect::SkipFollower, times: 1_000 };
        run_with_defects(setup, &[defect], &mut |_| {})
            .map_err(|error| Failure::BadInput(error.to_string()))
    }

    fn lab(setup: &Setup) -> Result<RunReport, Failure> {
        engine::run(setup, &mut |_| {})
    }

    #[test]
    fn a_claimed_law_that_breaks_fails_the_comparison() {
        let good = compare(PolicyName::Tracked, lab);
        assert_eq!(good.law_violations, 0);
        assert_eq!(exit_code(&good), 0);
        // Law 3, which tracked claims.
        let bad = compare(PolicyName::Tracked, skips_a_follower);
        assert!(bad.law_violations > 0);
        assert_eq!(exit_code(&bad), LAW_VIOLATED);
    }

    #[test]
    fn a_law_that_nobody_claimed_does_not() {
        let v6 = compare(PolicyName::V6, lab);
        assert!(v6.law_breaches_unclaimed > 0, "v6's leader holds its CPU for a whole window");
        assert_eq!((v6.law_violations, exit_code(&v6)), (0, 0));
    }
}
