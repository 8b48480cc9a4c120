//! Texts as the kernel writes them: lists and maps of CPUs, RAM, the boot log, one CPU's `cpuinfo`.

use std::fmt::Write as _;

use rmpopt_core::table;
use snp_defs::{RmpGeometry, SpaRange};
use snp_lab::boot::RmpLayout;
use snp_lab::memory::RangeKind;

use crate::cpuid;
use crate::machine::Machine;

/// `0-3,7` and a newline (`%*pbl`).
pub(crate) fn list(numbers: impl Iterator<Item = u32>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = table::write_cpu_list(&mut text, numbers);
    text.push('\n');
    text
}

/// `00000000,0000000f` and a newline (`%*pb`): 32 CPUs a word, the highest first, the first word as
/// wide as `limit` CPUs need.
pub(crate) fn mask(numbers: impl Iterator<Item = u32>, limit: u32) -> String {
    let limit = limit.max(1);
    let mut words = vec![0u32; limit.div_ceil(32) as usize];
    for number in numbers {
        if let Some(word) = words.get_mut(number as usize / 32) {
            *word |= 1 << (number % 32);
        }
    }
    let mut text = String::new();
    for (n, word) in words.iter().enumerate().rev() {
        let bits = if n + 1 == words.len() { limit - n as u32 * 32 } else { 32 };
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{word:0width$x}", width = bits.div_ceil(4) as usize);
    }
    text.push('\n');
    text
}

/// `/proc/iomem`: RAM and what firmware keeps.
pub(crate) fn iomem(machine: &Machine) -> String {
    let mut rows: Vec<(u64, u64, &str)> =
        machine.memory.ram().iter().map(|ram| (ram.start, ram.end, "System RAM")).collect();
    for entry in machine.memory.others() {
        let name = match entry.kind {
            RangeKind::Usable => continue,
            RangeKind::Reserved => "Reserved",
            RangeKind::Acpi => "ACPI Tables",
            RangeKind::Other => "Unknown E820 type",
        };
        rows.push((entry.start, entry.end, name));
    }
    rows.sort_unstable();
    let mut text = String::new();
    let mut joined: Vec<(u64, u64, &str)> = Vec::new();
    for row in rows {
        match joined.last_mut() {
            // The kernel knows nothing of nodes here.
            Some(last) if last.1 == row.0 && last.2 == row.2 => last.1 = row.1,
            _ => joined.push(row),
        }
    }
    for (start, end, name) in joined.into_iter().filter(|(start, end, _)| start < end) {
        let _ = writeln!(text, "{start:08x}-{:08x} : {name}", end - 1);
    }
    text
}

/// The host's kernel log, as far as it says something of memory, RMP and SNP. Each line says when it
/// would have been printed; what is left out is not made up.
pub(crate) fn boot_log(machine: &Machine) -> String {
    let mut log = String::new();
    let _ = writeln!(log, "[    0.000000] Linux version 7.3.0 (rmpopt emulated host)");
    let _ = writeln!(log, "[    0.000000] BIOS-provided physical RAM map:");
    let mut map: Vec<(u64, u64, &str)> =
        machine.memory.ram().iter().map(|ram| (ram.start, ram.end, "usable")).collect();
    for entry in machine.memory.others() {
        let kind = match entry.kind {
            RangeKind::Usable => "usable",
            RangeKind::Reserved | RangeKind::Other => "reserved",
            RangeKind::Acpi => "ACPI data",
        };
        map.push((entry.start, entry.end, kind));
    }
    map.sort_unstable();
    for (start, end, kind) in map.into_iter().filter(|(start, end, _)| start < end) {
        let last = end - 1;
        let _ = writeln!(log, "[    0.000000] BIOS-e820: [mem {start:#018x}-{last:#018x}] {kind}");
    }
    let name = &machine.scenario;
    let _ = writeln!(log, "[    0.000000] DMI: rmpopt emulated host, scenario {}", harmless(name));
    match machine.boot.linux_refuses() {
        Some(_) if matches!(machine.boot.rmp, RmpLayout::Unset { .. }) => {
            let said = "Memory for the RMP table has not been reserved by BIOS";
            let _ = writeln!(log, "[    0.100000] SEV-SNP: {said}");
        }
        Some(_) => {}
        None => rmp_lines(machine, &mut log),
    }
    log
}

fn rmp_lines(machine: &Machine, log: &mut String) {
    match &machine.boot.rmp {
        RmpLayout::Contiguous(rmp) => {
            let (base, end) = (rmp.base().get(), rmp.end().get());
            let said = format!("RMP table physical range [{base:#018x} - {end:#018x}]");
            let _ = writeln!(log, "[    0.100000] SEV-SNP: {said}");
        }
        RmpLayout::Segmented { base, shift, .. } => {
            let start = base.get();
            let end = start + snp_defs::BOOKKEEPING_BYTES + snp_defs::RST_BYTES;
            let _ = writeln!(
                log,
                "[    0.100000] SEV-SNP: Segmented RMP base table physical range \
                 [{start:#018x} - {end:#018x}]"
            );
            let gib = 1u64 << shift.saturating_sub(30);
            let _ = writeln!(log, "[    0.100000] SEV-SNP: Segmented RMP using {gib}GB segments");
            let Ok(RmpGeometry::Segmented(rmp)) = machine.boot.rmp.geometry() else { return };
            for (number, covers, table) in rmp.segments() {
                let _ = writeln!(
                    log,
                    "[    0.100000] SEV-SNP: RMP segment {number} physical address {} covering {}",
                    range(table),
                    range(covers)
                );
            }
        }
        RmpLayout::Unset { .. } => {}
    }
}

fn range(range: SpaRange) -> String {
    let start = range.start.get();
    format!("[{start:#x} - {:#x}]", start + range.bytes - 1)
}

/// One CPU's part of `/proc/cpuinfo`, as far as the emulated CPUID says it.
pub(crate) fn cpuinfo(machine: &Machine, cpu: u32, siblings: usize, text: &mut String) {
    let Some(core) = machine.topology.core_of(cpu) else { return };
    let (socket, local) = machine.place_of_core(core);
    let cores = machine.topology.cores_of_socket(socket).count();
    let apic = cpuid::apic_id(machine, cpu);
    let _ = write!(
        text,
        "processor\t: {cpu}\nvendor_id\t: AuthenticAMD\ncpu family\t: {}\nmodel\t\t: {}\n\
         model name\t: {}\nstepping\t: 0\nphysical id\t: {socket}\nsiblings\t: {siblings}\n\
         core id\t\t: {local}\ncpu cores\t: {cores}\napicid\t\t: {apic}\ninitial apicid\t: {apic}\n\
         fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {}\nwp\t\t: yes\nflags\t\t: {}\n\
         TLB size\t: 192 4K pages\nclflush size\t: 64\ncache_alignment\t: 64\n\
         address sizes\t: 52 bits physical, 57 bits virtual\n\n",
        cpuid::FAMILY,
        cpuid::MODEL,
        cpuid::BRAND,
        cpuid::MAX_BASIC,
        cpuid::FLAGS,
    );
}

/// Text that came with a scenario or a request, for a line of its own: without control characters.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_masks() {
        assert_eq!(list([0, 1, 2, 7].into_iter()), "0-2,7\n");
        assert_eq!(list([].into_iter()), "\n");
        assert_eq!(mask([0, 1, 33].into_iter(), 64), "00000002,00000003\n");
        assert_eq!(mask([0, 5].into_iter(), 6), "21\n");
        assert_eq!(mask([32].into_iter(), 36), "1,00000000\n");
    }
}
