//! What was found: plain data.

use std::borrow::Cow;
use std::fmt;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A fact, or nothing to do.
    Info,
    /// Worth a look; the host goes on.
    Warning,
    /// Something failed or is missing.
    Error,
}

impl Severity {
    /// `info`, `warning` or `error`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A value taken from the input or worked out from it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// A count, a size, a code that people read in decimal.
    Number(u64),
    /// The same with a sign, such as an errno.
    Signed(i64),
    /// An address or bits: shown as hexadecimal.
    Hex(u64),
    /// Yes or no.
    Flag(bool),
    /// A name, or text of the input.
    Text(String),
    /// Several of them, such as the functions of a call trace.
    List(Vec<String>),
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(value) => write!(f, "{value}"),
            Self::Signed(value) => write!(f, "{value}"),
            Self::Hex(value) => write!(f, "{value:#x}"),
            Self::Flag(value) => f.write_str(if *value { "yes" } else { "no" }),
            Self::Text(text) => f.write_str(text),
            Self::List(parts) => f.write_str(&parts.join(", ")),
        }
    }
}

/// One thing that a line, or a code alone, says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Line it begins in, from 1; 0 for a code that was asked for alone.
    pub line: usize,
    /// What it is, a fixed word of this library such as `rmpupdate-failed`.
    pub kind: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was taken from the line and worked out from it, in the order to show it. A name occurs
    /// once.
    pub facts: Vec<(&'static str, Fact)>,
    /// What happened, in one or a few sentences.
    pub meaning: Cow<'static, str>,
    /// What to do, empty if there is nothing.
    pub advice: Cow<'static, str>,
    /// Where the wording of the line is known from, such as `Linux 7.3, virt/svm/sev.c`; empty for
    /// a code by itself.
    pub known_from: &'static str,
    /// The message itself, without what log tools put before it, at most [`Self::TEXT`] characters.
    /// It may hold control characters.
    pub text: String,
}

impl Finding {
    /// Most characters of what a finding quotes of its line.
    pub const TEXT: usize = 400;

    pub(super) fn new(kind: &'static str, severity: Severity) -> Self {
        Self {
            line: 0,
            kind,
            severity,
            facts: Vec::new(),
            meaning: Cow::Borrowed(""),
            advice: Cow::Borrowed(""),
            known_from: "",
            text: String::new(),
        }
    }

    pub(super) fn info(kind: &'static str) -> Self {
        Self::new(kind, Severity::Info)
    }

    pub(super) fn warning(kind: &'static str) -> Self {
        Self::new(kind, Severity::Warning)
    }

    pub(super) fn error(kind: &'static str) -> Self {
        Self::new(kind, Severity::Error)
    }

    /// With one fact more.
    pub(super) fn fact(mut self, name: &'static str, fact: Fact) -> Self {
        self.set(name, fact);
        self
    }

    /// With a text as a fact.
    pub(super) fn text(self, name: &'static str, text: impl Into<String>) -> Self {
        self.fact(name, Fact::Text(text.into()))
    }

    pub(super) fn hex(self, name: &'static str, value: u64) -> Self {
        self.fact(name, Fact::Hex(value))
    }

    pub(super) fn number(self, name: &'static str, value: u64) -> Self {
        self.fact(name, Fact::Number(value))
    }

    pub(super) fn flag(self, name: &'static str, value: bool) -> Self {
        self.fact(name, Fact::Flag(value))
    }

    pub(super) fn meaning(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.meaning = text.into();
        self
    }

    pub(super) fn advice(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.advice = text.into();
        self
    }

    /// Adds a fact, or replaces the one of that name.
    pub(super) fn set(&mut self, name: &'static str, fact: Fact) {
        match self.facts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = fact,
            None => self.facts.push((name, fact)),
        }
    }

    /// Adds a sentence to the meaning.
    pub(super) fn add(&mut self, sentence: &str) {
        let meaning = self.meaning.to_mut();
        if !meaning.is_empty() {
            meaning.push(' ');
        }
        meaning.push_str(sentence);
    }

    /// The fact of that name.
    pub fn get(&self, name: &str) -> Option<&Fact> {
        self.facts.iter().find(|(known, _)| *known == name).map(|(_, fact)| fact)
    }

    /// The number of that name, decimal or hexadecimal.
    pub fn value(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Fact::Number(value) | Fact::Hex(value) => Some(*value),
            _ => None,
        }
    }
}
