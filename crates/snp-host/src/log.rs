//! What all lines of a kernel log have in common: what tools put before the message, and the marks
//! that begin another boot.
//!
//! Prefixes, alone or one after the other: `[    0.000000] `, `[ +0.000006] `, `[T4616] ` (caller),
//! `[Tue Nov 24 19:18:12 2026] ` (`dmesg -T`), `<6>` (level), `6,339,5140900,-;` (`/dev/kmsg`),
//! `Nov 22 10:00:00 host kernel: ` (syslog, journal), `2026-11-22T10:00:00+00:00 host kernel: `, and
//! the marks of quoted mail, `# ` and `> `. What is none of these is the message.

/// A line that begins a new part of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Another boot: the kernel's banner, or the journal's separator.
    Boot,
    /// The header of the firmware's memory map.
    MapHeader,
}

/// A line without what tools put before its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split<'a> {
    /// A time, level or tag of a log came first.
    pub(crate) stamped: bool,
    /// What came first is the kernel's own: its time in seconds, a level, or the tag `kernel:`.
    pub(crate) kernel: bool,
    /// The tag of another program with its process id, `qemu[812]`, as a system log has it.
    pub(crate) program: Option<&'a str>,
    /// The message.
    pub(crate) message: &'a str,
}

/// Takes off everything that tools put before a message.
pub(crate) fn split(line: &str) -> Split<'_> {
    let mut split = Split { stamped: false, kernel: false, program: None, message: line };
    // Each turn takes off one part; logs of logs have some, and nobody has more than eight.
    for _ in 0..8 {
        // A log written across a crash has runs of NUL bytes.
        let nothing = |c: char| c.is_whitespace() || c == '\u{feff}' || c == '\0';
        let text = split.message.trim_start_matches(nothing);
        split.message = text;
        if let Some(rest) = quote_mark(text) {
            split.message = rest;
        } else if let Some(rest) = level(text).or_else(|| kmsg(text)) {
            (split.stamped, split.kernel, split.message) = (true, true, rest);
        } else if let Some((rest, seconds)) = bracket(text) {
            (split.stamped, split.message) = (true, rest);
            split.kernel |= seconds;
        } else if let Some(rest) = facility(text) {
            (split.stamped, split.kernel, split.message) = (true, true, rest);
        } else if let Some(rest) = tag_kernel(text, split.stamped) {
            (split.stamped, split.kernel, split.message) = (true, true, rest);
        } else if let Some(rest) = date(text) {
            split.stamped = true;
            let (rest, tag) = host_and_tag(rest);
            match tag {
                Tag::Kernel => split.kernel = true,
                Tag::Program(program) => split.program = split.program.or(Some(program)),
                Tag::None => {}
            }
            split.message = rest;
        } else {
            break;
        }
    }
    split
}

/// `# `, `> `, `| `: marks of quoted text.
fn quote_mark(text: &str) -> Option<&str> {
    let rest = text.strip_prefix(['#', '>', '|'])?;
    (rest.starts_with([' ', '\t', '>', '|'])).then_some(rest)
}

/// `<6>`.
fn level(text: &str) -> Option<&str> {
    let (number, rest) = text.strip_prefix('<')?.split_once('>')?;
    ((1..=3).contains(&number.len()) && digits(number)).then_some(rest)
}

/// `6,339,5140900,-;` or with more fields, `6,1,0,-,caller=T1;`.
fn kmsg(text: &str) -> Option<&str> {
    let fields = text.get(..text.find(';')?)?;
    let mut parts = fields.split(',');
    let numbers = parts.by_ref().take(3).filter(|part| digits(part)).count();
    let flags = parts.next()?;
    let shaped = numbers == 3 && flags.len() <= 2 && fields.len() <= 80;
    if shaped { text.get(fields.len() + 1..) } else { None }
}

/// A time or a caller in brackets; whether it is the kernel's time in seconds.
fn bracket(text: &str) -> Option<(&str, bool)> {
    let (inside, rest) = text.strip_prefix('[')?.split_once(']')?;
    let inside = inside.trim();
    if inside.len() > 60 {
        return None;
    }
    let first = inside.split_whitespace().next()?;
    let caller = first
        .strip_prefix(['T', 'C'])
        .is_some_and(|number| digits(number) && inside.len() == first.len());
    let plain =
        |c: char| c.is_ascii_digit() || matches!(c, '.' | ':' | '+' | '-' | '<' | '>' | ' ');
    let seconds = inside.trim_start_matches('+').split_once('.').is_some_and(|(whole, part)| {
        digits(whole) && digits(part) && (3..=9).contains(&part.len())
    });
    let clock = inside.contains([':', '.'])
        && inside.starts_with(|c: char| c.is_ascii_digit() || "+<".contains(c));
    let time = clock && inside.chars().all(|c| plain(c) || matches!(c, 'T' | 'Z' | ','));
    let day =
        DAYS.iter().chain(&MONTHS).any(|name| first.starts_with(name)) && inside.contains(':');
    (caller || time || day).then_some((rest, seconds))
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `kernel:`, and behind a time `host kernel:`.
fn tag_kernel(text: &str, stamped: bool) -> Option<&str> {
    const TAG: &str = "kernel:";
    let tagged =
        |text: &str| text.get(..TAG.len()).is_some_and(|head| head.eq_ignore_ascii_case(TAG));
    if tagged(text) {
        return text.get(TAG.len()..);
    }
    let (_, rest) = text.split_once(' ').filter(|_| stamped)?;
    if tagged(rest) { rest.get(TAG.len()..) } else { None }
}

/// `kern  :info  : `, as `dmesg --decode` has it.
fn facility(text: &str) -> Option<&str> {
    const FACILITIES: [&str; 7] = ["kern", "user", "daemon", "auth", "syslog", "cron", "local"];
    let (name, rest) = text.split_once(':')?;
    let (level, rest) = rest.split_once(':')?;
    let level = level.trim_end();
    let word = (1..=8).contains(&level.len()) && level.bytes().all(|b| b.is_ascii_lowercase());
    (FACILITIES.contains(&name.trim_end()) && name.len() <= 8 && word).then_some(rest)
}

/// A date with its time; the text after it.
fn date(text: &str) -> Option<&str> {
    let (word, rest) = text.split_once(char::is_whitespace)?;
    // RFC 5424 has a version before the date.
    if word == "1" && iso_day(rest.trim_start()) {
        return date(rest.trim_start());
    }
    if DAYS.contains(&word.trim_end_matches(',')) {
        return date(rest.trim_start());
    }
    if iso_day(word) {
        if word.contains(':') {
            return Some(rest);
        }
        let (time, rest) = rest.trim_start().split_once(char::is_whitespace)?;
        return clock(time).then(|| zone(rest));
    }
    if !MONTHS.contains(&word) {
        return None;
    }
    let (day, rest) = rest.trim_start().split_once(char::is_whitespace)?;
    let (time, rest) = rest.trim_start().split_once(char::is_whitespace)?;
    (day.len() <= 2 && digits(day) && clock(time)).then_some(rest)
}

fn zone(rest: &str) -> &str {
    rest.trim_start().strip_prefix("UTC ").unwrap_or(rest)
}

/// `2026-11-22`, with anything after it.
fn iso_day(word: &str) -> bool {
    let day = word.as_bytes().get(..10);
    day.is_some_and(|day| {
        day.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
    })
}

/// `10:00:00`, with a fraction or a zone.
fn clock(word: &str) -> bool {
    let mut parts = word.splitn(3, ':');
    let two = |part: Option<&str>| part.is_some_and(|p| p.len() == 2 && digits(p));
    two(parts.next())
        && two(parts.next())
        && parts.next().is_some_and(|p| p.get(..2).is_some_and(digits))
}

/// `host kernel:`, `host program[12]:`, `program[12]:` behind a date. What a `dmesg` with ISO times
/// prints has neither.
fn host_and_tag(text: &str) -> (&str, Tag<'_>) {
    let text = text.trim_start();
    let Some((first, rest)) = text.split_once(char::is_whitespace) else {
        return (text, Tag::None);
    };
    let found = tag(first);
    if !matches!(found, Tag::None) {
        return (rest, found);
    }
    let rest = rest.trim_start();
    let (second, tail) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    match tag(second) {
        // RFC 5424: `host kernel - - - message`.
        Tag::None if second == "kernel" && tail.starts_with("- ") => {
            (tail.trim_start_matches(['-', ' ']), Tag::Kernel)
        }
        Tag::None => (text, Tag::None),
        found => (tail, found),
    }
}

/// Who says it, as a system log writes.
enum Tag<'a> {
    /// `kernel:`.
    Kernel,
    /// `program[12]:`.
    Program(&'a str),
    /// No such word.
    None,
}

fn tag(word: &str) -> Tag<'_> {
    let Some(name) = word.strip_suffix(':') else { return Tag::None };
    if name == "kernel" {
        return Tag::Kernel;
    }
    match name.strip_suffix(']').and_then(|name| name.rsplit_once('[')) {
        Some((_, process)) if digits(process) => Tag::Program(name),
        _ => Tag::None,
    }
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The text after `token`, if `token` stands in `line` at the start of a word.
pub(crate) fn after<'a>(line: &'a str, token: &str) -> Option<&'a str> {
    let mut from = 0;
    while let Some(found) = line.get(from..)?.find(token) {
        let start = from + found;
        let end = start + token.len();
        let before = line.get(..start)?.chars().next_back();
        if before.is_none_or(|c| !(c.is_alphanumeric() || c == '-' || c == '_')) {
            return line.get(end..);
        }
        from = end;
    }
    None
}

/// Whether `line` begins another boot or the firmware's map.
pub(crate) fn mark(line: &str) -> Option<Mark> {
    if line.starts_with("-- Boot ") || line.starts_with("-- Reboot --") {
        return Some(Mark::Boot);
    }
    if kernel_version(line).is_some() {
        return Some(Mark::Boot);
    }
    after(line, "BIOS-provided physical RAM map:").map(|_| Mark::MapHeader)
}

/// The version in the kernel's banner, `Linux version 6.12.0-rc2+ (user@host) ...`.
pub(crate) fn kernel_version(line: &str) -> Option<&str> {
    const BANNER: &str = "Linux version ";
    // Nearly every line is none: look before taking it apart.
    line.find(BANNER)?;
    let split = split(line);
    // At the start of a message only: other programs quote the banner.
    let head = split.message.get(..split.message.find(BANNER)?)?.trim_end();
    if split.program.is_some() || !(head.is_empty() || head.ends_with(']')) {
        return None;
    }
    let rest = split.message.get(split.message.find(BANNER)? + BANNER.len()..)?;
    let version = rest.split_whitespace().next()?;
    version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_at_start_of_word_only() {
        assert_eq!(after("[    0.000000] BIOS-e820: x", "BIOS-e820:"), Some(" x"));
        assert_eq!(after("<6>[ 0.0]BIOS-e820: x", "BIOS-e820:"), Some(" x"));
        assert_eq!(after("NOBIOS-e820: x", "BIOS-e820:"), None);
        assert_eq!(after("superuser: user: x", "user:"), Some(" x"));
    }

    #[test]
    fn banner_and_separators() {
        let banner = "Nov 22 10:00:00 host kernel: Linux version 7.0.0-rc2 (a@b) #1 SMP";
        assert_eq!(kernel_version(banner), Some("7.0.0-rc2"));
        assert_eq!(mark(banner), Some(Mark::Boot));
        assert_eq!(mark("-- Boot 0123456789abcdef --"), Some(Mark::Boot));
        assert_eq!(
            mark("[    0.000000] e820: BIOS-provided physical RAM map:"),
            Some(Mark::MapHeader)
        );
        assert_eq!(mark("host app[3]: running on Linux version 6.1"), None);
        assert_eq!(mark("Nov 22 10:00:00 host app[3]: Linux version 6.1"), None);
        assert_eq!(mark("[    0.1] Linux version"), None);
    }

    #[test]
    fn every_prefix_comes_off() {
        let message = "ccp 0000:22:00.1: SEV API:1.55 build:24";
        for prefix in [
            "",
            "  ",
            "\u{feff}",
            "\0\0\0",
            "# ",
            "> > ",
            ">> ",
            "<6>",
            "<6>[    0.000000] ",
            "[    0.000000] ",
            "[255267.410514] ",
            "[ 0.000000] ",
            "[    0.000000][    T0] ",
            "[ 5025.854364] [   T4616] ",
            "[  +0.000006] ",
            "[Nov24 19:18] ",
            "[Tue Nov 24 19:18:12 2026] ",
            "[Tue Nov 24 19:18:12 2026 <    0.000000>] ",
            "6,339,5140900,-;",
            "6,1,0,-,caller=T1;",
            "kernel: ",
            "kern  :info  : [    0.000000] ",
            "kern  :err   : [Tue Nov 24 19:18:12 2026] ",
            "[    0.000000] host kernel: ",
            "Feb 27 19:32:31 host kernel: ",
            "Feb  7 19:32:31 host kernel: [    1.000000] ",
            "Feb 27 19:32:31.123456 host kernel: ",
            "Feb 27 19:32:31 kernel: ",
            "2026-11-22T10:00:00+00:00 host kernel: ",
            "2026-11-22T10:00:00.123456+0100 host kernel: ",
            "2026-11-22T10:00:00,123456+00:00 ",
            "2026-11-22 10:00:00 host kernel: ",
            "Tue 2026-11-24 19:18:12 UTC host kernel: ",
            "<6>1 2026-11-22T10:00:00Z host kernel - - - ",
        ] {
            let line = format!("{prefix}{message}");
            assert_eq!(split(&line).message, message, "{line}");
            assert_eq!(split(&line).program, None, "{line}");
            assert_eq!(
                split(&line).stamped,
                prefix.contains(|c: char| c.is_ascii_digit() || c == 'k'),
                "{line}"
            );
        }
    }

    #[test]
    fn programs_are_named_and_messages_stay() {
        let line = "Oct 29 16:09:31 host1 microvm@vm2[120980]: [    0.000000] SEV: x";
        assert_eq!(split(line).program, Some("microvm@vm2[120980]"));
        assert_eq!(split(line).message, "SEV: x");
        for message in [
            "[0x0000007ffe800000 - 0x000000807f0fffff]",
            "#PF: error_code(0x80000003) - RMP violation",
            "Memory @  0GB: CPU(s): none",
            "0000000000000000-000000000008efff (1)",
            "[mem 0x0-0x1] usable",
            "May the source be with you",
            "",
        ] {
            assert_eq!(
                split(message),
                Split { stamped: false, kernel: false, program: None, message }
            );
        }
    }
}
