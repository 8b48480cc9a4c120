//! Guests: their sizes and times, and the names that events call them by.

use core::ops::Range;
use std::collections::HashMap;

use snp_lab::scenario::{GIB, GuestSpec, Nanos, Placement, StreamSpec, limits};
use toml::Spanned;

use super::super::raw::RawGuest;
use super::{Check, Checked, Host, PAGE};
use crate::units::{exact_duration, exact_size};

/// Guest memory that gets a CPU of its own where a scenario does not say how many it has.
const MEMORY_PER_VCPU: u64 = 4 * GIB;
/// Checked guests, and which of them each written name stands for.
pub(super) struct Guests {
    pub(super) specs: Vec<GuestSpec>,
    pub(super) streams: Vec<StreamSpec>,
    pub(super) by_name: HashMap<String, Range<usize>>,
}

impl Check<'_> {
    pub(super) fn guests(
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
}
