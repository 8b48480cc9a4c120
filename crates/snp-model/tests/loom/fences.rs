//! The RMPOPT unit alone, over an RMP whose own accesses order nothing: one relaxed word.
//!
//! `snp_model::Rmp` reads with acquire and writes with release, so that it would not need the unit's
//! two fences. The unit promises more: whatever is behind `RegionScan`, these hold.

use std::sync::Arc;

use loom::thread::JoinHandle;
use snp_defs::{Region, RmpoptFunction};
use snp_model::sync::{AtomicU64, Ordering};
use snp_model::{CoreId, RegionScan, RmpoptUnit, Scan, UnitConfig};

use crate::scene::{base, explore, spawn, Tables};

/// 1: the region's only page is assigned.
struct Relaxed(AtomicU64);

impl RegionScan for Relaxed {
    fn scan(&self, _: Region) -> Scan {
        Scan { assigned: self.0.load(Ordering::Relaxed) == 1, lines: 1 }
    }
}

type Shared = Arc<(RmpoptUnit<Tables>, Relaxed)>;

fn unit(assigned: u64) -> Shared {
    let unit = RmpoptUnit::new(Tables::new(1, 1), UnitConfig::default());
    unit.set_snp_en(CoreId(0), true);
    unit.wrmsr_base(CoreId(0), base(0)).unwrap();
    Arc::new((unit, Relaxed(AtomicU64::new(assigned))))
}

fn updater(shared: &Shared, assigned: u64) -> JoinHandle<()> {
    spawn(shared, move |(unit, rmp)| {
        let token = unit.begin_update(Region::ZERO);
        rmp.0.store(assigned, Ordering::Relaxed);
        unit.end_update(token, true);
    })
}

/// Needs the fence in `begin_update` and the count of updates in flight.
#[test]
fn a_change_is_seen_by_nobody_who_has_not_seen_the_update_begin() {
    explore("relaxed RMP, an observer of the change", 3, || {
        let shared = unit(0);
        let (unit, rmp) = &*shared;
        assert!(unit.rmpopt(CoreId(0), 0, RmpoptFunction::Verify, rmp).unwrap().cf);
        let observer = spawn(&shared, |(unit, rmp)| {
            if rmp.0.load(Ordering::Acquire) == 1 {
                assert!(!unit.is_optimised(CoreId(0), Region::ZERO), "the bit still counts");
            }
        });
        updater(&shared, 1).join().unwrap();
        observer.join().unwrap();
        assert!(!unit.is_optimised(CoreId(0), Region::ZERO));
    });
}

/// Needs the fence in `finish`.
#[test]
fn a_scan_is_older_than_the_look_at_the_regions_word() {
    explore("relaxed RMP, a page freed during the scan", 3, || {
        let shared = unit(1);
        let verifier = spawn(&shared, |(unit, rmp)| {
            unit.rmpopt(CoreId(0), 0, RmpoptFunction::Verify, rmp).unwrap()
        });
        updater(&shared, 0).join().unwrap();
        let outcome = verifier.join().unwrap();
        assert_eq!(outcome.cf, shared.0.is_optimised(CoreId(0), Region::ZERO));
    });
}
