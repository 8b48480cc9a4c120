//! From a recorded trace to the lab's guests.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use snp_host::trace::openb::{Counts, Pod, PodList};
use snp_host::trace::packing::{self, Machine};
use snp_host::trace::vms::{VmFormat, VmList};
use snp_host::{InputError, TraceError};
use snp_lab::in_sample;
use snp_lab::memory::RangeKind;
use snp_lab::scenario::{
    HostSpec, MemorySpec, Nanos, SECOND, SnpBy, TRACE_START, TopologySpec, TraceGuest, TraceSpec,
    UnknownChoice, limits,
};

use crate::exit::Failure;
use crate::output;

/// Share of SNP guests where nobody says.
pub(crate) const DEFAULT_SHARE: f64 = 0.3;

/// What kind of file a trace is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TraceFormat {
    /// Told by how it begins.
    #[default]
    Auto,
    /// Alibaba openb pod list.
    Openb,
    /// Alibaba DLRM instances.
    Dlrm,
    /// Azure vmtable of 2017, numbers.
    AzureV1,
    /// Azure vmtable of 2019, buckets.
    AzureV2,
    /// Azure packing trace of 2020, SQLite.
    AzurePacking,
}

impl TraceFormat {
    /// Every kind.
    pub(crate) const ALL: [Self; 6] =
        [Self::Auto, Self::Openb, Self::Dlrm, Self::AzureV1, Self::AzureV2, Self::AzurePacking];

    /// The name as written on the command line and in scenarios.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Openb => "openb",
            Self::Dlrm => "dlrm",
            Self::AzureV1 => "azure-v1",
            Self::AzureV2 => "azure-v2",
            Self::AzurePacking => "azure-packing",
        }
    }
}

impl fmt::Display for TraceFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for TraceFormat {
    type Err = UnknownChoice;

    fn from_str(word: &str) -> Result<Self, UnknownChoice> {
        Self::ALL.into_iter().find(|f| f.as_str() == word).ok_or_else(|| UnknownChoice {
            word: word.to_owned(),
            expected: Self::ALL.into_iter().map(Self::as_str).collect(),
        })
    }
}

/// How a trace is to be read, and who in it is an SNP guest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TraceOptions {
    pub(crate) format: TraceFormat,
    /// Share of the rows that are taken, above 0 and at most 1.
    pub(crate) sample: f64,
    /// With the row's number, decides which.
    pub(crate) sample_seed: u64,
    /// Share of SNP guests, 0 to 1.
    pub(crate) snp_share: f64,
    pub(crate) snp_by: SnpBy,
}

impl Default for TraceOptions {
    fn default() -> Self {
        Self {
            format: TraceFormat::Auto,
            sample: 1.0,
            sample_seed: 1,
            snp_share: DEFAULT_SHARE,
            snp_by: SnpBy::Vm,
        }
    }
}

/// Where a trace comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    File(&'a Path),
    /// A trace in text form that comes with the command.
    Text {
        name: &'a str,
        text: &'a str,
    },
}

/// A trace as read, of either shape.
enum List {
    Pods(PodList),
    Vms(VmList),
}

/// Reads a trace. Its clock is moved so that the first guest starts at 0. `host` is what a packing
/// trace's fractions are of.
pub(crate) fn read(
    source: Source<'_>,
    options: TraceOptions,
    host: &HostSpec,
) -> Result<TraceSpec, Failure> {
    let bar = progress(source);
    let keep = |row| {
        if row % 4096 == 0 {
            bar.set_position(row);
        }
        in_sample(options.sample_seed, row, options.sample)
    };
    let (name, list) = match source {
        Source::File(path) => {
            (path.display().to_string(), from_file(path, options.format, machine(host), &keep))
        }
        Source::Text { name, text } => {
            (name.to_owned(), from_text(name, text, options.format, &keep))
        }
    };
    bar.finish_and_clear();
    let list = list.map_err(|error| unclear(error, options.format))?;
    let (List::Pods(PodList { notes, .. }) | List::Vms(VmList { notes, .. })) = &list;
    for note in notes {
        output::note(note);
    }
    match list {
        List::Pods(list) => {
            within_time(&name, &list)?;
            Ok(spec(&list, options.snp_share, options.snp_by))
        }
        List::Vms(list) => machines(&name, &list, options.snp_share, options.snp_by),
    }
}

/// The row that is being read, if someone is watching and the file is long.
fn progress(source: Source<'_>) -> ProgressBar {
    const LONG_BYTES: u64 = 16 << 20;
    let Source::File(path) = source else { return ProgressBar::hidden() };
    let long = path.metadata().is_ok_and(|file| file.is_file() && file.len() >= LONG_BYTES);
    if !long || !output::stderr_is_watched() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: row {human_pos}") {
        bar.set_style(style);
    }
    bar.set_prefix(output::harmless(&path.display().to_string()).into_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn from_file(
    path: &Path,
    format: TraceFormat,
    machine: Machine,
    keep: &dyn Fn(u64) -> bool,
) -> Result<List, TraceError> {
    let vms = |format| VmList::read_as(path, format, keep).map(List::Vms);
    let pods = || PodList::read(path).map(|list| List::Pods(list.sampled(keep)));
    match format {
        // A pipe can be read only once; only the pod list is taken from one.
        TraceFormat::Auto if !path.is_file() => pods(),
        TraceFormat::Auto if packing::is_sqlite(path) => {
            packing::read(path, machine, keep).map(List::Vms)
        }
        TraceFormat::Auto => {
            VmList::read(path, keep)?.map_or_else(pods, |list| Ok(List::Vms(list)))
        }
        TraceFormat::Openb => pods(),
        TraceFormat::Dlrm => vms(VmFormat::Dlrm),
        TraceFormat::AzureV1 => vms(VmFormat::AzureV1),
        TraceFormat::AzureV2 => vms(VmFormat::AzureV2),
        TraceFormat::AzurePacking => packing::read(path, machine, keep).map(List::Vms),
    }
}

fn from_text(
    name: &str,
    text: &str,
    format: TraceFormat,
    keep: &dyn Fn(u64) -> bool,
) -> Result<List, TraceError> {
    let vms = |format| VmList::parse_as(name, text.as_bytes(), format, keep).map(List::Vms);
    match format {
        TraceFormat::Dlrm => vms(VmFormat::Dlrm),
        TraceFormat::AzureV1 => vms(VmFormat::AzureV1),
        TraceFormat::AzureV2 => vms(VmFormat::AzureV2),
        TraceFormat::Auto | TraceFormat::Openb | TraceFormat::AzurePacking => {
            PodList::parse(name, text).map(|list| List::Pods(list.sampled(keep)))
        }
    }
}

/// What a reader says of a file whose kind nobody named and that it does not know.
fn unclear(error: TraceError, format: TraceFormat) -> Failure {
    let unknown = match &error {
        TraceError::Unsupported { looks, .. } => looks.is_empty(),
        TraceError::Input(InputError::Binary { .. } | InputError::NotUtf8 { .. }) => true,
        _ => false,
    };
    match Failure::from(error) {
        Failure::BadInput(message) if unknown && format == TraceFormat::Auto => {
            Failure::BadInput(format!("{message}; --trace-format names the kind"))
        }
        failure => failure,
    }
}

/// The host in the units of a packing trace's fractions.
fn machine(host: &HostSpec) -> Machine {
    let cpus = match &host.topology {
        TopologySpec::Regular(n) => {
            u64::from(n.sockets) * u64::from(n.cores_per_socket) * u64::from(n.threads)
        }
        TopologySpec::Listed(lists) => lists.nodes.iter().map(|node| node.cpus.len() as u64).sum(),
    };
    let bytes = match &host.memory {
        MemorySpec::Bytes(bytes) => *bytes,
        MemorySpec::Map { entries, .. } => {
            let usable = entries.iter().filter(|entry| entry.kind == RangeKind::Usable);
            usable.map(|entry| entry.end.saturating_sub(entry.start)).sum()
        }
    };
    Machine { cpu_milli: cpus * 1000, memory_mib: bytes >> 20 }
}

/// A trace of machines. Its clock begins with the first thing in it, whoever was there before
/// starts then.
fn machines(
    name: &str,
    list: &VmList,
    snp_share: f64,
    snp_by: SnpBy,
) -> Result<TraceSpec, Failure> {
    const MILLI: Nanos = SECOND / 1000;
    let times = || list.vms.iter().flat_map(|vm| [vm.start_ms, vm.end_ms]).flatten();
    let there_before = list.vms.iter().any(|vm| vm.start_ms.is_none());
    let first = if there_before { 0 } else { times().min().unwrap_or(0) };
    let last = times().max().unwrap_or(first);
    let most = (limits::TIME_MAX - TRACE_START) / MILLI;
    let late = |ms: Option<u64>| ms.is_some_and(|ms| ms - first > most);
    if let Some(vm) = list.vms.iter().find(|vm| late(vm.start_ms) || late(vm.end_ms)) {
        return Err(Failure::Unsupported(format!(
            "{name}:{}: a time later than any that is simulated, supported are at most {} s after the \
             first start",
            vm.line,
            most / 1000
        )));
    }
    let nanos = |ms: u64| (ms - first) * MILLI;
    let guest = |vm: &snp_host::trace::vms::Vm| TraceGuest {
        id: vm.name.to_string(),
        cpu_milli: vm.cpu_milli,
        memory: vm.memory_mib.saturating_mul(1 << 20),
        start: vm.start_ms.map_or(0, nanos),
        end: vm.end_ms.map(nanos),
        left_censored: vm.start_ms.is_none(),
        right_censored: vm.end_ms.is_none(),
    };
    let guests = list.vms.iter().map(guest).collect();
    Ok(in_order(list.counts, nanos(last), guests, snp_share, snp_by))
}

/// Refuses a trace that lasts longer than anything that is simulated.
fn within_time(name: &str, list: &PodList) -> Result<(), Failure> {
    let most = (limits::TIME_MAX - TRACE_START) / SECOND;
    let run = || list.pods.iter().filter(|pod| pod.scheduled.is_some());
    let first = run().filter_map(|pod| pod.scheduled).min().unwrap_or(0);
    match run().find(|pod| pod.deletion.saturating_sub(first) > most) {
        None => Ok(()),
        Some(pod) => Err(Failure::Unsupported(format!(
            "{name}:{}:deletion_time: `{}`, supported are at most {most} s after the first start at \
             {first}",
            pod.line, pod.deletion
        ))),
    }
}

/// When the last guest of the trace ends, in the run's time; at least a second after its start.
pub(crate) fn end(trace: &TraceSpec) -> Nanos {
    let last = trace.guests.iter().filter_map(|g| g.end.or(Some(g.start))).max();
    TRACE_START.saturating_add(trace.span.max(last.unwrap_or(0)).max(SECOND))
}

fn spec(list: &PodList, snp_share: f64, snp_by: SnpBy) -> TraceSpec {
    let run: Vec<(u64, &Pod)> =
        list.pods.iter().filter_map(|pod| Some((pod.scheduled?, pod))).collect();
    let first = run.iter().map(|(start, _)| *start).min().unwrap_or(0);
    let last = run.iter().map(|(_, pod)| pod.deletion).max().unwrap_or(0);
    let nanos = |s: u64| s.saturating_sub(first).saturating_mul(SECOND);
    let guests = run
        .iter()
        .map(|(start, pod)| {
            // The file gives whoever was still there when it was recorded its last second as end.
            let right_censored = pod.deletion == last && &*pod.phase == "Running";
            TraceGuest {
                id: pod.name.to_string(),
                cpu_milli: pod.cpu_milli,
                memory: pod.memory_mib.saturating_mul(1 << 20),
                start: nanos(*start),
                end: (!right_censored).then(|| nanos(pod.deletion)),
                left_censored: pod.creation == 0,
                right_censored,
            }
        })
        .collect();
    in_order(list.counts, nanos(last), guests, snp_share, snp_by)
}

/// The trace's guests as they start.
fn in_order(
    counts: Counts,
    span: Nanos,
    mut guests: Vec<TraceGuest>,
    snp_share: f64,
    snp_by: SnpBy,
) -> TraceSpec {
    guests.sort_by_key(|guest| guest.start);
    let Counts { rows, unscheduled, invalid, left_out } = counts;
    TraceSpec { rows, unscheduled, invalid, left_out, span, guests, snp_share, snp_by }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "name,cpu_milli,memory_mib,pod_phase,creation_time,deletion_time,scheduled_time\n";

    #[test]
    fn starts_at_the_first_guest_and_ends_with_the_last() {
        let rows = "c,1000,2048,Running,120,500,130\n\
                    a,2000,1024,Succeeded,100,300,100\n\
                    p,2000,1024,Pending,100,300,\n\
                    b,500,512,Running,110,500,110\n";
        let list = PodList::parse("t.csv", &format!("{HEAD}{rows}")).unwrap();
        let trace = spec(&list, 0.5, SnpBy::Memory);
        assert_eq!((trace.rows, trace.unscheduled, trace.invalid), (4, 1, 0));
        let ids: Vec<&str> = trace.guests.iter().map(|g| g.id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        assert_eq!((trace.guests[0].start, trace.guests[0].end), (0, Some(200 * SECOND)));
        assert_eq!((trace.guests[1].end, trace.guests[1].right_censored), (None, true));
        assert_eq!(trace.guests[2].memory, 2 << 30);
        assert_eq!(end(&trace), TRACE_START + 400 * SECOND);
    }

    #[test]
    fn a_trace_of_ages_is_refused_by_line() {
        let read = |end: u64| {
            let rows = format!("a,1000,1024,Running,0,100,5\nb,1000,1024,Running,0,{end},9\n");
            let list = PodList::parse("t.csv", &format!("{HEAD}{rows}")).unwrap();
            within_time("t.csv", &list).map_err(|e| e.to_string())
        };
        assert_eq!(read(315_619_200), Ok(()));
        let message = read(u64::MAX).unwrap_err();
        assert!(message.starts_with("t.csv:3:deletion_time: `18446744073709551615`"), "{message}");
        assert!(read(315_619_204).is_err());
    }

    #[test]
    fn machines_there_before_start_with_the_trace() {
        let read = |text: &str| {
            let list = VmList::parse("t.csv", text.as_bytes()).unwrap().unwrap();
            machines("t.csv", &list, 0.3, SnpBy::Vm).map_err(|e| e.to_string())
        };
        let row =
            |id: &str, from: u64, to: u64| format!("{id},s,d,{from},{to},1,1,1,Unknown,2,4\n");
        let trace = read(&(row("b", 900, 1500) + &row("a", 0, 600) + &row("c", 300, 2_591_700)));
        let trace = trace.unwrap();
        let ids: Vec<&str> = trace.guests.iter().map(|g| g.id.as_str()).collect();
        assert_eq!(ids, ["a", "c", "b"]);
        assert_eq!((trace.guests[0].start, trace.guests[0].left_censored), (0, true));
        assert_eq!((trace.guests[1].end, trace.guests[1].right_censored), (None, true));
        assert_eq!((trace.guests[1].start, trace.span), (300 * SECOND, 1500 * SECOND));
        let trace = read(&row("b", 900, 1500)).unwrap();
        assert_eq!((trace.guests[0].start, trace.guests[0].end), (0, Some(600 * SECOND)));
        let error = read(&(row("a", 0, 300) + &row("b", 999_999_999, 999_999_999))).unwrap_err();
        assert!(error.starts_with("t.csv:2: a time later than"), "{error}");
    }

    #[test]
    fn a_larger_sample_holds_a_smaller_one_and_the_seed_decides() {
        let row = |n| format!("p{n},1,1,Failed,0,9,1\n");
        let rows: Vec<String> = (0..4000).map(row).collect();
        let text = format!("{HEAD}{}", rows.concat());
        let host = crate::scenario::load("small").unwrap().host;
        let sample = |sample, sample_seed| {
            let options = TraceOptions { sample, sample_seed, ..TraceOptions::default() };
            let trace = read(Source::Text { name: "t.csv", text: &text }, options, &host).unwrap();
            assert_eq!(trace.rows, trace.left_out + trace.guests.len() as u64);
            trace.guests.into_iter().map(|guest| guest.id).collect::<Vec<_>>()
        };
        let (small, large) = (sample(0.1, 1), sample(0.5, 1));
        assert!((330..470).contains(&small.len()), "{}", small.len());
        assert!((1_850..2_150).contains(&large.len()), "{}", large.len());
        assert!(small.iter().all(|id| large.contains(id)));
        assert_eq!(small, sample(0.1, 1));
        assert_ne!(small, sample(0.1, 2));
        assert_eq!(sample(1.0, 3).len(), 4000);
    }

    #[test]
    fn what_is_unclear_asks_for_the_kind() {
        let host = crate::scenario::load("small").unwrap().host;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        let row = "a,s,d,300,600,1,1,1,Spot,2,4\n";
        std::fs::write(&path, row).unwrap();
        let read = |format| {
            let options = TraceOptions { format, ..TraceOptions::default() };
            read(Source::File(&path), options, &host)
        };
        let error = read(TraceFormat::Auto).unwrap_err().to_string();
        assert!(error.contains("unsupported trace"), "{error}");
        assert!(error.ends_with("; --trace-format names the kind"), "{error}");
        assert_eq!(read(TraceFormat::AzureV2).unwrap().guests.len(), 1);
        let error = read(TraceFormat::AzurePacking).unwrap_err().to_string();
        assert!(error.contains("not readable as SQLite"), "{error}");
        let error = read(TraceFormat::Openb).unwrap_err().to_string();
        assert!(!error.contains("--trace-format"), "{error}");
    }

    #[test]
    fn a_packing_trace_is_of_the_host() {
        let host = crate::scenario::load("venice-2p").unwrap().host;
        assert_eq!(machine(&host), Machine { cpu_milli: 1_024_000, memory_mib: 2 << 20 });
    }

    #[test]
    fn an_empty_trace_runs_for_a_second() {
        let list = PodList::parse("t.csv", HEAD).unwrap();
        assert_eq!(end(&spec(&list, 0.3, SnpBy::Vm)), TRACE_START + SECOND);
    }
}
