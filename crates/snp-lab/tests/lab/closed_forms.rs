//! Closed forms that the lab must come to (spec/performance.md 4.3).

use snp_lab::scenario::{Placement, PolicyName};

use crate::common::{host, run, snp};

/// Regions with SNP guest memory, and all regions but those that hold firmware's pages.
fn dirty(placement: Placement, bytes: u64, seed: u64) -> (u64, u64) {
    let mut setup = host(1, 4, 2 * 1024);
    (setup.seed, setup.policy) = (seed, PolicyName::Off);
    let mut guest = snp("one", 1, placement, 2, 100);
    // Ends long after all its memory is private, and long after the run.
    (guest.memory, guest.touched, guest.until) = (bytes, bytes, None);
    guest.convert_rate = Some(1 << 40);
    setup.scenario.guests.push(guest);
    setup.scenario.until = Some(20_000_000_000);
    let report = run(&setup);
    let of =
        |letter: char| report.map.states.chars().filter(|&state| state == letter).count() as u64;
    let dirty = of('S');
    (dirty, dirty + of('N'))
}

/// Random scatter of chunks c with SNP share s: 1 - (1 - s)^(1 GB / c) of the regions are dirty.
#[test]
fn random_scatter_dirties_what_the_closed_form_says() {
    for (per_mille, seeds) in [(1, 24), (3, 12), (10, 4)] {
        let bytes = ((2u64 << 40) * per_mille / 1000) >> 21 << 21;
        let (mut all_dirty, mut all) = (0, 0);
        for seed in 1..=seeds {
            let (dirty, regions) = dirty(Placement::Scattered2M, bytes, seed);
            all_dirty += dirty;
            all += regions;
        }
        let found = all_dirty as f64 / all as f64;
        let expected = 1.0 - (1.0 - per_mille as f64 / 1000.0).powi(512);
        assert!((found / expected - 1.0).abs() < 0.01, "{per_mille}: {found}, not {expected}");
    }
}

/// Aligned chunks of 1 GiB: as many regions as the guest has.
#[test]
fn aligned_gigabytes_dirty_their_own_regions_alone() {
    let (dirty, _) = dirty(Placement::Pages1G, 123 << 30, 1);
    // One more: the context page and save areas lie elsewhere.
    assert!((123..=124).contains(&dirty), "{dirty}");
}
