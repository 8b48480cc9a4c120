//! What is in the files.

use std::fmt::Write as _;
use std::sync::Arc;

use fuser::Errno;
use rmpopt_core::{MILLISECOND, table};
use snp_defs::{Hwcr, RmpCfg, Syscfg, msr};
use snp_lab::boot::RmpLayout;
use snp_lab::scenario::GuestKind;

use crate::cpuid;
use crate::machine::Machine;
use crate::node::{Kind, Node};
use crate::sim::Sim;
use crate::text;
use crate::tree::{BLOCK, CACHE, CACHES, FIRST_PID, File, NODE, TOPOLOGY, Tree, What};

/// Cores that share an L3 (as on EPYCs with dense cores).
pub(crate) const L3_CORES: u32 = 16;
/// Rows of a table of distances (ACPI's SLIT): a node to itself, in its socket, in another.
const DISTANCES: [u32; 3] = [10, 12, 32];
/// SYSCFG of a host whose firmware has set up memory encryption, without SNP_EN and VMPL_EN; with
/// both it is `0x3fc0000`, as live hosts show.
const SYSCFG_BASE: u64 = 0xFC_0000;

/// What an open file reads.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// This text.
    Text(Arc<[u8]>),
    /// The CPU's MSRs: the offset is the number, 8 bytes each.
    Msr(u32),
    /// The CPU's CPUID: the offset is leaf and subleaf, 16 bytes each.
    Cpuid(u32),
}

/// The files of a host.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) tree: Tree,
    pub(crate) sim: Sim,
}

impl Files {
    /// What the file holds at this moment.
    pub(crate) fn open(&self, node: Node) -> Result<Content, Errno> {
        let Node { kind, a, .. } = node;
        match kind {
            // As the kernel's devices answer for a CPU that is offline.
            Kind::Msr | Kind::Cpuid if !self.tree.board.look().is_online(a) => Err(Errno::ENXIO),
            Kind::Msr => Ok(Content::Msr(a)),
            Kind::Cpuid => Ok(Content::Cpuid(a)),
            Kind::Fixed => match self.tree.what(a).ok_or(Errno::ENOENT)? {
                What::Text(text) => Ok(Content::Text(Arc::clone(text))),
                What::File(file) => {
                    self.file(*file).map(|text| Content::Text(text.into_bytes().into()))
                }
                _ => Err(Errno::EISDIR),
            },
            _ => {
                let text = self.part(node)?;
                Ok(Content::Text(text.into_bytes().into()))
            }
        }
    }

    /// Reads an open file.
    pub(crate) fn read(&self, content: &Content, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        match content {
            Content::Text(text) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
                let end = start.saturating_add(size as usize).min(text.len());
                Ok(text.get(start..end).unwrap_or_default().to_vec())
            }
            // arch/x86/kernel/msr.c: whole registers; every one read is that of the offset.
            Content::Msr(cpu) => {
                let number = u32::try_from(offset).map_err(|_| Errno::EIO)?;
                let count = whole(size, 8)?;
                let value = self.rdmsr(*cpu, number)?;
                Ok(value.to_le_bytes().repeat(count))
            }
            // arch/x86/kernel/cpuid.c: whole leaves, one after the other.
            Content::Cpuid(cpu) => {
                let count = whole(size, 16)?;
                let mut bytes = Vec::new();
                for at in (0..count as u64).map(|n| offset.wrapping_add(n)) {
                    let (leaf, subleaf) = (at as u32, (at >> 32) as u32);
                    bytes.extend(cpuid::bytes(&self.tree.machine, *cpu, leaf, subleaf));
                }
                Ok(bytes)
            }
        }
    }

    /// Writes to a file. Returns the bytes taken.
    pub(crate) fn write(&self, node: Node, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let Node { kind, a, .. } = node;
        let word = || std::str::from_utf8(data.trim_ascii()).map_err(|_| Errno::EINVAL);
        match kind {
            Kind::Msr => {
                let number = u32::try_from(offset).map_err(|_| Errno::EIO)?;
                whole(data.len() as u32, 8)?;
                for value in data.as_chunks::<8>().0 {
                    self.wrmsr(a, number, u64::from_le_bytes(*value))?;
                }
            }
            Kind::CpuOnline => {
                let on = flag(word()?)?;
                let done = self.ask(move |world| world.live.set_online(a, on))?;
                done.map_err(|_| Errno::EBUSY)?;
            }
            Kind::Fixed => match self.tree.what(a) {
                // A pass that is under way is not begun twice.
                Some(What::File(File::Action)) => match table::read_number(word()?.as_bytes()) {
                    Some(1) => self.ask(|world| {
                        if !world.live.is_busy() {
                            world.live.request_pass();
                        }
                    })?,
                    _ => return Err(Errno::EINVAL),
                },
                Some(What::File(File::Pause)) => {
                    let on = flag(word()?)?;
                    self.ask(move |world| world.live.set_paused(on))?;
                }
                _ => return Err(Errno::EACCES),
            },
            _ => return Err(Errno::EACCES),
        }
        Ok(data.len() as u32)
    }

    /// Asks the host, if it lives.
    fn ask<R: Send + 'static>(
        &self,
        question: impl for<'a> FnOnce(&mut crate::sim::World<'a>) -> R + Send + 'static,
    ) -> Result<R, Errno> {
        let answer = self.sim.ask(move |world| world.alive().map(|()| question(world)));
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(Errno::EIO),
        }
    }

    // ---- registers ----

    fn rdmsr(&self, cpu: u32, number: u32) -> Result<u64, Errno> {
        let core = self.tree.machine.topology.core_of(cpu).ok_or(Errno::ENXIO)?;
        let rmp = &self.tree.machine.boot.rmp;
        Ok(match number {
            msr::RMPOPT_BASE => self.ask(move |world| world.live.rmpopt_base(core))?,
            msr::SYSCFG => {
                let on = self.ask(move |world| world.live.snp_en(core))?;
                SYSCFG_BASE | if on { Syscfg::SNP_EN | Syscfg::VMPL_EN } else { 0 }
            }
            msr::HWCR => Hwcr::SMM_LOCK,
            msr::RMP_BASE => match rmp {
                RmpLayout::Contiguous(table) => table.base().get(),
                RmpLayout::Segmented { base, .. } => base.get(),
                RmpLayout::Unset { base, .. } => *base,
            },
            msr::RMP_END => match rmp {
                RmpLayout::Contiguous(table) => table.end().get(),
                RmpLayout::Segmented { .. } => 0,
                RmpLayout::Unset { end, .. } => *end,
            },
            msr::RMP_CFG => match rmp {
                RmpLayout::Segmented { shift, .. } => RmpCfg::segmented(*shift).raw(),
                _ => 0,
            },
            // The CPU has no such register, or the model has not.
            _ => return Err(Errno::EIO),
        })
    }

    /// `EIO` is #GP(0), or a register that the model does not let change.
    fn wrmsr(&self, cpu: u32, number: u32, value: u64) -> Result<(), Errno> {
        let core = self.tree.machine.topology.core_of(cpu).ok_or(Errno::ENXIO)?;
        if number == msr::RMPOPT_BASE {
            let done = self.ask(move |world| world.live.write_rmpopt_base(core, value))?;
            return done.map_err(|_| Errno::EIO);
        }
        let old = self.rdmsr(cpu, number)?;
        // Once SNP_EN is set, writes of SYSCFG are silently ignored.
        let ignored = number == msr::SYSCFG && Syscfg(old).snp_en();
        if ignored || old == value { Ok(()) } else { Err(Errno::EIO) }
    }

    // ---- texts that change ----

    fn file(&self, file: File) -> Result<String, Errno> {
        let machine = &self.tree.machine;
        let shown = || self.tree.board.look();
        Ok(match file {
            File::Online => text::list(online(machine, &shown())),
            File::Offline => {
                let shown = shown();
                text::list(machine.cpus.iter().copied().filter(|cpu| !shown.is_online(*cpu)))
            }
            File::Cpuinfo => {
                let shown = shown();
                let mut siblings = vec![0usize; machine.topology.sockets() as usize];
                let socket =
                    |cpu| machine.topology.core_of(cpu).map(|c| machine.topology.socket_of(c));
                for of in online(machine, &shown).filter_map(socket) {
                    if let Some(count) = siblings.get_mut(of as usize) {
                        *count += 1;
                    }
                }
                let mut all = String::new();
                for cpu in online(machine, &shown) {
                    let of = socket(cpu).and_then(|of| siblings.get(of as usize)).copied();
                    text::cpuinfo(machine, cpu, of.unwrap_or(0), &mut all);
                }
                all
            }
            File::Table => self.ask(|world| world.live.table())?,
            File::Stats => {
                let (counters, further) =
                    self.ask(|world| (world.live.counters(), world.live.further_counts()))?;
                let mut text = String::new();
                for (counter, value) in counters {
                    let _ = writeln!(text, "{counter} {value}");
                }
                for (name, value) in further {
                    let _ = writeln!(text, "{name} {value}");
                }
                text
            }
            File::Regions => self.regions()?,
            File::Action => {
                let busy = self.ask(|world| world.live.is_busy())?;
                format!("RMP optimization in progress: {}\n", if busy { "Yes" } else { "No" })
            }
            File::Pause => format!("{}\n", u8::from(self.ask(|world| world.live.is_paused())?)),
            File::Asids => {
                let snp = shown().guests.iter().filter(|guest| guest.asid > 0).count();
                format!("sev 0\nsev_es {snp}\n")
            }
        })
    }

    fn regions(&self) -> Result<String, Errno> {
        let (status, life, ago, rows) = self.ask(|world| {
            let live = &world.live;
            (live.status(), live.driver_life(), live.changed_ago(), live.beliefs())
        })?;
        // Variants of the policy differ in how cores follow; the module's name for it is one.
        let first = if status.first_pass_over { "over" } else { "under way" };
        let mut text = format!(
            "# policy tracked, {life}, first pass {first}, last change {} ms ago\n",
            ago / MILLISECOND
        );
        for (region, (mib, clean, cores)) in rows.into_iter().enumerate() {
            let clean = if clean { "clean" } else { "unknown" };
            let _ = writeln!(text, "{region} {mib} {clean} {cores}");
        }
        Ok(text)
    }

    // ---- parts of CPUs, nodes, memory, processes ----

    fn part(&self, node: Node) -> Result<String, Errno> {
        let Node { kind, a, b } = node;
        let machine = &self.tree.machine;
        match kind {
            Kind::CpuOnline => Ok(format!("{}\n", u8::from(self.tree.board.look().is_online(a)))),
            Kind::TopologyFile => {
                let name = TOPOLOGY.get(usize::from(b)).ok_or(Errno::ENOENT)?;
                self.topology(a, name).ok_or(Errno::ENOENT)
            }
            Kind::CacheFile => {
                let name = CACHE.get(usize::from(b & 0xFF)).ok_or(Errno::ENOENT)?;
                self.cache(a, usize::from(b >> 8), name).ok_or(Errno::ENOENT)
            }
            Kind::NodeFile => match *NODE.get(usize::from(b)).ok_or(Errno::ENOENT)? {
                "meminfo" => self.meminfo(a),
                "distance" => Ok(distances(machine, a)),
                name => {
                    let shown = self.tree.board.look();
                    let here = |cpu: &u32| machine.node_of_cpu(*cpu) == Some(a);
                    let cpus = online(machine, &shown).filter(here);
                    let limit = machine.topology.cpu_limit();
                    Ok(if name == "cpumap" { text::mask(cpus, limit) } else { text::list(cpus) })
                }
            },
            Kind::BlockFile => Ok(match *BLOCK.get(usize::from(b)).ok_or(Errno::ENOENT)? {
                "state" => "online\n".into(),
                "phys_index" => format!("{a:08x}\n"),
                "online" => "1\n".into(),
                _ => "0\n".into(),
            }),
            Kind::Cmdline => self.cmdline(a).ok_or(Errno::ENOENT),
            _ => Err(Errno::EISDIR),
        }
    }

    fn topology(&self, cpu: u32, name: &str) -> Option<String> {
        let machine = &self.tree.machine;
        let topology = &machine.topology;
        let core = topology.core_of(cpu)?;
        let (socket, local) = machine.place_of_core(core);
        match name {
            "core_id" => return Some(format!("{local}\n")),
            "physical_package_id" => return Some(format!("{socket}\n")),
            "die_id" => return Some("0\n".into()),
            _ => {}
        }
        let shown = self.tree.board.look();
        let mut cpus: Vec<u32> = if name.starts_with("thread") || name.starts_with("core_cpus") {
            topology.cpus(core).to_vec()
        } else {
            topology.cores_of_socket(socket).flat_map(|core| topology.cpus(core)).copied().collect()
        };
        cpus.retain(|cpu| shown.is_online(*cpu));
        cpus.sort_unstable();
        Some(if name.ends_with("_list") {
            text::list(cpus.into_iter())
        } else {
            text::mask(cpus.into_iter(), topology.cpu_limit())
        })
    }

    fn cache(&self, cpu: u32, index: usize, name: &str) -> Option<String> {
        let machine = &self.tree.machine;
        let topology = &machine.topology;
        let core = topology.core_of(cpu)?;
        let (socket, local) = machine.place_of_core(core);
        let &(level, kind, kib, ways) = CACHES.get(index)?;
        let shared = level == 3;
        let group = local / L3_CORES;
        Some(match name {
            "level" => format!("{level}\n"),
            "type" => format!("{kind}\n"),
            "size" => format!("{kib}K\n"),
            "ways_of_associativity" => format!("{ways}\n"),
            "coherency_line_size" => "64\n".into(),
            "physical_line_partition" => "1\n".into(),
            "number_of_sets" => format!("{}\n", kib * 1024 / (ways * 64)),
            "id" if shared => {
                let per_socket = topology.cores().div_ceil(topology.sockets().max(1));
                format!("{}\n", socket * per_socket.div_ceil(L3_CORES) + group)
            }
            "id" => format!("{core}\n"),
            _ => {
                let shown = self.tree.board.look();
                let of_group = |core: &u32| machine.place_of_core(*core).1 / L3_CORES == group;
                let mut cpus: Vec<u32> = if shared {
                    let cores = topology.cores_of_socket(socket).filter(of_group);
                    cores.flat_map(|core| topology.cpus(core)).copied().collect()
                } else {
                    topology.cpus(core).to_vec()
                };
                cpus.retain(|cpu| shown.is_online(*cpu));
                cpus.sort_unstable();
                match name {
                    "shared_cpu_list" => text::list(cpus.into_iter()),
                    _ => text::mask(cpus.into_iter(), topology.cpu_limit()),
                }
            }
        })
    }

    fn meminfo(&self, node: u32) -> Result<String, Errno> {
        let machine = &self.tree.machine;
        let total = machine.memory.node_bytes(node) / 1024;
        let guests = self.ask(|world| world.live.guest_bytes())?;
        let used = guests.iter().find(|(n, _)| *n == node).map_or(0, |(_, bytes)| bytes / 1024);
        let free = total.saturating_sub(used);
        let mut text = String::new();
        for (name, kib) in [("MemTotal:", total), ("MemFree:", free), ("MemUsed:", total - free)] {
            let _ = writeln!(text, "Node {node} {name:<14} {kib:>10} kB");
        }
        for name in ["HugePages_Total:", "HugePages_Free:", "HugePages_Surp:"] {
            let _ = writeln!(text, "Node {node} {name} {:>5}", 0);
        }
        Ok(text)
    }

    /// A guest's process, as a VMM would have been started for it.
    fn cmdline(&self, pid: u32) -> Option<String> {
        let number = pid.checked_sub(FIRST_PID)? as usize;
        let shown = self.tree.board.look();
        let guest = shown.guests.iter().find(|guest| guest.number == number)?;
        let spec = &guest.spec;
        let name = text::harmless(&spec.name).replace(',', ",,");
        let mut args = vec![
            "qemu-system-x86_64".to_owned(),
            "-name".to_owned(),
            format!("guest={name},debug-threads=on"),
            "-m".to_owned(),
            format!("size={}k", spec.memory / 1024),
            "-smp".to_owned(),
            spec.vcpus.to_string(),
        ];
        if spec.kind == GuestKind::Snp {
            let object = "sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=6";
            args.extend(["-object".to_owned(), object.to_owned()]);
        }
        Some(args.iter().fold(String::new(), |all, arg| all + arg + "\0"))
    }
}

fn online<'a>(
    machine: &'a Machine,
    shown: &'a crate::machine::Shown,
) -> impl Iterator<Item = u32> + 'a {
    machine.cpus.iter().copied().filter(|cpu| shown.is_online(*cpu))
}

/// How many whole units of `unit` bytes are asked for.
fn whole(size: u32, unit: u32) -> Result<usize, Errno> {
    if size.is_multiple_of(unit) { Ok((size / unit) as usize) } else { Err(Errno::EINVAL) }
}

fn flag(word: &str) -> Result<bool, Errno> {
    match word {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}

fn distances(machine: &Machine, from: u32) -> String {
    let socket = |node| {
        let core = machine.topology.cores_of_node(node).first().copied();
        core.map(|core| machine.topology.socket_of(core))
    };
    let near = |to: u32| match (socket(from), socket(to)) {
        _ if from == to => DISTANCES[0],
        (Some(a), Some(b)) if a == b => DISTANCES[1],
        _ => DISTANCES[2],
    };
    let row: Vec<String> = machine.nodes.iter().map(|&to| near(to).to_string()).collect();
    row.join(" ") + "\n"
}
