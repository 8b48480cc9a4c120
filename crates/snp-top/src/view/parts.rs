//! The head, the lists, the page of keys.

use ratatui::layout::Rect;
use snp_host::state::{DriverKind, RegionKind};

use super::canvas::Canvas;
use crate::change::driver_name;
use crate::key::HELP;
use crate::{Focus, Model};

/// Rows of the driver's part below its title, where there is room.
pub(super) const DRIVER_ROWS: u16 = 5;
/// Columns of a label in a list.
const LABEL: u16 = 9;

/// Bytes in a unit that keeps three or four digits.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1023.95 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    let decimals = usize::from(unit > 0 && value < 100.0);
    format!("{value:.decimals$} {name}")
}

/// The time of day, UTC.
fn clock(unix_ms: u64) -> String {
    let s = unix_ms / 1000 % 86400;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

/// A rate with few digits.
fn rate(value: f64) -> String {
    if value == 0.0 || value >= 99.5 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    // What is not all is not shown as all, what is not nothing not as nothing.
    if percent > 99.9 && percent < 100.0 {
        "99.9 %".to_owned()
    } else if percent > 0.0 && percent < 0.01 {
        "<0.01 %".to_owned()
    } else if percent < 1.0 {
        format!("{percent:.2} %")
    } else {
        format!("{percent:.1} %")
    }
}

pub(super) fn title(canvas: &mut Canvas<'_>, area: Rect, model: &mut Model) {
    let style = canvas.inverse();
    for x in 0..area.width {
        canvas.put(area, x, 0, ' ', style);
    }
    let mut text = " rmpopt top".to_owned();
    let Some(sample) = model.shown() else {
        canvas.text(area, 0, 0, &text, style);
        return;
    };
    let state = &sample.state;
    if state.driver.emulated == Some(true) {
        text += "  EMULATED";
    }
    if model.is_paused() {
        text += "  PAUSED";
    }
    if let Some(still) = &model.still {
        text = format!("{text}  {still}");
    } else if let Some(kernel) = &state.log.kernel {
        text = format!("{text}  Linux {kernel}");
    }
    let cpus = state.cpus.online.map_or_else(String::new, |n| format!("{n} CPUs  "));
    let end = canvas.text(area, 0, 0, &text, style);
    let right = format!("{cpus}{} UTC ", clock(sample.unix_ms));
    canvas.right(area, end + 2, 0, &right, style);
}

/// SNP, RMPOPT and driver in a line.
pub(super) fn driver_line(canvas: &mut Canvas<'_>, area: Rect, model: &mut Model) {
    let Some(sample) = model.shown() else { return };
    let state = &sample.state;
    let (word, style) = match state.snp.enabled {
        Some(true) => ("on", canvas.good()),
        Some(false) => ("off", canvas.bad()),
        None => ("?", canvas.fair()),
    };
    let x = canvas.text(area, 1, 0, "SNP ", canvas.plain());
    let x = canvas.text(area, x, 0, word, style);
    let x = canvas.text(area, x + 2, 0, "RMPOPT ", canvas.plain());
    let (text, style) = match (&state.rmpopt, state.capability.rmpopt_capable) {
        (Some(r), _) if r.cores_enabled > 0 => {
            let style =
                if r.cores_enabled == r.cores_asked { canvas.good() } else { canvas.fair() };
            (format!("on {} of {} cores", r.cores_enabled, r.cores_asked), style)
        }
        (Some(_), _) => ("off".to_owned(), canvas.bad()),
        (None, Some(false)) => ("not in this CPU".to_owned(), canvas.fair()),
        (None, _) => ("?".to_owned(), canvas.fair()),
    };
    let x = canvas.text(area, x, 0, &text, style);
    let x = canvas.text(area, x + 2, 0, "driver ", canvas.plain());
    let driver = &state.driver;
    let style = match driver.kind {
        DriverKind::Ours | DriverKind::Upstream => canvas.good(),
        DriverKind::None => canvas.bad(),
        DriverKind::Unknown => canvas.fair(),
    };
    let x = canvas.text(area, x, 0, driver_name(driver.kind), style);
    if let (Some(policy), Some(life)) = (&driver.policy, &driver.life) {
        let style = if life == "runs" { canvas.plain() } else { canvas.fair() };
        canvas.text(area, x + 1, 0, &format!("({policy}, {life})"), style);
    }
}

/// How much of the memory is optimised.
pub(super) fn total(canvas: &mut Canvas<'_>, area: Rect, model: &mut Model) {
    let Some(sample) = model.shown() else { return };
    let memory = &sample.state.memory;
    if memory.ram_bytes == 0 {
        let why = format!("memory: not known{}", needs_root(model, "ram"));
        canvas.text(area, 1, 0, &why, canvas.fair());
        return;
    }
    let of = |kind: RegionKind| memory.by_state.get(kind.word()).copied().unwrap_or(0);
    let unknown = of(RegionKind::Unknown) == memory.ram_bytes;
    let optimised = of(RegionKind::Optimised);
    let share = optimised as f64 / memory.ram_bytes as f64;
    let text = if unknown {
        format!("of {}: not known", size(memory.ram_bytes))
    } else {
        format!("{} of {}, {}", size(optimised), size(memory.ram_bytes), percent(share))
    };
    let x = canvas.text(area, 1, 0, "Optimised ", canvas.strong());
    let x = canvas.text(area, x, 0, &text, if unknown { canvas.fair() } else { canvas.plain() });
    let room = area.width.saturating_sub(x + 3);
    if room >= 8 {
        bar(canvas, area, (x + 2, 0), room.min(100), memory.ram_bytes, &of);
    }
}

/// A bar of the states of so many bytes.
fn bar(
    canvas: &mut Canvas<'_>,
    area: Rect,
    (x, y): (u16, u16),
    width: u16,
    bytes: u64,
    of: &dyn Fn(RegionKind) -> u64,
) {
    let share = |kind| of(kind) as f64 / bytes.max(1) as f64;
    let part = |kind, glyph| (share(kind), glyph, canvas.of(kind));
    let parts = [
        part(RegionKind::Optimised, canvas.pick('█', '#')),
        part(RegionKind::Partial, canvas.pick('▒', '+')),
        part(RegionKind::None, canvas.pick('·', '.')),
    ];
    canvas.bar(area, x, y, width, &parts);
}

pub(super) fn nodes(canvas: &mut Canvas<'_>, area: Rect, model: &Model) {
    let Some(sample) = model.shown() else { return };
    let nodes = &sample.state.memory.nodes;
    let lines = usize::from(area.height - 1);
    let more = nodes.len().saturating_sub(lines);
    let about = if more > 0 { format!("{} of {}", lines, nodes.len()) } else { String::new() };
    canvas.head(area, "Nodes", &about, false);
    if nodes.is_empty() {
        canvas.text(area, 1, 1, "no NUMA nodes are known", canvas.faint());
    }
    // The chosen node is always among those shown.
    let chosen = nodes.iter().position(|node| Some(node.node) == model.filter.node);
    let from = chosen.map_or(0, |at| (at + 1).saturating_sub(lines));
    for (y, node) in nodes.iter().skip(from).take(lines).enumerate() {
        let y = y as u16 + 1;
        let chosen = model.filter.node == Some(node.node);
        let style = if chosen { canvas.inverse() } else { canvas.plain() };
        canvas.text(area, 1, y, &format!("node {}", node.node), style);
        let text = match node.optimised_bytes {
            Some(bytes) => format!("{:>9} of {:>9}", size(bytes), size(node.ram_bytes)),
            None => format!("{:>9} of {:>9}", "?", size(node.ram_bytes)),
        };
        let end = canvas.text(area, LABEL + 1, y, &text, canvas.plain());
        let room = area.width.saturating_sub(end + 3);
        if let Some(optimised) = node.optimised_bytes
            && room >= 8
        {
            let of = |kind| match kind {
                RegionKind::Optimised => optimised,
                RegionKind::Partial => node.partial_bytes.unwrap_or(0),
                _ => 0,
            };
            bar(canvas, area, (end + 2, y), room.min(60), node.ram_bytes, &of);
        }
    }
}

/// What is to be said of a fact if root alone may read it.
fn needs_root(model: &Model, fact: &str) -> &'static str {
    let forbidden = model.shown().is_some_and(|sample| sample.state.needs_root.contains(&fact));
    if forbidden { " (needs root)" } else { "" }
}

/// A counter, or `?`.
fn counter(model: &Model, name: &str) -> String {
    let stats = model.shown().map(|sample| &sample.state.driver.stats);
    stats.and_then(|s| s.get(name)).map_or_else(|| "?".to_owned(), u64::to_string)
}

pub(super) fn driver(canvas: &mut Canvas<'_>, area: Rect, model: &Model) {
    let Some(sample) = model.shown() else { return };
    let driver = &sample.state.driver;
    let about = match (driver.changed_ms_ago, driver.first_pass_over) {
        (Some(ms), over) => {
            let pass = if over == Some(false) { "first pass under way; " } else { "" };
            format!("{pass}belief last changed {} s ago", rate(ms as f64 / 1000.0))
        }
        (None, _) => driver.evidence.clone(),
    };
    canvas.head(area, "Driver", &about, false);
    if driver.stats.is_empty() {
        let stats = sample.state.sources.iter().find(|source| source.fact == "driver-stats");
        let why = match driver.kind {
            DriverKind::Ours => match stats.map(|stats| stats.state) {
                Some("absent") => "its counters are not there (is debugfs mounted?)",
                Some("malformed") => "its counters cannot be understood",
                _ => "its counters cannot be read",
            },
            DriverKind::Upstream => "AMD's series counts nothing",
            DriverKind::None => "no driver: nothing is optimised, nothing is taken",
            DriverKind::Unknown => "not known who runs RMPOPT",
        };
        let rights = match driver.kind {
            DriverKind::Ours | DriverKind::Unknown => needs_root(model, "driver-stats"),
            _ => "",
        };
        canvas.text(area, 1, 1, &format!("{why}{rights}"), canvas.fair());
        return;
    }
    let taken = model.rates.map_or_else(
        || "taken ?".to_owned(),
        |rates| {
            let cpus = sample.state.cpus.online.unwrap_or(1).max(1);
            let each = rates.cpu_taken / f64::from(cpus);
            format!("takes {} of a CPU, {} of each", percent(rates.cpu_taken), percent(each))
        },
    );
    let end = canvas.text(area, 1, 1, &taken, canvas.plain());
    let room = area.width.saturating_sub(end + 3);
    if room >= 6 {
        let values: Vec<Option<f64>> = model.history.iter().map(|point| point.cpu_taken).collect();
        canvas.spark(area, end + 2, 1, room.min(60), &values);
    }
    let rates = model.rates.unwrap_or_default();
    let longest = driver
        .stats
        .get("hold.longest_ns")
        .map_or_else(|| "?".to_owned(), |ns| format!("{} us", rate(*ns as f64 / 1000.0)));
    let clean = rates.clean_share.map_or_else(|| "-".to_owned(), percent);
    let (failed, stale) = (counter(model, "audits.failed"), counter(model, "results.stale"));
    let lines = [
        format!(
            "{} interruptions/s, longest hold {longest}, {} passes",
            rate(rates.interruptions),
            counter(model, "passes")
        ),
        format!(
            "{} RMPOPT/s, clean {clean}, {} in all",
            rate(rates.rmpopts),
            counter(model, "rmpopt.executed")
        ),
        format!(
            "results stale {stale}, audits failed {failed} of {}",
            counter(model, "audits.run")
        ),
        format!(
            "wake-ups {}, IPIs {}, slow RMPOPTs {}",
            counter(model, "wakeups"),
            counter(model, "ipis"),
            counter(model, "rmpopt.slow")
        ),
    ];
    for (y, line) in (2..area.height).zip(lines) {
        let bad = y == 4 && failed != "0" && failed != "?";
        let style = if bad { canvas.bad() } else { canvas.plain() };
        canvas.text(area, 1, y, &line, style);
    }
}

pub(super) fn guests(canvas: &mut Canvas<'_>, area: Rect, model: &Model) {
    let Some(sample) = model.shown() else { return };
    let guests = model.guests();
    let asids = sample.state.guests.asids.get("sev_es").map_or_else(String::new, |(used, all)| {
        let all = all.map_or_else(|| "?".to_owned(), |all| all.to_string());
        format!(", ASIDs {used} of {all}")
    });
    let count = guests.as_ref().map_or_else(|| "?".to_owned(), |guests| guests.len().to_string());
    let about = format!("{count} by {}{asids}", model.sort.word());
    canvas.head(area, "SNP guests", &about, model.focus == Focus::Guests);
    let Some(guests) = guests else {
        canvas.text(area, 1, 1, "processes cannot be seen", canvas.fair());
        return;
    };
    if guests.is_empty() {
        canvas.text(area, 1, 1, "none among processes", canvas.faint());
    }
    let lines = usize::from(area.height - 1);
    let from = model.guests_from.min(guests.len().saturating_sub(lines));
    for (y, guest) in guests.iter().skip(from).take(lines).enumerate() {
        let y = y as u16 + 1;
        let memory = guest.memory_bytes.map_or_else(|| "?".to_owned(), size);
        let right = format!("{memory:>9}  {:<16} {:>8}", guest.vmm, guest.pid);
        canvas.right(area, 8, y, &right, canvas.plain());
        let right = u16::try_from(right.len()).unwrap_or(u16::MAX);
        let room =
            Rect { width: area.width.saturating_sub(right + 1).max(8).min(area.width), ..area };
        canvas.text(room, 1, y, guest.name.as_deref().unwrap_or("-"), canvas.plain());
    }
}

pub(super) fn changes(canvas: &mut Canvas<'_>, area: Rect, model: &Model) {
    let about = match model.changes.len() {
        0 => "none yet".to_owned(),
        n => format!("{n}, the newest first"),
    };
    canvas.head(area, "Changes", &about, model.focus == Focus::Changes);
    let lines = usize::from(area.height - 1);
    let from = model.changes_from.min(model.changes.len().saturating_sub(lines));
    for (y, change) in model.changes.iter().skip(from).take(lines).enumerate() {
        let y = y as u16 + 1;
        let x = canvas.text(area, 1, y, &clock(change.unix_ms), canvas.faint());
        canvas.text(area, x + 1, y, &change.text, canvas.mood(change.mood));
    }
}

/// What to press, in the last line.
pub(super) fn keys(canvas: &mut Canvas<'_>, area: Rect, model: &Model) {
    let hold = if model.is_paused() { "go on" } else { "pause" };
    let all = [
        ("?", "keys"),
        ("q", "quit"),
        ("p", hold),
        ("n", "node"),
        ("f", "filter"),
        ("s", "sort"),
        ("+-0", "zoom"),
        ("Tab", "focus"),
        ("r", "read all"),
    ];
    let mut x = 1;
    for (key, what) in all {
        if x + key.len() as u16 + what.len() as u16 + 1 > area.width {
            break;
        }
        x = canvas.text(area, x, 0, key, canvas.strong());
        x = canvas.text(area, x + 1, 0, what, canvas.faint()) + 2;
    }
}

pub(super) fn help(canvas: &mut Canvas<'_>, area: Rect) {
    canvas.head(area, "Keys", "any key leaves this page", false);
    for (y, (key, what)) in (1..area.height).zip(HELP) {
        canvas.text(area, 2, y, key, canvas.strong());
        canvas.text(area, 19, y, what, canvas.plain());
    }
    let from = HELP.len() as u16 + 2;
    let words = [
        "A cell of the map is one region of 1 GiB, or several; only lines with RAM are shown. A digit says",
        "how many tenths of it are optimised, over all cores. Optimised means: on every core.",
        "docs/top.md has the rest.",
    ];
    for (y, line) in (from..area.height).zip(words) {
        canvas.text(area, 2, y, line, canvas.faint());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_for_people() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1 << 30), "1.0 GiB");
        assert_eq!(size((12 << 40) - 1), "12.0 TiB");
        assert_eq!(size(1023 << 30), "1023 GiB");
        assert_eq!(clock(86_399_999), "23:59:59");
        assert_eq!([0.0, 0.5, 99.4, 99.5].map(rate), ["0", "0.5", "99.4", "100"]);
        let shown = [0.0, 0.000001, 0.005, 0.5, 0.99999, 1.0].map(percent);
        assert_eq!(shown, ["0.00 %", "<0.01 %", "0.50 %", "50.0 %", "99.9 %", "100.0 %"]);
    }
}
