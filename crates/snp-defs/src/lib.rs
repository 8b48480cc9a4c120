#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

#[doc(hidden)]
pub mod snp_defs;
#[doc(inline)]
pub use self::snp_defs::*;
