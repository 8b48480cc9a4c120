//! The rules once more, in the simplest way: what the model is compared with.
//!
//! One record per page in a map, one plain bit per core and slot, every rule written out where it
//! applies. No generations, epochs, counts or fills, and only one thread. Slow on purpose.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ::snp_defs::{
    NestedFaultCode, PageSize, PageState, Pfn, Region, RmpOperand, RmpStatus, RmpoptBase,
    RmpoptFunction, Spa, Window, PAGES_PER_REGION,
};

use crate::snp_model::{
    Access, AccessKind, Accessor, BaseWrite, CoreId, EnableToggle, Exception, GuestCpu,
    GuestResult, GuestStop, InitLayout, Issuer, Outcome, OutsideWindow, PfnRange, RmpRead,
    UnitConfig, Update, Verdict, Walk,
};

/// A page's RMP entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // The entry's own bits.
pub struct Page {
    /// Assigned.
    pub assigned: bool,
    /// Head of a 2M page.
    pub large: bool,
    /// Immutable.
    pub immutable: bool,
    /// Locked.
    pub lock: bool,
    /// Accepted by the guest.
    pub validated: bool,
    /// A vCPU save area.
    pub vmsa: bool,
    /// Owner.
    pub asid: u32,
    /// Guest address, or firmware's own data.
    pub gpa: u64,
    /// Rights of VMPL 0 to 3.
    pub rights: [u8; 4],
}

impl Page {
    const HYPERVISOR: Self = Self {
        assigned: false,
        large: false,
        immutable: false,
        lock: false,
        validated: false,
        vmsa: false,
        asid: 0,
        gpa: 0,
        rights: [0; 4],
    };
    const HV_FIXED: Self = Self { immutable: true, ..Self::HYPERVISOR };
    const FIRMWARE: Self = Self { assigned: true, immutable: true, lock: true, ..Self::HYPERVISOR };
    const FIRMWARE_IOMMU: Self = Self { gpa: 0x20_0000_0001 << 12, ..Self::FIRMWARE };
}

#[derive(Clone, Debug)]
struct Core {
    snp_en: bool,
    base: RmpoptBase,
    bits: Vec<bool>,
    /// How often the table was cleared or rewritten.
    changes: u64,
}

impl Core {
    fn clear(&mut self) {
        self.bits.fill(false);
        self.changes += 1;
    }
}

/// An RMPOPT between its halves.
#[derive(Clone, Debug)]
pub struct Pending {
    core: CoreId,
    function: RmpoptFunction,
    region: Option<u32>,
    slot: Option<usize>,
    cached: Option<bool>,
    /// Core and region as they were at the start.
    core_before: (bool, u64, u64),
    region_before: u64,
}

/// The naive host.
#[derive(Debug)]
pub struct Oracle {
    config: UnitConfig,
    regions: u32,
    covered: Vec<PfnRange>,
    cores: Vec<Core>,
    initialised: bool,
    /// Later entries win.
    layout: Vec<(PfnRange, Page)>,
    changed: HashMap<u64, Page>,
    assigned: BTreeSet<u64>,
    cache: BTreeMap<u32, bool>,
    /// Per region, how often its bits were cleared.
    clears: BTreeMap<u32, u64>,
}

const BLOCK: u64 = 512;

impl Oracle {
    /// A host after reset. `covered` lists the pages with an RMP entry.
    #[must_use]
    pub fn new(cores: u32, regions: u32, covered: Vec<PfnRange>, config: UnitConfig) -> Self {
        let core = Core {
            snp_en: false,
            base: RmpoptBase::OFF,
            bits: vec![false; Window::REGIONS as usize],
            changes: 0,
        };
        Self {
            config,
            regions,
            covered,
            cores: vec![core; cores as usize],
            initialised: false,
            layout: Vec::new(),
            changed: HashMap::new(),
            assigned: BTreeSet::new(),
            cache: BTreeMap::new(),
            clears: BTreeMap::new(),
        }
    }

    fn core(&mut self, core: CoreId) -> &mut Core {
        &mut self.cores[core.0 as usize]
    }

    fn is_covered(&self, pfn: u64) -> bool {
        pfn / PAGES_PER_REGION < u64::from(self.regions)
            && self.covered.iter().any(|r| pfn >= r.first.get() && pfn < r.end())
    }

    /// The page's entry, absent if it has none.
    #[must_use]
    pub fn page(&self, pfn: u64) -> Option<Page> {
        if !self.is_covered(pfn) {
            return None;
        }
        if let Some(page) = self.changed.get(&pfn) {
            return Some(*page);
        }
        let mut page = Page::HYPERVISOR;
        for (range, state) in &self.layout {
            if pfn >= range.first.get() && pfn < range.end() {
                page = *state;
            }
        }
        Some(page)
    }

    fn set(&mut self, pfn: u64, page: Page) {
        self.changed.insert(pfn, page);
        if page.assigned {
            self.assigned.insert(pfn);
        } else {
            self.assigned.remove(&pfn);
        }
    }

    fn first_assigned(&self, from: u64, end: u64) -> Option<u64> {
        self.assigned.range(from..end).next().copied()
    }

    /// The region's assigned pages, one by one.
    #[must_use]
    pub fn assigned_pages(&self, region: Region) -> Vec<Pfn> {
        let first = region.first_pfn().get();
        self.assigned.range(first..first + PAGES_PER_REGION).copied().filter_map(Pfn::new).collect()
    }

    /// Whether some page of the region is assigned.
    #[must_use]
    pub fn region_has_assigned(&self, region: Region) -> bool {
        let first = region.first_pfn().get();
        self.first_assigned(first, first + PAGES_PER_REGION).is_some()
    }

    /// The state of a page.
    #[must_use]
    pub fn page_state(&self, pfn: Pfn) -> PageState {
        let Some(own) = self.page(pfn.get()) else { return PageState::Default };
        let head = self.page(pfn.head().get()).unwrap_or(own);
        let page = if head.large { head } else { own };
        let Page { assigned, validated, asid, immutable, vmsa, gpa, lock, .. } = page;
        match (assigned, validated, asid != 0, immutable) {
            (false, false, false, false) => PageState::Hypervisor,
            (false, false, false, true) if !lock => PageState::HvFixed,
            (true, false, false, true) if gpa == 0 && !vmsa => PageState::Firmware,
            (true, false, false, true) if gpa == 0 => PageState::Context,
            (true, false, false, true) if gpa >> 48 == 1 => PageState::Metadata,
            (true, false, false, true) if gpa == 0x20_0000_0001 << 12 && !vmsa => {
                PageState::FirmwareIommu
            }
            (true, false, false, false) if !lock => PageState::Reclaim,
            (true, false, true, true) => PageState::PreGuest,
            (true, true, true, true) => PageState::PreSwap,
            (true, false, true, false) => PageState::GuestInvalid,
            (true, true, true, false) => PageState::GuestValid,
            _ => PageState::Invalid,
        }
    }

    /// Pages assigned to an ASID, counted one by one.
    #[must_use]
    pub fn assigned_to(&self, asid: u32) -> u64 {
        let owned = self.assigned.iter().filter(|&&pfn| {
            let own = self.page(pfn).unwrap_or_default();
            let head = self.page(pfn - pfn % BLOCK).unwrap_or_default();
            (if head.large { head.asid } else { own.asid }) == asid
        });
        owned.count() as u64
    }

    // ---- platform ----

    /// Sets or clears `SNP_EN` on a core.
    pub fn set_snp_en(&mut self, core: CoreId, on: bool) {
        let core = self.core(core);
        core.snp_en = on;
        if !on {
            core.clear();
        }
    }

    /// Resets a core.
    pub fn reset_core(&mut self, core: CoreId) {
        self.set_snp_en(core, false);
        self.core(core).base = RmpoptBase::OFF;
    }

    /// `SNP_INIT`; whether it succeeded.
    pub fn snp_init(&mut self, layout: &InitLayout<'_>) -> bool {
        if self.initialised || self.cores.iter().any(|core| !core.snp_en) {
            return false;
        }
        self.changed.clear();
        let all = PfnRange::new(Region::ZERO.first_pfn(), 1 << 40);
        self.layout = vec![(all, Page::HV_FIXED)];
        for (list, page) in [
            (layout.dram, Page::HYPERVISOR),
            (layout.hv_fixed, Page::HV_FIXED),
            (layout.rmp, Page::FIRMWARE),
            (layout.iommu, Page::FIRMWARE_IOMMU),
        ] {
            self.layout.extend(list.iter().map(|range| (*range, page)));
        }
        self.assigned.clear();
        for range in layout.rmp.iter().chain(layout.iommu) {
            for pfn in range.first.get()..range.end() {
                if self.page(pfn).is_some_and(|page| page.assigned) {
                    self.assigned.insert(pfn);
                }
            }
        }
        self.cache.clear();
        for core in &mut self.cores {
            core.clear();
        }
        for region in 0..self.regions {
            *self.clears.entry(region).or_default() += 1;
        }
        self.initialised = true;
        true
    }

    /// `SHUTDOWN_EX`.
    pub fn snp_shutdown(&mut self, x86: bool, iommu: &[PfnRange]) {
        if !self.initialised {
            return;
        }
        self.initialised = false;
        for range in iommu {
            for pfn in range.first.get()..range.end() {
                let state = Pfn::new(pfn).map(|pfn| self.page_state(pfn));
                if state == Some(PageState::FirmwareIommu) {
                    self.edit(pfn, |page| {
                        (page.immutable, page.lock, page.gpa) = (false, false, 0);
                    });
                }
            }
        }
        if x86 {
            for core in 0..self.cores.len() {
                self.set_snp_en(CoreId(core as u32), false);
            }
        }
    }

    /// Zeroes over the whole RMP; whether SNP was off everywhere.
    pub fn clear_rmp(&mut self) -> bool {
        if self.cores.iter().any(|core| core.snp_en) {
            return false;
        }
        self.changed.clear();
        self.layout.clear();
        self.assigned.clear();
        true
    }

    /// What the firmware, a guest or a running vCPU changes in an entry.
    pub fn edit(&mut self, pfn: u64, edit: impl FnOnce(&mut Page)) {
        if let Some(mut page) = self.page(pfn) {
            edit(&mut page);
            self.set(pfn, page);
        }
    }

    // ---- MSR ----

    /// WRMSR of `RMPOPT_BASE`.
    pub fn wrmsr(&mut self, core: CoreId, raw: u64) -> Result<(), Exception> {
        let config = self.config;
        let core = self.core(core);
        let Ok(new) = RmpoptBase::from_raw(raw) else {
            return Err(Exception::GeneralProtection);
        };
        if new.is_enabled() && !(core.snp_en && config.segmented) {
            return Err(Exception::GeneralProtection);
        }
        let old = core.base;
        let moved = old.window().base != new.window().base;
        let toggled = old.is_enabled() != new.is_enabled();
        if moved && config.base_write == BaseWrite::Gp && old.is_enabled() && new.is_enabled() {
            return Err(Exception::GeneralProtection);
        }
        core.base = new;
        if (moved && config.base_write != BaseWrite::KeepsByIndex)
            || (toggled && config.en_toggle == EnableToggle::Clears)
        {
            core.clear();
        } else if moved || (toggled && config.en_toggle == EnableToggle::KeepsAndMissesRmpupdate) {
            core.changes += 1;
        }
        Ok(())
    }

    /// RDMSR of `RMPOPT_BASE`.
    #[must_use]
    pub fn rdmsr(&self, core: CoreId) -> u64 {
        self.cores[core.0 as usize].base.raw()
    }

    // ---- RMP instructions ----

    /// An update that concerned an assigned page: no core's bit stays.
    fn clear_region(&mut self, region: Region) {
        self.cache.remove(&region.get());
        *self.clears.entry(region.get()).or_default() += 1;
        let misses = self.config.en_toggle == EnableToggle::KeepsAndMissesRmpupdate;
        for core in &mut self.cores {
            if misses && !core.base.is_enabled() {
                continue;
            }
            if let Some(slot) = core.base.window().slot(region) {
                core.bits[slot as usize] = false;
            }
        }
    }

    /// RMPUPDATE.
    pub fn rmpupdate(
        &mut self,
        issuer: Issuer,
        core: CoreId,
        spa: Spa,
        operand: &RmpOperand,
    ) -> Result<Update, Exception> {
        if !self.core(core).snp_en {
            return Err(Exception::UndefinedOpcode);
        }
        let large = operand.page_size & 1 == 1;
        let bytes = if large { 2 << 20 } else { 4096 };
        let pfn = spa.get() / 4096;
        let head = pfn - pfn % BLOCK;
        let index = pfn % BLOCK;
        let fail = |status, lines| {
            Ok(Update { status, lines, was_assigned: false, is_assigned: false, resized: false })
        };

        let assigned = operand.assigned == 1;
        if spa.get() % bytes != 0
            || operand.gpa % bytes != 0
            || operand.gpa >= 1 << 51
            || operand.assigned > 1
            || operand.page_size > 1
            || operand.immutable > 1
            || operand.reserved != 0
            || operand.asid > 1023
            || (!assigned && (operand.immutable == 1 || operand.asid != 0))
        {
            return fail(RmpStatus::FAIL_INPUT, 0);
        }
        let (Some(old), Some(block)) = (self.page(pfn), self.page(head)) else {
            return fail(RmpStatus::FAIL_INPUT, 0);
        };
        if issuer.asid != 0 {
            return fail(RmpStatus::FAIL_PERMISSION, 0);
        }
        // Four entries to a line; a 2M update reads all 512, a 4K update the entry and its head.
        let lines = match (large, index < 4) {
            (true, _) => 128,
            (false, true) => 1,
            (false, false) => 2,
        };
        if old.lock {
            return fail(RmpStatus::FAIL_INUSE, lines);
        }
        if old.immutable {
            return fail(RmpStatus::FAIL_PERMISSION, lines);
        }
        if block.large != large && self.first_assigned(head, head + BLOCK).is_some() {
            return fail(RmpStatus::FAIL_OVERLAP, lines);
        }
        if large && !block.large {
            let others: Vec<Page> =
                (head + 1..head + BLOCK).filter_map(|pfn| self.page(pfn)).collect();
            if others.iter().any(|page| page.lock) {
                return fail(RmpStatus::FAIL_INUSE, lines);
            }
            if others.iter().any(|page| page.immutable) {
                return fail(RmpStatus::FAIL_PERMISSION, lines);
            }
        }

        let mut new = Page::HYPERVISOR;
        if assigned {
            new.assigned = true;
            new.large = large;
            new.immutable = operand.immutable == 1;
            new.asid = operand.asid;
            new.gpa = operand.gpa;
            new.rights = [0x1F, 0, 0, 0];
            if old.assigned && old.asid == new.asid && old.gpa == new.gpa && old.large == new.large
            {
                new.validated = old.validated;
                new.vmsa = old.vmsa;
                new.rights = old.rights;
            }
        }
        if large {
            for pfn in head + 1..head + BLOCK {
                self.set(pfn, Page { assigned, ..Page::HYPERVISOR });
            }
        }
        self.set(pfn, new);
        if old.assigned || new.assigned {
            self.clear_region(spa.region());
        }
        Ok(Update {
            status: RmpStatus::SUCCESS,
            lines,
            was_assigned: old.assigned,
            is_assigned: new.assigned,
            resized: old.assigned && new.assigned && old.large != new.large,
        })
    }

    /// PSMASH.
    pub fn psmash(&mut self, issuer: Issuer, core: CoreId, spa: Spa) -> Result<Update, Exception> {
        if !self.core(core).snp_en {
            return Err(Exception::UndefinedOpcode);
        }
        let head = spa.get() / 4096;
        let result = |status, lines, done| {
            Ok(Update { status, lines, was_assigned: done, is_assigned: done, resized: done })
        };
        let Some(old) = self.page(head).filter(|_| spa.get() % (2 << 20) == 0) else {
            return result(RmpStatus::FAIL_INPUT, 0, false);
        };
        if issuer.asid != 0 {
            return result(RmpStatus::FAIL_PERMISSION, 0, false);
        }
        if old.lock {
            return result(RmpStatus::FAIL_INUSE, 1, false);
        }
        if old.immutable {
            return result(RmpStatus::FAIL_PERMISSION, 1, false);
        }
        if !old.large {
            return result(RmpStatus::FAIL_BADADDR, 1, false);
        }
        for i in 0..BLOCK {
            let gpa = (old.gpa + i * 4096) % (1 << 51);
            self.set(head + i, Page { large: false, gpa, ..old });
        }
        self.clear_region(spa.region());
        result(RmpStatus::SUCCESS, 128, true)
    }

    /// RMPREAD by the host.
    pub fn rmpread(&mut self, core: CoreId, spa: Spa) -> Result<RmpRead, Exception> {
        if !self.core(core).snp_en {
            return Err(Exception::UndefinedOpcode);
        }
        let pfn = spa.get() / 4096;
        let head = pfn - pfn % BLOCK;
        let Some(page) = self.page(pfn).filter(|_| spa.get() % 4096 == 0) else {
            return Ok(RmpRead {
                status: RmpStatus::FAIL_INPUT,
                operand: RmpOperand::default(),
                lines: 0,
            });
        };
        let in_block = self.first_assigned(head, head + BLOCK).is_some();
        Ok(RmpRead {
            status: RmpStatus::SUCCESS,
            operand: RmpOperand {
                gpa: page.gpa,
                assigned: u8::from(page.assigned),
                page_size: u8::from(page.large) + 2 * u8::from(in_block),
                immutable: u8::from(page.immutable),
                reserved: 0,
                asid: page.asid,
            },
            lines: if pfn - head < 4 { 1 } else { 2 },
        })
    }

    // ---- guests ----

    /// What the RMP says of a page: the head speaks for a 2M page. The second is this page's own
    /// guest address.
    #[must_use]
    pub fn governing(&self, pfn: u64) -> Option<(Page, u64)> {
        let own = self.page(pfn)?;
        let head = self.page(pfn - pfn % BLOCK)?;
        let inside = (head.gpa + pfn % BLOCK * 4096) % (1 << 51);
        Some(if head.large { (head, inside) } else { (own, own.gpa) })
    }

    fn change_governing(&mut self, pfn: u64, page: Page) {
        let head = pfn - pfn % BLOCK;
        let large = self.page(head).is_some_and(|page| page.large);
        self.set(if large { head } else { pfn }, page);
    }

    /// Bits 0 (present), 2 (user), 31 (RMP), 32 (final address), 34 (C = 1), and more.
    fn fault(walk: &Walk, bits: u64) -> GuestStop {
        let private = u64::from(walk.private) << 34;
        GuestStop::NestedFault(NestedFaultCode(1 | 1 << 2 | 1 << 31 | 1 << 32 | private | bits))
    }

    /// The checks that PVALIDATE and RMPADJUST share once the operand is good.
    fn guest_page(
        &self,
        cpu: GuestCpu,
        walk: &Walk,
        large: bool,
    ) -> Result<Result<Page, RmpStatus>, GuestStop> {
        let refused = Err(Self::fault(walk, 0));
        let Some((page, gpa)) = self.governing(walk.spa.get() / 4096) else { return refused };
        if !page.assigned || page.asid != cpu.asid || gpa != walk.gpa.get() || page.immutable {
            return refused;
        }
        Ok(match (large, page.large) {
            (true, false) => Err(RmpStatus::FAIL_SIZEMISMATCH),
            (false, true) => return Err(Self::fault(walk, 1 << 35)),
            _ if page.lock => Err(RmpStatus::FAIL_INUSE),
            _ => Ok(page),
        })
    }

    fn guest_lines(&self, walk: &Walk) -> u32 {
        let pfn = walk.spa.get() / 4096;
        match self.page(pfn) {
            None => 0,
            Some(_) if pfn % BLOCK < 4 => 1,
            Some(_) => 2,
        }
    }

    fn is_guest(&self, core: CoreId, cpu: GuestCpu) -> Result<(), GuestStop> {
        if self.cores[core.0 as usize].snp_en && cpu.asid != 0 {
            Ok(())
        } else {
            Err(GuestStop::Exception(Exception::UndefinedOpcode))
        }
    }

    /// PVALIDATE with the default switches.
    pub fn pvalidate(
        &mut self,
        core: CoreId,
        cpu: GuestCpu,
        walk: &Walk,
        size: u64,
        validate: u64,
    ) -> Result<GuestResult, GuestStop> {
        self.is_guest(core, cpu)?;
        let lines = self.guest_lines(walk);
        let result = |status, carry| Ok(GuestResult { status, carry, lines });
        let aligned = walk.gva % if size == 1 { 2 << 20 } else { 4096 } == 0;
        if size > 1 || validate > 1 || !aligned {
            return result(RmpStatus::FAIL_INPUT, false);
        }
        if cpu.vmpl != 0 {
            return result(RmpStatus::FAIL_PERMISSION, false);
        }
        if !walk.private {
            return result(RmpStatus::FAIL_INPUT, false);
        }
        match self.guest_page(cpu, walk, size == 1)? {
            Err(status) => result(status, false),
            Ok(page) if page.validated == (validate == 1) => result(RmpStatus::SUCCESS, true),
            Ok(page) => {
                let pfn = walk.spa.get() / 4096;
                self.change_governing(pfn, Page { validated: validate == 1, ..page });
                result(RmpStatus::SUCCESS, false)
            }
        }
    }

    /// RMPADJUST with the default switches.
    pub fn rmpadjust(
        &mut self,
        core: CoreId,
        cpu: GuestCpu,
        walk: &Walk,
        size: u64,
        rdx: u64,
    ) -> Result<GuestResult, GuestStop> {
        self.is_guest(core, cpu)?;
        let lines = self.guest_lines(walk);
        let result = |status| Ok(GuestResult { status, carry: false, lines });
        let aligned = walk.gva % if size == 1 { 2 << 20 } else { 4096 } == 0;
        let (target, rights) = ((rdx & 0xFF) as usize, (rdx >> 8) as u8);
        if size > 1 || !aligned || rdx >> 17 != 0 || target > 3 || rights > 0x1F {
            return result(RmpStatus::FAIL_INPUT);
        }
        if target <= usize::from(cpu.vmpl) {
            return result(RmpStatus::FAIL_PERMISSION);
        }
        if !walk.private {
            return result(RmpStatus::FAIL_INPUT);
        }
        let mut page = match self.guest_page(cpu, walk, size == 1)? {
            Err(status) => return result(status),
            Ok(page) => page,
        };
        if !page.validated {
            return Err(GuestStop::Vc(0x404));
        }
        if rights & !page.rights[usize::from(cpu.vmpl)] != 0 {
            return result(RmpStatus::FAIL_PERMISSION);
        }
        page.rights[target] = rights;
        if cpu.vmpl == 0 {
            page.vmsa = rdx >> 16 == 1;
        }
        self.change_governing(walk.spa.get() / 4096, page);
        result(RmpStatus::SUCCESS)
    }

    /// An SNP guest's data access.
    pub fn guest_data(
        &self,
        core: CoreId,
        cpu: GuestCpu,
        write: bool,
        walk: &Walk,
    ) -> Result<(), GuestStop> {
        let write_bit = u64::from(write) << 1;
        if !self.cores[core.0 as usize].snp_en || !(write || walk.private) {
            return Ok(());
        }
        let pfn = walk.spa.get() / 4096;
        if !walk.private {
            let first = pfn - pfn % walk.nested.pages();
            let taken = self.first_assigned(first, first + walk.nested.pages()).is_some();
            let stop = Self::fault(walk, write_bit);
            return if taken && self.is_covered(first) { Err(stop) } else { Ok(()) };
        }
        let large = walk.nested == PageSize::Size2M;
        let refused = |bits| Err(Self::fault(walk, write_bit | bits));
        let Some((page, gpa)) = self.governing(pfn) else { return refused(0) };
        if !page.assigned || page.asid != cpu.asid || gpa != walk.gpa.get() || page.immutable {
            return refused(0);
        }
        if page.large != large {
            return refused(1 << 35);
        }
        if !page.validated {
            return Err(GuestStop::Vc(0x404));
        }
        let rights = page.rights[usize::from(cpu.vmpl)];
        let needed = if write { 0b11 } else { 0b01 };
        if rights & needed == needed {
            Ok(())
        } else {
            refused(1 << 36)
        }
    }

    // ---- RMPOPT ----

    fn core_now(&self, core: CoreId) -> (bool, u64, u64) {
        let core = &self.cores[core.0 as usize];
        (core.snp_en, core.base.raw(), core.changes)
    }

    fn clears_of(&self, region: u32) -> u64 {
        self.clears.get(&region).copied().unwrap_or(0)
    }

    /// First half.
    pub fn begin(
        &mut self,
        core: CoreId,
        rax: u64,
        function: RmpoptFunction,
    ) -> Result<Pending, Exception> {
        let regions = self.regions;
        let config = self.config;
        let this = self.core(core);
        if !this.snp_en || !config.segmented || !this.base.is_enabled() {
            return Err(Exception::UndefinedOpcode);
        }
        let base = u64::from(this.base.window().base.get());
        let number = rax >> 30;
        let inside = number < 1 << 22 && number >= base && number < base + 2048;
        if !inside && config.outside_window == OutsideWindow::Gp {
            return Err(Exception::GeneralProtection);
        }
        let region = (inside && number < u64::from(regions)).then_some(number as u32);
        let cached = match (region, function) {
            (Some(region), RmpoptFunction::Verify) => self.cache.get(&region).copied(),
            _ => None,
        };
        Ok(Pending {
            core,
            function,
            region,
            slot: region.map(|_| (number - base) as usize),
            cached,
            core_before: self.core_now(core),
            region_before: region.map_or(0, |region| self.clears_of(region)),
        })
    }

    /// Second half.
    pub fn finish(&mut self, pending: &Pending) -> Outcome {
        let mut outcome = Outcome { cf: false, lines: 0, cached: false, raced: false };
        let (Some(number), Some(slot)) = (pending.region, pending.slot) else { return outcome };
        let same_core = self.core_now(pending.core) == pending.core_before;
        let same_region = self.clears_of(number) == pending.region_before;
        if pending.function == RmpoptFunction::Report {
            outcome.cf = same_core && self.core(pending.core).bits[slot];
            return outcome;
        }
        let assigned = if let Some(assigned) = pending.cached {
            outcome.cached = true;
            assigned
        } else {
            let first = u64::from(number) * PAGES_PER_REGION;
            let found = self.first_assigned(first, first + PAGES_PER_REGION);
            let heads = (0..512).filter(|i| self.is_covered(first + i * BLOCK)).count();
            outcome.lines = found.map_or(heads as u32, |pfn| ((pfn - first) / BLOCK) as u32 + 1);
            let cache = self.config.scan_cache;
            if same_region && cache.enabled && (cache.negative || found.is_none()) {
                self.cache.insert(number, found.is_some());
            }
            found.is_some()
        };
        outcome.cf = !assigned && same_region && same_core;
        outcome.raced = !assigned && !outcome.cf;
        if same_core {
            self.core(pending.core).bits[slot] = outcome.cf;
        }
        outcome
    }

    /// The cached scan result of a region is forgotten.
    pub fn drop_cache(&mut self, region: Region) {
        self.cache.remove(&region.get());
    }

    /// All are.
    pub fn drop_all_caches(&mut self) {
        self.cache.clear();
    }

    /// Whether the core skips RMP checks in the region.
    #[must_use]
    pub fn is_optimised(&self, core: CoreId, region: Region) -> bool {
        let core = &self.cores[core.0 as usize];
        let slot = core.base.window().slot(region).filter(|_| region.get() < self.regions);
        core.snp_en && core.base.is_enabled() && slot.is_some_and(|slot| core.bits[slot as usize])
    }

    // ---- accesses ----

    /// The RMP's verdict alone, as if there were no RMPOPT.
    #[must_use]
    pub fn rmp_verdict(
        &self,
        core: CoreId,
        accessor: Accessor,
        kind: AccessKind,
        spa: Spa,
        size: PageSize,
    ) -> (Verdict, u32) {
        let pfn = spa.get() / 4096;
        let walk = matches!(accessor, Accessor::HostWalk | Accessor::GuestWalk);
        let size = if walk { PageSize::Size4K } else { size };
        let first = match size {
            PageSize::Size4K => pfn,
            PageSize::Size2M => pfn - pfn % BLOCK,
        };
        let checked = walk || kind == AccessKind::Write;
        if !checked || !self.cores[core.0 as usize].snp_en {
            return (Verdict::Allowed, 0);
        }
        if !self.is_covered(first) {
            return (Verdict::Allowed, 0);
        }
        match self.first_assigned(first, first + size.pages()) {
            Some(_) => (accessor.refusal(), 1),
            None => (Verdict::Allowed, 1),
        }
    }

    /// The access as the host sees it.
    #[must_use]
    pub fn check_access(
        &self,
        core: CoreId,
        accessor: Accessor,
        kind: AccessKind,
        spa: Spa,
        size: PageSize,
    ) -> Access {
        let walk = matches!(accessor, Accessor::HostWalk | Accessor::GuestWalk);
        let checked = (walk || kind == AccessKind::Write) && self.cores[core.0 as usize].snp_en;
        if checked && self.is_optimised(core, spa.region()) {
            return Access { verdict: Verdict::Allowed, skipped_by_rmpopt: true, lines: 0 };
        }
        let (verdict, lines) = self.rmp_verdict(core, accessor, kind, spa, size);
        Access { verdict, skipped_by_rmpopt: false, lines }
    }
}
