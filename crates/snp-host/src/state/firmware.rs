//! What the SEV firmware says of the platform.

use serde::Serialize;

use crate::system::{PlatformStatus, System};

/// The platform's status, if the firmware was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(clippy::struct_excessive_bools, reason = "the answer's own bits")]
pub struct Firmware {
    /// Version of its interface, such as `1.55`.
    pub api: String,
    /// Its build.
    pub build: u32,
    /// `uninitialised`, `initialised`, or `unknown (N)` for a number that no source names.
    pub state: String,
    /// The RMP is initialised.
    pub rmp_initialised: bool,
    /// Memory was searched for aliases since the last reset.
    pub alias_check_complete: bool,
    /// Attestation reports do not show the chip's id.
    pub mask_chip_id: bool,
    /// Attestation reports are not signed.
    pub mask_chip_key: bool,
    /// A VLEK is loaded.
    pub vlek: bool,
    /// RAPL is off.
    pub rapl_disabled: bool,
    /// Ciphertext hiding can be switched on.
    pub ciphertext_hiding_capable: bool,
    /// Ciphertext hiding is on.
    pub ciphertext_hiding: bool,
    /// Guests that it manages.
    pub guests: u32,
    /// The trusted computing base that runs, hexadecimal as it stands: generations differ in the order.
    pub tcb: String,
    /// The one that is reported.
    pub reported_tcb: String,
}

impl Firmware {
    pub(super) fn of(system: &System) -> Option<Self> {
        system.firmware.as_ref().ok().map(Self::from_status)
    }

    fn from_status(status: &PlatformStatus) -> Self {
        let (major, minor) = status.api;
        Self {
            api: format!("{major}.{minor}"),
            build: status.build,
            state: match status.state {
                0 => "uninitialised".to_owned(),
                1 => "initialised".to_owned(),
                other => format!("unknown ({other})"),
            },
            rmp_initialised: status.rmp_initialised,
            alias_check_complete: status.alias_check_complete,
            mask_chip_id: status.mask_chip_id,
            mask_chip_key: status.mask_chip_key,
            vlek: status.vlek,
            rapl_disabled: status.rapl_disabled,
            ciphertext_hiding_capable: status.ciphertext_hiding.0,
            ciphertext_hiding: status.ciphertext_hiding.1,
            guests: status.guests,
            tcb: format!("{:#018x}", status.tcb.0),
            reported_tcb: format!("{:#018x}", status.tcb.1),
        }
    }
}
