//! The table of all known lines.

use std::ops::Range;
use std::sync::LazyLock;

use super::finding::Finding;
use super::template::{Captures, Template};
use super::{driver, entry, fault, firmware, guest, iommu, kvm, rmpopt, table, update};

/// One wording of one line.
#[derive(Clone, Copy)]
pub(super) struct Pattern {
    /// As [`Template`] reads it.
    pub(super) template: &'static str,
    /// A kernel that has it and the file, or where else it was seen; not the first such kernel.
    pub(super) seen: &'static str,
    /// What it says; `None` if what was taken cannot be.
    read: fn(&Captures<'_>) -> Option<Finding>,
}

impl Pattern {
    pub(super) const fn new(
        template: &'static str,
        seen: &'static str,
        read: fn(&Captures<'_>) -> Option<Finding>,
    ) -> Self {
        Self { template, seen, read }
    }
}

/// Families in the order in which they are tried; inside of one, the longer wording comes first.
pub(super) const FAMILIES: [&[Pattern]; 10] = [
    table::PATTERNS,
    update::PATTERNS,
    entry::PATTERNS,
    fault::PATTERNS,
    iommu::PATTERNS,
    rmpopt::PATTERNS,
    driver::PATTERNS,
    guest::PATTERNS,
    kvm::PATTERNS,
    firmware::PATTERNS,
];

struct Known {
    all: Vec<(Template, &'static Pattern)>,
    /// Which of them can begin with a byte (in lower case).
    by_byte: Vec<Vec<usize>>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let all: Vec<(Template, &'static Pattern)> = FAMILIES
        .iter()
        .flat_map(|family| family.iter())
        .map(|pattern| (Template::new(pattern.template), pattern))
        .collect();
    let by_byte = (0..=u8::MAX)
        .map(|byte| {
            let begins = |template: &Template| template.may_begin_with(byte);
            (0..all.len()).filter(|at| all.get(*at).is_some_and(|(t, _)| begins(t))).collect()
        })
        .collect();
    Known { all, by_byte }
});

/// What the message says, and where in it.
pub(super) fn read(message: &str) -> Option<(Finding, Range<usize>)> {
    let known = &*KNOWN;
    for start in starts(message) {
        let text = message.get(start..)?;
        let Some(byte) = text.bytes().next() else { continue };
        for at in known.by_byte.get(usize::from(byte))? {
            let Some((template, pattern)) = known.all.get(*at) else { continue };
            let Some((captures, length)) = template.read(text) else { continue };
            if let Some(mut finding) = (pattern.read)(&captures) {
                finding.known_from = pattern.seen;
                return Some((finding, start..start + length));
            }
        }
    }
    None
}

/// Whether the text begins with what drivers put before their messages.
pub(super) fn tagged(text: &str) -> bool {
    const TAGS: [&str; 7] = ["SEV-SNP:", "SEV:", "ccp ", "kvm_amd:", "AMD-Vi:", "kvm:", "SNP:"];
    TAGS.iter().any(|tag| text.get(..tag.len()).is_some_and(|head| head.eq_ignore_ascii_case(tag)))
}

/// Where a message may begin: at the start, and behind what drivers, tools and files put before it,
/// such as `ccp 0000:22:00.1: `, `dmesg.txt:12:`, `"MESSAGE":"`.
pub(super) fn starts(message: &str) -> impl Iterator<Item = usize> + '_ {
    const REACH: usize = 256;
    let behind = message.bytes().take(REACH).enumerate().filter_map(move |(at, byte)| {
        if !b":]>|;\"'`=(".contains(&byte) {
            return None;
        }
        let rest = message.get(at + 1..)?;
        Some(at + 1 + rest.len() - rest.trim_start().len())
    });
    let first = message.len() - message.trim_start().len();
    std::iter::once(first).chain(behind).filter(|at| *at < message.len()).take(48)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A pattern with every placeholder filled.
    fn printed(template: &str, number: u64, marked: bool) -> String {
        let mut out = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let (inside, after) = after.split_once('}').expect("closed");
            let value = match inside.split_once(':').expect("typed") {
                (_, "h") if marked => format!("{number:#x}"),
                (_, "h") => format!("{number:x}"),
                (_, "n") => format!("{number:#x}"),
                (_, "d") => format!("{}", number & 1),
                ("state", _) => "enabled".to_owned(),
                ("command", _) => "SNP_INIT".to_owned(),
                ("features", _) => "SEV SEV-ES".to_owned(),
                _ => "word".to_owned(),
            };
            out += &value;
            rest = after;
        }
        out + rest
    }

    #[test]
    fn every_pattern_is_reached_and_has_a_source() {
        let mut seen = BTreeSet::new();
        for pattern in FAMILIES.iter().flat_map(|family| family.iter()) {
            assert!(!pattern.seen.is_empty(), "{}", pattern.template);
            assert!(
                seen.insert(pattern.template.to_ascii_lowercase()),
                "twice: {}",
                pattern.template
            );
            // Bits that make every code and range one that is explained.
            let text = printed(pattern.template, 0x8000_0003, true);
            let template = Template::new(pattern.template);
            let (captures, length) = template.read(&text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(length, text.len(), "{text}");
            let _ = (pattern.read)(&captures);
        }
    }

    #[test]
    fn starts_of_messages() {
        let at = |message| starts(message).collect::<Vec<_>>();
        assert_eq!(at("ccp 0:1: x"), [0, 6, 9]);
        assert_eq!(at(""), [0_usize; 0]);
        assert_eq!(at("  x"), [2]);
        assert_eq!(at("a:"), [0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

        /// What a pattern prints, in any case and with or without `0x`, says the same.
        #[test]
        fn wordings_do_not_matter(number in any::<u64>(), at in any::<prop::sample::Index>(), shift in 0u32..60) {
            let all: Vec<&Pattern> = FAMILIES.iter().flat_map(|family| family.iter()).collect();
            let pattern = all[at.index(all.len())];
            let number = number >> shift;
            let plain = read(&printed(pattern.template, number, true));
            let upper = read(&printed(pattern.template, number, true).to_ascii_uppercase());
            prop_assert_eq!(plain.as_ref().map(|f| f.0.kind), upper.map(|f| f.0.kind));
            let bare = read(&printed(pattern.template, number, false));
            prop_assert_eq!(plain.map(|f| f.0), bare.map(|f| f.0));
        }

        #[test]
        fn anything_is_read(message in ".{0,300}") {
            let _ = read(&message);
        }
    }
}
