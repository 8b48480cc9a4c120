//! The IOMMU: accesses of devices that an RMP check stopped, and why SNP is refused.
//!
//! Messages of `drivers/iommu/amd/{iommu,init}.c`; events of spec/snp-arch.md 5.6. The kernel prints
//! `gpa` for what a device addressed, and `device=` only if it does not know the device.

use snp_defs::{IOMMU_EVENT_RMP_FAULT, IOMMU_EVENT_RMP_HW_ERROR};

use super::Pattern;
use super::entry::place;
use super::finding::{Fact, Finding};
use super::template::Captures;

const OFF: &str = "SNP needs the IOMMU on, with translation, in a mode that the hardware allows: no \
    iommu=off, no iommu=pt, no amd_iommu=off, and the IOMMU and its SNP support switched on in the \
    firmware setup.";

pub(super) const PATTERNS: &[Pattern] = &[
    Pattern::new(
        "Event logged [RMP_PAGE_FAULT device={device:w} vmg_tag={tag:h}, gpa={gpa:h}, flags_rmp={rmp:h}, flags={flags:h}]",
        "Linux 7.3, iommu/amd/iommu.c",
        |c| Some(fault(c)),
    ),
    Pattern::new(
        "Event logged [RMP_PAGE_FAULT device={device:w}, vmg_tag={tag:h}, gpa={gpa:h}, flags_rmp={rmp:h}, flags={flags:h}]",
        "Linux 7.3, iommu/amd/iommu.c",
        |c| Some(fault(c)),
    ),
    Pattern::new(
        "Event logged [RMP_PAGE_FAULT vmg_tag={tag:h}, gpa={gpa:h}, flags_rmp={rmp:h}, flags={flags:h}]",
        "Linux 7.3, iommu/amd/iommu.c",
        |c| Some(fault(c)),
    ),
    Pattern::new(
        "Event logged [RMP_HW_ERROR device={device:w}, vmg_tag={tag:h}, spa={spa:h}, flags={flags:h}]",
        "Linux 7.3, iommu/amd/iommu.c",
        |c| Some(hardware(c)),
    ),
    Pattern::new(
        "Event logged [RMP_HW_ERROR vmg_tag={tag:h}, spa={spa:h}, flags={flags:h}]",
        "Linux 7.3, iommu/amd/iommu.c",
        |c| Some(hardware(c)),
    ),
    Pattern::new("IOMMU SNP support enabled", "Linux 7.3, iommu/amd/init.c", |_| {
        Some(
            Finding::info("iommu-snp").meaning("The IOMMUs check devices' writes against the RMP."),
        )
    }),
    Pattern::new("SNP enabled by IOMMU", "older Linux", |_| {
        Some(Finding::info("iommu-snp").meaning("The IOMMUs are set up for SNP."))
    }),
    Pattern::new(
        "SNP: IOMMU disabled, SNP cannot be supported",
        "Linux 7.3, iommu/amd/init.c",
        |_| Some(refused("the IOMMU is off")),
    ),
    Pattern::new(
        "SNP: IOMMU configured in passthrough mode, SNP cannot be supported",
        "Linux 7.3, iommu/amd/init.c",
        |_| Some(refused("the IOMMU passes devices' addresses through without translation")),
    ),
    Pattern::new(
        "SNP: IOMMU is configured with V2 page table mode, SNP cannot be supported",
        "Linux 7.3, iommu/amd/init.c",
        |_| Some(refused("the IOMMU uses version 2 page tables")),
    ),
    Pattern::new(
        "SNP: IOMMU SNP feature not enabled, SNP cannot be supported",
        "Linux 7.3, iommu/amd/init.c",
        |_| Some(refused("an IOMMU has SNP not enabled; that is set in the firmware setup")),
    ),
    Pattern::new(
        "SNP: IOMMU either disabled or configured in passthrough mode, SNP cannot be supported",
        "older Linux",
        |_| Some(refused("the IOMMU is off or does not translate")),
    ),
    Pattern::new(
        "SNP: IOMMU disabled or configured in passthrough mode, SNP cannot be supported",
        "older Linux",
        |_| Some(refused("the IOMMU is off or does not translate")),
    ),
    Pattern::new(
        "SNP: RMP initialization failed, SNP cannot be supported",
        "Linux 7.3, iommu/amd/init.c",
        |_| {
            Some(Finding::error("rmp-init-failed").meaning(
                "The kernel could not set up the RMP: SNP stays off. A line before says why.",
            ))
        },
    ),
    Pattern::new("Force to disable Virtual APIC due to SNP", "Linux 7.3, iommu/amd/init.c", |_| {
        Some(Finding::info("iommu-avic-off").meaning(
            "The IOMMU's virtual APIC is off, because this one does not support it together with SNP.",
        ))
    }),
];

fn refused(why: &str) -> Finding {
    Finding::error("iommu-refuses-snp").meaning(format!("SNP stays off: {why}.")).advice(OFF)
}

fn common(mut finding: Finding, captures: &Captures<'_>) -> Finding {
    if captures.has("device") {
        finding.set("device", Fact::Text(captures.word("device").to_owned()));
    }
    finding.hex("vmg_tag", captures.number("tag")).hex("flags", captures.number("flags"))
}

fn fault(captures: &Captures<'_>) -> Finding {
    // Bit 5 of the flags is the IOMMU's RW (`EVENT_FLAG_RW`).
    let write = captures.number("flags") & 0x20 != 0;
    common(Finding::error("iommu-rmp-fault"), captures)
        .hex("flags_rmp", captures.number("rmp"))
        .hex("device_address", captures.number("gpa"))
        .flag("write", write)
        .number("event", u64::from(IOMMU_EVENT_RMP_FAULT))
        .meaning(
            "A device accessed a page that the hypervisor does not own (a guest's private page, or a \
             firmware page): the RMP check stopped it and the access was dropped. The address is what \
             the device used; what is physical behind it the line does not say.",
        )
        .advice(
            "With a device passed to an SNP guest, the guest must make its DMA buffers shared before \
             the device uses them, and validate none of them again. With a device of the host, a driver \
             still uses memory that has been given away.",
        )
}

fn hardware(captures: &Captures<'_>) -> Finding {
    let spa = captures.number("spa");
    let finding = common(Finding::error("iommu-rmp-hardware-error"), captures)
        .number("event", u64::from(IOMMU_EVENT_RMP_HW_ERROR));
    place(finding, spa >> snp_defs::PAGE_SHIFT)
        .hex("address", spa)
        .meaning(
            "The IOMMU met a hardware error when it read the RMP for a device's access to this system \
             physical address; the access was not done.",
        )
        .advice("Look for memory errors (EDAC, machine checks) at the RMP's own addresses.")
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::testing::one;

    #[test]
    fn events() {
        let known = one(
            "vfio-pci 0000:c1:00.0: AMD-Vi: Event logged [RMP_PAGE_FAULT vmg_tag=0x0000, gpa=0x740b8784, flags_rmp=0x0000, flags=0x0020]",
        );
        assert_eq!((known.kind, known.severity), ("iommu-rmp-fault", Severity::Error));
        assert_eq!(known.value("device_address"), Some(0x740b_8784));
        assert_eq!(known.get("write").unwrap().to_string(), "yes");
        let unknown = one(
            "AMD-Vi: Event logged [RMP_PAGE_FAULT device=0000:c1:00.0, vmg_tag=0x0001, gpa=0x1000, flags_rmp=0x0001, flags=0x0000]",
        );
        assert_eq!(unknown.get("device").unwrap().to_string(), "0000:c1:00.0");
        let error = one(
            "AMD-Vi: Event logged [RMP_HW_ERROR vmg_tag=0x0000, spa=0x7ffe812340, flags=0x0000]",
        );
        assert_eq!(
            (error.kind, error.value("address"), error.value("pfn")),
            ("iommu-rmp-hardware-error", Some(0x7f_fe81_2340), Some(0x7ff_e812))
        );
    }

    #[test]
    fn reasons() {
        for text in [
            "AMD-Vi: SNP: IOMMU disabled, SNP cannot be supported.",
            "AMD-Vi: SNP: IOMMU configured in passthrough mode, SNP cannot be supported.",
            "AMD-Vi: SNP: IOMMU SNP feature not enabled, SNP cannot be supported.",
        ] {
            assert_eq!(
                (one(text).kind, one(text).severity),
                ("iommu-refuses-snp", Severity::Error),
                "{text}"
            );
        }
        assert_eq!(one("AMD-Vi: IOMMU SNP support enabled.").severity, Severity::Info);
    }
}
