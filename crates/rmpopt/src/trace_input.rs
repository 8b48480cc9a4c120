//! From a recorded trace to the lab's guests.

use std::path::Path;

use snp_host::trace::openb::{Counts, Pod, PodList};
use snp_host::trace::vms::VmList;
use snp_lab::scenario::{Nanos, SECOND, SnpBy, TRACE_START, TraceGuest, TraceSpec, limits};

use crate::exit::Failure;
use crate::output;

/// Share of SNP guests where the command line does not say.
const DEFAULT_SHARE: f64 = 0.3;

/// Reads a trace. Its clock is moved so that the first guest starts at 0.
pub(crate) fn read(
    path: &Path,
    snp_share: Option<f64>,
    snp_by: Option<SnpBy>,
    assumed: &mut Vec<String>,
) -> Result<TraceSpec, Failure> {
    let share = snp_share.unwrap_or(DEFAULT_SHARE);
    if snp_share.is_none() {
        assumed.push(format!("share of SNP guests in the trace: {DEFAULT_SHARE} (--snp-share)"));
    }
    // A pipe can be read only once; only the pod list is taken from one.
    if path.is_file()
        && let Some(list) = VmList::read(path)?
    {
        list.notes.iter().for_each(|note| output::note(note));
        return machines(path, &list, share, snp_by.unwrap_or_default());
    }
    let list = PodList::read(path)?;
    list.notes.iter().for_each(|note| output::note(note));
    within_time(path, &list)?;
    Ok(spec(&list, share, snp_by.unwrap_or_default()))
}

/// A trace of machines. Its clock begins with the first thing in it, whoever was there before
/// starts then.
fn machines(
    path: &Path,
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
            "{}:{}: a time later than any that is simulated, supported are at most {} s after the \
             first start",
            path.display(),
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
fn within_time(path: &Path, list: &PodList) -> Result<(), Failure> {
    let most = (limits::TIME_MAX - TRACE_START) / SECOND;
    let run = || list.pods.iter().filter(|pod| pod.scheduled.is_some());
    let first = run().filter_map(|pod| pod.scheduled).min().unwrap_or(0);
    match run().find(|pod| pod.deletion.saturating_sub(first) > most) {
        None => Ok(()),
        Some(pod) => Err(Failure::Unsupported(format!(
            "{}:{}:deletion_time: `{}`, supported are at most {most} s after the first start at \
             {first}",
            path.display(),
            pod.line,
            pod.deletion
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
    let Counts { rows, unscheduled, invalid } = counts;
    TraceSpec { rows, unscheduled, invalid, span, guests, snp_share, snp_by }
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
            within_time(Path::new("t.csv"), &list).map_err(|e| e.to_string())
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
            machines(Path::new("t.csv"), &list, 0.3, SnpBy::Vm).map_err(|e| e.to_string())
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
    fn an_empty_trace_runs_for_a_second() {
        let list = PodList::parse("t.csv", HEAD).unwrap();
        assert_eq!(end(&spec(&list, 0.3, SnpBy::Vm)), TRACE_START + SECOND);
    }
}
