//! XML from anybody, in bounded time and memory: what `roxmltree` does more than once for each
//! attribute, namespace or level is kept few.

use roxmltree::{Document, ParsingOptions};

/// Attributes that one tag may have: they are compared in pairs.
const MAX_ATTRIBUTES: usize = 64;
/// Declarations of namespaces: each level below one keeps a list of all.
const MAX_NAMESPACES: usize = 64;
/// Levels of elements in one another: readers count what is below an element.
const MAX_DEPTH: usize = 128;

/// Why a text is not taken: its line, from 1, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct XmlError {
    pub(crate) line: usize,
    pub(crate) what: String,
}

/// Parses a text. A document type may name a file, which is not read; it may define nothing.
pub(crate) fn document(text: &str, most_nodes: u32) -> Result<Document<'_>, XmlError> {
    bounded(text)?;
    let options =
        ParsingOptions { allow_dtd: true, nodes_limit: most_nodes, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options)
        .map_err(|error| XmlError { line: error.pos().row as usize, what: error.to_string() })?;
    let deep = |node: &roxmltree::Node<'_, '_>| node.ancestors().nth(MAX_DEPTH).is_some();
    if let Some(node) = document.descendants().find(deep) {
        let line = document.text_pos_at(node.range().start).row as usize;
        return Err(XmlError { line, what: format!("more than {MAX_DEPTH} levels of elements") });
    }
    Ok(document)
}

/// Whether a text keeps the limits that hold before it is parsed. In a tag `=` stands for an
/// attribute, unless it is quoted; `<` ends one in any case, as it stands in no value.
fn bounded(text: &str) -> Result<(), XmlError> {
    let wrong = |at: usize, what: String| {
        let before = text.bytes().take(at);
        XmlError { line: before.filter(|b| *b == b'\n').count() + 1, what }
    };
    if let Some(at) = text.find("<!ENTITY") {
        return Err(wrong(at, "entities are defined, which are not read".to_owned()));
    }
    if let Some((at, _)) = text.match_indices("xmlns").nth(MAX_NAMESPACES) {
        return Err(wrong(at, format!("more than {MAX_NAMESPACES} namespaces")));
    }
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        let plain = |next: &(usize, u8)| !b"!?".contains(&next.1);
        if byte != b'<' || !bytes.peek().is_some_and(plain) {
            continue;
        }
        let (mut quote, mut attributes) = (None, 0);
        while let Some((_, byte)) = bytes.next_if(|(_, byte)| *byte != b'<') {
            match (quote, byte) {
                (Some(open), _) if open == byte => quote = None,
                (None, b'"' | b'\'') => quote = Some(byte),
                (None, b'>') => break,
                (None, b'=') => attributes += 1,
                _ => {}
            }
        }
        if attributes > MAX_ATTRIBUTES {
            return Err(wrong(at, format!("a tag with more than {MAX_ATTRIBUTES} attributes")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::time::{Duration, Instant};

    use super::*;

    const NODES: u32 = 4_000_000;

    fn refused(text: &str) -> XmlError {
        let began = Instant::now();
        let error = document(text, NODES).unwrap_err();
        // Pairs of all of them would take minutes.
        assert!(began.elapsed() < Duration::from_secs(20), "{}", error.what);
        error
    }

    #[test]
    fn what_grows_in_pairs_is_refused() {
        let many =
            |n: usize, piece: &dyn Fn(usize) -> String| (0..n).map(piece).collect::<String>();
        let attributes = format!("<a>\n<b {}/></a>", many(300_000, &|n| format!("c{n}='>' ")));
        assert_eq!(refused(&attributes).line, 2);
        let names = format!("<a {}/>", many(50_000, &|n| format!("xmlns:n{n}='u{n}' ")));
        assert!(refused(&names).what.contains("namespaces"));
        let nested = many(100_000, &|n| format!("<a xmlns:n{n}='u'>"));
        assert!(refused(&nested).what.contains("namespaces"));
        let deep = format!("{}{}", "<a>".repeat(500_000), "</a>".repeat(500_000));
        assert!(refused(&deep).what.contains("levels"));
        let mut laughs = "<!DOCTYPE a [<!ENTITY b0 'x'>\n".to_owned();
        for n in 1..30 {
            let _ = writeln!(laughs, "<!ENTITY b{n} '&b{0};&b{0};'>", n - 1);
        }
        assert!(refused(&format!("{laughs}]><a>&b29;</a>")).what.contains("entities"));
    }

    #[test]
    fn what_is_well_formed_within_the_limits_is_taken() {
        let attribute = |n| format!(" c{n}=\"=>'\"");
        let attributes: String = (0..MAX_ATTRIBUTES).map(attribute).collect();
        for text in [
            format!("<!DOCTYPE a SYSTEM 'x.dtd'><!-- it's a = b --><a{attributes}>1 = 1</a>"),
            format!("{}{}", "<a>".repeat(MAX_DEPTH - 2), "</a>".repeat(MAX_DEPTH - 2)),
            "<a xmlns:q='u'><q:b/><![CDATA[<b c='1' =====>]]></a>".to_owned(),
        ] {
            assert_eq!(document(&text, NODES).err(), None, "{text}");
        }
        assert!(document(&format!("<a{attributes} more='1'/>"), NODES).is_err());
        assert_eq!(document("<a>\n<b></a>", NODES).unwrap_err().line, 2);
        assert_eq!(document(&"<a/>".repeat(9), NODES).unwrap_err().line, 1);
        assert!(document(&format!("<a>{}</a>", "<b/>".repeat(99)), 50).is_err());
    }
}
