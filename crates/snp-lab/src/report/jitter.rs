//! Time stolen in windows of 1 ms.

use serde::{Serialize, Serializer};

use super::{round6, six, six_or_null};

/// Time stolen in windows of 1 ms, in microseconds; windows that lost nothing count as 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JitterReport {
    /// Of all CPUs over the whole time.
    pub cpu: SliceReport,
    /// Of ordinary guests' vCPUs while they were there: what their CPU lost.
    pub vcpu: SliceReport,
}

/// Percentiles over windows of 1 ms, in microseconds; null where there was none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SliceReport {
    /// Windows.
    pub windows: u64,
    /// Those that lost something.
    pub hit: u64,
    /// Half lost no more.
    #[serde(serialize_with = "six_or_null")]
    pub p50: Option<f64>,
    /// 99 of 100 lost no more.
    #[serde(serialize_with = "six_or_null")]
    pub p99: Option<f64>,
    /// 999 of 1,000 lost no more.
    #[serde(serialize_with = "six_or_null")]
    pub p999: Option<f64>,
    /// The worst.
    #[serde(serialize_with = "six_or_null")]
    pub max: Option<f64>,
}

/// Picture of stolen time: CPUs down, time across; cells that lost nothing are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JitterMap {
    /// CPUs that share a row, by number.
    pub cpus_per_row: u32,
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub columns: u32,
    /// Seconds of a column.
    #[serde(serialize_with = "six")]
    pub step_s: f64,
    /// Row, column, and the most that one CPU there lost in one window of 1 ms, in microseconds.
    #[serde(serialize_with = "cells")]
    pub cells: Vec<(u32, u32, f64)>,
}

fn cells<S: Serializer>(cells: &[(u32, u32, f64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(cells.iter().map(|&(row, column, us)| (row, column, round6(us))))
}
