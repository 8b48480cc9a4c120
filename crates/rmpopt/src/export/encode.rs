//! Metric families as text: OpenMetrics 1.0.0, and the Prometheus text format 0.0.4.
//!
//! Both are needed: a Prometheus asks for OpenMetrics, node_exporter's textfile collector reads the
//! older format alone. They differ in counters' names, units, infos and the end.

use std::fmt::Write as _;

use crate::output::harmless;

/// Which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// The Prometheus text format 0.0.4.
    Prometheus,
}

impl Format {
    /// Its content type.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// What follows the last family.
    pub(crate) const fn end(self) -> &'static str {
        match self {
            Self::OpenMetrics => "# EOF\n",
            Self::Prometheus => "",
        }
    }
}

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// A count; its samples end in `_total`.
    Counter,
    /// Words; its samples end in `_info` and are 1.
    Info,
}

/// A sample's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    /// Printed exactly.
    Whole(u64),
    /// In units of the family.
    Real(f64),
}

/// Labels of a sample, in the order they are printed.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// Samples of one name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Family {
    /// Name without `_total` and `_info`.
    pub(crate) name: &'static str,
    /// What it is, in a sentence.
    pub(crate) help: &'static str,
    /// What kind of value.
    pub(crate) kind: Kind,
    /// Its samples.
    pub(crate) samples: Vec<(Labels, Value)>,
}

impl Family {
    /// Name of its samples.
    pub(crate) fn sample_name(&self) -> String {
        let suffix = match self.kind {
            Kind::Gauge => "",
            Kind::Counter => "_total",
            Kind::Info => "_info",
        };
        format!("{}{suffix}", self.name)
    }

    fn unit(&self) -> Option<&'static str> {
        ["bytes", "seconds"].into_iter().find(|unit| self.name.ends_with(&format!("_{unit}")))
    }

    /// Appends the family; one without samples is left out.
    pub(crate) fn write(&self, format: Format, out: &mut String) {
        if self.samples.is_empty() {
            return;
        }
        let sample = self.sample_name();
        let (family, kind) = match (format, self.kind) {
            (Format::OpenMetrics, Kind::Gauge) => (self.name, "gauge"),
            (Format::OpenMetrics, Kind::Counter) => (self.name, "counter"),
            (Format::OpenMetrics, Kind::Info) => (self.name, "info"),
            (Format::Prometheus, Kind::Counter) => (&sample[..], "counter"),
            (Format::Prometheus, Kind::Gauge | Kind::Info) => (&sample[..], "gauge"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {family} {}", escaped(self.help));
        let _ = writeln!(out, "# TYPE {family} {kind}");
        if let (Format::OpenMetrics, Some(unit)) = (format, self.unit()) {
            let _ = writeln!(out, "# UNIT {family} {unit}");
        }
        for (labels, value) in &self.samples {
            out.push_str(&sample);
            for (n, (name, value)) in labels.iter().enumerate() {
                let before = if n == 0 { '{' } else { ',' };
                let _ = write!(out, "{before}{name}=\"{}\"", escaped(&harmless(value)));
            }
            if !labels.is_empty() {
                out.push('}');
            }
            let _ = match value {
                Value::Whole(value) => writeln!(out, " {value}"),
                Value::Real(value) => writeln!(out, " {value}"),
            };
        }
    }
}

/// Families one after the other, without the end.
pub(crate) fn encode(families: &[Family], format: Format) -> String {
    let mut out = String::new();
    for family in families {
        family.write(format, &mut out);
    }
    out
}

/// Both formats escape the same three characters; in a help text a quotation mark may stay, but may
/// not be escaped in the older format, so help texts have none.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(name: &'static str, kind: Kind, label: &str, value: Value) -> Family {
        let labels = if label.is_empty() { Vec::new() } else { vec![("l", label.to_owned())] };
        Family { name, help: "Help.", kind, samples: vec![(labels, value)] }
    }

    #[test]
    fn both_formats() {
        let all = [
            family("rmp_cpu_seconds", Kind::Counter, "a\"b\\c\nd\u{1b}", Value::Real(0.25)),
            family("rmp_build", Kind::Info, "1", Value::Whole(1)),
            family("snp_guests", Kind::Gauge, "", Value::Whole(u64::MAX)),
            Family { samples: Vec::new(), ..family("none", Kind::Gauge, "", Value::Whole(0)) },
        ];
        assert_eq!(
            encode(&all, Format::OpenMetrics) + Format::OpenMetrics.end(),
            "# HELP rmp_cpu_seconds Help.\n# TYPE rmp_cpu_seconds counter\n\
             # UNIT rmp_cpu_seconds seconds\n\
             rmp_cpu_seconds_total{l=\"a\\\"b\\\\c\\\\nd\\\\u{1b}\"} 0.25\n\
             # HELP rmp_build Help.\n# TYPE rmp_build info\nrmp_build_info{l=\"1\"} 1\n\
             # HELP snp_guests Help.\n# TYPE snp_guests gauge\nsnp_guests 18446744073709551615\n\
             # EOF\n"
        );
        assert_eq!(
            encode(&all, Format::Prometheus) + Format::Prometheus.end(),
            "# HELP rmp_cpu_seconds_total Help.\n# TYPE rmp_cpu_seconds_total counter\n\
             rmp_cpu_seconds_total{l=\"a\\\"b\\\\c\\\\nd\\\\u{1b}\"} 0.25\n\
             # HELP rmp_build_info Help.\n# TYPE rmp_build_info gauge\nrmp_build_info{l=\"1\"} 1\n\
             # HELP snp_guests Help.\n# TYPE snp_guests gauge\nsnp_guests 18446744073709551615\n"
        );
    }
}
