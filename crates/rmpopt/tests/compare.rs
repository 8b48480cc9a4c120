//! `rmpopt compare`: the same bytes whatever the threads, exit codes, interruption, bad input.

use assert_cmd::assert::Assert;
use assert_cmd::cargo::cargo_bin_cmd;
use predicates::str::{contains, is_empty};
use serde_json::Value;

fn compare(args: &[&str]) -> Assert {
    cargo_bin_cmd!("rmpopt").arg("compare").args(args).env("LC_ALL", "C").assert()
}

fn stdout(assert: &Assert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).expect("text")
}

fn json(args: &[&str]) -> Value {
    let done = compare(args).code(0).stderr(is_empty());
    serde_json::from_str(&stdout(&done)).expect("JSON")
}

/// The text without the values of `wall_s`.
fn without_wall(text: &str) -> String {
    let mut parts = text.split("\"wall_s\":");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        kept.push_str("\"wall_s\":");
        let end = part.find([',', '}']).expect("a value ends");
        assert!(part[..end].parse::<f64>().is_ok(), "{}", &part[..end]);
        kept.push_str(&part[end..]);
    }
    kept
}

const ARGS: [&str; 8] = [
    "--scenarios",
    "small",
    "--policies",
    "tracked,v2,v10,oracle-delayed,off",
    "--seeds",
    "2",
    "--delay-sweep",
    "--json",
];

#[test]
fn the_number_of_threads_changes_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    let run = |jobs: &str| {
        let page = dir.path().join(jobs).display().to_string();
        let more = ["--jobs", jobs, "--html", page.as_str()];
        let text = stdout(&compare(&[&ARGS[..], &more].concat()).code(0));
        (without_wall(&text), std::fs::read_to_string(&page).unwrap())
    };
    let (one, two) = (run("1"), run("2"));
    assert_eq!(one, two);
    assert_eq!(one, run("2"), "nor does doing it again");
}

#[test]
fn results_are_those_of_rmpopt_run_key_for_key() {
    let all = json(&["--scenarios", "small", "--seeds", "2", "--json"]);
    assert_eq!((&all["schema_version"], &all["emulated"]), (&1.into(), &true.into()));
    assert_eq!((&all["incomplete"], &all["law_violations"]), (&false.into(), &0.into()));
    let policies = all["policies"].as_array().unwrap();
    let results = all["results"].as_array().unwrap();
    assert_eq!(results.len(), policies.len() * 2);
    assert_eq!(all["done"], results.len());
    assert_eq!(all["planned"], all["done"]);
    for policy in policies {
        let mine: Vec<_> = results.iter().filter(|run| run["policy"] == *policy).collect();
        assert_eq!(mine.iter().map(|run| &run["seed"]).collect::<Vec<_>>(), [1, 2]);
        let args = ["run", "small", "--seed", "2", "--json", "--policy", policy.as_str().unwrap()];
        let run = cargo_bin_cmd!("rmpopt").args(args).assert().code(0);
        let mut alone: Value = serde_json::from_str(&stdout(&run)).unwrap();
        alone["wall_s"] = mine[1]["wall_s"].clone();
        assert_eq!(alone, *mine[1], "{policy}");
    }
}

#[test]
fn a_sweep_is_of_every_policy_that_has_a_delay() {
    let all = json(&ARGS);
    let swept = all["delay_sweep"].as_array().unwrap();
    let results = all["results"].as_array().unwrap();
    assert_eq!((results.len(), swept.len()), (5 * 2, 3 * 6));
    assert_eq!(all["done"], results.len() + swept.len());
    for policy in ["tracked", "v10", "oracle-delayed"] {
        let mine = swept.iter().filter(|run| run["policy"] == policy);
        let pairs: Vec<_> = mine
            .map(|run| {
                let wait = run["reoptimize_s"]["p50"].as_f64();
                (run["delay_s"].as_f64().unwrap(), wait)
            })
            .collect();
        assert!(pairs.is_sorted_by(|a, b| a.0 < b.0), "{pairs:?}");
        // 100 ms against 30 s: the delay reaches the policy.
        let (first, last) = (pairs.first().unwrap().1, pairs.last().unwrap().1);
        assert!(last.is_none_or(|last| last > first.unwrap() + 5.0), "{policy}: {pairs:?}");
    }
}

/// Guests that end less than 10 s apart put v10's pass off for ever; `tracked` is not kept from its work.
#[test]
fn starvation_shows_as_never() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("churn.toml");
    let guests = (0..20).map(|n| {
        format!(
            "[[guest]]\nkind = \"snp\"\nmemory = \"1GiB\"\nplacement = \"1g\"\nat = \"3s\"\n\
             until = \"{}s\"\n",
            5 + n * 5
        )
    });
    let text = "schema_version = 1\nname = \"churn\"\nuntil = \"109s\"\n[host]\nsockets = 1\n\
                cores_per_socket = 4\nmemory = \"32GiB\"\n"
        .to_owned()
        + &guests.collect::<String>();
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let args = ["--policies", "tracked,v10", "--seeds", "1", "--json", "--scenarios", &file];
    let all = json(&args);
    let waits = |at: usize| &all["results"][at]["reoptimize_s"];
    assert_eq!((&waits(0)["never"], &waits(0)["never_longest"]), (&0.into(), &Value::Null));
    assert!(waits(0)["count"].as_u64().is_some_and(|count| count >= 19), "{}", waits(0));
    assert_eq!((&waits(1)["count"], &waits(1)["p50"]), (&0.into(), &Value::Null));
    assert!(waits(1)["never"].as_u64().is_some_and(|never| never > 0), "{}", waits(1));
    assert!(waits(1)["never_longest"].as_f64().is_some_and(|s| s > 9.0), "{}", waits(1));
}

#[test]
fn quick_stops_each_run_after_a_minute() {
    let all = json(&["--scenarios", "venice-2p", "--policies", "off,tracked", "--quick", "--json"]);
    let results = all["results"].as_array().unwrap();
    let seen: Vec<_> = results.iter().map(|r| (&r["policy"], &r["simulated_s"])).collect();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0], (&"off".into(), &60.0.into()));
    assert_eq!(seen[1], (&"tracked".into(), &60.0.into()));
}

/// The page and the JSON show the costs that were used, not the defaults.
#[test]
fn costs_from_a_file_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("costs.toml");
    std::fs::write(&file, "schema_version = 1\nrmpopt_fast = 777\n").unwrap();
    let file = file.display().to_string();
    let args = ["--scenarios", "small", "--policies", "off", "--quick", "--json", "--costs", &file];
    let all = json(&args);
    let costs = all["costs"].as_array().unwrap();
    let fast = costs.iter().find(|cost| cost["name"] == "rmpopt_fast").unwrap();
    assert_eq!(fast["value"], 777);
}

#[test]
fn tables_fit_a_terminal() {
    let text = stdout(&compare(&["--scenarios", "small,venice-2p", "--quick"]).code(0));
    assert!(text.is_ascii());
    for line in text.lines() {
        assert!(line.len() <= 80, "{line}");
    }
    for word in ["EMULATED", "small", "venice-2p", "  tracked ", "  v10 ", "no claimed law"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_file_is_a_scenario_too() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/small.toml");
    let args = ["--policies", "off", "--quick", "--json", "--scenarios"];
    let file = json(&[&args[..], &[path]].concat());
    let named = json(&[&args[..], &["small"]].concat());
    assert_eq!(file["results"][0]["map"], named["results"][0]["map"]);
    assert_eq!(file["scenarios"], named["scenarios"]);
}

#[test]
fn what_cannot_be_done_says_why() {
    for (args, what) in [
        (&["--policies", "tracked,v11"][..], "[possible values: tracked, tracked-work"),
        (&["--policies", ""], "a value is required"),
        (&["--seeds", "0"], "0 is not in 1..=1000"),
        (&["--jobs", "0"], "0 is not in 1..=1024"),
        (&["small"], "unexpected argument"),
    ] {
        compare(args).code(2).stdout(is_empty()).stderr(contains(what));
    }
    compare(&["--scenarios", "small,large"])
        .code(3)
        .stdout(is_empty())
        .stderr(contains("large: no built-in scenario (there are "));
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad.toml");
    std::fs::write(&bad, "schema_version = 1\nname = \"x\"\nhost = 3\n").unwrap();
    let bad = bad.display().to_string();
    compare(&["--scenarios", &bad]).code(2).stdout(is_empty()).stderr(contains("bad.toml:3:"));
    let nowhere = dir.path().join("none/page.html").display().to_string();
    compare(&["--scenarios", "small", "--html", &nowhere])
        .code(3)
        .stdout(is_empty())
        .stderr(contains("none/page.html: cannot be written"));
}

/// Interrupted, it prints what was done and says that it is not all.
#[cfg(unix)]
#[test]
fn an_interrupted_comparison_keeps_what_is_done() {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    let child = Command::new(assert_cmd::cargo::cargo_bin!("rmpopt"))
        .args(["compare", "--scenarios", "small", "--seeds", "1000", "--jobs", "2", "--json"])
        .arg("--html")
        .arg(&page)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Long enough for the handler to be there and for some runs.
    std::thread::sleep(Duration::from_millis(1500));
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(all["incomplete"], true);
    let done = all["results"].as_array().unwrap().len();
    assert!(done > 0 && all["done"] == done, "{done} of {}", all["done"]);
    assert!(all["planned"].as_u64() > all["done"].as_u64());
    // Two were under way, or fewer between two runs.
    let cut = all["interrupted"].as_array().unwrap();
    assert!(cut.len() <= 2, "{cut:?}");
    for run in cut {
        let same = |done: &&Value| done["policy"] == run["policy"] && done["seed"] == run["seed"];
        assert_eq!(run["scenario"], "small");
        assert!(all["results"].as_array().unwrap().iter().find(same).is_none(), "{run}");
    }
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("Incomplete: it was interrupted"));
    assert!(html.trim_end().ends_with("</html>"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing beside the page");
}
