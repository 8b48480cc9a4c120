//! The report for people: a terminal of 80 columns, with or without colour, with or without
//! characters beyond ASCII.

mod calibration;
mod chart;
mod compare;
mod decode;
mod decode_json;
mod doctor;
mod live;
mod map;
mod page;
mod regions;
mod status;
mod tables;
mod text;
mod timeline;

use snp_host::decode::Decoded;
use snp_host::state::{Check, HostState, RegionState};
use snp_hostfs::{Guest, Status};
use snp_lab::calibrate::Calibration;
use snp_lab::report::RunReport;

pub(crate) use self::decode_json::decode_json;
use self::page::Page;
use crate::compare::Comparison;

/// How to render.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// Whether the terminal shows characters beyond ASCII.
    pub(crate) unicode: bool,
}

impl View {
    /// The whole report.
    pub(crate) fn report(self, report: &RunReport) -> String {
        let mut page = Page::new(self.unicode);
        text::headline(&mut page, report);
        text::host(&mut page, report);
        timeline::timeline(&mut page, report);
        map::map(&mut page, report);
        chart::share(&mut page, report);
        tables::driver(&mut page, report);
        tables::guests(&mut page, report);
        tables::taken(&mut page, report);
        chart::cpus(&mut page, report);
        tables::laws(&mut page, report);
        text::assumed(&mut page, report);
        page.finish()
    }
}

impl View {
    /// How costs and posted figures agree.
    pub(crate) fn calibration(self, found: &Calibration) -> String {
        let mut page = Page::new(self.unicode);
        calibration::calibration(&mut page, found);
        page.finish()
    }
}

/// An input with what it says, or the codes that were asked for alone.
#[derive(Debug)]
pub(crate) struct DecodedInput {
    /// The file's name; `None` for codes of the command line.
    pub(crate) file: Option<String>,
    /// Size in bytes.
    pub(crate) bytes: usize,
    /// What it says.
    pub(crate) decoded: Decoded,
}

impl View {
    /// Policies compared.
    pub(crate) fn comparison(self, comparison: &Comparison) -> String {
        let mut page = Page::new(self.unicode);
        compare::comparison(&mut page, comparison);
        page.finish()
    }

    /// What a host says.
    pub(crate) fn status(self, state: &HostState, width: usize) -> String {
        let mut page = Page::with_width(self.unicode, width);
        status::status(&mut page, state);
        page.finish()
    }

    /// How an emulated host is.
    pub(crate) fn live_status(self, status: &Status) -> String {
        let mut page = Page::new(self.unicode);
        live::status(&mut page, status);
        page.finish()
    }

    /// Its guests.
    pub(crate) fn live_guests(self, guests: &[Guest]) -> String {
        let mut page = Page::new(self.unicode);
        live::guests(&mut page, guests);
        page.finish()
    }

    /// What is wrong with a host.
    pub(crate) fn doctor(self, checks: &[Check], width: usize) -> String {
        let mut page = Page::with_width(self.unicode, width);
        doctor::doctor(&mut page, checks);
        page.finish()
    }

    /// Regions of a host, as a map or as a list.
    pub(crate) fn regions(self, state: &HostState, regions: &[&RegionState], list: bool) -> String {
        let mut page = Page::new(self.unicode);
        regions::regions(&mut page, state, regions, list);
        page.finish()
    }

    /// What was decoded, for a terminal of `width` columns.
    pub(crate) fn decoded(self, inputs: &[DecodedInput], width: usize) -> String {
        let mut page = Page::with_width(self.unicode, width);
        decode::inputs(&mut page, inputs);
        page.finish()
    }
}

#[cfg(test)]
mod tests;
