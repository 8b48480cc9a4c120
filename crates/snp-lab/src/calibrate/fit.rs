//! The fit: each of three costs belongs to one posted figure that grows with it, so each is moved by
//! what its figure lacks, in turn, until none moves any more. Whole numbers only.

use super::CYCLES_PER_US;
use super::machine::{Measured, Outcome, measure};
use crate::cost::CostModel;
use crate::error::LabError;

/// 2,048 regions, followers on 511 cores.
const REGIONS: i64 = 2_048;
const FOLLOWERS: i64 = 511;
/// Rounds of the fit at most; three are the rule.
const ROUNDS: usize = 8;

pub(super) struct Fit {
    pub(super) costs: CostModel,
    pub(super) heads: Outcome,
    pub(super) clean: Outcome,
    pub(super) serial: Outcome,
}

/// Mean time of the RMPOPTs, in picoseconds.
fn mean_ps(outcome: &Outcome) -> i64 {
    let sum = u128::from(outcome.rmpopts.sum_ns) * 1_000;
    i64::try_from(sum / u128::from(outcome.rmpopts.count.max(1))).unwrap_or(i64::MAX)
}

/// Moves a cost by `by`, within its range. Whether it moved.
fn moved(costs: &mut CostModel, name: &str, by: i64) -> bool {
    let Some(field) = costs.fields().into_iter().find(|field| field.name == name) else {
        return false;
    };
    let value = field.value.saturating_add_signed(by).clamp(field.low, field.high);
    costs.set(name, value);
    value != field.value
}

/// `a / b` to the nearest whole number, for positive `b`.
fn nearest(a: i64, b: i64) -> i64 {
    (2 * a + b).div_euclid(2 * b)
}

pub(super) fn fit(mut costs: CostModel, step: &mut dyn FnMut(&str)) -> Result<Fit, LabError> {
    let mut round = 1;
    loop {
        step(&format!("{}: fitting, round {round}", costs.parallel));
        let lacks =
            |outcome: &Outcome, ms: i64| (ms * 1_000_000).saturating_sub_unsigned(outcome.pass_ns);
        let serial = measure(Measured::Serial, costs)?;
        let posted_ps = 5_226 * 1_000_000 / CYCLES_PER_US.cast_signed();
        let mut any =
            moved(&mut costs, "rmpopt_fast", nearest(posted_ps - mean_ps(&serial), 1_000));
        let heads = measure(Measured::Heads, costs)?;
        let by = nearest(lacks(&heads, 95), REGIONS * FOLLOWERS);
        any |= moved(&mut costs, "ipi_send_target", by);
        let clean = measure(Measured::Clean, costs)?;
        any |= moved(&mut costs, "rmpopt_slow", nearest(lacks(&clean, 311), REGIONS));
        if !any || round == ROUNDS {
            return Ok(Fit { costs, heads, clean, serial });
        }
        round += 1;
    }
}
