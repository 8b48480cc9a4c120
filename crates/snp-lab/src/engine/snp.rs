//! SNP's life: SNP_INIT, and a shutdown that ends the guests and the driver first.

use rmpopt_core::{CoreId, Event as PolicyEvent, Host as _};
use snp_defs::{FirmwareStatus, PageSize, Region, RmpoptBase};

use super::guests::Guest;
use super::{Engine, laws};
use crate::memory::Extent;
use crate::report::TimelineKind;
use crate::rmp::{Owner, RmpError};
use crate::words::{size, things};

impl Engine<'_> {
    pub(super) fn snp_init(&mut self) -> Result<(), RmpError> {
        if self.ledger.is_up() || self.shutting_down {
            let state = if self.shutting_down { "still going down" } else { "up already" };
            self.note(TimelineKind::Snp, format!("SNP_INIT: SNP is {state}"));
            return Ok(());
        }
        if let Some(why) = self.boot.linux_refuses() {
            self.note(TimelineKind::Snp, format!("SNP stays off: {why}"));
            return Ok(());
        }
        self.rmp.snp_init(&self.boot)?;
        self.times.forget();
        if self.heads_assigned {
            self.assign_heads()?;
        }
        self.meter.counts.snp_inits += u64::from(self.uses_rmpopt());
        self.driver_starts();
        self.policy
            .handle(rmpopt_core::Time::from_ns(self.now), PolicyEvent::SnpInitialised(&self.view));
        for core in 0..self.view.cores() {
            // The pairs are those of the scenario's CPUs, also for a policy that enables nothing.
            let window = self.policy.window(CoreId(core));
            let fallback = || rmpopt_core::window::lowest(&self.view);
            let counts = self.view.participates(CoreId(core));
            if let Some(slot) = self.windows.get_mut(usize::from(core)) {
                *slot = counts.then(|| window.unwrap_or_else(fallback));
            }
        }
        let mut boot_pages = vec![0u64; self.memory.spanned_regions() as usize];
        for range in &self.boot.assigned {
            let mut at = range.first;
            let mut left = range.pages;
            while left > 0 {
                let room = snp_defs::PAGES_PER_REGION - u64::from(at.index_in_region());
                let here = left.min(room);
                if let Some(pages) = boot_pages.get_mut(at.region().index()) {
                    *pages += here;
                }
                left -= here;
                let Some(next) = at.checked_add(here) else { break };
                at = next;
            }
        }
        let windows = &self.windows;
        self.ledger.snp_up(|index| {
            let region = Region::new(index as u32).unwrap_or_default();
            let covered = windows.iter().flatten().filter(|window| window.covers(region)).count();
            (boot_pages.get(index).copied().unwrap_or(0), covered as u32)
        });
        self.oracle_init();
        let assigned: u64 = boot_pages.iter().sum();
        self.note(
            TimelineKind::Snp,
            format!(
                "SNP_INIT: RMP built, {} assigned to firmware",
                size(assigned * snp_defs::PAGE_BYTES)
            ),
        );
        if let Some(refused) = self.refused.clone() {
            self.note(TimelineKind::Snp, format!("RMPOPT is not used: {refused}"));
        }
        for index in 0..self.ledger.regions.len() {
            let book = self.ledger.regions.get(index).copied().unwrap_or_default();
            if let Some(region) = Region::new(index as u32).filter(|_| book.assigned == 0) {
                self.watch_liveness(region, book.freed);
            }
        }
        self.tell(PolicyEvent::Timer);
        Ok(())
    }

    /// The first page of each region becomes assigned, unless it is already.
    fn assign_heads(&mut self) -> Result<(), RmpError> {
        let firsts: Vec<_> = self.memory.iter_regions().map(Region::first_pfn).collect();
        for first in firsts {
            let head = Extent { first, pages: 1 };
            self.rmp.update(head, PageSize::Size4K, Owner::Firmware)?;
        }
        Ok(())
    }

    /// SNP shall go down: its guests first.
    pub(super) fn begin_shutdown(&mut self) {
        if !self.ledger.is_up() || self.shutting_down {
            let state = if self.shutting_down { "going down already" } else { "not up" };
            self.note(TimelineKind::Snp, format!("SNP shutdown: SNP is {state}"));
            return;
        }
        self.shutting_down = true;
        let running: Vec<usize> = (0..self.guests.len())
            .filter(|&index| {
                self.guests.get(index).is_some_and(|g| g.holds_pages() && g.is_there())
            })
            .collect();
        self.note(
            TimelineKind::Snp,
            match running.len() as u64 {
                0 => "SNP shutdown begins".into(),
                1 => "SNP shutdown begins: 1 SNP guest is ended first".into(),
                guests => {
                    format!("SNP shutdown begins: {} are ended first", things(guests, "SNP guest"))
                }
            },
        );
        for index in running {
            self.end(index);
        }
        self.guest_gone();
    }

    /// A guest is gone; a shutdown may wait for the last.
    pub(super) fn guest_gone(&mut self) {
        if !self.shutting_down || self.going_down || self.guests.iter().any(Guest::holds_pages) {
            return;
        }
        self.going_down = true;
        self.snapshot = Some(self.take_snapshot());
        self.ledger.snp_down();
        self.meter.end_steady();
        self.tell(PolicyEvent::SnpGoingDown);
    }

    /// The driver has stopped: the firmware may clear SNP_EN.
    pub(super) fn finish_shutdown(&mut self) {
        self.oracle_clear();
        // A core that is away is cleared when it returns.
        let set: Vec<_> = (0..self.view.cores())
            .filter(|&core| self.cpus.worker(CoreId(core)).is_some())
            .filter(|&core| {
                let unit = self.rmp.unit();
                unit.rdmsr_base(snp_model::CoreId(u32::from(core))) != RmpoptBase::OFF.raw()
            })
            .collect();
        self.check(laws::CLEAN_EXIT, set.is_empty(), || {
            let cores = things(set.len() as u64, "core");
            format!("RMPOPT_BASE is not 0 on {cores} after SNP shutdown")
        });
        let cleared = set.is_empty();
        self.shut_firmware_down();
        self.shutting_down = false;
        self.going_down = false;
        let what = match (self.uses_rmpopt(), cleared) {
            (false, _) => "SNP shut down",
            (true, true) => "SNP shut down: the driver has stopped, RMPOPT_BASE is 0 on every core",
            (true, false) => "SNP shut down: the driver has stopped",
        };
        self.note(TimelineKind::Snp, what.into());
    }

    /// `SNP_SHUTDOWN_EX`; where a guest's ASID was not flushed yet, after WBINVD and a flush.
    fn shut_firmware_down(&mut self) {
        let mut answer = self.shutdown_command();
        if answer == Ok(Err(FirmwareStatus::DFFLUSH_REQUIRED)) && self.flush().is_ok() {
            answer = self.shutdown_command();
        }
        match answer {
            Ok(Ok(())) => {}
            Ok(Err(status)) => {
                self.breach(laws::CLEAN_EXIT, || format!("SNP_SHUTDOWN_EX: {status}"));
            }
            Err(error) => self.breach(laws::CLEAN_EXIT, || error.to_string()),
        }
    }

    fn shutdown_command(&mut self) -> Result<snp_model::Answer, RmpError> {
        let answer = self.rmp.snp_shutdown(&self.boot)?;
        let ops = &mut self.meter.counts.guests;
        ops.firmware_commands += 1;
        ops.firmware_errors += u64::from(answer.is_err());
        Ok(answer)
    }
}
