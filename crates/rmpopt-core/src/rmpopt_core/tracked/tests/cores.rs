//! Cores that go and come, in every state.

use super::{believes, config, region, tracked, up, up_with, CoreId, Event, Layout, Policy};
use crate::rmpopt_core::Config;
use crate::snp_defs::RmpoptBase;

#[test]
fn waiting_for_its_base() {
    let mut machine = tracked(Layout::new(2, 1), config());
    machine.firmware_initialises();
    machine.policy.handle(machine.now, Event::SnpInitialised(&machine.layout));
    // The write of core 1's base has not been asked for when it goes.
    machine.offline(1);
    assert_eq!(machine.did(), ["base 0"]);
    machine.online(1);
    assert_eq!(machine.did(), ["base 1"]);
    machine.settle();
    machine.assert_optimised();
    assert!(believes(&machine, 1, 0));
}

#[test]
fn while_its_base_is_written() {
    let mut machine = tracked(Layout::new(2, 1), config());
    machine.snp_init();
    machine.layout.offline.insert(1);
    machine.tell(Event::CoreOffline(CoreId(1)));
    machine.hardware.cores[1].base = RmpoptBase::enabled_at(region(0));
    machine.settle();
    assert!(machine.policy.first_pass_over(), "nobody waits for it");
    machine.online(1);
    machine.settle();
    assert!(!machine.policy.is_enabled(CoreId(1)), "not before the next SNP_INIT");
    machine.did();
    machine.snp_shutdown();
    machine.settle();
    assert_eq!(machine.did(), ["quiesce", "clear 0", "clear 1", "stopped"]);
}

#[test]
fn a_leader_while_it_verifies() {
    let mut machine = up(3, 2);
    machine.until_ms(100_000);
    machine.flip(1);
    machine.skip_until_ms(101_000);
    machine.did();
    // Its answer is lost with it.
    machine.verifies.clear();
    machine.offline(0);
    assert_eq!(machine.did(), ["verify 1:1"]);
    machine.until_ms(110_000);
    assert_eq!(machine.did(), ["offer 2:[1] by 103.000000s"]);
    machine.online(0);
    assert_eq!(machine.did(), ["offer 0:[0, 1] by 112.000000s"], "it follows now");
    machine.until_ms(112_000);
    machine.assert_optimised();
}

#[test]
fn the_only_leader() {
    let mut machine = up(1, 2);
    machine.until_ms(100_000);
    machine.flip(1);
    machine.offline(0);
    machine.until_ms(200_000);
    assert!(machine.did().is_empty());
    machine.online(0);
    machine.until_ms(203_000);
    assert_eq!(machine.did(), ["verify 0:1", "offer 0:[0] by 202.000000s"]);
    machine.assert_optimised();
}

#[test]
fn a_follower_with_an_offer_out() {
    let mut machine = tracked(Layout::new(2, 2), config());
    machine.snp_init();
    machine.base(0);
    machine.base(0);
    machine.answer_verify(0);
    machine.answer_verify(0);
    assert!(!machine.policy.first_pass_over());
    machine.offline(1);
    assert!(machine.policy.first_pass_over(), "its offer went with it");
    machine.until_ms(50_000);
    machine.online(1);
    machine.until_ms(60_000);
    machine.assert_optimised();
    assert!(believes(&machine, 1, 1));
}

#[test]
fn one_that_is_told_of_twice() {
    let mut machine = tracked(Layout::new(2, 2), config());
    machine.snp_init();
    machine.base(0);
    machine.base(0);
    machine.answer_verify(0);
    machine.answer_verify(0);
    machine.offers.clear();
    machine.online(1);
    machine.settle();
    assert!(machine.policy.first_pass_over());
    machine.assert_optimised();
}

#[test]
fn it_returns_with_its_base_and_is_asked_anew() {
    let mut machine = up(2, 2);
    machine.until_ms(100_000);
    machine.offline(1);
    assert!(!believes(&machine, 1, 0));
    machine.until_ms(101_000);
    machine.online(1);
    assert_eq!(machine.did(), ["offer 1:[0, 1] by 103.000000s"]);
    machine.until_ms(103_000);
    machine.assert_optimised();
}

#[test]
fn it_returns_reset() {
    for trust_base_clear in [false, true] {
        let config = Config { trust_base_clear, ..config() };
        let mut machine = up_with(Layout::new(2, 2), config);
        machine.until_ms(100_000);
        machine.offline(1);
        machine.hardware.cores[1].base = RmpoptBase::OFF;
        machine.online(1);
        machine.until_ms(110_000);
        assert_eq!(machine.policy.is_enabled(CoreId(1)), trust_base_clear);
        assert_eq!(believes(&machine, 1, 1), trust_base_clear);
        assert_eq!(machine.did().contains(&"base 1".to_owned()), trust_base_clear);
    }
}

#[test]
fn it_returns_without_snp() {
    let mut machine = up(2, 2);
    machine.hardware.cores[0].snp_en = false;
    machine.offers.clear();
    // Told of while it leads: nothing may run there from now on.
    machine.online(0);
    machine.until_ms(100_000);
    machine.flip(1);
    machine.until_ms(110_000);
    assert_eq!(machine.did(), ["verify 1:1"]);
    assert!(!machine.policy.is_enabled(CoreId(0)));
}

#[test]
fn one_that_was_not_there_at_snp_init() {
    let mut layout = Layout::new(3, 2);
    layout.offline.insert(2);
    let mut machine = up_with(layout, config());
    assert_eq!(machine.policy.window(CoreId(2)), None);
    machine.until_ms(100_000);
    machine.online(2);
    assert_eq!(machine.did(), ["base 2"]);
    machine.until_ms(103_000);
    assert_eq!(machine.did(), ["offer 2:[0, 1] by 102.000000s"]);
    machine.assert_optimised();
    // A base that nobody here wrote is left alone.
    let mut layout = Layout::new(2, 1);
    layout.offline.insert(1);
    let mut machine = up_with(layout, config());
    machine.hardware.cores[1].base = RmpoptBase::enabled_at(region(7));
    machine.online(1);
    machine.until_ms(103_000);
    assert!(machine.did().is_empty() && !machine.policy.is_enabled(CoreId(1)));
}

#[test]
fn one_that_was_masked_when_the_operator_let_the_driver_go_on() {
    let mut machine = up(2, 2);
    machine.tell(Event::Unload);
    machine.layout.offline.insert(1);
    machine.goes_on();
    machine.settle();
    machine.did();
    // It has kept the base of before: nothing is written, and it is used again.
    machine.online(1);
    let asked = machine.did();
    assert!(matches!(&asked[..], [offer] if offer.starts_with("offer 1:[0, 1]")), "{asked:?}");
    machine.until_ms(110_000);
    assert!(machine.policy.is_enabled(CoreId(1)));
    machine.assert_optimised();
    machine.did();
    machine.snp_shutdown();
    machine.settle();
    assert_eq!(machine.did(), ["quiesce", "clear 0", "clear 1", "stopped"]);
}

#[test]
fn one_with_the_base_that_an_earlier_driver_left_is_cleared_in_the_end() {
    let mut layout = Layout::new(2, 1);
    layout.offline.insert(1);
    let mut machine = up_with(layout, config());
    machine.hardware.cores[1].base = RmpoptBase::enabled_at(region(0));
    machine.online(1);
    machine.until_ms(110_000);
    machine.assert_optimised();
    assert!(believes(&machine, 1, 0));
    machine.did();
    machine.snp_shutdown();
    machine.settle();
    assert_eq!(machine.did(), ["quiesce", "clear 0", "clear 1", "stopped"]);
}

#[test]
fn it_was_away_when_snp_went_down() {
    let mut machine = up(2, 1);
    machine.offline(1);
    machine.snp_shutdown();
    machine.settle();
    assert_eq!(machine.did(), ["quiesce", "clear 0", "stopped"]);
    machine.online(1);
    assert_eq!(machine.did(), ["clear 1"]);
    machine.settle();
    assert_eq!(machine.hardware.cores[1].base, RmpoptBase::OFF);
    machine.offline(1);
    machine.online(1);
    assert!(machine.did().is_empty());
}

#[test]
fn it_returns_while_the_others_are_cleared() {
    let mut machine = up(3, 1);
    machine.offline(1);
    machine.snp_shutdown();
    machine.base(0);
    machine.online(1);
    machine.base(0);
    assert_eq!(machine.did(), ["quiesce", "clear 0", "clear 2", "clear 1"]);
    assert!(!machine.stopped);
    machine.base(0);
    assert_eq!(machine.did(), ["stopped"]);
}

#[test]
fn it_goes_while_it_is_cleared() {
    let mut machine = up(2, 1);
    machine.snp_shutdown();
    machine.offline(1);
    machine.base(0);
    assert!(!machine.stopped, "its write has not been answered");
    machine.base(0);
    assert!(machine.stopped);
    machine.did();
    machine.online(1);
    assert_eq!(machine.did(), ["clear 1"]);
}

#[test]
fn the_clearing_of_a_leftover_does_not_answer_for_the_next_snp_init() {
    let mut machine = up(2, 1);
    machine.offline(1);
    machine.snp_shutdown();
    machine.settle();
    machine.online(1);
    machine.did();
    machine.snp_init();
    assert_eq!(machine.did(), ["base 0", "base 1"]);
    machine.settle();
    assert!(machine.policy.is_enabled(CoreId(1)));
    machine.assert_optimised();
}
