//! Several machines at once: each keeps one CPU busy.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Result;

use super::{Args, Machine};
use crate::kernel_env::KernelEnv;

/// Begins a line on what went wrong beside other machines and not alone.
pub(crate) const ONLY_TOGETHER: &str = "not when alone: ";

/// Boots these machines, as many at once as there are CPUs or as was asked for; what went wrong in
/// them, in their order.
pub(super) fn boot(
    args: &Args,
    env: &KernelEnv,
    checker: &Path,
    machines: &[&Machine],
) -> Result<Vec<String>> {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let at_once = args.jobs.unwrap_or(cpus).clamp(1, machines.len().max(1));
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    let work = || {
        while let Some(machine) = machines.get(next.fetch_add(1, Ordering::Relaxed)) {
            let place = machines.iter().position(|other| std::ptr::eq(*other, *machine));
            let tested = machine.test(args, env, checker);
            // Nobody panics while holding it.
            let mut outcomes = outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let wrong = tested.map(|(told, wrong)| {
                print!("{told}");
                wrong
            });
            outcomes.push((place, wrong));
        }
    };
    thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(work))));
    let mut outcomes = outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    outcomes.sort_by_key(|(place, _)| *place);
    let mut all = Vec::new();
    for (place, wrong) in outcomes {
        let wrong = wrong?;
        let again = place.and_then(|place| machines.get(place)).filter(|_| args.again);
        match again.filter(|_| !wrong.is_empty()) {
            Some(machine) => all.extend(alone(args, env, checker, machine, wrong)?),
            None => all.extend(wrong),
        }
    }
    Ok(all)
}

/// Boots a machine once more, with nothing beside it: what goes wrong then counts.
fn alone(
    args: &Args,
    env: &KernelEnv,
    checker: &Path,
    machine: &Machine,
    before: Vec<String>,
) -> Result<Vec<String>> {
    println!("machine {}: once more, alone", machine.name);
    let (told, wrong) = machine.test(args, env, checker)?;
    print!("{told}");
    if wrong.is_empty() {
        for line in before {
            println!("{ONLY_TOGETHER}{line}");
        }
    }
    Ok(wrong)
}
