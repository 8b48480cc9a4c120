mod versions;

use super::*;
use crate::rmpopt_core::tests::{self, Layout};
use crate::rmpopt_core::window::tests::Plain;
use crate::rmpopt_core::{Facts, Verdict};

fn host() -> Plain {
    Plain { sockets: 1, nodes_per_socket: 1, cores_per_node: 3, regions_per_node: 4, hole: 0 }
}

/// Answers everything at once; returns the actions as short texts.
fn drive(policy: &mut Upstream, now: Time) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(action) = policy.poll(now) {
        match action {
            Action::WriteBase { core, base } => {
                seen.push(format!("base {core} {:#x}", base.raw()));
                policy.handle(now, Event::BaseWritten { core, base: Some(base), snp_en: true });
            }
            Action::Verify { core, region, ticket } => {
                seen.push(format!("verify {core} {region}"));
                let verdict = Verdict::Dirty;
                policy.handle(now, Event::Verified { ticket, core, region, verdict, took_ns: 1 });
            }
            Action::Broadcast { leader, region, ticket, .. } => {
                seen.push(format!("broadcast -{leader} {region}"));
                policy.handle(now, Event::BroadcastDone { ticket });
            }
            Action::ArmTimer(at) => seen.push(format!("timer {at:?}")),
            Action::Quiesce => policy.handle(now, Event::Quiesced),
            Action::Stopped => seen.push("stopped".into()),
            other @ Action::Offer { .. } => panic!("unexpected {other:?}"),
        }
    }
    seen
}

fn up() -> Upstream {
    let proof = Facts::venice(6).check().unwrap();
    let mut policy = Upstream::new(proof, &version::V10);
    policy.handle(Time::ZERO, Event::SnpInitialised(&host()));
    let seen = drive(&mut policy, Time::ZERO);
    assert_eq!(seen[..3], ["base 0 0x1", "base 1 0x1", "base 2 0x1"]);
    assert_eq!(seen[3..7], ["verify 0 0", "verify 0 1", "verify 0 2", "verify 0 3"]);
    // Dirty or not, every follower is interrupted for every region.
    assert_eq!(seen[7], "broadcast -0 0");
    assert_eq!(seen.len(), 11);
    assert!(policy.first_pass_over() && policy.passes() == 1);
    policy
}

#[test]
fn guests_ends_restart_the_timer() {
    let mut policy = up();
    policy.handle(Time::from_ns(SECOND), Event::GuestDecommissioned);
    assert_eq!(drive(&mut policy, Time::from_ns(SECOND)), ["timer 11.000000s"]);
    policy.handle(Time::from_ns(5 * SECOND), Event::GuestDecommissioned);
    assert_eq!(drive(&mut policy, Time::from_ns(5 * SECOND)), ["timer 15.000000s"]);
    policy.handle(Time::from_ns(15 * SECOND), Event::Timer);
    assert_eq!(drive(&mut policy, Time::from_ns(15 * SECOND)).len(), 8);
}

#[test]
fn teardown_clears_every_base() {
    let mut policy = up();
    policy.handle(Time::from_ns(SECOND), Event::SnpGoingDown);
    let seen = drive(&mut policy, Time::from_ns(SECOND));
    assert_eq!(seen, ["base 0 0x0", "base 1 0x0", "base 2 0x0", "stopped"]);
}

#[test]
fn a_request_in_a_pass_queues_another() {
    let mut machine = tests::upstream(Layout::new(2, 2), &version::V10);
    machine.snp_init();
    machine.base(0);
    machine.base(0);
    machine.answer_verify(0);
    machine.request(Request::Optimise);
    machine.until(Time::from_ns(SECOND));
    assert_eq!(machine.policy.passes(), 2);
}

#[test]
fn teardown_waits_for_the_pass() {
    let mut machine = tests::upstream(Layout::new(2, 2), &version::V10);
    machine.snp_init();
    machine.base(0);
    machine.base(0);
    machine.did();
    machine.snp_shutdown();
    machine.settle();
    assert_eq!(
        machine.did(),
        [
            "verify 0:1",
            "broadcast -0:0",
            "broadcast -0:1",
            "quiesce",
            "clear 0",
            "clear 1",
            "stopped",
        ]
    );
}

fn faulted(ticket: Ticket, core: CoreId, region: Region) -> Event<'static> {
    Event::Verified { ticket, core, region, verdict: Verdict::Fault, took_ns: 1 }
}

#[test]
fn a_fault_ends_the_pass_and_stops_until_the_next_snp_init() {
    for broadcast in [false, true] {
        let mut machine = tests::upstream(Layout::new(2, 2), &version::V10);
        machine.snp_init();
        machine.base(0);
        machine.base(0);
        while broadcast && machine.broadcast.is_none() {
            machine.answer_verify(0);
        }
        machine.did();
        let event = if let Some((_, _, ticket)) = machine.broadcast.take() {
            Event::BroadcastFault { ticket }
        } else {
            let asked = machine.verifies.remove(0);
            faulted(asked.ticket, asked.core, asked.region)
        };
        machine.tell(event);
        assert_eq!(machine.did(), ["quiesce", "stopped"]);
        machine.request(Request::Optimise);
        machine.until(Time::from_ns(60 * SECOND));
        assert_eq!((machine.did().len(), machine.policy.passes()), (0, 0));
        machine.snp_init();
        machine.until(Time::from_ns(61 * SECOND));
        assert_eq!(machine.policy.passes(), 1);
    }
}

#[test]
fn a_fault_on_a_core_that_is_not_enabled_is_an_answer_like_others() {
    let mut machine = tests::upstream(Layout::new(2, 2), &version::V10);
    machine.snp_init();
    machine.base(0);
    machine.base(0);
    machine.tell(Event::CoreOffline(CoreId(0)));
    machine.did();
    let asked = machine.verifies.remove(0);
    machine.tell(faulted(asked.ticket, asked.core, asked.region));
    assert_eq!(machine.did(), ["verify 1:1"]);
}

#[test]
fn without_cores_or_ram_the_first_pass_is_over_at_once() {
    for (cores, regions) in [(0, 2), (2, 0)] {
        let mut machine = tests::upstream(Layout::new(cores, regions), &version::V10);
        machine.snp_init();
        machine.settle();
        assert!(machine.policy.first_pass_over() && machine.policy.passes() == 0);
        machine.snp_shutdown();
        machine.settle();
        assert!(machine.stopped);
    }
}

#[test]
fn unload_leaves_the_bases() {
    let mut policy = up();
    policy.handle(Time::from_ns(SECOND), Event::Unload);
    assert_eq!(drive(&mut policy, Time::from_ns(SECOND)), ["stopped"]);
}
