//! The report for people: a terminal of 80 columns, with or without colour, with or without
//! characters beyond ASCII.

mod chart;
mod map;
mod page;
mod tables;
mod text;
mod timeline;

use snp_lab::report::RunReport;

use self::page::Page;

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

#[cfg(test)]
mod tests;
