// SPDX-License-Identifier: MIT OR GPL-2.0
//! CPUs: which there are, which share a core, where they are.

use core::arch::x86_64::__cpuid_count;

use kernel::{bindings, interrupt::LocalInterruptDisabled};

use crate::snp_defs::CpuidRegs;

#[cfg(not(CONFIG_PREEMPT_COUNT))]
compile_error!("interrupts are only really off in a kernel that counts preemption");

/// One more than the highest CPU number.
pub(crate) fn limit() -> u32 {
    kernel::cpu::nr_cpu_ids()
}

/// The CPU we are on; stays true only while we cannot be moved.
pub(crate) fn this() -> u32 {
    // SAFETY: May be called anywhere.
    unsafe { bindings::raw_smp_processor_id() }
}

/// The CPU we are on while interrupts are off.
pub(crate) fn held(_: &LocalInterruptDisabled) -> u32 {
    this()
}

/// Whether the CPU is there.
pub(crate) fn is_present(cpu: u32) -> bool {
    // SAFETY: The mask is the kernel's own and holds a bit for each CPU below `limit`.
    cpu < limit() && unsafe { is_in(&raw mut bindings::__cpu_present_mask, cpu) }
}

/// Whether the CPU is online.
pub(crate) fn is_online(cpu: u32) -> bool {
    // SAFETY: As in `is_present`.
    cpu < limit() && unsafe { is_in(&raw mut bindings::__cpu_online_mask, cpu) }
}

/// # Safety
///
/// `mask` must be valid and hold a bit for each CPU up to `cpu`.
unsafe fn is_in(mask: *mut bindings::cpumask, cpu: u32) -> bool {
    let Ok(cpu) = i32::try_from(cpu) else { return false };
    // SAFETY: By the contract.
    unsafe { bindings::cpumask_test_cpu(cpu, mask) }
}

/// Where a CPU's copy of a per-CPU variable lies; null for a CPU that is not there.
fn copy_of<T>(variable: *mut T, cpu: u32) -> *mut T {
    if !is_present(cpu) {
        return core::ptr::null_mut();
    }
    let offsets = (&raw const bindings::__per_cpu_offset).cast::<usize>();
    // SAFETY: The array has an element for each CPU that can be; the kernel fills it at boot.
    let offset = unsafe { offsets.add(cpu as usize).read() };
    variable.wrapping_byte_add(offset)
}

/// Whether two CPUs are threads of one core. The kernel knows it only of CPUs that are online.
pub(crate) fn are_siblings(cpu: u32, other: u32) -> bool {
    let copy = copy_of(&raw mut bindings::cpu_sibling_map, cpu);
    if copy.is_null() || other >= limit() {
        return false;
    }
    // SAFETY: The variable is the kernel's own: a mask, or a pointer to one that is allocated at boot.
    unsafe {
        #[cfg(CONFIG_CPUMASK_OFFSTACK)]
        let mask = *copy;
        #[cfg(not(CONFIG_CPUMASK_OFFSTACK))]
        let mask = copy.cast::<bindings::cpumask>();
        !mask.is_null() && is_in(mask, other)
    }
}

/// NUMA node of a CPU.
pub(crate) fn node(cpu: u32) -> u16 {
    let copy = copy_of(&raw mut bindings::numa_node, cpu);
    if copy.is_null() {
        return 0;
    }
    // SAFETY: The variable is the kernel's own; an `int` is read at once.
    u16::try_from(unsafe { copy.read_volatile() }).unwrap_or(0)
}

/// CPUID on this CPU.
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> CpuidRegs {
    // SAFETY: Every CPU that a 64-bit kernel runs on has the instruction.
    let found = unsafe { __cpuid_count(leaf, subleaf) };
    CpuidRegs { eax: found.eax, ebx: found.ebx, ecx: found.ecx, edx: found.edx }
}

/// Lets others run if somebody waits.
pub(crate) fn let_others_run() {
    // SAFETY: Callers may sleep.
    unsafe { bindings::__cond_resched() };
}

/// NUMA node of an address, 0 if the kernel does not know.
pub(crate) fn node_of_memory(address: u64) -> u16 {
    // SAFETY: Any address may be asked about.
    let node = unsafe { bindings::phys_to_target_node(address) };
    u16::try_from(node).unwrap_or(0)
}

/// Keeps CPUs from going offline or coming online, from its making to its end.
pub(crate) struct Fixed(());

impl Fixed {
    /// Waits for a CPU that is going or coming. May sleep; nothing may be held that hotplug callbacks
    /// take.
    pub(crate) fn new() -> Self {
        // SAFETY: We may sleep; each call is undone by one drop.
        unsafe { bindings::cpu_hotplug_disable() };
        Self(())
    }
}

impl Drop for Fixed {
    fn drop(&mut self) {
        // SAFETY: Undoes one call of `cpu_hotplug_disable`.
        unsafe { bindings::cpu_hotplug_enable() };
    }
}
