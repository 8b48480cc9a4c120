//! Page states: what an RMP entry's bits mean together (spec/snp-arch.md 4.1, APM table 15-35).

use core::fmt;

use crate::snp_defs::RmpEntry;

/// State of a page as the APM and AMD's firmware name it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PageState {
    /// No RMP entry: permanently hypervisor-owned.
    Default,
    /// Owned by the hypervisor.
    Hypervisor,
    /// Owned by the hypervisor for ever: reserved memory and MMIO.
    HvFixed,
    /// Owned by the AMD Secure Processor's firmware.
    Firmware,
    /// IOMMU log and completion buffers.
    FirmwareIommu,
    /// Given back by the firmware, not yet made shared.
    Reclaim,
    /// A guest's context page.
    Context,
    /// Swap metadata.
    Metadata,
    /// Assigned to a guest, not launched yet.
    PreGuest,
    /// A guest's page that is about to be swapped out.
    PreSwap,
    /// Assigned to a guest that has not accepted it.
    GuestInvalid,
    /// Assigned to a guest and accepted.
    GuestValid,
    /// None of the manual's states.
    Invalid,
}

impl PageState {
    /// Substate 0 in gpa bits 38:36 of an ASID-0 page: plain firmware page.
    pub const SUBSTATE_FIRMWARE: u64 = 0;
    /// Substate 1: metadata.
    pub const SUBSTATE_METADATA: u64 = 1;
    /// Substate 2: IOMMU buffer.
    pub const SUBSTATE_FW_IOMMU: u64 = 2;

    /// The state an entry encodes, evaluated in the order of AMD's firmware.
    pub const fn of(entry: RmpEntry) -> Self {
        let (assigned, validated, asid, immutable) =
            (entry.assigned(), entry.validated(), entry.asid(), entry.immutable());
        let gpa = entry.gpa_page();
        let substate = gpa >> 36;
        if !assigned {
            return match (validated, asid, immutable, entry.lock()) {
                (false, 0, false, _) => Self::Hypervisor,
                (false, 0, true, false) => Self::HvFixed,
                _ => Self::Invalid,
            };
        }
        if asid == 0 {
            return match (validated, immutable, entry.vmsa()) {
                (false, true, false) if gpa == 0 => Self::Firmware,
                (false, false, _) if !entry.lock() => Self::Reclaim,
                (false, true, true) if gpa == 0 => Self::Context,
                (false, true, _) if substate == Self::SUBSTATE_METADATA => Self::Metadata,
                (false, true, false)
                    if substate == Self::SUBSTATE_FW_IOMMU && gpa & 0xF_FFFF_FFFF == 1 =>
                {
                    Self::FirmwareIommu
                }
                _ => Self::Invalid,
            };
        }
        match (validated, immutable) {
            (false, true) => Self::PreGuest,
            (true, true) => Self::PreSwap,
            (false, false) => Self::GuestInvalid,
            (true, false) => Self::GuestValid,
        }
    }

    /// The manual's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "Default",
            Self::Hypervisor => "Hypervisor",
            Self::HvFixed => "HV-fixed",
            Self::Firmware => "Firmware",
            Self::FirmwareIommu => "Firmware-IOMMU",
            Self::Reclaim => "Reclaim",
            Self::Context => "Context",
            Self::Metadata => "Metadata",
            Self::PreGuest => "Pre-guest",
            Self::PreSwap => "Pre-swap",
            Self::GuestInvalid => "Guest-invalid",
            Self::GuestValid => "Guest-valid",
            Self::Invalid => "Invalid",
        }
    }
}

impl fmt::Display for PageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_the_table() {
        let guest = RmpEntry::default().with_assigned(true).with_asid(5);
        let fw = RmpEntry::default().with_assigned(true).with_immutable(true);
        for (entry, state) in [
            (RmpEntry::HYPERVISOR, PageState::Hypervisor),
            (RmpEntry::HV_FIXED, PageState::HvFixed),
            (RmpEntry::FIRMWARE, PageState::Firmware),
            (RmpEntry::FIRMWARE_IOMMU, PageState::FirmwareIommu),
            (RmpEntry::default().with_assigned(true), PageState::Reclaim),
            (fw.with_vmsa(true), PageState::Context),
            (fw.with_gpa_page(1 << 36 | 7), PageState::Metadata),
            (guest.with_immutable(true), PageState::PreGuest),
            (guest.with_immutable(true).with_validated(true), PageState::PreSwap),
            (guest, PageState::GuestInvalid),
            (guest.with_validated(true), PageState::GuestValid),
            (RmpEntry::default().with_asid(3), PageState::Invalid),
        ] {
            assert_eq!(PageState::of(entry), state, "{entry:?}");
        }
    }
}
