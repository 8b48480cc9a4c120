//! The SEV firmware's command ids and status codes.
//!
//! Both keep values that no source names. Source: spec/snp-arch.md 4.3 and 4.5 (Linux `psp-sev.h`,
//! AMD's firmware `sev_mcmd.h`).

use core::fmt;

/// A code of the firmware's interface with its names: newtype, constants, `name`, `Debug`.
macro_rules! codes {
    (
        $(#[$doc:meta])* $type:ident($int:ty);
        $($(#[$item:meta])* $name:ident = $value:literal;)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(pub $int);

        impl $type {
            $($(#[$item])* pub const $name: Self = Self($value);)*

            /// Every value that a source names.
            pub const KNOWN: &'static [Self] = &[$(Self::$name),*];

            /// The source's name, `None` for a value that none names.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => write!(f, "{name}({:#x})", self.0),
                    None => write!(f, concat!(stringify!($type), "({:#x})"), self.0),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    };
}

codes! {
    /// What a firmware command returns.
    FirmwareStatus(u32);
    /// Done.
    SUCCESS = 0x00;
    /// The platform is not in the state that the command needs.
    INVALID_PLATFORM_STATE = 0x01;
    /// The guest is not in the state that the command needs.
    INVALID_GUEST_STATE = 0x02;
    /// The configuration is invalid: SYSCFG, `VM_HSAVE_PA`, an ASID with pages.
    INVALID_CONFIG = 0x03;
    /// A length is too small or wrong.
    INVALID_LEN = 0x04;
    /// The platform is already owned.
    ALREADY_OWNED = 0x05;
    /// The guest's policy forbids it.
    POLICY_FAILURE = 0x07;
    /// The guest is not active: it has no ASID.
    INACTIVE = 0x08;
    /// An address is invalid or unaligned.
    INVALID_ADDRESS = 0x09;
    /// A signature is wrong.
    BAD_SIGNATURE = 0x0A;
    /// A measurement is wrong.
    BAD_MEASUREMENT = 0x0B;
    /// The ASID belongs to another guest.
    ASID_OWNED = 0x0C;
    /// The ASID is 0 or too large.
    INVALID_ASID = 0x0D;
    /// WBINVD is due on all cores.
    WBINVD_REQUIRED = 0x0E;
    /// A data fabric flush is due.
    DFFLUSH_REQUIRED = 0x0F;
    /// There is no such guest: the page is no context page.
    INVALID_GUEST = 0x10;
    /// The command is unknown.
    INVALID_COMMAND = 0x11;
    /// The guest is already active.
    ACTIVE = 0x12;
    /// Hardware failed, the platform is safe.
    HWERROR_PLATFORM = 0x13;
    /// Hardware failed, the platform is not safe.
    HWERROR_UNSAFE = 0x14;
    /// The feature is not supported.
    UNSUPPORTED = 0x15;
    /// A parameter is invalid.
    INVALID_PARAM = 0x16;
    /// A resource is used up.
    RESOURCE_LIMIT = 0x17;
    /// Secure data are invalid.
    SECURE_DATA_INVALID = 0x18;
    /// The RMP entry has another page size.
    INVALID_PAGE_SIZE = 0x19;
    /// The page is not in the state that the command needs.
    INVALID_PAGE_STATE = 0x1A;
    /// A metadata entry is invalid.
    INVALID_MDATA_ENTRY = 0x1B;
    /// The page belongs to another guest.
    INVALID_PAGE_OWNER = 0x1C;
    /// The sequence number of the authenticated encryption would overflow.
    AEAD_OFLOW = 0x1D;
    /// The ring buffer was left.
    EXIT_RING_BUFFER = 0x1F;
    /// The RMP must be initialised first.
    RMP_INIT_REQUIRED = 0x20;
    /// A security version is wrong.
    BAD_SVN = 0x21;
    /// A version is wrong.
    BAD_VERSION = 0x22;
    /// A shutdown is due.
    SHUTDOWN_REQUIRED = 0x23;
    /// An update failed.
    UPDATE_FAILED = 0x24;
    /// A restore is due.
    RESTORE_REQUIRED = 0x25;
    /// Writing the RMP failed.
    RMP_INITIALIZATION_FAILED = 0x26;
    /// A key is invalid.
    INVALID_KEY = 0x27;
    /// The shutdown is not complete.
    SHUTDOWN_INCOMPLETE = 0x28;
}

codes! {
    /// Id of a firmware command.
    FirmwareCommand(u32);
    /// Legacy data fabric flush.
    DF_FLUSH = 0x0A;
    /// Builds the RMP.
    SNP_INIT = 0x81;
    /// Ends SNP.
    SNP_SHUTDOWN = 0x82;
    /// State of the platform.
    SNP_PLATFORM_STATUS = 0x83;
    /// Data fabric flush.
    SNP_DF_FLUSH = 0x84;
    /// Builds the RMP, with a list of ranges that stay the hypervisor's.
    SNP_INIT_EX = 0x85;
    /// Ends SNP, with choices about IOMMU and `SNP_EN`.
    SNP_SHUTDOWN_EX = 0x86;
    /// Gives a guest's context page back.
    SNP_DECOMMISSION = 0x90;
    /// Binds a guest to an ASID.
    SNP_ACTIVATE = 0x91;
    /// State of a guest.
    SNP_GUEST_STATUS = 0x92;
    /// Makes a guest's context page.
    SNP_GCTX_CREATE = 0x93;
    /// Passes a guest's message to the firmware.
    SNP_GUEST_REQUEST = 0x94;
    /// Binds a guest to an ASID on some core complexes.
    SNP_ACTIVATE_EX = 0x95;
    /// Begins a launch.
    SNP_LAUNCH_START = 0xA0;
    /// Adds a page to a launch.
    SNP_LAUNCH_UPDATE = 0xA1;
    /// Ends a launch.
    SNP_LAUNCH_FINISH = 0xA2;
    /// Reads a page of a guest that allows it.
    SNP_DBG_DECRYPT = 0xB0;
    /// Writes a page of a guest that allows it.
    SNP_DBG_ENCRYPT = 0xB1;
    /// Takes a page out.
    SNP_PAGE_SWAP_OUT = 0xC0;
    /// Brings a page back.
    SNP_PAGE_SWAP_IN = 0xC1;
    /// Moves a page.
    SNP_PAGE_MOVE = 0xC2;
    /// Makes a metadata page.
    SNP_PAGE_MD_INIT = 0xC3;
    /// Makes pages stay the hypervisor's.
    SNP_PAGE_SET_STATE = 0xC6;
    /// Clears a page's immutable bit.
    SNP_PAGE_RECLAIM = 0xC7;
    /// Joins 512 entries to one.
    SNP_PAGE_UNSMASH = 0xC8;
    /// Sets the platform's configuration.
    SNP_CONFIG = 0xC9;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_known_once_and_unknown_ones_kept() {
        for (index, status) in FirmwareStatus::KNOWN.iter().enumerate() {
            assert!(status.name().is_some());
            assert!(!FirmwareStatus::KNOWN[..index].contains(status));
        }
        assert!(FirmwareStatus::KNOWN.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(FirmwareCommand::KNOWN.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(FirmwareStatus(0x06).name(), None);
        assert_eq!(FirmwareStatus(0x1E).to_string(), "FirmwareStatus(0x1e)");
        assert_eq!(FirmwareStatus::INVALID_PAGE_STATE.to_string(), "INVALID_PAGE_STATE(0x1a)");
        assert_eq!(FirmwareStatus::RMP_INIT_REQUIRED.0, 0x20);
        assert_eq!(FirmwareStatus::SHUTDOWN_INCOMPLETE.0, 0x28);
        assert_eq!(FirmwareCommand::SNP_PAGE_RECLAIM.to_string(), "SNP_PAGE_RECLAIM(0xc7)");
        assert_eq!(FirmwareCommand(0x96).name(), None);
    }
}
