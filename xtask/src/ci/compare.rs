//! `rmpopt compare --quick`: every policy in every scenario breaks no law it claims, in time.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Ci, Outcome, shown};
use crate::process::capture;

/// On two cores, the rest of the machine idle.
const LIMIT: Duration = Duration::from_secs(120);

pub(super) fn run(ci: &mut Ci) -> Result<Outcome> {
    ci.cargo(&["build", "--release", "--locked", "--package", "rmpopt"])?;
    let program = ci.target.join("release/rmpopt");
    let mut command = ci.program(&program.to_string_lossy());
    command.args(["compare", "--quick", "--json", "--html"]);
    command.arg(ci.target.join("compare-quick.html")).stderr(Stdio::inherit());
    println!("$ {}", shown(&command));
    let begun = Instant::now();
    let text = capture(&mut command)?;
    let took = begun.elapsed();
    let all: Value = serde_json::from_str(&text).context("the comparison is no JSON")?;
    let results = all["results"].as_array().map_or(0, Vec::len);
    let sum = |key: &str| -> Option<u64> {
        all["results"].as_array()?.iter().map(|run| run[key].as_u64()).sum()
    };
    if results == 0 || all["incomplete"] != false {
        bail!("the comparison is not complete: {results} results");
    }
    // Added up here once more: the total is the command's own word.
    let violations = sum("law_violations").context("a result has no `law_violations`")?;
    if violations != 0 || all["law_violations"] != 0 {
        bail!("{violations} breaches of claimed laws, expected 0");
    }
    if took > LIMIT {
        bail!("took {:.0} s, expected at most {:.0}", took.as_secs_f64(), LIMIT.as_secs_f64());
    }
    Ok(Outcome::Passed(format!("{results} runs, law_violations 0")))
}
