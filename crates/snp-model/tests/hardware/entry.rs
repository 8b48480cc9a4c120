//! Where an entry lies, what its bits say, and the states.

use core::mem::offset_of;

use snp_defs::{
    ContiguousRmp, Fn80000025, PageSize, PageState, Pfn, RmpCfg, RmpEntry, RmpOperand, RstEntry,
    SegmentedRmp, Spa, PAGE_SHIFT,
};

use crate::host::{guest_address, segment_rmp, spa, Host, GIB, PAGE, RMP_BASE, SEGMENT, STATES};
use crate::page::{code, table, Page};

/// What EPYC 9005 says of segments (a public CPUID dump): 2^36 to 2^42 bytes, at most 16 of them.
const LIMITS: Fn80000025 = Fn80000025 { eax: 0xaa4, ebx: 0x410, ecx: 0, edx: 0 };

pub(crate) fn blocks(page: &mut Page) {
    page.block("contiguous", &contiguous());
    page.block("segmented", &segmented());
    page.block("bits", &bits());
    page.block("dumps", &dumps());
    page.block("operand", &operand());
    page.block("states", &states());
}

fn steps(lines: &[(String, u64)]) -> String {
    let width = lines.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
    let lines: Vec<String> =
        lines.iter().map(|(what, value)| format!("{what:width$} = {value:#x}")).collect();
    format!("```\n{}\n```\n", lines.join("\n"))
}

fn contiguous() -> String {
    let bytes = u64::from(GIB) << 30;
    let rmp = ContiguousRmp::new(0x1FD_FFF0_0000, 0x1FF_FFFF_FFFF).unwrap();
    rmp.firmware_check().unwrap();
    assert!(rmp.covered_bytes() >= bytes);
    let pfn = spa(PAGE).pfn();
    let entry = rmp.entry_spa(pfn).unwrap();
    assert_eq!(entry.get(), rmp.base().get() + 0x4000 + pfn.get() * RmpEntry::BYTES);
    steps(&[
        ("RMP_BASE".into(), rmp.base().get()),
        ("RMP_END".into(), rmp.end().get()),
        ("page number    SPA >> 12".into(), pfn.get()),
        ("offset         page number * 16".into(), pfn.get() * RmpEntry::BYTES),
        ("entry          RMP_BASE + 0x4000 + offset".into(), entry.get()),
    ])
}

fn segmented() -> String {
    let rst: Vec<RstEntry> = (0..u64::from(GIB) >> (SEGMENT - 30))
        .map(|index| RstEntry::new(spa(segment_rmp(index)), 1 << (SEGMENT - 30)))
        .collect();
    let rmp = SegmentedRmp::new(RMP_BASE, RmpCfg::segmented(SEGMENT), LIMITS, &rst).unwrap();
    let end = Pfn::new(u64::from(GIB) << (30 - PAGE_SHIFT)).unwrap();
    assert_eq!((rmp.first_hole(end), rmp.linux_check(end)), (None, Ok(())));
    let pfn = spa(PAGE).pfn();
    let (index, offset) = rmp.locate(pfn);
    let entry = rmp.entry_spa(pfn).unwrap();
    let own: u64 = rst.iter().map(|_| rmp.segment_rmp_bytes()).sum();
    steps(&[
        ("RMP_CFG        segments of 2^37 bytes".into(), RmpCfg::segmented(SEGMENT).raw()),
        ("segment table  RMP_BASE + 0x4000".into(), rmp.rst_spa().map_or(0, Spa::get)),
        ("segment        SPA >> 37".into(), index as u64),
        (format!("its RST entry  segment table [{index}]"), rmp.entry(index).0),
        ("  covers       bits 19:0, GiB".into(), rmp.entry(index).covered_gib()),
        ("  base         bits 51:20".into(), rmp.entry(index).base().get()),
        ("entry number   (SPA mod 2^37) >> 12".into(), offset),
        ("entry          base + entry number * 16".into(), entry.get()),
        (format!("all {} segments' entries, bytes", rst.len()), own),
    ])
}

/// The positions of the bits that differ from an empty entry.
fn positions(word: u64) -> String {
    let (low, high) = (word.trailing_zeros(), word.ilog2());
    if low == high {
        low.to_string()
    } else {
        format!("{high}:{low}")
    }
}

fn bits() -> String {
    let none = RmpEntry::default();
    let low = [
        ("assigned", none.with_assigned(true), "a guest or the firmware owns the page"),
        ("page size", none.with_page_size(PageSize::Size2M), "0: 4 KiB, 1: 2 MiB"),
        ("immutable", none.with_immutable(true), "only the firmware may change the entry"),
        (
            "sub-page count",
            none.with_subpage_count(u16::MAX),
            "in a 4K head: assigned pages among the other 511 of its 2 MiB block",
        ),
        ("guest page", none.with_gpa_page(u64::MAX), "guest address >> 12"),
        ("ASID", none.with_asid(u32::MAX), "the guest; 0: none"),
        ("VMSA", none.with_vmsa(true), "a virtual CPU's save area"),
        ("validated", none.with_validated(true), "the guest accepted the page"),
        ("lock", none.with_lock(true), "written by the firmware, or in use by a running vCPU"),
    ];
    let mut rows: Vec<[String; 4]> = low
        .iter()
        .map(|(name, entry, meaning)| {
            ["first".into(), positions(entry.lo), (*name).into(), (*meaning).into()]
        })
        .collect();
    let all: u64 = low.iter().map(|(_, entry, _)| entry.lo).sum();
    assert_eq!(all, u64::MAX, "the first quadword has no other bits");
    for level in 0..4 {
        let bits =
            (0..64).filter(|bit| RmpEntry { lo: 0, hi: 1 << bit }.vmpl_permissions(level) != 0);
        let word = bits.fold(0, |word, bit| word | 1_u64 << bit);
        let meaning = match level {
            0 => "rights of VMPL 0: read 1, write 2, fetch in user mode 4, in supervisor mode 8, shadow stack 0x10",
            _ => "the same",
        };
        rows.push(["second".into(), positions(word), format!("VMPL {level}"), meaning.into()]);
    }
    table(&["quadword", "bits", "name", "meaning"], rows)
}

/// Entries seen on real machines (spec/snp-arch.md 2.3).
const DUMPS: [(RmpEntry, &str); 4] = [
    (RmpEntry { lo: 0xfff0_0000_0014_4001, hi: 0x0f }, "save area of a vCPU that runs"),
    (RmpEntry { lo: 0x6010_ffff_ffff_f001, hi: 0x1f }, "save area that LAUNCH_UPDATE measured"),
    (RmpEntry { lo: 0x8000_0000_0000_07fd, hi: 0 }, "head of the block in which an RMP ends"),
    (RmpEntry { lo: 0x4, hi: 0 }, "reserved memory"),
];

fn dumps() -> String {
    let rows = DUMPS.map(|(entry, what)| {
        let mut said = vec![if entry.assigned() { "assigned" } else { "not assigned" }.to_owned()];
        said.push(if entry.page_size() == PageSize::Size2M { "2M" } else { "4K" }.into());
        let flags = [
            (entry.immutable(), "immutable"),
            (entry.vmsa(), "VMSA"),
            (entry.validated(), "validated"),
            (entry.lock(), "lock"),
        ];
        said.extend(flags.iter().filter(|flag| flag.0).map(|flag| flag.1.to_owned()));
        if entry.asid() != 0 {
            said.push(format!("ASID {}", entry.asid()));
            said.push(format!("guest address {:#x}", entry.gpa_page() << PAGE_SHIFT));
            said.push(format!("VMPL 0 {:#x}", entry.vmpl_permissions(0)));
        }
        if entry.subpage_count() != 0 {
            said.push(format!("sub-page count {}", entry.subpage_count()));
        }
        let raw = format!("`{:#018x}`<br>`{:#018x}`", entry.lo, entry.hi);
        let state = PageState::of(entry).name().to_owned();
        [raw, said.join(", "), state, what.into()]
    });
    table(&["first and second quadword", "decoded", "state", "what it is"], rows)
}

fn operand() -> String {
    let rows = [
        (offset_of!(RmpOperand, gpa), 8, "guest address in bytes, not shifted"),
        (offset_of!(RmpOperand, assigned), 1, "bit 0: assigned"),
        (
            offset_of!(RmpOperand, page_size),
            1,
            "bit 0: page size; from RMPREAD, bit 1: some page of this 2 MiB block is assigned",
        ),
        (offset_of!(RmpOperand, immutable), 1, "bit 0: immutable"),
        (offset_of!(RmpOperand, reserved), 1, "reserved, 0"),
        (offset_of!(RmpOperand, asid), 4, "ASID"),
    ];
    let bytes: usize = rows.iter().map(|row| row.1).sum();
    assert_eq!(bytes, size_of::<RmpOperand>());
    let rows =
        rows.map(|(offset, bytes, what)| [offset.to_string(), bytes.to_string(), what.into()]);
    table(&["offset", "bytes", "field"], rows)
}

const fn meaning(state: PageState) -> &'static str {
    match state {
        PageState::Default => "memory that the RMP does not cover",
        PageState::Hypervisor => "the host's memory, and what guests share with it",
        PageState::HvFixed => "reserved memory and MMIO, until the next `SNP_INIT`",
        PageState::Firmware => "lent to the firmware; the RMP itself",
        PageState::FirmwareIommu => "an IOMMU's log and completion buffers",
        PageState::Reclaim => "given back by the firmware, still assigned",
        PageState::Context => "a guest's context: its keys and state",
        PageState::Metadata => "notes on pages that were swapped out",
        PageState::PreGuest => "for a guest, not measured yet",
        PageState::PreSwap => "a guest's, about to be swapped or moved",
        PageState::GuestInvalid => "a guest's, not accepted yet",
        PageState::GuestValid => "a guest's, in use",
        PageState::Invalid => "",
    }
}

fn states() -> String {
    let rows = STATES.map(|state| {
        let host = Host::new();
        host.launching();
        let at = host.page_in(state);
        let Some(entry) = host.entry(at) else {
            let none = || "-".to_owned();
            return [
                state.name().to_owned(),
                "hypervisor".into(),
                "no entry".into(),
                none(),
                none(),
                none(),
                none(),
                meaning(state).to_owned(),
            ];
        };
        let owner = match (entry.assigned(), entry.asid()) {
            (false, _) => "hypervisor".to_owned(),
            (true, 0) => "firmware".to_owned(),
            (true, asid) => format!("guest {asid}"),
        };
        let bit = |on: bool| u8::from(on).to_string();
        if entry.asid() != 0 {
            assert_eq!(entry.gpa_page() << PAGE_SHIFT, guest_address(at));
        }
        let vmsa = if entry.vmsa() { " VMSA" } else { "" };
        [
            state.name().to_owned(),
            owner,
            format!("{}{vmsa}", code(format_args!("{:#018x}", entry.lo))),
            bit(entry.assigned()),
            bit(entry.validated()),
            bit(entry.immutable()),
            bit(entry.lock()),
            meaning(state).to_owned(),
        ]
    });
    let header = [
        "state",
        "owner",
        "first quadword",
        "assigned",
        "validated",
        "immutable",
        "lock",
        "what it is",
    ];
    table(&header, rows)
}
