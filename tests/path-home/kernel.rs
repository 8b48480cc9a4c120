//! What the driver's crate root looks like to floors 1-2; compiled by `cargo xtask ci path-home`.
//!
//! The kernel's build knows no cargo: each crate's folder is a module of one crate. That the
//! folders' `crate::<name>::` paths hold in this home too is what compiling this file shows.
#![no_std]

#[path = "../../crates/rmpopt-core/src/rmpopt_core/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod rmpopt_core;
#[path = "../../crates/snp-defs/src/snp_defs/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod snp_defs;
#[path = "../../crates/snp-model/src/snp_model/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod snp_model;

/// Something of a folder, so that code is made of it.
pub fn counters() -> impl Iterator<Item = &'static str> {
    crate::snp_defs::Counter::ALL.into_iter().map(crate::snp_defs::Counter::name)
}
