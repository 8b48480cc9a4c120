//! A host read again and again: what changes often each time, the rest seldom.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::guests::Seen;
use super::module::ModuleRegions;
use super::{REGIONS, Root, System};

/// After this time everything is read again: on a big host that is some ten thousand files.
const SELDOM: Duration = Duration::from_secs(300);
/// After this time the log is.
const LOG: Duration = Duration::from_secs(60);
/// Clocks of the module and of this program may differ by this much in what they call now.
const MARGIN: Duration = Duration::from_millis(50);
/// For how long libvirt's files are read each time after guests came or went.
const LIBVIRT: Duration = Duration::from_secs(3);
/// Bytes in which the head of our module's `regions` lies for certain.
const HEAD: usize = 256;

/// What was read anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Renewed {
    /// The log.
    pub log: bool,
    /// What regions and memory are known from.
    pub regions: bool,
}

impl Renewed {
    /// Everything.
    pub const ALL: Self = Self { log: true, regions: true };
}

/// Keeps what was read, and reads again what may have changed.
///
/// Each time: our module's counters, how old its belief is, ASIDs and new processes. If the belief
/// changed also its regions and the table; if guests came or went what libvirt says of them. Once a
/// minute the log. If the module came or went, and every five minutes, all of it: that reads the MSRs
/// of one CPU (of every CPU with `deep`) and with `deep` upstream's table.
#[derive(Debug)]
pub struct Refresher {
    log_at: Instant,
    root: Root,
    deep: bool,
    /// When everything was read.
    all_at: Instant,
    /// When `regions` and the table were read.
    belief_at: Instant,
    seen: Seen,
    /// Until when libvirt's files are read each time.
    libvirt_until: Option<Instant>,
    system: System,
}

impl Refresher {
    /// Reads everything for the first time.
    pub fn new(root: Root, deep: bool, now: Instant) -> Self {
        let system = System::read(&root, deep);
        Self {
            root,
            deep,
            log_at: now,
            all_at: now,
            belief_at: now,
            seen: Seen::default(),
            libvirt_until: None,
            system,
        }
    }

    /// What was read last.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// Reads everything anew.
    pub fn all(&mut self, now: Instant) {
        self.system = System::read(&self.root, self.deep);
        (self.all_at, self.belief_at, self.log_at) = (now, now, now);
        self.seen = Seen::default();
    }

    /// Reads what may have changed by now, and says what that was. A snapshot does not change.
    pub fn next(&mut self, now: Instant) -> Renewed {
        let mut renewed = Renewed::default();
        if self.root.as_snapshot().is_some() {
            return renewed;
        }
        let stats = super::stats(&self.root);
        let came_or_went = stats.is_ok() != self.system.stats.is_ok();
        if came_or_went || now.duration_since(self.all_at) >= SELDOM {
            self.all(now);
            return Renewed::ALL;
        }
        self.system.stats = stats;
        if self.system.stats.is_ok() {
            renewed.regions = self.belief(now);
        }
        if now.duration_since(self.log_at) >= LOG {
            self.system.log = super::klog::read(&self.root);
            self.log_at = now;
            renewed.log = true;
        }
        self.system.asids = super::params::asids(&self.root);
        self.guests(now);
        renewed
    }

    /// Processes; libvirt's files if guests came or went, and for a while after that: libvirt writes
    /// and removes them a little later. Until then a file whose process went says nothing.
    fn guests(&mut self, now: Instant) {
        let pids = |system: &System| -> BTreeSet<u64> {
            system.guests.iter().flatten().map(|guest| guest.pid).collect()
        };
        let before = pids(&self.system);
        self.system.guests = self.seen.again(&self.root);
        let after = pids(&self.system);
        if after != before {
            self.libvirt_until = Some(now + LIBVIRT);
        }
        let Some(until) = self.libvirt_until else { return };
        self.system.libvirt = super::libvirt::libvirt(&self.root);
        if now >= until {
            self.libvirt_until = None;
        } else if let Ok(libvirt) = &mut self.system.libvirt {
            libvirt.running.retain(|domain| domain.pid.is_some_and(|pid| after.contains(&pid)));
        }
    }

    /// Our module's regions and the table, if they changed since they were read; whether they did.
    fn belief(&mut self, now: Instant) -> bool {
        if let Ok(old) = &mut self.system.regions
            && self.system.table.is_ok()
            && let Ok(text) = self.root.head::<HEAD>(REGIONS)
            && let Some(head) = ModuleRegions::head(&text)
            && head.policy == old.policy
            && Duration::from_millis(head.changed_ms_ago)
                > now.saturating_duration_since(self.belief_at) + MARGIN
        {
            *old = ModuleRegions { rows: std::mem::take(&mut old.rows), ..head };
            return false;
        }
        self.system.regions = super::regions(&self.root);
        self.system.table = super::table(&self.root, true);
        self.belief_at = now;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest's end: its process is gone before libvirt has removed its file.
    #[test]
    fn libvirt_is_a_little_late() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("proc/7/cmdline", "qemu\0-object\0sev-snp-guest,id=a\0");
        let file = "<domstatus pid='7'><domain><name>a</name>\
                    <launchSecurity type='sev-snp'/></domain></domstatus>";
        put("run/libvirt/qemu/a.xml", file);
        let from = Instant::now();
        let mut host = Refresher::new(Root::tree(dir.path()).unwrap(), false, from);
        let mut seen = |seconds: u64| {
            host.next(from + Duration::from_secs(seconds));
            let libvirt = host.system().libvirt.as_ref().unwrap();
            (host.system().guests.as_ref().unwrap().len(), libvirt.running.len())
        };
        assert_eq!(seen(1), (1, 1));
        std::fs::remove_dir_all(dir.path().join("proc/7")).unwrap();
        assert_eq!(seen(2), (0, 0), "what is left of the file says nothing yet");
        assert_eq!(seen(5), (0, 1), "a file that stays is shown");
        std::fs::remove_file(dir.path().join("run/libvirt/qemu/a.xml")).unwrap();
        put("proc/8/cmdline", "qemu\0-object\0sev-snp-guest,id=a\0");
        assert_eq!(seen(6), (1, 0));
        put("run/libvirt/qemu/b.xml", &file.replace("pid='7'", "pid='8'"));
        assert_eq!(seen(7), (1, 1), "and one that comes late is seen");
    }
}
