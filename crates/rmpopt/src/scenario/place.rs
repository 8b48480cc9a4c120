//! Where in a file something is: line, column and the key's full name.

use core::fmt;
use core::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong with a scenario or a cost file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) struct ScenarioError {
    /// The file's name.
    pub(crate) file: String,
    /// Line, from 1.
    pub(crate) line: usize,
    /// Column in characters, from 1.
    pub(crate) column: usize,
    /// The key's full name, such as `guest[2].memory`; empty for the whole file.
    pub(crate) key: String,
    /// What is wrong, and what was expected.
    pub(crate) message: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// A TOML document that knows where everything stands.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    file: &'a str,
    /// The text.
    pub(crate) text: &'a str,
    /// Its tree.
    pub(crate) tree: DeTable<'a>,
    /// Where the tree stands, as errors about all of it have it.
    span: Range<usize>,
}

impl<'a> Document<'a> {
    /// Reads TOML of any shape.
    pub(crate) fn parse(file: &'a str, text: &'a str) -> Result<Self, ScenarioError> {
        let (tree, errors) = DeTable::parse_recoverable(text);
        let span = tree.span();
        let document = Self { file, text, tree: tree.into_inner(), span };
        // What comes later is mostly a consequence of what comes first.
        let start = |e: &toml::de::Error| e.span().map_or(usize::MAX, |span| span.start);
        match errors.iter().min_by_key(|e| start(e)) {
            None => Ok(document),
            Some(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let message = format!("not TOML: {}", one_line(error.message()));
                Err(document.error_at(at, String::new(), message))
            }
        }
    }

    /// An error at a place in the text.
    pub(crate) fn error(&self, span: Range<usize>, message: impl Into<String>) -> ScenarioError {
        let key = key_of_table(&self.tree, "", &span).unwrap_or_default();
        self.error_at(span.start, key, message)
    }

    /// An error about the whole document.
    pub(crate) fn error_at_start(&self, message: impl Into<String>) -> ScenarioError {
        self.error_at(0, String::new(), message)
    }

    /// An error of the `toml` crate.
    pub(crate) fn error_from(&self, error: &toml::de::Error) -> ScenarioError {
        let message = one_line(error.message());
        match error.span() {
            Some(span) if span != self.span => self.error(span, message),
            _ => self.error_at_start(message),
        }
    }

    fn error_at(&self, at: usize, key: String, message: impl Into<String>) -> ScenarioError {
        let before = self.text.get(..at.min(self.text.len())).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        ScenarioError {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            key,
            message: message.into(),
        }
    }
}

fn one_line(message: &str) -> String {
    let message = message.trim().replace('\n', ", ").replace('`', "\"");
    match message.split_once(' ') {
        // serde speaks of fields, the format of keys.
        Some((what @ ("unknown" | "missing" | "duplicate"), rest)) => {
            match rest.strip_prefix("field ") {
                Some(rest) => format!("{what} key {rest}"),
                None => message,
            }
        }
        _ => message,
    }
}

fn key_of_table(table: &DeTable<'_>, prefix: &str, span: &Range<usize>) -> Option<String> {
    let dot = if prefix.is_empty() { "" } else { "." };
    table.iter().find_map(|(key, value)| {
        let name = format!("{prefix}{dot}{}", key.get_ref());
        if contains(&key.span(), span) {
            return Some(name);
        }
        key_of_value(value, name, span)
    })
}

fn key_of_value(value: &Spanned<DeValue<'_>>, name: String, span: &Range<usize>) -> Option<String> {
    let inner = match value.get_ref() {
        DeValue::Table(table) => key_of_table(table, &name, span),
        DeValue::Array(array) => array
            .iter()
            .enumerate()
            .find_map(|(i, item)| key_of_value(item, format!("{name}[{}]", i + 1), span)),
        _ => None,
    };
    inner.or_else(|| contains(&value.span(), span).then_some(name))
}

fn contains(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.start < outer.end && inner.end <= outer.end
}
