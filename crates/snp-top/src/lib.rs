//! What `rmpopt top` shows, without a terminal.
//!
//! | part | what it does |
//! |---|---|
//! | [`Sampler`] | reads the host: one [`Sample`] at a time, on a thread of its own if wanted |
//! | [`Model`] | what came of the samples: rates, history, changes; and what is looked at |
//! | [`Key`] | what can be done to the model |
//! | [`draw`] | a frame of any size into a buffer of ratatui |
//! | [`Record`] | a sample as JSON |
//!
//! Nothing here reads a clock, but for [`Sampler`], or writes to a terminal. Text of the host (names,
//! log lines) is made harmless before it is drawn.

#![forbid(unsafe_code)]

mod change;
mod key;
mod model;
mod rates;
mod record;
mod sample;
mod view;

pub use self::change::{Change, Mood};
pub use self::key::Key;
pub use self::model::{Filter, Focus, Model, Sort};
pub use self::rates::Rates;
pub use self::record::{Record, SCHEMA_VERSION};
pub use self::sample::{Sample, Sampler};
pub use self::view::{Look, draw};
