//! The timeline, and the books of a trace's guests.

use super::{Engine, GUEST_NOTES, TIMELINE_MAX};
use crate::report::{TimelineEntry, TimelineKind};
use crate::scenario::{GuestKind, SECOND};
use crate::words::{count, things};

impl Engine<'_> {
    pub(super) fn note(&mut self, kind: TimelineKind, text: String) {
        if self.timeline.len() >= TIMELINE_MAX && kind != TimelineKind::Law {
            self.untold += 1;
            return;
        }
        self.timeline.push(TimelineEntry { t_s: self.now as f64 / SECOND as f64, kind, text });
    }

    /// Of many guests only the first are named.
    pub(super) fn note_guest(&mut self, traced: bool, text: impl FnOnce() -> String) {
        if traced || self.guests.len() as u64 > GUEST_NOTES {
            self.guest_notes += 1;
            if self.guest_notes > GUEST_NOTES {
                self.untold += 1;
                return;
            }
        }
        self.note(TimelineKind::Guest, text());
    }

    /// Entries were split for a conversion; of a trace's guests the counter alone tells.
    pub(super) fn note_split(&mut self, traced: bool, text: impl FnOnce() -> String) {
        if !traced {
            self.note(TimelineKind::Convert, text());
        }
    }

    pub(super) fn note_first_pass(&mut self) {
        let free = self.ledger.regions.iter().filter(|book| book.optimised_on > 0).count();
        self.passes_noted = self.policy.passes();
        self.optimised_noted = free;
        if self.uses_rmpopt() {
            let regions = things(free as u64, "region");
            self.note(TimelineKind::Pass, format!("first pass over: {regions} optimised"));
        }
    }

    /// Passes that ended since the last look.
    pub(super) fn note_passes(&mut self) {
        let passes = self.policy.passes();
        if passes > self.passes_noted && self.meter.is_steady() {
            self.passes_noted = passes;
            let all = self
                .ledger
                .regions
                .iter()
                .filter(|book| book.covered_by > 0 && book.optimised_on == book.covered_by)
                .count();
            if all > self.optimised_noted {
                let more = things((all - self.optimised_noted) as u64, "more region");
                let all = count(all as u64);
                self.note(
                    TimelineKind::Pass,
                    format!("pass {passes} over: {more} optimised on every core, {all} in all"),
                );
            }
            self.optimised_noted = all;
        }
    }

    pub(super) fn admit(&mut self, traced: bool, kind: GuestKind) {
        if traced {
            self.trace.admitted += 1;
            match kind {
                GuestKind::Snp => self.trace.snp += 1,
                GuestKind::Ordinary => self.trace.ordinary += 1,
            }
        }
    }

    /// A guest that was admitted could not be launched after all.
    pub(super) fn unadmit(&mut self, traced: bool, kind: GuestKind) {
        if traced {
            self.trace.admitted -= 1;
            match kind {
                GuestKind::Snp => self.trace.snp -= 1,
                GuestKind::Ordinary => self.trace.ordinary -= 1,
            }
        }
    }

    pub(super) fn held_bytes(&mut self, traced: bool, bytes: u64, more: bool) {
        if !traced {
            return;
        }
        self.traced_bytes =
            if more { self.traced_bytes + bytes } else { self.traced_bytes.saturating_sub(bytes) };
        self.trace.peak_bytes = self.trace.peak_bytes.max(self.traced_bytes);
    }
}
