//! Closed forms that the lab must come to (spec/performance.md 4.3).

use snp_lab::scenario::{FidelityChoice, Placement, PolicyName};

use crate::common::{assert_lawful, host, run, seconds, snp};

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

const TWELVE_TIB: u64 = 12 * 1024;

/// Of 12 TiB in segments of 64 GiB 192 regions hold a segment's RMP, and four more other pages of
/// firmware's: dirty, whatever guests do, and shown as firmware's. The host kernel's page structures take
/// the top 64th of each node, where no guest's page can lie: 96 GiB, which is 94 and 93 regions without
/// firmware's. So the regions with guest memory are fewer than the closed form of all 12,288 says by some
/// 180 for firmware and as many for the kernel; of the others they are what it says, with the share of
/// what guests can get.
#[test]
fn twelve_tebibytes_come_to_the_closed_form_where_guests_can_be() {
    let mut setup = host(2, 4, TWELVE_TIB);
    setup.policy = PolicyName::Off;
    let mut guest = snp("one", 1, Placement::Scattered2M, 2, 100);
    let bytes = ((TWELVE_TIB << 30) / 200) >> 21 << 21;
    (guest.memory, guest.touched, guest.until) = (bytes, bytes, None);
    guest.convert_rate = Some(1 << 44);
    setup.scenario.guests.push(guest);
    setup.scenario.until = Some(seconds(20));
    let report = run(&setup);
    // Slots by node: 14 of node 0 have no RAM. The top 96 of each, and what the 97th has of its rest.
    let slots: Vec<char> = report.map.states.chars().collect();
    let (low, high) = slots.split_at(6_144 + 14);
    let count = |slots: &[char], letters: &str| {
        slots.iter().filter(|&&state| letters.contains(state)).count()
    };
    let (mut dirty, mut rest, mut kernel, mut firmware) = (0, 0, 0, 0);
    for node in [low, high] {
        let (guests, top) = node.split_at(node.len() - 96);
        dirty += count(guests, "S");
        rest += count(guests, "SNW");
        assert_eq!(count(top, "S"), 0, "no guest gets what the kernel has");
        kernel += count(top, "NW");
        firmware += count(node, "R");
    }
    assert_eq!((firmware, kernel), (196, 187));
    assert_eq!(firmware + kernel + rest, 12_288);
    let closed_form = |share: f64| 1.0 - (1.0 - share).powi(512);
    let found = dirty as f64 / rest as f64;
    let expected = closed_form(0.005 * 64.0 / 63.0);
    assert!((found / expected - 1.0).abs() < 0.01, "{found}, not {expected}");
    // Against all regions: what firmware's and the kernel's would have been, less that the others
    // hold their part of the pages.
    let short = closed_form(0.005) * 12_288.0 - dirty as f64;
    let (of_firmware, of_kernel) = (closed_form(0.005) * 196.0, closed_form(0.005) * 187.0);
    assert!((of_firmware - 181.0).abs() < 1.0 && (of_kernel - 173.0).abs() < 1.0);
    let denser = (expected - closed_form(0.005)) * rest as f64;
    assert!((short - (of_firmware + of_kernel - denser)).abs() < 60.0, "{short}");
}

/// RMPOPTs of the first pass over 12 TiB, recomputed: two windows of 2,048 slots, the first from 0 with
/// the 14 slots of the holes below 4 GiB and 1 TiB in it; four cores each, of which one leads. Firmware has
/// a region of each of the 64 segments, and regions 0, 1 and 4. Upstream's one window is the first.
#[test]
fn the_first_pass_over_twelve_tebibytes_is_what_the_windows_say() {
    let mut setup = host(2, 4, TWELVE_TIB);
    setup.fidelity = FidelityChoice::Extents;
    setup.scenario.until = Some(seconds(10));
    let of = |policy, setup: &mut snp_lab::scenario::Setup| {
        setup.policy = policy;
        run(setup)
    };
    let tracked = of(PolicyName::Tracked, &mut setup);
    assert_lawful(&tracked);
    let bases: Vec<_> = tracked.driver.windows.iter().map(|window| window.base_region).collect();
    assert_eq!(bases, [0, 14 + 6_144]);
    let with_ram = 2 * 2_048 - 14;
    assert_eq!(tracked.host.window_regions, with_ram);
    assert_eq!(tracked.rmpopt.leader, with_ram);
    assert_eq!(tracked.rmpopt.followers, 3 * (with_ram - 64 - 3));
    let v10 = of(PolicyName::V10, &mut setup);
    assert_eq!(v10.host.window_regions, 2_048 - 14);
    assert_eq!((v10.rmpopt.leader, v10.rmpopt.followers), (2_048, 7 * 2_048));
}
