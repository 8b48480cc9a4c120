//! The public files copied into the repository, with values worked out apart from this code.

mod common;

use common::data;
use snp_host::trace::openb::{Counts, PodList};
use snp_host::{CpuShape, HostFiles, Lscpu, MapSource, MemoryMap, Numactl, Span};

#[test]
fn axboe_map() {
    let map = MemoryMap::read(&data("axboe-r7625-2x9754-768g-e820.txt")).unwrap();
    assert_eq!(map.entries.len(), 46);
    assert_eq!(map.usable_bytes(), 824_166_236_160);
    assert_eq!(map.max_pfn(), 0xc07fd00);
    assert_eq!(map.source, MapSource::Bios);
    assert!(map.notes.is_empty(), "{:?}", map.notes);
    // The I/O ranges above 1 TiB are no RAM; below the top, RAM and holes are all there is.
    let holes: u64 = map.holes().iter().map(Span::bytes).sum();
    assert_eq!(holes + map.usable_bytes(), map.max_pfn() << 12);
    // 770 regions up to the top, of which the two from 2 to 4 GiB hold no RAM.
    let with_ram = (0..0x8000u64).filter(|g| map.usable_bytes_in(g << 30, (g + 1) << 30) > 0);
    assert_eq!(with_ram.count(), 768);
}

#[test]
fn volcano_map() {
    let map = MemoryMap::read(&data("linuxhw-volcano-768g-e820.txt")).unwrap();
    assert_eq!((map.entries.len(), map.usable_bytes()), (38, 824_363_499_520));
    assert_eq!(map.max_pfn(), 0xc04cec0);
    assert!(map.notes.is_empty(), "{:?}", map.notes);
}

#[test]
fn desnoyers_lscpu() {
    let host = Lscpu::read(&data("desnoyers-2x9654-768g-lscpu.txt")).unwrap();
    let shape = CpuShape { sockets: 2, cores_per_socket: 96, threads_per_core: 2, cpus: 384 };
    assert_eq!(host.shape, shape);
    assert_eq!(host.online.unwrap().to_string(), "0-383");
    assert!(host.notes.is_empty());
}

#[test]
fn numactl_plain_and_compressed() {
    let host = Numactl::read(&data("proxmox-2x9375f-1.5t-numactl.txt")).unwrap();
    assert_eq!(host.size_mib(), 773_271 + 774_028);
    assert_eq!(host.nodes.get(&1).unwrap().cpus.to_string(), "32-63");
    assert_eq!(host.distances.get(&0).unwrap().get(&1), Some(&32));
    let host = Numactl::read(&data("ktransformers-2x9135-1.1t-numactl.txt")).unwrap();
    assert_eq!((host.size_mib(), host.cpus()), (580_088 + 580_505, 32));
}

#[test]
fn openb_pods() {
    let list = PodList::read(&data("alibaba-gpu2023-openb-pods.csv")).unwrap();
    assert_eq!(list.counts, Counts { rows: 8152, unscheduled: 897, invalid: 1, left_out: 0 });
    assert_eq!(list.pods.len(), 8151);
    assert_eq!(list.pods.iter().map(|p| p.deletion).max(), Some(12_902_960));
    assert_eq!(list.pods.last().unwrap().line, 8153);
    assert!(list.notes.is_empty(), "{:?}", list.notes);
}

/// Peak of live pods, ends before starts at the same second.
#[test]
fn openb_peak() {
    let list = PodList::read(&data("alibaba-gpu2023-openb-pods.csv")).unwrap();
    let mut events: Vec<(u64, i64)> = Vec::new();
    for pod in &list.pods {
        if let Some(start) = pod.scheduled {
            events.push((start, 1));
            events.push((pod.deletion, -1));
        }
    }
    events.sort_unstable();
    let mut live = 0;
    let peak = events.iter().map(|(_, change)| {
        live += change;
        live
    });
    assert_eq!(peak.max(), Some(56));
}

#[test]
fn files_of_one_host() {
    let paths = ["axboe-r7625-2x9754-768g-e820.txt", "desnoyers-2x9654-768g-lscpu.txt"].map(data);
    let host = HostFiles::read(&paths).unwrap();
    assert_eq!(host.memory.as_ref().unwrap().file, paths[0]);
    assert_eq!(host.cpu_shape().unwrap().cpus, 384);
    assert_eq!(host.kernel.unwrap().value, "6.12.0-rc2+");
    assert!(host.ignored.is_empty());
}

#[test]
fn files_of_two_hosts() {
    let maps = ["axboe-r7625-2x9754-768g-e820.txt", "linuxhw-volcano-768g-e820.txt"].map(data);
    let error = HostFiles::read(&maps).unwrap_err().to_string();
    assert!(error.contains("axboe") && error.contains("volcano"), "{error}");
    assert!(error.contains("its memory map differs"), "{error}");
    // The same file twice is no conflict.
    HostFiles::read(&[&maps[0], &maps[0]]).unwrap();
    let numa = [maps[0].clone(), data("proxmox-2x9375f-1.5t-numactl.txt")];
    let host = HostFiles::read(&numa).unwrap();
    assert!(host.notes.iter().any(|n| n.contains("same host?")), "{:?}", host.notes);
}

#[test]
fn directories() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, from: &str| std::fs::copy(data(from), dir.path().join(name)).unwrap();
    put("b-map", "axboe-r7625-2x9754-768g-e820.txt");
    put("a-cpus", "desnoyers-2x9654-768g-lscpu.txt");
    put("pods.csv", "alibaba-gpu2023-openb-pods.csv");
    std::fs::write(dir.path().join("core"), b"\0\0").unwrap();
    std::fs::create_dir(dir.path().join("more")).unwrap();
    let host = HostFiles::read(&[dir.path()]).unwrap();
    assert!(host.memory.is_some() && host.lscpu.is_some());
    let ignored: Vec<_> = host.ignored.iter().map(|i| i.file.file_name().unwrap()).collect();
    assert_eq!(ignored, ["core", "pods.csv"]);
    assert!(host.ignored.last().unwrap().reason.contains("CSV"));

    let error = HostFiles::read(&[dir.path().join("pods.csv")]).unwrap_err().to_string();
    assert!(error.contains("not recognised"), "{error}");
    let error = HostFiles::read(&[dir.path().join("more")]).unwrap_err().to_string();
    assert!(error.contains("none of its 0 files"), "{error}");
    assert!(HostFiles::read(&[dir.path().join("nothing")]).is_err());
}
