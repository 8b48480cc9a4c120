//! RMPUPDATE and PSMASH that failed, and pages that were lost by it.
//!
//! Wordings of RMPUPDATE: Linux 6.9 and later print page, level and result; the host series v1 of
//! upstream had no level; v9 and v10 counted attempts; the trees of 5.19 retried and printed all
//! lower case. `%llx` without `0x` is hexadecimal in all of them.

use super::Pattern;
use super::codes::{Instruction, explain, status_name};
use super::entry::place;
use super::finding::{Fact, Finding};
use super::template::Captures;

/// RMPUPDATE's failure, which a call trace may follow.
pub(super) const RMPUPDATE_FAILED: &str = "rmpupdate-failed";

pub(super) const PATTERNS: &[Pattern] = &[
    Pattern::new(
        "RMPUPDATE failed for PFN {pfn:h}, pg_level: {level:d}, ret: {ret:d}",
        "Linux 7.3, virt/svm/sev.c",
        update,
    ),
    Pattern::new(
        "RMPUPDATE failed for PFN {pfn:h}, ret: {ret:d}",
        "mails of the host series, 2023",
        update,
    ),
    Pattern::new(
        "RMPUPDATE failed after {attempts:d} attempts, ret: {ret:d}, pfn: {pfn:h}, npages: {npages:d}, level: {level:d}",
        "mails of the host series, v9 and v10",
        update,
    ),
    Pattern::new(
        "RMPUPDATE failed, ret: {ret:d}, pfn: {pfn:h}, npages: {npages:d}, level: {level:d}, retrying (max: {max:d})",
        "mails of the host series; AMDSEV issue 143",
        update,
    ),
    Pattern::new(
        "RMPUPDATE failed, ret: {ret:d}, pfn: {pfn:h}, npages: {npages:d}, level: {level:d}",
        "mails of the host series; AMDSEV issue 143",
        update,
    ),
    Pattern::new(
        "Failed to PSMASH RMP entry for PFN {pfn:h} error {ret:d}",
        "mails of the KVM series",
        smash,
    ),
    Pattern::new(
        "psmash failed, gpa {gpa:h} pfn {pfn:h} rc {ret:d}",
        "mails of the KVM series",
        smash,
    ),
    Pattern::new(
        "PSMASH failed for IOMMU PFN {pfn:h} huge RMP entry, ret: {ret:d}, level: {level:d}",
        "Linux 7.3, iommu/amd/init.c",
        smash,
    ),
    Pattern::new(
        "SEV: Unable to split RMP entry for GPA {gpa:h} PFN {pfn:h} ret {ret:d}",
        "Linux 7.3, kvm/svm/sev.c",
        smash,
    ),
    Pattern::new("Leaking PFN range {pfn:h}-{end:h}", "Linux 7.3, virt/svm/sev.c", leak),
    Pattern::new(
        "Failed to split direct map for PFN {pfn:h}, ret: {ret:d}",
        "Linux 7.3, virt/svm/sev.c",
        |c| {
            let mut finding = place(Finding::error("direct-map-split-failed"), c.number("pfn"));
            finding.set("errno", Fact::Signed(c.signed("ret")?));
            Some(finding.meaning(
                "Before a page becomes a guest's, the kernel maps it with 4 KiB in its own direct \
                 map; it could not (most often no memory was left for page tables). RMPUPDATE was \
                 not tried.",
            ))
        },
    ),
    Pattern::new(
        "IOMMU PFN {pfn:h} RMP lookup failed, ret {ret:d}",
        "Linux 7.3, iommu/amd/init.c",
        |c| {
            let mut finding = place(Finding::warning("iommu-page-unread"), c.number("pfn"));
            finding.set("errno", Fact::Signed(c.signed("ret")?));
            Some(finding.meaning(
                "At SNP's shutdown the kernel could not read the RMP entry of an IOMMU buffer.",
            ))
        },
    ),
    Pattern::new(
        "IOMMU PFN {pfn:h} not assigned in RMP table",
        "Linux 7.3, iommu/amd/init.c",
        |c| {
            Some(place(Finding::warning("iommu-page-unassigned"), c.number("pfn")).meaning(
                "At SNP's shutdown an IOMMU buffer, which should be a firmware page, was the \
                 hypervisor's already.",
            ))
        },
    ),
];

/// The kernel's page level as a page size: 1 is 4 KiB, 2 is 2 MiB.
pub(super) fn level_size(level: u64) -> Option<&'static str> {
    match level {
        1 => Some("4 KiB"),
        2 => Some("2 MiB"),
        3 => Some("1 GiB"),
        _ => None,
    }
}

fn update(captures: &Captures<'_>) -> Option<Finding> {
    let ret = captures.signed("ret")?;
    let mut finding = place(Finding::error(RMPUPDATE_FAILED), captures.number("pfn"));
    for (name, placeholder) in
        [("level", "level"), ("pages", "npages"), ("attempts", "attempts"), ("max_attempts", "max")]
    {
        if captures.has(placeholder) {
            finding.set(name, Fact::Number(captures.number(placeholder)));
        }
    }
    if let Some(size) = level_size(captures.number("level")) {
        finding.set("page_size", Fact::Text(size.to_owned()));
    }
    Some(result(finding, Instruction::Rmpupdate, ret))
}

fn smash(captures: &Captures<'_>) -> Option<Finding> {
    let ret = captures.signed("ret")?;
    // 3 and 7 come from vCPUs that fault at the same time, and pass.
    let finding = if matches!(ret, 3 | 7) {
        Finding::warning("psmash-failed")
    } else {
        Finding::error("psmash-failed")
    };
    let mut finding = place(finding, captures.number("pfn"));
    if captures.has("gpa") {
        finding.set("guest_address", Fact::Hex(captures.number("gpa")));
    }
    Some(result(finding, Instruction::Psmash, ret))
}

/// The result of an instruction, or the kernel's error in its place.
pub(super) fn result(finding: Finding, instruction: Instruction, ret: i64) -> Finding {
    let Ok(code) = u32::try_from(ret) else {
        let meaning = match ret {
            -22 => "The kernel refused before the instruction ran (EINVAL): the page is no memory.",
            -19 => "The kernel refused before the instruction ran (ENODEV): SNP is off.",
            -14 => "The kernel gave up (EFAULT); the line before says why.",
            -6 => "The kernel refused before the instruction ran (ENXIO): SNP is off.",
            _ => "The kernel refused; the number is its error, not the instruction's result.",
        };
        return finding.fact("errno", Fact::Signed(ret)).meaning(meaning);
    };
    let (meaning, advice) = explain(instruction, code);
    finding
        .number("code", u64::from(code))
        .text("result", status_name(instruction, code))
        .meaning(meaning)
        .advice(advice)
}

fn leak(captures: &Captures<'_>) -> Option<Finding> {
    let (first, end) = (captures.number("pfn"), captures.number("end"));
    let pages = end.checked_sub(first)?;
    let finding = place(Finding::error("pages-leaked"), first)
        .hex("end_pfn", end)
        .number("pages", pages)
        .number("bytes", pages.checked_mul(snp_defs::PAGE_BYTES)?);
    Some(
        finding
            .meaning(format!(
                "{pages} page{} could not be made the hypervisor's again and will not be used \
                 before the next boot. While one stays assigned, RMPOPT cannot optimise its 1 GiB \
                 region.",
                if pages == 1 { "" } else { "s" }
            ))
            .advice(
                "The lines before say which command failed. A few pages do no harm; a growing \
                 number is a fault of kernel or firmware: report it with the whole log. Only a \
                 reboot gives the pages back.",
            ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::testing::one;

    #[test]
    fn every_wording_of_a_failed_update() {
        for text in [
            "SEV-SNP: RMPUPDATE failed for PFN 37d4fe8, pg_level: 1, ret: 4",
            "SEV-SNP: RMPUPDATE failed for PFN 0x37d4fe8, ret: 4",
            "SEV-SNP: RMPUPDATE failed after 3 attempts, ret: 4, pfn: 37d4fe8, npages: 1, level: 1",
            "SEV-SNP: rmpupdate failed, ret: 4, pfn: 37d4fe8, npages: 1, level: 1, retrying (max: 96)...",
            "rmpupdate failed, ret: 4, pfn: 37d4fe8, npages: 1, level: 1",
        ] {
            let found = one(text);
            assert_eq!(
                (found.kind, found.severity),
                ("rmpupdate-failed", Severity::Error),
                "{text}"
            );
            assert_eq!(found.value("pfn"), Some(0x37d_4fe8), "{text}");
            assert_eq!(found.get("result").unwrap().to_string(), "FAIL_OVERLAP(4)", "{text}");
        }
        let tries = one(
            "SEV-SNP: rmpupdate failed, ret: 4, pfn: 37d4fe8, npages: 1, level: 1, retrying (max: 96)...",
        );
        assert_eq!((tries.value("max_attempts"), tries.value("level")), (Some(96), Some(1)));
    }

    #[test]
    fn every_wording_of_a_failed_split() {
        for text in [
            "SEV: Failed to PSMASH RMP entry for PFN 0x536cd60 error 7",
            "kvm_amd: psmash failed, gpa 0x191560000 pfn 0x536cd60 rc 7",
            "AMD-Vi: PSMASH failed for IOMMU PFN 536cd60 huge RMP entry, ret: 7, level: 2",
            "kvm_amd: SEV: Unable to split RMP entry for GPA 0x191560000 PFN 0x536cd60 ret 7",
        ] {
            let found = one(text);
            assert_eq!(
                (found.kind, found.severity),
                ("psmash-failed", Severity::Warning),
                "{text}"
            );
            assert_eq!(found.value("code"), Some(7));
        }
        let refused = one("kvm_amd: SEV: Unable to split RMP entry for GPA 0x1000 PFN 0x2 ret -22");
        assert_eq!((refused.severity, refused.get("result")), (Severity::Error, None));
    }

    #[test]
    fn lost_pages() {
        let found = one("SEV-SNP: Leaking PFN range 0x4d5600-0x4d5608");
        assert_eq!(
            (found.kind, found.value("pages"), found.value("bytes")),
            ("pages-leaked", Some(8), Some(32768))
        );
        assert!(found.meaning.contains("8 pages"));
    }
}
