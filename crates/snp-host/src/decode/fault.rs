//! Faults of RMP checks: of the host (#PF), of guests (#VMEXIT(NPF)), and what KVM says of them.
//!
//! Error codes: snp-defs `fault`; spec/snp-arch.md 5.3 and 6.4.

use snp_defs::{NestedFaultCode, PageFaultCode};

use super::Pattern;
use super::codes::{Instruction, status_name};
use super::entry::place;
use super::finding::{Fact, Finding, Severity};
use super::template::Captures;

/// A page fault line, whose page-table line may follow.
pub(super) const PAGE_FAULT: &str = "rmp-page-fault";

pub(super) const PATTERNS: &[Pattern] = &[
    Pattern::new("#PF: error_code({code:h})", "Linux 7.3, mm/fault.c", |c| {
        // Any other page fault is not this tool's.
        let code = PageFaultCode(c.number("code"));
        code.rmp().then(|| page_fault(code))
    }),
    Pattern::new(
        "vcpu {vcpu:d} gpa {gpa:h} pfn {pfn:h} error_code {code:h} rmp_level {level:d} psmash_ret {ret:d}",
        "Linux 7.3, kvm/trace.h",
        traced,
    ),
    Pattern::new(
        "vcpu {vcpu:d} rip {rip:h} address {gpa:h} error_code {code:h}",
        "Linux 7.3, trace point kvm_page_fault",
        guest_fault,
    ),
    Pattern::new(
        "address {gpa:h} error_code {code:h}",
        "trace point kvm_page_fault, older Linux",
        guest_fault,
    ),
    Pattern::new(
        "vcpu {vcpu:d} reason EXIT_NPF rip {rip:h} info1 {code:h} info2 {gpa:h}",
        "trace point kvm_exit, older Linux",
        guest_fault,
    ),
    Pattern::new(
        "vcpu {vcpu:d} reason npf rip {rip:h} info1 {code:h} info2 {gpa:h}",
        "Linux 7.3, trace point kvm_exit",
        guest_fault,
    ),
    Pattern::new(
        "reason npf rip {rip:h} info {code:h} {gpa:h}",
        "trace point kvm_exit, older Linux",
        guest_fault,
    ),
    Pattern::new("NPF error code {code:h}", "mails", |c| npf_code(c.number("code"))),
    Pattern::new("NPF ({code:h})", "mails", |c| npf_code(c.number("code"))),
    Pattern::new(
        "SEV: Unexpected RMP fault for non-private GPA {gpa:h}",
        "Linux 7.3, kvm/svm/sev.c",
        |c| Some(unexpected(c, "the guest's address is shared memory, as far as KVM knows")),
    ),
    Pattern::new(
        "SEV: Unexpected RMP fault, non-private slot for GPA {gpa:h}",
        "Linux 7.3, kvm/svm/sev.c",
        |c| Some(unexpected(c, "the memory slot has no guest_memfd behind it")),
    ),
    Pattern::new(
        "SEV: Unexpected RMP fault, no backing page for private GPA {gpa:h}",
        "Linux 7.3, kvm/svm/sev.c",
        |c| Some(unexpected(c, "no memory is there for this private address")),
    ),
    Pattern::new(
        "SEV: Unexpected RMP fault, no assigned RMP entry found for GPA {gpa:h} PFN {pfn:h} error {error:d}",
        "Linux 7.3, kvm/svm/sev.c",
        |c| Some(unexpected(c, "the page is not assigned to the guest")),
    ),
    Pattern::new("SEV: Unexpected RMP fault", "Linux 7.3, cut", |c| {
        Some(unexpected(c, "the line does not say more"))
    }),
];

/// A #PF error code by itself.
pub fn page_fault(code: PageFaultCode) -> Finding {
    let finding = if code.rmp() { Finding::error(PAGE_FAULT) } else { Finding::info("page-fault") };
    let finding = finding
        .hex("error_code", code.0)
        .fact("bits", Fact::List(names(code.0, PageFaultCode::NAMED)))
        .flag("rmp", code.rmp())
        .flag("write", code.write())
        .flag("user", code.user());
    let finding = unnamed(finding, code.0, PageFaultCode::NAMED);
    if !code.rmp() {
        return finding.meaning("Bit 31 is clear: an ordinary page fault, no RMP check.");
    }
    let who = if code.user() { "A program of the host" } else { "The host's kernel" };
    let what = if code.write() { "wrote to" } else { "touched" };
    let mut finding = finding.meaning(format!(
        "{who} {what} a page that the RMP check did not allow: the page is assigned to a guest or to \
         the firmware, or it is in use by a running vCPU, or the access went through a 2 MiB or 1 GiB \
         mapping and another page of the same 2 MiB block is assigned."
    ));
    if code.user() {
        finding.add("Linux ends the program with SIGBUS.");
    }
    finding.advice(
        "Look at the RMP entry that the kernel shows next. Assigned: find out who gave the page \
         away while it was still written. Not assigned: look at the other entries of its 2 MiB block; \
         if none explains it, think of a page in use (save area of a vCPU, VMCB, AVIC's backing page: \
         on hosts with SNP Linux keeps AVIC off unless CPUID says HvInUseWrAllowed).",
    )
}

/// EXITINFO1 of a nested page fault by itself.
pub fn nested_fault(code: NestedFaultCode) -> Finding {
    let routine = code.rmp() == code.size_mismatch() && code.rmp() >= code.vmpl();
    let severity = if routine { Severity::Info } else { Severity::Warning };
    let kind = if code.rmp() { "rmp-nested-fault" } else { "nested-fault" };
    let finding = Finding::new(kind, severity)
        .hex("exit_info1", code.0)
        .fact("bits", Fact::List(names(code.0, NestedFaultCode::NAMED)))
        .flag("rmp", code.rmp());
    let finding = unnamed(finding, code.0, NestedFaultCode::NAMED);
    let only_rmp = code.size_mismatch() || code.vmpl();
    let mut finding = match (code.rmp(), code.encrypted()) {
        (false, _) if only_rmp => finding.meaning(
            "Bit 31 is clear, and a bit is set that only RMP checks set: bit 35 (page sizes differ) or \
             36 (VMPL). No source has such a code; is the number cut or mistyped?",
        ),
        (false, false) => finding.meaning("Bit 31 is clear: an ordinary nested page fault, no RMP check."),
        (false, true) => finding.meaning(
            "Bit 31 is clear: no RMP check failed. An SNP guest touched a private page (C = 1) that \
             the nested page table does not allow: the host maps it and lets the guest try again.",
        ),
        (true, true) => finding.meaning(
            "An RMP check stopped an SNP guest's access to a private page (C = 1).",
        ),
        (true, false) => finding.meaning(
            "An RMP check stopped a guest's write to a page that the hypervisor does not own: a \
             shared or ordinary page of this guest, for which the page is assigned to someone else, or \
             an SNP guest that uses its private page as a shared one.",
        ),
    };
    if !code.rmp() {
        return finding;
    }
    if code.size_mismatch() {
        finding.add(
            "Page sizes differ: PVALIDATE or RMPADJUST of 4 KiB in a 2 MiB entry, or the nested page \
             table maps another size than the entry has. KVM splits the entry (PSMASH) and the guest \
             goes on.",
        );
    } else if code.vmpl() {
        finding.add("The VMPL that the guest ran at has no permission for this access.");
    } else if code.encrypted() {
        finding.add(
            "The page is not the guest's, or is the guest's at another guest address, or is \
             immutable still.",
        );
    }
    if code.supervisor_shadow_stack() {
        finding.add("It was a check of a supervisor shadow stack.");
    }
    if code.table_walk() {
        finding.add("It happened while the guest's own page table was walked.");
    }
    let advice = if code.size_mismatch() {
        ""
    } else if code.vmpl() {
        "The permissions are the guest's own affair (RMPADJUST), of its SVSM or paravisor."
    } else {
        "A few of these can be races that the next try ends. If they repeat for one address, compare \
         what the guest thinks of the page (private or shared) with its RMP entry."
    };
    finding.advice(advice)
}

fn names(code: u64, named: &[(u64, &'static str)]) -> Vec<String> {
    named.iter().filter(|(mask, _)| code & mask != 0).map(|(_, name)| (*name).to_owned()).collect()
}

fn unnamed(finding: Finding, code: u64, named: &[(u64, &'static str)]) -> Finding {
    let rest = named.iter().fold(code, |rest, (mask, _)| rest & !mask);
    if rest == 0 { finding } else { finding.hex("unknown_bits", rest) }
}

/// In a log, only a code that has one of SNP's bits says something here.
fn npf_code(code: u64) -> Option<Finding> {
    let snp = NestedFaultCode::RMP | NestedFaultCode::SIZE_MISMATCH | NestedFaultCode::VMPL;
    // All other bits of the word are bits that a nested page fault has.
    let known = NestedFaultCode::NAMED.iter().fold(0, |all, (mask, _)| all | mask);
    (code & snp != 0 && code & !known == 0).then(|| nested_fault(NestedFaultCode(code)))
}

fn guest_fault(captures: &Captures<'_>) -> Option<Finding> {
    let finding = npf_code(captures.number("code"))?.hex("guest_address", captures.number("gpa"));
    Some(if captures.has("vcpu") {
        finding.number("vcpu", captures.number("vcpu"))
    } else {
        finding
    })
}

fn traced(captures: &Captures<'_>) -> Option<Finding> {
    let ret = captures.signed("ret")?;
    let mut finding = nested_fault(NestedFaultCode(captures.number("code")))
        .number("vcpu", captures.number("vcpu"))
        .hex("guest_address", captures.number("gpa"));
    finding = place(finding, captures.number("pfn"));
    if let Some(size) = super::update::level_size(captures.number("level")) {
        finding.set("entry_page_size", Fact::Text(size.to_owned()));
    }
    match u32::try_from(ret) {
        Ok(code) => {
            finding.set("psmash_result", Fact::Text(status_name(Instruction::Psmash, code)));
        }
        Err(_) => finding.set("psmash_errno", Fact::Signed(ret)),
    }
    Some(finding)
}

fn unexpected(captures: &Captures<'_>, why: &str) -> Finding {
    let mut finding = Finding::warning("unexpected-rmp-fault");
    if captures.has("gpa") {
        finding.set("guest_address", Fact::Hex(captures.number("gpa")));
    }
    if captures.has("pfn") {
        finding = place(finding, captures.number("pfn"));
    }
    if let Some(error) = captures.signed("error") {
        finding.set("errno", Fact::Signed(error));
    }
    finding
        .meaning(format!(
            "A guest's access failed an RMP check, and KVM sees no reason: {why}. KVM does nothing and \
             lets the guest try again."
        ))
        .advice(
            "One alone is a race between vCPUs. If they go on for one address, the guest hangs there: \
             the VMM's view of private and shared memory differs from the guest's.",
        )
}

/// The number behind the word EXITINFO1 in any spelling.
fn exit_info_1(lower: &str) -> Option<u64> {
    let names = ["exitinfo1", "exit_info1", "exit_info_1", "info1"];
    let behind = names.iter().find_map(|name| lower.split_once(name).map(|(_, behind)| behind))?;
    let number = behind.trim_start_matches(|c: char| " \t:=(".contains(c));
    let number = number.strip_prefix("0x").unwrap_or(number);
    let end = number.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(number.len());
    crate::number::hex(number.get(..end)?)
}

/// A line that names both a nested page fault and its EXITINFO1, as monitors and mails write it.
/// Without the exit's name the number could be that of any exit.
pub(super) fn named_exit(message: &str) -> Option<Finding> {
    let lower = message.to_ascii_lowercase();
    let mut words = lower.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    if !words.any(|word| matches!(word, "npf" | "vmexit_npf" | "exit_npf" | "svm_exit_npf")) {
        return None;
    }
    let mut finding = npf_code(exit_info_1(&lower)?)?;
    finding.known_from = "monitors and mails";
    Some(finding)
}

/// The exit code in a VMCB's dump, `exit_code: 0000000000000400`.
pub(super) fn dumped_exit(message: &str) -> bool {
    let lower = message.to_ascii_lowercase();
    let code = lower.split_once("exit_code:").map(|(_, behind)| behind.trim());
    code.and_then(|code| crate::number::hex(code.trim_start_matches("0x"))) == Some(VMEXIT_NPF)
}

/// EXITINFO1 in a VMCB's dump, on a line of its own behind the exit code of a nested page fault.
pub(super) fn dumped_info(message: &str) -> Option<Finding> {
    let mut finding = npf_code(exit_info_1(&message.to_ascii_lowercase())?)?;
    finding.known_from = "Linux, dump of a VMCB, svm/svm.c";
    Some(finding)
}

/// Exit code of #VMEXIT(NPF) (APM vol. 2, appendix C).
const VMEXIT_NPF: u64 = 0x400;

/// Reads the page that a `PGD .. PTE 8000000123456163` line names.
pub(super) fn page_of_table_line(line: &str) -> Option<u64> {
    let at = line.find("PTE ")?;
    line.find("PGD ").filter(|pgd| *pgd < at)?;
    let digits = line.get(at + 4..)?.split_whitespace().next()?;
    let entry = crate::number::hex(digits.trim_start_matches("0x"))?;
    // Bit 0: present. Bits 12 to 50 hold the page; bit 51 is the C-bit on every processor with
    // SNP known so far.
    (entry & 1 == 1).then_some((entry & 0x0007_FFFF_FFFF_F000) >> 12)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{all, one};
    use super::*;

    #[test]
    fn the_hosts_page_fault() {
        let found = one("#PF: error_code(0x80000003) - RMP violation");
        assert_eq!((found.kind, found.severity), (PAGE_FAULT, Severity::Error));
        assert_eq!(found.get("bits").unwrap().to_string(), "P, W, RMP");
        assert!(all("#PF: error_code(0x0002) - not-present page").is_empty());
        let line =
            "    PGD b6ee01067 P4D b6ee02067 PUD 10096d063 PMD 11c540063 PTE 80000001149cc163";
        assert_eq!(page_of_table_line(line), Some(0x11_49cc));
        assert_eq!(page_of_table_line("PGD 1067 P4D 0"), None);
        assert_eq!(page_of_table_line("PGD 1067 PTE 80080001149cc163"), Some(0x11_49cc));
    }

    #[test]
    fn codes_alone() {
        let plain = page_fault(PageFaultCode(0x7));
        assert_eq!((plain.kind, plain.severity), ("page-fault", Severity::Info));
        let odd = page_fault(PageFaultCode(1 << 20 | 1 << 31));
        assert_eq!(odd.value("unknown_bits"), Some(1 << 20));
        let split = nested_fault(NestedFaultCode(1 << 31 | 1 << 34 | 1 << 35));
        assert_eq!(split.severity, Severity::Info);
        assert!(split.meaning.contains("PSMASH"));
        let vmpl = nested_fault(NestedFaultCode(1 << 31 | 1 << 34 | 1 << 36));
        assert!(vmpl.meaning.contains("VMPL") && vmpl.severity == Severity::Warning);
        assert!(
            nested_fault(NestedFaultCode(0x5_0000_0004)).meaning.contains("no RMP check failed")
        );
    }

    #[test]
    fn trace_points() {
        let found = one(
            "kvm_rmp_fault: vcpu 3 gpa 0000000191560000 pfn 0x536cd60 error_code 0xd80000000 rmp_level 2 psmash_ret 7",
        );
        assert_eq!(found.kind, "rmp-nested-fault");
        assert_eq!(found.get("psmash_result").unwrap().to_string(), "FAIL_BADADDR(7)");
        assert_eq!(found.value("guest_address"), Some(0x1_9156_0000));
        let found = one(
            " qemu-system-x86-812 [003] d.... 123.456789: kvm_page_fault: vcpu 0 rip 0xffffffff81000000 address 0x0000000191560000 error_code 0x580000005",
        );
        assert_eq!((found.kind, found.value("vcpu")), ("rmp-nested-fault", Some(0)));
        assert!(all("kvm_page_fault: vcpu 0 rip 0x0 address 0x1000 error_code 0x14").is_empty());
        let found = one(
            "kvm_exit: vcpu 1 reason npf rip 0x7ff info1 0x0000000580000005 info2 0x0000fffffffff000 intr_info 0x0 error_code 0x0",
        );
        assert_eq!(found.value("guest_address"), Some(0xffff_ffff_f000));
    }

    #[test]
    fn exits_in_dumps_and_mails() {
        let dump = |code: &str| {
            all(&format!(
                "kvm_amd: exit_code:          {code}\nkvm_amd: exit_info1:         0000000880000004\n"
            ))
        };
        let found = dump("0000000000000400");
        assert_eq!((found.len(), found[0].line), (1, 2));
        assert_eq!(found[0].get("bits").unwrap().to_string(), "U, RMP, SIZEM");
        // The same number of another exit is no fault.
        assert!(dump("000000000000007b").is_empty());
        for text in [
            "EXITCODE VMEXIT_NPF EXITINFO1 0x580000005 EXITINFO2 0x1000",
            "exit_code=NPF, exit_info_1 = 580000005",
            "kvm: SVM_EXIT_NPF (exitinfo1: 0x580000005)",
        ] {
            assert_eq!(one(text).kind, "rmp-nested-fault", "{text}");
        }
        assert!(all("EXITCODE VMEXIT_IOIO EXITINFO1 0x80000010").is_empty());
        assert!(all("EXITCODE VMEXIT_NPF EXITINFO1 0x14").is_empty());
    }
}
