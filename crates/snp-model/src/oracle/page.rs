//! A page's RMP entry, a field for each thing it says.

use ::snp_defs::{PageSize, PageState, RmpEntry};

/// A page's RMP entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // The entry's own bits.
pub struct Page {
    /// Assigned.
    pub assigned: bool,
    /// Head of a 2M page.
    pub large: bool,
    /// Immutable.
    pub immutable: bool,
    /// Locked.
    pub lock: bool,
    /// Accepted by the guest.
    pub validated: bool,
    /// A vCPU save area.
    pub vmsa: bool,
    /// Owner.
    pub asid: u32,
    /// Guest address, or firmware's own data.
    pub gpa: u64,
    /// Rights of VMPL 0 to 3.
    pub rights: [u8; 4],
}

impl Page {
    pub(super) const HYPERVISOR: Self = Self {
        assigned: false,
        large: false,
        immutable: false,
        lock: false,
        validated: false,
        vmsa: false,
        asid: 0,
        gpa: 0,
        rights: [0; 4],
    };
    pub(super) const HV_FIXED: Self = Self { immutable: true, ..Self::HYPERVISOR };
    pub(super) const FIRMWARE: Self =
        Self { assigned: true, immutable: true, lock: true, ..Self::HYPERVISOR };
    pub(super) const FIRMWARE_IOMMU: Self = Self { gpa: 0x20_0000_0001 << 12, ..Self::FIRMWARE };

    /// The fields of a raw entry; its count of assigned sub-pages is the model's business.
    #[must_use]
    pub fn of(entry: RmpEntry) -> Self {
        Self {
            assigned: entry.assigned(),
            large: entry.page_size() == PageSize::Size2M,
            immutable: entry.immutable(),
            lock: entry.lock(),
            validated: entry.validated(),
            vmsa: entry.vmsa(),
            asid: entry.asid(),
            gpa: entry.gpa_page() * 4096,
            rights: [0, 1, 2, 3].map(|vmpl| entry.vmpl_permissions(vmpl)),
        }
    }

    pub(super) const fn size(&self) -> PageSize {
        if self.large {
            PageSize::Size2M
        } else {
            PageSize::Size4K
        }
    }

    /// What the fields mean together (spec/snp-arch.md 4.1).
    pub(super) fn state(self) -> PageState {
        let Self { assigned, validated, asid, immutable, vmsa, gpa, lock, .. } = self;
        match (assigned, validated, asid != 0, immutable) {
            (false, false, false, false) => PageState::Hypervisor,
            (false, false, false, true) if !lock => PageState::HvFixed,
            (true, false, false, true) if gpa == 0 && !vmsa => PageState::Firmware,
            (true, false, false, true) if gpa == 0 => PageState::Context,
            (true, false, false, true) if gpa >> 48 == 1 => PageState::Metadata,
            (true, false, false, true) if gpa == 0x20_0000_0001 << 12 && !vmsa => {
                PageState::FirmwareIommu
            }
            (true, false, false, false) if !lock => PageState::Reclaim,
            (true, false, true, true) => PageState::PreGuest,
            (true, true, true, true) => PageState::PreSwap,
            (true, false, true, false) => PageState::GuestInvalid,
            (true, true, true, false) => PageState::GuestValid,
            _ => PageState::Invalid,
        }
    }
}
