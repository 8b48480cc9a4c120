#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![forbid(unsafe_code)]
#![doc = include_str!("../README.md")]

use ::snp_defs;
#[doc(hidden)]
pub mod snp_model;
#[doc(inline)]
pub use self::snp_model::*;

#[cfg(feature = "std")]
pub mod oracle;
#[cfg(feature = "std")]
mod std_storage;
#[cfg(feature = "std")]
pub mod trial;
#[cfg(feature = "std")]
pub use self::std_storage::{
    HeapFirmwareStorage, HeapStorage, HeapUnitStorage, StdFirmware, StdMachine,
};
