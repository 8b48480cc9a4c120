#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

pub mod boot;
pub mod calibrate;
mod choose;
pub mod cost;
mod engine;
mod error;
pub mod memory;
pub mod percentile;
pub mod placement;
mod policies;
pub mod report;
pub mod rmp;
mod runs;
pub mod scenario;
mod seeded;
mod stream;
pub mod topology;
pub mod words;

pub use self::choose::{in_sample, snp_guests};
pub use self::engine::{Live, LiveGuest, LiveLife, LiveStatus};
pub use self::error::LabError;
pub use self::seeded::{Defect, Seeded};
pub use self::stream::guests as guests_of_stream;

use self::report::RunReport;
use self::scenario::{Progress, Setup};

/// Runs a scenario to its end. The same setup gives the same report; `wall_s` is left 0 for the
/// caller to fill in.
pub fn run(setup: &Setup, progress: &mut dyn FnMut(Progress)) -> Result<RunReport, LabError> {
    run_with_defects(setup, &[], progress)
}

/// As [`run`], but no broadcast is worked out for all its CPUs at once. The report is the same; that
/// this is so is what it is for.
pub fn run_cpu_by_cpu(
    setup: &Setup,
    progress: &mut dyn FnMut(Progress),
) -> Result<RunReport, LabError> {
    let posted = engine::Posted { cpu_by_cpu: true, ..engine::Posted::default() };
    let mut engine = engine::Engine::build(setup, &[], posted)?;
    engine.run(progress)?;
    Ok(engine.report())
}

/// As [`run`], with defects seeded: the laws' checks must see them.
pub fn run_with_defects(
    setup: &Setup,
    defects: &[Seeded],
    progress: &mut dyn FnMut(Progress),
) -> Result<RunReport, LabError> {
    let mut engine = engine::Engine::new(setup, defects)?;
    engine.run(progress)?;
    Ok(engine.report())
}
