//! SNP_INIT, cores coming and going, and the end.

use super::leader::MAX_WINDOWS;
use super::{later, Phase, Tracked};
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
        let lowest = self.config.lowest_window;
        for core in (0..self.cores()).map(CoreId) {
            let there = core.0 < host.cores();
            let window =
                if there { chosen_for(&mut chosen, host, core, lowest) } else { Window::default() };
            let participates = there && host.participates(core);
            let state = if participates { CoreState::Waiting } else { CoreState::Out };
            if let Some(cell) = self.storage.cores_mut().get_mut(core.index()) {
                let (writes, programmed) = (cell.writes, cell.programmed);
                let follows_only = cell.follows_only;
                *cell = CoreCell {
                    window,
                    state,
                    writes,
                    programmed,
                    follows_only,
                    ..CoreCell::default()
                };
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
        self.snp_up = true;
        self.bases_wanted = true;
        self.leftovers = false;
        self.lacking.fill(self.cores());
        self.first_pass = true;
        self.offers_wanted = true;
        self.unoffered_since = None;
        self.offers_out = 0;
        self.audit_at = later(now, self.config.audit_ns);
        self.sweep_at =
            if self.config.sweep_per_second == 0 { Time::NEVER } else { now.after(SECOND) };
        self.armed = Time::NEVER;
        self.next_due = now;
        self.nominate_all(now, 0, true);
    }

    /// Writes the base of the next core that waits for it.
    pub(super) fn write_next_base(&mut self) -> Option<Action> {
        if !self.bases_wanted {
            return None;
        }
        let Some(core) = self.first_core(|cell| cell.state == CoreState::Waiting) else {
            self.bases_wanted = false;
            return None;
        };
        let cell = self.storage.cores_mut().get_mut(core.index())?;
        cell.state = CoreState::Programming;
        cell.programmed = true;
        let base = RmpoptBase::enabled_at(cell.window.base);
        Some(self.write_base(core, base))
    }

    fn write_base(&mut self, core: CoreId, base: RmpoptBase) -> Action {
        if let Some(cell) = self.storage.cores_mut().get_mut(core.index()) {
            cell.writes = cell.writes.saturating_add(1);
        }
        self.bases_out = self.bases_out.saturating_add(1);
        Action::WriteBase { core, base }
    }

    /// The read-back is the proof that RMPOPT may run there.
    pub(super) fn base_written(
        &mut self,
        now: Time,
        core: CoreId,
        base: Option<RmpoptBase>,
        snp_en: bool,
    ) {
        let Some(cell) = self.storage.cores_mut().get_mut(core.index()) else { return };
        let Some(writes) = cell.writes.checked_sub(1) else { return };
        cell.writes = writes;
        self.bases_out = self.bases_out.saturating_sub(1);
        if writes > 0 {
            // Answers an earlier write; another is under way.
            return;
        }
        if base == Some(RmpoptBase::OFF) {
            cell.programmed = false;
        }
        if cell.state != CoreState::Programming {
            return;
        }
        if snp_en && base == Some(RmpoptBase::enabled_at(cell.window.base)) {
            let window = cell.window;
            cell.state = CoreState::Enabled;
            // It may have been passed over while it was not enabled.
            self.lacking.put(core, true);
            self.enlist(core, window);
            self.next_due = Time::ZERO;
            self.offers_wanted = true;
            self.unoffered_since.get_or_insert(now);
        } else {
            cell.state = CoreState::Barred;
        }
    }

    /// A core came (back). Its belief is gone; its base is written only if it was not written in
    /// this SNP_INIT, or if silicon is known to clear the table then. One that we would write
    /// nothing else to is used as it is: it was away when we began, with the base of before.
    pub(super) fn core_online(&mut self, now: Time, core: CoreId, base: RmpoptBase, snp_en: bool) {
        self.forget(core);
        let (phase, trusted, snp_up) = (self.phase, self.config.trust_base_clear, self.snp_up);
        let Some(cell) = self.storage.cores_mut().get_mut(core.index()) else { return };
        // Unless a write is on its way.
        cell.programmed &= base != RmpoptBase::OFF || cell.writes > 0;
        if phase != Phase::Up {
            // It was away when the others were cleared, or will be cleared with them.
            let leftover = cell.programmed && !snp_up;
            if leftover {
                cell.state = CoreState::Leftover;
            } else if cell.state == CoreState::Away {
                cell.state = CoreState::Barred;
            }
            self.leftovers |= leftover;
            return;
        }
        let window = cell.window;
        let ours = base == RmpoptBase::enabled_at(window.base);
        // A base that is still being cleared will be 0.
        let off = base == RmpoptBase::OFF || (ours && cell.writes > 0);
        cell.state = match cell.state {
            _ if !snp_en => CoreState::Barred,
            CoreState::Waiting | CoreState::Programming => cell.state,
            CoreState::Out if off => CoreState::Waiting,
            CoreState::Enabled | CoreState::Away | CoreState::Out if ours => CoreState::Enabled,
            CoreState::Away if trusted && off => CoreState::Waiting,
            _ => CoreState::Barred,
        };
        self.bases_wanted |= cell.state == CoreState::Waiting;
        if cell.state == CoreState::Enabled {
            cell.programmed = true;
            self.enlist(core, window);
            self.next_due = Time::ZERO;
        } else {
            self.replace_leader(core);
        }
        self.offers_wanted = true;
        self.unoffered_since.get_or_insert(now);
    }

    pub(super) fn core_offline(&mut self, core: CoreId) {
        self.forget(core);
        let Some(cell) = self.storage.cores_mut().get_mut(core.index()) else { return };
        cell.state = match cell.state {
            CoreState::Enabled | CoreState::Away | CoreState::Leftover => CoreState::Away,
            // The write may or may not have happened.
            CoreState::Programming | CoreState::Barred => CoreState::Barred,
            CoreState::Waiting | CoreState::Out => CoreState::Out,
        };
        self.replace_leader(core);
    }

    /// What a core is believed to have and what it was offered are void.
    fn forget(&mut self, core: CoreId) {
        self.lacking.put(core, true);
        let Some(cell) = self.storage.cores_mut().get_mut(core.index()) else { return };
        cell.believed = WindowMask::EMPTY;
        if cell.offered.take().is_some_and(|offered| !offered.audit) {
            self.offers_out = self.offers_out.saturating_sub(1);
            self.offers_wanted = true;
        }
    }

    /// `clear`: SNP goes down, so that bases are written 0 once nothing runs.
    pub(super) fn stop(&mut self, clear: bool) {
        self.snp_up &= !clear;
        match self.phase {
            Phase::Up => self.begin_stop(clear),
            Phase::Stopping { asked, .. } if clear => {
                self.phase = Phase::Stopping { asked, clear };
            }
            // Stopped before SNP went down: nothing runs, but the bases are as they were.
            Phase::Down | Phase::Stopped if clear => self.begin_clearing(),
            Phase::Down => self.phase = Phase::Stopped,
            Phase::Stopping { .. } | Phase::Clearing | Phase::Stopped => {}
        }
    }

    /// Nothing more is begun. Marks are not looked at from here on, so nothing can be believed.
    pub(super) fn begin_stop(&mut self, clear: bool) {
        self.phase = Phase::Stopping { asked: false, clear };
        self.leaders.clear();
        Bitmap::Clean.of_mut(&mut self.storage).fill(0);
        Bitmap::Candidate.of_mut(&mut self.storage).fill(0);
        for cell in self.storage.cores_mut() {
            cell.believed = WindowMask::EMPTY;
            cell.offered = None;
        }
    }

    pub(super) fn quiesced(&mut self) {
        match self.phase {
            Phase::Stopping { clear: true, .. } => self.begin_clearing(),
            Phase::Stopping { clear: false, .. } => self.phase = Phase::Stopped,
            _ => {}
        }
    }

    /// Cores that are away are cleared when they return.
    fn begin_clearing(&mut self) {
        for cell in self.storage.cores_mut() {
            if cell.programmed && cell.state != CoreState::Away {
                cell.state = CoreState::Leftover;
                self.leftovers = true;
            }
        }
        self.phase = Phase::Clearing;
    }

    fn clear_next_base(&mut self) -> Option<Action> {
        if !self.leftovers {
            return None;
        }
        let Some(core) = self.first_core(|cell| cell.state == CoreState::Leftover) else {
            self.leftovers = false;
            return None;
        };
        self.storage.cores_mut().get_mut(core.index())?.state = CoreState::Barred;
        Some(self.write_base(core, RmpoptBase::OFF))
    }

    pub(super) fn poll_stopping(&mut self) -> Option<Action> {
        match self.phase {
            Phase::Down => self.clear_next_base(),
            Phase::Up | Phase::Stopping { asked: true, .. } => None,
            Phase::Stopping { asked: false, clear } => {
                self.phase = Phase::Stopping { asked: true, clear };
                Some(Action::Quiesce)
            }
            Phase::Clearing => {
                let cleared = self.clear_next_base();
                if cleared.is_some() || self.bases_out > 0 {
                    return cleared;
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
fn chosen_for(chosen: &mut Chosen, host: &dyn Host, core: CoreId, lowest: bool) -> Window {
    let choose = || if lowest { window::lowest(host) } else { window::own_memory(host, core) };
    let node = host.node(core);
    for slot in chosen {
        match *slot {
            Some((known, window)) if known == node => return window,
            Some(_) => {}
            None => {
                let window = choose();
                *slot = Some((node, window));
                return window;
            }
        }
    }
    choose()
}
