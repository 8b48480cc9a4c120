// SPDX-License-Identifier: MIT OR GPL-2.0
//! What can be set while the module is loaded, by the same names as when it is loaded.

use kernel::prelude::*;

use crate::rmpopt_core::{table, Config, MICROSECOND, MILLISECOND};

/// A number of [`Config`].
#[derive(Clone, Copy)]
pub(crate) struct Tunable {
    pub(crate) name: &'static str,
    least: u32,
    /// Of the configuration, for one of the number's unit.
    unit: u64,
    field: Field,
}

#[derive(Clone, Copy)]
enum Field {
    Wide(fn(&mut Config) -> &mut u64),
    Word(fn(&mut Config) -> &mut u32),
    Half(fn(&mut Config) -> &mut u16),
}

const fn time(
    name: &'static str,
    least: u32,
    unit: u64,
    field: fn(&mut Config) -> &mut u64,
) -> Tunable {
    Tunable { name, least, unit, field: Field::Wide(field) }
}

/// All of them.
pub(crate) const TUNABLES: [Tunable; 11] = [
    time("delay_ms", 0, MILLISECOND, |config| &mut config.delay_ns),
    time("bound_ms", 0, MILLISECOND, |config| &mut config.bound_ns),
    time("merge_ms", 0, MILLISECOND, |config| &mut config.merge_ns),
    time("follow_ms", 0, MILLISECOND, |config| &mut config.follow_ns),
    time("tick_ms", 1, MILLISECOND, |config| &mut config.tick_ns),
    time("hold_us", 1, MICROSECOND, |config| &mut config.hold_ns),
    time("slow_us", 0, MICROSECOND, |config| &mut config.slow_ns),
    Tunable {
        name: "followers",
        least: 1,
        unit: 1,
        field: Field::Half(|config| &mut config.followers_at_once),
    },
    time("audit_ms", 0, MILLISECOND, |config| &mut config.audit_ns),
    time("cap_ms", 0, MILLISECOND, |config| &mut config.cap_ns_per_minute),
    Tunable {
        name: "sweep",
        least: 0,
        unit: 1,
        field: Field::Word(|config| &mut config.sweep_per_second),
    },
];

impl Tunable {
    /// Its value, in its unit.
    pub(crate) fn get(self, mut config: Config) -> u64 {
        match self.field {
            // The units are constants above 0.
            Field::Wide(field) => (*field(&mut config)).checked_div(self.unit).unwrap_or(0),
            Field::Word(field) => u64::from(*field(&mut config)),
            Field::Half(field) => u64::from(*field(&mut config)),
        }
    }

    /// Puts a number as text in its place.
    pub(crate) fn set(self, config: &mut Config, text: &str) -> Result {
        let most =
            if matches!(self.field, Field::Half(_)) { u32::from(u16::MAX) } else { u32::MAX };
        let value = table::read_number(text.as_bytes());
        let Some(value) = value.filter(|value| (self.least..=most).contains(value)) else {
            pr_err!("{} is \"{text}\", expected {} to {most}\n", self.name, self.least);
            return Err(EINVAL);
        };
        match self.field {
            Field::Wide(field) => *field(config) = u64::from(value).saturating_mul(self.unit),
            Field::Word(field) => *field(config) = value,
            Field::Half(field) => *field(config) = value as u16,
        }
        Ok(())
    }
}
