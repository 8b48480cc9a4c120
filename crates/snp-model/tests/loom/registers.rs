//! What a sibling thread or the platform does to a core while an RMPOPT runs on it: `RMPOPT_BASE`
//! written, SNP taken off, `SNP_INIT`. Each under every switch that concerns it.

use std::sync::Arc;

use snp_defs::{PageSize, Pfn, RmpoptFunction};
use snp_model::sync::AtomicU64;
use snp_model::{BaseWrite, CoreId, EnableToggle, RmpoptUnit, UnitConfig};

use crate::scene::{
    base, explore, host, law_1, page, private, rax, region, spawn, update, Host, Size, Tables, ONE,
};

const CORE: CoreId = CoreId(0);
const BASE_WRITES: [BaseWrite; 3] = [BaseWrite::Clears, BaseWrite::KeepsByIndex, BaseWrite::Gp];
const TOGGLES: [EnableToggle; 3] =
    [EnableToggle::Clears, EnableToggle::Keeps, EnableToggle::KeepsAndMissesRmpupdate];

fn size(regions: usize) -> Size {
    Size { cores: 1, regions, pages: 1 }
}

/// A page becomes a guest's, and law 1 holds from then on.
fn assign(host: &Host, pfn: Pfn) {
    update(host, pfn, &private(PageSize::Size4K, ONE));
    law_1(host, pfn);
}

/// The window moves from region 0 to region 1 while region 0 is verified.
#[test]
fn another_base_during_a_verify() {
    for base_write in BASE_WRITES {
        explore(&format!("window moved during a verify, {base_write:?}"), 3, move || {
            let host = host(size(2), UnitConfig { base_write, ..UnitConfig::default() });
            let sibling = spawn(&host, move |host| {
                host.rmpopt(CORE, rax(0), RmpoptFunction::Verify).unwrap()
            });
            let writer = spawn(&host, |host| host.wrmsr_rmpopt_base(CORE, base(1)));
            let (written, outcome) = (writer.join().unwrap(), sibling.join().unwrap());
            assert_eq!(written.is_err(), base_write == BaseWrite::Gp);
            let optimised = |number| host.unit().is_optimised(CORE, region(number));
            // The bit is where RMPOPT, then WRMSR, would leave it, or nowhere.
            assert!(!optimised(0) || written.is_err() && outcome.cf);
            assert!(!optimised(1) || base_write == BaseWrite::KeepsByIndex && outcome.cf);
        });
    }
}

/// Two siblings move the window to different places, a third verifies in one of them.
#[test]
fn two_base_writes_at_once() {
    explore("two windows written during a verify", 2, || {
        let host = host(size(3), UnitConfig::default());
        let writer = spawn(&host, move |host| host.wrmsr_rmpopt_base(CORE, base(1)).unwrap());
        let verifier =
            spawn(&host, move |host| host.rmpopt(CORE, rax(1), RmpoptFunction::Verify).unwrap());
        let second = spawn(&host, |host| host.wrmsr_rmpopt_base(CORE, base(2)).unwrap());
        writer.join().unwrap();
        second.join().unwrap();
        let outcome = verifier.join().unwrap();
        let optimised = |number| host.unit().is_optimised(CORE, region(number));
        assert!(!optimised(0) && !optimised(2), "a bit of region 1 stands for another");
        assert!(!optimised(1) || outcome.cf);
    });
}

/// A verify begun before the core is disabled and enabled again.
#[test]
fn disabled_and_enabled_during_a_verify() {
    for en_toggle in TOGGLES {
        explore(&format!("toggled during a verify, {en_toggle:?}"), 3, move || {
            let host = host(size(1), UnitConfig { en_toggle, ..UnitConfig::default() });
            let begun = host.unit().begin(CORE, rax(0), RmpoptFunction::Verify).unwrap();
            let sibling = spawn(&host, move |host| host.unit().finish(begun, host.rmp()));
            let writer = spawn(&host, |host| {
                host.wrmsr_rmpopt_base(CORE, 0).unwrap();
                host.wrmsr_rmpopt_base(CORE, base(0)).unwrap();
            });
            writer.join().unwrap();
            let outcome = sibling.join().unwrap();
            let optimised = host.unit().is_optimised(CORE, region(0));
            assert!(!optimised || outcome.cf);
            match en_toggle {
                EnableToggle::Clears => assert!(!optimised, "the bit outlived the edge"),
                EnableToggle::Keeps => assert_eq!(optimised, outcome.cf),
                // Rewriting the table may lose a bit that is set at that moment, never gain one.
                EnableToggle::KeepsAndMissesRmpupdate => {}
            }
        });
    }
}

/// An optimised core is disabled and enabled while a page is assigned.
#[test]
fn disabled_and_enabled_during_an_update() {
    for en_toggle in [EnableToggle::Clears, EnableToggle::Keeps] {
        explore(&format!("toggled during an update, {en_toggle:?}"), 3, move || {
            let host = host(size(1), UnitConfig { en_toggle, ..UnitConfig::default() });
            assert!(host.rmpopt(CORE, rax(0), RmpoptFunction::Verify).unwrap().cf);
            let sibling = spawn(&host, move |host| {
                host.wrmsr_rmpopt_base(CORE, 0).unwrap();
                host.wrmsr_rmpopt_base(CORE, base(0)).unwrap();
            });
            let updater = spawn(&host, |host| assign(host, page(0, 0)));
            updater.join().unwrap();
            sibling.join().unwrap();
            law_1(&host, page(0, 0));
        });
    }
}

/// As the driver does it, the base written once: law 1 under every combination of both switches.
#[test]
fn one_base_write_during_update_and_verify() {
    for base_write in BASE_WRITES {
        for en_toggle in TOGGLES {
            let name = format!("base written once, {base_write:?}, {en_toggle:?}");
            explore(&name, 1, move || {
                let config = UnitConfig { base_write, en_toggle, ..UnitConfig::default() };
                let host = host(size(2), config);
                host.reset_core(CORE);
                host.enable_snp_on(CORE);
                let writer = spawn(&host, move |host| {
                    host.wrmsr_rmpopt_base(CORE, base(1)).unwrap();
                    host.rmpopt(CORE, rax(1), RmpoptFunction::Verify).unwrap();
                });
                let sibling = spawn(&host, move |host| {
                    host.rmpopt(CORE, rax(1), RmpoptFunction::Verify).ok()
                });
                let updater = spawn(&host, |host| assign(host, page(1, 0)));
                updater.join().unwrap();
                writer.join().unwrap();
                sibling.join().unwrap();
                law_1(&host, page(1, 0));
            });
        }
    }
}

/// SNP goes off on a core that verifies: with SNP on again, its table is empty.
#[test]
fn snp_off_during_a_verify() {
    explore("SNP off during a verify", 3, || {
        let host = host(size(1), UnitConfig::default());
        let sibling =
            spawn(&host, move |host| host.rmpopt(CORE, rax(0), RmpoptFunction::Verify).ok());
        let platform = spawn(&host, |host| host.unit().set_snp_en(CORE, false));
        platform.join().unwrap();
        sibling.join().unwrap();
        host.enable_snp_on(CORE);
        assert!(!host.unit().is_optimised(CORE, region(0)), "a bit outlived SNP");
    });
}

/// What `SNP_INIT` does to the unit, between the halves of a verify.
#[test]
fn snp_init_during_a_verify() {
    explore("SNP_INIT during a verify", 3, || {
        let host = host(size(1), UnitConfig::default());
        let begun = host.unit().begin(CORE, rax(0), RmpoptFunction::Verify).unwrap();
        let sibling = spawn(&host, move |host| host.unit().finish(begun, host.rmp()));
        let firmware = spawn(&host, |host| host.unit().snp_init());
        firmware.join().unwrap();
        sibling.join().unwrap();
        assert!(!host.unit().is_optimised(CORE, region(0)), "a bit outlived SNP_INIT");
        let next = host.unit().begin(CORE, rax(0), RmpoptFunction::Verify).unwrap();
        assert!(!next.is_cached(), "a cached result outlived SNP_INIT");
    });
}

/// The core's epoch wraps to one that a forgotten entry of the table still carries.
#[test]
fn an_epoch_that_wraps_meets_no_old_entry() {
    explore("epoch wraps, a reader", 3, || {
        let mut tables = Tables::new(1, 1);
        // Epoch 65,535, SNP_EN, not enabled, base 0; the entry: generation 1, epoch 1.
        tables.cores = vec![AtomicU64::new(0xFFFF << 8 | 2)];
        tables.bits = vec![vec![AtomicU64::new(1 << 16 | 1)]];
        let unit = Arc::new(RmpoptUnit::new(tables, UnitConfig::default()));
        let writer = spawn(&unit, |unit| unit.wrmsr_base(CORE, base(0)).unwrap());
        let reader = spawn(&unit, |unit| assert!(!unit.is_optimised(CORE, region(0))));
        reader.join().unwrap();
        writer.join().unwrap();
        assert!(!unit.is_optimised(CORE, region(0)));
    });
}
