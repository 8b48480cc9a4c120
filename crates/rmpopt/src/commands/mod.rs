//! One module for each command.

mod engine;
pub(crate) mod run;
