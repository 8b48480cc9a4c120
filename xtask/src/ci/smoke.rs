//! `rmpopt run`: the default run ends well and breaks no law.

use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Ci, Outcome};
use crate::process::capture;

pub(super) fn run(ci: &mut Ci) -> Result<Outcome> {
    ci.cargo(&["run", "--release", "--locked", "--", "run"])?;
    let program = ci.target.join("release/rmpopt");
    let mut json = ci.program(&program.to_string_lossy());
    json.args(["run", "--json"]).stderr(Stdio::inherit());
    let text = capture(&mut json)?;
    let report: Value = serde_json::from_str(&text).context("`rmpopt run --json` is no JSON")?;
    let mut counts = Vec::new();
    collect(&report, "law_violations", &mut counts);
    if counts.is_empty() {
        bail!("`rmpopt run --json` reports no `law_violations`");
    }
    if let Some(count) = counts.iter().find(|count| count.as_u64() != Some(0)) {
        bail!("`rmpopt run --json` reports law_violations {count}, expected 0");
    }
    Ok(Outcome::Passed("law_violations 0".to_owned()))
}

/// Every value under `key`, however deep.
fn collect<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == key {
                    found.push(value);
                } else {
                    collect(value, key, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, key, found)),
        _ => {}
    }
}
