//! What all lines of a kernel log have in common: any prefix before the message, and the marks
//! that begin another boot.
//!
//! The prefix differs by tool (`[    0.000000] `, `<6>[    0.0]`, `[    0.000000][    T0] `,
//! `Nov 22 10:00:00 host kernel: `, `2026-11-22T10:00:00+00:00 host kernel: `, `# `, `> `), so
//! nothing parses it: a message is found by its own first word.

/// A line that begins a new part of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Another boot: the kernel's banner, or the journal's separator.
    Boot,
    /// The header of the firmware's memory map.
    MapHeader,
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
    let start = line.find(BANNER)?;
    let head = line.get(..start)?.trim_end();
    // At the start of a message only: other programs quote the banner.
    if !(head.is_empty()
        || head.ends_with([']', '>', '#', '\u{feff}'])
        || head.ends_with("kernel:"))
    {
        return None;
    }
    let version = line.get(start + BANNER.len()..)?.split_whitespace().next()?;
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
        assert_eq!(mark("[    0.1] Linux version"), None);
    }
}
