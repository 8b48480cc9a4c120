//! `rmpopt run --list`: the built-in scenarios, and why each one is there.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use crate::exit::Failure;
use crate::{output, scenario};

/// The listing; field by field in docs/scenarios.md.
#[derive(Debug, Serialize)]
struct Listing {
    schema_version: u32,
    scenarios: Vec<Item>,
}

#[derive(Debug, Serialize)]
struct Item {
    name: String,
    description: String,
    why: String,
}

/// Prints the list, for people or as JSON.
pub(crate) fn run(json: bool) -> Result<ExitCode, Failure> {
    let mut scenarios = Vec::new();
    for name in scenario::names() {
        let scenario = scenario::load(name)?;
        let (description, why) = (scenario.description, scenario.why);
        scenarios.push(Item { name: scenario.name, description, why });
    }
    let listing = Listing { schema_version: 1, scenarios };
    let text =
        if json { output::json(&listing)? } else { people(&listing, output::stdout_width()) };
    output::result(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn people(listing: &Listing, width: usize) -> String {
    let mut text = String::new();
    for (index, item) in listing.scenarios.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        let _ = writeln!(text, "{}", item.name);
        indented(&mut text, &item.description, width);
        indented(&mut text, &item.why, width);
    }
    text
}

/// A paragraph in lines of at most `width` characters, a longer word on a line of its own.
fn indented(text: &mut String, paragraph: &str, width: usize) {
    let mut column = 0;
    for word in paragraph.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length <= width {
            text.push(' ');
            column += 1;
        } else {
            text.push_str(if column > 0 { "\n    " } else { "    " });
            column = 4;
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_indented_and_wrapped() {
        let mut text = String::new();
        indented(&mut text, "one two three\nfour incomprehensibilities x", 16);
        assert_eq!(text, "    one two\n    three four\n    incomprehensibilities\n    x\n");
    }

    #[test]
    fn every_built_in_says_what_and_why_and_is_documented() {
        let docs = include_str!("../../../../docs/scenarios.md");
        for name in scenario::names() {
            let scenario = scenario::load(name).unwrap();
            assert!(!scenario.description.is_empty(), "{name}");
            assert!(scenario.why.split_whitespace().count() >= 20, "{name}: {}", scenario.why);
            let row = docs.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
            let row = row.unwrap_or_else(|| panic!("docs/scenarios.md has no row for {name}"));
            assert!(row.contains(&scenario.why), "{name}: docs/scenarios.md gives another reason");
        }
    }
}
