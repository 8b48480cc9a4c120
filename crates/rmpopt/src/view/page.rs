//! What all parts of the report share: width, colours, lines.

use anstyle::{AnsiColor, Style};

use crate::output::harmless;

/// Columns of the report.
pub(super) const WIDTH: usize = 80;

/// Columns of the map and the charts; each row of the map is 64 regions.
pub(super) const CELLS: usize = 64;

/// Columns left of the map and the charts.
pub(super) const MARGIN: usize = 12;

/// What is good.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// What is in between.
pub(super) const FAIR: Style = AnsiColor::Yellow.on_default();
/// What is wrong.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// SNP guests.
pub(super) const GUEST: Style = AnsiColor::Magenta.on_default();
/// Firmware.
pub(super) const FIRMWARE: Style = AnsiColor::Blue.on_default();
/// What matters most.
pub(super) const STRONG: Style = Style::new().bold();
/// What matters least.
pub(super) const FAINT: Style = Style::new().dimmed();

/// A report being written.
#[derive(Debug)]
pub(super) struct Page {
    out: String,
    /// Columns of a line.
    pub(super) width: usize,
    /// Whether the terminal shows characters beyond ASCII.
    pub(super) unicode: bool,
}

impl Page {
    /// An empty page.
    pub(super) fn new(unicode: bool) -> Self {
        Self::with_width(unicode, WIDTH)
    }

    /// An empty page for a terminal of so many columns.
    pub(super) fn with_width(unicode: bool, width: usize) -> Self {
        Self { out: String::new(), width, unicode }
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.out
    }

    /// `unicode` or, where it cannot be shown, `ascii`.
    pub(super) fn pick<T>(&self, unicode: T, ascii: T) -> T {
        if self.unicode { unicode } else { ascii }
    }

    /// One line; blanks at its end are dropped.
    pub(super) fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    /// The title of a part, after an empty line.
    pub(super) fn title(&mut self, title: &str, about: &str) {
        self.line("");
        if about.is_empty() {
            self.line(&paint(STRONG, title));
        } else {
            self.line(&format!("{}  {}", paint(STRONG, title), paint(FAINT, about)));
        }
    }

    /// A rule over the whole width.
    pub(super) fn rule(&mut self) {
        let rule = self.pick("─", "-").repeat(self.width);
        self.line(&paint(FAINT, &rule));
    }

    /// Words on as many lines as they need, each line indented: the first by what is in `label`,
    /// which is `indent` columns wide.
    pub(super) fn wrapped(&mut self, label: &str, indent: usize, text: &str) {
        let mut lead = label.to_owned();
        for line in wrap(&harmless(text), self.width.saturating_sub(indent)) {
            self.line(&format!("{lead}{line}"));
            lead = " ".repeat(indent);
        }
    }
}

/// `text` in a style.
pub(super) fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Breaks at blanks; a word that is too long is cut.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        if length > 0 && length + 1 + rest.len() > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        while rest.len() > width {
            let tail = rest.split_off(width);
            lines.push(rest.iter().collect());
            rest = tail;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        length += rest.len();
        line.extend(rest);
    }
    if length > 0 || lines.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped() {
        assert_eq!(wrap("one two three four", 9), ["one two", "three", "four"]);
        assert_eq!(wrap("", 9), [""]);
        assert_eq!(wrap("a bbbbbbbbbbbb c", 10), ["a", "bbbbbbbbbb", "bb c"]);
    }
}
