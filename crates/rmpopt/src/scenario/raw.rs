//! The shape of a scenario file: names and types of keys, nothing about ranges.

use core::fmt;
use core::marker::PhantomData;
use core::str::FromStr;

use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use snp_lab::scenario::{
    Grain, GuestKind, Nanos, Placement, PlacementRule, PolicyName, RmpKind, SnpBy, Spread,
    UnknownChoice,
};
use toml::Spanned;
use toml::de::DeValue;

use super::place::{Document, ScenarioError};
use crate::trace_input::TraceFormat;
use crate::units;

/// Version of the format.
pub(super) const SCHEMA_VERSION: i64 = 1;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawScenario {
    #[serde(rename = "schema_version")]
    _schema_version: Whole,
    pub(super) name: Spanned<Text>,
    pub(super) description: Option<Text>,
    pub(super) why: Option<Paragraph>,
    pub(super) until: Option<Spanned<Duration>>,
    pub(super) placement: Option<Choice<PlacementRule>>,
    pub(super) trace: Option<RawTrace>,
    pub(super) host: Spanned<RawHost>,
    #[serde(default, rename = "guest")]
    pub(super) guests: Vec<Spanned<RawGuest>>,
    #[serde(default, rename = "event")]
    pub(super) events: Vec<Spanned<RawEvent>>,
    #[serde(default)]
    pub(super) policy: RawPolicy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHost {
    pub(super) sockets: Spanned<Whole>,
    pub(super) cores_per_socket: Spanned<Whole>,
    pub(super) threads: Option<Spanned<Whole>>,
    pub(super) memory: Spanned<Size>,
    pub(super) nps: Option<Spanned<Whole>>,
    pub(super) rmp: Option<Choice<RmpKind>>,
    pub(super) nohz_full: Option<Spanned<Text>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGuest {
    pub(super) name: Option<Spanned<Text>>,
    pub(super) kind: Choice<GuestKind>,
    pub(super) memory: Spanned<Size>,
    pub(super) placement: Option<Choice<Placement>>,
    pub(super) at: Spanned<Duration>,
    pub(super) until: Option<Spanned<Duration>>,
    pub(super) vcpus: Option<Spanned<Whole>>,
    pub(super) node: Option<Spanned<Whole>>,
    pub(super) touched: Option<Spanned<Number>>,
    pub(super) convert_rate: Option<Spanned<Rate>>,
    pub(super) accept: Option<Choice<Grain>>,
    pub(super) count: Option<Spanned<Whole>>,
    pub(super) every: Option<Spanned<Duration>>,
    pub(super) arrivals: Option<Spanned<Choice<Spread>>>,
    pub(super) lifetime: Option<Spanned<Duration>>,
    pub(super) lifetimes: Option<Spanned<Choice<Spread>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEvent {
    pub(super) at: Spanned<Duration>,
    pub(super) every: Option<Spanned<Duration>>,
    pub(super) until: Option<Spanned<Duration>>,
    pub(super) action: Spanned<Choice<ActionName>>,
    pub(super) guest: Option<Spanned<Text>>,
    pub(super) memory: Option<Spanned<Size>>,
    pub(super) unit: Option<Spanned<Choice<Grain>>>,
    pub(super) pages: Option<Spanned<Whole>>,
    pub(super) cpu: Option<Spanned<Whole>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPolicy {
    pub(super) name: Option<Choice<PolicyName>>,
    pub(super) delay: Option<Spanned<Duration>>,
    pub(super) bound: Option<Spanned<Duration>>,
    pub(super) budget: Option<Spanned<Duration>>,
    pub(super) follow_by: Option<Spanned<Duration>>,
    pub(super) followers: Option<Spanned<Whole>>,
    pub(super) audit: Option<Spanned<Duration>>,
    pub(super) tick: Option<Spanned<Duration>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTrace {
    pub(super) file: Spanned<Text>,
    pub(super) format: Option<Choice<TraceFormat>>,
    pub(super) sample: Option<Spanned<Number>>,
    pub(super) sample_seed: Option<Spanned<Whole>>,
    pub(super) snp_share: Option<Spanned<Number>>,
    pub(super) snp_by: Option<Choice<SnpBy>>,
}

/// The names of actions; their further keys are checked in `check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ActionName {
    Share,
    Private,
    Leak,
    SnpInit,
    SnpShutdown,
    CpuOffline,
    CpuOnline,
    Request,
    Pause,
    Resume,
}

impl ActionName {
    const ALL: [Self; 10] = [
        Self::Share,
        Self::Private,
        Self::Leak,
        Self::SnpInit,
        Self::SnpShutdown,
        Self::CpuOffline,
        Self::CpuOnline,
        Self::Request,
        Self::Pause,
        Self::Resume,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Share => "share",
            Self::Private => "private",
            Self::Leak => "leak",
            Self::SnpInit => "snp-init",
            Self::SnpShutdown => "snp-shutdown",
            Self::CpuOffline => "cpu-offline",
            Self::CpuOnline => "cpu-online",
            Self::Request => "request",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

impl FromStr for ActionName {
    type Err = UnknownChoice;

    fn from_str(word: &str) -> Result<Self, UnknownChoice> {
        Self::ALL.into_iter().find(|a| a.as_str() == word).ok_or_else(|| UnknownChoice {
            word: word.to_owned(),
            expected: Self::ALL.into_iter().map(Self::as_str).collect(),
        })
    }
}

/// Reads the shape, the version first: a later version's keys are not this version's mistakes.
pub(super) fn read(document: &Document<'_>) -> Result<RawScenario, ScenarioError> {
    match document.tree.get("schema_version") {
        None => {
            return Err(document.error_at_start(
                "missing key \"schema_version\", expected \"schema_version = 1\"",
            ));
        }
        Some(value) => {
            let version = match value.get_ref() {
                DeValue::Integer(i) => i64::from_str_radix(i.as_str(), i.radix()).ok(),
                _ => None,
            };
            if version != Some(SCHEMA_VERSION) {
                let found = document.text.get(value.span()).unwrap_or_default();
                let message = format!("expected {SCHEMA_VERSION}, found {found}");
                return Err(document.error(value.span(), message));
            }
        }
    }
    toml::from_str(document.text).map_err(|e| document.error_from(&e))
}

/// A text without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

/// A text of one or several lines, in which a line's end is a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Paragraph(pub(super) String);

/// A whole number, of either sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole(pub(super) i64);

/// A number with or without decimals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Number(pub(super) f64);

/// A duration in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Duration(pub(super) Nanos);

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

/// A rate in bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate(pub(super) u64);

/// One of several words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice<T>(pub(super) T);

/// A value that is written as a text and read by a function.
struct Written<T, E> {
    expected: &'static str,
    read: fn(&str) -> Result<T, E>,
    what: PhantomData<(T, E)>,
}

impl<T, E: fmt::Display> Visitor<'_> for Written<T, E> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<X: serde::de::Error>(self, text: &str) -> Result<T, X> {
        (self.read)(text).map_err(X::custom)
    }
}

fn written<'de, D: Deserializer<'de>, T, E: fmt::Display>(
    deserializer: D,
    expected: &'static str,
    read: fn(&str) -> Result<T, E>,
) -> Result<T, D::Error> {
    deserializer.deserialize_str(Written { expected, read, what: PhantomData })
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer, units::DURATION, units::parse_duration).map(Self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer, units::SIZE, units::parse_size).map(Self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer, units::RATE, units::parse_rate).map(Self)
    }
}

impl<'de, T: FromStr<Err = UnknownChoice>> Deserialize<'de> for Choice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer, "a word in quotes", T::from_str).map(Self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer, "a text in quotes", |text| {
            if text.contains(snp_host::steers) {
                return Err("expected a text of one line, found control characters");
            }
            Ok(Self(text.to_owned()))
        })
    }
}

impl<'de> Deserialize<'de> for Paragraph {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        written(deserializer, "a text in quotes", |text| {
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            let text = words.join(" ");
            if text.contains(snp_host::steers) {
                return Err("expected a text, found control characters");
            }
            Ok(Self(text))
        })
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Whole;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }
            fn visit_i64<X: serde::de::Error>(self, value: i64) -> Result<Whole, X> {
                Ok(Whole(value))
            }
            fn visit_u64<X: serde::de::Error>(self, value: u64) -> Result<Whole, X> {
                i64::try_from(value)
                    .map(Whole)
                    .map_err(|_| X::invalid_value(Unexpected::Unsigned(value), &self))
            }
        }
        deserializer.deserialize_i64(V)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_f64<X: serde::de::Error>(self, value: f64) -> Result<Number, X> {
                Ok(Number(value))
            }
            fn visit_i64<X: serde::de::Error>(self, value: i64) -> Result<Number, X> {
                Ok(Number(value as f64))
            }
        }
        deserializer.deserialize_f64(V)
    }
}
