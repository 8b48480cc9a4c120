//! What the MSRs say, and whether all CPUs say the same.

use std::collections::BTreeMap;

use serde::Serialize;
use snp_defs::{RmpoptBase, Syscfg, msr};

use crate::cpulist::CpuList;
use crate::system::{Cpus, MSRS, System};

/// One MSR on the CPUs that were asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Register {
    /// Its name.
    pub name: &'static str,
    /// Its number, hexadecimal.
    pub number: String,
    /// How many CPUs were asked.
    pub cpus_asked: u32,
    /// Its values, hexadecimal, with the CPUs that have each; the most common one first.
    pub values: Vec<Value>,
}

/// A value and who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Value {
    /// The value, hexadecimal with `0x`.
    pub value: String,
    /// The CPUs, as a list.
    pub cpus: String,
}

/// Those registers that were read.
pub(super) fn registers(system: &System) -> Vec<Register> {
    let mut all = Vec::new();
    for (number, name) in MSRS {
        let Some(Ok((_, values))) = system.msrs.get(&number) else { continue };
        let mut by_value: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for (cpu, value) in values {
            by_value.entry(*value).or_default().push(*cpu);
        }
        let mut groups: Vec<_> = by_value.into_iter().collect();
        groups.sort_by_key(|(value, cpus)| (std::cmp::Reverse(cpus.len()), *value));
        let values = groups
            .into_iter()
            .map(|(value, cpus)| Value { value: format!("{value:#x}"), cpus: list(&cpus) })
            .collect();
        let cpus_asked = system.msrs[&number].as_ref().map_or(0, |(_, v)| v.len() as u32);
        all.push(Register { name, number: format!("{number:#x}"), cpus_asked, values });
    }
    all
}

pub(super) fn list(cpus: &[u32]) -> String {
    let words: Vec<String> = cpus.iter().map(u32::to_string).collect();
    CpuList::parse(&words.join(",")).map(|list| list.to_string()).unwrap_or_default()
}

/// A register's value on the first CPU asked.
pub(super) fn first(system: &System, number: u32) -> Option<u64> {
    let (_, values) = system.msrs.get(&number)?.as_ref().ok()?;
    values.values().next().copied()
}

/// Whether RMP checks are on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Snp {
    /// SYSCFG's SNP_EN on all CPUs that were asked; `None` if not known.
    pub enabled: Option<bool>,
    /// How that is known, or why it is off or not known.
    pub reasons: Vec<String>,
}

pub(super) fn snp(system: &System, kinds: &super::log::Log) -> Snp {
    let mut snp = Snp::default();
    if let Some(Ok((source, values))) = system.msrs.get(&msr::SYSCFG) {
        let on = values.values().filter(|value| Syscfg(**value).snp_en()).count();
        snp.enabled = Some(on == values.len() && on > 0);
        let all = values.len();
        snp.reasons.push(format!("SYSCFG has SNP_EN on {on} of {all} CPUs asked ({source})"));
    }
    for (kind, words) in super::log::SNP_OFF {
        if let Some(text) = kinds.first_text(kind) {
            snp.reasons.push(format!("{words}: {text}"));
        }
    }
    if snp.reasons.is_empty() {
        snp.reasons.push("neither MSRs nor a kernel log say".to_owned());
    }
    snp
}

/// RMPOPT on each core, by `RMPOPT_BASE`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rmpopt {
    /// Cores (or CPUs, where cores are not known) that were asked.
    pub cores_asked: u32,
    /// Those with the enable bit.
    pub cores_enabled: u32,
    /// CPUs without it, as a list.
    pub cpus_disabled: String,
    /// CPUs whose value has bits that are neither enable nor base.
    pub cpus_malformed: String,
    /// The windows of those that have it.
    pub windows: Vec<WindowState>,
}

/// A window of 2 TiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WindowState {
    /// First region, in GiB from address 0.
    pub first_gib: u32,
    /// The region after the last.
    pub end_gib: u32,
    /// Cores with this window.
    pub cores: u32,
}

pub(super) fn rmpopt(system: &System) -> Option<Rmpopt> {
    let (_, values) = system.msrs.get(&msr::RMPOPT_BASE)?.as_ref().ok()?;
    let core_of = cores(system.cpus.as_ref().ok());
    let mut by_core: BTreeMap<u32, u64> = BTreeMap::new();
    let (mut off, mut bad) = (Vec::new(), Vec::new());
    for (cpu, raw) in values {
        match RmpoptBase::from_raw(*raw) {
            Err(_) => bad.push(*cpu),
            Ok(base) if !base.is_enabled() => off.push(*cpu),
            Ok(_) => {}
        }
        by_core.entry(core_of.get(cpu).copied().unwrap_or(*cpu)).or_insert(*raw);
    }
    let mut windows: BTreeMap<u32, u32> = BTreeMap::new();
    for raw in by_core.values() {
        if let Ok(base) = RmpoptBase::from_raw(*raw)
            && base.is_enabled()
        {
            *windows.entry(base.window().base.get()).or_default() += 1;
        }
    }
    Some(Rmpopt {
        cores_asked: by_core.len() as u32,
        cores_enabled: windows.values().sum(),
        cpus_disabled: list(&off),
        cpus_malformed: list(&bad),
        windows: windows
            .into_iter()
            .map(|(first_gib, cores)| WindowState {
                first_gib,
                end_gib: first_gib + snp_defs::Window::REGIONS,
                cores,
            })
            .collect(),
    })
}

/// The core (its first CPU) of each CPU.
pub(super) fn cores(cpus: Option<&Cpus>) -> BTreeMap<u32, u32> {
    let cores = cpus.into_iter().flat_map(|cpus| &cpus.cores);
    cores.flat_map(|(core, cpus)| cpus.iter().map(|cpu| (cpu, *core))).collect()
}
