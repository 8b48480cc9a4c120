//! The model's atomics under loom: every interleaving of a few actors within a stated bound, with the
//! memory orderings as written. `cargo xtask ci loom` builds it; docs/proof.md says what it shows.
#![cfg(loom)]
#![allow(clippy::unwrap_used, missing_docs)]

mod fences;
mod pages;
mod registers;
mod scene;
mod three_actors;
