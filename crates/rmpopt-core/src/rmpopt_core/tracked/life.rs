//! SNP_INIT, cores coming and going, and the end.

use super::leader::MAX_WINDOWS;
use super::{Phase, Tracked};
use crate::rmpopt_core::storage::{Bitmap, CoreCell, CoreState, RegionCell};
use crate::rmpopt_core::{window, Action, CoreId, Host, Storage, Time, WindowMask, SECOND};
use crate::snp_defs::{Region, RmpoptBase, Window};

/// Windows by node, so that each is chosen once.
type Chosen = [Option<(u16, Window)>; MAX_WINDOWS];

impl<S: Storage> Tracked<S> {
    /// SNP_INIT has cleared all tables: everything is to be found out anew.
    #[inline(never)] // Its frame would be `handle`'s.
    pub(super) fn initialise(&mut self, now: Time, host: &dyn Host) {
        self.init = self.init.wrapping_add(1);
        self.storage.words_mut().fill(0);
        self.storage.regions_mut().fill(RegionCell::default());
        self.leaders.clear();
        let mut chosen: Chosen = [None; MAX_WINDOWS];
        for index in 0..self.storage.cores().len().min(usize::from(host.cores())) {
            let core = CoreId(index as u16);
            let window = chosen_for(&mut chosen, host, core);
            let state = if host.participates(core) { CoreState::Waiting } else { CoreState::Out };
            if let Some(cell) = self.storage.cores_mut().get_mut(index) {
                *cell = CoreCell { window, state, ..CoreCell::default() };
            }
        }
        for number in 0..host.spanned_regions().min(self.storage.regions().len() as u32) {
            let Some(region) = Region::new(number) else { break };
            let covered = chosen.iter().flatten().any(|(_, window)| window.covers(region));
            if covered && host.ram_mib(region) > 0 {
                Bitmap::Eligible.put(&mut self.storage, region, true);
            }
        }
        self.phase = Phase::Up;
        // No core has been looked at: their cells hold 0.
        self.generation = 1;
        self.count_bases();
        self.first_pass = true;
        self.offers_wanted = true;
        self.unoffered_since = None;
        self.offers_out = 0;
        self.audit_at =
            if self.config.audit_ns == 0 { Time::NEVER } else { now.after(self.config.audit_ns) };
        self.sweep_at =
            if self.config.sweep_per_second == 0 { Time::NEVER } else { now.after(SECOND) };
        self.armed = Time::NEVER;
        self.next_due = now;
        self.nominate_all(now, 0, true);
    }

    fn count_bases(&mut self) {
        let out =
            |cell: &&CoreCell| matches!(cell.state, CoreState::Waiting | CoreState::Programming);
        self.bases_out = self.storage.cores().iter().filter(out).count() as u16;
    }

    /// Writes the base of the next core that waits for it.
    pub(super) fn write_next_base(&mut self) -> Option<Action> {
        if self.bases_out == 0 {
            return None;
        }
        let waiting = |cell: &CoreCell| cell.state == CoreState::Waiting;
        let index = self.storage.cores().iter().position(waiting)?;
        let cell = self.storage.cores_mut().get_mut(index)?;
        cell.state = CoreState::Programming;
        let base = RmpoptBase::enabled_at(cell.window.base);
        Some(Action::WriteBase { core: CoreId(index as u16), base })
    }

    /// The read-back is the proof that RMPOPT may run there.
    pub(super) fn base_written(&mut self, core: CoreId, base: Option<RmpoptBase>, snp_en: bool) {
        if matches!(self.phase, Phase::Clearing { .. }) {
            self.bases_out = self.bases_out.saturating_sub(1);
            return;
        }
        let Some(cell) = self.storage.cores_mut().get_mut(core.index()) else { return };
        if cell.state != CoreState::Programming {
            return;
        }
        if snp_en && base == Some(RmpoptBase::enabled_at(cell.window.base)) {
            let window = cell.window;
            cell.state = CoreState::Enabled;
            self.leaders.enlist(core, window);
            self.offers_wanted = true;
            self.next_due = Time::ZERO;
        } else {
            cell.state = CoreState::Barred;
        }
        self.bases_out = self.bases_out.saturating_sub(1);
    }

    /// A core came (back). Its belief is gone; its base is written only if it was not written in
    /// this SNP_INIT, or if silicon is known to clear the table then.
    pub(super) fn core_online(&mut self, now: Time, core: CoreId, base: RmpoptBase, snp_en: bool) {
        let (up, trusted) = (self.phase == Phase::Up, self.config.trust_base_clear);
        let Some(cell) = self.storage.cores_mut().get_mut(core.index()) else { return };
        cell.believed = WindowMask::EMPTY;
        cell.offered = None;
        cell.seen = self.generation.wrapping_sub(1);
        if !up {
            // It was away when the others were cleared.
            if cell.state == CoreState::Away && base != RmpoptBase::OFF {
                cell.state = CoreState::Leftover;
                self.leftovers = true;
            }
            return;
        }
        let window = cell.window;
        cell.state = match cell.state {
            _ if !snp_en => CoreState::Barred,
            CoreState::Away if base == RmpoptBase::enabled_at(window.base) => CoreState::Enabled,
            CoreState::Away if trusted && base == RmpoptBase::OFF => CoreState::Waiting,
            CoreState::Out if base == RmpoptBase::OFF => CoreState::Waiting,
            CoreState::Enabled | CoreState::Waiting | CoreState::Programming => cell.state,
            CoreState::Away | CoreState::Out | CoreState::Barred | CoreState::Leftover => {
                CoreState::Barred
            }
        };
        if cell.state == CoreState::Enabled {
            self.leaders.enlist(core, window);
            self.next_due = Time::ZERO;
        }
        self.offers_wanted = true;
        self.unoffered_since.get_or_insert(now);
        self.count_bases();
    }

    pub(super) fn core_offline(&mut self, core: CoreId) {
        let Some(cell) = self.storage.cores_mut().get_mut(core.index()) else { return };
        cell.state = match cell.state {
            CoreState::Enabled | CoreState::Away | CoreState::Leftover => CoreState::Away,
            // The write may or may not have happened.
            CoreState::Programming | CoreState::Barred => CoreState::Barred,
            CoreState::Waiting | CoreState::Out => CoreState::Out,
        };
        cell.believed = WindowMask::EMPTY;
        if cell.offered.take().is_some_and(|offered| !offered.audit) {
            self.offers_out = self.offers_out.saturating_sub(1);
            self.offers_wanted = true;
        }
        self.count_bases();
        self.replace_leader(core);
    }

    pub(super) fn stop(&mut self, clear: bool) {
        if self.phase == Phase::Up {
            self.phase = Phase::Stopping { asked: false, clear };
        } else if self.phase == Phase::Down {
            self.phase = Phase::Stopped;
        }
    }

    pub(super) fn quiesced(&mut self) {
        if let Phase::Stopping { clear, .. } = self.phase {
            self.phase = if clear { Phase::Clearing { next: 0 } } else { Phase::Stopped };
            self.bases_out = 0;
            self.leaders.clear();
        }
    }

    /// Clears the base of a core that returned after the others were cleared.
    fn clear_leftover(&mut self) -> Option<Action> {
        if !core::mem::take(&mut self.leftovers) {
            return None;
        }
        let leftover = |cell: &CoreCell| cell.state == CoreState::Leftover;
        let index = self.storage.cores().iter().position(leftover)?;
        self.storage.cores_mut().get_mut(index)?.state = CoreState::Out;
        self.leftovers = true;
        Some(Action::WriteBase { core: CoreId(index as u16), base: RmpoptBase::OFF })
    }

    pub(super) fn poll_stopping(&mut self) -> Option<Action> {
        match self.phase {
            Phase::Down => self.clear_leftover(),
            Phase::Up | Phase::Stopping { asked: true, .. } => None,
            Phase::Stopping { asked: false, clear } => {
                self.phase = Phase::Stopping { asked: true, clear };
                Some(Action::Quiesce)
            }
            Phase::Clearing { next } => {
                let rest = self.storage.cores_mut().iter_mut().enumerate().skip(usize::from(next));
                for (index, cell) in rest {
                    if cell.state == CoreState::Enabled {
                        cell.state = CoreState::Barred;
                        self.phase = Phase::Clearing { next: (index as u16).saturating_add(1) };
                        self.bases_out = self.bases_out.saturating_add(1);
                        let core = CoreId(index as u16);
                        return Some(Action::WriteBase { core, base: RmpoptBase::OFF });
                    }
                }
                if self.bases_out > 0 {
                    return None;
                }
                self.phase = Phase::Down;
                Some(Action::Stopped)
            }
            Phase::Stopped => {
                self.phase = Phase::Down;
                Some(Action::Stopped)
            }
        }
    }
}

/// The window of a core's node, chosen when it is first asked for.
fn chosen_for(chosen: &mut Chosen, host: &dyn Host, core: CoreId) -> Window {
    let node = host.node(core);
    for slot in chosen {
        match *slot {
            Some((known, window)) if known == node => return window,
            Some(_) => {}
            None => {
                let window = window::own_memory(host, core);
                *slot = Some((node, window));
                return window;
            }
        }
    }
    window::own_memory(host, core)
}
