//! Why a kernel interface gave no answer.

use serde::{Deserialize, Serialize};

use crate::place::quoted;

/// Why; the three that matter are kept apart: it is not there, one may not, it says nonsense.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// There is no such file: this kernel, build or machine does not have it.
    Absent,
    /// It is there and this user may not read it, or its values are hidden from this user.
    Forbidden,
    /// It was read and is not what was expected.
    Malformed {
        /// Line, from 1; 0 for files without lines.
        line: usize,
        /// What was expected.
        expected: String,
        /// What stood there, shortened and without control characters.
        found: String,
    },
    /// Larger than a file of its kind can be.
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// It would interrupt every CPU, or talk to the firmware, and that was not asked for.
    NotAsked,
    /// Any other failure of the operating system.
    Io(String),
}

impl Why {
    pub(crate) fn malformed(line: usize, expected: &str, found: &str) -> Self {
        Self::Malformed { line, expected: expected.to_owned(), found: quoted(found) }
    }

    /// One word for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Forbidden => "forbidden",
            Self::Malformed { .. } => "malformed",
            Self::TooLarge { .. } => "too-large",
            Self::NotAsked => "not-asked",
            Self::Io(_) => "failed",
        }
    }
}

/// A path and why it gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadError {
    /// The path below the root, beginning with `/`.
    pub path: String,
    /// Why.
    pub why: Why,
}

/// What a reader gives.
pub type Got<T> = Result<T, ReadError>;

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&quoted(&self.path))?;
        match &self.why {
            Why::Absent => f.write_str(": absent"),
            Why::Forbidden => f.write_str(": needs root"),
            Why::Malformed { line: 0, expected, found } => {
                write!(f, ": `{}`, expected {}", quoted(found), quoted(expected))
            }
            Why::Malformed { line, expected, found } => {
                write!(f, ":{line}: `{}`, expected {}", quoted(found), quoted(expected))
            }
            Why::TooLarge { limit } => write!(f, ": larger than {limit} bytes"),
            Why::NotAsked if self.path == super::SEV => {
                f.write_str(": the firmware was not asked (--firmware asks it)")
            }
            Why::NotAsked => {
                f.write_str(": not read, as it interrupts every CPU (--deep reads it)")
            }
            Why::Io(reason) => write!(f, ": {}", quoted(reason)),
        }
    }
}

impl std::error::Error for ReadError {}

impl ReadError {
    /// The error `why` about `path`.
    pub(crate) fn new(path: &str, why: Why) -> Self {
        Self { path: path.to_owned(), why }
    }
}
