//! Who runs RMPOPT here.

use std::collections::BTreeMap;

use serde::Serialize;

use super::log::Log;
use super::registers::Rmpopt;
use crate::system::{System, Why};

/// Who.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DriverKind {
    /// This project's module.
    Ours,
    /// AMD's series in the kernel.
    Upstream,
    /// Nobody.
    None,
    /// Not known.
    Unknown,
}

/// The driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Driver {
    /// Who it is.
    pub kind: DriverKind,
    /// How that is known.
    pub evidence: String,
    /// Whether it runs on emulated hardware; null if not known.
    pub emulated: Option<bool>,
    /// Its policy.
    pub policy: Option<String>,
    /// `runs`, `paused`, `stops`, `stopped`.
    pub life: Option<String>,
    /// Whether every region was looked at once since SNP came up.
    pub first_pass_over: Option<bool>,
    /// Age of what it believes, in milliseconds.
    pub changed_ms_ago: Option<u64>,
    /// Its counters (docs/kernel-module.md).
    pub stats: BTreeMap<String, u64>,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// Its numbers that can be set while it is loaded (docs/kernel-module.md), each in the unit that
    /// its name ends with; null if configfs is not mounted or the module has none there.
    pub tunables: Option<BTreeMap<&'static str, u64>>,
    /// kvm_amd's parameter `sev_snp`.
    pub kvm_sev_snp: Option<bool>,
}

pub(super) fn driver(system: &System, log: &Log, rmpopt: Option<&Rmpopt>) -> Driver {
    let params = system.params.as_ref().ok();
    let module = params.and_then(|params| params.get("rmpopt"));
    let regions = system.regions.as_ref().ok();
    let enabled = rmpopt.is_some_and(|rmpopt| rmpopt.cores_enabled > 0);
    let hidden = |why: &Why| matches!(why, Why::Forbidden);
    let (kind, evidence) = if module.is_some() || system.stats.is_ok() {
        (DriverKind::Ours, "module rmpopt is loaded".to_owned())
    } else if let Ok((path, _)) = &system.table {
        (DriverKind::Upstream, format!("{path} is there, without our module"))
    } else if let Err(error) = &system.table
        && error.why == Why::NotAsked
    {
        (DriverKind::Upstream, format!("{} is there, without our module", error.path))
    } else if let Some(text) = log.first_text("rmpopt-pass") {
        (DriverKind::Upstream, format!("kernel log: {text}"))
    } else if enabled {
        (DriverKind::Unknown, "RMPOPT_BASE is enabled; by whom is not known".to_owned())
    } else if rmpopt.is_some() {
        (DriverKind::None, "no module, no table, and RMPOPT_BASE is off where asked".to_owned())
    } else if params.is_some()
        && let Err(error) = &system.table
        && !hidden(&error.why)
    {
        (DriverKind::None, "no module and no table".to_owned())
    } else {
        (DriverKind::Unknown, "neither module nor table can be seen".to_owned())
    };
    Driver {
        kind,
        evidence,
        emulated: match kind {
            DriverKind::Ours => system.emulated.as_ref().ok().copied(),
            DriverKind::Upstream | DriverKind::None => Some(false),
            DriverKind::Unknown => None,
        },
        policy: regions.map(|r| r.policy.clone()),
        life: regions.map(|r| r.life.clone()),
        first_pass_over: regions.map(|r| r.first_pass_over),
        changed_ms_ago: regions.map(|r| r.changed_ms_ago),
        stats: system.stats.as_ref().ok().cloned().unwrap_or_default(),
        parameters: module.cloned().unwrap_or_default(),
        tunables: system.tunables.as_ref().ok().filter(|all| !all.is_empty()).cloned(),
        kvm_sev_snp: params
            .and_then(|params| params.get("kvm_amd")?.get("sev_snp"))
            .and_then(|value| crate::system::flag(value)),
    }
}
