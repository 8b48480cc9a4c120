//! The scenarios that come with the command.

/// The scenario that runs when none is named.
pub(crate) const DEFAULT: &str = "venice-2p";

/// A built-in scenario by the name of its file.
macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../../scenarios/", $name, ".toml")))),*]
    };
}

/// Name and text of each, in the order of the listing.
const ALL: &[(&str, &str)] = &built_in![
    "venice-2p",
    "small",
    "idle-12t",
    "no-guest",
    "one-of-50",
    "one-of-50-scattered",
    "churn-day",
    "slow-conversion",
    "containers-day",
    "flipping",
    "fragmented-4k",
    "hugetlb-1g",
    "two-sockets-4t-nps1",
    "two-sockets-4t-nps2",
    "two-sockets-6t-nps1",
    "two-sockets-6t-nps2",
    "two-sockets-12t-nps1",
    "two-sockets-12t-nps2",
    "nohz-full",
    "hotplug",
    "shutdown-reinit",
    "trace-openb-day",
    "trace-dlrm-month",
];

/// Name and text of each trace that they name; where they come from: scenarios/traces/README.md.
const TRACES: &[(&str, &str)] = &[
    ("traces/openb-day.csv", include_str!("../../../../scenarios/traces/openb-day.csv")),
    ("traces/dlrm-month.csv", include_str!("../../../../scenarios/traces/dlrm-month.csv")),
];

/// The text of the built-in scenario of that name.
pub(crate) fn text(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

/// The rows of the built-in trace of that name.
pub(crate) fn trace(name: &str) -> Option<&'static str> {
    TRACES.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

/// The names of all built-in scenarios.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}
