//! The bounds `oracle` and `oracle-delayed`: what no driver can do better.
//!
//! They know the lab's books. The moment a region is clean, or tracked's delay later, it is optimised
//! on every participating core: in no time, without an interrupt, and without counting as RMPOPTs. Its
//! instructions do run on the emulated unit, and all else is measured and checked as of any policy.

use rmpopt_core::{
    Action, Budget, Claims, CoreId, Event as PolicyEvent, Host, LivenessBound, Policy, Time,
    WorstCase, window,
};
use snp_defs::{Region, RmpoptBase, RmpoptFunction, Window};

use super::Engine;
use super::queue::Event;
use crate::policies::Kind;

/// The part of a bound that the policy contract asks for; the engine does the rest.
#[derive(Debug)]
pub(super) struct Oracle {
    name: &'static str,
    delay_ns: u64,
    windows: Vec<Option<Window>>,
    stopping: bool,
}

impl Oracle {
    pub(super) const fn new(name: &'static str, delay_ns: u64) -> Self {
        Self { name, delay_ns, windows: Vec::new(), stopping: false }
    }
}

impl Policy for Oracle {
    fn name(&self) -> &'static str {
        self.name
    }
    fn claims(&self) -> Claims {
        Claims::of(&[1, 2, 3, 4, 5, 6])
    }
    fn handle(&mut self, _: Time, event: PolicyEvent<'_>) {
        match event {
            PolicyEvent::SnpInitialised(host) => {
                self.windows = chosen(host);
                self.stopping = false;
            }
            PolicyEvent::SnpGoingDown | PolicyEvent::Unload => self.stopping = true,
            _ => {}
        }
    }
    fn poll(&mut self, _: Time) -> Option<Action> {
        std::mem::take(&mut self.stopping).then_some(Action::Stopped)
    }
    fn tick_ns(&self) -> Option<u64> {
        None
    }
    fn budget(&self) -> Option<Budget> {
        None
    }
    fn followers_at_once(&self) -> u16 {
        u16::MAX
    }
    fn liveness_bound(&self, _: &WorstCase) -> Option<LivenessBound> {
        Some(LivenessBound { delay_ns: self.delay_ns, ..LivenessBound::default() })
    }
    fn passes(&self) -> u64 {
        0
    }
    fn first_pass_over(&self) -> bool {
        true
    }
    fn window(&self, core: CoreId) -> Option<Window> {
        self.windows.get(core.index()).copied().flatten()
    }
}

/// `tracked`'s windows, once for each node.
fn chosen(host: &dyn Host) -> Vec<Option<Window>> {
    let mut by_node = std::collections::BTreeMap::new();
    (0..host.cores())
        .map(CoreId)
        .map(|core| {
            let own = || window::own_memory(host, core);
            let window = *by_node.entry(host.node(core)).or_insert_with(own);
            host.participates(core).then_some(window)
        })
        .collect()
}

impl Engine<'_> {
    /// The delay, if a bound is in force.
    fn oracle_delay(&self) -> Option<u64> {
        match self.setup.policy.kind() {
            Kind::Oracle { delayed } if self.refused.is_none() => {
                Some(if delayed { self.config.delay_ns } else { 0 })
            }
            _ => None,
        }
    }

    /// SNP is up: every core is enabled, every clean region optimised.
    pub(super) fn oracle_init(&mut self) {
        for core in (0..self.driver.enabled.len() as u16).map(CoreId) {
            self.oracle_core(core);
        }
    }

    /// A core takes part from now on; if SNP is down, a base left over there is cleared.
    pub(super) fn oracle_core(&mut self, core: CoreId) {
        if self.oracle_delay().is_none() || self.cpus.worker(core).is_none() {
            return;
        }
        if !self.ledger.is_up() {
            self.oracle_base(core, RmpoptBase::OFF);
            return;
        }
        let Some(window) = self.windows.get(core.index()).copied().flatten() else { return };
        self.oracle_base(core, RmpoptBase::enabled_at(window.base));
        for index in 0..self.ledger.regions.len() {
            let free = self.ledger.regions.get(index).is_some_and(|b| b.ram && b.assigned == 0);
            if let Some(region) = Region::new(index as u32).filter(|_| free) {
                self.oracle_verify(core, region);
            }
        }
    }

    fn oracle_base(&mut self, core: CoreId, base: RmpoptBase) {
        let at = snp_model::CoreId(u32::from(core.0));
        let unit = self.rmp.unit();
        let on = if unit.rdmsr_base(at) == base.raw() {
            true
        } else {
            unit.wrmsr_base(at, base.raw()).is_ok()
        };
        let on = on && base.is_enabled() && unit.snp_en(at);
        self.driver.cores_epoch += 1;
        if let Some(enabled) = self.driver.enabled.get_mut(core.index()) {
            *enabled = on;
        }
        if let Some(since) = self.driver.able_since.get_mut(core.index()) {
            *since = self.now;
        }
    }

    fn oracle_verify(&mut self, core: CoreId, region: Region) {
        let enabled = self.driver.enabled.get(core.index()).is_some_and(|&on| on);
        if !enabled || !self.covers(core, region) {
            return;
        }
        if let Some(mut begun) = self.begin(core, region, RmpoptFunction::Verify) {
            self.rmp.look(&mut begun);
            self.finish(core, region, begun);
        }
    }

    /// A region has become free.
    pub(super) fn oracle_freed(&mut self, region: Region, freed: u64) {
        match self.oracle_delay() {
            None => {}
            Some(0) => self.oracle_due(region, freed),
            Some(delay_ns) => {
                self.queue.push(self.now + delay_ns, Event::Oracle { region, freed });
            }
        }
    }

    /// The delay of a region that became free is over; if it stayed free, every core gets it.
    pub(super) fn oracle_due(&mut self, region: Region, freed: u64) {
        let book = self.ledger.regions.get(region.index());
        if !self.ledger.is_up() || book.is_none_or(|b| b.freed != freed || b.assigned > 0) {
            return;
        }
        for core in (0..self.driver.enabled.len() as u16).map(CoreId) {
            self.oracle_verify(core, region);
        }
    }

    /// SNP goes down: what is optimised and every base is gone.
    pub(super) fn oracle_clear(&mut self) {
        for core in (0..self.driver.enabled.len() as u16).map(CoreId) {
            self.oracle_core(core);
        }
    }
}
