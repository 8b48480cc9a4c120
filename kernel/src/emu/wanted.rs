// SPDX-License-Identifier: MIT OR GPL-2.0
//! What the module under test is told of emulated hardware.

use kernel::prelude::*;

use crate::sys::text::{self, text_parameter};

text_parameter!(EMULATE, "emulate", "model: hardware is emulated; not given: it is real");
text_parameter!(MARKS, "emu_marks", "0: changes of the RMP are not followed, as without probes");
text_parameter!(HOTPLUG, "emu_hotplug", "1: CPUs may go and come while SNP is up");

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
