//! Address types that cannot be mixed.
//!
//! The RMP is indexed by *system* physical address, holds *guest* physical addresses, counts in 4 KiB
//! pages, and RMPOPT works in 1 GiB regions. All four are plain integers in the manual; here each has
//! a type, and holding a value of it proves its range:
//!
//! | type | unit | proves |
//! |---|---|---|
//! | [`Spa`] | bytes | below 2^52, C-bit stripped |
//! | [`Gpa`] | bytes | below 2^52 |
//! | [`Pfn`] | 4 KiB pages of system memory | below 2^40 |
//! | [`Region`] | 1 GiB regions of system memory | below 2^22 |
//!
//! Source: AMD64 APM vol. 2 §5 (52-bit physical addresses); spec/rmpopt.md 1 (1 GiB regions).

use core::fmt;

/// log2 of a 4 KiB page's size in bytes.
pub const PAGE_SHIFT: u32 = 12;
/// log2 of a 2 MiB page's size in bytes.
pub const LARGE_PAGE_SHIFT: u32 = 21;
/// log2 of an RMPOPT region's size in bytes (1 GiB).
pub const REGION_SHIFT: u32 = 30;
/// Bytes in a 4 KiB page.
pub const PAGE_BYTES: u64 = 1 << PAGE_SHIFT;
/// Bytes in a 2 MiB page.
pub const LARGE_PAGE_BYTES: u64 = 1 << LARGE_PAGE_SHIFT;
/// Bytes in an RMPOPT region.
pub const REGION_BYTES: u64 = 1 << REGION_SHIFT;
/// 4 KiB pages in a 2 MiB page.
pub const PAGES_PER_LARGE_PAGE: u64 = 1 << (LARGE_PAGE_SHIFT - PAGE_SHIFT);
/// 4 KiB pages in a 1 GiB region.
pub const PAGES_PER_REGION: u64 = 1 << (REGION_SHIFT - PAGE_SHIFT);
/// 2 MiB pages in a 1 GiB region: the RMP entries one RMPOPT reads (spec/rmpopt.md 1).
pub const LARGE_PAGES_PER_REGION: u64 = 1 << (REGION_SHIFT - LARGE_PAGE_SHIFT);
/// Bits of a physical address (APM vol. 2 §5.3).
pub const PHYSICAL_ADDRESS_BITS: u32 = 52;

/// First address that no physical address reaches.
const LIMIT: u64 = 1 << PHYSICAL_ADDRESS_BITS;

/// Page size as the RMP knows it: one bit in an entry, an operand and ECX.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum PageSize {
    /// 4 KiB (bit clear).
    Size4K,
    /// 2 MiB (bit set).
    Size2M,
}

impl PageSize {
    /// 4 KiB pages that a page of this size holds: 1 or 512.
    pub const fn pages(self) -> u64 {
        match self {
            Self::Size4K => 1,
            Self::Size2M => PAGES_PER_LARGE_PAGE,
        }
    }

    /// Size in bytes.
    pub const fn bytes(self) -> u64 {
        self.pages() << PAGE_SHIFT
    }

    /// The page-size bit of RMP entries and operands.
    pub const fn bit(self) -> u64 {
        match self {
            Self::Size4K => 0,
            Self::Size2M => 1,
        }
    }

    /// The size that a page-size bit stands for (any nonzero value is 2 MiB).
    pub const fn from_bit(bit: u64) -> Self {
        if bit == 0 {
            Self::Size4K
        } else {
            Self::Size2M
        }
    }
}

/// A system physical address in bytes, below 2^52 and without C-bit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Spa(u64);

/// A guest physical address in bytes, below 2^52.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Gpa(u64);

/// A system page frame number: `Spa >> 12`, below 2^40.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Pfn(u64);

/// An RMPOPT region: `Spa >> 30`, below 2^22.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Region(u32);

impl Spa {
    /// Address 0.
    pub const ZERO: Self = Self(0);

    /// `None` if `bytes` is 2^52 or more.
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes < LIMIT {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// As software passes it in a register: the C-bit at `c_bit` (CPUID `Fn8000_001F` EBX\[5:0\]) is
    /// stripped first. `None` if what remains is 2^52 or more.
    pub const fn from_register(rax: u64, c_bit: u32) -> Option<Self> {
        if c_bit < u64::BITS {
            Self::new(rax & !(1 << c_bit))
        } else {
            Self::new(rax)
        }
    }

    /// The address in bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The page frame that holds this byte.
    pub const fn pfn(self) -> Pfn {
        Pfn(self.0 >> PAGE_SHIFT)
    }

    /// The 1 GiB region that holds this byte.
    pub const fn region(self) -> Region {
        Region((self.0 >> REGION_SHIFT) as u32)
    }

    /// Whether the address is a multiple of `size`.
    pub const fn is_aligned(self, size: PageSize) -> bool {
        self.0 & (size.bytes() - 1) == 0
    }

    /// `None` past 2^52.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Self::new(sum),
            None => None,
        }
    }
}

impl Gpa {
    /// Address 0.
    pub const ZERO: Self = Self(0);

    /// Where KVM places each vCPU's save area: the last page below 2^48 (spec/snp-arch.md 6.5).
    pub const VMSA: Self = Self(0xFFFF_FFFF_F000);

    /// `None` if `bytes` is 2^52 or more.
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes < LIMIT {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// The address in bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether the address is a multiple of `size`.
    pub const fn is_aligned(self, size: PageSize) -> bool {
        self.0 & (size.bytes() - 1) == 0
    }

    /// `None` past 2^52.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Self::new(sum),
            None => None,
        }
    }
}

impl Pfn {
    /// `None` if `pfn` is 2^40 or more.
    pub const fn new(pfn: u64) -> Option<Self> {
        if pfn < LIMIT >> PAGE_SHIFT {
            Some(Self(pfn))
        } else {
            None
        }
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Address of the frame's first byte.
    pub const fn spa(self) -> Spa {
        Spa(self.0 << PAGE_SHIFT)
    }

    /// The 1 GiB region that holds this frame.
    pub const fn region(self) -> Region {
        Region((self.0 >> (REGION_SHIFT - PAGE_SHIFT)) as u32)
    }

    /// The frame that heads this frame's 2 MiB block: its RMP entry says page size and subpage count.
    pub const fn head(self) -> Self {
        Self(self.0 & !(PAGES_PER_LARGE_PAGE - 1))
    }

    /// Whether the frame heads its 2 MiB block.
    pub const fn is_head(self) -> bool {
        self.0 & (PAGES_PER_LARGE_PAGE - 1) == 0
    }

    /// Position inside its region: 0 to 262,143.
    pub const fn index_in_region(self) -> u32 {
        (self.0 & (PAGES_PER_REGION - 1)) as u32
    }

    /// `None` past 2^40.
    pub const fn checked_add(self, pages: u64) -> Option<Self> {
        match self.0.checked_add(pages) {
            Some(sum) => Self::new(sum),
            None => None,
        }
    }
}

impl Region {
    /// Region 0.
    pub const ZERO: Self = Self(0);

    /// Regions that a physical address can name: 2^22.
    pub const LIMIT: u32 = 1 << (PHYSICAL_ADDRESS_BITS - REGION_SHIFT);

    /// `None` if `number` is 2^22 or more.
    pub const fn new(number: u32) -> Option<Self> {
        if number < Self::LIMIT {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number itself: the `GB` of upstream's `rmpopt-table`.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Address of the region's first byte: RMPOPT's operand.
    pub const fn base(self) -> Spa {
        Spa((self.0 as u64) << REGION_SHIFT)
    }

    /// The region's first page frame.
    pub const fn first_pfn(self) -> Pfn {
        Pfn((self.0 as u64) << (REGION_SHIFT - PAGE_SHIFT))
    }

    /// `None` past the last region.
    pub const fn checked_add(self, regions: u32) -> Option<Self> {
        match self.0.checked_add(regions) {
            Some(sum) => Self::new(sum),
            None => None,
        }
    }
}

macro_rules! show_hex {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    )*};
}
show_hex!(Spa, Gpa, Pfn);

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({})", self.0)
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size4K => "4K",
            Self::Size2M => "2M",
        })
    }
}

const _: () = assert!(PAGES_PER_REGION == 262_144 && LARGE_PAGES_PER_REGION == 512);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_enforced() {
        assert!(Spa::new(LIMIT - 1).is_some() && Spa::new(LIMIT).is_none());
        assert!(Pfn::new((1 << 40) - 1).is_some() && Pfn::new(1 << 40).is_none());
        assert!(Region::new(Region::LIMIT - 1).is_some() && Region::new(Region::LIMIT).is_none());
        assert_eq!(Spa::from_register(1 << 51 | 0x1000, 51), Spa::new(0x1000));
        assert_eq!(Spa::from_register(1 << 52, 51), None);
        assert!(Spa::new(LIMIT - 1).and_then(|a| a.checked_add(1)).is_none());
    }

    #[test]
    fn conversions_agree() {
        let spa = Spa::new(5 * REGION_BYTES + 3 * LARGE_PAGE_BYTES + 7 * PAGE_BYTES + 9).unwrap();
        assert_eq!(spa.region().get(), 5);
        assert_eq!(spa.pfn().region(), spa.region());
        assert_eq!(spa.pfn().index_in_region(), 3 * 512 + 7);
        assert_eq!(spa.pfn().head().index_in_region(), 3 * 512);
        assert!(spa.pfn().head().is_head() && !spa.pfn().is_head());
        assert_eq!(spa.region().base().pfn(), spa.region().first_pfn());
    }
}
