//! `cargo xtask kernel-spike`: the control plane as a kernel module, loaded in a stock kernel.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::kernel_boot::Boot;
use crate::kernel_env::{self, KernelEnv};
use crate::kernel_module::{Inspection, LARGE_FRAME, Module, Strictness};

const SPIKE: Module = Module { folder: "kernel/spike", name: "rmpopt_spike" };

/// The module's last line when everything it checks held.
const OK: &str = "rmpopt_spike: OK ";

/// What the guest does: load the module, give its timers time, unload it; then once more, unloading
/// it while it is at work.
const SCRIPT: &str = "\
dmesg -c > /dev/null
insmod /rmpopt_spike.ko; echo guest: insmod $?
n=0
while [ $n -lt 100 ] && ! dmesg | grep -q -E 'rmpopt_spike: (OK|FAILED) '; do
    usleep 100000
    n=$((n+1))
done
rmmod rmpopt_spike; echo guest: rmmod $?
insmod /rmpopt_spike.ko; usleep 100000; rmmod rmpopt_spike; echo guest: rmmod while busy $?
dmesg";

/// Largest frames listed.
const FRAMES: usize = 8;

/// Arguments of `kernel-spike`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Build only, without booting the module
    #[arg(long)]
    no_boot: bool,
    /// Virtual CPUs of the machine
    #[arg(long, default_value_t = 4)]
    cpus: u32,
    /// Seconds after which a boot is given up
    #[arg(long, default_value_t = 120)]
    limit: u64,
}

/// Builds, inspects and boots the module.
pub(crate) fn run(args: &Args) -> Result<()> {
    let env = kernel_env::ensure(false)?;
    let started = Instant::now();
    let lint = SPIKE.build(&env, Strictness::Lint);
    let log = SPIKE.build(&env, Strictness::Stock)?;
    for line in log.lines().filter(|line| line.contains("warning") || line.contains("error")) {
        println!("build: {line}");
    }
    println!("built {} in {:.1} s", SPIKE.name, started.elapsed().as_secs_f64());
    print_inspection(&env, &SPIKE.inspect(&env)?)?;

    let mut wrong = Vec::new();
    if let Err(error) = lint {
        wrong.push(format!("clippy with warnings as errors: {error:#}"));
    }
    if !args.no_boot {
        wrong.extend(boot(args, &env)?);
    }
    if wrong.is_empty() {
        println!("kernel-spike: passed on {}", env.kernel().release);
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

/// The findings in short; the whole list is left in a file beside the logs.
fn print_inspection(env: &KernelEnv, found: &Inspection) -> Result<()> {
    let file = env.logs().join(format!("{}-object.txt", SPIKE.name));
    fs::write(&file, found.to_string())?;
    for (symbol, places) in &found.panics {
        println!("can panic: {symbol}, from {} places", places.len());
    }
    if found.panics.is_empty() {
        println!("can panic: nothing");
    }
    for function in &found.floats {
        println!("floating point: {function}");
    }
    for (bytes, function) in found.frames.iter().take(FRAMES) {
        let note = if *bytes > LARGE_FRAME { "  <- large" } else { "" };
        println!("stack frame: {bytes:5} {function}{note}");
    }
    println!("all of it: {}", file.display());
    Ok(())
}

/// Boots the machine; what went wrong.
fn boot(args: &Args, env: &KernelEnv) -> Result<Vec<String>> {
    let boot = Boot {
        name: SPIKE.name,
        files: &[SPIKE.file(env)],
        script: SCRIPT,
        cpus: args.cpus,
        memory: 512,
        limit: Duration::from_secs(args.limit),
    };
    let console = boot.run(env)?;
    println!("machine: {} CPUs, {:.1} s", args.cpus, console.time.as_secs_f64());
    for line in console.lines.iter().filter(|line| !line.trim().is_empty()) {
        println!("    {line}");
    }
    let mut wrong = Vec::new();
    if !console.finished {
        wrong.push(format!("the machine did not come to its end within {} s", args.limit));
    }
    for (said, problem) in [
        ("guest: insmod 0", "the module did not load"),
        (OK, "the module did not print its OK line"),
        ("guest: rmmod 0", "the module did not unload"),
        ("guest: rmmod while busy 0", "the module did not unload in the middle of its work"),
    ] {
        if !console.says(said) {
            wrong.push(problem.to_owned());
        }
    }
    if console.says("stopped=false") {
        wrong.push("the control plane had not stopped when the module went".to_owned());
    }
    wrong.extend(console.trouble().iter().map(|line| format!("the kernel said: {line}")));
    Ok(wrong)
}
