//! hwloc's XML: written by `lstopo`, a public sample, and what is refused.

mod common;

use std::path::Path;
use std::process::Command;

use common::data;
use snp_host::{CpuShape, FileKind, HostFiles, Hwloc};

/// Two packages of a core of two threads each, the second's node without memory of its own; devices and
/// such are passed over.
const SMALL: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" os_index="0" cpuset="0x0000000f">
    <info name="CPUModel" value="AMD EPYC Something   "/>
    <object type="Package" os_index="0" cpuset="0x00000005">
      <object type="NUMANode" os_index="0" cpuset="0x00000005" local_memory="8589934592"/>
      <object type="Core" os_index="0" cpuset="0x00000005">
        <object type="PU" os_index="0" cpuset="0x00000001"/>
        <object type="PU" os_index="2" cpuset="0x00000004"/>
      </object>
    </object>
    <object type="Package" os_index="1" cpuset="0x0000000a">
      <object type="NUMANode" os_index="1" cpuset="0x0000000a"/>
      <object type="Core" os_index="0" cpuset="0x0000000a">
        <object type="PU" os_index="1" cpuset="0x00000002"/>
        <object type="PU" os_index="3" cpuset="0x00000008"/>
      </object>
      <object type="PCIDev" gp_index="7"/>
    </object>
  </object>
  <distances2 type="NUMANode" nbobjs="2" kind="5" name="NUMALatency" indexing="os">
    <indexes length="4">0 1 </indexes>
    <u64values length="12">10 32 32 10 </u64values>
  </distances2>
</topology>
"#;

#[test]
fn a_small_one() {
    for text in [SMALL.to_owned(), SMALL.replace('\n', ""), SMALL.replace('\n', "\r\n")] {
        assert_eq!(FileKind::of(&text), Some(FileKind::Hwloc));
        Hwloc::parse("f", &text).unwrap();
    }
    let host = Hwloc::parse("f", SMALL).unwrap();
    let shape = CpuShape { sockets: 2, cores_per_socket: 1, threads_per_core: 2, cpus: 4 };
    assert_eq!(host.cpus.shape, shape);
    assert_eq!(host.cpus.online.unwrap().to_string(), "0-3");
    assert_eq!(host.cpus.nodes[&1].to_string(), "1,3");
    let cores: Vec<_> = host.cpus.siblings.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(cores, ["0,2", "1,3"]);
    assert_eq!(host.cpus.model.as_deref(), Some("AMD EPYC Something"));
    assert!(host.cpus.notes.is_empty(), "{:?}", host.cpus.notes);
    let numa = host.numa.unwrap();
    assert_eq!((numa.size_mib(), numa.nodes[&1].size_mib), (8192, None));
    assert_eq!((numa.distances[&0][&1], numa.distances[&1][&1]), (32, 10));
}

#[test]
fn as_lstopo_writes_it() {
    let host = Hwloc::read(&data("lstopo-2x4x2-synthetic.xml")).unwrap();
    let shape = CpuShape { sockets: 2, cores_per_socket: 4, threads_per_core: 2, cpus: 16 };
    assert_eq!(host.cpus.shape, shape);
    assert_eq!(host.cpus.nodes[&1].to_string(), "8-15");
    assert_eq!(host.numa.unwrap().size_mib(), 2 * 384 * 1024);
}

#[test]
fn a_public_sample_of_two_milans() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/topology/hwloc_AMD-19h-Zen3-2xEpyc-7763.xml");
    if !path.is_file() {
        println!("skipped: a_public_sample_of_two_milans: shared/data not present");
        return;
    }
    let host = Hwloc::read(&path).unwrap();
    let shape = CpuShape { sockets: 2, cores_per_socket: 64, threads_per_core: 1, cpus: 128 };
    assert_eq!(host.cpus.shape, shape);
    assert_eq!(host.cpus.nodes[&0].to_string(), "0-127");
    assert_eq!(host.cpus.model.as_deref(), Some("AMD EPYC 7763 64-Core Processor"));
    assert!(host.numa.is_none(), "it states no memory");
}

/// What `lstopo` says of this machine is what `lscpu` says.
#[test]
fn this_machine() {
    let output = |program: &str, args: &[&str]| {
        let run = Command::new(program).args(args).env("LC_ALL", "C").output().ok()?;
        run.status.success().then(|| String::from_utf8(run.stdout).expect("text"))
    };
    let xml = output("lstopo-no-graphics", &["--of", "xml", "-"]);
    let (Some(xml), Some(lscpu)) = (xml, output("lscpu", &[])) else {
        println!("skipped: this_machine: lstopo-no-graphics (package hwloc-nox) or lscpu missing");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let files = [("a.xml", xml), ("b.txt", lscpu)].map(|(name, text)| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    });
    let host = HostFiles::read(&files).expect("they agree");
    assert_eq!(host.numactl.unwrap().file, files[0]);
    assert!(host.lscpu.unwrap().value.siblings.is_some());
    // Also if `lscpu`, which does not tell, is read first.
    let host = HostFiles::read(&[&files[1], &files[0]]).expect("they agree");
    assert!(host.lscpu.unwrap().value.siblings.is_some());
}

#[test]
fn refused_with_the_place() {
    for (from, to, says) in [
        ("os_index=\"3\"", "os_index=\"1\"", "f:17: PU os_index: `1`, expected each CPU once"),
        (
            "os_index=\"3\"",
            "os_index=\"x\"",
            "f:17: os_index: `x`, expected a CPU number below 1048576",
        ),
        ("os_index=\"3\"", "os_index=\"1048576\"", "f:17: os_index: `1048576`"),
        (
            "1\" cpuset=\"0x0000000a\"/>",
            "1\" cpuset=\"0xf...f\"/>",
            "f:14: NUMANode cpuset: `0xf...f`",
        ),
        (
            "1\" cpuset=\"0x0000000a\"/>",
            "1\" cpuset=\"0x1\"/>",
            "f:14: NUMANode cpuset: CPU 0 is also in node 0",
        ),
        (
            "NUMANode\" os_index=\"1",
            "NUMANode\" os_index=\"0",
            "f:14: NUMANode os_index: `0`, expected each node once",
        ),
        (
            "NUMANode\" os_index=\"1",
            "NUMANode\" os_index=\"1024",
            "expected a node number below 1024",
        ),
        ("8589934592", "-1", "f:7: local_memory: `-1`, expected bytes"),
        ("10 32 32 10", "10 32 32", "f:22: distances2: `2 indexes, 3 values`"),
        ("10 32 32 10", "10 32 300 10", "f:22: distances2"),
        ("length=\"4\">0 1 ", "length=\"4\">0 7 ", "f:22: distances2"),
        ("type=\"Package\"", "type=\"Group\"", "`object type=\"Package\"` is missing"),
        ("type=\"PU\"", "type=\"Group\"", "`object type=\"PU\"` is missing"),
        ("</topology>", "", "not well-formed"),
    ] {
        let text = SMALL.replace(from, to);
        assert_ne!(text, SMALL, "{from}");
        let error = Hwloc::parse("f", &text).expect_err(from).to_string();
        assert!(error.contains(says), "{from} -> {to}: {error}");
    }
    // Entities that would grow without end are refused, not followed.
    let bomb = "<!DOCTYPE t [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&b;\">]>\n<topology><x>&b;</x></topology>";
    assert!(Hwloc::parse("f", bomb).is_err());
}
