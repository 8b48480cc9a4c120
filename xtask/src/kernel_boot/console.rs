//! What a machine's console says.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::lossy;

/// The guest's own first line: what stands before it is the firmware's.
pub(super) const START: &str = "guest: start";

/// The guest's script ran to its end.
pub(super) const END: &str = "guest: end";

/// What the kernel prints when something went wrong in it.
const TROUBLE: [&str; 12] = [
    "BUG:",
    "BUG at",
    "kernel BUG",
    "WARNING:",
    "Oops",
    "Call Trace",
    "Kernel panic",
    "rust_kernel: panicked",
    "general protection",
    "UBSAN",
    "rcu: INFO",
    "blocked for more than",
];

/// What a boot printed.
#[derive(Debug)]
pub(crate) struct Console {
    /// Its lines, without the firmware's.
    pub(crate) lines: Vec<String>,
    /// How long it took.
    pub(crate) time: Duration,
    /// Whether the guest's script began.
    pub(crate) started: bool,
    /// Whether the guest's script ran to its end.
    pub(crate) finished: bool,
}

impl Console {
    /// Lines by which the kernel says that something went wrong in it.
    pub(crate) fn trouble(&self) -> Vec<&str> {
        self.lines.iter().map(String::as_str).filter(|line| is_trouble(line)).collect()
    }

    /// Whether some line contains this.
    pub(crate) fn says(&self, what: &str) -> bool {
        self.lines.iter().any(|line| line.contains(what))
    }
}

pub(super) fn is_trouble(line: &str) -> bool {
    TROUBLE.iter().any(|word| line.contains(word))
}

/// The console's lines until the machine ends or the time is over.
pub(super) fn read_until(qemu: &mut Child, end: Instant) -> Result<Vec<String>> {
    let output = qemu.stdout.take().context("no console")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(lossy(&line)).is_err() {
                break;
            }
        }
    });
    let mut lines = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left) {
            Ok(line) => lines.push(line),
            Err(_) => return Ok(lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_what_the_kernel_complains_about() {
        let lines = ["test: OK", "------------[ cut here ]", "WARNING: CPU: 0 PID: 1", "fine"];
        let lines = lines.map(str::to_owned).to_vec();
        let console = Console { lines, time: Duration::ZERO, started: true, finished: true };
        assert_eq!(console.trouble(), ["WARNING: CPU: 0 PID: 1"]);
    }
}
