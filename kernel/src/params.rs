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

/// Emulated hardware.
#[cfg(emulate)]
pub(crate) mod emu {
    use super::*;
    use crate::snp_defs::Region;

    text_parameter!(EMULATE, "emulate", "model: hardware is emulated; not given: it is real");
    text_parameter!(MEMORY, "emu_mem", "memory of the emulated host in GiB, as 70G or 2T");
    text_parameter!(CHOICES, "emu_choices", "of base writes and enable edges, as keeps,misses");

    text_parameter!(
        UP,
        "emu_up",
        "SNP is up: fresh (bases 0), left or left:GIB (bases of an earlier load)"
    );

    text_parameter!(
        MARKS,
        "emu_marks",
        "0: changes of the RMP are not followed, as without probes"
    );
    text_parameter!(HOTPLUG, "emu_hotplug", "1: CPUs may go and come while SNP is up");

    /// Whether CPU hotplug stays on while SNP is up.
    #[inline(never)]
    pub(crate) fn hotplug() -> bool {
        HOTPLUG.read(&mut [0; text::LONGEST]) == "1"
    }

    /// Whether changes of the RMP are followed.
    #[inline(never)]
    pub(crate) fn marks() -> bool {
        MARKS.read(&mut [0; text::LONGEST]) != "0"
    }

    /// How the module finds the emulated host.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Found {
        /// SNP is off.
        Down,
        /// SNP is up, no base was written.
        Fresh,
        /// SNP is up, and an earlier driver left bases at this GiB.
        Left(Region),
    }

    /// How the module is to find the emulated host.
    #[inline(never)]
    pub(crate) fn found() -> Result<Found> {
        let mut place = [0; text::LONGEST];
        match UP.read(&mut place) {
            "" => Ok(Found::Down),
            "fresh" => Ok(Found::Fresh),
            "left" => Ok(Found::Left(Region::ZERO)),
            word => {
                let gib = word.strip_prefix("left:").and_then(|gib| gib.parse().ok());
                gib.and_then(Region::new).map(Found::Left).ok_or_else(|| {
                    pr_err!("parameter emu_up is \"{word}\", expected fresh, left or left:GIB\n");
                    EINVAL
                })
            }
        }
    }

    /// Regions that the model has room for.
    const MOST_GIB: u32 = 2048;

    /// Whether the operator asked for emulated hardware.
    #[inline(never)]
    pub(crate) fn wanted() -> Result<bool> {
        match EMULATE.read(&mut [0; text::LONGEST]) {
            "" => Ok(false),
            "model" => Ok(true),
            other => {
                pr_err!("parameter emulate is \"{other}\", expected model\n");
                Err(EINVAL)
            }
        }
    }

    /// GiB of emulated memory.
    #[inline(never)]
    pub(crate) fn gib() -> Result<u32> {
        let mut place = [0; text::LONGEST];
        let word = match MEMORY.read(&mut place) {
            "" => "16G",
            word => word,
        };
        let parsed = match (word.strip_suffix('G'), word.strip_suffix('T')) {
            (Some(gib), _) => gib.parse::<u32>().ok(),
            (_, Some(tib)) => tib.parse::<u32>().ok().and_then(|tib| tib.checked_mul(1024)),
            _ => None,
        };
        match parsed {
            Some(gib) if gib > 0 && gib <= MOST_GIB => Ok(gib),
            _ => {
                pr_err!("parameter emu_mem is \"{word}\", expected 1G to 2T\n");
                Err(EINVAL)
            }
        }
    }

    /// What the emulated hardware does where AMD's manual is not public.
    #[inline(never)]
    pub(crate) fn unit() -> Result<crate::snp_model::UnitConfig> {
        use crate::snp_model::{BaseWrite, EnableToggle, UnitConfig};
        let mut place = [0; text::LONGEST];
        let word = CHOICES.read(&mut place);
        let (base, toggle) = word.split_once(',').unwrap_or((word, ""));
        let base_write = match base {
            "" | "clears" => BaseWrite::Clears,
            "keeps" => BaseWrite::KeepsByIndex,
            "gp" => BaseWrite::Gp,
            _ => return refuse(word),
        };
        let en_toggle = match toggle {
            "" | "clears" => EnableToggle::Clears,
            "keeps" => EnableToggle::Keeps,
            "misses" => EnableToggle::KeepsAndMissesRmpupdate,
            _ => return refuse(word),
        };
        Ok(UnitConfig { base_write, en_toggle, ..UnitConfig::default() })
    }

    fn refuse<T>(word: &str) -> Result<T> {
        pr_err!(
            "parameter emu_choices is \"{word}\", expected clears, keeps or gp for writes of the \
             base, then clears, keeps or misses for the enable bit\n"
        );
        Err(EINVAL)
    }
}
