//! Where a source can be read in two ways, and whether times are drawn.

/// AMD posted a mean of 5,226 cycles for RMPOPTs one after the other and of 114,372 for RMPOPTs on all
/// CPUs at once, and did not say why (spec/rmpopt.md 1). Two readings; never both at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Parallel {
    /// CPUs that begin before there is a cached result all scan. Two threads of a core share its
    /// RMPOPT: the second begins when the first has ended (assumed).
    #[default]
    Misses,
    /// One CPU scans. The others wait for its result, then read it one after the other, each for as
    /// long as a line takes from the region's memory to its socket.
    Contention,
}

impl Parallel {
    /// Both readings.
    pub const ALL: [Self; 2] = [Self::Misses, Self::Contention];

    /// The name in cost files and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Misses => "misses",
            Self::Contention => "contention",
        }
    }
}

/// Whether the time of an RMPOPT varies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Draws {
    /// Each takes the mean.
    #[default]
    Mean,
    /// Spread, a heavy tail, and cached results that are lost now and then; from the run's seed.
    Drawn,
}

impl Draws {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Mean, Self::Drawn];

    /// The name in cost files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Drawn => "drawn",
        }
    }
}
