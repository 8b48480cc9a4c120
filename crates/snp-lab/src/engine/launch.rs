//! An SNP guest's launch, as KVM does it: the firmware's part, launch pages, save areas
//! (spec/snp-arch.md 6.5).

use snp_defs::{PAGE_BYTES, PageSize};

use super::convert::{Job, Way};
use super::guests::{State, round_up};
use super::{Engine, end};
use crate::memory::Extent;
use crate::rmp::{Command, LaunchType, Owner, RmpError, Vcpu};
use crate::runs::{by_block, give, page, pages_of, skip, start, take};
use crate::scenario::Nanos;
use crate::seeded::Defect;

/// Pages of a launch: 4 MiB of guest firmware (OVMF's usual size), a secrets and a CPUID page. They
/// are the lowest of its memory, always 4 KiB each.
const LAUNCH_PAGES: u64 = 1024 + 2;

impl Engine<'_> {
    /// The context page becomes the firmware's, then `GCTX_CREATE`, `LAUNCH_START`, `ACTIVATE`. Returns
    /// how long the whole launch takes, or why it does not begin; then nothing is left of it.
    pub(super) fn begin_launch(&mut self, index: usize) -> Result<Result<Nanos, String>, RmpError> {
        let Some((asid, flushed)) = self.new_asid() else {
            return Ok(Err("no ASID is free".into()));
        };
        let Some(guest) = self.guests.get_mut(index) else { return Ok(Ok(0)) };
        guest.asid = asid;
        let context = guest.pages.context;
        let pages = guest.vcpus() + LAUNCH_PAGES.min(touched(guest));
        self.assign(context.region(), page(context), PageSize::Size4K, Owner::Firmware)?;
        let mut created = false;
        for command in [
            Command::GctxCreate(context),
            Command::LaunchStart(context),
            Command::Activate(context, asid),
        ] {
            if let Err(status) = self.command(command) {
                if !created || self.decommission(index) {
                    self.reclaim(index, context)?;
                }
                self.retire_asid(index);
                return Ok(Err(format!("{}: {status}", command.name())));
            }
            created = true;
        }
        let cost = &self.cost;
        let each = cost.to_private_4k + cost.rmpupdate + cost.launch_update;
        Ok(Ok(flushed + 4 * cost.firmware_command + pages * each))
    }

    /// The launch's time is over: its pages become the guest's, and its vCPUs run.
    pub(super) fn launched(&mut self, index: usize, slice: u64) -> Result<(), RmpError> {
        let Some(guest) = self.guests.get_mut(index) else { return Ok(()) };
        if guest.slice != slice || guest.state != State::Launching {
            return Ok(());
        }
        let (traced, kind) = (guest.traced, guest.spec.kind);
        let mut rest = guest.memory.clone();
        let touched = touched(guest);
        let launch = take(&mut rest, 0, LAUNCH_PAGES.min(touched));
        let runs = take(&mut rest, 0, touched - pages_of(&launch));
        guest.shared = rest;
        if let Err(why) = self.launch_pages(index, &launch)? {
            self.unadmit(traced, kind);
            self.note_rejected(index, &why);
            self.stop(index, end::Why::LaunchFailed);
            return Ok(());
        }
        self.run_vcpus(index)?;
        let Some(guest) = self.guests.get_mut(index) else { return Ok(()) };
        guest.state = State::Running;
        guest.jobs.push_back(Job::new(Way::Private, runs));
        let now = self.now;
        self.next_slice(index, now);
        Ok(())
    }

    /// `LAUNCH_UPDATE` of launch pages and save areas, `LAUNCH_FINISH`.
    fn launch_pages(
        &mut self,
        index: usize,
        launch: &[Extent],
    ) -> Result<Result<(), String>, RmpError> {
        let Some(guest) = self.guests.get(index) else { return Ok(Ok(())) };
        let (context, save_areas) = (guest.pages.context, guest.pages.save_areas.clone());
        let normal = launch.iter().map(|&run| (run, LaunchType::Normal));
        let all = normal.chain(save_areas.iter().map(|&run| (run, LaunchType::Vmsa)));
        for (part, what) in all.flat_map(|(run, what)| by_block(run).map(move |p| (p, what))) {
            if let Err(why) = self.launch_part(index, part, what)? {
                return Ok(Err(why));
            }
        }
        let finish = Command::LaunchFinish(context);
        let answer = self.command(finish);
        Ok(answer.map_err(|status| format!("{}: {status}", finish.name())))
    }

    /// Launch pages of one 2 MiB block: Pre-guest by RMPUPDATE, Guest-valid by `LAUNCH_UPDATE`. Linux
    /// does both page by page; where one fails, here all that are left of the block are given back,
    /// there it is the one.
    fn launch_part(
        &mut self,
        index: usize,
        part: Extent,
        what: LaunchType,
    ) -> Result<Result<(), String>, RmpError> {
        let Some(guest) = self.guests.get(index) else { return Ok(Ok(())) };
        let (context, asid) = (guest.pages.context, guest.asid);
        let mutable = self.defect(Defect::LaunchMutable);
        let to = if mutable { Owner::Guest(asid) } else { Owner::PreGuest(asid) };
        self.assign(part.first.region(), part, PageSize::Size4K, to)?;
        let (done, answer) = self.rmp.launch_update(context, part, what);
        let ops = &mut self.meter.counts.guests;
        ops.firmware_commands += done + u64::from(answer.is_err());
        ops.firmware_errors += u64::from(answer.is_err());
        let Some(guest) = self.guests.get_mut(index) else { return Ok(Ok(())) };
        let list = match what {
            LaunchType::Normal => &mut guest.private,
            LaunchType::Vmsa => &mut guest.save_areas,
        };
        give(list, &[start(part, done)]);
        list.retain(|run| run.pages > 0);
        let Err(status) = answer else { return Ok(Ok(())) };
        let refused = skip(part, done);
        for pfn in (refused.first.get()..refused.end()).filter_map(snp_defs::Pfn::new) {
            self.reclaim(index, pfn)?;
        }
        Ok(Err(format!("SNP_LAUNCH_UPDATE: {status}")))
    }

    /// VMRUN of every vCPU: its save area and VMCB are in use from now on.
    fn run_vcpus(&mut self, index: usize) -> Result<(), RmpError> {
        let Some(guest) = self.guests.get(index) else { return Ok(()) };
        let asid = guest.asid;
        let each = |runs: &[Extent]| -> Vec<_> {
            runs.iter()
                .flat_map(|r| (r.first.get()..r.end()).filter_map(snp_defs::Pfn::new))
                .collect()
        };
        let vcpus = each(&guest.pages.save_areas).into_iter().zip(each(&guest.pages.vmcbs));
        let cpus = guest.cpus.clone();
        for (number, (vmsa, vmcb)) in vcpus.enumerate() {
            let cpu = cpus.get(number % cpus.len().max(1));
            let core = cpu.and_then(|&cpu| self.topology.core_of(cpu)).unwrap_or(0);
            if !self.rmp.vmrun(snp_model::CoreId(core), Vcpu { asid, vmcb, vmsa }) {
                return Err(RmpError::Vmrun { vmsa: vmsa.spa() });
            }
        }
        Ok(())
    }
}

/// 4 KiB pages that a guest touches.
fn touched(guest: &super::guests::Guest) -> u64 {
    let pages = round_up(guest.spec.touched.min(guest.spec.memory), guest.backing()) / PAGE_BYTES;
    pages.min(pages_of(&guest.memory))
}
