//! A host's state again and again, cheaply.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Instant;

use super::{HostState, Kept, log::Log};
use crate::system::{Refresher, Renewed, Root, System};

/// Reads a host again and again ([`Refresher`]). A log that did not change is explained once, regions
/// that did not change are worked out once.
#[derive(Debug)]
pub struct Watch {
    refresher: Refresher,
    log: Log,
    /// Of the log's text.
    hash: u64,
    /// Regions and memory as they were last.
    kept: Option<Kept>,
}

impl Watch {
    /// Reads everything for the first time.
    pub fn new(root: Root, deep: bool, now: Instant) -> Self {
        let refresher = Refresher::new(root, deep, now);
        let (log, hash) = (Log::of(refresher.system()), hash(refresher.system()));
        Self { refresher, log, hash, kept: None }
    }

    /// The state as it was read last.
    pub fn state(&mut self) -> HostState {
        let state = HostState::with(self.refresher.system(), self.log.clone(), self.kept.take());
        self.kept = Some((Arc::clone(&state.regions), state.memory.clone()));
        state
    }

    /// Reads what may have changed by now.
    pub fn next(&mut self, now: Instant) -> HostState {
        let renewed = self.refresher.next(now);
        self.forget(renewed);
        self.state()
    }

    /// Reads everything anew.
    pub fn all(&mut self, now: Instant) -> HostState {
        self.refresher.all(now);
        self.forget(Renewed::ALL);
        self.state()
    }

    /// Drops what follows from what was read anew.
    fn forget(&mut self, renewed: Renewed) {
        if renewed.regions {
            self.kept = None;
        }
        let system = self.refresher.system();
        if renewed.log && self.hash != hash(system) {
            self.hash = hash(system);
            self.log = Log::of(system);
            // A log may hold the memory map and where the RMP is.
            self.kept = None;
        }
    }
}

fn hash(system: &System) -> u64 {
    let mut hasher = DefaultHasher::new();
    system.log.as_ref().ok().hash(&mut hasher);
    hasher.finish()
}
