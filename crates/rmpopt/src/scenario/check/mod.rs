//! From a file's shape to a scenario: ranges, defaults, and what one key means for another.
//!
//! Here are the scenario, the helpers and the host; guests, events, the policy's settings and the
//! trace have files of their own.

mod events;
mod guests;
mod policy;
mod trace;

use core::ops::{Range, RangeInclusive};

use snp_lab::scenario::{GIB, HostSpec, MemorySpec, Nanos, Scenario, TopologySpec, limits};
use snp_lab::topology::TopologyNumbers;
use toml::Spanned;

pub(crate) use self::trace::TraceWanted;
use super::place::{Document, ScenarioError};
use super::raw::{Duration, RawHost, RawScenario, Size, Whole};
use crate::units::{exact_duration, exact_size};

pub(super) type Checked<T> = Result<T, ScenarioError>;

const PAGE: u64 = 4096;
pub(super) const MICRO: Nanos = 1000;
const MILLI: Nanos = 1000 * MICRO;
const SECOND: Nanos = 1000 * MILLI;
const HOUR: Nanos = 3600 * SECOND;
pub(super) const DAY: Nanos = 24 * HOUR;

/// The scenario without its trace, and which trace it wants.
pub(super) fn scenario(
    document: &Document<'_>,
    raw: &RawScenario,
) -> Checked<(Scenario, Option<TraceWanted>)> {
    let check = Check { document };
    let name = check.name(&raw.name)?;
    let until = match &raw.until {
        Some(until) => Some(check.duration(until, SECOND..=limits::TIME_MAX)?),
        None => None,
    };
    let host = check.host(&raw.host)?;
    let guests = check.guests(&raw.guests, &host, until)?;
    let events = check.events(&raw.events, &host, &guests, until)?;
    let policy = check.policy(&raw.policy)?;
    let wanted = raw.trace.as_ref().map(|trace| check.trace(trace)).transpose()?;
    let scenario = Scenario {
        name,
        description: raw.description.as_ref().map(|d| d.0.clone()).unwrap_or_default(),
        why: raw.why.as_ref().map(|w| w.0.clone()).unwrap_or_default(),
        host: host.spec,
        guests: guests.specs,
        streams: guests.streams,
        events,
        policy,
        rule: raw.placement.map(|rule| rule.0).unwrap_or_default(),
        until,
        trace: None,
    };
    Ok((scenario, wanted))
}

pub(super) struct Check<'d> {
    document: &'d Document<'d>,
}

/// A checked host and the numbers other keys are checked against.
struct Host {
    spec: HostSpec,
    cpus: u32,
    nodes: u32,
    memory: u64,
}

impl Check<'_> {
    pub(super) fn fail<T>(&self, at: Range<usize>, message: impl Into<String>) -> Checked<T> {
        Err(self.document.error(at, message))
    }

    fn within<T: PartialOrd>(
        &self,
        at: Range<usize>,
        value: T,
        range: &RangeInclusive<T>,
        show: impl Fn(&T) -> String,
    ) -> Checked<T> {
        if range.contains(&value) {
            return Ok(value);
        }
        let (low, high) = (show(range.start()), show(range.end()));
        self.fail(at, format!("expected {low} to {high}, found {}", show(&value)))
    }

    fn whole(&self, value: &Spanned<Whole>, range: RangeInclusive<u32>) -> Checked<u32> {
        let (span, found) = (value.span(), value.get_ref().0);
        if let Ok(whole) = u32::try_from(found)
            && range.contains(&whole)
        {
            return Ok(whole);
        }
        let (low, high) = (range.start(), range.end());
        self.fail(span, format!("expected {low} to {high}, found {found}"))
    }

    pub(super) fn duration(
        &self,
        value: &Spanned<Duration>,
        range: RangeInclusive<Nanos>,
    ) -> Checked<Nanos> {
        self.within(value.span(), value.get_ref().0, &range, |n| exact_duration(*n))
    }

    fn maybe_duration(
        &self,
        value: Option<&Spanned<Duration>>,
        range: RangeInclusive<Nanos>,
    ) -> Checked<Option<Nanos>> {
        value.map(|v| self.duration(v, range)).transpose()
    }

    fn size(&self, value: &Spanned<Size>, range: RangeInclusive<u64>, of: u64) -> Checked<u64> {
        let bytes = self.within(value.span(), value.get_ref().0, &range, |b| exact_size(*b))?;
        if bytes.is_multiple_of(of) {
            return Ok(bytes);
        }
        let (of, found) = (exact_size(of), exact_size(bytes));
        self.fail(value.span(), format!("expected a multiple of {of}, found {found}"))
    }

    fn name(&self, name: &Spanned<super::raw::Text>) -> Checked<String> {
        const LONGEST: usize = 64;
        let text = name.get_ref().0.trim();
        let length = text.chars().count();
        if length == 0 || length > LONGEST {
            let message = format!("expected a name of 1 to {LONGEST} characters, found {length}");
            return self.fail(name.span(), message);
        }
        Ok(text.to_owned())
    }

    fn host(&self, raw: &Spanned<RawHost>) -> Checked<Host> {
        let raw = raw.get_ref();
        let sockets = self.whole(&raw.sockets, 1..=limits::SOCKETS_MAX)?;
        let cores_per_socket = self.whole(&raw.cores_per_socket, 1..=limits::SOCKET_CORES_MAX)?;
        let cores = sockets * cores_per_socket;
        if cores > limits::CORES_MAX {
            let message = format!(
                "expected at most {} cores on all sockets, found {cores}",
                limits::CORES_MAX
            );
            return self.fail(raw.cores_per_socket.span(), message);
        }
        let threads = raw.threads.as_ref().map_or(Ok(2), |t| self.whole(t, 1..=2))?;
        let nps = self.nps(raw, cores_per_socket)?;
        let memory = self.size(&raw.memory, limits::MEMORY_MIN..=limits::MEMORY_MAX, 2 << 20)?;
        let nodes = sockets * nps;
        if memory / u64::from(nodes) < GIB {
            let message = format!(
                "expected at least 1GiB for each of {nodes} nodes, found {} for all",
                exact_size(memory)
            );
            return self.fail(raw.memory.span(), message);
        }
        let spec = HostSpec {
            topology: TopologySpec::Regular(TopologyNumbers {
                sockets,
                cores_per_socket,
                threads,
                nps,
            }),
            memory: MemorySpec::Bytes(memory),
            rmp: raw.rmp.map(|r| r.0).unwrap_or_default(),
            nohz_full: self.nohz_full(raw, cores * threads)?,
        };
        Ok(Host { spec, cpus: cores * threads, nodes, memory })
    }

    /// CPUs as the kernel's `nohz_full=` names them.
    fn nohz_full(&self, raw: &RawHost, cpus: u32) -> Checked<Vec<(u32, u32)>> {
        let Some(value) = &raw.nohz_full else { return Ok(Vec::new()) };
        let text = &value.get_ref().0;
        let Ok(list) = snp_host::CpuList::parse(text) else {
            let message = format!("expected CPUs such as \"1-7,16\", found \"{text}\"");
            return self.fail(value.span(), message);
        };
        match list.iter().find(|&cpu| cpu >= cpus) {
            None => Ok(list.ranges().to_vec()),
            Some(cpu) => {
                self.fail(value.span(), format!("expected CPUs 0 to {}, found {cpu}", cpus - 1))
            }
        }
    }

    fn nps(&self, raw: &RawHost, cores_per_socket: u32) -> Checked<u32> {
        let Some(value) = &raw.nps else { return Ok(1) };
        let nps = self.whole(value, 1..=4)?;
        if nps == 3 {
            return self.fail(value.span(), "expected 1, 2 or 4 nodes per socket, found 3");
        }
        if !cores_per_socket.is_multiple_of(nps) {
            let message = format!("{cores_per_socket} cores do not divide into {nps} nodes");
            return self.fail(value.span(), message);
        }
        Ok(nps)
    }
}

#[cfg(test)]
mod tests;
