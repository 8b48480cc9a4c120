//! RMPOPT: the instruction's functions, its window, and MSR `RMPOPT_BASE`.
//!
//! RAX holds the address of a 1 GiB region, RCX the function; RFLAGS.CF = 1 says that the region is
//! optimised on this core. Each core keeps one bit per region for at most 2 TiB from the base in
//! `RMPOPT_BASE`. Source: spec/rmpopt.md 1 and 2.

use core::fmt;

use crate::snp_defs::{Region, REGION_BYTES};

/// What RMPOPT is asked to do (RCX).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RmpoptFunction {
    /// 0: read the RMP of the region, set or clear the bit, report it.
    Verify,
    /// 1: report the bit, read nothing.
    Report,
}

impl RmpoptFunction {
    /// The value in RCX.
    pub const fn rcx(self) -> u64 {
        match self {
            Self::Verify => 0,
            Self::Report => 1,
        }
    }
}

/// MSR `C001_0139` `RMPOPT_BASE`: per core, bit 0 enables, the rest is the window's 1 GiB-aligned base.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RmpoptBase(u64);

impl RmpoptBase {
    /// Reset and teardown value: disabled, base 0.
    pub const OFF: Self = Self(0);
    /// Bit 0 of the MSR.
    pub const ENABLE: u64 = 1;

    /// The value that enables RMPOPT with the window starting at `base`.
    pub const fn enabled_at(base: Region) -> Self {
        Self(base.base().get() | Self::ENABLE)
    }

    /// Reads a raw value; `Err` gives it back if bits are set that are neither enable nor base.
    pub const fn from_raw(raw: u64) -> Result<Self, u64> {
        let base = raw & !Self::ENABLE;
        if base % REGION_BYTES == 0 && (base / REGION_BYTES) < Region::LIMIT as u64 {
            Ok(Self(raw))
        } else {
            Err(raw)
        }
    }

    /// The raw value.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Whether the enable bit is set.
    pub const fn is_enabled(self) -> bool {
        self.0 & Self::ENABLE != 0
    }

    /// The 2 TiB that the core's table covers from the base on.
    pub const fn window(self) -> Window {
        match Region::new((self.0 / REGION_BYTES) as u32) {
            Some(base) => Window { base },
            None => Window { base: Region::ZERO },
        }
    }
}

impl fmt::Debug for RmpoptBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RmpoptBase({:#x})", self.0)
    }
}

/// The regions that a core's RMPOPT table covers: 2,048 from `base` on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Window {
    /// First region.
    pub base: Region,
}

impl Window {
    /// Regions in a window: 2 TiB of 1 GiB each.
    pub const REGIONS: u32 = 2048;

    /// Position of `region` inside the window (0 to 2,047), `None` outside.
    pub const fn slot(self, region: Region) -> Option<u32> {
        match region.get().checked_sub(self.base.get()) {
            Some(slot) if slot < Self::REGIONS => Some(slot),
            _ => None,
        }
    }

    /// Whether the window covers `region`.
    pub const fn covers(self, region: Region) -> bool {
        self.slot(region).is_some()
    }

    /// The region at a position inside the window, `None` past the window or past 2^52.
    pub const fn region(self, slot: u32) -> Option<Region> {
        if slot < Self::REGIONS {
            self.base.checked_add(slot)
        } else {
            None
        }
    }

    /// First region past the window (clamped to [`Region::LIMIT`]).
    pub const fn end(self) -> u32 {
        let end = self.base.get().saturating_add(Self::REGIONS);
        if end < Region::LIMIT {
            end
        } else {
            Region::LIMIT
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_round_trips_and_refuses_stray_bits() {
        let base = RmpoptBase::enabled_at(Region::new(1030).unwrap());
        assert_eq!(base.raw(), 1030 << 30 | 1);
        assert_eq!(RmpoptBase::from_raw(base.raw()), Ok(base));
        assert_eq!(RmpoptBase::from_raw(2), Err(2));
        assert_eq!(RmpoptBase::from_raw(1 << 52), Err(1 << 52));
        assert!(!RmpoptBase::OFF.is_enabled() && base.is_enabled());
        assert_eq!(base.window().base.get(), 1030);
    }

    #[test]
    fn a_window_is_two_tebibytes() {
        let window = Window { base: Region::new(16).unwrap() };
        assert_eq!(window.slot(Region::new(15).unwrap()), None);
        assert_eq!(window.slot(Region::new(16).unwrap()), Some(0));
        assert_eq!(window.slot(Region::new(16 + 2047).unwrap()), Some(2047));
        assert_eq!(window.slot(Region::new(16 + 2048).unwrap()), None);
        assert_eq!(window.region(2047).and_then(|r| window.slot(r)), Some(2047));
    }
}
