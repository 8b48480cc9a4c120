//! Seeded defects turn the laws red: a check that cannot fail proves nothing.

use crate::common::{breaches, event, host, run, run_seeded, seconds, snp};
use snp_lab::scenario::{Action, FidelityChoice, Placement, Setup};
use snp_lab::{Defect, Seeded};

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
    for fidelity in [FidelityChoice::Pages, FidelityChoice::Extents] {
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
