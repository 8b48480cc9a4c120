//! RMPUPDATE of random 4K pages: half of them are assigned and are freed, half the other way round.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use anyhow::{Result, ensure};
use snp_defs::{
    Gpa, PAGE_SHIFT, PAGES_PER_LARGE_PAGE, PAGES_PER_REGION, PageSize, Pfn, RmpEntry, RmpOperand,
    Spa,
};
use snp_model::{ASIDS, Choices, CoreId, WORDS_PER_BLOCK};

use crate::measure::{Times, interleave};
use crate::table::{ASID, Host, Table};

/// The model's busy bit of a block, in its head's `hi`.
const BLOCK_BUSY: u64 = 1 << 48;
/// A region's generation, above its count of updates under way.
const GENERATION: u64 = 1 << 16;

/// Where an entry holds its owner.
const ASID_SHIFT: u32 = 51;

/// Cores of the large host.
pub(crate) const CORES: u32 = 512;

/// Times of all sides.
#[derive(Debug)]
pub(crate) struct Sides {
    pub(crate) bare: Times,
    pub(crate) one_core: Times,
    pub(crate) many_cores: Times,
}

/// One update, as the model is asked for it.
struct Order {
    core: CoreId,
    spa: Spa,
    operand: RmpOperand,
}

impl Order {
    fn new(pfn: Pfn, core: u32) -> Option<Self> {
        let frees = is_populated(pfn);
        let operand = if frees {
            RmpOperand::shared(PageSize::Size4K)
        } else {
            RmpOperand::private(Gpa::new(pfn.spa().get())?, PageSize::Size4K, ASID, false)
        };
        Some(Self { core: CoreId(core), spa: pfn.spa(), operand })
    }
}

/// [`Table::populate`] assigns the pages of even blocks.
const fn is_populated(pfn: Pfn) -> bool {
    (pfn.get() / PAGES_PER_LARGE_PAGE).is_multiple_of(2)
}

/// What the bare loop works on: the same RMP, and words of its own for what stands beside it.
struct BareHost<'a> {
    /// The RMP's words, a slice for each region.
    rmp: Vec<&'a [AtomicU64]>,
    core: AtomicU64,
    regions: Vec<AtomicU64>,
    counters: Vec<AtomicU64>,
}

impl<'a> BareHost<'a> {
    fn new(table: &'a Table) -> Result<Self> {
        let zeroes = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Ok(Self {
            rmp: table.region_words()?,
            core: AtomicU64::new(1),
            regions: zeroes(table.regions() as usize),
            counters: zeroes(ASIDS),
        })
    }

    /// Every access that the model makes for such an update and none of its checks: the core's word,
    /// the region's word up, the block taken, head and entry read, entry written, head written with
    /// another count, the owner's counter, the block let go, the region's word down.
    fn update(&self, order: &Order) {
        let (page, operand) = (order.spa.get() >> PAGE_SHIFT, &order.operand);
        let number = (page / PAGES_PER_REGION) as usize;
        let at = 2 * (page % PAGES_PER_REGION) as usize;
        let head = at - at % WORDS_PER_BLOCK;
        let (rmp, region) = (self.rmp[number], &self.regions[number]);
        let on = self.core.load(Ordering::Acquire);
        region.fetch_add(on, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        let free = rmp[head + 1].fetch_or(BLOCK_BUSY, Ordering::Acquire);
        let count = rmp[head].load(Ordering::Acquire);
        let old = rmp[at].load(Ordering::Acquire);
        let one = RmpEntry::SUBPAGE_COUNT_ONE;
        if operand.is_assigned() {
            let new = u64::from(operand.asid) << ASID_SHIFT | operand.gpa | RmpEntry::ASSIGNED_BIT;
            rmp[at + 1].store(RmpEntry::VMPL0_ALL, Ordering::Release);
            rmp[at].store(new, Ordering::Release);
            rmp[head].store(count.wrapping_add(one), Ordering::Release);
            self.counters[operand.asid as usize].fetch_add(1, Ordering::AcqRel);
        } else {
            rmp[at + 1].store(0, Ordering::Release);
            rmp[at].store(0, Ordering::Release);
            rmp[head].store(count.wrapping_sub(one), Ordering::Release);
            let owner = (old >> ASID_SHIFT) as usize % ASIDS;
            self.counters[owner].fetch_sub(1, Ordering::AcqRel);
        }
        rmp[head + 1].store(free, Ordering::Release);
        region.fetch_add(GENERATION.wrapping_sub(on), Ordering::AcqRel);
    }
}

/// `updates` per side and round. All sides work on the same table, each page once.
pub(crate) fn run(table: &Table, rounds: usize, updates: usize) -> Result<Sides> {
    let one = table.host(1, true, Choices::DEFAULT)?;
    let many = table.host(CORES, true, Choices::DEFAULT)?;
    table.populate(&one)?;
    let bare = BareHost::new(table)?;

    // A head's own update leaves its count alone: one page in 512, left out.
    let mut pages = table.shuffled_pages().filter(|pfn| !pfn.is_head());
    let count = updates * (rounds + 1);
    let orders = |cores: u32, pages: &mut dyn Iterator<Item = Pfn>| -> Vec<Order> {
        (0..cores)
            .cycle()
            .zip(pages)
            .filter_map(|(core, pfn)| Order::new(pfn, core))
            .take(count)
            .collect()
    };
    let one_orders = orders(1, &mut pages);
    let many_orders = orders(CORES, &mut pages);
    let bare_orders = orders(1, &mut pages);

    let slice = |round: usize| round * updates..(round + 1) * updates;
    let mut failed = 0_u64;
    let mut model = |host: &Host<'_>, orders: &[Order]| {
        for Order { core, spa, operand } in orders {
            match host.rmpupdate(*core, *spa, operand) {
                Ok(update) if update.status.is_success() => {}
                _ => failed += 1,
            }
        }
        orders.len() as u64
    };
    let model = std::cell::RefCell::new(&mut model);
    let mut times = interleave(
        rounds,
        &mut [
            ("RMPUPDATE, 1 core", &mut |round| {
                (model.borrow_mut())(&one, &one_orders[slice(round)])
            }),
            ("bare loop", &mut |round| {
                bare_orders[slice(round)].iter().for_each(|order| bare.update(order));
                updates as u64
            }),
            ("RMPUPDATE, 512 cores", &mut |round| {
                (model.borrow_mut())(&many, &many_orders[slice(round)])
            }),
        ],
    )
    .into_iter();
    ensure!(failed == 0, "{failed} RMPUPDATEs failed");
    let mut next = || times.next().unwrap_or_default();
    Ok(Sides { one_core: next(), bare: next(), many_cores: next() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bare loop leaves what the model leaves, so that it does the same work.
    #[test]
    fn the_bare_loop_writes_the_same_entries() {
        let table = Table::new(1).unwrap();
        let snapshot = |table: &Table| -> Vec<u64> {
            let blocks = table.blocks().unwrap();
            blocks.iter().flat_map(|b| b.iter()).map(|w| w.load(Ordering::Acquire)).collect()
        };
        let pages = [5, 511, 512 + 7, 3 * 512 + 1, 3 * 512 + 2].map(|page| Pfn::new(page).unwrap());
        let run = |bare: bool| {
            let host = table.host(1, true, Choices::DEFAULT).unwrap();
            table.populate(&host).unwrap();
            let before = host.rmp().assigned_to(ASID);
            let bare_host = BareHost::new(&table).unwrap();
            for pfn in pages {
                let order = Order::new(pfn, 0).unwrap();
                if bare {
                    bare_host.update(&order);
                } else {
                    let Order { core, spa, operand } = order;
                    assert!(host.rmpupdate(core, spa, &operand).unwrap().status.is_success());
                }
            }
            let counted = bare_host.counters[ASID as usize].load(Ordering::Acquire);
            let counted =
                if bare { counted } else { host.rmp().assigned_to(ASID).wrapping_sub(before) };
            (snapshot(&table), counted)
        };
        assert_eq!(run(true), run(false));
    }
}
