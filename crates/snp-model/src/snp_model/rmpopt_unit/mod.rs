//! RMPOPT: each core's table, the cached scan results, and what RMPUPDATE does to both.
//!
//! The unit knows nothing of how an RMP is stored: it asks [`RegionScan`] whether a region holds an
//! assigned page. Whoever changes assignment brackets the change with [`RmpoptUnit::begin_update`]
//! and [`RmpoptUnit::end_update`].
//!
//! # How one update clears a bit on every core in O(1)
//! Each region has a *generation*. A table entry does not hold a bit but the generation at which the
//! region was verified: the bit is set exactly while that equals the region's present generation and
//! no update of the region is under way. An update that concerns an assigned page moves the
//! generation on, and the entries of all cores are stale at once. The cached scan result carries its
//! generation in the same way.
//!
//! An entry also carries the core's *epoch*, which moves when the core's table is cleared.
//!
//! ```text
//! region word   63............16 15.......0     core word  63-52 51..30 29-24 23..8  7-3  2    1      0
//!               generation       in flight                 -     base   -     epoch  -    busy SNP_EN enable
//! table entry   63............16 15.......0     cache word 63............2  1       0
//!               generation       epoch                     generation       valid   assigned
//! ```
//!
//! Source: spec/rmpopt.md 1-3. What it does not say is a switch of [`UnitConfig`].

mod faults;
mod switches;
mod words;

use core::fmt;

use self::words::{CacheWord, CoreWord, RegionWord};
use crate::snp_defs::{Region, RmpoptBase, RmpoptFunction, Window, REGION_SHIFT};
use crate::snp_model::sync::{const_constructor, fence, spin_loop, AtomicU64, Ordering};
use crate::snp_model::{CoreId, Exception};

pub use self::faults::{Fault, Faults};
pub use self::switches::{BaseWrite, EnableToggle, OutsideWindow, ScanCache, UnitConfig};

/// All that RMPOPT needs of an RMP.
pub trait RegionScan {
    /// Looks for an assigned page in the region, first 2M block first, and stops at the first found.
    fn scan(&self, region: Region) -> Scan;
}

/// What a scan of a region found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Scan {
    /// Some page of the region is assigned.
    pub assigned: bool,
    /// RMP cache lines (64 bytes) read: 512 for a clean region, 1 if its first page is assigned.
    pub lines: u32,
}

/// Memory of an [`RmpoptUnit`]: words that start as zero.
///
/// A slice that is too short is no error: a core or region past its end is one that the host lacks.
pub trait UnitStorage {
    /// One word per region of the host, up to its highest.
    fn regions(&self) -> &[AtomicU64];
    /// One word per region: the cached scan results.
    fn caches(&self) -> &[AtomicU64];
    /// One word per physical core.
    fn cores(&self) -> &[AtomicU64];
    /// The core's table: [`Window::REGIONS`] words; empty for a core that does not exist.
    fn table(&self, core: CoreId) -> &[AtomicU64];
}

impl<T: UnitStorage + ?Sized> UnitStorage for &T {
    fn regions(&self) -> &[AtomicU64] {
        (**self).regions()
    }
    fn caches(&self) -> &[AtomicU64] {
        (**self).caches()
    }
    fn cores(&self) -> &[AtomicU64] {
        (**self).cores()
    }
    fn table(&self, core: CoreId) -> &[AtomicU64] {
        (**self).table(core)
    }
}

/// An RMPOPT under way: between [`RmpoptUnit::begin`] and [`RmpoptUnit::finish`] time may pass.
#[must_use = "an RMPOPT that is not finished has no result"]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    core: CoreId,
    core_word: CoreWord,
    function: RmpoptFunction,
    region: Option<Region>,
    slot: Option<u32>,
    region_word: RegionWord,
    verdict: Option<Scan>,
    cached: bool,
}

impl Begun {
    /// The core it runs on.
    pub const fn core(&self) -> CoreId {
        self.core
    }

    /// What it was asked.
    pub const fn function(&self) -> RmpoptFunction {
        self.function
    }

    /// The region it names; `None` if RAX is 2^52 or more.
    pub const fn region(&self) -> Option<Region> {
        self.region
    }

    /// The region is in the core's window and the host has it.
    pub const fn is_inside(&self) -> bool {
        self.slot.is_some()
    }

    /// A cached scan result is used: no RMP line is read.
    pub const fn is_cached(&self) -> bool {
        self.cached
    }

    /// It will read the RMP and has not done so yet: [`RmpoptUnit::look`] or `finish` does.
    pub const fn needs_scan(&self) -> bool {
        matches!(self.function, RmpoptFunction::Verify)
            && self.slot.is_some()
            && self.verdict.is_none()
    }
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun")
            .field("core", &self.core)
            .field("function", &self.function)
            .field("region", &self.region)
            .field("verdict", &self.verdict)
            .field("cached", &self.cached)
            .finish_non_exhaustive()
    }
}

/// What an RMPOPT did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Outcome {
    /// RFLAGS.CF: the region is optimised on this core.
    pub cf: bool,
    /// RMP cache lines read.
    pub lines: u32,
    /// A cached scan result was used.
    pub cached: bool,
    /// The scan found the region clean, but an update of the region or a write of the core's MSR
    /// came between, so the bit was not set.
    pub raced: bool,
}

/// An update of a region under way; hand it to [`RmpoptUnit::end_update`].
#[must_use = "an update that does not end keeps its region's bits clear for ever"]
#[derive(Debug)]
pub struct UpdateToken<'a> {
    /// The region's word; `None` for a region that the host lacks.
    word: Option<&'a AtomicU64>,
}

/// The RMPOPT side of a host: tables and MSRs of all cores, cached scan results, generations.
#[derive(Debug)]
pub struct RmpoptUnit<U> {
    storage: U,
    config: UnitConfig,
    faults: Faults,
}

impl<U: UnitStorage> RmpoptUnit<U> {
    const_constructor! {
        /// A unit after reset: SNP off, every table empty. `storage` must hold zeroes.
        pub const fn new(storage: U, config: UnitConfig) -> Self {
            Self { storage, config, faults: Faults::new() }
        }
    }

    /// The switches in force.
    pub const fn config(&self) -> &UnitConfig {
        &self.config
    }

    /// Where defects are seeded.
    pub const fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Physical cores.
    pub fn cores(&self) -> u32 {
        self.storage.cores().len() as u32
    }

    /// Regions of the host: those below this number can be optimised.
    pub fn regions(&self) -> u32 {
        self.storage.regions().len() as u32
    }

    fn core_cell(&self, core: CoreId) -> Option<&AtomicU64> {
        self.storage.cores().get(core.0 as usize)
    }

    /// The core's word; a core that the host lacks has SNP off.
    #[inline]
    fn core_word(&self, core: CoreId) -> CoreWord {
        CoreWord(self.core_cell(core).map_or(0, |cell| cell.load(Ordering::Acquire)))
    }

    #[inline]
    fn region_word(&self, region: Region) -> Option<RegionWord> {
        let cell = self.storage.regions().get(region.index())?;
        Some(RegionWord(cell.load(Ordering::Acquire)))
    }

    fn slot_cell(&self, core: CoreId, slot: u32) -> Option<&AtomicU64> {
        self.storage.table(core).get(slot as usize)
    }

    // ---- platform ----

    /// Sets or clears `SYSCFG.SNP_EN` on one core. Clearing stands for the firmware's hidden path or a
    /// reset; neither is refused. The core's table is cleared when the bit changes to 0.
    pub fn set_snp_en(&self, core: CoreId, on: bool) {
        let Some(cell) = self.core_cell(core) else { return };
        if on {
            cell.fetch_or(CoreWord::SNP_EN, Ordering::AcqRel);
        } else {
            self.change_core(core, CoreWord::SNP_EN, |word| Some((word.next_epoch(), word.msr())));
        }
    }

    /// Whether RMP checks are on for this core.
    pub fn snp_en(&self, core: CoreId) -> bool {
        self.core_word(core).snp_en()
    }

    /// The core went through a reset: SNP off, `RMPOPT_BASE` 0, empty table.
    pub fn reset_core(&self, core: CoreId) {
        self.change_core(core, CoreWord::SNP_EN, |word| Some((word.next_epoch(), RmpoptBase::OFF)));
    }

    /// What `SNP_INIT` does: clears every core's table, and nothing that was known of a region holds.
    /// The MSRs stay.
    pub fn snp_init(&self) {
        for cell in self.storage.regions() {
            cell.fetch_add(RegionWord::GENERATION_ONE, Ordering::AcqRel);
        }
        self.drop_all_caches();
        for core in 0..self.cores() {
            self.clear_table(CoreId(core));
        }
    }

    /// Clears one core's table.
    fn clear_table(&self, core: CoreId) {
        self.change_core(core, 0, |word| Some((word.next_epoch(), word.msr())));
    }

    /// Changes epoch and MSR of a core's word under its busy bit, and takes off the bits `off` in the
    /// same step: a verify sees all of it or nothing. A new epoch that wrapped wipes the table first,
    /// so that no entry of an older epoch of the same number is left.
    fn change_core(
        &self,
        core: CoreId,
        off: u64,
        change: impl FnOnce(CoreWord) -> Option<(u64, RmpoptBase)>,
    ) {
        let Some(cell) = self.core_cell(core) else { return };
        let word = loop {
            let word = CoreWord(cell.load(Ordering::Relaxed));
            let taken = word.0 | CoreWord::BUSY;
            if !word.busy()
                && cell
                    .compare_exchange_weak(word.0, taken, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                break word;
            }
            spin_loop();
        };
        let (epoch, msr) = change(word).unwrap_or((word.epoch(), word.msr()));
        if epoch < word.epoch() {
            for entry in self.storage.table(core) {
                entry.store(0, Ordering::Relaxed);
            }
        }
        // SNP_EN may have been set meanwhile, nothing else.
        let mut seen = cell.load(Ordering::Relaxed);
        loop {
            let next = CoreWord(seen).with(epoch, msr).0 & !(CoreWord::BUSY | off);
            match cell.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    // ---- MSR ----

    /// RDMSR of `RMPOPT_BASE`.
    pub fn rdmsr_base(&self, core: CoreId) -> u64 {
        self.core_word(core).msr().raw()
    }

    /// WRMSR of `RMPOPT_BASE`. `#GP(0)`: a bit that is neither enable nor base; enabling without SNP
    /// on this core and a segmented RMP; another base, under [`BaseWrite::Gp`].
    pub fn wrmsr_base(&self, core: CoreId, raw: u64) -> Result<(), Exception> {
        let new = RmpoptBase::from_raw(raw).map_err(|_| Exception::GeneralProtection)?;
        if self.core_cell(core).is_none() {
            return Err(Exception::GeneralProtection);
        }
        let mut refused = false;
        self.change_core(core, 0, |word| {
            let old = word.msr();
            let moved = old.window() != new.window();
            let toggled = old.is_enabled() != new.is_enabled();
            refused = (new.is_enabled() && !(word.snp_en() && self.config.segmented))
                || (moved
                    && self.config.base_write == BaseWrite::Gp
                    && old.is_enabled()
                    && new.is_enabled());
            if refused {
                return None;
            }
            if (moved && self.config.base_write != BaseWrite::KeepsByIndex)
                || (toggled && self.config.en_toggle == EnableToggle::Clears)
            {
                return Some((word.next_epoch(), new));
            }
            let misses = self.config.en_toggle == EnableToggle::KeepsAndMissesRmpupdate;
            if !(moved || toggled && misses) {
                return Some((word.epoch(), new));
            }
            let epoch = word.next_epoch();
            self.carry_over(core, word, new, epoch);
            Some((epoch, new))
        });
        if refused {
            Err(Exception::GeneralProtection)
        } else {
            Ok(())
        }
    }

    /// Whether entries under `msr` are out of RMPUPDATE's reach: then an entry is the bare epoch
    /// while its bit is set (generation 0 is no region's).
    fn is_frozen(&self, msr: RmpoptBase) -> bool {
        self.config.en_toggle == EnableToggle::KeepsAndMissesRmpupdate && !msr.is_enabled()
    }

    /// Rewrites the table so that the bits of `old` under its MSR mean the same slots under `new`.
    fn carry_over(&self, core: CoreId, old: CoreWord, new: RmpoptBase, epoch: u64) {
        let old_msr = old.msr();
        // A slot whose region the host lacks cannot be cleared by RMPUPDATE either.
        let word_of = |msr: RmpoptBase, slot: u32| match msr.window().region(slot) {
            Some(region) if !self.is_frozen(msr) => self.region_word(region),
            _ => None,
        };
        for (slot, cell) in (0..Window::REGIONS).zip(self.storage.table(core)) {
            let entry = cell.load(Ordering::Relaxed);
            let set = match word_of(old_msr, slot) {
                Some(word) => word.is_quiet() && entry == word.entry(old.epoch()),
                None => entry != 0 && entry == old.epoch(),
            };
            let entry = match (set, word_of(new, slot)) {
                (false, _) => 0,
                (true, Some(word)) => word.entry(epoch),
                (true, None) => epoch,
            };
            cell.store(entry, Ordering::Relaxed);
        }
    }

    // ---- updates ----

    /// To be called before a page of `region` changes its assignment or size. Until the matching
    /// [`Self::end_update`] no core's bit for the region counts.
    #[inline]
    pub fn begin_update(&self, region: Region) -> UpdateToken<'_> {
        let word = self.storage.regions().get(region.index());
        if let Some(cell) = word {
            cell.fetch_add(1, Ordering::AcqRel);
            // The change of the RMP that follows is seen by nobody who has not seen this.
            fence(Ordering::SeqCst);
        }
        UpdateToken { word }
    }

    /// Ends an update. `clears`: the page was assigned, or is now, or changed its size. Then the
    /// region's bits are clear on all cores and its cached scan result is void.
    #[allow(clippy::needless_pass_by_value)] // Consumed on purpose: an update ends once.
    #[inline]
    pub fn end_update(&self, token: UpdateToken<'_>, clears: bool) {
        let clears = clears && !self.faults.strikes(Fault::DropClear);
        let add = u64::from(clears) * RegionWord::GENERATION_ONE;
        if let Some(cell) = token.word {
            cell.fetch_add(add.wrapping_sub(1), Ordering::AcqRel);
        }
    }

    // ---- the bit ----

    /// Whether the core skips RMP checks in `region`: SNP and RMPOPT are on, the region is in the
    /// window and its bit is set.
    #[inline]
    pub fn is_optimised(&self, core: CoreId, region: Region) -> bool {
        let word = self.core_word(core);
        word.snp_en() && word.is_enabled() && !word.busy() && self.bit(core, word, region)
    }

    #[inline]
    fn bit(&self, core: CoreId, word: CoreWord, region: Region) -> bool {
        let (Some(slot), Some(now)) = (word.msr().window().slot(region), self.region_word(region))
        else {
            return false;
        };
        let Some(cell) = self.slot_cell(core, slot) else { return false };
        now.is_quiet() && cell.load(Ordering::Acquire) == now.entry(word.epoch())
    }

    /// A number that moves on with each update that clears the region's bits; `None` while an update
    /// is under way, or if the host lacks the region. While it stays, and the core's MSR and SNP_EN
    /// too, a core's bit for the region stays set.
    pub fn generation(&self, region: Region) -> Option<u64> {
        self.region_word(region).filter(|word| word.is_quiet()).map(RegionWord::generation)
    }

    /// How many regions the core has optimised.
    pub fn optimised_regions(&self, core: CoreId) -> u32 {
        let window = self.core_word(core).msr().window();
        let end = window.end().min(self.regions());
        let regions = (window.base.get()..end).filter_map(Region::new);
        regions.map(|region| u32::from(self.is_optimised(core, region))).sum()
    }

    // ---- cached scan results ----

    /// Forgets the cached scan result of a region, as hardware may at any time.
    pub fn drop_cache(&self, region: Region) {
        if let Some(cell) = self.storage.caches().get(region.index()) {
            cell.store(0, Ordering::Release);
        }
    }

    /// Forgets all cached scan results.
    pub fn drop_all_caches(&self) {
        for cell in self.storage.caches() {
            cell.store(0, Ordering::Release);
        }
    }

    /// The usable cached result for the region at this generation.
    #[inline]
    fn cached(&self, region: Region, now: RegionWord) -> Option<Scan> {
        if !self.config.scan_cache.enabled {
            return None;
        }
        let word = CacheWord(self.storage.caches().get(region.index())?.load(Ordering::Acquire));
        let fresh = now.is_quiet() && word.generation() == now.generation();
        if word.is_valid() && (fresh || self.faults.strikes(Fault::StaleCache)) {
            Some(Scan { assigned: word.assigned(), lines: 0 })
        } else {
            None
        }
    }

    fn remember(&self, region: Region, now: RegionWord, assigned: bool) {
        let cache = self.config.scan_cache;
        if cache.enabled && (cache.negative || !assigned) {
            if let Some(cell) = self.storage.caches().get(region.index()) {
                cell.store(CacheWord::of(now.generation(), assigned).0, Ordering::Release);
            }
        }
    }

    // ---- the instruction ----

    /// First half of RMPOPT: raises `#UD` without SNP on this core, a segmented RMP and the core's
    /// enable bit; notes the region's generation and looks up the cached scan result. `rax` is
    /// rounded down to 1 GiB.
    #[inline]
    pub fn begin(
        &self,
        core: CoreId,
        rax: u64,
        function: RmpoptFunction,
    ) -> Result<Begun, Exception> {
        let core_word = self.core_word(core);
        if !(core_word.snp_en() && self.config.segmented && core_word.is_enabled()) {
            return Err(Exception::UndefinedOpcode);
        }
        let region = u32::try_from(rax >> REGION_SHIFT).ok().and_then(Region::new);
        let slot = region.and_then(|region| core_word.msr().window().slot(region));
        if slot.is_none() && self.config.outside_window == OutsideWindow::Gp {
            return Err(Exception::GeneralProtection);
        }
        let region_word = region.and_then(|region| self.region_word(region));
        let mut begun = Begun {
            core,
            core_word,
            function,
            region,
            slot: region_word.and(slot),
            region_word: region_word.unwrap_or(RegionWord(0)),
            verdict: None,
            cached: false,
        };
        if let (true, Some(region)) = (begun.needs_scan(), region) {
            begun.verdict = self.cached(region, begun.region_word);
            begun.cached = begun.verdict.is_some();
        }
        Ok(begun)
    }

    /// Reads the RMP now, if this RMPOPT has to and has not yet; [`Self::finish`] uses what is found
    /// here. `None` if it reads nothing.
    #[inline]
    pub fn look(&self, begun: &mut Begun, rmp: &impl RegionScan) -> Option<Scan> {
        match begun.region {
            Some(region) if begun.needs_scan() => {
                begun.verdict = Some(rmp.scan(region));
                begun.verdict
            }
            _ => None,
        }
    }

    /// Second half of RMPOPT: reads the RMP unless done, sets or clears the bit, gives CF. The bit is
    /// set only if no update of the region began or ended since [`Self::begin`] and none was under
    /// way then.
    #[inline]
    pub fn finish(&self, mut begun: Begun, rmp: &impl RegionScan) -> Outcome {
        let nothing = Outcome { cf: false, lines: 0, cached: false, raced: false };
        let (Some(region), Some(slot)) = (begun.region, begun.slot) else { return nothing };
        if begun.function == RmpoptFunction::Report {
            let cf = self.core_word(begun.core) == begun.core_word
                && self.bit(begun.core, begun.core_word, region);
            return Outcome { cf, ..nothing };
        }
        let _ = self.look(&mut begun, rmp);
        let Some(scan) = begun.verdict else { return nothing };
        // What was read of the RMP above is older than what is read of the region's word below. With a
        // cached result nothing was read: the leader's fence stood between its reads and the quiet
        // word whose generation it wrote beside the result, and `begin` saw both equal. An entry of
        // that generation is true for as long as the word has it, whenever it is stored.
        if !begun.cached {
            fence(Ordering::SeqCst);
        }
        let now = self.region_word(region).unwrap_or(RegionWord(0));
        let same_core = self.core_word(begun.core) == begun.core_word;
        let mut quiet = now == begun.region_word && now.is_quiet();
        if quiet && !begun.cached {
            self.remember(region, now, scan.assigned);
        }
        if !quiet && !scan.assigned {
            quiet = self.faults.strikes(Fault::BlindPublish);
        }
        let cf = !scan.assigned && quiet && same_core;
        if let (true, Some(cell)) = (same_core, self.slot_cell(begun.core, slot)) {
            let entry = if cf { now.entry(begun.core_word.epoch()) } else { 0 };
            cell.store(entry, Ordering::Release);
        }
        Outcome { cf, lines: scan.lines, cached: begun.cached, raced: !cf && !scan.assigned }
    }

    /// RMPOPT, both halves at once.
    #[inline]
    pub fn rmpopt(
        &self,
        core: CoreId,
        rax: u64,
        function: RmpoptFunction,
        rmp: &impl RegionScan,
    ) -> Result<Outcome, Exception> {
        Ok(self.finish(self.begin(core, rax, function)?, rmp))
    }
}
