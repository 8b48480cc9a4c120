//! `rmpopt calibrate` and `--costs`.

use assert_cmd::cargo::cargo_bin_cmd;
use predicates::str::{contains, is_empty, starts_with};
use serde_json::Value;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn both_readings_hold_and_say_so() {
    let output = cargo_bin_cmd!("rmpopt").args(["calibrate", "--json"]).assert().code(0);
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(found["schema_version"], 1);
    assert_eq!((&found["emulated"], &found["holds"]), (&true.into(), &true.into()));
    let rows = found["rows"].as_array().unwrap();
    let excluded = found["excluded"].as_array().unwrap();
    let mut expected =
        ["parallel", "name", "published", "spread", "simulated", "ratio", "fitted", "source"];
    expected.sort_unstable();
    for row in rows {
        let mut keys = keys(row);
        keys.sort_unstable();
        assert_eq!(keys, expected);
        let ratio = row["ratio"].as_f64().unwrap();
        let simulated = row["simulated"].as_f64().unwrap() / row["published"].as_f64().unwrap();
        assert!((ratio - simulated).abs() < 1e-5);
        assert!((0.85..=1.15).contains(&ratio), "{row}");
    }
    for reading in ["misses", "contention"] {
        for (figure, fitted) in [
            (95.0, true),
            (311.0, true),
            (5_226.0, true),
            (343.0, false),
            (424.0, false),
            (114_372.0, false),
        ] {
            let row = rows.iter().find(|row| {
                row["parallel"] == reading && row["published"].as_f64() == Some(figure)
            });
            assert_eq!(row.unwrap()["fitted"], fitted, "{reading} {figure}");
        }
    }
    assert_eq!(rows.len(), 12);
    for item in excluded {
        let name = item["name"].as_str().unwrap();
        let allowed = ["whole range", "mean ", "least", "most"];
        assert!(allowed.iter().any(|word| name.contains(word)), "{name}");
        assert!(!item["reason"].as_str().unwrap().is_empty() && item["ratio"].is_f64());
    }

    // What docs/calibrate.md says is what comes out.
    let docs = include_str!("../../../docs/calibrate.md");
    for fitted in found["parameters"].as_array().unwrap() {
        let value = fitted["value"].as_u64().unwrap();
        let name = fitted["name"].as_str().unwrap();
        let line = docs.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap();
        assert!(line.replace(',', "").contains(&format!(" {value} ")), "{line}: {value}");
    }
    for row in rows.iter().filter(|row| row["fitted"] == false) {
        let ratio = format!("({:.3})", row["ratio"].as_f64().unwrap());
        assert!(docs.contains(&ratio), "{row}");
    }

    let report = cargo_bin_cmd!("rmpopt").args(["calibrate"]).assert().code(0);
    let report = String::from_utf8(report.get_output().stdout.clone()).unwrap();
    assert!(report.contains("Largest error of a predicted figure: 14.6 % of 15 % allowed: holds"));
    assert!(report.lines().all(|line| line.chars().count() <= 80), "{report}");
}

fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("costs.toml");
    std::fs::write(&path, text).expect("a file");
    let path = path.display().to_string();
    (dir, path)
}

#[test]
fn a_bad_costs_file_is_refused_everywhere() {
    let (_dir, bad) = file("schema_version = 1\nrmpopt_slow = 1\n");
    for args in [&["calibrate", "--costs", &bad][..], &["run", "small", "--costs", &bad]] {
        let what = "costs.toml:2:15: rmpopt_slow: expected a whole number from 20000 to 600000 ns, found 1";
        cargo_bin_cmd!("rmpopt")
            .args(args)
            .assert()
            .code(2)
            .stdout(is_empty())
            .stderr(contains(what));
    }
    let (_dir, empty) = file("");
    let run =
        |path: &str| cargo_bin_cmd!("rmpopt").args(["run", "small", "--costs", path]).assert();
    run(&empty).code(2).stderr(contains("empty, expected costs"));
    run("no-such.toml").code(3).stdout(is_empty()).stderr(starts_with("error: "));
}

#[test]
fn costs_that_do_not_hold_give_exit_code_1() {
    let (_dir, dear) = file(
        "schema_version = 1\nipi_send = 3000\nipi_target = 3000\nguest_exit = 4000\nrmp_line_remote = 300\nrmp_line_local = 170\n",
    );
    cargo_bin_cmd!("rmpopt")
        .args(["calibrate", "--costs", &dear])
        .assert()
        .code(1)
        .stdout(contains("does not hold"));
}

#[test]
fn a_run_uses_the_costs_and_names_what_differs() {
    let (_dir, costs) =
        file("schema_version = 1\ndraws = \"drawn\"\nrmpopt_fast = 2000\ncache_loss = 10000\n");
    let run = |args: &[&str]| {
        let output =
            cargo_bin_cmd!("rmpopt").args(["run", "small", "--json"]).args(args).assert().code(0);
        let report: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
        report
    };
    let (plain, drawn) = (run(&[]), run(&["--costs", &costs]));
    let assumed = drawn["assumed"].as_array().unwrap();
    for said in [
        "cost: draws drawn, not mean",
        "cost: rmpopt_fast 2000 ns, not 1058",
        "cost: cache_loss 10000 ppm, not 50",
    ] {
        assert!(assumed.contains(&said.into()), "{assumed:?}");
    }
    assert_ne!(plain["stolen_us"], drawn["stolen_us"]);
    // One seed, the same times in both fidelities, and others with another seed.
    let fields = ["stolen_us", "rmpopt", "ipis", "wakeups", "steady", "reoptimize_s", "laws"];
    let pages = run(&["--costs", &costs, "--fidelity", "pages"]);
    let extents = run(&["--costs", &costs, "--fidelity", "extents"]);
    for field in fields {
        assert_eq!(pages[field], extents[field], "{field}");
    }
    assert_eq!(drawn["law_violations"], 0);
}
