//! The check of a host's write to a random page: with the region's bit set, and without.

use anyhow::{Result, ensure};
use snp_defs::{PageSize, Pfn, Region, RmpoptFunction, Spa};
use snp_model::{Accessor, Choices, CoreId, Verdict};

use crate::measure::{Times, interleave};
use crate::table::Table;

/// Times of both sides, per check.
#[derive(Debug)]
pub(crate) struct Sides {
    pub(crate) optimised: Times,
    pub(crate) cold: Times,
}

/// `checks` per side and round. Core 0 has every region optimised, core 1 none.
pub(crate) fn run(table: &Table, rounds: usize, checks: usize) -> Result<Sides> {
    let host = table.host(2, true, Choices::DEFAULT)?;
    for region in (0..table.regions()).filter_map(Region::new) {
        let outcome = host.rmpopt(CoreId(0), region.base().get(), RmpoptFunction::Verify);
        ensure!(outcome.is_ok_and(|outcome| outcome.cf), "region {region} is not clean");
    }
    let mut pages = table.shuffled_pages();
    let mut list =
        || -> Vec<Spa> { pages.by_ref().take(checks * (rounds + 1)).map(Pfn::spa).collect() };
    let (of_optimised, of_cold) = (list(), list());
    let mut wrong = 0_u64;
    let mut check = |core, skipped, pages: &[Spa]| {
        for &spa in pages {
            let access = host.check_write(core, Accessor::HostKernel, spa, PageSize::Size4K);
            let right = access.verdict == Verdict::Allowed && access.skipped_by_rmpopt == skipped;
            wrong += u64::from(!right);
        }
        pages.len() as u64
    };
    let check = std::cell::RefCell::new(&mut check);
    let slice = |round: usize| round * checks..(round + 1) * checks;
    let mut times = interleave(
        rounds,
        &mut [
            ("write check, optimised", &mut |round| {
                (check.borrow_mut())(CoreId(0), true, &of_optimised[slice(round)])
            }),
            ("write check, RMP cold", &mut |round| {
                (check.borrow_mut())(CoreId(1), false, &of_cold[slice(round)])
            }),
        ],
    )
    .into_iter();
    ensure!(wrong == 0, "{wrong} checks went another way");
    let mut next = || times.next().unwrap_or_default();
    Ok(Sides { optimised: next(), cold: next() })
}
