//! SNP guests among processes: QEMU's and cloud-hypervisor's command lines.
//!
//! What memory such a guest has is not visible from here: private pages lie in guest_memfd, which
//! no file of the VMM's process shows (spec/ecosystem.md 4.4).

use std::collections::HashMap;

use super::error::Got;
use super::root::Root;
use crate::number::decimal;

/// A process that runs an SNP guest, by its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestProcess {
    /// Process id.
    pub pid: u64,
    /// `qemu` or `cloud-hypervisor`.
    pub vmm: &'static str,
    /// The guest's name, if it was given one. It may hold any character.
    pub name: Option<String>,
    /// Memory as asked for, in bytes, if the line says it in a known form.
    pub memory_bytes: Option<u64>,
}

/// Most processes that are kept.
const MAX_GUESTS: usize = 4096;

/// Reads the command lines of all processes. Only those of SNP guests go into the record.
pub(super) fn guests(root: &Root) -> Got<Vec<GuestProcess>> {
    let (mut found, mut names) = (Vec::new(), Vec::new());
    for name in root.names_unkept("/proc")? {
        let Some(pid) = decimal(&name) else { continue };
        let path = format!("/proc/{name}/cmdline");
        // A process may be gone by now, or not be ours.
        let got = root.text_unkept(&path);
        let Ok(text) = &got else { continue };
        let Some(guest) = of_cmdline(pid, text) else { continue };
        root.keep_text(&path, &got);
        names.push(name);
        found.push(guest);
        if found.len() == MAX_GUESTS {
            break;
        }
    }
    root.keep_names("/proc", &names);
    found.sort_by_key(|guest| guest.pid);
    Ok(found)
}

/// Processes that were looked at before, for a reader that comes again and again: a command line
/// seldom changes, and a big host has thousands of them.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By process id: what its command line said, and how often it was looked at.
    by_pid: HashMap<u64, (Option<GuestProcess>, u8)>,
}

/// How often a new process is looked at: it has its parent's command line until it runs its program.
const LOOKS: u8 = 3;

impl Seen {
    /// The SNP guests of now; reads only what is new. Nothing goes into a record.
    pub(super) fn again(&mut self, root: &Root) -> Got<Vec<GuestProcess>> {
        let pids: Vec<u64> =
            root.names_unkept("/proc")?.iter().filter_map(|name| decimal(name)).collect();
        let mut before = std::mem::take(&mut self.by_pid);
        for pid in pids {
            let (known, looks) = before.remove(&pid).unwrap_or_default();
            let now = if looks < LOOKS {
                let text = root.text_unkept(&format!("/proc/{pid}/cmdline"));
                let guest = text.ok().and_then(|text| of_cmdline(pid, &text));
                (guest, looks + 1)
            } else {
                (known, looks)
            };
            self.by_pid.insert(pid, now);
        }
        let guests = self.by_pid.values().filter_map(|(guest, _)| guest.clone());
        let mut guests: Vec<GuestProcess> = guests.collect();
        guests.sort_by_key(|guest| guest.pid);
        guests.truncate(MAX_GUESTS);
        Ok(guests)
    }
}

/// What a command line (arguments ended by NUL, as in `/proc/PID/cmdline`) says; `None` if it is no
/// SNP guest's.
pub fn of_cmdline(pid: u64, text: &str) -> Option<GuestProcess> {
    let mut args = text.split('\0').filter(|arg| !arg.is_empty());
    let program = args.next()?.rsplit('/').next()?;
    let args: Vec<&str> = args.collect();
    let value = |names: &[&str]| {
        let at = args.iter().position(|arg| names.contains(arg))?;
        args.get(at + 1).copied()
    };
    if program.contains("qemu") || program == "kvm" {
        let object = args.iter().any(|arg| is_snp_object(arg));
        return object.then(|| GuestProcess {
            pid,
            vmm: "qemu",
            name: value(&["-name", "--name"]).and_then(qemu_name),
            memory_bytes: value(&["-m", "--memory"]).and_then(qemu_memory),
        });
    }
    if program.starts_with("cloud-hypervisor") {
        let joined = args.iter().filter_map(|arg| arg.strip_prefix("--platform="));
        let mut platforms = joined.chain(value(&["--platform"]));
        let snp = platforms.any(|p| p.split(',').any(|part| part == "sev_snp=on"));
        let memory =
            value(&["--memory"]).or_else(|| args.iter().find_map(|a| a.strip_prefix("--memory=")));
        return snp.then(|| GuestProcess {
            pid,
            vmm: "cloud-hypervisor",
            name: None,
            memory_bytes: memory.and_then(|m| option(m, "size")).and_then(size_of),
        });
    }
    None
}

/// `sev-snp-guest,id=sev0,...`, or the JSON form that libvirt uses.
fn is_snp_object(arg: &str) -> bool {
    arg.split(',').next() == Some("sev-snp-guest")
        || (arg.starts_with('{') && arg.contains("\"qom-type\":\"sev-snp-guest\""))
        || arg.split(',').any(|part| part == "qom-type=sev-snp-guest")
}

fn option<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    list.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

fn qemu_name(value: &str) -> Option<String> {
    let plain = value.split(',').next().filter(|first| !first.contains('='));
    option(value, "guest").or(plain).map(|name| name.chars().take(200).collect())
}

/// `8192M,slots=5`, `size=4G`, `2048` (MiB).
fn qemu_memory(value: &str) -> Option<u64> {
    let size = option(value, "size").or_else(|| value.split(',').next())?;
    match decimal(size) {
        Some(mib) => mib.checked_mul(1 << 20),
        None => size_of(size.strip_suffix('B').unwrap_or(size)),
    }
}

fn size_of(text: &str) -> Option<u64> {
    let unit = match text.chars().next_back()? {
        'K' | 'k' => 1 << 10,
        'M' | 'm' => 1 << 20,
        'G' | 'g' => 1 << 30,
        'T' | 't' => 1 << 40,
        _ => return decimal(text),
    };
    decimal(text.get(..text.len() - 1)?)?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> Option<GuestProcess> {
        of_cmdline(1, &text.replace(' ', "\0"))
    }

    #[test]
    fn snp_guests_and_others() {
        let qemu = line("/usr/bin/qemu-system-x86_64 -name guest=web,debug-threads=on -m 8192M,slots=5 -object sev-snp-guest,id=sev0,cbitpos=51").unwrap();
        assert_eq!((qemu.name.as_deref(), qemu.memory_bytes), (Some("web"), Some(8192 << 20)));
        let json = line(
            "qemu-kvm -m size=4194304k -object {\"qom-type\":\"sev-snp-guest\",\"id\":\"lsec0\"}",
        )
        .unwrap();
        assert_eq!((json.name, json.memory_bytes), (None, Some(4 << 30)));
        let ch = line("cloud-hypervisor --platform sev_snp=on --memory size=2G").unwrap();
        assert_eq!((ch.vmm, ch.memory_bytes), ("cloud-hypervisor", Some(2 << 30)));
        for other in [
            "qemu-system-x86_64 -object sev-guest,id=sev0 -m 1G",
            "grep sev-snp-guest",
            "cloud-hypervisor --platform sev_snp=off",
            "qemu-system-x86_64 -append sev-snp-guest-in-a-name",
            "",
        ] {
            assert_eq!(line(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(qemu|cloud-hypervisor|-m|size=|sev-snp-guest|--platform|[0-9GMk=,]|\0){0,30}") {
            let _ = of_cmdline(1, &text);
        }
    }
}
