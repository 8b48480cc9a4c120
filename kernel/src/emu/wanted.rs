// SPDX-License-Identifier: MIT OR GPL-2.0
//! What the module under test is told of emulated hardware.

use kernel::prelude::*;

use crate::sys::text::{self, text_parameter};

text_parameter!(
    EMULATE,
    "emulate",
    "hardware is emulated: model, or trap (the bytes of RMPOPT are executed, too)"
);
text_parameter!(MARKS, "emu_marks", "0: changes of the RMP are not followed, as without probes");
text_parameter!(HOTPLUG, "emu_hotplug", "1: CPUs may go and come while SNP is up");

/// How hardware is emulated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// RMPOPT is a call of the model.
    Model,
    /// RMPOPT's bytes are executed, and the model answers the exception.
    Trap,
}

/// Whether the operator asked for emulated hardware, and how.
#[inline(never)]
pub(crate) fn wanted() -> Result<Option<Manner>> {
    match EMULATE.read(&mut [0; text::LONGEST]) {
        "" => Ok(None),
        "model" => Ok(Some(Manner::Model)),
        "trap" => Ok(Some(Manner::Trap)),
        other => {
            pr_err!("parameter emulate is \"{other}\", expected model or trap\n");
            Err(EINVAL)
        }
    }
}

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
