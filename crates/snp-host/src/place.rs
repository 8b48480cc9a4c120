//! Where in a file something was found, and how its text is quoted in errors.

use std::fmt;

/// A place in a text file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct At {
    /// The file's name as the caller gave it.
    pub file: String,
    /// Line number, counted from 1.
    pub line: usize,
}

impl At {
    /// A place in `file` at `line` (from 1).
    pub fn new(file: &str, line: usize) -> Self {
        Self { file: file.to_owned(), line }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The longest piece of input quoted in an error, in characters.
const QUOTED: usize = 80;

/// Input text made fit for an error message: shortened, control characters escaped.
pub(crate) fn quoted(text: &str) -> String {
    harmless(text, QUOTED)
}

/// The same for a line that is evidence, at most 200 characters.
pub(crate) fn quoted_long(text: &str) -> String {
    harmless(text, 200)
}

fn harmless(text: &str, most: usize) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == most {
            out.push_str("...");
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_file_and_line() {
        assert_eq!(At::new("dmesg.txt", 7).to_string(), "dmesg.txt:7");
    }

    #[test]
    fn quotes_short_and_clean() {
        assert_eq!(quoted("a\tb"), "a\\tb");
        assert_eq!(quoted(&"x".repeat(200)).chars().count(), QUOTED + 3);
    }
}
