//! A host of loom's atomics, as small as the scenarios allow, and the explorer.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64 as Counter, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Instant;

use loom::thread::JoinHandle;
use snp_defs::{Gpa, PageSize, Pfn, Region, RmpOperand, RmpoptBase, PAGES_PER_REGION};
use snp_model::sync::AtomicU64;
use snp_model::{
    Accessor, Block, BlockView, CoreId, Coverage, Fill, Machine, OutOfMemory, Storage, UnitConfig,
    UnitStorage, UpdateOrder, Verdict,
};

pub(crate) fn words(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// The first 2M block of each region is dense, as far as its first pages go; the rest is free.
#[derive(Debug)]
pub(crate) struct Blocks {
    dense: Vec<Vec<AtomicU64>>,
    counters: Vec<AtomicU64>,
}

impl Storage for Blocks {
    fn regions(&self) -> u32 {
        self.dense.len() as u32
    }
    fn block(&self, block: Block) -> BlockView<'_> {
        match self.dense.get(block.region().index()) {
            Some(words) if block.index_in_region() == 0 => BlockView::Dense(words),
            _ => BlockView::Uniform(Fill::Hypervisor),
        }
    }
    fn reserve(&self, _: Block) -> Result<(), OutOfMemory> {
        Ok(())
    }
    fn fill_block(&self, _: Block, _: Fill) -> Result<(), OutOfMemory> {
        Err(OutOfMemory)
    }
    fn asid_counters(&self) -> &[AtomicU64] {
        &self.counters
    }
}

#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) regions: Vec<AtomicU64>,
    pub(crate) caches: Vec<AtomicU64>,
    pub(crate) cores: Vec<AtomicU64>,
    pub(crate) bits: Vec<Vec<AtomicU64>>,
}

impl Tables {
    pub(crate) fn new(cores: usize, regions: usize) -> Self {
        Self {
            regions: words(regions),
            caches: words(regions),
            cores: words(cores),
            bits: (0..cores).map(|_| words(regions)).collect(),
        }
    }
}

impl UnitStorage for Tables {
    fn regions(&self) -> &[AtomicU64] {
        &self.regions
    }
    fn caches(&self) -> &[AtomicU64] {
        &self.caches
    }
    fn cores(&self) -> &[AtomicU64] {
        &self.cores
    }
    fn table(&self, core: CoreId) -> &[AtomicU64] {
        self.bits.get(core.0 as usize).map_or(&[], Vec::as_slice)
    }
}

pub(crate) type Host = Machine<Blocks, Tables>;

/// Guests' ASIDs.
pub(crate) const ONE: u32 = 1;
pub(crate) const TWO: u32 = 2;

/// How large a scenario's host is.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) cores: usize,
    pub(crate) regions: usize,
    /// Pages with an entry of their own at the start of each region.
    pub(crate) pages: usize,
}

/// A host with SNP on and every core's window at region 0.
pub(crate) fn host(size: Size, config: UnitConfig) -> Arc<Host> {
    let storage = Blocks {
        dense: (0..size.regions).map(|_| words(2 * size.pages)).collect(),
        counters: words(3),
    };
    let coverage = Coverage::segmented(36).unwrap().with_regions(size.regions as u32);
    let tables = Tables::new(size.cores, size.regions);
    let host = Machine::new(storage, coverage, tables, config, UpdateOrder::default());
    host.enable_snp();
    for core in cores(&host) {
        host.wrmsr_rmpopt_base(core, base(0)).unwrap();
    }
    Arc::new(host)
}

/// An actor. All of a scenario's actors are spawned, and the main thread only waits for them: loom
/// does not interleave what the main thread does with a thread that has not run yet.
pub(crate) fn spawn<H, T>(host: &Arc<H>, act: impl FnOnce(&H) -> T + 'static) -> JoinHandle<T>
where
    H: 'static,
    T: 'static,
{
    let host = Arc::clone(host);
    loom::thread::spawn(move || act(&host))
}

pub(crate) fn cores(host: &Host) -> impl Iterator<Item = CoreId> {
    (0..host.unit().cores()).map(CoreId)
}

pub(crate) fn region(number: u32) -> Region {
    Region::new(number).unwrap()
}

/// `RMPOPT_BASE`, enabled, at a region.
pub(crate) fn base(number: u32) -> u64 {
    RmpoptBase::enabled_at(region(number)).raw()
}

/// RAX of a region.
pub(crate) fn rax(number: u32) -> u64 {
    u64::from(number) << 30
}

pub(crate) fn page(region: u64, index: u64) -> Pfn {
    Pfn::new(region * PAGES_PER_REGION + index).unwrap()
}

pub(crate) fn private(size: PageSize, asid: u32) -> RmpOperand {
    RmpOperand::private(Gpa::ZERO, size, asid, false)
}

pub(crate) fn shared() -> RmpOperand {
    RmpOperand::shared(PageSize::Size4K)
}

/// An RMPUPDATE that must succeed.
pub(crate) fn update(host: &Host, pfn: Pfn, operand: &RmpOperand) {
    let update = host.rmpupdate(CoreId(0), pfn.spa(), operand).unwrap();
    assert!(update.status.is_success(), "{pfn:?}: {}", update.status);
}

/// Whether the host may write to the page on this core.
pub(crate) fn may_write(host: &Host, core: CoreId, pfn: Pfn, size: PageSize) -> bool {
    host.check_write(core, Accessor::HostKernel, pfn.spa(), size).verdict == Verdict::Allowed
}

/// Law 1 at an instant at which the caller knows that this page is assigned.
pub(crate) fn law_1(host: &Host, pfn: Pfn) {
    for core in cores(host) {
        let access = host.check_write(core, Accessor::HostKernel, pfn.spa(), PageSize::Size4K);
        assert!(!access.skipped_by_rmpopt, "law 1: core {core} has the bit");
        assert_ne!(access.verdict, Verdict::Allowed, "law 1: core {core} may write");
    }
}

/// Preemptions beyond each scenario's own bound: `RMPOPT_LOOM_DEEPER`, 0 by default.
fn deeper() -> usize {
    std::env::var("RMPOPT_LOOM_DEEPER")
        .map_or(0, |number| number.parse().expect("RMPOPT_LOOM_DEEPER: a number of preemptions"))
}

fn run(name: &str, bound: usize, scenario: impl Fn() + Send + Sync + 'static) -> u64 {
    let bound = bound + deeper();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.max_branches = 10_000;
    let count = Arc::new(Counter::new(0));
    let counted = Arc::clone(&count);
    let begun = Instant::now();
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        scenario();
    });
    let count = count.load(Relaxed);
    println!("loom: {name}: {count} interleavings, preemptions {bound}, {:.1?}", begun.elapsed());
    count
}

/// Runs every interleaving in which running actors are interrupted at most `bound` times.
pub(crate) fn explore(name: &str, bound: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let count = run(name, bound, scenario);
    assert!(count > 1, "{name}: nothing to interleave");
}

/// The scenario has a defect, and some interleaving must show it.
pub(crate) fn explore_finds(name: &str, bound: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let result = catch_unwind(AssertUnwindSafe(|| run(name, bound, scenario)));
    assert!(result.is_err(), "{name}: no interleaving shows the seeded defect");
}
