//! Checks `rmpopt.ko` on emulated hardware, from user space.
//!
//! It plays a script to the module's `emu/control` file, keeps its own account of which pages are
//! assigned, works out from that account alone what the tables must look like, and compares: the
//! tables of the emulated hardware (`emu/table`) after each step, and what the driver believes
//! (`rmpopt-table`) where the script says `settle`. It shares no code with the module.
//!
//! Usage: `check REGIONS [--hardware] SCRIPT`. With `--hardware` only the hardware's tables are compared: not
//! every policy believes something.

mod account;
mod files;
mod guests;
mod play;
mod table;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, plain): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|argument| argument.starts_with("--"));
    let ([regions, script], [] | ["--hardware"]) = (&plain[..], &options[..]) else {
        eprintln!("usage: check REGIONS [--hardware] SCRIPT");
        return ExitCode::from(2);
    };
    match play::play(regions, script, options.is_empty()) {
        Ok(told) => {
            println!("check: OK {script}: {told}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            println!("check: RED {script}: {wrong}");
            ExitCode::FAILURE
        }
    }
}
