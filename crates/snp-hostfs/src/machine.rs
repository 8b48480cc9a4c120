//! What of a host does not change while it is up, and what of it is made known to every file.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use rmpopt_core::Config;
use snp_lab::boot::BootLayout;
use snp_lab::memory::PhysicalMemory;
use snp_lab::scenario::{PolicyName, Setup};
use snp_lab::topology::Topology;
use snp_lab::{Live, LiveGuest};

/// Memory blocks of a host with less than [`LARGE_FROM`] of RAM, in bytes (Linux:
/// `MIN_MEMORY_BLOCK_SIZE`).
const SMALL_BLOCK: u64 = 128 << 20;
/// Those of a larger one that is no guest (Linux: `MAX_BLOCK_SIZE`).
const LARGE_BLOCK: u64 = 2 << 30;
/// Linux: `MEM_SIZE_FOR_LARGE_BLOCK`.
const LARGE_FROM: u64 = 64 << 30;

/// Who runs RMPOPT, by the files that show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// This project's module: table, stats, regions, configfs.
    Ours,
    /// v1 of AMD's series: the table at its old place, configfs.
    First,
    /// v2 to v8: the table.
    Upstream,
    /// v10, the ideas of its reviewers, the bounds and `off`: no file.
    Silent,
}

impl Driver {
    /// The driver that a policy stands for.
    pub(crate) fn of(policy: PolicyName) -> Self {
        let name = policy.as_str();
        match name.strip_prefix('v').and_then(|version| version.parse::<u32>().ok()) {
            Some(1) => Self::First,
            Some(2..=8) => Self::Upstream,
            None if name.starts_with("tracked") => Self::Ours,
            _ => Self::Silent,
        }
    }

    /// The folder in debugfs below `/sys/kernel/debug`, if it has one.
    pub(crate) const fn debugfs(self) -> Option<&'static str> {
        match self {
            Self::Ours | Self::Upstream => Some("x86/rmpopt"),
            Self::First => Some("rmpopt"),
            Self::Silent => None,
        }
    }
}

/// What does not change.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// The scenario's name.
    pub(crate) scenario: String,
    /// Who runs RMPOPT.
    pub(crate) driver: Driver,
    /// Its numbers, where it is this project's.
    pub(crate) config: Config,
    /// CPUs, cores, nodes.
    pub(crate) topology: Topology,
    /// RAM.
    pub(crate) memory: PhysicalMemory,
    /// What firmware and driver took at boot.
    pub(crate) boot: BootLayout,
    /// Every CPU's number, ascending.
    pub(crate) cpus: Vec<u32>,
    /// NUMA nodes with CPUs or memory, ascending.
    pub(crate) nodes: Vec<u32>,
    /// Size of a memory block, in bytes.
    pub(crate) block_bytes: u64,
    /// Memory blocks with RAM, ascending, each with its node.
    pub(crate) blocks: Vec<(u32, u32)>,
}

impl Machine {
    /// The machine of a live host.
    pub(crate) fn of(setup: &Setup, live: &Live<'_>) -> Self {
        let (topology, memory) = (live.topology().clone(), live.memory().clone());
        let mut cpus: Vec<u32> = topology.iter_cpus().collect();
        cpus.sort_unstable();
        let mut nodes: Vec<u32> = topology.nodes().chain(memory.nodes()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let large = memory.memory_bytes() >= LARGE_FROM;
        let block_bytes = if large { LARGE_BLOCK } else { SMALL_BLOCK };
        let mut blocks: Vec<(u32, u32)> = Vec::new();
        for range in memory.ram() {
            let (first, last) = (range.start / block_bytes, (range.end - 1) / block_bytes);
            for block in first..=last {
                // Where two nodes meet in a block it is the lower one's.
                if blocks.last().is_none_or(|&(known, _)| u64::from(known) < block) {
                    blocks.push((block as u32, range.node));
                }
            }
        }
        Self {
            scenario: setup.scenario.name.clone(),
            driver: Driver::of(setup.policy),
            config: live.config(),
            boot: live.boot().clone(),
            topology,
            memory,
            cpus,
            nodes,
            block_bytes,
            blocks,
        }
    }

    /// Whether there is such a CPU.
    pub(crate) fn has_cpu(&self, cpu: u32) -> bool {
        self.cpus.binary_search(&cpu).is_ok()
    }

    /// The node of a CPU.
    pub(crate) fn node_of_cpu(&self, cpu: u32) -> Option<u32> {
        self.topology.core_of(cpu).map(|core| self.topology.node_of(core))
    }

    /// The node of a memory block.
    pub(crate) fn node_of_block(&self, block: u32) -> Option<u32> {
        let at = self.blocks.binary_search_by_key(&block, |&(number, _)| number).ok()?;
        self.blocks.get(at).map(|&(_, node)| node)
    }

    /// Numbers of a core: its socket, and which of the socket's cores it is.
    pub(crate) fn place_of_core(&self, core: u32) -> (u32, u32) {
        let socket = self.topology.socket_of(core);
        let first = self.topology.cores_of_socket(socket).next().unwrap_or(core);
        (socket, core.saturating_sub(first))
    }
}

/// What changes seldom and is looked at often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Whether each CPU is online, by its number.
    pub(crate) online: Vec<bool>,
    /// Guests that are there.
    pub(crate) guests: Vec<LiveGuest>,
}

impl Shown {
    /// As the host is now.
    pub(crate) fn of(live: &Live<'_>) -> Self {
        let limit = live.topology().cpu_limit();
        let online = (0..limit).map(|cpu| live.is_online(cpu)).collect();
        let mut guests = live.guests();
        guests.retain(|guest| guest.life != snp_lab::LiveLife::Future);
        Self { online, guests }
    }

    /// Whether a CPU is online.
    pub(crate) fn is_online(&self, cpu: u32) -> bool {
        self.online.get(cpu as usize).is_some_and(|&on| on)
    }
}

/// A place where the simulation puts it and every file finds it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board(Arc<RwLock<Shown>>);

impl Board {
    /// Looks at it. Not to be held while the simulation is asked.
    pub(crate) fn look(&self) -> RwLockReadGuard<'_, Shown> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts it there, if it is another.
    pub(crate) fn put(&self, shown: Shown) {
        if *self.look() != shown {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = shown;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_by_policy() {
        let of = |name: &str| Driver::of(name.parse().unwrap());
        assert_eq!(
            (of("tracked"), of("v1"), of("v2")),
            (Driver::Ours, Driver::First, Driver::Upstream)
        );
        assert_eq!(
            (of("v8"), of("v10"), of("v10-map")),
            (Driver::Upstream, Driver::Silent, Driver::Silent)
        );
        assert_eq!((of("off"), of("oracle")), (Driver::Silent, Driver::Silent));
    }
}
