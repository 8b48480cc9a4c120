//! Setups that the lab's tests share.

use snp_lab::report::{RunReport, TimelineKind};
use snp_lab::scenario::{
    Action, EventSpec, FidelityChoice, Grain, GuestKind, GuestSpec, HostSpec, MemorySpec, Nanos,
    Placement, PlacementRule, PolicyName, PolicySpec, RmpKind, SECOND, Scenario, Setup,
    TopologySpec,
};
use snp_lab::topology::TopologyNumbers;
use snp_lab::{Seeded, run_with_defects};

/// A host of `cores` cores of two threads, with nothing on it.
pub(crate) fn host(sockets: u32, cores_per_socket: u32, memory_gib: u64) -> Setup {
    let numbers = TopologyNumbers { sockets, cores_per_socket, threads: 2, nps: 1 };
    Setup {
        scenario: Scenario {
            name: "test".into(),
            description: String::new(),
            why: String::new(),
            host: HostSpec {
                topology: TopologySpec::Regular(numbers),
                memory: MemorySpec::Bytes(memory_gib << 30),
                rmp: RmpKind::Segmented,
                nohz_full: Vec::new(),
            },
            guests: Vec::new(),
            streams: Vec::new(),
            events: Vec::new(),
            policy: PolicySpec::default(),
            until: Some(120 * SECOND),
            rule: PlacementRule::default(),
            trace: None,
        },
        seed: 1,
        policy: PolicyName::Tracked,
        fidelity: FidelityChoice::Auto,
        costs: snp_lab::cost::CostModel::DEFAULT,
        until: None,
        assumed: Vec::new(),
    }
}

/// An SNP guest that touches all its memory.
pub(crate) fn snp(name: &str, gib: u64, placement: Placement, at: u64, until: u64) -> GuestSpec {
    GuestSpec {
        name: name.into(),
        kind: GuestKind::Snp,
        memory: gib << 30,
        placement,
        at: at * SECOND,
        until: Some(until * SECOND),
        vcpus: 2,
        node: None,
        touched: gib << 30,
        convert_rate: None,
        accept: Grain::default(),
    }
}

/// The same, but ordinary.
pub(crate) fn ordinary(
    name: &str,
    gib: u64,
    placement: Placement,
    at: u64,
    until: u64,
) -> GuestSpec {
    GuestSpec { kind: GuestKind::Ordinary, ..snp(name, gib, placement, at, until) }
}

pub(crate) fn event(at: u64, action: Action) -> EventSpec {
    EventSpec { at: at * SECOND, action }
}

pub(crate) fn run(setup: &Setup) -> RunReport {
    run_seeded(setup, &[])
}

pub(crate) fn run_seeded(setup: &Setup, seeded: &[Seeded]) -> RunReport {
    run_with_defects(setup, seeded, &mut |_| {}).expect("the host can be emulated")
}

/// Breaches of law `number`.
pub(crate) fn breaches(report: &RunReport, number: u8) -> u64 {
    report.laws.iter().filter(|law| law.law == number).map(|law| law.breaches).sum()
}

/// Checks of law `number`.
pub(crate) fn checks(report: &RunReport, number: u8) -> u64 {
    report.laws.iter().filter(|law| law.law == number).map(|law| law.checks).sum()
}

/// Asserts that no law was broken, and says which if one was.
pub(crate) fn assert_lawful(report: &RunReport) {
    let broken: Vec<_> = report.laws.iter().filter(|law| law.breaches > 0).collect();
    assert!(broken.is_empty(), "{broken:#?}\n{:#?}", report.timeline);
}

/// Nanoseconds as the lab counts them.
pub(crate) const fn seconds(count: u64) -> Nanos {
    count * SECOND
}

/// Both fidelities.
pub(crate) const FIDELITIES: [FidelityChoice; 2] = [FidelityChoice::Pages, FidelityChoice::Extents];

/// What the timeline says of guests.
pub(crate) fn guest_texts(report: &RunReport) -> Vec<&str> {
    let guests = report.timeline.iter().filter(|entry| entry.kind == TimelineKind::Guest);
    guests.map(|entry| entry.text.as_str()).collect()
}

/// SNP guests of 2 MiB, one after the other, that live for 200 ms each.
pub(crate) fn many_short_guests(count: u64) -> Setup {
    let mut setup = host(1, 4, 8);
    for number in 0..count {
        let mut guest = snp(&number.to_string(), 1, Placement::Pages2M, 3, 3);
        (guest.memory, guest.touched) = (2 << 20, 2 << 20);
        guest.at += number * 100_000_000;
        guest.until = Some(guest.at + 200_000_000);
        setup.scenario.guests.push(guest);
    }
    setup.scenario.until = Some(150 * SECOND);
    setup
}
