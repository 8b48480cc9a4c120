//! Names of the firmware's commands and status codes: those of snp-defs, and the ones that concern
//! plain SEV and trusted I/O, which only logs need.
//!
//! Source of the others: `include/linux/psp-sev.h` and `include/uapi/linux/psp-sev.h` of Linux 7.3.

use snp_defs::{FirmwareCommand, FirmwareStatus};

const COMMANDS: &[(u32, &str)] = &[
    (0x01, "SEV_INIT"),
    (0x02, "SEV_SHUTDOWN"),
    (0x03, "SEV_FACTORY_RESET"),
    (0x04, "SEV_PLATFORM_STATUS"),
    (0x05, "SEV_PEK_GEN"),
    (0x06, "SEV_PEK_CSR"),
    (0x07, "SEV_PEK_CERT_IMPORT"),
    (0x08, "SEV_PDH_CERT_EXPORT"),
    (0x09, "SEV_PDH_GEN"),
    (0x0B, "SEV_DOWNLOAD_FIRMWARE"),
    (0x0C, "SEV_GET_ID"),
    (0x0D, "SEV_INIT_EX"),
    (0x20, "SEV_DECOMMISSION"),
    (0x21, "SEV_ACTIVATE"),
    (0x22, "SEV_DEACTIVATE"),
    (0x23, "SEV_GUEST_STATUS"),
    (0x30, "SEV_LAUNCH_START"),
    (0x31, "SEV_LAUNCH_UPDATE_DATA"),
    (0x32, "SEV_LAUNCH_UPDATE_VMSA"),
    (0x33, "SEV_LAUNCH_MEASURE"),
    (0x34, "SEV_LAUNCH_UPDATE_SECRET"),
    (0x35, "SEV_LAUNCH_FINISH"),
    (0x36, "SEV_ATTESTATION_REPORT"),
    (0x40, "SEV_SEND_START"),
    (0x41, "SEV_SEND_UPDATE_DATA"),
    (0x42, "SEV_SEND_UPDATE_VMSA"),
    (0x43, "SEV_SEND_FINISH"),
    (0x44, "SEV_SEND_CANCEL"),
    (0x50, "SEV_RECEIVE_START"),
    (0x51, "SEV_RECEIVE_UPDATE_DATA"),
    (0x52, "SEV_RECEIVE_UPDATE_VMSA"),
    (0x53, "SEV_RECEIVE_FINISH"),
    (0x60, "SEV_DBG_DECRYPT"),
    (0x61, "SEV_DBG_ENCRYPT"),
    (0xB2, "SNP_VERIFY_MITIGATION"),
    (0xCA, "SNP_DOWNLOAD_FIRMWARE_EX"),
    (0xCB, "SNP_COMMIT"),
    (0xCD, "SNP_VLEK_LOAD"),
    (0xCE, "SNP_FEATURE_INFO"),
    (0xD0, "TIO_STATUS"),
    (0xD1, "TIO_INIT"),
    (0xD2, "TIO_DEV_CREATE"),
    (0xD3, "TIO_DEV_RECLAIM"),
    (0xD4, "TIO_DEV_CONNECT"),
    (0xD5, "TIO_DEV_DISCONNECT"),
];

const STATUSES: &[(u32, &str)] = &[
    (0x06, "INVALID_CERTIFICATE"),
    (0x30, "INCORRECT_BUFFER_LENGTH"),
    (0x31, "EXPAND_BUFFER_LENGTH_REQUEST"),
    (0x32, "SPDM_REQUEST"),
    (0x33, "SPDM_ERROR"),
    (0x35, "ERR_IN_DEV_CONN"),
    (0x36, "INVALID_DEV_CTX"),
    (0x37, "INVALID_TDI_CTX"),
    (0x38, "INVALID_TDI"),
    (0x39, "RECLAIM_REQUIRED"),
    (0x3A, "IN_USE"),
    (0x3B, "INVALID_DEV_STATE"),
    (0x3C, "INVALID_TDI_STATE"),
    (0x3D, "DEV_CERT_CHANGED"),
    (0x3E, "RESYNC_REQ"),
    (0x3F, "RESPONSE_TOO_LARGE"),
];

/// The kernel's mark that the firmware was never asked (`SEV_RET_NO_FW_CALL`, -1).
pub(super) const NO_CALL: u32 = u32::MAX;

fn other(names: &[(u32, &'static str)], code: u32) -> Option<&'static str> {
    names.iter().find(|(known, _)| *known == code).map(|(_, name)| *name)
}

/// The command's name, `None` if no source has one.
pub(super) fn command_name(id: u32) -> Option<&'static str> {
    // DF_FLUSH is the only command before SNP's that snp-defs has.
    FirmwareCommand(id).name().or_else(|| other(COMMANDS, id))
}

/// The status code's name, `None` if no source has one.
pub(super) fn status_name(code: u32) -> Option<&'static str> {
    FirmwareStatus(code).name().or_else(|| other(STATUSES, code))
}

/// What a status code means whatever the command was, and what to do.
#[allow(clippy::too_many_lines, reason = "a table, one row for each code")]
pub(super) fn status_words(code: u32) -> (&'static str, &'static str) {
    match code {
        0x00 => ("The command was done.", ""),
        0x01 => (
            "The platform is not in the state that the command needs: SNP or SEV is not initialised, \
             or is already.",
            "Look for an earlier failure of SNP_INIT or INIT: this one follows from it.",
        ),
        0x02 => (
            "The guest is not in the state that the command needs, such as a page added after its \
             launch was finished.",
            "",
        ),
        0x03 => (
            "The configuration is invalid. At SNP's start: SYSCFG, MTRRs or another listed register \
             differ between cores, or VM_HSAVE_PA is not 0 on some core (KVM was used before), or \
             SMEE, SNP_EN, VMPL_EN, MFDM or SmmLock is not set. At ACTIVATE: pages belong to this ASID \
             already.",
            "Cold boot, load kvm_amd (with ccp) before any virtual machine runs, and compare `rdmsr \
             -a 0xc0010010` and `rdmsr -a 0xc0010117` over all CPUs. If they agree, update the \
             machine's firmware (BIOS) and the SEV firmware.",
        ),
        0x04 => ("A length is too small or wrong.", ""),
        0x05 => ("The platform is already owned.", ""),
        0x06 => ("A certificate is invalid.", ""),
        0x07 => {
            ("The guest's policy forbids it.", "Compare the guest's policy with what was asked.")
        }
        0x08 => ("The guest is not active: it has no ASID.", ""),
        0x09 => {
            ("An address is invalid, not aligned, or inside memory that the firmware protects.", "")
        }
        0x0A => ("A signature is wrong.", ""),
        0x0B => (
            "A measurement is wrong.",
            "At a launch: what was loaded is not what the ID block expects.",
        ),
        0x0C => ("The ASID belongs to another guest.", ""),
        0x0D => (
            "The ASID is 0 or too large for this kind of guest.",
            "The limit between SEV and SEV-ES or SNP guests is set in the firmware setup.",
        ),
        0x0E => {
            ("WBINVD must run on all cores first.", "The driver's task; report it if it stays.")
        }
        0x0F => (
            "A data fabric flush (DF_FLUSH) is due first: ASIDs of ended guests are not clean.",
            "The driver's task; report it if it stays.",
        ),
        0x10 => ("There is no such guest: the page is no context page.", ""),
        0x11 => (
            "The firmware does not know the command.",
            "The SEV firmware is too old for this kernel, or a hypervisor below does not pass the \
             command on.",
        ),
        0x12 => ("The guest is active already.", ""),
        0x13 => (
            "Hardware failed; the platform is safe.",
            "Cold boot and update the machine's firmware; if it stays, reset SEV's stored state \
             (`sevctl reset` or sev-tool --factory_reset).",
        ),
        0x14 => (
            "Hardware failed and the platform may not be safe.",
            "Stop using it for confidential guests.",
        ),
        0x15 => ("The feature is not supported, or not with these settings.", ""),
        0x16 => (
            "A parameter is invalid: a reserved bit, a wrong address, a version that does not fit.",
            "",
        ),
        0x17 => ("A resource of the firmware is used up.", ""),
        0x18 => (
            "SEV's stored data are invalid.",
            "Linux asks once more by itself; if it stays, the SPI flash is not writable or the data \
             need a reset.",
        ),
        0x19 => (
            "The RMP entry has another page size than the command needs, such as 2 MiB where 4 KiB \
             is required.",
            "",
        ),
        0x1A => (
            "A page is not in the state that the command needs: for output and context pages \
             Firmware, for launch pages Pre-guest.",
            "The driver must make the page the firmware's (RMPUPDATE) before the command; look for \
             RMPUPDATE failures and leaked pages before this line.",
        ),
        0x1B => ("A metadata entry is invalid.", ""),
        0x1C => ("The page belongs to another guest.", ""),
        0x1D => {
            ("The message counter would overflow.", "The guest must use another VMPCK, or end.")
        }
        0x1F => ("The firmware left ring buffer mode.", ""),
        0x20 => (
            "The RMP must be initialised first: SNP_INIT was asked to keep an RMP that never was \
             set up, or the firmware changed since.",
            "",
        ),
        0x21 => {
            ("A security version is too old.", "The firmware does not go back to older versions.")
        }
        0x22 => ("A version is wrong.", ""),
        0x23 => ("SEV or SNP must be shut down first.", ""),
        0x24 => ("The update failed; the old firmware runs on.", ""),
        0x25 => ("The firmware must be restored.", "Load the firmware that was there before."),
        0x26 => {
            ("Writing the RMP failed.", "Cold boot; if it stays, update the machine's firmware.")
        }
        0x27 => ("A key is invalid.", ""),
        0x28 => ("The shutdown is not complete; it must be asked again.", ""),
        NO_CALL => (
            "The kernel's own mark (-1): the firmware was not asked at all.",
            "The reason is the kernel's error number, or a line before.",
        ),
        _ if status_name(code).is_some() => {
            ("A status of trusted I/O commands; it is not explained here.", "")
        }
        _ => ("No source names this status.", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_status_is_explained() {
        for status in FirmwareStatus::KNOWN {
            assert_ne!(status_words(status.0).0, "No source names this status.", "{status}");
        }
        for (code, name) in STATUSES {
            assert_eq!(status_name(*code), Some(*name));
            assert_ne!(status_words(*code).0, "No source names this status.", "{name}");
        }
        assert_eq!(status_words(0x1E).0, "No source names this status.");
        assert_eq!(status_name(0x1E), None);
    }

    #[test]
    fn commands_are_named_once() {
        for (index, (id, name)) in COMMANDS.iter().enumerate() {
            assert_eq!(command_name(*id), Some(*name));
            assert_eq!(FirmwareCommand(*id).name(), None, "{name} is in snp-defs");
            assert!(COMMANDS.iter().skip(index + 1).all(|(other, _)| other != id));
        }
        assert_eq!(command_name(0xA0), Some("SNP_LAUNCH_START"));
        assert_eq!(command_name(0xFF), None);
    }
}
