//! Kernel interfaces on public samples (tests/data/README.md).

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs::read_to_string;

use common::data;
use snp_host::state::{DriverKind, HostState, Verdict, doctor};
use snp_host::system::{
    Cpuid, CpuidDump, DumpForm, GuestProcess, Iomem, RmpoptTable, System, of_cmdline,
};

fn text(name: &str) -> String {
    read_to_string(data(name)).unwrap()
}

fn host(name: &str) -> (CpuidDump, HostState) {
    let dump = CpuidDump::parse(&text(name)).unwrap();
    let state = HostState::of(&System::of_cpuid(Cpuid::of_dump(name, dump.clone())));
    (dump, state)
}

#[test]
fn cpuid_of_real_machines() {
    let (dump, turin) = host("cpuid-instlatx64-turin-9655.txt");
    assert_eq!((dump.form, dump.cpus.len()), (DumpForm::InstLat, 2));
    let first = &turin.capability.first;
    assert_eq!(
        (first.snp, first.segmented_rmp, first.rmpread),
        (Some(true), Some(true), Some(true))
    );
    assert_eq!((first.rmpopt, first.segment_shift), (Some(false), Some((36, 42))));
    assert_eq!(first.cached_segments, Some((16, true)));
    assert_eq!(
        (first.c_bit, first.address_reduction, first.asids),
        (Some(51), Some(6), Some(1006))
    );
    assert_eq!(turin.capability.rmpopt_capable, Some(false));

    let (_, genoa) = host("cpuid-instlatx64-genoa-9654.txt");
    let first = &genoa.capability.first;
    assert_eq!((first.snp, first.segmented_rmp), (Some(false), Some(false)));

    let (dump, milan) = host("cpuid-hwloc-milan-7763.txt");
    assert_eq!(dump.form, DumpForm::Hwloc);
    let first = &milan.capability.first;
    assert_eq!((first.snp, first.c_bit, first.asids), (Some(true), Some(51), Some(509)));
    // The leaf is above this CPU's last one.
    assert_eq!((first.rmpopt, first.segment_shift), (Some(false), None));
}

/// One leaf alone: the rest is not known, and nothing is claimed of it.
#[test]
fn cpuid_of_one_leaf() {
    let (dump, state) = host("cpuid-r-amdsev-197.txt");
    assert_eq!(dump.form, DumpForm::CpuidR);
    let capability = &state.capability;
    let first = &capability.first;
    assert_eq!((first.snp, first.segmented_rmp), (Some(true), Some(false)));
    assert_eq!(
        (first.address_reduction, first.asids, first.min_sev_asid),
        (Some(4), Some(253), Some(15))
    );
    assert_eq!((first.rmpopt, first.vendor.as_deref()), (None, None));
    assert_eq!(capability.rmpopt_capable, Some(false), "without a segmented RMP it cannot be");
}

#[test]
fn the_table_of_the_commit_message() {
    let table = RmpoptTable::parse(&text("rmpopt-table-commit-message.txt")).unwrap();
    assert!(table.cut);
    assert_eq!(table.rows.len(), 22);
    let none: Vec<u32> = table.rows.iter().filter(|(_, c)| c.is_empty()).map(|(r, _)| *r).collect();
    assert_eq!(none, [0, 1, 4, 1038]);
    assert!(table.rows.values().all(|cpus| cpus.is_empty() || cpus.to_string() == "0-1023"));
    assert!(!table.rows.contains_key(&500), "what was left out is not known");
}

#[test]
fn iomem_and_a_guest() {
    let iomem = Iomem::parse(&text("iomem-nvmevirt-60.txt")).unwrap();
    assert_eq!((iomem.ram.len(), iomem.reserved.len()), (1, 2));
    assert_eq!(iomem.ram[0].bytes(), 0x1aae430000 - 0x1aab400000);
    let line: Vec<String> = text("qemu-amdsev-236.txt")
        .split_whitespace()
        .filter(|w| *w != "\\")
        .map(str::to_owned)
        .collect();
    let guest = of_cmdline(9, &line.join("\0"));
    let memory_bytes = Some(8192 << 20);
    assert_eq!(guest, Some(GuestProcess { pid: 9, vmm: "qemu", name: None, memory_bytes }));
}

/// A log alone says where the RMP is and what failed, and nothing of CPUs and drivers.
#[test]
fn a_log_alone() {
    let log = |name: &str| HostState::of(&System::of_log(name, text(name)));
    let hetzner = log("dmesg-hetzner-ax162-journal.txt");
    assert_eq!((hetzner.rmp.kind, hetzner.rmp.bytes), (Some("contiguous"), 1030 << 20));
    assert_eq!(hetzner.rmp.covers_bytes.map(|b| b as f64 / f64::from(1 << 30)), Some(257.49609375));
    assert_eq!(hetzner.rmp.unaligned_edges.len(), 2);
    assert_eq!(hetzner.snp.enabled, None);
    assert_eq!(hetzner.driver.kind, DriverKind::Unknown);
    let status = |state: &HostState, id: &str| {
        doctor(state).into_iter().find(|check| check.id == id).unwrap().status
    };
    assert_eq!(status(&hetzner, "D004"), Verdict::Ok, "the kernel keeps both edges");
    assert_eq!(status(&hetzner, "D003"), Verdict::Unknown);
    assert_eq!(status(&hetzner, "D018"), Verdict::Ok);
    assert_eq!(status(&log("dmesg-amdsev-245-rmpupdate.txt"), "D019"), Verdict::Problem);
    assert_eq!(status(&log("dmesg-amdsev-176-init.txt"), "D018"), Verdict::Problem);
}

#[test]
fn the_page_of_checks_names_each() {
    let page = read_to_string(data("../../docs/doctor.md")).unwrap();
    for (id, title, severity, fix) in snp_host::state::CHECKS {
        assert!(page.contains(&format!("| {id} | {title} | {severity} |")), "{id}");
        assert!(page.contains(fix), "{id}");
    }
}
