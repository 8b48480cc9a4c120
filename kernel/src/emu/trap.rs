// SPDX-License-Identifier: MIT OR GPL-2.0
//! `emulate=trap`: RMPOPT's bytes are really executed, and what they do is the model's answer to the
//! exception they raise.

use core::fmt::{self, Write};

use kernel::interrupt::local_interrupt_disable;
use kernel::prelude::*;
use kernel::sync::Arc;

use super::Emulated;
use crate::driver::Driver;
use crate::snp_defs::{RmpoptFunction, Spa};
use crate::sys::crew::Crew;
use crate::sys::files::{Out, Rows};
use crate::sys::{cpu, insn, ipi, trap};
use crate::topology::Topology;

/// The answering model.
pub(crate) struct Silicon {
    model: Arc<Emulated>,
    topology: Topology,
}

impl trap::Answers for Silicon {
    fn answer(&self, cpu: u32, rax: u64, rcx: u64) -> Option<bool> {
        let core = self.topology.core_of(cpu)?;
        let functions = [RmpoptFunction::Verify, RmpoptFunction::Report];
        let function = functions.into_iter().find(|function| function.rcx() == rcx)?;
        self.model.rmpopt(core, Spa::new(rax)?.region(), function).ok()
    }
}

/// The instruction, answered by a model.
pub(crate) type Trap = trap::Trap<Silicon>;

/// From now on the instruction is answered by this model, if every CPU that is there must raise
/// `#UD` for it; else one line in the log and `ENODEV`.
pub(crate) fn begin(model: &Arc<Emulated>) -> Result<Trap> {
    for number in (0..cpu::limit()).filter(|&number| cpu::is_present(number)) {
        let neither = core::sync::atomic::AtomicBool::new(false);
        // One that is offline cannot be asked, and so does not show it.
        if cpu::is_online(number) {
            let ask = || {
                let here = local_interrupt_disable();
                let shown = insn::knows_neither(&here);
                neither.store(shown, core::sync::atomic::Ordering::Release);
            };
            ipi::on_cpu(number, &ask)?;
        }
        if !neither.into_inner() {
            pr_err!(
                "not loaded: emulate=trap needs CPUs with neither RMPOPT nor CLZERO, CPU {number} \
                 does not show that\n"
            );
            return Err(ENODEV);
        }
    }
    let silicon = Silicon { model: model.clone(), topology: Topology::read()? };
    trap::Trap::new(Arc::new(silicon, GFP_KERNEL)?)
}

/// `trapped`: how often RMPOPT's bytes were executed and raised an exception.
pub(super) struct Trapped;

impl Rows for Trapped {
    type Data = Crew<Driver>;
    const NAME: &'static CStr = c"trapped";

    fn count(_: &Crew<Driver>) -> u64 {
        1
    }

    fn row(crew: &Crew<Driver>, _: u64, out: &mut Out<'_>) -> fmt::Result {
        writeln!(out, "trapped {}", crew.hardware.trapped())
    }
}
