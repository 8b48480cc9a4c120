//! `/sys/devices/system/cpu`: which CPUs there are, and which share a core.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{Got, ReadError, Why};
use super::root::Root;
use crate::cpulist::CpuList;

const CPU: &str = "/sys/devices/system/cpu";
/// Most CPUs whose folders are looked at.
const MAX_LOOKED_AT: u32 = 1 << 14;

/// Most threads of a core that are taken at one CPU's word.
const MAX_THREADS: u32 = 16;

/// CPUs and cores.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpus {
    /// Online.
    pub online: CpuList,
    /// Present, if the kernel says so.
    pub present: Option<CpuList>,
    /// The online CPUs of each core, by the core's first CPU; empty if not known.
    pub cores: BTreeMap<u32, CpuList>,
    /// Sockets, if known.
    pub sockets: Option<u32>,
}

/// A one-line list of CPUs.
pub(super) fn list(root: &Root, path: &str) -> Got<CpuList> {
    let text = root.line(path)?;
    CpuList::parse(&text)
        .map_err(|e| ReadError::new(path, Why::malformed(1, e.expected(), text.trim())))
}

impl Cpus {
    /// Reads it. Topology that is missing leaves `cores` empty.
    pub fn read(root: &Root) -> Got<Self> {
        let online_path = format!("{CPU}/online");
        let online = list(root, &online_path)?;
        if online.is_empty() || online.len() > MAX_LOOKED_AT {
            let why = Why::malformed(1, "1 to 16384 CPUs online", &online.to_string());
            return Err(ReadError::new(&online_path, why));
        }
        let present = optional(list(root, &format!("{CPU}/present")))?;
        let mut cores = Disjoint::default();
        // A core's list names its other CPUs: their own files would say the same.
        let mut told = BTreeSet::new();
        for cpu in online.iter() {
            if told.remove(&cpu) {
                continue;
            }
            let path = format!("{CPU}/cpu{cpu}/topology/thread_siblings_list");
            let Some(siblings) = optional(list(root, &path))? else { break };
            let Some(first) = siblings.iter().next() else {
                let why = Why::malformed(1, "a list with this CPU", "an empty list");
                return Err(ReadError::new(&path, why));
            };
            if siblings.len() <= MAX_THREADS && siblings.contains(cpu) {
                told.extend(siblings.iter().filter(|other| *other > cpu));
            }
            cores.add("core", first, siblings).map_err(|why| ReadError::new(&path, why))?;
        }
        let cores = cores.lists;
        let sockets = match sockets_by_list(root, &online)? {
            None => sockets_by_id(root, cores.keys())?,
            known => known,
        };
        Ok(Self { online, present, cores, sockets })
    }
}

/// Sockets, by the list of CPUs that one CPU of each has: two files instead of one for each core.
fn sockets_by_list(root: &Root, online: &CpuList) -> Got<Option<u32>> {
    let mut sockets = Disjoint::default();
    for cpu in online.iter() {
        if sockets.of.contains_key(&cpu) {
            continue;
        }
        let path = format!("{CPU}/cpu{cpu}/topology/package_cpus_list");
        let fits = |list: &CpuList| list.len() <= MAX_LOOKED_AT && list.contains(cpu);
        let Some(list) = optional(list(root, &path))?.filter(fits) else { return Ok(None) };
        sockets.add("socket", cpu, list).map_err(|why| ReadError::new(&path, why))?;
    }
    Ok(Some(sockets.lists.len() as u32))
}

/// Lists that share no CPU, each by one of its CPUs.
#[derive(Default)]
struct Disjoint {
    lists: BTreeMap<u32, CpuList>,
    /// Each CPU's list.
    of: BTreeMap<u32, u32>,
}

impl Disjoint {
    /// Adds a list, or the same one again. An error names the first CPU that is in another list, too,
    /// and that list.
    fn add(&mut self, what: &str, key: u32, list: CpuList) -> Result<(), Why> {
        if self.lists.get(&key) == Some(&list) {
            return Ok(());
        }
        for cpu in list.iter() {
            if let Some(of) = self.of.insert(cpu, key)
                && let Some(other) = self.lists.get(&of)
            {
                let expected = format!("CPU {cpu} in one {what}, as CPU {of} lists `{other}`");
                return Err(Why::malformed(1, &expected, &list.to_string()));
            }
        }
        self.lists.insert(key, list);
        Ok(())
    }
}

/// Sockets, by their numbers.
fn sockets_by_id<'a>(root: &Root, cores: impl Iterator<Item = &'a u32>) -> Got<Option<u32>> {
    let mut sockets = BTreeSet::new();
    for cpu in cores {
        let id = root.line(&format!("{CPU}/cpu{cpu}/topology/physical_package_id"));
        if let Some(id) = optional(id)? {
            sockets.insert(id.trim().to_owned());
        }
    }
    Ok((!sockets.is_empty()).then_some(sockets.len() as u32))
}

/// What is absent is `None`; other failures stay.
pub(super) fn optional<T>(got: Got<T>) -> Got<Option<T>> {
    match got {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.why == Why::Absent => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sockets of a host with these lists of its CPUs.
    fn sockets(online: &str, lists: &[(u32, &str)]) -> Got<Option<u32>> {
        let dir = tempfile::tempdir().unwrap();
        for (cpu, list) in lists {
            let topology = dir.path().join(format!("sys/devices/system/cpu/cpu{cpu}/topology"));
            std::fs::create_dir_all(&topology).unwrap();
            std::fs::write(topology.join("package_cpus_list"), list).unwrap();
        }
        sockets_by_list(&Root::tree(dir.path()).unwrap(), &CpuList::parse(online).unwrap())
    }

    #[test]
    fn lists_of_cores_share_no_cpu() {
        let read = |lists: &[(u32, &str)]| {
            let dir = tempfile::tempdir().unwrap();
            let cpu = dir.path().join("sys/devices/system/cpu");
            std::fs::create_dir_all(&cpu).unwrap();
            std::fs::write(cpu.join("online"), "0-39").unwrap();
            for (n, list) in lists {
                let topology = cpu.join(format!("cpu{n}/topology"));
                std::fs::create_dir_all(&topology).unwrap();
                std::fs::write(topology.join("thread_siblings_list"), list).unwrap();
            }
            Cpus::read(&Root::tree(dir.path()).unwrap())
        };
        let whole: Vec<(u32, &str)> =
            (0..40).map(|cpu| (cpu, if cpu < 20 { "0-19" } else { "20-39" })).collect();
        // Cores of more threads than are taken at one CPU's word.
        assert_eq!(read(&whole).unwrap().cores.len(), 2);
        let mut other = whole.clone();
        other[25].1 = "19-39";
        let error = read(&other).unwrap_err().to_string();
        assert!(error.ends_with("cpu25/topology/thread_siblings_list:1: `19-39`, expected CPU 19 in one core, as CPU 0 lists `0-19`"), "{error}");
        other[25].1 = "20-38";
        let error = read(&other).unwrap_err().to_string();
        assert!(error.contains("CPU 20 in one core, as CPU 20 lists `20-39`"), "{error}");
        assert!(read(&[(0, "\n")]).unwrap_err().to_string().contains("an empty list"));
    }

    #[test]
    fn lists_of_sockets_share_no_cpu() {
        assert_eq!(sockets("0-7", &[(0, "0-3"), (4, "4-7")]), Ok(Some(2)));
        // The first CPU is offline, or its list is of another.
        assert_eq!(sockets("1-7", &[(1, "1-3"), (4, "4-7")]), Ok(Some(2)));
        assert_eq!(sockets("0-7", &[(0, "1-3"), (4, "4-7")]), Ok(None));
        assert_eq!(sockets("0-7", &[(0, "0-3")]), Ok(None));
        let error = sockets("0-7", &[(0, "0-3"), (4, "2,4-7")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/sys/devices/system/cpu/cpu4/topology/package_cpus_list:1: `2,4-7`, expected CPU 2 in \
             one socket, as CPU 0 lists `0-3`"
        );
        // With the last list that is whole; the others say nothing of it.
        let error = sockets("0-7", &[(0, "0-1"), (2, "2-3"), (4, "3-7")]).unwrap_err().to_string();
        assert!(error.contains("CPU 3 in one socket, as CPU 2 lists `2-3`"), "{error}");
    }
}
