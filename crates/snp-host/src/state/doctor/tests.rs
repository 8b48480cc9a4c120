//! Each check: a host on which it fires, and one on which it does not.

use super::*;
use crate::system::{Record, Root, System};

/// A small host with two CPUs where everything is as it should be.
fn healthy() -> Vec<(&'static str, String)> {
    let file = |path, text: &str| (path, text.to_owned());
    let cpuid = "   0x00000000 0x00: eax=0x00000010 ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65\n\
                 \x20  0x80000000 0x00: eax=0x80000028 ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65\n\
                 \x20  0x8000001f 0x00: eax=0xcffffffb ebx=0x000041b3 ecx=0x000003ee edx=0x00000064\n\
                 \x20  0x80000025 0x00: eax=0x00000aa4 ebx=0x00000410 ecx=0x00000000 edx=0x00000001\n";
    let sys = "/sys/devices/system/cpu";
    let of = |path: String| -> &'static str { Box::leak(path.into_boxed_str()) };
    let mut files = vec![
        file("/cpuid.txt", &format!("CPU 0:\n{cpuid}CPU 1:\n{cpuid}")),
        file("/rdmsr-c0010010.txt", "3fc0000\n3fc0000\n"),
        file("/rdmsr-c0010132.txt", "8000000\n8000000\n"),
        file("/rdmsr-c0010133.txt", "0\n0\n"),
        file("/rdmsr-c0010136.txt", "2401\n2401\n"),
        file("/rdmsr-c0010139.txt", "1\n1\n"),
        file(
            "/proc/iomem",
            "00001000-07ffffff : System RAM\n08000000-0fffffff : Reserved\n10000000-ffffffff : System RAM\n",
        ),
        file("/sys/fs/cgroup/misc.capacity", "sev 907\nsev_es 99\n"),
        file("/sys/fs/cgroup/misc.current", "sev 0\nsev_es 3\n"),
        file("/sys/module/kvm_amd/parameters/sev_snp", "Y\n"),
        file(
            "/dmesg.txt",
            "[    0.000000] Linux version 7.3.4 (a@b)\n\
             [    0.000000] SEV-SNP: Segmented RMP base table physical range [0x0000000008000000 - 0x0000000008005000]\n\
             [    0.000000] SEV-SNP: Segmented RMP using 64GB segments\n\
             [    0.000000] SEV-SNP: RMP segment 0 physical address [0x0000000008200000 - 0x00000000091fffff] covering [0x0000000000000000 - 0x00000000ffffffff]\n",
        ),
        file(
            "/sys/kernel/debug/x86/rmpopt/stats",
            "rmpopt.clean 4000\nrmpopt.dirty 10\nresults.stale 1\naudits.failed 0\ncontradicted 0\nfaults 0\nunclean 0\n",
        ),
        file(
            "/sys/kernel/debug/x86/rmpopt/regions",
            "# policy tracked, runs, first pass over, last change 15 ms ago\n0 1024 unknown 0\n1 1024 clean 2\n",
        ),
        file(
            "/sys/kernel/debug/x86/rmpopt/rmpopt-table",
            "Memory @  0GB: CPU(s): none\nMemory @  1GB: CPU(s): 0-1\nMemory @  2GB: CPU(s): 0-1\nMemory @  3GB: CPU(s): 0-1\n",
        ),
        file("/sys/devices/system/cpu/online", "0-1\n"),
        file("/sys/devices/system/cpu/present", "0-1\n"),
    ];
    for cpu in 0..2 {
        files.push((
            of(format!("{sys}/cpu{cpu}/topology/thread_siblings_list")),
            format!("{cpu}\n"),
        ));
        files.push((of(format!("{sys}/cpu{cpu}/topology/physical_package_id")), "0\n".to_owned()));
    }
    files
}

fn state(files: &[(&'static str, String)]) -> HostState {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    HostState::of(&System::read(&Root::tree(dir.path()).unwrap(), true))
}

/// The healthy host with one file replaced.
fn with(path: &'static str, change: impl Fn(&str) -> String) -> HostState {
    let mut files = healthy();
    let file = files.iter_mut().find(|(p, _)| *p == path).expect("a file of the healthy host");
    let changed = change(&file.1);
    assert_ne!(changed, file.1, "{path} is as before");
    file.1 = changed;
    state(&files)
}

fn logged(line: &str) -> HostState {
    with("/dmesg.txt", |log| format!("{log}[    9.000000] {line}\n"))
}

type MadeHost = Box<dyn Fn() -> HostState>;

fn verdict(state: &HostState, id: &str) -> Verdict {
    doctor(state).iter().find(|check| check.id == id).unwrap().status
}

#[test]
fn a_healthy_host_has_no_problem_and_nothing_unknown() {
    for check in doctor(&state(&healthy())) {
        assert_eq!(check.status, Verdict::Ok, "{check:?}");
    }
}

#[test]
fn each_check_fires() {
    let cpuid = |from: &'static str, to: &'static str| {
        move || with("/cpuid.txt", |text| text.replace(from, to))
    };
    let replace = |path: &'static str, text: &'static str| move || with(path, |_| text.to_owned());
    let log = |line: &'static str| move || logged(line);
    let table = |from: &'static str, to: &'static str| {
        move || with("/sys/kernel/debug/x86/rmpopt/rmpopt-table", |text| text.replace(from, to))
    };
    let stats = |from: &'static str, to: &'static str| {
        move || with("/sys/kernel/debug/x86/rmpopt/stats", |text| text.replace(from, to))
    };
    let contiguous = |base: &'static str, end: &'static str| {
        move || {
            let mut files = healthy();
            for (path, text) in &mut files {
                match *path {
                    "/rdmsr-c0010132.txt" => *text = format!("{base}\n{base}\n"),
                    "/rdmsr-c0010133.txt" => *text = format!("{end}\n{end}\n"),
                    "/rdmsr-c0010136.txt" => *text = "0\n0\n".to_owned(),
                    "/dmesg.txt" => *text = "[ 0.0] Linux version 7.3.4 (a@b)\n".to_owned(),
                    _ => {}
                }
            }
            state(&files)
        }
    };
    let without_driver = || {
        let mut files = healthy();
        files.retain(|(path, _)| !path.contains("/rmpopt/") && !path.contains("c0010139"));
        files.push(("/rdmsr-c0010139.txt", "0\n0\n".to_owned()));
        state(&files)
    };
    let far =
        || with("/proc/iomem", |text| format!("{text}20000000000-2003fffffff : System RAM\n"));
    let rows: Vec<(&str, MadeHost)> = vec![
        ("D001", Box::new(cpuid("cffffffb", "cfffffeb"))),
        ("D002", Box::new(contiguous("0", "0"))),
        ("D002", Box::new(log("SEV-SNP: Memory for the RMP table has not been reserved by BIOS"))),
        // 16 KiB and the entries of 2 GiB, where RAM ends at 4 GiB.
        ("D003", Box::new(contiguous("8000000", "8803fff"))),
        ("D003", Box::new(far)),
        ("D004", Box::new(contiguous("8100000", "92fffff"))),
        ("D005", Box::new(replace("/rdmsr-c0010010.txt", "3fc0000\n2fc0000\n"))),
        ("D006", Box::new(replace("/rdmsr-c0010010.txt", "2fc0000\n2fc0000\n"))),
        ("D007", Box::new(contiguous("8000000", "91fffff"))),
        (
            "D008",
            Box::new(|| {
                with("/cpuid.txt", |text| {
                    let at = text.rfind("edx=0x00000001").unwrap();
                    format!("{}edx=0x00000000{}", &text[..at], &text[at + 14..])
                })
            }),
        ),
        ("D009", Box::new(cpuid("edx=0x00000001", "edx=0x00000000"))),
        ("D010", Box::new(replace("/rdmsr-c0010139.txt", "1\n0\n"))),
        ("D010", Box::new(replace("/rdmsr-c0010139.txt", "1\n3\n"))),
        ("D011", Box::new(replace("/rdmsr-c0010139.txt", "1\n40000001\n"))),
        ("D012", Box::new(far)),
        ("D013", Box::new(without_driver)),
        ("D014", Box::new(table("2GB: CPU(s): 0-1", "2GB: CPU(s): 1"))),
        ("D015", Box::new(log("SEV-SNP: Leaking PFN range 0x100-0x200"))),
        ("D016", Box::new(stats("dirty 10", "dirty 5000"))),
        (
            "D017",
            Box::new(log("ccp 0000:47:00.1: SEV-SNP support requires firmware version >= 1:51")),
        ),
        ("D018", Box::new(log("ccp 0000:47:00.1: SEV-SNP: failed to INIT rc -5, error 0x3"))),
        ("D019", Box::new(log("SEV-SNP: RMPUPDATE failed for PFN 56700, pg_level: 1, ret: 2"))),
        (
            "D020",
            Box::new(log(
                "AMD-Vi: Event logged [RMP_PAGE_FAULT device=0000:41:00.0 vmg_tag=0x0000, gpa=0x0, flags_rmp=0x0000, flags=0x0020]",
            )),
        ),
        ("D021", Box::new(stats("contradicted 0", "contradicted 1"))),
        ("D022", Box::new(replace("/sys/fs/cgroup/misc.current", "sev 0\nsev_es 99\n"))),
        ("D023", Box::new(replace("/sys/module/kvm_amd/parameters/sev_snp", "N\n"))),
        ("D024", Box::new(replace("/sys/devices/system/cpu/present", "0-2\n"))),
    ];
    let tested: std::collections::BTreeSet<_> = rows.iter().map(|(id, _)| *id).collect();
    assert_eq!(tested.len(), CHECKS.len(), "each check has a row here");
    let wrong: Vec<_> = rows
        .iter()
        .filter_map(|(id, host)| {
            let state = host();
            let found = doctor(&state).into_iter().find(|check| check.id == *id).unwrap();
            (found.status != Verdict::Problem || found.fix.is_empty()).then_some(found)
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Nothing known is no problem and nothing fine either.
#[test]
fn an_empty_host_is_unknown() {
    let state = HostState::of(&System::read(&Root::snapshot(Record::default()), true));
    for check in doctor(&state) {
        assert!(matches!(check.status, Verdict::Unknown | Verdict::NotApplicable), "{check:?}");
    }
    assert_eq!(state.capability.rmpopt_capable, None);
    assert_eq!((state.snp.enabled, state.rmp.kind), (None, None));
}

#[test]
fn edges_that_the_kernel_keeps_are_fine() {
    let line = "SEV-SNP: Reserving start/end of RMP table on a 2MB boundary [0x0000000009200000]";
    let mut files = healthy();
    for (path, text) in &mut files {
        match *path {
            "/rdmsr-c0010132.txt" => *text = "8100000\n8100000\n".to_owned(),
            "/rdmsr-c0010133.txt" => *text = "92fffff\n92fffff\n".to_owned(),
            "/rdmsr-c0010136.txt" => *text = "0\n0\n".to_owned(),
            "/dmesg.txt" => *text = format!("[ 0.0] {line}\n"),
            _ => {}
        }
    }
    assert_eq!(verdict(&state(&files), "D004"), Verdict::Ok);
}

#[test]
fn a_policy_that_believes_nothing_claims_nothing() {
    let state = with("/sys/kernel/debug/x86/rmpopt/regions", |text| text.replace("tracked", "v10"));
    assert!(state.regions.iter().all(|region| region.state == RegionKind::Unknown));
    assert_eq!(verdict(&state, "D014"), Verdict::Unknown);
}
