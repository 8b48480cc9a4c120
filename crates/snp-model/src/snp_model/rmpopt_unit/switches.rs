//! What the sources do not say of RMPOPT, as switches. Source: spec/rmpopt.md 2 and 3.

/// What becomes of a core's bits when its `RMPOPT_BASE` gets another base. Unknown on silicon.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum BaseWrite {
    /// All bits are cleared.
    #[default]
    Clears,
    /// The bits stay where they are in the table and now stand for other regions.
    KeepsByIndex,
    /// Another base while enabled before and after is refused with `#GP(0)`; through a disabled
    /// state it is accepted and clears.
    Gp,
}

/// What becomes of a core's bits when its `RMPOPT_BASE` is disabled and enabled. Unknown on silicon.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum EnableToggle {
    /// Either edge clears all bits.
    #[default]
    Clears,
    /// The bits stay, and RMPUPDATE goes on clearing them while the core is disabled.
    Keeps,
    /// The bits stay, and a disabled core misses what RMPUPDATE would have cleared.
    KeepsAndMissesRmpupdate,
}

/// What RMPOPT does for a region outside the core's window. Unknown on silicon.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OutsideWindow {
    /// CF = 0, no effect.
    #[default]
    CarryClear,
    /// `#GP(0)`.
    Gp,
}

/// The cached scan results, shared by all cores ("reserved processor memory").
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ScanCache {
    /// A verify may use the result of an earlier scan.
    pub enabled: bool,
    /// "Holds an assigned page" is kept too.
    pub negative: bool,
}

impl Default for ScanCache {
    fn default() -> Self {
        Self { enabled: true, negative: false }
    }
}

/// The platform's RMP form and the choices where sources are silent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UnitConfig {
    /// The RMP is segmented; without that there is no RMPOPT.
    pub segmented: bool,
    /// Another base.
    pub base_write: BaseWrite,
    /// The enable bit's edges.
    pub en_toggle: EnableToggle,
    /// RMPOPT outside the window.
    pub outside_window: OutsideWindow,
    /// Cached scan results.
    pub scan_cache: ScanCache,
}

impl Default for UnitConfig {
    fn default() -> Self {
        Self {
            segmented: true,
            base_write: BaseWrite::default(),
            en_toggle: EnableToggle::default(),
            outside_window: OutsideWindow::default(),
            scan_cache: ScanCache::default(),
        }
    }
}
