//! Azure's packing trace of 2020 (`packing_trace_zone_a_v1.sqlite`): an SQLite database of two
//! tables, `vm` and `vmType` (spec/performance.md 3.1; AzureTracesForPacking2020.md).
//!
//! Times are fractional days. A machine with a negative `starttime` was there before the trace
//! began, one without `endtime` was there after it ended. `core` and `memory` of a type are
//! fractions of a machine, whose size the caller says. A type is listed once for each kind of
//! machine that it runs on; taken is the lowest `machineId`, and a note says of how many types there
//! was more than one. Priority and tenant are not read.
//!
//! A value of a wrong kind, or a type that is not listed, is an error and ends the reading. A row that
//! ends before it starts, or before the trace begins, or has no memory, is counted as invalid.
//!
//! The file is opened so that nothing is written, locked or created beside it. Rows are read one by
//! one; only those of the sample are kept.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::openb::MAX_ROWS;
use super::vms::{Vm, VmList};
use super::{Keep, TraceError};
use crate::input::InputError;
use crate::place::quoted;

/// Columns of `vm` that are read.
pub const VM_COLUMNS: [&str; 4] = ["vmId", "vmTypeId", "starttime", "endtime"];

/// Columns of `vmType` that are read.
pub const TYPE_COLUMNS: [&str; 4] = ["vmTypeId", "machineId", "core", "memory"];

/// The most rows of `vmType` that are read; the published table has some thousand.
const MAX_TYPES: usize = 1_000_000;

/// How every SQLite database begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

const MS_PER_DAY: f64 = 86_400_000.0;

/// The latest time that is read, in days; a later one is no time.
const MAX_DAYS: f64 = 1e6;

/// What the fractions are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Its CPUs, in thousandths.
    pub cpu_milli: u64,
    /// Its memory in MiB.
    pub memory_mib: u64,
}

/// Whether a file begins as an SQLite database does. A file that cannot be read does not.
pub fn is_sqlite(path: &Path) -> bool {
    let mut start = [0; MAGIC.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *MAGIC
}

/// Reads the trace; fractions are of `machine`.
pub fn read(path: &Path, machine: Machine, keep: Keep<'_>) -> Result<VmList, TraceError> {
    let file = path.display().to_string();
    if path.is_dir() {
        return Err(InputError::Directory { file }.into());
    }
    // SQLite says no more than that it could not.
    if let Err(source) = File::open(path) {
        return Err(InputError::Io { file, source }.into());
    }
    let table = |name, columns| Table { file: &file, name, columns };
    let (types, vms) = (table("vmType", TYPE_COLUMNS), table("vm", VM_COLUMNS));
    let open = || -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(uri(path), flags)?;
        database.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")?;
        Ok(database)
    };
    let database = open().map_err(|error| types.damaged(&error))?;
    types.check(&database)?;
    vms.check(&database)?;
    let mut list = VmList::default();
    let types = read_types(&database, &types, &mut list.notes)?;
    read_vms(&database, &vms, &types, machine, keep, &mut list)?;
    if list.counts.rows == 0 {
        list.notes.push(format!("{file}: no rows in table vm"));
    }
    Ok(list)
}

/// The path as SQLite's URI of a file that nobody changes, which it neither locks nor completes
/// from a journal.
fn uri(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut uri = "file://".to_owned();
    for &byte in absolute.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            uri.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri.push_str("?mode=ro&immutable=1");
    uri
}

/// A type's share of its machine.
#[derive(Debug, Clone, Copy)]
struct Share {
    core: f64,
    memory: f64,
}

fn read_types(
    database: &Connection,
    table: &Table<'_>,
    notes: &mut Vec<String>,
) -> Result<HashMap<Id, Share>, TraceError> {
    let mut types: HashMap<Id, (Id, Share)> = HashMap::new();
    let mut several = std::collections::HashSet::new();
    table.each(database, |row| {
        if row.number > MAX_TYPES as u64 {
            let (file, limit) = (row.table.file.to_owned(), MAX_TYPES);
            return Err(TraceError::TooManyRows { file, line: row.number, limit });
        }
        let (id, machine) = (row.id(0)?, row.id(1)?);
        let share = Share { core: row.share(2)?, memory: row.share(3)? };
        match types.entry(id) {
            Entry::Vacant(free) => {
                free.insert((machine, share));
            }
            Entry::Occupied(mut taken) => {
                several.insert(taken.key().clone());
                if machine < taken.get().0 {
                    taken.insert((machine, share));
                }
            }
        }
        Ok(())
    })?;
    if !several.is_empty() {
        notes.push(format!(
            "{}: {} of {} types run on several kinds of machine, the one with the lowest machineId \
             is taken",
            table.file,
            several.len(),
            types.len()
        ));
    }
    Ok(types.into_iter().map(|(id, (_, share))| (id, share)).collect())
}

fn read_vms(
    database: &Connection,
    table: &Table<'_>,
    types: &HashMap<Id, Share>,
    machine: Machine,
    keep: Keep<'_>,
    list: &mut VmList,
) -> Result<(), TraceError> {
    table.each(database, |row| {
        let name = row.id(0)?;
        let Some(share) = types.get(&row.id(1)?) else {
            return row.wrong(1, "a type of table vmType");
        };
        let start = row.days(2)?;
        let end = if matches!(row.cell(3)?, ValueRef::Null) { None } else { Some(row.days(3)?) };
        list.counts.rows += 1;
        let cpu_milli = whole(machine.cpu_milli as f64 * share.core);
        let memory_mib = whole(machine.memory_mib as f64 * share.memory);
        if end.is_some_and(|end| end < start.max(0.0)) || memory_mib == 0 {
            list.counts.invalid += 1;
        } else if !keep(row.number) {
            list.counts.left_out += 1;
        } else if list.vms.len() >= MAX_ROWS {
            let (file, limit) = (row.table.file.to_owned(), MAX_ROWS);
            return Err(TraceError::TooManyRows { file, line: row.number, limit });
        } else {
            list.vms.push(Vm {
                line: row.number,
                name: name.to_string().into(),
                cpu_milli,
                memory_mib,
                start_ms: (start >= 0.0).then(|| whole(start * MS_PER_DAY)),
                end_ms: end.map(|end| whole(end * MS_PER_DAY)),
            });
        }
        Ok(())
    })
}

/// To the nearest whole number.
fn whole(value: f64) -> u64 {
    #[expect(clippy::cast_sign_loss, reason = "shares and times that come here are 0 or more")]
    let number = value.round() as u64;
    number
}

/// An identifier, which the trace's own tables have as numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Id {
    Number(i64),
    Text(String),
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// A table and the columns that are read of it, in the order of [`Row::cell`].
#[derive(Debug, Clone, Copy)]
struct Table<'a> {
    file: &'a str,
    name: &'static str,
    columns: [&'static str; 4],
}

impl Table<'_> {
    fn damaged(&self, error: &rusqlite::Error) -> TraceError {
        TraceError::Sqlite { file: self.file.to_owned(), reason: quoted(&error.to_string()) }
    }

    /// Refuses a database without this table or one of its columns.
    fn check(&self, database: &Connection) -> Result<(), TraceError> {
        let count = |sql: &str, names: &[&str]| -> Result<i64, TraceError> {
            database
                .query_row(sql, rusqlite::params_from_iter(names), |row| row.get(0))
                .map_err(|error| self.damaged(&error))
        };
        let tables = "SELECT count(*) FROM sqlite_schema
                      WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
        if count(tables, &[self.name])? == 0 {
            return Err(TraceError::MissingTable { file: self.file.to_owned(), table: self.name });
        }
        for column in self.columns {
            let columns = "SELECT count(*) FROM pragma_table_info(?1)
                           WHERE name = ?2 COLLATE NOCASE";
            if count(columns, &[self.name, column])? == 0 {
                return Err(TraceError::MissingTableColumn {
                    file: self.file.to_owned(),
                    table: self.name,
                    column,
                    expected: self.columns.join(", "),
                });
            }
        }
        Ok(())
    }

    /// Reads row by row, in the table's order.
    fn each(
        &self,
        database: &Connection,
        mut each: impl FnMut(&Row<'_>) -> Result<(), TraceError>,
    ) -> Result<(), TraceError> {
        let damaged = |error: rusqlite::Error| self.damaged(&error);
        let sql = format!("SELECT {} FROM {}", self.columns.join(", "), self.name);
        let mut statement = database.prepare(&sql).map_err(damaged)?;
        let mut rows = statement.query([]).map_err(damaged)?;
        let mut number = 0;
        while let Some(values) = rows.next().map_err(damaged)? {
            number += 1;
            each(&Row { table: *self, number, values })?;
        }
        Ok(())
    }
}

/// One row.
struct Row<'a> {
    table: Table<'a>,
    number: u64,
    values: &'a rusqlite::Row<'a>,
}

impl Row<'_> {
    fn cell(&self, place: usize) -> Result<ValueRef<'_>, TraceError> {
        self.values.get_ref(place).map_err(|error| self.table.damaged(&error))
    }

    fn wrong<T>(&self, place: usize, expected: &'static str) -> Result<T, TraceError> {
        let found = match self.cell(place)? {
            ValueRef::Null => "NULL".to_owned(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => number.to_string(),
            ValueRef::Text(text) => format!("`{}`", quoted(&String::from_utf8_lossy(text))),
            ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()),
        };
        Err(TraceError::Cell {
            file: self.table.file.to_owned(),
            table: self.table.name,
            row: self.number,
            column: self.table.columns.get(place).copied().unwrap_or_default(),
            found,
            expected,
        })
    }

    fn id(&self, place: usize) -> Result<Id, TraceError> {
        match self.cell(place)? {
            ValueRef::Integer(number) => Ok(Id::Number(number)),
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => Ok(Id::Text(text.to_owned())),
                Err(_) => self.wrong(place, "an identifier in UTF-8"),
            },
            _ => self.wrong(place, "an identifier: a whole number or a text"),
        }
    }

    fn number(&self, place: usize) -> Result<Option<f64>, TraceError> {
        Ok(match self.cell(place)? {
            ValueRef::Integer(number) => Some(number as f64),
            ValueRef::Real(number) => Some(number),
            _ => None,
        })
    }

    fn share(&self, place: usize) -> Result<f64, TraceError> {
        match self.number(place)? {
            Some(share) if (0.0..=1.0).contains(&share) => Ok(share),
            _ => self.wrong(place, "a fraction of a machine, 0 to 1"),
        }
    }

    fn days(&self, place: usize) -> Result<f64, TraceError> {
        match self.number(place)? {
            Some(days) if days.abs() <= MAX_DAYS => Ok(days),
            _ if self.table.columns.get(place) == Some(&"endtime") => {
                self.wrong(place, "fractional days, or NULL")
            }
            _ => self.wrong(place, "fractional days"),
        }
    }
}
