//! A line of a script: a keyword, then `name=value` words in any order.

use core::fmt;

use ::snp_defs::Spa;

/// Addresses are below 2^52.
pub(super) const ADDRESS_MAX: u64 = (1 << 52) - 1;

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct WordsError {
    /// The word, or where one is missing.
    pub(super) word: String,
    /// What was expected.
    pub(super) expected: String,
}

impl WordsError {
    pub(super) fn new(word: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { word: word.into(), expected: expected.into() }
    }

    pub(super) fn keyword(word: &str, known: &[&str]) -> Self {
        Self::new(format!("\"{word}\""), format!("one of {}", known.join(", ")))
    }
}

impl fmt::Display for WordsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, expected {}", self.word, self.expected)
    }
}

/// The words of a line that nobody has asked for yet.
pub(super) struct Words<'a> {
    keyword: &'a str,
    rest: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    pub(super) fn read(line: &'a str) -> Result<Self, WordsError> {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next().unwrap_or_default();
        let mut rest: Vec<(&str, &str)> = Vec::new();
        for word in words {
            let Some((name, value)) = word.split_once('=') else {
                return Err(WordsError::new(format!("\"{word}\""), "name=value"));
            };
            if rest.iter().any(|(known, _)| *known == name) {
                return Err(WordsError::new(format!("\"{name}\" a second time"), "it once"));
            }
            rest.push((name, value));
        }
        Ok(Self { keyword, rest })
    }

    pub(super) const fn keyword(&self) -> &'a str {
        self.keyword
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.rest.iter().position(|(known, _)| *known == name)?;
        Some(self.rest.swap_remove(at).1)
    }

    fn need(&mut self, name: &str) -> Result<&'a str, WordsError> {
        let missing = || WordsError::new(format!("no \"{name}=\" in \"{}\"", self.keyword), "one");
        let at = self.rest.iter().position(|(known, _)| *known == name).ok_or_else(missing)?;
        Ok(self.rest.swap_remove(at).1)
    }

    /// A number, decimal or `0x`, up to `max`.
    pub(super) fn number(&mut self, name: &str, max: u64) -> Result<u64, WordsError> {
        let word = self.need(name)?;
        number(name, word, max)
    }

    /// An address below 2^52.
    pub(super) fn address(&mut self, name: &str) -> Result<Spa, WordsError> {
        let address = self.number(name, ADDRESS_MAX)?;
        Ok(Spa::new(address).unwrap_or(Spa::ZERO))
    }

    /// An address that may be left out.
    pub(super) fn address_or_none(&mut self, name: &str) -> Result<Option<Spa>, WordsError> {
        self.take(name).map_or(Ok(None), |word| Ok(Spa::new(number(name, word, ADDRESS_MAX)?)))
    }

    /// A number that may be left out.
    pub(super) fn number_or(
        &mut self,
        name: &str,
        default: u64,
        max: u64,
    ) -> Result<u64, WordsError> {
        self.take(name).map_or(Ok(default), |word| number(name, word, max))
    }

    /// One of several names.
    pub(super) fn choice<T: Copy>(
        &mut self,
        name: &str,
        choices: &[(&'static str, T)],
    ) -> Result<T, WordsError> {
        let word = self.need(name)?;
        choice(name, word, choices)
    }

    /// No word may be left.
    pub(super) fn end(self) -> Result<(), WordsError> {
        match self.rest.first() {
            None => Ok(()),
            Some((name, value)) => Err(WordsError::new(
                format!("\"{name}={value}\""),
                format!("no such word after \"{}\"", self.keyword),
            )),
        }
    }
}

fn number(name: &str, word: &str, max: u64) -> Result<u64, WordsError> {
    // `from_str_radix` and `parse` would take a sign.
    let parsed = match word.strip_prefix("0x") {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u64::from_str_radix(hex, 16).ok()
        }
        None if word.bytes().all(|b| b.is_ascii_digit()) => word.parse().ok(),
        _ => None,
    };
    parsed.filter(|&value| value <= max).ok_or_else(|| {
        WordsError::new(format!("{name} \"{word}\""), format!("a number from 0 to {max:#x}"))
    })
}

/// The value of one of several names.
pub(super) fn choice<T: Copy>(
    what: &str,
    word: &str,
    choices: &[(&'static str, T)],
) -> Result<T, WordsError> {
    choices.iter().find(|(name, _)| *name == word).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        WordsError::new(format!("{what} \"{word}\""), format!("one of {}", names.join(", ")))
    })
}
