//! Samples kept beside the repository, where they are present.

use std::path::{Path, PathBuf};

use snp_host::trace::TraceError;
use snp_host::trace::openb::PodList;
use snp_host::trace::vms::VmList;
use snp_host::{FileKind, HostFiles, KernelFacts, Lscpu, MemoryMap, Rmp, read_text};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");

/// The sample, or a line that names the test as skipped.
fn sample(test: &str, name: &str) -> Option<PathBuf> {
    let path = Path::new(SAMPLES).join(name);
    if Path::new(SAMPLES).is_dir() {
        return Some(path);
    }
    println!("skipped: {test}: shared/data not present");
    None
}

#[test]
fn genoa_with_kexec_and_rmp() {
    let name = "dmesg/lkml_400fea4b9651_kexec_genoa_514G.txt";
    let Some(path) = sample("genoa_with_kexec_and_rmp", name) else { return };
    let map = MemoryMap::read(&path).unwrap();
    assert_eq!((map.entries.len(), map.usable_bytes()), (22, 547_187_208_192));
    assert_eq!(map.max_pfn(), 0x807f1ff);
    let rmp = KernelFacts::read(&path).unwrap().rmp.unwrap();
    let Rmp::Contiguous(span) = rmp else { panic!("segmented") };
    assert!(map.entries.iter().any(|e| e.span() == span));
    // The kexec listing alone says the same RAM, with one reserved range more at the top.
    let text = read_text(&path).unwrap();
    let kexec: String = text
        .lines()
        .filter(|l| !l.contains("BIOS-e820"))
        .fold(String::new(), |all, line| all + line + "\n");
    let again = MemoryMap::parse("kexec", &kexec).unwrap();
    assert_eq!((again.entries.len(), again.usable_bytes()), (23, map.usable_bytes()));
}

#[test]
fn partial_maps_read_with_notes() {
    let name = "memmap/ec2_p4d_1.1T_e820_partial_INTEL_VM.txt";
    let Some(path) = sample("partial_maps_read_with_notes", name) else { return };
    let map = MemoryMap::read(&path).unwrap();
    assert_eq!(map.entries.len(), 8);
    assert!(map.notes.iter().any(|n| n.contains("cut at its head")), "{:?}", map.notes);
    let path = Path::new(SAMPLES).join("memmap/lkml_amd_cxl_soft_reserved_1T_hole.txt");
    let map = MemoryMap::read(&path).unwrap();
    assert_eq!((map.entries.len(), map.usable_bytes()), (3, 0));
}

#[test]
fn nodes_of_a_32_node_host() {
    let name = "memmap/axboe_dell_r7625_2x9754_srat_nodes.txt";
    let Some(path) = sample("nodes_of_a_32_node_host", name) else { return };
    let facts = KernelFacts::read(&path).unwrap();
    assert_eq!(facts.srat.len(), 34);
    assert_eq!(facts.srat.iter().filter(|r| r.node == 0).count(), 3);
    let other = Path::new(SAMPLES).join("memmap/axboe_dell_r7625_2x9754_768G_32nodes_e820.txt");
    let host = HostFiles::read(&[path, other]).unwrap();
    let shape = host.cpu_shape().unwrap();
    assert_eq!((shape.sockets, shape.cores_per_socket, shape.cpus), (2, 128, 512));
}

#[test]
fn lscpu_with_eight_nodes() {
    let name = "topology/utillinux_2xEPYC7451_lscpu_expected.txt";
    let Some(path) = sample("lscpu_with_eight_nodes", name) else { return };
    let host = Lscpu::read(&path).unwrap();
    assert_eq!((host.shape.cpus, host.nodes.len()), (96, 8));
    assert_eq!(host.nodes.get(&7).unwrap().to_string(), "42-47,90-95");
}

#[test]
fn every_log_reads() {
    let Some(dir) = sample("every_log_reads", "dmesg") else { return };
    let mut with_rmp = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = read_text(&path).unwrap();
        assert_eq!(FileKind::of(&text), Some(FileKind::KernelLog), "{}", path.display());
        let facts = KernelFacts::read(&path).unwrap();
        with_rmp += usize::from(facts.rmp.is_some());
        MemoryMap::find("log", &text).unwrap();
    }
    assert_eq!(with_rmp, 13);
}

#[test]
fn other_files_are_not_taken_for_a_hosts() {
    let Some(dir) = sample("other_files_are_not_taken_for_a_hosts", "") else { return };
    for name in [
        "memmap/nvmevirt_issue60_iomem_memmap79G.txt",
        "memmap/utillinux_lsmem_x86_64-16g_all_formats.txt",
        "topology/proxmox_2xEPYC9375F_numastat-m_head.txt",
        "vmm/sevctl_guide_virsh_domcapabilities_sev.xml",
        "traces/alibaba_gpu2023_openb_pod_list_default.csv",
        "snphost/aws_ec2_m6a_metal_pass_v1.txt",
        "cpuid/instlatx64_0830F10_K17_Rome_cpu0-1.txt",
        "README.md",
    ] {
        let error = HostFiles::read(&[dir.join(name)]).unwrap_err().to_string();
        assert!(error.contains("not recognised"), "{name}: {error}");
    }
}

#[test]
fn other_traces_are_refused_by_name() {
    let Some(dir) = sample("other_traces_are_refused_by_name", "traces") else { return };
    for (name, says) in [
        ("alibaba_gpu2025_disaggregated_DLRM_trace.csv", "DLRM"),
        ("alibaba_gpu2023_openb_node_list_all_node.csv", "openb node list"),
        ("alibaba_spotgpu2026_node_info_df.csv", "spot"),
        ("huawei_east1_vmagent_test_5rows.csv", "Huawei"),
        ("alibaba_v2017_schema.csv", "unsupported trace: header `file name,"),
    ] {
        let error = PodList::read(&dir.join(name)).unwrap_err();
        assert!(matches!(error, TraceError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn the_dlrm_trace_as_published() {
    let name = "traces/alibaba_gpu2025_disaggregated_DLRM_trace.csv";
    let Some(path) = sample("the_dlrm_trace_as_published", name) else { return };
    let list = VmList::read(&path, &|_| true).unwrap().unwrap();
    assert_eq!((list.counts.rows, list.counts.invalid, list.vms.len()), (23_871, 0, 23_871));
    let (before, after) = (
        list.vms.iter().filter(|vm| vm.start_ms.is_none()).count(),
        list.vms.iter().filter(|vm| vm.end_ms.is_none()).count(),
    );
    assert_eq!((before, after), (7_280, 8_878));
    assert_eq!(list.vms.iter().map(|vm| vm.memory_mib).max(), Some(1000 << 10));
    assert_eq!(list.vms.iter().filter_map(|vm| vm.end_ms).max(), Some(2_677_541_000));
}
