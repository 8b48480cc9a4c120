//! Errors of the trace readers.

use crate::input::InputError;

/// Why a trace could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file could not be taken as text.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A trace of a kind that is not read yet, or no trace.
    #[error(
        "{file}:1: unsupported trace{looks}: header `{header}`, expected the header of \
         the Alibaba openb pod list ({expected}), that of Alibaba's DLRM instances, rows of \
         Azure's vmtable, or Azure's packing trace (SQLite)"
    )]
    Unsupported {
        /// The file.
        file: String,
        /// Its header.
        header: String,
        /// What the header is known as, or nothing.
        looks: &'static str,
        /// The columns a supported trace has.
        expected: String,
    },
    /// The header lacks a column.
    #[error("{file}:1: header has no column `{column}`, expected {expected}")]
    MissingColumn {
        /// The file.
        file: String,
        /// The column.
        column: &'static str,
        /// All columns that must be there.
        expected: String,
    },
    /// The header names a column twice.
    #[error("{file}:1: header names column `{column}` twice, expected it once")]
    TwoColumns {
        /// The file.
        file: String,
        /// The column.
        column: &'static str,
    },
    /// A row with too few or too many fields.
    #[error("{file}:{line}: row has {found} fields, expected {expected} as in the header{hint}")]
    Row {
        /// The file.
        file: String,
        /// Line from 1, the header being 1.
        line: u64,
        /// Fields found.
        found: usize,
        /// Fields of the header.
        expected: usize,
        /// A likely cause, or nothing.
        hint: &'static str,
    },
    /// A value of the wrong type.
    #[error("{file}:{line}:{column}: `{value}`, expected {expected}")]
    Value {
        /// The file.
        file: String,
        /// Line from 1, the header being 1.
        line: u64,
        /// The column's name.
        column: &'static str,
        /// The text found.
        value: String,
        /// What a good value looks like.
        expected: &'static str,
    },
    /// Not CSV.
    #[error("{file}:{line}: not readable as CSV: {reason}")]
    Csv {
        /// The file.
        file: String,
        /// Line from 1.
        line: u64,
        /// The CSV reader's reason.
        reason: String,
    },
    /// More rows than a lab can use.
    #[error("{file}:{line}: more than {limit} rows, expected at most that many in the sample")]
    TooManyRows {
        /// The file.
        file: String,
        /// Line, or row of the table, of the first one too many.
        line: u64,
        /// The limit.
        limit: usize,
    },
    /// Not an SQLite database, or a damaged one.
    #[error("{file}: not readable as SQLite: {reason}, expected Azure's packing trace")]
    Sqlite {
        /// The file.
        file: String,
        /// SQLite's reason.
        reason: String,
    },
    /// A table that is not there, or is a view.
    #[error("{file}: no table `{table}`, expected the tables vm and vmType")]
    MissingTable {
        /// The file.
        file: String,
        /// The table.
        table: &'static str,
    },
    /// A table that lacks a column.
    #[error("{file}: table {table} has no column `{column}`, expected {expected}")]
    MissingTableColumn {
        /// The file.
        file: String,
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// All columns that must be there.
        expected: String,
    },
    /// A value of a table.
    #[error("{file}: table {table}, row {row}, column {column}: {found}, expected {expected}")]
    Cell {
        /// The file.
        file: String,
        /// The table.
        table: &'static str,
        /// Its row in the table's order, from 1.
        row: u64,
        /// The column.
        column: &'static str,
        /// What stands there.
        found: String,
        /// What a good value looks like.
        expected: &'static str,
    },
}
