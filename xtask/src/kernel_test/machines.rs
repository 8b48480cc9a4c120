//! The machines in which `cargo xtask kernel-test` tests the module, and what must be passed in each.

use crate::kernel_module::Module;

/// A machine and what is tested in it.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    pub(crate) module: Module,
    pub(crate) cpu: &'static str,
    pub(crate) smp: &'static str,
    pub(crate) memory: u32,
    /// The guest's clock goes by its instructions: no time runs out while each RMPOPT is an exception.
    pub(crate) by_instructions: bool,
    /// Lines before the script.
    pub(crate) settings: &'static str,
    /// Modules of the stock kernel that it takes with it.
    pub(crate) stock: &'static [&'static str],
    /// The script in `kernel/check/guest`.
    pub(crate) script: &'static str,
    /// Tables of `rmpopt run --table` that it takes with it: when each run ends.
    pub(crate) lab: &'static [&'static str],
    /// Whether it takes `rmpopt` with it, and snapshots of the lab's host at these seconds.
    pub(crate) tool: Option<&'static [u32]>,
    /// The tests that must be passed.
    pub(crate) tests: &'static [&'static str],
    /// What the console must say, also after the script.
    pub(crate) says: &'static [&'static str],
}

const GATE: [&str; 3] = ["gate.enodev", "gate.nothing-left", "gate.log"];

/// Modules of the stock kernel that the module cannot be loaded without.
pub(crate) const DEPENDS: [&str; 1] = ["configfs"];

/// Machines that are booted with `--slow` or `--full` only.
pub(crate) const SLOW: [&str; 2] = ["many-sizes", "many-trap-sizes"];

/// What most machines are.
pub(super) const PLAIN: Machine = Machine {
    name: "",
    module: Module::Emulated,
    cpu: "max",
    smp: "4",
    memory: 512,
    by_instructions: false,
    settings: "",
    stock: &[],
    script: "",
    lab: &[],
    tool: None,
    tests: &[],
    says: &[],
};

/// A machine with emulated memories of three sizes.
const fn sizes(name: &'static str, smp: &'static str, memory: u32) -> Machine {
    let tests = &["size.1g", "size.64g", "size.2t"];
    Machine { name, smp, memory, script: "sizes.sh", tests, ..PLAIN }
}

/// The same, in which RMPOPT's bytes are executed.
const fn trapped(machine: Machine) -> Machine {
    Machine { settings: "HOW=emulate=trap", by_instructions: true, ..machine }
}

/// A machine in which the packaged module is not loaded, for this reason.
const fn gate(
    name: &'static str,
    cpu: &'static str,
    smp: &'static str,
    settings: &'static str,
) -> Machine {
    Machine {
        name,
        module: Module::Packaged,
        cpu,
        smp,
        settings,
        script: "gate.sh",
        tests: &GATE,
        ..PLAIN
    }
}

pub(crate) const MACHINES: [Machine; 18] = [
    gate("gate-guest", "max", "4", "REASON='this is a guest: the RMP belongs to its host'"),
    gate(
        "gate-leaf",
        "max,-hypervisor",
        "1",
        "REASON='CPUID leaf 0x8000001f does not exist here (highest extended leaf 0x8000000a)'",
    ),
    gate(
        "gate-vendor",
        "max,-hypervisor,vendor=GenuineIntel",
        "1",
        "REASON='the CPU is not an AMD CPU'",
    ),
    Machine {
        name: "emulated",
        memory: 1024,
        script: "emulated.sh",
        tests: &[
            "life",
            "lives",
            "ud",
            "v10",
            "ud.v10",
            "yields",
            "life-keeps,clears",
            "life-keeps,keeps",
            "life-keeps,misses",
            "life-gp,keeps",
            "sweep",
            "memory",
            "memory.told",
            "red-drop-clear",
            "red-stale-cache",
            "red-skip-follower",
            "param.policy",
            "param.emu_mem",
            "found.fresh",
            "found.left",
            "found.adopted",
            "found.other",
            "found.masked",
            "found.unmasked",
            "found.killed",
            "found.told",
            "reload",
            "unload-busy",
            "held-open",
            "cpus-and-machine-stay",
            "cpus-stay-while-it-waits",
            "sleep-refused",
            "hotplug.lives",
            "hotplug.down",
            "hotplug.left",
            "hotplug.cleared",
            "hotplug.laws",
            "hotplug.without-snp-en",
            "crowd",
            "busy",
            "hog",
        ],
        says: &["rmpopt: the machine goes down: stopped"],
        ..PLAIN
    },
    Machine {
        name: "reload",
        script: "reload.sh",
        tests: &[
            "reload.host-is-given",
            "reload.host-stays",
            "reload.clears,clears",
            "reload.clears,keeps",
            "reload.clears,misses",
            "reload.keeps,clears",
            "reload.keeps,keeps",
            "reload.keeps,misses",
            "reload.gp,clears",
            "reload.gp,keeps",
            "reload.gp,misses",
            "reload.warm",
            "reload.early",
            "reload.vmalloc",
            "reload.slab",
            "reload.percpu",
            "reload.nothing-left",
        ],
        ..PLAIN
    },
    Machine {
        name: "trap",
        memory: 1024,
        by_instructions: true,
        script: "trap.sh",
        tests: &[
            "trap.life",
            "trap.lives",
            "trap.v10",
            "trap.ud",
            "trap.ud-told-once",
            "trap.counted",
            "trap.unloads",
            "trap.gone",
            "trap.parameter",
        ],
        ..PLAIN
    },
    Machine {
        name: "trap-clzero",
        // Forced: QEMU emulates no CLZERO, and would take it away.
        cpu: "max,+clzero,x-force-features=on",
        smp: "1",
        script: "trap-clzero.sh",
        tests: &["clzero.refused", "clzero.told", "clzero.nothing-left", "clzero.fixup"],
        ..PLAIN
    },
    Machine {
        name: "operator",
        memory: 1024,
        script: "operator.sh",
        tests: &[
            "config.description",
            "config.action",
            "config.numbers",
            "config.refuses",
            "config.parameters",
            "config.mkdir",
            "pause",
            "pause.over-init",
            "kill",
            "kill-gp,keeps",
            "kill-keeps,misses",
            "kill.busy",
            "kill.v10",
            "cpus.parameter",
            "cpus",
            "leaders",
            "cap",
            "cap.lifted",
            "config.crowd",
            "config.held-open",
        ],
        ..PLAIN
    },
    Machine {
        name: "threads",
        cpu: "max,+topoext",
        smp: "4,sockets=1,cores=2,threads=2",
        script: "threads.sh",
        tests: &[
            "threads.machine",
            "threads.once-a-core",
            "threads.life",
            "threads.lives",
            "threads.hotplug.lives",
            "threads.hotplug.down",
            "threads.hotplug.left",
            "threads.hotplug.cleared",
            "threads.hotplug.laws",
        ],
        ..PLAIN
    },
    sizes("sizes", "4", 1024),
    trapped(sizes("trap-sizes", "4", 1024)),
    Machine {
        name: "many",
        smp: "64",
        memory: 1536,
        script: "many.sh",
        tests: &["many.life", "many.v10", "many.lives", "many.counts-tracked", "many.counts-v10"],
        ..PLAIN
    },
    sizes("many-sizes", "64", 1536),
    trapped(sizes("many-trap-sizes", "64", 1536)),
    Machine {
        name: "table",
        script: "table.sh",
        tests: &["table.two-guests", "table.one-guest", "table.differ"],
        lab: &["8s", "40s"],
        ..PLAIN
    },
    Machine {
        name: "tool",
        memory: 768,
        settings: "LAST=3 LAB=yes",
        stock: &["msr", "cpuid"],
        script: "tool.sh",
        tests: &[
            "tool.settled",
            "tool.guests",
            "tool.snapshot",
            "tool.stats",
            "tool.table",
            "tool.regions",
            "tool.no-rmpopt",
            "tool.emulated",
            "tool.lab-two-guests",
            "tool.guest-ends",
            "tool.lab-one-guest",
            "tool.gone",
        ],
        tool: Some(&[8, 40]),
        ..PLAIN
    },
    Machine {
        name: "tool-many",
        smp: "64",
        memory: 1536,
        settings: "LAST=63 LAB=no",
        stock: &["msr", "cpuid"],
        script: "tool.sh",
        tests: &[
            "tool.settled",
            "tool.guests",
            "tool.snapshot",
            "tool.stats",
            "tool.table",
            "tool.regions",
            "tool.no-rmpopt",
            "tool.emulated",
            "tool.guest-ends",
            "tool.gone",
        ],
        tool: Some(&[]),
        ..PLAIN
    },
    Machine {
        name: "probes",
        stock: &["irqbypass", "ccp", "kvm", "kvm-amd"],
        script: "probes.sh",
        tests: &[
            "gate.ebusy",
            "probe.rmp_make_shared",
            "probe.rmp_make_private",
            "probe.psmash",
            "probe.absent.__sev_do_cmd_locked",
            "probe.absent.snp_shutdown_on_panic",
            "probe.absent.snp_decommission_context",
            "probe.called",
            "probe.marks",
            "probe.cost",
            "probe.life",
            "probe.kvm-loads",
            "probe.ccp-followed",
            "probe.panic-followed",
            "probe.kvm-followed",
            "probe.vm",
            "probe.kvm-unloads",
            "probe.ccp-let-go",
            "probe.kvm-loads-again",
            "probe.kvm-followed-again",
            "probe.kvm-found",
            "probe.unloads",
            "probe.kvm-unloads-after",
        ],
        ..PLAIN
    },
];
