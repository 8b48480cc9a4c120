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
use snp_lab::scenario::Scenario;

pub(crate) use builtin::{DEFAULT, names};
pub(crate) use place::{Document, ScenarioError};

use crate::exit::Failure;

/// The scenario of that name, or of the file at that path.
pub(crate) fn load(name_or_path: &str) -> Result<Scenario, Failure> {
    if let Some(text) = builtin::text(name_or_path) {
        return parse(&format!("built-in {name_or_path}"), text)
            .map_err(|e| Failure::BadInput(e.to_string()));
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
    parse(&path.display().to_string(), &text).map_err(|e| Failure::BadInput(e.to_string()))
}

/// Reads one scenario; `file` is its name for errors.
pub(crate) fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let document = place::Document::parse(file, text)?;
    let raw = raw::read(&document)?;
    check::scenario(&document, &raw)
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
