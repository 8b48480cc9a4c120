//! Updater, leader and follower: law 1 as the updater knows it, and what a verify may answer.

use std::sync::Arc;

use loom::thread::JoinHandle;
use snp_defs::{PageSize, RmpoptFunction};
use snp_model::{CoreId, Fault, Outcome, ScanCache, UnitConfig};

use crate::scene::{
    cores, explore, explore_finds, host, law_1, may_write, page, private, rax, shared, spawn,
    update, Host, Size, ONE,
};

const SMALL: Size = Size { cores: 2, regions: 1, pages: 2 };

fn verify(host: &Host, core: u32) -> Outcome {
    host.rmpopt(CoreId(core), rax(0), RmpoptFunction::Verify).unwrap()
}

fn verifier(host: &Arc<Host>, core: u32) -> JoinHandle<Outcome> {
    spawn(host, move |host| verify(host, core))
}

/// The updater assigns a page, looks at every core, and may free the page again; meanwhile one core
/// verifies by a full scan, and another may use what that scan found.
fn actors(index: u64, negative: bool, frees: bool) {
    let config =
        UnitConfig { scan_cache: ScanCache { enabled: true, negative }, ..UnitConfig::default() };
    let host = host(SMALL, config);
    let (leader, follower) = (verifier(&host, 0), verifier(&host, 1));
    let updater = spawn(&host, move |host| {
        let page = page(0, index);
        update(host, page, &private(PageSize::Size4K, ONE));
        for core in cores(host) {
            assert!(!host.unit().is_optimised(core, page.region()), "law 1: core {core}");
        }
        if frees {
            update(host, page, &shared());
        }
    });
    updater.join().unwrap();
    for outcome in [leader.join().unwrap(), follower.join().unwrap()] {
        let (cached, read) = (outcome.cached, outcome.lines);
        assert!(if cached { read == 0 } else { read == 1 || read == 512 }, "{outcome:?}");
    }
    // Whatever was cached on the way, nobody says now what no longer holds.
    assert_eq!(verify(&host, 0).cf, frees);
    assert_eq!(host.rmp().assigned_to(ONE), u64::from(!frees));
}

#[test]
fn a_head_page() {
    explore("three actors, page at a block's head", 1, || actors(0, false, true));
}

#[test]
fn a_head_page_with_negative_results_cached() {
    explore("three actors, negative results cached", 1, || actors(0, true, true));
}

#[test]
fn a_page_inside_a_block() {
    explore("three actors, page inside a block", 1, || actors(1, false, true));
}

#[test]
fn a_page_that_stays_assigned() {
    explore("three actors, page stays assigned", 2, || actors(0, false, false));
}

/// A bit is set and a clean result cached before the updater begins; a follower may use that result,
/// or hardware drop it, at any time.
fn late_follower(drop_cache: bool, fault: Option<Fault>) {
    let host = host(SMALL, UnitConfig::default());
    assert!(verify(&host, 0).cf);
    if let Some(fault) = fault {
        host.unit().faults().seed(fault, 1);
    }
    let follower = verifier(&host, 1);
    let updater = spawn(&host, move |host| {
        let page = page(0, 0);
        update(host, page, &private(PageSize::Size4K, ONE));
        if drop_cache {
            host.unit().drop_cache(page.region());
        }
        law_1(host, page);
        assert!(!verify(host, 0).cf, "a stale result was published");
        law_1(host, page);
    });
    updater.join().unwrap();
    follower.join().unwrap();
    law_1(&host, page(0, 0));
}

#[test]
fn a_follower_with_a_cached_result() {
    explore("updater, follower with a cached result", 3, || late_follower(false, None));
}

#[test]
fn a_cached_result_dropped_meanwhile() {
    explore("updater, follower, cached result dropped", 2, || late_follower(true, None));
}

#[test]
fn seeded_faults_are_found() {
    for fault in [Fault::DropClear, Fault::StaleCache, Fault::BlindPublish] {
        let name = format!("seeded {fault:?}");
        explore_finds(&name, 3, move || late_follower(false, Some(fault)));
    }
}

/// Once somebody saw the change of a page, nobody's bit for its region counts any more, although the
/// update has not ended.
#[test]
fn who_has_seen_a_fault_sees_no_skip_afterwards() {
    explore("a check that faults, then one on an optimised core", 3, || {
        let host = host(SMALL, UnitConfig::default());
        assert!(verify(&host, 1).cf);
        let page = page(0, 0);
        let observer = spawn(&host, move |host| {
            let may_write = |core| may_write(host, CoreId(core), page, PageSize::Size4K);
            assert!(may_write(0) || !may_write(1), "the bit still counts");
        });
        let updater = spawn(&host, move |host| update(host, page, &private(PageSize::Size4K, ONE)));
        observer.join().unwrap();
        updater.join().unwrap();
    });
}

/// CF = 1 for a region that had an assigned page means: the page was freed before. Nothing clears
/// the bit after that.
#[test]
fn a_verify_that_finds_the_region_clean_comes_after_the_update() {
    explore("a page freed while a core verifies", 3, || {
        let host = host(SMALL, UnitConfig::default());
        let page = page(0, 0);
        update(&host, page, &private(PageSize::Size4K, ONE));
        let verifier = verifier(&host, 1);
        spawn(&host, move |host| update(host, page, &shared())).join().unwrap();
        let outcome = verifier.join().unwrap();
        assert_eq!(outcome.cf, host.unit().is_optimised(CoreId(1), page.region()));
        assert!(outcome.cf || outcome.raced || outcome.lines == 1, "{outcome:?}");
    });
}
