//! Conformance with spec/snp-arch.md section 7, as far as it is the host kernel's behaviour. What the
//! hardware and its firmware do in the same cases: `snp-model`'s `conformance`.

use crate::common::{FIDELITIES, assert_lawful, event, guest_texts, host, run, run_seeded, snp};
use crate::common::{many_short_guests, ordinary};
use snp_defs::RstEntry;
use snp_lab::boot::{RmpLayout, boot};
use snp_lab::memory::PhysicalMemory;
use snp_lab::report::{RunReport, TimelineKind};
use snp_lab::scenario::{Action, Grain, Placement, RmpKind, Setup};
use snp_lab::{Defect, Seeded};

/// A host with one SNP guest of 1 GiB, from 5 s to 30 s.
fn one_guest(placement: Placement) -> Setup {
    let mut setup = host(1, 4, 16);
    // What firmware has regions of, the ordinary guest has.
    let low = ordinary("low", 3, Placement::Pages2M, 2, 100);
    setup.scenario.guests = vec![snp("guest", 1, placement, 5, 30), low];
    setup
}

/// Runs in both fidelities, which must say the same, and looks at it.
fn on_both(setup: &Setup, seeded: &[Seeded], look: impl Fn(&RunReport)) {
    for fidelity in FIDELITIES {
        let report = run_seeded(&Setup { fidelity, ..setup.clone() }, seeded);
        assert_lawful(&report);
        look(&report);
    }
}

/// 4 KiB pages of 1 GiB that are not launched.
const TOUCHED: u64 = (1 << 18) - 1026;

#[test]
fn case_014_an_overlap_that_stays_is_given_up() {
    let mut setup = one_guest(Placement::Pages2M);
    let share = Action::Share { guest: 0, memory: 4096, unit: Some(Grain::Small) };
    setup.scenario.events = vec![event(20, share)];
    let defect = Seeded { at: 0, defect: Defect::NoPsmash, times: 1_000_000 };
    on_both(&setup, &[defect], |report| {
        // Linux would repeat RMPUPDATE for ever; the run comes to its end, and says what was lost.
        assert!(guest_texts(report).iter().any(|text| text.contains("RMPUPDATE: FAIL_OVERLAP")));
        assert_eq!(report.guests.leaked_pages, 512);
    });
}

#[test]
fn case_029_a_guest_of_2m_falls_back_on_4k_entries() {
    on_both(&one_guest(Placement::Pages4K), &[], |report| {
        let guests = report.guests;
        // 509 whole blocks; 510 pages of the block in which the launch pages end.
        assert_eq!((guests.size_mismatches, guests.sizem_faults, guests.psmashes), (509, 0, 0));
        assert_eq!(guests.pvalidates, TOUCHED + 509);
    });
}

#[test]
fn case_030_a_4k_pvalidate_makes_the_host_split() {
    let mut setup = one_guest(Placement::Pages2M);
    setup.scenario.guests[0].accept = Grain::Small;
    on_both(&setup, &[], |report| {
        let guests = report.guests;
        assert_eq!((guests.size_mismatches, guests.sizem_faults, guests.psmashes), (0, 509, 509));
        assert_eq!(guests.pvalidates, TOUCHED + 509);
        assert_eq!(guests.leaked_pages, 0);
        let told = "guest: 509 of its 2 MiB RMP entries were split";
        assert!(report.timeline.iter().any(|entry| entry.text == told), "{:#?}", report.timeline);
    });
}

#[test]
fn case_063_an_rmp_that_the_bios_did_not_set_up() {
    let mut setup = one_guest(Placement::Pages2M);
    setup.scenario.host.rmp = RmpKind::Unset;
    setup.scenario.events = vec![event(40, Action::SnpInit), event(50, Action::SnpShutdown)];
    on_both(&setup, &[], |report| {
        let why = "SNP stays off: RMP_BASE 0x0, expected the address of reserved memory";
        let snp: Vec<_> =
            report.timeline.iter().filter(|entry| entry.kind == TimelineKind::Snp).collect();
        assert_eq!((snp.len(), snp[0].text.as_str(), snp[1].text.as_str()), (3, why, why));
        assert_eq!(report.driver.refused.as_deref(), Some(why));
        // SNP was never up: its guest is refused, the other one runs.
        assert_eq!(report.optimized.mean, None);
        assert!(guest_texts(report).contains(&"guest guest rejected (1 GiB): SNP is not up"));
        assert!(guest_texts(report).iter().any(|text| text.contains("low launched")));
        assert_eq!((report.rmpupdates, report.guests.firmware_commands), (0, 0));
        assert!(!report.map.states.contains('R'), "nobody has taken a page: {}", report.map.states);
    });
}

/// The host's part of case 88. Linux looks at the end of the last segment that begins in RAM: it
/// refuses RAM without entries there, and does not see a hole between two segments.
#[test]
fn case_088_ram_without_entries() {
    let memory = PhysicalMemory::from_size(250 << 30, 1).expect("250 GiB are a host");
    let layout = boot(&memory, 1, RmpKind::Segmented).expect("it boots");
    assert_eq!(layout.linux_refuses(), None);
    let without = |index: usize| {
        let mut layout = layout.clone();
        let RmpLayout::Segmented { rst, .. } = &mut layout.rmp else { panic!("segments") };
        assert!(rst[index].is_present());
        rst[index] = RstEntry::ABSENT;
        layout.linux_refuses()
    };
    let why = without(3).expect("the last segment is missing");
    assert!(why.contains("0x3000000000"), "it names where entries end: {why}");
    assert_eq!(without(1), None);
}

/// The host's part of case 25: parts of 2 MiB entries come and go.
#[test]
fn case_025_shared_parts_of_large_pages_come_back_as_small_ones() {
    let mut setup = one_guest(Placement::Pages2M);
    // 3 MiB and a page, at any page: two or three blocks are split, one at least is whole.
    let (memory, unit) = ((3 << 20) + 4096, Some(Grain::Small));
    setup.scenario.events = vec![
        event(15, Action::Share { guest: 0, memory, unit }),
        event(20, Action::Private { guest: 0, memory, unit }),
    ];
    on_both(&setup, &[], |report| {
        let guests = report.guests;
        assert_eq!(guests.sizem_faults, guests.psmashes);
        assert!((1..=2).contains(&guests.psmashes), "{guests:?}");
        assert_eq!(guests.leaked_pages, 0);
        assert_eq!(report.optimized.optimizable_at_end, Some(1.0));
    });
}

#[test]
fn case_076_an_asid_whose_pages_leaked_is_refused() {
    // The first guest's ASID is the first to be used again.
    let mut setup = many_short_guests(1024);
    setup.scenario.events = vec![event(3, Action::Leak { guest: 0, pages: 1 })];
    on_both(&setup, &[], |report| {
        let refused = "guest 1022 rejected (2 MiB): SNP_ACTIVATE: INVALID_CONFIG(0x3)";
        assert!(guest_texts(report).contains(&refused), "{:#?}", guest_texts(report));
        assert_eq!(report.guests.firmware_errors, 1);
    });
}

#[test]
fn case_078_asids_are_flushed_before_they_are_used_again() {
    let setup = many_short_guests(1022);
    on_both(&setup, &[], |report| assert_eq!(report.guests.df_flushes, 0));
    on_both(&many_short_guests(1023), &[], |report| {
        assert_eq!((report.guests.df_flushes, report.guests.firmware_errors), (1, 0));
        // Each guest's end has one WBINVD of its own.
        assert_eq!(report.guests.wbinvds, 1023 + 1);
    });
}

#[test]
fn case_083_a_shutdown_with_dirty_asids_is_repeated_after_a_flush() {
    let mut setup = one_guest(Placement::Pages2M);
    setup.scenario.events = vec![event(60, Action::SnpShutdown)];
    on_both(&setup, &[], |report| {
        assert_eq!((report.guests.df_flushes, report.guests.firmware_errors), (1, 1));
        let shut = report.timeline.iter().any(|entry| entry.text.starts_with("SNP shut down"));
        assert!(shut, "{:#?}", report.timeline);
    });
}

#[test]
fn case_091_what_cannot_be_reclaimed_leaks_for_ever() {
    let mut setup = one_guest(Placement::Pages4K);
    setup.scenario.events = vec![event(20, Action::Leak { guest: 0, pages: 3 })];
    // All that is left is taken afterwards, in blocks of 2 MiB: the leak's is not among it.
    let mut rest = ordinary("rest", 1, Placement::Pages2M, 40, 50);
    let free = {
        let mut probe = setup.clone();
        rest.memory = 64 << 30;
        probe.scenario.guests.push(rest.clone());
        free_blocks(&run(&probe))
    };
    rest.memory = free << 21;
    setup.scenario.guests.push(rest);
    let no_leak = Setup { scenario: setup.scenario.clone(), ..setup.clone() };
    on_both(&setup, &[], |report| {
        assert_eq!((report.guests.reclaim_failures, report.guests.leaked_pages), (3, 3));
        let told = "guest: 3 pages could not be given back (RMPUPDATE: FAIL_INUSE(3)) and stay \
                    assigned";
        assert!(guest_texts(report).contains(&told), "{:#?}", guest_texts(report));
        assert!(report.map.states.contains('S'), "the leak pins its region");
    });
    // Without it there is one block more.
    let mut probe = no_leak;
    probe.scenario.events.clear();
    probe.scenario.guests[2].memory = 64 << 30;
    assert_eq!(free_blocks(&run(&probe)), free + 1);

    // The other way: the firmware does not reclaim the context page.
    let defect = Seeded { at: 0, defect: Defect::ReclaimFails, times: 1 };
    on_both(&one_guest(Placement::Pages2M), &[defect], |report| {
        assert_eq!((report.guests.reclaim_failures, report.guests.leaked_pages), (1, 1));
        assert!(report.map.states.contains('S'));
    });
}

/// Free blocks that a guest was told of that asked for too many.
fn free_blocks(report: &RunReport) -> u64 {
    let texts = guest_texts(report);
    let text = texts.iter().find(|text| text.contains("blocks of 2 MiB wanted")).expect("refused");
    let free = text.split("wanted, ").nth(1).and_then(|rest| rest.split(' ').next());
    free.and_then(|number| number.parse().ok()).expect("a number of free blocks")
}
