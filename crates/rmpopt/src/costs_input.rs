//! Cost files: TOML with some of the lab's costs, the rest as it is by default.

use std::path::Path;

use snp_host::InputError;
use snp_lab::cost::{CostField, CostModel, Draws, Parallel};
use toml::Spanned;
use toml::de::DeValue;

use crate::exit::Failure;
use crate::scenario::{Document, ScenarioError};

/// The costs of a file; the defaults without one.
pub(crate) fn load(path: Option<&Path>) -> Result<CostModel, Failure> {
    let Some(path) = path else { return Ok(CostModel::DEFAULT) };
    let text = snp_host::read_text(path).map_err(|error| match error {
        InputError::Empty { file } => Failure::BadInput(format!(
            "{file}:1:1: empty, expected costs: \"schema_version = 1\" and one of them at least"
        )),
        error => error.into(),
    })?;
    parse(&path.display().to_string(), &text).map_err(|e| Failure::BadInput(e.to_string()))
}

/// Reads costs; `file` is their name for errors.
pub(crate) fn parse(file: &str, text: &str) -> Result<CostModel, ScenarioError> {
    let document = Document::parse(file, text)?;
    let mut costs = CostModel::DEFAULT;
    let fields = costs.fields();
    let mut versioned = false;
    for (key, value) in &document.tree {
        let name = key.get_ref().as_ref();
        match name {
            "schema_version" => {
                whole(&document, value, 1, 1, "")?;
                versioned = true;
            }
            "parallel" => costs.parallel = word::<Parallel>(&document, value)?,
            "draws" => costs.draws = word::<Draws>(&document, value)?,
            _ => {
                let Some(field) = fields.iter().find(|field| field.name == name) else {
                    return Err(document.error(key.span(), unknown(&fields)));
                };
                let value = whole(&document, value, field.low, field.high, field.unit)?;
                costs.set(name, value);
            }
        }
    }
    if !versioned {
        return Err(document.error_at_start("missing key \"schema_version\", expected 1"));
    }
    together(&document, &costs)?;
    Ok(costs)
}

/// What differs from the defaults, one sentence each.
pub(crate) fn changes(costs: &CostModel) -> Vec<String> {
    let default = CostModel::DEFAULT;
    let mut changes = Vec::new();
    if costs.parallel != default.parallel {
        changes.push(format!("cost: parallel {}, not {}", costs.parallel, default.parallel));
    }
    if costs.draws != default.draws {
        changes.push(format!("cost: draws {}, not {}", costs.draws, default.draws));
    }
    let fields = costs.fields().into_iter().zip(default.fields());
    changes.extend(fields.filter(|(field, default)| field != default).map(|(field, default)| {
        format!("cost: {} {} {}, not {}", field.name, field.value, field.unit, default.value)
    }));
    changes
}

fn unknown(fields: &[CostField]) -> String {
    let names = ["schema_version", "parallel", "draws"].into_iter();
    let names: Vec<_> = names.chain(fields.iter().map(|field| field.name)).collect();
    format!("unknown key, expected one of {}", names.join(", "))
}

/// Pairs of costs of which one cannot be more than the other.
fn together(document: &Document<'_>, costs: &CostModel) -> Result<(), ScenarioError> {
    if costs.rmpopt_tail_min > costs.rmpopt_tail_max {
        let message = format!(
            "rmpopt_tail_min {} is more than rmpopt_tail_max {}",
            costs.rmpopt_tail_min, costs.rmpopt_tail_max
        );
        return Err(document.error_at_start(message));
    }
    Ok(())
}

fn whole(
    document: &Document<'_>,
    value: &Spanned<DeValue<'_>>,
    low: u64,
    high: u64,
    unit: &str,
) -> Result<u64, ScenarioError> {
    let space = if unit.is_empty() { "" } else { " " };
    let expected = if low == high {
        format!("expected {low}")
    } else {
        format!("expected a whole number from {low} to {high}{space}{unit}")
    };
    let DeValue::Integer(written) = value.get_ref() else {
        return Err(document.error(value.span(), expected));
    };
    // A number of more than 64 bits is out of every range.
    let found = u64::from_str_radix(written.as_str(), written.radix()).ok();
    match found {
        Some(found) if (low..=high).contains(&found) => Ok(found),
        _ => Err(document.error(value.span(), format!("{expected}, found {written}"))),
    }
}

fn word<T>(document: &Document<'_>, value: &Spanned<DeValue<'_>>) -> Result<T, ScenarioError>
where
    T: std::str::FromStr<Err = snp_lab::scenario::UnknownChoice>,
{
    let text = value.get_ref().as_str().unwrap_or_default();
    text.parse().map_err(|e: T::Err| document.error(value.span(), e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse("costs.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn some_costs_and_the_rest_by_default() {
        let text = "schema_version = 1\nrmpopt_fast = 2_000\nparallel = \"contention\"\n";
        let costs = parse("costs.toml", text).unwrap();
        let expected =
            CostModel { rmpopt_fast: 2_000, parallel: Parallel::Contention, ..CostModel::DEFAULT };
        assert_eq!(costs, expected);
        assert_eq!(parse("costs.toml", "schema_version = 1\n").unwrap(), CostModel::DEFAULT);
    }

    #[test]
    fn every_cost_is_held_to_its_range() {
        for field in CostModel::DEFAULT.fields() {
            let read = |value: u64| {
                let text = format!("schema_version = 1\n{} = {value}\n", field.name);
                parse("c", &text).map_err(|e| e.to_string())
            };
            assert!(read(field.low).is_ok(), "{}", field.name);
            for wrong in [field.high + 1, field.low.wrapping_sub(1)] {
                if (field.low..=field.high).contains(&wrong) || i64::try_from(wrong).is_err() {
                    continue;
                }
                let error = read(wrong).unwrap_err();
                assert!(error.starts_with(&format!("c:2:{}", field.name.len() + 4)), "{error}");
                assert!(error.contains(&format!("{} to {}", field.low, field.high)), "{error}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, expected) in [
            ("rmpopt_fast = 100\n", "costs.toml:1:1: missing key \"schema_version\", expected 1"),
            ("schema_version = 2\n", "costs.toml:1:18: schema_version: expected 1, found 2"),
            (
                "schema_version = 1\nrmpopt_fast = \"fast\"\n",
                "costs.toml:2:15: rmpopt_fast: expected a whole number from 50 to 3000 ns",
            ),
            (
                "schema_version = 1\nrmpopt_fast = -1\n",
                "costs.toml:2:15: rmpopt_fast: expected a whole number from 50 to 3000 ns, found -1",
            ),
            (
                "schema_version = 1\nrmpopt_fast = 99999999999999999999999\n",
                "costs.toml:2:15: rmpopt_fast: expected a whole number from 50 to 3000 ns, \
                 found 99999999999999999999999",
            ),
            (
                "schema_version = 1\nparallel = \"both\"\n",
                "costs.toml:2:12: parallel: expected one of \"misses\", \"contention\", found \"both\"",
            ),
            (
                "schema_version = 1\ndraws = 3\n",
                "costs.toml:2:9: draws: expected one of \"mean\", ",
            ),
            (
                "schema_version = 1\nrmpopt = 3\n",
                "costs.toml:2:1: rmpopt: unknown key, expected one of ",
            ),
            (
                "schema_version = 1\n[costs]\n",
                "costs.toml:2:2: costs: unknown key, expected one of ",
            ),
            ("schema_version =\n", "costs.toml:1:17: not TOML: "),
        ] {
            let error = error(text);
            assert!(error.starts_with(expected), "{error}\n{expected}");
        }
    }

    #[test]
    fn the_documented_file_reads() {
        let docs = include_str!("../../../docs/costs.md");
        let files: Vec<_> = docs.split("```toml\n").skip(1).collect();
        assert!(files.len() >= 2);
        for file in files {
            let text = file.split("```").next().unwrap();
            parse("costs.md", text).unwrap();
        }
    }
}
