//! A host's life from boot to SNP shutdown, under each policy.

use crate::common::{assert_lawful, checks, event, host, ordinary, run, snp};
use snp_lab::report::RunReport;
use snp_lab::scenario::{Action, Placement, PolicyName, RmpKind, SECOND, Setup};

/// Boot, guests of every placement, conversions, a leak, shutdown.
fn full_life() -> Setup {
    let mut setup = host(1, 8, 48);
    setup.scenario.guests = vec![
        ordinary("web", 4, Placement::Pages2M, 3, 100),
        snp("huge", 6, Placement::Pages1G, 5, 40),
        snp("small", 3, Placement::Pages4K, 6, 50),
        snp("spread", 2, Placement::Scattered2M, 8, 60),
    ];
    setup.scenario.events = vec![
        event(20, Action::Share { guest: 1, memory: 1 << 30, unit: None }),
        event(22, Action::Private { guest: 1, memory: 1 << 29, unit: None }),
        event(25, Action::Share { guest: 2, memory: 3 << 20, unit: None }),
        event(30, Action::Leak { guest: 1, pages: 3 }),
        event(110, Action::SnpShutdown),
    ];
    setup
}

#[test]
fn tracked_keeps_every_law_through_a_full_life() {
    let report = run(&full_life());
    assert_lawful(&report);
    for law in 1..=6 {
        assert!(checks(&report, law) > 0, "law {law} was never checked");
    }
    assert_eq!(report.law_violations + report.law_breaches_unclaimed, 0);
    // 49 slots (RAM of 48 GiB around a 2 GiB hole), of which the leak's, firmware's and RMP's stay.
    let optimised = report.optimized.optimizable_at_end.expect("SNP was up");
    assert!((optimised - 1.0).abs() < 1e-9, "all that can be is optimised: {optimised}");
    assert_eq!(report.reoptimize_s.never, 0);
    let worst = report.reoptimize_s.max.expect("regions came back");
    assert!(worst < 15.0, "{worst}");
    assert!(
        report.map.states.contains('S'),
        "the leaked block stays assigned: {}",
        report.map.states
    );
    assert!(report.table.starts_with("Memory @  0GB: CPU(s): none\n"));
    assert!(report.table.contains("CPU(s): 0-15\n"));
}

#[test]
fn v10_breaks_no_law_it_claims() {
    let mut setup = full_life();
    setup.policy = PolicyName::V10;
    let report = run(&setup);
    assert_eq!(report.law_violations, 0, "{:#?}", report.laws);
    // At SNP_INIT, and 10 s after each SNP guest's end.
    assert_eq!(report.passes, 4, "{:#?}", report.timeline);
    let (regions, cores) = (report.host.spanned_regions, u64::from(report.host.cores));
    assert_eq!(report.rmpopt.leader, 4 * regions);
    assert_eq!(report.rmpopt.followers, 4 * regions * (cores - 1));
    // One interrupt for each follower's RMPOPT, one for each base but the own, at start and end.
    assert_eq!(report.ipis, report.rmpopt.followers + 2 * (cores - 1));
}

#[test]
fn off_optimises_nothing() {
    let mut setup = full_life();
    setup.policy = PolicyName::Off;
    let report = run(&setup);
    assert_lawful(&report);
    assert_eq!(report.optimized.mean, Some(0.0));
    assert_eq!((report.rmpopt.executed, report.ipis, report.wakeups), (0, 0, 0));
}

#[test]
fn the_same_seed_gives_the_same_report() {
    for policy in PolicyName::ALL {
        let setup = Setup { policy, ..full_life() };
        assert_eq!(run(&setup), run(&setup));
    }
    let (one, two) = (full_life(), Setup { seed: 2, ..full_life() });
    let seedless = |setup| RunReport { seed: 0, ..run(setup) };
    assert_ne!(seedless(&one), seedless(&two), "conversions and scatter are random");
}

#[test]
fn a_contiguous_rmp_is_refused_with_its_reason() {
    let mut setup = full_life();
    setup.scenario.host.rmp = RmpKind::Contiguous;
    let report = run(&setup);
    assert_lawful(&report);
    assert!(report.driver.refused.as_deref().is_some_and(|why| why.contains("contiguous")));
    assert_eq!(report.rmpopt.executed, 0);
}

#[test]
fn snp_can_be_initialised_again() {
    let mut setup = full_life();
    setup.scenario.events.push(event(112, Action::SnpInit));
    let report = run(&setup);
    assert_lawful(&report);
    assert_eq!(report.optimized.optimizable_at_end, Some(1.0));
    assert!(report.optimized.mean.is_some_and(|mean| mean > 0.3));
}

#[test]
fn cores_come_and_go_during_a_pass() {
    for at in [1, 2, 30] {
        let mut setup = full_life();
        // CPUs 0 and 8 are the leader's core, 3 and 11 a follower's.
        for cpu in [0, 8, 3, 11] {
            setup.scenario.events.push(event(at, Action::CpuOffline { cpu }));
            setup.scenario.events.push(event(at + 20, Action::CpuOnline { cpu }));
        }
        setup.scenario.events.sort_by_key(|event| event.at);
        let report = run(&setup);
        assert_lawful(&report);
        assert_eq!(report.optimized.optimizable_at_end, Some(1.0), "away from {at} s on");
    }
}

#[test]
fn a_pause_stops_passes_and_keeps_what_is_optimised() {
    let mut setup = full_life();
    setup.scenario.guests.truncate(3);
    setup.scenario.events = vec![event(30, Action::Pause)];
    let report = run(&setup);
    assert_lawful(&report);
    let share = report.optimized.optimizable_at_end.expect("SNP is up");
    assert!(share > 0.3 && share < 1.0, "{share}");
    setup.scenario.events.push(event(90, Action::Resume));
    let report = run(&setup);
    assert_lawful(&report);
    assert_eq!(report.optimized.optimizable_at_end, Some(1.0));
}

#[test]
fn above_two_tebibytes_each_socket_covers_its_own() {
    let mut setup = host(2, 4, 4096);
    setup.scenario.until = Some(60 * SECOND);
    let tracked = run(&setup);
    assert_lawful(&tracked);
    assert_eq!(tracked.driver.windows.len(), 2, "{:?}", tracked.driver.windows);
    assert_eq!(tracked.optimized.optimizable_at_end, Some(1.0));
    assert!(tracked.host.window_regions > 4080, "{:?}", tracked.host);
    setup.policy = PolicyName::V10;
    let v10 = run(&setup);
    assert!(v10.host.window_regions <= 2048, "{:?}", v10.host);
}

#[test]
fn a_guest_that_ends_while_it_is_launched_leaves_nothing() {
    for lasts_ms in [1, 60, 700, 1_000] {
        let mut setup = host(1, 4, 16);
        let mut guest = snp("brief", 2, Placement::Pages4K, 3, 4);
        guest.until = Some(guest.at + lasts_ms * 1_000_000);
        setup.scenario.guests = vec![guest];
        let report = run(&setup);
        assert_lawful(&report);
        assert!(!report.map.states.contains('S'), "{lasts_ms} ms: {}", report.map.states);
        assert_eq!(report.optimized.optimizable_at_end, Some(1.0));
    }
}

#[test]
fn no_drain_outlives_the_driver() {
    // The last pages are given back less than a tick before the driver stops.
    let mut setup = host(1, 4, 16);
    setup.scenario.guests = vec![snp("last", 2, Placement::Pages1G, 5, 100)];
    setup.scenario.events = vec![
        event(20, Action::SnpShutdown),
        event(40, Action::SnpInit),
        event(60, Action::Request),
    ];
    let report = run(&setup);
    assert_lawful(&report);
    // Marks that nobody drained do not keep the next SNP_INIT's from being.
    assert_eq!(report.optimized.optimizable_at_end, Some(1.0));
    setup.scenario.guests.push(snp("next", 2, Placement::Pages1G, 45, 70));
    let report = run(&setup);
    assert_lawful(&report);
    assert_eq!(report.optimized.optimizable_at_end, Some(1.0));
    assert_eq!(report.reoptimize_s.never, 2, "the first guest's two regions");
}
