//! What repeats: guests that keep coming, and events that happen again and again.

use std::ops::Range;

use snp_lab::scenario::{GuestSpec, Nanos, StreamSpec, limits};

use super::check::{Check, Checked, DAY, MICRO};
use super::raw::{RawEvent, RawGuest};
use crate::units::exact_duration;

impl Check<'_> {
    /// The stream that a guest with `every` stands for; `None` without it.
    pub(super) fn stream(
        &self,
        raw: &RawGuest,
        spec: &GuestSpec,
        scenario_until: Option<Nanos>,
        room: usize,
    ) -> Checked<Option<StreamSpec>> {
        let Some(every) = &raw.every else {
            let lone = [
                ("lifetime", raw.lifetime.as_ref().map(toml::Spanned::span)),
                ("arrivals", raw.arrivals.as_ref().map(toml::Spanned::span)),
                ("lifetimes", raw.lifetimes.as_ref().map(toml::Spanned::span)),
            ];
            return match lone.into_iter().find_map(|(key, span)| Some((key, span?))) {
                None => Ok(None),
                Some((key, span)) => {
                    self.fail(span, format!("\"{key}\" belongs to a guest with \"every\""))
                }
            };
        };
        if let Some(count) = &raw.count {
            return self.fail(count.span(), "does not go together with \"every\"");
        }
        let Some(lifetime) = &raw.lifetime else {
            return self.fail(every.span(), "a guest with \"every\" needs \"lifetime\"");
        };
        let Some(until) = spec.until.or(scenario_until) else {
            let message = "a guest with \"every\" needs \"until\", or the scenario does";
            return self.fail(every.span(), message);
        };
        let lifetime = self.duration(lifetime, MICRO..=limits::TIME_MAX)?;
        let step = self.duration(every, MICRO..=limits::TIME_MAX)?;
        self.times(every.span(), spec.at..until, step, room, "guests")?;
        Ok(Some(StreamSpec {
            guest: GuestSpec { until: None, ..spec.clone() },
            every: step,
            arrivals: raw.arrivals.as_ref().map(|spread| spread.get_ref().0).unwrap_or_default(),
            until,
            lifetime,
            lifetimes: raw.lifetimes.as_ref().map(|spread| spread.get_ref().0).unwrap_or_default(),
        }))
    }

    /// When an event happens: once, or from `at` on every so often.
    pub(super) fn event_times(
        &self,
        raw: &RawEvent,
        at: Nanos,
        scenario_until: Option<Nanos>,
        room: usize,
    ) -> Checked<impl Iterator<Item = Nanos> + use<>> {
        let (step, until) = match (&raw.every, &raw.until) {
            (None, None) => (DAY, at.saturating_add(1)),
            (None, Some(until)) => {
                return self.fail(until.span(), "belongs to an event with \"every\"");
            }
            (Some(every), until) => {
                let end = match until {
                    Some(until) => {
                        let most = scenario_until.unwrap_or(limits::TIME_MAX);
                        let end = self.duration(until, 0..=most)?;
                        if end <= at {
                            let (end, at) = (exact_duration(end), exact_duration(at));
                            let message = format!("ends at {end}, expected later than {at}");
                            return self.fail(until.span(), message);
                        }
                        Some(end)
                    }
                    None => scenario_until,
                };
                let Some(end) = end else {
                    let message = "an event with \"every\" needs \"until\", or the scenario does";
                    return self.fail(every.span(), message);
                };
                let step = self.duration(every, MICRO..=limits::TIME_MAX)?;
                self.times(every.span(), at..end, step, room, "events")?;
                (step, end)
            }
        };
        Ok(std::iter::successors(Some(at), move |at| at.checked_add(step))
            .take_while(move |&at| at < until))
    }

    /// Refuses more repetitions than there is room for.
    fn times(
        &self,
        at: Range<usize>,
        over: Range<Nanos>,
        step: Nanos,
        room: usize,
        what: &str,
    ) -> Checked<()> {
        let times = over.end.saturating_sub(over.start).div_ceil(step.max(1));
        if times <= room as u64 {
            return Ok(());
        }
        self.fail(at, format!("makes {times} {what}, expected at most {room} more"))
    }
}

#[cfg(test)]
mod tests {
    use snp_lab::scenario::{Action, SECOND, Spread};

    use crate::scenario::parse;

    const HEAD: &str = "schema_version = 1\nname = \"t\"\nuntil = \"1h\"\n\
        host = { sockets = 1, cores_per_socket = 8, memory = \"64GiB\" }\n";
    const GUEST: &str =
        "[[guest]]\nkind = \"snp\"\nname = \"pod\"\nmemory = \"1GiB\"\nat = \"10s\"\n";
    const EVENT: &str = "[[event]]\nat = \"20s\"\naction = \"request\"\n";

    fn fails(text: &str) -> String {
        parse("t.toml", &format!("{HEAD}{text}")).unwrap_err().to_string()
    }

    #[test]
    fn a_guest_that_keeps_coming() {
        let keys = "every = \"8s\"\nlifetime = \"5m\"\narrivals = \"exponential\"\nvcpus = 3\n";
        let scenario = parse("t.toml", &format!("{HEAD}{GUEST}{keys}")).unwrap();
        assert!(scenario.guests.is_empty());
        let stream = &scenario.streams[0];
        assert_eq!((stream.guest.name.as_str(), stream.guest.at), ("pod", 10 * SECOND));
        assert_eq!((stream.guest.vcpus, stream.guest.until), (3, None));
        assert_eq!((stream.every, stream.lifetime), (8 * SECOND, 300 * SECOND));
        assert_eq!(stream.arrivals, Spread::Exponential);
        assert_eq!((stream.lifetimes, stream.until), (Spread::Fixed, 3600 * SECOND));
        let keys = format!("{keys}until = \"10m\"\nlifetimes = \"exponential\"\n");
        let scenario = parse("t.toml", &format!("{HEAD}{GUEST}{keys}")).unwrap();
        assert_eq!(scenario.streams[0].until, 600 * SECOND);
        assert_eq!(scenario.streams[0].lifetimes, Spread::Exponential);
    }

    #[test]
    fn what_a_repeated_guest_may_not_say() {
        let guest = |keys: &str| fails(&format!("{GUEST}{keys}\n"));
        let at = "t.toml:10:";
        assert_eq!(
            guest("lifetime = \"5s\""),
            format!("{at}12: guest[1].lifetime: \"lifetime\" belongs to a guest with \"every\"")
        );
        assert!(guest("arrivals = \"fixed\"").ends_with("belongs to a guest with \"every\""));
        assert!(guest("lifetimes = \"fixed\"").ends_with("belongs to a guest with \"every\""));
        assert_eq!(
            guest("every = \"5s\""),
            format!("{at}9: guest[1].every: a guest with \"every\" needs \"lifetime\"")
        );
        assert_eq!(
            guest("every = \"5s\"\nlifetime = \"5s\"\ncount = 2"),
            "t.toml:12:9: guest[1].count: does not go together with \"every\""
        );
        assert_eq!(
            guest("every = \"1ms\"\nlifetime = \"5s\""),
            format!("{at}9: guest[1].every: makes 3590000 guests, expected at most 100000 more")
        );
        assert_eq!(
            guest("every = \"0s\"\nlifetime = \"5s\""),
            format!("{at}9: guest[1].every: expected 1us to 3653d, found 0s")
        );
        assert_eq!(
            guest("every = \"5s\"\nlifetime = \"0s\""),
            "t.toml:11:12: guest[1].lifetime: expected 1us to 3653d, found 0s"
        );
        assert_eq!(
            guest("every = \"5s\"\nlifetime = \"5s\"\narrivals = \"often\""),
            "t.toml:12:12: guest[1].arrivals: expected one of \"fixed\", \"exponential\", found \
             \"often\""
        );
        let endless = format!("{HEAD}{GUEST}every = \"5s\"\nlifetime = \"1s\"\n")
            .replace("until = \"1h\"\n", "");
        assert_eq!(
            parse("t.toml", &endless).unwrap_err().to_string(),
            "t.toml:9:9: guest[1].every: a guest with \"every\" needs \"until\", or the scenario \
             does"
        );
    }

    #[test]
    fn no_event_names_a_repeated_guest() {
        let keys = "every = \"5s\"\nlifetime = \"5s\"\n[[event]]\nat = \"20s\"\n\
                    action = \"leak\"\npages = 1\nguest = \"pod\"\n";
        assert_eq!(
            fails(&format!("{GUEST}{keys}")),
            "t.toml:16:9: event[1].guest: \"pod\" has \"every\": no event can name it"
        );
        let twice = format!("{GUEST}every = \"5s\"\nlifetime = \"5s\"\n{GUEST}");
        assert_eq!(
            fails(&twice),
            "t.toml:14:8: guest[2].name: the guest of line 7 is already named \"pod\""
        );
    }

    #[test]
    fn an_event_that_happens_again() {
        let keys = "every = \"10s\"\nuntil = \"50s\"\n";
        let scenario = parse("t.toml", &format!("{HEAD}{EVENT}{keys}")).unwrap();
        let times: Vec<_> = scenario.events.iter().map(|e| (e.at / SECOND, e.action)).collect();
        let request = Action::Request;
        assert_eq!(times, [(20, request), (30, request), (40, request)]);
        let scenario = parse("t.toml", &format!("{HEAD}{EVENT}every = \"1h\"\n")).unwrap();
        assert_eq!(scenario.events.len(), 1);
    }

    #[test]
    fn what_a_repeated_event_may_not_say() {
        let event = |keys: &str| fails(&format!("{EVENT}{keys}\n"));
        assert_eq!(
            event("until = \"50s\""),
            "t.toml:8:9: event[1].until: belongs to an event with \"every\""
        );
        assert_eq!(
            event("every = \"1s\"\nuntil = \"20s\""),
            "t.toml:9:9: event[1].until: ends at 20s, expected later than 20s"
        );
        assert_eq!(
            event("every = \"1s\"\nuntil = \"2h\""),
            "t.toml:9:9: event[1].until: expected 0s to 1h, found 2h"
        );
        assert_eq!(
            event("every = \"1ms\""),
            "t.toml:8:9: event[1].every: makes 3580000 events, expected at most 100000 more"
        );
    }
}
