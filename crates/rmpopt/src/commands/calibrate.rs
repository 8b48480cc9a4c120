//! `rmpopt calibrate`: the costs held against what AMD posted.

use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use snp_lab::LabError;
use snp_lab::calibrate::{Calibration, calibrate};
use snp_lab::cost::CostModel;

use crate::cli::CalibrateArgs;
use crate::exit::{Failure, OUT_OF_TOLERANCE};
use crate::view::View;
use crate::{costs_input, output};

/// Runs the command; the exit code is 0, or 1 if the calibration does not hold.
pub(crate) fn run(args: &CalibrateArgs) -> Result<ExitCode, Failure> {
    let costs = costs_input::load(args.costs.as_deref())?;
    let found = watched(costs).map_err(|e| Failure::BadInput(format!("calibrate: {e}")))?;
    let text = if args.json {
        output::json(&found)?
    } else {
        View { unicode: output::locale_is_utf8() }.calibration(&found)
    };
    output::result(&text)?;
    Ok(if found.holds { ExitCode::SUCCESS } else { ExitCode::from(OUT_OF_TOLERANCE) })
}

/// Calibrates, and says on standard error what is being done if someone is watching.
fn watched(costs: CostModel) -> Result<Calibration, LabError> {
    if !output::stderr_is_watched() {
        return calibrate(costs, &mut |_| {});
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("calibrate: {msg}  ({elapsed} so far)") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    let found = calibrate(costs, &mut |step| bar.set_message(step.to_owned()));
    bar.finish_and_clear();
    found
}
