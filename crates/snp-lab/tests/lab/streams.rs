//! Guests that keep coming, and cores without ticks.

use proptest::prelude::*;
use snp_lab::guests_of_stream;
use snp_lab::run;
use snp_lab::scenario::{
    Action, EventSpec, Grain, Placement, PolicyName, SECOND, Setup, Spread, StreamSpec,
};

use crate::common::{host, ordinary, snp};

const MILLI: u64 = SECOND / 1000;

fn stream(every: u64, lifetime: u64, spread: (Spread, Spread), placement: Placement) -> StreamSpec {
    StreamSpec {
        guest: snp("job", 1, placement, 3, 4),
        every,
        arrivals: spread.0,
        until: 40 * SECOND,
        lifetime,
        lifetimes: spread.1,
    }
}

#[test]
fn every_guest_of_a_stream_is_run() {
    let mut setup = host(1, 4, 64);
    setup.scenario.until = Some(60 * SECOND);
    let fixed = (Spread::Fixed, Spread::Fixed);
    let jobs = stream(5 * SECOND, 2 * SECOND, fixed, Placement::Pages2M);
    let expected = guests_of_stream(&jobs, 1, 60 * SECOND).len();
    assert_eq!(expected, 8);
    setup.scenario.streams = vec![jobs];
    let report = run(&setup, &mut |_| {}).unwrap();
    assert_eq!(report.law_violations, 0);
    let told = |what: &str| report.timeline.iter().filter(|e| e.text.contains(what)).count();
    assert_eq!((told("launched: 1 GiB"), told("all its memory is shared again")), (8, 8));
    // What left is optimised again.
    assert_eq!(report.optimized.optimizable_at_end, Some(1.0));
}

#[test]
fn a_run_without_an_end_lasts_as_long_as_guests_come() {
    let mut setup = host(1, 4, 64);
    setup.scenario.until = None;
    let fixed = (Spread::Fixed, Spread::Fixed);
    setup.scenario.streams = vec![stream(5 * SECOND, 2 * SECOND, fixed, Placement::Pages2M)];
    let report = run(&setup, &mut |_| {}).unwrap();
    assert!(report.simulated_s > 40.0, "{}", report.simulated_s);
}

/// A free region on a host all of whose cores run one vCPU each.
fn busy_host(nohz_full: Vec<(u32, u32)>) -> Setup {
    let mut setup = host(1, 8, 64);
    let mut guest = ordinary("busy", 4, Placement::Pages2M, 2, 60);
    guest.vcpus = 16;
    setup.scenario.guests = vec![guest, snp("vault", 8, Placement::Pages1G, 3, 20)];
    setup.scenario.guests[1].vcpus = 1;
    setup.scenario.until = Some(40 * SECOND);
    setup.scenario.host.nohz_full = nohz_full;
    setup
}

#[test]
fn cores_without_ticks_have_to_be_woken() {
    let ticks = run(&busy_host(Vec::new()), &mut |_| {}).unwrap();
    let none = run(&busy_host(vec![(1, 7), (9, 15)]), &mut |_| {}).unwrap();
    assert_eq!((ticks.law_violations, none.law_violations), (0, 0));
    assert_eq!(none.optimized.optimizable_at_end, Some(1.0));
    let (rode, woken) = (ticks.steady.wakeups, none.steady.wakeups);
    assert!(woken >= rode + 6, "{rode} wake-ups with ticks, {woken} without");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_stream_keeps_every_claimed_law(
        seed in any::<u64>(),
        every in 50 * MILLI..8 * SECOND,
        lifetime in MILLI..20 * SECOND,
        spread in (prop::sample::select(&Spread::ALL[..]), prop::sample::select(&Spread::ALL[..])),
        placement in prop::sample::select(&Placement::ALL[..]),
        accept in prop::sample::select(&Grain::ALL[..]),
        policy in prop::sample::select(&PolicyName::ALL[..]),
        tickless in any::<bool>(),
        hotplug in any::<bool>(),
        reinit in prop::option::of(5 * SECOND..30 * SECOND),
    ) {
        let mut setup = host(1, 4, 32);
        setup.seed = seed;
        setup.policy = policy;
        setup.fidelity = snp_lab::scenario::FidelityChoice::Extents;
        setup.scenario.until = Some(45 * SECOND);
        let mut jobs = stream(every, lifetime, spread, placement);
        jobs.guest.accept = accept;
        setup.scenario.streams = vec![jobs];
        setup.scenario.guests = vec![ordinary("web", 2, Placement::Pages2M, 2, 50)];
        if tickless {
            setup.scenario.host.nohz_full = vec![(1, 7)];
        }
        let mut events = Vec::new();
        if hotplug {
            for n in 0..8 {
                let at = 4 * SECOND + n * 3 * SECOND;
                for cpu in [1, 5] {
                    events.push(EventSpec { at, action: Action::CpuOffline { cpu } });
                    let at = at + SECOND;
                    events.push(EventSpec { at, action: Action::CpuOnline { cpu } });
                }
            }
        }
        if let Some(at) = reinit {
            events.push(EventSpec { at, action: Action::SnpShutdown });
            events.push(EventSpec { at: at + 6 * SECOND, action: Action::SnpInit });
        }
        events.sort_by_key(|event| event.at);
        setup.scenario.events = events;
        let report = run(&setup, &mut |_| {}).unwrap();
        prop_assert_eq!(report.law_violations, 0, "{:?}", report.laws);
        let again = run(&setup, &mut |_| {}).unwrap();
        prop_assert_eq!(report, again);
    }
}
