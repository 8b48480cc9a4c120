//! The call into the lab.

use snp_lab::report::RunReport;
use snp_lab::scenario::{Progress, Setup};

use crate::exit::Failure;

/// Runs the lab on `setup`.
pub(super) fn run(
    _setup: &Setup,
    _progress: &mut dyn FnMut(Progress),
) -> Result<RunReport, Failure> {
    Err(Failure::Unsupported("this build has no engine".to_owned()))
}
