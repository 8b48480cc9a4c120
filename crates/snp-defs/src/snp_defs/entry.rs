//! The raw RMP entry in memory, Milan and Genoa form: two little-endian quadwords.
//!
//! Not architectural: later families may differ, software uses RMPREAD there. Bit positions are from
//! AMD's published firmware (`sev_rmp.h`) and Linux (`struct rmpentry`): spec/snp-arch.md 2.3.

use core::fmt;

use crate::snp_defs::PageSize;

/// One RMP entry: `lo` is the quadword with `assigned`, `hi` holds the VMPL permissions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub struct RmpEntry {
    /// First quadword.
    pub lo: u64,
    /// Second quadword.
    pub hi: u64,
}

const _: () = assert!(core::mem::size_of::<RmpEntry>() == RmpEntry::BYTES as usize);

/// A bit field of a quadword: shift and width.
#[derive(Clone, Copy)]
struct Field {
    shift: u32,
    bits: u32,
}

impl Field {
    const fn mask(self) -> u64 {
        ((1 << self.bits) - 1) << self.shift
    }
    const fn get(self, word: u64) -> u64 {
        (word & self.mask()) >> self.shift
    }
    const fn set(self, word: u64, value: u64) -> u64 {
        (word & !self.mask()) | ((value << self.shift) & self.mask())
    }
}

const ASSIGNED: Field = Field { shift: 0, bits: 1 };
const PAGE_SIZE: Field = Field { shift: 1, bits: 1 };
const IMMUTABLE: Field = Field { shift: 2, bits: 1 };
const SUBPAGE_COUNT: Field = Field { shift: 3, bits: 9 };
const GPA_PAGE: Field = Field { shift: 12, bits: 39 };
const ASID: Field = Field { shift: 51, bits: 10 };
const VMSA: Field = Field { shift: 61, bits: 1 };
const VALIDATED: Field = Field { shift: 62, bits: 1 };
const LOCK: Field = Field { shift: 63, bits: 1 };

macro_rules! flag {
    ($(#[$doc:meta])* $get:ident, $with:ident, $field:ident) => {
        $(#[$doc])*
        pub const fn $get(self) -> bool {
            $field.get(self.lo) == 1
        }
        #[doc = concat!("The entry with `", stringify!($get), "` set to `on`.")]
            pub const fn $with(self, on: bool) -> Self {
            Self { lo: $field.set(self.lo, on as u64), hi: self.hi }
        }
    };
}

impl RmpEntry {
    /// Bytes of one entry: RMP memory is 16/4096 of what it covers.
    pub const BYTES: u64 = 16;
    /// Hypervisor-owned: all zero.
    pub const HYPERVISOR: Self = Self { lo: 0, hi: 0 };
    /// HV-fixed as the firmware writes it: raw `0x4` (spec/snp-arch.md 2.3).
    pub const HV_FIXED: Self = Self { lo: 1 << 2, hi: 0 };
    /// Firmware page as the firmware writes it: raw `0x8000000000000005` (lock follows immutable).
    pub const FIRMWARE: Self = Self { lo: 0x8000_0000_0000_0005, hi: 0 };
    /// Firmware-IOMMU page: raw `0x2000000001` in the gpa field (spec/snp-arch.md 2.3), immutable, lock.
    pub const FIRMWARE_IOMMU: Self =
        Self { lo: GPA_PAGE.set(0x8000_0000_0000_0005, 0x20_0000_0001), hi: 0 };
    /// The ASID that the firmware writes to keep microcode off an entry it is changing.
    pub const BUSY_ASID: u32 = 0x3FF;
    /// VMPL0 permission byte after RMPUPDATE: R, W, X-user, X-supervisor, shadow stack (all).
    pub const VMPL0_ALL: u64 = 0x1F;
    /// The bits of `lo` that hold [`Self::subpage_count`]; only the head entry of a 4K block uses them.
    pub const SUBPAGE_COUNT_MASK: u64 = SUBPAGE_COUNT.mask();
    /// Added to `lo` per assigned sub-page.
    pub const SUBPAGE_COUNT_ONE: u64 = 1 << SUBPAGE_COUNT.shift;
    /// The assigned bit of `lo`.
    pub const ASSIGNED_BIT: u64 = ASSIGNED.mask();
    /// The page-size bit of `lo` (set: 2M).
    pub const PAGE_SIZE_BIT: u64 = PAGE_SIZE.mask();

    flag!(
        /// Assigned to a guest or to the firmware.
        assigned, with_assigned, ASSIGNED
    );
    flag!(
        /// Software may not change the entry any more, only firmware.
        immutable, with_immutable, IMMUTABLE
    );
    flag!(
        /// The page is a vCPU save area.
        vmsa, with_vmsa, VMSA
    );
    flag!(
        /// The guest has accepted the page (PVALIDATE).
        validated, with_validated, VALIDATED
    );
    flag!(
        /// Locked by firmware or in use by a running vCPU.
        lock, with_lock, LOCK
    );

    /// Page size of the entry.
    pub const fn page_size(self) -> PageSize {
        PageSize::from_bit(PAGE_SIZE.get(self.lo))
    }

    /// The entry with another page size.
    pub const fn with_page_size(self, size: PageSize) -> Self {
        Self { lo: PAGE_SIZE.set(self.lo, size.bit()), hi: self.hi }
    }

    /// Head entry of a 4K block only: assigned 4K pages among the other 511 of the 2M block.
    pub const fn subpage_count(self) -> u16 {
        SUBPAGE_COUNT.get(self.lo) as u16
    }

    /// The entry with another sub-page count (0 to 511).
    pub const fn with_subpage_count(self, count: u16) -> Self {
        Self { lo: SUBPAGE_COUNT.set(self.lo, count as u64), hi: self.hi }
    }

    /// The gpa field: guest page number, 39 bits. In firmware pages it holds firmware's own data.
    pub const fn gpa_page(self) -> u64 {
        GPA_PAGE.get(self.lo)
    }

    /// The entry with another gpa field (39 bits).
    pub const fn with_gpa_page(self, page: u64) -> Self {
        Self { lo: GPA_PAGE.set(self.lo, page), hi: self.hi }
    }

    /// Owning guest's ASID, 0 for none (10 bits).
    pub const fn asid(self) -> u32 {
        ASID.get(self.lo) as u32
    }

    /// The entry with another ASID (10 bits).
    pub const fn with_asid(self, asid: u32) -> Self {
        Self { lo: ASID.set(self.lo, asid as u64), hi: self.hi }
    }

    /// Permission byte of VMPL 0 to 3 (0 for any other).
    pub const fn vmpl_permissions(self, vmpl: u32) -> u8 {
        if vmpl < 4 {
            (self.hi >> (8 * vmpl)) as u8
        } else {
            0
        }
    }

    /// The largest ASID the raw entry can hold.
    pub const MAX_ASID: u32 = (1 << ASID.bits) - 1;
    /// The largest guest page number the raw entry can hold.
    pub const MAX_GPA_PAGE: u64 = (1 << GPA_PAGE.bits) - 1;
}

impl fmt::Debug for RmpEntry {
    /// As Linux dumps it: `[lo - hi]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#018x} - {:#018x}]", self.lo, self.hi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dumps seen in the field; expected fields as decoded in spec/snp-arch.md 2.3.
    #[test]
    fn decodes_dumps_from_the_field() {
        let vmsa = RmpEntry { lo: 0x6010_ffff_ffff_f001, hi: 0x1f };
        assert!(vmsa.assigned() && vmsa.vmsa() && vmsa.validated() && !vmsa.lock());
        assert_eq!((vmsa.asid(), vmsa.gpa_page() << 12), (2, 0xFFFF_FFFF_F000));
        assert_eq!(vmsa.vmpl_permissions(0), 0x1f);

        let running = RmpEntry { lo: 0xfff0_0000_0014_4001, hi: 0x0f };
        assert!(running.lock() && running.vmsa());
        assert_eq!((running.asid(), running.gpa_page() << 12), (1022, 0x14_4000));

        let tail = RmpEntry { lo: 0x8000_0000_0000_07fd, hi: 0 };
        assert!(tail.assigned() && tail.immutable() && tail.lock());
        assert_eq!(tail.subpage_count(), 255);
        assert_eq!(RmpEntry::FIRMWARE.lo, 0x8000_0000_0000_0005);
        assert_eq!(RmpEntry::HV_FIXED.lo, 4);
    }

    #[test]
    fn fields_do_not_touch_each_other() {
        let all = RmpEntry { lo: u64::MAX, hi: u64::MAX };
        assert_eq!(all.with_subpage_count(0).lo, !(0x1FF << 3));
        assert_eq!(all.with_asid(0).lo, !(0x3FF << 51));
        assert_eq!(all.with_gpa_page(0).lo, !(0x7F_FFFF_FFFF << 12));
        assert_eq!(RmpEntry::default().with_asid(u32::MAX).lo, 0x3FF << 51);
        assert_eq!(RmpEntry::default().with_page_size(PageSize::Size2M).lo, 2);
    }
}
