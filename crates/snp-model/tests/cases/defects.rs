//! The cases see defects: each one that can be seeded turns the cases named here red.

use std::panic::catch_unwind;

use snp_model::Defect;

use super::support::with_defect;
use super::{access, firmware_guests, firmware_pages, firmware_platform, guest, update};

fn red_cases(defect: Defect) -> Vec<fn()> {
    match defect {
        Defect::CountLost => vec![update::case_012_large_update_over_one_small_page],
        Defect::ValidatedKept => {
            vec![update::case_015_another_guest_address, update::case_016_another_guest]
        }
        Defect::LockIgnored | Defect::InUseNotMarked => {
            vec![update::case_010_save_area_of_a_running_vcpu, update::case_023_smash_a_page_in_use]
        }
        Defect::SmashSameGpa => vec![update::case_024_smash],
        Defect::OwnerIgnored => vec![access::case_048_another_guests_page],
        Defect::ReverseMapIgnored => vec![access::case_049_two_pages_exchanged],
        Defect::ValidatedIgnored => vec![access::case_051_not_validated],
        Defect::SubsetIgnored => vec![guest::case_036_rmpadjust_grants_what_the_caller_lacks],
        Defect::CarryLost => vec![guest::case_028_pvalidate_twice],
        Defect::AsidStaysClean => vec![
            firmware_guests::case_078_activate_a_dirty_asid,
            firmware_platform::case_083_shutdown_with_a_dirty_asid,
        ],
        Defect::ReclaimSizeLast => vec![firmware_pages::case_080_reclaim_with_another_size],
        Defect::UnsmashPermissionsIgnored => vec![firmware_pages::case_082_unsmash],
    }
}

#[test]
fn every_defect_turns_its_cases_red() {
    for defect in Defect::ALL {
        for case in red_cases(defect) {
            with_defect(None, case);
            let red = catch_unwind(|| with_defect(Some(defect), case)).is_err();
            with_defect(None, || {});
            assert!(red, "{defect:?} is not seen");
        }
    }
}
