//! One module for each command.

pub(crate) mod compare;
pub(crate) mod decode;
pub(crate) mod engine;
pub(crate) mod replay;
pub(crate) mod run;
