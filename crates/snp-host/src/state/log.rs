//! What the host's kernel log says since the last boot.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::decode::{Decoded, Finding, Role, decode};
use crate::kernel_log::KernelFacts;
use crate::system::System;

/// Findings that say why SNP is off.
pub(super) const SNP_OFF: [(&str, &str); 7] = [
    ("rmp-not-reserved", "the BIOS reserved no memory for the RMP"),
    ("rmp-too-small", "the RMP does not cover the RAM"),
    ("rmp-bad-registers", "the RMP's registers are wrong"),
    ("firmware-too-old", "the firmware is too old"),
    ("iommu-refuses-snp", "the IOMMU refuses SNP"),
    ("cpus-offline", "CPUs are offline"),
    ("snp-init-failed", "SNP_INIT failed"),
];

/// The log.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Log {
    /// Where it was read; `None` if there is none.
    pub source: Option<String>,
    /// The kernel's version.
    pub kernel: Option<String>,
    /// Whose it is: `host`, `guest`, `mixed`, `unknown`. A guest's log is not used.
    pub role: Option<&'static str>,
    /// How often each kind of finding occurs (docs/decode.md).
    pub findings: BTreeMap<&'static str, u64>,
    /// Doubts and why facts could not be read.
    pub notes: Vec<String>,
    #[serde(skip)]
    first: BTreeMap<&'static str, Finding>,
    #[serde(skip)]
    last: BTreeMap<&'static str, String>,
    #[serde(skip)]
    pub(super) facts: KernelFacts,
    #[serde(skip)]
    pub(super) map: Option<crate::e820::MemoryMap>,
}

impl Log {
    pub(super) fn of(system: &System) -> Self {
        let Ok((path, text)) = &system.log else { return Self::default() };
        let mut log = Self { source: Some(path.clone()), ..Self::default() };
        let Decoded { findings, boots, .. } = decode(text.as_bytes());
        let last = boots.last();
        log.role = last.map(|boot| boot.role.name());
        if last.is_some_and(|boot| boot.role == Role::Guest) {
            log.notes.push(format!("{path}: is a guest's log and says nothing of its host"));
            return log;
        }
        let from = last.filter(|_| boots.len() > 1).map_or(0, |boot| boot.line);
        for finding in findings.into_iter().filter(|finding| finding.line >= from) {
            *log.findings.entry(finding.kind).or_default() += 1;
            log.last.insert(finding.kind, crate::place::quoted_long(&finding.text));
            log.first.entry(finding.kind).or_insert(finding);
        }
        match KernelFacts::parse(path, text) {
            Ok(facts) => log.facts = facts,
            Err(error) => log.notes.push(error.to_string()),
        }
        match crate::e820::MemoryMap::find(path, text) {
            Ok(map) => log.map = map,
            Err(error) => log.notes.push(error.to_string()),
        }
        log.kernel = log.facts.version.as_deref().map(crate::place::quoted);
        log
    }

    /// How often a kind occurs.
    pub fn count(&self, kind: &str) -> u64 {
        self.findings.get(kind).copied().unwrap_or(0)
    }

    /// The last finding of a kind: its line, control characters shown.
    pub fn last_text(&self, kind: &str) -> Option<&str> {
        self.last.get(kind).map(String::as_str)
    }

    /// The first finding of a kind: its line, control characters shown.
    pub fn first_text(&self, kind: &str) -> Option<String> {
        self.first.get(kind).map(|finding| crate::place::quoted_long(&finding.text))
    }
}
