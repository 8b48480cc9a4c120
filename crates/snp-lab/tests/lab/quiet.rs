//! Law 5 where times vary: a heavy tail of RMPOPTs, and cached results that are lost.

use crate::common::{assert_lawful, breaches, checks, host, ordinary, run, run_seeded, snp};
use snp_lab::cost::{CostModel, Draws};
use snp_lab::report::RunReport;
use snp_lab::scenario::{FidelityChoice, Placement, PolicyName, Setup};
use snp_lab::{Defect, Seeded};

const POLICIES: [PolicyName; 4] = [
    PolicyName::Tracked,
    PolicyName::TrackedWork,
    PolicyName::TrackedIpi,
    PolicyName::TrackedLowest,
];

/// The most that the ranges of docs/costs.md allow: one RMPOPT in a thousand belongs to the tail, and one
/// in a hundred finds its cached result lost.
fn heavy() -> CostModel {
    CostModel { draws: Draws::Drawn, rmpopt_tail: 1_000, cache_loss: 10_000, ..CostModel::DEFAULT }
}

/// Leaders and followers on two sockets, some CPUs busy and some idle: guests of many regions end one
/// after the other, while others start.
fn mix(policy: PolicyName, seed: u64) -> Setup {
    let mut setup = host(2, 4, 512);
    setup.fidelity = FidelityChoice::Extents;
    (setup.policy, setup.seed, setup.costs) = (policy, seed, heavy());
    let mut busy = ordinary("busy", 8, Placement::Pages2M, 2, 120);
    busy.vcpus = 10;
    setup.scenario.guests = vec![busy];
    for (number, at) in (0..6).zip((5..).step_by(9)) {
        let guest = snp(&format!("g{number}"), 60, Placement::Pages1G, at, at + 14);
        setup.scenario.guests.push(guest);
    }
    setup
}

/// Longest stretch for which a CPU was held.
fn longest_us(report: &RunReport) -> f64 {
    report.stolen_us.max_hold
}

const BUDGET_US: f64 = 100.0;

/// Budget and one RMPOPT, be it the longest that can be drawn, and the way into the CPU.
#[test]
fn with_the_heavy_tail_no_cpu_is_held_longer_than_budget_and_one_rmpopt() {
    let costs = heavy();
    let one_us = costs.worst_ns().0 as f64 / 1e3;
    let entry_us = (costs.work_wakeup + costs.guest_exit) as f64 / 1e3;
    for policy in POLICIES {
        let mut longest: f64 = 0.0;
        for seed in 1..=4 {
            let report = run(&mix(policy, seed));
            assert_lawful(&report);
            assert!(checks(&report, 5) > 1_000, "{policy}: {:#?}", report.laws);
            assert!(report.rmpopt.leader > 600 && report.rmpopt.followers > 4_000, "{policy}");
            assert!(longest_us(&report) <= BUDGET_US + one_us + entry_us, "{policy}");
            longest = longest.max(longest_us(&report));
        }
        // The tail was met: without it no RMPOPT is longer than 137.7 us and 43 % of it.
        assert!(longest > 300.0, "{policy}: {longest}");
    }
}

/// The same with a follower that does not look at the clock: the tail does not hide it.
#[test]
fn with_the_heavy_tail_a_follower_that_overstays_is_seen() {
    for policy in POLICIES {
        for seed in 1..=4 {
            let setup = mix(policy, seed);
            let seeded = [Seeded { at: 0, defect: Defect::Overstay, times: 1 }];
            let report = run_seeded(&setup, &seeded);
            assert_eq!((breaches(&report, 5), report.law_violations), (1, 1), "{policy} {seed}");
        }
    }
}
