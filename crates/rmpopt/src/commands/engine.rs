//! The call into the lab, and what its refusals mean for the command.

use snp_lab::LabError;
use snp_lab::memory::MemoryError;
use snp_lab::report::RunReport;
use snp_lab::scenario::{Progress, Setup};
use snp_lab::topology::TopologyError;

use crate::exit::Failure;

/// Runs the lab on `setup`.
pub(crate) fn run(setup: &Setup, progress: &mut dyn FnMut(Progress)) -> Result<RunReport, Failure> {
    snp_lab::run(setup, progress).map_err(|error| failure(&setup.scenario.name, &error))
}

/// What a refusal means; `scenario` is its name.
pub(super) fn failure(scenario: &str, error: &LabError) -> Failure {
    let message = format!("scenario {scenario}: {error}");
    match error {
        LabError::Topology(TopologyError::OutOfRange { .. } | TopologyError::TooLarge { .. })
        | LabError::Memory(MemoryError::TooHigh { .. } | MemoryError::Size { .. }) => {
            Failure::Unsupported(message)
        }
        _ => Failure::BadInput(message),
    }
}
