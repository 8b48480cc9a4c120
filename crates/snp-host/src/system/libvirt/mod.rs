//! SNP guests that libvirt knows: `/run/libvirt/qemu/NAME.xml` of a running domain (`domstatus`, with
//! the id of its process), `/etc/libvirt/qemu/NAME.xml` of a defined one; the same for `ch`.
//!
//! Such a file holds paths, addresses and passwords of consoles too. Of it only [`Domain`] is kept, in
//! a snapshot as well; of domains that are no SNP guests nothing is.

mod domain;

use std::collections::BTreeMap;

pub use self::domain::Domain;
use super::error::{Got, ReadError, Why};
use super::record::Item;
use super::root::Root;

/// Folders of running domains and of defined ones, with the program that runs them.
const RUNNING: [(&str, &str); 2] =
    [("/run/libvirt/qemu", "qemu"), ("/run/libvirt/ch", "cloud-hypervisor")];
const DEFINED: [(&str, &str); 2] =
    [("/etc/libvirt/qemu", "qemu"), ("/etc/libvirt/ch", "cloud-hypervisor")];

/// What names of files end with; others (`web.xml.new`) are not whole yet.
const SUFFIX: &str = ".xml";

/// The largest file, in bytes: a domain of 4,096 vCPUs, each pinned, has a tenth of it.
const MAX_FILE: u64 = 4 << 20;
/// Bytes of all files together.
const MAX_BYTES: u64 = 64 << 20;
/// Files of a folder that are looked at.
const MAX_FILES: usize = 4096;

/// What libvirt's files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Libvirt {
    /// Running domains, by name.
    pub running: Vec<Domain>,
    /// Defined domains, by name; one that runs is here too.
    pub defined: Vec<Domain>,
    /// Files and folders that gave no answer, though they are there.
    pub unread: Vec<ReadError>,
}

/// Reads the files of all domains. Only what is kept of SNP guests goes into the record.
///
/// An error if no file could be read, and some are there or no folder is.
pub(super) fn libvirt(root: &Root) -> Got<Libvirt> {
    let mut reading = Reading { root, left: MAX_BYTES, known: false, read: Libvirt::default() };
    for (folder, vmm) in RUNNING {
        let mut found = reading.folder(folder, vmm, true);
        reading.read.running.append(&mut found);
    }
    for (folder, vmm) in DEFINED {
        let mut found = reading.folder(folder, vmm, false);
        reading.read.defined.append(&mut found);
    }
    let Reading { known, mut read, .. } = reading;
    for domains in [&mut read.running, &mut read.defined] {
        domains.sort_by(|a, b| (&a.name, a.pid, &a.uuid).cmp(&(&b.name, b.pid, &b.uuid)));
    }
    match read.unread.first() {
        _ if known => Ok(read),
        Some(error) => Err(error.clone()),
        None => Err(ReadError::new(RUNNING[0].0, Why::Absent)),
    }
}

struct Reading<'a> {
    root: &'a Root,
    /// Bytes that may still be read.
    left: u64,
    /// Whether a folder was read, and a file of it if it has any.
    known: bool,
    read: Libvirt,
}

impl Reading<'_> {
    fn folder(&mut self, folder: &str, vmm: &'static str, runs: bool) -> Vec<Domain> {
        let names = match self.root.names_unkept(folder) {
            Ok(names) => names,
            Err(error) => {
                if error.why != Why::Absent {
                    self.root.keep_failure(folder, &error.why);
                    self.read.unread.push(error);
                }
                return Vec::new();
            }
        };
        let (mut found, mut kept, mut failed) = (Vec::new(), Vec::new(), false);
        let mut answered = 0;
        let files = names.into_iter().filter(|name| name.strip_suffix(SUFFIX).is_some());
        for name in files.take(MAX_FILES) {
            let path = format!("{folder}/{name}");
            match self.domain(&path, runs) {
                Ok(None) => answered += 1,
                Ok(Some(domain)) => {
                    let domain = Domain { vmm, ..domain };
                    self.root.keep_text(&path, &Ok(domain.to_xml()));
                    kept.push(name);
                    found.push(domain);
                    answered += 1;
                }
                // It ended meanwhile.
                Err(error) if error.why == Why::Absent => {}
                Err(error) => {
                    self.root.keep_failure(&path, &error.why);
                    kept.push(name);
                    let all = matches!(error.why, Why::TooLarge { limit: MAX_BYTES });
                    self.read.unread.push(error);
                    failed = true;
                    if all {
                        break;
                    }
                }
            }
        }
        self.root.keep_names(folder, &kept);
        self.known |= answered > 0 || !failed;
        found
    }

    fn domain(&mut self, path: &str, runs: bool) -> Got<Option<Domain>> {
        if self.left == 0 {
            return Err(ReadError::new(path, Why::TooLarge { limit: MAX_BYTES }));
        }
        let text = self.root.text_within(path, MAX_FILE)?;
        self.left = self.left.saturating_sub(text.len() as u64);
        Domain::parse(&text, runs).map_err(|why| ReadError::new(path, why))
    }
}

/// Takes names and UUIDs out of what a record holds of domains, names of files included.
pub(super) fn redact(items: &mut BTreeMap<String, Item>) {
    let mut uuids: BTreeMap<String, String> = BTreeMap::new();
    let mut number = 0;
    let folders = RUNNING.map(|folder| (folder, true)).into_iter();
    for ((folder, _), runs) in folders.chain(DEFINED.map(|folder| (folder, false))) {
        let of = |path: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        let paths: Vec<String> = items.keys().filter(|path| of(path)).cloned().collect();
        let mut renamed = Vec::new();
        for path in paths {
            let Some(item) = items.remove(&path) else { continue };
            number += 1;
            let (name, item) = match item {
                Item::Text(text) => {
                    let Ok(Some(mut domain)) = Domain::parse(&text, runs) else { continue };
                    let other = format!("00000000-0000-0000-0000-{:012}", uuids.len() + 1);
                    domain.uuid =
                        domain.uuid.map(|uuid| uuids.entry(uuid).or_insert(other).clone());
                    domain.name = match domain.pid {
                        Some(pid) => format!("guest-{pid}"),
                        None => format!("defined-{number}"),
                    };
                    (domain.name.clone(), Item::Text(domain.to_xml()))
                }
                Item::Failed(why) => (format!("unread-{number}"), Item::Failed(unnamed(why))),
                Item::Names(_) | Item::At(_) => continue,
            };
            // Two files may state one process.
            renamed.push((format!("{name}-{number}.xml"), item));
        }
        if let Some(Item::Names(names)) = items.get_mut(folder) {
            *names = renamed.iter().map(|(name, _)| name.clone()).collect();
            names.sort_unstable();
        }
        items.extend(renamed.into_iter().map(|(name, item)| (format!("{folder}/{name}"), item)));
    }
}

/// Why a file was not taken, without what stood there.
fn unnamed(why: Why) -> Why {
    match why {
        Why::Malformed { line, .. } => {
            Why::malformed(line, "libvirt's XML of a domain", "redacted")
        }
        why => why,
    }
}

#[cfg(test)]
mod tests {
    use super::domain::tests::web;
    use super::*;

    #[test]
    fn redacted_are_names_and_uuids_alone() {
        let idle = Domain { name: "secret-idle".to_owned(), pid: None, state: None, ..web() };
        let text = |domain: &Domain| Item::Text(domain.to_xml());
        let names = |names: &[&str]| Item::Names(names.iter().map(|&n| n.to_owned()).collect());
        let broken = Why::malformed(3, "<uuid>: 32 hexadecimal digits", "secret");
        let mut items: BTreeMap<String, Item> = [
            ("/etc/libvirt/qemu", names(&["secret-idle.xml"])),
            ("/etc/libvirt/qemu/secret-idle.xml", text(&idle)),
            ("/run/libvirt/qemu", names(&["secret.xml", "web.xml"])),
            ("/run/libvirt/qemu/secret.xml", Item::Failed(broken)),
            ("/run/libvirt/qemu/web.xml", text(&Domain { name: "secret".to_owned(), ..web() })),
            ("/run/libvirt/qemu/hand-made-secret.xml", Item::Text("<x/>".to_owned())),
        ]
        .map(|(path, item)| (path.to_owned(), item))
        .into();
        redact(&mut items);
        let all = format!("{items:?}");
        assert!(!all.contains("secret") && !all.contains("c7a5fdbd"), "{all}");
        let of = |folder: &str, runs| {
            let Some(Item::Names(names)) = items.get(folder) else { panic!("{all}") };
            let domain = |name: &String| match items.get(&format!("{folder}/{name}")) {
                Some(Item::Text(text)) => Domain::parse(text, runs).unwrap(),
                _ => None,
            };
            names.iter().filter_map(domain).collect::<Vec<_>>()
        };
        let (run, defined) = (of(RUNNING[0].0, true), of(DEFINED[0].0, false));
        assert_eq!((run.len(), defined.len()), (1, 1));
        assert_eq!((run[0].name.as_str(), run[0].pid), ("guest-4711", Some(4711)));
        assert_eq!(run[0].uuid, defined[0].uuid, "the same domain before and after");
        let kept = Domain { name: "web".to_owned(), uuid: web().uuid, ..run[0].clone() };
        assert_eq!(kept, web());
    }
}
