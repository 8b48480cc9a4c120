//! A host's own interfaces, in a folder or a snapshot, as the files of commands would state the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Found, HostError, HostFiles};
use crate::cpulist::CpuList;
use crate::e820::{Entry, Kind, MapSource, MemoryMap, Span};
use crate::kernel_log::{KernelFacts, Rmp, SratRange};
use crate::lscpu::Lscpu;
use crate::numactl::{NumaNode, Numactl};
use crate::state::rmp_by_msrs;
use crate::system::{Cpus, Got, Iomem, Node, Record, Root, System, Why};
use crate::topology::CpuShape;

/// Hosts that were named, with what was read of them.
pub(super) type Systems = Vec<(PathBuf, System)>;

/// Whether a folder holds the interfaces of a host rather than files that somebody sent.
pub(super) fn is_tree(dir: &Path) -> bool {
    ["sys/devices/system/cpu", "sys/devices/system/node", "proc/iomem"]
        .iter()
        .any(|path| dir.join(path).exists())
}

/// Reads such a folder.
pub(super) fn tree(dir: &Path) -> Result<System, HostError> {
    let failed = |error: std::io::Error| HostError::Interface {
        file: dir.display().to_string(),
        error: error.to_string(),
    };
    Ok(System::read(&Root::tree(dir).map_err(failed)?, false))
}

/// Reads a snapshot.
pub(super) fn snapshot(file: &str, text: &str) -> Result<System, HostError> {
    let failed = |error: String| {
        let error = format!("no snapshot of rmpopt: {}", crate::place::quoted_long(&error));
        HostError::Interface { file: file.to_owned(), error }
    };
    Ok(System::read(&Root::snapshot(Record::parse(text).map_err(failed)?), false))
}

impl HostFiles {
    /// Takes from a host's interfaces what no file stated. What was not to be seen is noted; what is
    /// there and says nonsense is an error.
    pub(super) fn interfaces(&mut self, path: &Path, system: &System) -> Result<(), HostError> {
        let file = path.display().to_string();
        let mut reading = Reading { host: self, path, file };
        let cpus = reading.fact("CPUs", &system.cpus)?;
        let nodes = reading.fact("NUMA nodes", &system.nodes)?;
        let iomem = reading.fact("memory map", &system.iomem)?;
        let facts = reading.log(system);
        reading.memory(iomem, system);
        if let Some(cpus) = cpus {
            reading.cpus(cpus, nodes);
        }
        if let Some(nodes) = nodes.filter(|nodes| !nodes.is_empty()) {
            reading.nodes(nodes);
        }
        reading.rmp(facts.and_then(|facts| facts.rmp), system);
        Ok(())
    }
}

struct Reading<'a> {
    host: &'a mut HostFiles,
    path: &'a Path,
    /// The same for notes.
    file: String,
}

impl Reading<'_> {
    /// What an interface says; `None` if it may not be read or is not there.
    fn fact<'s, T>(&mut self, what: &str, got: &'s Got<T>) -> Result<Option<&'s T>, HostError> {
        match got {
            Ok(value) => Ok(Some(value)),
            Err(error) if matches!(error.why, Why::Absent | Why::Forbidden | Why::NotAsked) => {
                self.host.notes.push(format!("{}: {what} not known: {error}", self.file));
                Ok(None)
            }
            Err(error) => {
                Err(HostError::Interface { file: self.file.clone(), error: error.to_string() })
            }
        }
    }

    fn keep<T>(&mut self, slot: impl Fn(&mut HostFiles) -> &mut Option<Found<T>>, value: T) {
        let found = Found { file: self.path.to_owned(), value };
        slot(self.host).get_or_insert(found);
    }

    /// What the log says besides the memory map. A log is long, cut and mixed: where a line of it
    /// cannot be read that is a note.
    fn log(&mut self, system: &System) -> Option<KernelFacts> {
        let (path, text) = system.log.as_ref().ok()?;
        match KernelFacts::parse(path, text) {
            Ok(facts) => {
                if let Some(version) = facts.version.clone() {
                    self.keep(|host| &mut host.kernel, version);
                }
                Some(facts)
            }
            Err(error) => {
                self.host.notes.push(format!("{}: {error}", self.file));
                None
            }
        }
    }

    /// RAM by `/proc/iomem`, else by the map in the log.
    fn memory(&mut self, iomem: Option<&Iomem>, system: &System) {
        let map = match (iomem, &system.log) {
            (Some(iomem), _) if !iomem.ram.is_empty() => Some(map_of(iomem)),
            (_, Ok((path, text))) => match MemoryMap::find(path, text) {
                Ok(map) => map,
                Err(error) => {
                    self.host.notes.push(format!("{}: {error}", self.file));
                    None
                }
            },
            _ => None,
        };
        if let Some(map) = map {
            self.host.notes.extend(map.notes.iter().map(|note| format!("{}: {note}", self.file)));
            self.keep(|host| &mut host.memory, map);
        }
    }

    fn cpus(&mut self, cpus: &Cpus, nodes: Option<&BTreeMap<u32, Node>>) {
        if cpus.cores.is_empty() {
            let note = format!("{}: which CPUs share a core is not known", self.file);
            self.host.notes.push(note);
            return;
        }
        let sockets = cpus.sockets.unwrap_or_else(|| {
            self.host.notes.push(format!("{}: sockets not known, taken as 1", self.file));
            1
        });
        let cores = cpus.cores.len() as u32;
        let threads = cpus.cores.values().map(CpuList::len).max().unwrap_or(1);
        let shape = CpuShape {
            sockets,
            cores_per_socket: cores.div_ceil(sockets.max(1)),
            threads_per_core: threads,
            cpus: cpus.online.len(),
        };
        let on = |list: &CpuList| CpuList::of(list.iter().filter(|cpu| cpus.online.contains(*cpu)));
        let siblings = Some(cpus.cores.values().map(on).collect());
        let nodes = nodes.into_iter().flatten().map(|(n, node)| (*n, on(&node.cpus))).collect();
        let online = Some(cpus.online.clone());
        let read = Lscpu { shape, online, nodes, siblings, model: None, notes: Vec::new() };
        self.keep(|host| &mut host.lscpu, read);
    }

    /// Each node's CPUs and size, where one is stated; and where its memory lies, by blocks.
    fn nodes(&mut self, nodes: &BTreeMap<u32, Node>) {
        let numa = |node: &Node| NumaNode {
            cpus: node.cpus.clone(),
            size_mib: node.total_kib.map(|kib| kib >> 10),
            free_mib: None,
        };
        if nodes.values().any(|node| node.total_kib.is_some_and(|kib| kib > 0)) {
            let all = nodes.iter().map(|(number, node)| (*number, numa(node))).collect();
            let read = Numactl { nodes: all, distances: BTreeMap::new(), notes: Vec::new() };
            self.keep(|host| &mut host.numactl, read);
        }
        let range = |node: u32, span: Span| SratRange {
            node,
            pxm: node,
            span,
            hotplug: false,
            non_volatile: false,
            line: 0,
        };
        let ranges: Vec<SratRange> = nodes
            .iter()
            .flat_map(|(number, node)| node.memory.iter().map(|span| range(*number, *span)))
            .collect();
        if !ranges.is_empty() {
            self.keep(|host| &mut host.srat, ranges);
        }
    }

    /// As the log says, else as the MSRs do.
    fn rmp(&mut self, logged: Option<Rmp>, system: &System) {
        let by_msr = || {
            let state = rmp_by_msrs(system);
            let first = state.spans.first().copied();
            match state.kind? {
                "contiguous" => first.map(Rmp::Contiguous),
                "segmented" => Some(Rmp::Segmented {
                    base_table: first,
                    segment_bytes: state.segment_bytes,
                    segments: Vec::new(),
                }),
                _ => None,
            }
        };
        if let Some(rmp) = logged.or_else(by_msr) {
            self.keep(|host| &mut host.rmp, rmp);
        }
    }
}

/// `/proc/iomem` as a memory map: its top level, RAM and what is reserved.
fn map_of(iomem: &Iomem) -> MemoryMap {
    let entry = |kind: Kind| {
        move |span: &Span| Entry { start: span.start, end_inclusive: span.end_inclusive, kind }
    };
    let ram = iomem.ram.iter().map(entry(Kind::Usable));
    let mut entries: Vec<Entry> =
        ram.chain(iomem.reserved.iter().map(entry(Kind::Reserved))).collect();
    entries.sort_by_key(|entry| entry.start);
    MemoryMap { entries, source: MapSource::Iomem, notes: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sockets of two cores of two threads, a node each, in a folder.
    fn host() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for cpu in 0..8u32 {
            let topology = format!("sys/devices/system/cpu/cpu{cpu}/topology");
            let core = cpu % 4;
            put(
                &dir,
                &format!("{topology}/thread_siblings_list"),
                &format!("{core},{}\n", core + 4),
            );
            put(&dir, &format!("{topology}/physical_package_id"), &format!("{}\n", core / 2));
        }
        put(&dir, "sys/devices/system/cpu/online", "0-7\n");
        put(&dir, "sys/devices/system/memory/block_size_bytes", "80000000\n");
        for (node, cpus) in [(0, "0-1,4-5"), (1, "2-3,6-7")] {
            let folder = format!("sys/devices/system/node/node{node}");
            put(&dir, &format!("{folder}/cpulist"), &format!("{cpus}\n"));
            put(&dir, &format!("{folder}/memory{node}"), "");
            put(&dir, &format!("{folder}/meminfo"), "Node 0 MemTotal:       2000000 kB\n");
        }
        put(
            &dir,
            "proc/iomem",
            "00001000-6fffffff : System RAM\n70000000-7fffffff : Reserved\n80000000-ffffffff : System RAM\n",
        );
        for (msr, value) in [("c0010132", "70000000"), ("c0010133", "0"), ("c0010136", "2401")] {
            put(&dir, &format!("rdmsr-{msr}.txt"), &format!("{value}\n").repeat(8));
        }
        dir
    }

    fn put(dir: &tempfile::TempDir, path: &str, text: &str) {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn list(text: &str) -> CpuList {
        CpuList::parse(text).unwrap()
    }

    #[test]
    fn a_folder_and_its_snapshot_say_the_same() {
        let dir = host();
        let read = HostFiles::read(&[dir.path()]).unwrap();
        let cpus = &read.lscpu.as_ref().unwrap().value;
        let shape = CpuShape { sockets: 2, cores_per_socket: 2, threads_per_core: 2, cpus: 8 };
        assert_eq!(cpus.shape, shape);
        assert_eq!(cpus.siblings.as_ref().unwrap()[1], list("1,5"));
        let numa = &read.numactl.as_ref().unwrap().value;
        assert_eq!((&numa.nodes[&1].cpus, numa.nodes[&1].size_mib), (&list("2-3,6-7"), Some(1953)));
        let blocks = &read.srat.as_ref().unwrap().value;
        assert_eq!((blocks[1].node, blocks[1].span.start), (1, 2 << 30));
        let map = &read.memory.as_ref().unwrap().value;
        assert_eq!((map.source, map.entries.len()), (MapSource::Iomem, 3));
        assert_eq!(map.usable_bytes(), (0x7000_0000 - 0x1000) + 0x8000_0000);
        let rmp = &read.rmp.as_ref().unwrap().value;
        let Rmp::Segmented { base_table: Some(base), .. } = rmp else { panic!("{rmp:?}") };
        assert_eq!(base.start, 0x7000_0000, "as the MSRs say");
        // A node that states no size is one all the same.
        let bare = host();
        for node in 0..2 {
            let folder = format!("sys/devices/system/node/node{node}");
            std::fs::remove_file(bare.path().join(folder).join("meminfo")).unwrap();
        }
        let bare = HostFiles::read(&[bare.path()]).unwrap();
        assert!(bare.numactl.is_none() && bare.lscpu.unwrap().value.nodes.len() == 2);
        assert_eq!(read.notes.len(), 1, "the RAM that the kernel keeps: {:?}", read.notes);

        let root = Root::tree(dir.path()).unwrap().recording();
        System::read(&root, false);
        let text = root.into_record().unwrap().to_text().unwrap();
        let file = dir.path().join("s.json");
        std::fs::write(&file, text).unwrap();
        let kept = HostFiles::read(&[&file]).unwrap();
        let plain = |host: &HostFiles| {
            let (cpus, numa) = (host.lscpu.clone().unwrap(), host.numactl.clone().unwrap());
            let (srat, memory) = (host.srat.clone().unwrap(), host.memory.clone().unwrap());
            (cpus.value, numa.value, srat.value, memory.value, host.rmp.clone().unwrap().value)
        };
        assert_eq!(plain(&kept), plain(&read));
        // A folder of files with a snapshot among them: other files come first.
        let sent = tempfile::tempdir().unwrap();
        std::fs::copy(&file, sent.path().join("a.json")).unwrap();
        let lscpu = "CPU(s): 4\nThread(s) per core: 1\nCore(s) per socket: 4\nSocket(s): 1\n";
        std::fs::write(sent.path().join("lscpu.txt"), lscpu).unwrap();
        let both = HostFiles::read(&[sent.path()]).unwrap();
        assert_eq!(both.lscpu.as_ref().unwrap().value.shape.cpus, 4);
        assert_eq!(both.memory.map(|found| found.value), kept.memory.map(|found| found.value));
    }

    #[test]
    fn what_is_hidden_is_noted_and_what_is_wrong_is_named() {
        let dir = host();
        put(&dir, "proc/iomem", "00000000-00000000 : System RAM\n");
        let log = "[    0.000000] Linux version 7.3.4 (a@b)\n\
                   [    0.000000] BIOS-e820: [mem 0x0000000000000000-0x00000000ffffffff] usable\n";
        put(&dir, "dmesg.txt", log);
        let read = HostFiles::read(&[dir.path()]).unwrap();
        assert!(read.notes.iter().any(|note| note.contains("/proc/iomem: needs root")));
        assert_eq!(read.memory.unwrap().value.source, MapSource::Bios);
        assert_eq!(read.kernel.unwrap().value, "7.3.4");
        put(&dir, "sys/devices/system/cpu/online", "0-\n");
        let error = HostFiles::read(&[dir.path()]).unwrap_err().to_string();
        assert!(error.contains(": /sys/devices/system/cpu/online:1: `0-`, expected"), "{error}");
        let file = dir.path().join("s.json");
        for wrong in [
            "{\"format\":\"rmpopt-snapshot\"",
            "{\"format\":\"rmpopt-snapshot\",\"version\":2,\"taken_s\":0,\"deep\":false,\
             \"redacted\":false,\"items\":{}}",
        ] {
            std::fs::write(&file, wrong).unwrap();
            let error = HostFiles::read(&[&file]).unwrap_err().to_string();
            assert!(error.contains("s.json: no snapshot of rmpopt: "), "{error}");
        }
        // Nothing known at all is no error here: who asked says what is missing.
        std::fs::write(
            &file,
            "{\"format\":\"rmpopt-snapshot\",\"version\":1,\"taken_s\":0,\"deep\":false,\
             \"redacted\":false,\"items\":{}}",
        )
        .unwrap();
        let read = HostFiles::read(&[&file]).unwrap();
        assert!(read.lscpu.is_none() && read.memory.is_none() && read.notes.len() == 3);
    }
}
