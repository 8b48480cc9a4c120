//! Durations and sizes as people write them ("10s", "100GiB") and as reports print them.

use snp_lab::scenario::Nanos;

/// Numbers read the same in the lab's sentences and in the report.
pub(crate) use snp_lab::words::{count, size, things};

/// Why a text is not a duration, size or rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found \"{found}\"{why}")]
pub(crate) struct UnitError {
    expected: &'static str,
    found: String,
    why: String,
}

/// What a duration looks like, for messages.
pub(crate) const DURATION: &str = "a duration such as \"10s\"";
/// What a size looks like, for messages.
pub(crate) const SIZE: &str = "a size such as \"100GiB\"";
/// What a rate looks like, for messages.
pub(crate) const RATE: &str = "a rate such as \"8GiB/s\"";

const TIMES: [(&str, u128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

const SIZES: [(&str, u128); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Reads a duration: a number, which may have decimals, and one of ns, us, ms, s, m, h, d.
pub(crate) fn parse_duration(text: &str) -> Result<Nanos, UnitError> {
    parse(text, text, DURATION, &TIMES)
}

/// Reads a size: a number, which may have decimals, and one of B, KiB, MiB, GiB, TiB.
pub(crate) fn parse_size(text: &str) -> Result<u64, UnitError> {
    parse(text, text, SIZE, &SIZES)
}

/// Reads a rate in bytes per second: a size and `/s`.
pub(crate) fn parse_rate(text: &str) -> Result<u64, UnitError> {
    match text.strip_suffix("/s") {
        Some(size) => parse(size, text, RATE, &SIZES),
        None => Err(UnitError {
            expected: RATE,
            found: text.to_owned(),
            why: ", which does not end in \"/s\"".to_owned(),
        }),
    }
}

fn parse(
    text: &str,
    whole: &str,
    expected: &'static str,
    units: &[(&'static str, u128)],
) -> Result<u64, UnitError> {
    let fail = |why: String| UnitError { expected, found: shorten(whole), why };
    if text.starts_with('-') {
        return Err(fail(", which is negative".to_owned()));
    }
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (integer, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if integer.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(fail(String::new()));
    }
    let Some(scale) = units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale) else {
        let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        let what = if unit.is_empty() { "has no unit" } else { "has an unknown unit" };
        return Err(fail(format!(", which {what} (units are {})", names.join(", "))));
    };
    let too_large = || fail(", which is too large".to_owned());
    let integer: u64 = integer.parse().map_err(|_| too_large())?;
    if fraction.len() > 9 {
        return Err(fail(", which has more than nine decimals".to_owned()));
    }
    let decimals = 10_u128.pow(fraction.len() as u32);
    let fraction = u128::from(fraction.parse::<u32>().map_err(|_| fail(String::new()))?);
    let part = fraction * scale;
    if !part.is_multiple_of(decimals) {
        return Err(fail(format!(", which is not a whole number of {}", smallest(units))));
    }
    let total = u128::from(integer) * scale + part / decimals;
    u64::try_from(total).map_err(|_| too_large())
}

fn smallest(units: &[(&'static str, u128)]) -> &'static str {
    if units.first().is_some_and(|(name, _)| *name == "B") { "bytes" } else { "nanoseconds" }
}

fn shorten(text: &str) -> String {
    const MOST: usize = 40;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    let start: String = text.chars().take(MOST).collect();
    format!("{start}...")
}

/// A size in the largest unit that keeps it exact: `100GiB`.
pub(crate) fn exact_size(bytes: u64) -> String {
    let unit = SIZES
        .iter()
        .rev()
        .find(|(_, scale)| bytes != 0 && u128::from(bytes).is_multiple_of(*scale))
        .unwrap_or(&SIZES[0]);
    format!("{}{}", u128::from(bytes) / unit.1, unit.0)
}

/// A duration in the largest unit that keeps it exact: `10s`.
pub(crate) fn exact_duration(nanos: Nanos) -> String {
    let unit = TIMES
        .iter()
        .rev()
        .find(|(_, scale)| nanos != 0 && u128::from(nanos).is_multiple_of(*scale))
        .unwrap_or(&("s", 1));
    format!("{}{}", u128::from(nanos) / unit.1, unit.0)
}

/// Microseconds for people: `0.9 µs`, `570 µs`, `12.3 ms`, `1.24 s`.
pub(crate) fn micros(us: f64, unicode: bool) -> String {
    let micro = if unicode { "µs" } else { "us" };
    if us == 0.0 {
        return format!("0 {micro}");
    }
    let (value, unit) = if us < 999.5 {
        (us, micro)
    } else if us < 999_500.0 {
        (us / 1e3, "ms")
    } else {
        return seconds(us / 1e6);
    };
    format!("{} {unit}", three_digits(value))
}

/// Seconds for people: `0.25 s`, `12.5 s`, `3 min 20 s`, `2 h 5 min`, `12 d 3 h`.
pub(crate) fn seconds(s: f64) -> String {
    if s < 100.0 {
        return format!("{} s", three_digits(s));
    }
    let whole = s.round() as i64;
    let pair = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{big} {big_unit}")
        } else {
            format!("{big} {big_unit} {small} {small_unit}")
        }
    };
    if whole < 3600 {
        pair(whole / 60, "min", whole % 60, "s")
    } else if whole < 172_800 {
        pair(whole / 3600, "h", whole % 3600 / 60, "min")
    } else {
        pair(whole / 86_400, "d", whole % 86_400 / 3600, "h")
    }
}

/// At most three digits, and no zeros at the end: `0.25`, `12.5`, `570`.
fn three_digits(value: f64) -> String {
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A count in a few characters: `999`, `1.46k`, `3.15M`.
pub(crate) fn short(value: u64) -> String {
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let number = value as f64;
    match units.into_iter().find(|&(unit, _)| number >= unit * 0.9995) {
        Some((unit, name)) if value >= 1000 => format!("{}{name}", three_digits(number / unit)),
        _ => value.to_string(),
    }
}

/// A share for people, rounded down so that only a whole is `100 %`; `-` if there is none.
pub(crate) fn percent(share: Option<f64>) -> String {
    match share {
        None => "-".to_owned(),
        Some(share) if share >= 1.0 => "100 %".to_owned(),
        // The smallest step added back is what six decimals may have lost.
        Some(share) => format!("{:.2} %", ((share.max(0.0) + 1e-9) * 1e4).floor() / 1e2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("10s", 10_000_000_000),
            ("500ms", 500_000_000),
            ("2m", 120_000_000_000),
            ("1h", 3_600_000_000_000),
            ("1d", 86_400_000_000_000),
            ("1.5s", 1_500_000_000),
            ("0s", 0),
            ("250us", 250_000),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn sizes_and_rates() {
        for (text, bytes) in [
            ("100GiB", 100 << 30),
            ("2TiB", 2 << 40),
            ("512MiB", 512 << 20),
            ("4KiB", 4096),
            ("0.5GiB", 512 << 20),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        assert_eq!(parse_rate("8GiB/s"), Ok(8 << 30));
    }

    #[test]
    fn exact_messages() {
        let duration = |t: &str| parse_duration(t).unwrap_err().to_string();
        let size = |t: &str| parse_size(t).unwrap_err().to_string();
        let expected = "expected a duration such as \"10s\", found";
        assert_eq!(duration("soon"), format!("{expected} \"soon\""));
        assert_eq!(duration(""), format!("{expected} \"\""));
        assert_eq!(duration("-5s"), format!("{expected} \"-5s\", which is negative"));
        assert_eq!(
            duration("10"),
            format!("{expected} \"10\", which has no unit (units are ns, us, ms, s, m, h, d)")
        );
        assert_eq!(
            duration("0.1ns"),
            format!("{expected} \"0.1ns\", which is not a whole number of nanoseconds")
        );
        assert_eq!(
            duration("99999999999999999999d"),
            format!("{expected} \"99999999999999999999d\", which is too large")
        );
        assert_eq!(
            size("100GB"),
            "expected a size such as \"100GiB\", found \"100GB\", which has an unknown unit \
             (units are B, KiB, MiB, GiB, TiB)"
        );
        assert_eq!(
            parse_rate("8GiB").unwrap_err().to_string(),
            "expected a rate such as \"8GiB/s\", found \"8GiB\", which does not end in \"/s\""
        );
        assert!(size(&"9".repeat(5000)).len() < 200);
        for odd in ["1.2.3s", ".5s", "5.s", "1 s", "１s", "1e3s", "0x10s", "+1s"] {
            assert!(parse_duration(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn printing() {
        assert_eq!(exact_size(100 << 30), "100GiB");
        assert_eq!(exact_size(1536), "1536B");
        assert_eq!(exact_size(0), "0B");
        assert_eq!(exact_duration(90_000_000_000), "90s");
        assert_eq!(exact_duration(0), "0s");
        assert_eq!(micros(0.0, true), "0 µs");
        assert_eq!(micros(570.0, false), "570 us");
        assert_eq!(micros(1234.0, true), "1.23 ms");
        assert_eq!(micros(999.7, true), "1 ms");
        assert_eq!(micros(2.5e6, true), "2.5 s");
        assert_eq!(seconds(200.0), "3 min 20 s");
        assert_eq!(seconds(7_500.0), "2 h 5 min");
        assert_eq!(seconds(1e6), "11 d 13 h");
        let counts = [0, 999, 1000, 1460, 999_600, 3_145_728, 12_000_000_000, u64::MAX].map(short);
        assert_eq!(counts, ["0", "999", "1k", "1.46k", "1M", "3.15M", "12G", "18446744T"]);
        assert_eq!(percent(Some(0.999_999)), "99.99 %");
        assert_eq!(percent(Some(1.0)), "100 %");
        assert_eq!(percent(Some(0.333_333)), "33.33 %");
        assert_eq!(percent(Some(0.98)), "98.00 %");
        assert_eq!(percent(None), "-");
    }
}
