//! `/sys/devices/system/cpu`: which CPUs there are, and which share a core.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{Got, ReadError, Why};
use super::root::Root;
use crate::cpulist::CpuList;
use crate::topology::MAX_CPUS;

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
        let mut cores = BTreeMap::new();
        // A core's list names its other CPUs: their own files would say the same.
        let mut told = BTreeSet::new();
        for cpu in online.iter() {
            if told.remove(&cpu) {
                continue;
            }
            let topology = format!("{CPU}/cpu{cpu}/topology");
            let siblings = optional(list(root, &format!("{topology}/thread_siblings_list")))?;
            let Some(siblings) = siblings else { break };
            let Some(first) = siblings.iter().next().filter(|first| *first < MAX_CPUS) else {
                let why = Why::malformed(1, "a list with this CPU", "an empty list");
                return Err(ReadError::new(&topology, why));
            };
            if siblings.len() <= MAX_THREADS && siblings.contains(cpu) {
                told.extend(siblings.iter().filter(|other| *other > cpu));
            }
            cores.entry(first).or_insert(siblings);
        }
        let sockets = match sockets_by_list(root, &online)? {
            None => sockets_by_id(root, cores.keys())?,
            known => known,
        };
        Ok(Self { online, present, cores, sockets })
    }
}

/// Sockets, by the list of CPUs that one CPU of each has: two files instead of one for each core.
fn sockets_by_list(root: &Root, online: &CpuList) -> Got<Option<u32>> {
    // CPUs of the lists so far, each with the CPU whose list it was.
    let mut told: BTreeMap<u32, u32> = BTreeMap::new();
    let mut lists: BTreeMap<u32, CpuList> = BTreeMap::new();
    for cpu in online.iter() {
        if told.contains_key(&cpu) {
            continue;
        }
        let path = format!("{CPU}/cpu{cpu}/topology/package_cpus_list");
        let fits = |list: &CpuList| list.len() <= MAX_LOOKED_AT && list.contains(cpu);
        let Some(list) = optional(list(root, &path))?.filter(fits) else { return Ok(None) };
        for other in list.iter() {
            if let Some(of) = told.insert(other, cpu)
                && let Some(before) = lists.get(&of)
            {
                let expected = format!("CPU {other} in one socket, as CPU {of} lists `{before}`");
                return Err(ReadError::new(&path, Why::malformed(1, &expected, &list.to_string())));
            }
        }
        lists.insert(cpu, list);
    }
    Ok(Some(lists.len() as u32))
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
