//! Which case is where: here, with the host kernel's behaviour in snp-lab, or out of scope.

/// Cases about what the host's kernel does: snp-lab's `conformance` (`tests/lab/conformance.rs`), where
/// the kernel's part of some of the cases here is too.
const IN_SNP_LAB: [(u32, &str); 2] = [
    (63, "Linux refuses an RMP that the BIOS did not set up"),
    (91, "Linux leaks a page that cannot be reclaimed"),
];

/// Cases that no part of the model can show, and why.
const OUT_OF_SCOPE: [(u32, &str); 9] = [
    (86, "debug commands read and write contents, which the model does not have"),
    (92, "a store into the RMP while SNP_INIT writes it: the model's SNP_INIT is indivisible"),
    (93, "fabric routing: writes that get lost on their way are no rule of the RMP"),
    (94, "protection registers outside the RMP"),
    (95, "a core's configuration register, outside the RMP"),
    (96, "swap and move commands are not modelled"),
    (97, "INVD drops contents, which the model does not have"),
    (98, "aliased memory modules: two addresses for one memory"),
    (99, "contents of pages that the firmware reads and writes"),
];

/// The sources of the cases that run here.
const SOURCES: [&str; 7] = [
    include_str!("update.rs"),
    include_str!("guest.rs"),
    include_str!("access.rs"),
    include_str!("firmware_guests.rs"),
    include_str!("firmware_pages.rs"),
    include_str!("firmware_platform.rs"),
    include_str!("platform.rs"),
];

/// Where snp-lab's cases are.
const SNP_LAB: &str = include_str!("../../../snp-lab/tests/lab/conformance.rs");

#[test]
fn every_case_of_snp_lab_is_there() {
    for (number, what) in IN_SNP_LAB {
        let name = format!("fn case_{number:03}_");
        assert_eq!(SNP_LAB.matches(&name).count(), 1, "case {number}: {what}");
    }
}

#[test]
fn every_case_has_its_place() {
    let elsewhere: Vec<u32> =
        IN_SNP_LAB.iter().chain(&OUT_OF_SCOPE).map(|(number, _)| *number).collect();
    let mut here = 0;
    for number in 1..=100 {
        let name = format!("fn case_{number:03}_");
        let found = SOURCES.iter().map(|source| source.matches(&name).count()).sum::<usize>();
        let expected = usize::from(!elsewhere.contains(&number));
        assert_eq!(found, expected, "case {number}");
        here += found;
    }
    assert!(here >= 80 && OUT_OF_SCOPE.len() <= 15);
    assert_eq!(here + elsewhere.len(), 100);
}
