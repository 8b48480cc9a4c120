//! A short run of the bench: that it runs and says a ratio for each row. What the ratios are does not
//! count here, since the machine may be busy with anything.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{Ci, Outcome};
use crate::bench::RUN;

pub(super) fn run(ci: &mut Ci) -> Result<Outcome> {
    let mut command = ci.program("cargo");
    command.args(RUN).args(["--quick", "--json"]).stderr(Stdio::inherit());
    let output = command.output().context("starting cargo")?;
    // 1: a limit was missed.
    if !matches!(output.status.code(), Some(0 | 1)) {
        bail!("the bench failed ({})", output.status);
    }
    measured(&String::from_utf8_lossy(&output.stdout)).map(Outcome::Passed)
}

/// How many rows have a ratio. Each must, or say why not.
fn measured(text: &str) -> Result<String> {
    let report: Value = serde_json::from_str(text).context("the bench's JSON")?;
    ensure!(report["schema_version"] == 1, "schema_version {}", report["schema_version"]);
    let rows = report["rows"].as_array().context("the bench's JSON has no rows")?;
    let ratios = rows.iter().filter(|row| row["ratio"].as_f64().is_some_and(|r| r > 0.0)).count();
    let skipped = rows.iter().filter(|row| row["skipped"].is_string()).count();
    ensure!(ratios > 0 || skipped > 0, "the bench measured nothing");
    ensure!(ratios + skipped == rows.len(), "a row has neither a ratio nor a reason");
    Ok(format!("{ratios} ratios, {skipped} rows skipped"))
}

#[cfg(test)]
mod tests {
    use super::measured;

    #[test]
    fn a_row_has_a_ratio_or_a_reason() {
        let report = |rows: &str| format!("{{\"schema_version\": 1, \"rows\": [{rows}]}}");
        let (good, skipped) = ("{\"ratio\": 0.5}", "{\"ratio\": null, \"skipped\": \"why\"}");
        let both = report(&format!("{good}, {skipped}"));
        assert_eq!(measured(&both).unwrap(), "1 ratios, 1 rows skipped");
        assert!(measured(&report("{\"ratio\": null}")).is_err());
        assert!(measured(&report("")).is_err());
        assert!(measured("{}").is_err() && measured("no JSON").is_err());
    }
}
