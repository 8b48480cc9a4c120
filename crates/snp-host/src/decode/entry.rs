//! Raw RMP entries, in every wording that Linux and its development trees had.
//!
//! The order of the two quadwords differs, so each pattern says which is which:
//!
//! | kernel | line | first |
//! |---|---|---|
//! | 6.9 and later | `PFN 0x%llx, RMP entry: [0x%016llx - 0x%016llx]` | `lo` |
//! | 6.9 and later | `PFN: 0x%llx, [0x%016llx - 0x%016llx]` (a block's dump) | `lo` |
//! | host series of 2023 | `RMP entry for PFN 0x%llx: [high=0x%016llx low=0x%016llx]` | named |
//! | host series v7 to v10 | `RMPEntry paddr 0x%llx: [high=0x%016llx low=0x%016llx]` | named |
//! | host series v3 to v6 | `RMPEntry paddr 0x%lx: %016llx %016llx`, also without the colon | `high` |
//! | host series v1 to v9 | `RMPEntry paddr 0x%lx [assigned=%d ... gpa=0x%lx ...]`: fields; `gpa` is the page number | |
//!
//! Sources: `dump_rmpentry` in `arch/x86/virt/svm/sev.c` (Linux 6.9, 7.3); the mails of the series
//! "Add AMD Secure Nested Paging (SEV-SNP) Hypervisor Support" for the others. The layout of the
//! words is that of Milan and Genoa; it is not architectural (spec/snp-arch.md 2.3).

use snp_defs::{PageSize, PageState, Pfn, RmpEntry};

use super::Pattern;
use super::finding::{Fact, Finding, Severity};
use super::template::Captures;

pub(super) const PATTERNS: &[Pattern] = &[
    Pattern::new("PFN {pfn:h}, RMP entry: [{lo:h} - {hi:h}]", "Linux 7.3, virt/svm/sev.c", |c| {
        Some(dumped(c))
    }),
    Pattern::new("PFN: {pfn:h}, [{lo:h} - {hi:h}]", "Linux 7.3, virt/svm/sev.c", |c| {
        Some(dumped(c))
    }),
    Pattern::new(
        "RMP entry for PFN {pfn:h}: [high={hi:h} low={lo:h}]",
        "mails of the host series, 2023",
        |c| Some(dumped(c)),
    ),
    Pattern::new(
        "RMP entry for PFN {pfn:h}: [{lo:h} - {hi:h}]",
        "words in the order of Linux 7.3",
        |c| Some(dumped(c)),
    ),
    Pattern::new("RMP entry: [{lo:h} - {hi:h}]", "words in the order of Linux 7.3", |c| {
        Some(dumped(c))
    }),
    Pattern::new(
        "RMPEntry paddr {paddr:h}: [high={hi:h} low={lo:h}]",
        "mails of the host series, v7 to v10",
        |c| Some(dumped(c)),
    ),
    Pattern::new(
        "RMPEntry paddr {paddr:h}: {hi:h} {lo:h}",
        "mails of the host series, v3 to v6",
        |c| Some(dumped(c)),
    ),
    Pattern::new(
        "RMPEntry paddr {paddr:h} {hi:h} {lo:h}",
        "mails of the host series, v3 to v6",
        |c| Some(dumped(c)),
    ),
    Pattern::new(
        "RMPEntry paddr {paddr:h} [assigned={assigned:d} immutable={immutable:d} \
         pagesize={pagesize:d} gpa={gpa:h} asid={asid:d} vmsa={vmsa:d} validated={validated:d}]",
        "mails of the host series; AMDSEV issue 109",
        fields,
    ),
    Pattern::new(
        "PFN {pfn:h} unassigned, dumping non-zero entries in 2M PFN region: [{start:h} - {end:h}]",
        "Linux 7.3, virt/svm/sev.c",
        |c| Some(unassigned(c)),
    ),
    Pattern::new(
        "Failed to read RMP entry for PFN {pfn:h}, error {error:d}",
        "Linux 7.3, virt/svm/sev.c",
        |c| Some(unread(c)),
    ),
    Pattern::new(
        "Failed to read RMP contents for PFN {pfn:h}, error {error:d}",
        "Linux 7.3, virt/svm/sev.c",
        |c| Some(unread(c)),
    ),
    Pattern::new("failed to read RMP entry pfn {pfn:h}", "mails of the host series, v7", |c| {
        Some(unread(c))
    }),
    Pattern::new("Failed to read RMP entry for PFN {pfn:h}", "mails of the host series", |c| {
        Some(unread(c))
    }),
    Pattern::new(
        "Error {error:d} reading RMP contents for PFN {pfn:h}",
        "Linux 7.3, virt/svm/sev.c",
        |c| Some(unread(c)),
    ),
    Pattern::new(
        "Can't dump RMP entry for HVA {hva:h}: no PTE/PFN found",
        "Linux 7.3, virt/svm/sev.c",
        |c| {
            Some(
                Finding::warning("rmp-entry-unread")
                    .hex("virtual_address", c.number("hva"))
                    .meaning(
                        "The kernel wanted to show the RMP entry behind this virtual address, \
                              and no page is mapped there.",
                    ),
            )
        },
    ),
];

/// The page that a line names, by number or by address.
fn page(captures: &Captures<'_>) -> Option<Pfn> {
    if captures.has("paddr") {
        Pfn::new(captures.number("paddr") >> snp_defs::PAGE_SHIFT)
    } else {
        Pfn::new(captures.number("pfn")).filter(|_| captures.has("pfn"))
    }
}

/// Facts that say which page it is.
pub(super) fn place(finding: Finding, pfn: u64) -> Finding {
    let finding = finding.hex("pfn", pfn);
    match Pfn::new(pfn) {
        Some(pfn) => finding
            .hex("address", pfn.spa().get())
            .number("region_gib", u64::from(pfn.region().get())),
        None => finding,
    }
}

fn dumped(captures: &Captures<'_>) -> Finding {
    let entry = RmpEntry { lo: captures.number("lo"), hi: captures.number("hi") };
    raw_entry(entry, page(captures))
}

/// An entry whose fields the kernel printed instead of the words. The lock bit, the subpage count
/// and the permissions are not among them.
fn fields(captures: &Captures<'_>) -> Option<Finding> {
    let bit = |name| (captures.number(name) <= 1).then(|| captures.number(name) == 1);
    let (gpa, asid) = (captures.number("gpa"), captures.number("asid"));
    if gpa > RmpEntry::MAX_GPA_PAGE || asid > u64::from(RmpEntry::MAX_ASID) {
        return None;
    }
    let size = PageSize::from_bit(u64::from(bit("pagesize")?));
    let entry = RmpEntry::default()
        .with_assigned(bit("assigned")?)
        .with_immutable(bit("immutable")?)
        .with_page_size(size)
        .with_gpa_page(gpa)
        .with_asid(asid as u32)
        .with_vmsa(bit("vmsa")?)
        .with_validated(bit("validated")?);
    let finding = Finding::info("rmp-entry");
    let finding = match page(captures) {
        Some(pfn) => place(finding, pfn.get()),
        None => finding,
    };
    Some(described(finding, entry))
}

fn unassigned(captures: &Captures<'_>) -> Finding {
    place(Finding::info("rmp-entry-unassigned"), captures.number("pfn"))
        .text("state", PageState::Hypervisor.name())
        .hex("block_first_pfn", captures.number("start"))
        .hex("block_end_pfn", captures.number("end"))
        .meaning(
            "The page itself is not assigned: it is the hypervisor's. What stopped the access or \
             the update is elsewhere in its 2 MiB block, whose entries that are not zero follow \
             (the range is in page numbers, its end not included): a 2 MiB access needs all 512 \
             pages unassigned, and a page in use by a running vCPU shows no sign here. No entry \
             after this line means that the block has none.",
        )
}

fn unread(captures: &Captures<'_>) -> Finding {
    let mut finding = place(Finding::warning("rmp-entry-unread"), captures.number("pfn")).meaning(
        "The kernel could not read the page's RMP entry: SNP is off, or the page lies outside of \
         what the RMP covers.",
    );
    if let Some(error) = captures.signed("error") {
        finding.set("errno", Fact::Signed(error));
    }
    finding
}

/// A raw entry; `pfn` is the page it belongs to, if that is known.
pub fn raw_entry(entry: RmpEntry, pfn: Option<Pfn>) -> Finding {
    let finding = Finding::info("rmp-entry");
    let finding = match pfn {
        Some(pfn) => place(finding, pfn.get()),
        None => finding,
    };
    let finding = finding.hex("lo", entry.lo).hex("hi", entry.hi);
    let mut finding = described(finding, entry).flag("lock", entry.lock());
    block(&mut finding, entry, pfn);
    permissions(&mut finding, entry);
    doubts(&mut finding, entry);
    finding
}

/// State and fields that every form of an entry has.
fn described(finding: Finding, entry: RmpEntry) -> Finding {
    let state = PageState::of(entry);
    let mut finding = finding
        .text("state", state.name())
        .flag("assigned", entry.assigned())
        .text("page_size", entry.page_size().to_string())
        .flag("immutable", entry.immutable())
        .flag("validated", entry.validated())
        .flag("vmsa", entry.vmsa())
        .number("asid", u64::from(entry.asid()));
    let guest = matches!(
        state,
        PageState::GuestInvalid | PageState::GuestValid | PageState::PreGuest | PageState::PreSwap
    );
    if guest {
        finding.set("guest_address", Fact::Hex(entry.gpa_page() << snp_defs::PAGE_SHIFT));
    } else {
        finding.set("gpa_field", Fact::Hex(entry.gpa_page()));
    }
    let (meaning, advice) = state_words(state);
    finding.meaning(meaning).advice(advice)
}

/// What a state means to whoever meets it in a log (spec/snp-arch.md 4.1 to 4.3).
fn state_words(state: PageState) -> (&'static str, &'static str) {
    match state {
        PageState::Default => ("The page has no RMP entry: it is the hypervisor's for ever.", ""),
        PageState::Hypervisor => {
            ("Hypervisor page: the host and ordinary guests may write it.", "")
        }
        PageState::HvFixed => (
            "HV-fixed page: the host's for ever, reserved memory or MMIO. It can never be given to \
             a guest.",
            "",
        ),
        PageState::Firmware => (
            "Firmware page: it belongs to the AMD Secure Processor. Writes of the host fault, \
             RMPUPDATE is refused. The RMP table's own memory looks like this too.",
            "Its owner in the kernel gives it back with SNP_PAGE_RECLAIM and RMPUPDATE.",
        ),
        PageState::FirmwareIommu => (
            "Firmware-IOMMU page: a log or completion buffer of the IOMMU under SNP. Writes of the \
             host fault.",
            "It is given back when SNP is shut down (SNP_SHUTDOWN_EX with iommu_snp_shutdown).",
        ),
        PageState::Reclaim => (
            "Reclaim page: the firmware has given it back, and RMPUPDATE to the hypervisor has not \
             been done. Writes of the host fault until then.",
            "If it stays like this, whoever reclaimed it stopped halfway.",
        ),
        PageState::Context => (
            "Context page: the firmware's record of one SNP guest. It exists from SNP_GCTX_CREATE \
             to SNP_DECOMMISSION.",
            "",
        ),
        PageState::Metadata => (
            "Metadata page: where the firmware keeps what belongs to pages that are swapped out.",
            "",
        ),
        PageState::PreGuest => (
            "Pre-guest page: assigned to a guest that is being launched, for the firmware to fill.",
            "",
        ),
        PageState::PreSwap => {
            ("Pre-swap page: a guest's page about to be moved or swapped out.", "")
        }
        PageState::GuestInvalid => (
            "Guest-invalid page: assigned to a guest that has not accepted it with PVALIDATE. \
             Writes of the host fault.",
            "",
        ),
        PageState::GuestValid => (
            "Guest-valid page: a guest's private page, accepted. Writes of the host fault; only \
             the guest may use it.",
            "A write of the host to it is a fault of the host's software, or of a device that was \
             given a private page.",
        ),
        PageState::Invalid => (
            "The bits are none of the states that the manual lists.",
            "The words may be swapped, cut, or of a processor with another layout: it is Milan's \
             and Genoa's that is read here.",
        ),
    }
}

/// The subpage count, which only the first entry of a 2 MiB block has.
fn block(finding: &mut Finding, entry: RmpEntry, pfn: Option<Pfn>) {
    let count = entry.subpage_count();
    if entry.page_size() == PageSize::Size2M {
        if pfn.is_some_and(|pfn| !pfn.is_head()) {
            finding.add("The page does not begin a 2 MiB block, yet its entry says 2 MiB.");
            finding.severity = Severity::Warning;
        } else {
            finding.add("One entry for the whole 2 MiB block.");
        }
        return;
    }
    match pfn {
        Some(pfn) if pfn.is_head() => {
            finding.set("block_assigned_others", Fact::Number(u64::from(count)));
            finding.add(&format!(
                "It heads its 2 MiB block: {count} of the other 511 pages are assigned{}.",
                if count == 0 && !entry.assigned() {
                    ", so a 2 MiB write there is allowed"
                } else {
                    ", so a 2 MiB access there is not allowed to the host"
                }
            ));
        }
        Some(_) if count != 0 => {
            finding.set("bits_11_3", Fact::Number(u64::from(count)));
            finding.add(
                "Bits 11 to 3 are a count only in the first entry of a 2 MiB block, which this is \
                 not: their meaning here is unknown.",
            );
        }
        None if count != 0 => {
            finding.set("block_assigned_others", Fact::Number(u64::from(count)));
            finding.add(&format!(
                "Bits 11 to 3 are {count}: only the first entry of a 2 MiB block has a count, so if \
                 this is one, {count} of the block's other 511 pages are assigned."
            ));
        }
        _ => {}
    }
}

fn permissions(finding: &mut Finding, entry: RmpEntry) {
    if entry.asid() == 0 {
        return;
    }
    for (vmpl, name) in ["vmpl0", "vmpl1", "vmpl2", "vmpl3"].into_iter().enumerate() {
        let bits = entry.vmpl_permissions(vmpl as u32);
        let names = [(1, "R"), (2, "W"), (4, "Xu"), (8, "Xs"), (16, "SSS")];
        let set: Vec<&str> =
            names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, n)| *n).collect();
        let text = if set.is_empty() { "none".to_owned() } else { set.join(" ") };
        finding.set(name, Fact::Text(text));
    }
    if entry.asid() == RmpEntry::BUSY_ASID {
        finding.add("ASID 0x3ff is what the firmware writes while it changes an entry.");
    }
    if entry.lock() && entry.vmsa() {
        finding.add("The vCPU whose save area this is was running.");
    }
}

/// Whether the words look swapped.
fn doubts(finding: &mut Finding, entry: RmpEntry) {
    let swapped = RmpEntry { lo: entry.hi, hi: entry.lo };
    // The high word is four bytes of permissions; a low word that looks so, beside a high word that
    // is a state of the manual with something assigned, is the other order.
    let low_is_permissions = entry.lo != 0 && entry.lo & !0x1F1F_1F1F == 0;
    if low_is_permissions
        && swapped.assigned()
        && PageState::of(swapped) != PageState::Invalid
        && entry.hi >> 32 != 0
    {
        finding.severity = Severity::Warning;
        finding.add(&format!(
            "The two words look swapped: the other way round it is a {} page.",
            PageState::of(swapped)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(finding: &Finding, name: &str) -> String {
        finding.get(name).map(ToString::to_string).unwrap_or_default()
    }

    fn find(text: &str) -> Finding {
        super::super::testing::one(text)
    }

    #[test]
    fn every_wording_gives_the_same_entry() {
        for text in [
            "SEV-SNP: PFN 0x145ba4, RMP entry: [0x6010fffffffff001 - 0x000000000000001f]",
            "SEV-SNP: PFN: 0x145ba4, [0x6010fffffffff001 - 0x000000000000001f]",
            "SEV-SNP: RMP entry for PFN 0x145ba4: [high=0x000000000000001f low=0x6010fffffffff001]",
            "SEV-SNP: RMP entry for PFN 0x145ba4: [0x6010fffffffff001 - 0x000000000000001f]",
            "SEV-SNP: RMPEntry paddr 0x145ba4000: [high=0x000000000000001f low=0x6010fffffffff001]",
            "RMPEntry paddr 0x145ba4000: 000000000000001f 6010fffffffff001",
            "RMPEntry paddr 0x145ba4000 000000000000001f 6010fffffffff001",
            "RMPEntry paddr 0x145ba4000 [assigned=1 immutable=0 pagesize=0 gpa=0xfffffffff asid=2 \
             vmsa=1 validated=1]",
        ] {
            let found = find(text);
            assert_eq!(found.kind, "rmp-entry", "{text}");
            for (name, value) in [
                ("pfn", "0x145ba4"),
                ("state", "Guest-valid"),
                ("asid", "2"),
                ("vmsa", "yes"),
                ("guest_address", "0xfffffffff000"),
            ] {
                assert_eq!(fact(&found, name), value, "{name}: {text}");
            }
        }
    }

    #[test]
    fn the_dump_of_a_block() {
        let head = find("SEV-SNP: PFN: 0x56600, [0x80000000000007fd - 0x0000000000000000]");
        assert_eq!(fact(&head, "state"), "Firmware");
        assert_eq!(head.value("block_assigned_others"), Some(255));
        assert_eq!(head.value("address"), Some(0x5660_0000));
        let other = find("SEV-SNP: PFN: 0x56601, [0x8000000000000005 - 0x0000000000000000]");
        assert_eq!(
            (fact(&other, "state"), other.get("block_assigned_others")),
            ("Firmware".into(), None)
        );
        let odd = find("SEV-SNP: PFN: 0x56601, [0x80000000000007fd - 0x0000000000000000]");
        assert!(odd.meaning.contains("unknown"), "{}", odd.meaning);
        let whole = find(
            "SEV-SNP: PFN 0x56700 unassigned, dumping non-zero entries in 2M PFN region: [0x56600 - 0x56800]",
        );
        assert_eq!(whole.kind, "rmp-entry-unassigned");
        assert_eq!(
            (whole.value("block_first_pfn"), whole.value("block_end_pfn")),
            (Some(0x56600), Some(0x56800))
        );
    }

    #[test]
    fn states_from_the_field() {
        let iommu = find(
            "SEV-SNP: RMPEntry paddr 0x1001ea000 [assigned=1 immutable=1 pagesize=0 gpa=0x2000000001 asid=0 vmsa=0 validated=0]",
        );
        assert_eq!(fact(&iommu, "state"), "Firmware-IOMMU");
        let fixed = raw_entry(RmpEntry::HV_FIXED, None);
        assert_eq!(fact(&fixed, "state"), "HV-fixed");
        let running = raw_entry(RmpEntry { lo: 0xfff0_0000_0014_4001, hi: 0xf }, None);
        assert!(running.meaning.contains("was running"));
        assert_eq!(fact(&running, "vmpl0"), "R W Xu Xs");
        let busy = raw_entry(RmpEntry::default().with_assigned(true).with_asid(0x3ff), None);
        assert!(busy.meaning.contains("while it changes"));
        let large = raw_entry(
            RmpEntry::default().with_assigned(true).with_asid(1).with_page_size(PageSize::Size2M),
            Pfn::new(0x201),
        );
        assert_eq!(large.severity, Severity::Warning);
        let invalid = raw_entry(RmpEntry::default().with_asid(3), None);
        assert!(invalid.meaning.starts_with("The bits are none"));
    }

    #[test]
    fn an_entry_without_its_page() {
        let found = find("RMP entry: [0x80000000000007fd - 0x0]");
        assert_eq!((fact(&found, "state"), found.get("pfn")), ("Firmware".into(), None));
        assert!(found.meaning.contains("so if this is one"));
    }

    #[test]
    fn swapped_words_are_doubted() {
        let swapped = raw_entry(RmpEntry { lo: 0xf, hi: 0x8000_0000_0000_0ffd }, None);
        assert!(swapped.meaning.contains("look swapped"), "{}", swapped.meaning);
        assert_eq!(swapped.severity, Severity::Warning);
        assert!(!raw_entry(RmpEntry::FIRMWARE, None).meaning.contains("swapped"));
    }
}
