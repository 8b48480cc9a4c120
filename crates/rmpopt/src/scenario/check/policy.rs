//! The policy's settings.

use snp_lab::scenario::{PolicySpec, limits};

use super::super::raw::RawPolicy;
use super::{Check, Checked, HOUR, MILLI, SECOND};
use crate::units::exact_duration;

impl Check<'_> {
    pub(super) fn policy(&self, raw: &RawPolicy) -> Checked<PolicySpec> {
        let delay = self.maybe_duration(raw.delay.as_ref(), 0..=HOUR)?;
        let bound = self.maybe_duration(raw.bound.as_ref(), MILLI..=24 * HOUR)?;
        if let (Some(delay), Some(bound), Some(written)) = (delay, bound, &raw.bound)
            && bound < delay
        {
            let (bound, delay) = (exact_duration(bound), exact_duration(delay));
            let message = format!("expected at least the delay of {delay}, found {bound}");
            return self.fail(written.span(), message);
        }
        Ok(PolicySpec {
            name: raw.name.map(|n| n.0),
            delay,
            bound,
            budget: self.maybe_duration(raw.budget.as_ref(), 1000..=100 * MILLI)?,
            follow_by: self.maybe_duration(raw.follow_by.as_ref(), 0..=24 * HOUR)?,
            followers: raw
                .followers
                .as_ref()
                .map(|f| self.whole(f, 1..=limits::CORES_MAX))
                .transpose()?,
            audit: self.maybe_duration(raw.audit.as_ref(), 0..=24 * HOUR)?,
            tick: self.maybe_duration(raw.tick.as_ref(), MILLI..=10 * SECOND)?,
        })
    }
}
