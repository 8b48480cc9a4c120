//! CPUID of the emulated host.
//!
//! What Venice reports is not public. Features, caches and sizes are those of the EPYC 9655
//! ("Turin", `InstLatx64`'s dump 0B00F21), the model number is the first that Linux counts as Zen 6
//! (family 1Ah, models 50h to 5Fh), and `Fn8000_0025` is the lab's ([`SEGMENT_LIMITS`]). Leaves that say
//! where a CPU lies are the topology's. Leaves not named here are zeros.

use snp_defs::{LEAF_ENCRYPTION, LEAF_EXTENDED_MAX, LEAF_SEGMENTED_RMP};
use snp_lab::boot::SEGMENT_LIMITS;

use crate::machine::Machine;

/// Family, as `/proc/cpuinfo` prints it: 1Ah.
pub(crate) const FAMILY: u32 = 0x1A;
/// Model: 50h.
pub(crate) const MODEL: u32 = 0x50;
/// The brand string.
pub(crate) const BRAND: &str = "AMD EPYC (emulated by rmpopt)";
/// The highest basic leaf.
pub(crate) const MAX_BASIC: u32 = 0xD;
/// The highest extended leaf.
const MAX_EXTENDED: u32 = 0x8000_0028;
/// Linux's words for the feature bits below that matter to SNP, and some that programs look for.
pub(crate) const FLAGS: &str = "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat \
    pse36 clflush mmx fxsr sse sse2 ht syscall nx mmxext fxsr_opt pdpe1gb rdtscp lm constant_tsc \
    rep_good nonstop_tsc cpuid extd_apicid pni pclmulqdq ssse3 fma cx16 pcid sse4_1 sse4_2 x2apic \
    movbe popcnt aes xsave avx f16c rdrand lahf_lm svm extapic sse4a misalignsse topoext clzero \
    sme sev sev_es sev_snp debug_swap rmpread segmented_rmp";

/// `AuthenticAMD` as EBX, ECX and EDX have it.
const VENDOR: [u32; 3] = [0x6874_7541, 0x444D_4163, 0x6974_6E65];
/// Family 1Ah, model 50h, stepping 0.
const SIGNATURE: u32 = 0x00B5_0F00;
/// As on Turin, with bit 4 and those before; SEV guests' page tables take bit 51.
const ENCRYPTION: [u32; 2] = [0xCFFF_FFFB, 0x0000_41B3];

/// Bits that a number below `count` takes.
fn bits(count: u32) -> u32 {
    u32::BITS - count.saturating_sub(1).leading_zeros()
}

/// (threads a core, bits of the thread, bits of thread and core) of APIC numbers.
fn widths(machine: &Machine) -> (u32, u32, u32) {
    let topology = &machine.topology;
    let threads = (0..topology.cores()).map(|core| topology.cpus(core).len() as u32).max();
    let threads = threads.unwrap_or(1);
    let sockets = 0..topology.sockets();
    let cores = sockets.map(|s| topology.cores_of_socket(s).count() as u32).max().unwrap_or(1);
    (threads, bits(threads), bits(threads) + bits(cores))
}

/// The APIC's number: socket, core, thread.
pub(crate) fn apic_id(machine: &Machine, cpu: u32) -> u32 {
    let Some(core) = machine.topology.core_of(cpu) else { return 0 };
    let (socket, local) = machine.place_of_core(core);
    let thread = machine.topology.cpus(core).iter().position(|&c| c == cpu).unwrap_or(0) as u32;
    let (_, of_thread, of_both) = widths(machine);
    socket << of_both | local << of_thread | thread
}

fn brand(part: u32) -> [u32; 4] {
    let mut bytes = [0u8; 48];
    bytes.iter_mut().zip(BRAND.bytes()).for_each(|(to, from)| *to = from);
    let mut words = bytes.as_chunks::<4>().0.iter().skip(part as usize * 4);
    std::array::from_fn(|_| words.next().map_or(0, |word| u32::from_le_bytes(*word)))
}

/// EAX, EBX, ECX, EDX of a leaf on a CPU.
pub(crate) fn leaf(machine: &Machine, cpu: u32, leaf: u32, subleaf: u32) -> [u32; 4] {
    let apic = apic_id(machine, cpu);
    let (threads, of_thread, of_both) = widths(machine);
    let core = machine.topology.core_of(cpu).unwrap_or(0);
    let (socket, local) = machine.place_of_core(core);
    let in_socket = |s| machine.topology.cores_of_socket(s).map(|c| machine.topology.cpus(c).len());
    let package = in_socket(socket).sum::<usize>() as u32;
    let nodes = machine.topology.nodes().len() as u32 / machine.topology.sockets().max(1);
    match (leaf, subleaf) {
        (0, _) => [MAX_BASIC, VENDOR[0], VENDOR[1], VENDOR[2]],
        (1, _) => {
            [SIGNATURE, apic << 24 | package.min(255) << 16 | 0x800, 0x7EFA_320B, 0x178B_FBFF]
        }
        (7, 0) => [0x1, 0xF1BF_97AB, 0x1941_5FCE, 0x1000_0110],
        (0xB, 0) => [of_thread, threads, 0x100, apic],
        (0xB, 1) => [of_both, package, 0x201, apic],
        (0xB, _) => [0, 0, subleaf & 0xFF, apic],
        (0xD, 0) => [0x2E7, 0x980, 0x988, 0],
        (LEAF_EXTENDED_MAX, _) => [MAX_EXTENDED, VENDOR[0], VENDOR[1], VENDOR[2]],
        (0x8000_0001, _) => [SIGNATURE, 0x4000_0000, 0x75C2_37FF, 0x2FD3_FBFF],
        (0x8000_0002..=0x8000_0004, _) => brand(leaf - 0x8000_0002),
        (0x8000_0005, _) => [0xFF60_FF40, 0xFF60_FF40, 0x300C_0140, 0x2008_0140],
        (0x8000_0006, _) => [0x4080_2040, 0x6080_4040, 0x0400_8140, 0x0800_9140],
        (0x8000_0007, _) => [0, 0x3B, 0, 0x6799],
        (0x8000_0008, _) => [0x3934, 0x79BE_F25F, of_both << 12 | (package - 1).min(255), 0x1_0007],
        (0x8000_000A, _) => [1, 0x8000, 0, 0xFFBF_BDFF],
        (0x8000_001E, _) => {
            let node = machine.topology.node_of(core);
            let per_package = nodes.saturating_sub(1);
            [apic, (threads - 1) << 8 | (local & 0xFF), per_package << 8 | (node & 0xFF), 0]
        }
        (LEAF_ENCRYPTION, _) => {
            // No ASID for plain SEV: the firmware's 1,022 are for SEV-ES and SNP.
            let asids = snp_lab::rmp::ASIDS;
            [ENCRYPTION[0], ENCRYPTION[1], asids, asids + 1]
        }
        (LEAF_SEGMENTED_RMP, _) => {
            let l = SEGMENT_LIMITS;
            [l.eax, l.ebx, l.ecx, l.edx]
        }
        _ => [0; 4],
    }
}

/// The same as the kernel's device gives it.
pub(crate) fn bytes(machine: &Machine, cpu: u32, leaf_no: u32, subleaf: u32) -> [u8; 16] {
    let regs = leaf(machine, cpu, leaf_no, subleaf);
    let mut bytes = [0; 16];
    for (to, from) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(regs) {
        *to = from.to_le_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use snp_defs::Fn8000001f;

    use super::*;

    #[test]
    fn widths_and_words() {
        assert_eq!((bits(1), bits(2), bits(3), bits(256)), (0, 1, 2, 8));
        let words: Vec<u8> =
            (0..3).flat_map(brand).flat_map(u32::to_le_bytes).take_while(|b| *b != 0).collect();
        assert_eq!(words, BRAND.as_bytes());
        let [ebx, ecx, edx] = VENDOR;
        assert_eq!(snp_defs::CpuidRegs { eax: 0, ebx, ecx, edx }.vendor(), *b"AuthenticAMD");
        let leaf = Fn8000001f { eax: ENCRYPTION[0], ebx: ENCRYPTION[1], ecx: 0, edx: 0 };
        assert!(leaf.sev_snp() && leaf.segmented_rmp() && leaf.rmpread());
        assert_eq!((leaf.c_bit(), leaf.address_reduction()), (51, 6));
    }
}
