//! Instructions that meet in one 2M block: the model's own lock is not seen, unless asked for.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers unwrap what the tests state.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use snp_defs::{Gpa, PageSize, PageState, Pfn, Region, RmpOperand, RmpStatus, RmpoptFunction};
use snp_model::{
    Choices, CoreId, Coverage, GuestAccess, GuestCpu, GuestStop, InitLayout, NeighbourRace,
    PfnRange, SaveArea, StdMachine, UnitConfig, VmrunPages, Walk,
};

const CORE: CoreId = CoreId(0);
const ROUNDS: u64 = 20_000;

fn host(neighbour_race: NeighbourRace) -> StdMachine {
    let coverage = Coverage::segmented(30).unwrap().with_regions(1);
    let host = StdMachine::on_heap(2, 1, coverage, UnitConfig::default());
    let host = host.with_choices(Choices { neighbour_race, ..Choices::DEFAULT });
    host.enable_snp();
    let dram = [PfnRange::new(Pfn::new(0).unwrap(), 1 << 18)];
    host.snp_init(&InitLayout { dram: &dram, ..InitLayout::default() }).unwrap();
    host.reserve(Region::ZERO).unwrap();
    host
}

fn page(number: u64) -> Pfn {
    Pfn::new(number).unwrap()
}

fn private(number: u64) -> RmpOperand {
    RmpOperand::private(Gpa::new(number << 12).unwrap(), PageSize::Size4K, 1, false)
}

/// Two threads assign and free pages of one block; how often one saw the other.
fn meet(host: &StdMachine) -> u64 {
    let seen = AtomicU64::new(0);
    thread::scope(|scope| {
        for start in [1, 256] {
            let seen = &seen;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let number = start + round % 255;
                    for operand in [private(number), RmpOperand::shared(PageSize::Size4K)] {
                        loop {
                            let update = host.rmpupdate(CORE, page(number).spa(), &operand);
                            match update.unwrap().status {
                                RmpStatus::SUCCESS => break,
                                RmpStatus::FAIL_OVERLAP => seen.fetch_add(1, Ordering::Relaxed),
                                other => panic!("{other}"),
                            };
                        }
                    }
                }
            });
        }
    });
    assert_eq!(host.rmp().entry(page(0)).unwrap().subpage_count(), 0);
    assert_eq!(host.rmp().assigned_to(1), 0);
    seen.load(Ordering::Relaxed)
}

#[test]
fn a_neighbour_is_waited_for() {
    assert_eq!(meet(&host(NeighbourRace::Spin)), 0);
}

#[test]
fn a_neighbour_is_seen_where_asked_for() {
    let seen = (0..50).map(|_| meet(&host(NeighbourRace::FailOverlap))).find(|&seen| seen != 0);
    assert!(seen.is_some());
}

/// Guests, vCPUs and the host at work in one block at once: nothing is lost.
#[test]
fn guests_and_vcpus_meet_the_host() {
    let host = host(NeighbourRace::Spin);
    for number in [0, 100] {
        host.rmpupdate(CORE, page(number).spa(), &private(number)).unwrap();
    }
    let walk = |number: u64| Walk {
        gva: number << 12,
        gpa: Gpa::new(number << 12).unwrap(),
        spa: page(number).spa(),
        nested: PageSize::Size4K,
        private: true,
    };
    let cpu = GuestCpu { asid: 1, vmpl: 0 };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // The head's own entry, whose count of assigned pages changes all the time.
            for round in 0..ROUNDS {
                let result = host.pvalidate(CORE, cpu, &walk(0), 0, 1 - round % 2).unwrap();
                assert!(result.status.is_success() && !result.carry);
            }
            stop.store(true, Ordering::Relaxed);
        });
        scope.spawn(|| {
            let pages = VmrunPages {
                hsave: snp_defs::VmHsavePa(0x5000),
                vmcb: page(3).spa(),
                avic: None,
                save_area: SaveArea::InVmcb,
            };
            while !stop.load(Ordering::Relaxed) {
                let running = host.vmrun(CORE, &pages).unwrap();
                let update = host.rmpupdate(CORE, page(3).spa(), &private(3)).unwrap();
                assert_eq!(update.status, RmpStatus::FAIL_INUSE);
                host.vmexit(running);
            }
        });
        while !stop.load(Ordering::Relaxed) {
            for operand in [private(200), RmpOperand::shared(PageSize::Size4K)] {
                let update = host.rmpupdate(CORE, page(200).spa(), &operand).unwrap();
                assert_eq!(update.status, RmpStatus::SUCCESS);
            }
        }
    });
    let head = host.rmp().entry(page(0)).unwrap();
    assert_eq!(head.subpage_count(), 1, "page 100");
    assert_eq!(host.page_state(page(0)), PageState::GuestInvalid);
    assert!(!host.rmp().entry(page(3)).unwrap().lock());
}

/// An instruction that never gets the block gives up in the end, with a code that is repeated for.
#[test]
fn waiting_is_bounded() {
    let host = host(NeighbourRace::Spin);
    host.rmpupdate(CORE, page(7).spa(), &private(7)).unwrap();
    let entered = AtomicBool::new(false);
    let leave = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let edited = host.edit_entry(page(9), |entry| {
                entered.store(true, Ordering::Release);
                while !leave.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                entry
            });
            assert_eq!(edited, Ok(true));
        });
        while !entered.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let update = host.rmpupdate(CORE, page(8).spa(), &private(8)).unwrap();
        assert_eq!(update.status, RmpStatus::FAIL_OVERLAP);
        assert_eq!(host.psmash(CORE, page(0).spa()).unwrap().status, RmpStatus::FAIL_INUSE);
        let walk = Walk {
            gva: 0x7000,
            gpa: Gpa::new(0x7000).unwrap(),
            spa: page(7).spa(),
            nested: PageSize::Size4K,
            private: true,
        };
        let stop = host.pvalidate(CORE, GuestCpu { asid: 1, vmpl: 0 }, &walk, 0, 1);
        assert!(matches!(stop, Err(GuestStop::NestedFault(code)) if code.rmp()));
        assert!(host.rmpopt(CORE, 0, RmpoptFunction::Report).is_err(), "RMPOPT is off");
        leave.store(true, Ordering::Release);
    });
}

/// A guest's page goes to another guest, which opens it to its VMPL 1, and back. The first guest's
/// VMPL 1 never had a right: no mixture of the two moments may give it one.
#[test]
fn a_check_sees_one_moment() {
    let host = host(NeighbourRace::Spin);
    let at = page(7);
    let operand =
        |asid| RmpOperand::private(Gpa::new(0x7000).unwrap(), PageSize::Size4K, asid, false);
    let walk = Walk {
        gva: 0x7000,
        gpa: Gpa::new(0x7000).unwrap(),
        spa: at.spa(),
        nested: PageSize::Size4K,
        private: true,
    };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                for asid in [1, 2] {
                    let cpu = GuestCpu { asid, vmpl: 0 };
                    host.rmpupdate(CORE, at.spa(), &operand(asid)).unwrap();
                    host.pvalidate(CORE, cpu, &walk, 0, 1).unwrap();
                    if asid == 2 {
                        host.rmpadjust(CORE, cpu, &walk, 0, 1 | 0x1F << 8).unwrap();
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        let first = GuestCpu { asid: 1, vmpl: 1 };
        while !stop.load(Ordering::Relaxed) {
            let access = host.check_guest(CORE, first, GuestAccess::Read, &walk);
            assert!(access.verdict.is_err());
        }
    });
}
