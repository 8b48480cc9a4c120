//! The host of a trial and its switches.
//!
//! The host is always the same small one, so that operations meet: [`CORES`] cores and [`REGIONS`]
//! regions. Region 1 holds the RMP and IOMMU buffers, region 3 has no RMP entries, region 4 is partly
//! no RAM; others hold a few reserved pages. What differs are the switches.

use core::fmt;

use ::snp_defs::{Pfn, PAGES_PER_REGION};

use super::words::{choice, WordsError};
use crate::snp_model::{
    BaseWrite, Choices, Coverage, Defect, EnableToggle, Errata, Fault, FirmwareChoices,
    FreeWithOwner, GuestOrder, InitLayout, LaunchOrder, NotLarge, OutsideWindow, PfnRange,
    PvalidateVmpl, QueryOwn, RmpAddress, ScanCache, SharedMapping, SmashOrder, UnitConfig,
    UpdateOrder,
};

/// Cores of a trial's host.
pub const CORES: u32 = 3;
/// Its regions.
pub const REGIONS: u32 = 6;

/// The switches of a trial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// RMPOPT's switches; `segmented` is the RMP's form.
    pub unit: UnitConfig,
    /// RMPUPDATE's order of checks.
    pub order: UpdateOrder,
    /// The RMP's other switches; a defect of them is the model's alone.
    pub choices: Choices,
    /// The firmware's switches; its version is the default.
    pub firmware: FirmwareChoices,
    /// A defect of RMPOPT that strikes at every occasion, in the model alone.
    pub fault: Option<Fault>,
    /// Laws 1 and 2 are checked too.
    pub laws: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            unit: UnitConfig::default(),
            order: UpdateOrder::SUGGESTED,
            choices: Choices::DEFAULT,
            firmware: FirmwareChoices::DEFAULT,
            fault: None,
            laws: true,
        }
    }
}

/// Every value of a switch by its name in scripts.
type Values<T> = &'static [(&'static str, T)];

const RMPS: Values<bool> = &[("segmented", true), ("contiguous", false)];
const BASE_WRITES: Values<BaseWrite> = &[
    ("clears", BaseWrite::Clears),
    ("keeps-by-index", BaseWrite::KeepsByIndex),
    ("gp", BaseWrite::Gp),
];
const TOGGLES: Values<EnableToggle> = &[
    ("clears", EnableToggle::Clears),
    ("keeps", EnableToggle::Keeps),
    ("keeps-and-misses-rmpupdate", EnableToggle::KeepsAndMissesRmpupdate),
];
const OUTSIDES: Values<OutsideWindow> =
    &[("carry-clear", OutsideWindow::CarryClear), ("gp", OutsideWindow::Gp)];
const CACHES: Values<ScanCache> = &[
    ("clean", ScanCache { enabled: true, negative: false }),
    ("clean-and-assigned", ScanCache { enabled: true, negative: true }),
    ("off", ScanCache { enabled: false, negative: false }),
];
const ORDERS: Values<UpdateOrder> = &[
    ("suggested", UpdateOrder::SUGGESTED),
    ("immutable-first", UpdateOrder::IMMUTABLE_FIRST),
    ("overlap-first", UpdateOrder::OVERLAP_FIRST),
];
const SMASHES: Values<SmashOrder> = &[
    ("suggested", SmashOrder::SUGGESTED),
    ("immutable-first", SmashOrder::IMMUTABLE_FIRST),
    ("large-first", SmashOrder::LARGE_FIRST),
];
const NOT_LARGES: Values<NotLarge> =
    &[("fail-badaddr", NotLarge::FailBadaddr), ("fail-overlap", NotLarge::FailOverlap)];
const FREES: Values<FreeWithOwner> =
    &[("fail-input", FreeWithOwner::FailInput), ("fail-permission", FreeWithOwner::FailPermission)];
const VMPLS: Values<PvalidateVmpl> =
    &[("fail-permission", PvalidateVmpl::FailPermission), ("gp", PvalidateVmpl::Gp)];
const MAPPINGS: Values<SharedMapping> =
    &[("fail-input", SharedMapping::FailInput), ("ignored", SharedMapping::Ignored)];
const QUERIES: Values<QueryOwn> =
    &[("refused", QueryOwn::Refused), ("answered", QueryOwn::Answered)];
const PVALIDATES: Values<GuestOrder> =
    &[("suggested", GuestOrder::PVALIDATE), ("size-first", GuestOrder::PVALIDATE_SIZE_FIRST)];
const RMPADJUSTS: Values<GuestOrder> =
    &[("suggested", GuestOrder::RMPADJUST), ("rights-first", GuestOrder::RMPADJUST_RIGHTS_FIRST)];
const RMP_ADDRESSES: Values<RmpAddress> =
    &[("invalid-param", RmpAddress::InvalidParam), ("invalid-address", RmpAddress::InvalidAddress)];
const LAUNCHES: Values<LaunchOrder> =
    &[("size-first", LaunchOrder::SIZE_FIRST), ("guest-first", LaunchOrder::GUEST_FIRST)];
const ERRATA: Values<Errata> = &[
    ("none", Errata { head_in_use_faults: false, in_use_writes_fault: false }),
    ("head-in-use-faults", Errata { head_in_use_faults: true, in_use_writes_fault: false }),
    ("in-use-writes-fault", Errata { head_in_use_faults: false, in_use_writes_fault: true }),
    ("both", Errata { head_in_use_faults: true, in_use_writes_fault: true }),
];
const FAULTS: Values<Option<Fault>> = &[
    ("none", None),
    ("drop-clear", Some(Fault::DropClear)),
    ("stale-cache", Some(Fault::StaleCache)),
    ("blind-publish", Some(Fault::BlindPublish)),
];
/// Defects of the RMP's and the firmware's rules.
const DEFECTS: Values<Option<Defect>> = &[
    ("none", None),
    ("count-lost", Some(Defect::CountLost)),
    ("validated-kept", Some(Defect::ValidatedKept)),
    ("lock-ignored", Some(Defect::LockIgnored)),
    ("smash-same-gpa", Some(Defect::SmashSameGpa)),
    ("owner-ignored", Some(Defect::OwnerIgnored)),
    ("reverse-map-ignored", Some(Defect::ReverseMapIgnored)),
    ("validated-ignored", Some(Defect::ValidatedIgnored)),
    ("subset-ignored", Some(Defect::SubsetIgnored)),
    ("carry-lost", Some(Defect::CarryLost)),
    ("in-use-not-marked", Some(Defect::InUseNotMarked)),
    ("asid-stays-clean", Some(Defect::AsidStaysClean)),
    ("reclaim-size-last", Some(Defect::ReclaimSizeLast)),
    ("unsmash-permissions-ignored", Some(Defect::UnsmashPermissionsIgnored)),
];
const YES_NO: Values<bool> = &[("checked", true), ("off", false)];

/// Something done with one switch.
trait Visit {
    type Error;
    fn visit<T: Copy + PartialEq>(
        &mut self,
        name: &'static str,
        values: Values<T>,
        field: &mut T,
    ) -> Result<(), Self::Error>;
}

struct Show<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Visit for Show<'_, '_> {
    type Error = fmt::Error;
    fn visit<T: Copy + PartialEq>(
        &mut self,
        name: &'static str,
        values: Values<T>,
        field: &mut T,
    ) -> fmt::Result {
        let value = values.iter().find(|(_, value)| value == field).map_or("?", |known| known.0);
        writeln!(self.0, "set {name}={value}")
    }
}

/// Sets one switch by its name, and notes whether there is one.
struct Set<'a> {
    name: &'a str,
    word: &'a str,
    known: Vec<&'static str>,
    found: bool,
}

impl Visit for Set<'_> {
    type Error = WordsError;
    fn visit<T: Copy + PartialEq>(
        &mut self,
        name: &'static str,
        values: Values<T>,
        field: &mut T,
    ) -> Result<(), WordsError> {
        self.known.push(name);
        if name == self.name {
            *field = choice(name, self.word, values)?;
            self.found = true;
        }
        Ok(())
    }
}

/// Takes a random value of one switch, of those that are no defects.
struct Draw<F>(F);

impl<F: FnMut(usize) -> usize> Visit for Draw<F> {
    type Error = core::convert::Infallible;
    fn visit<T: Copy + PartialEq>(
        &mut self,
        name: &'static str,
        values: Values<T>,
        field: &mut T,
    ) -> Result<(), Self::Error> {
        if !matches!(name, "laws" | "fault" | "defect" | "rmp") {
            *field = values[(self.0)(values.len())].1;
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    /// A line for each switch.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plan = *self;
        plan.visit(&mut Show(f))
    }
}

impl Plan {
    /// Visits every switch, in the order in which scripts have them.
    fn visit<V: Visit>(&mut self, visitor: &mut V) -> Result<(), V::Error> {
        visitor.visit("rmp", RMPS, &mut self.unit.segmented)?;
        visitor.visit("base-write", BASE_WRITES, &mut self.unit.base_write)?;
        visitor.visit("en-toggle", TOGGLES, &mut self.unit.en_toggle)?;
        visitor.visit("outside-window", OUTSIDES, &mut self.unit.outside_window)?;
        visitor.visit("scan-cache", CACHES, &mut self.unit.scan_cache)?;
        visitor.visit("rmpupdate-order", ORDERS, &mut self.order)?;
        visitor.visit("psmash-order", SMASHES, &mut self.choices.psmash)?;
        visitor.visit("not-large", NOT_LARGES, &mut self.choices.not_large)?;
        visitor.visit("free-with-owner", FREES, &mut self.choices.free_with_owner)?;
        visitor.visit("pvalidate-vmpl", VMPLS, &mut self.choices.pvalidate_vmpl)?;
        visitor.visit("shared-mapping", MAPPINGS, &mut self.choices.shared_mapping)?;
        visitor.visit("query-own", QUERIES, &mut self.choices.query_own)?;
        visitor.visit("pvalidate-order", PVALIDATES, &mut self.choices.pvalidate)?;
        visitor.visit("rmpadjust-order", RMPADJUSTS, &mut self.choices.rmpadjust)?;
        visitor.visit("rmp-address", RMP_ADDRESSES, &mut self.firmware.rmp_address)?;
        visitor.visit("launch-order", LAUNCHES, &mut self.firmware.launch_update)?;
        visitor.visit("errata", ERRATA, &mut self.choices.errata)?;
        visitor.visit("laws", YES_NO, &mut self.laws)?;
        visitor.visit("fault", FAULTS, &mut self.fault)?;
        visitor.visit("defect", DEFECTS, &mut self.choices.defect)
    }

    /// Sets the switch of that name.
    pub(super) fn set(&mut self, name: &str, word: &str) -> Result<(), WordsError> {
        let mut set = Set { name, word, known: Vec::new(), found: false };
        self.visit(&mut set)?;
        if set.found {
            Ok(())
        } else {
            Err(WordsError::keyword(name, &set.known))
        }
    }

    /// Every combination of RMPOPT's switches: 54.
    #[must_use]
    pub fn all_units() -> Vec<UnitConfig> {
        let mut all = Vec::new();
        for (_, base_write) in BASE_WRITES {
            for (_, en_toggle) in TOGGLES {
                for (_, outside_window) in OUTSIDES {
                    for (_, scan_cache) in CACHES {
                        all.push(UnitConfig {
                            segmented: true,
                            base_write: *base_write,
                            en_toggle: *en_toggle,
                            outside_window: *outside_window,
                            scan_cache: *scan_cache,
                        });
                    }
                }
            }
        }
        all
    }

    /// Every defect of RMPOPT.
    #[must_use]
    pub fn faults() -> Vec<Fault> {
        FAULTS.iter().filter_map(|(_, fault)| *fault).collect()
    }

    /// Every defect of the RMP's rules that a trial can show.
    #[must_use]
    pub fn defects() -> Vec<Defect> {
        DEFECTS.iter().filter_map(|(_, defect)| *defect).collect()
    }

    /// The switches with random values; `below(n)` draws a number below `n`. RMP's form, laws and
    /// defects stay.
    pub(super) fn draw(&mut self, below: impl FnMut(usize) -> usize) {
        let mut draw = Draw(below);
        let Ok(()) = self.visit(&mut draw);
    }

    /// Whether law 1 must hold however the base is written: bits that survive a base write or a
    /// disable may stand for memory that changed meanwhile.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.unit.base_write != BaseWrite::KeepsByIndex
            && self.unit.en_toggle != EnableToggle::KeepsAndMissesRmpupdate
    }

    /// Which pages have an entry: for the model, and listed.
    pub(super) fn coverage(&self) -> (Coverage, Vec<PfnRange>) {
        let Some(coverage) = Coverage::segmented(31).filter(|_| self.unit.segmented) else {
            let pages = 2 * PAGES_PER_REGION + 512 * 8;
            return (Coverage::contiguous(pages), vec![range(0, 0, pages)]);
        };
        // Segments of 2 GiB; the second covers only 1, the third more than it has room for.
        (
            coverage.with_segment(0, 2).with_segment(1, 1).with_segment(2, 7),
            vec![range(0, 0, 3 * PAGES_PER_REGION), range(4, 0, 2 * PAGES_PER_REGION)],
        )
    }
}

/// A page of a region.
pub(super) fn pfn(region: u64, page: u64) -> Pfn {
    Pfn::new(region * PAGES_PER_REGION + page).unwrap_or_default()
}

fn range(region: u64, page: u64, pages: u64) -> PfnRange {
    PfnRange::new(pfn(region, page), pages)
}

/// What `SNP_INIT` is told.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    dram: Vec<PfnRange>,
    hv_fixed: Vec<PfnRange>,
    rmp: Vec<PfnRange>,
    pub(super) iommu: Vec<PfnRange>,
    /// The RMP as the firmware wants it: on 1 MiB, which is half a block.
    whole_rmp: Vec<PfnRange>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            dram: vec![
                range(0, 0, 3 * PAGES_PER_REGION),
                range(4, 512, 512 * 300 + 100),
                range(5, 0, PAGES_PER_REGION),
            ],
            hv_fixed: vec![
                range(0, 0xA0, 0x60),
                range(2, 7 * 512 + 4, 1),
                range(5, 512 * 511, 512),
            ],
            rmp: vec![range(1, 512 * 3 + 200, 512 * 2 + 55)],
            iommu: vec![range(1, 512 * 100 + 3, 5)],
            whole_rmp: vec![range(1, 512 * 3 + 256, 512 * 2)],
        }
    }

    /// What SNP_INIT_EX is told.
    pub(super) fn firmware_layout(&self) -> InitLayout<'_> {
        InitLayout { rmp: &self.whole_rmp, ..self.layout() }
    }

    pub(super) fn layout(&self) -> InitLayout<'_> {
        InitLayout {
            dram: &self.dram,
            hv_fixed: &self.hv_fixed,
            rmp: &self.rmp,
            iommu: &self.iommu,
        }
    }
}
