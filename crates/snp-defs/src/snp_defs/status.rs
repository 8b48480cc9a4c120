//! Result codes of the RMP instructions, as EAX returns them.
//!
//! Unknown values are kept, never dropped: later hardware may add some. Source: spec/snp-arch.md 3.2.

use core::fmt;

/// What RMPUPDATE, PSMASH, PVALIDATE, RMPADJUST, RMPQUERY and RMPREAD return in EAX.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RmpStatus(pub u32);

impl RmpStatus {
    /// 0: done.
    pub const SUCCESS: Self = Self(0);
    /// 1: a bad operand: alignment, coverage, reserved bits.
    pub const FAIL_INPUT: Self = Self(1);
    /// 2: not allowed: run with an ASID, or the entry is immutable.
    pub const FAIL_PERMISSION: Self = Self(2);
    /// 3: the entry is locked, or the page is in use by a running vCPU.
    pub const FAIL_INUSE: Self = Self(3);
    /// 4: page sizes overlap.
    pub const FAIL_OVERLAP: Self = Self(4);
    /// 6: page size differs from the entry's (PVALIDATE, RMPADJUST).
    pub const FAIL_SIZEMISMATCH: Self = Self(6);
    /// 7: the page does not meet PSMASH's requirements.
    pub const FAIL_BADADDR: Self = Self(7);

    /// Whether the instruction succeeded.
    pub const fn is_success(self) -> bool {
        self.0 == 0
    }

    /// The manual's name, `None` for a value that no source names.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "SUCCESS",
            1 => "FAIL_INPUT",
            2 => "FAIL_PERMISSION",
            3 => "FAIL_INUSE",
            4 => "FAIL_OVERLAP",
            6 => "FAIL_SIZEMISMATCH",
            7 => "FAIL_BADADDR",
            _ => return None,
        })
    }
}

impl fmt::Debug for RmpStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name}({})", self.0),
            None => write!(f, "RmpStatus({})", self.0),
        }
    }
}

impl fmt::Display for RmpStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_codes_are_kept() {
        assert_eq!(RmpStatus(5).name(), None);
        assert_eq!(
            format!("{:?} {}", RmpStatus(5), RmpStatus::FAIL_OVERLAP),
            "RmpStatus(5) FAIL_OVERLAP(4)"
        );
    }
}
