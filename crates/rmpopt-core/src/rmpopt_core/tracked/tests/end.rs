//! How it stops, and starts again.

use super::{believes, config, region, tracked, up, CoreId, Event, Layout, Policy};
use crate::rmpopt_core::Verdict;
use crate::snp_defs::RmpoptBase;

#[test]
fn snp_goes_down_in_the_middle_of_a_pass() {
    let mut machine = up(3, 3);
    machine.until_ms(100_000);
    (0..3).for_each(|number| machine.flip(number));
    machine.skip_until_ms(101_000);
    machine.answer_verify(0);
    machine.skip_until_ms(102_000);
    machine.did();
    machine.snp_shutdown();
    assert_eq!(machine.did(), ["quiesce"], "a verify is still under way");
    machine.answer_verify(0);
    assert_eq!(machine.did(), ["clear 0", "clear 1", "clear 2"]);
    machine.base(0);
    machine.base(1);
    assert!(!machine.stopped, "core 1's base has not been cleared");
    machine.base(0);
    assert_eq!(machine.did(), ["stopped"]);
    assert!(machine.hardware.cores.iter().all(|core| core.base == RmpoptBase::OFF));
    machine.until_ms(1_000_000);
    machine.flip(1);
    assert!(machine.did().is_empty());
}

#[test]
fn snp_goes_down_while_bases_are_written() {
    let mut machine = tracked(Layout::new(2, 1), config());
    machine.snp_init();
    machine.base(0);
    machine.did();
    machine.snp_shutdown();
    machine.settle();
    assert_eq!(machine.did(), ["quiesce", "clear 0", "clear 1", "stopped"]);
}

#[test]
fn snp_goes_down_before_any_base_is_written() {
    let mut machine = tracked(Layout::new(2, 1), config());
    let layout = Layout::new(2, 1);
    machine.policy.handle(machine.now, Event::SnpInitialised(&layout));
    machine.stopped = false;
    machine.tell(Event::SnpGoingDown);
    assert_eq!(machine.did(), ["quiesce", "stopped"]);
}

#[test]
fn a_base_that_was_written_but_cannot_be_used_is_cleared() {
    let mut machine = tracked(Layout::new(2, 1), config());
    machine.snp_init();
    // The enable bit is there, SNP_EN is not: barred.
    machine.hardware.cores[1].snp_en = false;
    machine.settle();
    machine.did();
    machine.snp_shutdown();
    machine.settle();
    assert_eq!(machine.did(), ["quiesce", "clear 0", "clear 1", "stopped"]);
}

#[test]
fn an_unload_leaves_the_bases() {
    let mut machine = up(2, 2);
    machine.tell(Event::Unload);
    assert_eq!(machine.did(), ["quiesce", "stopped"]);
    assert!(machine.hardware.cores.iter().all(|core| core.base.is_enabled()));
    assert!(machine.hardware.has(1, 1), "what is optimised stays");
    assert!(!believes(&machine, 1, 1), "but nobody looks after it");
    // Off and on again: SNP is up, the base stays.
    machine.offline(1);
    machine.online(1);
    assert!(machine.did().is_empty());
    machine.snp_shutdown();
    machine.settle();
    assert_eq!(machine.did(), ["clear 0", "clear 1", "stopped"]);
}

#[test]
fn snp_goes_down_during_an_unload() {
    let mut machine = up(2, 2);
    machine.until_ms(100_000);
    machine.flip(1);
    machine.skip_until_ms(101_000);
    machine.did();
    machine.tell(Event::Unload);
    machine.snp_shutdown();
    assert_eq!(machine.did(), ["quiesce"]);
    machine.settle();
    assert_eq!(machine.did(), ["clear 0", "clear 1", "stopped"]);
}

#[test]
fn a_stop_without_snp_needs_nothing() {
    let mut machine = tracked(Layout::new(2, 2), config());
    machine.tell(Event::Unload);
    machine.tell(Event::SnpGoingDown);
    assert_eq!(machine.did(), ["stopped", "stopped"]);
}

#[test]
fn a_verify_that_faults_stops_the_driver() {
    let mut machine = up(2, 2);
    machine.until_ms(100_000);
    machine.flip(1);
    machine.skip_until_ms(101_000);
    machine.did();
    machine.hardware.cores[0].base = RmpoptBase::OFF;
    machine.answer_verify(0);
    assert_eq!(machine.did(), ["quiesce", "stopped"]);
    machine.flip(0);
    machine.until_ms(200_000);
    assert!(machine.did().is_empty());
    // Law 6 holds all the same.
    machine.snp_shutdown();
    machine.settle();
    assert_eq!(machine.did(), ["clear 0", "clear 1", "stopped"]);
    machine.snp_init();
    machine.settle();
    machine.assert_optimised();
}

#[test]
fn a_batch_that_faults_stops_the_driver_even_if_it_was_replaced() {
    for replaced in [false, true] {
        let mut machine = up(2, 3);
        machine.until_ms(100_000);
        machine.flip(1);
        machine.until_ms(101_000);
        let (old, _) = machine.offers.get(&1).unwrap().clone();
        if replaced {
            machine.flip(2);
            machine.until_ms(102_999);
        }
        machine.did();
        let ticket = old.batch().ticket;
        machine.offers.clear();
        machine.tell(Event::BatchFault { core: CoreId(1), ticket });
        assert_eq!(machine.did(), ["quiesce", "stopped"]);
    }
}

#[test]
fn a_second_snp_init_starts_afresh_and_old_answers_are_void() {
    let mut machine = up(2, 2);
    machine.until_ms(100_000);
    machine.flip(1);
    machine.skip_until_ms(101_000);
    let old = machine.verifies[0];
    machine.snp_shutdown();
    machine.settle();
    machine.did();
    assert!(!believes(&machine, 0, 0) && !machine.policy.is_clean(region(0)));

    machine.snp_init();
    assert!(!machine.policy.first_pass_over());
    machine.base(0);
    machine.base(0);
    for verdict in [Verdict::Clean, Verdict::Fault] {
        machine.tell(Event::Verified {
            ticket: old.ticket,
            core: old.core,
            region: old.region,
            verdict,
            took_ns: 1,
        });
    }
    machine.tell(Event::BatchFault { core: CoreId(0), ticket: old.ticket });
    assert!(!machine.policy.is_clean(region(1)) && !machine.stopped);
    machine.settle();
    assert_eq!(
        machine.did(),
        ["base 0", "base 1", "verify 0:0", "verify 0:1", "offer 1:[0, 1] by 101.000000s",]
    );
    machine.assert_optimised();
}
