//! Rust source as tokens with lines, without comments and, where asked, without test code.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// One token: an identifier, a punctuation character, a literal or a bracket.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

/// Whether test code is part of what is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TestCode {
    Included,
    LeftOut,
}

/// The tokens of a file.
pub(super) fn tokens(file: &Path, test_code: TestCode) -> Result<Vec<Token>> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    tokens_of(&text, test_code).with_context(|| format!("reading {} as Rust", file.display()))
}

fn tokens_of(text: &str, test_code: TestCode) -> Result<Vec<Token>> {
    let stream = TokenStream::from_str(text).map_err(|error| anyhow!("{error}"))?;
    let mut found = Vec::new();
    flatten(stream, test_code, &mut found);
    Ok(found)
}

fn flatten(stream: TokenStream, test_code: TestCode, found: &mut Vec<Token>) {
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let starts_attribute = matches!(&tree, TokenTree::Punct(punct) if punct.as_char() == '#');
        if starts_attribute
            && test_code == TestCode::LeftOut
            && trees.peek().is_some_and(is_cfg_test)
        {
            // Up to the item's end: its block, or the semicolon of one without.
            for skipped in trees.by_ref() {
                match skipped {
                    TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
                    TokenTree::Punct(punct) if punct.as_char() == ';' => break,
                    _ => {}
                }
            }
            continue;
        }
        let line = tree.span().start().line;
        let mut push = |text: String, line| found.push(Token { text, line });
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(open.to_owned(), line);
                let end = group.span_close().start().line;
                flatten(group.stream(), test_code, found);
                found.push(Token { text: close.to_owned(), line: end });
            }
            TokenTree::Ident(ident) => push(ident.to_string(), line),
            TokenTree::Punct(punct) => push(punct.as_char().to_string(), line),
            TokenTree::Literal(literal) => push(literal.to_string(), line),
        }
    }
}

/// `[cfg(test)]` or `[cfg(all(test, ...))]`.
fn is_cfg_test(tree: &TokenTree) -> bool {
    let TokenTree::Group(group) = tree else { return false };
    let text: String = group.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn comments_strings_and_test_code_are_no_tokens() {
        let source = "// unsafe\n/* unsafe /* f64 */ */\nconst A: &str = \"unsafe\";\n\
                      #[cfg(test)]\n#[allow(dead_code)]\nmod tests { fn x() { unsafe {} } }\n\
                      #[cfg(test)]\nuse std::fs;\nfn last() {}\n";
        let texts = |test_code| -> Vec<String> {
            tokens_of(source, test_code).unwrap().into_iter().map(|token| token.text).collect()
        };
        let outside = texts(TestCode::LeftOut);
        assert!(!outside.contains(&"unsafe".to_owned()) && !outside.contains(&"std".to_owned()));
        assert!(outside.contains(&"last".to_owned()));
        assert!(texts(TestCode::Included).contains(&"unsafe".to_owned()));
    }

    #[test]
    fn lines_are_kept() {
        let tokens = tokens_of("fn a() {}\n\nfn b() {}\n", TestCode::Included).unwrap();
        assert_eq!(tokens.iter().find(|token| token.text == "b").unwrap().line, 3);
    }
}
