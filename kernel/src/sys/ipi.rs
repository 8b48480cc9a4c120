// SPDX-License-Identifier: MIT OR GPL-2.0
//! Calls on other CPUs, by interrupt.

use core::ffi::c_void;

use kernel::cpumask::Cpumask;
use kernel::{bindings, error::to_result, prelude::*};

/// Calls `f` on one CPU, which must be online, and waits. `f` runs with interrupts off.
pub(crate) fn on_cpu<F: Fn() + Sync>(cpu: u32, f: &F) -> Result {
    let cpu = i32::try_from(cpu).map_err(|_| EINVAL)?;
    let info = core::ptr::from_ref(f).cast_mut().cast::<c_void>();
    // SAFETY: `call` gets what it expects, and `f` lives until it has run, as we wait for it.
    to_result(unsafe { bindings::smp_call_function_single(cpu, Some(call::<F>), info, true) })
}

/// Calls `f` on the online CPUs of a mask at once and waits for all.
pub(crate) fn on_mask<F: Fn() + Sync>(mask: &Cpumask, f: &F) {
    let info = core::ptr::from_ref(f).cast_mut().cast::<c_void>();
    // SAFETY: As in `on_cpu`; the mask is valid as long as its reference.
    unsafe { bindings::on_each_cpu_cond_mask(None, Some(call::<F>), info, true, mask.as_raw()) };
}

/// # Safety
///
/// `info` must point at a valid `F`.
unsafe extern "C" fn call<F: Fn() + Sync>(info: *mut c_void) {
    // SAFETY: By the contract.
    unsafe { (*info.cast::<F>())() };
}
