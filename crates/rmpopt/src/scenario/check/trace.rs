//! A recorded trace that a scenario names.

use snp_lab::scenario::SnpBy;
use toml::Spanned;

use super::super::raw::{Number, RawTrace};
use super::{Check, Checked};
use crate::trace_input::{TraceFormat, TraceOptions};

/// A trace that is still to be read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TraceWanted {
    /// Its file, as written.
    pub(crate) file: String,
    pub(crate) options: TraceOptions,
}

impl Check<'_> {
    pub(super) fn trace(&self, raw: &RawTrace) -> Checked<TraceWanted> {
        let file = raw.file.get_ref().0.trim();
        if file.is_empty() {
            return self.fail(raw.file.span(), "expected a file, found nothing");
        }
        let defaults = TraceOptions::default();
        let sample = self.share(raw.sample.as_ref(), defaults.sample)?;
        if let Some(written) = raw.sample.as_ref().filter(|_| sample <= 0.0) {
            return self.fail(written.span(), "expected more than 0, at most 1, found 0");
        }
        let seed =
            raw.sample_seed.as_ref().map(|seed| self.whole(seed, 0..=u32::MAX)).transpose()?;
        let options = TraceOptions {
            format: raw.format.map_or(TraceFormat::default(), |format| format.0),
            sample,
            sample_seed: seed.map_or(defaults.sample_seed, u64::from),
            snp_share: self.share(raw.snp_share.as_ref(), defaults.snp_share)?,
            snp_by: raw.snp_by.map_or(SnpBy::default(), |by| by.0),
        };
        Ok(TraceWanted { file: file.to_owned(), options })
    }

    fn share(&self, written: Option<&Spanned<Number>>, default: f64) -> Checked<f64> {
        let Some(value) = written else { return Ok(default) };
        self.within(value.span(), value.get_ref().0, &(0.0..=1.0), f64::to_string)
    }
}
