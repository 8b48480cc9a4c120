//! The model against the oracle, and against laws 1 and 2.

mod driver;

use std::time::Instant;

use driver::{all_configs, run, BaseWrites, Plan, Tally};
use snp_model::{BaseWrite, EnableToggle, Fault, UnitConfig};

/// Operations of the large run.
const OPERATIONS: u64 = 1_000_000;

fn plan(seed: u64, config: UnitConfig) -> Plan {
    Plan {
        seed,
        operations: 20_000,
        segmented: true,
        config,
        base_writes: BaseWrites::Wild,
        laws: false,
        only_laws: false,
        fault: None,
    }
}

/// Bits that survive a base write or a disable may stand for memory that changed meanwhile.
fn is_safe(config: UnitConfig) -> bool {
    config.base_write != BaseWrite::KeepsByIndex
        && config.en_toggle != EnableToggle::KeepsAndMissesRmpupdate
}

#[test]
fn a_million_operations_agree() {
    let configs = all_configs();
    let share = OPERATIONS.div_ceil(configs.len() as u64);
    let mut sum = Tally::default();
    let start = Instant::now();
    for (seed, config) in configs.iter().enumerate() {
        let laws = is_safe(*config);
        let plan = Plan { operations: share, laws, ..plan(seed as u64, *config) };
        sum.add(&run(&plan).unwrap());
    }
    let rate = (share * configs.len() as u64) as f64 / start.elapsed().as_secs_f64();
    println!("{rate:.0} operations/s, {sum:?}");
    for (code, count) in [0, 1, 2, 3, 4, 7].map(|code| (code, sum.codes[code])) {
        assert!(count > 500, "code {code} came {count} times");
    }
    for (code, count) in [0, 1, 2, 3, 6].map(|code| (code, sum.guest_codes[code])) {
        assert!(count > 50, "code {code} came {count} times to a guest");
    }
    assert!(sum.carries > 50 && sum.guest_allowed > 500 && sum.guest_vc > 500);
    assert!(sum.guest_faults > 500);
    assert!(sum.optimised > 10_000 && sum.cached > 2_000 && sum.raced > 200);
    assert!(sum.skipped > 2_000 && sum.refused > 2_000 && sum.inits > 100);
}

#[test]
fn a_contiguous_rmp_agrees_and_has_no_rmpopt() {
    let plan = Plan { segmented: false, laws: true, ..plan(77, UnitConfig::default()) };
    let tally = run(&plan).unwrap();
    assert_eq!(tally.optimised, 0);
}

/// Laws 1 and 2 hold under every switch if `RMPOPT_BASE` is written once per core and `SNP_INIT`.
#[test]
fn laws_hold_under_every_switch_with_one_base_write_per_init() {
    for (seed, config) in all_configs().into_iter().enumerate() {
        let base = Plan { operations: 10_000, ..plan(1000 + seed as u64, config) };
        run(&Plan { base_writes: BaseWrites::OncePerInit, laws: true, ..base }).unwrap();
    }
}

/// The switches are real: with wild base writes the dangerous ones break law 1.
#[test]
fn bits_that_survive_break_law_1() {
    let by_index = UnitConfig { base_write: BaseWrite::KeepsByIndex, ..UnitConfig::default() };
    let misses =
        UnitConfig { en_toggle: EnableToggle::KeepsAndMissesRmpupdate, ..UnitConfig::default() };
    for config in [by_index, misses] {
        let broken = (0..64).any(|seed| run(&Plan { laws: true, ..plan(seed, config) }).is_err());
        assert!(broken, "{config:?}");
    }
}

#[test]
fn every_seeded_fault_is_seen() {
    for fault in [Fault::DropClear, Fault::StaleCache, Fault::BlindPublish] {
        let base = plan(5, UnitConfig::default());
        assert!(run(&base).is_ok());
        let difference = run(&Plan { fault: Some(fault), ..base }).expect_err("unseen");
        println!("{fault:?}: {difference:?}");
    }
}

/// The laws alone find them too.
#[test]
fn seeded_faults_break_law_1_or_2() {
    let laws = |seed, fault| {
        let base = plan(seed, UnitConfig::default());
        run(&Plan { fault, laws: true, only_laws: true, ..base })
    };
    assert!((0..4).all(|seed| laws(seed, None).is_ok()));
    for fault in [Fault::DropClear, Fault::StaleCache, Fault::BlindPublish] {
        let breach = (0..4).find_map(|seed| laws(seed, Some(fault)).err()).expect("unseen");
        println!("{fault:?}: {breach:?}");
    }
}
