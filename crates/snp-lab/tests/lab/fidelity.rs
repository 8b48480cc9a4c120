//! Extents against pages: the same verdicts, counters and times.

use crate::common::{assert_lawful, event, host, run, snp};
use proptest::prelude::*;
use snp_lab::report::RunReport;
use snp_lab::scenario::{
    Action, FidelityChoice, Grain, GuestKind, GuestSpec, Placement, PolicyName, SECOND, Setup,
};

/// The report without the name of the fidelity.
fn comparable(mut report: RunReport) -> RunReport {
    report.fidelity = "";
    report
}

fn guest() -> impl Strategy<Value = GuestSpec> {
    let placement = prop::sample::select(Placement::ALL.to_vec());
    let accept = prop::sample::select(Grain::ALL.to_vec());
    let life = (2u64..30, 1u64..25_000);
    // SNP guests three times of four.
    (placement, 1u64..1024, life, 1u64..=4, 0u8..4, accept).prop_map(
        |(placement, mib, (at, lasts_ms), quarters, kind, accept)| {
            let mut guest = snp("", 1, placement, at, at);
            guest.until = Some(guest.at + lasts_ms * 1_000_000);
            guest.accept = accept;
            guest.kind = if kind > 0 { GuestKind::Snp } else { GuestKind::Ordinary };
            // Odd sizes for 4 KiB placements: partly assigned blocks.
            guest.memory = (mib << 20) + if placement.page_bytes() == 4096 { 12 << 10 } else { 0 };
            guest.touched = (guest.memory * quarters / 4).next_multiple_of(4096).min(guest.memory);
            guest
        },
    )
}

fn setup() -> impl Strategy<Value = Setup> {
    let guests = prop::collection::vec(guest(), 1..6);
    let unit = prop::sample::select(vec![None, Some(Grain::Small), Some(Grain::Large)]);
    let conversion = (0usize..6, 1u64..9_000, 3u64..40, any::<bool>(), unit);
    let conversions = prop::collection::vec(conversion, 0..6);
    let leaks = prop::collection::vec((0usize..6, 1u64..700, 3u64..30), 0..3);
    let policy = prop::sample::select(PolicyName::ALL.to_vec());
    (guests, conversions, leaks, policy, any::<u64>(), prop::option::of(20u64..50)).prop_map(
        |(mut guests, conversions, leaks, policy, seed, shutdown)| {
            let mut setup = host(1, 3, 8);
            for (index, guest) in guests.iter_mut().enumerate() {
                guest.name = format!("g{index}");
            }
            let count = guests.len();
            setup.scenario.events = conversions
                .into_iter()
                .map(|(guest, pages, at, share, unit)| {
                    // Odd numbers of pages: parts of 2 MiB entries.
                    let (guest, memory) = (guest % count, pages << 12);
                    let action = if share {
                        Action::Share { guest, memory, unit }
                    } else {
                        Action::Private { guest, memory, unit }
                    };
                    event(at, action)
                })
                .chain(leaks.into_iter().map(|(guest, pages, at)| {
                    event(at, Action::Leak { guest: guest % count, pages })
                }))
                .chain(shutdown.map(|at| event(at, Action::SnpShutdown)))
                .collect();
            setup.scenario.events.sort_by_key(|event| event.at);
            setup.scenario.guests = guests;
            setup.scenario.until = Some(70 * SECOND);
            setup.policy = policy;
            setup.seed = seed;
            setup
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn extents_and_pages_agree(setup in setup()) {
        let pages = run(&Setup { fidelity: FidelityChoice::Pages, ..setup.clone() });
        let extents = run(&Setup { fidelity: FidelityChoice::Extents, ..setup });
        prop_assert_eq!(pages.law_violations, 0, "{:#?}", &pages.laws);
        prop_assert_eq!(comparable(pages), comparable(extents));
    }
}

#[test]
fn they_agree_on_the_largest_host_of_pages() {
    let mut setup = host(2, 4, 64);
    setup.scenario.guests =
        vec![snp("a", 12, Placement::Pages4K, 3, 60), snp("b", 8, Placement::Pages1G, 4, 50)];
    setup.scenario.until = Some(100 * SECOND);
    let pages = run(&Setup { fidelity: FidelityChoice::Pages, ..setup.clone() });
    let extents = run(&Setup { fidelity: FidelityChoice::Extents, ..setup });
    assert_lawful(&pages);
    assert_eq!(comparable(pages), comparable(extents));
}
