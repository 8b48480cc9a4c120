//! Page states: every combination of an entry's bits against the table of the firmware's source
//! (spec/snp-arch.md 4.1), written out as that table is.

use snp_defs::{PageState, RmpEntry};

/// A row: state, then assigned, validated, has an ASID, immutable, lock, gpa, vmsa; `None` is "any".
type Row = (PageState, bool, bool, bool, bool, Option<bool>, fn(u64) -> bool, Option<bool>);

const ANY: fn(u64) -> bool = |_| true;

/// In the order in which the firmware tests them: the first that fits is the state.
const TABLE: [Row; 11] = [
    (PageState::Hypervisor, false, false, false, false, None, ANY, None),
    (PageState::HvFixed, false, false, false, true, Some(false), ANY, None),
    (PageState::Firmware, true, false, false, true, None, |gpa| gpa == 0, Some(false)),
    (PageState::Reclaim, true, false, false, false, Some(false), ANY, None),
    (PageState::Context, true, false, false, true, None, |gpa| gpa == 0, Some(true)),
    (PageState::Metadata, true, false, false, true, None, |gpa| gpa >> 36 == 1, None),
    (PageState::PreGuest, true, false, true, true, None, ANY, None),
    (PageState::PreSwap, true, true, true, true, None, ANY, None),
    (PageState::GuestInvalid, true, false, true, false, None, ANY, None),
    (PageState::GuestValid, true, true, true, false, None, ANY, None),
    (
        PageState::FirmwareIommu,
        true,
        false,
        false,
        true,
        None,
        |gpa| gpa == 0x20_0000_0001,
        Some(false),
    ),
];

fn expected(entry: RmpEntry) -> PageState {
    let any = |want: Option<bool>, is: bool| want.is_none_or(|want| want == is);
    TABLE
        .iter()
        .find(|&&(_, assigned, validated, guest, immutable, lock, gpa, vmsa)| {
            (entry.assigned(), entry.validated()) == (assigned, validated)
                && (entry.asid() != 0, entry.immutable()) == (guest, immutable)
                && any(lock, entry.lock())
                && gpa(entry.gpa_page())
                && any(vmsa, entry.vmsa())
        })
        .map_or(PageState::Invalid, |row| row.0)
}

#[test]
fn every_combination_has_the_state_of_the_table() {
    let gpas =
        [0, 1, 7, 1 << 36, 1 << 36 | 7, 2 << 36, 2 << 36 | 1, 2 << 36 | 2, 3 << 36 | 1, 4 << 36];
    for bits in 0..64u32 {
        let on = |bit: u32| bits >> bit & 1 == 1;
        for asid in [0, 1, 1023] {
            for gpa in gpas {
                let entry = RmpEntry::default()
                    .with_assigned(on(0))
                    .with_validated(on(1))
                    .with_immutable(on(2))
                    .with_lock(on(3))
                    .with_vmsa(on(4))
                    .with_subpage_count(if on(5) { 511 } else { 0 })
                    .with_asid(asid)
                    .with_gpa_page(gpa);
                assert_eq!(PageState::of(entry), expected(entry), "{entry:?}");
            }
        }
    }
}

#[test]
fn names_are_the_manuals() {
    for (state, name) in [
        (PageState::Default, "Default"),
        (PageState::Hypervisor, "Hypervisor"),
        (PageState::HvFixed, "HV-fixed"),
        (PageState::Firmware, "Firmware"),
        (PageState::FirmwareIommu, "Firmware-IOMMU"),
        (PageState::Reclaim, "Reclaim"),
        (PageState::Context, "Context"),
        (PageState::Metadata, "Metadata"),
        (PageState::PreGuest, "Pre-guest"),
        (PageState::PreSwap, "Pre-swap"),
        (PageState::GuestInvalid, "Guest-invalid"),
        (PageState::GuestValid, "Guest-valid"),
        (PageState::Invalid, "Invalid"),
    ] {
        assert_eq!(format!("{state:>14}"), format!("{name:>14}"));
    }
}
