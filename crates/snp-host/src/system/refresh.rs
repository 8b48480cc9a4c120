//! A host read again and again: what changes often each time, the rest seldom.

use std::time::{Duration, Instant};

use super::guests::Seen;
use super::module::ModuleRegions;
use super::{REGIONS, Root, System};

/// After this time everything is read again: on a big host that is some ten thousand files.
const SELDOM: Duration = Duration::from_secs(300);
/// After this time the log is.
const LOG: Duration = Duration::from_secs(60);
/// Clocks of the module and of this program may differ by this much in what they call now.
const MARGIN: Duration = Duration::from_millis(50);
/// Bytes in which the head of our module's `regions` lies for certain.
const HEAD: usize = 256;

/// What was read anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Renewed {
    /// The log.
    pub log: bool,
    /// What regions and memory are known from.
    pub regions: bool,
}

impl Renewed {
    /// Everything.
    pub const ALL: Self = Self { log: true, regions: true };
}

/// Keeps what was read, and reads again what may have changed.
///
/// Each time: our module's counters, how old its belief is, ASIDs and new processes. If the belief
/// changed also its regions and the table. Once a minute the log. If the module came or went, and
/// every five minutes, all of it: that reads the MSRs of one CPU (of every CPU with `deep`) and with
/// `deep` upstream's table.
#[derive(Debug)]
pub struct Refresher {
    log_at: Instant,
    root: Root,
    deep: bool,
    /// When everything was read.
    all_at: Instant,
    /// When `regions` and the table were read.
    belief_at: Instant,
    seen: Seen,
    system: System,
}

impl Refresher {
    /// Reads everything for the first time.
    pub fn new(root: Root, deep: bool, now: Instant) -> Self {
        let system = System::read(&root, deep);
        Self { root, deep, log_at: now, all_at: now, belief_at: now, seen: Seen::default(), system }
    }

    /// What was read last.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// Reads everything anew.
    pub fn all(&mut self, now: Instant) {
        self.system = System::read(&self.root, self.deep);
        (self.all_at, self.belief_at, self.log_at) = (now, now, now);
        self.seen = Seen::default();
    }

    /// Reads what may have changed by now, and says what that was. A snapshot does not change.
    pub fn next(&mut self, now: Instant) -> Renewed {
        let mut renewed = Renewed::default();
        if self.root.as_snapshot().is_some() {
            return renewed;
        }
        let stats = super::stats(&self.root);
        let came_or_went = stats.is_ok() != self.system.stats.is_ok();
        if came_or_went || now.duration_since(self.all_at) >= SELDOM {
            self.all(now);
            return Renewed::ALL;
        }
        self.system.stats = stats;
        if self.system.stats.is_ok() {
            renewed.regions = self.belief(now);
        }
        if now.duration_since(self.log_at) >= LOG {
            self.system.log = super::klog::read(&self.root);
            self.log_at = now;
            renewed.log = true;
        }
        self.system.asids = super::params::asids(&self.root);
        self.system.guests = self.seen.again(&self.root);
        renewed
    }

    /// Our module's regions and the table, if they changed since they were read; whether they did.
    fn belief(&mut self, now: Instant) -> bool {
        if let Ok(old) = &mut self.system.regions
            && self.system.table.is_ok()
            && let Ok(text) = self.root.head::<HEAD>(REGIONS)
            && let Some(head) = ModuleRegions::head(&text)
            && head.policy == old.policy
            && Duration::from_millis(head.changed_ms_ago)
                > now.saturating_duration_since(self.belief_at) + MARGIN
        {
            *old = ModuleRegions { rows: std::mem::take(&mut old.rows), ..head };
            return false;
        }
        self.system.regions = super::regions(&self.root);
        self.system.table = super::table(&self.root, true);
        self.belief_at = now;
        true
    }
}
