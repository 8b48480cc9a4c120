//! What a guest's own kernel prints: it says nothing of the host's RMP.
//!
//! Messages of `arch/x86/mm/mem_encrypt.c`, `arch/x86/coco/sev/` and `drivers/virt/coco/sev-guest/`.

use super::Pattern;
use super::codes::Instruction;
use super::finding::{Fact, Finding, Severity};
use super::template::Captures;

/// The kernel says that it is an encrypted guest.
pub(super) const GUEST: &str = "guest-log";

pub(super) const PATTERNS: &[Pattern] = &[
    Pattern::new(
        "Memory Encryption Features active: AMD {features:t}",
        "Linux 7.3, mm/mem_encrypt.c",
        features,
    ),
    Pattern::new("AMD Memory Encryption Features active: {features:t}", "older Linux", features),
    Pattern::new("SEV: Status: {features:t}", "Linux 7.3, coco/sev/core.c", |c| {
        // A host with SME prints `SEV: Status:` too, and nothing behind it that a guest has.
        known(c.word("features")).filter(|list| list.iter().any(|f| f.starts_with("SEV"))).map(
            |list| {
                Finding::info(GUEST)
                    .text("role", "guest")
                    .fact("features", Fact::List(list))
                    .meaning("SEV_STATUS of this guest: what is switched on for it.")
            },
        )
    }),
    Pattern::new(
        "SEV: Using SNP CPUID table, {count:d} entries present",
        "Linux 7.3, coco/sev/core.c",
        |c| {
            Some(
            snp("The guest takes CPUID from the table that the firmware checked, not from the hypervisor.")
                .number("entries", c.number("count")),
        )
        },
    ),
    Pattern::new("SEV: SNP running at VMPL{vmpl:d}", "Linux 7.3, coco/sev/core.c", |c| {
        Some(snp("The privilege level of this guest's kernel; above 0 it runs below an SVSM or paravisor.").number("vmpl", c.number("vmpl")))
    }),
    Pattern::new("SEV: SNP guest platform device initialized", "older Linux", |_| {
        Some(snp("The guest can ask the firmware for reports."))
    }),
    Pattern::new(
        "SEV: SNP guest platform devices initialized",
        "Linux 7.3, coco/sev/core.c",
        |_| Some(snp("The guest can ask the firmware for reports.")),
    ),
    Pattern::new("Initialized SEV guest driver (using {key:w}", "Linux 7.3, sev-guest.c", |_| {
        Some(snp("The guest's attestation driver is there."))
    }),
    Pattern::new(
        "SNP: PSC failed ret={ret:d} exit_info_2={info:h}",
        "Linux 7.3, coco/sev/core.c",
        |c| {
            let mut finding = Finding::error("guest-page-state-change-failed")
                .text("role", "guest")
                .hex("exit_info_2", c.number("info"));
            finding.set("ret", Fact::Signed(c.signed("ret")?));
            Some(finding.meaning(
            "This guest asked its host to change the state of pages (private or shared), and the host \
             refused; the guest ends.",
        ).advice("The reason is in the host's log of that moment."))
        },
    ),
    Pattern::new("Failed to validate address {va:h} ret {ret:d}", "older Linux", |c| {
        Some(
            instruction("guest-validation-failed", Instruction::Pvalidate, c.signed("ret")?)
                .hex("virtual_address", c.number("va")),
        )
    }),
    Pattern::new(
        "SEV: clear VMSA page failed ({ret:d}), leaking page",
        "Linux 7.3, coco/sev/core.c",
        |c| Some(instruction("guest-vmsa-failed", Instruction::Rmpadjust, c.signed("ret")?)),
    ),
    Pattern::new("SEV: set VMSA page failed ({ret:d})", "Linux 7.3, coco/sev/core.c", |c| {
        Some(instruction("guest-vmsa-failed", Instruction::Rmpadjust, c.signed("ret")?))
    }),
    Pattern::new("SNP: PSC processing going backward", "Linux 7.3, coco/sev/core.c", |_| {
        Some(Finding::error("guest-page-state-change-failed").text("role", "guest").meaning(
            "The host answered a page state change in an impossible order; the guest takes it as an attack.",
        ))
    }),
    Pattern::new(
        "Detected error from ASP request. rc: {rc:d}, exitinfo2: {info:h}",
        "Linux 7.3, coco/sev/core.c",
        |c| {
            let info = c.number("info");
            let finding = super::firmware::firmware_status((info & 0xFFFF_FFFF) as u32);
            // The upper half is the VMM's answer: 1 the buffer is too small, 2 busy.
            let vmm = match info >> 32 {
                0 => "",
                1 => " The host wants a larger buffer for certificates.",
                2 => " The host is busy and asks to try again.",
                _ => " The host gave an error that has no name here.",
            };
            let meaning = format!(
                "The firmware or the host refused a request of this guest. {}{vmm}",
                finding.meaning
            );
            let mut finding =
                Finding { kind: "guest-request-failed", severity: Severity::Error, ..finding }
                    .text("role", "guest")
                    .number("vmm_error", info >> 32);
            finding.set("errno", Fact::Signed(c.signed("rc")?));
            Some(finding.meaning(meaning))
        },
    ),
    Pattern::new(
        "Disabling VMPCK{key:d} communication key to prevent IV reuse",
        "Linux 7.3, coco/sev/core.c",
        |_| Some(no_key()),
    ),
    Pattern::new("Disabling vmpck_id {key:d} to prevent IV reuse", "older Linux", |_| {
        Some(no_key())
    }),
];

/// Words that the kernel prints for an encrypted guest, and `SME`, which a host has.
fn known(text: &str) -> Option<Vec<String>> {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let shaped = |word: &String| {
        word.len() <= 20 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    (!words.is_empty() && words.len() <= 40 && words.iter().all(shaped)).then_some(words)
}

fn features(captures: &Captures<'_>) -> Option<Finding> {
    let text = captures.word("features");
    let list = known(text.strip_prefix("AMD ").unwrap_or(text))?;
    let has = |name: &str| list.iter().any(|word| word.eq_ignore_ascii_case(name));
    let (sev, snp) = (has("SEV"), has("SEV-SNP"));
    if !sev {
        return has("SME").then(|| {
            Finding::info("sme-active")
                .text("role", "host")
                .meaning("The kernel encrypts its own memory (SME). That is not SEV or SNP.")
        });
    }
    let kind = if snp {
        "an SNP"
    } else if has("SEV-ES") {
        "an SEV-ES"
    } else {
        "a plain SEV"
    };
    Some(
        Finding::info(GUEST)
            .text("role", "guest")
            .flag("snp", snp)
            .fact("features", Fact::List(list.clone()))
            .meaning(format!(
                "This kernel runs inside {kind} guest. A guest's log says nothing of its host's RMP, of \
                 firmware or of RMPOPT: for those, look at the host's log."
            )),
    )
}

fn snp(meaning: &'static str) -> Finding {
    Finding::info(GUEST).text("role", "guest").flag("snp", true).meaning(meaning)
}

/// An instruction of this guest that failed.
fn instruction(kind: &'static str, instruction: Instruction, ret: i64) -> Finding {
    super::update::result(Finding::error(kind).text("role", "guest"), instruction, ret)
}

fn no_key() -> Finding {
    Finding::error("guest-key-disabled")
        .text("role", "guest")
        .meaning(
            "After a failed exchange with the firmware this guest threw its key away, so that no message \
             is encrypted twice: it cannot attest any more before it is started again.",
        )
        .advice("Look at the host's log for what went wrong with the request.")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{all, one};

    #[test]
    fn guests_and_a_host_with_sme() {
        for text in [
            "Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP",
            "AMD Memory Encryption Features active: SEV SEV-ES SEV-SNP",
        ] {
            let found = one(text);
            assert_eq!(found.kind, "guest-log", "{text}");
            assert_eq!(found.get("snp").unwrap().to_string(), "yes");
            assert!(found.meaning.contains("an SNP guest"));
        }
        assert!(
            one("Memory Encryption Features active: AMD SEV").meaning.contains("a plain SEV guest")
        );
        assert_eq!(one("Memory Encryption Features active: AMD SME").kind, "sme-active");
        assert!(all("Memory Encryption Features active: Intel TDX").is_empty());
        assert_eq!(one("SEV: Status: SEV SEV-ES SEV-SNP DebugSwap").kind, "guest-log");
        assert!(all("SEV: Status: vTom").iter().all(|f| f.kind != "guest-log"));
    }

    #[test]
    fn instructions_of_a_guest() {
        let found = one("Failed to validate address 0xffff888000001000 ret 6");
        assert_eq!(found.kind, "guest-validation-failed");
        assert_eq!(found.get("result").unwrap().to_string(), "FAIL_SIZEMISMATCH(6)");
        let found = one("SEV: set VMSA page failed (2)");
        assert_eq!(found.get("result").unwrap().to_string(), "FAIL_PERMISSION(2)");
        assert!(found.meaning.starts_with("RMPADJUST was not permitted"));
    }

    #[test]
    fn requests() {
        let found = one(
            "sev-guest sev-guest: Detected error from ASP request. rc: -5, exitinfo2: 0x200000000",
        );
        assert_eq!((found.kind, found.value("vmm_error")), ("guest-request-failed", Some(2)));
        assert!(found.meaning.contains("busy"));
    }
}
