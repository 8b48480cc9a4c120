// SPDX-License-Identifier: MIT OR GPL-2.0
//! Delayed work that can be cancelled: the kernel crate's own has no cancel.

use core::ptr::NonNull;

use kernel::{bindings, prelude::*, static_lock_class, time::msecs_to_jiffies, types::Opaque};

/// Of the queue and of what is queued.
const NAME: &CStr = c"rmpopt_spike";
const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;

/// What a [`Ticker`] does each time.
pub(crate) trait Turn: Send + Sync {
    /// Does what is due; returns after how many nanoseconds to come back, `None` for never.
    fn turn(&self) -> Option<u64>;
}

/// A work queue of our own.
struct Queue(NonNull<bindings::workqueue_struct>);

// SAFETY: Work may be put on a work queue, and the queue be destroyed, from any thread.
unsafe impl Send for Queue {}
// SAFETY: As above.
unsafe impl Sync for Queue {}

impl Queue {
    fn new() -> Result<Self> {
        let flags = bindings::wq_flags_WQ_UNBOUND | bindings::wq_flags_WQ_MEM_RECLAIM;
        // SAFETY: The format takes one string, which is given; both end in NUL and are static.
        let queue = unsafe {
            bindings::alloc_workqueue_noprof(c"%s".as_char_ptr(), flags, 0, NAME.as_char_ptr())
        };
        NonNull::new(queue).map(Self).ok_or(ENOMEM)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: The queue came from `alloc_workqueue_noprof` and is destroyed once. The only work
        // ever put on it is the ticker's, which is cancelled before the queue is dropped.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}

/// The kernel's structure.
#[repr(transparent)]
struct DelayedWork(Opaque<bindings::delayed_work>);

// SAFETY: A delayed work may be queued and cancelled from any thread; the kernel locks it.
unsafe impl Send for DelayedWork {}
// SAFETY: As above.
unsafe impl Sync for DelayedWork {}

impl DelayedWork {
    /// A delayed work whose timer queues it and whose work calls [`run`].
    fn new<T: Turn>() -> impl PinInit<Self> {
        let init = |place: *mut Self| {
            let work = place.cast::<bindings::delayed_work>();
            // SAFETY: `place` points at memory for a delayed work; names and keys are static.
            unsafe {
                bindings::init_work_with_key(
                    &raw mut (*work).work,
                    Some(run::<T>),
                    false,
                    NAME.as_char_ptr(),
                    static_lock_class!().as_ptr(),
                );
                bindings::timer_init_key(
                    &raw mut (*work).timer,
                    Some(bindings::delayed_work_timer_fn),
                    bindings::TIMER_IRQSAFE,
                    NAME.as_char_ptr(),
                    static_lock_class!().as_ptr(),
                );
            }
            Ok(())
        };
        // SAFETY: The closure initialises all of the structure and never fails.
        unsafe { pin_init::pin_init_from_closure(init) }
    }
}

/// Calls [`Turn::turn`] in a worker, again and again, at the times it asks for.
#[pin_data(PinnedDrop)]
pub(crate) struct Ticker<T: Turn> {
    #[pin]
    work: DelayedWork,
    queue: Queue,
    #[pin]
    turn: T,
}

impl<T: Turn> Ticker<T> {
    /// Nothing runs before [`Self::start`].
    pub(crate) fn new(turn: impl PinInit<T, Error>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            work <- DelayedWork::new::<T>(),
            queue: Queue::new()?,
            turn <- turn,
        })
    }

    /// The first turn comes at once.
    pub(crate) fn start(&self) {
        self.come_back(0);
    }

    /// Cancels what is to come and waits for what is running; nothing comes after it.
    pub(crate) fn stop(&self) {
        // SAFETY: The work was initialised when the ticker was made.
        unsafe { bindings::cancel_delayed_work_sync(self.work.0.get()) };
    }

    /// What is called.
    pub(crate) fn turn(&self) -> &T {
        &self.turn
    }

    fn come_back(&self, nanoseconds: u64) {
        let milliseconds = nanoseconds.div_ceil(NANOSECONDS_PER_MILLISECOND);
        let milliseconds = u32::try_from(milliseconds).unwrap_or(u32::MAX);
        // SAFETY: Queue and work are valid as long as the ticker; whoever drops the ticker cancels
        // the work first, and while a cancellation waits the kernel refuses to queue it.
        unsafe {
            bindings::mod_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as kernel::ffi::c_int,
                self.queue.0.as_ptr(),
                self.work.0.get(),
                msecs_to_jiffies(milliseconds),
            )
        };
    }
}

#[pinned_drop]
impl<T: Turn> PinnedDrop for Ticker<T> {
    fn drop(self: Pin<&mut Self>) {
        self.stop();
    }
}

/// The work's function.
///
/// # Safety
///
/// `work` must be the work of a pinned `Ticker<T>` that lives until the work is cancelled.
unsafe extern "C" fn run<T: Turn>(work: *mut bindings::work_struct) {
    // SAFETY: By the contract `work` lies in the `work` field of a ticker.
    let ticker = unsafe {
        let delayed = kernel::container_of!(work, bindings::delayed_work, work);
        &*kernel::container_of!(delayed.cast::<DelayedWork>(), Ticker<T>, work)
    };
    if let Some(nanoseconds) = ticker.turn.turn() {
        ticker.come_back(nanoseconds);
    }
}
