//! A minute of each fuzz target; only in a full run.

use anyhow::Result;

use super::{Ci, Outcome};
use crate::fuzz::run_targets;

/// Seconds for each target.
const SECONDS: u32 = 60;

pub(super) fn run(ci: &mut Ci) -> Result<Outcome> {
    if !ci.full {
        return Ok(Outcome::Skipped("only with --full".to_owned()));
    }
    let ran = run_targets(&ci.root, &ci.target, &[], SECONDS)?;
    let names: Vec<&str> = ran.iter().map(|ran| ran.target).collect();
    Ok(Outcome::Passed(format!("{SECONDS} s each: {}", names.join(", "))))
}
