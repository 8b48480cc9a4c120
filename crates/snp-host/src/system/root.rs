//! Where a host's interfaces are read: this machine, a tree of files, or a snapshot.

use std::cell::RefCell;
use std::path::Path;

use super::error::{Got, ReadError, Why};
use super::record::{Item, Record};
use super::sev::{SEV, STATUS_BYTES};
use super::tree::Tree;

/// The largest text of one interface, in bytes (16 MiB): the table of 12 TiB on 1,024 CPUs, each
/// row a list of single CPUs, has half of that.
pub const MAX_INTERFACE_BYTES: u64 = 16 << 20;

#[derive(Debug)]
enum Kind {
    Live(Tree),
    Tree(Tree),
    Snapshot(Record),
}

/// Where to read, and if wanted a record of all that was read.
#[derive(Debug)]
pub struct Root {
    kind: Kind,
    record: Option<RefCell<Record>>,
}

impl Root {
    /// This machine.
    pub fn live() -> std::io::Result<Self> {
        Ok(Self { kind: Kind::Live(Tree::open(Path::new("/"))?), record: None })
    }

    /// A folder that holds `proc`, `sys` and `dev` of a host: a copy, or another mount of them.
    pub fn tree(dir: &Path) -> std::io::Result<Self> {
        Ok(Self { kind: Kind::Tree(Tree::open(dir)?), record: None })
    }

    /// A snapshot.
    pub fn snapshot(record: Record) -> Self {
        Self { kind: Kind::Snapshot(record), record: None }
    }

    /// Keeps all that is read from here on.
    pub fn recording(mut self) -> Self {
        self.record = Some(RefCell::new(Record::default()));
        self
    }

    /// What was kept.
    pub fn into_record(self) -> Option<Record> {
        self.record.map(RefCell::into_inner)
    }

    /// Whether it is this machine.
    pub fn is_live(&self) -> bool {
        matches!(self.kind, Kind::Live(_))
    }

    /// The snapshot it reads, if it does.
    pub fn as_snapshot(&self) -> Option<&Record> {
        if let Kind::Snapshot(record) = &self.kind { Some(record) } else { None }
    }

    fn keep(&self, path: &str, item: impl FnOnce() -> Item) {
        if let Some(record) = &self.record {
            record.borrow_mut().items.insert(path.to_owned(), item());
        }
    }

    /// A text of at most [`MAX_INTERFACE_BYTES`]; bytes that are not UTF-8 are replaced.
    pub fn text(&self, path: &str) -> Got<String> {
        let got = self.text_unkept(path);
        self.keep_text(path, &got);
        got
    }

    /// The same, not kept in the record.
    pub(super) fn text_unkept(&self, path: &str) -> Got<String> {
        self.text_within(path, MAX_INTERFACE_BYTES)
    }

    /// The same, of at most `limit` bytes.
    pub(super) fn text_within(&self, path: &str, limit: u64) -> Got<String> {
        let bytes = match &self.kind {
            Kind::Live(tree) | Kind::Tree(tree) => tree.read(path, limit),
            Kind::Snapshot(record) => record.text(path, limit),
        };
        bytes
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|why| ReadError::new(path, why))
    }

    /// The text of a file of one line.
    pub(super) fn line(&self, path: &str) -> Got<String> {
        let bytes = match &self.kind {
            Kind::Live(tree) | Kind::Tree(tree) => tree.line(path, MAX_INTERFACE_BYTES),
            Kind::Snapshot(record) => record.text(path, MAX_INTERFACE_BYTES),
        };
        let got = bytes
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|why| ReadError::new(path, why));
        self.keep_text(path, &got);
        got
    }

    /// The first `N` bytes of a text, not kept in the record.
    pub(super) fn head<const N: usize>(&self, path: &str) -> Got<String> {
        let bytes = match &self.kind {
            Kind::Live(tree) | Kind::Tree(tree) => tree.head::<N>(path),
            Kind::Snapshot(record) => record.text(path, MAX_INTERFACE_BYTES),
        };
        bytes
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|why| ReadError::new(path, why))
    }

    /// Keeps why there was no answer.
    pub(super) fn keep_failure(&self, path: &str, why: &Why) {
        self.keep(path, || Item::Failed(why.clone()));
    }

    /// Keeps an answer; what is absent stays so without being kept.
    pub(super) fn keep_text(&self, path: &str, got: &Got<String>) {
        match got {
            Err(error) if error.why == Why::Absent => {}
            got => self.keep(path, || match got {
                Ok(text) => Item::Text(text.clone()),
                Err(error) => Item::Failed(error.why.clone()),
            }),
        }
    }

    /// The names in a folder, sorted.
    pub fn names(&self, path: &str) -> Got<Vec<String>> {
        let got = self.names_unkept(path);
        match &got {
            Err(error) if error.why == Why::Absent => {}
            Ok(names) => self.keep_names(path, names),
            Err(error) => self.keep_failure(path, &error.why),
        }
        got
    }

    pub(super) fn names_unkept(&self, path: &str) -> Got<Vec<String>> {
        match &self.kind {
            Kind::Live(tree) | Kind::Tree(tree) => tree.list(path),
            Kind::Snapshot(record) => record.names(path),
        }
        .map_err(|why| ReadError::new(path, why))
    }

    pub(super) fn keep_names(&self, path: &str, names: &[String]) {
        self.keep(path, || Item::Names(names.to_vec()));
    }

    /// `N` bytes of a device at an offset.
    pub fn at<const N: usize>(&self, path: &str, offset: u64) -> Got<[u8; N]> {
        let got = match &self.kind {
            Kind::Live(tree) | Kind::Tree(tree) => tree.read_at::<N>(path, offset),
            Kind::Snapshot(record) => record.at::<N>(path, offset),
        };
        self.keep_at(path, offset, &got);
        got.map_err(|why| ReadError::new(path, why))
    }

    /// The firmware's answer. In a snapshot it is there if somebody asked, also if there was no device.
    pub(super) fn platform_status(&self) -> Result<[u8; STATUS_BYTES], Why> {
        let answer = match &self.kind {
            Kind::Live(tree) | Kind::Tree(tree) => tree.platform_status(SEV),
            Kind::Snapshot(record) if !record.items.contains_key(SEV) => Err(Why::NotAsked),
            Kind::Snapshot(record) => record.at::<STATUS_BYTES>(SEV, 0),
        };
        match &answer {
            Ok(_) => self.keep_at(SEV, 0, &answer),
            Err(why) => self.keep_failure(SEV, why),
        }
        answer
    }

    pub(super) fn keep_at<const N: usize>(&self, path: &str, at: u64, got: &Result<[u8; N], Why>) {
        if let Some(record) = &self.record
            && !matches!(got, Err(Why::Absent))
        {
            record.borrow_mut().keep_at(path, at, got.as_ref().map(|b| &b[..]));
        }
    }
}
