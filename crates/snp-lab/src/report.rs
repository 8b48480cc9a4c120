//! What a run found, as data: the JSON of `rmpopt run --json`, key for key and in this order.
//!
//! Every number that comes from a float is written with at most six decimals, so that one seed
//! gives the same bytes on every run; only `wall_s` differs.

mod jitter;

use serde::{Serialize, Serializer};

pub use self::jitter::{JitterMap, JitterReport, SliceReport};

/// Version of the JSON below; grows when a key changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// Most points in [`RunReport::share`].
pub const SHARE_POINTS: usize = 200;

/// The result of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunReport {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Always true: nothing here was measured on silicon.
    pub emulated: bool,
    /// Name of the scenario.
    pub scenario: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// Policy that decided, by name.
    pub policy: &'static str,
    /// How the RMP was held: `pages` or `extents`.
    pub fidelity: &'static str,
    /// What was filled in from defaults, one sentence each.
    pub assumed: Vec<String>,
    /// The machine.
    pub host: HostReport,
    /// The trace's guests; null without a trace.
    pub trace: Option<TraceReport>,
    /// Share of (core, region) pairs that were optimised.
    pub optimized: OptimizedReport,
    /// RMPOPT instructions.
    pub rmpopt: RmpoptReport,
    /// Inter-processor interrupts, counted per target CPU.
    pub ipis: u64,
    /// Work items that had to wake their worker.
    pub wakeups: u64,
    /// Involuntary losses of a CPU by what ran there.
    pub interruptions: InterruptionReport,
    /// Passes: times the policy went over its candidates (for v10, over everything).
    pub passes: u64,
    /// Seconds from a region's last assigned page to its being optimised on every core.
    pub reoptimize_s: ReoptimizeReport,
    /// CPU time the driver took, in microseconds.
    pub stolen_us: StolenReport,
    /// Time stolen in each window of 1 ms, in microseconds.
    pub jitter_us: JitterReport,
    /// RMPUPDATE instructions.
    pub rmpupdates: u64,
    /// What else host, guests and firmware did for SNP guests.
    pub guests: GuestOpsReport,
    /// The same counters from the end of the first pass on.
    pub steady: SteadyReport,
    /// Breaches of laws the policy claims.
    pub law_violations: u64,
    /// Breaches of laws it disclaims.
    pub law_breaches_unclaimed: u64,
    /// Simulated time, in seconds.
    #[serde(serialize_with = "six")]
    pub simulated_s: f64,
    /// Time the run took, in seconds; the one value that is not the same every time. Set by the
    /// caller, so that the engine reads no clock.
    #[serde(serialize_with = "six")]
    pub wall_s: f64,
    /// Each law, what was checked and what was found.
    pub laws: Vec<LawReport>,
    /// What happened when, ascending.
    pub timeline: Vec<TimelineEntry>,
    /// Share over time, ascending, at most [`SHARE_POINTS`] points.
    pub share: Vec<SharePoint>,
    /// Every region slot at the moment `optimized.final` is taken.
    pub map: MapReport,
    /// Regions with RAM that can never be optimised, and why.
    pub never_optimizable: Vec<NeverReport>,
    /// How the driver was set up.
    pub driver: DriverReport,
    /// What was taken from each CPU.
    pub cpus: CpusReport,
    /// Where and when windows of 1 ms lost most.
    pub jitter_map: JitterMap,
    /// Upstream's debugfs text (`--table`); not part of the JSON.
    #[serde(skip)]
    pub table: String,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// Sockets.
    pub sockets: u32,
    /// Physical cores.
    pub cores: u32,
    /// CPUs (hardware threads).
    pub cpus: u32,
    /// Usable RAM as listed, before anything is carved out.
    pub memory_bytes: u64,
    /// 1 GiB slots that hold usable RAM.
    pub regions: u64,
    /// All 1 GiB slots up to the top of RAM.
    pub spanned_regions: u64,
    /// Those of `regions` that lie in some core's window.
    pub window_regions: u64,
}

/// The trace's guests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TraceReport {
    /// Data rows of the file.
    pub rows: u64,
    /// Rows never scheduled.
    pub unscheduled: u64,
    /// Rows that contradict themselves.
    pub invalid: u64,
    /// Rows that could be run and are not in the sample.
    pub left_out: u64,
    /// Guests that ran.
    pub admitted: u64,
    /// Guests that did not fit when their time came.
    pub rejected: u64,
    /// Of those admitted, SNP guests.
    pub snp: u64,
    /// Of those admitted, ordinary guests.
    pub ordinary: u64,
    /// Guests already there when the trace begins.
    pub left_censored: u64,
    /// Guests still there when the trace, or the run, ends.
    pub right_censored: u64,
    /// Most memory held by the trace's guests at once.
    pub peak_bytes: u64,
}

/// Share of (participating core, region in its window) pairs that were optimised, 0 to 1; null
/// where SNP was never up or there are no such pairs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OptimizedReport {
    /// At the last end of a time SNP was up.
    #[serde(rename = "final", serialize_with = "six_or_null")]
    pub at_end: Option<f64>,
    /// Weighted over all time SNP was up.
    #[serde(serialize_with = "six_or_null")]
    pub mean: Option<f64>,
    /// As `final`, over pairs whose region holds no assigned page.
    #[serde(rename = "optimizable_final", serialize_with = "six_or_null")]
    pub optimizable_at_end: Option<f64>,
    /// As `mean`, over pairs whose region holds no assigned page.
    #[serde(serialize_with = "six_or_null")]
    pub optimizable_mean: Option<f64>,
    /// The share summed over all time SNP was up, in seconds: `mean` times that time.
    #[serde(serialize_with = "six")]
    pub integral_s: f64,
    /// As `final`, of ordinary guests' writes: by the bytes they touch and the cores that write them
    /// (80 % from the memory's own node). Null where there was no ordinary guest.
    #[serde(rename = "weighted_final", serialize_with = "six_or_null")]
    pub weighted_at_end: Option<f64>,
    /// As `mean`, of ordinary guests' writes, over the time SNP was up and there were some.
    #[serde(serialize_with = "six_or_null")]
    pub weighted_mean: Option<f64>,
}

/// What host, guests and firmware did for SNP guests besides RMPUPDATE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GuestOpsReport {
    /// PSMASH instructions that succeeded.
    pub psmashes: u64,
    /// PVALIDATE instructions, those that failed or faulted too.
    pub pvalidates: u64,
    /// Of them, 2 MiB asked of a 4 KiB entry: the guest falls back to 4 KiB.
    pub size_mismatches: u64,
    /// Nested page faults with SIZEM: 4 KiB asked of a 2 MiB entry.
    pub sizem_faults: u64,
    /// Firmware commands, those that failed too.
    pub firmware_commands: u64,
    /// Of them, those that failed.
    pub firmware_errors: u64,
    /// Times that every CPU did WBINVD.
    pub wbinvds: u64,
    /// `SNP_DF_FLUSH` commands that succeeded.
    pub df_flushes: u64,
    /// Pages, of either size, that could not be given back.
    pub reclaim_failures: u64,
    /// 4 KiB pages that stay assigned for that.
    pub leaked_pages: u64,
}

/// RMPOPT instructions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RmpoptReport {
    /// All of them.
    pub executed: u64,
    /// Function 0, verify.
    pub verify: u64,
    /// Function 1, report.
    pub report: u64,
    /// Verifies by a leader.
    pub leader: u64,
    /// Verifies by followers.
    pub followers: u64,
    /// Of all, those that read every line of a region.
    pub slow: u64,
    /// Those that met an assigned page before the last line.
    pub early: u64,
    /// Those that read none: the result was cached, or function 1.
    pub fast: u64,
}

/// Involuntary losses of a CPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InterruptionReport {
    /// On all CPUs.
    pub total: u64,
    /// On the CPU that had most.
    pub max_per_cpu: u64,
    /// 99 of 100 CPUs had no more.
    pub p99_per_cpu: u64,
}

/// How long regions waited to be optimised again; null where none was.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReoptimizeReport {
    /// Half took no longer.
    #[serde(serialize_with = "six_or_null")]
    pub p50: Option<f64>,
    /// 99 of 100 took no longer.
    #[serde(serialize_with = "six_or_null")]
    pub p99: Option<f64>,
    /// The longest.
    #[serde(serialize_with = "six_or_null")]
    pub max: Option<f64>,
    /// Regions that still waited when the run, or SNP, ended; not in the percentiles.
    pub never: u64,
    /// Waits that ended, of which the percentiles are.
    pub count: u64,
    /// The longest that one of `never` had waited.
    #[serde(serialize_with = "six_or_null")]
    pub never_longest: Option<f64>,
}

/// CPU time the driver took, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StolenReport {
    /// From all CPUs.
    #[serde(serialize_with = "six")]
    pub total: f64,
    /// Longest at a stretch.
    #[serde(serialize_with = "six")]
    pub max_hold: f64,
    /// From the CPU that gave most.
    #[serde(serialize_with = "six")]
    pub max_per_cpu: f64,
    /// 99 of 100 CPUs gave no more.
    #[serde(serialize_with = "six")]
    pub p99_per_cpu: f64,
}

/// Counters from the end of the first pass on.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SteadyReport {
    /// RMPOPT instructions.
    pub rmpopt: u64,
    /// Inter-processor interrupts, per target CPU.
    pub ipis: u64,
    /// Work items that had to wake their worker.
    pub wakeups: u64,
    /// Involuntary losses of a CPU.
    pub interruptions: u64,
    /// CPU time taken, in microseconds.
    #[serde(serialize_with = "six")]
    pub stolen_us: f64,
    /// Interruptions of the CPU that had most.
    pub max_interruptions_per_cpu: u64,
    /// Time taken from the CPU that gave most, in microseconds.
    #[serde(serialize_with = "six")]
    pub max_stolen_us_per_cpu: f64,
    /// Time stolen in each window of 1 ms, in microseconds.
    pub jitter_us: JitterReport,
}

/// One law.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LawReport {
    /// Its number, 1 to 6.
    pub law: u8,
    /// Its name.
    pub name: &'static str,
    /// Whether the policy claims it.
    pub claimed: bool,
    /// Times it was checked.
    pub checks: u64,
    /// Times it was broken.
    pub breaches: u64,
    /// The first breach: when, where, what.
    pub first: Option<String>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimelineEntry {
    /// Simulated time in seconds.
    #[serde(serialize_with = "six")]
    pub t_s: f64,
    /// What sort of thing.
    pub kind: TimelineKind,
    /// In words, one line.
    pub text: String,
}

/// What sort of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimelineKind {
    /// The host: boot.
    Host,
    /// SNP initialised or shut down.
    Snp,
    /// A guest launched, ended or refused.
    Guest,
    /// Memory made shared or private in a guest's life.
    Convert,
    /// A pass of the driver: begun, done, a region's return.
    Pass,
    /// A CPU went or returned.
    Cpu,
    /// The operator asked for something.
    Operator,
    /// A law was broken.
    Law,
}

impl TimelineKind {
    /// The word in the JSON and in the report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Snp => "snp",
            Self::Guest => "guest",
            Self::Convert => "convert",
            Self::Pass => "pass",
            Self::Cpu => "cpu",
            Self::Operator => "operator",
            Self::Law => "law",
        }
    }
}

/// The share at one time; null while SNP is down.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SharePoint {
    /// Simulated time in seconds.
    #[serde(serialize_with = "six")]
    pub t_s: f64,
    /// Over all pairs.
    #[serde(serialize_with = "six_or_null")]
    pub optimized: Option<f64>,
    /// Over pairs whose region holds no assigned page.
    #[serde(serialize_with = "six_or_null")]
    pub optimizable: Option<f64>,
    /// Of ordinary guests' writes; null also where there is no ordinary guest.
    #[serde(serialize_with = "six_or_null")]
    pub weighted: Option<f64>,
}

/// Every region slot, one letter each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MapReport {
    /// Region number (1 GiB units) of the first letter.
    pub first_region: u64,
    /// One letter per slot ([`RegionMark::letter`]).
    pub states: String,
    /// What each letter means.
    pub legend: MapLegend,
}

impl MapReport {
    /// The map of slots from `first_region` up.
    pub fn new(first_region: u64, marks: impl IntoIterator<Item = RegionMark>) -> Self {
        let states = marks.into_iter().map(RegionMark::letter).collect();
        Self { first_region, states, legend: MapLegend }
    }

    /// The slots' marks in order.
    pub fn marks(&self) -> impl Iterator<Item = RegionMark> + '_ {
        self.states.chars().filter_map(RegionMark::from_letter)
    }
}

/// The legend object: letter to meaning, in the order of [`RegionMark::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapLegend;

impl Serialize for MapLegend {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(RegionMark::ALL.iter().map(|m| (m.letter(), m.meaning())))
    }
}

/// What one 1 GiB slot is. Where several hold, the earlier in [`RegionMark::ALL`]'s order from
/// `NoRam` on wins: no RAM, then boot's pages, then guests' pages, then the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegionMark {
    /// No usable RAM: a hole.
    NoRam,
    /// Holds pages assigned since boot (the RMP itself, firmware): can never be optimised.
    Firmware,
    /// Holds pages of an SNP guest, or pages one left assigned.
    SnpGuest,
    /// Outside every core's window.
    Outside,
    /// Free of assigned pages, inside a window, on no core optimised yet.
    NotYet,
    /// Optimised on some of the cores that could have it.
    SomeCores,
    /// Optimised on every core that could have it.
    AllCores,
}

impl RegionMark {
    /// Every mark, in order of precedence.
    pub const ALL: [Self; 7] = [
        Self::NoRam,
        Self::Firmware,
        Self::SnpGuest,
        Self::Outside,
        Self::NotYet,
        Self::SomeCores,
        Self::AllCores,
    ];

    /// Its letter in the JSON.
    pub const fn letter(self) -> char {
        match self {
            Self::NoRam => 'H',
            Self::Firmware => 'R',
            Self::SnpGuest => 'S',
            Self::Outside => 'W',
            Self::NotYet => 'N',
            Self::SomeCores => 'P',
            Self::AllCores => 'C',
        }
    }

    /// The mark a letter stands for.
    pub fn from_letter(letter: char) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.letter() == letter)
    }

    /// What it means, for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::NoRam => "no RAM",
            Self::Firmware => "RMP and firmware",
            Self::SnpGuest => "SNP guest memory",
            Self::Outside => "outside every window",
            Self::NotYet => "not yet optimised",
            Self::SomeCores => "optimised on some cores",
            Self::AllCores => "optimised on all cores",
        }
    }
}

/// A region that can never be optimised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NeverReport {
    /// Region number (1 GiB units).
    pub region: u64,
    /// Why, in words.
    pub reason: String,
}

/// How the driver was set up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DriverReport {
    /// Why it was not set up, if it was not.
    pub refused: Option<String>,
    /// Windows in use, each with the cores that have it.
    pub windows: Vec<WindowReport>,
    /// Settings and what it did besides, name and value.
    pub facts: Vec<Fact>,
}

/// One window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WindowReport {
    /// Region number (1 GiB units) it starts at.
    pub base_region: u64,
    /// Cores that have it.
    pub cores: u32,
}

/// A name and its value, with its unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// Name, lower case.
    pub name: String,
    /// Value for people, such as `1 s`.
    pub value: String,
}

impl Fact {
    /// A fact.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// What was taken from each CPU, by CPU number.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CpusReport {
    /// CPU time in microseconds.
    #[serde(serialize_with = "all_six")]
    pub stolen_us: Vec<f64>,
    /// Interruptions.
    pub interruptions: Vec<u64>,
}

/// `value` with at most six decimals; what is not a number becomes 0, and there is no minus zero.
pub fn round6(value: f64) -> f64 {
    if !value.is_finite() {
        return 0.0;
    }
    let rounded = (value * 1e6).round() / 1e6;
    if rounded.is_finite() { rounded + 0.0 } else { value }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde calls")]
fn six<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(round6(*value))
}

#[expect(clippy::ref_option, reason = "the signature serde calls")]
fn six_or_null<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(v) => serializer.serialize_some(&round6(*v)),
        None => serializer.serialize_none(),
    }
}

fn all_six<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(|v| round6(*v)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_decimals_and_no_minus_zero() {
        // Bit for bit: the JSON text is what counts.
        let same = |value: f64, expected: f64| round6(value).to_bits() == expected.to_bits();
        assert!(same(1.0 / 3.0, 0.333333));
        assert!(same(-1e-9, 0.0));
        assert!(same(f64::NAN, 0.0));
        assert!(same(1e300, 1e300));
    }

    #[test]
    fn every_letter_reads_back() {
        for mark in RegionMark::ALL {
            assert_eq!(RegionMark::from_letter(mark.letter()), Some(mark));
        }
        let map = MapReport::new(3, RegionMark::ALL);
        assert_eq!(map.states, "HRSWNPC");
        assert_eq!(map.marks().collect::<Vec<_>>(), RegionMark::ALL);
    }
}
