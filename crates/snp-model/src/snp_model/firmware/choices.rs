//! Switches of the firmware: version, and what sources leave open.

/// The firmware's interface version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ApiVersion {
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
}

/// The code for an address inside the RMP (spec/snp-arch.md case 81: one source each).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum RmpAddress {
    /// `INVALID_PARAM`, from the look-up of the entry.
    #[default]
    InvalidParam,
    /// `INVALID_ADDRESS`, from the range check before it.
    InvalidAddress,
}

/// One of LAUNCH_UPDATE's checks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LaunchCheck {
    /// `INVALID_PAGE_SIZE`: the entry's size, and 4K for the types that ask for it.
    Size,
    /// `INVALID_GUEST_STATE`: the guest is not in LAUNCH.
    GuestState,
    /// `INACTIVE`: it has no ASID.
    Active,
    /// `INVALID_PAGE_STATE`: the page is not Pre-guest.
    PageState,
    /// `INVALID_PAGE_OWNER`: the page is another guest's.
    Owner,
}

/// The order of LAUNCH_UPDATE's checks after that of the context page; the first that fails gives the
/// code. No source states it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaunchOrder(pub [LaunchCheck; 5]);

impl LaunchOrder {
    /// As PAGE_MOVE has it (spec/snp-arch.md 4.3).
    pub const SIZE_FIRST: Self = Self([
        LaunchCheck::Size,
        LaunchCheck::GuestState,
        LaunchCheck::Active,
        LaunchCheck::PageState,
        LaunchCheck::Owner,
    ]);
    /// The guest before its page, the page's state before its size.
    pub const GUEST_FIRST: Self = Self([
        LaunchCheck::GuestState,
        LaunchCheck::Active,
        LaunchCheck::PageState,
        LaunchCheck::Owner,
        LaunchCheck::Size,
    ]);
}

/// The switches in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FirmwareChoices {
    /// From 1.53 on a shutdown leaves IOMMU pages as Reclaim; before, as the hypervisor's with the
    /// head's count as it was.
    pub version: ApiVersion,
    /// An address inside the RMP.
    pub rmp_address: RmpAddress,
    /// LAUNCH_UPDATE's checks.
    pub launch_update: LaunchOrder,
}

impl FirmwareChoices {
    /// The first version that leaves IOMMU pages as Reclaim.
    pub const IOMMU_RECLAIM: ApiVersion = ApiVersion { major: 1, minor: 53 };
    /// The defaults.
    pub const DEFAULT: Self = Self {
        version: ApiVersion { major: 1, minor: 55 },
        rmp_address: RmpAddress::InvalidParam,
        launch_update: LaunchOrder::SIZE_FIRST,
    };
}

impl Default for FirmwareChoices {
    fn default() -> Self {
        Self::DEFAULT
    }
}
