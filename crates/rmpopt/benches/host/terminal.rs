//! `rmpopt top` on a terminal of 200 columns and 60 rows that script(1) makes.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::exporter::Running;
use crate::process::cpu_ns;

/// By then the first sample is read and shown.
const SETTLED: Duration = Duration::from_secs(3);

/// CPU time a second, in nanoseconds, over so many seconds. Something new must be shown in each of them:
/// a sample comes once a second, and its time is in the frame.
pub(crate) fn top(root: &Path, seconds: u32) -> Result<f64, String> {
    let program = env!("CARGO_BIN_EXE_rmpopt");
    let line = format!(
        "stty cols 200 rows 60; echo pid $$; exec {program} top --root {}",
        root.to_str().unwrap()
    );
    let started = Command::new("script")
        .args(["--quiet", "--flush", "--command", &line, "/dev/null"])
        .env("LANG", "C.UTF-8")
        .env("TERM", "xterm-256color")
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut terminal = Running(started.map_err(|e| format!("script: {e}"))?);
    let mut shown = BufReader::new(terminal.0.stdout.take().unwrap());
    let mut first = String::new();
    shown.read_line(&mut first).unwrap();
    let process = first.trim().strip_prefix("pid ").and_then(|pid| pid.parse().ok());
    let process = process.ok_or_else(|| format!("script: expected a process id, got {first:?}"))?;
    let frames = times(shown);
    sleep(SETTLED);
    frames.try_iter().for_each(drop);
    let (begun, before) = (Instant::now(), cpu_ns(process));
    sleep(Duration::from_secs(seconds.into()));
    let (taken, over) = (cpu_ns(process) - before, begun.elapsed());
    let mut in_second: Vec<u64> =
        frames.try_iter().map(|at| at.duration_since(begun).as_secs()).collect();
    in_second.dedup();
    assert!(in_second.len() + 1 >= seconds as usize, "frames in seconds {in_second:?} only");
    Ok(taken as f64 / over.as_secs_f64())
}

/// When something came, until its end.
fn times(mut from: impl Read + Send + 'static) -> Receiver<Instant> {
    let (to, times) = channel();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 1 << 16];
        while matches!(from.read(&mut bytes), Ok(1..)) && to.send(Instant::now()).is_ok() {}
    });
    times
}
