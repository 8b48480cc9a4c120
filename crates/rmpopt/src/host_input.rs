//! From the files of a real host to the lab's host: what they state is taken, what they do not is
//! filled in and named in `assumed`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use snp_host::{CpuShape, Found, HostFiles, Kind, MemoryMap, Rmp, SratRange};
use snp_lab::memory::{MapEntry, MemoryError, NodeMemory, NodeRange, PhysicalMemory, RangeKind};
use snp_lab::scenario::{Action, HostSpec, MemorySpec, RmpKind, Scenario, TopologySpec, limits};
use snp_lab::topology::{NodeCpus, Topology, TopologyError, TopologyLists, TopologyNumbers};

use crate::exit::Failure;
use crate::output;
use crate::units::{exact_duration, exact_size, size};

/// Puts the host of these files in place of the scenario's; what they do not state stays, and is
/// named as coming from `filler`.
pub(crate) fn apply(
    paths: &[PathBuf],
    scenario: &mut Scenario,
    filler: &str,
    assumed: &mut Vec<String>,
) -> Result<(), Failure> {
    let files = HostFiles::read(paths)?;
    files.notes.iter().for_each(|note| output::note(note));
    for ignored in &files.ignored {
        output::note(&format!("{}: not used: {}", ignored.file.display(), ignored.reason));
    }
    let nothing = files.memory.is_none()
        && files.lscpu.is_none()
        && files.numactl.is_none()
        && files.srat.is_none()
        && files.cpu_topo.is_none()
        && files.rmp.is_none();
    if nothing {
        let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
        return Err(Failure::BadInput(format!(
            "{}: nothing that describes a host, expected at least a memory map, CPUs or NUMA nodes",
            names.join(", ")
        )));
    }
    scenario.host = host(&files, &scenario.host, filler, assumed)?;
    fits(scenario)
}

fn host(
    files: &HostFiles,
    base: &HostSpec,
    filler: &str,
    assumed: &mut Vec<String>,
) -> Result<HostSpec, Failure> {
    let mut fill = Fill { files, base, filler, assumed };
    let topology = fill.topology()?;
    let memory = fill.memory(&topology)?;
    let rmp = fill.rmp();
    Ok(HostSpec { topology, memory, rmp, nohz_full: base.nohz_full.clone() })
}

struct Fill<'a> {
    files: &'a HostFiles,
    base: &'a HostSpec,
    filler: &'a str,
    assumed: &'a mut Vec<String>,
}

impl Fill<'_> {
    fn topology(&mut self) -> Result<TopologySpec, Failure> {
        let shape = self.files.cpu_shape();
        let (nodes, file) = match (&self.files.numactl, &self.files.lscpu) {
            (Some(numa), _) => (
                numa.value.nodes.iter().map(|(n, node)| (*n, &node.cpus)).collect::<Vec<_>>(),
                &numa.file,
            ),
            (None, Some(cpu)) if !cpu.value.nodes.is_empty() => {
                (cpu.value.nodes.iter().map(|(n, list)| (*n, list)).collect(), &cpu.file)
            }
            _ => return self.regular(shape),
        };
        let threads = match shape {
            Some(shape) => shape.threads_per_core,
            None if one_run_each(nodes.iter().map(|(_, cpus)| cpus.iter())) => {
                // With SMT on, Linux numbers the second threads after all first ones.
                self.assumed.push(
                    "threads per core: 1, since the CPUs of each NUMA node follow one another"
                        .to_owned(),
                );
                1
            }
            None => self.fill_threads(),
        };
        let lists = TopologyLists {
            nodes: nodes
                .into_iter()
                .map(|(node, cpus)| NodeCpus { node, cpus: cpus.iter().collect() })
                .collect(),
            threads,
            sockets: shape.map(|s| s.sockets),
            siblings: self.files.lscpu.as_ref().and_then(|cpu| {
                let cores = cpu.value.siblings.as_ref()?;
                Some(cores.iter().map(|cpus| cpus.iter().collect()).collect())
            }),
        };
        Topology::from_lists(&lists).map_err(|e| topology_failure(file, &e))?;
        Ok(TopologySpec::Listed(lists))
    }

    fn regular(&mut self, shape: Option<CpuShape>) -> Result<TopologySpec, Failure> {
        let Some(shape) = shape else {
            self.assumed.push(format!("CPUs and nodes: {} from {}", self.base_cpus(), self.filler));
            return Ok(self.base.topology.clone());
        };
        let numbers = TopologyNumbers {
            sockets: shape.sockets,
            cores_per_socket: shape.cores_per_socket,
            threads: shape.threads_per_core,
            nps: self.nodes_per_socket(shape),
        };
        let product = shape.sockets * shape.cores_per_socket * shape.threads_per_core;
        if product != shape.cpus {
            self.assumed.push(format!(
                "CPUs: all {product} of the topology; the input states {} of them",
                shape.cpus
            ));
        }
        let file = self.files.lscpu.as_ref().map(|f| &f.file);
        let file = file.or(self.files.cpu_topo.as_ref().map(|f| &f.file));
        let file = file.cloned().unwrap_or_default();
        Topology::from_numbers(numbers).map_err(|e| topology_failure(&file, &e))?;
        Ok(TopologySpec::Regular(numbers))
    }

    /// From the SRAT if its nodes divide that way, else one per socket.
    fn nodes_per_socket(&mut self, shape: CpuShape) -> u32 {
        if let Some(srat) = &self.files.srat {
            let nodes = lasting(srat).map(|r| r.node).collect::<BTreeSet<_>>().len() as u32;
            let nps = nodes / shape.sockets;
            if matches!(nps, 1 | 2 | 4) && nps * shape.sockets == nodes {
                return nps;
            }
        }
        self.assumed.push("NUMA nodes: one for each socket".to_owned());
        1
    }

    fn fill_threads(&mut self) -> u32 {
        let threads = match &self.base.topology {
            TopologySpec::Regular(numbers) => numbers.threads,
            TopologySpec::Listed(lists) => lists.threads,
        };
        self.assumed.push(format!("threads per core: {threads} from {}", self.filler));
        threads
    }

    fn base_cpus(&self) -> String {
        match &self.base.topology {
            TopologySpec::Regular(n) => format!(
                "{} x {} cores x {} threads, {} nodes",
                n.sockets,
                n.cores_per_socket,
                n.threads,
                n.sockets * n.nps
            ),
            TopologySpec::Listed(lists) => format!("{} nodes", lists.nodes.len()),
        }
    }

    fn memory(&mut self, topology: &TopologySpec) -> Result<MemorySpec, Failure> {
        if let Some(map) = &self.files.memory {
            return self.mapped(map, topology);
        }
        let Some(numa) = &self.files.numactl else {
            self.assumed.push(format!("memory: {} from {}", self.base_memory(), self.filler));
            return Ok(self.base.memory.clone());
        };
        // `numactl` states what the kernel manages, a little less than what is there.
        let bytes = (numa.value.size_mib() << 20) / (2 << 20) * (2 << 20);
        if bytes < limits::MEMORY_MIN {
            return Err(Failure::BadInput(format!(
                "{}: node sizes: {} in all, expected at least {}",
                numa.file.display(),
                exact_size(bytes),
                exact_size(limits::MEMORY_MIN)
            )));
        }
        within_limit(&numa.file, bytes)?;
        self.assumed.push(format!(
            "memory map: {} as numactl states, laid out round the holes of a real host, equal \
             nodes",
            size(bytes)
        ));
        Ok(MemorySpec::Bytes(bytes))
    }

    fn mapped(
        &mut self,
        map: &Found<MemoryMap>,
        topology: &TopologySpec,
    ) -> Result<MemorySpec, Failure> {
        let entries: Vec<MapEntry> = map
            .value
            .entries
            .iter()
            .map(|e| MapEntry {
                start: e.start,
                end: e.end_inclusive.saturating_add(1),
                kind: range_kind(e.kind),
            })
            .collect();
        let bytes = map.value.usable_bytes();
        within_limit(&map.file, bytes)?;
        if bytes < limits::MEMORY_MIN {
            return Err(Failure::BadInput(format!(
                "{}: memory map: {} of usable RAM, expected at least {}",
                map.file.display(),
                exact_size(bytes),
                exact_size(limits::MEMORY_MIN)
            )));
        }
        let nodes = self.node_memory(topology);
        PhysicalMemory::from_map(&entries, &nodes).map_err(|e| {
            let message = format!("{}: {e}", map.file.display());
            match e {
                MemoryError::TooHigh { .. } => Failure::Unsupported(message),
                _ => Failure::BadInput(message),
            }
        })?;
        Ok(MemorySpec::Map { entries, nodes })
    }

    /// Which node has which RAM: as the SRAT says, else by `numactl`'s sizes, else equal parts. Only
    /// nodes that the topology has can have any.
    fn node_memory(&mut self, topology: &TopologySpec) -> NodeMemory {
        let known: BTreeSet<u32> = match topology {
            TopologySpec::Regular(n) => (0..n.sockets * n.nps).collect(),
            TopologySpec::Listed(lists) => lists.nodes.iter().map(|n| n.node).collect(),
        };
        let mut unknown = None;
        if let Some(srat) = &self.files.srat {
            let mut ranges: Vec<NodeRange> = lasting(srat)
                .map(|r| NodeRange {
                    start: r.span.start,
                    end: r.span.end_inclusive.saturating_add(1),
                    node: r.node,
                })
                .collect();
            if !ranges.is_empty() && ranges.iter().all(|r| known.contains(&r.node)) {
                ranges.sort_unstable_by_key(|r| r.start);
                return NodeMemory::Ranges(ranges);
            }
            unknown = Some("SRAT");
        }
        if let Some(numa) = &self.files.numactl {
            let sizes: Vec<(u32, u64)> = numa
                .value
                .nodes
                .iter()
                .filter_map(|(node, n)| Some((*node, n.size_mib.filter(|s| *s > 0)? << 20)))
                .collect();
            if !sizes.is_empty() && sizes.iter().all(|(node, _)| known.contains(node)) {
                return NodeMemory::Sizes(sizes);
            }
            unknown = Some("numactl");
        }
        let why = unknown.map_or(String::new(), |source| {
            format!(" (the nodes of {source} are not those of the CPUs)")
        });
        let count = known.len() as u32;
        self.assumed.push(format!("memory of each NUMA node: equal parts{why}"));
        // Equal parts go to nodes 0 and up; with gaps in the numbers the sizes say so instead.
        if known.iter().copied().eq(0..count) {
            NodeMemory::Equal(count)
        } else {
            NodeMemory::Sizes(known.into_iter().map(|node| (node, 1 << 30)).collect())
        }
    }

    fn base_memory(&self) -> String {
        match &self.base.memory {
            MemorySpec::Bytes(bytes) => size(*bytes),
            MemorySpec::Map { .. } => "the map".to_owned(),
        }
    }

    fn rmp(&mut self) -> RmpKind {
        match self.files.rmp.as_ref().map(|f| &f.value) {
            Some(Rmp::Segmented { .. }) => RmpKind::Segmented,
            Some(Rmp::Contiguous(_)) => {
                self.assumed.push(
                    "RMP: segmented, though the log shows a contiguous one, with which RMPOPT \
                     cannot be enabled"
                        .to_owned(),
                );
                RmpKind::Segmented
            }
            None => {
                self.assumed.push(format!("RMP: {} from {}", self.base.rmp, self.filler));
                self.base.rmp
            }
        }
    }
}

/// Whether there are several nodes with CPUs, and the CPUs of each follow one another.
fn one_run_each(nodes: impl Iterator<Item = impl Iterator<Item = u32>>) -> bool {
    let mut with_cpus = 0;
    for node in nodes {
        let mut cpus: Vec<u32> = node.collect();
        cpus.sort_unstable();
        if cpus.windows(2).any(|pair| matches!(pair, [a, b] if a + 1 != *b)) {
            return false;
        }
        with_cpus += u32::from(!cpus.is_empty());
    }
    with_cpus > 1
}

/// Ranges that hold RAM from boot on.
fn lasting(srat: &Found<Vec<SratRange>>) -> impl Iterator<Item = &SratRange> {
    srat.value.iter().filter(|r| !r.hotplug && !r.non_volatile)
}

fn range_kind(kind: Kind) -> RangeKind {
    match kind {
        Kind::Usable => RangeKind::Usable,
        Kind::Reserved => RangeKind::Reserved,
        Kind::AcpiData | Kind::AcpiNvs => RangeKind::Acpi,
        _ => RangeKind::Other,
    }
}

fn within_limit(file: &Path, bytes: u64) -> Result<(), Failure> {
    if bytes <= limits::MEMORY_MAX {
        return Ok(());
    }
    Err(Failure::Unsupported(format!(
        "{}: {} of RAM, supported are {}",
        file.display(),
        size(bytes),
        size(limits::MEMORY_MAX)
    )))
}

fn topology_failure(file: &Path, error: &TopologyError) -> Failure {
    let message = format!("{}: {error}", file.display());
    match error {
        TopologyError::OutOfRange { .. } | TopologyError::TooLarge { .. } => {
            Failure::Unsupported(message)
        }
        _ => Failure::BadInput(message),
    }
}

/// The CPU that this action takes away or brings back.
const fn cpu_of(action: Action) -> Option<u32> {
    match action {
        Action::CpuOffline { cpu } | Action::CpuOnline { cpu } => Some(cpu),
        _ => None,
    }
}

fn has_cpu(topology: &TopologySpec, cpu: u32) -> bool {
    match topology {
        TopologySpec::Regular(n) => cpu < n.sockets * n.cores_per_socket * n.threads,
        TopologySpec::Listed(lists) => lists.nodes.iter().any(|node| node.cpus.contains(&cpu)),
    }
}

/// A scenario's guests and events were checked against its own host; this one may be smaller.
fn fits(scenario: &Scenario) -> Result<(), Failure> {
    let nodes: BTreeSet<u32> = match &scenario.host.topology {
        TopologySpec::Regular(n) => (0..n.sockets * n.nps).collect(),
        TopologySpec::Listed(lists) => lists.nodes.iter().map(|n| n.node).collect(),
    };
    for guest in &scenario.guests {
        if let Some(node) = guest.node.filter(|node| !nodes.contains(node)) {
            return Err(Failure::BadInput(format!(
                "scenario {}: guest \"{}\" is bound to node {node}, which the host given by --host \
                 does not have",
                scenario.name, guest.name
            )));
        }
    }
    for event in &scenario.events {
        if let Some(cpu) = cpu_of(event.action)
            && !has_cpu(&scenario.host.topology, cpu)
        {
            return Err(Failure::BadInput(format!(
                "scenario {}: the event at {} names CPU {cpu}, which the host given by --host does \
                 not have",
                scenario.name,
                exact_duration(event.at)
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const BASE: HostSpec = HostSpec {
        topology: TopologySpec::Regular(TopologyNumbers {
            sockets: 2,
            cores_per_socket: 256,
            threads: 2,
            nps: 1,
        }),
        memory: MemorySpec::Bytes(2 << 40),
        rmp: RmpKind::Segmented,
        nohz_full: Vec::new(),
    };

    const MAP: &str = "[ 0.0] BIOS-e820: [mem 0x0000000000000000-0x000000007fffffff] usable\n\
        [ 0.0] BIOS-e820: [mem 0x0000000080000000-0x00000000ffffffff] reserved\n\
        [ 0.0] BIOS-e820: [mem 0x0000000100000000-0x00000004ffffffff] usable\n";

    const LSCPU: &str = "CPU(s): 16\nThread(s) per core: 2\nCore(s) per socket: 4\nSocket(s): 2\n\
        NUMA node(s): 2\nNUMA node0 CPU(s): 0-3,8-11\nNUMA node1 CPU(s): 4-7,12-15\n";

    fn read(files: &[(&str, &str)]) -> (Result<HostSpec, Failure>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let files = HostFiles::read(&[dir.path()]).unwrap();
        let mut assumed = Vec::new();
        let host = host(&files, &BASE, "venice-2p", &mut assumed);
        (host, assumed)
    }

    #[test]
    fn a_map_alone_takes_its_cpus_from_venice() {
        let (host, assumed) = read(&[("dmesg", MAP)]);
        let host = host.unwrap();
        assert_eq!(host.topology, BASE.topology);
        let MemorySpec::Map { entries, nodes } = host.memory else { panic!("a map") };
        assert_eq!((entries.len(), nodes), (3, NodeMemory::Equal(2)));
        assert_eq!(
            assumed,
            [
                "CPUs and nodes: 2 x 256 cores x 2 threads, 2 nodes from venice-2p",
                "memory of each NUMA node: equal parts",
                "RMP: segmented from venice-2p",
            ]
        );
    }

    #[test]
    fn lscpu_alone_takes_its_memory_from_venice() {
        let (host, assumed) = read(&[("lscpu", LSCPU)]);
        let host = host.unwrap();
        let TopologySpec::Listed(lists) = host.topology else { panic!("lists") };
        assert_eq!((lists.threads, lists.sockets, lists.nodes.len()), (2, Some(2), 2));
        assert_eq!(host.memory, BASE.memory);
        assert_eq!(assumed, ["memory: 2,048 GiB from venice-2p", "RMP: segmented from venice-2p"]);
    }

    #[test]
    fn numactl_alone_tells_whether_smt_is_on() {
        let numactl = |first: &str, second: &str| {
            let node =
                |n: u32, cpus: &str| format!("node {n} cpus: {cpus}\nnode {n} size: 8192 MB\n");
            let text = format!("available: 2 nodes (0-1)\n{}{}", node(0, first), node(1, second));
            let (host, assumed) = read(&[("numactl", &text)]);
            let TopologySpec::Listed(lists) = host.unwrap().topology else { panic!("lists") };
            (lists.threads, assumed[0].clone())
        };
        assert_eq!(
            numactl("0 1 2 3", "4 5 6 7"),
            (1, "threads per core: 1, since the CPUs of each NUMA node follow one another".into())
        );
        assert_eq!(numactl("0 1 4 5", "2 3 6 7"), (2, "threads per core: 2 from venice-2p".into()));
    }

    #[test]
    fn the_srat_divides_the_map() {
        let srat = "[ 0.0] ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x2ffffffff]\n\
            [ 0.0] ACPI: SRAT: Node 1 PXM 1 [mem 0x300000000-0x4ffffffff]\n";
        let (host, assumed) = read(&[("dmesg", &format!("{MAP}{srat}")), ("lscpu", LSCPU)]);
        let MemorySpec::Map { nodes, .. } = host.unwrap().memory else { panic!("a map") };
        let NodeMemory::Ranges(ranges) = nodes else { panic!("ranges") };
        assert_eq!(ranges.len(), 2);
        assert_eq!(assumed, ["RMP: segmented from venice-2p"]);
    }

    #[test]
    fn too_little_and_too_much() {
        let tiny = "[ 0.0] BIOS-e820: [mem 0x0000000000000000-0x000000003fffffff] usable\n";
        let (host, _) = read(&[("dmesg", tiny)]);
        let message = host.unwrap_err().to_string();
        assert!(
            message.ends_with("memory map: 1GiB of usable RAM, expected at least 2GiB"),
            "{message}"
        );
        let huge = "[ 0.0] BIOS-e820: [mem 0x0000000000000000-0x00000fffffffffff] usable\n";
        let (host, _) = read(&[("dmesg", huge)]);
        assert!(matches!(host, Err(Failure::Unsupported(_))));
        let four = LSCPU.replace("core: 2", "core: 4").replace("CPU(s): 16", "CPU(s): 32");
        let (host, _) = read(&[("lscpu", &four)]);
        assert!(matches!(host, Err(Failure::Unsupported(_))), "{host:?}");
    }
}
