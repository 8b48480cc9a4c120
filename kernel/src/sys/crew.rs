// SPDX-License-Identifier: MIT OR GPL-2.0
//! Work queues, work items and timers, and the one they work for.
//!
//! A [`Crew`] holds its owner and, pinned beside it, the kernel structures whose callbacks lead back
//! to it. They cannot outlive it: dropping the crew cancels every one of them first.

use core::marker::PhantomPinned;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicI32, Ordering};

use kernel::{bindings, prelude::*, static_lock_class, time::msecs_to_jiffies, types::Opaque};

use crate::sys::fprobe::{Arguments, Listener, Probe};
use crate::sys::machine::{Notice, Resident};
use crate::sys::modules::{News, Watch, Watcher};

const NAME: &CStr = c"rmpopt";
const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;

/// What is done when work items run, timers fire and CPUs come and go.
pub(crate) trait Owner: Send + Sync + Sized + 'static {
    /// The control work: any CPU, may sleep.
    fn control(crew: &Crew<Self>);
    /// Reports wait: any CPU, may sleep.
    fn reports(crew: &Crew<Self>);
    /// Something happened to SNP: any CPU, may sleep.
    fn events(crew: &Crew<Self>);
    /// The drain of marks: any CPU, may sleep.
    fn drain(crew: &Crew<Self>);
    /// A member's work: may sleep; on the CPU it was queued for, unless that went offline.
    fn work(crew: &Crew<Self>, member: usize);
    /// A member's tick timer, on the CPU it was armed for: softirq, may not sleep.
    fn tick(crew: &Crew<Self>, member: usize);
    /// Functions that can be probed, by number.
    const PROBED: &'static [&'static CStr];
    /// A probed function was called. Anywhere, preemption off.
    fn called(crew: &Crew<Self>, number: usize, arguments: Arguments);
    /// A probed function returned. Anywhere, preemption off.
    fn returned(crew: &Crew<Self>, number: usize, arguments: Arguments, result: u64);
    /// A module comes or goes. May sleep.
    fn module(crew: &Crew<Self>, name: &CStr, news: News);
    /// The machine reboots, halts or starts another kernel. May sleep.
    fn going_down(crew: &Crew<Self>);
    /// Whether the machine may sleep (suspend, hibernate) now. May sleep itself.
    fn may_sleep(crew: &Crew<Self>) -> bool;
    /// A CPU has come online. On that CPU, may sleep.
    fn cpu_online(crew: &Crew<Self>, cpu: u32);
    /// A CPU is about to go offline. On that CPU, may sleep.
    fn cpu_offline(crew: &Crew<Self>, cpu: u32);
}

/// A work queue.
struct Queue(NonNull<bindings::workqueue_struct>);

// SAFETY: Work may be put on a work queue, and the queue be destroyed, from any thread.
unsafe impl Send for Queue {}
// SAFETY: As above.
unsafe impl Sync for Queue {}

impl Queue {
    /// `kind`: per CPU or unbound, one of which the kernel demands.
    fn new(kind: u32) -> Result<Self> {
        let flags = kind | bindings::wq_flags_WQ_MEM_RECLAIM;
        // SAFETY: The format takes one string, which is given; both end in NUL and are static.
        let queue = unsafe {
            bindings::alloc_workqueue_noprof(c"%s".as_char_ptr(), flags, 0, NAME.as_char_ptr())
        };
        NonNull::new(queue).map(Self).ok_or(ENOMEM)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: The queue came from `alloc_workqueue_noprof` and is destroyed once. All work put
        // on it belongs to a crew, whose drop cancels it before its queues are dropped.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}

/// A member of a crew: a work item and a timer.
struct Member<O: Owner> {
    work: Opaque<bindings::work_struct>,
    timer: Opaque<bindings::timer_list>,
    number: usize,
    crew: *const Crew<O>,
}

impl<O: Owner> Member<O> {
    fn new(number: usize, crew: *const Crew<O>) -> Result<KBox<Self>> {
        let member = Self { work: Opaque::zeroed(), timer: Opaque::zeroed(), number, crew };
        let member = KBox::new(member, GFP_KERNEL)?;
        // SAFETY: Both structures lie in the box, where they stay; names and keys are static.
        unsafe {
            bindings::init_work_with_key(
                member.work.get(),
                Some(run_work::<O>),
                false,
                NAME.as_char_ptr(),
                static_lock_class!().as_ptr(),
            );
            bindings::timer_init_key(
                member.timer.get(),
                Some(run_tick::<O>),
                // Deferrable: it does not wake an idle CPU. Pinned: it stays on its CPU.
                bindings::TIMER_DEFERRABLE | bindings::TIMER_PINNED,
                NAME.as_char_ptr(),
                static_lock_class!().as_ptr(),
            );
        }
        Ok(member)
    }
}

/// A delayed work that calls one function of the owner.
fn delayed(run: unsafe extern "C" fn(*mut bindings::work_struct)) -> impl PinInit<Delayed> {
    let init = move |place: *mut Delayed| {
        let work = place.cast::<bindings::delayed_work>();
        // SAFETY: `place` points at memory for a delayed work; names and keys are static.
        unsafe {
            bindings::init_work_with_key(
                &raw mut (*work).work,
                Some(run),
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

#[repr(transparent)]
struct Delayed(Opaque<bindings::delayed_work>);

/// An owner and what works for it.
#[pin_data(PinnedDrop)]
pub(crate) struct Crew<O: Owner> {
    #[pin]
    control: Delayed,
    #[pin]
    reports: Delayed,
    #[pin]
    events: Delayed,
    #[pin]
    drain: Delayed,
    node: Opaque<bindings::hlist_node>,
    /// CPU hotplug state, 0 while CPUs are not watched.
    hotplug: AtomicI32,
    members: KVec<KBox<Member<O>>>,
    probes: KVec<KBox<Probe<Self>>>,
    modules: KBox<Watch<Self>>,
    machine: KBox<Notice<Self>>,
    /// Members' work runs where it is queued.
    bound: Queue,
    /// Control and drain run anywhere.
    free: Queue,
    #[pin]
    owner: O,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The kernel structures may be used from any thread, the kernel locks them; the members'
// pointers are only followed by callbacks, to shared references of the crew; the owner is `Send`.
unsafe impl<O: Owner> Send for Crew<O> {}
// SAFETY: As above; the owner is `Sync`.
unsafe impl<O: Owner> Sync for Crew<O> {}

impl<O: Owner> Deref for Crew<O> {
    type Target = O;

    fn deref(&self) -> &O {
        &self.owner
    }
}

impl<O: Owner> Crew<O> {
    /// A crew of so many members. Nothing runs before it is asked to.
    pub(crate) fn new(owner: impl PinInit<O, Error>, members: usize) -> impl PinInit<Self, Error> {
        try_pin_init!(&this in Self {
            control <- delayed(run_control::<O>),
            reports <- delayed(run_reports::<O>),
            events <- delayed(run_events::<O>),
            drain <- delayed(run_drain::<O>),
            node: Opaque::zeroed(),
            hotplug: AtomicI32::new(0),
            members: Self::members(members, this.as_ptr())?,
            probes: Self::probes_of(this.as_ptr())?,
            // SAFETY: The crew's drop stops the watch before anything else of the crew goes.
            modules: unsafe { Watch::new(this.as_ptr().cast_const()) }?,
            // SAFETY: As for the watch.
            machine: unsafe { Notice::new(this.as_ptr().cast_const()) }?,
            bound: Queue::new(bindings::wq_flags_WQ_PERCPU)?,
            free: Queue::new(bindings::wq_flags_WQ_UNBOUND)?,
            owner <- owner,
            _pin: PhantomPinned,
        })
    }

    fn members(count: usize, crew: *const Self) -> Result<KVec<KBox<Member<O>>>> {
        let mut members = KVec::with_capacity(count, GFP_KERNEL)?;
        for number in 0..count {
            members.push(Member::new(number, crew)?, GFP_KERNEL)?;
        }
        Ok(members)
    }

    fn probes_of(crew: *const Self) -> Result<KVec<KBox<Probe<Self>>>> {
        let mut probes = KVec::with_capacity(O::PROBED.len(), GFP_KERNEL)?;
        for (number, symbol) in O::PROBED.iter().enumerate() {
            // SAFETY: The crew's drop detaches the probes before anything else of the crew goes.
            probes.push(unsafe { Probe::new(crew, number, symbol) }?, GFP_KERNEL)?;
        }
        Ok(probes)
    }

    /// The probes, by number.
    pub(crate) fn probes(&self) -> &[KBox<Probe<Self>>] {
        &self.probes
    }

    /// From now on the owner is told when the machine goes down or to sleep.
    pub(crate) fn watch_machine(&self) -> Result {
        self.machine.start()
    }

    /// From now on the owner is told of modules.
    pub(crate) fn watch_modules(&self) -> Result {
        self.modules.start()
    }

    /// The machine, modules and probed functions are not told of any more.
    pub(crate) fn forget_events(&self) {
        self.machine.stop();
        self.modules.stop();
        for probe in &self.probes {
            probe.detach();
        }
    }

    /// Runs the control work after `ns` nanoseconds, whenever it was to run before.
    pub(crate) fn control_in(&self, ns: u64) {
        self.run_in(&self.control, ns);
    }

    /// Runs the drain after `ns` nanoseconds. May be called with preemption off.
    pub(crate) fn drain_in(&self, ns: u64) {
        self.run_in(&self.drain, ns);
    }

    /// Has events of SNP's life seen to at once. From any context.
    pub(crate) fn event(&self) {
        self.run_in(&self.events, 0);
    }

    /// Has reports fetched at once. From any context.
    pub(crate) fn report(&self) {
        self.run_in(&self.reports, 0);
    }

    fn run_in(&self, work: &Delayed, ns: u64) {
        let milliseconds = ns.div_ceil(NANOSECONDS_PER_MILLISECOND);
        let jiffies = msecs_to_jiffies(u32::try_from(milliseconds).unwrap_or(u32::MAX));
        // SAFETY: Queue and work live as long as the crew, whose drop cancels the work; while a
        // cancellation waits the kernel refuses to queue it.
        unsafe {
            bindings::mod_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as kernel::ffi::c_int,
                self.free.0.as_ptr(),
                work.0.get(),
                jiffies,
            )
        };
    }

    /// Runs a member's work on a CPU. Returns false if it was queued already.
    pub(crate) fn work_on(&self, member: usize, cpu: u32) -> bool {
        let (Some(member), Ok(cpu)) = (self.members.get(member), i32::try_from(cpu)) else {
            return false;
        };
        // SAFETY: Queue and work live as long as the crew, whose drop cancels the work. A CPU that
        // is not online is allowed: the work then runs elsewhere.
        unsafe { bindings::queue_work_on(cpu, self.bound.0.as_ptr(), member.work.get()) }
    }

    /// Waits for a member's work if it is queued or running.
    pub(crate) fn wait_for(&self, member: usize) {
        if let Some(member) = self.members.get(member) {
            // SAFETY: The work was initialised with its member.
            unsafe { bindings::flush_work(member.work.get()) };
        }
    }

    /// Calls [`Owner::tick`] at the CPU's next tick if it has one. Callers are serialised, may
    /// sleep, and hold nothing that a tick waits for.
    pub(crate) fn tick_on(&self, member: usize, cpu: u32) {
        let (Some(member), Ok(cpu)) = (self.members.get(member), i32::try_from(cpu)) else {
            return;
        };
        let timer = member.timer.get();
        // SAFETY: The timer was initialised with its member and is not pending once it is deleted;
        // nobody else arms it meanwhile. `jiffies` is a counter that may be read at any time.
        unsafe {
            bindings::timer_delete_sync(timer);
            (*timer).expires =
                core::ptr::read_volatile(&raw const bindings::jiffies).wrapping_add(1);
            bindings::add_timer_on(timer, cpu);
        }
    }

    /// The member's tick is not to come; waits for one that runs.
    pub(crate) fn no_tick(&self, member: usize) {
        if let Some(member) = self.members.get(member) {
            // SAFETY: The timer was initialised with its member.
            unsafe { bindings::timer_delete_sync(member.timer.get()) };
        }
    }

    /// From now on the owner is told of CPUs that come and go.
    pub(crate) fn watch_cpus(&self) -> Result {
        type Multi = unsafe extern "C" fn(u32, *mut bindings::hlist_node) -> kernel::ffi::c_int;
        type Single = unsafe extern "C" fn(u32) -> kernel::ffi::c_int;
        // SAFETY: A state with instances calls its functions with the instance as second argument;
        // the declared type of the parameters has only the first, as in C.
        let single = |f: Multi| unsafe { core::mem::transmute::<Multi, Single>(f) };
        // SAFETY: The functions stay as long as the module, which removes the state when the crew
        // is dropped.
        let state = unsafe {
            bindings::__cpuhp_setup_state(
                bindings::cpuhp_state_CPUHP_AP_ONLINE_DYN,
                c"x86/rmpopt:online".as_char_ptr(),
                false,
                Some(single(cpu_online::<O>)),
                Some(single(cpu_offline::<O>)),
                true,
            )
        };
        kernel::error::to_result(state.min(0))?;
        // SAFETY: The node is zeroed and in no list; it is taken out before the crew goes.
        let added = unsafe { bindings::__cpuhp_state_add_instance(state, self.node.get(), false) };
        if added != 0 {
            // SAFETY: The state was set up above and has no instance.
            unsafe { bindings::__cpuhp_remove_state(state, false) };
            return kernel::error::to_result(added);
        }
        self.hotplug.store(state, Ordering::Release);
        Ok(())
    }

    /// CPUs are not watched any more; waits for a callback that runs.
    pub(crate) fn forget_cpus(&self) {
        let state = self.hotplug.swap(0, Ordering::AcqRel);
        if state > 0 {
            // SAFETY: State and instance were added by `watch_cpus` and are removed once.
            unsafe {
                bindings::__cpuhp_state_remove_instance(state, self.node.get(), false);
                bindings::__cpuhp_remove_state(state, false);
            }
        }
    }

    fn dismiss(&self) {
        self.forget_events();
        self.forget_cpus();
        // SAFETY: All of it was initialised with the crew. Works can queue each other, so they are
        // cancelled twice; after a shutdown a timer cannot be armed.
        unsafe {
            for _ in 0..2 {
                bindings::cancel_delayed_work_sync(self.control.0.get());
                bindings::cancel_delayed_work_sync(self.reports.0.get());
                bindings::cancel_delayed_work_sync(self.events.0.get());
                bindings::cancel_delayed_work_sync(self.drain.0.get());
                for member in &self.members {
                    bindings::cancel_work_sync(member.work.get());
                    bindings::timer_shutdown_sync(member.timer.get());
                }
            }
        }
    }
}

impl<O: Owner> Listener for Crew<O> {
    fn called(&self, number: usize, arguments: Arguments) {
        O::called(self, number, arguments);
    }
    fn returned(&self, number: usize, arguments: Arguments, result: u64) {
        O::returned(self, number, arguments, result);
    }
}

impl<O: Owner> Resident for Crew<O> {
    fn going_down(&self) {
        O::going_down(self);
    }
    fn may_sleep(&self) -> bool {
        O::may_sleep(self)
    }
}

impl<O: Owner> Watcher for Crew<O> {
    fn module(&self, name: &CStr, news: News) {
        O::module(self, name, news);
    }
}

#[pinned_drop]
impl<O: Owner> PinnedDrop for Crew<O> {
    fn drop(self: Pin<&mut Self>) {
        self.dismiss();
    }
}

/// # Safety
///
/// `work` must be the `control` of a crew of `O` that lives until the work is cancelled.
unsafe extern "C" fn run_control<O: Owner>(work: *mut bindings::work_struct) {
    // SAFETY: By the contract.
    O::control(unsafe {
        let delayed = kernel::container_of!(work, bindings::delayed_work, work);
        &*kernel::container_of!(delayed.cast::<Delayed>(), Crew<O>, control)
    });
}

/// # Safety
///
/// `work` must be the `reports` of a crew of `O` that lives until the work is cancelled.
unsafe extern "C" fn run_reports<O: Owner>(work: *mut bindings::work_struct) {
    // SAFETY: By the contract.
    O::reports(unsafe {
        let delayed = kernel::container_of!(work, bindings::delayed_work, work);
        &*kernel::container_of!(delayed.cast::<Delayed>(), Crew<O>, reports)
    });
}

/// # Safety
///
/// `work` must be the `events` of a crew of `O` that lives until the work is cancelled.
unsafe extern "C" fn run_events<O: Owner>(work: *mut bindings::work_struct) {
    // SAFETY: By the contract.
    O::events(unsafe {
        let delayed = kernel::container_of!(work, bindings::delayed_work, work);
        &*kernel::container_of!(delayed.cast::<Delayed>(), Crew<O>, events)
    });
}

/// # Safety
///
/// `work` must be the `drain` of a crew of `O` that lives until the work is cancelled.
unsafe extern "C" fn run_drain<O: Owner>(work: *mut bindings::work_struct) {
    // SAFETY: By the contract.
    O::drain(unsafe {
        let delayed = kernel::container_of!(work, bindings::delayed_work, work);
        &*kernel::container_of!(delayed.cast::<Delayed>(), Crew<O>, drain)
    });
}

/// # Safety
///
/// `work` must be that of a [`Member`] whose crew lives until the work is cancelled.
unsafe extern "C" fn run_work<O: Owner>(work: *mut bindings::work_struct) {
    // SAFETY: By the contract.
    let (crew, number) = unsafe {
        let member = &*kernel::container_of!(Opaque::cast_from(work), Member<O>, work);
        (&*member.crew, member.number)
    };
    O::work(crew, number);
}

/// # Safety
///
/// `timer` must be that of a [`Member`] whose crew lives until the timer is shut down.
unsafe extern "C" fn run_tick<O: Owner>(timer: *mut bindings::timer_list) {
    // SAFETY: By the contract.
    let (crew, number) = unsafe {
        let member = &*kernel::container_of!(Opaque::cast_from(timer), Member<O>, timer);
        (&*member.crew, member.number)
    };
    O::tick(crew, number);
}

/// # Safety
///
/// `node` must be the `node` of a crew of `O` that lives until the instance is removed.
unsafe extern "C" fn cpu_online<O: Owner>(
    cpu: u32,
    node: *mut bindings::hlist_node,
) -> kernel::ffi::c_int {
    // SAFETY: By the contract.
    let crew = unsafe { &*kernel::container_of!(Opaque::cast_from(node), Crew<O>, node) };
    O::cpu_online(crew, cpu);
    0
}

/// # Safety
///
/// As for [`cpu_online`].
unsafe extern "C" fn cpu_offline<O: Owner>(
    cpu: u32,
    node: *mut bindings::hlist_node,
) -> kernel::ffi::c_int {
    // SAFETY: By the contract.
    let crew = unsafe { &*kernel::container_of!(Opaque::cast_from(node), Crew<O>, node) };
    O::cpu_offline(crew, cpu);
    0
}
