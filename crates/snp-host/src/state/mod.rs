//! What a host's interfaces say together: the model behind `rmpopt status`, `doctor` and `regions`.

mod capability;
mod doctor;
mod driver;
mod firmware;
mod guests;
mod log;
mod memory;
mod regions;
mod registers;
mod rmp;
mod sources;
mod watch;

use std::sync::Arc;

use serde::Serialize;

pub use self::capability::{Capability, Features};
pub use self::doctor::{CHECKS, Check, Verdict, doctor};
pub use self::driver::{Driver, DriverKind};
pub use self::firmware::Firmware;
pub use self::guests::{DefinedGuest, Guest, Guests, LibvirtGuest};
pub use self::log::Log;
pub use self::memory::{Memory, NodeState, Pool};
pub use self::regions::{RegionKind, RegionState};
pub use self::registers::{Register, Rmpopt, Snp, Value, WindowState};
pub use self::rmp::{Range, RmpState};
pub use self::sources::Source;
pub use self::watch::Watch;
use crate::system::System;

/// Version of the JSON of [`HostState`], of the regions and of the checks.
pub const SCHEMA_VERSION: u32 = 1;

/// A host.
#[derive(Debug, Clone, Serialize)]
pub struct HostState {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Whether every CPU was asked.
    pub deep: bool,
    /// Facts that only root can read.
    pub needs_root: Vec<&'static str>,
    /// Facts that were not read because every CPU would be interrupted.
    pub needs_deep: Vec<&'static str>,
    /// Which source answered for which fact.
    pub sources: Vec<Source>,
    /// CPUID.
    pub capability: Capability,
    /// SNP.
    pub snp: Snp,
    /// What the SEV firmware says; null unless it was asked and answered.
    pub firmware: Option<Firmware>,
    /// The RMP.
    pub rmp: RmpState,
    /// CPUs.
    pub cpus: CpuState,
    /// MSRs.
    pub registers: Vec<Register>,
    /// RMPOPT on each core; null if not known.
    pub rmpopt: Option<Rmpopt>,
    /// Memory and how much of it is optimised.
    pub memory: Memory,
    /// SNP guests.
    pub guests: Guests,
    /// Who runs RMPOPT.
    pub driver: Driver,
    /// The kernel's log.
    pub log: Log,
    /// What does not fit together.
    pub anomalies: Vec<String>,
    /// Regions with RAM.
    #[serde(skip)]
    pub regions: Arc<Vec<RegionState>>,
}

/// Regions and memory, which take the longest to work out.
type Kept = (Arc<Vec<RegionState>>, Memory);

/// CPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CpuState {
    /// Online CPUs; null if not known.
    pub online: Option<u32>,
    /// Present CPUs that are offline, as a list.
    pub offline: Option<String>,
    /// Cores with an online CPU.
    pub cores: Option<u32>,
    /// Sockets.
    pub sockets: Option<u32>,
}

impl HostState {
    /// Puts together what was read.
    pub fn of(system: &System) -> Self {
        Self::with(system, Log::of(system), None)
    }

    /// The same where what the log says is known already, and perhaps regions and memory.
    fn with(system: &System, log: Log, kept: Option<Kept>) -> Self {
        let ram = regions::ram(system, &log);
        // Blocks end after RAM does: by them nothing can be said to be uncovered.
        let exact = ram.as_ref().filter(|(source, _)| *source != "memory-blocks");
        let rmp = rmp::rmp(system, &log, exact.map(|(_, spans)| &spans[..]));
        let rmpopt = registers::rmpopt(system);
        let (regions, memory) = kept.unwrap_or_else(|| {
            // An emulated driver's regions are those of its emulated host, which shares nothing with
            // this one but its CPUs.
            let emulated = regions::emulated_ram(system);
            let own = emulated.is_none();
            let ram = emulated.as_ref().or(ram.as_ref());
            let (source, spans) = ram.map_or((None, &[][..]), |(s, r)| (Some(*s), &r[..]));
            let nodes = system.nodes.as_ref().ok().filter(|_| own);
            let held = if own { &rmp.spans[..] } else { &[] };
            let windows = rmpopt.as_ref().filter(|_| own);
            let regions = regions::regions(system, spans, nodes, held, windows);
            let memory = memory::memory(system, source, spans, nodes, &regions);
            (Arc::new(regions), memory)
        });
        let mut state = Self {
            schema_version: SCHEMA_VERSION,
            deep: system.deep,
            needs_root: sources::needing(system, "forbidden"),
            needs_deep: sources::not_deep(system),
            sources: sources::sources(system),
            capability: Capability::of(system),
            snp: registers::snp(system, &log),
            firmware: Firmware::of(system),
            cpus: cpu_state(system),
            registers: registers::registers(system),
            memory,
            guests: guests::guests(system),
            driver: driver::driver(system, &log, rmpopt.as_ref()),
            anomalies: Vec::new(),
            rmp,
            rmpopt,
            log,
            regions,
        };
        state.anomalies = anomalies(&state);
        state
    }
}

/// Where the RMP is by the MSRs alone.
pub(crate) fn rmp_by_msrs(system: &System) -> RmpState {
    rmp::rmp(system, &Log::default(), None)
}

fn cpu_state(system: &System) -> CpuState {
    let Ok(cpus) = &system.cpus else { return CpuState::default() };
    let offline = cpus.present.as_ref().map(|present| {
        let off: Vec<u32> = present.iter().filter(|cpu| !cpus.online.contains(*cpu)).collect();
        registers::list(&off)
    });
    CpuState {
        online: Some(cpus.online.len()),
        offline,
        cores: (!cpus.cores.is_empty()).then_some(cpus.cores.len() as u32),
        sockets: cpus.sockets,
    }
}

/// Sources that contradict each other, and files that say nonsense.
fn anomalies(state: &HostState) -> Vec<String> {
    let mut all = Vec::new();
    if state.driver.emulated == Some(true) {
        let what = "the driver runs on emulated hardware: what is said of it and of regions";
        all.push(format!("{what} holds for the emulated host, not for this one"));
    } else if state.driver.kind == DriverKind::Ours
        && state.capability.rmpopt_capable == Some(false)
    {
        all.push("the driver is loaded and CPUID shows no RMPOPT".to_owned());
    }
    for register in state.registers.iter().filter(|r| r.values.len() > 1) {
        all.push(format!("{} has {} values", register.name, register.values.len()));
    }
    if let Some(firmware) = &state.firmware {
        if state.snp.enabled == Some(true) && !firmware.rmp_initialised {
            all.push("SNP_EN is set and the firmware has no initialised RMP".to_owned());
        }
        let processes = state.guests.processes.as_ref().map(Vec::len);
        if let Some(seen) = processes.filter(|seen| *seen as u64 != u64::from(firmware.guests)) {
            let managed = firmware.guests;
            all.push(format!("the firmware manages {managed} guests, {seen} are among processes"));
        }
    }
    all.extend(state.rmp.errors.iter().cloned());
    let wrong = state.sources.iter().filter(|source| source.state == "malformed");
    all.extend(wrong.filter_map(|source| source.detail.clone()));
    all.extend(state.guests.doubts.iter().cloned());
    all
}
