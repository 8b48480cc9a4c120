//! The scenario's events: the operator's requests, CPUs that go and come.

use rmpopt_core::{CoreId, Event as PolicyEvent, Request as PolicyRequest};
use snp_defs::RmpoptBase;

use super::Engine;
use crate::policies::Kind;
use crate::report::TimelineKind;
use crate::rmp::RmpError;
use crate::scenario::Action;

impl Engine<'_> {
    pub(super) fn scenario_event(&mut self, index: usize) -> Result<(), RmpError> {
        let Some(event) = self.setup.scenario.events.get(index) else { return Ok(()) };
        match event.action {
            Action::Share { guest, memory, unit } => self.convert(guest, memory, unit, true),
            Action::Private { guest, memory, unit } => self.convert(guest, memory, unit, false),
            Action::Leak { guest, pages } => self.will_leak(guest, pages),
            Action::SnpInit => self.snp_init()?,
            Action::SnpShutdown => self.begin_shutdown(),
            Action::CpuOffline { cpu } => self.cpu_offline(cpu),
            Action::CpuOnline { cpu } => self.cpu_online(cpu),
            Action::Request => self.operator(PolicyRequest::Optimise, "asks for a pass"),
            Action::Pause => self.pause(),
            Action::Resume => self.resume(),
        }
        Ok(())
    }

    pub(super) fn pause(&mut self) {
        self.paused_at = Some(self.now);
        self.operator(PolicyRequest::Pause, "pauses passes");
    }

    pub(super) fn resume(&mut self) {
        self.paused_at = None;
        self.last_resumed = self.now;
        self.operator(PolicyRequest::Resume, "lets passes go on");
    }

    pub(super) fn operator(&mut self, request: PolicyRequest, what: &str) {
        self.note(TimelineKind::Operator, format!("the operator {what}"));
        self.tell(PolicyEvent::Request(request));
    }

    /// Whether CPUs may not come and go: upstream forbids it from v8 on while SNP is up
    /// (spec/rmpopt.md 4).
    pub(super) fn hotplug_disabled(&self) -> bool {
        matches!(self.setup.policy.kind(), Kind::Upstream(version) if version.hotplug_disabled)
            && self.refused.is_none()
            && (self.ledger.is_up() || self.shutting_down)
    }

    /// A CPU is told to go offline or to come online. Returns whether it can.
    pub(super) fn may_change(&mut self, cpu: u32, online: bool) -> bool {
        let why = if self.topology.core_of(cpu).is_none() {
            format!("there is no CPU {cpu}")
        } else if self.cpus.is_online(cpu) == online {
            format!("CPU {cpu} is {} already", if online { "online" } else { "offline" })
        } else if self.hotplug_disabled() {
            let stays = if online { "offline" } else { "online" };
            format!(
                "CPU {cpu} stays {stays}: {} disables CPU hotplug while SNP is up",
                self.setup.policy
            )
        } else {
            return true;
        };
        self.note(TimelineKind::Cpu, why);
        false
    }

    pub(super) fn cpu_offline(&mut self, cpu: u32) {
        if self.may_change(cpu, false) && !self.leaving.contains(&cpu) {
            self.leaving.push(cpu);
            self.cpus_leave();
        }
    }

    /// CPUs that were told to leave go, once the driver has nothing under way there.
    pub(super) fn cpus_leave(&mut self) {
        for cpu in std::mem::take(&mut self.leaving) {
            let Some(core) = self.topology.core_of(cpu) else { continue };
            let core = CoreId(core as u16);
            if self.driver.is_using(core) {
                self.leaving.push(cpu);
                continue;
            }
            self.cpus.set_online(cpu, false);
            self.driver.cores_epoch += 1;
            self.note(TimelineKind::Cpu, format!("CPU {cpu} goes offline"));
            if self.cpus.worker(core).is_none() {
                self.drop_slot(core);
                if let Some(enabled) = self.driver.enabled.get_mut(core.index()) {
                    *enabled = false;
                }
                if let Some(participates) = self.view.participates.get_mut(core.index()) {
                    *participates = false;
                }
                self.tell(PolicyEvent::CoreOffline(core));
            } else {
                self.queue_turn(core);
            }
        }
    }

    pub(super) fn cpu_online(&mut self, cpu: u32) {
        let leaving = self.leaving.len();
        self.leaving.retain(|&leaving| leaving != cpu);
        if self.leaving.len() < leaving {
            self.note(TimelineKind::Cpu, format!("CPU {cpu} was about to go offline and stays"));
            return;
        }
        if !self.may_change(cpu, true) {
            return;
        }
        let Some(core) = self.topology.core_of(cpu) else { return };
        let core = CoreId(core as u16);
        let was_away = self.cpus.worker(core).is_none();
        self.cpus.set_online(cpu, true);
        self.driver.cores_epoch += 1;
        self.note(TimelineKind::Cpu, format!("CPU {cpu} comes online"));
        if !was_away {
            return;
        }
        if let Some(participates) = self.view.participates.get_mut(core.index()) {
            *participates = true;
        }
        let at = snp_model::CoreId(u32::from(core.0));
        let base = RmpoptBase::from_raw(self.rmp.unit().rdmsr_base(at)).unwrap_or_default();
        let snp_en = self.rmp.unit().snp_en(at);
        if let Some(enabled) = self.driver.enabled.get_mut(core.index()) {
            *enabled = snp_en && base.is_enabled();
        }
        if let Some(since) = self.driver.able_since.get_mut(core.index()) {
            *since = self.now;
        }
        self.oracle_core(core);
        self.tell(PolicyEvent::CoreOnline { core, base, snp_en });
    }
}
