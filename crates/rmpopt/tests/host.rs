//! `rmpopt status`, `doctor`, `regions`, `snapshot` on a host made of files.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake_host;

use std::path::Path;

use assert_cmd::assert::Assert;
use assert_cmd::cargo::cargo_bin_cmd;
use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::{contains, is_empty};
use serde_json::Value;

fn rmpopt(args: &[&str]) -> Assert {
    cargo_bin_cmd!("rmpopt").args(args).assert()
}

fn json(args: &[&str]) -> Value {
    let assert = rmpopt(args);
    serde_json::from_slice(&assert.get_output().stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_tree_and_its_snapshot_say_the_same() {
    let dir = fake_host::dir();
    let (tree, file) = (dir.path().join("tree"), dir.path().join("s.json"));
    fake_host::write(&tree);
    let (tree, file) = (text(&tree), text(&file));
    for deep in [false, true] {
        let flags: &[&str] = if deep { &["--deep"] } else { &[] };
        rmpopt(&[&["snapshot", "--root", tree, "-o", file][..], flags].concat()).code(0);
        for command in ["status", "doctor", "regions"] {
            let of_tree = json(&[&[command, "--json", "--root", tree][..], flags].concat());
            assert_eq!(of_tree, json(&[command, "--json", "--from", file]), "{command} {deep}");
        }
        // Others' command lines are not in it.
        let snapshot = std::fs::read_to_string(file).unwrap();
        assert!(!snapshot.contains("secret-of-another-process"));
        // Nor are other domains of libvirt, and of SNP guests what nobody asks for.
        assert!(!snapshot.contains("secret-of-a-console") && !snapshot.contains("plain-secret"));
        rmpopt(&["snapshot", "--root", tree, "-o", file])
            .code(3)
            .stderr(contains("exists already"));
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn facts_of_a_big_host() {
    let dir = fake_host::dir();
    fake_host::write(dir.path());
    let root = text(dir.path());
    let status = json(&["status", "--json", "--root", root]);
    let at = |pointer: &str| status.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(at("/schema_version"), 1);
    assert_eq!(at("/capability/rmpopt_capable"), true);
    assert_eq!(at("/capability/cpus_agree"), true);
    assert_eq!(at("/snp/enabled"), true);
    assert_eq!(at("/rmp/kind"), "segmented");
    assert_eq!(at("/rmp/uncovered_bytes"), 0);
    assert_eq!((at("/cpus/online"), at("/cpus/cores")), (1024.into(), 512.into()));
    assert_eq!(at("/cpus/sockets"), 2);
    // The same where CPUs have lists of their socket's, which are looked at first.
    for cpu in [0, 256] {
        let list = if cpu == 0 { "0-255,512-767\n" } else { "256-511,768-1023\n" };
        let topology = format!("sys/devices/system/cpu/cpu{cpu}/topology");
        std::fs::write(dir.path().join(&topology).join("package_cpus_list"), list).unwrap();
        let id = dir.path().join(&topology).join("physical_package_id");
        std::fs::write(id, "7\n").unwrap();
    }
    assert_eq!(json(&["status", "--json", "--root", root])["cpus"]["sockets"], 2);
    assert_eq!((at("/rmpopt/cores_asked"), at("/rmpopt/cores_enabled")), (512.into(), 512.into()));
    let tunables = serde_json::json!({"delay_ms": 1000, "hold_us": 100, "sweep": 0});
    assert_eq!(at("/driver/tunables"), tunables);
    rmpopt(&["status", "--root", root])
        .code(0)
        .stdout(contains("set to delay_ms 1000, hold_us 100, sweep 0"));
    let tib = 1u64 << 40;
    assert_eq!(at("/memory/ram_bytes"), 12 * tib);
    assert_eq!(at("/memory/nodes/0/ram_bytes"), 6 * tib);
    // Rows 0-2047 less the hole of 2-56 GiB; of those 0 and the guests' 100-299 are on no core.
    assert_eq!(at("/memory/regions/none"), 201);
    assert_eq!(at("/memory/regions/optimised"), 2048 - 54 - 201);
    assert_eq!(at("/memory/regions/outside"), 12 * 1024 - (2048 - 54));
    assert_eq!(at("/memory/nodes/0/optimised_bytes"), (2048u64 - 54 - 201) << 30);
    assert_eq!(at("/memory/nodes/1/optimised_bytes"), 0);
    assert_eq!(at("/driver/kind"), "ours");
    assert_eq!(at("/driver/emulated"), false);
    assert_eq!(at("/guests/processes/0/name"), "web");
    assert_eq!(at("/guests/processes/0/memory_bytes"), 100u64 << 30);
    // RAM lies beyond the window: that is the one problem.
    let doctor = json(&["doctor", "--json", "--root", root]);
    let failed: Vec<_> =
        doctor["checks"].as_array().unwrap().iter().filter(|c| c["status"] == "problem").collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0]["id"], "D012");
    rmpopt(&["doctor", "--root", root]).code(1);
}

/// Our module with emulated hardware on the same machine: what it says is of its own host.
#[test]
fn an_emulated_drivers_regions_are_its_own_hosts() {
    let dir = fake_host::dir();
    fake_host::write(dir.path());
    let root = text(dir.path());
    let put = |path: &str, text: &str| std::fs::write(dir.path().join(path), text).unwrap();
    std::fs::create_dir(dir.path().join("sys/kernel/debug/x86/rmpopt/emu")).unwrap();
    put(
        "sys/kernel/debug/x86/rmpopt/regions",
        "# policy tracked, runs, first pass over, last change 5 ms ago\n\
         0 1024 unknown 0\n1 512 clean 512\n2 0 unknown 0\n3 1024 clean 512\n",
    );
    let status = json(&["status", "--json", "--root", root]);
    let at = |pointer: &str| status.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!((at("/driver/emulated"), at("/memory/source")), (true.into(), "driver".into()));
    assert_eq!(at("/memory/ram_bytes"), (2u64 << 30) + (512 << 20));
    assert_eq!(at("/memory/nodes"), serde_json::json!([]));
    // By the table: region 0 on no core, the others on all.
    assert_eq!(at("/memory/regions"), serde_json::json!({ "none": 1, "optimised": 2 }));
    assert!(at("/anomalies").to_string().contains("emulated hardware"), "{status}");
    // The machine's own facts stay its own.
    assert_eq!(
        (at("/rmp/ram_end"), at("/rmp/uncovered_bytes")),
        ((12342u64 << 30).into(), 0.into())
    );
    let regions = json(&["regions", "--json", "--root", root]);
    assert_eq!(regions["ram_source"], "driver");
    let gibs: Vec<_> = regions["regions"].as_array().unwrap().iter().map(|r| &r["gib"]).collect();
    assert_eq!(gibs, [0, 1, 3]);
    rmpopt(&["status", "--root", root])
        .stdout(contains("2.5 GiB of the emulated host's RAM by driver"))
        .stdout(contains("rmpopt.ko, on emulated hardware"));
}

#[test]
fn automation_learns_what_could_not_be_checked() {
    let dir = tempfile::tempdir().unwrap();
    let empty = text(dir.path());
    // Nothing is known of an empty folder: no problem is found, and by itself that is 0.
    rmpopt(&["doctor", "--root", empty]).code(0).stdout(contains("no problem found"));
    rmpopt(&["doctor", "--root", empty, "--strict"]).code(5).stderr(contains("D001, D002"));
    rmpopt(&["doctor", "--root", empty, "--strict=D003,D006"])
        .code(5)
        .stderr(contains("could not be checked: D003, D006"));
    let doctor = json(&["doctor", "--root", empty, "--strict=D003", "--json"]);
    assert_eq!((&doctor["problems"], &doctor["missed"]), (&0.into(), &serde_json::json!(["D003"])));
    assert_eq!(json(&["doctor", "--root", empty, "--json"])["missed"], Value::Null);
    rmpopt(&["doctor", "--strict=D999"]).code(2).stderr(contains("expected checks such as"));

    let file = dir.path().join("s.json");
    fake_host::snapshot(&file);
    let file = text(&file);
    // A problem counts more, and what was checked is not missed.
    rmpopt(&["doctor", "--from", file, "--strict"]).code(1);
    let doctor = json(&["doctor", "--from", file, "--strict=D012", "--json"]);
    assert_eq!(doctor["missed"], serde_json::json!([]));
}

#[test]
fn a_snapshot_is_replaced_only_if_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.json");
    std::fs::write(&file, "old").unwrap();
    let base = ["snapshot", "--root", text(dir.path()), "-o", text(&file)];
    rmpopt(&base).code(3);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
    rmpopt(&[&base[..], &["--replace", "--mode", "040"]].concat()).code(2);
    rmpopt(&[&base[..], &["--replace", "--mode", "9"]].concat()).code(2);
    rmpopt(&[&base[..], &["--replace"]].concat()).code(0);
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("{\"format\":"));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn regions_are_filtered() {
    let dir = fake_host::dir();
    fake_host::write(dir.path());
    let root = text(dir.path());
    let count = |args: &[&str]| {
        let all = json(&[&["regions", "--json", "--root", root][..], args].concat());
        all["regions"].as_array().unwrap().len()
    };
    assert_eq!(count(&["--state", "none"]), 201);
    assert_eq!(count(&["--gib", "0-63"]), 2 + 8);
    assert_eq!(count(&["--node", "1", "--state", "optimised,none"]), 0);
    rmpopt(&["regions", "--root", root, "--state", "no"]).code(2);
    rmpopt(&["regions", "--root", root, "--gib", "0-99"]).code(0).stdout(contains("56 GiB").not());
    rmpopt(&["regions", "--root", root, "--list", "--gib", "100"])
        .code(0)
        .stdout(contains("0/512"));
}

#[test]
fn nothing_steers_the_terminal() {
    let dir = fake_host::dir();
    fake_host::write(dir.path());
    let root = text(dir.path());
    for args in [&["status", "--root", root][..], &["status", "--json", "--root", root]] {
        let assert = rmpopt(args).code(0);
        let out = &assert.get_output().stdout;
        assert!(out.iter().all(|b| *b == b'\n' || *b >= b' '), "a control byte");
        assert!(String::from_utf8_lossy(out).contains("owned"));
    }
}

#[test]
fn redaction_takes_names_out() {
    let dir = fake_host::dir();
    let (tree, file) = (dir.path().join("tree"), dir.path().join("s.json"));
    fake_host::write(&tree);
    rmpopt(&["snapshot", "--redact", "--root", text(&tree), "-o", text(&file)]).code(0);
    let snapshot = std::fs::read_to_string(&file).unwrap();
    for secret in ["secret", "web", "owned", "joe", "vault", "c7a5fdbd"] {
        assert!(!snapshot.contains(secret), "{secret}");
    }
    let status = json(&["status", "--json", "--from", text(&file)]);
    assert_eq!(status["guests"]["processes"][0]["name"], "guest-4711");
    let uuid = &status["guests"]["processes"][0]["libvirt"]["uuid"];
    assert!(uuid.as_str().is_some_and(|uuid| uuid.starts_with("00000000-")), "{uuid}");
    assert_eq!(status["guests"]["defined"].as_array().map(Vec::len), Some(1));
    assert_eq!(status["rmp"]["uncovered_bytes"], 0);
}

/// A guest that libvirt runs is one guest, with libvirt's name; files that say nonsense are named.
#[test]
fn guests_that_libvirt_knows() {
    let dir = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let root = text(dir.path());
    put("proc/7/cmdline", "qemu-kvm\0-name\0guest=by-line\0-object\0sev-snp-guest,id=a\0");
    let status = || json(&["status", "--json", "--root", root]);
    assert_eq!(status()["guests"]["processes"][0]["libvirt"], Value::Null);
    assert_eq!(status()["guests"]["defined"], Value::Null, "no libvirt, so not known");
    let secured = "<launchSecurity type='sev-snp'><policy>0x30000</policy></launchSecurity>";
    let domain = |name: &str| {
        format!("<domain><name>{name}</name><memory unit='GiB'>4</memory>{secured}</domain>")
    };
    let runs = |pid: u32, name: &str| {
        format!("<domstatus state='paused' pid='{pid}'>{}</domstatus>", domain(name))
    };
    put("run/libvirt/qemu/web.xml", &runs(7, "web"));
    put("etc/libvirt/qemu/web.xml", &domain("web"));
    put("etc/libvirt/qemu/idle.xml", &domain("idle"));
    let found = status();
    let guest = &found["guests"]["processes"][0];
    assert_eq!((&guest["name"], &guest["memory_bytes"]), (&"web".into(), &(4u64 << 30).into()));
    assert_eq!(guest["libvirt"]["policy"], "0x30000");
    assert_eq!(found["guests"]["defined"][0]["name"], "idle");
    assert_eq!(found["guests"]["defined"].as_array().map(Vec::len), Some(1));
    rmpopt(&["status", "--root", root])
        .code(0)
        .stdout(contains("qemu web, 4 GiB, pid 7, policy 0x30000, libvirt: paused"))
        .stdout(contains("1 defined in libvirt, not running"))
        .stdout(contains("qemu idle, 4 GiB, policy 0x30000"));
    // A file that was left behind, one that was cut, and entities.
    put("run/libvirt/qemu/left.xml", &runs(99, "left"));
    put("run/libvirt/qemu/cut.xml", "<domstatus pid='8'>\n<domain>");
    put("etc/libvirt/qemu/laughs.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><domain>&b;</domain>");
    let found = status();
    let anomalies: Vec<&str> =
        found["anomalies"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for part in [
        "libvirt: left runs as process 99, which is no SNP guest",
        "/run/libvirt/qemu/cut.xml:1:",
        "/etc/libvirt/qemu/laughs.xml:1:",
    ] {
        assert!(anomalies.iter().any(|a| a.starts_with(part)), "{part}: {anomalies:?}");
    }
    assert_eq!(found["guests"]["processes"].as_array().map(Vec::len), Some(1));
    let file = dir.path().join("s.json");
    rmpopt(&["snapshot", "--root", root, "-o", text(&file)]).code(0);
    assert_eq!(json(&["status", "--json", "--from", text(&file)]), found);
    rmpopt(&["snapshot", "--root", root, "-o", text(&file), "--replace", "--redact"]).code(0);
    let kept = std::fs::read_to_string(&file).unwrap();
    for name in ["web", "idle", "left", "cut.xml", "laughs", "by-line"] {
        assert!(!kept.contains(name), "{name}");
    }
    rmpopt(&["status", "--from", text(&file)]).code(0).stdout(contains("guest-7"));
}

/// The lab takes a host's folder, or its snapshot, as it takes files that were sent.
#[test]
fn the_lab_runs_on_a_folder_and_its_snapshot() {
    let dir = fake_host::dir();
    let (tree, file) = (dir.path().join("tree"), dir.path().join("s.json"));
    fake_host::write(&tree);
    let (tree, file) = (text(&tree), text(&file));
    rmpopt(&["snapshot", "--root", tree, "-o", file]).code(0);
    let report = |sent: &str| {
        let mut report = json(&["run", "--host", sent, "--json", "--until", "3s"]);
        report["wall_s"] = Value::Null;
        report
    };
    let of_tree = report(tree);
    let host = &of_tree["host"];
    assert_eq!((&host["sockets"], &host["cores"]), (&2.into(), &512.into()));
    assert_eq!((&host["cpus"], &host["memory_bytes"]), (&1024.into(), &(12u64 << 40).into()));
    // Nothing that the host states is assumed.
    let parts = ["CPUs", "NUMA", "memory", "threads", "RMP: segmented"];
    let stated = |text: &&Value| parts.iter().any(|p| text.as_str().unwrap().starts_with(p));
    assert_eq!(of_tree["assumed"].as_array().unwrap().iter().find(stated), None);
    assert_eq!(report(file), of_tree);
    // Without any rights RAM is hidden and nothing is said of the RMP: both are assumed, and said.
    std::fs::write(format!("{tree}/proc/iomem"), "00000000-00000000 : System RAM\n").unwrap();
    std::fs::write(format!("{tree}/var/log/dmesg"), "").unwrap();
    let run = rmpopt(&["run", "--host", tree, "--json", "--until", "3s"])
        .code(0)
        .stderr(contains("memory map not known: /proc/iomem: needs root"));
    let report: Value = serde_json::from_slice(&run.get_output().stdout).unwrap();
    let assumed = report["assumed"].to_string();
    assert!(assumed.contains("as numactl states"), "{assumed}");
    // What says nonsense is named, and a host of which nothing is known is none.
    std::fs::write(format!("{tree}/sys/devices/system/cpu/online"), "0-\n").unwrap();
    rmpopt(&["run", "--host", tree]).code(2).stderr(contains("/sys/devices/system/cpu/online:1:"));
    let nothing = serde_json::json!({"format": "rmpopt-snapshot", "version": 1, "taken_s": 0,
        "deep": false, "redacted": false, "items": {}});
    std::fs::write(file, nothing.to_string()).unwrap();
    rmpopt(&["run", "--host", file]).code(2).stderr(contains("nothing that describes a host"));
}

/// The firmware is asked only if that is said; what it answers is in a snapshot.
#[test]
fn the_firmware_is_asked_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let (root, file) = (dir.path().join("tree"), dir.path().join("s.json"));
    std::fs::create_dir_all(root.join("dev")).unwrap();
    let (root, file) = (text(&root), text(&file));
    let said = |status: &Value| {
        let mut sources = status["sources"].as_array().unwrap().iter();
        let firmware = sources.find(|source| source["fact"] == "firmware").unwrap();
        assert_eq!(status["firmware"], Value::Null);
        assert!(!status["needs_deep"].as_array().unwrap().contains(&"firmware".into()));
        firmware["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(said(&json(&["status", "--json", "--root", root])), "not-asked");
    let asked = || json(&["status", "--json", "--firmware", "--root", root]);
    assert_eq!(said(&asked()), "absent");
    rmpopt(&["status", "--root", root]).code(0).stdout(contains("firmware").not());
    rmpopt(&["status", "--firmware", "--root", root])
        .code(0)
        .stdout(contains("firmware      /dev/sev: absent"));
    for flags in [&[][..], &["--firmware"]] {
        rmpopt(&[&["snapshot", "--replace", "--root", root, "-o", file][..], flags].concat())
            .code(0);
        let of_tree = json(&[&["status", "--json", "--root", root][..], flags].concat());
        assert_eq!(json(&["status", "--json", "--from", file]), of_tree, "{flags:?}");
    }
    // Another file in its place refuses the ioctl.
    std::fs::write(format!("{root}/dev/sev"), "").unwrap();
    assert_eq!(said(&asked()), "malformed");
    rmpopt(&["snapshot", "--replace", "--firmware", "--root", root, "-o", file]).code(0);
    assert_eq!(json(&["status", "--json", "--from", file]), asked());
    rmpopt(&["status", "--firmware", "--from", file]).code(2);

    // An answer as a firmware of 1.55 gives it, one guest of which no process is seen.
    let answer = "0137010318000000040000000100000003000000000000160300000000000016";
    let snapshot = serde_json::json!({
        "format": "rmpopt-snapshot", "version": 1, "taken_s": 1, "deep": false, "redacted": false,
        "items": {"/dev/sev": {"at": {"0": {"Ok": answer}}}, "/proc": {"names": []}},
    });
    std::fs::write(file, snapshot.to_string()).unwrap();
    let status = json(&["status", "--json", "--from", file]);
    let firmware = &status["firmware"];
    assert_eq!((&firmware["api"], &firmware["build"]), (&"1.55".into(), &24.into()));
    assert_eq!((&firmware["state"], &firmware["vlek"]), (&"initialised".into(), &true.into()));
    assert_eq!(firmware["tcb"], "0x1600000000000003");
    assert_eq!(status["anomalies"][0], "the firmware manages 1 guests, 0 are among processes");
    rmpopt(&["status", "--from", file])
        .code(0)
        .stdout(contains("API 1.55, build 24, initialised; RMP initialised; alias check"));
}

#[test]
fn links_do_not_lead_out_of_a_tree() {
    let dir = fake_host::dir();
    let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
    fake_host::write(&outside);
    std::fs::create_dir_all(tree.join("proc")).unwrap();
    for (from, to) in [
        ("../../outside/proc/iomem", "proc/iomem"),
        ("../outside/sys", "sys"),
        ("../outside/cpuid.txt", "cpuid.txt"),
    ] {
        std::os::unix::fs::symlink(from, tree.join(to)).unwrap();
    }
    let status = json(&["status", "--json", "--root", text(&tree)]);
    assert_eq!(status["memory"]["source"], Value::Null);
    assert_eq!(status["cpus"]["online"], Value::Null);
    assert_eq!(status["capability"]["rmpopt_capable"], Value::Null);
}

#[test]
fn snapshots_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.json");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let read = || rmpopt(&["status", "--from", text(&file)]);
    for (content, what) in [
        ("{", "no snapshot"),
        ("{}", "missing field"),
        ("roses are red\n", "not recognised"),
        (
            "{\"format\":\"rmpopt-snapshot\",\"version\":2,\"taken_s\":0,\"deep\":false,\"redacted\":false,\"items\":{}}",
            "version 2, expected 1",
        ),
        ("CPUID 8000001F: 0101FD3F-00004133\n", ":1: "),
    ] {
        write(content);
        read().code(2).stdout(is_empty()).stderr(contains(what));
    }
    write(
        "{\"format\":\"rmpopt-snapshot\",\"version\":1,\"taken_s\":0,\"deep\":false,\"redacted\":false,\"items\":{\"/../../etc/x\":{\"text\":\"y\"},\"/proc/iomem\":{\"names\":[]}}}",
    );
    read().code(0);
    rmpopt(&["status", "--from", "/nonexistent"]).code(3);
    rmpopt(&["status", "--root", "/nonexistent"]).code(3);
    rmpopt(&["status", "--root", "/", "--from", "x"]).code(2);
    rmpopt(&["snapshot", "-o", "/nonexistent/s.json", "--root", text(dir.path())]).code(3);
}
