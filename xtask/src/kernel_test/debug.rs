//! The module in the debug kernels: scripts of the stock kernel's machines and some of their own,
//! where the kernel checks its locks, contexts, objects and memory, and lets allocations fail.

use std::time::Instant;

use anyhow::Result;

use super::machines::{MACHINES, Machine, PLAIN};
use super::{Args, Module, Strictness, checker, together};
use crate::kernel_env::{Flavour, KernelEnv};

/// A machine in which allocations of a load with these parameters fail.
const fn failslab(name: &'static str, settings: &'static str) -> Machine {
    let tests = &["fail.each", "fail.probes", "fail.life"];
    Machine { name, memory: 1024, settings, script: "failslab.sh", tests, ..PLAIN }
}

/// Machines for the debug kernels alone.
const OWN: [Machine; 3] = [
    Machine {
        name: "debug",
        memory: 1024,
        script: "debug.sh",
        tests: &[
            "debug.life",
            "debug.trap",
            "debug.ud",
            "debug.v10",
            "debug.sweep",
            "debug.lives",
            "debug.events",
            "debug.reload",
            "debug.unload-busy",
            "debug.held-open",
            "debug.read-while-unloaded",
            "debug.crowd",
            "debug.hotplug.lives",
            "debug.hotplug.down",
            "debug.hotplug.left",
            "debug.hotplug.cleared",
            "debug.hotplug.laws",
        ],
        ..PLAIN
    },
    failslab("failslab", "START='emulate=model emu_mem=4G'"),
    failslab("failslab-up", "START='emulate=trap emu_mem=4G emu_up=left adopt=1'"),
];

/// Machines of the stock kernel that are also booted in a debug kernel.
const fn shared(flavour: Flavour) -> &'static [&'static str] {
    match flavour {
        Flavour::Stock => &[],
        Flavour::Debug => &["probes", "operator", "reload"],
        // Not `reload`, which counts memory: KASAN keeps what was freed.
        Flavour::Kasan => &["emulated", "trap", "operator", "threads", "sizes", "probes"],
    }
}

/// Tests after each script in a debug kernel: nothing that it checks was broken, and it still checks.
const QUIET: [&str; 3] = ["quiet.locks", "quiet.objects", "quiet.leaks"];

/// Builds the module for a debug kernel and boots it there; what is wrong.
pub(super) fn run(args: &Args, env: &KernelEnv) -> Result<Vec<String>> {
    if !args.no_build {
        build(env)?;
    }
    if args.no_boot {
        return Ok(Vec::new());
    }
    let checker = checker()?;
    let shared = MACHINES.iter().filter(|machine| shared(env.flavour()).contains(&machine.name));
    let all = OWN.iter().chain(shared);
    let wanted: Vec<&Machine> = all.filter(|machine| args.wants(machine)).collect();
    together::boot(args, env, &checker, &wanted)
}

fn build(env: &KernelEnv) -> Result<()> {
    let started = Instant::now();
    let log = Module::Emulated.build(env, Strictness::Stock)?;
    for line in log.lines().filter(|line| line.contains("warning") || line.contains("error")) {
        println!("build: {line}");
    }
    println!("built for {} in {:.1} s", env.release()?, started.elapsed().as_secs_f64());
    Ok(())
}

const fn is_stock(env: &KernelEnv) -> bool {
    matches!(env.flavour(), Flavour::Stock)
}

/// What the guest runs after a machine's script.
pub(super) const fn after(env: &KernelEnv) -> &'static str {
    if is_stock(env) { "" } else { ". /quiet.sh\n" }
}

/// The tests in that.
pub(super) const fn quiet(env: &KernelEnv) -> &'static [&'static str] {
    if is_stock(env) { &[] } else { &QUIET }
}

/// Whether the guest's clock goes by its instructions: a debug kernel is slow, and a script's times
/// must not run out for it.
pub(super) fn by_instructions(env: &KernelEnv, machine: &Machine) -> bool {
    !is_stock(env) || machine.by_instructions
}

/// MiB that the kernel's own checks need.
pub(super) const fn memory(env: &KernelEnv) -> u32 {
    if is_stock(env) { 0 } else { 512 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_that_are_shared_exist() {
        for flavour in [Flavour::Debug, Flavour::Kasan] {
            for name in shared(flavour) {
                assert!(MACHINES.iter().any(|machine| machine.name == *name), "{name}");
            }
        }
    }
}
