//! One module for each command.

mod engine;
pub(crate) mod replay;
pub(crate) mod run;
