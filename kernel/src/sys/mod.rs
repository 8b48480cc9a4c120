// SPDX-License-Identifier: MIT OR GPL-2.0
//! All that is `unsafe`: one kernel facility a file, each with a safe face.

pub(crate) mod clock;
pub(crate) mod configfs;
pub(crate) mod cpu;
pub(crate) mod crew;
#[cfg(emulate)]
pub(crate) mod emulated;
pub(crate) mod files;
pub(crate) mod fprobe;
pub(crate) mod insn;
pub(crate) mod iomem;
pub(crate) mod ipi;
pub(crate) mod machine;
pub(crate) mod modules;
pub(crate) mod msr;
pub(crate) mod slot;
pub(crate) mod symbol;
pub(crate) mod text;
#[cfg(emulate)]
pub(crate) mod trap;
