//! `rmpopt decode` for people: what was found, the worst first, alike ones together.

use std::collections::HashMap;

use anstyle::Style;
use snp_host::decode::{Finding, Role, Severity};
use snp_lab::words::things;

use super::DecodedInput;
use super::page::{BAD, FAINT, FAIR, GOOD, Page, STRONG, paint};
use crate::output::harmless;

/// Columns left of what a finding says.
const INDENT: usize = 4;
/// Lines of one group that are listed by number.
const LISTED: usize = 8;

/// All inputs, one after the other.
pub(super) fn inputs(page: &mut Page, inputs: &[DecodedInput]) {
    for (number, input) in inputs.iter().enumerate() {
        if number > 0 {
            page.line("");
        }
        if input.file.is_some() {
            headline(page, input);
        }
        for severity in [Severity::Error, Severity::Warning, Severity::Info] {
            for group in groups(input, severity) {
                show(page, &group);
            }
        }
    }
}

fn headline(page: &mut Page, input: &DecodedInput) {
    let file = input.file.as_deref().unwrap_or_default();
    let decoded = &input.decoded;
    let lines = things(decoded.lines as u64, "line");
    let boots: Vec<String> = decoded
        .boots
        .iter()
        .filter(|boot| boot.kernel.is_some() || boot.role != Role::Unknown)
        .map(|boot| {
            let kernel = boot.kernel.as_deref().map_or_else(String::new, |k| format!("Linux {k} "));
            let role = match boot.role {
                Role::Unknown => "",
                Role::Host => "of a host",
                Role::Guest => "of a guest",
                Role::Mixed => "of a host and a guest",
            };
            format!("{kernel}{role}").trim_end().to_owned()
        })
        .collect();
    let shown = boots.iter().take(4).cloned().collect::<Vec<_>>().join("; ");
    let more =
        if boots.len() > 4 { format!("; {} boots in all", boots.len()) } else { String::new() };
    let about = if shown.is_empty() { lines } else { format!("{lines}, {shown}{more}") };
    page.wrapped(&paint(STRONG, &format!("{}: ", harmless(file))), 4, &about);
    page.rule();
    if input.bytes == 0 {
        page.line("The input is empty: nothing to decode.");
    } else if decoded.findings.is_empty() {
        page.wrapped("", 0, "Nothing here concerns SNP, the RMP or RMPOPT, as far as it is known.");
    }
    if decoded.not_kept > 0 {
        let more = format!("{} more findings are not listed.", decoded.not_kept);
        page.wrapped(&paint(FAIR, "! "), 2, &more);
    }
}

/// Findings that say the same.
struct Group<'a> {
    first: &'a Finding,
    lines: Vec<usize>,
}

fn groups(input: &DecodedInput, severity: Severity) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut known: HashMap<(&str, &str, &str), usize> = HashMap::new();
    for finding in input.decoded.findings.iter().filter(|f| f.severity == severity) {
        let key = (finding.kind, finding.meaning.as_ref(), finding.advice.as_ref());
        // Of codes that were asked for alone each has its own answer.
        let at = known.get(&key).filter(|_| finding.line > 0).and_then(|at| groups.get_mut(*at));
        if let Some(group) = at {
            group.lines.push(finding.line);
        } else {
            known.insert(key, groups.len());
            groups.push(Group { first: finding, lines: vec![finding.line] });
        }
    }
    groups
}

fn show(page: &mut Page, group: &Group<'_>) {
    let finding = group.first;
    let (mark, style) = mark(page, finding.severity);
    let title = finding.kind.replace('-', " ");
    let place = place(&group.lines);
    page.line(&format!(
        "{} {}{}",
        paint(style, mark),
        paint(style, &title),
        if place.is_empty() { String::new() } else { paint(FAINT, &format!("  {place}")) }
    ));
    if !finding.text.is_empty() {
        for line in super::page::wrap(&harmless(&finding.text), page.width.saturating_sub(INDENT)) {
            page.line(&format!("{}{}", " ".repeat(INDENT), paint(FAINT, &line)));
        }
    }
    let facts: Vec<String> = finding
        .facts
        .iter()
        .map(|(name, fact)| format!("{} {fact}", name.replace('_', " ")))
        .collect();
    if !facts.is_empty() {
        let of = if group.lines.len() > 1 { "first: " } else { "" };
        page.wrapped(&" ".repeat(INDENT), INDENT, &format!("{of}{}", facts.join(", ")));
    }
    page.wrapped(&" ".repeat(INDENT), INDENT, &finding.meaning);
    if !finding.advice.is_empty() {
        let arrow = page.pick("→ ", "> ");
        let label = format!("{}{}", " ".repeat(INDENT), paint(GOOD, arrow));
        page.wrapped(&label, INDENT + 2, &finding.advice);
    }
}

fn mark(page: &Page, severity: Severity) -> (&'static str, Style) {
    match severity {
        Severity::Error => (page.pick("✗", "E"), BAD),
        Severity::Warning => ("!", FAIR),
        Severity::Info => (page.pick("·", "-"), STRONG),
    }
}

/// `line 3`, `lines 3, 4, 9`, `lines 3 to 16, 14 of them`.
fn place(lines: &[usize]) -> String {
    match lines {
        [] | [0] => String::new(),
        [line] => format!("line {line}"),
        lines if lines.len() <= LISTED => {
            let all: Vec<String> = lines.iter().map(ToString::to_string).collect();
            format!("lines {}", all.join(", "))
        }
        [first, .., last] => format!("lines {first} to {last}, {} of them", lines.len()),
    }
}

#[cfg(test)]
mod tests {
    use snp_host::decode::decode;

    use super::*;
    use crate::view::View;

    fn shown(log: &str, unicode: bool, width: usize) -> String {
        let file = Some("a\u{1b}[31m.log".to_owned());
        let input = DecodedInput { file, bytes: log.len(), decoded: decode(log.as_bytes()) };
        anstream::adapter::strip_str(&View { unicode }.decoded(&[input], width)).to_string()
    }

    #[test]
    fn alike_findings_are_one() {
        let log = "SEV-SNP: PFN: 0x56601, [0x8000000000000005 - 0x0]\n".repeat(12);
        let text = shown(&log, false, 80);
        assert!(text.contains("lines 1 to 12, 12 of them"), "{text}");
        assert_eq!(text.matches("Firmware page").count(), 1);
    }

    #[test]
    fn nothing_steers_the_terminal_and_lines_fit() {
        let log = "SEV-SNP: RMPUPDATE failed for PFN 56700, pg_level: 1, ret: 2\n\
                   SEV-SNP: odd \u{7} line\u{9b}1m with bells\nccp x\u{8}: sev command 0xa0 failed (0x1a)\n";
        for width in [40, 80, 120] {
            let text = shown(log, true, width);
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
            for line in text.lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
            assert!(text.contains("RMPUPDATE failed for PFN"));
        }
        assert!(shown(log, false, 80).is_ascii());
    }

    #[test]
    fn the_worst_comes_first() {
        let log = "kvm_amd: SEV-SNP enabled (ASIDs 1 - 99)\nSEV-SNP: Leaking PFN range 0x1-0x2\n";
        let text = shown(log, false, 80);
        let at = |word: &str| text.find(word).unwrap();
        assert!(at("pages leaked") < at("snp asids"));
        assert!(text.contains("of a host"));
    }

    #[test]
    fn empty_and_plain() {
        assert!(shown("", false, 80).contains("The input is empty"));
        assert!(shown("hello\n", false, 80).contains("Nothing here concerns"));
    }
}
