//! Doubts that only show once all files are read together. They are notes, not errors: the files
//! may still be good enough, and the reader of the results decides.

use std::collections::BTreeSet;

use super::HostFiles;
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
    for span in ranges {
        let end = span.end_inclusive.saturating_add(1);
        let usable = map.value.usable_bytes_in(span.start, end);
        if usable > 0 {
            notes.push(format!(
                "{}: {usable} bytes of the RMP at {span} are usable RAM in the memory map of {}",
                rmp.file.display(),
                map.file.display()
            ));
        }
    }
}
