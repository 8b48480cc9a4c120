//! Samples on a thread of their own: a slow source holds up no frame and no key.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use snp_host::system::Root;
use snp_top::{Sample, Sampler};

use crate::exit::Failure;

/// A thread that reads.
pub(super) struct Reader {
    /// The samples, each as soon as it is there. Closed if the thread is gone.
    pub(super) samples: Receiver<Sample>,
    /// Asks for all sources to be read now.
    again: Sender<()>,
}

impl Reader {
    /// Starts it. The first sample comes at once, and one each `interval` after that.
    pub(super) fn start(root: Root, deep: bool, interval: Duration) -> Result<Self, Failure> {
        // At most one sample waits: who does not look misses no more than that.
        let (to, samples) = sync_channel(1);
        let (again, asked) = channel();
        thread::Builder::new()
            .name("reader".to_owned())
            .spawn(move || read(root, deep, interval, &to, &asked))
            .map_err(|e| Failure::Unsupported(format!("no thread can be started: {e}")))?;
        Ok(Self { samples, again })
    }

    /// Asks for all sources to be read now.
    pub(super) fn read_all(&self) {
        // If the thread is gone the samples say so.
        let _ = self.again.send(());
    }
}

fn read(root: Root, deep: bool, interval: Duration, to: &SyncSender<Sample>, asked: &Receiver<()>) {
    let mut sampler = Sampler::new(root, deep);
    let mut due = Instant::now();
    let mut all = false;
    while to.send(sampler.sample(all)).is_ok() {
        // A sample that took longer than the interval is not caught up on.
        due = (due + interval).max(Instant::now());
        all = match asked.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}
