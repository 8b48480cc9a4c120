// SPDX-License-Identifier: MIT OR GPL-2.0
//! What the operator set when the module was loaded.

use kernel::prelude::*;

use crate::masks::{Mask, Masks};
use crate::module_parameters as given;
use crate::rmpopt_core::{Config, MICROSECOND, MILLISECOND};
use crate::sys::text::{self, text_parameter, Text};

text_parameter!(CPUS, "cpus", "CPUs on which RMPOPT may run, as 0-3,7; default all");
text_parameter!(LEADERS, "leaders", "CPUs whose cores may lead, as 0-3,7; default all");
text_parameter!(POLICY, "policy", "tracked (default) or v10");

/// A policy's name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyName {
    Tracked,
    V10,
}

/// The policy asked for. On its own, as [`masks`].
#[inline(never)]
pub(crate) fn policy() -> Result<PolicyName> {
    match POLICY.read(&mut [0; text::LONGEST]) {
        "" | "tracked" => Ok(PolicyName::Tracked),
        "v10" => Ok(PolicyName::V10),
        other => {
            pr_err!("parameter policy is \"{other}\", expected tracked or v10\n");
            Err(EINVAL)
        }
    }
}

/// The CPUs that the operator allows. On its own: its words pass over the stack of no one else.
#[inline(never)]
pub(crate) fn masks() -> Result<KBox<Masks>> {
    let mask = |name: &str, given: &Text| Mask::new(name, given.read(&mut [0; text::LONGEST]));
    let (work, lead) = (mask("cpus", &CPUS)?, mask("leaders", &LEADERS)?);
    Ok(KBox::new(Masks { work, lead }, GFP_KERNEL)?)
}

/// `tracked`'s parameters.
pub(crate) fn config() -> Config {
    let milliseconds = |given: u32| u64::from(given).saturating_mul(MILLISECOND);
    let microseconds = |given: u32| u64::from(given).saturating_mul(MICROSECOND);
    Config {
        delay_ns: milliseconds(given::delay_ms.value()),
        bound_ns: milliseconds(given::bound_ms.value()),
        merge_ns: milliseconds(given::merge_ms.value()),
        follow_ns: milliseconds(given::follow_ms.value()),
        tick_ns: milliseconds(given::tick_ms.value().max(1)),
        hold_ns: microseconds(given::hold_us.value()),
        slow_ns: microseconds(given::slow_us.value()),
        followers_at_once: given::followers.value(),
        audit_ns: milliseconds(given::audit_ms.value()),
        cap_ns_per_minute: milliseconds(given::cap_ms.value()),
        sweep_per_second: 0,
        trust_base_clear: given::trust_base_clear.value(),
        ..Config::default()
    }
}
