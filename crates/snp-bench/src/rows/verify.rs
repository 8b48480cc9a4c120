//! RMPOPT that reads the RMP: every entry of a region, or its heads.

use anyhow::{Result, ensure};
use snp_defs::{Region, RmpoptFunction};
use snp_model::{Choices, CoreId, ScanDepth};

use crate::measure::{Times, interleave};
use crate::sys::or_of;
use crate::table::{Host, Table};

/// Times of all sides, per region.
#[derive(Debug)]
pub(crate) struct Sides {
    pub(crate) dense: Times,
    pub(crate) heads: Times,
    pub(crate) read: Times,
}

/// `regions` regions per side and round, of a table without an assigned page; no scan is cached.
/// The sides visit different regions, so that none finds in the caches what another has read.
pub(crate) fn run(table: &Table, rounds: usize, regions: u32) -> Result<Sides> {
    let choices = |scan_depth| Choices { scan_depth, ..Choices::DEFAULT };
    let dense = table.host(1, false, choices(ScanDepth::Entries))?;
    let heads = table.host(1, false, choices(ScanDepth::Heads))?;
    let blocks = table.blocks()?;
    let per_region = blocks.len() / table.regions() as usize;

    let visited = |round: usize, side: u32| {
        let first = (round as u32 * 3 + side).wrapping_mul(regions);
        (0..regions).map(move |n| first.wrapping_add(n) % table.regions())
    };
    let (mut unclean, mut bits) = (0_u64, 0_u64);
    let verify = |host: &Host<'_>, round, side, lines| -> u64 {
        let verified = visited(round, side).filter_map(Region::new).filter(|region| {
            host.rmpopt(CoreId(0), region.base().get(), RmpoptFunction::Verify)
                .is_ok_and(|outcome| outcome.cf && outcome.lines == lines)
        });
        u64::from(regions) - verified.count() as u64
    };
    let unclean = std::cell::RefCell::new(&mut unclean);
    let mut times = interleave(
        rounds,
        &mut [
            ("RMPOPT, every entry", &mut |round| {
                **unclean.borrow_mut() += verify(&dense, round, 0, 65_536);
                u64::from(regions)
            }),
            ("plain read", &mut |round| {
                for region in visited(round, 1) {
                    let first = region as usize * per_region;
                    let read = blocks[first..first + per_region].iter().map(|words| or_of(words));
                    bits |= read.fold(0, |sum, words| sum | words);
                }
                u64::from(regions)
            }),
            ("RMPOPT, heads", &mut |round| {
                **unclean.borrow_mut() += verify(&heads, round, 2, 512);
                u64::from(regions)
            }),
        ],
    )
    .into_iter();
    let unclean = **unclean.borrow();
    ensure!(unclean == 0 && bits == 0, "{unclean} regions were not clean, bits {bits:#x}");
    let mut next = || times.next().unwrap_or_default();
    Ok(Sides { dense: next(), read: next(), heads: next() })
}
