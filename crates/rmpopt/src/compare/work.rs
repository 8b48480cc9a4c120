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

/// What came of a plan, in its order.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Runs that were finished.
    pub(crate) done: Vec<(Case, RunReport)>,
    /// Runs that had begun when it was stopped.
    pub(crate) cut: Vec<Case>,
    /// Why it ended early, if it was not stopped.
    pub(crate) failure: Option<Failure>,
}

/// Runs the plan on `jobs` threads, the largest cases first, until `stop` is set. The first failure ends
/// it; what is done is kept.
///
/// Threads that are still at work when it ends are left behind: they end with the process.
pub(crate) fn run(
    plan: &Arc<Plan>,
    jobs: usize,
    runner: Runner,
    stop: &'static AtomicBool,
    told: &mut dyn FnMut(Told<'_>),
) -> Outcome {
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
                let failed = result.is_err();
                if sender.send(Message::Done(index, Box::new(result))).is_err() || failed {
                    return;
                }
            }
        });
    }
    drop(sender);
    let mut done: Vec<Option<RunReport>> = vec![None; plan.cases.len()];
    let mut begun = vec![false; plan.cases.len()];
    let (mut weight_done, mut failure) = (0, None);
    let mut take = |message: Message| match message {
        Message::Begins(index) => {
            let name = plan.cases.get(index).map(|&case| plan.name(case));
            begun.iter_mut().skip(index).take(1).for_each(|begun| *begun = true);
            told(Told::Begins(&name.unwrap_or_default()));
        }
        Message::Done(index, result) => match (*result, done.get_mut(index)) {
            (Ok(report), Some(place)) => {
                *place = Some(report);
                weight_done += weight(index);
                told(Told::Done(weight_done));
            }
            (Err(error), _) if failure.is_none() => failure = Some((index, error)),
            _ => {}
        },
    };
    let mut more = true;
    while more && !stop.load(Ordering::SeqCst) {
        match receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(message) => {
                more = !matches!(&message, Message::Done(_, result) if result.is_err());
                take(message);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => more = false,
        }
    }
    // What was finished before the end was heard of is done too.
    receiver.try_iter().for_each(&mut take);
    let failed = failure.as_ref().map(|(index, _)| *index);
    let cut = (0..plan.cases.len()).filter(|&index| {
        let at = |list: &[bool]| list.get(index).copied().unwrap_or(false);
        at(&begun) && done.get(index).is_some_and(Option::is_none) && failed != Some(index)
    });
    Outcome {
        cut: cut.filter_map(|index| plan.cases.get(index).copied()).collect(),
        failure: failure.map(|(_, failure)| failure),
        done: plan.cases.iter().copied().zip(done).filter_map(|(c, r)| Some((c, r?))).collect(),
    }
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
            let mut outcome = run(&plan, jobs, lab, &NEVER, &mut |_| {});
            assert!(outcome.cut.is_empty() && outcome.failure.is_none());
            for (_, report) in &mut outcome.done {
                report.wall_s = 0.0;
            }
            outcome.done
        };
        let one = run(1);
        assert_eq!(one.iter().map(|(case, _)| *case).collect::<Vec<_>>(), plan.cases);
        assert_eq!(one, run(3));
    }

    #[test]
    fn what_is_done_is_kept_when_it_is_stopped() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let plan = plan(50);
        let (mut begun, mut told_done) = (0, 0);
        let outcome = run(&plan, 2, lab, &STOP, &mut |told| match told {
            Told::Begins(_) => begun += 1,
            Told::Done(_) => {
                told_done += 1;
                STOP.store(true, Ordering::SeqCst);
            }
        });
        // All that was told of is kept, and what else had begun is said to be cut.
        assert!(told_done >= 1);
        assert_eq!(outcome.done.len(), told_done);
        assert_eq!(outcome.cut.len(), begun - told_done);
        assert!(outcome.done.iter().all(|(case, _)| !outcome.cut.contains(case)));
    }

    /// A run that ends after Ctrl-C and before anybody looks is not lost.
    #[test]
    fn what_ends_with_the_stop_is_kept() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let stops = |setup: &Setup| {
            let report = lab(setup);
            STOP.store(true, Ordering::SeqCst);
            // Long enough for the other side to see it, were it not to wait for what it was sent.
            thread::sleep(Duration::from_millis(1));
            report
        };
        let plan = plan(50);
        let mut kept = 0;
        for _ in 0..5 {
            STOP.store(false, Ordering::SeqCst);
            let outcome = run(&plan, 1, stops, &STOP, &mut |_| {});
            assert_eq!(outcome.done.len() + outcome.cut.len(), 1);
            kept += outcome.done.len();
        }
        println!("kept {kept} of 5");
    }

    #[test]
    fn the_first_failure_ends_it_and_costs_nothing_that_is_done() {
        let fails = |setup: &Setup| match setup.seed {
            3 => Err(Failure::Unsupported("no".into())),
            _ => lab(setup),
        };
        let outcome = run(&plan(5), 1, fails, &NEVER, &mut |_| {});
        assert_eq!(outcome.failure, Some(Failure::Unsupported("no".into())));
        // Of each policy seeds are run in turn: two of the first one were done.
        assert_eq!(outcome.done.len(), 2);
        assert!(outcome.cut.is_empty());
    }
}
