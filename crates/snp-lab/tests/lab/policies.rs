//! Each policy's work on a small host, against numbers worked out by hand.

use crate::common::{assert_lawful, breaches, checks, event, host, ordinary, run, seconds, snp};
use snp_lab::report::RunReport;
use snp_lab::scenario::{Action, FidelityChoice, Placement, PolicyName, Setup, TopologySpec};

/// Four cores, 8 GiB: ten slots, of which 0, 1, 4 and 9 hold firmware's pages or the RMP and 2 and 3 no
/// RAM. One SNP guest of one whole region from 5 s to 20 s.
fn four_cores(policy: PolicyName, threads: u32) -> Setup {
    let mut setup = host(1, 4, 8);
    if let TopologySpec::Regular(numbers) = &mut setup.scenario.host.topology {
        numbers.threads = threads;
    }
    setup.policy = policy;
    setup.scenario.until = Some(seconds(41));
    setup.scenario.guests = vec![snp("guest", 1, Placement::Pages1G, 5, 20)];
    setup.scenario.guests[0].vcpus = 1;
    setup
}

/// Passes; RMPOPTs of leaders and followers; interrupts; wake-ups.
fn work(report: &RunReport) -> (u64, u64, u64, u64, u64) {
    let rmpopt = &report.rmpopt;
    (report.passes, rmpopt.leader, rmpopt.followers, report.ipis, report.wakeups)
}

/// Three bases are written by interrupt: every row's interrupts begin with them.
#[test]
fn upstreams_passes_are_counted() {
    for (policy, threads, expected) in [
        // One pass, at SNP_INIT: ten slots on four cores, three of them interrupted.
        (PolicyName::V1, 1, (1, 0, 40, 3 + 30, 1)),
        // One thread of each core.
        (PolicyName::V1, 2, (1, 0, 40, 3 + 30, 1)),
        // Two passes, the second when the guest's memory is free.
        (PolicyName::V2, 1, (2, 0, 80, 3 + 60, 2)),
        // Both threads: eight CPUs, seven of them interrupted.
        (PolicyName::V2, 2, (2, 0, 160, 3 + 140, 2)),
        // A leader first; its core takes part again.
        (PolicyName::V3, 1, (2, 20, 80, 3 + 60, 2)),
        (PolicyName::V5, 1, (2, 20, 60, 3 + 60, 2)),
        (PolicyName::V6, 1, (2, 20, 60, 3 + 60, 2)),
        (PolicyName::V8, 1, (2, 20, 60, 3 + 60, 2)),
        (PolicyName::V10, 2, (2, 20, 60, 3 + 60, 2)),
        // Followers on the six slots that are clean: no RAM, no assigned page.
        (PolicyName::V10Leader, 1, (2, 20, 36, 3 + 36, 2)),
    ] {
        let report = run(&four_cores(policy, threads));
        assert_eq!(work(&report), expected, "{policy}, {threads} threads");
        assert_eq!(report.law_violations, 0, "{policy}: {:#?}", report.laws);
    }
}

#[test]
fn a_map_saves_what_stayed_clean() {
    let report = run(&four_cores(PolicyName::V10Map, 1));
    // Ten slots, then the four that were dirty and the guest's. Its marks are drained every second
    // while there are any: at its launch and at its end.
    let (passes, leader, followers, ipis, wakeups) = work(&report);
    assert_eq!((passes, leader, followers, ipis), (2, 10 + 5, 30 + 15, 3 + 45));
    assert_eq!(wakeups, 2 + 2);
    assert_eq!(report.law_violations, 0);
    assert_eq!(report.reoptimize_s.never, 0);
}

/// When the guest's region is back: at once, never, or after the delay and what follows it.
#[test]
fn the_region_comes_back_when_the_trigger_says() {
    for (policy, range) in [
        (PolicyName::V1, None),
        (PolicyName::V2, Some(0.0..0.01)),
        (PolicyName::V3, Some(9.9..10.1)),
        (PolicyName::V10, Some(9.9..10.1)),
        (PolicyName::V10Map, Some(9.9..10.1)),
        (PolicyName::V10Leader, Some(9.9..10.1)),
        // Its delay of 1 s is doubled, as it was clean for only 4 s before it was lost; a drain within
        // 250 ms; riding for 2 s, as no core is busy, or not at all.
        (PolicyName::Tracked, Some(4.0..4.3)),
        (PolicyName::TrackedWork, Some(2.0..2.3)),
        (PolicyName::TrackedIpi, Some(2.0..2.3)),
        (PolicyName::Oracle, Some(0.0..1e-9)),
        (PolicyName::OracleDelayed, Some(1.0..1.000_001)),
    ] {
        let report = run(&four_cores(policy, 1));
        let back = report.reoptimize_s.max;
        assert_eq!(report.reoptimize_s.never, u64::from(range.is_none()), "{policy}");
        let met = match (back, &range) {
            (Some(back), Some(range)) => range.contains(&back),
            (back, range) => back.is_none() && range.is_none(),
        };
        assert!(met, "{policy}: {back:?}, expected {range:?}");
    }
}

#[test]
fn trackeds_followers_are_counted() {
    // Eight regions with RAM on the leader, four clean ones on three followers; then the guest's one,
    // and those of firmware that its context and save area lie in.
    let of = |policy| run(&four_cores(policy, 1));
    let tick = of(PolicyName::Tracked);
    for policy in [PolicyName::TrackedWork, PolicyName::TrackedIpi, PolicyName::TrackedLowest] {
        let report = of(policy);
        assert_lawful(&report);
        assert_eq!(report.rmpopt.leader, tick.rmpopt.leader, "{policy}");
        assert_eq!(report.rmpopt.followers, 4 * 3 + 3, "{policy}");
    }
    // Each follower once in the first pass and once for the guest's region: by interrupt, or awake.
    let ipi = of(PolicyName::TrackedIpi);
    assert_eq!((tick.ipis, ipi.ipis), (3, 3 + 3 + 3));
    assert_eq!(ipi.wakeups + 6, tick.wakeups);
    assert_eq!(of(PolicyName::TrackedWork).wakeups, tick.wakeups);
}

#[test]
fn the_oracles_cost_nothing_and_keep_every_law() {
    for policy in [PolicyName::Oracle, PolicyName::OracleDelayed] {
        let mut setup = four_cores(policy, 2);
        setup.scenario.events = vec![
            event(6, Action::CpuOffline { cpu: 3 }),
            event(6, Action::CpuOffline { cpu: 7 }),
            event(25, Action::CpuOnline { cpu: 3 }),
            event(30, Action::SnpShutdown),
            event(32, Action::SnpInit),
        ];
        let report = run(&setup);
        assert_lawful(&report);
        assert_eq!(report.rmpopt.executed + report.ipis + report.wakeups, 0, "{policy}");
        assert_eq!(report.interruptions.total, 0);
        assert!(report.stolen_us.total.abs() < 1e-9);
        assert_eq!(report.optimized.optimizable_at_end, Some(1.0));
        assert!(checks(&report, 3) > 0 && checks(&report, 1) > 0);
    }
    let mut setup = four_cores(PolicyName::Oracle, 2);
    let report = run(&setup);
    assert_eq!(report.optimized.optimizable_mean, Some(1.0), "never behind");
    setup.policy = PolicyName::OracleDelayed;
    let delayed = run(&setup);
    // One region of four for one of 40 s.
    let mean = delayed.optimized.optimizable_mean.expect("SNP was up");
    assert!((mean - (1.0 - 0.25 / 40.0)).abs() < 1e-6, "{mean}");
}

/// No policy is ahead of the oracle, none of tracked's family ahead of the delayed one but for a
/// leader that has no delay in the first pass.
#[test]
fn nobody_beats_the_oracle() {
    for policy in PolicyName::ALL {
        let report = run(&four_cores(policy, 1));
        let oracle = run(&four_cores(PolicyName::Oracle, 1));
        assert!(report.optimized.mean <= oracle.optimized.mean, "{policy}");
    }
}

/// v5 to v7 clear, but hotplug is allowed until v8: a core that was away is not covered any more.
#[test]
fn hotplug_is_disabled_from_v8_on() {
    for policy in PolicyName::ALL {
        let mut setup = four_cores(policy, 1);
        setup.scenario.events = vec![event(6, Action::CpuOffline { cpu: 3 })];
        let report = run(&setup);
        let stays = report.timeline.iter().any(|entry| entry.text.contains("CPU 3 stays online"));
        let upstream = ["v8", "v10", "v10-map", "v10-leader"].contains(&policy.as_str());
        assert_eq!(stays, upstream, "{policy}");
    }
}

/// Before v7 the leader scans the whole window in one stretch; law 5 is not claimed there.
#[test]
fn a_leader_without_rescheduling_holds_its_cpu() {
    let held = |policy| breaches(&run(&four_cores(policy, 1)), 5);
    // It waits with its CPU held for followers that scan far into a dirty region, in vain.
    let waits = held(PolicyName::V10);
    assert_eq!(held(PolicyName::V8), waits);
    for policy in [PolicyName::V3, PolicyName::V5, PolicyName::V6] {
        assert!(held(policy) > waits, "{policy}");
        assert_eq!(run(&four_cores(policy, 1)).law_violations, 0, "{policy}");
    }
}

/// Nothing clears the bases before v5, which breaks law 6; it is not claimed there.
#[test]
fn bases_outlive_snp_before_v5() {
    for policy in PolicyName::ALL {
        let mut setup = four_cores(policy, 1);
        setup.scenario.events = vec![event(30, Action::SnpShutdown)];
        let report = run(&setup);
        let left = ["v1", "v2", "v3"].contains(&policy.as_str());
        assert_eq!(breaches(&report, 6) > 0, left, "{policy}");
        assert_eq!(report.law_violations, 0, "{policy}");
    }
}

/// Busy cores and a large batch: every manner keeps to the budget of a hold.
#[test]
fn no_manner_holds_a_cpu_longer_than_the_budget() {
    for policy in [PolicyName::Tracked, PolicyName::TrackedWork, PolicyName::TrackedIpi] {
        let mut setup = host(1, 4, 256);
        setup.fidelity = FidelityChoice::Extents;
        setup.policy = policy;
        let mut busy = ordinary("busy", 4, Placement::Pages2M, 2, 100);
        busy.vcpus = 8;
        setup.scenario.guests = vec![busy, snp("big", 128, Placement::Pages1G, 5, 30)];
        let report = run(&setup);
        assert_lawful(&report);
        assert!(checks(&report, 5) > 6, "{policy}");
        assert!(report.rmpopt.followers > 3 * 300, "{policy}: {:?}", report.rmpopt);
        assert_eq!(report.reoptimize_s.never, 0, "{policy}");
    }
}

/// Above 2 TiB the lowest windows leave one socket's memory out.
#[test]
fn the_lowest_windows_cover_half_of_four_tebibytes() {
    let covered = |policy| {
        let mut setup = host(2, 2, 4096);
        setup.policy = policy;
        setup.scenario.until = Some(seconds(20));
        let report = run(&setup);
        assert_eq!(report.law_violations, 0, "{policy}");
        (report.driver.windows.len(), report.host.window_regions)
    };
    let (own, lowest) = (covered(PolicyName::Tracked), covered(PolicyName::TrackedLowest));
    assert_eq!((own.0, lowest.0, covered(PolicyName::V1).0), (2, 1, 2));
    assert!(own.1 > 4000 && lowest.1 <= 2048, "{own:?} {lowest:?}");
    assert_eq!(covered(PolicyName::V10), lowest);
}
