//! KVM: which guests it can run, and what went wrong with their memory.
//!
//! Messages of `arch/x86/kvm/svm/sev.c`.

use super::Pattern;
use super::entry::place;
use super::finding::{Fact, Finding};
use super::template::Captures;

/// How many ASIDs there are for SNP guests.
pub(super) const SNP_ASIDS: &str = "snp-asids";

pub(super) const PATTERNS: &[Pattern] = &[
    Pattern::new(
        "SEV-SNP {state:w} (ASIDs {first:d} - {last:d})",
        "Linux 7.3, kvm/svm/sev.c",
        |c| asids(c, SNP_ASIDS, "SEV-SNP"),
    ),
    Pattern::new(
        "SEV-ES {state:w} (ASIDs {first:d} - {last:d})",
        "Linux 7.3, kvm/svm/sev.c",
        |c| asids(c, "sev-es-asids", "SEV-ES"),
    ),
    Pattern::new("SEV {state:w} (ASIDs {first:d} - {last:d})", "Linux 7.3, kvm/svm/sev.c", |c| {
        asids(c, "sev-asids", "SEV")
    }),
    Pattern::new(
        "SEV-ES and SEV-SNP supported: {count:d} ASIDs",
        "AMDSEV README (tree of Linux 5.19)",
        |c| Some(counted(c, SNP_ASIDS, "SEV-ES and SEV-SNP")),
    ),
    Pattern::new("SEV-ES supported: {count:d} ASIDs", "older Linux", |c| {
        Some(counted(c, "sev-es-asids", "SEV-ES"))
    }),
    Pattern::new(
        "SEV supported: {count:d} ASIDs",
        "AMDSEV README (tree of Linux 5.19); older Linux",
        |c| Some(counted(c, "sev-asids", "SEV")),
    ),
    Pattern::new("SEV supported", "AMDSEV README (tree of Linux 5.19); older Linux", |_| {
        Some(Finding::info("sev-asids").meaning("KVM can run SEV guests."))
    }),
    Pattern::new("SEV-SNP ciphertext hiding enabled", "Linux 7.3, kvm/svm/sev.c", |_| {
        Some(Finding::info("ciphertext-hiding").meaning(
            "Reads of the host from guests' private memory give a fixed pattern instead of ciphertext.",
        ))
    }),
    Pattern::new(
        "SEV-SNP requires private memory support via guest_memfd",
        "amd/sev-utils pull request 19",
        |_| {
            Some(
                Finding::error("guest-memfd-missing")
                    .meaning(
                        "The VMM asked for an SNP guest whose memory is not in guest_memfd: the guest \
                         was not created.",
                    )
                    .advice(
                        "Take a VMM that fits this kernel (QEMU 9.1 or later for Linux 6.11), and give \
                         the guest a memory backend that it makes private.",
                    ),
            )
        },
    ),
    Pattern::new(
        "SEV: Failed to look up RMP entry: GFN {gfn:h} PFN {pfn:h} error {error:d}",
        "Linux 7.3, kvm/svm/sev.c",
        |c| {
            Some(gmem(
                c,
                "gmem-lookup-failed",
                "KVM could not read the RMP entry of a page that it wants to \
             give to an SNP guest: the page lies outside of what the RMP covers, or SNP is off.",
            ))
        },
    ),
    Pattern::new(
        "SEV: Failed to update RMP entry: GFN {gfn:h} PFN {pfn:h} level {level:d} error {error:d}",
        "Linux 7.3, kvm/svm/sev.c",
        |c| {
            Some(gmem(
                c,
                "gmem-update-failed",
                "KVM could not give the page to an SNP guest; the guest's \
                 vCPU fails. The RMPUPDATE line before says why.",
            ))
        },
    ),
    Pattern::new(
        "SEV: Failed to update RMP entry for PFN {pfn:h} error {error:d}",
        "mails of the KVM series",
        |c| {
            Some(gmem(
                c,
                "gmem-update-failed",
                "KVM could not make the page the hypervisor's again.",
            ))
        },
    ),
    Pattern::new(
        "SEV: Failed to retrieve RMP entry for PFN {pfn:h} error {error:d}",
        "mails of the KVM series",
        |c| Some(gmem(c, "gmem-lookup-failed", "KVM could not read the page's RMP entry.")),
    ),
    Pattern::new(
        "SEV: Failed to retrieve RMP entry: PFN {pfn:h} GFN start {gfn:h} GFN end {end:h} RMP level {level:d} error {error:d}",
        "Linux 7.3, kvm/svm/sev.c",
        |c| Some(gmem(c, "gmem-lookup-failed", "KVM could not read the page's RMP entry.")),
    ),
    Pattern::new(
        "SEV-ES guest requested termination: reason {set:h} info {code:h}",
        "Linux 7.3, kvm/svm/sev.c",
        |c| Some(ended(c)),
    ),
    Pattern::new(
        "SEV-ES guest requested termination: {set:h}:{code:h}",
        "Linux 7.3, kvm/svm/sev.c",
        |c| Some(ended(c)),
    ),
];

fn asids(captures: &Captures<'_>, kind: &'static str, what: &str) -> Option<Finding> {
    let state = captures.word("state").to_ascii_lowercase();
    let (first, last) = (captures.number("first"), captures.number("last"));
    let finding = Finding::info(kind)
        .text("state", state.as_str())
        .number("first", first)
        .number("last", last);
    let count = (first > 0).then(|| last.checked_sub(first)?.checked_add(1)).flatten().unwrap_or(0);
    let finding = finding.number("count", count);
    Some(match state.as_str() {
        "enabled" => finding.meaning(format!("KVM can run {count} {what} guests at a time.")),
        "unusable" => Finding { severity: super::Severity::Warning, ..finding }
            .meaning(format!("{what} works, but no ASID is left for such guests: none can start."))
            .advice("The firmware setup divides the ASIDs between SEV and SEV-ES or SNP guests."),
        "disabled" => finding.meaning(format!("KVM runs no {what} guests.")),
        _ => return None,
    })
}

fn counted(captures: &Captures<'_>, kind: &'static str, what: &str) -> Finding {
    let count = captures.number("count");
    let finding = Finding::info(kind).text("state", "supported").number("count", count);
    finding.meaning(format!("{count} ASIDs for {what} guests: so many can run at a time."))
}

fn gmem(captures: &Captures<'_>, kind: &'static str, meaning: &'static str) -> Finding {
    let mut finding = place(Finding::error(kind), captures.number("pfn"));
    if captures.has("gfn") {
        finding.set("guest_page", Fact::Hex(captures.number("gfn")));
    }
    if let Some(size) = super::update::level_size(captures.number("level")) {
        finding.set("page_size", Fact::Text(size.to_owned()));
    }
    if let Some(errno) = captures.signed("error") {
        finding.set("errno", Fact::Signed(errno));
    }
    finding.meaning(meaning)
}

/// A guest that gave up; reasons of set 1 are Linux's own (`asm/sev-common.h`, Linux 7.3).
fn ended(captures: &Captures<'_>) -> Finding {
    const GENERAL: [&str; 2] = ["a general request", "the GHCB protocol is not supported"];
    const LINUX: [&str; 13] = [
        "registering the GHCB failed",
        "a page state change failed",
        "PVALIDATE failed",
        "it does not run at VMPL 0",
        "the CPUID table is not valid",
        "CPUID from the hypervisor failed",
        "the secrets page is not valid",
        "no SVSM is there",
        "an SVSM is there and the VMPL is 0",
        "the SVSM's calling area is not aligned",
        "Secure TSC could not be set up",
        "the SVSM's calling area could not be mapped again",
        "Secure AVIC failed",
    ];
    let (set, code) = (captures.number("set"), captures.number("code"));
    let index = usize::try_from(code).unwrap_or(usize::MAX);
    let why = match set {
        0 => GENERAL.get(index),
        1 => LINUX.get(index),
        _ => None,
    };
    let finding =
        Finding::error("guest-terminated").number("reason_set", set).number("reason_code", code);
    match why {
        Some(why) => {
            finding.text("reason", *why).meaning(format!("An encrypted guest ended itself: {why}."))
        }
        None => {
            finding.meaning("An encrypted guest ended itself, for a reason of its own software.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::testing::{all, one};

    #[test]
    fn asids_old_and_new() {
        let new = one("kvm_amd: SEV-SNP enabled (ASIDs 1 - 99)");
        assert_eq!(
            (new.kind, new.value("count"), new.severity),
            ("snp-asids", Some(99), Severity::Info)
        );
        let old = one("SEV-ES and SEV-SNP supported: 16 ASIDs");
        assert_eq!((old.kind, old.value("count")), ("snp-asids", Some(16)));
        assert_eq!(one("kvm_amd: SEV enabled (ASIDs 100 - 1006)").value("count"), Some(907));
        assert_eq!(one("SEV supported: 0 ASIDs").value("count"), Some(0));
        assert_eq!(one("kvm_amd: SEV-SNP disabled (ASIDs 0 - 0)").value("count"), Some(0));
        let none = one("kvm_amd: SEV unusable (ASIDs 510 - 509)");
        assert_eq!((none.severity, none.value("count")), (Severity::Warning, Some(0)));
        assert_ne!(
            all("kvm_amd: SEV-SNP dreaming (ASIDs 1 - 2)").first().map(|f| f.kind),
            Some("snp-asids")
        );
    }

    #[test]
    fn memory_and_ends() {
        let found =
            one("kvm_amd: SEV: Failed to update RMP entry: GFN 7e800 PFN 4d5600 level 2 error -14");
        assert_eq!(
            (found.kind, found.value("pfn"), found.value("guest_page")),
            ("gmem-update-failed", Some(0x4d_5600), Some(0x7_e800))
        );
        assert_eq!(
            one("kvm_amd: SEV-ES guest requested termination: 0x1:0x2")
                .get("reason")
                .unwrap()
                .to_string(),
            "PVALIDATE failed"
        );
        assert_eq!(one("kvm_amd: SEV-ES guest requested termination: 0x7:0x2").get("reason"), None);
        assert_eq!(
            one("kvm_amd: SEV-SNP requires private memory support via guest_memfd.").kind,
            "guest-memfd-missing"
        );
    }
}
