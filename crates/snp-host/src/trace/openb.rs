//! The Alibaba openb pod list (cluster-trace-gpu-v2023,
//! `openb_pod_list_default.csv`): one row for each pod.
//!
//! A *malformed* row is an error and ends the reading: a value that is not a whole number from 0
//! up, or a row with more or fewer fields than the header. It means that the file is damaged.
//!
//! A row that is well formed and *cannot be run* is counted as `invalid` and left out: it ends
//! before it starts, or asks for no memory. Published traces hold a few.
//!
//! A pod starts at its `scheduled_time`. One without was never placed (phase `Pending`): it is
//! counted as `unscheduled`, kept with [`Pod::scheduled`] `None`, and is not to be run; its memory
//! and end are not judged. A pod whose start and end are equal is valid and lives for no time at
//! all; a note counts them. Whoever replays the trace must let ends come before starts at the same
//! second, for pods that follow one another.

use std::path::Path;

use super::{Keep, TraceError, clean, refuse};
use crate::input::read_text;
use crate::number::decimal;
use crate::place::quoted;

/// The columns read. Their order is free and others may stand between them.
pub const COLUMNS: [&str; 7] = [
    "name",
    "cpu_milli",
    "memory_mib",
    "pod_phase",
    "creation_time",
    "deletion_time",
    "scheduled_time",
];

/// The most rows that are read.
pub const MAX_ROWS: usize = 4_000_000;

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Line of its row, the header being line 1.
    pub line: u64,
    /// Its name.
    pub name: Box<str>,
    /// Thousandths of a CPU asked for.
    pub cpu_milli: u64,
    /// Memory asked for, in MiB; at least 1 for a scheduled pod.
    pub memory_mib: u64,
    /// When it was created, in seconds since the trace's start.
    pub creation: u64,
    /// When it was deleted, in seconds; not before `scheduled`.
    pub deletion: u64,
    /// When it was placed, in seconds; `None` if it never was.
    pub scheduled: Option<u64>,
    /// Its phase at the end: `Running`, `Succeeded`, `Failed` or `Pending` in the published file.
    pub phase: Box<str>,
}

impl Pod {
    /// Whether it starts and ends in the same second.
    pub fn is_zero_length(&self) -> bool {
        self.scheduled == Some(self.deletion)
    }
}

/// How many rows there were, and how many are not to be run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows below the header, empty lines not counted.
    pub rows: u64,
    /// Rows without a `scheduled_time`.
    pub unscheduled: u64,
    /// Scheduled rows that end before they start or ask for no memory; not in
    /// [`PodList::pods`].
    pub invalid: u64,
    /// Rows that could be run and are not in the sample.
    pub left_out: u64,
}

/// A pod list as read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodList {
    /// All pods but the invalid ones, in the order of the file.
    pub pods: Vec<Pod>,
    /// Counts of rows.
    pub counts: Counts,
    /// What a reader of the results should know.
    pub notes: Vec<String>,
}

impl PodList {
    /// Reads the list; `file` names the text in errors and notes. Either line ending is taken, and
    /// the last line may lack one. A header of another kind of trace is refused by name.
    pub fn parse(file: &str, text: &str) -> Result<Self, TraceError> {
        refuse(file, text.lines().find(|l| !l.trim().is_empty()).unwrap_or_default())?;
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .has_headers(false)
            .from_reader(text.as_bytes());
        let mut record = csv::StringRecord::new();
        let mut list = Self::default();
        let mut columns: Option<Columns> = None;
        let mut zero_length = 0u64;
        let mut lines = Lines { text, byte: 0, line: 1 };
        while reader.read_record(&mut record).map_err(|e| csv_error(file, &e))? {
            let line = lines.of(record.position().map_or(0, csv::Position::byte));
            let Some(columns) = &columns else {
                columns = Some(Columns::find(file, &record)?);
                continue;
            };
            if record.iter().all(|f| f.trim().is_empty()) && record.len() <= 1 {
                continue;
            }
            if list.pods.len() >= MAX_ROWS {
                let (file, limit) = (file.to_owned(), MAX_ROWS);
                return Err(TraceError::TooManyRows { file, line, limit });
            }
            list.counts.rows += 1;
            let pod = columns.pod(file, line, &record)?;
            match pod.scheduled {
                None => list.counts.unscheduled += 1,
                Some(start) if pod.deletion < start || pod.memory_mib == 0 => {
                    list.counts.invalid += 1;
                    continue;
                }
                Some(_) => zero_length += u64::from(pod.is_zero_length()),
            }
            list.pods.push(pod);
        }
        if zero_length > 0 {
            list.notes.push(format!("{file}: {zero_length} pods start and end in the same second"));
        }
        if list.counts.rows == 0 {
            list.notes.push(format!("{file}: no rows below the header"));
        }
        Ok(list)
    }

    /// The same from a file.
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        Self::parse(&path.display().to_string(), &read_text(path)?)
    }

    /// Leaves out the scheduled pods that are not in a sample.
    pub fn sampled(mut self, keep: Keep<'_>) -> Self {
        let before = self.pods.len();
        self.pods.retain(|pod| pod.scheduled.is_none() || keep(pod.line));
        self.counts.left_out += (before - self.pods.len()) as u64;
        self
    }
}

/// Line numbers of records. The CSV reader's own are one short with CRLF, where a record is taken
/// to start at the line feed of the one before, and after blank lines.
#[derive(Debug)]
struct Lines<'a> {
    text: &'a str,
    byte: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of the record at `byte`; called with rising offsets.
    fn of(&mut self, byte: u64) -> u64 {
        let to = usize::try_from(byte).unwrap_or(usize::MAX);
        let rest = self.text.as_bytes().get(self.byte..).unwrap_or_default();
        let ahead = to.saturating_sub(self.byte);
        let ends = |b: &&u8| matches!(**b, b'\r' | b'\n');
        let blank = rest.iter().skip(ahead).take_while(ends).count();
        let step = ahead + blank;
        self.line += rest.iter().take(step).filter(|b| **b == b'\n').count() as u64;
        self.byte += step;
        self.line
    }
}

fn csv_error(file: &str, error: &csv::Error) -> TraceError {
    let line = error.position().map_or(0, csv::Position::line);
    TraceError::Csv { file: file.to_owned(), line, reason: error.to_string() }
}

/// What a good time looks like.
const SECONDS: &str = "whole seconds, 0 or more";

/// Where each column stands.
#[derive(Debug)]
struct Columns {
    width: usize,
    name: usize,
    cpu_milli: usize,
    memory_mib: usize,
    phase: usize,
    creation: usize,
    deletion: usize,
    scheduled: usize,
}

impl Columns {
    fn find(file: &str, header: &csv::StringRecord) -> Result<Self, TraceError> {
        let place = |column: &'static str| {
            let mut found = header.iter().enumerate().filter(|(_, h)| clean(h) == column);
            let file = file.to_owned();
            let Some((place, _)) = found.next() else {
                let expected = COLUMNS.join(",");
                return Err(TraceError::MissingColumn { file, column, expected });
            };
            match found.next() {
                Some(_) => Err(TraceError::TwoColumns { file, column }),
                None => Ok(place),
            }
        };
        Ok(Self {
            width: header.len(),
            name: place("name")?,
            cpu_milli: place("cpu_milli")?,
            memory_mib: place("memory_mib")?,
            phase: place("pod_phase")?,
            creation: place("creation_time")?,
            deletion: place("deletion_time")?,
            scheduled: place("scheduled_time")?,
        })
    }

    fn pod(&self, file: &str, line: u64, row: &csv::StringRecord) -> Result<Pod, TraceError> {
        if row.len() != self.width {
            return Err(TraceError::Row {
                file: file.to_owned(),
                line,
                found: row.len(),
                expected: self.width,
                hint: if row.len() < self.width { " (is it cut?)" } else { "" },
            });
        }
        let text = |place: usize| row.get(place).unwrap_or_default().trim();
        let value = |place: usize, column: &'static str, expected: &'static str| {
            decimal(text(place)).ok_or_else(|| TraceError::Value {
                file: file.to_owned(),
                line,
                column,
                value: quoted(text(place)),
                expected,
            })
        };
        let scheduled = match text(self.scheduled) {
            "" => None,
            _ => Some(value(self.scheduled, "scheduled_time", SECONDS)?),
        };
        Ok(Pod {
            line,
            name: text(self.name).into(),
            cpu_milli: value(self.cpu_milli, "cpu_milli", "whole thousandths of a CPU")?,
            memory_mib: value(self.memory_mib, "memory_mib", "whole MiB, 0 or more")?,
            creation: value(self.creation, "creation_time", SECONDS)?,
            deletion: value(self.deletion, "deletion_time", SECONDS)?,
            scheduled,
            phase: text(self.phase).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,\
                          creation_time,deletion_time,scheduled_time\n";
    const ROWS: &str = "openb-pod-0000,12000,16384,1,1000,,LS,Running,0,12537496,0\n\
                        openb-pod-0001,6000,12288,1,460,,LS,Running,427061,12902960,427061\n";

    fn parse(rows: &str) -> Result<PodList, String> {
        PodList::parse("f", &[HEADER, rows].concat()).map_err(|e| e.to_string())
    }

    #[test]
    fn published_rows() {
        let list = parse(ROWS).unwrap();
        assert_eq!(list.counts, Counts { rows: 2, ..Counts::default() });
        let pod = list.pods.last().unwrap();
        assert_eq!((pod.line, &*pod.name, pod.memory_mib), (3, "openb-pod-0001", 12288));
        assert_eq!((pod.scheduled, pod.deletion), (Some(427_061), 12_902_960));
        assert_eq!(&*pod.phase, "Running");
    }

    #[test]
    fn line_endings_and_blank_lines() {
        let plain = parse(ROWS).unwrap();
        let text = [HEADER, ROWS].concat();
        let crlf = PodList::parse("f", &text.replace('\n', "\r\n")).unwrap();
        assert_eq!(crlf, plain);
        assert_eq!(PodList::parse("f", text.trim_end()).unwrap(), plain);
        assert_eq!(parse(&[ROWS, "\n\n"].concat()).unwrap(), plain);
    }

    #[test]
    fn free_order_and_more_columns() {
        let text = "scheduled_time,x,deletion_time,creation_time,pod_phase,memory_mib,cpu_milli,name\n\
                    5,?,9,1,Running,4096,1000,a\n";
        let list = PodList::parse("f", text).unwrap();
        let pod = list.pods.first().unwrap();
        assert_eq!((pod.scheduled, pod.deletion, pod.creation), (Some(5), 9, 1));
        assert_eq!((pod.memory_mib, pod.cpu_milli, &*pod.name), (4096, 1000, "a"));
    }

    #[test]
    fn not_to_be_run() {
        let list = parse(
            "a,1,1,0,0,,LS,Pending,5,9,\n\
             b,1,1,0,0,,LS,Failed,5,9,10\n\
             c,1,0,0,0,,LS,Failed,5,9,6\n\
             d,1,1,0,0,,LS,Failed,5,9,9\n\
             e,1,0,0,0,,LS,Pending,5,4,\n",
        )
        .unwrap();
        assert_eq!(list.counts, Counts { rows: 5, unscheduled: 2, invalid: 2, left_out: 0 });
        let names: String = list.pods.iter().map(|p| &*p.name).collect();
        assert_eq!(names, "ade");
        assert_eq!(list.notes, ["f: 1 pods start and end in the same second"]);
        let sampled = list.sampled(&|line| line == 5);
        assert_eq!(sampled.counts, Counts { rows: 5, unscheduled: 2, invalid: 2, left_out: 0 });
        let sampled = sampled.sampled(&|line| line == 4);
        assert_eq!((sampled.counts.left_out, sampled.pods.len()), (1, 2));
    }

    #[test]
    fn damage_is_an_error() {
        for (from, to, says) in [
            ("12288", "12GB", "f:3:memory_mib: `12GB`, expected whole MiB"),
            ("12288", "-1", "f:3:memory_mib: `-1`"),
            ("12288", "", "f:3:memory_mib: ``"),
            ("12288", "1.5", "f:3:memory_mib: `1.5`"),
            ("12288", "99999999999999999999999", "f:3:memory_mib"),
            ("12902960,", "soon,", "f:3:deletion_time: `soon`"),
            (",427061\n", ",later\n", "f:3:scheduled_time: `later`"),
            (",12902960,427061", "", "f:3: row has 9 fields, expected 11 as in the header (is it"),
            ("LS,Running,427061", "LS,Running,x,427061", "f:3: row has 12 fields, expected 11"),
        ] {
            let rows = ROWS.replacen(from, to, 1);
            assert_ne!(rows, ROWS, "{from}");
            let error = parse(&rows).unwrap_err();
            assert!(error.starts_with(says), "{error}");
        }
    }

    #[test]
    fn header_is_checked() {
        let fails = |from, to| {
            let text = [&HEADER.replace(from, to), ROWS].concat();
            PodList::parse("f", &text).unwrap_err().to_string()
        };
        assert!(
            fails("memory_mib", "memory").starts_with("f:1: header has no column `memory_mib`")
        );
        assert!(fails("gpu_spec", "name").starts_with("f:1: header names column `name` twice"));
        let error = PodList::parse("f", ROWS).unwrap_err().to_string();
        assert!(error.starts_with("f:1: unsupported trace: header `openb-pod-0000,"), "{error}");
        assert!(PodList::parse("f", "").is_err());
        assert!(parse("").unwrap().notes.first().unwrap().contains("no rows"));
    }

    #[test]
    fn an_open_quote_is_an_error_with_its_line() {
        let error = parse(&["\"a,1,1\n", ROWS].concat()).unwrap_err();
        assert!(error.starts_with("f:2: "), "{error}");
    }
}
