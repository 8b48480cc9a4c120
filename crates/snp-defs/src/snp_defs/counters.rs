//! The counters: one list for the JSON of a run, the driver's `stats` file and the exporter.
//!
//! Order and names are an interface: new counters go to the end. A name is a dotted path whose
//! parts become JSON objects, so no name is another's prefix.

use core::fmt;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $unit:literal;)*) => {
        /// Something that is counted.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl Counter {
            /// Every counter, in the fixed order.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$variant),*];
            /// How many there are.
            pub const COUNT: usize = [$($name),*].len();

            /// Dotted name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What one step of the counter is.
            pub const fn unit(self) -> &'static str {
                match self { $(Self::$variant => $unit,)* }
            }

            /// What is counted, in a sentence.
            pub const fn definition(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)* }
            }
        }
    };
}

counters! {
    /// RMPOPT instructions run, either function.
    RmpoptExecuted = "rmpopt.executed", "instructions";
    /// RMPOPT instructions run with function 0, verify and report.
    RmpoptVerify = "rmpopt.verify", "instructions";
    /// RMPOPT instructions run with function 1, report only (audits and readers of the table).
    RmpoptReport = "rmpopt.report", "instructions";
    /// Verifies run to learn the state of a region, before any other core was offered it.
    RmpoptLeader = "rmpopt.leader", "instructions";
    /// Verifies run on a core because another core's verify had found the region clean.
    RmpoptFollowers = "rmpopt.followers", "instructions";
    /// Inter-processor interrupts sent: each target CPU counts, not each call.
    Ipis = "ipis", "target CPUs";
    /// Work items that had to wake their worker.
    Wakeups = "wakeups", "work items";
    /// Involuntary losses of the CPU by what ran there: IPI, wake-up, timer beyond a due tick.
    InterruptionsTotal = "interruptions.total", "interruptions";
    /// Passes: from a first action after quiet to the next moment with nothing offered or due.
    Passes = "passes", "passes";
    /// RMPUPDATE instructions that succeeded, by anyone on the host.
    Rmpupdates = "rmpupdates", "instructions";
    /// Verifies that found the region free of assigned pages (CF = 1).
    RmpoptClean = "rmpopt.clean", "instructions";
    /// Verifies that found an assigned page (CF = 0).
    RmpoptDirty = "rmpopt.dirty", "instructions";
    /// RMPOPTs that took longer than the slot they ran in allowed; the core yielded at once.
    RmpoptSlow = "rmpopt.slow", "instructions";
    /// Results discarded because they belong to an older epoch of the region or of SNP.
    ResultsStale = "results.stale", "results";
    /// Interruptions by an IPI.
    InterruptionsIpi = "interruptions.ipi", "interruptions";
    /// Interruptions by the wake-up of a work item.
    InterruptionsWakeup = "interruptions.wakeup", "interruptions";
    /// Interruptions by a timer that fired beyond a tick that was due anyway.
    InterruptionsTimer = "interruptions.timer", "interruptions";
    /// Those of the total that took the CPU from a guest.
    InterruptionsGuest = "interruptions.guest", "interruptions";
    /// Idle CPUs woken for RMPOPT.
    InterruptionsIdle = "interruptions.idle", "interruptions";
    /// Time taken from all CPUs together, RMPOPT and its handling.
    CpuTaken = "cpu.taken_ns", "ns";
    /// Batches of regions offered to a core.
    Batches = "batches", "batches";
    /// Pairs of core and region that became optimised.
    PairsGained = "pairs.gained", "pairs";
    /// Pairs of core and region that lost their bit.
    PairsLost = "pairs.lost", "pairs";
    /// Regions marked because a page in them became shared, once per drain.
    MarksShared = "marks.shared", "regions";
    /// Regions marked because a page in them was assigned, once per drain.
    MarksLost = "marks.lost", "regions";
    /// Bits believed set that an audit read back.
    AuditsRun = "audits.run", "pairs";
    /// Audits that found the bit clear.
    AuditsFailed = "audits.failed", "pairs";
    /// Writes of the MSR that holds RMPOPT's base.
    BaseWrites = "base_writes", "writes";
    /// Initialisations of SNP that ended with RMPOPT usable.
    SnpInits = "snp_inits", "initialisations";
    /// PSMASH instructions that succeeded.
    GuestsPsmashes = "guests.psmashes", "instructions";
    /// PVALIDATE instructions by SNP guests, those that failed or faulted too.
    GuestsPvalidates = "guests.pvalidates", "instructions";
    /// PVALIDATEs of 2 MiB that met a 4 KiB entry (`FAIL_SIZEMISMATCH`).
    GuestsSizeMismatches = "guests.size_mismatches", "instructions";
    /// Nested page faults with SIZEM: 4 KiB asked of a 2 MiB entry.
    GuestsSizemFaults = "guests.sizem_faults", "faults";
    /// Firmware commands, those that failed too.
    GuestsFirmwareCommands = "guests.firmware_commands", "commands";
    /// Firmware commands that failed.
    GuestsFirmwareErrors = "guests.firmware_errors", "commands";
    /// Times that every CPU did WBINVD for a guest's end or an ASID's reuse.
    GuestsWbinvds = "guests.wbinvds", "rounds";
    /// `SNP_DF_FLUSH` commands that succeeded.
    GuestsDfFlushes = "guests.df_flushes", "commands";
    /// Pages, of either size, that could not be given back.
    GuestsReclaimFailures = "guests.reclaim_failures", "pages";
    /// 4 KiB pages that stay assigned because they could not be given back.
    GuestsLeakedPages = "guests.leaked_pages", "4 KiB pages";
}

impl Counter {
    /// Position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The counter with this dotted name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|counter| counter.name() == name)
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A value for each [`Counter`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counters([u64; Counter::COUNT]);

impl Counters {
    /// All zero.
    pub const fn new() -> Self {
        Self([0; Counter::COUNT])
    }

    /// Adds `by`; a counter stays at its maximum rather than wrap.
    pub fn add(&mut self, counter: Counter, by: u64) {
        if let Some(value) = self.0.get_mut(counter.index()) {
            *value = value.saturating_add(by);
        }
    }

    /// The value of one counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter.index()).copied().unwrap_or(0)
    }

    /// Adds every counter of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// What was counted since `earlier`, a copy of these counters taken before.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut steps = self.clone();
        for (now, then) in steps.0.iter_mut().zip(earlier.0) {
            *now = now.saturating_sub(then);
        }
        steps
    }

    /// Names and values in the fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Counter::ALL.into_iter().map(|counter| (counter.name(), self.get(counter)))
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

/// One `name value` line each, as the driver's `stats` file has them.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(name, value)| writeln!(f, "{name} {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_names_are_fixed() {
        let names = Counter::ALL.map(Counter::name);
        assert_eq!(
            names[..10],
            [
                "rmpopt.executed",
                "rmpopt.verify",
                "rmpopt.report",
                "rmpopt.leader",
                "rmpopt.followers",
                "ipis",
                "wakeups",
                "interruptions.total",
                "passes",
                "rmpupdates",
            ]
        );
    }

    #[test]
    fn every_counter_has_its_place_name_and_definition() {
        for (index, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter.index(), index);
            assert_eq!(Counter::from_name(counter.name()), Some(counter));
            assert!(counter.definition().ends_with('.') && !counter.unit().is_empty());
        }
        assert_eq!(Counter::from_name("rmpopt"), None);
    }

    #[test]
    fn names_nest_as_json_objects() {
        for one in Counter::ALL.map(Counter::name) {
            for other in Counter::ALL.map(Counter::name) {
                let rest = other.strip_prefix(one);
                assert!(rest.is_none_or(|rest| !rest.starts_with('.')), "{one} holds {other}");
            }
        }
    }

    #[test]
    fn counters_saturate_and_subtract() {
        let mut counters = Counters::new();
        counters.add(Counter::Ipis, 3);
        let first = counters.clone();
        counters.add(Counter::Ipis, u64::MAX);
        assert_eq!(counters.get(Counter::Ipis), u64::MAX);
        assert_eq!(counters.since(&first).get(Counter::Ipis), u64::MAX - 3);
        counters.merge(&first);
        assert_eq!(counters.get(Counter::Ipis), u64::MAX);
        assert_eq!(first.iter().nth(Counter::Ipis.index()), Some(("ipis", 3)));
        assert!(first.to_string().starts_with("rmpopt.executed 0\n"));
    }
}
