//! Checks of the laws, and the watch over free regions.

use rmpopt_core::{CoreId, Host as _};
use snp_defs::Region;

use super::queue::Event;
use super::{Engine, laws};
use crate::report::TimelineKind;
use crate::scenario::PolicyName;
use crate::words::things;

impl Engine<'_> {
    pub(super) fn check(&mut self, law: usize, holds: bool, what: impl FnOnce() -> String) {
        if self.laws.check(law, self.now, holds, what) {
            let first = self.laws.first(law).unwrap_or_default().to_owned();
            self.note(TimelineKind::Law, format!("law {law} is broken {first}"));
        }
    }

    pub(super) fn breach(&mut self, law: usize, what: impl FnOnce() -> String) {
        self.check(law, false, what);
    }

    /// A driver is there and may use RMPOPT.
    pub(super) fn uses_rmpopt(&self) -> bool {
        self.refused.is_none() && self.setup.policy != PolicyName::Off
    }

    /// Law 3: a region has become free; it must be optimised in time.
    pub(super) fn watch_liveness(&mut self, region: Region, freed: u64) {
        if self.uses_rmpopt() {
            self.queue.push(self.now + self.bound_ns, Event::LivenessDue { region, freed });
        }
    }

    pub(super) fn liveness_due(&mut self, region: Region, freed: u64) {
        let Some(book) = self.ledger.regions.get(region.index()) else { return };
        let began = self.now.saturating_sub(self.bound_ns);
        let could = self.paused_at.is_none() && self.last_resumed <= began;
        if book.freed != freed || book.assigned > 0 || !self.ledger.is_up() || !could {
            return;
        }
        if self.shutting_down || book.covered_by == 0 {
            return;
        }
        let unit = self.rmp.unit();
        let lacking = (0..self.view.cores())
            .map(CoreId)
            .filter(|&core| self.covers(core, region))
            .filter(|&core| {
                let able = self.driver.enabled.get(core.index()).is_some_and(|&on| on);
                let since = self.driver.able_since.get(core.index()).copied().unwrap_or(0);
                able && since <= began
                    && !unit.is_optimised(snp_model::CoreId(u32::from(core.0)), region)
            })
            .count();
        let bound = laws::seconds(self.bound_ns);
        self.check(laws::LIVENESS, lacking == 0, || {
            let cores = things(lacking as u64, "core");
            format!("region {region} has been free for {bound}, it is not optimised on {cores}")
        });
    }

    /// Whether a pair counts: the core participates and its window covers the region.
    pub(super) fn covers(&self, core: CoreId, region: Region) -> bool {
        self.windows
            .get(core.index())
            .copied()
            .flatten()
            .is_some_and(|window| window.covers(region))
    }
}
