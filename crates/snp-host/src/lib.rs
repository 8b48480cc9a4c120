//! Reads what a Linux host says about itself: its memory map, its CPUs and NUMA nodes; and traces
//! of what ran on hosts.
//!
//! # The memory map, and why its holes matter
//!
//! At boot, firmware hands the kernel a list of address ranges with a type each, the *e820 map*
//! (after the BIOS call that used to return it; UEFI machines have one too). The kernel prints it
//! first thing:
//!
//! ```text
//! BIOS-e820: [mem 0x0000000070000000-0x000000008fffffff] reserved
//! BIOS-e820: [mem 0x0000000100000000-0x000000187fdfffff] usable
//! BIOS-e820: [mem 0x000000187fe00000-0x000000187fffffff] reserved
//! ```
//!
//! What is not `usable` is not RAM that guests get: memory-mapped I/O, firmware's own data, the RMP
//! table. RMPOPT works on 1 GiB regions, numbered from address 0 whatever lies there. A region made
//! of a hole holds nothing to optimise, one cut by a hole holds less than a GiB, and on a host whose
//! I/O ranges sit at 64 TiB most of the address space is hole. Counting regions as *memory size
//! divided by 1 GiB* is therefore wrong at both ends: below 4 GiB there is a hole for devices that
//! pushes RAM up by as much, and at the top there may be a hole of a terabyte
//! before the last RAM. [`MemoryMap::usable_bytes_in`] asks how much RAM a region has,
//! [`MemoryMap::holes`] lists what is missing.
//!
//! # The readers
//!
//! | reads | with |
//! |---|---|
//! | all files of a host, each recognised by content | [`HostFiles::read`] |
//! | the memory map in a kernel log, any kernel since 2.6 | [`MemoryMap`] |
//! | RMP range, SRAT, CPU topology in a kernel log | [`KernelFacts`] |
//! | `lscpu` | [`Lscpu`] |
//! | `numactl --hardware` | [`Numactl`] |
//! | lists of CPUs, `0-5,48-53` | [`CpuList`] |
//! | the Alibaba openb pod list | [`trace::openb::PodList`] |
//! | Alibaba's DLRM instances, Azure's `vmtable`, row by row | [`trace::vms::VmList`] |
//! | Azure's packing trace (SQLite), row by row | [`trace::packing::read`] |
//! | what goes wrong, in any log | [`decode::decode`] |
//! | the interfaces of a running kernel, a copy of them, or a snapshot | [`system::System`] |
//! | what they say together | [`state::HostState`] |
//!
//! Each takes a text with the name of its file, or a path, and refuses what it cannot be sure of
//! with an error that names file, line, value and what was expected. Doubts that do not make a
//! result useless are `notes`. No input makes a reader panic.
//!
//! [`decode::decode`] takes any bytes. For the others files must be UTF-8 text of at most 256 MiB ([`MAX_FILE_BYTES`]) without NUL bytes. A reader holds
//! the text and what it found, a few times the file's size at most.
//!
//! Units: byte addresses below 2^52 in `u64`, ranges with their last byte; memory in bytes or, where
//! a name says so, MiB; times of traces in seconds.

mod cpulist;
pub mod decode;
mod detect;
pub mod e820;
mod host;
mod hwloc;
mod input;
pub mod kernel_log;
mod log;
mod lscpu;
mod numactl;
mod number;
mod place;
pub mod state;
pub mod system;
mod topology;
pub mod trace;
mod xml;

pub use self::cpulist::{CpuList, CpuListError};
pub use self::detect::FileKind;
pub use self::e820::{Entry, Kind, LogError, MapSource, MemoryMap, Span};
pub use self::host::{Found, HostError, HostFiles, Ignored};
pub use self::hwloc::Hwloc;
pub use self::input::{
    InputError, MAX_FILE_BYTES, bytes_from, read_bytes, read_text, refuse_packed, text_from_bytes,
};
pub use self::kernel_log::{CpuTopo, KernelFacts, Rmp, RmpSegment, SratRange};
pub use self::lscpu::Lscpu;
pub use self::numactl::{NumaNode, Numactl};
pub use self::place::{At, harmless, steers};
pub use self::topology::{CpuShape, MAX_CPUS, TopologyError};
pub use self::trace::{TraceError, TraceKind};
