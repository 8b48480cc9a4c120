//! Why a host cannot be emulated.

use thiserror::Error;

use crate::boot::BootError;
use crate::memory::MemoryError;
use crate::rmp::RmpError;
use crate::topology::TopologyError;

/// Why a run cannot begin or go on.
#[derive(Debug, Error)]
pub enum LabError {
    /// The CPUs do not fit together.
    #[error("topology: {0}")]
    Topology(#[from] TopologyError),
    /// The memory map cannot be.
    #[error("memory: {0}")]
    Memory(#[from] MemoryError),
    /// Firmware and RMP find no room.
    #[error("boot: {0}")]
    Boot(#[from] BootError),
    /// The emulated hardware refused what the lab's books allow: a defect of the lab.
    #[error("the lab's books and the RMP disagree: {0}")]
    Rmp(#[from] RmpError),
    /// A measured run did not come to the pass that was measured: a defect of the lab.
    #[error("calibration: {passes} passes, expected {wanted}")]
    Calibration {
        /// Passes there were.
        passes: usize,
        /// Passes there had to be.
        wanted: usize,
    },
}
