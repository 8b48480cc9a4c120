//! Doubts that only show once all files are read together. They are notes, not errors: the files
//! may still be good enough, and the reader of the results decides.

use std::collections::BTreeSet;

use super::HostFiles;
use crate::Span;
use crate::kernel_log::Rmp;

/// Adds notes on files that do not seem to describe one host.
pub(super) fn together(host: &mut HostFiles) {
    let mut notes = Vec::new();
    memory_sizes(host, &mut notes);
    cpus(host, &mut notes);
    nodes(host, &mut notes);
    rmp(host, &mut notes);
    host.notes.append(&mut notes);
}

/// The kernel keeps a few percent of the firmware's RAM for itself, never more than all.
fn memory_sizes(host: &HostFiles, notes: &mut Vec<String>) {
    let (Some(map), Some(numa)) = (&host.memory, &host.numactl) else { return };
    let (listed, managed) = (map.value.usable_bytes() >> 20, numa.value.size_mib());
    if managed > listed || managed < listed / 10 * 9 {
        notes.push(format!(
            "{} lists {listed} MiB of usable RAM, {} {managed} MiB: are they of the same host?",
            map.file.display(),
            numa.file.display()
        ));
    }
}

fn cpus(host: &HostFiles, notes: &mut Vec<String>) {
    let lscpu = host.lscpu.as_ref();
    if let (Some(cpu), Some(numa)) = (lscpu, &host.numactl)
        && cpu.value.shape.cpus < numa.value.cpus()
    {
        notes.push(format!(
            "{} states {} CPUs, {} lists {}: are they of the same host?",
            cpu.file.display(),
            cpu.value.shape.cpus,
            numa.file.display(),
            numa.value.cpus()
        ));
    }
    let Some((cpu, topo)) = lscpu.zip(host.cpu_topo.as_ref()) else { return };
    if let Some(shape) = topo.value.shape()
        && shape != cpu.value.shape
    {
        notes.push(format!(
            "{} and {} arrange CPUs differently; lscpu's values are used",
            cpu.file.display(),
            topo.file.display()
        ));
    }
}

fn nodes(host: &HostFiles, notes: &mut Vec<String>) {
    let numactl = host.numactl.as_ref();
    if let (Some(numa), Some(srat)) = (numactl, &host.srat) {
        let in_srat: BTreeSet<u32> =
            srat.value.iter().filter(|r| !r.hotplug).map(|r| r.node).collect();
        let with_memory = numa.value.nodes.iter().filter(|(_, n)| n.size_mib != Some(0));
        if with_memory.map(|(node, _)| *node).collect::<BTreeSet<_>>() != in_srat {
            notes.push(format!(
                "{} and {} name different NUMA nodes with memory: are they of the same boot?",
                numa.file.display(),
                srat.file.display()
            ));
        }
    }
    let Some((numa, cpu)) = numactl.zip(host.lscpu.as_ref()) else { return };
    let by_numactl = numa.value.nodes.iter().map(|(node, n)| (*node, &n.cpus));
    let by_lscpu = cpu.value.nodes.iter().map(|(node, list)| (*node, list));
    if !cpu.value.nodes.is_empty() && !by_numactl.eq(by_lscpu) {
        notes.push(format!(
            "{} and {} give NUMA nodes different CPUs: are they of the same boot?",
            numa.file.display(),
            cpu.file.display()
        ));
    }
}

/// The RMP lies in reserved memory; firmware that forgets this loses the host.
fn rmp(host: &HostFiles, notes: &mut Vec<String>) {
    let (Some(rmp), Some(map)) = (&host.rmp, &host.memory) else { return };
    let ranges = match &rmp.value {
        Rmp::Contiguous(span) => vec![*span],
        Rmp::Segmented { base_table, segments, .. } => {
            base_table.iter().copied().chain(segments.iter().map(|s| s.table)).collect()
        }
    };
    let usable_in =
        |span: &Span| map.value.usable_bytes_in(span.start, span.end_inclusive.saturating_add(1));
    let usable: Vec<_> = ranges.iter().map(|span| (span, usable_in(span))).collect();
    let mut usable = usable.into_iter().filter(|(_, bytes)| *bytes > 0);
    let Some((first, bytes)) = usable.next() else { return };
    let (others, more) = usable.fold((0, 0u64), |(n, sum), (_, bytes)| (n + 1, sum + bytes));
    let others = match others {
        0 => String::new(),
        n => format!(", and {more} of {n} more of its parts,"),
    };
    notes.push(format!(
        "{}: {bytes} bytes of the RMP at {first}{others} are usable RAM in the memory map of {}",
        rmp.file.display(),
        map.file.display()
    ));
}

#[cfg(test)]
mod tests {
    use super::super::HostFiles;

    fn notes(segments: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dmesg");
        let log = format!(
            "BIOS-provided physical RAM map:\n\
             BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable\n\
             BIOS-e820: [mem 0x0000000010000000-0x00000000ffffffff] usable\n\
             SEV-SNP: Segmented RMP using 2GB segments\n{segments}"
        );
        std::fs::write(&file, log).unwrap();
        HostFiles::read(&[file]).unwrap().notes
    }

    #[test]
    fn an_rmp_in_usable_ram_is_noted_once() {
        let kept = "SEV-SNP: RMP segment 0 physical address [0x8800000 - 0x8ffffff] covering [0x0 - 0x7fffffff]\n";
        let first = "SEV-SNP: RMP segment 1 physical address [0xff00000 - 0x106fffff] covering [0x80000000 - 0xffffffff]\n";
        let second = "SEV-SNP: RMP segment 2 physical address [0x20000000 - 0x207fffff] covering [0x100000000 - 0x17fffffff]\n";
        assert_eq!(notes(kept), Vec::<String>::new());
        let one = notes(&format!("{kept}{first}"));
        assert_eq!(one.len(), 1);
        assert!(
            one[0].contains(": 7340032 bytes of the RMP at 0xff00000-0x106fffff are usable"),
            "{one:?}"
        );
        let both = notes(&format!("{kept}{first}{second}"));
        let said = "at 0xff00000-0x106fffff, and 8388608 of 1 more of its parts, are usable RAM";
        assert!(both.len() == 1 && both[0].contains(said), "{both:?}");
    }
}
