//! Scenarios as TOML: built in or from a file, read into [`snp_lab::scenario::Scenario`].
//!
//! `raw` is the file's shape, `check` the ranges and cross-checks, `place` finds line, column and
//! key of what is wrong. `docs/run.md` describes the format.

mod builtin;
mod check;
mod place;
mod raw;
mod repeat;

use std::path::Path;

use snp_host::InputError;
use snp_lab::scenario::{PlacementRule, Scenario};

use self::check::TraceWanted;

pub(crate) use builtin::{DEFAULT, names};
pub(crate) use place::{Document, ScenarioError};

use crate::exit::Failure;
use crate::trace_input;

/// The scenario of that name, or of the file at that path.
pub(crate) fn load(name_or_path: &str) -> Result<Scenario, Failure> {
    if let Some(text) = builtin::text(name_or_path) {
        let read = parse_whole(&format!("built-in {name_or_path}"), text);
        let (scenario, wanted) = read.map_err(|e| Failure::BadInput(e.to_string()))?;
        let Some(wanted) = wanted else { return Ok(scenario) };
        let Some(rows) = builtin::trace(&wanted.file) else {
            return Err(Failure::BadInput(format!("{}: no built-in trace", wanted.file)));
        };
        let source = trace_input::Source::Text { name: &wanted.file, text: rows };
        return with_trace(scenario, &wanted, source);
    }
    let path = Path::new(name_or_path);
    let looks_like_a_path = path.components().count() > 1 || path.extension().is_some();
    if !looks_like_a_path && !path.exists() {
        return Err(Failure::CannotRead(format!(
            "{name_or_path}: no built-in scenario (there are {}) and no file of that name",
            names().collect::<Vec<_>>().join(", ")
        )));
    }
    let text = snp_host::read_text(path).map_err(|e| match e {
        InputError::Empty { file } => Failure::BadInput(format!(
            "{file}:1:1: empty, expected a scenario: \"schema_version = 1\", \"name\" and \"[host]\""
        )),
        e => e.into(),
    })?;
    let read = parse_whole(&path.display().to_string(), &text);
    let (scenario, wanted) = read.map_err(|e| Failure::BadInput(e.to_string()))?;
    let Some(wanted) = wanted else { return Ok(scenario) };
    // A path that does not begin at the root is that of the scenario's folder.
    let trace = path.parent().unwrap_or(Path::new("")).join(&wanted.file);
    with_trace(scenario, &wanted, trace_input::Source::File(&trace))
}

/// The scenario under another rule of placement, which its name then says.
pub(crate) fn placed(mut scenario: Scenario, rule: PlacementRule) -> Scenario {
    if scenario.rule != rule {
        scenario.name = format!("{}+{rule}", scenario.name);
        scenario.rule = rule;
    }
    scenario
}

/// The scenario with its trace; it ends with that unless it says when.
fn with_trace(
    mut scenario: Scenario,
    wanted: &TraceWanted,
    source: trace_input::Source<'_>,
) -> Result<Scenario, Failure> {
    let trace = trace_input::read(source, wanted.options, &scenario.host)?;
    scenario.until.get_or_insert(trace_input::end(&trace));
    scenario.trace = Some(trace);
    Ok(scenario)
}

/// Reads one scenario, and which trace it wants; `file` is its name for errors.
fn parse_whole(file: &str, text: &str) -> Result<(Scenario, Option<TraceWanted>), ScenarioError> {
    let document = place::Document::parse(file, text)?;
    let raw = raw::read(&document)?;
    check::scenario(&document, &raw)
}

/// The same without its trace.
#[cfg(test)]
pub(crate) fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
    parse_whole(file, text).map(|(scenario, _)| scenario)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_reads_and_has_its_name() {
        for name in names() {
            assert_eq!(load(name).unwrap().name, name);
        }
        assert!(names().any(|name| name == DEFAULT));
    }

    #[test]
    fn the_documented_scenario_reads() {
        let docs = include_str!("../../../../docs/run.md");
        let (_, rest) = docs.split_once("```toml\n").unwrap();
        let (text, _) = rest.split_once("```").unwrap();
        assert_eq!(parse("run.md", text).unwrap().name, "two-guests");
    }
}
