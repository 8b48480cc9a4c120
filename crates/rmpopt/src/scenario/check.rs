//! From a file's shape to a scenario: ranges, defaults, and what one key means for another.

use core::fmt;
use core::ops::{Range, RangeInclusive};
use std::collections::HashMap;

use snp_lab::scenario::{
    Action, EventSpec, GIB, GuestKind, GuestSpec, HostSpec, MemorySpec, Nanos, Placement,
    PolicySpec, Scenario, StreamSpec, TopologySpec, limits,
};
use snp_lab::topology::TopologyNumbers;
use toml::Spanned;

use super::place::{Document, ScenarioError};
use super::raw::{
    ActionName, Duration, RawEvent, RawGuest, RawHost, RawPolicy, RawScenario, Size, Whole,
};
use crate::units::{exact_duration, exact_size};

pub(super) type Checked<T> = Result<T, ScenarioError>;

const PAGE: u64 = 4096;
pub(super) const MICRO: Nanos = 1000;
const MILLI: Nanos = 1000 * MICRO;
const SECOND: Nanos = 1000 * MILLI;
const HOUR: Nanos = 3600 * SECOND;
pub(super) const DAY: Nanos = 24 * HOUR;

/// Guest memory that gets a CPU of its own where a scenario does not say how many it has.
const MEMORY_PER_VCPU: u64 = 4 * GIB;

pub(super) fn scenario(document: &Document<'_>, raw: &RawScenario) -> Checked<Scenario> {
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
    Ok(Scenario {
        name,
        description: raw.description.as_ref().map(|d| d.0.clone()).unwrap_or_default(),
        why: raw.why.as_ref().map(|w| w.0.clone()).unwrap_or_default(),
        host: host.spec,
        guests: guests.specs,
        streams: guests.streams,
        events,
        policy,
        until,
        trace: None,
    })
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

/// Checked guests, and which of them each written name stands for.
struct Guests {
    specs: Vec<GuestSpec>,
    streams: Vec<StreamSpec>,
    by_name: HashMap<String, Range<usize>>,
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

    fn guests(
        &self,
        raw: &[Spanned<RawGuest>],
        host: &Host,
        scenario_until: Option<Nanos>,
    ) -> Checked<Guests> {
        let mut guests = Guests { specs: Vec::new(), streams: Vec::new(), by_name: HashMap::new() };
        let mut room = limits::GUESTS_MAX;
        // Every name that is taken, with the line that took it.
        let mut taken: HashMap<String, usize> = HashMap::new();
        for (index, item) in raw.iter().enumerate() {
            let guest = item.get_ref();
            let spec = self.guest(guest, host, scenario_until)?;
            let count = match &guest.count {
                Some(count) => self.whole(count, 1..=room.max(1) as u32)? as usize,
                None => 1,
            };
            let (name, at) = match &guest.name {
                Some(name) => (self.name(name)?, name.span()),
                None => (format!("{}-{}", spec.kind, index + 1), item.span()),
            };
            if let Some(mut stream) = self.stream(guest, &spec, scenario_until, room)? {
                self.take_name(&mut taken, &name, &at)?;
                let times = stream.until.saturating_sub(spec.at).div_ceil(stream.every);
                room = room.saturating_sub(times as usize);
                stream.guest.name = name;
                guests.streams.push(stream);
                continue;
            }
            if count > room {
                let message = format!("expected at most {} guests", limits::GUESTS_MAX);
                return self.fail(item.span(), message);
            }
            room -= count;
            let first = guests.specs.len();
            for n in 1..=count {
                let own = if count == 1 { name.clone() } else { format!("{name}-{n}") };
                self.take_name(&mut taken, &own, &at)?;
                guests.specs.push(GuestSpec { name: own.clone(), ..spec.clone() });
                guests.by_name.insert(own, first + n - 1..first + n);
            }
            if count > 1 {
                self.take_name(&mut taken, &name, &at)?;
            }
            guests.by_name.insert(name, first..first + count);
        }
        Ok(guests)
    }

    fn take_name(
        &self,
        taken: &mut HashMap<String, usize>,
        name: &str,
        at: &Range<usize>,
    ) -> Checked<()> {
        let line = self.document.error(at.clone(), "").line;
        match taken.insert(name.to_owned(), line) {
            None => Ok(()),
            Some(before) => {
                let message = format!("the guest of line {before} is already named \"{name}\"");
                self.fail(at.clone(), message)
            }
        }
    }

    fn guest(
        &self,
        raw: &RawGuest,
        host: &Host,
        scenario_until: Option<Nanos>,
    ) -> Checked<GuestSpec> {
        let kind = raw.kind.0;
        let placement = raw.placement.map_or(Placement::Pages2M, |p| p.0);
        let memory = self.size(&raw.memory, PAGE..=host.memory, placement.page_bytes())?;
        let at = self.duration(&raw.at, 0..=limits::TIME_MAX)?;
        if scenario_until.is_some_and(|end| at >= end) {
            let end = exact_duration(scenario_until.unwrap_or_default());
            let message =
                format!("starts at {}, but the scenario ends at {end}", exact_duration(at));
            return self.fail(raw.at.span(), message);
        }
        let until = match &raw.until {
            None => None,
            Some(until) => {
                let end = self.duration(until, 0..=limits::TIME_MAX)?;
                if end <= at {
                    let (end, at) = (exact_duration(end), exact_duration(at));
                    let message = format!("ends at {end}, expected later than its start at {at}");
                    return self.fail(until.span(), message);
                }
                Some(end)
            }
        };
        let vcpus = match &raw.vcpus {
            Some(vcpus) => self.whole(vcpus, 1..=host.cpus)?,
            None => (memory / MEMORY_PER_VCPU).clamp(1, u64::from(host.cpus)) as u32,
        };
        let node =
            raw.node.as_ref().map(|node| self.whole(node, 0..=host.nodes - 1)).transpose()?;
        Ok(GuestSpec {
            name: String::new(),
            kind,
            memory,
            placement,
            at,
            until,
            vcpus,
            node,
            touched: self.touched(raw, memory)?,
            convert_rate: self.convert_rate(raw)?,
            accept: raw.accept.map(|accept| accept.0).unwrap_or_default(),
        })
    }

    fn touched(&self, raw: &RawGuest, memory: u64) -> Checked<u64> {
        let Some(touched) = &raw.touched else { return Ok(memory) };
        let share =
            self.within(touched.span(), touched.get_ref().0, &(0.0..=1.0), f64::to_string)?;
        let pages = memory / PAGE;
        // At most 2^32 pages, which an f64 holds exactly; rounded to the nearest page.
        #[expect(clippy::cast_sign_loss, reason = "the share was checked to be 0 to 1")]
        let touched = (pages as f64 * share).round() as u64;
        Ok(touched.min(pages) * PAGE)
    }

    fn convert_rate(&self, raw: &RawGuest) -> Checked<Option<u64>> {
        let Some(rate) = &raw.convert_rate else { return Ok(None) };
        let range = 1 << 20..=1 << 50;
        let show = |b: &u64| format!("{}/s", exact_size(*b));
        self.within(rate.span(), rate.get_ref().0, &range, show).map(Some)
    }

    fn events(
        &self,
        raw: &[Spanned<RawEvent>],
        host: &Host,
        guests: &Guests,
        scenario_until: Option<Nanos>,
    ) -> Checked<Vec<EventSpec>> {
        let mut events = Vec::new();
        for item in raw {
            let event = item.get_ref();
            let at = self.duration(&event.at, 0..=limits::TIME_MAX)?;
            if let Some(end) = scenario_until
                && at > end
            {
                let (at, end) = (exact_duration(at), exact_duration(end));
                let message = format!("happens at {at}, but the scenario ends at {end}");
                return self.fail(event.at.span(), message);
            }
            let room = limits::EVENTS_MAX.saturating_sub(events.len());
            for at in self.event_times(event, at, scenario_until, room)? {
                self.actions(item, host, guests, at, &mut events)?;
            }
            if events.len() > limits::EVENTS_MAX {
                let message = format!("expected at most {} events", limits::EVENTS_MAX);
                return self.fail(item.span(), message);
            }
        }
        events.sort_by_key(|event| event.at);
        Ok(events)
    }

    fn actions(
        &self,
        item: &Spanned<RawEvent>,
        host: &Host,
        guests: &Guests,
        at: Nanos,
        events: &mut Vec<EventSpec>,
    ) -> Checked<()> {
        let event = item.get_ref();
        let keys = Keys { check: self, item, name: event.action.get_ref().0 };
        let mut push = |action| events.push(EventSpec { at, action });
        match keys.name {
            ActionName::Share | ActionName::Private => {
                keys.only(&["guest", "memory", "unit"])?;
                let unit = event.unit.as_ref().map(|unit| unit.get_ref().0);
                let memory = keys.need("memory", event.memory.as_ref())?;
                for guest in self.snp_guests_of(&keys, guests, at)? {
                    let spec = &guests.specs[guest];
                    let memory = self.size(memory, PAGE..=spec.touched.max(PAGE), PAGE)?;
                    push(match keys.name {
                        ActionName::Share => Action::Share { guest, memory, unit },
                        _ => Action::Private { guest, memory, unit },
                    });
                }
            }
            ActionName::Leak => {
                keys.only(&["guest", "pages"])?;
                let pages = keys.need("pages", event.pages.as_ref())?;
                for guest in self.snp_guests_of(&keys, guests, at)? {
                    let most = (guests.specs[guest].memory / PAGE).min(u64::from(u32::MAX));
                    let pages = u64::from(self.whole(pages, 1..=most as u32)?);
                    push(Action::Leak { guest, pages });
                }
            }
            ActionName::CpuOffline | ActionName::CpuOnline => {
                keys.only(&["cpu"])?;
                let value = keys.need("cpu", event.cpu.as_ref())?;
                let cpu = self.whole(value, 0..=host.cpus - 1)?;
                if cpu == 0 {
                    return self.fail(value.span(), "CPU 0 cannot go away");
                }
                push(match keys.name {
                    ActionName::CpuOffline => Action::CpuOffline { cpu },
                    _ => Action::CpuOnline { cpu },
                });
            }
            ActionName::SnpInit => keys.only(&[]).map(|()| push(Action::SnpInit))?,
            ActionName::SnpShutdown => keys.only(&[]).map(|()| push(Action::SnpShutdown))?,
            ActionName::Request => keys.only(&[]).map(|()| push(Action::Request))?,
            ActionName::Pause => keys.only(&[]).map(|()| push(Action::Pause))?,
            ActionName::Resume => keys.only(&[]).map(|()| push(Action::Resume))?,
        }
        Ok(())
    }

    /// The guests an event names: one, or all that a `count` made. Each must be there at that time.
    fn guests_of(&self, keys: &Keys<'_, '_>, guests: &Guests, at: Nanos) -> Checked<Range<usize>> {
        let name = keys.need("guest", keys.item.get_ref().guest.as_ref())?;
        let Some(range) = guests.by_name.get(name.get_ref().0.trim()) else {
            let word = name.get_ref().0.trim();
            let message = if guests.streams.iter().any(|stream| stream.guest.name == word) {
                format!("\"{word}\" has \"every\": no event can name it")
            } else {
                format!("no guest is named \"{}\"", name.get_ref().0)
            };
            return self.fail(name.span(), message);
        };
        for spec in guests.specs.get(range.clone()).unwrap_or_default() {
            if at < spec.at || spec.until.is_some_and(|end| at >= end) {
                let end = spec.until.map_or("the end".to_owned(), exact_duration);
                let message = format!(
                    "\"{}\" runs from {} to {end}, not at {}",
                    spec.name,
                    exact_duration(spec.at),
                    exact_duration(at)
                );
                return self.fail(keys.item.get_ref().at.span(), message);
            }
        }
        Ok(range.clone())
    }

    /// The same, all of which must be SNP guests.
    fn snp_guests_of(
        &self,
        keys: &Keys<'_, '_>,
        guests: &Guests,
        at: Nanos,
    ) -> Checked<Range<usize>> {
        let range = self.guests_of(keys, guests, at)?;
        let named = guests.specs.get(range.clone()).unwrap_or_default();
        match named.iter().find(|spec| spec.kind != GuestKind::Snp) {
            None => Ok(range),
            Some(spec) => {
                let message =
                    format!("\"{}\" is an ordinary guest, expected an SNP guest", spec.name);
                self.fail(keys.guest_span(), message)
            }
        }
    }

    fn policy(&self, raw: &RawPolicy) -> Checked<PolicySpec> {
        let delay = self.maybe_duration(raw.delay.as_ref(), 0..=HOUR)?;
        let bound = self.maybe_duration(raw.bound.as_ref(), MILLI..=24 * HOUR)?;
        if let (Some(delay), Some(bound), Some(written)) = (delay, bound, &raw.bound)
            && bound < delay
        {
            let (bound, delay) = (exact_duration(bound), exact_duration(delay));
            let message = format!("expected at least the delay of {delay}, found {bound}");
            return self.fail(written.span(), message);
        }
        Ok(PolicySpec {
            name: raw.name.map(|n| n.0),
            delay,
            bound,
            budget: self.maybe_duration(raw.budget.as_ref(), 1000..=100 * MILLI)?,
            follow_by: self.maybe_duration(raw.follow_by.as_ref(), 0..=24 * HOUR)?,
            followers: raw
                .followers
                .as_ref()
                .map(|f| self.whole(f, 1..=limits::CORES_MAX))
                .transpose()?,
            audit: self.maybe_duration(raw.audit.as_ref(), 0..=24 * HOUR)?,
            tick: self.maybe_duration(raw.tick.as_ref(), MILLI..=10 * SECOND)?,
        })
    }
}

/// The further keys of one event.
struct Keys<'c, 'd> {
    check: &'c Check<'d>,
    item: &'c Spanned<RawEvent>,
    name: ActionName,
}

impl Keys<'_, '_> {
    /// Refuses keys that do not belong to this action.
    fn only(&self, allowed: &[&str]) -> Checked<()> {
        let event = self.item.get_ref();
        let written = [
            ("guest", event.guest.as_ref().map(Spanned::span)),
            ("memory", event.memory.as_ref().map(Spanned::span)),
            ("unit", event.unit.as_ref().map(Spanned::span)),
            ("pages", event.pages.as_ref().map(Spanned::span)),
            ("cpu", event.cpu.as_ref().map(Spanned::span)),
        ];
        for (key, span) in written {
            if let Some(span) = span
                && !allowed.contains(&key)
            {
                let takes = match allowed {
                    [] => "no further key".to_owned(),
                    _ => quoted(allowed).to_string(),
                };
                let name = self.name.as_str();
                let message = format!("does not belong to action \"{name}\", which takes {takes}");
                return self.check.fail(span, message);
            }
        }
        Ok(())
    }

    fn need<'v, T>(&self, key: &str, value: Option<&'v Spanned<T>>) -> Checked<&'v Spanned<T>> {
        if let Some(value) = value {
            return Ok(value);
        }
        let message = format!("action \"{}\" needs \"{key}\"", self.name.as_str());
        self.check.fail(self.item.get_ref().action.span(), message)
    }

    fn guest_span(&self) -> Range<usize> {
        self.item.get_ref().guest.as_ref().map_or(self.item.span(), Spanned::span)
    }
}

fn quoted(words: &[&str]) -> impl fmt::Display {
    words.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use snp_lab::scenario::{Action, Grain, GuestKind, PolicyName, RmpKind};

    use super::*;
    use crate::scenario::parse;

    const HEAD: &str = "schema_version = 1\nname = \"t\"\n\
        host = { sockets = 1, cores_per_socket = 8, memory = \"64GiB\" }\n";

    fn fails(text: &str) -> String {
        parse("t.toml", text).unwrap_err().to_string()
    }

    fn fails_after_head(text: &str) -> String {
        fails(&format!("{HEAD}{text}"))
    }

    #[test]
    fn every_key() {
        let scenario = parse(
            "t.toml",
            r#"
schema_version = 1
name = "all"
description = "every key"
why = """
Two
lines.
"""
until = "5m"
[host]
sockets = 2
cores_per_socket = 4
threads = 1
memory = "8GiB"
nps = 2
rmp = "contiguous"
nohz_full = "1-3,7"
[[guest]]
name = "a"
kind = "snp"
memory = "1GiB"
placement = "4k-scattered"
at = "10s"
until = "1m"
vcpus = 2
node = 3
touched = 0.5
convert_rate = "2GiB/s"
accept = "4k"
[[guest]]
kind = "snp"
memory = "2GiB"
at = "0s"
count = 2
[[event]]
at = "30s"
action = "private"
guest = "a"
memory = "4KiB"
[[event]]
at = "20s"
action = "share"
guest = "a"
memory = "16MiB"
unit = "4k"
[[event]]
at = "40s"
action = "leak"
guest = "snp-2"
pages = 3
[[event]]
at = "1m"
action = "cpu-offline"
cpu = 7
[policy]
name = "v10"
delay = "1s"
bound = "10s"
budget = "100us"
follow_by = "5s"
followers = 4
audit = "0s"
tick = "250ms"
"#,
        )
        .unwrap();
        assert_eq!(scenario.until, Some(300 * SECOND));
        assert_eq!(scenario.host.rmp, RmpKind::Contiguous);
        assert_eq!(scenario.host.nohz_full, [(1, 3), (7, 7)]);
        assert_eq!(scenario.why, "Two lines.");
        let a = &scenario.guests[0];
        assert_eq!((a.kind, a.vcpus, a.node), (GuestKind::Snp, 2, Some(3)));
        assert_eq!((a.touched, a.convert_rate), (512 << 20, Some(2 << 30)));
        assert_eq!((a.accept, scenario.guests[1].accept), (Grain::Small, Grain::Large));
        let names: Vec<&str> = scenario.guests.iter().map(|g| g.name.as_str()).collect();
        assert_eq!(names, ["a", "snp-2-1", "snp-2-2"]);
        assert_eq!(scenario.guests[1].vcpus, 1);
        let actions: Vec<Action> = scenario.events.iter().map(|e| e.action).collect();
        assert_eq!(
            actions,
            [
                Action::Share { guest: 0, memory: 16 << 20, unit: Some(Grain::Small) },
                Action::Private { guest: 0, memory: 4096, unit: None },
                Action::Leak { guest: 1, pages: 3 },
                Action::Leak { guest: 2, pages: 3 },
                Action::CpuOffline { cpu: 7 },
            ]
        );
        assert_eq!(scenario.policy.name, Some(PolicyName::V10));
        assert_eq!(scenario.policy.follow_by, Some(5 * SECOND));
        assert_eq!(scenario.policy.audit, Some(0));
    }

    #[test]
    fn defaults() {
        let scenario = parse("t.toml", HEAD).unwrap();
        assert_eq!(
            scenario.host.topology,
            TopologySpec::Regular(TopologyNumbers {
                sockets: 1,
                cores_per_socket: 8,
                threads: 2,
                nps: 1
            })
        );
        assert_eq!(scenario.policy, PolicySpec::default());
        assert_eq!(scenario.until, None);
    }

    #[test]
    fn what_is_missing_or_unknown() {
        assert_eq!(
            fails("name = \"x\"\n"),
            "t.toml:1:1: missing key \"schema_version\", expected \"schema_version = 1\""
        );
        assert_eq!(
            fails("schema_version = 2\nfoo = 1"),
            "t.toml:1:18: schema_version: expected 1, found 2"
        );
        assert_eq!(fails("schema_version = 1\n"), "t.toml:1:1: missing key \"name\"");
        assert_eq!(
            fails("schema_version = 1\nname = \"x\"\n[host]\nsocket = 2\n"),
            "t.toml:4:1: host.socket: unknown key \"socket\", expected one of \"sockets\", \
             \"cores_per_socket\", \"threads\", \"memory\", \"nps\", \"rmp\", \"nohz_full\""
        );
        assert_eq!(
            fails_after_head("[[guest]]\nkind = \"snp\"\nmemory = \"1GiB\"\n"),
            "t.toml:4:1: guest[1]: missing key \"at\""
        );
    }

    #[test]
    fn wrong_types() {
        assert_eq!(
            fails_after_head("[[guest]]\nat = 10\n"),
            "t.toml:5:6: guest[1].at: invalid type: integer \"10\", expected a duration such as \"10s\""
        );
        assert_eq!(
            fails_after_head("[[guest]]\nkind = \"tdx\"\n"),
            "t.toml:5:8: guest[1].kind: expected one of \"snp\", \"ordinary\", found \"tdx\""
        );
        assert_eq!(
            fails("schema_version = 1\nname = \"x\"\n[host]\nsockets = \"two\"\n"),
            "t.toml:4:11: host.sockets: invalid type: string \"two\", expected a whole number"
        );
        assert_eq!(
            fails("schema_version = 1\nname = 7\n"),
            "t.toml:2:8: name: invalid type: integer \"7\", expected a text in quotes"
        );
        assert!(fails("schema_version = 1\nname = \"x\nb").starts_with("t.toml:2:"));
    }

    #[test]
    fn ranges() {
        let host = |keys: &str| fails(&format!("schema_version = 1\nname = \"x\"\n[host]\n{keys}"));
        assert_eq!(
            host("sockets = -1\ncores_per_socket = 1\nmemory = \"4GiB\""),
            "t.toml:4:11: host.sockets: expected 1 to 8, found -1"
        );
        assert_eq!(
            host("sockets = 8\ncores_per_socket = 1024\nmemory = \"4GiB\""),
            "t.toml:5:20: host.cores_per_socket: expected at most 4096 cores on all sockets, found 8192"
        );
        assert_eq!(
            host("sockets = 1\ncores_per_socket = 1\nmemory = \"13TiB\""),
            "t.toml:6:10: host.memory: expected 2GiB to 12TiB, found 13TiB"
        );
        assert_eq!(
            host("sockets = 1\ncores_per_socket = 6\nmemory = \"4GiB\"\nnohz_full = \"1-12\""),
            "t.toml:7:13: host.nohz_full: expected CPUs 0 to 11, found 12"
        );
        assert_eq!(
            host("sockets = 1\ncores_per_socket = 6\nmemory = \"4GiB\"\nnohz_full = \"all\""),
            "t.toml:7:13: host.nohz_full: expected CPUs such as \"1-7,16\", found \"all\""
        );
        assert_eq!(
            host("sockets = 1\ncores_per_socket = 6\nmemory = \"4GiB\"\nnps = 4"),
            "t.toml:7:7: host.nps: 6 cores do not divide into 4 nodes"
        );
        assert_eq!(
            fails_after_head("[policy]\ndelay = \"10s\"\nbound = \"5s\""),
            "t.toml:6:9: policy.bound: expected at least the delay of 10s, found 5s"
        );
        assert_eq!(
            fails_after_head("[policy]\nfollowers = 0"),
            "t.toml:5:13: policy.followers: expected 1 to 4096, found 0"
        );
    }

    fn guest(keys: &str) -> String {
        format!("[[guest]]\nkind = \"snp\"\nmemory = \"1GiB\"\nat = \"10s\"\n{keys}\n")
    }

    #[test]
    fn guests_against_each_other_and_the_host() {
        let memory = |m: &str| {
            fails_after_head(&format!("[[guest]]\nkind = \"snp\"\nat = \"1s\"\nmemory = \"{m}\"\n"))
        };
        let at = "t.toml:7:10: guest[1].memory:";
        assert_eq!(memory("0GiB"), format!("{at} expected 4KiB to 64GiB, found 0B"));
        assert_eq!(memory("65GiB"), format!("{at} expected 4KiB to 64GiB, found 65GiB"));
        assert_eq!(memory("1025KiB"), format!("{at} expected a multiple of 2MiB, found 1025KiB"));
        assert_eq!(
            fails_after_head(&guest("until = \"10s\"")),
            "t.toml:8:9: guest[1].until: ends at 10s, expected later than its start at 10s"
        );
        assert_eq!(
            fails_after_head(&guest("node = 1")),
            "t.toml:8:8: guest[1].node: expected 0 to 0, found 1"
        );
        assert_eq!(
            fails_after_head(&guest("touched = 1.5")),
            "t.toml:8:11: guest[1].touched: expected 0 to 1, found 1.5"
        );
        assert_eq!(
            fails_after_head(&(guest("name = \"a\"") + &guest("name = \"a\""))),
            "t.toml:13:8: guest[2].name: the guest of line 8 is already named \"a\""
        );
        assert_eq!(
            fails_after_head(&(guest("name = \"a\"\ncount = 2") + &guest("name = \"a-2\""))),
            "t.toml:14:8: guest[2].name: the guest of line 8 is already named \"a-2\""
        );
        assert_eq!(
            fails(&format!("until = \"5s\"\n{HEAD}{}", guest(""))),
            "t.toml:8:6: guest[1].at: starts at 10s, but the scenario ends at 5s"
        );
    }

    #[test]
    fn events_against_guests_and_cpus() {
        let event = |keys: &str| {
            fails_after_head(&format!(
                "{}[[event]]\n{keys}\n",
                guest("name = \"a\"\nuntil = \"1m\"")
            ))
        };
        assert_eq!(
            event("at = \"20s\"\naction = \"share\"\nguest = \"b\"\nmemory = \"4KiB\""),
            "t.toml:13:9: event[1].guest: no guest is named \"b\""
        );
        assert_eq!(
            event("at = \"2m\"\naction = \"share\"\nguest = \"a\"\nmemory = \"4KiB\""),
            "t.toml:11:6: event[1].at: \"a\" runs from 10s to 1m, not at 2m"
        );
        assert_eq!(
            event("at = \"20s\"\naction = \"share\"\nguest = \"a\""),
            "t.toml:12:10: event[1].action: action \"share\" needs \"memory\""
        );
        let ordinary =
            "[[guest]]\nname = \"o\"\nkind = \"ordinary\"\nmemory = \"1GiB\"\nat = \"1s\"\n";
        for action in ["leak\"\npages = 1", "share\"\nmemory = \"4KiB\""] {
            let keys = format!("[[event]]\nat = \"2s\"\nguest = \"o\"\naction = \"{action}\n");
            assert_eq!(
                fails_after_head(&format!("{ordinary}{keys}")),
                "t.toml:11:9: event[1].guest: \"o\" is an ordinary guest, expected an SNP guest"
            );
        }
        assert_eq!(
            event("at = \"20s\"\naction = \"pause\"\ncpu = 3"),
            "t.toml:13:7: event[1].cpu: does not belong to action \"pause\", which takes no further key"
        );
        assert_eq!(
            event("at = \"20s\"\naction = \"leak\"\nguest = \"a\"\npages = 1\nunit = \"4k\""),
            "t.toml:15:8: event[1].unit: does not belong to action \"leak\", which takes \"guest\" and \"pages\""
        );
        assert_eq!(
            event(
                "at = \"20s\"\naction = \"share\"\nguest = \"a\"\nmemory = \"4KiB\"\nunit = \"1g\""
            ),
            "t.toml:15:8: event[1].unit: expected one of \"4k\", \"2m\", found \"1g\""
        );
        assert_eq!(
            event("at = \"20s\"\naction = \"cpu-offline\"\ncpu = 16"),
            "t.toml:13:7: event[1].cpu: expected 0 to 15, found 16"
        );
        assert_eq!(
            event("at = \"20s\"\naction = \"explode\""),
            "t.toml:12:10: event[1].action: expected one of \"share\", \"private\", \"leak\", \
             \"snp-init\", \"snp-shutdown\", \"cpu-offline\", \"cpu-online\", \"request\", \
             \"pause\", \"resume\", found \"explode\""
        );
    }
}
