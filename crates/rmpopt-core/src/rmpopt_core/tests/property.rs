//! Random executors: everything that can happen, in any order, answered late or in part.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::{tracked, upstream, Layout, Machine, Plane};
use crate::rmpopt_core::{Config, Event, Policy, Request, Time, WorstCase, MILLISECOND, SECOND};
use crate::snp_defs::RmpoptBase;

#[derive(Clone, Copy, Debug)]
enum Happening {
    Assign(u8),
    Free(u8),
    Drain,
    Base(u8),
    RunVerify(u8),
    AnswerVerify(u8),
    RunHold(u8, u8),
    Report(u8),
    Pass(u16),
    Settle,
    Offline(u8),
    Online(u8),
    /// Comes back after a reset.
    OnlineReset(u8),
    OnlineAgain(u8),
    Pause,
    Resume,
    Optimise,
    EvidenceLost,
    GuestGone,
    SnpDown,
    SnpUp,
    Unload,
    /// After a stop with SNP up.
    GoOn,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::*;
    prop_oneof![
        6 => any::<u8>().prop_map(Assign),
        8 => any::<u8>().prop_map(Free),
        6 => Just(Drain),
        6 => any::<u8>().prop_map(Base),
        4 => any::<u8>().prop_map(RunVerify),
        10 => any::<u8>().prop_map(AnswerVerify),
        10 => (any::<u8>(), 1..4u8).prop_map(|(core, most)| RunHold(core, most)),
        10 => any::<u8>().prop_map(Report),
        10 => (0..4_000u16).prop_map(Pass),
        4 => Just(Settle),
        2 => any::<u8>().prop_map(Offline),
        3 => any::<u8>().prop_map(Online),
        1 => any::<u8>().prop_map(OnlineReset),
        1 => any::<u8>().prop_map(OnlineAgain),
        1 => Just(Pause),
        2 => Just(Resume),
        1 => Just(Optimise),
        1 => Just(EvidenceLost),
        1 => Just(GuestGone),
        1 => Just(SnpDown),
        3 => Just(SnpUp),
        1 => prop_oneof![6 => Just(SnpUp), 1 => Just(Unload)],
        2 => Just(GoOn),
    ]
}

/// One window, or two that share regions.
fn layout() -> impl Strategy<Value = Layout> {
    let shared = Layout {
        cores: vec![0, 0, 1, 1, 1],
        ram: [(0, 0), (1, 0), (1000, 0), (1001, 1), (2100, 1), (2101, 1)].into(),
        offline: [4].into(),
    };
    prop_oneof![
        2 => (1..5u16, 1..7u32).prop_map(|(cores, regions)| Layout::new(cores, regions)),
        1 => Just(shared),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    (any::<bool>(), any::<bool>(), 1..3u16).prop_map(|(trust_base_clear, slow_audits, at_once)| {
        let audit_ns = if slow_audits { 60 * SECOND } else { 3 * SECOND };
        Config {
            trust_base_clear,
            audit_ns,
            audit_regions: 2,
            followers_at_once: at_once,
            ..Config::default()
        }
    })
}

/// `None` if this cannot happen now.
fn one_of<T: Copy>(choice: u8, of: &[T]) -> Option<T> {
    (!of.is_empty()).then(|| of[usize::from(choice) % of.len()])
}

impl<P: Policy> Machine<P> {
    fn happens(&mut self, what: Happening) {
        let numbers: Vec<_> = self.layout.ram.keys().copied().collect();
        let (online, offline): (Vec<u16>, Vec<u16>) =
            (0..self.layout.cores.len() as u16).partition(|&core| self.is_online(core));
        let up = self.snp_is_up();
        match what {
            Happening::Assign(choice) if up && !self.going_down => {
                self.assign(one_of(choice, &numbers).unwrap());
            }
            Happening::Free(choice) => self.free(one_of(choice, &numbers).unwrap()),
            Happening::Drain => self.drain(),
            Happening::Base(choice) if !self.bases.is_empty() => {
                // Those of one core are done in their order.
                let (core, _) = self.bases[usize::from(choice) % self.bases.len()];
                let first = self.bases.iter().position(|&(other, _)| other == core);
                self.base(first.unwrap());
            }
            Happening::RunVerify(choice) if !self.verifies.is_empty() => {
                self.run_verify(usize::from(choice) % self.verifies.len());
            }
            Happening::AnswerVerify(choice) if !self.verifies.is_empty() => {
                self.answer_verify(usize::from(choice) % self.verifies.len());
            }
            Happening::AnswerVerify(_) => self.end_broadcast(),
            Happening::RunHold(choice, most) => {
                let cores: Vec<_> = self.offers.keys().copied().collect();
                if let Some(core) = one_of(choice, &cores) {
                    self.run_hold(core, most.into());
                }
            }
            Happening::Report(choice) => {
                let cores: Vec<_> = self.reports.keys().copied().collect();
                if let Some(core) = one_of(choice, &cores) {
                    self.report(core);
                }
            }
            Happening::Pass(ms) => {
                self.now = self.now.after(u64::from(ms) * MILLISECOND);
                self.fire();
            }
            Happening::Settle => self.settle(),
            Happening::Offline(choice) => {
                if let Some(core) = one_of(choice, &online) {
                    self.offline(core);
                }
            }
            Happening::Online(choice) => {
                if let Some(core) = one_of(choice, &offline) {
                    self.online(core);
                }
            }
            Happening::OnlineReset(choice) => {
                if let Some(core) = one_of(choice, &offline) {
                    let hardware = &mut self.hardware.cores[usize::from(core)];
                    hardware.base = RmpoptBase::OFF;
                    hardware.table.clear();
                    self.upset.insert(core);
                    self.online(core);
                }
            }
            Happening::OnlineAgain(choice) => {
                if let Some(core) = one_of(choice, &online) {
                    self.report(core);
                    self.offers.remove(&core);
                    self.online(core);
                }
            }
            Happening::Pause => self.request(Request::Pause),
            Happening::Resume => self.request(Request::Resume),
            Happening::Optimise => self.request(Request::Optimise),
            Happening::EvidenceLost => self.tell(Event::EvidenceLost),
            Happening::GuestGone => self.tell(Event::GuestDecommissioned),
            Happening::SnpDown if up && !self.going_down => self.snp_shutdown(),
            Happening::SnpUp if !up => self.snp_init(),
            Happening::Unload if up && !self.going_down => self.tell(Event::Unload),
            Happening::GoOn if up && self.stopped && !self.going_down => self.goes_on(),
            _ => {}
        }
    }

    /// The environment falls silent, with SNP up.
    fn falls_silent(&mut self) {
        self.request(Request::Resume);
        self.settle();
        if !self.snp_is_up() {
            self.snp_init();
        } else if self.stopped {
            self.goes_on();
        }
        self.settle();
    }
}

fn live(machine: &mut Machine<Plane>) {
    machine.falls_silent();
    machine.assert_enabled();
    let costs = WorstCase { slow_ns: 0, fast_ns: 0, entry_ns: 0, tick_ns: 0 };
    let bound_ns = machine.policy.liveness_bound(&costs).unwrap().total_ns();
    machine.until(machine.now.after(bound_ns));
    machine.assert_belief();
    machine.assert_optimised();
    assert!(machine.policy.first_pass_over());
    // Retries end a little later than the bound.
    machine.until(machine.now.after(20 * SECOND));
    machine.did();
    let failures = machine.policy.stats().audit_failures;
    machine.until(machine.now.after(200 * SECOND));
    for what in machine.did() {
        assert!(what.starts_with("audit"), "{what} out of silence");
    }
    assert_eq!(machine.policy.stats().audit_failures, failures);
    machine.snp_shutdown();
    machine.settle();
    assert!(machine.stopped && !machine.snp_is_up());
}

/// From a seed that is printed with a failure; `PROPTEST_RNG_SEED` sets it.
fn many() -> ProptestConfig {
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) };
    let seed = match default.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().hash_one(0),
    };
    println!("PROPTEST_RNG_SEED={seed}");
    ProptestConfig { rng_seed: RngSeed::Fixed(seed), ..default }
}

proptest! {
    #![proptest_config(many())]

    #[test]
    fn tracked_keeps_its_promises_whatever_happens(
        layout in layout(),
        config in config(),
        happenings in prop::collection::vec(happening(), 1..200),
    ) {
        let mut machine = tracked(layout, config);
        machine.snp_init();
        for what in happenings {
            machine.happens(what);
            machine.assert_belief();
        }
        live(&mut machine);
    }

    #[test]
    fn v10_follows_each_request_with_a_pass_and_stops(
        layout in layout(),
        happenings in prop::collection::vec(happening(), 1..100),
    ) {
        let mut machine = upstream(layout, &crate::rmpopt_core::upstream::version::V10);
        machine.snp_init();
        for what in happenings {
            // Upstream forbids hotplug while SNP is up, and cannot be unloaded.
            if !matches!(
                what,
                Happening::Offline(_) | Happening::OnlineAgain(_) | Happening::Unload
            ) && (!matches!(what, Happening::Online(_) | Happening::OnlineReset(_))
                || !machine.snp_is_up())
            {
                machine.happens(what);
            }
        }
        machine.falls_silent();
        for event in [Event::GuestDecommissioned, Event::Request(Request::Optimise)] {
            machine.until(machine.now.after(30 * SECOND));
            let passes = machine.policy.passes();
            machine.tell(event);
            machine.until(machine.now.after(30 * SECOND));
            prop_assert_eq!(machine.policy.passes(), passes + 1);
        }
        for core in 0..machine.layout.cores.len() as u16 {
            for &number in machine.layout.ram.keys() {
                let window = machine.hardware.cores[usize::from(core)].base.window();
                let free = machine.hardware.is_free(number) && window.covers(super::region(number));
                let has = machine.hardware.has(core, number);
                prop_assert_eq!(has, free && machine.is_online(core), "core {}, {}", core, number);
            }
        }
        machine.snp_shutdown();
        machine.settle();
        prop_assert!(machine.stopped && !machine.snp_is_up());
        machine.did();
        machine.until(Time::from_ns(u64::MAX / 2));
        prop_assert!(machine.did().is_empty());
    }
}
