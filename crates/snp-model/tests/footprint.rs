//! What a 12 TiB host of 512 cores takes in memory. Alone in its process, so that the process's
//! resident size is the host's.

use snp_defs::{PageState, Pfn, Region, RmpoptBase, RmpoptFunction, PAGES_PER_REGION};
use snp_model::{CoreId, Coverage, InitLayout, PfnRange, StdMachine, UnitConfig};

const CORES: u32 = 512;
const REGIONS: u32 = 12 * 1024;
const SEGMENT: u64 = 64 * PAGES_PER_REGION;
const MIB: u64 = 256;

/// Resident MiB; `None` where there is no procfs.
fn resident_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}

#[test]
fn twelve_tebibytes_and_512_cores() {
    let coverage = Coverage::segmented(36).unwrap().with_regions(REGIONS);
    let host = StdMachine::on_heap(CORES, REGIONS, coverage, UnitConfig::default());
    host.enable_snp();
    let before = resident_mib();

    let pages = u64::from(REGIONS) * PAGES_PER_REGION;
    let pfn = |page| Pfn::new(page).unwrap();
    let dram = [PfnRange::new(pfn(0), pages)];
    let holes = [
        PfnRange::new(pfn(0xA0), 0x60),
        PfnRange::new(pfn(3 * PAGES_PER_REGION), PAGES_PER_REGION),
        PfnRange::new(pfn(0xFD_0000_0000 >> 12), 0x3_0000_0000 >> 12),
    ];
    // 256 MiB below the top of each segment, off the 2 MiB grid.
    let rmp: Vec<_> = (1..=pages / SEGMENT)
        .map(|n| PfnRange::new(pfn(n * SEGMENT - 257 * MIB), 256 * MIB))
        .collect();
    let iommu = [PfnRange::new(pfn(PAGES_PER_REGION * 5 + 3), 32)];
    assert_eq!(rmp.len(), 192);
    let layout = InitLayout { dram: &dram, hv_fixed: &holes, rmp: &rmp, iommu: &iommu };
    host.snp_init(&layout).unwrap();

    // Every table in use, on every core; one scan of each clean region serves them all.
    for core in (0..CORES).map(CoreId) {
        let base = Region::new(core.0 * 20).unwrap();
        host.wrmsr_rmpopt_base(core, RmpoptBase::enabled_at(base).raw()).unwrap();
        for offset in 0..2048 {
            let rax = base.checked_add(offset).unwrap().base().get();
            host.rmpopt(core, rax, RmpoptFunction::Verify).unwrap();
        }
    }
    let after = resident_mib();
    println!("resident: {before:?} MiB before SNP_INIT, {after:?} MiB after, tables filled");
    assert!(before.unwrap_or(0) < 64 && after.unwrap_or(0) < 320);

    assert_eq!(host.unit().optimised_regions(CoreId(0)), 2048 - 32 - 1);
    assert_eq!(host.page_state(rmp[9].first), PageState::Firmware);
    assert_eq!(host.page_state(pfn(rmp[9].end())), PageState::Hypervisor);
    assert_eq!(host.page_state(holes[2].first), PageState::HvFixed);
    assert_eq!(host.page_state(pfn(rmp[9].first.get() - 1)), PageState::Hypervisor);
}
