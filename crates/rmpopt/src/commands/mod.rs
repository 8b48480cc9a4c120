//! One module for each command.

pub(crate) mod calibrate;
pub(crate) mod compare;
pub(crate) mod decode;
pub(crate) mod engine;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod host;
mod interrupt;
pub(crate) mod labels;
mod list;
pub(crate) mod live;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod snapshot;
pub(crate) mod top;
