//! Sockets, NUMA nodes, cores and CPUs of the emulated host.
//!
//! | word | means | numbered |
//! |---|---|---|
//! | CPU | a hardware thread, as Linux numbers it | 0 to [`Topology::MAX_CPUS`] - 1, gaps allowed |
//! | core | the CPUs that share one `RMPOPT_BASE` and one RMPOPT table (spec/rmpopt.md 1) | 0.. without gaps, by primary CPU |
//! | node | a NUMA node | as Linux numbers it, gaps allowed |
//! | socket | a package | 0.. without gaps |
//!
//! Linux numbers the first thread of every core first and the second threads after them: with 2 x 256
//! cores CPU `c` and CPU `c + 512` are siblings, and node 0 holds 0-255,512-767. That rule is used where
//! siblings are not known (`numactl -H` does not tell them).

use thiserror::Error;

/// Marks a CPU number that no core has.
const ABSENT: u32 = u32::MAX;

/// Why a topology cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TopologyError {
    /// A number lies outside what is supported.
    #[error("{what} is {value}, must be {allowed}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// What was given.
        value: u64,
        /// What may be given.
        allowed: &'static str,
    },
    /// More cores or CPUs than are supported.
    #[error("{cores} cores and {cpus} CPUs are more than the supported 4096 cores and 8192 CPUs")]
    TooLarge {
        /// Cores asked for.
        cores: u64,
        /// CPUs asked for.
        cpus: u64,
    },
    /// There is no CPU at all.
    #[error("no NUMA node has a CPU")]
    NoCpus,
    /// Two entries describe one node.
    #[error("NUMA node {node} is described twice")]
    DuplicateNode {
        /// The node.
        node: u32,
    },
    /// A CPU appears more than once.
    #[error("CPU {cpu} is in NUMA node {first} and again in NUMA node {second}")]
    DuplicateCpu {
        /// The CPU.
        cpu: u32,
        /// Where it was seen first.
        first: u32,
        /// Where it was seen again.
        second: u32,
    },
    /// Siblings cannot be paired because their number is odd.
    #[error("NUMA node {node} has {cpus} CPUs, which do not make whole cores of 2 threads")]
    OddNode {
        /// The node.
        node: u32,
        /// Its CPUs.
        cpus: usize,
    },
    /// A sibling list names a CPU that no node has.
    #[error("CPU {cpu} is listed as a sibling but belongs to no NUMA node")]
    UnknownSibling {
        /// The CPU.
        cpu: u32,
    },
    /// A CPU is in two sibling lists, or twice in one.
    #[error("CPU {cpu} is in more than one list of siblings")]
    SiblingTwice {
        /// The CPU.
        cpu: u32,
    },
    /// A core has more CPUs than threads per core.
    #[error("CPU {cpu} has {siblings} siblings counting itself, with {threads} threads per core")]
    TooManySiblings {
        /// First CPU of the list.
        cpu: u32,
        /// Length of the list.
        siblings: usize,
        /// Threads per core.
        threads: u32,
    },
    /// Siblings lie in different nodes.
    #[error(
        "siblings {first} and {second} are in different NUMA nodes ({first_node}, {second_node})"
    )]
    SiblingsApart {
        /// One CPU.
        first: u32,
        /// Its sibling.
        second: u32,
        /// Node of the one.
        first_node: u32,
        /// Node of the other.
        second_node: u32,
    },
    /// Nodes cannot be divided among sockets.
    #[error("{nodes} NUMA nodes with CPUs cannot be divided evenly among {sockets} sockets")]
    SocketsAndNodes {
        /// Nodes that have CPUs.
        nodes: usize,
        /// Sockets.
        sockets: u32,
    },
}

/// The numbers that describe a regular host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopologyNumbers {
    /// Sockets, 1 to 8.
    pub sockets: u32,
    /// Cores in each socket, 1 to 1,024.
    pub cores_per_socket: u32,
    /// Threads in each core, 1 or 2.
    pub threads: u32,
    /// NUMA nodes in each socket ("NPS"), 1, 2 or 4.
    pub nps: u32,
}

/// CPUs of one NUMA node, as `lscpu` or `numactl -H` lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCpus {
    /// The node's number.
    pub node: u32,
    /// Its CPUs, in any order; none for a node of memory alone.
    pub cpus: Vec<u32>,
}

/// A host described by lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyLists {
    /// Every node.
    pub nodes: Vec<NodeCpus>,
    /// Threads in each core, 1 or 2.
    pub threads: u32,
    /// Sockets; `None` if the source does not tell (`numactl`): see [`Topology::assumptions`].
    pub sockets: Option<u32>,
    /// The CPUs of each core where they are known. A CPU in no list is a core of its own.
    pub siblings: Option<Vec<Vec<u32>>>,
}

/// One physical core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Core {
    cpus: [u32; 2],
    threads: u8,
    socket: u32,
    node: u32,
}

/// The host's cores and CPUs. Cores are in the order of their primary CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    cores: Vec<Core>,
    core_of_cpu: Vec<u32>,
    /// Cores by node, in node order: `(node, cores)`.
    nodes: Vec<(u32, Vec<u32>)>,
    cpus: u32,
    sockets: u32,
    assumed: Vec<String>,
}

impl Topology {
    /// Most cores that are supported: what the control plane's worst case is sized for (DESIGN.md).
    pub const MAX_CORES: u32 = 4096;
    /// Most CPUs that are supported; CPU numbers lie below it.
    pub const MAX_CPUS: u32 = 8192;
    /// Node numbers lie below it.
    pub const MAX_NODES: u32 = 1024;

    /// A regular host. CPU `c` and CPU `c + cores` are siblings; sockets and nodes hold consecutive cores.
    /// If the cores of a socket do not divide by `nps`, its nodes differ by one core.
    pub fn from_numbers(numbers: TopologyNumbers) -> Result<Self, TopologyError> {
        let TopologyNumbers { sockets, cores_per_socket, threads, nps } = numbers;
        in_range("sockets", sockets, (1..=8).contains(&sockets), "1 to 8")?;
        in_range(
            "cores_per_socket",
            cores_per_socket,
            (1..=1024).contains(&cores_per_socket),
            "1 to 1024",
        )?;
        in_range("threads", threads, matches!(threads, 1 | 2), "1 or 2")?;
        in_range("nps", nps, matches!(nps, 1 | 2 | 4), "1, 2 or 4")?;
        in_range("nps", nps, nps <= cores_per_socket, "at most the cores of a socket")?;
        let total = sockets * cores_per_socket;
        if total > Self::MAX_CORES || total * threads > Self::MAX_CPUS {
            let (cores, cpus) = (u64::from(total), u64::from(total * threads));
            return Err(TopologyError::TooLarge { cores, cpus });
        }
        let cores = (0..total)
            .map(|core| {
                let (socket, local) = (core / cores_per_socket, core % cores_per_socket);
                let node = socket * nps + local * nps / cores_per_socket;
                let second = if threads == 2 { core + total } else { ABSENT };
                Core { cpus: [core, second], threads: threads as u8, socket, node }
            })
            .collect();
        let nodes = (0..sockets * nps).collect();
        Ok(Self::assemble(cores, nodes, sockets, Vec::new()))
    }

    /// A host as its own tools list it.
    ///
    /// Siblings that are not known follow Linux's rule inside each node: of its CPUs in ascending order
    /// the second half are the siblings of the first half, in order; where some are off-line, as far
    /// apart as on the nodes that have them all. Sockets that are not known: two if the number of nodes
    /// with CPUs is even, else one. Nodes are dealt to sockets in ascending order, or the cores of a
    /// node to its sockets if there are more sockets than nodes.
    pub fn from_lists(lists: &TopologyLists) -> Result<Self, TopologyError> {
        let threads = lists.threads;
        in_range("threads", threads, matches!(threads, 1 | 2), "1 or 2")?;
        let node_of_cpu = check_nodes(&lists.nodes)?;
        let mut nodes: Vec<(u32, Vec<u32>)> =
            lists.nodes.iter().map(|n| (n.node, n.cpus.clone())).collect();
        nodes.sort_unstable_by_key(|n| n.0);
        for (_, cpus) in &mut nodes {
            cpus.sort_unstable();
        }

        let mut assumed = Vec::new();
        let groups = match &lists.siblings {
            Some(siblings) => known_siblings(siblings, threads, &node_of_cpu)?,
            None if threads == 1 => {
                nodes.iter().flat_map(|(_, cpus)| cpus).map(|&c| [c, ABSENT]).collect()
            }
            None => {
                assumed.push(
                    "SMT siblings: in each NUMA node the second half of its CPUs, in Linux's order"
                        .to_owned(),
                );
                paired_by_rule(&nodes)?
            }
        };
        if groups.len() > Self::MAX_CORES as usize {
            let cpus = nodes.iter().map(|n| n.1.len() as u64).sum();
            return Err(TopologyError::TooLarge { cores: groups.len() as u64, cpus });
        }

        let with_cpus = nodes.iter().filter(|n| !n.1.is_empty()).count();
        let sockets = lists.sockets.unwrap_or(if with_cpus.is_multiple_of(2) { 2 } else { 1 });
        in_range("sockets", sockets, (1..=8).contains(&sockets), "1 to 8")?;
        if lists.sockets.is_none() {
            assumed.push(format!("sockets: {sockets}, from {with_cpus} NUMA nodes with CPUs"));
        }

        let mut cores: Vec<Core> = groups
            .into_iter()
            .map(|cpus| Core {
                cpus,
                threads: 1 + u8::from(cpus[1] != ABSENT),
                socket: 0,
                node: node_of_cpu[cpus[0] as usize],
            })
            .collect();
        cores.sort_unstable_by_key(|core| core.cpus[0]);
        deal_sockets(&mut cores, &nodes, with_cpus, sockets)?;
        let nodes = nodes.into_iter().map(|n| n.0).collect();
        Ok(Self::assemble(cores, nodes, sockets, assumed))
    }

    fn assemble(cores: Vec<Core>, nodes: Vec<u32>, sockets: u32, assumed: Vec<String>) -> Self {
        let highest = cores.iter().flat_map(|c| c.cpus).filter(|&c| c != ABSENT).max();
        let mut core_of_cpu = vec![ABSENT; highest.map_or(0, |c| c as usize + 1)];
        let mut nodes: Vec<(u32, Vec<u32>)> = nodes.into_iter().map(|n| (n, Vec::new())).collect();
        let mut cpus = 0;
        for (index, core) in (0..).zip(&cores) {
            for &cpu in &core.cpus[..usize::from(core.threads)] {
                core_of_cpu[cpu as usize] = index;
                cpus += 1;
            }
            if let Ok(at) = nodes.binary_search_by_key(&core.node, |n| n.0) {
                nodes[at].1.push(index);
            }
        }
        Self { cores, core_of_cpu, nodes, cpus, sockets, assumed }
    }

    /// Physical cores.
    pub fn cores(&self) -> u32 {
        self.cores.len() as u32
    }

    /// CPUs that exist.
    pub fn cpu_count(&self) -> u32 {
        self.cpus
    }

    /// One past the highest CPU number: what an array indexed by CPU needs.
    pub fn cpu_limit(&self) -> u32 {
        self.core_of_cpu.len() as u32
    }

    /// Sockets.
    pub fn sockets(&self) -> u32 {
        self.sockets
    }

    /// Numbers of all NUMA nodes, ascending, those without CPUs included.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.nodes.iter().map(|n| n.0)
    }

    /// The core's lowest-numbered CPU: what Linux calls its primary thread.
    ///
    /// # Panics
    /// If there is no such core. So do the other questions about a core.
    pub fn primary_cpu(&self, core: u32) -> u32 {
        self.cores[core as usize].cpus[0]
    }

    /// The core's CPUs, ascending: one or two.
    pub fn cpus(&self, core: u32) -> &[u32] {
        let core = &self.cores[core as usize];
        &core.cpus[..usize::from(core.threads)]
    }

    /// Socket of a core.
    pub fn socket_of(&self, core: u32) -> u32 {
        self.cores[core as usize].socket
    }

    /// NUMA node of a core.
    pub fn node_of(&self, core: u32) -> u32 {
        self.cores[core as usize].node
    }

    /// The core that a CPU belongs to; `None` if there is no such CPU.
    pub fn core_of(&self, cpu: u32) -> Option<u32> {
        self.core_of_cpu.get(cpu as usize).copied().filter(|&core| core != ABSENT)
    }

    /// Cores of a NUMA node, ascending; none if there is no such node.
    pub fn cores_of_node(&self, node: u32) -> &[u32] {
        match self.nodes.binary_search_by_key(&node, |n| n.0) {
            Ok(at) => &self.nodes[at].1,
            Err(_) => &[],
        }
    }

    /// Cores of a socket, ascending.
    pub fn cores_of_socket(&self, socket: u32) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.cores).filter(move |(_, c)| c.socket == socket).map(|(index, _)| index)
    }

    /// All CPUs, ascending.
    pub fn iter_cpus(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.core_of_cpu).filter(|(_, core)| **core != ABSENT).map(|(cpu, _)| cpu)
    }

    /// What had to be assumed because the source does not tell it; for the report.
    pub fn assumptions(&self) -> &[String] {
        &self.assumed
    }
}

fn in_range(
    what: &'static str,
    value: u32,
    ok: bool,
    allowed: &'static str,
) -> Result<(), TopologyError> {
    if ok { Ok(()) } else { Err(TopologyError::OutOfRange { what, value: value.into(), allowed }) }
}

/// Checks numbers and uniqueness; returns each CPU's node.
fn check_nodes(nodes: &[NodeCpus]) -> Result<Vec<u32>, TopologyError> {
    let mut node_of_cpu = vec![ABSENT; Topology::MAX_CPUS as usize];
    let mut seen = vec![false; Topology::MAX_NODES as usize];
    let mut any = false;
    for NodeCpus { node, cpus } in nodes {
        in_range("NUMA node", *node, *node < Topology::MAX_NODES, "below 1024")?;
        if std::mem::replace(&mut seen[*node as usize], true) {
            return Err(TopologyError::DuplicateNode { node: *node });
        }
        for &cpu in cpus {
            in_range("CPU", cpu, cpu < Topology::MAX_CPUS, "below 8192")?;
            let first = std::mem::replace(&mut node_of_cpu[cpu as usize], *node);
            if first != ABSENT {
                return Err(TopologyError::DuplicateCpu { cpu, first, second: *node });
            }
            any = true;
        }
    }
    if any { Ok(node_of_cpu) } else { Err(TopologyError::NoCpus) }
}

/// Cores from lists of siblings; CPUs in no list become cores of their own.
fn known_siblings(
    lists: &[Vec<u32>],
    threads: u32,
    node_of_cpu: &[u32],
) -> Result<Vec<[u32; 2]>, TopologyError> {
    let mut listed = vec![false; node_of_cpu.len()];
    let mut cores = Vec::new();
    for list in lists {
        let mut list = list.clone();
        list.sort_unstable();
        let Some(&first) = list.first() else { continue };
        if list.len() > threads as usize {
            let siblings = list.len();
            return Err(TopologyError::TooManySiblings { cpu: first, siblings, threads });
        }
        for &cpu in &list {
            let node = node_of_cpu.get(cpu as usize).copied().unwrap_or(ABSENT);
            if node == ABSENT {
                return Err(TopologyError::UnknownSibling { cpu });
            }
            if std::mem::replace(&mut listed[cpu as usize], true) {
                return Err(TopologyError::SiblingTwice { cpu });
            }
        }
        let second = list.get(1).copied().unwrap_or(ABSENT);
        if second != ABSENT {
            let (first_node, second_node) =
                (node_of_cpu[first as usize], node_of_cpu[second as usize]);
            if first_node != second_node {
                return Err(TopologyError::SiblingsApart {
                    first,
                    second,
                    first_node,
                    second_node,
                });
            }
        }
        cores.push([first, second]);
    }
    let alone = (0..).zip(node_of_cpu).zip(&listed).filter(|((_, n), l)| **n != ABSENT && !**l);
    cores.extend(alone.map(|((cpu, _), _)| [cpu, ABSENT]));
    Ok(cores)
}

/// Cores of two threads by Linux's rule, node by node.
fn paired_by_rule(nodes: &[(u32, Vec<u32>)]) -> Result<Vec<[u32; 2]>, TopologyError> {
    // How far siblings are apart on the nodes that tell.
    let apart = nodes.iter().find_map(|(_, cpus)| distance(cpus));
    let mut cores = Vec::new();
    for (node, cpus) in nodes {
        match (distance(cpus), apart) {
            (None, Some(apart)) => {
                // Some of its CPUs are away: their siblings are alone on their cores.
                let has = |cpu: u32| cpus.binary_search(&cpu).is_ok();
                let second = |cpu: u32| cpu.checked_sub(apart).is_some_and(has);
                cores.extend(cpus.iter().filter(|&&cpu| !second(cpu)).map(|&cpu| {
                    let sibling = cpu.checked_add(apart).filter(|&sibling| has(sibling));
                    [cpu, sibling.unwrap_or(ABSENT)]
                }));
            }
            _ if !cpus.len().is_multiple_of(2) => {
                return Err(TopologyError::OddNode { node: *node, cpus: cpus.len() });
            }
            _ => {
                let (first, second) = cpus.split_at(cpus.len() / 2);
                cores.extend(first.iter().zip(second).map(|(&a, &b)| [a, b]));
            }
        }
    }
    Ok(cores)
}

/// How far the siblings of a node are apart, if the second half of its CPUs mirrors the first.
fn distance(cpus: &[u32]) -> Option<u32> {
    if cpus.is_empty() || !cpus.len().is_multiple_of(2) {
        return None;
    }
    let (first, second) = cpus.split_at(cpus.len() / 2);
    let apart = second.first()?.checked_sub(*first.first()?)?;
    first.iter().zip(second).all(|(a, b)| b - a == apart).then_some(apart)
}

/// Gives each core its socket: nodes dealt evenly to sockets, or a node's cores to its sockets.
fn deal_sockets(
    cores: &mut [Core],
    nodes: &[(u32, Vec<u32>)],
    with_cpus: usize,
    sockets: u32,
) -> Result<(), TopologyError> {
    let count = sockets as usize;
    let uneven = TopologyError::SocketsAndNodes { nodes: with_cpus, sockets };
    let cpu_nodes = nodes.iter().filter(|n| !n.1.is_empty()).map(|n| n.0);
    if with_cpus.is_multiple_of(count) {
        let per_socket = with_cpus / count;
        let order: Vec<u32> = cpu_nodes.collect();
        for core in cores {
            let rank = order.binary_search(&core.node).unwrap_or(0);
            core.socket = (rank / per_socket) as u32;
        }
        Ok(())
    } else if count.is_multiple_of(with_cpus) {
        let per_node = count / with_cpus;
        for (rank, node) in cpu_nodes.enumerate() {
            let mine = cores.iter().filter(|c| c.node == node).count();
            if mine < per_node {
                return Err(uneven);
            }
            for (at, core) in cores.iter_mut().filter(|c| c.node == node).enumerate() {
                core.socket = (rank * per_node + at * per_node / mine) as u32;
            }
        }
        Ok(())
    } else {
        Err(uneven)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lists(nodes: &[&[u32]], threads: u32) -> TopologyLists {
        let nodes = (0..).zip(nodes).map(|(node, c)| NodeCpus { node, cpus: c.to_vec() }).collect();
        TopologyLists { nodes, threads, sockets: None, siblings: None }
    }

    #[test]
    fn venice_is_numbered_as_linux_does() {
        let numbers = TopologyNumbers { sockets: 2, cores_per_socket: 256, threads: 2, nps: 1 };
        let host = Topology::from_numbers(numbers).unwrap();
        assert_eq!((host.cores(), host.cpu_count(), host.sockets()), (512, 1024, 2));
        assert_eq!(host.cpus(3), [3, 515]);
        assert_eq!(host.core_of(515), Some(3));
        assert_eq!(host.core_of(1024), None);
        assert_eq!((host.node_of(255), host.node_of(256)), (0, 1));
        let node0: Vec<u32> = (0..256).chain(512..768).collect();
        let mut cpus: Vec<u32> =
            host.cores_of_node(0).iter().flat_map(|&c| host.cpus(c)).copied().collect();
        cpus.sort_unstable();
        assert_eq!(cpus, node0);

        // The same host out of numactl's lists.
        let node1: Vec<u32> = (256..512).chain(768..1024).collect();
        let listed = Topology::from_lists(&lists(&[&node0, &node1], 2)).unwrap();
        assert_eq!(listed.cores, host.cores);
        assert_eq!(listed.assumptions().len(), 2);
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let ok = TopologyNumbers { sockets: 2, cores_per_socket: 8, threads: 2, nps: 2 };
        for (numbers, message) in [
            (TopologyNumbers { sockets: 0, ..ok }, "sockets is 0, must be 1 to 8"),
            (TopologyNumbers { sockets: 9, ..ok }, "sockets is 9, must be 1 to 8"),
            (TopologyNumbers { threads: 3, ..ok }, "threads is 3, must be 1 or 2"),
            (TopologyNumbers { nps: 3, ..ok }, "nps is 3, must be 1, 2 or 4"),
            (
                TopologyNumbers { cores_per_socket: 1, ..ok },
                "nps is 2, must be at most the cores of a socket",
            ),
            (
                TopologyNumbers { sockets: 8, cores_per_socket: 1024, ..ok },
                "8192 cores and 16384 CPUs are more than the supported 4096 cores and 8192 CPUs",
            ),
        ] {
            assert_eq!(Topology::from_numbers(numbers).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn inconsistent_lists_are_named() {
        let base = lists(&[&[0, 1], &[2, 3]], 2);
        let with = |siblings: &[&[u32]]| TopologyLists {
            siblings: Some(siblings.iter().map(|s| s.to_vec()).collect()),
            ..base.clone()
        };
        for (given, message) in [
            (lists(&[], 1), "no NUMA node has a CPU"),
            (lists(&[&[]], 1), "no NUMA node has a CPU"),
            (lists(&[&[0, 1, 2]], 2), "NUMA node 0 has 3 CPUs"),
            (lists(&[&[0, 1], &[1]], 1), "CPU 1 is in NUMA node 0 and again in NUMA node 1"),
            (lists(&[&[8192]], 1), "CPU is 8192, must be below 8192"),
            (with(&[&[0, 2]]), "siblings 0 and 2 are in different NUMA nodes (0, 1)"),
            (with(&[&[0, 1], &[1]]), "CPU 1 is in more than one list of siblings"),
            (with(&[&[0, 9]]), "CPU 9 is listed as a sibling"),
            (with(&[&[0, 1, 2]]), "CPU 0 has 3 siblings counting itself, with 2 threads"),
            (TopologyLists { sockets: Some(3), ..base.clone() }, "2 NUMA nodes with CPUs cannot"),
        ] {
            let error = Topology::from_lists(&given).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let twice = vec![NodeCpus { node: 1, cpus: vec![0] }, NodeCpus { node: 1, cpus: vec![1] }];
        let twice = TopologyLists { nodes: twice, ..base };
        assert_eq!(
            Topology::from_lists(&twice).unwrap_err(),
            TopologyError::DuplicateNode { node: 1 }
        );
    }

    #[test]
    fn real_oddities_are_kept() {
        // Adjacent siblings, one thread offline, a node of memory alone, numbers with gaps.
        let given = TopologyLists {
            nodes: vec![
                NodeCpus { node: 4, cpus: vec![7, 4, 5] },
                NodeCpus { node: 0, cpus: vec![1, 0, 3] },
                NodeCpus { node: 2, cpus: vec![] },
            ],
            threads: 2,
            sockets: Some(2),
            siblings: Some(vec![vec![1, 0], vec![5, 4], vec![]]),
        };
        let host = Topology::from_lists(&given).unwrap();
        assert_eq!((host.cores(), host.cpu_count(), host.cpu_limit()), (4, 6, 8));
        assert_eq!(host.nodes().collect::<Vec<_>>(), [0, 2, 4]);
        assert_eq!(host.cpus(0), [0, 1]);
        assert_eq!(host.cpus(1), [3]);
        assert_eq!(host.core_of(2), None);
        assert_eq!(host.cores_of_node(4), [2, 3]);
        assert!(host.cores_of_node(2).is_empty() && host.cores_of_node(3).is_empty());
        assert_eq!(host.cores_of_socket(1).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(host.iter_cpus().collect::<Vec<_>>(), [0, 1, 3, 4, 5, 7]);
        assert!(host.assumptions().is_empty());
    }

    #[test]
    fn siblings_of_cpus_that_are_offline_are_alone() {
        // 4 nodes of 4 cores; the second threads of the last two cores are off-line, or that of one.
        let whole = |node: u32| [node * 4, node * 4 + 1, node * 4 + 2, node * 4 + 3];
        let both = |node: u32| whole(node).into_iter().chain(whole(node).map(|cpu| cpu + 16));
        for gone in [&[30, 31][..], &[31], &[28]] {
            let nodes: Vec<Vec<u32>> =
                (0..4).map(|node| both(node).filter(|cpu| !gone.contains(cpu)).collect()).collect();
            let nodes: Vec<&[u32]> = nodes.iter().map(Vec::as_slice).collect();
            let host = Topology::from_lists(&lists(&nodes, 2)).unwrap();
            assert_eq!((host.cores(), host.cpu_count()), (16, 32 - gone.len() as u32));
            for core in 0..16 {
                let second = Some(core + 16).filter(|cpu| !gone.contains(cpu));
                let expected: Vec<u32> = [Some(core), second].into_iter().flatten().collect();
                assert_eq!(host.cpus(core), expected, "{gone:?}");
            }
        }
    }

    #[test]
    fn one_node_of_two_sockets_is_split() {
        let given = TopologyLists { sockets: Some(2), ..lists(&[&[0, 1, 2, 3]], 1) };
        let host = Topology::from_lists(&given).unwrap();
        assert_eq!((0..4).map(|c| host.socket_of(c)).collect::<Vec<_>>(), [0, 0, 1, 1]);
    }

    proptest! {
        #[test]
        fn maps_agree(sockets in 1u32..=8, cores in 1u32..=64, threads in 1u32..=2, nps in 0u32..=2) {
            let nps = (1 << nps).min(if cores < 4 { 1 } else { 4 });
            let numbers = TopologyNumbers { sockets, cores_per_socket: cores, threads, nps };
            let host = Topology::from_numbers(numbers).unwrap();
            prop_assert_eq!(host.cpu_count(), sockets * cores * threads);
            for cpu in host.iter_cpus() {
                let core = host.core_of(cpu).unwrap();
                prop_assert!(host.cpus(core).contains(&cpu));
                prop_assert!(host.primary_cpu(core) <= cpu);
                prop_assert_eq!(host.node_of(core) / nps, host.socket_of(core));
            }
            let by_node: usize = host.nodes().map(|n| host.cores_of_node(n).len()).sum();
            let by_socket: usize = (0..sockets).map(|s| host.cores_of_socket(s).count()).sum();
            prop_assert_eq!((by_node, by_socket), (host.cores() as usize, host.cores() as usize));
            prop_assert!(host.nodes().all(|n| !host.cores_of_node(n).is_empty()));
        }
    }
}
