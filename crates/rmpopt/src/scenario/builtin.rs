//! The scenarios that come with the command.

/// The scenario that runs when none is named.
pub(crate) const DEFAULT: &str = "venice-2p";

const ALL: [(&str, &str); 3] = [
    ("venice-2p", include_str!("../../../../scenarios/venice-2p.toml")),
    ("small", include_str!("../../../../scenarios/small.toml")),
    ("idle-12t", include_str!("../../../../scenarios/idle-12t.toml")),
];

/// The text of the built-in scenario of that name.
pub(crate) fn text(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

/// The names of all built-in scenarios.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}
