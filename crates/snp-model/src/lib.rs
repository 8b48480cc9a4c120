#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

use ::snp_defs;
#[doc(hidden)]
pub mod snp_model;
#[doc(inline)]
pub use self::snp_model::*;
