//! A whole emulated SNP host over time: CPUs, guests, placement, costs, measurements.
#![forbid(unsafe_code)]

pub mod report;
pub mod scenario;
