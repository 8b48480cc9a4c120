//! What a run is asked to do, as plain data: integer nanoseconds, integer bytes, no text format.
//!
//! The command reads TOML, kernel logs and traces and fills these types; the engine runs them. A
//! value that reaches the engine has already passed the reader's range checks ([`limits`]).

use core::fmt;
use core::str::FromStr;

use snp_defs::PageSize;

use crate::cost::{CostModel, Draws, Parallel};
use crate::memory::{MapEntry, NodeMemory};
pub use crate::policies::PolicyName;
use crate::topology::{TopologyLists, TopologyNumbers};

/// Simulated time since power-on, in nanoseconds.
pub type Nanos = u64;

/// One second of simulated time.
pub const SECOND: Nanos = 1_000_000_000;

/// When a trace's clock begins: a second after SNP was set up, so that its first guests meet SNP.
pub const TRACE_START: Nanos = 2 * SECOND;

/// One gibibyte: the size of an RMPOPT region.
pub const GIB: u64 = 1 << 30;

/// The ranges every reader holds its input to.
pub mod limits {
    use super::{GIB, Nanos, SECOND};

    /// The most RAM of a host: 12 TiB.
    pub const MEMORY_MAX: u64 = 12 * 1024 * GIB;
    /// The least RAM of a host: 2 GiB, below which nothing is left beside firmware and the RMP.
    pub const MEMORY_MIN: u64 = 2 * GIB;
    /// The most sockets of a host.
    pub const SOCKETS_MAX: u32 = 8;
    /// The most physical cores of a socket.
    pub const SOCKET_CORES_MAX: u32 = 1024;
    /// The most physical cores of a host.
    pub const CORES_MAX: u32 = 4096;
    /// The most guests of a scenario, after `count` is written out.
    pub const GUESTS_MAX: usize = 100_000;
    /// The most events of a scenario, after repeated ones are written out.
    pub const EVENTS_MAX: usize = 100_000;
    /// The longest simulated time: ten years.
    pub const TIME_MAX: Nanos = 3653 * 86_400 * SECOND;
}

/// Everything one run needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// The host, its guests and what happens to them.
    pub scenario: Scenario,
    /// Where every random choice of the run starts.
    pub seed: u64,
    /// Who decides; what the command line asked for, else what the scenario says.
    pub policy: PolicyName,
    /// How the RMP is held.
    pub fidelity: FidelityChoice,
    /// What things cost.
    pub costs: CostModel,
    /// Where to stop, if not where the scenario ends.
    pub until: Option<Nanos>,
    /// What was filled in from defaults because the input did not say, one sentence each.
    pub assumed: Vec<String>,
}

/// How far a run has come, given to the caller now and then while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Simulated time reached.
    pub now: Nanos,
    /// Simulated time at which the run ends.
    pub until: Nanos,
}

/// How the RMP is to be held, as asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FidelityChoice {
    /// Every entry on hosts up to 64 GiB, blocks above.
    #[default]
    Auto,
    /// Every 4 KiB entry.
    Pages,
    /// 2 MiB blocks, each with its count of assigned pages.
    Extents,
}

impl FidelityChoice {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Pages, Self::Extents];

    /// The name as written on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Pages => "pages",
            Self::Extents => "extents",
        }
    }
}

/// A host, its guests, what happens to them and who decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Short name, shown in the report.
    pub name: String,
    /// One sentence on what it shows; may be empty.
    pub description: String,
    /// A paragraph on why it is worth running; may be empty.
    pub why: String,
    /// The machine.
    pub host: HostSpec,
    /// Its guests, in the order written; events name them by index.
    pub guests: Vec<GuestSpec>,
    /// Guests that keep coming; no event names them.
    pub streams: Vec<StreamSpec>,
    /// What else happens, ordered by time (events of one time stay in the order written).
    pub events: Vec<EventSpec>,
    /// Settings of the policy.
    pub policy: PolicySpec,
    /// Where guests are put.
    pub rule: PlacementRule,
    /// Where it ends; without it, some time after the last thing that happens.
    pub until: Option<Nanos>,
    /// Guests that come and go as a recorded trace says, beside `guests`.
    pub trace: Option<TraceSpec>,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSpec {
    /// CPUs and nodes.
    pub topology: TopologySpec,
    /// RAM.
    pub memory: MemorySpec,
    /// Form of the RMP.
    pub rmp: RmpKind,
    /// CPUs without timer ticks while they run a guest, as ranges of numbers, both ends included:
    /// the kernel's `nohz_full=`.
    pub nohz_full: Vec<(u32, u32)>,
}

/// CPUs and nodes: a regular machine, or what a real one listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopologySpec {
    /// All sockets alike.
    Regular(TopologyNumbers),
    /// As listed by a real host.
    Listed(TopologyLists),
}

/// RAM: an amount laid out like a real host's, or the map a real one printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemorySpec {
    /// So many bytes ([`PhysicalMemory::from_size`]), shared equally by the topology's nodes.
    ///
    /// [`PhysicalMemory::from_size`]: crate::memory::PhysicalMemory::from_size
    Bytes(u64),
    /// A firmware map ([`PhysicalMemory::from_map`]).
    ///
    /// [`PhysicalMemory::from_map`]: crate::memory::PhysicalMemory::from_map
    Map {
        /// Its ranges.
        entries: Vec<MapEntry>,
        /// How they are divided among nodes.
        nodes: NodeMemory,
    },
}

/// Form of the RMP; RMPOPT needs the segmented one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RmpKind {
    /// A table of segments, each near the memory it covers.
    #[default]
    Segmented,
    /// One table.
    Contiguous,
    /// None: the BIOS reserved no memory for it, and Linux leaves SNP off.
    Unset,
}

impl RmpKind {
    /// Every form.
    pub const ALL: [Self; 3] = [Self::Segmented, Self::Contiguous, Self::Unset];

    /// The name as written in scenarios.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Segmented => "segmented",
            Self::Contiguous => "contiguous",
            Self::Unset => "unset",
        }
    }
}

/// One guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestSpec {
    /// Unique in the scenario.
    pub name: String,
    /// SNP or not.
    pub kind: GuestKind,
    /// Its memory in bytes, a multiple of 4 KiB, not 0.
    pub memory: u64,
    /// How its memory lies in the host's.
    pub placement: Placement,
    /// When it is launched.
    pub at: Nanos,
    /// When it is shut down, after `at`; `None` is at the run's end.
    pub until: Option<Nanos>,
    /// CPUs it has, at least 1.
    pub vcpus: u32,
    /// Node number its memory and CPUs come from, if bound to one.
    pub node: Option<u32>,
    /// Bytes it touches (for an SNP guest: makes private), a multiple of 4 KiB up to `memory`.
    pub touched: u64,
    /// Bytes per second at which it touches its memory and gives it back; `None` is the engine's
    /// default.
    pub convert_rate: Option<u64>,
    /// Size in which its kernel maps and accepts its private memory, where that is aligned.
    pub accept: Grain,
}

/// Guests of one kind that keep coming.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// What each of them is: `name` begins all their names, `at` is when the first one comes (with
    /// exponential arrivals: from when on they come); `until` is not used.
    pub guest: GuestSpec,
    /// Mean time between two arrivals, not 0.
    pub every: Nanos,
    /// How those times vary.
    pub arrivals: Spread,
    /// None comes from here on.
    pub until: Nanos,
    /// Mean time each one lives, not 0.
    pub lifetime: Nanos,
    /// How those times vary.
    pub lifetimes: Spread,
}

/// How times vary about their mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Spread {
    /// Not at all.
    #[default]
    Fixed,
    /// Exponentially: as of things that happen independently of one another.
    Exponential,
}

impl Spread {
    /// Every spread.
    pub const ALL: [Self; 2] = [Self::Fixed, Self::Exponential];

    /// The name as written in scenarios.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Exponential => "exponential",
        }
    }
}

/// SNP guest or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GuestKind {
    /// Its private pages are assigned in the RMP.
    Snp,
    /// Its pages stay the hypervisor's.
    Ordinary,
}

impl GuestKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Snp, Self::Ordinary];

    /// The name as written in scenarios.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snp => "snp",
            Self::Ordinary => "ordinary",
        }
    }
}

/// How a guest's memory lies in the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// 4 KiB pages, filling one 2 MiB block after the other.
    Pages4K,
    /// 2 MiB pages, next to one another where there is room.
    Pages2M,
    /// 1 GiB pages.
    Pages1G,
    /// 4 KiB pages from 2 MiB blocks all over the node.
    Scattered4K,
    /// 2 MiB pages all over the node.
    Scattered2M,
}

impl Placement {
    /// Every placement.
    pub const ALL: [Self; 5] =
        [Self::Pages4K, Self::Pages2M, Self::Pages1G, Self::Scattered4K, Self::Scattered2M];

    /// The name as written in scenarios.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pages4K => "4k",
            Self::Pages2M => "2m",
            Self::Pages1G => "1g",
            Self::Scattered4K => "4k-scattered",
            Self::Scattered2M => "2m-scattered",
        }
    }

    /// Size in bytes of the pages it is made of.
    pub const fn page_bytes(self) -> u64 {
        match self {
            Self::Pages4K | Self::Scattered4K => 4096,
            Self::Pages2M | Self::Scattered2M => 2 << 20,
            Self::Pages1G => GIB,
        }
    }
}

/// Where guests are put, by whoever starts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PlacementRule {
    /// Into the lowest free memory, as an allocator that knows nothing of windows does.
    #[default]
    Ordered,
    /// As docs/placement.md advises: ordinary guests where the cores that write them have windows, SNP
    /// guests where no core loses by them.
    Advised,
}

impl PlacementRule {
    /// Every rule.
    pub const ALL: [Self; 2] = [Self::Ordered, Self::Advised];

    /// The name as written in scenarios and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Advised => "advised",
        }
    }
}

/// A page size, in a scenario's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Grain {
    /// 4 KiB.
    Small,
    /// 2 MiB.
    #[default]
    Large,
}

impl Grain {
    /// Every size.
    pub const ALL: [Self; 2] = [Self::Small, Self::Large];

    /// The name as written in scenarios.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Small => "4k",
            Self::Large => "2m",
        }
    }

    /// The page size.
    pub const fn size(self) -> PageSize {
        match self {
            Self::Small => PageSize::Size4K,
            Self::Large => PageSize::Size2M,
        }
    }
}

/// Something that happens besides guests coming and going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventSpec {
    /// When.
    pub at: Nanos,
    /// What.
    pub action: Action,
}

/// What an event does. Guests are indices into [`Scenario::guests`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An SNP guest makes some of its private memory shared.
    Share {
        /// Which guest.
        guest: usize,
        /// Bytes, a multiple of 4 KiB, not 0.
        memory: u64,
        /// What it counts in: size and place are multiples of it. `None` is the size of the pages
        /// that the guest's memory is made of, at most 2 MiB.
        unit: Option<Grain>,
    },
    /// An SNP guest makes some of its shared memory private again.
    Private {
        /// Which guest.
        guest: usize,
        /// Bytes, a multiple of 4 KiB, not 0.
        memory: u64,
        /// What it counts in: size and place are multiples of it. `None` is the size of the pages
        /// that the guest's memory is made of, at most 2 MiB.
        unit: Option<Grain>,
    },
    /// Some pages of this guest cannot be given back when it is shut down: bit 63 of their entries
    /// stays set, RMPUPDATE answers `FAIL_INUSE`, the host leaks them.
    Leak {
        /// Which guest.
        guest: usize,
        /// 4 KiB pages, not 0.
        pages: u64,
    },
    /// The host initialises SNP (again). A run does so once by itself at boot.
    SnpInit,
    /// The host shuts SNP down; SNP guests still there are ended first.
    SnpShutdown,
    /// A CPU goes away.
    CpuOffline {
        /// Its number.
        cpu: u32,
    },
    /// A CPU returns.
    CpuOnline {
        /// Its number.
        cpu: u32,
    },
    /// The operator asks for a pass over everything.
    Request,
    /// The operator stops passes; what is optimised stays so.
    Pause,
    /// The operator lets passes go on.
    Resume,
}

impl Action {
    /// The name as written in scenarios.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Share { .. } => "share",
            Self::Private { .. } => "private",
            Self::Leak { .. } => "leak",
            Self::SnpInit => "snp-init",
            Self::SnpShutdown => "snp-shutdown",
            Self::CpuOffline { .. } => "cpu-offline",
            Self::CpuOnline { .. } => "cpu-online",
            Self::Request => "request",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

/// Settings of the policy; what is `None` keeps the policy's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySpec {
    /// Which one, unless the command line says otherwise.
    pub name: Option<PolicyName>,
    /// Quiet time after a region's last activity before it is tried.
    pub delay: Option<Nanos>,
    /// Longest time a region that keeps changing may be put off.
    pub bound: Option<Nanos>,
    /// Longest time a CPU is held at a stretch (one RMPOPT more may run over).
    pub budget: Option<Nanos>,
    /// How long cores follow the leader only in interrupts that come anyway; then they are woken
    /// once. `Some(0)` wakes them at once.
    pub follow_by: Option<Nanos>,
    /// Most followers woken at once.
    pub followers: Option<u32>,
    /// Time between two audited beliefs; `Some(0)` is no audit.
    pub audit: Option<Nanos>,
    /// How often marks of activity are drained.
    pub tick: Option<Nanos>,
}

/// Guests that come and go as a recorded trace says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TraceSpec {
    /// Data rows of the file.
    pub rows: u64,
    /// Rows never scheduled: counted, not run.
    pub unscheduled: u64,
    /// Rows that contradict themselves: counted, not run.
    pub invalid: u64,
    /// Rows that could be run and are not in the sample.
    pub left_out: u64,
    /// The rest, ordered by start; time 0 is the trace's first start.
    pub guests: Vec<TraceGuest>,
    /// When the trace was recorded to, in the run's time.
    pub span: Nanos,
    /// Share of SNP guests, 0 to 1.
    pub snp_share: f64,
    /// What the share is a share of.
    pub snp_by: SnpBy,
}

/// One guest of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceGuest {
    /// Its name in the file; with the seed it decides whether it is an SNP guest.
    pub id: String,
    /// CPUs in thousandths.
    pub cpu_milli: u64,
    /// Memory in bytes, a multiple of 4 KiB, not 0.
    pub memory: u64,
    /// When it is launched.
    pub start: Nanos,
    /// When it ends, not before `start` (a guest may live for no time at all); `None` if it
    /// outlives the trace.
    pub end: Option<Nanos>,
    /// It was there when the trace begins, so its true start is unknown.
    pub left_censored: bool,
    /// It was there when the trace ends, so its true end is unknown.
    pub right_censored: bool,
}

/// What `snp_share` is a share of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SnpBy {
    /// Each guest is an SNP guest with that probability.
    #[default]
    Vm,
    /// SNP guests are chosen until they hold that share of the memory.
    Memory,
}

impl SnpBy {
    /// Every way.
    pub const ALL: [Self; 2] = [Self::Vm, Self::Memory];

    /// The name as written on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Memory => "memory",
        }
    }
}

/// A word that is none of the choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownChoice {
    /// The word.
    pub word: String,
    /// The choices, in the order shown.
    pub expected: Vec<&'static str>,
}

impl fmt::Display for UnknownChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected one of ")?;
        for (i, choice) in self.expected.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}\"{choice}\"")?;
        }
        write!(f, ", found \"{}\"", self.word)
    }
}

impl std::error::Error for UnknownChoice {}

macro_rules! by_name {
    ($($t:ty),*) => { $(
        impl FromStr for $t {
            type Err = UnknownChoice;
            fn from_str(word: &str) -> Result<Self, UnknownChoice> {
                Self::ALL.into_iter().find(|c| c.as_str() == word).ok_or_else(|| UnknownChoice {
                    word: word.to_owned(),
                    expected: Self::ALL.into_iter().map(Self::as_str).collect(),
                })
            }
        }
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    )* };
}

by_name!(
    PolicyName,
    FidelityChoice,
    RmpKind,
    GuestKind,
    Placement,
    PlacementRule,
    Spread,
    Grain,
    SnpBy,
    Parallel,
    Draws
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for p in Placement::ALL {
            assert_eq!(p.as_str().parse(), Ok(p));
        }
        for p in PolicyName::ALL {
            assert_eq!(p.as_str().parse(), Ok(p));
        }
        let wrong = "v11".parse::<PolicyName>().unwrap_err();
        let text = wrong.to_string();
        assert!(text.starts_with("expected one of \"tracked\", \"tracked-work\", "), "{text}");
        assert!(text.ends_with("\"off\", found \"v11\""), "{text}");
    }
}
