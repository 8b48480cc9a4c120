//! Seeded defects are seen: by the laws' checks, by the firmware, or by the books. A check that cannot
//! fail proves nothing.

use crate::common::{
    FIDELITIES, assert_lawful, breaches, event, guest_texts, host, run, run_seeded,
};
use crate::common::{many_short_guests, ordinary, seconds, snp};
use snp_lab::report::RunReport;
use snp_lab::rmp::RmpError;
use snp_lab::scenario::{Action, FidelityChoice, Grain, Placement, PolicyName, Setup};
use snp_lab::{Defect, LabError, Seeded, run_with_defects};

fn setup(fidelity: FidelityChoice) -> Setup {
    let mut setup = host(1, 4, 16);
    setup.fidelity = fidelity;
    // Whole regions, none of which firmware shares.
    setup.scenario.guests = vec![snp("one", 2, Placement::Pages1G, 10, 30)];
    setup.scenario.events =
        vec![event(20, Action::Share { guest: 0, memory: 512 << 20, unit: None })];
    setup
}

fn broken(defect: Defect, at: u64, times: u32, law: u8) {
    for fidelity in FIDELITIES {
        let setup = setup(fidelity);
        assert_eq!(breaches(&run(&setup), law), 0, "sound without the defect");
        let seeded = [Seeded { at: seconds(at), defect, times }];
        let report = run_seeded(&setup, &seeded);
        assert!(breaches(&report, law) > 0, "{defect:?} was not seen at {fidelity:?}");
        assert!(report.law_violations > 0);
    }
}

#[test]
fn one_dropped_clear_breaks_safety() {
    // Context page and two save areas first, in a region that firmware has; then the guest's own.
    broken(Defect::DropClear, 9, 4, 1);
}

#[test]
fn a_stale_cached_scan_breaks_safety() {
    // What is shared at 20 s is a part of its region: the verify that follows must find it dirty.
    broken(Defect::StaleCache, 19, 1_000, 1);
}

#[test]
fn a_skipped_follower_breaks_liveness() {
    broken(Defect::SkipFollower, 29, 1, 3);
}

/// Law 5 can be broken: a follower that does not look at the clock goes through all it was offered.
#[test]
fn a_follower_that_overstays_breaks_quiet() {
    for fidelity in FIDELITIES {
        for policy in [PolicyName::Tracked, PolicyName::TrackedWork, PolicyName::TrackedIpi] {
            let mut setup = Setup { policy, ..setup(fidelity) };
            // 1 us is less than one fast RMPOPT: one for each hold.
            setup.scenario.policy.budget = Some(1_000);
            assert_lawful(&run(&setup));
            let seeded = [Seeded { at: 0, defect: Defect::Overstay, times: 1 }];
            let report = run_seeded(&setup, &seeded);
            assert!(breaches(&report, 5) == 1 && report.law_violations == 1, "{policy}");
        }
    }
}

/// One run without and one with the defect, in each fidelity; both keep the laws.
fn seen(setup: &Setup, defect: Defect, look: impl Fn(&RunReport, &RunReport)) {
    for fidelity in FIDELITIES {
        let setup = Setup { fidelity, ..setup.clone() };
        let sound = run(&setup);
        let seeded = [Seeded { at: 0, defect, times: 1_000_000 }];
        let report = run_seeded(&setup, &seeded);
        assert_lawful(&sound);
        assert_lawful(&report);
        assert_eq!(sound.guests.reclaim_failures, 0, "{:#?}", sound.timeline);
        look(&sound, &report);
    }
}

fn one_guest() -> Setup {
    let mut setup = host(1, 4, 16);
    // What firmware has regions of, the ordinary guest has.
    let low = ordinary("low", 3, Placement::Pages2M, 2, 100);
    setup.scenario.guests = vec![snp("one", 2, Placement::Pages2M, 10, 30), low];
    setup
}

/// A part of a 2 MiB entry that nobody split cannot become shared.
#[test]
fn a_missing_psmash_leaks_what_should_be_shared() {
    let mut setup = one_guest();
    let share = Action::Share { guest: 0, memory: 12 << 10, unit: Some(Grain::Small) };
    setup.scenario.events = vec![event(20, share)];
    seen(&setup, Defect::NoPsmash, |sound, report| {
        assert_eq!((sound.guests.sizem_faults, sound.guests.psmashes), (1, 1));
        // Three pages at once, the rest of the block at the guest's end.
        assert_eq!((report.guests.psmashes, report.guests.leaked_pages), (0, 512));
        assert!(guest_texts(report).iter().any(|text| text.contains("FAIL_OVERLAP")));
        assert!(report.map.states.contains('S') && !sound.map.states.contains('S'));
    });
}

#[test]
fn a_leaked_page_given_back_is_seen_when_it_is_given_out() {
    for fidelity in FIDELITIES {
        let mut setup = Setup { fidelity, ..one_guest() };
        setup.scenario.events = vec![event(20, Action::Leak { guest: 0, pages: 1 })];
        setup.scenario.guests.push(snp("two", 2, Placement::Pages2M, 40, 50));
        assert_lawful(&run(&setup));
        let seeded = [Seeded { at: 0, defect: Defect::LeakFreed, times: 1 }];
        let result = run_with_defects(&setup, &seeded, &mut |_| {});
        assert!(
            matches!(result, Err(LabError::Rmp(RmpError::GivenOut { .. }))),
            "{fidelity:?}: {result:?}"
        );
    }
}

#[test]
fn an_asid_without_flush_is_refused_by_the_firmware() {
    seen(&many_short_guests(1030), Defect::NoFlush, |sound, report| {
        assert_eq!((sound.guests.df_flushes, sound.guests.firmware_errors), (1, 0));
        assert_eq!((report.guests.df_flushes, report.guests.firmware_errors), (0, 8));
        let refused = "SNP_ACTIVATE: DFFLUSH_REQUIRED(0xf)";
        assert!(guest_texts(report).iter().any(|text| text.contains(refused)));
    });
}

#[test]
fn save_areas_in_use_cannot_be_given_back() {
    seen(&one_guest(), Defect::NoVmexit, |_, report| {
        assert_eq!((report.guests.reclaim_failures, report.guests.leaked_pages), (2, 2));
        assert!(guest_texts(report).iter().any(|text| text.contains("FAIL_INUSE")));
    });
}

#[test]
fn a_launch_page_that_is_not_immutable_ends_the_launch() {
    seen(&one_guest(), Defect::LaunchMutable, |sound, report| {
        let refused = "guest one rejected (2 GiB): SNP_LAUNCH_UPDATE: INVALID_PAGE_STATE(0x1a)";
        assert!(guest_texts(report).contains(&refused), "{:#?}", report.timeline);
        // All is given back.
        assert_eq!(report.guests.leaked_pages, 0);
        assert!(!report.map.states.contains('S'));
        assert_eq!((sound.guests.firmware_errors, report.guests.firmware_errors), (0, 1));
        assert_eq!(report.optimized.optimizable_at_end, Some(1.0));
    });
}

#[test]
fn what_the_firmware_does_not_let_go_leaks() {
    for (defect, text) in [
        (Defect::ReclaimFails, "SNP_PAGE_RECLAIM: HWERROR_PLATFORM"),
        (Defect::DecommissionFails, "SNP_DECOMMISSION: HWERROR_PLATFORM"),
    ] {
        seen(&one_guest(), defect, |_, report| {
            assert_eq!((report.guests.firmware_errors, report.guests.leaked_pages), (1, 1));
            let texts = guest_texts(report);
            assert!(texts.iter().any(|line| line.contains(text)), "{texts:#?}");
            assert!(report.map.states.contains('S'), "the context page pins its region");
        });
    }
}
