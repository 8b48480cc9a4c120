//! Result codes of the RMP instructions: what each means for the instruction that returned it.
//!
//! Source: spec/snp-arch.md 3.2 to 3.7 (AMD64 APM vol. 2 15.36, compiler documentation, Linux).

use snp_defs::RmpStatus;

use super::finding::Finding;

/// An instruction that returns an [`RmpStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Instruction {
    /// The host changes an entry.
    Rmpupdate,
    /// The host splits a 2 MiB entry.
    Psmash,
    /// A guest accepts or gives up a page.
    Pvalidate,
    /// A guest gives a VMPL permissions.
    Rmpadjust,
}

impl Instruction {
    /// The manual's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rmpupdate => "RMPUPDATE",
            Self::Psmash => "PSMASH",
            Self::Pvalidate => "PVALIDATE",
            Self::Rmpadjust => "RMPADJUST",
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Rmpupdate => "rmpupdate-result",
            Self::Psmash => "psmash-result",
            Self::Pvalidate => "pvalidate-result",
            Self::Rmpadjust => "rmpadjust-result",
        }
    }
}

/// Linux's own value beside the hardware's: PVALIDATE changed nothing (carry flag).
const NO_UPDATE: u32 = 255;

/// What `code` from `instruction` means and what to do.
pub(super) fn explain(instruction: Instruction, code: u32) -> (&'static str, &'static str) {
    use Instruction::{Psmash, Pvalidate, Rmpadjust, Rmpupdate};
    match (instruction, code) {
        (Rmpupdate, 0) => ("RMPUPDATE changed the entry.", ""),
        (Psmash, 0) => ("PSMASH split the 2 MiB entry into 512 of 4 KiB.", ""),
        (Pvalidate, 0) => (
            "PVALIDATE did what was asked. With the carry flag set the page was in that state \
             before: a guest must take this as an attack.",
            "",
        ),
        (Rmpadjust, 0) => ("RMPADJUST changed the permissions.", ""),
        (Rmpupdate, 1) => (
            "RMPUPDATE refused its input: an address that is not aligned to the page size, a page \
             without an RMP entry, a reserved field that is set, or a page that is to be \
             unassigned and still has an ASID or the immutable bit.",
            "Check that the page lies in what the RMP covers. Memory above the coverage can never \
             be given to a guest.",
        ),
        (Rmpupdate, 2) => (
            "RMPUPDATE was not permitted: the page's entry is immutable (a firmware page, a \
             context page, an HV-fixed page, a guest's page before its launch), or it ran inside a \
             guest.",
            "Look at the entries that the kernel dumps next. Firmware pages go back by \
             SNP_PAGE_RECLAIM; HV-fixed pages never do. A page next to the RMP's own memory means \
             that the RMP does not end on a 2 MiB boundary and that the kernel does not reserve \
             the rest of that block; Linux does since commits 400fea4b9651 and 88a921aa3c6b.",
        ),
        (Rmpupdate, 3) => (
            "RMPUPDATE found the page in use: a running vCPU has it (its save area, its VMCB, its \
             AVIC page), or the entry is locked by the firmware or by another CPU.",
            "The page of a vCPU that runs cannot be changed: stop the vCPU first. If no guest runs, \
             the firmware holds the page.",
        ),
        (Rmpupdate, 4) => (
            "RMPUPDATE found page sizes that overlap: 4 KiB asked inside a 2 MiB entry, or 2 MiB \
             asked over a block that has assigned 4 KiB pages.",
            "Linux tries again until it goes away, which it does if another CPU is changing the \
             same 2 MiB block. If it stays, that CPU hangs in the loop and lockups are reported: \
             the 2 MiB entry must be split (PSMASH) or all its 4 KiB pages be made shared first. \
             Development kernels before 6.9 had this fault: update.",
        ),
        (Psmash, 1) => (
            "PSMASH refused its input: the address is not aligned to 2 MiB, or the page has no RMP \
             entry.",
            "",
        ),
        (Psmash, 2) => {
            ("PSMASH was not permitted: it ran inside a guest, or the entry is immutable.", "")
        }
        (Psmash, 3) => (
            "PSMASH found the page in use, by a running vCPU or another CPU.",
            "KVM tries again by itself; it is a problem only if it stays.",
        ),
        (Psmash, 4) => (
            "PSMASH found an overlap; the manual has no such result for it, early Linux patches \
             expected it for an entry that is no 2 MiB page.",
            "",
        ),
        (Psmash, 7) => (
            "PSMASH found that the entry is no assigned 2 MiB page; most often it has been split \
             before.",
            "Two vCPUs that fault on the same 2 MiB block cause it; harmless if the guest goes on.",
        ),
        (Pvalidate, 1) => ("PVALIDATE refused its input: alignment or page size.", ""),
        (Pvalidate, 2) => (
            "PVALIDATE was not permitted: it must run at VMPL 0.",
            "Under an SVSM the guest asks the SVSM for it.",
        ),
        (Pvalidate, 6) => (
            "PVALIDATE was asked for 2 MiB and the RMP entry is 4 KiB.",
            "A guest then validates the 512 pages one by one; this is no fault.",
        ),
        (Pvalidate, NO_UPDATE) => (
            "Linux's own value: PVALIDATE changed nothing, the page was in that state before.",
            "A page that is validated twice is what an attack by the host looks like: the guest \
             must stop.",
        ),
        (Rmpadjust, 1) => ("RMPADJUST refused its input.", ""),
        (Rmpadjust, 2) => (
            "RMPADJUST was not permitted: the target VMPL is not below the caller's, or it would \
             get more than the caller has.",
            "",
        ),
        (Rmpadjust, 6) => ("RMPADJUST was asked for 2 MiB and the RMP entry is 4 KiB.", ""),
        (Rmpupdate | Psmash, 6)
        | (Rmpupdate | Pvalidate | Rmpadjust, 7)
        | (Pvalidate | Rmpadjust, 3 | 4) => {
            ("The value has a name, but no source gives it as a result of this instruction.", "")
        }
        _ => ("No source names this value.", ""),
    }
}

/// `FAIL_OVERLAP(4)`, or the number alone.
pub(super) fn status_name(instruction: Instruction, code: u32) -> String {
    match RmpStatus(code).name() {
        Some(name) => format!("{name}({code})"),
        None if instruction == Instruction::Pvalidate && code == NO_UPDATE => {
            format!("PVALIDATE_FAIL_NOUPDATE({code})")
        }
        None => format!("unknown({code})"),
    }
}

/// A result code by itself.
pub fn instruction_result(instruction: Instruction, code: u32) -> Finding {
    let (meaning, advice) = explain(instruction, code);
    let finding = match (instruction, code) {
        (_, 0) => Finding::info(instruction.kind()),
        (Instruction::Pvalidate, 6) | (Instruction::Psmash, 3 | 7) => {
            Finding::warning(instruction.kind())
        }
        _ => Finding::error(instruction.kind()),
    };
    let text = status_name(instruction, code);
    let finding = if text.starts_with("unknown") {
        Finding { severity: super::Severity::Warning, ..finding }
    } else {
        finding
    };
    finding
        .text("instruction", instruction.name())
        .number("code", u64::from(code))
        .text("result", text)
        .meaning(meaning)
        .advice(advice)
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn known_results() {
        let overlap = instruction_result(Instruction::Rmpupdate, 4);
        assert_eq!(overlap.severity, Severity::Error);
        assert_eq!(overlap.get("result").unwrap().to_string(), "FAIL_OVERLAP(4)");
        assert!(overlap.meaning.contains("overlap") && overlap.advice.contains("PSMASH"));
        let split = instruction_result(Instruction::Psmash, 7);
        assert_eq!((split.severity, split.value("code")), (Severity::Warning, Some(7)));
        assert_eq!(instruction_result(Instruction::Rmpadjust, 0).severity, Severity::Info);
        let twice = instruction_result(Instruction::Pvalidate, 255);
        assert!(twice.get("result").unwrap().to_string().contains("NOUPDATE"));
    }

    #[test]
    fn unknown_stays_unknown() {
        for code in [5, 8, 255, u32::MAX] {
            let finding = instruction_result(Instruction::Rmpupdate, code);
            assert_eq!(finding.meaning, "No source names this value.", "{code}");
            assert_eq!(finding.get("result").unwrap().to_string(), format!("unknown({code})"));
        }
        let odd = instruction_result(Instruction::Rmpupdate, 7);
        assert!(odd.meaning.contains("no source gives it"));
    }
}
