//! Patterns of log lines, written much like the kernel's own format strings.
//!
//! `RMPUPDATE failed for PFN {pfn:h}, pg_level: {level:d}, ret: {ret:d}` matches what the kernel
//! prints and what tools make of it:
//!
//! * letters in any case;
//! * a blank stands for any blanks, and for none beside anything that is not a letter or digit;
//! * `[` and `]` may be missing;
//! * `{name:h}` is a hexadecimal number of up to 16 digits, with or without `0x`; `{name:d}` a decimal
//!   one, perhaps negative; `{name:n}` is hexadecimal with `0x` and else decimal; none may run into
//!   a letter or digit;
//! * `{name:w}` is a word: no blank, `,`, `;`, `(`, `)`, `[`, `]`;
//! * `{name:t}` is any text up to what follows it in the pattern, or to the end.

use std::collections::BTreeMap;

/// What a placeholder takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Take {
    Hex,
    Decimal,
    Number,
    Word,
    Text,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// Letters, digits and signs without blanks, in lower case.
    Literal(&'static str),
    Blank,
    /// `[` or `]`.
    Bracket(u8),
    Value(&'static str, Take),
}

/// A pattern, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

/// What a pattern's placeholders took.
#[derive(Debug, Default)]
pub(super) struct Captures<'t> {
    numbers: BTreeMap<&'static str, i128>,
    words: BTreeMap<&'static str, &'t str>,
}

impl<'t> Captures<'t> {
    /// The number that was taken as `name`; numbers that a pattern does not have are 0.
    pub(super) fn number(&self, name: &str) -> u64 {
        self.numbers.get(name).and_then(|value| u64::try_from(*value).ok()).unwrap_or(0)
    }

    /// The number, if the pattern has it.
    pub(super) fn signed(&self, name: &str) -> Option<i64> {
        self.numbers.get(name).and_then(|value| i64::try_from(*value).ok())
    }

    /// Whether the pattern has that placeholder.
    pub(super) fn has(&self, name: &str) -> bool {
        self.numbers.contains_key(name) || self.words.contains_key(name)
    }

    /// The word or text that was taken as `name`.
    pub(super) fn word(&self, name: &str) -> &'t str {
        self.words.get(name).copied().unwrap_or_default()
    }
}

impl Template {
    /// Takes `pattern` apart. Patterns are this library's own; what cannot be understood in one is
    /// taken as it stands, and the tests of the table find it.
    pub(super) fn new(pattern: &'static str) -> Self {
        let mut parts = Vec::new();
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            let (part, length) = match first {
                ' ' => (Part::Blank, rest.len() - rest.trim_start_matches(' ').len()),
                '[' | ']' => (Part::Bracket(first as u8), 1),
                '{' => match placeholder(rest) {
                    Some(found) => found,
                    None => (Part::Literal(rest), rest.len()),
                },
                _ => {
                    let end = rest.find([' ', '[', ']', '{']).unwrap_or(rest.len());
                    let (literal, _) = rest.split_at(end.max(1));
                    (Part::Literal(literal), literal.len())
                }
            };
            parts.push(part);
            rest = rest.get(length..).unwrap_or_default();
        }
        Self { parts }
    }

    /// Matches at the start of `text`: what was taken, and the length of what matched.
    pub(super) fn read<'t>(&self, text: &'t str) -> Option<(Captures<'t>, usize)> {
        let mut captures = Captures::default();
        let mut at = 0;
        for (index, part) in self.parts.iter().enumerate() {
            let rest = text.get(at..)?;
            at += match part {
                Part::Literal(literal) => {
                    let head = rest.as_bytes().get(..literal.len())?;
                    head.eq_ignore_ascii_case(literal.as_bytes()).then_some(literal.len())?
                }
                Part::Blank => blank(text, at)?,
                Part::Bracket(bracket) => usize::from(rest.as_bytes().first() == Some(bracket)),
                Part::Value(name, Take::Text) => {
                    let length = self.text_length(index, rest)?;
                    captures.words.insert(name, rest.get(..length)?.trim());
                    length
                }
                Part::Value(name, Take::Word) => {
                    let end = |c: char| c.is_whitespace() || ",;()[]".contains(c);
                    let length = rest.find(end).unwrap_or(rest.len());
                    // A sign that the pattern has next, and that ends the word, is not the word's.
                    let word = rest.get(..length)?;
                    let word = match self.parts.get(index + 1) {
                        Some(Part::Literal(next)) => {
                            word.find(next.chars().next()?).map_or(word, |cut| &word[..cut])
                        }
                        _ => word,
                    };
                    if word.is_empty() {
                        return None;
                    }
                    captures.words.insert(name, word);
                    word.len()
                }
                Part::Value(name, take) => {
                    // A unit may stand right behind it: `{size:d}GB`.
                    let unit = match self.parts.get(index + 1) {
                        Some(Part::Literal(unit)) => unit,
                        _ => "",
                    };
                    let (value, length) = number(rest, *take, unit)?;
                    captures.numbers.insert(name, value);
                    length
                }
            };
        }
        Some((captures, at))
    }

    /// Where the text at part `index` ends: before what the pattern has next.
    fn text_length(&self, index: usize, rest: &str) -> Option<usize> {
        let mut next = self.parts.iter().skip(index + 1).filter(|part| **part != Part::Blank);
        match next.next() {
            None => Some(rest.len()),
            Some(Part::Literal(literal)) => {
                let bytes = literal.as_bytes();
                rest.as_bytes()
                    .windows(bytes.len())
                    .position(|window| window.eq_ignore_ascii_case(bytes))
            }
            Some(Part::Bracket(bracket)) => rest.find(char::from(*bracket)),
            Some(_) => None,
        }
    }

    /// Whether a text that the pattern matches can begin with `byte`, in any case.
    pub(super) fn may_begin_with(&self, byte: u8) -> bool {
        match self.parts.first() {
            Some(Part::Literal(literal)) => {
                literal.as_bytes().first().is_some_and(|first| first.eq_ignore_ascii_case(&byte))
            }
            _ => true,
        }
    }
}

/// `{name:h}` at the start of `rest`, with its length.
fn placeholder(rest: &'static str) -> Option<(Part, usize)> {
    let inside = rest.get(1..rest.find('}')?)?;
    let (name, take) = inside.split_once(':')?;
    let take = match take {
        "h" => Take::Hex,
        "d" => Take::Decimal,
        "n" => Take::Number,
        "w" => Take::Word,
        "t" => Take::Text,
        _ => return None,
    };
    Some((Part::Value(name, take), inside.len() + 2))
}

/// Length of the blanks at `at`: at least one, or none beside a sign.
fn blank(text: &str, at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let length = rest.len() - rest.trim_start().len();
    let sign = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    let may_be_none = sign(text.get(..at)?.chars().next_back()) || sign(rest.chars().next());
    (length > 0 || may_be_none).then_some(length)
}

/// The number at the start of `text`, with its length; `unit` may follow without a blank.
fn number(text: &str, take: Take, unit: &str) -> Option<(i128, usize)> {
    let bytes = text.as_bytes();
    let marked = matches!(bytes, [b'0', b'x' | b'X', ..]);
    let (sign, start) = match (take, bytes.first()) {
        (Take::Decimal | Take::Number, Some(b'-')) => (-1, 1),
        (Take::Hex | Take::Number, _) if marked => (1, 2),
        _ => (1, 0),
    };
    let hex = take == Take::Hex || (take == Take::Number && start == 2);
    let digit = |b: &&u8| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() };
    let length = bytes.iter().skip(start).take_while(digit).count();
    let most = if hex { 16 } else { 20 };
    let behind = text.get(start + length..)?;
    let unit = behind
        .as_bytes()
        .get(..unit.len())
        .is_some_and(|head| !unit.is_empty() && head.eq_ignore_ascii_case(unit.as_bytes()));
    let runs_on = behind.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    if length == 0 || length > most || (runs_on && !unit) {
        return None;
    }
    let digits = text.get(start..start + length)?;
    let value = i128::from_str_radix(digits, if hex { 16 } else { 10 }).ok()?;
    Some((sign * value, start + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pattern: &'static str, text: &str) -> Option<(u64, i64, String, usize)> {
        let template = Template::new(pattern);
        let (captures, length) = template.read(text)?;
        let signed = captures.signed("b").unwrap_or_default();
        Some((captures.number("a"), signed, captures.word("w").to_owned(), length))
    }

    #[test]
    fn what_the_kernel_prints() {
        const FAILED: &str = "RMPUPDATE failed for PFN {a:h}, pg_level: {level:d}, ret: {b:d}";
        let text = "RMPUPDATE failed for PFN 56700, pg_level: 1, ret: 2";
        assert_eq!(read(FAILED, text), Some((0x56700, 2, String::new(), text.len())));
        for same in [
            "rmpupdate FAILED for pfn 0X56700,pg_level:1,ret:2",
            "RMPUPDATE  failed for\tPFN 0x56700 , pg_level: 1, ret: 2",
        ] {
            // A blank before a sign is not the pattern's.
            let expected = (!same.contains(" ,")).then_some((0x56700, 2));
            assert_eq!(read(FAILED, same).map(|r| (r.0, r.1)), expected, "{same}");
        }
        for other in [
            "RMPUPDATE failed for PFN 5670g, pg_level: 1, ret: 2",
            "RMPUPDATE failed for PFN 56700, pg_level: 1, ret: 2x",
            "RMPUPDATE failed for PFN 10000000000000000, pg_level: 1, ret: 2",
            "RMPUPDATEfailed for PFN 56700, pg_level: 1, ret: 2",
            "RMPUPDATE failed for PFN 56700, pg_level: 1",
        ] {
            assert_eq!(read(FAILED, other), None, "{other}");
        }
    }

    #[test]
    fn brackets_words_and_texts() {
        assert_eq!(
            read("at [{a:h} - {b:h}]", "at 0x10 - 0x20").map(|r| (r.0, r.1)),
            Some((16, 32))
        );
        assert_eq!(read("at [{a:h} - {b:h}]", "at [10-20]").map(|r| (r.0, r.1)), Some((16, 32)));
        let found =
            read("SEV {w:w} (ASIDs {a:n} - {b:n})", "SEV enabled (ASIDs 1 - 0x63)").unwrap();
        assert_eq!((found.0, found.1, found.2.as_str()), (1, 99, "enabled"));
        assert_eq!(read("{w:t} failed", "SNP_INIT now failed").unwrap().2, "SNP_INIT now");
        assert_eq!(read("x {w:t}", "x all of it ").unwrap().2, "all of it");
        assert_eq!(read("key={w:w},", "key=a=b, c").unwrap().2, "a=b");
        assert_eq!(read("rc {b:d}", "rc -5").unwrap().1, -5);
        assert_eq!(read("rc {a:n}", "rc 0x1a").unwrap().0, 26);
        assert_eq!(read("é {a:d}", "é 5").unwrap().0, 5);
    }
}
