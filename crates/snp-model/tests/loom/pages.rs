//! Instructions that meet in one 2M block: results and final states are those of some order.

use std::sync::Arc;

use loom::thread::JoinHandle;
use snp_defs::{Gpa, PageSize, PageState, Pfn, RmpOperand, RmpStatus, RmpoptFunction, VmHsavePa};
use snp_model::{
    CoreId, GuestCpu, GuestStop, SaveArea, UnitConfig, Update, VmrunPages, VmrunStop, Walk,
};

use crate::scene::{
    explore, host, may_write, page, private, rax, shared, spawn, update, Host, Size, ONE, TWO,
};

const CORE: CoreId = CoreId(0);

fn block(pages: usize) -> Arc<Host> {
    host(Size { cores: 1, regions: 1, pages }, UnitConfig::default())
}

fn try_update(host: &Host, pfn: Pfn, operand: &RmpOperand) -> Update {
    host.rmpupdate(CORE, pfn.spa(), operand).unwrap()
}

fn spawn_update(host: &Arc<Host>, pfn: Pfn, operand: RmpOperand) -> JoinHandle<Update> {
    spawn(host, move |host| try_update(host, pfn, &operand))
}

fn count(host: &Host) -> u16 {
    host.rmp().entry(page(0, 0)).unwrap().subpage_count()
}

#[test]
fn two_pages_of_one_block_and_a_scanner() {
    explore("two updaters in a block, a scanner", 1, || {
        let host = block(3);
        let other = spawn_update(&host, page(0, 1), private(PageSize::Size4K, ONE));
        let scanner =
            spawn(&host, move |host| host.rmpopt(CORE, rax(0), RmpoptFunction::Verify).unwrap());
        let own = spawn(&host, |host| {
            update(host, page(0, 2), &private(PageSize::Size4K, TWO));
            assert!(!may_write(host, CORE, page(0, 0), PageSize::Size2M));
        });
        own.join().unwrap();
        assert!(other.join().unwrap().status.is_success());
        scanner.join().unwrap();
        assert_eq!(count(&host), 2);
        assert_eq!((host.rmp().assigned_to(ONE), host.rmp().assigned_to(TWO)), (1, 1));
        assert!(!host.unit().is_optimised(CORE, page(0, 0).region()));
    });
}

#[test]
fn one_page_for_two_owners() {
    explore("two owners for one page", 3, || {
        let host = block(2);
        let at = page(0, 1);
        let other = spawn_update(&host, at, private(PageSize::Size4K, ONE));
        let own = spawn_update(&host, at, private(PageSize::Size4K, TWO));
        let (own, other) = (own.join().unwrap(), other.join().unwrap());
        let last = if own.was_assigned { TWO } else { ONE };
        assert!(own.was_assigned != other.was_assigned, "both were first, or none");
        assert_eq!(host.rmp().entry(at).unwrap().asid(), last);
        assert_eq!(host.rmp().assigned_to(last), 1);
        assert_eq!(host.rmp().assigned_to(ONE) + host.rmp().assigned_to(TWO), 1);
        assert_eq!(count(&host), 1);
    });
}

#[test]
fn a_large_page_against_a_small_one() {
    explore("2M page against 4K page", 2, || {
        let host = block(2);
        let other = spawn_update(&host, page(0, 0), private(PageSize::Size2M, ONE));
        let small = spawn_update(&host, page(0, 1), private(PageSize::Size4K, TWO));
        let (small, large) = (small.join().unwrap(), other.join().unwrap());
        let codes = (large.status, small.status);
        assert!(
            codes == (RmpStatus::SUCCESS, RmpStatus::FAIL_OVERLAP)
                || codes == (RmpStatus::FAIL_OVERLAP, RmpStatus::SUCCESS),
            "{codes:?}"
        );
        let pages = (host.rmp().assigned_to(ONE), host.rmp().assigned_to(TWO));
        assert_eq!(pages, if large.status.is_success() { (512, 0) } else { (0, 1) });
    });
}

#[test]
fn rmpupdate_meets_psmash() {
    explore("PSMASH, a page freed, a checker", 2, || {
        let host = block(2);
        update(&host, page(0, 0), &private(PageSize::Size2M, ONE));
        let smasher = spawn(&host, move |host| host.psmash(CORE, page(0, 0).spa()).unwrap());
        let checker = spawn(&host, move |host| {
            // Page 0 is a guest's all the time, in one size or the other.
            assert!(!may_write(host, CORE, page(0, 0), PageSize::Size2M));
            assert!(!may_write(host, CORE, page(0, 0), PageSize::Size4K));
        });
        let freed = spawn_update(&host, page(0, 1), shared()).join().unwrap();
        assert!(smasher.join().unwrap().status.is_success());
        checker.join().unwrap();
        let expected = match freed.status {
            RmpStatus::SUCCESS => 510,
            RmpStatus::FAIL_OVERLAP => 511,
            other => panic!("{other}"),
        };
        assert_eq!(count(&host), expected);
        assert_eq!(host.rmp().assigned_to(ONE), u64::from(expected) + 1);
    });
}

#[test]
fn rmpread_is_of_one_instant() {
    explore("RMPREAD of a page that is being assigned", 3, || {
        let host = block(2);
        let reader =
            spawn(&host, move |host| host.rmpread(CORE, page(0, 1).spa()).unwrap().operand);
        let other = spawn_update(&host, page(0, 1), private(PageSize::Size4K, ONE));
        assert!(other.join().unwrap().status.is_success());
        let read = reader.join().unwrap();
        let block_has = read.page_size & RmpOperand::BLOCK_HAS_ASSIGNED != 0;
        assert_eq!(read.is_assigned(), block_has, "{read:?}");
        assert_eq!(read.is_assigned(), read.asid == ONE, "{read:?}");
    });
}

#[test]
fn a_state_is_of_one_instant() {
    explore("state of a page that PSMASH splits", 3, || {
        let host = block(2);
        update(&host, page(0, 0), &private(PageSize::Size2M, ONE));
        let smasher = spawn(&host, move |host| host.psmash(CORE, page(0, 0).spa()).unwrap());
        let looker = spawn(&host, |host| host.page_state(page(0, 1)));
        assert_eq!(looker.join().unwrap(), PageState::GuestInvalid);
        assert!(smasher.join().unwrap().status.is_success());
        assert_eq!(host.page_state(page(0, 1)), PageState::GuestInvalid);
    });
}

#[test]
fn vmrun_against_rmpupdate() {
    explore("VMRUN against RMPUPDATE", 3, || {
        let host = block(2);
        let vmcb = page(0, 1);
        let other = spawn_update(&host, vmcb, private(PageSize::Size4K, ONE));
        let pages = VmrunPages {
            hsave: VmHsavePa(0x9000),
            vmcb: vmcb.spa(),
            avic: None,
            save_area: SaveArea::InVmcb,
        };
        let ran = spawn(&host, move |host| host.vmrun(CORE, &pages)).join().unwrap();
        let update = other.join().unwrap();
        match ran {
            Ok(running) => {
                assert_eq!(update.status, RmpStatus::FAIL_INUSE);
                host.vmexit(running);
                let again = try_update(&host, vmcb, &private(PageSize::Size4K, ONE));
                assert!(again.status.is_success());
            }
            Err(stop) => {
                assert!(matches!(stop, VmrunStop::Exception(_)), "{stop:?}");
                assert!(update.status.is_success(), "neither won: {}", update.status);
            }
        }
    });
}

#[test]
fn pvalidate_against_a_change_of_owner() {
    explore("PVALIDATE against RMPUPDATE", 3, || {
        let host = block(2);
        let at = page(0, 1);
        update(&host, at, &private(PageSize::Size4K, ONE));
        let guest = spawn(&host, move |host| {
            let walk = Walk {
                gva: 0,
                gpa: Gpa::ZERO,
                spa: at.spa(),
                nested: PageSize::Size4K,
                private: true,
            };
            host.pvalidate(CORE, GuestCpu { asid: ONE, vmpl: 0 }, &walk, 0, 1)
        });
        let other = spawn_update(&host, at, private(PageSize::Size4K, TWO));
        assert!(other.join().unwrap().status.is_success());
        match guest.join().unwrap() {
            Ok(validated) => assert!(validated.status.is_success() && !validated.carry),
            Err(stop) => assert!(matches!(stop, GuestStop::NestedFault(_)), "{stop:?}"),
        }
        let entry = host.rmp().entry(at).unwrap();
        assert!(entry.asid() == TWO && !entry.validated(), "validated for another owner");
    });
}
