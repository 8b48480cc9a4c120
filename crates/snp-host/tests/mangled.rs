//! No mangled input makes a reader panic.

mod common;

use std::fs;

use common::data;
use proptest::prelude::*;
use snp_host::decode::decode;
use snp_host::state::{HostState, doctor};
use snp_host::system::{
    Cpuid, CpuidDump, Iomem, ModuleRegions, Record, RmpoptTable, Root, System, looks_like_cpuid,
    of_cmdline, parse_rdmsr, parse_stats,
};
use snp_host::trace::openb::PodList;
use snp_host::trace::vms::VmList;
use snp_host::{
    FileKind, HostFiles, Hwloc, KernelFacts, Kind, Lscpu, MemoryMap, Numactl, Span, text_from_bytes,
};

const KERNEL_7: &str = "\
[    0.000000] Linux version 7.0.0-rc2 (a@b) #1 SMP
[    0.000000] SEV-SNP: Segmented RMP base table physical range [0x000000009ba00000 - 0x000000009ba05000]
[    0.000000] BIOS-provided physical RAM map:
[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff]  System RAM
[    0.000000] BIOS-e820: [gap 0x00000000000a0000-0x00000000000fffff]
[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x0000000009a7efff]  System RAM
[    0.000000] BIOS-e820: [mem 0x0000000009a7f000-0x0000000009ffffff]  device reserved
[    0.000000] user: [mem 0x0000000000000000-0x000000000009ffff]  639   KB kernel usable RAM
[    0.000000]  modified: 0000000000000000 - 0000000000010000 (reserved)
[    0.000000] ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x7fffffff] hotplug
[    0.000000] CPU topo: Max. threads per core:   2
[    0.000000] CPU topo: Allowing 512 present CPUs plus 0 hotplug CPUs
[    0.700000] SEV-SNP: RMP segment 0 physical address [0x8800000 - 0x10ffffff] covering [0x0 - 0x87fffffff]
[  173.113296] E820 memmap:
[  173.113298] 0000000000000000-000000000008efff (1)
";

const DRIVER: &str = "\
# policy tracked, runs, first pass over, last change 1500 ms ago
0 1024 unknown 0
1 1024 clean 512
Memory @  0GB: CPU(s): none
Memory @  1GB: CPU(s): 0-1023
rmpopt.executed 1048576
hold.longest_ns 98000
80000001
00100000-3fffffff : System RAM
qemu-kvm\0-name\0guest=a\0-m\0size=4194304k\0-object\0{\"qom-type\":\"sev-snp-guest\"}\0
";

const SNAPSHOT: &str = r#"{"format":"rmpopt-snapshot","version":1,"taken_s":1,"deep":true,"redacted":false,"items":{
"/proc/iomem":{"text":"00001000-1ffffffff : System RAM\n"},
"/sys/devices/system/cpu/online":{"text":"0-1\n"},
"/sys/devices/system/cpu/cpu0/topology/thread_siblings_list":{"text":"0-1\n"},
"/sys/devices/system/node":{"names":["node0"]},
"/sys/devices/system/node/node0":{"names":["memory0","memory1"]},
"/sys/devices/system/memory/block_size_bytes":{"text":"80000000\n"},
"/sys/kernel/debug/x86/rmpopt/rmpopt-table":{"text":"Memory @  0GB: CPU(s): 0-1\n"},
"/dev/cpu/0/msr":{"at":{"3221291024":{"Ok":"0000fc0300000000"},"3221291321":{"Err":"forbidden"}}},
"/proc":{"names":["7"]},"/proc/7/cmdline":{"text":"qemu\u0000-object\u0000sev-snp-guest\u0000"},
"/sys/module":{"failed":{"malformed":{"line":3,"expected":"x","found":"y"}}},
"/dmesg.txt":{"text":"[    0.1] SEV-SNP: RMP table physical range [0x4000000 - 0x5ffffff]\n"}}}"#;

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [
        "axboe-r7625-2x9754-768g-e820.txt",
        "desnoyers-2x9654-768g-lscpu.txt",
        "proxmox-2x9375f-1.5t-numactl.txt",
        "ktransformers-2x9135-1.1t-numactl.txt",
        "cpuid-hwloc-milan-7763.txt",
        "cpuid-r-amdsev-197.txt",
        "rmpopt-table-commit-message.txt",
        "dmesg-amdsev-176-init.txt",
        "lstopo-2x4x2-synthetic.xml",
    ]
    .iter()
    .map(|name| fs::read(data(name)).expect("test data"))
    .collect();
    let pods = fs::read(data("alibaba-gpu2023-openb-pods.csv")).expect("test data");
    seeds.push(pods.into_iter().take(2000).collect());
    seeds.extend([KERNEL_7, DRIVER, SNAPSHOT].map(|text| text.as_bytes().to_vec()));
    assert_eq!(seeds.len(), SEEDS);
    seeds
}

const SEEDS: usize = 13;

/// Every reader on the same bytes; whatever they say, they return.
fn read_all(bytes: Vec<u8>) {
    let _ = decode(&bytes);
    let Ok(text) = text_from_bytes("f", bytes) else { return };
    let _ = FileKind::of(&text);
    let _ = KernelFacts::parse("f", &text);
    let _ = Lscpu::parse("f", &text);
    let _ = Numactl::parse("f", &text);
    let _ = Hwloc::parse("f", &text);
    let _ = PodList::parse("f", &text);
    let _ = VmList::parse("f", text.as_bytes());
    let _ = (RmpoptTable::parse(&text), ModuleRegions::parse(&text), parse_stats(&text));
    let _ =
        (Iomem::parse(&text), parse_rdmsr(&text), of_cmdline(1, &text), looks_like_cpuid(&text));
    if let Ok(dump) = CpuidDump::parse(&text) {
        doctor(&HostState::of(&System::of_cpuid(Cpuid::of_dump("f", dump))));
    }
    if let Ok(mut record) = Record::parse(&text) {
        doctor(&HostState::of(&System::read(&Root::snapshot(record.clone()), true)));
        record.redact();
        doctor(&HostState::of(&System::read(&Root::snapshot(record), true)));
    }
    doctor(&HostState::of(&System::of_log("f", text.clone())));
    if let Ok(map) = MemoryMap::parse("f", &text) {
        let holes: u64 = map.holes().iter().map(Span::bytes).sum();
        let top = map.usable().map(|s| s.end_inclusive + 1).max().unwrap_or(0);
        assert_eq!(holes + map.usable_bytes(), top);
        assert_eq!(map.usable_bytes_in(0, u64::MAX), map.usable_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn cut(seed in 0..SEEDS, from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>()) {
        let bytes = seeds().swap_remove(seed);
        let (a, b) = (from.index(bytes.len()), to.index(bytes.len()));
        read_all(bytes[..a].to_vec());
        read_all(bytes[a.min(b)..a.max(b)].to_vec());
    }

    #[test]
    fn flipped(seed in 0..SEEDS, flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..20)) {
        let mut bytes = seeds().swap_remove(seed);
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        read_all(bytes);
    }

    #[test]
    fn swapped(seed in 0..SEEDS, swaps in prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 1..20), keep in 1usize..8) {
        let bytes = seeds().swap_remove(seed);
        let mut lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
        for (a, b) in swaps {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
        }
        read_all(lines.concat());
        lines.truncate(lines.len() / keep);
        read_all([lines.concat(), lines.concat()].concat());
    }

    #[test]
    fn anything(text in ".{0,400}") {
        read_all(text.into_bytes());
    }

    /// A map printed in any wording reads back as it was.
    #[test]
    fn printed_and_read(
        parts in prop::collection::vec((1u64..1 << 20, 0u64..1 << 12, 0usize..8), 1..60),
        wording in 0usize..3,
        prefix in prop::sample::select(vec!["", "[    0.000000] ", "Nov 22 10:00:00 h kernel: ", "# "]),
    ) {
        let kinds = [Kind::Usable, Kind::Reserved, Kind::AcpiData, Kind::AcpiNvs, Kind::Unusable,
            Kind::Persistent, Kind::SoftReserved, Kind::Other(20)];
        let new = ["System RAM", "device reserved", "ACPI data", "ACPI NVS", "unusable",
            "persistent RAM (type 7)", "soft reserved", "type 20"];
        let mut log = vec![format!("{prefix}BIOS-provided physical RAM map:\n")];
        let (mut next, mut wanted) = (0u64, Vec::new());
        for (pages, gap, kind) in parts {
            let start = next + (gap << 12);
            let end = start + (pages << 12) - 1;
            if wording == 2 && gap > 0 {
                log.push(format!("{prefix}BIOS-e820: [gap {next:#018x}-{:#018x}]\n", start - 1));
            }
            log.push(match wording {
                0 => format!("{prefix} BIOS-e820: {start:016x} - {:016x} ({})\n", end + 1, kinds[kind]),
                1 => format!("{prefix}BIOS-e820: [mem {start:#018x}-{end:#018x}] {}\n", kinds[kind]),
                _ => format!("{prefix}BIOS-e820: [mem {start:#018x}-{end:#018x}]  {}\n", new[kind]),
            });
            wanted.push((start, end, kinds[kind]));
            next = end + 1;
        }
        let map = MemoryMap::parse("f", &log.concat()).unwrap();
        let got: Vec<_> = map.entries.iter().map(|e| (e.start, e.end_inclusive, e.kind)).collect();
        prop_assert_eq!(got, wanted);
    }
}

#[test]
fn whole_files_of_noise() {
    let dir = tempfile::tempdir().unwrap();
    for (n, mut bytes) in seeds().into_iter().enumerate() {
        bytes.reverse();
        let path = dir.path().join(n.to_string());
        fs::write(&path, bytes).unwrap();
        assert!(HostFiles::read(&[&path]).is_err());
    }
}
