//! Laws 1 and 2 with real threads: updaters of 4K and 2M pages, PSMASH, guests, leaders and followers,
//! writers of memory and of a core's registers, and a cache that forgets.
//!
//! `RMPOPT_STRESS_S` says for how many seconds (2 by default, 30 in `cargo xtask ci`); every
//! combination of the switches gets an equal part of a third of that.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)] // Helpers unwrap what the tests state.

mod host;

use std::time::Duration;

use snp_model::{BaseWrite, EnableToggle, Fault, OutsideWindow, ScanCache, UnitConfig};

use self::host::{stress, Kind, Tally};

fn seconds() -> f64 {
    match std::env::var("RMPOPT_STRESS_S") {
        Err(_) => 2.0,
        Ok(text) => match text.parse() {
            Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => seconds,
            _ => panic!("RMPOPT_STRESS_S is {text:?}, expected seconds from 0.1 to 86400"),
        },
    }
}

fn every_config() -> Vec<UnitConfig> {
    let mut all = Vec::new();
    for base_write in [BaseWrite::Clears, BaseWrite::KeepsByIndex, BaseWrite::Gp] {
        for en_toggle in
            [EnableToggle::Clears, EnableToggle::Keeps, EnableToggle::KeepsAndMissesRmpupdate]
        {
            for outside_window in [OutsideWindow::CarryClear, OutsideWindow::Gp] {
                for (enabled, negative) in [(true, false), (true, true), (false, false)] {
                    all.push(UnitConfig {
                        segmented: true,
                        base_write,
                        en_toggle,
                        outside_window,
                        scan_cache: ScanCache { enabled, negative },
                    });
                }
            }
        }
    }
    all
}

/// Everything happened, so that the laws were tried.
fn all_happened(tally: &Tally) {
    for kind in Kind::ALL {
        assert!(tally.of(kind) > 0, "{kind:?} never happened: {tally}");
    }
}

#[test]
fn laws_1_and_2_hold() {
    let time = Duration::from_secs_f64(seconds());
    let tally = stress(UnitConfig::default(), time, None).unwrap_or_else(|what| panic!("{what}"));
    println!("stress, {time:?}: {tally}");
    all_happened(&tally);
}

#[test]
fn laws_1_and_2_hold_under_every_switch() {
    let configs = every_config();
    assert_eq!(configs.len(), 54);
    let time = Duration::from_secs_f64(seconds() / 3.0) / configs.len() as u32;
    let mut sum = Tally::default();
    for config in configs {
        let tally = stress(config, time.max(Duration::from_millis(40)), None)
            .unwrap_or_else(|what| panic!("{what}\n{config:#?}"));
        assert!(tally.of(Kind::LawCheck) > 0 && tally.of(Kind::Verify) > 0, "{config:#?}: {tally}");
        sum.add(&tally);
    }
    println!("stress under every switch: {sum}");
    all_happened(&sum);
}

#[test]
fn seeded_faults_are_seen() {
    for fault in [Fault::DropClear, Fault::StaleCache, Fault::BlindPublish] {
        let broken = stress(UnitConfig::default(), Duration::from_secs(60), Some(fault));
        let what = broken.err().unwrap_or_else(|| panic!("{fault:?} was not seen"));
        assert!(what.starts_with("law"), "{fault:?}: {what}");
        println!("{fault:?}: {what}");
    }
}
