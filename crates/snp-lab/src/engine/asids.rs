//! ASIDs of SNP guests. As Linux has it, one that was used becomes free only after WBINVD on every CPU
//! and `SNP_DF_FLUSH`, which wait until no clean one is left (spec/snp-arch.md 6.5, case 78).

use std::collections::BTreeSet;

use snp_defs::FirmwareStatus;

use super::Engine;
use crate::rmp::{ASIDS, Command};
use crate::scenario::Nanos;
use crate::seeded::Defect;

/// The host's books of ASIDs.
#[derive(Debug)]
pub(super) struct Asids {
    free: BTreeSet<u32>,
    /// Used, and not flushed since.
    used: Vec<u32>,
}

impl Asids {
    pub(super) fn new() -> Self {
        Self { free: (1..=ASIDS).collect(), used: Vec::new() }
    }

    /// A guest that had this one is gone.
    pub(super) fn retire(&mut self, asid: u32) {
        self.used.push(asid);
    }
}

impl Engine<'_> {
    /// The lowest ASID that is free, and what it took to have one; `None` if guests have them all.
    pub(super) fn new_asid(&mut self) -> Option<(u32, Nanos)> {
        let mut took = 0;
        if self.asids.free.is_empty() && !self.asids.used.is_empty() {
            if !self.defect(Defect::NoFlush) {
                took = self.flush().ok()?;
            }
            let used = std::mem::take(&mut self.asids.used);
            self.asids.free.extend(used);
        }
        self.asids.free.pop_first().map(|asid| (asid, took))
    }

    /// WBINVD on every CPU, then `SNP_DF_FLUSH`. Returns the time they take.
    pub(super) fn flush(&mut self) -> Result<Nanos, FirmwareStatus> {
        let took = self.wbinvd() + self.cost.firmware_command;
        self.command(Command::DfFlush)?;
        self.meter.counts.guests.df_flushes += 1;
        Ok(took)
    }

    /// WBINVD on every CPU. Returns the time it takes.
    pub(super) fn wbinvd(&mut self) -> Nanos {
        self.rmp.wbinvd();
        self.meter.counts.guests.wbinvds += 1;
        self.cost.wbinvd_all
    }

    /// A command of the firmware, counted.
    pub(super) fn command(&mut self, command: Command) -> Result<(), FirmwareStatus> {
        let fails = match command {
            Command::PageReclaim(_) => self.defect(Defect::ReclaimFails),
            Command::Decommission(_) => self.defect(Defect::DecommissionFails),
            _ => false,
        };
        let answer =
            if fails { Err(FirmwareStatus::HWERROR_PLATFORM) } else { self.rmp.command(command) };
        let ops = &mut self.meter.counts.guests;
        ops.firmware_commands += 1;
        ops.firmware_errors += u64::from(answer.is_err());
        answer
    }
}
