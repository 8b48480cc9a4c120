//! One module for each command.

pub(crate) mod calibrate;
pub(crate) mod compare;
pub(crate) mod decode;
pub(crate) mod engine;
pub(crate) mod host;
mod interrupt;
mod list;
pub(crate) mod live;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod snapshot;
