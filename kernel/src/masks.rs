// SPDX-License-Identifier: MIT OR GPL-2.0
//! Which CPUs the operator lets RMPOPT run on, and which of them may lead.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use kernel::prelude::*;

use crate::rmpopt_core::table;
use crate::sys::cpu;
use crate::words::Words;

/// A set of CPUs that can be looked at from any context. Writers are serialised.
pub(crate) struct Mask(Words);

impl Mask {
    /// The CPUs of a list such as `0-3,7`; `all`, or nothing: all.
    pub(crate) fn new(name: &str, list: &str) -> Result<Self> {
        let words = (cpu::limit() as usize).div_ceil(64);
        let mask = Self(Words::new(words)?);
        mask.set(&parse(name, list, words)?);
        Ok(mask)
    }

    /// The same CPUs as another from now on.
    pub(crate) fn set(&self, other: &Words) {
        for (to, from) in self.0.all().iter().zip(other.all()) {
            to.store(from.load(Ordering::Relaxed), Ordering::SeqCst);
        }
    }

    pub(crate) fn has(&self, cpu: u32) -> bool {
        has(&self.0, cpu)
    }

    /// As a list.
    pub(crate) fn write(&self, out: &mut dyn Write) -> fmt::Result {
        let cpus = (0..cpu::limit()).filter(|&cpu| self.has(cpu));
        if !table::write_cpu_list(out, cpus)? {
            out.write_str("none")?;
        }
        Ok(())
    }
}

fn has(words: &Words, cpu: u32) -> bool {
    let word = words.all().get((cpu / 64) as usize);
    word.is_some_and(|word| word.load(Ordering::SeqCst) >> (cpu % 64) & 1 == 1)
}

/// CPUs of a list, in so many words; `EINVAL` and a line in the log if it is none, or if no CPU that
/// there is would be left.
pub(crate) fn parse(name: &str, list: &str, words: usize) -> Result<Words> {
    let set = Words::new(words)?;
    let limit = cpu::limit();
    let take = |first: u32, last: u32| {
        for cpu in first..=last.min(limit.saturating_sub(1)) {
            if let Some(word) = set.all().get((cpu / 64) as usize) {
                word.fetch_or(1 << (cpu % 64), Ordering::Relaxed);
            }
        }
    };
    let read = match list {
        "" | "all" => {
            take(0, limit);
            Some(())
        }
        list => table::read_cpu_list(list, take),
    };
    let any = (0..limit).any(|cpu| cpu::is_present(cpu) && has(&set, cpu));
    if read.is_none() || !any {
        pr_err!("{name} is \"{list}\", expected CPUs that there are, as 0-3,7, or all\n");
        return Err(EINVAL);
    }
    Ok(set)
}

/// What the operator allows.
pub(crate) struct Masks {
    /// CPUs on which RMPOPT may run.
    pub(crate) work: Mask,
    /// Those that may lead.
    pub(crate) lead: Mask,
}

impl Masks {
    /// Whether the operator lets `cpu` run RMPOPT.
    pub(crate) fn allows(&self, cpu: u32) -> bool {
        self.work.has(cpu)
    }

    /// The words of a mask.
    pub(crate) fn words(&self) -> usize {
        let all: &[AtomicU64] = self.work.0.all();
        all.len()
    }
}
