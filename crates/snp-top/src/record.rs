//! A sample as JSON: the twin of a frame.

use serde::{Serialize, Serializer};
use snp_host::state::{CpuState, Driver, Guests, Memory, RegionKind, RegionState, Source};

use crate::{Change, Rates, Sample};

/// Version of the shape.
pub const SCHEMA_VERSION: u32 = 1;

/// One line of `rmpopt top --json` (docs/top.md).
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    schema_version: u32,
    sample: u64,
    unix_ms: u64,
    /// Since the sample before; null for the first.
    interval_ms: Option<u64>,
    sources: &'a [Source],
    snp_enabled: Option<bool>,
    cpus: &'a CpuState,
    rmpopt_cores: Option<u32>,
    memory: &'a Memory,
    guests: &'a Guests,
    driver: &'a Driver,
    rates: Option<&'a Rates>,
    changes: &'a [Change],
    anomalies: &'a [String],
    #[serde(serialize_with = "runs")]
    regions: &'a [RegionState],
}

impl<'a> Record<'a> {
    /// The record of a sample, with what changed since the one before.
    pub fn new(
        sample: &'a Sample,
        interval_ms: Option<u64>,
        rates: Option<&'a Rates>,
        changes: &'a [Change],
    ) -> Self {
        let state = &sample.state;
        Self {
            schema_version: SCHEMA_VERSION,
            sample: sample.number,
            unix_ms: sample.unix_ms,
            interval_ms,
            sources: &state.sources,
            snp_enabled: state.snp.enabled,
            cpus: &state.cpus,
            rmpopt_cores: state.rmpopt.as_ref().map(|rmpopt| rmpopt.cores_enabled),
            memory: &state.memory,
            guests: &state.guests,
            driver: &state.driver,
            rates,
            changes,
            anomalies: &state.anomalies,
            regions: &state.regions,
        }
    }
}

/// Regions that follow each other and stand alike.
#[derive(Serialize)]
struct Run {
    first_gib: u32,
    last_gib: u32,
    state: RegionKind,
    cores: Option<u32>,
}

fn runs<S: Serializer>(regions: &&[RegionState], to: S) -> Result<S::Ok, S::Error> {
    let alike = |a: &RegionState, b: &RegionState| {
        a.state == b.state && a.cores == b.cores && a.gib.checked_add(1) == Some(b.gib)
    };
    to.collect_seq(regions.chunk_by(alike).filter_map(|run| {
        let (first, last) = (run.first()?, run.last()?);
        let (first_gib, last_gib) = (first.gib, last.gib);
        Some(Run { first_gib, last_gib, state: first.state, cores: first.cores })
    }))
}
