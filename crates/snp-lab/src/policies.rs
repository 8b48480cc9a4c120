//! The policies by name: the one list that the command line, scenarios, reports and comparisons use.

use rmpopt_core::upstream::{Version, version};
use rmpopt_core::{Config, Manner};

/// What a policy is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `tracked`, with these settings whatever the scenario says.
    Tracked { manner: Manner, lowest_window: bool },
    /// A version of upstream's series, or an idea from its review.
    Upstream(&'static Version),
    /// A bound: optimises without cost.
    Oracle { delayed: bool },
    /// RMPOPT is never set up.
    Off,
}

macro_rules! policies {
    ($($(#[$attr:meta])* $variant:ident, $name:literal, $about:literal, $kind:expr;)*) => {
        /// Which policy decides what is optimised when (docs/policies.md).
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum PolicyName {
            $(#[doc = $about] $(#[$attr])* $variant,)*
        }

        impl PolicyName {
            /// Every policy, in the order in which they are listed.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name as written on the command line, in scenarios and in reports.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it does, in one line.
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)* }
            }

            pub(crate) const fn kind(self) -> Kind {
                match self { $(Self::$variant => $kind,)* }
            }
        }
    };
}

const TICK: Kind = Kind::Tracked { manner: Manner::Tick, lowest_window: false };

policies! {
    #[default]
    Tracked, "tracked", "the project's own: regions whose pages became shared; followers on ticks", TICK;
    TrackedWork, "tracked-work", "tracked, its followers in one work item per batch",
        Kind::Tracked { manner: Manner::Work, lowest_window: false };
    TrackedIpi, "tracked-ipi", "tracked, its followers by interrupts that nobody waits for",
        Kind::Tracked { manner: Manner::Ipi, lowest_window: false };
    TrackedLowest, "tracked-lowest", "tracked, every window the lowest 2 TiB",
        Kind::Tracked { manner: Manner::Tick, lowest_window: true };
    V1, "v1", "upstream v1: on request only, all cores at once, a window per socket",
        Kind::Upstream(&version::V1);
    V2, "v2", "upstream v2: all CPUs at once when a guest's memory is freed",
        Kind::Upstream(&version::V2);
    V3, "v3", "upstream v3: one leader, then every core, 10 s after a guest's end",
        Kind::Upstream(&version::V3);
    V5, "v5", "upstream v5: as v3, the leader's core not twice, torn down at the end",
        Kind::Upstream(&version::V5);
    V6, "v6", "upstream v6: as v5, its leader an enabled core",
        Kind::Upstream(&version::V6);
    V8, "v8", "upstream v8: 10 s after the last guest's end, its leader reschedules",
        Kind::Upstream(&version::V8);
    V10, "v10", "upstream v10: everything, 10 s after the last guest's end",
        Kind::Upstream(&version::V10);
    V10Map, "v10-map", "v10 with one bit per GiB: only regions that had private pages",
        Kind::Upstream(&version::V10_MAP);
    V10Leader, "v10-leader", "v10 with followers only where the leader succeeded",
        Kind::Upstream(&version::V10_LEADER);
    Oracle, "oracle", "bound: every core at once, at no cost, when a region is clean",
        Kind::Oracle { delayed: false };
    OracleDelayed, "oracle-delayed", "bound: as oracle, after tracked's delay",
        Kind::Oracle { delayed: true };
    Off, "off", "RMPOPT is never set up", Kind::Off;
}

impl PolicyName {
    /// Whether the policy is a bound: no driver could do what it does.
    pub const fn is_bound(self) -> bool {
        matches!(self.kind(), Kind::Oracle { .. })
    }

    /// Whether `[policy] delay` means anything to it.
    pub const fn has_delay(self) -> bool {
        match self.kind() {
            Kind::Tracked { .. } | Kind::Oracle { delayed: true } => true,
            Kind::Upstream(version) => version.delay_ns > 0,
            Kind::Oracle { delayed: false } | Kind::Off => false,
        }
    }

    /// These settings as this policy takes them.
    pub(crate) const fn configure(self, mut config: Config) -> Config {
        if let Kind::Tracked { manner, lowest_window } = self.kind() {
            config.manner = manner;
            config.lowest_window = lowest_window;
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_delay() {
        let without: Vec<_> = PolicyName::ALL.into_iter().filter(|p| !p.has_delay()).collect();
        let names = without.iter().map(|policy| policy.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["v1", "v2", "oracle", "off"]);
    }

    #[test]
    fn names_and_lines_are_distinct_and_short() {
        for (index, name) in PolicyName::ALL.into_iter().enumerate() {
            assert!(
                PolicyName::ALL.iter().skip(index + 1).all(|other| {
                    other.as_str() != name.as_str() && other.about() != name.about()
                })
            );
            let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.as_str().chars().all(kebab) && name.about().len() <= 72, "{name}");
            if let Kind::Upstream(version) = name.kind() {
                assert_eq!(version.name, name.as_str());
            }
        }
    }

    #[test]
    fn every_version_has_a_name() {
        for known in version::ALL {
            assert!(PolicyName::ALL.iter().any(|name| name.kind() == Kind::Upstream(known)));
        }
    }
}
