//! A host that goes on: the same life as a run's, and what is done to it meanwhile.

use snp_defs::Counter;
use snp_lab::scenario::{GuestKind, Placement, PolicyName, RmpKind, SECOND, Setup};
use snp_lab::{Live, LiveLife};

use crate::common::{host, ordinary, run, seconds, snp};

/// Guests that come and go, and nothing at the end.
fn some_life(policy: PolicyName) -> Setup {
    let mut setup = host(2, 4, 24);
    setup.policy = policy;
    setup.scenario.guests = vec![
        ordinary("web", 4, Placement::Pages2M, 3, 100),
        snp("one", 2, Placement::Pages4K, 5, 40),
        snp("two", 2, Placement::Scattered2M, 8, 60),
    ];
    setup
}

fn counter(live: &Live<'_>, counter: Counter) -> u64 {
    live.counters().iter().find(|(known, _)| *known == counter).map_or(0, |(_, value)| *value)
}

#[test]
fn time_in_steps_gives_the_life_of_a_run() {
    for policy in [PolicyName::Tracked, PolicyName::V10, PolicyName::Off] {
        let setup = some_life(policy);
        let report = run(&setup);
        for (step, events) in [(120 * SECOND, u32::MAX), (7 * SECOND / 13, 100), (SECOND, 1)] {
            let mut live = Live::new(&setup).unwrap();
            let mut at = 0;
            while at < 120 * SECOND {
                at = (at + step).min(120 * SECOND);
                while !live.advance(at, events).unwrap() {}
                assert_eq!(live.now(), at);
            }
            let all = [
                (Counter::RmpoptExecuted, report.rmpopt.executed),
                (Counter::RmpoptLeader, report.rmpopt.leader),
                (Counter::RmpoptFollowers, report.rmpopt.followers),
                (Counter::Ipis, report.ipis),
                (Counter::Wakeups, report.wakeups),
                (Counter::Passes, report.passes),
                (Counter::SnpInits, u64::from(policy != PolicyName::Off)),
            ];
            let verified = [Counter::RmpoptClean, Counter::RmpoptDirty].map(|c| counter(&live, c));
            assert_eq!(verified.iter().sum::<u64>(), counter(&live, Counter::RmpoptVerify));
            assert!(policy == PolicyName::Off || verified.iter().all(|n| *n > 0), "{verified:?}");
            for (name, value) in all {
                assert_eq!(counter(&live, name), value, "{policy} {step} {name}");
            }
            if policy != PolicyName::Off {
                assert_eq!(live.table(), report.table, "{policy} {step}");
            }
            let further = live.further_counts();
            let [.., (_, ridden), (_, woken), (_, faults), (_, unclean)] = further;
            let holds = (ridden > 0, woken > 0);
            let rides = policy == PolicyName::Tracked;
            assert_eq!(holds, (rides, rides), "{policy} {step} {further:?}");
            // In each hold an RMPOPT is run.
            let run = [Counter::RmpoptFollowers, Counter::RmpoptReport].map(|c| counter(&live, c));
            assert!(ridden + woken <= run.iter().sum(), "{further:?} {run:?}");
            assert_eq!((faults, unclean), (0, 0), "{policy} {step}");
            let status = live.status();
            assert_eq!(status.optimised, report.optimized.at_end, "{policy} {step}");
            assert_eq!(status.law_breaches, report.law_violations);
        }
    }
}

/// The same keys as the module's `stats`, in the same order: by the module's source.
#[test]
fn counts_are_those_of_the_module() {
    let source = |path: &str| {
        let path = format!("{}/../../kernel/src/{path}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    };
    let kept = source("counts.rs");
    let (_, kept) = kept.split_once("const KEPT: [Counter; ").unwrap();
    let (kept, _) = kept.split_once("];").unwrap();
    let named = |variant: &str| {
        let is_it = |counter: &Counter| format!("{counter:?}") == variant;
        Counter::ALL.into_iter().find(is_it).map(Counter::name).unwrap()
    };
    let variants = kept.split("Counter::").skip(1).map(|part| part.split(',').next().unwrap());
    let mut wanted: Vec<String> = variants.map(|variant| named(variant).to_owned()).collect();
    let rows = source("files/stats.rs");
    let keys = rows.split("writeln!(out, \"").skip(1).map(|row| row.split(' ').next().unwrap());
    wanted.extend(keys.filter(|key| !key.starts_with('{')).map(str::to_owned));
    assert_eq!(wanted.len(), 29, "{wanted:?}");

    let setup = some_life(PolicyName::Tracked);
    let live = Live::new(&setup).unwrap();
    let counters = live.counters();
    let names = counters.iter().map(|(counter, _)| counter.name());
    let all: Vec<&str> = names.chain(live.further_counts().map(|(name, _)| name)).collect();
    assert_eq!(all, wanted);
}

#[test]
fn guests_come_and_go_by_hand() {
    let setup = host(2, 4, 24);
    let mut live = Live::new(&setup).unwrap();
    let wanted = |name: &str, gib| snp(name, gib, Placement::Pages2M, 0, 1);
    assert!(live.start_guest(wanted("early", 1)).unwrap_err().contains("SNP is not up"));
    live.advance(seconds(10), u32::MAX).unwrap();
    assert!(live.is_settled());
    let before = live.status().optimised.unwrap();
    live.start_guest(wanted("vault", 4)).unwrap();
    assert!(live.start_guest(wanted("vault", 1)).unwrap_err().contains("already"));
    for (guest, why) in [
        (wanted("big", 100), "wanted"),
        (snp_lab::scenario::GuestSpec { node: Some(7), ..wanted("far", 1) }, "node 7"),
        (snp_lab::scenario::GuestSpec { vcpus: 0, ..wanted("none", 1) }, "vCPUs"),
        (snp_lab::scenario::GuestSpec { memory: 5000, ..wanted("odd", 1) }, "multiple"),
    ] {
        let said = live.start_guest(guest).unwrap_err();
        assert!(said.contains(why), "{why}: {said}");
    }
    live.advance(seconds(40), u32::MAX).unwrap();
    let [guest] = &live.guests()[..] else { panic!("{:?}", live.guests()) };
    assert_eq!((guest.life, guest.private_bytes, guest.asid), (LiveLife::Running, 4 << 30, 1));
    assert_eq!((guest.spec.kind, live.snp_guests()), (GuestKind::Snp, 1));
    assert_eq!(live.guest_bytes().iter().map(|(_, bytes)| bytes).sum::<u64>(), 4 << 30);
    let with = live.status();
    assert!(with.optimised.unwrap() < before, "{with:?}");
    assert_eq!(with.optimisable, Some(1.0));
    live.stop_guest("vault").unwrap();
    assert!(live.stop_guest("vault").is_err() && live.stop_guest("nobody").is_err());
    live.advance(seconds(100), u32::MAX).unwrap();
    assert!(live.guests().is_empty());
    let after = live.status();
    assert_eq!((after.optimised, after.law_breaches), (Some(before), 0));
    assert!(live.notes().any(|note| note.text.contains("vault shut down")));
}

#[test]
fn registers_and_cpus_by_hand() {
    let setup = host(1, 4, 8);
    let mut live = Live::new(&setup).unwrap();
    live.advance(seconds(10), u32::MAX).unwrap();
    let base = live.rmpopt_base(1);
    assert!(live.snp_en(1) && base & 1 == 1);
    // Bits that are neither enable nor base raise #GP(0) and change nothing.
    assert!(live.write_rmpopt_base(1, 2).is_err());
    assert_eq!((live.rmpopt_base(1), live.status().foreign_writes), (base, 0));
    assert_eq!(live.status().optimisable, Some(1.0));
    live.write_rmpopt_base(1, 0).unwrap();
    assert_eq!((live.rmpopt_base(1), live.status().foreign_writes), (0, 1));
    assert_eq!(live.status().optimisable, Some(0.75), "one core of four has nothing any more");
    // The driver believes what it believed.
    assert!(live.table().contains("CPU(s): 0-7\n"));
    assert!(live.set_online(99, false).is_ok(), "there is none, so it is offline");
    assert!(live.set_online(99, true).is_err());
    live.set_online(2, false).unwrap();
    live.advance(seconds(11), u32::MAX).unwrap();
    assert!(!live.is_online(2) && live.table().contains("CPU(s): 0-1,3-7\n"));
    live.set_online(2, true).unwrap();
    assert!(live.is_online(2));
    // The operator's word.
    live.set_paused(true);
    assert_eq!((live.driver_life(), live.is_paused()), ("paused", true));
    live.set_paused(false);
    assert_eq!(live.driver_life(), "runs");
    let passes = counter(&live, Counter::Passes);
    live.request_pass();
    live.advance(seconds(30), u32::MAX).unwrap();
    assert!(counter(&live, Counter::Passes) >= passes);
    assert!(!live.is_busy());
}

#[test]
fn a_host_without_rmpopt_settles_too() {
    let mut setup = host(1, 4, 8);
    setup.scenario.host.rmp = RmpKind::Contiguous;
    let mut live = Live::new(&setup).unwrap();
    assert!(!live.is_settled());
    live.advance(seconds(3), u32::MAX).unwrap();
    assert!(live.is_settled() && live.refused().is_some() && !live.table().contains("0-"));
}

/// v10's second pass finds each region as it left it, but for a core whose base somebody moved by 1 GiB
/// meanwhile: its table is empty, and it is filled again.
#[test]
fn a_pass_sees_that_somebody_wrote_a_base() {
    let mut setup = some_life(PolicyName::V10);
    setup.scenario.guests.clear();
    let mut live = Live::new(&setup).unwrap();
    let pass = |live: &mut Live<'_>, until| {
        live.request_pass();
        while !live.advance(until, 1_000).unwrap() {}
        live.table()
    };
    let before = pass(&mut live, 5 * SECOND);
    assert_eq!(pass(&mut live, 10 * SECOND), before, "nothing has changed");
    let own = live.rmpopt_base(3);
    live.write_rmpopt_base(3, own + (1 << 30)).unwrap();
    live.write_rmpopt_base(3, own).unwrap();
    assert_ne!(live.table(), before, "its bits are gone");
    assert_eq!(pass(&mut live, 15 * SECOND), before, "and back");
}
