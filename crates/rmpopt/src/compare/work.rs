//! The runs, on threads; what is done is kept whatever happens to the rest.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use snp_lab::report::RunReport;
use snp_lab::scenario::Setup;

use super::plan::{Case, Plan};
use crate::exit::Failure;

/// What runs one setup: the lab, or in tests a lab with defects.
pub(crate) type Runner = fn(&Setup) -> Result<RunReport, Failure>;

/// What is told of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told<'a> {
    /// It begins.
    Begins(&'a str),
    /// It is done; so much of the whole weight is.
    Done(u64),
}

/// Runs the plan on `jobs` threads, the largest cases first, until `stop` is set. The results are in the
/// plan's order. The first failure ends it.
///
/// Threads that are still at work when it is stopped are left behind: they end with the process.
pub(crate) fn run(
    plan: &Arc<Plan>,
    jobs: usize,
    runner: Runner,
    stop: &'static AtomicBool,
    told: &mut dyn FnMut(Told<'_>),
) -> Result<Vec<(Case, RunReport)>, Failure> {
    enum Message {
        Begins(usize),
        Done(usize, Box<Result<RunReport, Failure>>),
    }
    let mut order: Vec<usize> = (0..plan.cases.len()).collect();
    let weight = |index: usize| plan.cases.get(index).map_or(0, |&case| plan.weight(case));
    order.sort_by_key(|&index| std::cmp::Reverse(weight(index)));
    let (order, next) = (Arc::new(order), Arc::new(AtomicUsize::new(0)));
    let (sender, receiver) = mpsc::channel();
    for _ in 0..jobs.clamp(1, plan.cases.len().max(1)) {
        let (plan, order, next) = (Arc::clone(plan), Arc::clone(&order), Arc::clone(&next));
        let sender = sender.clone();
        thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                let Some(&case) = plan.cases.get(index) else { return };
                let Some(setup) = plan.setup(case) else { return };
                // Nobody listens any more: the process is about to end.
                if sender.send(Message::Begins(index)).is_err() {
                    return;
                }
                let started = Instant::now();
                let mut result = runner(&setup);
                if let Ok(report) = &mut result {
                    report.wall_s = started.elapsed().as_secs_f64();
                }
                if sender.send(Message::Done(index, Box::new(result))).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let mut done: Vec<Option<RunReport>> = vec![None; plan.cases.len()];
    let mut weight_done = 0;
    while !stop.load(Ordering::SeqCst) {
        match receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(Message::Begins(index)) => {
                let name = plan.cases.get(index).map(|&case| plan.name(case));
                told(Told::Begins(&name.unwrap_or_default()));
            }
            Ok(Message::Done(index, result)) => {
                weight_done += weight(index);
                if let Some(place) = done.get_mut(index) {
                    *place = Some((*result)?);
                }
                told(Told::Done(weight_done));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let cases = plan.cases.iter().copied().zip(done);
    Ok(cases.filter_map(|(case, report)| Some((case, report?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::CompareArgs;
    use crate::commands::engine;

    static NEVER: AtomicBool = AtomicBool::new(false);

    fn plan(seeds: u64) -> Arc<Plan> {
        let scenarios = vec!["small".into()];
        let args = CompareArgs { scenarios, seeds: Some(seeds), ..CompareArgs::default() };
        Arc::new(Plan::new(&args).unwrap())
    }

    fn lab(setup: &Setup) -> Result<RunReport, Failure> {
        engine::run(setup, &mut |_| {})
    }

    #[test]
    fn every_case_is_run_whatever_the_number_of_threads() {
        let plan = plan(2);
        let run = |jobs| {
            let mut outcomes = run(&plan, jobs, lab, &NEVER, &mut |_| {}).unwrap();
            for (_, report) in &mut outcomes {
                report.wall_s = 0.0;
            }
            outcomes
        };
        let one = run(1);
        assert_eq!(one.iter().map(|(case, _)| *case).collect::<Vec<_>>(), plan.cases);
        assert_eq!(one, run(3));
    }

    #[test]
    fn what_is_done_is_kept_when_it_is_stopped() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let plan = plan(50);
        let outcomes = run(&plan, 2, lab, &STOP, &mut |told| {
            if matches!(told, Told::Done(_)) {
                STOP.store(true, Ordering::SeqCst);
            }
        });
        assert_eq!(outcomes.unwrap().len(), 1);
    }

    #[test]
    fn the_first_failure_ends_it() {
        let fails = |setup: &Setup| match setup.seed {
            3 => Err(Failure::Unsupported("no".into())),
            _ => lab(setup),
        };
        let failure = run(&plan(5), 2, fails, &NEVER, &mut |_| {}).unwrap_err();
        assert_eq!(failure, Failure::Unsupported("no".into()));
    }
}
