//! A trial as text: format version, switches, operations.

use core::fmt;
use core::str::FromStr;

use super::words::{Words, WordsError};
use super::{Operation, Plan};

/// The first line of a script.
const FIRST: &str = "rmpopt-trial 1";

/// A host's switches and what is done to it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Script {
    /// The switches.
    pub plan: Plan,
    /// The operations, in order.
    pub operations: Vec<Operation>,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST}")?;
        write!(f, "{}", self.plan)?;
        self.operations.iter().try_for_each(|operation| writeln!(f, "{operation}"))
    }
}

/// What is wrong with a script, and in which line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptError {
    /// Line, from 1.
    pub line: usize,
    /// The word, or what is missing.
    pub found: String,
    /// What was expected.
    pub expected: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}, expected {}", self.line, self.found, self.expected)
    }
}

impl std::error::Error for ScriptError {}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        let mut script: Option<Self> = None;
        let mut last = 1;
        for (line, whole) in (1..).zip(text.lines()) {
            last = line;
            let words = whole.split_once('#').map_or(whole, |(words, _)| words).trim();
            if words.is_empty() {
                continue;
            }
            let wrong = |error: WordsError| ScriptError {
                line,
                found: error.word,
                expected: error.expected,
            };
            match &mut script {
                None if words.split_ascii_whitespace().eq(FIRST.split(' ')) => {
                    script = Some(Self::default());
                }
                None => {
                    let found = format!("\"{}\"", shortened(words));
                    return Err(wrong(WordsError::new(found, format!("\"{FIRST}\""))));
                }
                Some(script) => script.add(words).map_err(wrong)?,
            }
        }
        script.ok_or_else(|| ScriptError {
            line: last,
            found: "the end".into(),
            expected: format!("\"{FIRST}\""),
        })
    }
}

impl Script {
    /// One line without its comment.
    fn add(&mut self, words: &str) -> Result<(), WordsError> {
        match words.strip_prefix("set").filter(|rest| rest.starts_with([' ', '\t'])) {
            None => {
                self.operations.push(Operation::parse(words)?);
                Ok(())
            }
            Some(_) if !self.operations.is_empty() => {
                Err(WordsError::new("\"set\" after an operation", "switches before operations"))
            }
            Some(rest) => {
                // Checked as words, so that errors read alike.
                Words::read(words)?;
                rest.split_ascii_whitespace().try_for_each(|word| {
                    let (name, value) = word.split_once('=').unwrap_or((word, ""));
                    self.plan.set(name, value)
                })
            }
        }
    }
}

/// The beginning of what somebody wrote, for a message.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short.escape_default().to_string()
}
