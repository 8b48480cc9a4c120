// SPDX-License-Identifier: MIT OR GPL-2.0
//! Being told of modules that come and go.

use kernel::{bindings, error::to_result, prelude::*, types::Opaque};

/// Whether a module of this name is loaded. One that is being loaded is told of as live later.
pub(crate) fn is_loaded(name: &CStr) -> bool {
    let ours = <crate::RmpoptModule as kernel::ModuleMetadata>::THIS_MODULE.as_ptr();
    // SAFETY: Our own module is one of the set's objects for as long as this code runs, so that the set
    // is there; the name ends in NUL; the reference that was taken is given back.
    unsafe {
        let found = bindings::kset_find_obj((*ours).mkobj.kobj.kset, name.as_char_ptr());
        if !found.is_null() {
            bindings::kobject_put(found);
        }
        !found.is_null()
    }
}

/// What is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Its code is there and has not run.
    Coming,
    /// It is loaded.
    Live,
    /// Its code is about to go.
    Going,
}

/// Whoever is told.
pub(crate) trait Watcher: Sync {
    /// A module comes or goes. May sleep.
    fn module(&self, name: &CStr, news: News);
}

/// A notifier; told from [`Self::start`] until it is dropped.
#[repr(C)]
pub(crate) struct Watch<W: Watcher> {
    block: Opaque<bindings::notifier_block>,
    watcher: *const W,
    started: core::sync::atomic::AtomicBool,
}

// SAFETY: The kernel locks its chain; the watcher is `Sync`, and followed by the callback only.
unsafe impl<W: Watcher> Send for Watch<W> {}
// SAFETY: As above.
unsafe impl<W: Watcher> Sync for Watch<W> {}

impl<W: Watcher> Watch<W> {
    /// Not started.
    ///
    /// # Safety
    ///
    /// `watcher` must be valid from [`Self::start`] until the watch is dropped or stopped.
    pub(super) unsafe fn new(watcher: *const W) -> Result<KBox<Self>> {
        let block = Opaque::zeroed();
        let started = core::sync::atomic::AtomicBool::new(false);
        Ok(KBox::new(Self { block, watcher, started }, GFP_KERNEL)?)
    }

    /// From now on the watcher is told. Once.
    pub(crate) fn start(&self) -> Result {
        let block = self.block.get();
        // SAFETY: The block is zeroed, stays in its box, and is in no chain.
        to_result(unsafe {
            (*block).notifier_call = Some(call::<W>);
            bindings::register_module_notifier(block)
        })?;
        self.started.store(true, core::sync::atomic::Ordering::Release);
        Ok(())
    }

    /// The watcher is not told any more; a call that runs is waited for.
    pub(crate) fn stop(&self) {
        if self.started.swap(false, core::sync::atomic::Ordering::AcqRel) {
            // SAFETY: The block was registered by `start` and is unregistered once.
            unsafe { bindings::unregister_module_notifier(self.block.get()) };
        }
    }
}

impl<W: Watcher> Drop for Watch<W> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// # Safety
///
/// `block` must be the first field of a started [`Watch`], `module` a `struct module`.
unsafe extern "C" fn call<W: Watcher>(
    block: *mut bindings::notifier_block,
    news: kernel::ffi::c_ulong,
    module: *mut core::ffi::c_void,
) -> kernel::ffi::c_int {
    let news = match news as u32 {
        bindings::module_state_MODULE_STATE_COMING => News::Coming,
        bindings::module_state_MODULE_STATE_LIVE => News::Live,
        bindings::module_state_MODULE_STATE_GOING => News::Going,
        _ => return 0,
    };
    // SAFETY: By the contract; a module's name ends in NUL.
    unsafe {
        let name =
            CStr::from_char_ptr((&raw const (*module.cast::<bindings::module>()).name).cast());
        let watch = &*block.cast::<Watch<W>>();
        (*watch.watcher).module(name, news);
    }
    0
}
