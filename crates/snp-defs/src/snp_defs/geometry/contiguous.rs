//! The contiguous RMP: one table from address 0 on.
//!
//! ```text
//! RMP_BASE + 0x0000 .. 0x3FFF : bookkeeping
//! RMP_BASE + 0x4000 .. RMP_END: 16-byte entry per 4 KiB page
//! ```
//! Source: spec/snp-arch.md 2.1.

use super::{
    GeometryError, LinuxRefusal, SpaRange, BOOKKEEPING_BYTES, CPU_ALIGNMENT, FIRMWARE_ALIGNMENT,
};
use crate::snp_defs::{Pfn, RmpEntry, Spa, PAGE_BYTES, PAGE_SHIFT, PHYSICAL_ADDRESS_BITS};

/// A contiguous RMP that the CPU takes: base and end aligned, entries behind the bookkeeping.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ContiguousRmp {
    base: Spa,
    /// Inclusive, as in the MSR.
    end: Spa,
}

impl ContiguousRmp {
    /// From the raw values of `RMP_BASE` and `RMP_END`.
    pub const fn new(base: u64, end: u64) -> Result<Self, GeometryError> {
        // A zero base is what an unconfigured machine reads (with end 0x1fff); Linux and firmware
        // treat it as "nothing reserved".
        if base == 0 {
            return Err(GeometryError::NotReserved { field: "RMP_BASE", value: base });
        }
        if end == 0 {
            return Err(GeometryError::NotReserved { field: "RMP_END", value: end });
        }
        let (Some(first), Some(last)) = (Spa::new(base), Spa::new(end)) else {
            let (field, value) =
                if Spa::new(base).is_none() { ("RMP_BASE", base) } else { ("RMP_END", end) };
            return Err(GeometryError::BeyondPhysical {
                field,
                value,
                bits: PHYSICAL_ADDRESS_BITS,
            });
        };
        if end < base {
            return Err(GeometryError::EndBelowBase { base, end });
        }
        if base % CPU_ALIGNMENT != 0 {
            return Err(misaligned("RMP_BASE", base, CPU_ALIGNMENT));
        }
        if (end + 1) % CPU_ALIGNMENT != 0 {
            return Err(misaligned("RMP_END + 1", end + 1, CPU_ALIGNMENT));
        }
        let rmp = Self { base: first, end: last };
        if rmp.bytes() <= BOOKKEEPING_BYTES {
            return Err(GeometryError::TooSmall { bytes: rmp.bytes() });
        }
        Ok(rmp)
    }

    /// The smallest table at `base` that covers `bytes` of memory from address 0 on.
    pub const fn covering(base: u64, bytes: u64) -> Result<Self, GeometryError> {
        let pages = bytes.div_ceil(PAGE_BYTES);
        // 2^52 pages times 16 bytes fit into 56 bits.
        let entries = (pages * RmpEntry::BYTES).div_ceil(CPU_ALIGNMENT) * CPU_ALIGNMENT;
        match base.checked_add(BOOKKEEPING_BYTES + entries) {
            Some(end) => Self::new(base, end.saturating_sub(1)),
            None => Err(GeometryError::BeyondPhysical {
                field: "RMP_BASE",
                value: base,
                bits: PHYSICAL_ADDRESS_BITS,
            }),
        }
    }

    /// Whether AMD's firmware takes it too: base and size in whole MiB. It also wants
    /// [`Self::c_bit_check`].
    pub const fn firmware_check(&self) -> Result<(), GeometryError> {
        if self.base.get() % FIRMWARE_ALIGNMENT != 0 {
            return Err(misaligned("RMP_BASE", self.base.get(), FIRMWARE_ALIGNMENT));
        }
        if self.bytes() % FIRMWARE_ALIGNMENT != 0 {
            return Err(misaligned("RMP size", self.bytes(), FIRMWARE_ALIGNMENT));
        }
        Ok(())
    }

    /// Whether both addresses are plain: the firmware refuses the C-bit (at position `c_bit`).
    pub const fn c_bit_check(&self, c_bit: u32) -> Result<(), GeometryError> {
        let c_mask = match 1u64.checked_shl(c_bit) {
            Some(mask) => mask,
            None => 0,
        };
        let (base, end) = (self.base.get(), self.end.get());
        if base & c_mask != 0 {
            return Err(GeometryError::EncryptedAddress { field: "RMP_BASE", value: base });
        }
        if end & c_mask != 0 {
            return Err(GeometryError::EncryptedAddress { field: "RMP_END", value: end });
        }
        Ok(())
    }

    /// First byte.
    pub const fn base(&self) -> Spa {
        self.base
    }

    /// Last byte.
    pub const fn end(&self) -> Spa {
        self.end
    }

    /// Size of the table with its bookkeeping.
    pub const fn bytes(&self) -> u64 {
        self.end.get() - self.base.get() + 1
    }

    /// 4 KiB pages covered, from address 0 on.
    pub const fn covered_pages(&self) -> u64 {
        (self.bytes() - BOOKKEEPING_BYTES) / RmpEntry::BYTES
    }

    /// Bytes of memory covered, from address 0 on.
    pub const fn covered_bytes(&self) -> u64 {
        self.covered_pages() << PAGE_SHIFT
    }

    /// Whether an entry covers the page.
    pub const fn covers(&self, pfn: Pfn) -> bool {
        pfn.get() < self.covered_pages()
    }

    /// Address of a page's entry, `None` if no entry covers the page.
    pub const fn entry_spa(&self, pfn: Pfn) -> Option<Spa> {
        if self.covers(pfn) {
            self.base.checked_add(BOOKKEEPING_BYTES + pfn.get() * RmpEntry::BYTES)
        } else {
            None
        }
    }

    /// The memory that the table takes.
    pub const fn own_range(&self) -> SpaRange {
        SpaRange { start: self.base, bytes: self.bytes() }
    }

    /// Bytes that Linux wants: an entry for every frame below `max_pfn` and below the table's own
    /// end, and the bookkeeping.
    pub const fn linux_required_bytes(&self, max_pfn: Pfn) -> u64 {
        let own_end = self.end.get().div_ceil(PAGE_BYTES);
        let frames = if own_end > max_pfn.get() { own_end } else { max_pfn.get() };
        frames * RmpEntry::BYTES + BOOKKEEPING_BYTES
    }

    /// Whether Linux would run SNP with RAM up to `max_pfn` (first frame past RAM).
    pub const fn linux_check(&self, max_pfn: Pfn) -> Result<(), LinuxRefusal> {
        let expected = self.linux_required_bytes(max_pfn);
        if expected > self.bytes() {
            return Err(LinuxRefusal::TableTooSmall { expected, got: self.bytes() });
        }
        Ok(())
    }
}

const fn misaligned(field: &'static str, value: u64, alignment: u64) -> GeometryError {
    GeometryError::Misaligned { field, value, alignment }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snp_defs::Gib;

    fn pfn(number: u64) -> Pfn {
        Pfn::new(number).unwrap()
    }

    /// The manual's own example.
    #[test]
    fn four_gibibytes_at_one_mebibyte() {
        let rmp = ContiguousRmp::covering(0x10_0000, 4 << 30).unwrap();
        assert_eq!(rmp.end().get(), 0x110_3FFF);
        assert_eq!(rmp.covered_bytes(), 4 << 30);
        assert_eq!(rmp.entry_spa(pfn(0)).unwrap().get(), 0x10_4000);
        assert_eq!(rmp.entry_spa(pfn((1 << 20) - 1)).unwrap().get(), 0x110_3FF0);
        assert_eq!(rmp.entry_spa(pfn(1 << 20)), None);
        assert!(rmp.covers(pfn((1 << 20) - 1)) && !rmp.covers(pfn(1 << 20)));
    }

    /// Ranges from public kernel logs and host reports; MiB and coverage computed by hand.
    #[test]
    fn ranges_of_real_hosts() {
        for (base, end, mib, covers) in [
            (0x9420_0000, 0xa47f_ffff, 262, "65.4961 GiB"),
            (0xbf_7e80_0000, 0xc0_3f0f_ffff, 3081, "770.2461 GiB"),
            (0x7f_fe80_0000, 0x80_7f0f_ffff, 2057, "514.2461 GiB"),
            (0x1150_0000, 0x51df_ffff, 1033, "258.2461 GiB"),
            (0x7f_cd10_0000, 0x80_4d6f_ffff, 2054, "513.4961 GiB"),
            (0x3540_0000, 0x75a0_0000 - 1, 1030, "257.4961 GiB"),
            (0x2d50_0000, 0x4ddf_ffff, 521, "130.2461 GiB"),
            (412_852_682_752, 416_083_345_407, 3081, "770.2461 GiB"),
        ] {
            let rmp = ContiguousRmp::new(base, end).unwrap();
            assert_eq!(rmp.bytes(), mib << 20, "{base:#x}");
            assert_eq!(Gib(rmp.covered_bytes()).to_string(), covers, "{base:#x}");
            assert_eq!(rmp.firmware_check(), Ok(()), "{base:#x}");
        }
        for (mib, covers) in [
            (1030, "257.4961 GiB"),
            (262, "65.4961 GiB"),
            (518, "129.4961 GiB"),
            (3078, "769.4961 GiB"),
            (6209, "1552.2461 GiB"),
            (137, "34.2461 GiB"),
        ] {
            let rmp = ContiguousRmp::new(0x10_0000, 0x10_0000 + (mib << 20) - 1).unwrap();
            assert_eq!(Gib(rmp.covered_bytes()).to_string(), covers, "{mib} MiB");
        }
    }

    /// A 514 GiB Genoa host, its table at the top of RAM.
    #[test]
    fn linux_wants_ram_and_the_table_covered() {
        let rmp = ContiguousRmp::new(0x7f_fe80_0000, 0x80_7f0f_ffff).unwrap();
        assert_eq!(rmp.linux_required_bytes(pfn(0x807_f1ff)), 0x807f_5ff0);
        assert_eq!(rmp.linux_check(pfn(0x807_f1ff)), Ok(()));
        assert_eq!(
            rmp.linux_check(pfn(0x900_0000)),
            Err(LinuxRefusal::TableTooSmall { expected: 0x9000_4000, got: 0x8090_0000 })
        );
        // The table beyond its own coverage is refused even if RAM ends lower.
        let high = ContiguousRmp::covering(0x100_0000_0000, 4 << 30).unwrap();
        assert!(high.linux_check(pfn(1)).is_err());
    }

    #[test]
    fn what_the_cpu_and_the_firmware_refuse() {
        let shown = |base, end| ContiguousRmp::new(base, end).unwrap_err().to_string();
        assert_eq!(shown(0, 0x1fff), "RMP_BASE 0x0, expected the address of reserved memory");
        assert_eq!(shown(0x1000, 0x9fff), "RMP_BASE 0x1000, expected a multiple of 0x2000");
        assert_eq!(shown(0x2000, 0x8fff), "RMP_END + 1 0x9000, expected a multiple of 0x2000");
        assert_eq!(shown(0x4000, 0x1fff), "RMP_END 0x1fff, expected above RMP_BASE 0x4000");
        assert_eq!(
            shown(0x2000, 0x5fff),
            "RMP size 0x4000, expected more than 0x4000 bytes of bookkeeping"
        );
        assert_eq!(shown(0x2000, 1 << 52), "RMP_END ends at 0x10000000000000, expected below 2^52");
        let cpu_only = ContiguousRmp::new(0x2000, 0x7fff).unwrap();
        assert_eq!(
            cpu_only.firmware_check().unwrap_err().to_string(),
            "RMP_BASE 0x2000, expected a multiple of 0x100000"
        );
        let odd = ContiguousRmp::new(0x10_0000, 0x110_3FFF).unwrap();
        assert!(odd.firmware_check().is_err());
        let encrypted = ContiguousRmp::new(1 << 51 | 0x10_0000, 1 << 51 | 0x4FF_FFFF).unwrap();
        assert_eq!(
            encrypted.c_bit_check(51).unwrap_err().to_string(),
            "RMP_BASE 0x8000000100000 has the C-bit set, expected a plain address"
        );
        assert_eq!(encrypted.c_bit_check(47), Ok(()));
        for (base, bytes) in [(u64::MAX, 1), (0x2000, u64::MAX), (u64::MAX, u64::MAX)] {
            assert!(ContiguousRmp::covering(base, bytes).is_err());
        }
    }
}
