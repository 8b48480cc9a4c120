//! Finds the map's lines in a log, keeps the last boot's, and puts them together.

use super::error::LogError;
use super::line::{self, Line};
use super::{Entry, Kind, MAX_ENTRIES, MapSource, MemoryMap};
use crate::log::{Mark, after, kernel_version, mark};
use crate::number::hex_0x;
use crate::place::At;

/// Lines kept before the table is put together: boots that follow each other without a header
/// look like one table until then.
const MAX_LINES: usize = 1 << 16;

/// One table as it is collected, of one boot.
#[derive(Debug, Default)]
struct Collected {
    entries: Vec<(Entry, usize)>,
    gaps: Vec<(u64, u64)>,
    /// In 7.0's wording, lines whose start does not follow the line before.
    jumps: Vec<usize>,
    next: u64,
    error: Option<LogError>,
}

impl Collected {
    fn add(&mut self, at: At, line: Result<Line, LogError>) {
        if self.error.is_some() {
            return;
        }
        if self.entries.len() >= MAX_LINES || self.gaps.len() >= MAX_LINES {
            self.error = Some(LogError::TooMany { at, field: "memory map", limit: MAX_ENTRIES });
            return;
        }
        let (start, end) = match line {
            Ok(Line::Entry(entry)) => {
                self.entries.push((entry, at.line));
                (entry.start, entry.end_inclusive)
            }
            Ok(Line::Gap(start, end)) => {
                self.gaps.push((start, end));
                (start, end)
            }
            Err(error) => {
                self.error = Some(error);
                return;
            }
        };
        if start != self.next {
            self.jumps.push(at.line);
        }
        self.next = end.saturating_add(1);
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.error.is_none()
    }

    fn ranges(&self) -> impl Iterator<Item = Entry> + '_ {
        self.entries.iter().map(|(e, _)| *e)
    }
}

/// The tables of one boot.
#[derive(Debug, Default)]
struct Boot {
    bios: Collected,
    user: Collected,
    modified: Collected,
    kexec: Collected,
    in_kexec: bool,
    banner: bool,
    header: bool,
    last_pfn: u64,
}

/// What is kept of the boots before the last.
#[derive(Debug, Default)]
struct Earlier {
    boots: usize,
    differ: bool,
    /// A boot after the one with the last map shows none.
    followed: bool,
}

/// Reads the map of the log's last boot that has one.
pub(super) fn read(file: &str, log: &str) -> Result<Option<MemoryMap>, LogError> {
    let mut boot = Boot::default();
    let mut held: Option<Boot> = None;
    let mut earlier = Earlier::default();
    for (n, text) in log.lines().enumerate() {
        let number = n + 1;
        match mark(text) {
            Some(Mark::Boot) => {
                close(&mut boot, &mut held, &mut earlier);
                boot.banner = kernel_version(text).is_some();
            }
            Some(Mark::MapHeader) => {
                if boot.header || !boot.bios.is_empty() {
                    close(&mut boot, &mut held, &mut earlier);
                }
                boot.header = true;
            }
            None => collect(&mut boot, file, number, text),
        }
    }
    cut_within_token(&mut boot, file, log);
    close(&mut boot, &mut held, &mut earlier);
    held.map(|boot| finish(file, boot, &earlier)).transpose()
}

/// Ends a boot; one without any table leaves the one before in place.
fn close(boot: &mut Boot, held: &mut Option<Boot>, earlier: &mut Earlier) {
    let ended = std::mem::take(boot);
    let tables = [&ended.bios, &ended.user, &ended.modified, &ended.kexec];
    if tables.iter().all(|t| t.is_empty()) {
        earlier.followed |= ended.banner && held.is_some();
        return;
    }
    earlier.followed = false;
    if let Some(before) = held {
        earlier.boots += 1;
        earlier.differ |= !before.bios.ranges().eq(ended.bios.ranges());
    }
    *held = Some(ended);
}

fn collect(boot: &mut Boot, file: &str, number: usize, text: &str) {
    let at = || At::new(file, number);
    if let Some(rest) = after(text, "BIOS-e820:") {
        boot.bios.add(at(), line::printed(&at(), rest));
    } else if let Some(rest) = after(text, "user:") {
        if is_range(rest) {
            boot.user.add(at(), line::printed(&at(), rest));
        }
    } else if let Some(rest) = after(text, "modified:") {
        if is_range(rest) {
            boot.modified.add(at(), line::printed(&at(), rest));
        }
    } else if after(text, "E820 memmap:").is_some() {
        boot.kexec = Collected::default();
        boot.in_kexec = true;
    } else if boot.in_kexec && line::looks_like_kexec(text) {
        boot.kexec.add(at(), line::kexec(&at(), text).map(Line::Entry));
    } else if let Some(rest) = after(text, "last_pfn = ") {
        let pfn = rest.split_whitespace().next().and_then(hex_0x);
        boot.last_pfn = boot.last_pfn.max(pfn.unwrap_or(0));
    }
}

/// `user:` and `modified:` are common words; a map's line goes on with a range.
fn is_range(rest: &str) -> bool {
    let rest = rest.trim_start();
    let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
    rest.starts_with("[mem ") || rest.starts_with("[gap ") || digits == 16
}

/// A log cut within `BIOS-e820:` itself.
fn cut_within_token(boot: &mut Boot, file: &str, log: &str) {
    if log.ends_with('\n') || boot.bios.entries.is_empty() {
        return;
    }
    let last = log.lines().last().unwrap_or_default();
    if (5..10).any(|n| "BIOS-e820:".get(..n).is_some_and(|cut| last.ends_with(cut))) {
        let number = log.lines().count();
        boot.bios.add(At::new(file, number), line::printed(&At::new(file, number), ""));
    }
}

fn finish(file: &str, boot: Boot, earlier: &Earlier) -> Result<MemoryMap, LogError> {
    let Boot { bios, user, modified, kexec, header, last_pfn, .. } = boot;
    let mut notes = Vec::new();
    if earlier.boots > 0 {
        let how = if earlier.differ { "not all alike" } else { "all alike" };
        notes.push(format!(
            "{file}: holds {} boots ({how}); the last one's memory map is used",
            earlier.boots + 1
        ));
    }
    if earlier.followed {
        notes.push(format!(
            "{file}: the last boot in the log shows no memory map; the one of the boot before it \
             is used"
        ));
    }
    if !bios.is_empty() && !user.is_empty() {
        notes.push(format!(
            "{file}: the kernel ran with a user-defined map (mem= or memmap=); firmware's map is \
             used"
        ));
    }
    let tables = [
        (MapSource::Bios, bios),
        (MapSource::User, user),
        (MapSource::Modified, modified),
        (MapSource::Kexec, kexec),
    ];
    let Some((source, table)) = tables.into_iter().find(|(_, t)| !t.is_empty()) else {
        return Err(LogError::NoMap { file: file.to_owned() });
    };
    if let Some(error) = table.error {
        return Err(error);
    }
    if source != MapSource::Bios {
        notes.push(format!("{file}: no BIOS-e820 map; the `{source}` map is used"));
    }
    let (entries, repeats) = last_repeat(table.entries);
    let gapless = table.gaps.is_empty() || repeats > 1;
    let jumps = if gapless { Vec::new() } else { table.jumps };
    if repeats > 1 {
        notes.push(format!("{file}: holds the same memory map {repeats} times; the last is used"));
    }
    let entries = order(file, entries, &mut notes)?;
    let map = MemoryMap { entries, source, notes };
    Ok(with_doubts(file, map, header, &jumps, last_pfn))
}

/// A log of several boots without headers repeats the whole table: keeps the last.
fn last_repeat(mut entries: Vec<(Entry, usize)>) -> (Vec<(Entry, usize)>, usize) {
    let first = entries.first().map(|(e, _)| *e);
    let again = entries.iter().skip(1).position(|(e, _)| Some(*e) == first).map(|p| p + 1);
    // A table of one line cannot be told from a line printed twice.
    let Some(period) = again.filter(|p| *p > 1 && entries.len().is_multiple_of(*p)) else {
        return (entries, 1);
    };
    let same = entries.iter().zip(entries.iter().skip(period)).all(|(a, b)| a.0 == b.0);
    if !same {
        return (entries, 1);
    }
    let repeats = entries.len() / period;
    (entries.split_off(entries.len() - period), repeats)
}

/// Sorts, and refuses what cannot be a map.
fn order(
    file: &str,
    mut entries: Vec<(Entry, usize)>,
    notes: &mut Vec<String>,
) -> Result<Vec<Entry>, LogError> {
    if let Some((_, line)) = entries.get(MAX_ENTRIES) {
        let at = At::new(file, *line);
        return Err(LogError::TooMany { at, field: "memory map", limit: MAX_ENTRIES });
    }
    if !entries.is_sorted_by_key(|(e, _)| e.start) {
        notes.push(format!("{file}: the memory map is not in order of address; it was sorted"));
        entries.sort_by_key(|(e, _)| e.start);
    }
    // Of the ranges so far, the one that reaches highest, and the same of the usable ones.
    let mut highest: Option<(Entry, usize)> = None;
    let mut ram: Option<(Entry, usize)> = None;
    for (entry, line) in &entries {
        let meets = |o: &Option<(Entry, usize)>| o.filter(|(e, _)| e.end_inclusive >= entry.start);
        let later = |other: usize| (At::new(file, other.max(*line)), other.min(*line));
        if let Some((same, other)) = meets(&highest)
            && same == *entry
        {
            let (at, first) = later(other);
            return Err(LogError::Duplicate { at, first });
        }
        let clash = if entry.kind == Kind::Usable { meets(&highest) } else { meets(&ram) };
        if let Some((_, other)) = clash {
            let (at, other) = later(other);
            let field = "memory map range";
            return Err(LogError::Overlap { at, field, other, start: entry.start });
        }
        if let Some((_, other)) = meets(&highest) {
            notes.push(format!(
                "{file}: lines {other} and {line} overlap; neither is usable RAM, so both are kept"
            ));
        }
        let raise = |o: &mut Option<(Entry, usize)>| {
            if o.is_none_or(|(e, _)| e.end_inclusive < entry.end_inclusive) {
                *o = Some((*entry, *line));
            }
        };
        raise(&mut highest);
        if entry.kind == Kind::Usable {
            raise(&mut ram);
        }
    }
    Ok(entries.into_iter().map(|(e, _)| e).collect())
}

/// Adds notes on what looks incomplete but can be read.
fn with_doubts(
    file: &str,
    mut map: MemoryMap,
    header: bool,
    jumps: &[usize],
    last_pfn: u64,
) -> MemoryMap {
    let first = map.entries.first().map_or(0, |e| e.start);
    if map.source == MapSource::Bios && !header && first > 0 {
        map.notes.push(format!(
            "{file}: the memory map starts at {first:#x} and its header is missing: the log looks \
             cut at its head, so RAM below may be missing"
        ));
    }
    if let Some(line) = jumps.first().filter(|_| header || first == 0) {
        map.notes.push(format!(
            "{file}:{line}: does not continue the line before, although this kernel prints gaps: \
             lines may be missing"
        ));
    }
    let max_pfn = map.max_pfn();
    if max_pfn == 0 {
        map.notes.push(format!("{file}: the memory map holds no usable RAM"));
    } else if map.source == MapSource::Bios && last_pfn > max_pfn {
        map.notes.push(format!(
            "{file}: the kernel counted RAM up to page {last_pfn:#x}, this map ends at page \
             {max_pfn:#x}: lines may be missing"
        ));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "BIOS-provided physical RAM map:\n\
        BIOS-e820: [mem 0x0-0x9ffff] usable\n\
        BIOS-e820: [mem 0x100000-0x7fffffff] usable\n";

    fn parse(log: &str) -> MemoryMap {
        MemoryMap::parse("log", log).unwrap()
    }

    fn fails(log: &str) -> String {
        MemoryMap::parse("log", log).unwrap_err().to_string()
    }

    #[test]
    fn any_prefix_and_line_ending() {
        let plain = parse(BOOT).entries;
        assert_eq!(plain.len(), 2);
        for prefix in [
            "[    0.000000] ",
            "[    0.000000][    T0] ",
            "<6>[    0.000000] ",
            "<6>[ 0.0]",
            "# ",
            "> ",
            "kern  :info  : [    0.000000] ",
            "[Sun Nov 22 10:00:00 2026] ",
            "Nov 22 10:00:00 host kernel: ",
            "Nov 22 10:00:00 host kernel: [    0.000000]  ",
            "2026-11-22T10:00:00.080727+00:00 host kernel: ",
        ] {
            for end in ["\n", "\r\n"] {
                let lines = BOOT.lines().map(|l| format!("{prefix}{l}{end}"));
                let log = lines.collect::<Vec<_>>().concat();
                let map = parse(&log);
                assert_eq!(map.entries, plain, "{prefix}");
                assert!(map.notes.is_empty(), "{prefix} {:?}", map.notes);
            }
        }
    }

    #[test]
    fn changes_are_not_the_map() {
        let log = format!(
            "{BOOT}e820: update [mem 0x00000000-0x00000fff] usable ==> reserved\n\
             e820: remove [mem 0x000a0000-0x000fffff] usable\n\
             modified physical RAM map:\n\
             modified: [mem 0x0-0xfff] reserved\n\
             modified: [mem 0x1000-0x9ffff] usable\n\
             reserve setup_data: [mem 0x0-0x9ffff] usable\n"
        );
        assert_eq!(parse(&log).entries, parse(BOOT).entries);
        assert!(fails("e820: update [mem 0x0-0xfff] usable ==> reserved\n").contains("no e820"));
    }

    #[test]
    fn falls_back_in_order() {
        let kexec = "[  1.0] E820 memmap:\n[  1.1] 0000000000000000-000000000009ffff (1)\n";
        let modified = "[  0.0]  modified: 0000000000010000 - 000000000009b800 (usable)\n";
        let user = "[  0.0] user: [mem 0x0-0x1fff] usable\n";
        let all = [user, modified, kexec].concat();
        assert_eq!(parse(&all).source, MapSource::User);
        let map = parse(&[kexec, modified].concat());
        assert_eq!(map.source, MapSource::Modified);
        assert_eq!(map.usable_bytes(), 0x8_b800);
        let map = parse(kexec);
        assert_eq!((map.source, map.usable_bytes()), (MapSource::Kexec, 0xa_0000));
        assert!(map.notes.iter().any(|n| n.contains("no BIOS-e820 map")), "{:?}", map.notes);
        let map = parse(&[BOOT, &all].concat());
        assert_eq!(map.source, MapSource::Bios);
        assert!(map.notes.iter().any(|n| n.contains("mem=")), "{:?}", map.notes);
        assert!(fails("sudo[12]: user: root\n modified: yes\n").contains("no e820"));
    }

    #[test]
    fn last_boot_wins() {
        let map = parse(&BOOT.repeat(3));
        assert_eq!(map.entries.len(), 2);
        assert_eq!(
            map.notes,
            ["log: holds 3 boots (all alike); the last one's memory map is used"]
        );
        let newer = BOOT.replace("7fffffff", "3fffffff");
        let banner = "[    0.000000] Linux version 6.12.0 (a@b)\n";
        let map = parse(&[banner, BOOT, banner, &newer].concat());
        assert_eq!(map.max_pfn(), 0x4_0000);
        assert!(map.notes.iter().any(|n| n.contains("not all alike")));
        // An error in a boot that is not used does not matter, in the last one it does.
        let bad = BOOT.replace("usable", "usabel");
        assert!(MemoryMap::parse("log", &[&bad, BOOT].concat()).is_ok());
        assert!(fails(&[BOOT, &bad].concat()).starts_with("log:5: memory type"));
    }

    #[test]
    fn a_boot_without_a_map_leaves_the_one_before() {
        let banner = "[    0.000000] Linux version 6.12.0 (a@b)\n";
        let map = parse(&["-- Boot 0123 --\n", banner, BOOT, "-- Boot 4567 --\n", banner].concat());
        assert_eq!(map.entries.len(), 2);
        assert_eq!(map.notes.len(), 1);
        assert!(map.notes[0].contains("shows no memory map"));
    }

    #[test]
    fn whole_table_twice_without_headers() {
        let lines = BOOT.split_inclusive('\n').skip(1).collect::<String>();
        let map = parse(&lines.repeat(2));
        assert_eq!(map.entries.len(), 2);
        assert_eq!(map.notes, ["log: holds the same memory map 2 times; the last is used"]);
    }

    #[test]
    fn duplicates_and_overlaps() {
        let twice = format!("{BOOT}BIOS-e820: [mem 0x100000-0x7fffffff] usable\n");
        assert_eq!(fails(&twice), "log:4: memory map: repeats line 3, expected each range once");
        let over = format!("{BOOT}BIOS-e820: [mem 0x7fffffff-0x8fffffff] reserved\n");
        assert_eq!(
            fails(&over),
            "log:4: memory map range: overlaps line 3 from 0x7fffffff on, expected disjoint ranges"
        );
        let inside = format!("{BOOT}BIOS-e820: [mem 0x200000-0x2fffff] usable\n");
        assert!(fails(&inside).contains("overlaps line 3"));
        let reserved = format!(
            "{BOOT}BIOS-e820: [mem 0x80000000-0x8fffffff] reserved\n\
             BIOS-e820: [mem 0x8f000000-0x9fffffff] reserved\n"
        );
        assert!(parse(&reserved).notes.iter().any(|n| n.contains("lines 4 and 5 overlap")));
    }

    #[test]
    fn unsorted_is_sorted() {
        let log = "BIOS-e820: [mem 0x100000-0x1fffff] usable\nBIOS-e820: [mem 0x0-0xfff] usable\n";
        let map = parse(log);
        assert_eq!(map.entries.first().unwrap().start, 0);
        assert!(map.notes.iter().any(|n| n.contains("sorted")));
    }

    #[test]
    fn doubts_are_noted() {
        let cut = "820: [mem 0x0-0x9ffff] usable\nBIOS-e820: [mem 0x100000-0x1fffff] usable\n";
        assert!(parse(cut).notes.iter().any(|n| n.contains("cut at its head")));
        let pfn = format!("{BOOT}last_pfn = 0xc07fd00 max_arch_pfn = 0x400000000\n");
        assert!(parse(&pfn).notes.iter().any(|n| n.contains("page 0xc07fd00")));
        let pfn = format!("{BOOT}last_pfn = 0x80000 max_arch_pfn = 0x400000000\n");
        assert!(parse(&pfn).notes.is_empty());
        let none = "BIOS-e820: [mem 0x0-0xfff] reserved\n";
        assert!(parse(none).notes.iter().any(|n| n.contains("no usable RAM")));
    }

    #[test]
    fn gaps_show_missing_lines() {
        let whole = "BIOS-e820: [mem 0x0-0x9ffff]  System RAM\n\
                     BIOS-e820: [gap 0xa0000-0xfffff]\n\
                     BIOS-e820: [mem 0x100000-0x7fffffff]  System RAM\n\
                     BIOS-e820: [mem 0x80000000-0x8fffffff]  device reserved\n";
        let map = parse(whole);
        assert_eq!(map.entries.len(), 3);
        assert!(map.notes.is_empty(), "{:?}", map.notes);
        let lost: Vec<&str> = whole.split_inclusive('\n').collect();
        let lost = [lost[0], lost[1], lost[3]].concat();
        assert!(parse(&lost).notes.iter().any(|n| n.starts_with("log:3: does not continue")));
    }

    #[test]
    fn cut_at_the_tail() {
        for n in 5..10 {
            let log = format!("{BOOT}[    0.000000] {}", &"BIOS-e820:"[..n]);
            assert!(fails(&log).starts_with("log:4:"), "{n}");
        }
    }

    #[test]
    fn too_many_lines() {
        let line = |n: u64| format!("BIOS-e820: [mem {:#x}-{:#x}] reserved\n", n * 2, n * 2);
        let log: String = (0..=MAX_ENTRIES as u64).map(line).collect();
        assert!(fails(&log).contains("more than 3200 lines"));
    }
}
