//! Broadcasts in bulk against broadcasts CPU by CPU: the same report.

use crate::common::{event, host, ordinary, run, snp};
use proptest::prelude::*;
use snp_lab::cost::{CostModel, Draws, Parallel};
use snp_lab::run_cpu_by_cpu;
use snp_lab::scenario::{
    Action, EventSpec, GuestSpec, Placement, PolicyName, SECOND, Setup, TopologySpec,
};

/// What can be told apart in a broadcast: each of upstream's versions, and one that sends none.
const POLICIES: [PolicyName; 9] = [
    PolicyName::V1,
    PolicyName::V2,
    PolicyName::V3,
    PolicyName::V5,
    PolicyName::V6,
    PolicyName::V10,
    PolicyName::V10Map,
    PolicyName::V10Leader,
    PolicyName::Tracked,
];

fn guest() -> impl Strategy<Value = GuestSpec> {
    let placement = prop::sample::select(Placement::ALL.to_vec());
    (placement, 1u64..4_000, 2u64..60, 1u64..60_000, 1u32..6, any::<bool>()).prop_map(
        |(placement, mib, at, lasts_ms, vcpus, is_snp)| {
            let mut guest = if is_snp {
                snp("", 1, placement, at, at)
            } else {
                ordinary("", 1, placement, at, at)
            };
            guest.until = Some(guest.at + lasts_ms * 1_000_000);
            (guest.memory, guest.touched, guest.vcpus) = (mib << 20, mib << 20, vcpus);
            guest
        },
    )
}

fn operator() -> impl Strategy<Value = EventSpec> {
    let cpu = 0u32..18;
    let action = prop_oneof![
        3 => Just(Action::Request),
        2 => cpu.clone().prop_map(|cpu| Action::CpuOffline { cpu }),
        2 => cpu.prop_map(|cpu| Action::CpuOnline { cpu }),
        1 => Just(Action::SnpShutdown),
        1 => Just(Action::SnpInit),
    ];
    // Often within a pass of a few milliseconds.
    (2u64..70, 0u64..6_000_000, action).prop_map(|(at, more, action)| {
        let mut event = event(at, action);
        event.at += more;
        event
    })
}

fn setup() -> impl Strategy<Value = Setup> {
    let policy = prop::sample::select(POLICIES.to_vec());
    let hosts = [(1, 1, 4), (1, 4, 8), (2, 2, 12), (2, 4, 24), (2, 1, 4_200)];
    let host_of = prop::sample::select(hosts.to_vec());
    let guests = prop::collection::vec(guest(), 0..6);
    let events = prop::collection::vec(operator(), 0..14);
    let costs = (prop::sample::select(Parallel::ALL.to_vec()), 0u64..3);
    (policy, host_of, 1u32..=2, guests, events, costs, prop::option::of(1u64..3)).prop_map(
        |(policy, (sockets, cores, gib), threads, guests, events, costs, delay)| {
            let mut setup = host(sockets, cores, gib);
            if let TopologySpec::Regular(numbers) = &mut setup.scenario.host.topology {
                numbers.threads = threads;
            }
            setup.policy = policy;
            setup.scenario.policy.delay = delay.map(|seconds| seconds * SECOND);
            setup.scenario.guests = guests;
            for (number, guest) in setup.scenario.guests.iter_mut().enumerate() {
                guest.name = format!("g{number}");
            }
            setup.scenario.events = events;
            setup.scenario.events.sort_by_key(|event| event.at);
            setup.scenario.until = Some(75 * SECOND);
            setup.costs.parallel = costs.0;
            // Scans are dear or cheap beside interrupts, and their results last or do not.
            if costs.1 == 1 {
                (setup.costs.rmpopt_slow, setup.costs.scan_kept) = (20_000, 400_000_000);
            }
            setup
        },
    )
}

fn same(setup: &Setup) -> Result<(), TestCaseError> {
    let one_by_one = run_cpu_by_cpu(setup, &mut |_| {}).expect("the host can be emulated");
    prop_assert_eq!(run(setup), one_by_one);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn bulk_counts_what_each_cpu_would(setup in setup()) {
        same(&setup)?;
    }
}

/// Passes of several milliseconds on many CPUs, some of which run ordinary guests.
#[test]
fn bulk_and_each_cpu_agree_on_a_larger_host() {
    for policy in POLICIES {
        let mut setup = host(2, 24, 192);
        setup.policy = policy;
        setup.scenario.guests = vec![
            ordinary("web", 12, Placement::Pages2M, 2, 70),
            ordinary("late", 3, Placement::Scattered4K, 15, 40),
            snp("one", 40, Placement::Pages1G, 4, 20),
            snp("two", 9, Placement::Scattered2M, 5, 30),
        ];
        setup.scenario.guests[0].vcpus = 31;
        setup.scenario.until = Some(60 * SECOND);
        assert!(same(&setup).is_ok(), "{policy}");
    }
}

/// Drawn times are drawn for each CPU.
#[test]
fn drawn_times_are_not_taken_in_bulk() {
    for policy in [PolicyName::V2, PolicyName::V10] {
        let mut setup = host(1, 8, 16);
        setup.policy = policy;
        setup.costs = CostModel { draws: Draws::Drawn, ..setup.costs };
        setup.scenario.guests = vec![snp("one", 4, Placement::Pages2M, 4, 20)];
        assert!(same(&setup).is_ok(), "{policy}");
    }
}
