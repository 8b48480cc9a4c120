//! A pass: a leader scans each region, every other core takes the cached result.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use snp_defs::{Region, RmpoptFunction, Window};
use snp_model::{Choices, CoreId};

use crate::measure::{Times, interleave};
use crate::table::{Host, Table};

/// Cores of the host.
pub(crate) const CORES: u32 = 512;

/// Times of all sides, per RMPOPT of the pass. Each order has a bare loop in the same order.
#[derive(Debug)]
pub(crate) struct Sides {
    /// The leader goes through the turn's regions, then each follower does: batches.
    pub(crate) by_core: Times,
    pub(crate) bare_by_core: Times,
    /// Each region goes through all cores, leader first: broadcasts.
    pub(crate) by_region: Times,
    pub(crate) bare_by_region: Times,
}

/// Turns of `count` regions, one after the other through the whole table and again from its start; no
/// page of it is assigned. So many turns as the table has such groups of regions make a pass.
pub(crate) fn run(table: &Table, rounds: usize, count: usize) -> Result<Sides> {
    let host = table.host(CORES, true, Choices::DEFAULT)?;
    let blocks = table.blocks()?;
    let heads: Vec<&AtomicU64> = blocks.iter().filter_map(|block| block.first()).collect();
    let per_region = heads.len() / table.regions() as usize;
    let slots = Window::REGIONS as usize;
    let cores = CORES as usize;
    let tables: Vec<AtomicU64> = (0..slots * cores).map(|_| AtomicU64::new(1)).collect();
    let regions: Vec<Region> = (0..table.regions()).filter_map(Region::new).collect();
    let groups = regions.len() / count;
    ensure!(groups >= 4, "{} regions make no four turns of {count}", regions.len());
    // A quarter of the table lies between the sides.
    let group = |round: usize, side: usize| {
        let first = (round + side * groups / 4) % groups * count;
        first..first + count
    };

    let verify = |host: &Host<'_>, core, region: Region, cached: bool| -> u64 {
        let outcome = host.rmpopt(CoreId(core), region.base().get(), RmpoptFunction::Verify);
        u64::from(outcome.is_ok_and(|outcome| outcome.cf && outcome.cached == cached))
    };
    let read = |region: usize| {
        let heads = &heads[region * per_region..][..per_region];
        heads.iter().fold(0, |sum, head| sum | head.load(Ordering::Acquire))
    };
    let touch =
        |core: usize, region: usize| tables[core * slots + region].fetch_add(1, Ordering::AcqRel);
    let units = (count * cores) as u64;
    let (right, bits) = (AtomicU64::new(0), AtomicU64::new(0));
    let turn = |regions: &[Region], count: u64| {
        right.fetch_add(count, Ordering::Relaxed);
        for &region in regions {
            host.unit().drop_cache(region);
        }
        units
    };
    let mut times = interleave(
        rounds,
        &mut [
            ("pass, core by core", &mut |round| {
                let regions = &regions[group(round, 0)];
                let leader: u64 = regions.iter().map(|&r| verify(&host, 0, r, false)).sum();
                let followers: u64 = (1..CORES)
                    .map(|core| regions.iter().map(|&r| verify(&host, core, r, true)).sum::<u64>())
                    .sum();
                turn(regions, leader + followers)
            }),
            ("bare, core by core", &mut |round| {
                bits.fetch_or(group(round, 1).fold(0, |sum, r| sum | read(r)), Ordering::Relaxed);
                for core in 0..cores {
                    for region in group(round, 1) {
                        touch(core, region);
                    }
                }
                units
            }),
            ("pass, region by region", &mut |round| {
                let regions = &regions[group(round, 2)];
                let count = regions.iter().map(|&region| {
                    verify(&host, 0, region, false)
                        + (1..CORES).map(|core| verify(&host, core, region, true)).sum::<u64>()
                });
                turn(regions, count.sum())
            }),
            ("bare, region by region", &mut |round| {
                for region in group(round, 3) {
                    bits.fetch_or(read(region), Ordering::Relaxed);
                    for core in 0..cores {
                        touch(core, region);
                    }
                }
                units
            }),
        ],
    )
    .into_iter();
    let expected = 2 * (rounds as u64 + 1) * units;
    let (right, bits) = (right.into_inner(), bits.into_inner());
    ensure!(right == expected && bits == 0, "{right} of {expected} RMPOPTs went as expected");
    let mut next = || times.next().unwrap_or_default();
    Ok(Sides { by_core: next(), bare_by_core: next(), by_region: next(), bare_by_region: next() })
}
