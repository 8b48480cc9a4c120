//! The ccp driver and the SEV firmware: versions, commands that failed.
//!
//! Messages of `drivers/crypto/ccp/sev-dev.c` and of KVM; the wording of INIT's failure changed in
//! nearly every kernel, so each part may be missing.

use super::Pattern;
use super::finding::{Fact, Finding, Severity};
use super::names::{self, NO_CALL};
use super::template::Captures;

/// SNP's own start failed.
pub(super) const SNP_INIT_FAILED: &str = "snp-init-failed";
/// The start of plain SEV and SEV-ES failed.
pub(super) const SEV_INIT_FAILED: &str = "sev-init-failed";
/// The firmware's version, told when SNP has been started.
pub(super) const SNP_API: &str = "snp-firmware-version";

pub(super) const PATTERNS: &[Pattern] = &[
    // The start of SNP and of SEV.
    Pattern::new(
        "SEV-SNP: failed to INIT error {error:n}, rc {rc:d}",
        "development trees",
        snp_init,
    ),
    Pattern::new(
        "SEV-SNP: failed to INIT rc {rc:d}, error {error:n}",
        "AMDSEV issue 189 (tree of Linux 6.5)",
        snp_init,
    ),
    Pattern::new("SEV-SNP: failed to INIT error {error:n}", "AMDSEV issue 176", snp_init),
    Pattern::new(
        "SEV-SNP: {command:w} failed rc {rc:d}, error {error:n}",
        "Linux 7.3, ccp/sev-dev.c",
        snp_init,
    ),
    Pattern::new(
        "SEV: failed to INIT error {error:n}, rc {rc:d}",
        "AMDSEV issue 176; older Linux",
        |c| Some(sev_init(c)),
    ),
    Pattern::new("SEV: failed to INIT error {error:n}", "older Linux", |c| Some(sev_init(c))),
    Pattern::new("SEV: INIT failed {error:n}, rc {rc:d}", "Linux 7.3, ccp/sev-dev.c", |c| {
        Some(sev_init(c))
    }),
    Pattern::new("SEV: INIT_EX failed {error:n}, rc {rc:d}", "Linux 7.3, ccp/sev-dev.c", |c| {
        Some(sev_init(c))
    }),
    Pattern::new(
        "SEV: retrying INIT command because of SECURE_DATA_INVALID error",
        "Linux 7.3, ccp/sev-dev.c",
        |_| {
            Some(Finding::warning("sev-init-retried").meaning(
                "SEV's stored data were invalid; the kernel asks once more, which resets them.",
            ))
        },
    ),
    Pattern::new(
        "SEV-SNP support requires firmware version >= {major:d}:{minor:d}",
        "Linux 7.3, ccp/sev-dev.c",
        |c| {
            Some(
                Finding::error("firmware-too-old")
                    .text("needs", format!("{}.{}", c.number("major"), c.number("minor")))
                    .meaning("The SEV firmware is too old for SNP: SNP stays off.")
                    .advice(
                        "Put AMD's current SEV firmware for this processor into /lib/firmware/amd/ \
                         (package linux-firmware) and load ccp again, or update the machine's firmware.",
                    ),
            )
        },
    ),
    // Versions.
    Pattern::new(
        "SEV-SNP API:{major:d}.{minor:d} build:{build:d}",
        "Linux 7.3, ccp/sev-dev.c",
        |c| {
            Some(
                version(c, SNP_API).meaning("SNP is initialised, by the firmware of this version."),
            )
        },
    ),
    Pattern::new("SEV API:{major:d}.{minor:d} build:{build:d}", "Linux 7.3, ccp/sev-dev.c", |c| {
        // It is printed after a failure of INIT as well.
        Some(version(c, "sev-firmware-version").meaning("Version of the SEV firmware."))
    }),
    Pattern::new("SEV firmware updated from {from:w} to {to:w}", "Linux 7.3, ccp/sev-dev.c", |c| {
        Some(
            Finding::info("firmware-updated")
                .text("from", c.word("from"))
                .text("to", c.word("to"))
                .meaning("The driver loaded a newer SEV firmware than the machine's own."),
        )
    }),
    Pattern::new("SEV firmware update successful", "AMDSEV issue 176; older Linux", |_| {
        Some(Finding::info("firmware-updated").meaning(
            "The driver loaded the SEV firmware of /lib/firmware/amd/ over the machine's own.",
        ))
    }),
    Pattern::new("SEV firmware update failed", "older Linux", |_| {
        Some(
            Finding::warning("firmware-update-failed").meaning(
                "The SEV firmware of /lib/firmware/amd/ was not taken; the old one runs on.",
            ),
        )
    }),
    Pattern::new("sev enabled", "Linux 7.3, virt/svm/sev.c", |_| {
        Some(Finding::info("sev-device").meaning(
            "The driver found the processor's SEV interface. That SEV or SNP work is not said here.",
        ))
    }),
    Pattern::new("psp does not support SEV", "Linux 7.3, ccp/psp-dev.c", |_| {
        Some(Finding::info("psp-without-sev").meaning(
            "This secure processor offers no SEV. In a host of two sockets only one of them does, so \
             it matters only if no other device says `sev enabled`.",
        ))
    }),
    Pattern::new("sev initialization failed", "Linux 7.3, ccp/sev-dev.c", |_| {
        Some(
            Finding::error("sev-device-failed")
                .meaning("The driver could not set up SEV's interface."),
        )
    }),
    Pattern::new(
        "psp: unable to access the device: you might be running a broken BIOS",
        "Linux 7.3, ccp/psp-dev.c",
        |_| {
            Some(
                Finding::error("psp-unreachable")
                    .meaning("The secure processor does not answer: neither SEV nor SNP work.")
                    .advice("Update the machine's firmware (BIOS) and cold boot."),
            )
        },
    ),
    // Single commands.
    Pattern::new("sev command {id:n} timed out, disabling PSP", "Linux 7.3, ccp/sev-dev.c", |c| {
        Some(
            command(Finding::error("firmware-timeout"), c.number("id"))
                .meaning(
                    "The firmware did not answer, and the driver will not ask it again before the next \
                     boot: no SEV or SNP guest can start or end properly.",
                )
                .advice("Move the guests away and cold boot. Update SEV firmware and BIOS."),
        )
    }),
    Pattern::new("sev command {id:n} timed out", "older Linux", |c| {
        Some(
            command(Finding::error("firmware-timeout"), c.number("id"))
                .meaning("The firmware did not answer in time."),
        )
    }),
    Pattern::new("sev command {id:n} failed ({error:n})", "Linux 7.3, kvm/svm/sev.c", |c| {
        Some(status(command(Finding::error("firmware-command-failed"), c.number("id")), c))
    }),
    Pattern::new(
        "SEV: failed to SHUTDOWN error {error:n}, rc {rc:d}",
        "Linux 7.3, ccp/sev-dev.c",
        |c| Some(named("SEV_SHUTDOWN", c)),
    ),
    Pattern::new("SEV: failed to get status. Error: {error:n}", "Linux 7.3, ccp/sev-dev.c", |c| {
        Some(named("SEV_PLATFORM_STATUS", c))
    }),
    Pattern::new("SEV: DF_FLUSH failed {error:n}, rc {rc:d}", "Linux 7.3, ccp/sev-dev.c", |c| {
        Some(named("DF_FLUSH", c))
    }),
    Pattern::new("SEV: DF_FLUSH failed {error:n}", "older Linux", |c| Some(named("DF_FLUSH", c))),
    Pattern::new(
        "SEV: DF_FLUSH failed, ret={rc:d}, error={error:n}",
        "Linux 7.3, kvm/svm/sev.c",
        |c| Some(named("DF_FLUSH", c)),
    ),
    Pattern::new(
        "SEV-SNP: DF_FLUSH failed, ret={rc:d}, error={error:n}",
        "Linux 7.3, kvm/svm/sev.c",
        |c| Some(named("SNP_DF_FLUSH", c)),
    ),
    Pattern::new(
        "SEV-SNP DF_FLUSH failed, ret = {rc:d}, error = {error:n}",
        "Linux 7.3, kvm/svm/sev.c",
        |c| Some(named("SNP_DF_FLUSH", c)),
    ),
    Pattern::new(
        "SEV-SNP firmware shutdown failed, rc {rc:d}, error {error:n}",
        "Linux 7.3, ccp/sev-dev.c",
        |c| Some(named("SNP_SHUTDOWN_EX", c)),
    ),
    Pattern::new("SNP IOMMU shutdown failed", "Linux 7.3, ccp/sev-dev.c", |_| {
        Some(Finding::error("iommu-shutdown-failed").meaning(
            "At SNP's shutdown the IOMMU's buffers could not be made the hypervisor's again.",
        ))
    }),
    Pattern::new(
        "SNP {command:w} command failed, ret = {rc:d}, error = {error:n}",
        "Linux 7.3, ccp/sev-dev.c",
        failed,
    ),
    Pattern::new(
        "{command:w} command failed, ret = {rc:d}, error = {error:n}",
        "Linux 7.3, ccp/sev-dev.c",
        failed,
    ),
    Pattern::new(
        "SEV: {command:w} failed ret={rc:d}, fw_error={decimal:d} ({error:n})",
        "Linux 7.3, kvm/svm/sev.c",
        failed,
    ),
    Pattern::new(
        "Failed to create SEV-SNP context, rc {rc:d} fw_error {error:d}",
        "Linux 7.3, kvm/svm/sev.c",
        |c| Some(named("SNP_GCTX_CREATE", c)),
    ),
    Pattern::new(
        "SEV: too many firmware commands in progress, no command buffers available",
        "Linux 7.3, ccp/sev-dev.c",
        |_| Some(busy()),
    ),
    Pattern::new(
        "SEV: too many firmware commands are in-progress, no command buffers available",
        "AMDSEV issue 205",
        |_| Some(busy()),
    ),
    Pattern::new(
        "SEV: failed to prepare buffer for legacy command {id:n}. Error: {rc:d}",
        "Linux 7.3, ccp/sev-dev.c",
        |c| Some(buffer(c, "give the command's buffer to the firmware")),
    ),
    Pattern::new(
        "SEV: failed to reclaim buffer for legacy command {id:n}. Error: {rc:d}",
        "Linux 7.3, ccp/sev-dev.c",
        |c| Some(buffer(c, "take the command's buffer back from the firmware")),
    ),
    Pattern::new(
        "Error moving pages to firmware-owned state for SEV legacy command",
        "Linux 7.3, ccp/sev-dev.c",
        |_| {
            Some(Finding::error("firmware-buffer-failed").meaning(
            "The driver could not give a command's buffer to the firmware; the line before says why.",
        ))
        },
    ),
    Pattern::new(
        "Failed to reclaim firmware-owned pages while issuing SEV legacy command",
        "Linux 7.3, ccp/sev-dev.c",
        |_| {
            Some(Finding::error("firmware-buffer-failed").meaning(
            "The driver could not take a command's buffer back from the firmware: its pages are lost \
             until the next boot.",
        ))
        },
    ),
    Pattern::new(
        "SEV: TMR allocation failed, SEV-ES support unavailable",
        "Linux 7.3, ccp/sev-dev.c",
        |_| {
            Some(Finding::error("tmr-not-allocated").meaning(
            "The driver found no memory for the firmware's protected area: SEV-ES and SNP guests cannot \
             start.",
        ))
        },
    ),
];

fn version(captures: &Captures<'_>, kind: &'static str) -> Finding {
    let part = |name| captures.number(name);
    Finding::info(kind)
        .text("api", format!("{}.{}", part("major"), part("minor")))
        .number("build", part("build"))
        .text("version", format!("{}.{}.{}", part("major"), part("minor"), part("build")))
}

fn snp_init(captures: &Captures<'_>) -> Option<Finding> {
    let command = match captures.word("command") {
        "" => "SNP_INIT",
        word if word.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("SNP_")) => word,
        _ => return None,
    };
    let start = command.get(..8).is_some_and(|head| head.eq_ignore_ascii_case("SNP_INIT"));
    if !start {
        return Some(named(command, captures));
    }
    let mut finding = status(
        Finding::error(SNP_INIT_FAILED).text("command", command.to_ascii_uppercase()),
        captures,
    );
    finding.meaning =
        format!("SNP could not be started: no SNP guest can run. {}", finding.meaning).into();
    Some(finding)
}

fn sev_init(captures: &Captures<'_>) -> Finding {
    let mut finding = status(Finding::error(SEV_INIT_FAILED).text("command", "SEV_INIT"), captures);
    finding.meaning = format!(
        "Plain SEV (not SNP) could not be started: no SEV or SEV-ES guest can run. {}",
        finding.meaning
    )
    .into();
    finding
}

fn named(command: &str, captures: &Captures<'_>) -> Finding {
    let finding =
        Finding::error("firmware-command-failed").text("command", command.to_ascii_uppercase());
    status(finding, captures)
}

fn failed(captures: &Captures<'_>) -> Option<Finding> {
    // Names of commands only: letters, digits and `_`.
    let word = captures.word("command");
    let shaped = word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && word.contains('_');
    shaped.then(|| named(word, captures))
}

fn busy() -> Finding {
    Finding::warning("firmware-busy")
        .meaning(
            "More legacy commands that write memory were sent at once than the driver has buffers for \
             (two); this one was refused with EBUSY.",
        )
        .advice(
            "If it comes once, whoever asked should try again. If it comes before or after a failed \
             RMPUPDATE, a buffer was never given back: look for leaked pages, and reboot.",
        )
}

fn buffer(captures: &Captures<'_>, what: &str) -> Finding {
    let mut finding = command(Finding::error("firmware-buffer-failed"), captures.number("id"));
    if let Some(errno) = captures.signed("rc") {
        finding.set("errno", Fact::Signed(errno));
    }
    finding.meaning(format!(
        "The driver could not {what}; the command was not sent or its pages are lost."
    ))
}

/// A command's id with its name.
fn command(finding: Finding, id: u64) -> Finding {
    let name = u32::try_from(id).ok().and_then(names::command_name).unwrap_or("unknown");
    finding.hex("command_id", id).text("command", name)
}

/// The firmware's status in a line.
fn status(mut finding: Finding, captures: &Captures<'_>) -> Finding {
    let code = match captures.signed("error") {
        Some(-1) => NO_CALL,
        // The interface has 16 bits; the kernel shows the mailbox's low word as it is.
        Some(code) => match u32::try_from(code) {
            Ok(code) => code,
            Err(_) => return finding,
        },
        None => return finding,
    };
    finding.set("status_code", Fact::Hex(u64::from(code)));
    finding.set("status", Fact::Text(shown(code)));
    if let Some(errno) = captures.signed("rc") {
        finding.set("errno", Fact::Signed(errno));
    }
    let (meaning, advice) = names::status_words(code);
    finding.meaning(meaning).advice(advice)
}

/// `INVALID_PAGE_STATE(0x1a)`, or the number alone.
fn shown(code: u32) -> String {
    match names::status_name(code) {
        Some(name) => format!("{name}({code:#x})"),
        None if code == NO_CALL => "firmware not asked(-1)".to_owned(),
        None => format!("unknown({code:#x})"),
    }
}

/// A status code of the firmware by itself.
pub fn firmware_status(code: u32) -> Finding {
    let (meaning, advice) = names::status_words(code);
    let severity = match code {
        0 => Severity::Info,
        _ if names::status_name(code).is_none() && code != NO_CALL => Severity::Warning,
        _ => Severity::Error,
    };
    Finding::new("firmware-status", severity)
        .hex("status_code", u64::from(code))
        .text("status", shown(code))
        .meaning(meaning)
        .advice(advice)
}

/// The id of a firmware command by itself.
pub fn firmware_command(id: u32) -> Finding {
    let finding = command(Finding::info("firmware-command"), u64::from(id));
    match names::command_name(id) {
        Some(name) => finding.meaning(format!("The firmware command {name}.")),
        None => finding.meaning("No source names this command."),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::one;
    use super::*;

    #[test]
    fn every_wording_of_a_failed_start() {
        for text in [
            "ccp 0000:43:00.1: SEV-SNP: failed to INIT error 0x3",
            "ccp 0000:43:00.1: SEV-SNP: failed to INIT error 0x3, rc -5",
            "ccp 0000:42:00.1: SEV-SNP: failed to INIT rc -5, error 0x3",
            "ccp 0000:42:00.1: SEV-SNP: SNP_INIT_EX failed rc -5, error 0x3",
        ] {
            let found = one(text);
            assert_eq!((found.kind, found.severity), (SNP_INIT_FAILED, Severity::Error), "{text}");
            assert_eq!(found.get("status").unwrap().to_string(), "INVALID_CONFIG(0x3)", "{text}");
        }
        for (text, errno) in [
            ("ccp psp: SEV: failed to INIT error 0x11, rc -5", true),
            ("ccp 0000:46:00.1: SEV: failed to INIT error 0x11", false),
            ("ccp 0000:46:00.1: SEV: INIT failed 0x11, rc -5", true),
        ] {
            let found = one(text);
            assert_eq!(found.kind, SEV_INIT_FAILED, "{text}");
            assert_eq!(found.value("status_code"), Some(0x11));
            assert_eq!(found.get("errno").is_some(), errno, "{text}");
        }
        let flush = one("ccp 0000:46:00.1: SEV-SNP: SNP_DF_FLUSH failed rc -5, error 0xe");
        assert_eq!(flush.kind, "firmware-command-failed");
        assert_eq!(flush.get("command").unwrap().to_string(), "SNP_DF_FLUSH");
    }

    #[test]
    fn commands_that_failed() {
        let found = one("ccp 0000:22:00.1: sev command 0xa0 failed (0x1a)");
        assert_eq!(found.get("command").unwrap().to_string(), "SNP_LAUNCH_START");
        assert_eq!(found.get("status").unwrap().to_string(), "INVALID_PAGE_STATE(0x1a)");
        let padded = one("ccp 0000:22:00.1: sev command 0xa0 failed (0x0000001a)");
        assert_eq!(padded.value("status_code"), Some(0x1a));
        let found = one("kvm_amd: SEV: SNP_PLATFORM_STATUS failed ret=-5, fw_error=1 (0x1)");
        assert_eq!(found.get("status").unwrap().to_string(), "INVALID_PLATFORM_STATE(0x1)");
        let unasked =
            one("ccp 0000:22:00.1: SNP FEATURE_INFO command failed, ret = -16, error = 0xffffffff");
        assert!(unasked.meaning.contains("was not asked"));
        let unknown = one("ccp 0000:22:00.1: sev command 0xff failed (0x7777)");
        assert_eq!(unknown.get("command").unwrap().to_string(), "unknown");
        assert_eq!(unknown.meaning, "No source names this status.");
        assert_eq!(
            one("ccp 0000:22:00.1: sev command 0x90 timed out, disabling PSP").kind,
            "firmware-timeout"
        );
    }

    #[test]
    fn versions_and_updates() {
        let found = one("ccp 0000:09:00.5: SEV-SNP API:1.55 build:32");
        assert_eq!(
            (found.kind, found.get("version").unwrap().to_string()),
            (SNP_API, "1.55.32".into())
        );
        let found = one("ccp 0000:45:00.1: SEV firmware updated from 1.49.3 to 1.55.21");
        assert_eq!(found.get("from").unwrap().to_string(), "1.49.3");
        assert_eq!(found.get("to").unwrap().to_string(), "1.55.21");
        let old = one("ccp 0000:46:00.1: SEV-SNP support requires firmware version >= 1:51");
        assert_eq!(
            (old.kind, old.get("needs").unwrap().to_string()),
            ("firmware-too-old", "1.51".into())
        );
    }

    #[test]
    fn codes_alone() {
        assert_eq!(firmware_status(0).severity, Severity::Info);
        assert_eq!(firmware_status(0x1a).severity, Severity::Error);
        assert_eq!(firmware_status(0x99).severity, Severity::Warning);
        assert_eq!(firmware_command(0x93).get("command").unwrap().to_string(), "SNP_GCTX_CREATE");
    }
}
