#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

use ::snp_defs;
#[doc(hidden)]
pub mod rmpopt_core;
#[doc(inline)]
pub use self::rmpopt_core::*;
