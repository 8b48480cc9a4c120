//! Error codes of accesses that an RMP check stops.
//!
//! Host: #PF error code with bit 31. Guest: #VMEXIT(NPF), EXITINFO1 with bit 31 and the reason in
//! 34 to 37; a guest's own unvalidated page is #VC instead. Source: spec/snp-arch.md 5.3.

use core::fmt;

macro_rules! bits {
    ($type:ident; $($(#[$doc:meta])* $get:ident, $mask:ident = $bit:literal, $short:literal;)*) => {
        impl $type {
            $(
                #[doc = concat!("Mask of bit ", stringify!($bit), ", see `", stringify!($get), "`.")]
                pub const $mask: u64 = 1 << $bit;
                $(#[$doc])*
                pub const fn $get(self) -> bool {
                    self.0 & Self::$mask != 0
                }
            )*
            /// Every bit named here: mask and short name.
            pub const NAMED: &'static [(u64, &'static str)] = &[$((Self::$mask, $short)),*];
        }

        /// Names of the bits that are set, then what is left as a number.
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)?;
                let mut rest = self.0;
                for (mask, name) in Self::NAMED {
                    if self.0 & mask != 0 {
                        write!(f, " {name}")?;
                        rest &= !mask;
                    }
                }
                if rest != 0 {
                    write!(f, " +{rest:#x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self)
            }
        }
    };
}

/// Error code of a #PF.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PageFaultCode(pub u64);

bits! {
    PageFaultCode;
    /// The page was present: a protection fault.
    present, PRESENT = 0, "P";
    /// A write.
    write, WRITE = 1, "W";
    /// From user mode.
    user, USER = 2, "U";
    /// A reserved bit was set in a page table (or a segment table entry).
    reserved, RESERVED = 3, "RSVD";
    /// An instruction fetch.
    fetch, FETCH = 4, "I";
    /// A protection key.
    protection_key, PROTECTION_KEY = 5, "PK";
    /// A shadow stack access.
    shadow_stack, SHADOW_STACK = 6, "SS";
    /// An RMP check.
    rmp, RMP = 31, "RMP";
}

/// EXITINFO1 of a #VMEXIT(NPF).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NestedFaultCode(pub u64);

bits! {
    NestedFaultCode;
    /// The nested page was present: a protection fault.
    present, PRESENT = 0, "P";
    /// A write.
    write, WRITE = 1, "W";
    /// From user mode (as nested paging counts it).
    user, USER = 2, "U";
    /// A reserved bit was set in a nested page table (or a segment table entry).
    reserved, RESERVED = 3, "RSVD";
    /// An instruction fetch.
    fetch, FETCH = 4, "I";
    /// A shadow stack access.
    shadow_stack, SHADOW_STACK = 6, "SS";
    /// An RMP check.
    rmp, RMP = 31, "RMP";
    /// Translating the guest's final physical address.
    final_address, FINAL_ADDRESS = 32, "FINAL";
    /// Walking the guest's page table.
    table_walk, TABLE_WALK = 33, "WALK";
    /// The guest accessed with C = 1.
    encrypted, ENCRYPTED = 34, "ENC";
    /// Page sizes differ: PVALIDATE or RMPADJUST against the RMP, or nested page table against it.
    size_mismatch, SIZE_MISMATCH = 35, "SIZEM";
    /// The VMPL's permissions forbid it.
    vmpl, VMPL = 36, "VMPL";
    /// A supervisor shadow stack check.
    supervisor_shadow_stack, SUPERVISOR_SHADOW_STACK = 37, "SSS";
}

/// #VC error code of a guest's access to its own page that it has not validated.
pub const VC_PAGE_NOT_VALIDATED: u64 = 0x404;

/// IOMMU event of a device's write to a page that the hypervisor does not own (`RMP_FAULT`;
/// spec/snp-arch.md 5.6).
pub const IOMMU_EVENT_RMP_FAULT: u8 = 0xD;
/// IOMMU event of a hardware error in an RMP check (`RMP_HW_ERR`).
pub const IOMMU_EVENT_RMP_HW_ERROR: u8 = 0xE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fault_seen_in_the_field() {
        let code = PageFaultCode(0x8000_0003);
        assert!(code.present() && code.write() && code.rmp() && !code.user());
        assert_eq!(code.to_string(), "0x80000003 P W RMP");
        assert_eq!(PageFaultCode(1 << 15).to_string(), "0x8000 +0x8000");
    }

    #[test]
    fn nested_fault_reasons() {
        let code = NestedFaultCode(1 << 31 | 1 << 32 | 1 << 34 | 1 << 35);
        assert!(code.rmp() && code.final_address() && code.encrypted() && code.size_mismatch());
        assert!(!code.vmpl() && !code.table_walk() && !code.supervisor_shadow_stack());
        assert_eq!(format!("{code:?}"), "NestedFaultCode(0xd80000000 RMP FINAL ENC SIZEM)");
        assert_eq!(NestedFaultCode::VMPL, 1 << 36);
        assert_eq!(NestedFaultCode::SUPERVISOR_SHADOW_STACK, 1 << 37);
    }
}
