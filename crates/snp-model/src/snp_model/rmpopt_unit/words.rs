//! The three packed words of the unit: a core's, a region's, a cached scan's. Their layout is drawn
//! at the head of the parent module.

use crate::snp_defs::{RmpoptBase, REGION_SHIFT};

/// A core's word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct CoreWord(pub(super) u64);

impl CoreWord {
    pub(super) const SNP_EN: u64 = 1 << 1;
    pub(super) const BUSY: u64 = 1 << 2;
    pub(super) const EPOCH_SHIFT: u32 = 8;
    pub(super) const EPOCH: u64 = 0xFFFF << Self::EPOCH_SHIFT;
    pub(super) const BASE: u64 = ((1 << 52) - 1) & !((1 << REGION_SHIFT) - 1);
    pub(super) const MSR: u64 = Self::BASE | RmpoptBase::ENABLE;

    pub(super) const fn msr(self) -> RmpoptBase {
        match RmpoptBase::from_raw(self.0 & Self::MSR) {
            Ok(base) => base,
            Err(_) => RmpoptBase::OFF,
        }
    }

    pub(super) const fn snp_en(self) -> bool {
        self.0 & Self::SNP_EN != 0
    }

    pub(super) const fn busy(self) -> bool {
        self.0 & Self::BUSY != 0
    }

    pub(super) const fn is_enabled(self) -> bool {
        self.0 & RmpoptBase::ENABLE != 0
    }

    /// 1 to 65,535; 0 only in a word that was never used, whose table is empty.
    pub(super) const fn epoch(self) -> u64 {
        (self.0 & Self::EPOCH) >> Self::EPOCH_SHIFT
    }

    /// The epoch after this one, never 0.
    pub(super) const fn next_epoch(self) -> u64 {
        match self.epoch() {
            0xFFFF => 1,
            epoch => epoch + 1,
        }
    }

    pub(super) const fn with(self, epoch: u64, msr: RmpoptBase) -> Self {
        Self(
            (self.0 & !(Self::EPOCH | Self::MSR))
                | ((epoch << Self::EPOCH_SHIFT) & Self::EPOCH)
                | msr.raw(),
        )
    }
}

/// A region's word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct RegionWord(pub(super) u64);

impl RegionWord {
    pub(super) const IN_FLIGHT: u64 = 0xFFFF;
    pub(super) const GENERATION_ONE: u64 = 1 << 16;

    /// A fresh word is 0; its generation is 1, so that no entry of 0 matches.
    pub(super) const fn generation(self) -> u64 {
        (self.0 >> 16).wrapping_add(1) & ((1 << 48) - 1)
    }

    pub(super) const fn is_quiet(self) -> bool {
        self.0 & Self::IN_FLIGHT == 0
    }

    /// The table entry whose bit is set at this generation.
    pub(super) const fn entry(self, epoch: u64) -> u64 {
        (self.generation() << 16) | epoch
    }
}

/// A region's cached scan result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct CacheWord(pub(super) u64);

impl CacheWord {
    pub(super) const VALID: u64 = 2;

    pub(super) const fn of(generation: u64, assigned: bool) -> Self {
        Self((generation << 2) | Self::VALID | assigned as u64)
    }
    pub(super) const fn is_valid(self) -> bool {
        self.0 & Self::VALID != 0
    }
    pub(super) const fn assigned(self) -> bool {
        self.0 & 1 != 0
    }
    pub(super) const fn generation(self) -> u64 {
        self.0 >> 2
    }
}
