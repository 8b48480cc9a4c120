//! The seam between deciding and doing: events in, actions out.
//!
//! A [`Policy`] is driven by an executor: the kernel module, the lab, or a test. The executor hands
//! it events as they happen and then asks for actions until there are none. The policy has no clock:
//! each call says what time it is.
//!
//! What an executor promises:
//! * It runs RMPOPT on a core only if it has read back SNP_EN and the enable bit on that core since
//!   the last SNP_INIT (law 4); what it read goes into [`Event::BaseWritten`].
//! * Each [`Action::WriteBase`] is answered once, with `None` if the core is not online; those of one
//!   core are done in their order. After a stop with SNP up the driver may begin again, by
//!   [`Event::SnpInitialised`] without an SNP_INIT: a base that was written before it is then only
//!   read back, unless silicon is known to clear the table.
//! * Each [`Action::Verify`] and [`Action::Broadcast`] is answered once; each [`Action::Offer`] by
//!   [`Event::Batch`] once per hold until the batch is finished or replaced: a core has one offer at
//!   most, a newer one replaces an older one of which nothing more is then reported. A policy may
//!   lose interest in an offer that may only ride ([`Time::NEVER`]): its reports are then ignored.
//! * [`Event::CoreOffline`] comes after the answers of what ran there; the core's offer is cancelled.
//!   [`Event::CoreOnline`] comes only for cores that the operator has not masked.
//! * After [`Action::Quiesce`] it cancels timers and offers, waits for what is running, reports it,
//!   and answers [`Event::Quiesced`].
//! * Firmware may clear SNP_EN only after [`Action::Stopped`]. If that came before the firmware asked
//!   (an unload, a fault), [`Event::SnpGoingDown`] still has to be told: bases are cleared then. A
//!   core that returns later with a base left over is cleared when it does; nothing else is done
//!   after the stop.
//! * All pages' marks from before an SNP_INIT are drained before [`Event::SnpInitialised`].

use crate::rmpopt_core::tracked::Stats;
use crate::rmpopt_core::{Batch, BatchReport, Budget, CoreId, Drained, Host, Time};
use crate::snp_defs::{Region, RmpoptBase, Window};

/// Number of an offer; never reused within an SNP_INIT.
pub type Serial = u32;

/// What an answer refers to: which SNP_INIT, and after which marks it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ticket {
    /// Counts SNP_INITs.
    pub init: u32,
    /// Sequence number of the last mark when the question was put: answers about a region that was
    /// marked later are void.
    pub mark: u64,
    /// Number of the question.
    pub serial: Serial,
}

/// What RMPOPT answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// CF = 1.
    Clean,
    /// CF = 0.
    Dirty,
    /// The instruction faulted (#UD, #GP).
    Fault,
}

/// What an operator can ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Verify everything that is not optimised, now.
    Optimise,
    /// Begin nothing more; what is optimised stays.
    Pause,
    /// Go on.
    Resume,
}

/// Something happened.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations)] // `&dyn Host` has none; events are data, not state.
pub enum Event<'a> {
    /// SNP_INIT has ended: all RMPOPT tables are empty.
    SnpInitialised(&'a dyn Host),
    /// The firmware is about to shut SNP down.
    SnpGoingDown,
    /// The driver is unloaded with SNP up: base and enable stay (DESIGN "On silicon").
    Unload,
    /// What was read back after [`Action::WriteBase`].
    BaseWritten {
        /// The core.
        core: CoreId,
        /// MSR `RMPOPT_BASE` as read back, `None` if an access faulted.
        base: Option<RmpoptBase>,
        /// SYSCFG\[24\] as read on this core.
        snp_en: bool,
    },
    /// Marks taken from `Activity`.
    Drained(Drained),
    /// Marks may have been missed: everything not optimised is to be looked at.
    EvidenceLost,
    /// An SNP guest has been decommissioned (upstream's trigger from v3 on).
    GuestDecommissioned,
    /// All memory of an ended SNP guest is shared again, or is lost for good (upstream's trigger in
    /// v2). An executor whose policies do not wait for it need not send it.
    GuestMemoryFreed,
    /// Answer to [`Action::Verify`].
    Verified {
        /// Of the action.
        ticket: Ticket,
        /// The core that ran it.
        core: CoreId,
        /// The region.
        region: Region,
        /// What it said.
        verdict: Verdict,
        /// How long it took.
        took_ns: u64,
    },
    /// A hold of a batch ended.
    Batch(&'a BatchReport),
    /// A batch cannot run on its core (the instruction faulted there).
    BatchFault {
        /// The core.
        core: CoreId,
        /// Of the batch.
        ticket: Ticket,
    },
    /// Answer to [`Action::Broadcast`]: every target has run it.
    BroadcastDone {
        /// Of the action.
        ticket: Ticket,
    },
    /// The other answer: the instruction faulted on a target, though it was enabled there.
    BroadcastFault {
        /// Of the action.
        ticket: Ticket,
    },
    /// A core came online.
    CoreOnline {
        /// The core.
        core: CoreId,
        /// MSR `RMPOPT_BASE` as read there.
        base: RmpoptBase,
        /// SYSCFG\[24\] as read there.
        snp_en: bool,
    },
    /// A core has gone offline, or is about to; nothing runs there any more.
    CoreOffline(CoreId),
    /// The operator asks.
    Request(Request),
    /// The time of [`Action::ArmTimer`] has come.
    Timer,
    /// Answer to [`Action::Quiesce`].
    Quiesced,
}

/// What takes a follower's CPU for a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Manner {
    /// The tick of a busy CPU, hold by hold; a work item where there is none in time.
    #[default]
    Tick,
    /// A work item, which lets others run between two holds.
    Work,
    /// An interrupt that nobody waits for, one for each hold, a tick's time apart.
    Ipi,
}

/// Whom a broadcast reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// One CPU of each core but the leader's, which has verified the region itself (v5 to v10).
    OtherCores,
    /// One CPU of each core; the leader's runs it without an interrupt (v1, v3).
    EveryCore,
    /// Every CPU; the leader's own runs it without an interrupt (v2).
    EveryCpu,
}

/// Something to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant)] // 256 bytes of mask, returned once and moved out.
pub enum Action {
    /// Write MSR `RMPOPT_BASE` on a core and read it back.
    WriteBase {
        /// The core.
        core: CoreId,
        /// The value.
        base: RmpoptBase,
    },
    /// Run RMPOPT function 0 on a core, in a worker that may be rescheduled afterwards.
    Verify {
        /// The leader.
        core: CoreId,
        /// The region.
        region: Region,
        /// For the answer.
        ticket: Ticket,
    },
    /// Give a core regions to run RMPOPT on.
    Offer {
        /// The regions.
        batch: Batch,
        /// Ride on an interrupt that comes anyway before this time; from then on, wake a work item
        /// on the core. [`Time::NEVER`]: only ride.
        by: Time,
        /// What takes the CPU for it.
        manner: Manner,
    },
    /// Run RMPOPT function 0 on enabled cores, by one interrupt each, and wait for all (upstream).
    Broadcast {
        /// Sends the interrupts; not interrupted itself.
        leader: CoreId,
        /// The region.
        region: Region,
        /// Which of the enabled cores.
        reach: Reach,
        /// For the answer.
        ticket: Ticket,
    },
    /// Send [`Event::Timer`] at this time; replaces an earlier one.
    ArmTimer(Time),
    /// Cancel what has not begun, wait for the rest, answer [`Event::Quiesced`].
    Quiesce,
    /// Nothing runs any more and nothing will: SNP may go down, the driver may go.
    Stopped,
}

/// Laws of DESIGN that a policy claims; breaches of others are counted apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claims(u8);

impl Claims {
    /// The laws with these numbers (1 to 6).
    pub const fn of(laws: &[u8]) -> Self {
        let mut bits = 0;
        let mut rest = laws;
        while let [law, tail @ ..] = rest {
            bits |= 1u8.wrapping_shl(*law as u32);
            rest = tail;
        }
        Self(bits)
    }

    /// Whether law `number` is claimed.
    pub const fn law(self, number: u8) -> bool {
        number < 8 && self.0 >> number & 1 == 1
    }
}

/// How soon a region that stays free of assigned pages is optimised, term by term (law 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LivenessBound {
    /// Until its mark is drained.
    pub tick_ns: u64,
    /// Delay after the last activity, hold-off included.
    pub delay_ns: u64,
    /// The leader's work on all candidates that may be due with it.
    pub leader_ns: u64,
    /// Until clean regions are offered.
    pub merge_ns: u64,
    /// Until a follower has begun.
    pub follow_ns: u64,
    /// The followers' work, in turns.
    pub batch_ns: u64,
}

impl LivenessBound {
    /// The sum, in nanoseconds.
    pub const fn total_ns(&self) -> u64 {
        self.tick_ns
            .saturating_add(self.delay_ns)
            .saturating_add(self.leader_ns)
            .saturating_add(self.merge_ns)
            .saturating_add(self.follow_ns)
            .saturating_add(self.batch_ns)
    }
}

/// Costs that a bound is stated for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorstCase {
    /// A full scan.
    pub slow_ns: u64,
    /// An RMPOPT that the cached scan answers.
    pub fast_ns: u64,
    /// A hold's overhead: interrupt or wake-up.
    pub entry_ns: u64,
    /// Time between two ticks of a busy CPU.
    pub tick_ns: u64,
}

/// Decides what RMPOPT work is done, where and when.
pub trait Policy {
    /// Its name on the command line.
    fn name(&self) -> &'static str;
    /// The laws it claims.
    fn claims(&self) -> Claims;
    /// Something happened at `now`.
    fn handle(&mut self, now: Time, event: Event<'_>);
    /// The next thing to do, `None` when there is nothing more at `now`.
    fn poll(&mut self, now: Time) -> Option<Action>;
    /// Whether a leader's worker may be rescheduled after each verify; else one holds its CPU until
    /// the policy has no other ready (upstream before v7).
    fn leader_reschedules(&self) -> bool {
        true
    }
    /// How often marks are drained while there are any; `None`: it takes no marks.
    fn tick_ns(&self) -> Option<u64>;
    /// How long followers may hold a CPU; `None`: no limit.
    fn budget(&self) -> Option<Budget>;
    /// Work items that may run for followers at once.
    fn followers_at_once(&self) -> u16;
    /// Law 3's bound under these costs, if the policy has one.
    fn liveness_bound(&self, costs: &WorstCase) -> Option<LivenessBound>;
    /// Passes ended so far.
    fn passes(&self) -> u64;
    /// Counts of answers that did not fit its belief; `None` if it keeps no belief.
    fn counts(&self) -> Option<Stats> {
        None
    }
    /// Whether the first pass since SNP_INIT is over: its last pair has been offered.
    fn first_pass_over(&self) -> bool;
    /// The window chosen for a core, `None` if it does not participate.
    fn window(&self, core: CoreId) -> Option<Window>;
    /// Whether it believes that `core` has `region` optimised; one that keeps no belief says no.
    fn belief(&self, core: CoreId, region: Region) -> bool {
        let _ = (core, region);
        false
    }
    /// Whether it found `region` clean and knows of no mark since; one that keeps no belief says no.
    fn clean(&self, region: Region) -> bool {
        let _ = region;
        false
    }
}
