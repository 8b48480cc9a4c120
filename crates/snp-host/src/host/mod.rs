//! All files that describe one host, read and put together.

mod check;
mod interfaces;

use std::fs;
use std::path::{Path, PathBuf};

use self::interfaces::Systems;
use crate::detect::{FileKind, resembles};
use crate::e820::{LogError, MemoryMap};
use crate::hwloc::Hwloc;
use crate::input::{InputError, read_text};
use crate::kernel_log::{CpuTopo, KernelFacts, Rmp, SratRange};
use crate::lscpu::Lscpu;
use crate::numactl::Numactl;
use crate::topology::{CpuShape, TopologyError};

/// Why a host's files could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A file could not be taken as text.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A kernel log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The output of `lscpu`, `numactl` or `lstopo` could not be read.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A file named by the user is none of the kinds read.
    #[error(
        "{file}: not recognised, expected a kernel log (`dmesg`), the output of `LC_ALL=C lscpu`, \
         `numactl --hardware` or `lstopo --of xml`, or a snapshot of rmpopt{hint}"
    )]
    NotRecognised {
        /// The file.
        file: String,
        /// What it resembles, or nothing.
        hint: &'static str,
    },
    /// A directory without any file of the kinds read.
    #[error(
        "{dir}: none of its {files} files is recognised, expected a kernel log (`dmesg`), the \
         output of `LC_ALL=C lscpu`, `numactl --hardware` or `lstopo --of xml`"
    )]
    NothingInside {
        /// The directory.
        dir: String,
        /// How many files it has.
        files: usize,
    },
    /// The interfaces of a host, in a folder or a snapshot, cannot be read or say nonsense.
    #[error("{file}: {error}")]
    Interface {
        /// The folder or the snapshot.
        file: String,
        /// Which interface, and why.
        error: String,
    },
    /// Two files state the same thing differently.
    #[error("{second}: its {what} differs from the one in {first}, expected files of one host")]
    Conflict {
        /// What they both state.
        what: &'static str,
        /// The file read first.
        first: String,
        /// The other.
        second: String,
    },
}

/// Something read, and the file it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    /// The file.
    pub file: PathBuf,
    /// What it holds.
    pub value: T,
}

/// A file of a directory that was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The file.
    pub file: PathBuf,
    /// Why.
    pub reason: String,
}

/// What a host's files say, each thing at most once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostFiles {
    /// The firmware's memory map.
    pub memory: Option<Found<MemoryMap>>,
    /// The output of `lscpu`, or what hwloc's XML says of the same.
    pub lscpu: Option<Found<Lscpu>>,
    /// The output of `numactl --hardware`, or what hwloc's XML says of the same.
    pub numactl: Option<Found<Numactl>>,
    /// Where a kernel log says the RMP table is.
    pub rmp: Option<Found<Rmp>>,
    /// Memory of each NUMA node as a kernel log states it.
    pub srat: Option<Found<Vec<SratRange>>>,
    /// How a kernel log says the CPUs are arranged.
    pub cpu_topo: Option<Found<CpuTopo>>,
    /// The kernel's version as a log states it.
    pub kernel: Option<Found<String>>,
    /// Files of directories that were not read.
    pub ignored: Vec<Ignored>,
    /// What a reader of the results should know, from all readers.
    pub notes: Vec<String>,
}

impl HostFiles {
    /// Reads files and directories. Of a directory each regular file directly in it is looked at,
    /// by name; those that are not recognised are listed in [`HostFiles::ignored`]. A file named
    /// itself must be recognised.
    ///
    /// Two files may hold the same thing (a map, an `lscpu`, a `numactl`, an RMP range, ...) only
    /// if they agree on it.
    ///
    /// A directory with `sys/devices/system` or `proc/iomem` of a host is read by its interfaces, as is
    /// a snapshot. Of these what other files state is not taken, and of several the first counts.
    pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Self, HostError> {
        let (mut host, mut systems) = (Self::default(), Systems::new());
        for path in paths {
            let path = path.as_ref();
            if interfaces::is_tree(path) {
                systems.push((path.to_owned(), interfaces::tree(path)?));
            } else if fs::metadata(path).is_ok_and(|m| m.is_dir()) {
                host.directory(path, &mut systems)?;
            } else {
                let text = read_text(path)?;
                let kind = FileKind::of(&text).ok_or_else(|| HostError::NotRecognised {
                    file: path.display().to_string(),
                    hint: resembles(&text),
                })?;
                host.file(path, kind, &text, &mut systems)?;
            }
        }
        for (path, system) in systems {
            host.interfaces(&path, &system)?;
        }
        check::together(&mut host);
        Ok(host)
    }

    /// Sockets, cores and threads: from `lscpu`, else from a kernel log.
    pub fn cpu_shape(&self) -> Option<CpuShape> {
        let logged = || self.cpu_topo.as_ref().and_then(|f| f.value.shape());
        self.lscpu.as_ref().map(|f| f.value.shape).or_else(logged)
    }

    fn directory(&mut self, dir: &Path, systems: &mut Systems) -> Result<(), HostError> {
        let name = || dir.display().to_string();
        let io = |source| InputError::Io { file: name(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if fs::metadata(&path).is_ok_and(|m| m.is_file()) {
                files.push(path);
            }
        }
        files.sort();
        let mut recognised = 0;
        for path in &files {
            let reason = match read_text(path) {
                Ok(text) => {
                    if let Some(kind) = FileKind::of(&text) {
                        recognised += 1;
                        self.file(path, kind, &text, systems)?;
                        continue;
                    }
                    format!("not recognised{}", resembles(&text))
                }
                Err(error) => error.to_string(),
            };
            self.ignored.push(Ignored { file: path.clone(), reason });
        }
        if recognised == 0 {
            return Err(HostError::NothingInside { dir: name(), files: files.len() });
        }
        Ok(())
    }

    fn file(
        &mut self,
        path: &Path,
        kind: FileKind,
        text: &str,
        systems: &mut Systems,
    ) -> Result<(), HostError> {
        let file = path.display().to_string();
        match kind {
            FileKind::KernelLog => self.log(path, &file, text)?,
            FileKind::Snapshot => {
                systems.push((path.to_owned(), interfaces::snapshot(&file, text)?));
            }
            FileKind::Lscpu => self.lscpu(path, Lscpu::parse(&file, text)?)?,
            FileKind::Numactl => self.numactl(path, Numactl::parse(&file, text)?)?,
            FileKind::Hwloc => {
                let read = Hwloc::parse(&file, text)?;
                self.lscpu(path, read.cpus)?;
                if let Some(numa) = read.numa {
                    self.numactl(path, numa)?;
                }
            }
        }
        Ok(())
    }

    fn lscpu(&mut self, path: &Path, read: Lscpu) -> Result<(), HostError> {
        self.notes.extend(read.notes.iter().cloned());
        // Two kinds of file state it, one of which may leave out which CPUs are on-line.
        let same = |a: &Lscpu, b: &Lscpu| {
            let online = a.online.is_none() || b.online.is_none() || a.online == b.online;
            a.shape == b.shape && a.nodes == b.nodes && online
        };
        let siblings = read.siblings.clone();
        keep(&mut self.lscpu, path, read, "arrangement of CPUs", same)?;
        if let Some(found) = &mut self.lscpu {
            found.value.siblings = found.value.siblings.take().or(siblings);
        }
        Ok(())
    }

    fn numactl(&mut self, path: &Path, read: Numactl) -> Result<(), HostError> {
        self.notes.extend(read.notes.iter().cloned());
        keep(&mut self.numactl, path, read, "NUMA description", same_numa)
    }

    fn log(&mut self, path: &Path, file: &str, text: &str) -> Result<(), HostError> {
        let map = MemoryMap::find(file, text)?;
        let facts = KernelFacts::parse(file, text)?;
        let nothing = map.is_none()
            && facts == KernelFacts { version: facts.version.clone(), ..KernelFacts::default() };
        if nothing {
            self.notes.push(format!(
                "{file}: a kernel log without a memory map or other facts read here (is it cut at \
                 its head?)"
            ));
        }
        self.notes.extend(facts.notes);
        if let Some(map) = map {
            self.notes.extend(map.notes.iter().cloned());
            keep(&mut self.memory, path, map, "memory map", MemoryMap::same_ranges)?;
        }
        if let Some(rmp) = facts.rmp {
            keep(&mut self.rmp, path, rmp, "RMP table range", PartialEq::eq)?;
        }
        if !facts.srat.is_empty() {
            let same = |a: &Vec<SratRange>, b: &Vec<SratRange>| {
                let plain = |r: &SratRange| SratRange { line: 0, ..*r };
                a.iter().map(plain).eq(b.iter().map(plain))
            };
            keep(&mut self.srat, path, facts.srat, "SRAT", same)?;
        }
        if let Some(topo) = facts.cpu_topo {
            keep(&mut self.cpu_topo, path, topo, "CPU topology", PartialEq::eq)?;
        }
        if let (None, Some(version)) = (&self.kernel, facts.version) {
            self.kernel = Some(Found { file: path.to_owned(), value: version });
        }
        Ok(())
    }
}

/// Free memory changes from one moment to the next; the rest does not.
fn same_numa(a: &Numactl, b: &Numactl) -> bool {
    let fixed = |n: &Numactl| -> Vec<_> {
        n.nodes.iter().map(|(id, node)| (*id, node.cpus.clone(), node.size_mib)).collect()
    };
    a.distances == b.distances && fixed(a) == fixed(b)
}

fn keep<T>(
    slot: &mut Option<Found<T>>,
    path: &Path,
    value: T,
    what: &'static str,
    same: impl Fn(&T, &T) -> bool,
) -> Result<(), HostError> {
    match slot {
        Some(found) if same(&found.value, &value) => Ok(()),
        Some(found) => Err(HostError::Conflict {
            what,
            first: found.file.display().to_string(),
            second: path.display().to_string(),
        }),
        None => {
            *slot = Some(Found { file: path.to_owned(), value });
            Ok(())
        }
    }
}
