//! Where in a file something was found, and how its text is quoted in errors.

use std::borrow::Cow;
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

/// Whether a character would steer a terminal or change how the text around it is shown: control
/// characters, what turns the direction of writing (bidi), what breaks lines, and what is not seen.
pub const fn steers(c: char) -> bool {
    matches!(c,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // Soft hyphen, the Arabic letter mark, Hangul and Khmer and Mongolian fillers.
        | '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        // Zero width and direction marks; line and paragraph separators; embeddings, overrides, isolates.
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        // Tags and more variation selectors.
        | '\u{e0000}'..='\u{e0fff}')
}

/// Text that comes from files and names, for a terminal: what [`steers`] it is shown as an escape.
pub fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Input text made fit for an error message: shortened, and [`harmless`].
pub(crate) fn quoted(text: &str) -> String {
    shortened(text, QUOTED)
}

/// The same for a line that is evidence, at most 200 characters.
pub(crate) fn quoted_long(text: &str) -> String {
    shortened(text, 200)
}

fn shortened(text: &str, most: usize) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == most {
            out.push_str("...");
            break;
        }
        if steers(c) {
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
    fn what_steers_is_shown() {
        assert_eq!(harmless("pod-1: 5 µs, Zoë, 東京"), "pod-1: 5 µs, Zoë, 東京");
        assert_eq!(harmless("\u{1b}[31mred\u{7}\u{9b}1m"), "\\u{1b}[31mred\\u{7}\\u{9b}1m");
        assert_eq!(harmless("a\u{202e}b\u{2066}c\n"), "a\\u{202e}b\\u{2066}c\\n");
        // Every control character, and every one that Unicode calls a bidi control.
        let bidi = ['\u{61c}', '\u{200e}', '\u{200f}'];
        let bidi = bidi.into_iter().chain('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        assert!(('\0'..=char::MAX).filter(|c| c.is_control()).chain(bidi).all(steers));
    }

    #[test]
    fn quotes_short_and_clean() {
        assert_eq!(quoted("a\tb"), "a\\tb");
        assert_eq!(quoted(&"x".repeat(200)).chars().count(), QUOTED + 3);
    }
}
