//! The table, and its JSON twin.

use std::fmt::Write as _;

use serde::Serialize;

use crate::measure::{FEWEST_ROUNDS, Limit, Times};

/// Changes when a field of the JSON changes its meaning.
const SCHEMA_VERSION: u32 = 1;

/// A row's subject and promise.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Subject {
    /// Its name, unique in the table.
    pub(crate) row: &'static str,
    /// What one unit of work is.
    pub(crate) unit: &'static str,
    /// What it promises.
    pub(crate) limit: Limit,
}

/// What became of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// The limit holds.
    Holds,
    /// It does not.
    Missed,
    /// Not measured.
    Skipped,
}

/// A line of the table.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Row {
    subject: Subject,
    outcome: Result<(Times, Times), String>,
}

impl Row {
    /// Our times against the other side's.
    pub(crate) fn measured(subject: Subject, ours: &Times, other: &Times) -> Self {
        Self { subject, outcome: Ok((ours.clone(), other.clone())) }
    }

    /// Why it could not be measured.
    pub(crate) fn skipped(subject: Subject, reason: String) -> Self {
        Self { subject, outcome: Err(reason) }
    }

    /// Medians of both sides and their ratio.
    fn numbers(&self) -> Option<(f64, f64, f64)> {
        let (ours, other) = self.outcome.as_ref().ok()?;
        let (ours, other) = (ours.median()?, other.median()?);
        Some((ours, other, self.subject.limit.ratio(ours, other)))
    }

    /// Too few rounds miss every limit.
    pub(crate) fn verdict(&self) -> Verdict {
        let Ok((ours, other)) = &self.outcome else { return Verdict::Skipped };
        let enough = ours.ns.len().min(other.ns.len()) >= FEWEST_ROUNDS;
        match self.numbers() {
            Some((.., ratio)) if enough && self.subject.limit.holds(ratio) => Verdict::Holds,
            _ => Verdict::Missed,
        }
    }

    fn json(&self) -> JsonRow<'_> {
        let numbers = self.numbers();
        JsonRow {
            row: self.subject.row,
            unit: self.subject.unit,
            ours: self.outcome.as_ref().ok().map(|(ours, _)| ours),
            other: self.outcome.as_ref().ok().map(|(_, other)| other),
            ours_ns: numbers.map(|(ours, ..)| ours),
            other_ns: numbers.map(|(_, other, _)| other),
            ratio: numbers.map(|(.., ratio)| ratio),
            ratio_is: match self.subject.limit {
                Limit::SpeedAtLeast(_) => "other_ns / ours_ns",
                Limit::TimeAtMost(_) => "ours_ns / other_ns",
            },
            limit: self.subject.limit.shown(),
            verdict: self.verdict(),
            skipped: self.outcome.as_ref().err().map(String::as_str),
        }
    }
}

#[derive(Serialize)]
struct JsonRow<'a> {
    row: &'a str,
    unit: &'a str,
    ours: Option<&'a Times>,
    other: Option<&'a Times>,
    ours_ns: Option<f64>,
    other_ns: Option<f64>,
    ratio: Option<f64>,
    ratio_is: &'a str,
    limit: String,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<&'a str>,
}

#[derive(Serialize)]
struct Json<'a> {
    schema_version: u32,
    quick: bool,
    rows: Vec<JsonRow<'a>>,
}

/// All rows.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Report {
    /// A short run: its ratios say little.
    pub(crate) quick: bool,
    /// In the order of the table.
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// How many limits were missed.
    pub(crate) fn missed(&self) -> usize {
        self.rows.iter().filter(|row| row.verdict() == Verdict::Missed).count()
    }

    /// As JSON, with every round's time.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(&Json {
            schema_version: SCHEMA_VERSION,
            quick: self.quick,
            rows: self.rows.iter().map(Row::json).collect(),
        })
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let line = |text: &mut String, cells: [&str; 7]| {
            let [row, unit, ours, other, ratio, limit, verdict] = cells;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{row:<28} {ours:>12} {other:>12}  {unit:<10} {ratio:>7}  {limit:<8} {verdict}"
            );
        };
        line(&mut text, ["row", "ns per", "ours", "against", "ratio", "limit", "verdict"]);
        for row in &self.rows {
            let Subject { row: name, unit, limit } = row.subject;
            let cells = row.numbers().map_or_else(
                || ["-".to_owned(), "-".to_owned(), "-".to_owned()],
                |(ours, other, ratio)| {
                    [format!("{ours:.1}"), format!("{other:.1}"), format!("{ratio:.2}")]
                },
            );
            let verdict = match (row.verdict(), &row.outcome) {
                (Verdict::Holds, _) => "holds".to_owned(),
                (Verdict::Missed, _) => "MISSED".to_owned(),
                (_, Err(reason)) => format!("skipped: {reason}"),
                (Verdict::Skipped, Ok(_)) => "skipped".to_owned(),
            };
            let [ours, other, ratio] = &cells;
            line(&mut text, [name, unit, ours, other, ratio, &limit.shown(), &verdict]);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject = Subject { row: "a row", unit: "op", limit: Limit::TimeAtMost(1.5) };

    fn times(what: &'static str, ns: f64, rounds: usize) -> Times {
        Times { what, ns: vec![ns; rounds] }
    }

    #[test]
    fn a_slow_row_is_missed() {
        let bare = times("bare", 10.0, 7);
        let row = |ns, rounds| Row::measured(SUBJECT, &times("ours", ns, rounds), &bare);
        assert_eq!(row(15.0, 7).verdict(), Verdict::Holds);
        assert_eq!(row(15.1, 7).verdict(), Verdict::Missed);
        assert_eq!(row(1.0, 6).verdict(), Verdict::Missed, "six rounds are too few");
        assert_eq!(row(1.0, 0).verdict(), Verdict::Missed, "nothing was measured");
    }

    #[test]
    fn a_skipped_row_is_not_missed_and_says_why() {
        let skipped = Row::skipped(SUBJECT, "2 GiB are free, it needs 10".to_owned());
        let report = Report { quick: true, rows: vec![skipped] };
        assert_eq!(report.missed(), 0);
        assert!(report.text().contains("skipped: 2 GiB are free"));
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["rows"][0]["verdict"], "skipped");
        assert!(json["rows"][0]["ratio"].is_null());
    }

    #[test]
    fn the_json_has_every_round() {
        let row = Row::measured(SUBJECT, &times("ours", 30.0, 7), &times("bare", 10.0, 7));
        let report = Report { quick: false, rows: vec![row] };
        assert_eq!(report.missed(), 1);
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["schema_version"], SCHEMA_VERSION);
        let row = &json["rows"][0];
        assert_eq!(row["ratio"], 3.0);
        assert_eq!(row["verdict"], "missed");
        assert_eq!(row["ours"]["ns"].as_array().unwrap().len(), 7);
        assert!(report.text().contains("MISSED"));
    }
}
