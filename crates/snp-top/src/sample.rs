//! The reader: one sample of a host after the other.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use snp_host::state::{HostState, Watch};
use snp_host::system::Root;

/// What the host said at one moment.
#[derive(Debug)]
pub struct Sample {
    /// Counted from 0.
    pub number: u64,
    /// Time since the first sample, by a clock that never goes back.
    pub at: Duration,
    /// When, in milliseconds since 1970 (UTC).
    pub unix_ms: u64,
    /// What it said.
    pub state: HostState,
}

/// Takes samples.
#[derive(Debug)]
pub struct Sampler {
    watch: Watch,
    start: Instant,
    next: u64,
}

impl Sampler {
    /// Reads everything once; the first sample is what was read.
    pub fn new(root: Root, deep: bool) -> Self {
        let start = Instant::now();
        Self { watch: Watch::new(root, deep, start), start, next: 0 }
    }

    /// The next sample. `all` reads everything anew, as is done every five minutes.
    pub fn sample(&mut self, all: bool) -> Sample {
        let now = Instant::now();
        let number = self.next;
        self.next += 1;
        let state = match (number, all) {
            (0, _) => self.watch.state(),
            (_, true) => self.watch.all(now),
            (_, false) => self.watch.next(now),
        };
        let at = if number == 0 { Duration::ZERO } else { now.duration_since(self.start) };
        Sample { number, at, unix_ms: unix_ms(), state }
    }
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

impl Sample {
    /// A sample of a state that was come by otherwise, such as one file.
    pub fn still(state: HostState, unix_ms: u64) -> Self {
        Self { number: 0, at: Duration::ZERO, unix_ms, state }
    }
}
