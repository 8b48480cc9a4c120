//! A whole emulated SNP host over time: CPUs, guests, placement, costs, measurements.
#![forbid(unsafe_code)]

pub mod boot;
pub mod cost;
pub mod memory;
pub mod percentile;
pub mod placement;
pub mod report;
pub mod scenario;
pub mod topology;
