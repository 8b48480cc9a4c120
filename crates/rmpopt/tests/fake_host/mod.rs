//! A complete host as files: the venice-2p of the scenarios with 12 TiB, 1,024 CPUs, two guests.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "shared by tests and the bench, none uses all of it"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

const GIB: u64 = 1 << 30;
pub(crate) const CPUS: u32 = 1024;
/// RAM below the hole for devices, and where RAM goes on: after the RMP's segments.
const LOW: u64 = 2 * GIB;
const HIGH: u64 = 56 * GIB;
/// The most RAM that it may have.
pub(crate) const TIB_12: u64 = 12 * 1024 * GIB;
/// Each segment covers 64 GiB and has 256 MiB of entries.
const SEGMENT: u64 = 64 * GIB;

/// A folder for it: in memory where there is such a place, since it has 8,000 files.
pub(crate) fn dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).unwrap()
}

/// Writes it all below `root`.
pub(crate) fn write(root: &Path) {
    write_of(root, TIB_12);
}

/// Writes it all below `root`, with so many bytes of RAM: whole TiB.
pub(crate) fn write_of(root: &Path, ram: u64) {
    all(ram, &|path, text| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    });
}

/// The same host as a snapshot: one file instead of ten thousand.
pub(crate) fn snapshot(file: &Path) {
    let items: RefCell<BTreeMap<String, Value>> = RefCell::default();
    all(TIB_12, &|path, text| {
        let (mut items, mut path) = (items.borrow_mut(), format!("/{path}"));
        items.insert(path.clone(), json!({ "text": text }));
        while let Some((folder, name)) =
            path.rsplit_once('/').filter(|(folder, _)| !folder.is_empty())
        {
            let names = items.entry(folder.to_owned()).or_insert_with(|| json!({ "names": [] }));
            let names = names["names"].as_array_mut().unwrap();
            // What lies in one folder is put one after the other.
            if names.last().is_none_or(|last| last != name) {
                names.push(name.into());
            }
            path = folder.to_owned();
        }
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let snapshot = json!({
        "format": "rmpopt-snapshot", "version": 1, "taken_s": now, "deep": false, "redacted": false,
        "items": items,
    });
    std::fs::write(file, snapshot.to_string()).unwrap();
}

/// Puts every file: its path, and its text.
fn all(ram: u64, put: &dyn Fn(&str, &str)) {
    let end = HIGH + ram - LOW;
    cpus(put);
    memory(put, end);
    put("var/log/dmesg", &log(end));
    put("sys/module/kvm_amd/parameters/sev_snp", "Y\n");
    put("sys/module/ccp/parameters/init_ex_path", "(null)\n");
    put("sys/module/rmpopt/initstate", "live\n");
    put("sys/fs/cgroup/misc.capacity", "sev 907\nsev_es 99\n");
    put("sys/fs/cgroup/misc.current", "sev 0\nsev_es 2\n");
    driver(put);
    let qemu = |name: &str| {
        format!(
            "/usr/bin/qemu-system-x86_64\0-name\0{name}\0-m\0100G\0-object\0sev-snp-guest,id=sev0,cbitpos=51\0"
        )
    };
    put("proc/4711/cmdline", &qemu("guest=web"));
    put("proc/4712/cmdline", &qemu("\u{1b}]0;owned\u{7}\u{1b}[31mred"));
    put("proc/1/cmdline", "/sbin/init\0secret-of-another-process\0");
    libvirt(put);
}

/// The first guest as libvirt has it, one that does not run, and one that is no SNP guest.
fn libvirt(put: &dyn Fn(&str, &str)) {
    let domain = |name: &str, secured: &str| {
        let number = name.len();
        format!(
            "<domain type='kvm'>\n  <name>{name}</name>\n  <uuid>c7a5fdbd-edaf-9455-926a-{number:012}</uuid>\n  \
             <memory unit='KiB'>104857600</memory>\n  <memoryBacking>\n    <hugepages>\n      \
             <page size='1048576' unit='KiB'/>\n    </hugepages>\n  </memoryBacking>\n  \
             <vcpu placement='static'>32</vcpu>\n  <numatune>\n    <memory mode='strict' nodeset='1'/>\n  \
             </numatune>\n  <cpu mode='custom'>\n    <model fallback='forbid'>EPYC-v4</model>\n  </cpu>\n  \
             <devices>\n    <graphics type='vnc' passwd='secret-of-a-console'/>\n  </devices>\n{secured}</domain>\n"
        )
    };
    let snp = "  <launchSecurity type='sev-snp'>\n    <cbitpos>51</cbitpos>\n    \
               <policy>0x00030000</policy>\n  </launchSecurity>\n";
    put("etc/libvirt/qemu/idle-vault.xml", &domain("idle-vault", snp));
    put("etc/libvirt/qemu/plain-secret.xml", &domain("plain-secret", ""));
    put("etc/libvirt/qemu/web.xml", &domain("web", snp));
    let web = domain("web", snp);
    put(
        "run/libvirt/qemu/web.xml",
        &format!(
            "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\
             <domstatus state='running' reason='booted' pid='4711'>\n{web}</domstatus>\n"
        ),
    );
}

fn cpus(put: &dyn Fn(&str, &str)) {
    let sys = "sys/devices/system/cpu";
    put(&format!("{sys}/online"), "0-1023\n");
    put(&format!("{sys}/present"), "0-1023\n");
    let leaf = "   0x00000000 0x00: eax=0x00000010 ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65\n\
                \x20  0x80000000 0x00: eax=0x80000028 ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65\n\
                \x20  0x8000001f 0x00: eax=0xcffffffb ebx=0x000041b3 ecx=0x000003ee edx=0x00000064\n\
                \x20  0x80000025 0x00: eax=0x00000aa4 ebx=0x00000410 ecx=0x00000000 edx=0x00000001\n";
    let mut cpuid = String::new();
    for cpu in 0..CPUS {
        let _ = write!(cpuid, "CPU {cpu}:\n{leaf}");
        let core = cpu % 512;
        put(
            &format!("{sys}/cpu{cpu}/topology/thread_siblings_list"),
            &format!("{core},{}\n", core + 512),
        );
        put(&format!("{sys}/cpu{cpu}/topology/physical_package_id"), &format!("{}\n", core / 256));
    }
    put("cpuid.txt", &cpuid);
    for (msr, value) in [
        ("c0010010", "3fc0000"),
        ("c0010132", "100000000"),
        ("c0010133", "0"),
        ("c0010136", "2401"),
        ("c0010139", "1"),
    ] {
        put(&format!("rdmsr-{msr}.txt"), &format!("{value}\n").repeat(CPUS as usize));
    }
}

fn memory(put: &dyn Fn(&str, &str), end: u64) {
    put(
        "proc/iomem",
        &format!(
            "00000000-{:x} : System RAM\n  01000000-01ffffff : Kernel code\n{LOW:x}-{:x} : Reserved\n{HIGH:x}-{:x} : System RAM\n",
            LOW - 1,
            HIGH - 1,
            end - 1
        ),
    );
    let blocks = "sys/devices/system/memory";
    put(&format!("{blocks}/block_size_bytes"), "80000000\n");
    let half = (HIGH + LOW + end) / (4 * GIB) - 1;
    for block in std::iter::once(0).chain(HIGH / (2 * GIB)..end / (2 * GIB)) {
        let node = u32::from(block >= half);
        put(&format!("sys/devices/system/node/node{node}/memory{block}"), "");
    }
    for (node, cpus) in [(0, "0-255,512-767"), (1, "256-511,768-1023")] {
        let dir = format!("sys/devices/system/node/node{node}");
        put(&format!("{dir}/cpulist"), &format!("{cpus}\n"));
        put(&format!("{dir}/meminfo"), &format!("Node {node} MemTotal:       6442450944 kB\n"));
    }
    put("sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "200\n");
    put("sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "0\n");
}

fn log(end: u64) -> String {
    let mut log = "[    0.000000] Linux version 7.3.4 (joe@secret-build) (gcc)\n\
        [    0.000000] Command line: root=UUID=secret-uuid\n\
        [    0.100000] SEV-SNP: Segmented RMP base table physical range [0x0000000100000000 - 0x0000000100005000]\n\
        [    0.100000] SEV-SNP: Segmented RMP using 64GB segments\n".to_owned();
    for n in 0..end.div_ceil(SEGMENT) {
        let table = 5 * GIB + n * (SEGMENT / 256);
        let covers = n * SEGMENT;
        let _ = writeln!(
            log,
            "[    0.100000] SEV-SNP: RMP segment {n} physical address [{table:#018x} - {:#018x}] covering [{covers:#018x} - {:#018x}]",
            table + SEGMENT / 256 - 1,
            covers + SEGMENT - 1
        );
    }
    log
}

fn driver(put: &dyn Fn(&str, &str)) {
    let dir = "sys/kernel/debug/x86/rmpopt";
    put(
        &format!("{dir}/stats"),
        "rmpopt.executed 1048576\nwakeups 512\npasses 1\ninterruptions.total 512\ncpu.taken_ns 5000000\nhold.longest_ns 98000\naudits.run 4096\nrmpopt.clean 1048000\nrmpopt.dirty 576\nresults.stale 0\naudits.failed 0\ncontradicted 0\nfaults 0\nunclean 0\n",
    );
    for (name, value) in [("delay_ms", 1000), ("hold_us", 100), ("sweep", 0)] {
        put(&format!("sys/kernel/config/rmpopt/{name}"), &format!("{value}\n"));
    }
    let (table, regions) = belief(&(100..300));
    put(&format!("{dir}/rmpopt-table"), &table);
    put(&format!("{dir}/regions"), &regions);
}

/// The driver's files again, each whole at every moment, with other regions held by guests.
#[allow(dead_code, reason = "not every test changes the host")]
pub(crate) fn hold(root: &Path, guests: std::ops::Range<u64>) {
    let dir = root.join("sys/kernel/debug/x86/rmpopt");
    let (table, regions) = belief(&guests);
    for (name, text) in [("rmpopt-table", table), ("regions", regions)] {
        let new = dir.join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, dir.join(name)).unwrap();
    }
}

/// The driver says that what it believes changed just now, whenever it is asked.
pub(crate) fn belief_changes(root: &Path) {
    let regions = root.join("sys/kernel/debug/x86/rmpopt/regions");
    let text = std::fs::read_to_string(&regions).unwrap();
    std::fs::write(&regions, text.replace("1500 ms", "0 ms")).unwrap();
}

/// `rmpopt-table` and `regions`.
fn belief(guests: &std::ops::Range<u64>) -> (String, String) {
    let mut table = String::new();
    let mut regions =
        "# policy tracked, runs, first pass over, last change 1500 ms ago\n".to_owned();
    for gib in 0..2048u64 {
        let guests = guests.contains(&gib);
        let clean = !guests && gib > 0;
        let cpus = if clean { "0-1023" } else { "none" };
        let _ = writeln!(table, "Memory @{gib:3}GB: CPU(s): {cpus}");
        let (word, cores) = if clean { ("clean", 512) } else { ("unknown", 0) };
        let _ = writeln!(regions, "{gib} 1024 {word} {cores}");
    }
    (table, regions)
}
