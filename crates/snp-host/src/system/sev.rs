//! What the SEV firmware says of itself: `SNP_PLATFORM_STATUS` through `/dev/sev`.
//!
//! This talks to the firmware, so it is done only when asked for. Once SNP is initialised the kernel
//! hands the firmware a page for the answer and takes it back: the 1 GiB region of that page is not
//! optimised any more until it is verified again.
//!
//! Source of the layout: Linux `include/uapi/linux/psp-sev.h`, `struct sev_user_data_snp_status`; of
//! the bit that says whether aliases were looked for: spec/ecosystem.md 4.3.

use super::error::{Got, ReadError, Why};
use super::root::Root;

/// The device.
pub const SEV: &str = "/dev/sev";
/// Bytes of an answer.
pub(super) const STATUS_BYTES: usize = 32;

/// An answer of `SNP_PLATFORM_STATUS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "the answer's own bits")]
pub struct PlatformStatus {
    /// Version of the firmware's interface, major and minor.
    pub api: (u8, u8),
    /// Build of the firmware.
    pub build: u32,
    /// The platform's state: 0 not initialised, 1 initialised.
    pub state: u8,
    /// The RMP is initialised.
    pub rmp_initialised: bool,
    /// Memory was searched for aliases since the last reset.
    pub alias_check_complete: bool,
    /// Attestation reports do not show the chip's id.
    pub mask_chip_id: bool,
    /// Attestation reports are not signed.
    pub mask_chip_key: bool,
    /// A VLEK (versioned loaded endorsement key) is loaded.
    pub vlek: bool,
    /// RAPL is off.
    pub rapl_disabled: bool,
    /// Ciphertext hiding can be switched on, and is.
    pub ciphertext_hiding: (bool, bool),
    /// Guests that the firmware manages.
    pub guests: u32,
    /// Versions of the trusted computing base: what runs, and what is reported. Which byte means what
    /// differs by generation.
    pub tcb: (u64, u64),
}

impl PlatformStatus {
    /// Reads an answer; bits that no source names are passed over.
    pub fn parse(bytes: &[u8; STATUS_BYTES]) -> Self {
        let [major, minor, state, rmp, rest @ ..] = *bytes;
        let (words, _) = rest.as_chunks::<4>();
        let word = |n: usize| words.get(n).copied().map_or(0, u32::from_le_bytes);
        let wide = |n: usize| u64::from(word(n)) | u64::from(word(n + 1)) << 32;
        let flag = |bit: u32| word(1) & 1 << bit != 0;
        Self {
            api: (major, minor),
            build: word(0),
            state,
            rmp_initialised: rmp & 1 != 0,
            alias_check_complete: rmp & 2 != 0,
            mask_chip_id: flag(0),
            mask_chip_key: flag(1),
            vlek: flag(2),
            rapl_disabled: flag(4),
            ciphertext_hiding: (flag(5), flag(6)),
            guests: word(2),
            tcb: (wide(3), wide(5)),
        }
    }
}

/// What a snapshot holds; of any other root nothing is asked.
pub(super) fn kept(root: &Root) -> Got<PlatformStatus> {
    if root.as_snapshot().is_some() {
        return ask(root);
    }
    Err(ReadError::new(SEV, Why::NotAsked))
}

/// Asks the firmware.
pub(super) fn ask(root: &Root) -> Got<PlatformStatus> {
    let answer = root.platform_status();
    answer.map(|bytes| PlatformStatus::parse(&bytes)).map_err(|why| ReadError::new(SEV, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::{Record, System};

    /// API 1.55 build 24, all flags of one kind, then of the other.
    const ANSWER: [u8; 32] = [
        1,
        55,
        1,
        0b11,
        24,
        0,
        0,
        0,
        0b0101_0101,
        0,
        0,
        0,
        3,
        0,
        0,
        0, //
        0x0a,
        0,
        0,
        0,
        0,
        0,
        0x17,
        0xd5,
        0x04,
        0,
        0,
        0,
        0,
        0,
        0x16,
        0xd2,
    ];

    #[test]
    fn an_answer_by_its_bytes() {
        let read = PlatformStatus::parse(&ANSWER);
        let expected = PlatformStatus {
            api: (1, 55),
            build: 24,
            state: 1,
            rmp_initialised: true,
            alias_check_complete: true,
            mask_chip_id: true,
            mask_chip_key: false,
            vlek: true,
            rapl_disabled: true,
            ciphertext_hiding: (false, true),
            guests: 3,
            tcb: (0xd517_0000_0000_000a, 0xd216_0000_0000_0004),
        };
        assert_eq!(read, expected);
        let mut other = ANSWER;
        (other[3], other[8]) = (0b1111_1100, 0b1010_1010);
        let expected = PlatformStatus {
            rmp_initialised: false,
            alias_check_complete: false,
            mask_chip_id: false,
            mask_chip_key: true,
            vlek: false,
            rapl_disabled: false,
            ciphertext_hiding: (true, false),
            ..expected
        };
        assert_eq!(
            PlatformStatus::parse(&other),
            expected,
            "feature_info and the rest are no flags here"
        );
    }

    /// No device, and what is none in its place: nothing but the ioctl's own refusal is seen here.
    #[test]
    fn what_is_no_secure_processor() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::tree(dir.path()).unwrap();
        let why = || ask(&root).unwrap_err().why;
        assert_eq!(why(), Why::Absent);
        std::fs::create_dir(dir.path().join("dev")).unwrap();
        assert_eq!(why(), Why::Absent);
        let path = dir.path().join("dev/sev");
        std::fs::write(&path, [0; 64]).unwrap();
        assert!(matches!(why(), Why::Malformed { found, .. } if found.contains("ENOTTY")));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(why(), Why::Malformed { .. }));
        std::fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(matches!(why(), Why::Malformed { found, .. } if found.contains("link")));
        assert_eq!(kept(&root).unwrap_err().why, Why::NotAsked);
    }

    /// A snapshot says what was said, that there was no device, or that nobody asked.
    #[test]
    fn a_snapshot_holds_the_answer() {
        let again = |record: Record| kept(&Root::snapshot(record)).map_err(|error| error.why);
        assert_eq!(again(Record::default()), Err(Why::NotAsked));
        let mut record = Record::default();
        record.keep_at(SEV, 0, Ok(&ANSWER));
        assert_eq!(again(record.clone()), Ok(PlatformStatus::parse(&ANSWER)));
        record.keep_at(SEV, 0, Ok(&ANSWER[1..]));
        assert!(matches!(again(record), Err(Why::Malformed { .. })));
        let dir = tempfile::tempdir().unwrap();
        let root = Root::tree(dir.path()).unwrap().recording();
        let mut system = System::read(&root, false);
        assert_eq!(system.firmware.as_ref().unwrap_err().why, Why::NotAsked);
        system.ask_firmware(&root);
        assert_eq!(system.firmware.as_ref().unwrap_err().why, Why::Absent);
        assert_eq!(again(root.into_record().unwrap()), Err(Why::Absent));
    }
}
