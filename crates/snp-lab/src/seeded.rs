//! Defects that can be seeded, to show that the laws' checks see them.

use snp_model::Fault;

use crate::scenario::Nanos;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// An RMPUPDATE that should clear a region's RMPOPT bits does not (breaks law 1).
    DropClear,
    /// A verify believes a cached scan result although the region changed (breaks law 1).
    StaleCache,
    /// The executor never runs a batch that a follower was offered (breaks law 3).
    SkipFollower,
}

/// A defect, when, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seeded {
    /// From this simulated time on.
    pub at: Nanos,
    /// What.
    pub defect: Defect,
    /// How many times.
    pub times: u32,
}

impl Seeded {
    /// The model's name for it; `None` for a defect of the executor.
    pub(crate) const fn model_fault(self) -> Option<Fault> {
        match self.defect {
            Defect::DropClear => Some(Fault::DropClear),
            Defect::StaleCache => Some(Fault::StaleCache),
            Defect::SkipFollower => None,
        }
    }
}
