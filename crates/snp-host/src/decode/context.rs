//! What lines say together: which boot they belong to, whose log it is, what follows from what.

use snp_defs::{ContiguousRmp, Gib, PageState, Pfn};

use super::finding::{Fact, Finding, Severity};
use super::{fault, firmware, guest, kvm, update};
use crate::e820::MemoryMap;

/// Whose log a boot's lines are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Role {
    /// Nothing tells.
    #[default]
    Unknown,
    /// A host, or something that has guests of its own.
    Host,
    /// An encrypted guest's own kernel.
    Guest,
    /// Lines of both, such as a host's journal with a guest's console in it.
    Mixed,
}

impl Role {
    /// `unknown`, `host`, `guest` or `mixed`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Host => "host",
            Self::Guest => "guest",
            Self::Mixed => "mixed",
        }
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, role) | (role, Self::Unknown) => role,
            (a, b) if a == b => a,
            _ => Self::Mixed,
        }
    }
}

/// One boot in a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Boot {
    /// Line it begins in, from 1; 1 if the log does not show where.
    pub line: usize,
    /// The kernel's version, if its banner is in the log.
    pub kernel: Option<String>,
    /// Whose log it is.
    pub role: Role,
}

/// What one finding says of whose log it is in.
fn role(finding: &Finding) -> Role {
    match finding.get("role") {
        Some(Fact::Text(role)) if role == "guest" => return Role::Guest,
        Some(Fact::Text(role)) if role == "host" => return Role::Host,
        _ => {}
    }
    match finding.kind {
        guest::GUEST => Role::Guest,
        "unknown" | "nested-fault" => Role::Unknown,
        _ => Role::Host,
    }
}

/// Gives each boot its role and adds to findings what others of the same boot tell.
pub(super) fn connect(findings: &mut [Finding], boots: &mut [Boot]) {
    let mut rest = findings;
    for index in 0..boots.len() {
        let end = boots.get(index + 1).map_or(usize::MAX, |next| next.line);
        let count = rest.iter().take_while(|finding| finding.line < end).count();
        let (own, later) = rest.split_at_mut(count);
        if let Some(boot) = boots.get_mut(index) {
            boot.role = own.iter().map(role).fold(Role::Unknown, Role::and);
        }
        starts(own);
        edges(own);
        blocks(own);
        rest = later;
    }
}

/// How SNP's and SEV's starts, and the ASIDs, hang together.
fn starts(findings: &mut [Finding]) {
    const OFF: [&str; 9] = [
        firmware::SNP_INIT_FAILED,
        "firmware-too-old",
        "rmp-not-reserved",
        "rmp-too-small",
        "rmp-bad-registers",
        "rmp-bad-segment",
        "rmp-not-mapped",
        "rmp-init-failed",
        "iommu-refuses-snp",
    ];
    let line_of =
        |kinds: &[&str]| findings.iter().find(|f| kinds.contains(&f.kind)).map(|f| f.line);
    let up = line_of(&[firmware::SNP_API]);
    let off = line_of(&OFF);
    for finding in findings.iter_mut() {
        if finding.kind == firmware::SEV_INIT_FAILED {
            if let Some(line) = up {
                finding.severity = Severity::Warning;
                finding.add(&format!("SNP itself was initialised (line {line})."));
            } else if let Some(line) = off.filter(|line| *line <= finding.line) {
                finding.add(&format!("SNP was refused before (line {line})."));
            }
        } else if let Some(line) = off.filter(|_| finding.kind == kvm::SNP_ASIDS && up.is_none()) {
            finding.severity = finding.severity.max(Severity::Warning);
            finding.add(&format!(
                "But SNP could not be started (line {line}): ASIDs alone do not make it work."
            ));
        }
    }
}

/// Largest log whose memory map is looked for, in bytes; a boot's is a few kilobytes.
const MAP_BYTES: usize = 16 << 20;

/// Whether the RMP covers the RAM of the memory map that the same log has, if it has a whole one.
pub(super) fn coverage(findings: &mut [Finding], log: &[u8]) {
    let mut tables = findings.iter_mut().filter(|finding| finding.kind == "rmp-table");
    let (Some(table), None) = (tables.next(), tables.next()) else { return };
    if log.len() > MAP_BYTES || memchr::memmem::find(log, b"BIOS-e820").is_none() {
        return;
    }
    let Some(rmp) = table.value("base").zip(table.value("end")) else { return };
    let Ok(rmp) = ContiguousRmp::new(rmp.0, rmp.1) else { return };
    // A map that is cut, changed or of several boots proves nothing.
    let text = std::str::from_utf8(log).ok();
    let map = text.and_then(|text| MemoryMap::find("log", text).ok().flatten());
    let Some(map) = map.filter(|map| map.notes.is_empty()) else { return };
    let Some(max_pfn) = Pfn::new(map.max_pfn()).filter(|pfn| pfn.get() > 0) else { return };
    let ends = Gib(max_pfn.spa().get()).to_string();
    table.set("ram_ends", Fact::Text(ends.clone()));
    let covers = rmp.linux_check(max_pfn).is_ok();
    table.set("covers_all_ram", Fact::Flag(covers));
    if covers {
        table.add(&format!(
            "The memory map of this log has RAM up to {ends}: all of it is covered."
        ));
    } else {
        table.severity = Severity::Error;
        table.add(&format!(
            "The memory map of this log has RAM up to {ends}: not all of it is covered. Linux refuses \
             SNP then; 6.9-rc1 did not notice."
        ));
    }
}

/// Updates beside the RMP's own ends, and beyond its coverage.
fn edges(findings: &mut [Finding]) {
    let range = findings
        .iter()
        .find(|f| f.kind == "rmp-table")
        .and_then(|f| Some((f.line, ContiguousRmp::new(f.value("base")?, f.value("end")?).ok()?)));
    let Some((line, rmp)) = range else { return };
    let covered = rmp.covered_pages();
    let (first, last) = (rmp.base().pfn(), rmp.end().pfn());
    for finding in findings.iter_mut() {
        if !matches!(
            finding.kind,
            update::RMPUPDATE_FAILED | "rmp-entry-unassigned" | "psmash-failed"
        ) {
            continue;
        }
        let Some(pfn) = finding.value("pfn").and_then(Pfn::new) else { continue };
        if pfn.get() >= covered {
            finding.add(&format!(
                "The page lies above what the RMP covers (line {line}): it has no entry."
            ));
        } else if pfn >= first && pfn <= last {
            finding.add(&format!("The page is the RMP's own memory (line {line})."));
        } else if pfn.head() == first.head() || pfn.head() == last.head() {
            finding.set("beside_rmp", Fact::Flag(true));
            finding.add(&format!(
                "The page shares its 2 MiB block with an end of the RMP (line {line}), which does not \
                 lie on a 2 MiB boundary."
            ));
        }
    }
}

/// What the dump of a block's entries shows for the page that it was made for.
fn blocks(findings: &mut [Finding]) {
    for at in 0..findings.len() {
        let Some(page) = findings.get(at).filter(|f| f.kind == "rmp-entry-unassigned") else {
            continue;
        };
        let (Some(start), Some(end)) = (page.value("block_first_pfn"), page.value("block_end_pfn"))
        else {
            continue;
        };
        let mut shown: u64 = 0;
        let mut firmware: u64 = 0;
        let mut guests: u64 = 0;
        for entry in findings.iter().skip(at + 1).take_while(|f| f.kind == "rmp-entry") {
            let inside = entry.value("pfn").is_some_and(|pfn| (start..end).contains(&pfn));
            if !inside {
                break;
            }
            shown += 1;
            let state = match entry.get("state") {
                Some(Fact::Text(state)) => state.as_str(),
                _ => "",
            };
            firmware += u64::from(state == PageState::Firmware.name());
            guests += u64::from(state.starts_with("Guest") || state.starts_with("Pre-"));
        }
        let Some(page) = findings.get_mut(at) else { continue };
        if shown == 0 {
            continue;
        }
        page.set("entries_shown", Fact::Number(shown));
        page.set("firmware_pages_shown", Fact::Number(firmware));
        page.set("guest_pages_shown", Fact::Number(guests));
        page.add(&format!(
            "Of the block {shown} entries are shown here: {firmware} firmware pages, {guests} guest pages."
        ));
        let pfn = page.value("pfn");
        let failed = at.checked_sub(1).and_then(|before| findings.get_mut(before)).filter(|f| {
            f.kind == update::RMPUPDATE_FAILED
                && f.value("pfn") == pfn
                && f.value("code") == Some(2)
        });
        if let Some(failed) = failed.filter(|_| firmware > 0) {
            failed.add(
                "Firmware pages lie in the same 2 MiB block, and the page itself is free: so it looks \
                 right behind the end of an RMP that does not end on a 2 MiB boundary.",
            );
        }
    }
}

/// The page behind a fault, from the line with its page table that follows.
pub(super) fn tell_fault(findings: &mut [Finding], pfn: u64) {
    if let Some(found) = findings.last_mut().filter(|f| f.kind == fault::PAGE_FAULT) {
        found.set("pfn", Fact::Hex(pfn));
        if let Some(page) = Pfn::new(pfn) {
            found.set("address", Fact::Hex(page.spa().get()));
            found.set("region_gib", Fact::Number(u64::from(page.region().get())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;

    fn kinds(log: &str) -> Vec<(usize, &'static str, Severity)> {
        decode(log.as_bytes()).findings.iter().map(|f| (f.line, f.kind, f.severity)).collect()
    }

    #[test]
    fn sev_fails_and_snp_works() {
        let log =
            "ccp psp: SEV: failed to INIT error 0x11, rc -5\nccp psp: SEV-SNP API:1.42 build:42\n";
        assert_eq!(
            kinds(log),
            [
                (1, "sev-init-failed", Severity::Warning),
                (2, "snp-firmware-version", Severity::Info)
            ]
        );
        let log = "ccp 0: SEV-SNP: failed to INIT error 0x3\nccp 0: SEV: failed to INIT error 0x1, rc -5\n\
                   SEV-ES and SEV-SNP supported: 14 ASIDs\n";
        let found = decode(log.as_bytes()).findings;
        assert!(found[1].meaning.contains("refused before (line 1)"), "{}", found[1].meaning);
        assert_eq!(found[2].severity, Severity::Warning);
        assert!(found[2].meaning.contains("could not be started (line 1)"));
    }

    #[test]
    fn boots_have_their_own_roles() {
        let log = "[ 0.0] Linux version 6.11.0 (a@b)\n\
                   [ 0.0] SEV-SNP: RMP table physical range [0x1000000 - 0x1ffffff]\n\
                   [ 0.0] Linux version 6.12.0 (a@b)\n\
                   [ 0.0] Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP\n";
        let boots = decode(log.as_bytes()).boots;
        let told: Vec<_> = boots.iter().map(|b| (b.line, b.kernel.as_deref(), b.role)).collect();
        assert_eq!(told, [(1, Some("6.11.0"), Role::Host), (3, Some("6.12.0"), Role::Guest)]);
        let both =
            "SEV-SNP: Leaking PFN range 0x1-0x2\nMemory Encryption Features active: AMD SEV\n";
        assert_eq!(decode(both.as_bytes()).boots[0].role, Role::Mixed);
        assert_eq!(decode(b"nothing\n").boots[0].role, Role::Unknown);
    }

    #[test]
    fn coverage_against_the_map() {
        let log = |end: &str| {
            format!(
                "[ 0.0] SEV-SNP: RMP table physical range [0x11500000 - 0x51dfffff]\n\
                 [ 0.0] BIOS-provided physical RAM map:\n\
                 [ 0.0] BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable\n\
                 [ 0.0] BIOS-e820: [mem 0x0000000000100000-{end}] usable\n"
            )
        };
        // 258.2461 GiB are covered.
        let good = &decode(log("0x000000407fffffff").as_bytes()).findings[0];
        assert_eq!(
            (good.severity, good.get("covers_all_ram")),
            (Severity::Info, Some(&Fact::Flag(true)))
        );
        assert!(good.meaning.contains("RAM up to 258.0000 GiB"), "{}", good.meaning);
        let bad = &decode(log("0x000000409fffffff").as_bytes()).findings[0];
        assert_eq!(
            (bad.severity, bad.get("covers_all_ram")),
            (Severity::Error, Some(&Fact::Flag(false)))
        );
        let cut = log("0x000000407fffffff").replace("BIOS-provided physical RAM map:", "x");
        let cut = &decode(cut.as_bytes()).findings[0];
        assert!(cut.get("covers_all_ram").is_none() || cut.severity == Severity::Info);
    }

    #[test]
    fn a_separator_and_its_banner_are_one_boot() {
        let log =
            "-- Boot 1 --\nNov 22 10:00:00 h kernel: Linux version 6.12.0 (a@b)\n-- Boot 2 --\n";
        let boots = decode(log.as_bytes()).boots;
        let told: Vec<_> = boots.iter().map(|b| (b.line, b.kernel.as_deref())).collect();
        assert_eq!(told, [(1, Some("6.12.0")), (3, None)]);
    }

    #[test]
    fn pages_beside_the_rmp() {
        let log = "SEV-SNP: RMP table physical range [0x000000004de00000 - 0x00000000566fffff]\n\
                   SEV-SNP: RMPUPDATE failed for PFN 56700, pg_level: 1, ret: 2\n\
                   SEV-SNP: RMPUPDATE failed for PFN 56200, pg_level: 1, ret: 2\n\
                   SEV-SNP: RMPUPDATE failed for PFN 56800, pg_level: 1, ret: 2\n\
                   SEV-SNP: RMPUPDATE failed for PFN f00000, pg_level: 1, ret: 1\n";
        let found = decode(log.as_bytes()).findings;
        assert!(
            found[1].meaning.contains("shares its 2 MiB block with an end of the RMP (line 1)")
        );
        assert!(found[2].meaning.contains("the RMP's own memory"));
        assert!(!found[3].meaning.contains("RMP (line") && !found[3].meaning.contains("(line 1)"));
        assert!(found[4].meaning.contains("above what the RMP covers (line 1)"));
    }
}
