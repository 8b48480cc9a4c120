//! MSRs, CPUID bits, encodings, fault bits: from snp-defs.

use snp_defs::{
    insn, msr, Fn8000001f, Fn80000025, NestedFaultCode, PageFaultCode, RmpStatus, Syscfg,
};

use crate::page::{code, table, Page};

pub(crate) fn blocks(page: &mut Page) {
    page.block("msrs", &msrs());
    page.block("cpuid", &cpuid());
    page.block("instructions", &instructions());
    page.block("result codes", &result_codes());
    page.block("fault bits", &fault_bits());
}

fn bit(mask: u64) -> String {
    assert_eq!(mask.count_ones(), 1);
    mask.trailing_zeros().to_string()
}

fn msrs() -> String {
    let syscfg = format!(
        "bit {} SMEE, {} SNP_EN, {} VMPL_EN, {} MFDM: all four are set on every core before `SNP_INIT`",
        bit(Syscfg::MEM_ENCRYPTION_MOD_EN),
        bit(Syscfg::SNP_EN),
        bit(Syscfg::VMPL_EN),
        bit(Syscfg::MTRR_FIX_DRAM_MOD_EN),
    );
    let rows = [
        ("SYSCFG", msr::SYSCFG, syscfg.as_str()),
        (
            "VM_HSAVE_PA",
            msr::VM_HSAVE_PA,
            "where VMRUN saves the host's state; 0 on every core at `SNP_INIT`",
        ),
        ("RMP_BASE", msr::RMP_BASE, "address of the RMP's first byte"),
        ("RMP_END", msr::RMP_END, "address of its last byte; 0 with a segmented RMP"),
        ("RMP_CFG", msr::RMP_CFG, "bit 0: segmented; bits 13:8: log2 of a segment's bytes"),
        (
            "RMPOPT_BASE",
            msr::RMPOPT_BASE,
            "per core: bit 0 enables RMPOPT, the rest is the window's base, 1 GiB aligned",
        ),
    ];
    let rows = rows.map(|(name, number, what)| {
        let (high, low) = (number >> 16, number & 0xFFFF);
        [code(format_args!("{high:04X}_{low:04X}")), code(name), what.into()]
    });
    table(&["MSR", "name", "what"], rows)
}

/// A field of leaf `8000_0025`.
type Field = fn(Fn80000025) -> u32;
/// The leaf with one register set.
type Set = fn(u32) -> Fn80000025;

fn cpuid() -> String {
    let words = |name: &str| match name {
        "sev_snp" => Some("SEV-SNP; absent too if the firmware setup switched it off"),
        "vmpl" => Some("privilege levels inside guests"),
        "rmpquery" => Some("RMPQUERY"),
        "rmpread" => Some("RMPREAD"),
        "segmented_rmp" => Some("the RMP may be segmented"),
        "hv_in_use_wr_allowed" => Some("the host may write beside and to pages in use"),
        _ => None,
    };
    let mut rows: Vec<[String; 2]> = Fn8000001f::FEATURES
        .iter()
        .filter_map(|&(bit, name)| {
            Some([code(format_args!("Fn8000_001F EAX[{bit}]")), words(name)?.to_owned()])
        })
        .collect();
    assert_eq!(rows.len(), 6);
    // Each field's place is found by asking for it with one bit of the register set.
    let place = |set: Set, get: Field| {
        let mask =
            (0..32).filter(|bit| get(set(1 << bit)) != 0).fold(0_u32, |mask, bit| mask | 1 << bit);
        let (low, high) = (mask.trailing_zeros(), mask.ilog2());
        if low == high {
            low.to_string()
        } else {
            format!("{high}:{low}")
        }
    };
    let eax = |eax| Fn80000025 { eax, ..Fn80000025::default() };
    let ebx = |ebx| Fn80000025 { ebx, ..Fn80000025::default() };
    let edx = |edx| Fn80000025 { edx, ..Fn80000025::default() };
    let fields: [(&str, Set, Field, &str); 5] = [
        ("EAX", eax, Fn80000025::min_segment_shift, "smallest segment, log2 of bytes"),
        ("EAX", eax, Fn80000025::max_segment_shift, "largest segment"),
        ("EBX", ebx, Fn80000025::cached_segments, "segment definitions that the CPU caches"),
        ("EBX", ebx, |leaf| u32::from(leaf.is_hard_limit()), "that number is a limit"),
        ("EDX", edx, |leaf| u32::from(leaf.rmpopt()), "RMPOPT"),
    ];
    for (register, set, get, what) in fields {
        rows.push([code(format_args!("Fn8000_0025 {register}[{}]", place(set, get))), what.into()]);
    }
    table(&["bit", "says"], rows)
}

fn instructions() -> String {
    let rows = insn::INSTRUCTIONS.map(|instruction| {
        let (who, operands) = match instruction.name {
            "PSMASH" => ("host", "RAX: address of a 2M page"),
            "RMPUPDATE" => ("host", "RAX: page, RCX: address of the 16-byte operand"),
            "RMPREAD" => ("host", "RAX: page, RCX: address of the operand to fill"),
            "RMPOPT" => ("host", "RAX: region, RCX: 0 verify, 1 report; answers in CF, RAX stays"),
            "PVALIDATE" => ("guest", "RAX: guest virtual address, ECX: size, EDX: 1 accept, 0 give up; CF = 1: it was so already"),
            "RMPADJUST" => ("guest", "RAX: guest virtual address, RCX: size, RDX: VMPL, rights in 15:8, VMSA in 16"),
            "RMPQUERY" => ("guest", "RAX: guest virtual address, RDX: VMPL; gives rights, VMSA, size"),
            other => panic!("{other} has no words"),
        };
        let bytes = instruction.bytes.map(|byte| format!("{byte:02X}")).join(" ");
        [code(instruction.name), code(bytes), who.into(), operands.into()]
    });
    table(&["instruction", "bytes", "by", "operands"], rows)
}

fn result_codes() -> String {
    let rows = (0..8).map(RmpStatus).filter_map(|status| {
        let means = match status {
            RmpStatus::SUCCESS => "done",
            RmpStatus::FAIL_INPUT => "bad operand: alignment, coverage, reserved bits",
            RmpStatus::FAIL_PERMISSION => "not allowed: the entry is immutable, the VMPL may not, a guest ran a host's instruction",
            RmpStatus::FAIL_INUSE => "the entry is locked: the firmware wrote it, or a running vCPU uses the page",
            RmpStatus::FAIL_OVERLAP => "page sizes overlap",
            RmpStatus::FAIL_SIZEMISMATCH => "a guest asked for 2M, the entry is 4K",
            RmpStatus::FAIL_BADADDR => "PSMASH: no assigned 2M page",
            _ => return None,
        };
        Some([status.0.to_string(), code(status.name()?), means.into()])
    });
    table(&["EAX", "name", "means"], rows)
}

fn fault_bits() -> String {
    let named = |bits: &[(u64, &str)], mask: u64| {
        bits.iter().find(|named| named.0 == mask).map_or("-".to_owned(), |named| code(named.1))
    };
    let rows = (0..64).map(|bit| 1_u64 << bit).filter_map(|mask| {
        let (host, guest) =
            (named(PageFaultCode::NAMED, mask), named(NestedFaultCode::NAMED, mask));
        if host == "-" && guest == "-" {
            return None;
        }
        let means = match mask {
            PageFaultCode::PRESENT => "the page is present",
            PageFaultCode::WRITE => "a write",
            PageFaultCode::USER => "from user mode; nested paging always says so",
            PageFaultCode::RESERVED => "a reserved bit was set",
            PageFaultCode::FETCH => "an instruction fetch",
            PageFaultCode::PROTECTION_KEY => "a protection key",
            PageFaultCode::SHADOW_STACK => "a shadow stack access",
            PageFaultCode::RMP => "**an RMP check refused**",
            NestedFaultCode::FINAL_ADDRESS => "translating the guest's final address",
            NestedFaultCode::TABLE_WALK => "walking the guest's page table",
            NestedFaultCode::ENCRYPTED => "the access was private (C-bit set)",
            NestedFaultCode::SIZE_MISMATCH => "page sizes differ",
            NestedFaultCode::VMPL => "the VMPL has no such right",
            NestedFaultCode::SUPERVISOR_SHADOW_STACK => "a supervisor shadow stack check",
            _ => panic!("bit {bit} has no words", bit = mask.trailing_zeros()),
        };
        Some([bit(mask), host, guest, means.into()])
    });
    table(&["bit", "#PF error code", "NPF EXITINFO1", "means"], rows)
}
