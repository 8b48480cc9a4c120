//! LAUNCH_START, LAUNCH_UPDATE, LAUNCH_FINISH.

use crate::snp_defs::{FirmwareStatus, PageSize, PageState, RmpEntry, Spa};
use crate::snp_model::firmware::{
    lock_page, require, state_of, written, Answer, ApiVersion, Firmware, FirmwareStorage,
    GuestSlot, GuestState, LaunchCheck,
};
use crate::snp_model::page_lock::Governing;
use crate::snp_model::{Machine, Storage, UnitStorage};

/// A guest's policy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct GuestPolicy(pub u64);

impl GuestPolicy {
    /// Debug commands are allowed.
    pub const DEBUG: u64 = 1 << 19;

    /// The oldest firmware that the guest accepts: bits 15:8 and 7:0.
    pub const fn minimum(self) -> ApiVersion {
        ApiVersion { major: (self.0 >> 8) as u8, minor: self.0 as u8 }
    }
}

/// What LAUNCH_UPDATE makes of a page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PageType {
    /// 1: encrypted and measured.
    Normal,
    /// 2: a vCPU's save area.
    Vmsa,
    /// 3: zeroes.
    Zero,
    /// 4: encrypted, not measured.
    Unmeasured,
    /// 5: secrets.
    Secrets,
    /// 6: CPUID values.
    Cpuid {
        /// Every value is one that the firmware allows.
        allowed: bool,
    },
}

impl PageType {
    /// The type must be a 4K page.
    pub const fn is_small(self) -> bool {
        matches!(self, Self::Vmsa | Self::Secrets | Self::Cpuid { .. })
    }
}

/// Operand of LAUNCH_UPDATE.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LaunchPage {
    /// The page.
    pub spa: Spa,
    /// Its size.
    pub size: PageSize,
    /// What becomes of it.
    pub page_type: PageType,
    /// Rights of VMPL 1, 2 and 3.
    pub rights: [u8; 3],
    /// Reserved bits: must be 0.
    pub reserved: u64,
}

impl LaunchPage {
    /// A normal 4K page for VMPL 0 alone.
    pub const fn normal(spa: Spa) -> Self {
        Self {
            spa,
            size: PageSize::Size4K,
            page_type: PageType::Normal,
            rights: [0; 3],
            reserved: 0,
        }
    }
}

/// LAUNCH_FINISH's id block, as the firmware finds it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IdBlock {
    /// Its digest is that of the launch.
    pub digest_matches: bool,
    /// The policy in it.
    pub policy: GuestPolicy,
    /// Its algorithms are known.
    pub algorithm_known: bool,
    /// Its signature is good.
    pub signature_good: bool,
}

impl<F: FirmwareStorage> Firmware<F> {
    /// SNP_LAUNCH_START.
    pub fn launch_start<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
        gctx: Spa,
        policy: GuestPolicy,
    ) -> Answer {
        let _command = self.begin(host)?;
        let guest = self.guest(host, gctx)?;
        require(guest.state() == GuestState::Init, FirmwareStatus::INVALID_GUEST_STATE)?;
        require(policy.minimum() <= self.choices.version, FirmwareStatus::POLICY_FAILURE)?;
        guest.set_policy(policy.0);
        guest.set(GuestState::Launch, guest.asid());
        Ok(())
    }

    /// SNP_LAUNCH_UPDATE: Pre-guest becomes Guest-valid.
    pub fn launch_update<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
        gctx: Spa,
        operand: &LaunchPage,
    ) -> Answer {
        let _command = self.begin(host)?;
        require(operand.reserved == 0, FirmwareStatus::INVALID_PARAM)?;
        require(operand.spa.is_aligned(operand.size), FirmwareStatus::INVALID_ADDRESS)?;
        self.check_outside_rmp(operand.spa.pfn())?;
        let guest = self.guest(host, gctx)?;
        let page = lock_page(host, operand.spa.pfn())?;
        let (state, governing) = state_of(page.as_ref());
        for check in self.choices.launch_update.0 {
            check.run(guest, operand, state, &governing)?;
        }
        if operand.page_type == (PageType::Cpuid { allowed: false }) {
            // The contents are corrected; the page stays Pre-guest.
            return Err(FirmwareStatus::INVALID_PARAM);
        }
        let [vmpl1, vmpl2, vmpl3] = operand.rights.map(u64::from);
        let rights = RmpEntry::VMPL0_ALL | vmpl1 << 8 | vmpl2 << 16 | vmpl3 << 24;
        let entry = governing
            .entry
            .with_immutable(false)
            .with_validated(true)
            .with_vmsa(operand.page_type == PageType::Vmsa);
        if let Some(page) = page {
            page.put_governing(written(RmpEntry { hi: rights, ..entry }));
        }
        Ok(())
    }

    /// SNP_LAUNCH_FINISH; `imi` is the initial migration image's flag, which must be 0.
    pub fn launch_finish<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
        gctx: Spa,
        imi: bool,
        id_block: Option<IdBlock>,
    ) -> Answer {
        let _command = self.begin(host)?;
        let guest = self.guest(host, gctx)?;
        let launching = guest.state() == GuestState::Launch && !imi;
        require(launching, FirmwareStatus::INVALID_GUEST_STATE)?;
        require(guest.asid() != 0, FirmwareStatus::INACTIVE)?;
        if let Some(block) = id_block {
            require(block.digest_matches, FirmwareStatus::BAD_MEASUREMENT)?;
            require(block.policy.0 == guest.policy(), FirmwareStatus::POLICY_FAILURE)?;
            require(block.algorithm_known, FirmwareStatus::INVALID_PARAM)?;
            require(block.signature_good, FirmwareStatus::BAD_SIGNATURE)?;
        }
        guest.set(GuestState::Running, guest.asid());
        Ok(())
    }
}

impl LaunchCheck {
    fn run(
        self,
        guest: &GuestSlot,
        operand: &LaunchPage,
        state: PageState,
        page: &Governing,
    ) -> Answer {
        match self {
            Self::Size => {
                let small_enough =
                    !operand.page_type.is_small() || operand.size == PageSize::Size4K;
                require(
                    small_enough && page.size() == operand.size,
                    FirmwareStatus::INVALID_PAGE_SIZE,
                )
            }
            Self::GuestState => {
                require(guest.state() == GuestState::Launch, FirmwareStatus::INVALID_GUEST_STATE)
            }
            Self::Active => require(guest.asid() != 0, FirmwareStatus::INACTIVE),
            Self::PageState => {
                require(state == PageState::PreGuest, FirmwareStatus::INVALID_PAGE_STATE)
            }
            Self::Owner => {
                require(page.entry.asid() == guest.asid(), FirmwareStatus::INVALID_PAGE_OWNER)
            }
        }
    }
}
