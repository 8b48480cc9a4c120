//! What others wrote steers no terminal, writes no file, and ends no command but with an error.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::cargo::cargo_bin_cmd;
use serde_json::{Value, json};

/// A title, a colour that no output of ours has, C1's CSI, bidi override and isolate, a carriage
/// return, a tag character.
const EVIL: &str = "\u{1b}]0;owned\u{7}\u{1b}[5;35mX\u{9b}31m\u{202e}\u{2066}\rQ\u{e0041}";

/// Runs a command and looks at both its streams.
fn run(args: &[&str], input: &str) -> Option<i32> {
    let mut command = cargo_bin_cmd!("rmpopt");
    command.args(["--color", "always"]).args(args).env("LANG", "C.UTF-8");
    let output = command.write_stdin(input.to_owned()).output().unwrap();
    for (name, bytes) in [("standard output", &output.stdout), ("standard error", &output.stderr)] {
        let text = std::str::from_utf8(bytes).unwrap();
        let plain = without_own_styles(text);
        let at = plain.find(|c: char| c != '\n' && snp_host::steers(c));
        assert!(at.is_none(), "{args:?}: {name}: {:?}", at.map(|at| plain.get(at..).unwrap_or("")));
    }
    // What was planted is shown, not lost.
    if args.first() == Some(&"status") && args.last().is_some_and(|last| last.ends_with("free")) {
        assert!(String::from_utf8_lossy(&output.stdout).contains("owned"), "{args:?}");
    }
    output.status.code()
}

/// The text without the styles that the command itself uses: colours and bold, one or two numbers.
fn without_own_styles(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out += before;
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, behind) = after.split_at(end);
        let own = ["0", "1", "2", "4", "7", "31", "32", "33", "34", "35", "36", "90", "92"];
        rest = behind
            .strip_prefix('m')
            .filter(|_| own.contains(&number) || number.is_empty())
            .unwrap_or_else(|| {
                out.push('\u{1b}');
                after
            });
    }
    out + rest
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A log with evil where each family of lines lets text in.
fn log() -> String {
    let lines = [
        format!("Linux version 7.3.4{EVIL} (joe{EVIL}@build) #1 SMP"),
        format!("BIOS-e820: [mem 0x0000000000000000-0x00000000ffffffff] usable{EVIL}"),
        "BIOS-e820: [mem 0x0000000000000000-0x00000000ffffffff] usable".to_owned(),
        format!("SEV-SNP: something new {EVIL}"),
        format!("SEV-SNP: Failed to allocate RMPOPT {EVIL}"),
        format!("SEV-SNP: RMPUPDATE failed for PFN 1000, pg_level: 1, ret: 2 {EVIL}"),
        format!("ccp 0000:22:00.1: SEV: failed to INIT error {EVIL}"),
        format!("ccp 0000:22:00.1: SEV-SNP: failed to INIT rc -5, error 0x3 {EVIL}"),
        format!("kvm_amd: SEV-SNP {EVIL} (ASIDs 1 - 99)"),
        format!("AMD-Vi: Event logged [RMP_PAGE_FAULT device=0000:00:00.0 {EVIL}]"),
        format!("BUG: unable to handle page fault for address: ffff888000000000 {EVIL}"),
        "#PF: error_code(0x80000003) - RMP violation".to_owned(),
        format!("Call Trace:\n rmpupdate{EVIL}+0x5a/0xa0\n {EVIL}rmp_make_private+0x1/0x2"),
        format!("rmpopt: not loaded: {EVIL}"),
        format!("rmpopt: parameter {EVIL} is \"{EVIL}\", expected {EVIL}"),
        format!("rmpopt: {EVIL} cannot be followed ({EVIL})"),
        format!("Memory Encryption Features active: AMD SEV {EVIL}"),
    ];
    let stamped = |(n, line): (usize, &String)| format!("[    {n}.000000] {line}\n");
    lines.iter().enumerate().map(stamped).collect()
}

const DEBUG: &str = "sys/kernel/debug/x86/rmpopt";

/// A host whose every text is what its reader takes, with evil where a text is free.
fn host_with_free_texts(root: &Path) {
    put(root, "sys/devices/system/cpu/online", "0-1\n");
    put(
        root,
        "proc/iomem",
        &format!("00000000-ffffffff : System RAM\n100000000-1ffffffff : {EVIL}\n"),
    );
    let qemu = format!("qemu-system-x86_64\0-name\0{EVIL}\0-m\01G\0-object\0sev-snp-guest,id=a\0");
    put(root, "proc/7/cmdline", &qemu);
    put(root, "sys/module/rmpopt/parameters/policy", &format!("{EVIL}\n"));
    put(root, &format!("sys/module/rmpopt/parameters/{EVIL}"), &format!("{EVIL}\n"));
    put(root, "sys/module/kvm_amd/parameters/sev_snp", EVIL);
    put(root, "sys/module/ccp/parameters/init_ex_path", EVIL);
    put(root, "sys/fs/cgroup/misc.current", &format!("sev{} 1\n", EVIL.replace('\r', "")));
    put(root, "sys/fs/cgroup/misc.capacity", "sev 9\n");
    put(root, "sys/devices/system/node/node0/cpulist", "0-1\n");
    put(root, "sys/devices/system/cpu/cpu0/topology/physical_package_id", EVIL);
    put(root, "sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0-1\n");
    // The vendor's twelve bytes are the text "\e]0;owned\a\e[".
    put(
        root,
        "cpuid.txt",
        "CPU 0:\n   0x00000000 0x00: eax=0x00000010 ebx=0x3b305d1b ecx=0x071b5b1b edx=0x6e776f9b\n",
    );
    put(root, "dmesg.txt", &log());
    // XML holds no control characters but these; bidi marks it does.
    let name: String = EVIL.chars().filter(|c| !c.is_ascii_control() || *c == '\r').collect();
    let domain = format!(
        "<domain><name>{name}owned</name><cpu mode='{name}'/><numatune><memory mode='{name}' \
         nodeset='0'/></numatune><launchSecurity type='sev-snp'/></domain>"
    );
    for (file, pid) in [("web.xml", 7), (&format!("{EVIL}.xml"), 8)] {
        let status = format!("<domstatus state='{name}' pid='{pid}'>{domain}</domstatus>");
        put(root, &format!("run/libvirt/qemu/{file}"), &status);
    }
    put(root, "etc/libvirt/qemu/idle.xml", &domain.replace("owned", "idle"));
    put(root, &format!("{DEBUG}/stats"), "rmpopt.executed 1\n");
    put(
        root,
        &format!("{DEBUG}/regions"),
        "# policy tracked, runs, first pass over, last change 1 ms ago\n",
    );
    put(root, &format!("{DEBUG}/rmpopt-table"), "Memory @  0GB: CPU(s): 0-1\n");
}

/// A host whose every file is wrong, with evil in it.
fn host_of_wrong_files(root: &Path) {
    host_with_free_texts(root);
    let wrong = format!("{EVIL}\n");
    for path in [
        "sys/devices/system/cpu/online",
        "sys/devices/system/cpu/present",
        "proc/iomem",
        "sys/fs/cgroup/misc.current",
        "sys/devices/system/node/node0/cpulist",
        "sys/devices/system/memory/block_size_bytes",
        "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
        "rdmsr-c0010010.txt",
        "rdmsr-c0010139.txt",
        "sys/kernel/config/rmpopt/delay_ms",
        "run/libvirt/qemu/web.xml",
        "etc/libvirt/qemu/idle.xml",
    ] {
        put(root, path, &wrong);
    }
    put(root, &format!("etc/libvirt/qemu/{EVIL}.xml"), &format!("<{EVIL}/>"));
    for file in ["stats", "regions", "rmpopt-table"] {
        put(root, &format!("{DEBUG}/{file}"), &wrong);
    }
    put(root, "cpuid.txt", &format!("CPUID 8000001F: {EVIL}\n"));
}

/// A snapshot whose every answer is evil, at paths that lead out of any folder.
fn snapshot() -> String {
    let why = [
        json!({"malformed": {"line": 1, "expected": EVIL, "found": EVIL}}),
        json!({"io": EVIL}),
        json!("forbidden"),
    ];
    let mut items: BTreeMap<String, Value> = BTreeMap::new();
    for (n, path) in [
        "/sys/devices/system/cpu/online",
        "/proc/iomem",
        "/sys/module",
        "/sys/kernel/debug/x86/rmpopt/stats",
        "/sys/kernel/debug/x86/rmpopt/rmpopt-table",
        "/dev/kmsg",
        "/cpuid.txt",
        "/etc/libvirt/qemu",
        "/run/libvirt/qemu/evil.xml",
    ]
    .into_iter()
    .enumerate()
    {
        items.insert(path.to_owned(), json!({"failed": why[n % why.len()]}));
    }
    items.insert("/dev/cpu/0/msr".to_owned(), json!({"at": {"3221291024": {"Ok": EVIL}}}));
    items.insert("/proc".to_owned(), json!({"names": ["../../../../../../tmp/evil", EVIL, "7"]}));
    items.insert("/run/libvirt/qemu".to_owned(), json!({"names": ["evil.xml", "../x.xml"]}));
    items.insert(
        "/proc/7/cmdline".to_owned(),
        json!({"text": format!("qemu\0-name\0{EVIL}\0-object\0sev-snp-guest\0")}),
    );
    for path in
        ["/../../../../tmp/evil", "../evil", "/etc/evil", "evil", "//evil", "/proc/\0evil", EVIL]
    {
        items.insert(path.to_owned(), json!({"text": "evil"}));
    }
    json!({"format": "rmpopt-snapshot", "version": 1, "taken_s": 1, "deep": false, "redacted": false,
        "items": items})
    .to_string()
}

/// Each command that shows a host, in each of its forms.
const SHOWING: [&[&str]; 11] = [
    &["status"],
    &["status", "--json"],
    &["doctor"],
    &["doctor", "--json"],
    &["regions"],
    &["regions", "--list"],
    &["regions", "--json"],
    &["top", "--once"],
    &["top", "--once", "--size", "200x60"],
    &["top", "--once", "--no-unicode", "--size", "150x50"],
    &["top", "--json", "--frames", "2", "--interval", "100ms"],
];

#[test]
fn what_a_host_says_steers_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for (name, write) in [
        ("free", host_with_free_texts as fn(&Path)),
        ("wrong", host_of_wrong_files),
        // The folder's own name, too.
        (&format!("evil{EVIL}"), host_of_wrong_files),
    ] {
        let root = dir.path().join(name);
        write(&root);
        let root = root.to_str().unwrap();
        for command in SHOWING {
            run(&[command, &["--root", root]].concat(), "");
        }
        let file = dir.path().join(format!("snapshot-{name}"));
        let file = file.to_str().unwrap();
        assert_eq!(run(&["snapshot", "--root", root, "-o", file], ""), Some(0));
        for command in SHOWING {
            run(&[command, &["--from", file]].concat(), "");
        }
        // Another time it exists, which is an error with its name.
        assert_eq!(run(&["snapshot", "--root", root, "-o", file], ""), Some(3));
    }
}

#[test]
fn what_a_snapshot_or_log_says_steers_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let texts = [
        snapshot(),
        log(),
        format!("{{\"format\": \"{}\"}}", EVIL.escape_default()),
        format!("{{{EVIL}"),
        format!("CPUID 8000001F: 0101FD3F-00004133-{EVIL}\n"),
        EVIL.to_owned(),
    ];
    for (n, text) in texts.iter().enumerate() {
        for name in [format!("{n}"), format!("{n}{EVIL}")] {
            let file = dir.path().join(name);
            fs::write(&file, text).unwrap();
            let file = file.to_str().unwrap();
            for command in SHOWING {
                run(&[command, &["--from", file]].concat(), "");
            }
            for args in [&["decode", file][..], &["decode", "--json", file]] {
                run(args, "");
            }
            for args in [
                &["run", file][..],
                &["run", "--host", file],
                &["run", "--trace", file],
                &["run", "--costs", file],
                &["compare", "--quick", "--scenarios", file],
                &["calibrate", "--costs", file],
                &["replay", file],
            ] {
                assert_ne!(run(args, ""), Some(0), "{args:?}");
            }
        }
        run(&["decode"], text);
        run(&["decode", "--json"], text);
    }
}

/// Names of a scenario and what is given on the command line.
#[test]
fn names_and_arguments_steer_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("scenario.toml");
    for name in [EVIL, "a\u{202e}b", "a\u{9b}31mb"] {
        let name = name.escape_default().to_string().replace("\\u{", "\\U{");
        // TOML writes such a character with eight digits.
        let mut toml = String::new();
        for part in name.split("\\U{") {
            match part.split_once('}') {
                Some((digits, rest)) if digits.chars().all(|c| c.is_ascii_hexdigit()) => {
                    let _ = write!(toml, "\\U{digits:0>8}{rest}");
                }
                _ => toml += part,
            }
        }
        fs::write(&file, format!("name = \"{toml}\"\nwhy = \"{toml}\"\n")).unwrap();
        for args in [&["run"][..], &["run", "--json"], &["compare", "--quick", "--scenarios"]] {
            assert_eq!(run(&[args, &[file.to_str().unwrap()]].concat(), ""), Some(2));
        }
    }
    for args in [
        &["status", EVIL][..],
        &[EVIL],
        &["regions", "--state", EVIL],
        &["regions", "--gib", EVIL],
        &["decode", "--entry", EVIL],
        &["decode", "--rmpupdate", EVIL],
        &["run", "--policy", EVIL],
        &["run", "--until", EVIL],
        &["compare", "--policies", EVIL],
        &["top", "--size", EVIL],
        &["top", "--interval", EVIL],
    ] {
        assert_eq!(run(args, ""), Some(2), "{args:?}");
    }
    for args in [
        &["run", EVIL][..],
        &["decode", EVIL],
        &["status", "--from", EVIL],
        &["status", "--root", EVIL],
    ] {
        assert!(matches!(run(args, ""), Some(2 | 3)), "{args:?}");
    }
}

/// All files below a folder, with their lengths.
fn files(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap();
            if kind.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, kind.len());
        }
    }
    found
}

#[test]
fn a_snapshot_writes_nothing_but_itself() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("a/b/c/d");
    fs::create_dir_all(&work).unwrap();
    fs::write(work.join("s.json"), snapshot()).unwrap();
    fs::write(dir.path().join("target"), "kept").unwrap();
    std::os::unix::fs::symlink(dir.path().join("target"), work.join("link")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("not-there"), work.join("dangling")).unwrap();
    let before = files(dir.path());
    let within = |args: &[&str]| {
        cargo_bin_cmd!("rmpopt").args(args).current_dir(&work).output().unwrap().status.code()
    };
    for command in SHOWING {
        within(&[command, &["--from", "s.json"]].concat());
    }
    // A link where the file should go is not followed, whether it leads somewhere or not.
    for link in ["link", "dangling", "s.json", ".", "../.."] {
        assert_eq!(within(&["snapshot", "--root", ".", "-o", link]), Some(3), "{link}");
    }
    assert_eq!(files(dir.path()), before);
    assert_eq!(fs::read_to_string(dir.path().join("target")).unwrap(), "kept");
    assert_eq!(within(&["snapshot", "--root", ".", "-o", "new.json"]), Some(0));
    assert_eq!(files(dir.path()).len(), before.len() + 1);
}

#[test]
fn sizes_that_are_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.json");
    let from = || run(&["status", "--json", "--from", file.to_str().unwrap()], "");
    // A file of 300 MiB, without a byte on the disk.
    fs::File::create(&file).unwrap().set_len(300 << 20).unwrap();
    assert_eq!(from(), Some(2));
    // Brackets without end do not eat the stack.
    for open in ["[", "{\"items\":"] {
        fs::write(&file, open.repeat(1 << 20)).unwrap();
        assert_eq!(from(), Some(2));
    }
    let whole = |items: &str| {
        format!(
            "{{\"format\":\"rmpopt-snapshot\",\"version\":1,\"taken_s\":18446744073709551615,\"deep\":true,\"redacted\":false,\"items\":{{{items}}}}}"
        )
    };
    // One text beyond what an interface can have: that one is refused.
    let text = format!("\"/proc/iomem\":{{\"text\":\"{}\"}}", "x".repeat((16 << 20) + 1));
    fs::write(&file, whole(&text)).unwrap();
    assert_eq!(from(), Some(0));
    // CPUs without end, RAM to the end of addresses, numbers that do not fit.
    for items in [
        "\"/sys/devices/system/cpu/online\":{\"text\":\"0-1048575\"}",
        "\"/sys/devices/system/cpu/online\":{\"text\":\"0-18446744073709551615\"}",
        "\"/proc/iomem\":{\"text\":\"00000000-fffffffffffff : System RAM\\n\"}",
        "\"/proc/iomem\":{\"text\":\"00000000-ffffffffffffffff : System RAM\\n\"}",
        "\"/dev/cpu/0/msr\":{\"at\":{\"18446744073709551615\":{\"Ok\":\"00\"}}}",
        "\"/sys/devices/system/node\":{\"names\":[\"node0\"]},\
         \"/sys/devices/system/node/node0\":{\"names\":[\"memory0\"]},\
         \"/sys/devices/system/memory/block_size_bytes\":{\"text\":\"80000000000000\\n\"}",
    ] {
        fs::write(&file, whole(items)).unwrap();
        assert_eq!(from(), Some(0), "{items}");
    }
}
