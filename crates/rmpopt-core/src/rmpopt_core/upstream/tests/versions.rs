//! What each version does differently, action by action.

use super::*;
use crate::rmpopt_core::upstream::version::{ALL, V1, V10_LEADER, V10_MAP, V2, V3, V5, V6, V8};

/// A version on a host of three cores and four regions, of which `dirty` hold assigned pages.
struct Bench<W> {
    policy: Upstream<W>,
    dirty: Vec<u32>,
    now: Time,
}

impl Bench<[Window; 0]> {
    fn new(version: &'static Version) -> Self {
        let policy = Upstream::new(Facts::venice(6).check().unwrap(), version);
        let mut bench = Self { policy, dirty: Vec::new(), now: Time::ZERO };
        bench.policy.handle(bench.now, Event::SnpInitialised(&host()));
        bench
    }

    /// With the first pass over.
    fn passed(version: &'static Version, dirty: &[u32]) -> Self {
        let mut bench = Self::new(version);
        bench.dirty = dirty.to_vec();
        bench.drive();
        if version.first_ns > 0 {
            bench.at(version.first_ns, Event::Timer);
        }
        assert_eq!(bench.policy.passes(), 1, "{}", version.name);
        bench
    }
}

impl<W: BorrowMut<[Window]>> Bench<W> {
    /// `ns` after SNP_INIT something happens.
    fn at(&mut self, ns: u64, event: Event<'_>) -> Vec<String> {
        self.now = Time::from_ns(ns);
        self.policy.handle(self.now, event);
        self.drive()
    }

    fn drive(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(action) = self.policy.poll(self.now) {
            seen.extend(self.step(&action));
        }
        seen
    }

    /// Answers one action; RMPOPT is never asked for where it is not enabled but by v3 and v5.
    fn step(&mut self, action: &Action) -> Option<String> {
        let now = self.now;
        match *action {
            Action::WriteBase { core, base } => {
                let on = base.is_enabled();
                self.policy
                    .handle(now, Event::BaseWritten { core, base: Some(base), snp_en: true });
                Some(format!("{} {core}", if on { "base" } else { "clear" }))
            }
            Action::Verify { core, region, ticket } => {
                let dirty = self.dirty.contains(&region.get());
                let verdict = if dirty { Verdict::Dirty } else { Verdict::Clean };
                self.policy
                    .handle(now, Event::Verified { ticket, core, region, verdict, took_ns: 1 });
                Some(format!("verify {core}:{region}"))
            }
            Action::Broadcast { leader, region, reach, ticket } => {
                self.policy.handle(now, Event::BroadcastDone { ticket });
                Some(format!("{reach:?} {leader}:{region}"))
            }
            Action::ArmTimer(at) => Some(format!("timer {at:?}")),
            Action::Quiesce => {
                self.policy.handle(now, Event::Quiesced);
                None
            }
            Action::Stopped => Some("stopped".into()),
            Action::Offer { .. } => panic!("upstream offers nothing"),
        }
    }
}

/// Four regions on everybody at once.
fn all_at_once(reach: &str) -> Vec<String> {
    (0..4).map(|region| format!("{reach} 0:{region}")).collect()
}

#[test]
fn v1_waits_for_a_request() {
    let mut bench = Bench::passed(&V1, &[]);
    assert!(bench.at(SECOND, Event::GuestDecommissioned).is_empty());
    assert!(bench.at(2 * SECOND, Event::GuestMemoryFreed).is_empty());
    let pass = bench.at(3 * SECOND, Event::Request(Request::Optimise));
    assert_eq!(pass, all_at_once("EveryCore"));
}

#[test]
fn v2_runs_at_once_when_memory_is_freed() {
    let mut bench = Bench::passed(&V2, &[]);
    assert!(bench.at(SECOND, Event::GuestDecommissioned).is_empty());
    assert_eq!(bench.at(2 * SECOND, Event::GuestMemoryFreed), all_at_once("EveryCpu"));
}

#[test]
fn v3_begins_a_millisecond_after_snp_init() {
    let mut bench = Bench::new(&V3);
    assert_eq!(bench.drive(), ["base 0", "base 1", "base 2", "timer 0.001000s"]);
    let pass = bench.at(1_000_000, Event::Timer);
    let leader = (0..4).map(|region| format!("verify 0:{region}"));
    assert_eq!(pass, leader.chain(all_at_once("EveryCore")).collect::<Vec<_>>());
}

/// `queue_delayed_work` leaves a pending timer as it is; `mod_delayed_work` restarts it.
#[test]
fn the_delay_is_restarted_from_v8_on() {
    for version in ALL {
        let mut bench = Bench::passed(version, &[]);
        let first = bench.at(SECOND, Event::GuestDecommissioned);
        let second = bench.at(5 * SECOND, Event::GuestDecommissioned);
        let expected: [&[&str]; 2] = match version.name {
            "v1" | "v2" => [&[], &[]],
            "v3" | "v5" | "v6" => [&["timer 11.000000s"], &[]],
            _ => [&["timer 11.000000s"], &["timer 15.000000s"]],
        };
        assert_eq!([first, second], expected.map(<[_]>::to_vec), "{}", version.name);
    }
}

/// A trigger in a pass is lost before v8, and queues another pass from then on.
#[test]
fn a_trigger_in_a_pass_is_lost_before_v8() {
    for version in ALL {
        let mut bench = Bench::passed(version, &[]);
        bench.now = Time::from_ns(SECOND);
        bench.policy.handle(bench.now, Event::Request(Request::Optimise));
        let Some(begun) = bench.policy.poll(bench.now) else {
            assert!(version.map, "{}: nothing to try, all was clean", version.name);
            continue;
        };
        for event in [Event::GuestDecommissioned, Event::GuestMemoryFreed] {
            bench.policy.handle(bench.now, event);
        }
        bench.step(&begun);
        let rest = bench.drive();
        let queued = rest.iter().any(|action| action.starts_with("timer"));
        assert_eq!(queued, version.restarts, "{}: {rest:?}", version.name);
        assert_eq!(bench.policy.passes(), 2, "{}", version.name);
    }
}

/// A core that comes after SNP_INIT is not enabled. v5's worker may be on it all the same, which is a
/// #UD on hardware; v6 looks for an enabled one.
#[test]
fn v6_sees_to_it_that_its_leader_is_enabled() {
    for (version, leader) in [(&V3, 0), (&V5, 0), (&V6, 1), (&V8, 1)] {
        let mut machine = Bench::passed(version, &[]);
        machine.at(SECOND, Event::CoreOffline(CoreId(0)));
        let (base, snp_en) = (RmpoptBase::OFF, true);
        machine.at(SECOND, Event::CoreOnline { core: CoreId(0), base, snp_en });
        let pass = machine.at(2 * SECOND, Event::Request(Request::Optimise));
        assert_eq!(pass[0], format!("verify {leader}:0"), "{}", version.name);
    }
}

#[test]
fn leaders_reschedule_from_v7_on() {
    for version in ALL {
        let holds = ["v3", "v5", "v6"].contains(&version.name);
        assert_eq!(Bench::new(version).policy.leader_reschedules(), !holds, "{}", version.name);
    }
}

#[test]
fn bases_are_cleared_from_v5_on() {
    for version in ALL {
        let mut bench = Bench::passed(version, &[]);
        let end = bench.at(SECOND, Event::SnpGoingDown);
        let clears = ["v1", "v2", "v3"].iter().all(|&name| name != version.name);
        let expected: &[&str] =
            if clears { &["clear 0", "clear 1", "clear 2", "stopped"] } else { &["stopped"] };
        assert_eq!(end, expected, "{}", version.name);
    }
}

#[test]
fn the_map_leaves_out_what_stayed_clean() {
    let mut bench = Bench::passed(&V10_MAP, &[1]);
    let pass = |bench: &mut Bench<_>, second: u64| {
        bench.at(second * SECOND, Event::Request(Request::Optimise))
    };
    // The dirty region stays in the map.
    assert_eq!(pass(&mut bench, 1), ["verify 0:1", "OtherCores 0:1"]);
    // A guest takes region 2 and gives it back: either mark puts it into the map, until it is clean.
    for (shared, lost) in [(0, 0b100), (0b100, 0)] {
        bench.at(2 * SECOND, Event::Drained(Drained { word: 0, shared, lost }));
        let both = ["verify 0:1", "verify 0:2", "OtherCores 0:1", "OtherCores 0:2"];
        assert_eq!(pass(&mut bench, 3), both);
        assert_eq!(pass(&mut bench, 4), ["verify 0:1", "OtherCores 0:1"]);
    }
    // Nothing to try: the pass is over at once, and a timer still comes.
    bench.dirty.clear();
    pass(&mut bench, 5);
    let passes = bench.policy.passes();
    assert!(pass(&mut bench, 6).is_empty());
    assert_eq!(bench.policy.passes(), passes + 1);
    assert_eq!(bench.at(7 * SECOND, Event::GuestDecommissioned), ["timer 17.000000s"]);
}

/// A mark that comes while its region is led outlives the verdict of before.
#[test]
fn a_mark_after_the_verdict_stays_in_the_map() {
    let mut bench = Bench::passed(&V10_MAP, &[]);
    bench.at(SECOND, Event::Drained(Drained { word: 0, shared: 0, lost: 1 }));
    bench.policy.handle(bench.now, Event::Request(Request::Optimise));
    let led = bench.policy.poll(bench.now).unwrap();
    bench.step(&led);
    bench.policy.handle(bench.now, Event::Drained(Drained { word: 0, shared: 0, lost: 1 }));
    assert_eq!(bench.drive(), ["OtherCores 0:0"]);
    let again = bench.at(2 * SECOND, Event::Request(Request::Optimise));
    assert_eq!(again, ["verify 0:0", "OtherCores 0:0"]);
}

#[test]
fn followers_only_where_the_leader_succeeded() {
    let mut bench = Bench::passed(&V10_LEADER, &[0, 2]);
    let pass = bench.at(SECOND, Event::Request(Request::Optimise));
    let leader = (0..4).map(|region| format!("verify 0:{region}"));
    let followers = [1, 3].map(|region| format!("OtherCores 0:{region}"));
    assert_eq!(pass, leader.chain(followers).collect::<Vec<_>>());
    bench.dirty = (0..4).collect();
    assert_eq!(bench.at(2 * SECOND, Event::Request(Request::Optimise)).len(), 4);
    assert_eq!(bench.policy.passes(), 3);
}

/// 4 TiB on two sockets: v1's windows start at the sockets, its pass goes over all; v2 on have one
/// window and stay in it.
#[test]
fn v1_covers_each_socket() {
    let host = Plain {
        sockets: 2,
        nodes_per_socket: 1,
        cores_per_node: 2,
        regions_per_node: 2048,
        hole: 0,
    };
    for (version, bases, regions) in [(&V1, [0, 0, 2048, 2048], 4096), (&V2, [0; 4], 2048)] {
        let proof = Facts::venice(6).check().unwrap();
        let own = [Window::default(); 4];
        let policy = Upstream::with_windows(proof, version, version.delay_ns, own);
        let mut bench = Bench { policy, dirty: Vec::new(), now: Time::ZERO };
        bench.policy.handle(Time::ZERO, Event::SnpInitialised(&host));
        let seen = bench.drive();
        assert_eq!(seen.len(), 4 + regions, "{}", version.name);
        let chosen = [0, 1, 2, 3].map(|core| bench.policy.window(CoreId(core)).unwrap());
        assert_eq!(chosen.map(|window| window.base.get()), bases, "{}", version.name);
    }
}
