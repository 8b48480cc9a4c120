//! What came of the samples, and what is looked at.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;

use snp_host::state::{Guest, RegionKind, RegionState};

use crate::change::{Change, Mood, changes};
use crate::{Key, Rates, Sample};

/// Samples whose figures are kept: ten minutes at one a second.
const HISTORY: usize = 600;
/// Changes that are kept.
const CHANGES: usize = 500;
/// Lines and cells of a page.
const PAGE: i64 = 10;
/// Most GiB in a cell, as a power of two.
const MOST_ZOOM: u32 = 12;

/// What the arrows move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Focus {
    /// The cursor on the map.
    #[default]
    Map,
    /// The list of guests.
    Guests,
    /// The list of changes.
    Changes,
}

/// The order of guests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    /// By name.
    #[default]
    Name,
    /// The largest first.
    Memory,
    /// By process id.
    Pid,
}

impl Sort {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Memory => "memory",
            Self::Pid => "pid",
        }
    }
}

/// What is shown of the regions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filter {
    /// One node alone.
    pub node: Option<u32>,
    /// One state alone.
    pub state: Option<RegionKind>,
}

impl Filter {
    /// Whether a region is shown.
    pub fn lets(self, region: &RegionState) -> bool {
        self.node.is_none_or(|node| region.nodes.contains(&node))
            && self.state.is_none_or(|state| region.state == state)
    }
}

/// Figures of one sample.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Point {
    /// Time taken, in CPUs.
    pub(crate) cpu_taken: Option<f64>,
}

/// All that a frame is drawn from.
#[derive(Debug, Default)]
pub struct Model {
    latest: Option<Arc<Sample>>,
    held: Option<Arc<Sample>>,
    pub(crate) rates: Option<Rates>,
    pub(crate) history: VecDeque<Point>,
    pub(crate) changes: VecDeque<Change>,
    /// The cores of the region that most have: what a tenth of a partial region is a tenth of.
    pub(crate) most_cores: u32,
    /// A picture that does not go on, and why.
    pub still: Option<String>,
    /// Whether the page of keys is shown.
    pub help: bool,
    /// Which regions are shown.
    pub filter: Filter,
    /// The order of guests.
    pub sort: Sort,
    /// What the arrows move.
    pub focus: Focus,
    /// GiB in a cell as a power of two; `None`: as many as it takes.
    pub zoom: Option<u32>,
    /// The region under the cursor.
    pub cursor: Option<u32>,
    pub(crate) guests_from: usize,
    pub(crate) changes_from: usize,
    /// How the last frame cut the map: GiB in a cell, cells in a row.
    pub(crate) cut: (u32, u32),
}

impl Model {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { cut: (1, 64), ..Self::default() }
    }

    /// Takes a sample in and says what changed.
    pub fn take(&mut self, sample: Sample) -> Vec<Change> {
        let sample = Arc::new(sample);
        let mut found = Vec::new();
        self.rates = None;
        let mut unchanged = false;
        if let Some(before) = &self.latest {
            found = changes(before, &sample);
            unchanged = Arc::ptr_eq(&before.state.regions, &sample.state.regions);
            self.rates = Rates::between(before, &sample);
        }
        for change in &found {
            self.log(change.clone());
        }
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        let cpu_taken = self.rates.map(|rates| rates.cpu_taken);
        self.history.push_back(Point { cpu_taken });
        self.latest = Some(sample);
        if !unchanged {
            self.measure();
        }
        found
    }

    /// Puts something on the list of changes.
    pub fn log(&mut self, change: Change) {
        if self.changes.len() == CHANGES {
            self.changes.pop_back();
        }
        // What one looks at stays where it is.
        if self.changes_from > 0 {
            self.changes_from = (self.changes_from + 1).min(CHANGES);
        }
        self.changes.push_front(change);
    }

    /// Says that no samples come any more.
    pub fn ended(&mut self, unix_ms: u64, why: &str) {
        let text = snp_host::harmless(why).into_owned();
        self.log(Change { unix_ms, mood: Mood::Bad, text: text.clone() });
        self.still = Some(text);
    }

    fn measure(&mut self) {
        let cores = self.shown().and_then(|s| s.state.regions.iter().filter_map(|r| r.cores).max());
        self.most_cores = cores.unwrap_or(0);
    }

    /// The sample that is shown: the last one, or the one that is held.
    pub fn shown(&self) -> Option<&Arc<Sample>> {
        self.held.as_ref().or(self.latest.as_ref())
    }

    /// The last sample.
    pub fn latest(&self) -> Option<&Arc<Sample>> {
        self.latest.as_ref()
    }

    /// What the counters say of the time since the sample before, if they say it.
    pub fn rates(&self) -> Option<&Rates> {
        self.rates.as_ref()
    }

    /// Whether the picture is held.
    pub fn is_paused(&self) -> bool {
        self.held.is_some()
    }

    /// The SNP guests in their order.
    pub(crate) fn guests(&self) -> Option<Vec<&Guest>> {
        let guests = self.shown()?.state.guests.processes.as_ref()?;
        let mut guests: Vec<&Guest> = guests.iter().collect();
        match self.sort {
            Sort::Name => guests.sort_by(|a, b| (&a.name, a.pid).cmp(&(&b.name, b.pid))),
            Sort::Memory => guests.sort_by_key(|g| (Reverse(g.memory_bytes), g.pid)),
            Sort::Pid => guests.sort_by_key(|g| g.pid),
        }
        Some(guests)
    }

    /// Does what a key says.
    pub fn press(&mut self, key: Key) {
        if std::mem::take(&mut self.help) && key != Key::Pause {
            return;
        }
        match key {
            Key::Help => self.help = true,
            Key::Back => {
                self.filter = Filter::default();
                self.cursor = None;
            }
            Key::Pause => {
                self.held = if self.held.is_some() { None } else { self.latest.clone() };
                self.measure();
            }
            Key::NextNode | Key::PreviousNode => self.next_node(key == Key::NextNode),
            Key::NextFilter | Key::PreviousFilter => {
                let next = key == Key::NextFilter;
                self.filter.state = cycle(&RegionKind::ALL, self.filter.state, next);
            }
            Key::Sort => {
                self.sort = match self.sort {
                    Sort::Name => Sort::Memory,
                    Sort::Memory => Sort::Pid,
                    Sort::Pid => Sort::Name,
                };
            }
            Key::ZoomIn => {
                let now = self.zoom.unwrap_or_else(|| self.cut.0.trailing_zeros());
                self.zoom = Some(now.saturating_sub(1));
            }
            Key::ZoomOut => {
                let now = self.zoom.unwrap_or_else(|| self.cut.0.trailing_zeros());
                self.zoom = Some((now + 1).min(MOST_ZOOM));
            }
            Key::ZoomFit => self.zoom = None,
            Key::Focus => {
                self.focus = match self.focus {
                    Focus::Map => Focus::Guests,
                    Focus::Guests => Focus::Changes,
                    Focus::Changes => Focus::Map,
                };
            }
            Key::Clear => {
                self.changes.clear();
                self.changes_from = 0;
            }
            Key::Left => self.step(-1, -1),
            Key::Right => self.step(1, 1),
            Key::Up => self.step(-i64::from(self.cut.1), -1),
            Key::Down => self.step(i64::from(self.cut.1), 1),
            Key::PageUp => self.step(-PAGE * i64::from(self.cut.1), -PAGE),
            Key::PageDown => self.step(PAGE * i64::from(self.cut.1), PAGE),
            Key::Home => self.step(i64::MIN, i64::MIN),
            Key::End => self.step(i64::MAX, i64::MAX),
        }
    }

    fn next_node(&mut self, forward: bool) {
        let Some(sample) = self.shown() else { return };
        let nodes: Vec<u32> = sample.state.memory.nodes.iter().map(|node| node.node).collect();
        self.filter.node = cycle(&nodes, self.filter.node, forward);
    }

    /// By so many cells of the map, or lines of a list.
    fn step(&mut self, cells: i64, lines: i64) {
        let along = |at: usize, length: usize| {
            let by = usize::try_from(lines.unsigned_abs()).unwrap_or(usize::MAX);
            let to = if lines < 0 { at.saturating_sub(by) } else { at.saturating_add(by) };
            to.min(length.saturating_sub(1))
        };
        match self.focus {
            Focus::Guests => {
                let length = self.guests().map_or(0, |guests| guests.len());
                self.guests_from = along(self.guests_from, length);
            }
            Focus::Changes => self.changes_from = along(self.changes_from, self.changes.len()),
            Focus::Map => self.move_cursor(cells),
        }
    }

    /// To the cell that has RAM next to where it would land.
    fn move_cursor(&mut self, cells: i64) {
        let Some(sample) = self.latest.clone() else { return };
        let sample = self.held.clone().unwrap_or(sample);
        let regions = &sample.state.regions;
        let (Some(first), Some(last)) = (regions.first(), regions.last()) else { return };
        let Some(at) = self.cursor else {
            self.cursor = Some(if cells == i64::MAX { last.gib } else { first.gib });
            return;
        };
        let gib = i64::from(self.cut.0);
        let cell = i64::from(at) / gib;
        let aim =
            cell.saturating_add(cells).clamp(i64::from(first.gib) / gib, i64::from(last.gib) / gib);
        let aim_gib = u32::try_from(aim * gib).unwrap_or(u32::MAX);
        // The first region of that cell, or the next one with RAM in the direction of the step.
        let from = regions.partition_point(|region| region.gib < aim_gib);
        let there = regions.get(from);
        let landed = match there {
            Some(region) if i64::from(region.gib) / gib == aim || cells > 0 => Some(region),
            _ => regions.get(from.saturating_sub(1)),
        };
        self.cursor = landed.or(there).map(|region| region.gib);
    }
}

/// The next of all, then none, then the first again.
fn cycle<T: PartialEq + Copy>(all: &[T], now: Option<T>, forward: bool) -> Option<T> {
    let at = now.and_then(|now| all.iter().position(|one| *one == now));
    match (at, forward) {
        (None, true) => all.first().copied(),
        (None, false) => all.last().copied(),
        (Some(at), true) => all.get(at + 1).copied(),
        (Some(at), false) => at.checked_sub(1).and_then(|at| all.get(at).copied()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_after_the_other_then_none() {
        let all = [3, 5, 9];
        let mut now = None;
        let forward: Vec<_> = (0..5)
            .map(|_| {
                now = cycle(&all, now, true);
                now
            })
            .collect();
        assert_eq!(forward, [Some(3), Some(5), Some(9), None, Some(3)]);
        assert_eq!(cycle(&all, Some(3), false), None);
        assert_eq!(cycle(&all, None, false), Some(9));
        assert_eq!(cycle(&all, Some(4), true), Some(3), "one that is gone");
    }
}
