//! Conformance with spec/snp-arch.md section 7.

// Helpers unwrap what the tests state; cases share the vocabulary of `support`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_imports, clippy::redundant_pub_crate)]

#[path = "cases/mod.rs"]
mod conformance;
