//! `rmpopt host`: the emulated host mounted and seen by programs, ours and others'.
//!
//! Needs root and /dev/fuse. Clocks stand (`--speed 0`) where results are compared.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod live_host;

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use self::live_host::{Host, Runtime, cannot_mount, is_mounted, skip, stdout};

/// Long enough for a machine that is busy; what is waited for takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let from = Instant::now();
    while !holds() {
        assert!(from.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The lines of metrics that say something of the host, not of when and how it was read.
fn facts(metrics: &str) -> Vec<String> {
    const OWN: [&str; 3] = ["rmp_sample", "rmp_scrape", "rmp_last_success"];
    let about = |line: &str| !line.starts_with('#') && !OWN.iter().any(|own| line.starts_with(own));
    metrics.lines().filter(|line| about(line)).map(str::to_owned).collect()
}

#[test]
fn the_mounted_host_and_its_snapshot_say_the_same() {
    if skip("the_mounted_host_and_its_snapshot_say_the_same") {
        return;
    }
    let host = Host::up("small", &["--speed", "0"]);
    host.ok(&["host", "guest", "start", "a,b", "--memory", "1GiB"]);
    for step in ["0s", "3s", "30s"] {
        host.ok(&["host", "time", "--advance", step]);
        for deep in [false, true] {
            let file = host.dir().join(format!("{step}-{deep}.json"));
            let file = file.to_str().unwrap();
            let flags: &[&str] = if deep { &["--deep"] } else { &[] };
            let root = host.root.to_str().unwrap();
            host.ok(&[&["snapshot", "--root", root, "-o", file][..], flags].concat());
            for command in ["status", "doctor", "regions"] {
                let mounted =
                    host.json(&[&[command, "--json", "--root", root][..], flags].concat());
                let kept = host.json(&[command, "--json", "--from", file]);
                assert_eq!(mounted, kept, "{command} {step} {deep}");
            }
            let exported = |args: &[&str]| facts(&stdout(&host.run(args)));
            let mounted = exported(&[&["export", "--root", root][..], flags].concat());
            assert!(mounted.len() > 60, "{mounted:?}");
            assert_eq!(mounted, exported(&["export", "--from", file]), "export {step} {deep}");
        }
    }
    let status = host.json(&["status", "--json", "--deep", "--root", host.root.to_str().unwrap()]);
    assert_eq!(status["driver"]["kind"], "ours");
    assert_eq!(status["driver"]["emulated"], false, "its driver is real on it");
    assert_eq!(status["capability"]["rmpopt_capable"], true);
    assert_eq!(status["snp"]["enabled"], true);
    assert_eq!(status["rmp"]["uncovered_bytes"], 0);
    assert_eq!(status["rmpopt"]["cores_enabled"], status["cpus"]["cores"]);
    assert_eq!(status["anomalies"], serde_json::json!([]));
    let tunables = status["driver"]["tunables"].as_object().unwrap();
    assert!(tunables.keys().map(String::as_str).eq({
        let mut names = snp_host::system::NUMBERS;
        names.sort_unstable();
        names
    }));
    // All that a driver counts of what it can see, as our module does.
    let stats = &status["driver"]["stats"];
    let of = |key: &str| stats[key].as_u64().unwrap_or_else(|| panic!("{key} in {stats}"));
    assert_eq!(of("rmpopt.clean") + of("rmpopt.dirty"), of("rmpopt.verify"));
    assert_eq!(
        (of("snp_inits"), of("base_writes")),
        (1, status["cpus"]["cores"].as_u64().unwrap())
    );
    assert!(of("marks.shared") > 0 && of("hold.longest_ns") > 0 && of("batches") > 0, "{stats}");
    assert!(of("holds.ridden") > 0 && of("holds.woken") > 0, "{stats}");
    assert_eq!(of("faults") + of("unclean"), 0, "{stats}");
    assert_eq!(of("results.stale") + of("audits.failed") + of("contradicted"), 0, "{stats}");
    assert!(status["memory"]["by_state"]["optimised"].as_u64().unwrap() > 0, "{status}");
    let names: Vec<_> =
        status["guests"]["processes"].as_array().unwrap().iter().map(|g| &g["name"]).collect();
    assert!(
        names.contains(&&Value::from("a,,b")) || names.contains(&&Value::from("a")),
        "{names:?}"
    );
}

/// The lab on the very host that somebody sent: what a mounted venice-2p, or a snapshot of it, says of
/// itself makes the same host again, to the last row of the table.
#[test]
fn the_lab_runs_on_the_host_that_was_sent() {
    if skip("the_lab_runs_on_the_host_that_was_sent") {
        return;
    }
    let host = Host::up("venice-2p", &["--speed", "0"]);
    let file = host.dir().join("sent.json");
    let (root, file) = (host.root.to_str().unwrap(), file.to_str().unwrap());
    host.ok(&["snapshot", "--redact", "--root", root, "-o", file]);
    let table = |flags: &[&str]| {
        let run =
            host.run(&[&["run", "venice-2p", "--table", "--until", "20s"][..], flags].concat());
        assert_eq!(run.status.code(), Some(0), "{flags:?}: {run:?}");
        stdout(&run)
    };
    let own = table(&[]);
    assert!(own.lines().count() > 2000, "{} rows", own.lines().count());
    for sent in [root, file] {
        assert!(table(&["--host", sent]) == own, "{sent}");
        let report = |flags: &[&str]| {
            host.json(&[&["run", "venice-2p", "--json", "--until", "2s"][..], flags].concat())
        };
        let again = report(&["--host", sent]);
        assert_eq!(again["host"], report(&[])["host"], "{sent}");
        // Everything was stated but what no host states.
        let assumed = again["assumed"].as_array().unwrap();
        let from_scenario = |text: &&Value| text.as_str().unwrap().contains("from venice-2p");
        assert_eq!(assumed.iter().find(from_scenario), None, "{sent}");
        let starts = |text: &&Value| {
            let parts = ["CPUs", "NUMA", "memory", "threads"];
            parts.iter().any(|part| text.as_str().unwrap().starts_with(part))
        };
        assert_eq!(assumed.iter().find(starts), None, "{sent}");
    }
}

#[test]
fn a_guests_life_is_seen_in_the_table() {
    if skip("a_guests_life_is_seen_in_the_table") {
        return;
    }
    let host = Host::up("no-guest", &["--speed", "0"]);
    // On some cores at least: not every window reaches every region.
    let optimised = || {
        let args = ["status", "--json", "--root", host.root.to_str().unwrap()];
        let by_state = &host.json(&args)["memory"]["by_state"];
        by_state["optimised"].as_u64().unwrap() + by_state["partial"].as_u64().unwrap_or(0)
    };
    let before = optimised();
    host.ok(&["host", "guest", "start", "vault", "--memory", "8GiB", "--vcpus", "4"]);
    host.ok(&["host", "time", "--advance", "30s"]);
    let with = optimised();
    assert!(with < before, "{with} {before}");
    let vault = || {
        let guests = host.json(&["host", "guest", "list", "--json"])["guests"].clone();
        guests.as_array().unwrap().iter().find(|guest| guest["name"] == "vault").cloned()
    };
    let guest = vault().unwrap();
    assert_eq!((&guest["state"], &guest["kind"]), (&"running".into(), &"snp".into()));
    assert_eq!(guest["private_bytes"], 8u64 << 30);
    host.ok(&["host", "guest", "stop", "vault"]);
    host.ok(&["host", "time", "--advance", "2m"]);
    assert_eq!(optimised(), before);
    assert_eq!(vault(), None);
    // What cannot be is refused, and the host lives on.
    for args in [
        &["stop", "vault"][..],
        &["start", "x", "--memory", "11TiB"],
        &["start", "x", "--node", "9"],
    ] {
        let run = host.run(&[&["host", "guest"][..], args].concat());
        assert_eq!(run.status.code(), Some(2), "{args:?}");
    }
    let status = host.json(&["host", "status", "--json"]);
    assert_eq!((&status["law_breaches"], &status["fell"]), (&Value::from(0), &Value::Null));
}

#[test]
fn single_bytes_read_in_parallel_are_right() {
    if skip("single_bytes_read_in_parallel_are_right") {
        return;
    }
    // The clock goes, a thousand times as fast: what a handle shows must not change meanwhile.
    let host = Host::up("small", &["--speed", "1000"]);
    let paths = [
        "sys/kernel/debug/x86/rmpopt/rmpopt-table",
        "sys/kernel/debug/x86/rmpopt/regions",
        "proc/iomem",
        "proc/cpuinfo",
        "sys/devices/system/node/node0/meminfo",
    ];
    for path in paths {
        let file = File::open(host.root.join(path)).unwrap();
        let mut whole = vec![0; 1 << 20];
        let mut length = 0;
        while let Ok(read @ 1..) = file.read_at(&mut whole[length..], length as u64) {
            length += read;
        }
        whole.truncate(length);
        assert!(length > 20, "{path}");
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (file, whole) = (&file, &whole);
                scope.spawn(move || {
                    for n in 0..400 {
                        let at = (thread * 7919 + n * 2 * 104_729 + 1) % (whole.len() + 3);
                        let mut byte = [0; 1];
                        let read = file.read_at(&mut byte, at as u64).unwrap();
                        assert_eq!(
                            byte[..read],
                            whole[at.min(whole.len())..][..read],
                            "{path} {at}"
                        );
                        assert_eq!(read, usize::from(at < whole.len()), "{path} {at}");
                    }
                });
            }
        });
    }
}

#[test]
fn registers_answer_as_the_kernels_drivers_do() {
    if skip("registers_answer_as_the_kernels_drivers_do") {
        return;
    }
    let host = Host::up("small", &["--speed", "0"]);
    let msr = host.root.join("dev/cpu/1/msr");
    let open = || OpenOptions::new().read(true).write(true).open(&msr).unwrap();
    let read = |number: u64| {
        let mut bytes = [0; 8];
        open().read_exact_at(&mut bytes, number).map(|()| u64::from_le_bytes(bytes))
    };
    let code = |error: std::io::Error| error.raw_os_error().unwrap();
    let (einval, eio) = (22, 5);
    let base = read(0xC001_0139).unwrap();
    assert_eq!(base & 1, 1, "RMPOPT is enabled");
    assert_eq!(read(0xC001_0010).unwrap(), 0x3fc_0000);
    assert_eq!(read(0xC001_0136).unwrap() & 1, 1, "segmented");
    assert_eq!(code(read(0x1234).unwrap_err()), eio);
    for size in [1, 7, 9, 12] {
        let error = open().read_at(&mut vec![0; size], 0xC001_0139).unwrap_err();
        assert_eq!(code(error), einval, "{size}");
    }
    let mut twice = [0; 16];
    open().read_exact_at(&mut twice, 0xC001_0139).unwrap();
    assert_eq!(twice[..8], twice[8..], "each register is that of the offset");
    // #GP(0), a frozen register, one that ignores writes, and the same value again.
    assert_eq!(code(open().write_at(&2u64.to_le_bytes(), 0xC001_0139).unwrap_err()), eio);
    assert_eq!(code(open().write_at(&7u64.to_le_bytes(), 0xC001_0136).unwrap_err()), eio);
    assert_eq!(open().write_at(&7u64.to_le_bytes(), 0xC001_0010).unwrap(), 8);
    assert_eq!(read(0xC001_0010).unwrap(), 0x3fc_0000);
    assert_eq!(open().write_at(&base.to_le_bytes(), 0xC001_0139).unwrap(), 8);
    assert_eq!(host.json(&["host", "status", "--json"])["foreign_writes"], 0);
    assert_eq!(open().write_at(&0u64.to_le_bytes(), 0xC001_0139).unwrap(), 8);
    assert_eq!(read(0xC001_0139).unwrap(), 0);
    assert_eq!(host.json(&["host", "status", "--json"])["foreign_writes"], 1);
    let cpuid = File::open(host.root.join("dev/cpu/0/cpuid")).unwrap();
    let mut leaf = [0; 16];
    cpuid.read_exact_at(&mut leaf, 0x8000_0025).unwrap();
    assert_eq!(leaf[12..], 1u32.to_le_bytes(), "RMPOPT");
    assert_eq!(code(cpuid.read_at(&mut leaf[..15], 0).unwrap_err()), einval);
    let own = |cpu: &str| {
        let mut leaf = [0; 16];
        let file = File::open(host.root.join(format!("dev/cpu/{cpu}/cpuid"))).unwrap();
        file.read_exact_at(&mut leaf, 1 << 32 | 0xB).unwrap();
        u32::from_le_bytes(leaf[12..].try_into().unwrap())
    };
    assert_ne!(own("0"), own("1"), "each CPU has its own number");
}

#[test]
fn files_that_are_written() {
    if skip("files_that_are_written") {
        return;
    }
    let host = Host::up("small", &["--speed", "0", "--policy", "tracked"]);
    let path = |name: &str| host.root.join(name);
    let put = |name: &str, text: &str| fs::write(path(name), text).map_err(|e| e.raw_os_error());
    let get = |name: &str| fs::read_to_string(path(name)).unwrap();
    let (einval, eperm) = (Some(22), Some(1));
    let action = "sys/kernel/config/rmpopt/action";
    assert_eq!(get(action), "RMP optimization in progress: No\n");
    assert_eq!(put(action, "1\n"), Ok(()));
    for wrong in ["0", "2", "x", ""] {
        // An empty write reaches nobody.
        assert_eq!(put(action, wrong), if wrong.is_empty() { Ok(()) } else { Err(einval) });
    }
    let pause = "sys/kernel/config/rmpopt/pause";
    assert_eq!((put(pause, "1"), get(pause)), (Ok(()), "1\n".to_owned()));
    let regions = "sys/kernel/debug/x86/rmpopt/regions";
    assert!(get(regions).starts_with("# policy tracked, paused, first pass over, "));
    assert_eq!((put(pause, "0"), get(pause)), (Ok(()), "0\n".to_owned()));
    assert!(fs::create_dir(path("sys/x")).is_err_and(|e| e.raw_os_error() == eperm));
    assert!(fs::remove_file(path(action)).is_err());
    // A CPU goes and comes.
    let all = get("sys/devices/system/cpu/online");
    assert_eq!(put("sys/devices/system/cpu/cpu1/online", "0"), Ok(()));
    host.ok(&["host", "time", "--advance", "1s"]);
    assert_ne!(get("sys/devices/system/cpu/online"), all);
    assert_eq!(get("sys/devices/system/cpu/offline"), "1\n");
    let names = |dir: &str| fs::read_dir(path(dir)).unwrap().count();
    let devices = names("dev/cpu");
    assert!(File::open(path("dev/cpu/1/msr")).is_err());
    let online = |name: &str| {
        host.json(&["status", "--json", "--root", host.root.to_str().unwrap()])["cpus"][name]
            .clone()
    };
    assert_eq!(online("offline"), "1");
    assert_eq!(put("sys/devices/system/cpu/cpu1/online", "1"), Ok(()));
    host.ok(&["host", "time", "--advance", "1s"]);
    assert_eq!((get("sys/devices/system/cpu/online"), names("dev/cpu")), (all, devices + 1));
    // Upstream's v10 has no files and keeps CPUs where they are.
    let v10 = Host::up("small", &["--speed", "0", "--policy", "v10"]);
    assert!(!v10.root.join("sys/kernel/debug").exists());
    let busy = fs::write(v10.root.join("sys/devices/system/cpu/cpu1/online"), "0");
    assert_eq!(busy.unwrap_err().raw_os_error(), Some(16));
}

#[test]
fn nothing_is_left_whatever_ends_the_host() {
    if skip("nothing_is_left_whatever_ends_the_host") {
        return;
    }
    let host = Host::up("small", &["--speed", "0"]);
    let root = host.root.clone();
    assert!(is_mounted(&root));
    let pid = host.json(&["host", "status", "--json"])["pid"].to_string();
    // Two of one name are one too many, two of two names are not.
    let again = host.run(&["host", "up", "small"]);
    assert_eq!(again.status.code(), Some(3), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("--name"), "{again:?}");
    let mount = host.dir().join("here");
    fs::create_dir(&mount).unwrap();
    host.ok(&["host", "up", "small", "--name", "other", "--mount", mount.to_str().unwrap()]);
    assert!(is_mounted(&mount) && is_mounted(&root));
    host.ok(&["host", "down", "--name", "other"]);
    assert!(!is_mounted(&mount) && is_mounted(&root));
    // Killed, with a file open.
    let _open = File::open(root.join("proc/iomem")).unwrap();
    live_host::kill("KILL", &pid);
    eventually("the watcher takes the mount away", || !is_mounted(&root));
    eventually("and the files", || !host.dir().join("rmpopt/host").exists());
    assert_eq!(host.run(&["host", "status"]).status.code(), Some(3));
    // In the foreground, by signals.
    for signal in ["INT", "TERM", "HUP"] {
        let args = ["host", "up", "small", "--foreground", "--speed", "0"];
        let mut child = host.command(&args).stdout(Stdio::piped()).spawn().unwrap();
        let mut told = child.stdout.take().unwrap();
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            told.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        assert!(is_mounted(&root), "{signal}");
        live_host::kill(signal, &child.id().to_string());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
        assert!(!is_mounted(&root) && !host.dir().join("rmpopt/host").exists(), "{signal}");
    }
}

#[test]
fn the_socket_takes_no_harm() {
    if skip("the_socket_takes_no_harm") {
        return;
    }
    let host = Host::up("small", &["--speed", "0"]);
    let path = host.dir().join("rmpopt/host/socket");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let long = "x".repeat(3 << 20);
    for line in ["", "\n", "{}\n", "{\"op\":\"up\"}\n", "\0\0\n", &long] {
        let mut stream = UnixStream::connect(&path).unwrap();
        // The host may have had enough before all is sent.
        let _ = stream.write_all(line.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.starts_with("{\"refused\":"), "{answer}");
    }
    host.ok(&["host", "status"]);
}

#[test]
fn exec_is_the_program_and_nothing_else() {
    if skip("exec_is_the_program_and_nothing_else") {
        return;
    }
    let runtime = Runtime::new();
    let exec = |script: &str| {
        runtime.run(&[
            "host",
            "exec",
            "--scenario",
            "small",
            "--speed",
            "0",
            "--",
            "sh",
            "-c",
            script,
        ])
    };
    let run = exec("echo out; echo err >&2; exit 7");
    assert_eq!((run.status.code(), stdout(&run).as_str()), (Some(7), "out\n"));
    assert_eq!(String::from_utf8_lossy(&run.stderr), "err\n");
    assert_eq!(exec("kill -9 $$").status.code(), Some(137));
    // Its files lie at the real places, and nowhere else.
    let run = exec(
        "cat /sys/kernel/debug/x86/rmpopt/regions | head -n 1; cat /sys/module/kvm_amd/parameters/sev_snp; \
         cat /sys/kernel/config/rmpopt/action; ls /sys/module | grep -c .; ls /proc/driver | grep -c iomem; \
         cat /sys/fs/cgroup/misc.current; ls /sys/fs/cgroup | grep -c .",
    );
    let text = stdout(&run);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("# policy tracked, runs, first pass over, "), "{text}");
    assert_eq!(lines[1..3], ["Y", "RMP optimization in progress: No"]);
    let modules = fs::read_dir("/sys/module").unwrap().count();
    assert!(
        lines[3].parse::<usize>().unwrap() >= modules,
        "the machine's own are there too: {text}"
    );
    assert_eq!(lines[4], "0");
    assert!(lines[5] == "sev 0" && lines[6].starts_with("sev_es "), "{text}");
    let groups = fs::read_dir("/sys/fs/cgroup").map_or(0, Iterator::count);
    assert!(lines[7].parse::<usize>().unwrap() >= groups, "{text}");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("rmpopt:exec"));
    let none = runtime.run(&["host", "exec", "--scenario", "small", "--", "/no/such/program"]);
    assert_eq!(none.status.code(), Some(127), "{none:?}");
    let file = runtime.dir().join("no-program");
    fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let bad = runtime.run(&["host", "exec", "--scenario", "small", "--", file]);
    assert_eq!(bad.status.code(), Some(126), "{bad:?}");
    // Signals reach the program.
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let args = ["host", "exec", "--scenario", "small", "--", "sh", "-c", script];
    let mut child = runtime.command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    live_host::kill("TERM", &child.id().to_string());
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

/// Whether a program is there; says so if not.
fn has(test: &str, program: &str) -> bool {
    let there = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !there {
        println!("skipped: {test}: {program} is missing");
    }
    there
}

#[test]
fn programs_that_were_never_written_for_it() {
    let test = "programs_that_were_never_written_for_it";
    if skip(test) || !["rdmsr", "cpuid", "lscpu", "numactl"].iter().all(|p| has(test, p)) {
        return;
    }
    let host = Host::up("venice-2p", &["--speed", "0"]);
    let exec = |words: &[&str]| {
        let run = host.run(&[&["host", "exec", "--"][..], words].concat());
        assert_eq!(run.status.code(), Some(0), "{words:?}: {run:?}");
        stdout(&run)
    };
    let text = exec(&["rdmsr", "-a", "0xc0010139"]);
    let values: Vec<&str> = text.lines().collect();
    // Each socket's cores have a window of their own; CPU 512 is the sibling of CPU 0.
    assert_eq!((values.len(), values[0], values[512]), (1024, values[0], values[0]));
    assert!(values.iter().all(|value| value.ends_with('1')), "RMPOPT is on everywhere");
    assert_eq!(values.iter().filter(|value| **value == values[0]).count(), 512);
    let text = exec(&["rdmsr", "-p", "255", "0xc0010010"]);
    assert_eq!(text, "3fc0000\n");
    let text = exec(&["cpuid", "-k", "-r", "-l", "0x80000025"]);
    let leaf = "0x80000025 0x00: eax=0x00000aa4 ebx=0x00000010 ecx=0x00000000 edx=0x00000001";
    assert_eq!(text.lines().filter(|line| line.trim() == leaf).count(), 1024, "{text:.2000}");
    let text = exec(&["lscpu"]);
    let value = |label: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(label));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim())
            .unwrap_or_default()
    };
    for (label, expected) in [
        ("CPU(s):", "1024"),
        ("On-line CPU(s) list:", "0-1023"),
        ("Vendor ID:", "AuthenticAMD"),
        ("Model name:", "AMD EPYC (emulated by rmpopt)"),
        ("Thread(s) per core:", "2"),
        ("Core(s) per socket:", "256"),
        ("Socket(s):", "2"),
        ("L1d cache:", "24 MiB (512 instances)"),
        ("L3 cache:", "1 GiB (32 instances)"),
        ("NUMA node(s):", "2"),
        ("NUMA node0 CPU(s):", "0-255,512-767"),
        ("NUMA node1 CPU(s):", "256-511,768-1023"),
    ] {
        assert_eq!(value(label), expected, "{label} in {text}");
    }
    let text = exec(&["numactl", "-H"]);
    assert!(text.starts_with("available: 2 nodes (0-1)\n"), "{text}");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    for node in 0..2 {
        let size = lines.iter().find_map(|line| line.strip_prefix(&format!("node {node} size: ")));
        let mib: u64 = size.unwrap().strip_suffix(" MB").unwrap().parse().unwrap();
        assert!((1_040_000..=1_048_576).contains(&mib), "{text}");
    }
    assert!(lines.contains(&"0:  10  32") && lines.contains(&"1:  32  10"), "{text}");
}

/// `snphost ok` executes CPUID, so what comes from that is this machine's, and rows that follow from a
/// row that failed are skipped; what comes from MSRs and module parameters is the emulated host's.
#[test]
fn snphost_sees_registers_and_parameters() {
    let test = "snphost_sees_registers_and_parameters";
    if skip(test) || !has(test, "snphost") {
        return;
    }
    let runtime = Runtime::new();
    // It knows the contiguous RMP alone.
    let file = runtime.dir().join("contiguous.toml");
    let scenario = "schema_version = 1\nname = \"contiguous\"\ndescription = \"4 cores\"\nuntil = \"9s\"\n\
        [host]\nsockets = 1\ncores_per_socket = 4\nmemory = \"16GiB\"\nrmp = \"contiguous\"\n";
    fs::write(&file, scenario).unwrap();
    let exec = |words: &[&str]| {
        let base = ["host", "exec", "--scenario", file.to_str().unwrap(), "--speed", "0", "--"];
        runtime.run(&[&base[..], words].concat())
    };
    let status = exec(&[env!("CARGO_BIN_EXE_rmpopt"), "status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let edge = |edge: &str| {
        let text = status["rmp"]["ranges"][0][edge].as_str().unwrap();
        u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
    };
    let told = stdout(&exec(&["snphost", "ok"]));
    let row = |name: &str| {
        let line = told.lines().find(|line| line.contains(name));
        line.unwrap_or_else(|| panic!("{name} is not in {told}"))
    };
    // SME and SNP_EN, where CPUID shows SME and SEV-SNP.
    assert!(!told.contains("Disabled in MSR") && !told.contains("MSR read failed"), "{told}");
    let mut seen = told.matches("Enabled in MSR").count();
    for name in ["SEV enabled in KVM", "SEV-ES enabled in KVM", "SEV-SNP enabled in KVM"] {
        let row = row(name);
        if !row.contains("SKIP") {
            assert!(row.contains("PASS") && row.contains(": enabled"), "{row}");
            seen += 1;
        }
    }
    let row =
        row(if told.contains("RMP table addresses") { "RMP table addresses" } else { "RMP table" });
    if !row.contains("SKIP") {
        let (base, end) = (edge("start"), edge("last"));
        let shown = row.contains(&format!("{base} - {end}"))
            || row.contains(&format!("{base:#x} - {end:#x}"));
        assert!(row.contains("PASS") && shown, "{base} {end} in {row}");
        seen += 1;
    }
    if seen == 0 {
        println!("skipped: {test}: CPUID and /dev/kvm of this machine leave no row to snphost");
    }
}

#[test]
fn without_root_it_says_what_is_needed() {
    if skip("without_root_it_says_what_is_needed") {
        return;
    }
    // Nobody's, in a place where nobody may write.
    let runtime = Runtime::new();
    fs::set_permissions(runtime.dir(), fs::Permissions::from_mode(0o777)).unwrap();
    let run = runtime.run_as_nobody(&["host", "up", "small"]);
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(3), "{said}");
    assert!(
        said.contains("root") && said.contains("/dev/fuse") || said.contains("namespaces"),
        "{said}"
    );
    assert!(cannot_mount().is_none());
}
