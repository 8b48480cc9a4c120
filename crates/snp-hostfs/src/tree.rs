//! The tree: which files and folders there are, and what each is.

use std::sync::Arc;

use rmpopt_core::{Config, MILLISECOND};
use snp_lab::boot::RmpLayout;

use crate::machine::{Board, Driver, Machine};
use crate::node::{Kind, Node};
use crate::text;

/// Files of `cpuN/topology`.
pub(crate) const TOPOLOGY: [&str; 13] = [
    "core_cpus",
    "core_cpus_list",
    "core_id",
    "core_siblings",
    "core_siblings_list",
    "die_cpus",
    "die_cpus_list",
    "die_id",
    "package_cpus",
    "package_cpus_list",
    "physical_package_id",
    "thread_siblings",
    "thread_siblings_list",
];

/// Files of `cpuN/cache/indexN`.
pub(crate) const CACHE: [&str; 10] = [
    "coherency_line_size",
    "id",
    "level",
    "number_of_sets",
    "physical_line_partition",
    "shared_cpu_list",
    "shared_cpu_map",
    "size",
    "type",
    "ways_of_associativity",
];

/// Caches of a CPU: level, type, KiB, ways; the last is shared by [`crate::content::L3_CORES`] cores.
/// Sizes and ways are Turin's.
pub(crate) const CACHES: [(u32, &str, u32, u32); 4] = [
    (1, "Data", 48, 12),
    (1, "Instruction", 32, 8),
    (2, "Unified", 1024, 16),
    (3, "Unified", 32768, 16),
];

/// Files of `nodeN`.
pub(crate) const NODE: [&str; 4] = ["cpulist", "cpumap", "distance", "meminfo"];

/// Files of `memoryN`.
pub(crate) const BLOCK: [&str; 5] = ["online", "phys_device", "phys_index", "removable", "state"];

/// Processes of guests have numbers from here on.
pub(crate) const FIRST_PID: u32 = 10_000;

/// A file whose text changes while the host lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum File {
    /// `cpu/online`.
    Online,
    /// `cpu/offline`.
    Offline,
    /// `/proc/cpuinfo`.
    Cpuinfo,
    /// `rmpopt-table`.
    Table,
    /// Our module's `stats`.
    Stats,
    /// Our module's `regions`.
    Regions,
    /// configfs `action`.
    Action,
    /// configfs `pause`.
    Pause,
    /// `misc.current`.
    Asids,
}

/// What is at a fixed path.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A folder with nothing but fixed paths.
    Folder,
    /// `/dev/cpu`.
    Devices,
    /// `/sys/devices/system/cpu`.
    Cpus,
    /// `/sys/devices/system/node`.
    Nodes,
    /// `/sys/devices/system/memory`.
    Blocks,
    /// `/proc`.
    Processes,
    /// A text that never changes.
    Text(Arc<[u8]>),
    /// Another.
    File(File),
}

#[derive(Debug)]
struct Fixed {
    name: String,
    mode: u16,
    what: What,
    children: Vec<u32>,
}

/// What something is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// A folder.
    Folder,
    /// A file, with the bits of its mode.
    File(u16),
    /// A link to there.
    Link(String),
}

/// The tree of one host.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) machine: Machine,
    pub(crate) board: Board,
    fixed: Vec<Fixed>,
}

impl Tree {
    pub(crate) fn new(machine: Machine, board: Board) -> Self {
        let top =
            Fixed { name: String::new(), mode: 0o555, what: What::Folder, children: Vec::new() };
        let mut tree = Self { machine, board, fixed: vec![top] };
        tree.put("dev/cpu", What::Devices);
        tree.put("proc", What::Processes);
        tree.put_mode("proc/iomem", 0o400, text_of(text::iomem(&tree.machine)));
        tree.put("proc/cpuinfo", What::File(File::Cpuinfo));
        tree.put_mode("var/log/dmesg", 0o640, text_of(text::boot_log(&tree.machine)));
        tree.put_system();
        tree.put_modules();
        tree.put_driver();
        tree
    }

    fn put(&mut self, path: &str, what: What) {
        let mode = match what {
            What::Text(_) | What::File(_) => 0o444,
            _ => 0o555,
        };
        self.put_mode(path, mode, what);
    }

    fn put_mode(&mut self, path: &str, mode: u16, what: What) {
        let mut at = 0;
        for part in path.split('/') {
            at = self.fixed_child(at, part).unwrap_or_else(|| self.new_folder(at, part));
        }
        if let Some(entry) = self.fixed.get_mut(at as usize) {
            entry.mode = mode;
            entry.what = what;
        }
    }

    fn new_folder(&mut self, parent: u32, name: &str) -> u32 {
        let child = self.fixed.len() as u32;
        let (name, children) = (name.to_owned(), Vec::new());
        self.fixed.push(Fixed { name, mode: 0o555, what: What::Folder, children });
        if let Some(parent) = self.fixed.get_mut(parent as usize) {
            parent.children.push(child);
        }
        child
    }

    fn fixed_child(&self, parent: u32, name: &str) -> Option<u32> {
        let children = &self.fixed.get(parent as usize)?.children;
        let is_it = |child: &&u32| self.fixed.get(**child as usize).is_some_and(|f| f.name == name);
        children.iter().find(is_it).copied()
    }

    fn put_system(&mut self) {
        const CPU: &str = "sys/devices/system/cpu";
        let machine = &self.machine;
        let all = text::list(machine.cpus.iter().copied());
        let has_cpu = text::list(
            machine
                .topology
                .nodes()
                .filter(|node| !machine.topology.cores_of_node(*node).is_empty()),
        );
        let mut has_memory = machine.memory.nodes();
        has_memory.sort_unstable();
        let has_memory = text::list(has_memory.into_iter());
        let nodes = text::list(machine.nodes.iter().copied());
        let kernel_max = machine.topology.cpu_limit().max(8192) - 1;
        let smt = machine.topology.cpu_count() > machine.topology.cores();
        let block = format!("{:x}\n", machine.block_bytes);
        self.put(CPU, What::Cpus);
        self.put("sys/devices/system/cpu/online", What::File(File::Online));
        self.put("sys/devices/system/cpu/offline", What::File(File::Offline));
        for (name, text) in [
            ("possible", all.clone()),
            ("present", all),
            ("isolated", "\n".into()),
            ("kernel_max", format!("{kernel_max}\n")),
            ("smt/active", format!("{}\n", u8::from(smt))),
            ("smt/control", if smt { "on\n" } else { "notsupported\n" }.into()),
        ] {
            self.put(&format!("{CPU}/{name}"), text_of(text));
        }
        self.put("sys/devices/system/node", What::Nodes);
        for (name, text) in [
            ("online", nodes.clone()),
            ("possible", nodes),
            ("has_cpu", has_cpu),
            ("has_memory", has_memory.clone()),
            ("has_normal_memory", has_memory),
        ] {
            self.put(&format!("sys/devices/system/node/{name}"), text_of(text));
        }
        self.put("sys/devices/system/memory", What::Blocks);
        self.put("sys/devices/system/memory/block_size_bytes", text_of(block));
        for size in [2048, 1_048_576] {
            for name in ["nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages"] {
                let path = format!("sys/kernel/mm/hugepages/hugepages-{size}kB/{name}");
                self.put(&path, text_of("0\n".into()));
            }
        }
        let capacity = format!("sev 0\nsev_es {}\n", snp_lab::rmp::ASIDS);
        self.put("sys/fs/cgroup/misc.capacity", text_of(capacity));
        self.put("sys/fs/cgroup/misc.current", What::File(File::Asids));
    }

    fn put_modules(&mut self) {
        let snp = self.machine.boot.linux_refuses().is_none();
        let is_set = !matches!(self.machine.boot.rmp, RmpLayout::Unset { .. });
        let flag = |on: bool| if on { "Y\n" } else { "N\n" }.to_owned();
        for (name, text) in [
            ("kvm_amd/parameters/sev", flag(true)),
            ("kvm_amd/parameters/sev_es", flag(true)),
            ("kvm_amd/parameters/sev_snp", flag(snp && is_set)),
            ("ccp/parameters/psp_init_on_probe", flag(true)),
        ] {
            self.put(&format!("sys/module/{name}"), text_of(text));
        }
        if self.machine.driver != Driver::Ours {
            return;
        }
        // A Rust module shows none of its parameters.
        self.put("sys/module/rmpopt/initstate", text_of("live\n".into()));
    }

    fn put_driver(&mut self) {
        const CONFIGFS: &str = "sys/kernel/config/rmpopt";
        let driver = self.machine.driver;
        if let Some(folder) = driver.debugfs() {
            let folder = format!("sys/kernel/debug/{folder}");
            let mode = if driver == Driver::Ours { 0o400 } else { 0o444 };
            self.put_mode(&format!("{folder}/rmpopt-table"), mode, What::File(File::Table));
            if driver == Driver::Ours {
                self.put_mode(&format!("{folder}/stats"), mode, What::File(File::Stats));
                self.put_mode(&format!("{folder}/regions"), mode, What::File(File::Regions));
            }
        }
        if matches!(driver, Driver::Ours | Driver::First) {
            let about = "[RMPOPT]\n\necho 1 > action to perform RMP optimization.\n";
            self.put_mode(&format!("{CONFIGFS}/action"), 0o660, What::File(File::Action));
            self.put(&format!("{CONFIGFS}/description"), text_of(about.into()));
        }
        if driver == Driver::Ours {
            self.put_mode(&format!("{CONFIGFS}/pause"), 0o660, What::File(File::Pause));
            for (name, value) in numbers(&self.machine.config) {
                self.put(&format!("{CONFIGFS}/{name}"), text_of(format!("{value}\n")));
            }
        }
    }

    pub(crate) fn what(&self, place: u32) -> Option<&What> {
        self.fixed.get(place as usize).map(|fixed| &fixed.what)
    }

    /// The child of that name.
    pub(crate) fn lookup(&self, parent: Node, name: &str) -> Option<Node> {
        let Node { kind, a, b } = parent;
        let child = match kind {
            Kind::Fixed => self.fixed_lookup(a, name)?,
            Kind::Device => match name {
                "msr" => Node::of(Kind::Msr, a),
                "cpuid" => Node::of(Kind::Cpuid, a),
                _ => return None,
            },
            Kind::Cpu => match name {
                "online" => Node::of(Kind::CpuOnline, a),
                "topology" => Node::of(Kind::Topology, a),
                "cache" => Node::of(Kind::Cache, a),
                _ => Node::part(Kind::CpuNode, a, numbered(name, "node")? as u16),
            },
            Kind::Topology => Node::part(Kind::TopologyFile, a, place(&TOPOLOGY, name)?),
            Kind::Cache => Node::part(Kind::CacheIndex, a, numbered(name, "index")? as u16),
            Kind::CacheIndex => Node::part(Kind::CacheFile, a, b << 8 | place(&CACHE, name)?),
            Kind::Node => {
                if let Some(file) = place(&NODE, name) {
                    Node::part(Kind::NodeFile, a, file)
                } else if let Some(cpu) = numbered(name, "cpu") {
                    Node::part(Kind::NodeCpu, cpu, a as u16)
                } else {
                    Node::part(Kind::NodeBlock, numbered(name, "memory")?, a as u16)
                }
            }
            Kind::Block => match place(&BLOCK, name) {
                Some(file) => Node::part(Kind::BlockFile, a, file),
                None => Node::part(Kind::BlockNode, a, numbered(name, "node")? as u16),
            },
            Kind::Process if name == "cmdline" => Node::of(Kind::Cmdline, a),
            _ => return None,
        };
        self.shape(child).is_some().then_some(child)
    }

    fn fixed_lookup(&self, folder: u32, name: &str) -> Option<Node> {
        if let Some(child) = self.fixed_child(folder, name) {
            return Some(Node::of(Kind::Fixed, child));
        }
        Some(match self.what(folder)? {
            What::Devices => Node::of(Kind::Device, numbered(name, "")?),
            What::Cpus => Node::of(Kind::Cpu, numbered(name, "cpu")?),
            What::Nodes => Node::of(Kind::Node, numbered(name, "node")?),
            What::Blocks => Node::of(Kind::Block, numbered(name, "memory")?),
            What::Processes => Node::of(Kind::Process, numbered(name, "")?),
            _ => return None,
        })
    }

    /// What it is; `None` if it is not there (any more).
    pub(crate) fn shape(&self, node: Node) -> Option<Shape> {
        let Node { kind, a, b } = node;
        let machine = &self.machine;
        let online = || self.board.look().is_online(a);
        let file = |mode| Some(Shape::File(mode));
        match kind {
            Kind::Fixed => {
                let fixed = self.fixed.get(a as usize)?;
                Some(match fixed.what {
                    What::Text(_) | What::File(_) => Shape::File(fixed.mode),
                    _ => Shape::Folder,
                })
            }
            // Opening them is what fails for a CPU that is offline.
            Kind::Msr if machine.has_cpu(a) => file(0o600),
            Kind::Cpuid if machine.has_cpu(a) => file(0o444),
            Kind::Cpu if machine.has_cpu(a) => Some(Shape::Folder),
            // The first CPU cannot go.
            Kind::CpuOnline if a > 0 && machine.has_cpu(a) => file(0o644),
            Kind::CpuNode if machine.node_of_cpu(a) == Some(b.into()) => {
                Some(Shape::Link(format!("../../node/node{b}")))
            }
            Kind::Device | Kind::Topology | Kind::Cache if online() => Some(Shape::Folder),
            Kind::TopologyFile if online() => file(0o444),
            Kind::CacheIndex if usize::from(b) < CACHES.len() && online() => Some(Shape::Folder),
            Kind::CacheFile if usize::from(b >> 8) < CACHES.len() && online() => file(0o444),
            Kind::Node if machine.nodes.contains(&a) => Some(Shape::Folder),
            Kind::NodeCpu if machine.node_of_cpu(a) == Some(b.into()) && online() => {
                Some(Shape::Link(format!("../../cpu/cpu{a}")))
            }
            Kind::NodeBlock if machine.node_of_block(a) == Some(b.into()) => {
                Some(Shape::Link(format!("../../memory/memory{a}")))
            }
            Kind::Block if machine.node_of_block(a).is_some() => Some(Shape::Folder),
            Kind::NodeFile | Kind::BlockFile => file(0o444),
            Kind::BlockNode if machine.node_of_block(a) == Some(b.into()) => {
                Some(Shape::Link(format!("../../node/node{b}")))
            }
            Kind::Process if self.has_process(a) => Some(Shape::Folder),
            Kind::Cmdline if self.has_process(a) => file(0o444),
            _ => None,
        }
    }

    fn has_process(&self, pid: u32) -> bool {
        let number = pid.checked_sub(FIRST_PID).map(|number| number as usize);
        self.board.look().guests.iter().any(|guest| Some(guest.number) == number)
    }

    /// What is in a folder.
    pub(crate) fn list(&self, folder: Node) -> Vec<(String, Node)> {
        let Node { kind, a, b } = folder;
        let mut all: Vec<(String, Node)> = Vec::new();
        let machine = &self.machine;
        match kind {
            Kind::Fixed => self.list_fixed(a, &mut all),
            Kind::Device => {
                all.push(("cpuid".into(), Node::of(Kind::Cpuid, a)));
                all.push(("msr".into(), Node::of(Kind::Msr, a)));
            }
            Kind::Cpu => {
                all.push(("cache".into(), Node::of(Kind::Cache, a)));
                all.push(("online".into(), Node::of(Kind::CpuOnline, a)));
                all.push(("topology".into(), Node::of(Kind::Topology, a)));
                if let Some(node) = machine.node_of_cpu(a) {
                    all.push((format!("node{node}"), Node::part(Kind::CpuNode, a, node as u16)));
                }
            }
            Kind::Topology => files(&TOPOLOGY, Kind::TopologyFile, a, 0, &mut all),
            Kind::Cache => {
                let index = |n: u16| (format!("index{n}"), Node::part(Kind::CacheIndex, a, n));
                all.extend((0..CACHES.len() as u16).map(index));
            }
            Kind::CacheIndex => files(&CACHE, Kind::CacheFile, a, b << 8, &mut all),
            Kind::Node => {
                files(&NODE, Kind::NodeFile, a, 0, &mut all);
                let here = |cpu: &&u32| machine.node_of_cpu(**cpu) == Some(a);
                let node = a as u16;
                let cpu = |cpu: &u32| (format!("cpu{cpu}"), Node::part(Kind::NodeCpu, *cpu, node));
                all.extend(machine.cpus.iter().filter(here).map(cpu));
                let here = machine.blocks.iter().filter(|(_, of)| *of == a);
                all.extend(here.map(|&(block, _)| {
                    (format!("memory{block}"), Node::part(Kind::NodeBlock, block, node))
                }));
            }
            Kind::Block => {
                files(&BLOCK, Kind::BlockFile, a, 0, &mut all);
                if let Some(node) = machine.node_of_block(a) {
                    all.push((format!("node{node}"), Node::part(Kind::BlockNode, a, node as u16)));
                }
            }
            Kind::Process => all.push(("cmdline".into(), Node::of(Kind::Cmdline, a))),
            _ => {}
        }
        all.retain(|(_, node)| self.shape(*node).is_some());
        all
    }

    fn list_fixed(&self, folder: u32, all: &mut Vec<(String, Node)>) {
        let Some(fixed) = self.fixed.get(folder as usize) else { return };
        let children = fixed.children.iter().filter_map(|&child| {
            Some((self.fixed.get(child as usize)?.name.clone(), Node::of(Kind::Fixed, child)))
        });
        all.extend(children);
        let machine = &self.machine;
        match fixed.what {
            What::Devices => {
                all.extend(
                    machine.cpus.iter().map(|&c| (c.to_string(), Node::of(Kind::Device, c))),
                );
            }
            What::Cpus => {
                all.extend(
                    machine.cpus.iter().map(|&c| (format!("cpu{c}"), Node::of(Kind::Cpu, c))),
                );
            }
            What::Nodes => {
                let node = |&n: &u32| (format!("node{n}"), Node::of(Kind::Node, n));
                all.extend(machine.nodes.iter().map(node));
            }
            What::Blocks => {
                let block = |&(b, _): &(u32, u32)| (format!("memory{b}"), Node::of(Kind::Block, b));
                all.extend(machine.blocks.iter().map(block));
            }
            What::Processes => {
                let shown = self.board.look();
                let pids = shown.guests.iter().map(|guest| FIRST_PID + guest.number as u32);
                all.extend(pids.map(|pid| (pid.to_string(), Node::of(Kind::Process, pid))));
            }
            _ => {}
        }
    }

    /// Whether it is there as long as the host lives.
    pub(crate) fn is_lasting(node: Node) -> bool {
        matches!(
            node.kind,
            Kind::Fixed
                | Kind::Cpu
                | Kind::CpuOnline
                | Kind::CpuNode
                | Kind::Node
                | Kind::NodeFile
                | Kind::NodeBlock
                | Kind::Block
                | Kind::BlockFile
                | Kind::BlockNode
        )
    }
}

fn text_of(text: String) -> What {
    What::Text(text.into_bytes().into())
}

/// Our driver's numbers, by the module's names and units (docs/kernel-module.md).
fn numbers(config: &Config) -> [(&'static str, u64); 11] {
    let ms = |ns: u64| ns / MILLISECOND;
    [
        ("delay_ms", ms(config.delay_ns)),
        ("bound_ms", ms(config.bound_ns)),
        ("merge_ms", ms(config.merge_ns)),
        ("follow_ms", ms(config.follow_ns)),
        ("tick_ms", ms(config.tick_ns)),
        ("hold_us", config.hold_ns / 1000),
        ("slow_us", config.slow_ns / 1000),
        ("followers", config.followers_at_once.into()),
        ("audit_ms", ms(config.audit_ns)),
        ("cap_ms", ms(config.cap_ns_per_minute)),
        ("sweep", config.sweep_per_second.into()),
    ]
}

fn place(names: &[&str], name: &str) -> Option<u16> {
    names.iter().position(|known| *known == name).map(|place| place as u16)
}

fn files(names: &[&str], kind: Kind, a: u32, base: u16, all: &mut Vec<(String, Node)>) {
    let file =
        |(n, name): (usize, &&str)| ((*name).to_owned(), Node::part(kind, a, base | n as u16));
    all.extend(names.iter().enumerate().map(file));
}

/// `node7`: 7; without leading zeros, so that each name is one file's.
fn numbered(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    let plain =
        digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    if plain { digits.parse().ok().filter(|n| *n < 1 << 24) } else { None }
}
