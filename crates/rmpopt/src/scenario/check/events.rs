//! Events, and which of their keys go with which action.

use core::fmt;
use core::ops::Range;

use snp_lab::scenario::{Action, EventSpec, GuestKind, Nanos, limits};
use toml::Spanned;

use super::super::raw::{ActionName, RawEvent};
use super::guests::Guests;
use super::{Check, Checked, Host, PAGE};
use crate::units::exact_duration;

impl Check<'_> {
    pub(super) fn events(
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
