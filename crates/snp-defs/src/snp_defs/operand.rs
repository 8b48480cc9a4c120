//! The 16-byte operand in memory: RMPUPDATE reads it, RMPREAD writes it.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | gpa, an address, not shifted |
//! | 8 | 1 | assigned (bit 0) |
//! | 9 | 1 | page size (bit 0); RMPREAD only: bit 1, some 4K page of this 2M block is assigned |
//! | 10 | 1 | immutable (bit 0) |
//! | 11 | 1 | reserved |
//! | 12 | 4 | asid |
//!
//! Source: spec/snp-arch.md 2.6 (Linux `struct rmp_state`, `rmpread()`).

use crate::snp_defs::{Gpa, PageSize};

/// The operand as it lies in memory, every bit kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct RmpOperand {
    /// Guest physical address in bytes.
    pub gpa: u64,
    /// Bit 0: assigned. Others reserved.
    pub assigned: u8,
    /// Bit 0: page size. Bit 1: [`Self::BLOCK_HAS_ASSIGNED`]. Others reserved.
    pub page_size: u8,
    /// Bit 0: immutable. Others reserved.
    pub immutable: u8,
    /// Reserved, must be zero for RMPUPDATE.
    pub reserved: u8,
    /// Address space identifier of the owning guest, 0 for none.
    pub asid: u32,
}

const _: () = assert!(size_of::<RmpOperand>() == 16 && align_of::<RmpOperand>() == 8);
const _: () = assert!(core::mem::offset_of!(RmpOperand, asid) == 12);

use core::mem::{align_of, size_of};

impl RmpOperand {
    /// RMPREAD's `hpage_region_status`: some 4K page of the 2M block is assigned.
    pub const BLOCK_HAS_ASSIGNED: u8 = 1 << 1;

    /// Back to the hypervisor: all zero but the page size.
    pub const fn shared(size: PageSize) -> Self {
        Self {
            gpa: 0,
            assigned: 0,
            page_size: size.bit() as u8,
            immutable: 0,
            reserved: 0,
            asid: 0,
        }
    }

    /// A guest's private page (Linux `rmp_make_private`).
    pub const fn private(gpa: Gpa, size: PageSize, asid: u32, immutable: bool) -> Self {
        Self {
            gpa: gpa.get(),
            assigned: 1,
            page_size: size.bit() as u8,
            immutable: immutable as u8,
            reserved: 0,
            asid,
        }
    }

    /// A 4K page for the firmware: assigned, ASID 0, immutable (Linux `rmp_mark_pages_firmware`).
    pub const fn firmware() -> Self {
        Self::private(Gpa::ZERO, PageSize::Size4K, 0, true)
    }

    /// Whether the new state is assigned.
    pub const fn is_assigned(&self) -> bool {
        self.assigned & 1 == 1
    }

    /// Page size of the new state.
    pub const fn size(&self) -> PageSize {
        PageSize::from_bit((self.page_size & 1) as u64)
    }

    /// Whether the new state is immutable.
    pub const fn is_immutable(&self) -> bool {
        self.immutable & 1 == 1
    }

    /// Whether any bit is set that RMPUPDATE reserves.
    pub const fn has_reserved_bits(&self) -> bool {
        self.assigned & !1 != 0
            || self.page_size & !1 != 0
            || self.immutable & !1 != 0
            || self.reserved != 0
    }

    /// The operand's bytes as software lays them out.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (gpa, rest) = bytes.split_at_mut(8);
        gpa.copy_from_slice(&self.gpa.to_le_bytes());
        let (flags, asid) = rest.split_at_mut(4);
        flags.copy_from_slice(&[self.assigned, self.page_size, self.immutable, self.reserved]);
        asid.copy_from_slice(&self.asid.to_le_bytes());
        bytes
    }

    /// Reads the bytes that software laid out.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let [g0, g1, g2, g3, g4, g5, g6, g7, assigned, page_size, immutable, reserved, a0, a1, a2, a3] =
            bytes;
        Self {
            gpa: u64::from_le_bytes([g0, g1, g2, g3, g4, g5, g6, g7]),
            assigned,
            page_size,
            immutable,
            reserved,
            asid: u32::from_le_bytes([a0, a1, a2, a3]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_follow_the_layout() {
        let gpa = Gpa::new(0x14_4000).unwrap();
        let operand = RmpOperand::private(gpa, PageSize::Size2M, 1022, true);
        let bytes = operand.to_bytes();
        assert_eq!(bytes[..8], 0x14_4000u64.to_le_bytes());
        assert_eq!(bytes[8..12], [1, 1, 1, 0]);
        assert_eq!(bytes[12..], 1022u32.to_le_bytes());
        assert_eq!(RmpOperand::from_bytes(bytes), operand);
    }

    #[test]
    fn reserved_bits_are_seen() {
        let clean = RmpOperand::shared(PageSize::Size4K);
        assert!(!clean.has_reserved_bits());
        for change in [
            RmpOperand { assigned: 2, ..clean },
            RmpOperand { page_size: 2, ..clean },
            RmpOperand { immutable: 0x80, ..clean },
            RmpOperand { reserved: 1, ..clean },
        ] {
            assert!(change.has_reserved_bits(), "{change:?}");
        }
    }
}
