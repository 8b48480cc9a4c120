//! What a script has done to the host's pages, and what must follow from it.

use std::collections::{BTreeMap, BTreeSet};

use crate::table::Table;

/// 4 KiB pages in a region of 1 GiB.
const PAGES_PER_REGION: u64 = 1 << 18;
/// 4 KiB pages in a page of 2 MiB.
const PAGES_PER_LARGE: u64 = 512;

/// Which pages are assigned.
#[derive(Debug, Default)]
pub(crate) struct Account {
    regions: usize,
    /// SNP is initialised.
    up: bool,
    /// Assigned pages by region.
    assigned: BTreeMap<u64, BTreeSet<u64>>,
    /// What the tables hold while no driver adds to them; `None`: one does.
    left: Option<Table>,
}

/// What the account learnt from a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Pages of these regions changed hands.
    Regions(BTreeSet<usize>),
    /// SNP went up or down.
    Snp,
    /// No page changed hands.
    None,
}

impl Account {
    /// A host of so many regions with SNP off.
    pub(crate) fn new(regions: usize) -> Self {
        Self { regions, ..Self::default() }
    }

    /// Notes what a command for the control file does.
    pub(crate) fn note(&mut self, command: &str) -> Result<Effect, String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["snp-init" | "fw-init"] => {
                self.up = true;
                self.assigned.clear();
                self.empty_what_is_left();
                Ok(Effect::Snp)
            }
            ["snp-down" | "fw-down"] => {
                self.up = false;
                self.empty_what_is_left();
                Ok(Effect::Snp)
            }
            ["assign", first, pages, _asid] => self.change(first, pages, 1, true),
            ["assign", first, pages, _asid, "2m"] => {
                self.change(first, pages, PAGES_PER_LARGE, true)
            }
            ["share", first, pages] => self.change(first, pages, 1, false),
            ["share", first, pages, "2m"] => self.change(first, pages, PAGES_PER_LARGE, false),
            _ => Ok(Effect::None),
        }
    }

    fn change(&mut self, first: &str, pages: &str, each: u64, on: bool) -> Result<Effect, String> {
        let number = |word: &str| word.parse::<u64>().map_err(|_| format!("{word:?}: no number"));
        let (first, pages) = (number(first)?, number(pages)? * each);
        let mut regions = BTreeSet::new();
        for page in first..first + pages {
            let region = page / PAGES_PER_REGION;
            let assigned = self.assigned.entry(region).or_default();
            let changed = if on { assigned.insert(page) } else { assigned.remove(&page) };
            if !changed {
                let state = if on { "assigned" } else { "shared" };
                return Err(format!("the script has page {page} {state} already"));
            }
            let region = usize::try_from(region).map_err(|_| "a region past all".to_owned())?;
            regions.insert(region);
            if let (true, Some(left)) = (on, &mut self.left) {
                // Hardware takes the bits away; nobody sets them again.
                left.get_mut(region).ok_or("a region past all")?.clear();
            }
        }
        Ok(Effect::Regions(regions))
    }

    fn empty_what_is_left(&mut self) {
        if let Some(left) = &mut self.left {
            left.iter_mut().for_each(BTreeSet::clear);
        }
    }

    /// From now on no driver adds to the tables, which are like this.
    pub(crate) fn leave(&mut self, found: Table) {
        self.left = Some(found);
    }

    /// From now on a driver works.
    pub(crate) fn work(&mut self) {
        self.left = None;
    }

    /// Whether a driver works.
    pub(crate) fn is_worked_on(&self) -> bool {
        self.left.is_none()
    }

    /// SNP is initialised.
    pub(crate) fn is_up(&self) -> bool {
        self.up
    }

    /// Whether a region holds an assigned page.
    pub(crate) fn is_assigned(&self, region: usize) -> bool {
        let pages = self.assigned.get(&(region as u64));
        pages.is_some_and(|pages| !pages.is_empty())
    }

    /// What the tables must be once nothing is left to do: each CPU has every region that holds no
    /// assigned page; without a driver that works, what was left and not taken away.
    pub(crate) fn settled(&self, cpus: &BTreeSet<u32>) -> Table {
        if let Some(left) = &self.left {
            return left.clone();
        }
        let row = |region| {
            if self.up && !self.is_assigned(region) { cpus.clone() } else { BTreeSet::new() }
        };
        (0..self.regions).map(row).collect()
    }

    /// What must hold at any time: no CPU has a region that holds an assigned page, and none has
    /// any while SNP is down.
    pub(crate) fn unsafe_row(&self, table: &Table) -> Option<String> {
        let wrong = |&(region, cpus): &(usize, &BTreeSet<u32>)| {
            !cpus.is_empty() && (!self.up || self.is_assigned(region))
        };
        let (region, cpus) = table.iter().enumerate().find(wrong)?;
        let why = if self.up { "holds assigned pages" } else { "is there without SNP" };
        Some(format!("region {region} {why} and is optimised on CPUs {cpus:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_accounted_for_by_region() {
        let mut account = Account::new(3);
        let cpus = BTreeSet::from([0, 1]);
        assert!(account.settled(&cpus).iter().all(BTreeSet::is_empty));
        assert_eq!(account.note("snp-init"), Ok(Effect::Snp));
        let across = account.note("assign 262143 2 5").unwrap();
        assert_eq!(across, Effect::Regions(BTreeSet::from([0, 1])));
        assert_eq!(account.settled(&cpus), [BTreeSet::new(), BTreeSet::new(), cpus.clone()]);
        assert!(account.note("assign 262143 1 6").unwrap_err().contains("already"));
        account.note("share 262143 1").unwrap();
        assert_eq!(account.settled(&cpus), [cpus.clone(), BTreeSet::new(), cpus.clone()]);
        account.note("assign 524288 1 5 2m").unwrap();
        assert!(account.is_assigned(2));
        account.note("share 524288 1 2m").unwrap();
        assert!(!account.is_assigned(2) && account.is_assigned(1));
    }

    #[test]
    fn without_a_driver_bits_only_go() {
        let mut account = Account::new(3);
        let cpus = BTreeSet::from([0, 1]);
        account.note("snp-init").unwrap();
        account.note("assign 0 1 5").unwrap();
        account.leave(account.settled(&cpus));
        account.note("share 0 1").unwrap();
        account.note("assign 262144 1 5").unwrap();
        let mut expected = vec![BTreeSet::new(), BTreeSet::new(), cpus.clone()];
        assert_eq!(account.settled(&cpus), expected);
        account.note("share 262144 1").unwrap();
        assert_eq!(account.settled(&cpus), expected);
        account.note("snp-down").unwrap();
        account.note("snp-init").unwrap();
        expected[2].clear();
        assert_eq!(account.settled(&cpus), expected);
        account.work();
        assert!(account.settled(&cpus).iter().all(|row| *row == cpus));
    }

    #[test]
    fn a_bit_over_an_assigned_page_is_unsafe() {
        let mut account = Account::new(2);
        let (none, all) = (BTreeSet::new(), BTreeSet::from([0]));
        assert!(account.unsafe_row(&vec![none.clone(), all.clone()]).is_some(), "SNP is down");
        account.note("snp-init").unwrap();
        account.note("assign 0 1 1").unwrap();
        assert_eq!(account.unsafe_row(&vec![none.clone(), all.clone()]), None);
        assert!(account.unsafe_row(&vec![all, none]).unwrap().starts_with("region 0 holds"));
    }
}
