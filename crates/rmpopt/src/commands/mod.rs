//! One module for each command.

pub(crate) mod decode;
mod engine;
pub(crate) mod replay;
pub(crate) mod run;
