//! Developer commands, run as `cargo xtask <command>`.

mod bench;
mod ci;
mod deb;
mod fuzz;
mod hardware_doc;
mod kernel_boot;
mod kernel_env;
mod kernel_module;
mod kernel_stock;
mod kernel_test;
mod mutants;
mod pictures;
mod process;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer commands of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One line for each command; each has a file of its own.
#[derive(Debug, Subcommand)]
enum Command {
    /// Measure how fast snp-model is, as ratios against bare loops
    Bench(bench::Args),
    /// Run every check of this repository
    Ci(ci::Args),
    /// Build the Debian package, and with --check install and remove it in a Debian of its own
    Deb(deb::Args),
    /// Feed the parsers random input, each for a time
    Fuzz(fuzz::Args),
    /// Write the generated parts of docs/hardware.md and its picture anew, from the model
    HardwareDoc,
    /// Make the folder in which kernel modules are built for a stock distribution kernel
    KernelEnv(kernel_env::Args),
    /// Build the kernel module, look at its object, and test it in a stock kernel under QEMU
    KernelTest(kernel_test::Args),
    /// Change the code of snp-defs and snp-model in small ways and see whether tests notice
    Mutants(mutants::Args),
    /// Make the pictures in docs/images anew from what the command prints and writes
    Pictures,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::Ci(args) => ci::run(&args),
        Command::Deb(args) => deb::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::HardwareDoc => hardware_doc::run(),
        Command::KernelEnv(args) => kernel_env::run(&args),
        Command::KernelTest(args) => kernel_test::run(&args),
        Command::Mutants(args) => mutants::run(&args),
        Command::Pictures => pictures::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        <super::Cli as clap::CommandFactory>::command().debug_assert();
    }
}
