//! The model against the oracle, and against laws 1 and 2, in random operations.

use std::collections::BTreeMap;
use std::time::Instant;

use snp_model::trial::{
    random, shrink, BaseWrites, Effect, Found, Operation, Plan, Random, Script, Trial,
};
use snp_model::{BaseWrite, EnableToggle, UnitConfig, Verdict};

/// Operations of the large run; RMPOPT_TRIAL_OPERATIONS sets another number.
fn operations() -> u64 {
    let set = std::env::var("RMPOPT_TRIAL_OPERATIONS").ok();
    set.map_or(1_000_000, |number| number.parse().expect("RMPOPT_TRIAL_OPERATIONS: a number"))
}

fn wild(seed: u64, unit: UnitConfig) -> Random {
    Random {
        seed,
        operations: 20_000,
        plan: Plan { unit, laws: false, ..Plan::default() },
        base_writes: BaseWrites::Wild,
        firmware: seed % 2 == 1,
        only_laws: false,
    }
}

/// What was done, to see that nothing was left out.
#[derive(Clone, Default, Debug)]
struct Tally {
    optimised: u64,
    cached: u64,
    raced: u64,
    skipped: u64,
    refused: u64,
    codes: [u64; 8],
    guest_codes: [u64; 8],
    carries: u64,
    guest_allowed: u64,
    guest_faults: u64,
    aborted: u64,
    inits: u64,
    entered: u64,
    /// Commands of the firmware: done and refused.
    commands: BTreeMap<&'static str, (u64, u64)>,
}

impl Tally {
    fn see(&mut self, operation: &Operation, effect: Effect) {
        match effect {
            Effect::Update(Ok(update)) => self.codes[update.status.0 as usize] += 1,
            Effect::Rmpopt(Ok(outcome)) => {
                self.optimised += u64::from(outcome.cf);
                self.cached += u64::from(outcome.cached);
            }
            Effect::Finished(outcome) => self.raced += u64::from(outcome.raced),
            Effect::Access(access) => {
                self.skipped += u64::from(access.skipped_by_rmpopt);
                self.refused += u64::from(access.verdict != Verdict::Allowed);
            }
            Effect::Guest(Ok(result)) => {
                self.guest_codes[result.status.0 as usize] += 1;
                self.carries += u64::from(result.carry);
            }
            Effect::Query(Ok(query)) => self.guest_codes[query.status.0 as usize] += 1,
            Effect::GuestAccess(access) if access.verdict.is_ok() => self.guest_allowed += 1,
            Effect::GuestAccess(_) => self.guest_faults += 1,
            Effect::Vmrun(result) => self.entered += u64::from(result.is_ok()),
            Effect::Answer(answer) => {
                let commands = self.commands.entry(operation.keyword()).or_default();
                commands.0 += u64::from(answer.is_ok());
                commands.1 += u64::from(answer.is_err());
            }
            Effect::Device(verdict) => {
                self.aborted += u64::from(verdict != snp_model::DeviceVerdict::Allowed);
            }
            Effect::Done(true) if *operation == Operation::SnpInit => self.inits += 1,
            _ => {}
        }
    }
}

/// The difference as a short script, for whoever reads the failure.
fn explain(found: &Found) -> String {
    let short = shrink(found);
    format!("{:#?}\n`rmpopt replay` with this script shows it:\n{}", short.difference, short.script)
}

#[test]
fn a_million_operations_agree() {
    let operations = operations();
    let runs = 2 * Plan::all_units().len() as u64;
    let mut tally = Tally::default();
    let start = Instant::now();
    for number in 0..runs {
        let run = Random::numbered(number, operations.div_ceil(runs));
        if let Err(found) = random(&run, |operation, effect| tally.see(operation, effect)) {
            panic!("{run:?}: {}", explain(&found));
        }
    }
    println!("{:.0} operations/s, {tally:?}", operations as f64 / start.elapsed().as_secs_f64());
    // A short run need not have met everything.
    let least = |count: u64| if operations < 500_000 { 0 } else { count * operations / 1_000_000 };
    for (code, count) in [0, 1, 2, 3, 4, 7].map(|code| (code, tally.codes[code])) {
        assert!(count >= least(500), "code {code} came {count} times");
    }
    for (code, count) in [0, 1, 2, 3, 6].map(|code| (code, tally.guest_codes[code])) {
        assert!(count >= least(50), "code {code} came {count} times to a guest");
    }
    assert!(tally.carries >= least(50) && tally.guest_allowed >= least(500));
    assert!(tally.guest_faults >= least(1000) && tally.aborted >= least(50));
    assert!(tally.optimised >= least(10_000) && tally.cached >= least(2_000));
    assert!(tally.raced >= least(200) && tally.inits >= least(100));
    assert!(tally.entered >= least(500));
    assert_eq!(tally.commands.len(), 12, "{:?}", tally.commands);
    for (command, (done, refused)) in &tally.commands {
        let enough = *done >= least(15) && *refused >= least(15);
        assert!(enough, "{command}: done {done} times, refused {refused} times");
    }
    assert!(tally.skipped >= least(2_000) && tally.refused >= least(2_000));
}

#[test]
fn a_contiguous_rmp_agrees_and_has_no_rmpopt() {
    let unit = UnitConfig { segmented: false, ..UnitConfig::default() };
    let run = Random { plan: Plan { unit, ..Plan::default() }, ..wild(77, unit) };
    let mut tally = Tally::default();
    random(&run, |operation, effect| tally.see(operation, effect)).unwrap();
    assert!(tally.optimised == 0 && tally.codes[0] > 1000);
}

/// Laws 1 and 2 hold under every switch if `RMPOPT_BASE` is written once per core and `SNP_INIT`.
#[test]
fn laws_hold_under_every_switch_with_one_base_write_per_init() {
    for (seed, unit) in (1000..).zip(Plan::all_units()) {
        let run = wild(seed, unit);
        let plan = Plan { laws: true, ..run.plan };
        let run = Random { plan, base_writes: BaseWrites::OncePerInit, ..run };
        let run = Random { operations: (operations() / 100).clamp(600, 10_000), ..run };
        if let Err(found) = random(&run, |_, _| ()) {
            panic!("{unit:?}: {}", explain(&found));
        }
    }
}

/// The switches are real: with wild base writes the dangerous ones break law 1.
#[test]
fn bits_that_survive_break_law_1() {
    let by_index = UnitConfig { base_write: BaseWrite::KeepsByIndex, ..UnitConfig::default() };
    let misses =
        UnitConfig { en_toggle: EnableToggle::KeepsAndMissesRmpupdate, ..UnitConfig::default() };
    for unit in [by_index, misses] {
        let broken = (0..64).any(|seed| {
            let run = wild(seed, unit);
            let run = Random { plan: Plan { laws: true, ..run.plan }, ..run };
            random(&run, |_, _| ()).is_err_and(|found| found.difference.is_of_law())
        });
        assert!(broken, "{unit:?}");
    }
}

/// A plan with a defect, and its name.
fn defective() -> Vec<(String, Plan)> {
    let plan = Plan { laws: false, ..Plan::default() };
    let faults = Plan::faults()
        .into_iter()
        .map(|fault| (format!("{fault:?}"), Plan { fault: Some(fault), ..plan }));
    let defects = Plan::defects().into_iter().map(|defect| {
        let mut plan = plan;
        plan.choices.defect = Some(defect);
        (format!("{defect:?}"), plan)
    });
    faults.chain(defects).collect()
}

#[test]
fn every_seeded_defect_is_seen_and_its_script_is_short() {
    for (name, plan) in defective() {
        let find = |seed| random(&Random { plan, ..wild(seed, plan.unit) }, |_, _| ()).err();
        let found = (0..8).find_map(find).unwrap_or_else(|| panic!("{name}: unseen"));
        let short = shrink(&found);
        let count = short.script.operations.len();
        println!(
            "{name}: {} -> {count} operations\n{}",
            found.script.operations.len(),
            short.script
        );
        assert!(count <= 12, "{name}: {count} operations are left\n{}", short.script);
        // The text replays, and shows the same.
        let text = short.script.to_string();
        let again: Script = text.parse().unwrap();
        assert_eq!(again, short.script, "{name}");
        let (_, difference) = Trial::replay(&again, |_, _, _| ()).unwrap_err();
        assert_eq!(difference, short.difference, "{name}");
        // Without the defect there is nothing to see.
        let sound = Plan { laws: false, ..Plan::default() };
        let sound = Script { plan: sound, operations: short.script.operations };
        assert_eq!(Trial::replay(&sound, |_, _, _| ()), Ok(()), "{name}");
    }
}

/// The laws alone find the defects of RMPOPT.
#[test]
fn seeded_faults_break_law_1_or_2() {
    let laws = |seed, fault| {
        let run = wild(seed, UnitConfig::default());
        let plan = Plan { fault, laws: true, ..run.plan };
        random(&Random { plan, only_laws: true, ..run }, |_, _| ())
    };
    assert!((0..4).all(|seed| laws(seed, None).is_ok()));
    for fault in Plan::faults() {
        let found = (0..4).find_map(|seed| laws(seed, Some(fault)).err()).expect("unseen");
        assert!(found.difference.is_of_law(), "{fault:?}");
    }
}
