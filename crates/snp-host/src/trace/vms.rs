//! Traces of one row for each machine, read line by line however large the file is: Alibaba's DLRM
//! instances (cluster-trace-gpu-v2025) and the `vmtable` of the Azure public dataset, V1 and V2.
//!
//! A *malformed* row is an error and ends the reading, as in [`openb`](super::openb); a row that
//! ends before it starts or has no memory is counted as invalid and left out.
//!
//! DLRM: `memory_request` is GiB, times are seconds. A row without `scheduled_time` was there
//! before the trace began, one without `deletion_time` was there after it ended.
//!
//! Azure: no header, eleven columns, either line ending. Memory is GB, taken as GiB. V2 has buckets
//! instead of numbers, by their upper bound; one without upper bound (`>64`) is taken as twice its
//! lower one, which is an assumption and is noted. A machine created at 0 was there before, one
//! deleted at 2,591,400 s or later was there after the trace.
//!
//! Of a sample every row is read and judged, and only those of the sample are kept in memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::openb::{Counts, MAX_ROWS};
use super::{Keep, TraceError, TraceKind, clean};
use crate::input::InputError;
use crate::place::quoted;

/// Columns that are read of the DLRM trace; others may stand between them.
pub const DLRM_COLUMNS: [&str; 5] =
    ["instance_sn", "cpu_request", "memory_request", "scheduled_time", "deletion_time"];

/// Columns of Azure's `vmtable`, in order.
pub const AZURE_COLUMNS: [&str; 11] = [
    "vmid",
    "subscriptionid",
    "deploymentid",
    "vmcreated",
    "vmdeleted",
    "maxcpu",
    "avgcpu",
    "p95maxcpu",
    "vmcategory",
    "vmcorecountbucket",
    "vmmemorybucket",
];

/// The last point of Azure's 30 days of 300 s: who is deleted here or later was there at the end.
const AZURE_END_MS: u64 = 2_591_400_000;

/// The longest line, in bytes; a longer one is no row.
const LONGEST_LINE: u64 = 1 << 16;

/// Which of the two, where a caller knows better than the first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VmFormat {
    /// Alibaba's DLRM instances; the header must have [`DLRM_COLUMNS`].
    Dlrm,
    /// Azure's `vmtable` of 2017: cores and memory are numbers.
    AzureV1,
    /// Azure's `vmtable` of 2019: cores and memory are buckets.
    AzureV2,
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// Line of its row, from 1; of a table its row, from 1.
    pub line: u64,
    /// Its name.
    pub name: Box<str>,
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Memory in MiB, at least 1.
    pub memory_mib: u64,
    /// When it starts, in milliseconds since the trace's start; `None` if it was there before.
    pub start_ms: Option<u64>,
    /// When it ends, not before its start; `None` if it was there when the trace ended.
    pub end_ms: Option<u64>,
}

/// A trace as read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmList {
    /// All machines that can be run, in the order of the file.
    pub vms: Vec<Vm>,
    /// Counts of rows.
    pub counts: Counts,
    /// What a reader of the results should know.
    pub notes: Vec<String>,
}

impl VmList {
    /// Reads a file if it is of a kind this module knows; `None` if its first line says otherwise.
    pub fn read(path: &Path, keep: Keep<'_>) -> Result<Option<Self>, TraceError> {
        let (file, input) = open(path)?;
        Self::rows(&file, input, None, keep)
    }

    /// Reads a file as of the kind that the caller names.
    pub fn read_as(path: &Path, format: VmFormat, keep: Keep<'_>) -> Result<Self, TraceError> {
        let (file, input) = open(path)?;
        Self::parse_as(&file, input, format, keep)
    }

    /// As [`Self::read`] from any input, all of it; `file` is its name in errors.
    pub fn parse(file: &str, input: impl BufRead) -> Result<Option<Self>, TraceError> {
        Self::rows(file, input, None, &|_| true)
    }

    /// As [`Self::read_as`] from any input.
    pub fn parse_as(
        file: &str,
        input: impl BufRead,
        format: VmFormat,
        keep: Keep<'_>,
    ) -> Result<Self, TraceError> {
        let list = Self::rows(file, input, Some(format), keep)?;
        list.ok_or_else(|| InputError::Empty { file: file.to_owned() }.into())
    }

    fn rows(
        file: &str,
        input: impl BufRead,
        named: Option<VmFormat>,
        keep: Keep<'_>,
    ) -> Result<Option<Self>, TraceError> {
        let mut lines = Lines { file, input, line: 0, text: Vec::new() };
        let Some(first) = lines.next(named.is_none())? else { return Ok(None) };
        let found = match named {
            Some(named) => Some(Format::named(file, &first, named)?),
            None => Format::of(file, &first)?,
        };
        let Some((format, is_header)) = found else { return Ok(None) };
        let mut list = Self::default();
        let mut unbounded = 0u64;
        let mut row = if is_header { lines.next(false)? } else { Some(first) };
        while let Some(text) = row {
            let line = lines.line;
            if list.vms.len() >= MAX_ROWS {
                let (file, limit) = (file.to_owned(), MAX_ROWS);
                return Err(TraceError::TooManyRows { file, line, limit });
            }
            list.counts.rows += 1;
            let vm = format.vm(&Row::new(file, line, &text, format.width())?, &mut unbounded)?;
            let backwards = vm.end_ms.is_some_and(|end| end < vm.start_ms.unwrap_or(0));
            if backwards || vm.memory_mib == 0 {
                list.counts.invalid += 1;
            } else if keep(line) {
                list.vms.push(vm);
            } else {
                list.counts.left_out += 1;
            }
            row = lines.next(false)?;
        }
        if unbounded > 0 {
            list.notes.push(format!(
                "{file}: {unbounded} machines in a bucket without upper bound, taken as twice the \
                 lower one"
            ));
        }
        if list.counts.rows == 0 {
            list.notes.push(format!("{file}: no rows below the header"));
        }
        Ok(Some(list))
    }
}

fn open(path: &Path) -> Result<(String, BufReader<File>), TraceError> {
    let file = path.display().to_string();
    if path.is_dir() {
        return Err(InputError::Directory { file }.into());
    }
    match File::open(path) {
        Ok(open) => Ok((file, BufReader::new(open))),
        Err(source) => Err(InputError::Io { file, source }.into()),
    }
}

/// Lines that are not blank, with their numbers.
struct Lines<'a, R> {
    file: &'a str,
    input: R,
    line: u64,
    text: Vec<u8>,
}

impl<R: BufRead> Lines<'_, R> {
    /// The next one. The first line of a file of unknown kind may be anything: who reads other kinds
    /// says what is wrong with it, so that what is no text or too long is then no line.
    fn next(&mut self, anything: bool) -> Result<Option<String>, TraceError> {
        loop {
            self.text.clear();
            let mut input = self.input.by_ref().take(LONGEST_LINE);
            let read = input
                .read_until(b'\n', &mut self.text)
                .map_err(|source| InputError::Io { file: self.file.to_owned(), source })?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            let wrong = |reason: &str| {
                Err(TraceError::Csv {
                    file: self.file.to_owned(),
                    line: self.line,
                    reason: reason.to_owned(),
                })
            };
            if read as u64 == LONGEST_LINE && self.text.last() != Some(&b'\n') {
                return if anything { Ok(None) } else { wrong("line longer than 64 KiB") };
            }
            let Ok(text) = std::str::from_utf8(&self.text) else {
                return if anything { Ok(None) } else { wrong("not UTF-8") };
            };
            let text = text.trim_matches(['\u{feff}', '\r', '\n', ' ', '\t']);
            if !text.is_empty() {
                return Ok(Some(text.to_owned()));
            }
        }
    }
}

enum Format {
    Dlrm { width: usize, places: [usize; DLRM_COLUMNS.len()] },
    Azure { buckets: bool },
}

impl Format {
    /// What the first line says, and whether it is a header.
    fn of(file: &str, first: &str) -> Result<Option<(Self, bool)>, TraceError> {
        match TraceKind::of_header(first) {
            Some(TraceKind::Dlrm) => Ok(Some((Self::dlrm(file, first)?, true))),
            Some(TraceKind::AzureVms) => Ok(Some((Self::Azure { buckets: true }, true))),
            Some(_) => Ok(None),
            None => {
                let category = ["Delay-insensitive", "Interactive", "Unknown"];
                let mut fields = first.split(',').map(clean);
                let azure = fields.nth(8).is_some_and(|field| category.contains(&field));
                Ok(azure.then_some((Self::Azure { buckets: true }, false)))
            }
        }
    }

    /// What the caller says, and whether the first line is a header.
    fn named(file: &str, first: &str, named: VmFormat) -> Result<(Self, bool), TraceError> {
        let buckets = named == VmFormat::AzureV2;
        match named {
            VmFormat::Dlrm => Ok((Self::dlrm(file, first)?, true)),
            VmFormat::AzureV1 | VmFormat::AzureV2 => {
                let is_header = TraceKind::of_header(first) == Some(TraceKind::AzureVms);
                Ok((Self::Azure { buckets }, is_header))
            }
        }
    }

    /// Where the DLRM trace's columns stand.
    fn dlrm(file: &str, header: &str) -> Result<Self, TraceError> {
        let fields: Vec<&str> = header.split(',').map(clean).collect();
        let mut places = [0; DLRM_COLUMNS.len()];
        for (place, column) in places.iter_mut().zip(DLRM_COLUMNS) {
            let mut found = fields.iter().enumerate().filter(|(_, name)| **name == column);
            let file = file.to_owned();
            *place = match (found.next(), found.next()) {
                (Some((at, _)), None) => at,
                (Some(_), Some(_)) => return Err(TraceError::TwoColumns { file, column }),
                (None, _) => {
                    let expected = DLRM_COLUMNS.join(",");
                    return Err(TraceError::MissingColumn { file, column, expected });
                }
            };
        }
        Ok(Self::Dlrm { width: fields.len(), places })
    }

    fn width(&self) -> usize {
        match self {
            Self::Dlrm { width, .. } => *width,
            Self::Azure { .. } => AZURE_COLUMNS.len(),
        }
    }

    fn vm(&self, row: &Row<'_>, unbounded: &mut u64) -> Result<Vm, TraceError> {
        match self {
            Self::Dlrm { places: [name, cpu, memory, scheduled, deletion], .. } => Ok(Vm {
                line: row.line,
                name: row.text(*name).into(),
                cpu_milli: row.number(*cpu, "cpu_request", 1e3, "CPUs, 0 or more")?,
                memory_mib: row.number(*memory, "memory_request", 1024.0, "GiB, 0 or more")?,
                start_ms: row.maybe_time(*scheduled, "scheduled_time")?,
                end_ms: row.maybe_time(*deletion, "deletion_time")?,
            }),
            Self::Azure { buckets } => {
                let created = row.time(3, "vmcreated")?;
                let deleted = row.time(4, "vmdeleted")?;
                let (cpu_milli, open_cpu) = row.bucket(9, "vmcorecountbucket", 1e3, *buckets)?;
                let (memory_mib, open_memory) =
                    row.bucket(10, "vmmemorybucket", 1024.0, *buckets)?;
                *unbounded += u64::from(open_cpu || open_memory);
                Ok(Vm {
                    line: row.line,
                    name: row.text(0).into(),
                    cpu_milli,
                    memory_mib,
                    start_ms: (created > 0).then_some(created),
                    end_ms: (deleted < AZURE_END_MS).then_some(deleted),
                })
            }
        }
    }
}

/// The fields of a row.
struct Row<'a> {
    file: &'a str,
    line: u64,
    fields: Vec<&'a str>,
}

impl<'a> Row<'a> {
    fn new(file: &'a str, line: u64, text: &'a str, expected: usize) -> Result<Self, TraceError> {
        let fields: Vec<&str> = text.split(',').map(clean).collect();
        let found = fields.len();
        if found == expected {
            return Ok(Self { file, line, fields });
        }
        let hint = if found < expected { " (is it cut?)" } else { "" };
        Err(TraceError::Row { file: file.to_owned(), line, found, expected, hint })
    }

    fn text(&self, place: usize) -> &str {
        self.fields.get(place).copied().unwrap_or_default()
    }

    fn wrong<T>(
        &self,
        place: usize,
        column: &'static str,
        expected: &'static str,
    ) -> Result<T, TraceError> {
        Err(TraceError::Value {
            file: self.file.to_owned(),
            line: self.line,
            column,
            value: quoted(self.text(place)),
            expected,
        })
    }

    /// A number, times `unit`, to the nearest whole.
    fn number(
        &self,
        place: usize,
        column: &'static str,
        unit: f64,
        expected: &'static str,
    ) -> Result<u64, TraceError> {
        match scaled(self.text(place), unit) {
            Some(value) => Ok(value),
            None => self.wrong(place, column, expected),
        }
    }

    fn time(&self, place: usize, column: &'static str) -> Result<u64, TraceError> {
        self.number(place, column, 1e3, "seconds, 0 or more")
    }

    fn maybe_time(&self, place: usize, column: &'static str) -> Result<Option<u64>, TraceError> {
        if self.text(place).is_empty() {
            return Ok(None);
        }
        self.time(place, column).map(Some)
    }

    /// A number or, if `buckets` says so, a bucket by its upper bound, and whether it has none.
    fn bucket(
        &self,
        place: usize,
        column: &'static str,
        unit: f64,
        buckets: bool,
    ) -> Result<(u64, bool), TraceError> {
        let text = self.text(place);
        let above = text.strip_prefix('>').filter(|_| buckets);
        let factor = if above.is_some() { 2.0 } else { 1.0 };
        match scaled(above.unwrap_or(text).trim(), unit * factor) {
            Some(value) => Ok((value, above.is_some())),
            None if buckets => self.wrong(place, column, "a number, or a bucket such as `>64`"),
            None => self.wrong(place, column, "a number: V1 has no buckets"),
        }
    }
}

/// A decimal number without sign or exponent, times `unit`, to the nearest whole; at most 2^53.
fn scaled(text: &str, unit: f64) -> Option<u64> {
    let shaped = text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && text.bytes().any(|b| b.is_ascii_digit());
    let value = (text.parse::<f64>().ok().filter(|_| shaped)? * unit).round();
    #[expect(clippy::cast_sign_loss, reason = "no sign was let in")]
    (value <= 9_007_199_254_740_992.0).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Alibaba clusterdata, cluster-trace-gpu-v2025: the header, row 1 and two from the middle.
    const DLRM: &str = "instance_sn,role,app_name,cpu_request,cpu_limit,gpu_request,gpu_limit,\
        rdma_request,rdma_limit,memory_request,memory_limit,disk_request,disk_limit,\
        max_instance_per_node,creation_time,scheduled_time,deletion_time\n\
        instance_0,HN,app_0,12,12,1,1,25,25,120.0,120.0,640.0,800.0,8,,,\n\
        instance_8998,CN,app_0,48,48,0,0,25,25,240.0,240.0,680.0,800.0,-1,428409.0,428450.0,\n\
        instance_9001,CN,app_62,48,48,0,0,1,1,240.0,240.0,480.0,600.0,4,432116.0,432116.0,\
        1784698.0\n";

    /// Made up by the documented columns; no published row was at hand.
    const AZURE: &str = "a+/=,s,d,0,2591700,90.5,1.2,50.0,Delay-insensitive,4,32\r\n\
        b,s,d,300,900.0,90.5,1.2,50.0,Interactive,>24,>64\r\n\
        c,s,d,300,600,1,1,1,Unknown,2,1.75\r\n";

    fn parse(text: &str) -> Result<Option<VmList>, String> {
        VmList::parse("f", text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn dlrm_rows() {
        let list = parse(DLRM).unwrap().unwrap();
        assert_eq!(list.counts, Counts { rows: 3, ..Counts::default() });
        let times: Vec<_> = list.vms.iter().map(|v| (v.start_ms, v.end_ms)).collect();
        let last = (Some(432_116_000), Some(1_784_698_000));
        assert_eq!(times, [(None, None), (Some(428_450_000), None), last]);
        let vm = &list.vms[1];
        assert_eq!((vm.line, &*vm.name), (3, "instance_8998"));
        assert_eq!((vm.cpu_milli, vm.memory_mib), (48_000, 240 << 10));
        assert_eq!(parse(&DLRM.replace('\n', "\r\n")).unwrap().unwrap(), list);
        assert_eq!(parse(DLRM.trim_end()).unwrap().unwrap(), list);
    }

    #[test]
    fn azure_rows_and_buckets() {
        let list = parse(AZURE).unwrap().unwrap();
        let of = |i: usize| (list.vms[i].cpu_milli, list.vms[i].memory_mib);
        assert_eq!((of(0), of(1), of(2)), ((4000, 32768), (48_000, 131_072), (2000, 1792)));
        let times: Vec<_> = list.vms.iter().map(|v| (v.start_ms, v.end_ms)).collect();
        assert_eq!(times[0], (None, None));
        assert_eq!(times[1], (Some(300_000), Some(900_000)));
        assert!(list.notes[0].starts_with("f: 1 machines in a bucket"), "{:?}", list.notes);
        let mut headed = parse(&[&AZURE_COLUMNS.join(","), "\n", AZURE].concat()).unwrap().unwrap();
        headed.vms.iter_mut().for_each(|vm| vm.line -= 1);
        assert_eq!(headed, list);
    }

    #[test]
    fn rows_that_cannot_be_run_are_counted() {
        let list = parse("a,s,d,900,300,1,1,1,Unknown,2,4\nb,s,d,0,300,1,1,1,Unknown,2,0\n");
        let list = list.unwrap().unwrap();
        assert_eq!((list.vms.len(), list.counts.rows, list.counts.invalid), (0, 2, 2));
    }

    #[test]
    fn damage_is_an_error_with_its_place() {
        for (text, from, to, says) in [
            (AZURE, "900.0", "soon", "f:2:vmdeleted: `soon`, expected seconds, 0 or more"),
            (AZURE, "900.0", "-1", "f:2:vmdeleted: `-1`"),
            (AZURE, "900.0", "", "f:2:vmdeleted: ``"),
            (AZURE, "900.0", "1e3", "f:2:vmdeleted: `1e3`"),
            (AZURE, "900.0", "inf", "f:2:vmdeleted: `inf`"),
            (AZURE, ">64", ">", "f:2:vmmemorybucket: `>`, expected a number, or a bucket"),
            (
                AZURE,
                ",>64",
                "",
                "f:2: row has 10 fields, expected 11 as in the header (is it cut?)",
            ),
            (AZURE, ",2,1.75", ",2,1.75,x", "f:3: row has 12 fields, expected 11"),
            (DLRM, "240.0,240.0,680.0", "lots,240.0,680.0", "f:3:memory_request: `lots`, expected"),
            (DLRM, "memory_request", "memory", "f:1: header has no column `memory_request`"),
            (DLRM, "role", "cpu_request", "f:1: header names column `cpu_request` twice"),
        ] {
            let damaged = text.replacen(from, to, 1);
            assert_ne!(damaged, text, "{from}");
            let error = parse(&damaged).unwrap_err();
            assert!(error.starts_with(says), "{error}");
        }
        let long = [AZURE, &"x".repeat(1 << 17)].concat();
        assert!(parse(&long).unwrap_err().starts_with("f:4: not readable as CSV: line longer"));
        let bytes = [AZURE.as_bytes(), b"\xff\xff\n"].concat();
        let error = VmList::parse("f", &bytes[..]).unwrap_err().to_string();
        assert!(error.starts_with("f:4: not readable as CSV: not UTF-8"), "{error}");
    }

    #[test]
    fn a_kind_that_is_named_is_held_to() {
        let named = |text: &str, format| {
            VmList::parse_as("f", text.as_bytes(), format, &|_| true).map_err(|e| e.to_string())
        };
        assert_eq!(named(DLRM, VmFormat::Dlrm), Ok(parse(DLRM).unwrap().unwrap()));
        assert_eq!(named(AZURE, VmFormat::AzureV2), Ok(parse(AZURE).unwrap().unwrap()));
        let error = named(AZURE, VmFormat::AzureV1).unwrap_err();
        assert!(
            error.starts_with("f:2:vmcorecountbucket: `>24`, expected a number: V1"),
            "{error}"
        );
        let error = named(AZURE, VmFormat::Dlrm).unwrap_err();
        assert!(error.starts_with("f:1: header has no column `instance_sn`"), "{error}");
        let error = named("a,b\n", VmFormat::AzureV2).unwrap_err();
        assert!(error.starts_with("f:1: row has 2 fields, expected 11"), "{error}");
        // A category that nobody knows yet.
        let spot = AZURE.replace("Delay-insensitive", "Spot");
        assert_eq!(parse(&spot), Ok(None));
        assert_eq!(named(&spot, VmFormat::AzureV2).unwrap().vms.len(), 3);
        assert_eq!(named("", VmFormat::Dlrm), Err("f: empty, expected text".to_owned()));
    }

    #[test]
    fn a_sample_is_counted_and_still_read_whole() {
        let sample = |text: &str| {
            VmList::parse_as("f", text.as_bytes(), VmFormat::AzureV2, &|line| line == 2)
                .map_err(|e| e.to_string())
        };
        let list = sample(AZURE).unwrap();
        assert_eq!(list.vms.iter().map(|vm| &*vm.name).collect::<Vec<_>>(), ["b"]);
        assert_eq!(list.counts, Counts { rows: 3, left_out: 2, ..Counts::default() });
        assert!(sample(&AZURE.replace("1.75", "lots")).unwrap_err().starts_with("f:3:vmmemory"));
    }

    #[test]
    fn other_kinds_are_left_to_others() {
        for text in ["", "\n", "a,b\n", "name,cpu_milli,memory_mib,pod_phase\n", "SQLite\u{0}"] {
            assert_eq!(parse(text), Ok(None), "{text:?}");
        }
        assert_eq!(VmList::parse("f", &b"\x1f\x8b\xff"[..]).unwrap(), None);
    }
}
