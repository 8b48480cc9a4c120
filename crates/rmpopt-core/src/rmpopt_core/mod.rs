#![forbid(unsafe_code)]
//! Decides when RMPOPT runs where. No thread, no clock, no hardware, no allocation.

mod activity;
mod batch;
mod bits;
mod capability;
mod host;
mod off;
mod policy;
mod storage;
pub mod table;
#[cfg(test)]
mod tests;
mod time;
pub mod tracked;
pub mod upstream;
pub mod window;

pub use self::activity::{Activity, Drained};
pub use self::batch::{Batch, BatchReport, Budget, Run, Step};
pub use self::bits::{words_for, WindowMask, WINDOW_WORDS};
pub use self::capability::{Capable, Facts, Refusal, RMPOPT_LEAF, SNP_LEAF};
pub use self::host::{CoreId, Host};
pub use self::off::Off;
pub use self::policy::{
    Action, Claims, Event, LivenessBound, Manner, Policy, Reach, Request, Serial, Ticket, Verdict,
    WorstCase,
};
pub use self::storage::{words_needed, Buffers, CoreCell, RegionCell, Storage};
pub use self::time::{Time, MICROSECOND, MILLISECOND, SECOND};
pub use self::tracked::{Config, Tracked};
pub use self::upstream::Upstream;
