//! The command as a process: how long it takes, how much memory, how much of a CPU.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

pub(crate) fn rmpopt(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rmpopt"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

pub(crate) fn run(args: &[&str]) {
    assert!(rmpopt(args).status().unwrap().success(), "{args:?}");
}

/// Wall-clock nanoseconds of one run.
pub(crate) fn median(rounds: usize, mut work: impl FnMut()) -> f64 {
    work();
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed().as_nanos() as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The most memory that a run had at once. It prints more than its pipe takes, so at its first byte it
/// has its result, and cannot end before it was looked at.
pub(crate) fn peak_kib(args: &[&str]) -> u64 {
    const PIPE: usize = 4096;
    let (mut from, to) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&from, PIPE).unwrap();
    let mut child = rmpopt(args).stdout(to).spawn().unwrap();
    let mut text = vec![0];
    from.read_exact(&mut text).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    from.read_to_end(&mut text).unwrap();
    assert!(child.wait().unwrap().success() && text.len() > PIPE * 2, "{args:?}");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// Nanoseconds on a CPU of all threads, as the scheduler counts them.
pub(crate) fn cpu_ns(process: u32) -> u64 {
    let tasks = Path::new("/proc").join(process.to_string()).join("task");
    let of = |task: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    fs::read_dir(tasks).unwrap().map(of).sum()
}
