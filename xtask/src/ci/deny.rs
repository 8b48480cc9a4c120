//! Licences, sources and duplicates of the crates used, by cargo-deny (`deny.toml`).

use anyhow::Result;

use super::{Ci, Outcome, tools};

const MISSING: &str = "cargo-deny is missing (cargo install cargo-deny --locked)";

pub(super) fn run(ci: &mut Ci) -> Result<Outcome> {
    if !tools::has_deny(ci) {
        return Ok(Outcome::Skipped(MISSING.to_owned()));
    }
    ci.cargo(&["deny", "--locked", "check", "bans", "licenses", "sources"])
}

/// Needs the advisory database: fetched with a time limit, else skipped.
pub(super) fn advisories(ci: &mut Ci) -> Result<Outcome> {
    if !tools::has_deny(ci) {
        return Ok(Outcome::Skipped(MISSING.to_owned()));
    }
    let mut fetch = ci.program("timeout");
    fetch.args(["60", "cargo", "deny", "--locked", "fetch", "db"]);
    fetch.env("GIT_TERMINAL_PROMPT", "0");
    if ci.show(&mut fetch).is_err() {
        return Ok(Outcome::Skipped(
            "the advisory database cannot be reached from here".to_owned(),
        ));
    }
    ci.cargo(&["deny", "--locked", "check", "--disable-fetch", "advisories"])
}
