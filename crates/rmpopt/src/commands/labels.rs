//! `rmpopt labels`: what a scheduler should know of a host, as a local feature file of Node Feature
//! Discovery.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use snp_host::state::{DriverKind, HostState, SCHEMA_VERSION};

use crate::atomic;
use crate::cli::LabelsArgs;
use crate::date::rfc3339;
use crate::exit::Failure;
use crate::output;

/// The namespace in which every node may be labelled without further permission.
const PREFIX: &str = "feature.node.kubernetes.io/";
const MODE: u32 = 0o644;
/// Longest value of a label, in bytes.
const MAX_VALUE: usize = 63;

/// Prints or writes the labels.
pub(crate) fn run(args: &LabelsArgs) -> Result<ExitCode, Failure> {
    let (system, _) = super::host::system(&args.host.source)?;
    let labels = labels(&HostState::of(&system));
    let expires = args.expire.map(|nanos| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        rfc3339((now + Duration::from_nanos(nanos)).as_secs())
    });
    let text = if args.host.json {
        output::json(&json!({
            "schema_version": SCHEMA_VERSION,
            "expires": expires,
            "labels": labels,
        }))?
    } else {
        file(&labels, expires.as_deref())
    };
    match &args.output {
        Some(path) => atomic::replace(path, text.as_bytes(), Some(MODE))?,
        None => output::result(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The labels that are known. None for what changes from minute to minute: labels move workloads.
fn labels(state: &HostState) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value.map(|value| fitting(&value)).filter(|value| !value.is_empty()) {
            all.insert(format!("{PREFIX}{name}"), value);
        }
    };
    let flag = |value: Option<bool>| value.map(|value| value.to_string());
    put("snp.enabled", flag(state.snp.enabled));
    put("rmp.kind", state.rmp.kind.map(str::to_owned));
    put("rmp.covers-ram", flag(state.rmp.uncovered_bytes.map(|bytes| bytes == 0)));
    put("rmpopt.capable", flag(state.capability.rmpopt_capable));
    let driver = match state.driver.kind {
        DriverKind::Ours => Some("rmpopt"),
        DriverKind::Upstream => Some("upstream"),
        DriverKind::None => Some("none"),
        DriverKind::Unknown => None,
    };
    put("rmpopt.driver", driver.map(str::to_owned));
    let emulated = state.driver.emulated == Some(true);
    put("rmpopt.emulated", emulated.then(|| "true".to_owned()));
    put("rmpopt.policy", state.driver.policy.clone());
    let pool = state.guests.asids.get("sev_es").and_then(|(_, capacity)| *capacity);
    put("snp.asids", pool.map(|n| n.to_string()));
    all
}

/// A value as Kubernetes takes it: letters, digits, `-`, `_` and `.`, the first and the last of
/// them a letter or digit.
fn fitting(value: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let value: String = value.chars().map(plain).take(MAX_VALUE).collect();
    value.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// The file: directives, then a label a line.
fn file(labels: &BTreeMap<String, String>, expires: Option<&str>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    if let Some(expires) = expires {
        let _ = writeln!(text, "# +expiry-time={expires}");
    }
    for (name, value) in labels {
        let _ = writeln!(text, "{name}={value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_labels() {
        assert_eq!(fitting("tracked"), "tracked");
        assert_eq!(fitting("-a b\u{1b}/ä."), "a_b");
        assert_eq!(fitting(&"x".repeat(100)).len(), MAX_VALUE);
        assert_eq!(fitting("\u{1b}"), "");
    }
}
