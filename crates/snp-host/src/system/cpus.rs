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
    let (mut told, mut sockets) = (BTreeSet::new(), 0);
    for cpu in online.iter() {
        if told.contains(&cpu) {
            continue;
        }
        let list = optional(list(root, &format!("{CPU}/cpu{cpu}/topology/package_cpus_list")))?;
        let fits = |list: &CpuList| list.len() <= MAX_LOOKED_AT && list.contains(cpu);
        let Some(list) = list.filter(fits) else { return Ok(None) };
        told.extend(list.iter());
        sockets += 1;
    }
    Ok(Some(sockets))
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
