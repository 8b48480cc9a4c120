//! Where the RMP is and whether it covers the RAM.

use serde::Serialize;
use snp_defs::{ContiguousRmp, LARGE_PAGE_BYTES, RmpCfg, msr};

use super::log::Log;
use super::registers::first;
use crate::e820::Span;
use crate::kernel_log::Rmp;
use crate::system::System;

/// The RMP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RmpState {
    /// `contiguous`, `segmented`, `none` (no memory was reserved) or null if not known.
    pub kind: Option<&'static str>,
    /// What that is known from: `msr`, `log`.
    pub source: Option<&'static str>,
    /// Its memory: the table, or the base table and each segment.
    pub ranges: Vec<Range>,
    /// Bytes of all of it that are known.
    pub bytes: u64,
    /// Memory covered by a segment at most, in bytes.
    pub segment_bytes: Option<u64>,
    /// Bytes from address 0 that have an entry, for a contiguous RMP.
    pub covers_bytes: Option<u64>,
    /// The end of RAM, in bytes from address 0.
    pub ram_end: Option<u64>,
    /// RAM without an entry, in bytes; null if not known.
    pub uncovered_bytes: Option<u64>,
    /// Edges that do not lie on 2 MiB.
    pub unaligned_edges: Vec<String>,
    /// What does not fit.
    pub errors: Vec<String>,
    #[serde(skip)]
    pub(crate) spans: Vec<Span>,
}

/// A range of memory, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Range {
    /// First byte, hexadecimal.
    pub start: String,
    /// Last byte, hexadecimal.
    pub last: String,
}

pub(super) fn rmp(system: &System, log: &Log, ram: Option<&[Span]>) -> RmpState {
    let mut state = RmpState::default();
    from_msrs(system, &mut state);
    let mut covers: Vec<Span> = Vec::new();
    match &log.facts.rmp {
        Some(Rmp::Contiguous(span)) if state.kind.is_none_or(|kind| kind == "contiguous") => {
            if state.kind.is_none() {
                state.kind = Some("contiguous");
                state.source = Some("log");
                contiguous(span.start, span.end_inclusive, &mut state);
            } else if state.spans != [*span] {
                state.errors.push(format!("the log says {span}, the MSRs say otherwise"));
            }
        }
        Some(Rmp::Segmented { base_table, segment_bytes, segments })
            if state.kind.is_none_or(|kind| kind == "segmented") =>
        {
            state.source = state.source.or(Some("log"));
            state.kind = Some("segmented");
            state.segment_bytes = state.segment_bytes.or(*segment_bytes);
            state.spans =
                base_table.iter().copied().chain(segments.iter().map(|s| s.table)).collect();
            covers = segments.iter().map(|s| s.covers).collect();
        }
        Some(_) => state.errors.push("log and MSRs differ in the kind of the RMP".to_owned()),
        None if state.kind.is_none() && log.count("rmp-not-reserved") > 0 => {
            state.kind = Some("none");
            state.source = Some("log");
        }
        None => {}
    }
    if let Some(bytes) = state.covers_bytes.filter(|bytes| *bytes > 0) {
        covers = vec![Span { start: 0, end_inclusive: bytes - 1 }];
    }
    state.bytes = state.spans.iter().map(Span::bytes).sum();
    state.ranges = state.spans.iter().map(range).collect();
    for span in &state.spans {
        let end = span.end_inclusive.saturating_add(1);
        for (edge, what) in [(span.start, "start"), (end, "end")] {
            // The base table is small; its end is never on 2 MiB.
            if edge % LARGE_PAGE_BYTES != 0 && span.bytes() >= LARGE_PAGE_BYTES {
                state.unaligned_edges.push(format!("{what} {edge:#x}"));
            }
        }
    }
    state.ram_end = ram.and_then(|ram| ram.last()).map(|span| span.end_inclusive + 1);
    if let Some(ram) = ram
        && !covers.is_empty()
    {
        state.uncovered_bytes = Some(ram.iter().map(|span| uncovered(*span, &covers)).sum());
    }
    state
}

fn range(span: &Span) -> Range {
    Range { start: format!("{:#x}", span.start), last: format!("{:#x}", span.end_inclusive) }
}

/// Bytes of `span` in none of `covers`; these may be in any order and do not overlap.
fn uncovered(span: Span, covers: &[Span]) -> u64 {
    let inside: u64 = covers
        .iter()
        .filter(|cover| cover.overlaps(&span))
        .map(|c| c.end_inclusive.min(span.end_inclusive) - c.start.max(span.start) + 1)
        .sum();
    span.bytes().saturating_sub(inside)
}

fn from_msrs(system: &System, state: &mut RmpState) {
    let (Some(base), Some(end)) = (first(system, msr::RMP_BASE), first(system, msr::RMP_END))
    else {
        return;
    };
    state.source = Some("msr");
    let cfg = RmpCfg(first(system, msr::RMP_CFG).unwrap_or(0));
    if base == 0 && end == 0 {
        state.kind = Some("none");
    } else if cfg.is_segmented() {
        state.kind = Some("segmented");
        state.segment_bytes = 1u64.checked_shl(cfg.segment_shift());
        let base_table = snp_defs::BOOKKEEPING_BYTES + snp_defs::RST_BYTES;
        if let Some(end) = base.checked_add(base_table - 1) {
            state.spans = vec![Span { start: base, end_inclusive: end }];
        }
    } else {
        state.kind = Some("contiguous");
        contiguous(base, end, state);
    }
}

fn contiguous(base: u64, end: u64, state: &mut RmpState) {
    match ContiguousRmp::new(base, end) {
        Ok(rmp) => {
            state.covers_bytes = Some(rmp.covered_bytes());
            state.spans = vec![Span { start: base, end_inclusive: end }];
        }
        Err(error) => state.errors.push(error.to_string()),
    }
}
