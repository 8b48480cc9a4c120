//! CPUID of each CPU, from whichever source there is.

use std::collections::BTreeMap;

use snp_defs::{
    CpuidRegs, ExtendedLeaves, LEAF_ENCRYPTION, LEAF_EXTENDED_MAX, LEAF_SEGMENTED_RMP, LEAF_SIZES,
    LEAF_VENDOR,
};

use super::cpuid_text::{CpuidDump, Leaves};
use super::error::{Got, ReadError, Why};
use super::root::Root;
use super::sys;

/// A dump that lies at the top of a tree: the output of `cpuid -r`, InstLatX64's or hwloc's.
pub const CPUID_TEXT: &str = "/cpuid.txt";
/// The name under which a snapshot keeps what the instruction said.
const INSTRUCTION: &str = "/cpuid-instruction";

/// The leaves that matter here, in the order in which it is safe to look at them.
const LEAVES: [u32; 6] =
    [LEAF_VENDOR, LEAF_EXTENDED_MAX, LEAF_SIZES, LEAF_ENCRYPTION, LEAF_SEGMENTED_RMP, 1];

/// CPUID of the CPUs that were asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpuid {
    /// Which source answered.
    pub source: String,
    /// Leaves by CPU; a CPU number of `None` is whichever CPU ran the instruction.
    pub cpus: BTreeMap<Option<u32>, Leaves>,
}

impl Cpuid {
    /// The source ladder: the devices of `cpus`, a dump at the top of the tree, the instruction.
    pub fn read(root: &Root, cpus: &[u32]) -> Got<Self> {
        let mut first = None;
        for rung in [devices(root, cpus), dump(root), instruction(root)] {
            match rung {
                Err(error) => {
                    // What is forbidden or malformed says more than what is absent.
                    if first.as_ref().is_none_or(|e: &ReadError| e.why == Why::Absent) {
                        first = Some(error);
                    }
                }
                read => return read,
            }
        }
        Err(first.unwrap_or_else(|| ReadError::new(CPUID_TEXT, Why::Absent)))
    }

    /// A dump that was sent by itself.
    pub fn of_dump(source: &str, dump: CpuidDump) -> Self {
        let cpus = dump.cpus.into_iter().map(|(cpu, leaves)| (Some(cpu), leaves)).collect();
        Self { source: source.to_owned(), cpus }
    }
}

/// One CPU's leaves as [`snp_defs`] looks at them; a leaf that was not dumped reads as zeros.
pub fn leaf_of(leaves: &Leaves) -> impl Fn(u32, u32) -> CpuidRegs + '_ {
    |leaf, sub| leaves.get(&(leaf, sub)).copied().unwrap_or_default()
}

fn devices(root: &Root, cpus: &[u32]) -> Got<Cpuid> {
    let mut read = Cpuid { source: "/dev/cpu/N/cpuid".to_owned(), cpus: BTreeMap::new() };
    for cpu in cpus {
        let path = format!("/dev/cpu/{cpu}/cpuid");
        let mut leaves = Leaves::new();
        let mut max = 0;
        for leaf in LEAVES {
            // Beyond the last leaf a CPU answers with other leaves' data.
            if leaf > LEAF_EXTENDED_MAX && leaf > max {
                continue;
            }
            let bytes = match root.at::<16>(&path, u64::from(leaf)) {
                // An offline CPU has no device.
                Err(error) if error.why == Why::Absent && leaf == LEAF_VENDOR => break,
                bytes => bytes?,
            };
            let regs = regs(bytes);
            if leaf == LEAF_EXTENDED_MAX {
                max = regs.eax;
            }
            leaves.insert((leaf, 0), regs);
        }
        if !leaves.is_empty() {
            read.cpus.insert(Some(*cpu), leaves);
        }
    }
    if read.cpus.is_empty() {
        return Err(ReadError::new("/dev/cpu/N/cpuid", Why::Absent));
    }
    Ok(read)
}

fn regs(bytes: [u8; 16]) -> CpuidRegs {
    let all = u128::from_le_bytes(bytes);
    CpuidRegs {
        eax: all as u32,
        ebx: (all >> 32) as u32,
        ecx: (all >> 64) as u32,
        edx: (all >> 96) as u32,
    }
}

fn dump(root: &Root) -> Got<Cpuid> {
    let text = root.text(CPUID_TEXT)?;
    let dump = CpuidDump::parse(&text).map_err(|why| ReadError::new(CPUID_TEXT, why))?;
    Ok(Cpuid::of_dump(CPUID_TEXT, dump))
}

/// This very CPU; only where the root is this machine, or a snapshot of it.
fn instruction(root: &Root) -> Got<Cpuid> {
    let read = |leaf: u32| -> Result<CpuidRegs, Why> {
        if root.is_live() {
            let regs = sys::cpuid(leaf, 0).ok_or(Why::Absent)?;
            let bytes = [regs.eax, regs.ebx, regs.ecx, regs.edx].map(u32::to_le_bytes);
            let mut flat = [0; 16];
            flat.as_chunks_mut::<4>().0.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
            root.keep_at::<16>(INSTRUCTION, u64::from(leaf), &Ok(flat));
            return Ok(regs);
        }
        root.as_snapshot().ok_or(Why::Absent)?.at::<16>(INSTRUCTION, u64::from(leaf)).map(regs)
    };
    let error = |why| ReadError::new("CPUID instruction", why);
    let max = read(LEAF_EXTENDED_MAX).map_err(error)?.eax;
    let mut leaves = Leaves::new();
    for leaf in LEAVES {
        if leaf <= LEAF_EXTENDED_MAX || leaf <= max {
            leaves.insert((leaf, 0), read(leaf).map_err(error)?);
        }
    }
    let cpus = BTreeMap::from([(None, leaves)]);
    Ok(Cpuid { source: "CPUID instruction".to_owned(), cpus })
}

/// What `leaves` say of the extended leaves, in the only safe order.
pub fn extended(
    leaves: &Leaves,
) -> Result<ExtendedLeaves<impl Fn(u32, u32) -> CpuidRegs + '_>, snp_defs::CpuidError> {
    ExtendedLeaves::probe(leaf_of(leaves))
}
