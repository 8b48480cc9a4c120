//! The host as a policy sees it, and which CPUs are online and busy.

use rmpopt_core::{CoreId, Host};
use snp_defs::Region;

use super::writes::Writes;
use crate::memory::PhysicalMemory;
use crate::scenario::Nanos;
use crate::topology::Topology;

/// Timer ticks of a busy CPU: `HZ=250`, as Debian's kernel has it.
pub(super) const TICK_NS: Nanos = 4_000_000;

/// Where cores and memory lie, copied out so that it can be handed to the policy.
#[derive(Debug)]
pub(super) struct HostView {
    /// (socket, node) of each core.
    cores: Vec<(u16, u16)>,
    /// (MiB of RAM, node) of each region.
    regions: Vec<(u32, u16)>,
    /// Socket by node number.
    node_socket: Vec<u16>,
    /// Online, and not masked.
    pub(super) participates: Vec<bool>,
}

impl HostView {
    pub(super) fn new(topology: &Topology, memory: &PhysicalMemory) -> Self {
        let cores: Vec<_> = (0..topology.cores())
            .map(|core| (topology.socket_of(core) as u16, topology.node_of(core) as u16))
            .collect();
        let regions: Vec<_> = (0..memory.spanned_regions())
            .filter_map(Region::new)
            .map(|region| {
                let mib = (memory.region_ram_bytes(region) >> 20) as u32;
                // A sliver of RAM below 1 MiB counts as RAM all the same.
                let mib = mib.max(u32::from(memory.region_ram_bytes(region) > 0));
                (mib, memory.region_node(region).unwrap_or(0) as u16)
            })
            .collect();
        let nodes = regions.iter().map(|&(_, node)| node).chain(cores.iter().map(|c| c.1));
        let mut node_socket = vec![0; nodes.max().map_or(1, |node| usize::from(node) + 1)];
        // Memory without CPUs counts to the socket of the node below it.
        let mut last = 0;
        for (node, socket) in node_socket.iter_mut().enumerate() {
            last =
                cores.iter().find(|core| usize::from(core.1) == node).map_or(last, |core| core.0);
            *socket = last;
        }
        let participates = vec![true; cores.len()];
        Self { cores, regions, node_socket, participates }
    }

    /// Books of ordinary guests' writes on this host.
    pub(super) fn writes(&self) -> Writes {
        let cores = self.cores.iter().map(|core| core.1).collect();
        Writes::new(cores, self.regions.iter().map(|region| region.1).collect())
    }
}

impl HostView {
    /// The region's memory is that of the core's own socket.
    pub(super) fn is_near(&self, core: CoreId, region: Region) -> bool {
        self.node_socket(self.region_node(region)) == self.socket(core)
    }
}

impl Host for HostView {
    fn cores(&self) -> u16 {
        self.cores.len() as u16
    }
    fn participates(&self, core: CoreId) -> bool {
        self.participates.get(core.index()).copied().unwrap_or(false)
    }
    fn node(&self, core: CoreId) -> u16 {
        self.cores.get(core.index()).map_or(0, |core| core.1)
    }
    fn socket(&self, core: CoreId) -> u16 {
        self.cores.get(core.index()).map_or(0, |core| core.0)
    }
    fn spanned_regions(&self) -> u32 {
        self.regions.len() as u32
    }
    fn ram_mib(&self, region: Region) -> u32 {
        self.regions.get(region.index()).map_or(0, |region| region.0)
    }
    fn region_node(&self, region: Region) -> u16 {
        self.regions.get(region.index()).map_or(0, |region| region.1)
    }
    fn node_socket(&self, node: u16) -> u16 {
        self.node_socket.get(usize::from(node)).copied().unwrap_or(0)
    }
}

/// CPUs: online or not, and how many vCPUs run on each.
#[derive(Debug)]
pub(super) struct Cpus {
    /// The online CPUs of each core come first.
    by_core: Vec<Vec<u32>>,
    online: Vec<bool>,
    vcpus: Vec<u32>,
    /// Moves on when a CPU begins or ceases to run a guest.
    busy_epoch: u64,
    /// CPUs that have no ticks while they run a guest.
    tickless: Vec<bool>,
    limit: u32,
    /// CPUs by node in the order in which vCPUs are placed, with where the next goes.
    places: Vec<(u32, Vec<u32>, usize)>,
}

impl Cpus {
    pub(super) fn new(topology: &Topology, nohz_full: &[(u32, u32)]) -> Self {
        let limit = topology.cpu_limit();
        let tickless =
            (0..limit).map(|cpu| nohz_full.iter().any(|&(a, b)| (a..=b).contains(&cpu))).collect();
        let mut online = vec![false; limit as usize];
        for cpu in topology.iter_cpus() {
            if let Some(cpu) = online.get_mut(cpu as usize) {
                *cpu = true;
            }
        }
        let by_core = (0..topology.cores()).map(|core| topology.cpus(core).to_vec()).collect();
        let places = topology
            .nodes()
            .map(|node| {
                let cores = topology.cores_of_node(node).iter();
                (node, cores.flat_map(|&core| topology.cpus(core).to_vec()).collect(), 0)
            })
            .filter(|(_, cpus, _): &(u32, Vec<u32>, usize)| !cpus.is_empty())
            .collect();
        Self {
            by_core,
            online,
            vcpus: vec![0; limit as usize],
            busy_epoch: 0,
            tickless,
            limit,
            places,
        }
    }

    /// The CPU that works for a core: its first that is online.
    pub(super) fn worker(&self, core: CoreId) -> Option<u32> {
        self.online_of(core).next()
    }

    /// The core's CPUs that are online.
    pub(super) fn online_of(&self, core: CoreId) -> impl Iterator<Item = u32> + '_ {
        let cpus = self.by_core.get(core.index()).into_iter().flatten();
        cpus.copied().filter(|&cpu| self.is_online(cpu))
    }

    /// A CPU of the core that runs a guest and so has ticks.
    pub(super) fn busy(&self, core: CoreId) -> Option<u32> {
        let cpus = self.by_core.get(core.index())?;
        cpus.iter()
            .copied()
            .find(|&cpu| self.is_online(cpu) && self.runs_guest(cpu) && self.has_ticks(cpu))
    }

    /// `nohz_full=` stops the tick of a CPU that has one thing to run; one vCPU is taken to be that.
    fn has_ticks(&self, cpu: u32) -> bool {
        !self.tickless.get(cpu as usize).is_some_and(|&tickless| tickless)
            || self.vcpus.get(cpu as usize).is_some_and(|&vcpus| vcpus > 1)
    }

    pub(super) fn runs_guest(&self, cpu: u32) -> bool {
        self.vcpus.get(cpu as usize).is_some_and(|&vcpus| vcpus > 0)
    }

    /// While this stays the same CPUs run guests.
    pub(super) const fn busy_epoch(&self) -> u64 {
        self.busy_epoch
    }

    pub(super) fn is_online(&self, cpu: u32) -> bool {
        self.online.get(cpu as usize).copied().unwrap_or(false)
    }

    pub(super) fn set_online(&mut self, cpu: u32, on: bool) {
        if let Some(online) = self.online.get_mut(cpu as usize) {
            *online = on;
        }
    }

    /// The first tick of `cpu` after `now`. Ticks of different CPUs are spread over the period.
    pub(super) fn next_tick(&self, cpu: u32, now: Nanos) -> Nanos {
        let phase = TICK_NS * Nanos::from(cpu) / Nanos::from(self.limit.max(1));
        let passed = (now + TICK_NS - phase) % TICK_NS;
        now + TICK_NS - passed
    }

    /// Places `count` vCPUs, on one node's CPUs if asked for, core after core. Returns their CPUs.
    ///
    /// vCPUs beyond the node's CPUs share them and are not counted: what matters is which CPUs run
    /// guests, and a trace may say billions.
    pub(super) fn place(&mut self, count: u32, node: Option<u32>) -> Vec<u32> {
        let mut taken = Vec::new();
        let mut nodes: Vec<_> = self
            .places
            .iter_mut()
            .filter(|place| node.is_none_or(|node| place.0 == node))
            .collect();
        if nodes.is_empty() {
            return taken;
        }
        // The node with the fewest vCPUs per CPU; a guest's vCPUs stay together.
        let vcpus = &self.vcpus;
        let load = |cpus: &[u32]| -> u64 {
            let sum: u64 =
                cpus.iter().filter_map(|&cpu| vcpus.get(cpu as usize)).map(|&n| u64::from(n)).sum();
            sum * 1000 / cpus.len() as u64
        };
        nodes.sort_by_key(|place| load(&place.1));
        let Some((_, cpus, next)) = nodes.into_iter().next() else { return taken };
        for _ in 0..cpus.len().min(count as usize) {
            let Some(&cpu) = cpus.get(*next % cpus.len()) else { break };
            *next = (*next + 1) % cpus.len();
            taken.push(cpu);
        }
        for &cpu in &taken {
            if let Some(vcpus) = self.vcpus.get_mut(cpu as usize) {
                self.busy_epoch += u64::from(*vcpus == 0);
                *vcpus += 1;
            }
        }
        taken
    }

    /// The guest that had these CPUs is gone.
    pub(super) fn release(&mut self, cpus: &[u32]) {
        for &cpu in cpus {
            if let Some(vcpus) = self.vcpus.get_mut(cpu as usize) {
                self.busy_epoch += u64::from(*vcpus == 1);
                *vcpus = vcpus.saturating_sub(1);
            }
        }
    }
}
