//! SNP guests: processes, and what libvirt says of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::place::quoted;
use crate::system::{Domain, GuestProcess, Libvirt, System, Why};

/// SNP guests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Guests {
    /// Guests that run: processes whose command line starts an SNP guest; where processes cannot be
    /// seen, libvirt's running domains; null if neither can be seen.
    pub processes: Option<Vec<Guest>>,
    /// Guests that libvirt has defined and that do not run; null if its files cannot be seen.
    pub defined: Option<Vec<DefinedGuest>>,
    /// ASIDs in use and there, by kind; SNP guests count as `sev_es`.
    pub asids: BTreeMap<String, (u64, Option<u64>)>,
    /// Files of libvirt that could not be read, and what they say that does not fit.
    #[serde(skip)]
    pub(super) doubts: Vec<String>,
}

/// A guest that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Guest {
    /// Process id.
    pub pid: u64,
    /// The program.
    pub vmm: &'static str,
    /// The guest's name, control characters shown: libvirt's, else the command line's.
    pub name: Option<String>,
    /// Memory as asked for.
    pub memory_bytes: Option<u64>,
    /// What libvirt says of it; null if it knows nothing of this process.
    pub libvirt: Option<LibvirtGuest>,
}

/// A guest that does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DefinedGuest {
    /// The program that would run it.
    pub vmm: &'static str,
    /// Its name, control characters shown.
    pub name: String,
    /// Its memory.
    pub memory_bytes: Option<u64>,
    /// The rest.
    pub libvirt: LibvirtGuest,
}

/// What libvirt says of a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LibvirtGuest {
    /// Its UUID.
    pub uuid: Option<String>,
    /// `running`, `paused` and so on; null if it does not run.
    pub state: Option<String>,
    /// Virtual CPUs.
    pub vcpus: Option<u32>,
    /// The policy given to the firmware, hexadecimal.
    pub policy: Option<String>,
    /// The CPU's model or mode.
    pub cpu: Option<String>,
    /// Sizes of the huge pages behind its memory, in bytes; empty: of the default size; null: none.
    pub hugepages_bytes: Option<Vec<u64>>,
    /// How its memory is bound to nodes (`strict`, `preferred`, ...).
    pub numa_mode: Option<String>,
    /// Those nodes, as a list.
    pub numa_nodes: Option<String>,
}

impl LibvirtGuest {
    fn of(domain: &Domain) -> Self {
        let numa = domain.numa.as_ref();
        Self {
            uuid: domain.uuid.clone(),
            state: domain.state.as_deref().map(quoted),
            vcpus: domain.vcpus,
            policy: domain.policy.map(|policy| format!("{policy:#x}")),
            cpu: domain.cpu.as_deref().map(quoted),
            hugepages_bytes: domain.hugepages.clone(),
            numa_mode: numa.map(|(mode, _)| quoted(mode)),
            numa_nodes: numa.map(|(_, nodes)| nodes.to_string()),
        }
    }
}

/// Joins processes and libvirt's files by process id.
pub(super) fn guests(system: &System) -> Guests {
    let mut doubts = Vec::new();
    let libvirt = system.libvirt.as_ref().ok();
    let mut by_pid: BTreeMap<u64, &Domain> = BTreeMap::new();
    for domain in libvirt.iter().flat_map(|libvirt| &libvirt.running) {
        let Some(pid) = domain.pid else { continue };
        if let Some(other) = by_pid.get(&pid) {
            let (name, other) = (quoted(&domain.name), quoted(&other.name));
            doubts.push(format!("libvirt: {name} and {other} both run as process {pid}"));
        } else {
            by_pid.insert(pid, domain);
        }
    }
    let processes = match &system.guests {
        Ok(found) => {
            let all = found.iter().map(|process| running(process, by_pid.remove(&process.pid)));
            let all = Some(all.collect());
            for (pid, domain) in by_pid {
                let name = quoted(&domain.name);
                doubts
                    .push(format!("libvirt: {name} runs as process {pid}, which is no SNP guest"));
            }
            all
        }
        Err(_) => libvirt.map(|_| by_pid.values().filter_map(|domain| unseen(domain)).collect()),
    };
    for error in libvirt.iter().flat_map(|libvirt| &libvirt.unread) {
        if error.why != Why::Absent {
            doubts.push(error.to_string());
        }
    }
    let asids = system.asids.as_ref().ok().cloned().unwrap_or_default();
    let asids = asids.into_iter().map(|(name, a)| (quoted(&name), (a.used, a.capacity))).collect();
    Guests { processes, defined: libvirt.map(defined), asids, doubts }
}

fn running(process: &GuestProcess, domain: Option<&Domain>) -> Guest {
    let named = domain.map(|domain| &domain.name).or(process.name.as_ref());
    Guest {
        pid: process.pid,
        vmm: process.vmm,
        name: named.map(|name| quoted(name)),
        memory_bytes: process.memory_bytes.or_else(|| domain?.memory_bytes),
        libvirt: domain.map(LibvirtGuest::of),
    }
}

/// A guest that only libvirt shows.
fn unseen(domain: &Domain) -> Option<Guest> {
    Some(Guest {
        pid: domain.pid?,
        vmm: domain.vmm,
        name: Some(quoted(&domain.name)),
        memory_bytes: domain.memory_bytes,
        libvirt: Some(LibvirtGuest::of(domain)),
    })
}

/// Domains that do not run: by UUID, or by name where a file states none.
fn defined(libvirt: &Libvirt) -> Vec<DefinedGuest> {
    fn key(domain: &Domain) -> (&'static str, bool, &str) {
        let uuid = domain.uuid.as_deref();
        (domain.vmm, uuid.is_some(), uuid.unwrap_or(&domain.name))
    }
    let run: BTreeSet<_> = libvirt.running.iter().map(key).collect();
    let idle = libvirt.defined.iter().filter(|domain| !run.contains(&key(domain)));
    let guest = |domain: &Domain| DefinedGuest {
        vmm: domain.vmm,
        name: quoted(&domain.name),
        memory_bytes: domain.memory_bytes,
        libvirt: LibvirtGuest::of(domain),
    };
    idle.map(guest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::{ReadError, Record, Root};

    fn domain(name: &str, uuid: Option<&str>, pid: Option<u64>) -> Domain {
        Domain {
            name: name.to_owned(),
            uuid: uuid.map(str::to_owned),
            vmm: "qemu",
            pid,
            memory_bytes: Some(1 << 30),
            policy: Some(0x30000),
            ..Domain::default()
        }
    }

    fn process(pid: u64, name: &str) -> GuestProcess {
        GuestProcess { pid, vmm: "qemu", name: Some(name.to_owned()), memory_bytes: None }
    }

    fn seen(processes: Result<Vec<GuestProcess>, Why>, libvirt: Result<Libvirt, Why>) -> Guests {
        let mut system = System::read(&Root::snapshot(Record::default()), false);
        system.guests = processes.map_err(|why| ReadError::new("/proc", why));
        system.libvirt = libvirt.map_err(|why| ReadError::new("/run/libvirt/qemu", why));
        guests(&system)
    }

    fn names(guests: &Guests) -> Vec<(u64, String)> {
        let all = guests.processes.iter().flatten();
        all.map(|guest| (guest.pid, guest.name.clone().unwrap_or_default())).collect()
    }

    #[test]
    fn each_guest_once() {
        let libvirt = || Libvirt {
            running: vec![domain("web", Some("u1"), Some(7)), domain("gone", Some("u2"), Some(8))],
            defined: vec![
                domain("web-renamed", Some("u1"), None),
                domain("idle", Some("u3"), None),
                domain("web", None, None),
            ],
            unread: vec![ReadError::new("/run/libvirt/qemu/x.xml", Why::malformed(1, "a", "b"))],
        };
        let both = seen(Ok(vec![process(7, "by-line"), process(9, "alone")]), Ok(libvirt()));
        assert_eq!(names(&both), [(7, "web".to_owned()), (9, "alone".to_owned())]);
        let web = &both.processes.as_ref().unwrap()[0];
        assert_eq!(web.memory_bytes, Some(1 << 30), "the line did not say");
        let policy = web.libvirt.as_ref().unwrap().policy.as_deref();
        assert_eq!(policy, Some("0x30000"));
        let idle: Vec<_> = both.defined.as_ref().unwrap().iter().map(|d| d.name.clone()).collect();
        assert_eq!(idle, ["idle", "web"], "a file without a UUID goes by its name, others do not");
        assert_eq!(both.doubts.len(), 2, "{:?}", both.doubts);
        assert!(both.doubts[0].contains("gone runs as process 8"));
        // Without processes libvirt's word is taken, and nothing is doubted.
        let alone = seen(Err(Why::Forbidden), Ok(libvirt()));
        assert_eq!(names(&alone), [(7, "web".to_owned()), (8, "gone".to_owned())]);
        assert_eq!(alone.doubts.len(), 1);
        let neither = seen(Err(Why::Forbidden), Err(Why::Forbidden));
        assert_eq!((neither.processes, neither.defined), (None, None));
        let twice = Libvirt {
            running: vec![domain("a", None, Some(7)), domain("b\u{1b}", None, Some(7))],
            ..Libvirt::default()
        };
        let twice = seen(Ok(vec![process(7, "x")]), Ok(twice));
        assert_eq!(names(&twice), [(7, "a".to_owned())]);
        assert!(twice.doubts[0].starts_with("libvirt: b\\u{1b} and a both"), "{:?}", twice.doubts);
    }
}
