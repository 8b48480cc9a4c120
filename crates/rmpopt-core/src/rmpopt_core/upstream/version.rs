//! What each posted version does: one row each, read from the patches (spec/rmpopt.md 4).

use crate::rmpopt_core::{Claims, Reach, MILLISECOND, SECOND};

/// What begins a pass, besides SNP_INIT and an operator's request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// Nothing.
    RequestOnly,
    /// The last reference to a guest's memory is gone; all of it is shared again.
    MemoryFreed,
    /// A guest is decommissioned.
    Decommission,
}

/// Which 2 TiB the cores' tables cover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Windows {
    /// The lowest, the same for all.
    Lowest,
    /// From the start of the core's socket, or of its node where the socket spans more.
    Own,
}

/// How one CPU scans before the others follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lead {
    /// It does not: all scan at once.
    None,
    /// The CPU the worker happens to be on, which is not looked at, all regions in one stretch.
    Held,
    /// A CPU known to be enabled, all regions in one stretch.
    HeldEnabled,
    /// A CPU known to be enabled, which may be rescheduled after each region.
    Rescheduled,
}

/// One version, as parameters of [`Upstream`](super::Upstream).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each says one independent thing of the version.
pub struct Version {
    /// Its name on the command line.
    pub name: &'static str,
    /// Laws it claims.
    pub claims: Claims,
    /// From SNP_INIT to the first pass.
    pub first_ns: u64,
    /// What begins a pass.
    pub trigger: Trigger,
    /// From the trigger to the pass.
    pub delay_ns: u64,
    /// A trigger restarts the delay, and during a pass queues another (`mod_delayed_work`). Else it
    /// changes nothing while one is pending or runs.
    pub restarts: bool,
    /// Windows.
    pub windows: Windows,
    /// The pass goes over all RAM, not only 2 TiB from the lowest.
    pub whole_ram: bool,
    /// Who scans first.
    pub lead: Lead,
    /// Who is interrupted for each region.
    pub reach: Reach,
    /// Only for regions that the leader found clean.
    pub only_clean: bool,
    /// Only regions of which pages were assigned since they were last found clean.
    pub map: bool,
    /// Bases are written 0 at SNP shutdown.
    pub clears: bool,
    /// CPU hotplug is disabled while SNP is up.
    pub hotplug_disabled: bool,
}

/// `v10`, 30 June 2026.
pub const V10: Version = Version {
    name: "v10",
    // Upstream bounds neither time to optimise nor holds (DESIGN "What is counted").
    claims: Claims::of(&[1, 2, 4, 6]),
    first_ns: 0,
    trigger: Trigger::Decommission,
    delay_ns: 10 * SECOND,
    restarts: true,
    windows: Windows::Lowest,
    whole_ram: false,
    lead: Lead::Rescheduled,
    reach: Reach::OtherCores,
    only_clean: false,
    map: false,
    clears: true,
    hotplug_disabled: true,
};

/// `v8`, 15 June: as v10 but for what no run shows (debugfs, where hotplug is disabled).
pub const V8: Version = Version { name: "v8", ..V10 };

/// `v6`, 2 June: the delay is not restarted, hotplug is not disabled, the leader does not reschedule.
pub const V6: Version = Version {
    name: "v6",
    claims: Claims::of(&[1, 2]),
    restarts: false,
    lead: Lead::HeldEnabled,
    hotplug_disabled: false,
    ..V10
};

/// `v5`, 18 May: the leader is whatever CPU the worker is on.
pub const V5: Version = Version { name: "v5", lead: Lead::Held, ..V6 };

/// `v3`, 30 March: the leader's core is interrupted too, and nothing is torn down.
pub const V3: Version =
    Version { name: "v3", first_ns: MILLISECOND, reach: Reach::EveryCore, clears: false, ..V5 };

/// `v2`, 2 March: a kernel thread, all CPUs at once, when a guest's memory is freed.
pub const V2: Version = Version {
    name: "v2",
    first_ns: 0,
    trigger: Trigger::MemoryFreed,
    delay_ns: 0,
    lead: Lead::None,
    reach: Reach::EveryCpu,
    ..V3
};

/// `v1`, 17 February: a kernel thread, on request, one thread of each core, a window per socket.
pub const V1: Version = Version {
    name: "v1",
    trigger: Trigger::RequestOnly,
    windows: Windows::Own,
    whole_ram: true,
    reach: Reach::EveryCore,
    ..V2
};

/// v10 with the thread's one bit per GiB.
pub const V10_MAP: Version = Version { name: "v10-map", map: true, ..V10 };

/// v10 with followers only where the leader succeeded.
pub const V10_LEADER: Version = Version { name: "v10-leader", only_clean: true, ..V10 };

/// Every version, oldest first, then the thread's ideas.
pub const ALL: [&Version; 9] = [&V1, &V2, &V3, &V5, &V6, &V8, &V10, &V10_MAP, &V10_LEADER];
