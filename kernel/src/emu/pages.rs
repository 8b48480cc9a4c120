// SPDX-License-Identifier: MIT OR GPL-2.0
//! Pages that a command names, and their RMPUPDATEs.

use kernel::prelude::*;

use super::ask::{Ask, Request};
use crate::snp_defs::{PageSize, Pfn, Region};

/// Pages of one size, and whose they become.
pub(crate) struct Pages {
    first: Pfn,
    count: u64,
    size: PageSize,
    /// 0: the hypervisor's.
    asid: u32,
}

impl Pages {
    /// `FIRST PAGES ASID [2m]`, without `ASID` where they become the hypervisor's.
    pub(crate) fn parse<'a>(
        words: &mut impl Iterator<Item = &'a str>,
        owned: bool,
    ) -> Result<Self> {
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).ok_or(EINVAL);
        let first = Pfn::new(number()?).ok_or(EINVAL)?;
        let count = number()?;
        let asid = if owned { u32::try_from(number()?).map_err(|_| EINVAL)? } else { 0 };
        if owned && asid == 0 {
            return Err(EINVAL);
        }
        let size = match words.next() {
            None => PageSize::Size4K,
            Some("2m") => PageSize::Size2M,
            Some(_) => return Err(EINVAL),
        };
        Ok(Self { first, count, size, asid })
    }

    /// Whether they become somebody's.
    pub(crate) fn are_assigned(&self) -> bool {
        self.asid != 0
    }

    /// Each page's number.
    fn each(&self) -> impl Iterator<Item = Pfn> + '_ {
        let pages = self.size.pages();
        (0..self.count).filter_map(move |index| self.first.checked_add(index.wrapping_mul(pages)))
    }

    /// RMPUPDATE page by page; `then` is called after each. Law 1 is checked once in each region, and
    /// after the last page.
    pub(crate) fn update(&self, host: &impl Ask, then: impl Fn(Region)) -> Result {
        let pages = self.count.checked_mul(self.size.pages()).ok_or(EINVAL)?;
        host.asked(Request::Reserve { first: self.first.get(), pages })?;
        let mut last = None;
        for pfn in self.each() {
            host.update(pfn, self.size == PageSize::Size2M, self.asid)?;
            then(pfn.region());
            if last != Some(pfn.region()) {
                last = Some(pfn.region());
                host.check_region(pfn.region());
            }
            crate::sys::cpu::let_others_run();
        }
        if let Some(region) = last {
            host.check_region(region);
        }
        Ok(())
    }
}
