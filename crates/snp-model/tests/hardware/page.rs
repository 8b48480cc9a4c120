//! The page: hand-written text with generated blocks.

/// A page whose blocks are replaced one after another.
pub(crate) struct Page {
    text: String,
    done: Vec<&'static str>,
}

const END: &str = "<!-- end -->";

fn marker(name: &str) -> String {
    format!("<!-- generated: {name} -->\n")
}

impl Page {
    pub(crate) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), done: Vec::new() }
    }

    /// Puts `content` into the block of this name, which the page must have once.
    pub(crate) fn block(&mut self, name: &'static str, content: &str) {
        let start = marker(name);
        assert_eq!(self.text.matches(&start).count(), 1, "markers of block {name}, expected one");
        let from = self.text.find(&start).unwrap() + start.len();
        let length =
            self.text[from..].find(END).unwrap_or_else(|| panic!("block {name} has no end"));
        self.text.replace_range(from..from + length, &format!("\n{}\n\n", content.trim_end()));
        self.done.push(name);
    }

    /// The page, if it has no block that nothing fills.
    pub(crate) fn finish(self) -> String {
        let blocks = self.text.matches("<!-- generated: ").count();
        assert_eq!(blocks, self.done.len(), "blocks of the page, expected {:?}", self.done);
        self.text
    }
}

/// A table.
pub(crate) fn table<R: AsRef<[String]>>(
    header: &[&str],
    rows: impl IntoIterator<Item = R>,
) -> String {
    let line = |cells: &str| format!("| {cells} |\n");
    let rows = rows.into_iter().map(|row| {
        let row = row.as_ref();
        assert_eq!(row.len(), header.len(), "cells of {row:?}");
        line(&row.join(" | "))
    });
    let rule = format!("|{}\n", "---|".repeat(header.len()));
    [line(&header.join(" | ")), rule].into_iter().chain(rows).collect()
}

/// Text in code font.
pub(crate) fn code(text: impl std::fmt::Display) -> String {
    format!("`{text}`")
}
