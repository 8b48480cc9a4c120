//! `rmpopt`: RMPOPT for Linux on an emulated SEV-SNP host.
//!
//! Thin: `cli` reads the command line, `commands` calls the libraries, `view` renders what they
//! return. `compare` is what `rmpopt compare` runs and shows. `scenario`, `host_input`, `trace_input` and
//! `costs_input` turn files into the engine's terms, `codes` what is asked on the command line.

#![forbid(unsafe_code)]

mod atomic;
mod cli;
mod codes;
mod commands;
mod compare;
mod costs_input;
mod date;
mod exit;
mod export;
mod host_input;
mod output;
mod scenario;
mod trace_input;
mod units;
mod view;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::try_parse().unwrap_or_else(|error| output::usage(&error));
    cli.color.apply();
    let result = match &cli.command {
        cli::Command::Run(args) => commands::run::run(args),
        cli::Command::Compare(args) => commands::compare::run(args),
        cli::Command::Decode(args) => commands::decode::run(args),
        cli::Command::Calibrate(args) => commands::calibrate::run(args),
        cli::Command::Status(args) => commands::host::status(args),
        cli::Command::Doctor(args) => commands::host::doctor(args),
        cli::Command::Regions(args) => commands::host::regions(args),
        cli::Command::Top(args) => commands::top::run(args),
        cli::Command::Snapshot(args) => commands::snapshot::run(args),
        cli::Command::Host(command) => commands::live::run(command),
        cli::Command::Export(args) => commands::export::run(args),
        cli::Command::Labels(args) => commands::labels::run(args),
        cli::Command::Completions(args) => commands::generate::completions(args),
        cli::Command::Man(args) => commands::generate::man(args),
        cli::Command::Replay(args) => commands::replay::run(args),
    };
    result.unwrap_or_else(|failure| {
        output::error(&failure);
        failure.code()
    })
}
