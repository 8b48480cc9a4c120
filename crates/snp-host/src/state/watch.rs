//! A host's state again and again, cheaply.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Instant;

use super::{HostState, log::Log};
use crate::system::{Refresher, Root, System};

/// Reads a host again and again ([`Refresher`]); a log that did not change is explained once.
#[derive(Debug)]
pub struct Watch {
    refresher: Refresher,
    log: Log,
    /// Of the log's text.
    hash: u64,
}

impl Watch {
    /// Reads everything for the first time.
    pub fn new(root: Root, deep: bool, now: Instant) -> Self {
        let refresher = Refresher::new(root, deep, now);
        let (log, hash) = (Log::of(refresher.system()), hash(refresher.system()));
        Self { refresher, log, hash }
    }

    /// The state as it was read last.
    pub fn state(&self) -> HostState {
        HostState::with_log(self.refresher.system(), self.log.clone())
    }

    /// Reads what may have changed by now.
    pub fn next(&mut self, now: Instant) -> HostState {
        if self.refresher.next(now) {
            self.explain();
        }
        self.state()
    }

    /// Reads everything anew.
    pub fn all(&mut self, now: Instant) -> HostState {
        self.refresher.all(now);
        self.explain();
        self.state()
    }

    fn explain(&mut self) {
        let system = self.refresher.system();
        let hash = hash(system);
        if hash != self.hash {
            self.log = Log::of(system);
            self.hash = hash;
        }
    }
}

fn hash(system: &System) -> u64 {
    let mut hasher = DefaultHasher::new();
    system.log.as_ref().ok().hash(&mut hasher);
    hasher.finish()
}
