// SPDX-License-Identifier: MIT OR GPL-2.0
//! Being told that the machine goes down or to sleep.

use core::sync::atomic::{AtomicBool, Ordering};

use kernel::ffi::{c_int, c_ulong};
use kernel::{bindings, error::to_result, prelude::*, types::Opaque};

/// The machine is about to sleep: `PM_HIBERNATION_PREPARE`, `PM_SUSPEND_PREPARE`.
const SLEEP: [c_ulong; 2] = [1, 3];
/// `NOTIFY_BAD`: what is about to happen must not.
const REFUSED: c_int = 0x8002;

unsafe extern "C" {
    fn register_reboot_notifier(block: *mut bindings::notifier_block) -> c_int;
    fn unregister_reboot_notifier(block: *mut bindings::notifier_block) -> c_int;
}

/// Whoever is told.
pub(crate) trait Resident: Sync {
    /// The machine reboots, halts or starts another kernel. May sleep.
    fn going_down(&self);
    /// Whether it may sleep now. May sleep itself.
    fn may_sleep(&self) -> bool;
}

/// Two notifiers; told from [`Self::start`] until they are stopped or dropped.
pub(crate) struct Notice<R: Resident> {
    down: Block<R>,
    sleep: Block<R>,
    started: AtomicBool,
}

#[repr(C)]
struct Block<R: Resident> {
    block: Opaque<bindings::notifier_block>,
    resident: *const R,
}

// SAFETY: The kernel locks its chains; the resident is `Sync`, and followed by callbacks only.
unsafe impl<R: Resident> Send for Notice<R> {}
// SAFETY: As above.
unsafe impl<R: Resident> Sync for Notice<R> {}

impl<R: Resident> Notice<R> {
    /// Not started.
    ///
    /// # Safety
    ///
    /// `resident` must be valid from [`Self::start`] until the notice is dropped or stopped.
    pub(super) unsafe fn new(resident: *const R) -> Result<KBox<Self>> {
        let block = || Block { block: Opaque::zeroed(), resident };
        let notice = Self { down: block(), sleep: block(), started: AtomicBool::new(false) };
        Ok(KBox::new(notice, GFP_KERNEL)?)
    }

    /// From now on the resident is told. Once.
    pub(crate) fn start(&self) -> Result {
        // SAFETY: The blocks are zeroed, stay in their box, and are in no chain.
        unsafe {
            (*self.down.block.get()).notifier_call = Some(down::<R>);
            (*self.sleep.block.get()).notifier_call = Some(sleep::<R>);
            to_result(register_reboot_notifier(self.down.block.get()))?;
            if let Err(error) = to_result(bindings::register_pm_notifier(self.sleep.block.get())) {
                unregister_reboot_notifier(self.down.block.get());
                return Err(error);
            }
        }
        self.started.store(true, Ordering::Release);
        Ok(())
    }

    /// The resident is not told any more; calls that run are waited for.
    pub(crate) fn stop(&self) {
        if self.started.swap(false, Ordering::AcqRel) {
            // SAFETY: Both were registered by `start` and are unregistered once.
            unsafe {
                bindings::unregister_pm_notifier(self.sleep.block.get());
                unregister_reboot_notifier(self.down.block.get());
            }
        }
    }
}

impl<R: Resident> Drop for Notice<R> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// # Safety
///
/// `block` must be the first field of a registered [`Block`].
unsafe extern "C" fn down<R: Resident>(
    block: *mut bindings::notifier_block,
    _: c_ulong,
    _: *mut core::ffi::c_void,
) -> c_int {
    // SAFETY: By the contract.
    unsafe { (*(*block.cast::<Block<R>>()).resident).going_down() };
    0
}

/// # Safety
///
/// As for [`down`].
unsafe extern "C" fn sleep<R: Resident>(
    block: *mut bindings::notifier_block,
    news: c_ulong,
    _: *mut core::ffi::c_void,
) -> c_int {
    if !SLEEP.contains(&news) {
        return 0;
    }
    // SAFETY: By the contract.
    let may = unsafe { (*(*block.cast::<Block<R>>()).resident).may_sleep() };
    if may {
        0
    } else {
        REFUSED
    }
}
