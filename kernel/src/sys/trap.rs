// SPDX-License-Identifier: MIT OR GPL-2.0
//! Answers for the bytes of RMPOPT where no CPU knows them: a notifier of exceptions, for tests.
//!
//! It answers one exception only: `#UD`, in kernel mode, at the address of our own instruction. All
//! others are nobody's business here. What it leaves unanswered goes to the exception table, as if it
//! were not there.

use core::sync::atomic::{AtomicU64, Ordering};

use kernel::ffi::{c_char, c_int, c_long, c_ulong};
use kernel::{bindings, error::to_result, prelude::*, sync::Arc, types::Opaque};

use crate::sys::insn;

/// `DIE_TRAP` of arch/x86/include/asm/kdebug.h.
const TRAP: c_ulong = 8;
/// The vector of `#UD`.
const UNDEFINED: c_int = 6;
/// `NOTIFY_STOP`: it has been seen to.
const STOP: c_int = 0x8001;
/// The carry flag in RFLAGS.
const CARRY: u64 = 1;

/// `struct die_args` of include/linux/kdebug.h, which the bindings lack.
#[repr(C)]
struct DieArgs {
    registers: *mut bindings::pt_regs,
    what: *const c_char,
    error: c_long,
    vector: c_int,
    signal: c_int,
}

unsafe extern "C" {
    fn register_die_notifier(block: *mut bindings::notifier_block) -> c_int;
    fn unregister_die_notifier(block: *mut bindings::notifier_block) -> c_int;
}

/// Whoever knows what RMPOPT would do.
pub(crate) trait Answers: Send + Sync + 'static {
    /// What RMPOPT with these registers does on this CPU: the carry flag, or `None` if it raises an
    /// exception. Interrupts are off; no lock may be taken that is held while RMPOPT is run.
    fn answer(&self, cpu: u32, rax: u64, rcx: u64) -> Option<bool>;
}

/// The notifier, as the kernel's chain has it.
#[repr(C)]
struct Block<A: Answers> {
    block: Opaque<bindings::notifier_block>,
    answers: Arc<A>,
    /// Exceptions of ours.
    seen: AtomicU64,
}

// SAFETY: The kernel locks its chain; the answers are `Send` and `Sync`.
unsafe impl<A: Answers> Send for Block<A> {}
// SAFETY: As above.
unsafe impl<A: Answers> Sync for Block<A> {}

/// Answers for the instruction, from its making to its end.
pub(crate) struct Trap<A: Answers>(KBox<Block<A>>);

impl<A: Answers> Trap<A> {
    /// From now on exceptions of [`insn::trapping`] are answered. May sleep.
    pub(crate) fn new(answers: Arc<A>) -> Result<Self> {
        let block = Block { block: Opaque::zeroed(), answers, seen: AtomicU64::new(0) };
        let block = KBox::new(block, GFP_KERNEL)?;
        // SAFETY: The block is zeroed, stays in its box, and is in no chain.
        to_result(unsafe {
            (*block.block.get()).notifier_call = Some(died::<A>);
            register_die_notifier(block.block.get())
        })?;
        Ok(Self(block))
    }

    /// How many exceptions of ours there were.
    pub(crate) fn seen(&self) -> u64 {
        self.0.seen.load(Ordering::Relaxed)
    }
}

impl<A: Answers> Drop for Trap<A> {
    fn drop(&mut self) {
        // SAFETY: The block was registered when this was made, and is unregistered once; the call
        // waits for handlers that run.
        unsafe { unregister_die_notifier(self.0.block.get()) };
    }
}

/// # Safety
///
/// `block` must be the first field of a registered [`Block`], `arguments` a `struct die_args`.
unsafe extern "C" fn died<A: Answers>(
    block: *mut bindings::notifier_block,
    event: c_ulong,
    arguments: *mut core::ffi::c_void,
) -> c_int {
    if event != TRAP {
        return 0;
    }
    // SAFETY: By the contract; the registers are those of the interrupted code, ours to change while
    // the chain is called.
    let (trap, arguments, registers) = unsafe {
        let arguments = &*arguments.cast::<DieArgs>();
        (&*block.cast::<Block<A>>(), arguments, arguments.registers)
    };
    if arguments.vector != UNDEFINED || registers.is_null() {
        return 0;
    }
    // SAFETY: As above. The selector's low bits are the privilege level.
    let (mode, at, rax, rcx) = unsafe {
        let registers = &*registers;
        let selector = registers.__bindgen_anon_1.cs;
        (selector & 3, registers.ip as u64, registers.ax as u64, registers.cx as u64)
    };
    if mode != 0 || !insn::is_site(at) {
        return 0;
    }
    trap.seen.fetch_add(1, Ordering::Relaxed);
    let Some(carry) = trap.answers.answer(crate::sys::cpu::this(), rax, rcx) else { return 0 };
    // SAFETY: As above. The instruction changes only flags, and execution goes on after it.
    unsafe {
        let registers = &mut *registers;
        let flags = registers.flags as u64 & !CARRY | u64::from(carry);
        registers.flags = flags as usize;
        registers.ip = at.wrapping_add(insn::LENGTH) as usize;
    }
    STOP
}
