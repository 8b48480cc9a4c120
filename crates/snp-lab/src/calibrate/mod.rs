//! The costs held against what AMD posted: three figures are fitted, three predicted.
//!
//! Every simulated figure comes out of a run of the lab (`machine`). Fitted are `ipi_send_target` on
//! 95 ms, `rmpopt_slow` on 311 ms and `rmpopt_fast` on the serial mean of 5,226 cycles; everything else
//! is what it was given as. Figures: spec/rmpopt.md 1, spec/performance.md, corrections.

mod fit;
mod loops;
mod machine;
mod report;

use self::machine::Measured;
use crate::cost::{CostModel, Parallel};
use crate::error::LabError;

pub use self::report::{Calibration, Excluded, Fitted, Reading, Row};

/// Cycles of the time stamp counter per microsecond: the posted serial pass took 63.8 G cycles in
/// about 32 s of its log.
pub const CYCLES_PER_US: u64 = 2_000;

/// How far a predicted figure may be off.
pub const TOLERANCE: f64 = 0.15;

/// For each reading of the parallel slowdown fits three of `costs`, then predicts. `step` is told what
/// is being done.
pub fn calibrate(costs: CostModel, step: &mut dyn FnMut(&str)) -> Result<Calibration, LabError> {
    let mut all = Calibration::new();
    for parallel in Parallel::ALL {
        let fitted = fit::fit(CostModel { parallel, ..costs }, step)?;
        step(&format!("{parallel}: predicting"));
        let costs = fitted.costs;
        let cold = machine::measure(Measured::Parallel, costs)?;
        let runs = report::Runs {
            heads: fitted.heads,
            clean: fitted.clean,
            serial: fitted.serial,
            guests: machine::measure(Measured::GuestsLeaderFirst, costs)?,
            guests_all: machine::measure(Measured::GuestsAllAtOnce, costs)?,
            // Under contention RMPOPTs are slow although they find a result: that is what it says.
            parallel: match parallel {
                Parallel::Misses => cold,
                Parallel::Contention => machine::measure(Measured::ParallelAgain, costs)?,
            },
            cold,
        };
        report::add(&mut all, costs, &runs);
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
