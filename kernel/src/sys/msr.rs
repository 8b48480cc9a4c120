// SPDX-License-Identifier: MIT OR GPL-2.0
//! Model-specific registers of real CPUs. A `#GP` is an error, not an oops.

use kernel::{bindings, error::to_result, prelude::*};

/// Reads a register on a CPU that is online. By interrupt if it is another one; interrupts are on.
pub(crate) fn read(cpu: u32, register: u32) -> Result<u64> {
    let mut value = 0;
    // SAFETY: The pointer is valid for the call, which waits; the function handles faults.
    to_result(unsafe { bindings::rdmsrq_safe_on_cpu(cpu, register, &raw mut value) })?;
    Ok(value)
}

/// Writes `RMPOPT_BASE` and nothing else: what another register does is not ours to know.
pub(crate) fn write_rmpopt_base(cpu: u32, base: crate::snp_defs::RmpoptBase) -> Result {
    let register = crate::snp_defs::msr::RMPOPT_BASE;
    // SAFETY: The register only concerns RMPOPT, and its value is well-formed by its type; the
    // function handles faults.
    to_result(unsafe { bindings::wrmsrq_safe_on_cpu(cpu, register, base.raw()) })
}
