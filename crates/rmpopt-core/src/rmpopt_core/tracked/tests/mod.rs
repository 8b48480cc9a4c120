//! What the policy does, event by event. Times in milliseconds; at 0 SNP is initialised.

mod cores;
mod end;
mod size;

use crate::rmpopt_core::tests::{region, tracked, Layout, Machine, Plane};
use crate::rmpopt_core::{Config, CoreId, Event, Policy, Request, MILLISECOND, SECOND};

/// Defaults without audits.
fn config() -> Config {
    Config { audit_ns: 0, ..Config::default() }
}

/// SNP is up and the first pass is over.
fn up(cores: u16, regions: u32) -> Machine<Plane> {
    up_with(Layout::new(cores, regions), config())
}

fn up_with(layout: Layout, config: Config) -> Machine<Plane> {
    let mut machine = tracked(layout, config);
    machine.snp_init();
    machine.settle();
    assert!(machine.policy.first_pass_over());
    machine.assert_optimised();
    machine.did();
    machine
}

fn believes(machine: &Machine<Plane>, core: u16, number: u32) -> bool {
    machine.policy.believes(CoreId(core), region(number))
}

/// When each verify of `number` is asked for, up to `until_ms`, a millisecond at a time.
fn verified_at(machine: &mut Machine<Plane>, number: u32, until_ms: u64) -> Vec<u64> {
    let mut times = Vec::new();
    for ms in machine.now.as_ns() / MILLISECOND..=until_ms {
        machine.until_ms(ms);
        let asked = format!(":{number}");
        let did = machine.did();
        let verifies = did.iter().filter(|what| what.starts_with("verify"));
        times.extend(verifies.filter(|what| what.ends_with(&asked)).map(|_| ms));
    }
    times
}

// ---- the first pass ----

#[test]
fn nothing_is_done_before_snp_init() {
    let mut machine = tracked(Layout::new(2, 2), config());
    machine.flip(1);
    machine.request(Request::Optimise);
    for event in [Event::EvidenceLost, Event::Timer, Event::GuestDecommissioned, Event::Quiesced] {
        machine.tell(event);
    }
    machine.until_ms(100_000);
    assert!(machine.did().is_empty() && machine.timer_ms().is_none());
}

#[test]
fn the_first_pass_visits_each_core_once() {
    let mut machine = tracked(Layout::new(3, 4), config());
    machine.assign_unmarked(2);
    machine.snp_init();
    assert_eq!(machine.did(), ["base 0", "base 1", "base 2"]);
    machine.settle();
    assert_eq!(
        machine.did(),
        [
            "verify 0:0",
            "verify 0:1",
            "verify 0:2",
            "verify 0:3",
            "offer 1:[0, 1, 3] by 0.000000s",
            "offer 2:[0, 1, 3] by 0.000000s",
        ]
    );
    assert!(machine.policy.first_pass_over());
    assert_eq!(machine.policy.passes(), 1);
    machine.assert_optimised();
    machine.until_ms(1_000_000);
    assert!(machine.did().is_empty(), "without marks there is nothing to do");
}

#[test]
fn a_base_that_reads_back_otherwise_bars_the_core() {
    let mut machine = tracked(Layout::new(3, 1), config());
    machine.snp_init();
    machine.hardware.cores[0].stuck = true;
    machine.hardware.cores[1].snp_en = false;
    machine.did();
    machine.until_ms(100_000);
    assert_eq!(machine.did(), ["verify 2:0"], "no second try before the next SNP_INIT");
    let enabled: Vec<_> = (0..3).map(|core| machine.policy.is_enabled(CoreId(core))).collect();
    assert_eq!(enabled, [false, false, true]);
}

#[test]
fn a_core_whose_base_took_long_is_not_passed_over() {
    let mut machine = tracked(Layout::new(2, 1), config());
    machine.snp_init();
    machine.base(0);
    machine.answer_verify(0);
    // All that can be offered has been: nothing, since core 1 cannot be asked yet.
    machine.skip_until_ms(10_000);
    machine.did();
    machine.until_ms(11_000);
    assert_eq!(machine.did(), ["offer 1:[0] by 10.000000s"]);
    assert!(machine.policy.first_pass_over());
}

#[test]
fn a_pass_that_was_cut_short_by_patience_ends_all_the_same() {
    let mut machine = tracked(Layout::new(2, 2), config());
    machine.snp_init();
    machine.base(0);
    machine.base(0);
    machine.answer_verify(0);
    // The leader is at region 1 for longer than anyone would wait for.
    machine.skip_until_ms(10_000);
    machine.hold(1, 1);
    machine.skip_until_ms(21_000);
    machine.assign_unmarked(1);
    machine.settle();
    assert!(machine.policy.first_pass_over());
}

// ---- when ----

#[test]
fn the_delay_starts_at_the_last_activity() {
    let mut machine = up(2, 3);
    machine.until_ms(100_000);
    machine.flip(1);
    machine.until_ms(100_500);
    machine.flip(1);
    assert_eq!(verified_at(&mut machine, 1, 110_000), [101_500]);
}

#[test]
fn endless_activity_does_not_put_it_off_for_ever() {
    let mut machine = up(2, 3);
    machine.until_ms(100_000);
    let mut times = Vec::new();
    for ms in (100_000..=111_000).step_by(500) {
        times.extend(verified_at(&mut machine, 1, ms));
        machine.flip(1);
    }
    assert_eq!(times, [110_000]);
}

#[test]
fn churn_elsewhere_does_not_starve_a_region() {
    let mut machine = up_with(Layout::new(1, 3), Config { delay_ns: 0, ..config() });
    machine.flip(0);
    machine.flip(2);
    machine.flip(0);
    machine.answer_verify(0);
    assert_eq!(machine.did(), ["verify 0:0", "verify 0:2"]);
}

#[test]
fn a_region_that_flips_is_held_off_up_to_the_bound_and_forgiven() {
    let mut machine = up(1, 2);
    for (flip_ms, verify_ms) in [
        (1_000, 3_000),
        (4_000, 8_000),
        (9_000, 17_000),
        (18_000, 28_000),
        (29_000, 39_000),
        // Clean for 60 s: the slate is clean, too.
        (99_000, 100_000),
    ] {
        machine.until_ms(flip_ms);
        machine.flip(1);
        assert_eq!(verified_at(&mut machine, 1, verify_ms + 500), [verify_ms]);
    }
}

#[test]
fn pages_that_were_only_assigned_end_the_candidacy() {
    let mut machine = up(2, 2);
    machine.until_ms(100_000);
    machine.flip(1);
    machine.assign(1);
    machine.drain();
    assert!(!believes(&machine, 0, 1) && !believes(&machine, 1, 1));
    assert!(!machine.policy.is_clean(region(1)) && machine.policy.is_clean(region(0)));
    assert_eq!(verified_at(&mut machine, 1, 130_000), []);
    machine.free(1);
    machine.drain();
    assert_eq!(verified_at(&mut machine, 1, 140_000), [131_000]);
    machine.assert_optimised();
}

#[test]
fn without_probes_a_few_regions_are_swept_each_second() {
    let mut machine = tracked(Layout::new(1, 5), Config { sweep_per_second: 2, ..config() });
    for number in 0..4 {
        machine.assign_unmarked(number);
    }
    machine.snp_init();
    machine.settle();
    for (ms, swept) in [
        (1_000, ["verify 0:0", "verify 0:1"]),
        (2_000, ["verify 0:2", "verify 0:3"]),
        (3_000, ["verify 0:0", "verify 0:1"]),
    ] {
        machine.did();
        machine.until_ms(ms);
        assert_eq!(machine.did(), swept, "region 4 is clean");
    }
    machine.hardware.assigned.clear();
    machine.until_ms(5_000);
    machine.assert_optimised();
}

#[test]
fn the_sweep_waits_for_a_region_that_is_active() {
    let mut machine = tracked(Layout::new(1, 1), Config { sweep_per_second: 2, ..config() });
    machine.assign_unmarked(0);
    machine.snp_init();
    machine.until_ms(500);
    machine.did();
    machine.free(0);
    machine.drain();
    assert_eq!(verified_at(&mut machine, 0, 3_000), [1_500]);
}

#[test]
fn lost_evidence_makes_it_look_again_for_a_while() {
    let mut machine = up(1, 3);
    machine.until_ms(100_000);
    machine.assign(1);
    machine.assign(2);
    machine.drain();
    machine.hardware.assigned.remove(&2);
    machine.did();
    machine.tell(Event::EvidenceLost);
    machine.until_ms(101_000);
    assert_eq!(machine.did(), ["verify 0:1", "verify 0:2"], "region 0 is known to be clean");
    machine.assert_optimised();
    // 1, 2, 4 and 8 s later, then a mark has to come.
    assert_eq!(verified_at(&mut machine, 1, 200_000), [102_000, 104_000, 108_000, 116_000]);
}

// ---- answers ----

#[test]
fn an_answer_is_void_if_the_region_was_marked_after_the_question() {
    let mut machine = up(2, 2);
    machine.until_ms(100_000);
    machine.flip(1);
    machine.skip_until_ms(101_000);
    machine.run_verify(0);
    machine.flip(1);
    machine.answer_verify(0);
    assert_eq!(machine.policy.stats().stale, 1);
    assert!(!machine.policy.is_clean(region(1)) && !believes(&machine, 0, 1));
    machine.did();
    assert_eq!(verified_at(&mut machine, 1, 110_000), [102_000]);
}

#[test]
fn a_followers_answer_is_void_too() {
    let mut machine = up(2, 2);
    machine.until_ms(100_000);
    machine.flip(0);
    machine.flip(1);
    machine.skip_until_ms(101_000);
    machine.answer_verify(0);
    machine.answer_verify(0);
    machine.assign(1);
    machine.drain();
    machine.hold(1, 2);
    assert!(believes(&machine, 1, 0) && !believes(&machine, 1, 1));
    assert_eq!(machine.policy.stats().stale, 1);
    assert_eq!(machine.policy.stats().contradicted, 0);
    machine.assert_belief();
}

#[test]
fn a_followers_answer_is_void_even_if_the_region_is_clean_again() {
    let mut machine = up(2, 1);
    machine.until_ms(100_000);
    machine.flip(0);
    machine.skip_until_ms(101_000);
    machine.answer_verify(0);
    machine.run_hold(1, 1);
    // RMPUPDATE takes the bit; a leader finds the region clean; then the follower's report arrives.
    machine.flip(0);
    machine.skip_until_ms(103_000);
    machine.answer_verify(0);
    assert!(machine.policy.is_clean(region(0)) && !machine.hardware.has(1, 0));
    machine.report(1);
    assert!(!believes(&machine, 1, 0));
    machine.until_ms(110_000);
    machine.assert_optimised();
}

#[test]
fn a_contradiction_is_looked_into_for_a_while() {
    let mut machine = up(3, 2);
    machine.until_ms(100_000);
    machine.flip(1);
    machine.until_ms(101_000);
    assert!(believes(&machine, 0, 1));
    // Nobody marks it.
    machine.assign_unmarked(1);
    machine.until_ms(103_000);
    assert_eq!(machine.policy.stats().contradicted, 2, "both followers say so");
    assert!(!believes(&machine, 0, 1) && !machine.policy.is_clean(region(1)));
    assert!(believes(&machine, 0, 0));
    machine.did();
    let times = verified_at(&mut machine, 1, 200_000);
    assert_eq!(times, [105_000, 106_000, 108_000, 112_000, 120_000]);
}

#[test]
fn a_core_that_always_contradicts_is_not_listened_to_ever_faster() {
    let mut machine = up(2, 1);
    machine.hardware.cores[1].contradicts = Some(0);
    machine.until_ms(100_000);
    machine.flip(0);
    let times = verified_at(&mut machine, 0, 400_000);
    assert!(times.len() < 30, "{times:?}");
}

// ---- followers ----

#[test]
fn clean_regions_are_collected_and_offers_grow_until_they_have_begun() {
    let mut machine = up(2, 5);
    machine.until_ms(100_000);
    (0..5).for_each(|number| machine.flip(number));
    machine.skip_until_ms(101_000);
    machine.answer_verify(0);
    assert_eq!(machine.did(), ["verify 0:0", "verify 0:1"]);
    assert_eq!(machine.timer_ms(), Some(102_000), "the leader is busy: so long it is waited");
    machine.skip_until_ms(101_999);
    assert_eq!(machine.did(), [] as [&str; 0]);
    machine.skip_until_ms(102_000);
    assert_eq!(machine.did(), ["offer 1:[0] by 104.000000s"]);
    machine.answer_verify(0);
    machine.skip_until_ms(103_000);
    assert_eq!(machine.did(), ["verify 0:2", "offer 1:[0, 1] by 104.000000s"], "same time");
    machine.hold(1, 1);
    assert!(believes(&machine, 1, 0) && !believes(&machine, 1, 1), "half done");
    machine.answer_verify(0);
    machine.answer_verify(0);
    machine.skip_until_ms(104_000);
    assert_eq!(machine.did(), ["verify 0:3", "verify 0:4"], "it has begun: too late to grow");
    machine.hold(1, 1);
    assert!(believes(&machine, 1, 1));
    machine.answer_verify(0);
    assert_eq!(machine.did(), ["offer 1:[2, 3, 4] by 106.000000s"], "the rest in one");
    machine.until_ms(106_000);
    machine.assert_optimised();
    assert_eq!(machine.policy.passes(), 2);
}

#[test]
fn what_a_core_does_not_lack_is_not_offered() {
    let mut machine = up(3, 3);
    machine.until_ms(100_000);
    machine.flip(1);
    machine.until_ms(110_000);
    assert_eq!(
        machine.did(),
        ["verify 0:1", "offer 1:[1] by 103.000000s", "offer 2:[1] by 103.000000s"]
    );
}

#[test]
fn two_windows_have_two_leaders_and_share_what_they_find() {
    let layout = Layout {
        cores: vec![0, 0, 1, 1],
        ram: [(0, 0), (1000, 0), (1001, 1), (2100, 1)].into(),
        offline: [].into(),
    };
    let mut machine = tracked(layout, config());
    machine.snp_init();
    machine.settle();
    machine.assert_optimised();
    let bases: Vec<_> =
        (0..4).map(|core| machine.policy.window(CoreId(core)).unwrap().base.get()).collect();
    assert_eq!(bases, [0, 0, 53, 53]);
    let mut verified: Vec<_> =
        machine.did().into_iter().filter(|what| what.starts_with("verify")).collect();
    verified.sort_by_key(|what| what.split(':').next_back().unwrap().parse::<u32>().unwrap());
    let regions: Vec<_> =
        verified.iter().map(|what| what.split(':').next_back().unwrap()).collect();
    assert_eq!(regions, ["0", "1000", "1001", "2100"], "once each: {verified:?}");
    assert!(verified[0].starts_with("verify 0") && verified[3].starts_with("verify 2"));
    // A mark in what they share is heard by all four.
    machine.flip(1000);
    assert!((0..4).all(|core| !believes(&machine, core, 1000) && believes(&machine, core, 1001)));
}

// ---- the audit ----

fn audited(cores: u16, regions: u32, audit_regions: u32) -> Machine<Plane> {
    let config = Config { audit_regions, ..Config::default() };
    up_with(Layout::new(cores, regions), config)
}

#[test]
fn an_audit_finds_a_bit_that_is_gone_without_a_mark() {
    let mut machine = audited(2, 3, 32);
    machine.hardware.cores[1].table.remove(&2);
    machine.until_ms(60_000);
    assert_eq!(machine.did(), ["audit 0:[0, 1, 2] by never"]);
    machine.hold(0, 3);
    machine.until_ms(120_000);
    assert_eq!(machine.did(), ["audit 1:[0, 1, 2] by never"]);
    assert_eq!(machine.policy.stats().audit_failures, 0);
    machine.hold(1, 3);
    assert_eq!(machine.policy.stats().audit_failures, 1);
    assert_eq!(machine.did(), ["offer 1:[2] by 122.000000s"]);
    machine.until_ms(122_000);
    machine.assert_optimised();
}

#[test]
fn half_an_audit_is_enough_to_act_on() {
    let mut machine = audited(2, 3, 32);
    machine.hardware.cores[0].table.remove(&0);
    machine.until_ms(60_000);
    machine.hold(0, 1);
    assert_eq!(machine.did(), ["audit 0:[0, 1, 2] by never", "offer 0:[0] by 62.000000s"]);
}

#[test]
fn an_audit_of_a_core_without_interrupts_is_withdrawn() {
    let mut machine = audited(2, 1, 32);
    machine.until_ms(60_000);
    let (late, _) = machine.offers.remove(&0).unwrap();
    machine.until_ms(120_000);
    assert_eq!(machine.did(), ["audit 0:[0] by never", "audit 1:[0] by never"]);
    machine.hardware.cores[0].table.clear();
    machine.offers.insert(0, (late, machine.now));
    machine.hold(0, 1);
    assert!(believes(&machine, 0, 0), "what comes too late does not count");
    machine.until_ms(180_000);
    assert_eq!(machine.did(), ["audit 0:[0] by never"], "its turn comes again");
}

#[test]
fn a_real_offer_takes_an_audits_place() {
    let mut machine = audited(2, 2, 32);
    machine.until_ms(100_000);
    machine.flip(1);
    machine.until_ms(119_000);
    machine.hold(0, 9);
    machine.until_ms(120_000);
    machine.flip(1);
    machine.until_ms(122_000);
    assert_eq!(
        machine.did(),
        [
            "audit 0:[0, 1] by never",
            "verify 0:1",
            "offer 1:[1] by 103.000000s",
            "audit 1:[0, 1] by never",
            "verify 0:1",
            "offer 1:[1] by 124.000000s",
        ]
    );
    machine.until_ms(124_000);
    machine.assert_optimised();
}

#[test]
fn audits_get_round_to_every_bit() {
    // 32 audits of 2 regions are a multiple of 64: each core must not be asked for the same ones.
    let mut machine = audited(32, 64, 2);
    let mut asked = vec![Vec::new(); 32];
    for minute in 1..=32 * 32 {
        machine.until_ms(minute * 60_000);
        let (&core, (run, _)) = machine.offers.iter().next().unwrap();
        asked[usize::from(core)].extend(run.batch().regions.iter());
        machine.hold(core, 2);
    }
    for regions in &mut asked {
        regions.sort_unstable();
        assert_eq!(*regions, (0..64).collect::<Vec<_>>());
    }
}

// ---- the operator ----

#[test]
fn a_pause_begins_nothing_and_keeps_what_is_optimised() {
    let mut machine = up(2, 2);
    machine.until_ms(100_000);
    machine.request(Request::Pause);
    machine.flip(1);
    machine.request(Request::Optimise);
    machine.until_ms(200_000);
    assert!(machine.did().is_empty());
    assert!(believes(&machine, 1, 0));
    machine.request(Request::Resume);
    assert_eq!(machine.did(), ["verify 0:1"]);
    machine.until_ms(210_000);
    machine.assert_optimised();
}

#[test]
fn a_pause_holds_from_before_snp_init() {
    let mut machine = tracked(Layout::new(2, 2), config());
    machine.request(Request::Pause);
    machine.snp_init();
    machine.until_ms(100_000);
    assert_eq!(machine.did(), ["base 0", "base 1"]);
    machine.request(Request::Resume);
    machine.settle();
    machine.assert_optimised();
}

#[test]
fn on_request_everything_not_optimised_is_verified_at_once() {
    let mut machine = up(1, 3);
    machine.assign(1);
    machine.drain();
    machine.hardware.assigned.clear();
    machine.until_ms(100_000);
    machine.request(Request::Optimise);
    assert_eq!(machine.did(), ["verify 0:1"]);
    machine.settle();
    machine.assert_optimised();
    machine.request(Request::Optimise);
    assert!(machine.did().is_empty());
}

#[test]
fn cpu_time_is_capped_per_minute() {
    let config = Config { cap_ns_per_minute: 3 * MILLISECOND, ..config() };
    let mut machine = tracked(Layout::new(1, 5), config);
    machine.rmpopt_ns = MILLISECOND;
    machine.snp_init();
    machine.until_ms(59_999);
    assert_eq!(machine.did(), ["base 0", "verify 0:0", "verify 0:1", "verify 0:2"]);
    assert_eq!(machine.timer_ms(), Some(60_000));
    machine.until_ms(119_999);
    assert_eq!(machine.did(), ["verify 0:3", "verify 0:4"]);
    machine.assert_optimised();
}

#[test]
fn a_cap_that_is_lifted_lets_work_go_on_at_once() {
    let capped = Config { cap_ns_per_minute: 3 * MILLISECOND, ..config() };
    let mut machine = tracked(Layout::new(1, 5), capped);
    machine.rmpopt_ns = MILLISECOND;
    machine.snp_init();
    machine.until_ms(20_000);
    machine.did();
    machine.policy.configure(machine.now, config());
    machine.pump();
    machine.until_ms(20_100);
    assert_eq!(machine.did(), ["verify 0:3", "verify 0:4"]);
    machine.assert_optimised();
}

#[test]
fn parameters_can_change_while_snp_is_up() {
    let mut machine = up(2, 2);
    let faster = Config { delay_ns: 100 * MILLISECOND, audit_ns: SECOND, ..config() };
    machine.policy.configure(machine.now, faster);
    machine.pump();
    assert_eq!(machine.policy.config(), faster);
    machine.until_ms(10_000);
    assert!(machine.did().iter().any(|what| what.starts_with("audit")), "audits begin");
    machine.policy.configure(machine.now, Config { sweep_per_second: 1, ..config() });
    machine.pump();
    machine.until_ms(20_000);
    assert!(!machine.did().iter().any(|what| what.starts_with("audit")), "audits end");
}

#[test]
fn a_core_that_may_not_lead_follows() {
    let mut machine = tracked(Layout::new(3, 2), config());
    machine.policy.let_lead(CoreId(0), false);
    machine.snp_init();
    machine.settle();
    machine.assert_optimised();
    let did = machine.did();
    assert!(did.contains(&"verify 1:0".to_owned()), "{did:?}");
    assert!(!did.iter().any(|what| what.starts_with("verify 0")), "{did:?}");
    // The word of the operator holds; the next in line takes over.
    machine.policy.let_lead(CoreId(1), false);
    machine.flip(1);
    machine.until_ms(100_000);
    assert!(machine.did().contains(&"verify 2:1".to_owned()));
    machine.assert_optimised();
    // Nobody may: nothing is verified, until somebody may.
    machine.policy.let_lead(CoreId(2), false);
    machine.flip(1);
    machine.until_ms(200_000);
    assert!(machine.did().is_empty());
    machine.policy.let_lead(CoreId(0), true);
    machine.pump();
    machine.until_ms(300_000);
    assert!(machine.did().contains(&"verify 0:1".to_owned()));
    machine.assert_optimised();
}

#[test]
fn with_a_cap_offers_go_out_few_at_a_time() {
    let config = Config { cap_ns_per_minute: 5 * MILLISECOND, followers_at_once: 2, ..config() };
    let mut machine = tracked(Layout::new(9, 1), config);
    machine.rmpopt_ns = MILLISECOND;
    machine.snp_init();
    machine.until_ms(59_999);
    let offers = |did: Vec<String>| did.iter().filter(|what| what.starts_with("offer")).count();
    // One verify and four followers make 5 ms; another may be out by then.
    assert_eq!(offers(machine.did()), 5);
    machine.until_ms(60_001);
    assert_eq!(offers(machine.did()), 3);
    machine.assert_optimised();
}

#[test]
fn the_bound_is_a_sum_of_its_terms() {
    let costs = crate::rmpopt_core::WorstCase {
        slow_ns: 600_000,
        fast_ns: 5_000,
        entry_ns: 5_000,
        tick_ns: 4_000_000,
    };
    let bound = Config::default().liveness_bound(512, &costs);
    assert_eq!(bound.delay_ns, 10 * SECOND);
    let sum = bound.tick_ns
        + bound.delay_ns
        + bound.leader_ns
        + bound.merge_ns
        + bound.follow_ns
        + bound.batch_ns;
    assert_eq!(bound.total_ns(), sum);
    assert!((10 * SECOND..30 * SECOND).contains(&sum), "{bound:?}");
}
