use super::*;
use crate::cost::Draws;

#[test]
fn every_figure_is_met_under_both_readings() {
    let found = calibrate(CostModel::DEFAULT, &mut |_| {}).unwrap();
    assert_eq!(found.readings.len(), 2);
    for reading in &found.readings {
        assert!(reading.holds && reading.held_out_error <= TOLERANCE, "{reading:?}");
    }
    for row in &found.rows {
        let off = (row.ratio - 1.0).abs();
        assert!(off <= if row.fitted { 0.01 } else { TOLERANCE }, "{row:?}");
        assert!(row.spread[0] <= row.published && row.published <= row.spread[1]);
    }
    assert_eq!(found.rows.iter().filter(|row| row.fitted).count(), 6);
    assert_eq!(found.rows.iter().filter(|row| !row.fitted).count(), 6);
    for fitted in &found.parameters {
        assert!((fitted.low..=fitted.high).contains(&fitted.value), "{fitted:?}");
    }
    // The defaults are what is fitted under the default reading: a change of the lab that moves a
    // figure must move them too.
    let of_default = |fitted: &&Fitted| fitted.parallel == Parallel::default().as_str();
    for fitted in found.parameters.iter().filter(of_default) {
        assert_eq!(fitted.value, fitted.default, "{}", fitted.name);
    }
}

#[test]
fn a_wrong_model_is_seen() {
    // Lines of the RMP that cost what they cannot: the contended figures go astray.
    let costs = CostModel { rmp_line_local: 5, rmp_line_remote: 5, ..CostModel::DEFAULT };
    let found = calibrate(costs, &mut |_| {}).unwrap();
    assert!(!found.holds);
    let by = |name: &str| found.readings.iter().find(|reading| reading.parallel == name).unwrap();
    assert!(by("contention").held_out_error > TOLERANCE);
    assert!(!by("misses").holds, "5 ns is outside its range");
}

#[test]
fn the_fit_comes_to_the_same_from_elsewhere() {
    let near = fit::fit(CostModel::DEFAULT, &mut |_| {}).unwrap().costs;
    let far = CostModel {
        rmpopt_slow: 400_000,
        rmpopt_fast: 3_000,
        ipi_send_target: 300,
        ..CostModel::DEFAULT
    };
    let far = fit::fit(far, &mut |_| {}).unwrap().costs;
    for (near, far) in near.fields().iter().zip(far.fields()) {
        assert!(near.value.abs_diff(far.value) <= near.value / 200 + 1, "{near:?} {far:?}");
    }
}

#[test]
fn with_draws_the_means_stay() {
    let drawn = CostModel { draws: Draws::Drawn, ..CostModel::DEFAULT };
    for what in [Measured::Clean, Measured::Serial] {
        let of = |costs| machine::measure(what, costs).unwrap();
        let (mean, drawn) = (of(CostModel::DEFAULT), of(drawn));
        assert_ne!(mean, drawn);
        assert_eq!(mean.rmpopts.count, drawn.rmpopts.count);
        let ratio = drawn.rmpopts.sum_ns as f64 / mean.rmpopts.sum_ns as f64;
        assert!((0.97..1.03).contains(&ratio), "{what:?} {ratio}");
    }
}

// ---- the pass, recomputed from the costs; labels of spec/rmpopt.md 4 ----

/// "Leader loop RMPOPT per GB", then "per GB one synchronous broadcast" to 511 primary threads.
#[test]
fn a_pass_is_leader_loop_and_one_broadcast_per_region() {
    // Every RMPOPT costs the same, however many lines it reads and wherever they are.
    let mut costs = CostModel::DEFAULT;
    costs.rmpopt_slow = costs.rmpopt_fast;
    (costs.rmp_line_remote, costs.rmp_line_cached) = (costs.rmp_line_local, costs.rmp_line_local);
    let pass = machine::measure(Measured::Clean, costs).unwrap();
    let leader = 2_048 * costs.rmpopt_fast;
    let sent = costs.ipi_send + 511 * costs.ipi_send_target;
    let followers = 2_048 * (sent + costs.ipi_target + costs.rmpopt_fast);
    assert_eq!(pass.rmpopts.count, 2_048 + 2_048 * 511);
    assert_eq!(pass.rmpopts.sum_ns, pass.rmpopts.count * costs.rmpopt_fast);
    assert_eq!(pass.pass_ns, costs.work_wakeup + leader + followers);
}

/// The same with the costs as they are: the leader scans, half of it near and half far, and only the
/// regions with firmware pages are cheaper.
#[test]
fn a_pass_with_the_default_costs() {
    let costs = CostModel::DEFAULT;
    let pass = machine::measure(Measured::Clean, costs).unwrap();
    let leader = 1_024 * (costs.scan_ns(512, true) + costs.scan_ns(512, false));
    let sent = costs.ipi_send + 511 * costs.ipi_send_target;
    let followers = 2_048 * (sent + costs.ipi_target + costs.rmpopt_fast);
    let off = pass.pass_ns as f64 / (leader + followers) as f64 - 1.0;
    assert!(off.abs() < 0.02, "{off}");
    // The serial test: one scan and 1,023 cached results for each region.
    let serial = machine::measure(Measured::Serial, costs).unwrap();
    assert_eq!(serial.rmpopts.count, 1_038 * 1_024);
}

/// v2: each region on all 1,024 CPUs, the sender's own RMPOPT last.
#[test]
fn a_round_of_all_cpus_at_once() {
    let mut costs = CostModel::DEFAULT;
    costs.rmpopt_slow = costs.rmpopt_fast;
    (costs.rmp_line_remote, costs.rmp_line_cached) = (costs.rmp_line_local, costs.rmp_line_local);
    // A sender that is never held up: nothing of its core scans for longer than a send takes.
    let pass = machine::measure(Measured::Parallel, costs).unwrap();
    assert_eq!(pass.rmpopts.count, 1_038 * 1_024);
    assert_eq!(pass.rmpopts.most_ns, costs.rmpopt_fast);
    let sent = costs.ipi_send + 1_023 * costs.ipi_send_target;
    let last = sent + costs.ipi_target + costs.rmpopt_fast;
    let rounds = pass.pass_ns / 1_038;
    // The other thread of the sender's core stops it for one RMPOPT.
    assert!((last..=last + costs.rmpopt_fast).contains(&rounds), "{rounds} {last}");
}
