//! Explains lines of kernel logs, raw RMP entries and codes that concern SNP, the RMP and RMPOPT.
//!
//! ```
//! let log = "[255267.410514] SEV-SNP: RMPUPDATE failed for PFN 56700, pg_level: 1, ret: 2\n";
//! let found = &snp_host::decode::decode(log.as_bytes()).findings[0];
//! assert_eq!((found.line, found.kind), (1, "rmpupdate-failed"));
//! assert_eq!(found.get("result").unwrap().to_string(), "FAIL_PERMISSION(2)");
//! ```
//!
//! [`decode`] takes any bytes and never fails: what it knows becomes a [`Finding`], a line of the
//! kernel's SNP code that it does not know becomes a finding of kind `unknown`, all else is passed
//! over. Prefixes of any log tool, colours, CRLF and lines that a terminal wrapped are understood.
//! Known wordings stand in tables, one file for each family of lines, each with where it comes from.
//!
//! A claim is made only where the line itself, or another line of the same boot, proves it.

mod codes;
mod context;
mod driver;
mod entry;
mod fault;
mod finding;
mod firmware;
mod guest;
mod iommu;
mod kvm;
mod lines;
mod names;
mod patterns;
mod rmpopt;
mod table;
mod template;
mod trace;
mod update;

pub use self::codes::{Instruction, instruction_result};
pub use self::context::{Boot, Role};
pub use self::entry::raw_entry;
pub use self::fault::{nested_fault, page_fault};
pub use self::finding::{Fact, Finding, Severity};
pub use self::firmware::{firmware_command, firmware_status};
use self::lines::{Line, Log};
use self::patterns::Pattern;
use crate::log::{Mark, mark, split};

/// Most findings of each severity that are kept; of what comes after only the number is told.
pub const MAX_FINDINGS: usize = 20_000;

/// No known line is shorter than this, in bytes.
const SHORTEST: usize = 10;
/// Lines behind one that may be its continuation.
const WRAPS: usize = 3;
/// A line that says something complete is taken for wrapped only if it is as long as this, in
/// characters: the narrowest terminal that people paste from.
const WRAPPED_AT: usize = 60;
/// Most attempts to join lines in one log, so that a log made to have many costs no more.
const JOINS: u32 = 200_000;
/// Lines behind a page fault that may show its page table.
const TABLE_LINES: usize = 4;

/// All that a log says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decoded {
    /// In the order of their lines, at most [`MAX_FINDINGS`] of each severity.
    pub findings: Vec<Finding>,
    /// The boots of the log, at least one.
    pub boots: Vec<Boot>,
    /// Lines of the log.
    pub lines: usize,
    /// Findings beyond [`MAX_FINDINGS`].
    pub not_kept: usize,
    /// Findings kept so far, by severity.
    kept: [usize; 3],
    /// The worst of all, those not kept included; `None` if there is none.
    pub worst: Option<Severity>,
}

impl Decoded {
    /// Codes that were asked for by themselves.
    pub fn of_codes(findings: Vec<Finding>) -> Self {
        let worst = findings.iter().map(|finding| finding.severity).max();
        Self { findings, worst, ..Self::default() }
    }

    fn push(&mut self, finding: Finding) {
        self.worst = self.worst.max(Some(finding.severity));
        let kept = match finding.severity {
            Severity::Info => &mut self.kept[0],
            Severity::Warning => &mut self.kept[1],
            Severity::Error => &mut self.kept[2],
        };
        if *kept < MAX_FINDINGS {
            *kept += 1;
            self.findings.push(finding);
        } else {
            self.not_kept += 1;
        }
    }
}

/// Reads a log, or anything that was pasted.
pub fn decode(bytes: &[u8]) -> Decoded {
    let log = Log::new(bytes);
    let mut decoded = Decoded { lines: log.count(), ..Decoded::default() };
    let mut joins = JOINS;
    log.each_hot(|line| see(log, &line, &mut decoded, &mut joins));
    if decoded.boots.is_empty() {
        decoded.boots.push(Boot { line: 1, ..Boot::default() });
    }
    if decoded.boots.len() == 1 {
        context::coverage(&mut decoded.findings, bytes);
    }
    context::connect(&mut decoded.findings, &mut decoded.boots);
    if decoded.not_kept == 0 {
        decoded.worst = decoded.findings.iter().map(|finding| finding.severity).max();
    }
    decoded
}

/// Takes one line that has a hot word; returns where to go on.
fn see(log: Log<'_>, line: &Line<'_>, decoded: &mut Decoded, joins: &mut u32) -> (usize, usize) {
    let next = (line.next, line.number + 1);
    if line.text.len() < SHORTEST {
        return next;
    }
    if mark(&line.text) == Some(Mark::Boot) {
        let kernel = crate::log::kernel_version(&line.text).map(str::to_owned);
        begin_boot(decoded, line.number, kernel);
        return next;
    }
    match trace::frame(&line.text) {
        Some(frame) if trace::touches_rmp(&frame) => return call_trace(log, line, decoded),
        Some(_) => return next,
        None if trace::begins(&line.text) => {
            // A frame of which a terminal showed the rest on the next line.
            let behind = log.line_at(next.0, next.1).filter(|l| !split(&l.text).stamped);
            let whole = behind.map(|behind| format!("{}{}", line.text, behind.text));
            if whole.is_some_and(|w| trace::frame(&w).is_some_and(|f| trace::touches_rmp(&f))) {
                return call_trace(log, line, decoded);
            }
        }
        None => {}
    }
    if rmpopt::row(split(&line.text).message).is_some() {
        return rows(log, line, decoded);
    }
    if let Some((finding, end)) = read(log, line, joins) {
        let fault = finding.kind == fault::PAGE_FAULT;
        decoded.push(finding);
        if fault {
            let mut table = log.from(next.0, next.1).take(TABLE_LINES);
            if let Some(pfn) = table.find_map(|l| fault::page_of_table_line(&l.text)) {
                context::tell_fault(&mut decoded.findings, pfn);
            }
        }
        return end;
    }
    let message = split(&line.text).message;
    if fault::dumped_exit(message) {
        for behind in log.from(next.0, next.1).take(TABLE_LINES) {
            if let Some(finding) = fault::dumped_info(split(&behind.text).message) {
                decoded.push(placed(finding, &behind));
                return (behind.next, behind.number + 1);
            }
        }
    }
    if let Some(finding) = fault::named_exit(message) {
        decoded.push(placed(finding, line));
        return next;
    }
    if let Some(finding) = unknown(line) {
        decoded.push(finding);
    }
    next
}

/// Another boot begins; the journal's separator and the banner behind it begin the same one.
fn begin_boot(decoded: &mut Decoded, line: usize, kernel: Option<String>) {
    let last_found = decoded.findings.last().map_or(0, |finding| finding.line);
    if decoded.boots.is_empty() && last_found > 0 {
        // What stands before the first sign of a boot is of another one.
        decoded.boots.push(Boot { line: 1, ..Boot::default() });
    }
    match decoded.boots.last_mut() {
        Some(boot) if boot.kernel.is_none() && last_found < boot.line => {
            if kernel.is_none() {
                boot.line = line;
            }
            boot.kernel = kernel;
        }
        _ => decoded.boots.push(Boot { line, kernel, ..Boot::default() }),
    }
}

/// A trace through the RMP's functions, from its first such frame on.
fn call_trace(log: Log<'_>, line: &Line<'_>, decoded: &mut Decoded) -> (usize, usize) {
    let stamped = split(&line.text).stamped;
    let mut texts = vec![line.text.to_string()];
    let mut place = (line.next, line.number + 1);
    for behind in log.from(place.0, place.1).take(trace::LINES) {
        match texts.last_mut() {
            // Where lines have a time, one without is the rest of the line before.
            Some(last) if stamped && !split(&behind.text).stamped => last.push_str(&behind.text),
            _ if trace::inside(&behind.text) || stamped && trace::begins(&behind.text) => {
                texts.push(behind.text.to_string());
            }
            _ => break,
        }
        place = (behind.next, behind.number + 1);
    }
    let mut finding = trace::read(texts.iter().map(String::as_str));
    finding.line = line.number;
    finding.text = shortened(split(&line.text).message.trim());
    trace::tell_failure(&mut decoded.findings, &finding);
    decoded.push(finding);
    place
}

/// Rows of upstream's table that follow each other.
fn rows(log: Log<'_>, line: &Line<'_>, decoded: &mut Decoded) -> (usize, usize) {
    let mut read = Vec::new();
    let mut place = (line.next, line.number + 1);
    let start = std::iter::once(line.clone()).chain(log.from(place.0, place.1));
    for line in start {
        let message = split(&line.text).message.trim();
        match rmpopt::row(message) {
            Some(row) => read.push(row),
            None if message == "..." => {}
            None => break,
        }
        place = (line.next, line.number + 1);
    }
    if let Some(mut finding) = rmpopt::rows(&read) {
        finding.line = line.number;
        finding.text = shortened(split(&line.text).message);
        decoded.push(finding);
    }
    place
}

/// What a line says, alone or with its continuation, and where to go on.
fn read(log: Log<'_>, line: &Line<'_>, joins: &mut u32) -> Option<(Finding, (usize, usize))> {
    let own = split(&line.text);
    let message = own.message.trim_end();
    let alone = patterns::read(message);
    let whole = alone.is_some() && line.text.chars().count() < WRAPPED_AT;
    let mut found =
        alone.map(|(finding, _)| (finding, message.to_owned(), (line.next, line.number + 1)));
    if !whole && *joins > 0 {
        let mut text = message.to_owned();
        for behind in log.from(line.next, line.number + 1).take(WRAPS) {
            let tail = split(&behind.text);
            let piece = tail.message.trim_end();
            if tail.stamped || piece.is_empty() || !continues(own.stamped || found.is_none(), piece)
            {
                break;
            }
            *joins = joins.saturating_sub(1);
            let glued = format!("{text}{piece}");
            let reach = text.len();
            let joined = [glued.clone(), format!("{text} {piece}")]
                .into_iter()
                .find_map(|t| patterns::read(&t).filter(|(_, at)| at.end > reach).map(|f| (f, t)));
            if let Some(((finding, at), whole)) = joined {
                // The other line may say it by itself; then this one is its beginning only if the
                // other does not have a beginning of its own.
                if at.start > reach && (patterns::tagged(piece) || !own.stamped) {
                    break;
                }
                text.clone_from(&whole);
                found = Some((finding, whole, (behind.next, behind.number + 1)));
                continue;
            }
            if found.is_some() {
                break;
            }
            text = glued;
        }
    }
    let (mut finding, text, next) = found?;
    finding.line = line.number;
    finding.text = shortened(&text);
    if let Some(program) = own.program {
        finding.set("said_by", Fact::Text(program.to_owned()));
    }
    Some((finding, next))
}

/// Whether `piece` can go on a line before it. Where lines have no time at all, only what no message
/// begins with.
fn continues(stamped: bool, piece: &str) -> bool {
    stamped || piece.starts_with(|c: char| c.is_ascii_digit() || ",.)]-/".contains(c))
}

/// A line of the kernel's SNP code that no pattern knows.
fn unknown(line: &Line<'_>) -> Option<Finding> {
    let message = split(&line.text).message;
    let tagged = patterns::starts(message).any(|at| {
        let head = |tag: &str| {
            message.get(at..at + tag.len()).is_some_and(|head| head.eq_ignore_ascii_case(tag))
        };
        head("SEV-SNP:") || head("Event logged [RMP_")
    });
    if !tagged {
        return None;
    }
    let finding = Finding::info("unknown").meaning(
        "A line of the kernel's SNP code that is not known here. Nothing is claimed about it.",
    );
    Some(placed(finding, line))
}

/// The finding with its place and text.
fn placed(mut finding: Finding, line: &Line<'_>) -> Finding {
    finding.line = line.number;
    finding.text = shortened(split(&line.text).message.trim_end());
    finding
}

fn shortened(text: &str) -> String {
    text.chars().take(Finding::TEXT).collect()
}

#[cfg(test)]
mod testing {
    use super::{Finding, decode};

    /// All that a text says.
    pub(super) fn all(text: &str) -> Vec<Finding> {
        decode(text.as_bytes()).findings
    }

    /// The one thing that a text says.
    pub(super) fn one(text: &str) -> Finding {
        let mut found = all(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        let found = found.remove(0);
        assert_ne!(found.kind, "unknown", "{text}");
        found
    }
}
