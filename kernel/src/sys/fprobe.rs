// SPDX-License-Identifier: MIT OR GPL-2.0
//! Probes on the entry and the return of a kernel function, by fprobe.
//!
//! Handlers run with preemption off, wherever the function is called: they may set atomics and queue
//! work, and nothing else. Detaching waits for those that run.

use core::ffi::c_void;
use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kernel::ffi::{c_char, c_int, c_ulong};
use kernel::{bindings, error::to_result, prelude::*, types::Opaque};

type Handler = unsafe extern "C" fn(
    *mut RawProbe,
    c_ulong,
    c_ulong,
    *mut bindings::pt_regs,
    *mut c_void,
) -> c_int;

/// `struct fprobe`, which the bindings lack. The kernel's BTF says 48 bytes; `cargo xtask kernel-test`
/// holds these places against it.
#[repr(C)]
struct RawProbe {
    nmissed: c_ulong,
    flags: u32,
    entry_data_size: usize,
    entry_handler: Option<Handler>,
    /// Returns nothing in C; what it returns here is not looked at.
    exit_handler: Option<Handler>,
    hlist_array: *mut c_void,
}

const _: () = assert!(
    size_of::<RawProbe>() == 48
        && offset_of!(RawProbe, entry_data_size) == 16
        && offset_of!(RawProbe, entry_handler) == 24
        && offset_of!(RawProbe, exit_handler) == 32
);

unsafe extern "C" {
    fn register_fprobe_syms(
        probe: *mut RawProbe,
        symbols: *mut *const c_char,
        count: c_int,
    ) -> c_int;
    fn unregister_fprobe(probe: *mut RawProbe) -> c_int;
}

/// The first two arguments of a call.
pub(crate) type Arguments = [u64; 2];

/// Whoever is told of calls.
pub(crate) trait Listener: Sync {
    /// The function of this number was called.
    fn called(&self, number: usize, arguments: Arguments);
    /// It returned.
    fn returned(&self, number: usize, arguments: Arguments, result: u64);
}

/// A probe on one function.
#[repr(C)]
pub(crate) struct Probe<L: Listener> {
    raw: Opaque<RawProbe>,
    listener: *const L,
    number: usize,
    symbol: &'static CStr,
    attached: AtomicBool,
    hits: AtomicU64,
}

// SAFETY: The kernel locks its own structure; the listener is `Sync`, and followed by handlers only.
unsafe impl<L: Listener> Send for Probe<L> {}
// SAFETY: As above.
unsafe impl<L: Listener> Sync for Probe<L> {}

impl<L: Listener> Probe<L> {
    /// A probe on `symbol`, not attached.
    ///
    /// # Safety
    ///
    /// `listener` must be valid from the first [`Self::attach`] until the probe is dropped.
    pub(super) unsafe fn new(
        listener: *const L,
        number: usize,
        symbol: &'static CStr,
    ) -> Result<KBox<Self>> {
        let raw = Opaque::zeroed();
        let (attached, hits) = (AtomicBool::new(false), AtomicU64::new(0));
        Ok(KBox::new(Self { raw, listener, number, symbol, attached, hits }, GFP_KERNEL)?)
    }

    /// Attaches it. Fails if there is no such function now. Callers are serialised; may sleep.
    pub(crate) fn attach(&self) -> Result {
        if self.attached.load(Ordering::Acquire) {
            return Ok(());
        }
        let probe = self.raw.get();
        let mut symbol = self.symbol.as_char_ptr();
        // SAFETY: The structure is not registered, so that it is ours to write; it stays in its box
        // until it is unregistered. The kernel reads the symbols during the call only.
        to_result(unsafe {
            probe.write(RawProbe {
                nmissed: (*probe).nmissed,
                flags: 0,
                entry_data_size: size_of::<Arguments>(),
                entry_handler: Some(entry::<L>),
                exit_handler: Some(exit::<L>),
                hlist_array: core::ptr::null_mut(),
            });
            register_fprobe_syms(probe, &raw mut symbol, 1)
        })?;
        self.attached.store(true, Ordering::Release);
        Ok(())
    }

    /// Detaches it and waits for handlers that run. Callers are serialised; may sleep.
    pub(crate) fn detach(&self) {
        if self.attached.swap(false, Ordering::AcqRel) {
            // SAFETY: It was registered by `attach` and is unregistered once.
            unsafe { unregister_fprobe(self.raw.get()) };
        }
    }

    /// The function's name.
    pub(crate) fn symbol(&self) -> &'static CStr {
        self.symbol
    }

    /// Whether it is attached.
    pub(crate) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    /// Calls seen.
    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Calls that the kernel could not tell us of.
    pub(crate) fn missed(&self) -> u64 {
        // SAFETY: The counter may be read at any time.
        unsafe { core::ptr::read_volatile(&raw const (*self.raw.get()).nmissed) as u64 }
    }
}

impl<L: Listener> Drop for Probe<L> {
    fn drop(&mut self) {
        self.detach();
    }
}

/// Whether the kernel or a loaded module has a function of this name that can be followed, exported or
/// not. May sleep.
pub(crate) fn is_function(name: &CStr) -> bool {
    let mut name = name.as_char_ptr();
    let probe = KBox::new(
        RawProbe {
            nmissed: 0,
            flags: 0,
            entry_data_size: 0,
            entry_handler: Some(nothing),
            exit_handler: None,
            hlist_array: core::ptr::null_mut(),
        },
        GFP_KERNEL,
    );
    let Ok(mut probe) = probe else { return false };
    let probe: *mut RawProbe = &mut *probe;
    // SAFETY: The structure stays in its box until it is unregistered, which waits for its handler.
    unsafe {
        let found = register_fprobe_syms(probe, &raw mut name, 1) == 0;
        if found {
            unregister_fprobe(probe);
        }
        found
    }
}

/// # Safety
///
/// None.
unsafe extern "C" fn nothing(
    _: *mut RawProbe,
    _: c_ulong,
    _: c_ulong,
    _: *mut bindings::pt_regs,
    _: *mut c_void,
) -> c_int {
    0
}

/// # Safety
///
/// `probe` must be the first field of a registered [`Probe`], `registers` hold the arguments of the
/// call, `data` have room for [`Arguments`].
unsafe extern "C" fn entry<L: Listener>(
    probe: *mut RawProbe,
    _: c_ulong,
    _: c_ulong,
    registers: *mut bindings::pt_regs,
    data: *mut c_void,
) -> c_int {
    // SAFETY: By the contract; the listener is valid while the probe is attached.
    unsafe {
        let probe = &*probe.cast::<Probe<L>>();
        let arguments = [(*registers).di as u64, (*registers).si as u64];
        data.cast::<Arguments>().write_unaligned(arguments);
        probe.hits.fetch_add(1, Ordering::Relaxed);
        (*probe.listener).called(probe.number, arguments);
    }
    0
}

/// # Safety
///
/// As for `entry`; `registers` hold the result, `data` what `entry` wrote.
unsafe extern "C" fn exit<L: Listener>(
    probe: *mut RawProbe,
    _: c_ulong,
    _: c_ulong,
    registers: *mut bindings::pt_regs,
    data: *mut c_void,
) -> c_int {
    // SAFETY: By the contract; the listener is valid while the probe is attached.
    unsafe {
        let probe = &*probe.cast::<Probe<L>>();
        let arguments = data.cast::<Arguments>().read_unaligned();
        (*probe.listener).returned(probe.number, arguments, (*registers).ax as u64);
    }
    0
}
