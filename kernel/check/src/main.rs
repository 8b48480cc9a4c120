//! Checks `rmpopt.ko` on emulated hardware, from user space.
//!
//! It plays a script to the module's `emu/control` file, keeps its own account of which pages are
//! assigned, works out from that account alone what the tables must look like, and compares: the
//! tables of the emulated hardware (`emu/table`) after each step, and what the driver believes
//! (`rmpopt-table`) where the script says `settle`. It shares no code with the module.
//!
//! Usage: `check REGIONS [--hardware] [--kept] SCRIPT`. With `--hardware` only the hardware's tables
//! are compared: not every policy believes something. With `--kept` the host is the one that
//! `rmpopt_emu` keeps, and the script loads and unloads the driver. `check --hog CPU SECONDS` takes a
//! CPU as a real-time task for so long; `check --vm` creates a virtual machine by `/dev/kvm` and closes
//! it; `check --fail-load FILE STEP PARAMETER...` loads the module with every STEP-th allocation failing.

mod account;
mod fail;
mod files;
mod guests;
mod module;
mod play;
#[allow(unsafe_code)] // The only place: some system calls.
mod sys;
mod table;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::files::Host;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, plain): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|argument| argument.starts_with("--"));
    if let ([cpu, seconds], ["--hog"]) = (&plain[..], &options[..]) {
        return hog(cpu, seconds);
    }
    if let ([], ["--vm"]) = (&plain[..], &options[..]) {
        return vm();
    }
    if let ([file, step, parameters @ ..], ["--fail-load"]) = (&plain[..], &options[..]) {
        let Ok(step @ 1..) = step.parse() else { return ExitCode::from(2) };
        return told(file, fail::each(file, step, parameters));
    }
    let known = |option: &&str| matches!(*option, "--hardware" | "--kept");
    let (true, [regions, script]) = (options.iter().all(known), &plain[..]) else {
        eprintln!(
            "usage: check REGIONS [--hardware] [--kept] SCRIPT, or check --hog CPU SECONDS, or check \
             --vm, or check --fail-load FILE STEP PARAMETER..."
        );
        return ExitCode::from(2);
    };
    let has = |option: &str| options.contains(&option);
    let host = if has("--kept") { Host::Kept } else { Host::Driver };
    told(script, play::play(regions, script, !has("--hardware"), host))
}

/// What was seen, as a line.
fn told(what: &str, seen: Result<String, String>) -> ExitCode {
    match seen {
        Ok(told) => {
            println!("check: OK {what}: {told}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            println!("check: RED {what}: {wrong}");
            ExitCode::FAILURE
        }
    }
}

/// Creates a virtual machine and closes it.
fn vm() -> ExitCode {
    match sys::vm() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("/dev/kvm: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Keeps a CPU busy as a real-time task.
fn hog(cpu: &str, seconds: &str) -> ExitCode {
    let (Ok(cpu), Ok(seconds)) = (cpu.parse(), seconds.parse()) else { return ExitCode::from(2) };
    if let Err(error) = sys::take(cpu) {
        eprintln!("taking CPU {cpu}: {error}");
        return ExitCode::FAILURE;
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    ExitCode::SUCCESS
}
