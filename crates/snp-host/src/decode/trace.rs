//! Call traces: who asked for what failed.
//!
//! A frame is `rmp_make_shared+0xb7/0xc0`, with the module in brackets if it is in one. Frames with
//! `?` are addresses that lay on the stack and need not be callers, so they name nobody.

use crate::log::split;

use super::finding::{Fact, Finding};

/// A function in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Without the compiler's suffix (`.cold`, `.part.0`).
    pub(super) function: &'a str,
    module: Option<&'a str>,
    sure: bool,
}

/// Most lines of one trace.
pub(super) const LINES: usize = 120;
/// Lines between a failure and its trace: CPU, hardware, registers, and a dump of 512 entries.
const DISTANCE: usize = 560;

/// What asked for it, by the first function of the trace that is in the list (innermost first).
/// Sources: Linux 7.3 and the trees of 5.19 and 6.x.
const CALLERS: &[(&str, &str)] = &[
    ("sev_gmem_prepare", "KVM's guest memory (gmem), which gives a page to an SNP guest"),
    ("sev_gmem_invalidate", "KVM's guest memory (gmem), which takes pages back from an SNP guest"),
    ("kvm_gmem_free_folio", "KVM's guest memory (gmem), which takes pages back from an SNP guest"),
    ("kvm_gmem_populate", "KVM, which copies the first pages of an SNP guest"),
    ("sev_gmem_post_populate", "KVM, which copies the first pages of an SNP guest"),
    ("snp_launch_update", "KVM, which launches an SNP guest"),
    ("snp_launch_update_vmsa", "KVM, which makes a vCPU's save area"),
    ("sev_vm_destroy", "KVM, which ends a guest"),
    ("sev_free_vcpu", "KVM, which ends a vCPU"),
    ("snp_handle_page_state_change", "KVM, for a guest that asked to change the state of pages"),
    ("snp_begin_psc", "KVM, for a guest that asked to change the state of pages"),
    ("sev_handle_rmp_fault", "KVM, after an RMP fault of a guest"),
    ("handle_rmp_page_fault", "KVM, after an RMP fault of a guest"),
    ("snp_reclaim_pages", "the ccp driver, which takes pages back from the firmware"),
    ("rmp_mark_pages_firmware", "the ccp driver, which gives pages to the firmware"),
    ("snp_alloc_firmware_pages", "the ccp driver, which gives pages to the firmware"),
    ("__snp_alloc_firmware_pages", "the ccp driver, which gives pages to the firmware"),
    (
        "snp_map_cmd_buf_desc",
        "the ccp driver, which gives a legacy command's buffer to the firmware",
    ),
    ("snp_prep_cmd_buf", "the ccp driver, which gives a legacy command's buffer to the firmware"),
    ("__sev_do_cmd_locked", "the ccp driver, in a firmware command"),
    ("__sev_snp_init_locked", "the ccp driver, at SNP's start"),
    ("__sev_snp_shutdown_locked", "the ccp driver, at SNP's shutdown"),
    ("amd_iommu_snp_disable", "the IOMMU driver, at SNP's shutdown"),
    ("iommu_make_shared", "the IOMMU driver, at SNP's shutdown"),
    ("iommu_page_make_shared", "the IOMMU driver, at SNP's shutdown"),
];

/// The functions that change the RMP themselves: a trace that has one goes through it.
const RMP_FUNCTIONS: &[&str] = &[
    "rmpupdate",
    "psmash",
    "rmp_make_shared",
    "rmp_make_private",
    "snp_leak_pages",
    "__snp_leak_pages",
];
/// Frames that only print the trace or dispatch.
const NOBODY: &[&str] =
    &["dump_stack_lvl", "dump_stack", "show_stack", "warn_slowpath_fmt", "__warn", "report_bug"];

/// A frame, if the line is one.
pub(super) fn frame(line: &str) -> Option<Frame<'_>> {
    let message = split(line).message.trim();
    let (sure, rest) = match message.strip_prefix("? ") {
        Some(rest) => (false, rest),
        None => (true, message),
    };
    // Old kernels print the address first: `[<ffffffff8106a5f0>] func+0x1/0x2`.
    let rest = rest.strip_prefix("[<").and_then(|r| r.split_once(">] ")).map_or(rest, |(_, r)| r);
    let rest = rest.strip_prefix("RIP: 0010:").unwrap_or(rest);
    let (name, offsets) = rest.split_once("+0x")?;
    let named = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if name.is_empty() || name.len() > 128 || !name.chars().all(named) {
        return None;
    }
    let (_, size) = offsets.split_once("/0x")?;
    let hex = size.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(size.len());
    let tail = size.get(hex..)?.trim();
    let module = tail.strip_prefix('[').and_then(|t| t.split([' ', ']']).next());
    if hex == 0 || !(tail.is_empty() || tail.starts_with('[') || tail.starts_with('(')) {
        return None;
    }
    let function = name.split('.').next().unwrap_or(name);
    Some(Frame { function, module: module.filter(|m| !m.is_empty()), sure })
}

/// Whether the frame is one that changes the RMP.
pub(super) fn touches_rmp(frame: &Frame<'_>) -> bool {
    frame.sure && RMP_FUNCTIONS.contains(&frame.function)
}

/// Collects the frames from `lines`, which begin with the frame that [`touches_rmp`] found, and
/// says who called.
pub(super) fn read<'a>(lines: impl Iterator<Item = &'a str>) -> Finding {
    let mut frames: Vec<Frame<'a>> = Vec::new();
    for line in lines.take_while(|line| inside(line)) {
        frames.extend(frame(line));
    }
    let sure: Vec<&Frame<'_>> =
        frames.iter().filter(|f| f.sure && !NOBODY.contains(&f.function)).collect();
    let through = sure.first().map_or("rmpupdate", |f| f.function);
    let known = sure.iter().find_map(|f| {
        CALLERS.iter().find(|(name, _)| *name == f.function).map(|(_, who)| (*f, *who))
    });
    let path: Vec<String> = sure
        .iter()
        .map(|f| match f.module {
            Some(module) => format!("{} [{module}]", f.function),
            None => f.function.to_owned(),
        })
        .collect();
    let finding = Finding::info("rmp-call-trace").text("through", through);
    match known {
        Some((frame, who)) => finding
            .text("caller", frame.function)
            .text("on_behalf_of", who)
            .fact("path", Fact::List(path))
            .meaning(format!("{through} was called by {}: {who}.", frame.function)),
        None => finding.fact("path", Fact::List(path)).meaning(format!(
            "The call went through {through}; no function of the trace is one whose purpose is \
             known here."
        )),
    }
}

/// Whether the line goes on with a trace: a frame, or what the kernel prints between frames.
pub(super) fn inside(line: &str) -> bool {
    if frame(line).is_some() {
        return true;
    }
    let message = split(line).message.trim();
    message.is_empty()
        || message.starts_with('<')
        || message.starts_with("RIP:")
        || message.starts_with("Code:")
        || message.starts_with("RSP:")
        || message.starts_with("RAX:")
        || message.starts_with("RDX:")
        || message.starts_with("RBP:")
        || message.starts_with("R10:")
        || message.starts_with("R13:")
}

/// Whether the line may be a frame of which a terminal shows the rest on the next line.
pub(super) fn begins(line: &str) -> bool {
    let message = split(line).message.trim();
    let name = message.strip_prefix("? ").unwrap_or(message);
    let end = name.find('+').unwrap_or(name.len());
    let (name, rest) = name.split_at(end);
    let named = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.');
    line.len() >= super::WRAPPED_AT && named && (rest.starts_with("+0x") || "+0x".starts_with(rest))
}

/// Tells the failure before the trace in `findings`, its last element, who called.
pub(super) fn tell_failure(findings: &mut [Finding], trace: &Finding) {
    let Some(failed) = findings
        .iter_mut()
        .rev()
        .find(|f| f.kind == super::update::RMPUPDATE_FAILED)
        .filter(|f| trace.line.saturating_sub(f.line) <= DISTANCE && f.get("caller").is_none())
    else {
        return;
    };
    for name in ["caller", "on_behalf_of"] {
        if let Some(fact) = trace.get(name) {
            failed.set(name, fact.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_kernel() {
        for line in [
            "rmpupdate+0x18c/0x1a0",
            "[ 1187.440293]  rmpupdate+0x18c/0x1a0",
            "[ 5025.876636] [   T4616]  rmpupdate.cold+0x37/0x3c",
            "Nov 22 10:00:00 host kernel:  rmpupdate+0x18c/0x1a0 [kvm]",
            " [<ffffffff8106a5f0>] rmpupdate+0x18c/0x1a0",
        ] {
            let found = frame(line).unwrap();
            assert_eq!((found.function, found.sure), ("rmpupdate", true), "{line}");
        }
        let module = frame("  sev_gmem_prepare+0xd2/0x250 [kvm_amd 98eacc7b47ec01371e]").unwrap();
        assert_eq!((module.function, module.module), ("sev_gmem_prepare", Some("kvm_amd")));
        assert!(!frame(" ? rmpupdate+0x1/0x2").unwrap().sure);
        for other in ["a+0x1", "the sum a+0x1/0x2 b", "x+0x/0x2 y", "rmpupdate failed", "+0x1/0x2"]
        {
            assert_eq!(frame(other), None, "{other}");
        }
    }

    #[test]
    fn guesses_name_nobody() {
        let log = " rmpupdate+0x1/0x2\n ? sev_vm_destroy+0x1/0x2 [kvm_amd]\n other+0x1/0x2\n";
        let found = read(log.lines());
        assert_eq!(found.get("caller"), None);
        assert!(found.meaning.contains("no function of the trace"));
        let log = " rmpupdate+0x1/0x2\n sev_vm_destroy+0x1/0x2 [kvm_amd]\n </TASK>\nnot a frame\n sev_gmem_prepare+0x1/0x2\n";
        let found = read(log.lines());
        assert_eq!(found.get("caller").unwrap().to_string(), "sev_vm_destroy");
        assert_eq!(found.get("path").unwrap().to_string(), "rmpupdate, sev_vm_destroy [kvm_amd]");
    }
}
