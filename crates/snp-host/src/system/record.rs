//! What was read, kept: the snapshot. Its text form is in docs/snapshot.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::Why;

/// The word by which a snapshot is known.
pub const SNAPSHOT_FORMAT: &str = "rmpopt-snapshot";
/// Version of its shape.
pub const SNAPSHOT_VERSION: u32 = 1;

/// One path's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Item {
    /// A text; bytes that are no UTF-8 were replaced.
    Text(String),
    /// The names in a folder.
    Names(Vec<String>),
    /// Values of a device by offset, in hexadecimal digits of the bytes in their order.
    At(BTreeMap<u64, Result<String, Why>>),
    /// No answer.
    Failed(Why),
}

/// What was read of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SNAPSHOT_FORMAT`].
    format: String,
    /// [`SNAPSHOT_VERSION`].
    version: u32,
    /// When it was taken, in seconds since 1970 (UTC); 0 if not known.
    pub taken_s: u64,
    /// Whether every CPU was asked.
    pub deep: bool,
    /// Whether names were taken out.
    pub redacted: bool,
    /// Answers by path.
    pub(super) items: BTreeMap<String, Item>,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            format: SNAPSHOT_FORMAT.to_owned(),
            version: SNAPSHOT_VERSION,
            taken_s: 0,
            deep: false,
            redacted: false,
            items: BTreeMap::new(),
        }
    }
}

impl Record {
    /// Reads a snapshot.
    ///
    /// `Err` says why it is none: no JSON, another format, or a version that is not known.
    pub fn parse(text: &str) -> Result<Self, String> {
        let record: Self = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if record.format != SNAPSHOT_FORMAT {
            return Err(format!("format is not \"{SNAPSHOT_FORMAT}\""));
        }
        if record.version != SNAPSHOT_VERSION {
            return Err(format!("version {}, expected {SNAPSHOT_VERSION}", record.version));
        }
        Ok(record)
    }

    /// The snapshot's text.
    pub fn to_text(&self) -> Result<String, String> {
        serde_json::to_string(self).map(|text| text + "\n").map_err(|e| e.to_string())
    }

    pub(super) fn text(&self, path: &str, limit: u64) -> Result<Vec<u8>, Why> {
        match self.items.get(path) {
            Some(Item::Text(text)) if text.len() as u64 > limit => Err(Why::TooLarge { limit }),
            Some(Item::Text(text)) => Ok(text.as_bytes().to_vec()),
            Some(Item::Failed(why)) => Err(why.clone()),
            Some(_) => Err(Why::malformed(0, "a text in the snapshot", "another item")),
            None => Err(Why::Absent),
        }
    }

    pub(super) fn names(&self, path: &str) -> Result<Vec<String>, Why> {
        match self.items.get(path) {
            Some(Item::Names(names)) => Ok(names.clone()),
            Some(Item::Failed(why)) => Err(why.clone()),
            Some(_) => Err(Why::malformed(0, "names in the snapshot", "another item")),
            None => Err(Why::Absent),
        }
    }

    pub(super) fn at<const N: usize>(&self, path: &str, offset: u64) -> Result<[u8; N], Why> {
        let values = match self.items.get(path) {
            Some(Item::At(values)) => values,
            Some(Item::Failed(why)) => return Err(why.clone()),
            Some(_) => return Err(Why::malformed(0, "a device in the snapshot", "another item")),
            None => return Err(Why::Absent),
        };
        let digits = values.get(&offset).ok_or(Why::Absent)?.as_ref().map_err(Clone::clone)?;
        let wrong = || Why::malformed(0, "hexadecimal digits of each byte", digits);
        if digits.len() != N * 2 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; N];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(bytes)
    }

    pub(super) fn keep_at(&mut self, path: &str, offset: u64, got: Result<&[u8], &Why>) {
        use std::fmt::Write as _;
        let value = got.map_err(Clone::clone).map(|bytes| {
            bytes.iter().fold(String::new(), |mut digits, byte| {
                let _ = write!(digits, "{byte:02x}");
                digits
            })
        });
        let item = self.items.entry(path.to_owned());
        if let Item::At(values) = item.or_insert_with(|| Item::At(BTreeMap::new())) {
            values.insert(offset, value);
        }
    }
}
