//! What is measured, a file per subject.

pub(crate) mod host;
pub(crate) mod pass;
pub(crate) mod rmpupdate;
pub(crate) mod verify;
pub(crate) mod write_check;
