//! The folder `fleet/` with the real programs: Prometheus, promtool, node_exporter, systemd-analyze.
//! Each listens at a free port of this machine and ends with its test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(dead_code, reason = "helpers of other tests")]

#[path = "fleet/dashboard.rs"]
mod dashboard;
mod exporter;
mod fake_host;
mod tools;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use assert_cmd::cargo::cargo_bin_cmd;
use serde_json::Value;

use crate::exporter::{Exporter, Running, get, wait_for};

fn fleet(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fleet").join(path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Metrics of a host, in the text format.
fn metrics(source: [&str; 2]) -> String {
    let args = ["export", source[0], source[1]];
    let out = cargo_bin_cmd!("rmpopt").args(args).assert().code(0);
    String::from_utf8(out.get_output().stdout.clone()).unwrap()
}

/// A port that was free a moment ago.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Starts a server at a free port; another one if somebody else was quicker.
fn serve(what: &str, mut command: impl FnMut(SocketAddr) -> Command) -> (Running, SocketAddr) {
    for _ in 0..5 {
        let address = free_port();
        let mut command = command(address);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Running(command.spawn().unwrap());
        let up = wait_for(what, || {
            if running.0.try_wait().unwrap().is_some() {
                return Some(false);
            }
            TcpStream::connect(address).is_ok().then_some(true)
        });
        if up {
            return (running, address);
        }
    }
    panic!("{what} did not start");
}

#[test]
fn promtool_accepts_the_metrics() {
    let Some(promtool) = tools::need("promtool_accepts_the_metrics", "promtool") else { return };
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("s.json");
    fake_host::snapshot(&from);
    for source in [["--from", text(&from)], ["--root", "/"]] {
        let file = dir.path().join("metrics");
        std::fs::write(&file, metrics(source)).unwrap();
        let page = std::fs::File::open(&file).unwrap();
        let output =
            Command::new(&promtool).args(["check", "metrics"]).stdin(page).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}

#[test]
fn promtool_passes_the_rules() {
    let Some(promtool) = tools::need("promtool_passes_the_rules", "promtool") else { return };
    let rules = fleet("prometheus/rmpopt.rules.yml");
    tools::said(Command::new(&promtool).args(["check", "rules"]).arg(&rules));
    let tests = fleet("prometheus/rmpopt.tests.yml");
    tools::said(Command::new(&promtool).args(["test", "rules"]).arg(&tests));
    // The tests can fail: with another threshold they do.
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(&rules).unwrap();
    let other = text.replace("< 0.95 * max_over_time", "< 0.75 * max_over_time");
    assert_ne!(text, other);
    std::fs::write(dir.path().join("rmpopt.rules.yml"), other).unwrap();
    std::fs::copy(tests, dir.path().join("rmpopt.tests.yml")).unwrap();
    let output = Command::new(&promtool)
        .args(["test", "rules"])
        .arg(dir.path().join("rmpopt.tests.yml"))
        .output()
        .unwrap();
    assert!(!output.status.success());
}

/// Names of metrics in an expression: words of ours that are no label.
fn names(expr: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // What stands in braces and brackets names labels and times.
    let mut depth = 0u32;
    let mut word = String::new();
    for c in expr.chars().chain([' ']) {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 && (c.is_ascii_alphanumeric() || "_:".contains(c)) {
            word.push(c);
            continue;
        }
        if word.starts_with("rmp_") || word.starts_with("snp_") || word.contains(':') {
            names.insert(std::mem::take(&mut word));
        }
        word.clear();
    }
    names
}

/// Every name that is defined: what the exporter serves, and what the rules record.
fn defined(page: &str) -> BTreeSet<String> {
    let rules = std::fs::read_to_string(fleet("prometheus/rmpopt.rules.yml")).unwrap();
    let records = rules.lines().filter_map(|line| line.trim().strip_prefix("- record: "));
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.filter_map(|line| line.split(['{', ' ']).next());
    records.chain(samples).map(str::to_owned).collect()
}

/// What a driver says that counts all there is to count.
fn counting() -> String {
    let more = ["contradicted", "hold.longest_ns", "faults", "unclean"];
    let keys = snp_defs::Counter::ALL.iter().map(|counter| counter.name()).chain(more);
    keys.map(|key| format!("{key} 1\n")).collect::<Vec<_>>().concat()
}

#[test]
fn rules_and_dashboard_name_only_metrics_that_exist() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.json");
    fake_host::snapshot(&file);
    let mut host: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    host["items"]["/sys/kernel/debug/x86/rmpopt/stats"]["text"] = counting().into();
    std::fs::write(&file, host.to_string()).unwrap();
    let defined = defined(&metrics(["--from", text(&file)]));
    let rules = std::fs::read_to_string(fleet("prometheus/rmpopt.rules.yml")).unwrap();
    let mut exprs: Vec<_> = dashboard::targets().into_iter().map(|target| target.expr).collect();
    // An expression stands on its line or, folded, on the deeper ones that follow.
    let mut lines = rules.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(expr) = line.trim().strip_prefix("expr: ") else { continue };
        let mut whole = expr.trim_start_matches(">-").to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with("          ")) {
            whole.push_str(more);
        }
        exprs.push(whole);
    }
    assert!(exprs.len() > 30);
    for expr in exprs {
        let names = names(&expr);
        assert!(!names.is_empty(), "{expr}");
        for name in names {
            assert!(defined.contains(&name), "{name} in {expr}");
        }
    }
}

/// The answer of Prometheus to a query that must be good.
fn query(prometheus: SocketAddr, expr: &str) -> Vec<Value> {
    let encoded = expr.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();
    let body = get(prometheus, &format!("/api/v1/query?query={encoded}"), "");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["status"], "success", "{expr}: {answer}");
    answer["data"]["result"].as_array().unwrap().clone()
}

fn alert_fires(prometheus: SocketAddr, name: &str) -> bool {
    let body = get(prometheus, "/api/v1/alerts", "");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let alerts = answer["data"]["alerts"].as_array().unwrap();
    alerts.iter().any(|a| a["labels"]["alertname"] == name && a["state"] == "firing")
}

/// A Prometheus scrapes an exporter while SNP guests come and go on its host. The rules are the
/// fleet's, but for how long an alert waits before it fires.
#[test]
fn prometheus_scrapes_and_the_alert_fires_and_resolves() {
    let test = "prometheus_scrapes_and_the_alert_fires_and_resolves";
    let Some(program) = tools::need(test, "prometheus") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (tree, storage) = (dir.path().join("tree"), dir.path().join("data"));
    fake_host::write(&tree);
    fake_host::hold(&tree, 0..1);
    std::fs::write(tree.join("sys/kernel/debug/x86/rmpopt/stats"), counting()).unwrap();
    let exporter = Exporter::start(&["--root", text(&tree), "--interval", "1s"]);

    let rules = std::fs::read_to_string(fleet("prometheus/rmpopt.rules.yml")).unwrap();
    let waits = ["5m", "10m", "15m", "1h"];
    let rules = waits.iter().fold(rules, |r, w| r.replace(&format!("for: {w}\n"), "for: 1s\n"));
    std::fs::write(dir.path().join("rmpopt.rules.yml"), rules).unwrap();
    let config = dir.path().join("prometheus.yml");
    let scrapes = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
         rule_files: [rmpopt.rules.yml]\n\
         scrape_configs:\n- job_name: rmpopt\n  static_configs: [{{targets: ['{}']}}]\n",
        exporter.address
    );
    std::fs::write(&config, scrapes).unwrap();
    let (_running, prometheus) = serve("Prometheus", |address| {
        let mut command = Command::new(&program);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", storage.display()));
        command.arg(format!("--web.listen-address={address}"));
        command
    });
    let share = || {
        let found = query(prometheus, "instance:rmp_optimized_bytes:ratio");
        found.first().map(|sample| sample["value"][1].as_str().unwrap().parse::<f64>().unwrap())
    };
    // Ready, and a few scrapes: rates need two.
    let before = wait_for("a share", || {
        let up = TcpStream::connect(prometheus).is_ok() && ready(prometheus);
        up.then(share).flatten()
    });
    wait_for("scrapes", || {
        let scraped = query(prometheus, "count_over_time(up[1m])");
        let scraped = scraped.first()?["value"][1].as_str()?.parse::<f64>().ok()?;
        (scraped >= 3.0).then_some(())
    });
    // OpenMetrics was taken: as the type that only it has is known.
    let metadata = get(prometheus, "/api/v1/targets/metadata?metric=rmp_build", "");
    assert!(metadata.contains("\"info\""), "{metadata}");
    let bad = query(prometheus, "up == 0");
    assert!(bad.is_empty(), "{bad:?}");
    assert!(!alert_fires(prometheus, "RmpOptimizedShareFell"));

    // SNP guests start and take a third of the window.
    fake_host::hold(&tree, 100..800);
    wait_for("the alert", || alert_fires(prometheus, "RmpOptimizedShareFell").then_some(()));
    assert!(share().unwrap() < before * 0.95);
    // They are gone, and what they held is optimised again.
    fake_host::hold(&tree, 0..1);
    wait_for("the alert's end", || {
        (!alert_fires(prometheus, "RmpOptimizedShareFell")).then_some(())
    });
    // Every expression of the dashboard is good and finds something; each series has a name of its own.
    for target in dashboard::targets() {
        let answer = query(prometheus, &target.expr);
        assert!(!answer.is_empty(), "{}: {}", target.panel, target.expr);
        target.shows(&answer);
    }
    // A minute of scrapes, one a second.
    wait_for("a minute of scrapes", || {
        let scraped = query(prometheus, "count_over_time(up[10m])");
        let scraped = scraped.first()?["value"][1].as_str()?.parse::<f64>().ok()?;
        (scraped >= 60.0).then_some(())
    });
    let scraped = query(prometheus, "min_over_time(up[10m])");
    assert_eq!(scraped[0]["value"][1], "1", "no scrape failed");
    let late = query(prometheus, "max_over_time(scrape_samples_scraped[10m])");
    let series: f64 = late[0]["value"][1].as_str().unwrap().parse().unwrap();
    assert!(series <= 200.0, "{series}");
}

fn ready(prometheus: SocketAddr) -> bool {
    let request = b"GET /-/ready HTTP/1.0\r\n\r\n";
    exporter::exchange(exporter::connect(prometheus), request).contains(" 200 OK")
}

#[test]
fn node_exporter_serves_the_textfile() {
    let test = "node_exporter_serves_the_textfile";
    let Some(program) = tools::need(test, "prometheus-node-exporter") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (from, folder) = (dir.path().join("s.json"), dir.path().join("textfiles"));
    fake_host::snapshot(&from);
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("rmpopt.prom");
    cargo_bin_cmd!("rmpopt")
        .args(["export", "--once", "--from", text(&from), "--textfile", text(&file)])
        .assert()
        .code(0);
    let (_running, node) = serve("node_exporter", |address| {
        let mut command = Command::new(&program);
        command.arg("--collector.disable-defaults").arg("--collector.textfile");
        command.arg(format!("--collector.textfile.directory={}", folder.display()));
        command.arg(format!("--web.listen-address={address}"));
        command
    });
    let page = get(node, "/metrics", "");
    assert!(page.contains("\nnode_textfile_scrape_error 0\n"), "{page}");
    assert!(page.contains("node_textfile_mtime_seconds{"), "{page}");
    let written = std::fs::read_to_string(&file).unwrap();
    // Numbers come back in another form, names and labels as they were.
    for line in written.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(page.contains(&format!("\n{name}")), "{name}");
    }
    assert!(page.contains("rmp_regions{state=\"unoptimized\"} 201\n"), "{page}");
}

#[test]
fn units_are_accepted_and_hardened() {
    let test = "units_are_accepted_and_hardened";
    let Some(analyze) = tools::need(test, "systemd-analyze") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut units = Vec::new();
    for entry in std::fs::read_dir(fleet("systemd")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "sysusers") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // The program is not installed here.
        let text = text.replace("/usr/bin/rmpopt", env!("CARGO_BIN_EXE_rmpopt"));
        let unit = dir.path().join(path.file_name().unwrap());
        std::fs::write(&unit, text).unwrap();
        units.push(unit);
    }
    units.sort();
    let said = tools::said(Command::new(&analyze).args(["verify", "--man=no"]).args(&units));
    let ours: Vec<_> = said.lines().filter(|line| line.contains("rmpopt")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
    // What an attacker could do with a service, from 0 to 10 (here in tenths).
    for unit in units.iter().filter(|unit| unit.extension().is_some_and(|kind| kind == "service")) {
        let mut security = Command::new(&analyze);
        security.args(["security", "--offline=true", "--threshold=25", "--no-pager"]).arg(unit);
        tools::said(&mut security);
    }
}

/// Each command line of the units is one that the program takes, but for files that are not there.
#[test]
fn units_run_what_there_is() {
    for entry in std::fs::read_dir(fleet("systemd")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("ExecStart=")) {
            let line = line.replace("${LISTEN}", "127.0.0.1:0").replace("/run/", "/nonexistent/");
            let words: Vec<_> = line.split(' ').collect();
            assert_eq!(words[0], "/usr/bin/rmpopt");
            // 2 would be wrong usage.
            cargo_bin_cmd!("rmpopt").args(&words[1..]).assert().code(3);
        }
    }
}

#[test]
fn labels_are_a_feature_file() {
    let dir = tempfile::tempdir().unwrap();
    let (from, file) = (dir.path().join("s.json"), dir.path().join("rmpopt"));
    fake_host::snapshot(&from);
    cargo_bin_cmd!("rmpopt")
        .args(["labels", "--expire", "1h", "--from", text(&from), "--output", text(&file)])
        .assert()
        .code(0);
    let written = std::fs::read_to_string(&file).unwrap();
    let (head, labels) = written.split_once('\n').unwrap();
    let expiry = head.strip_prefix("# +expiry-time=").unwrap();
    assert_eq!((expiry.len(), &expiry[19..]), (20, "Z"), "{expiry}");
    let expected = "feature.node.kubernetes.io/rmp.covers-ram=true\n\
        feature.node.kubernetes.io/rmp.kind=segmented\n\
        feature.node.kubernetes.io/rmpopt.capable=true\n\
        feature.node.kubernetes.io/rmpopt.driver=rmpopt\n\
        feature.node.kubernetes.io/rmpopt.policy=tracked\n\
        feature.node.kubernetes.io/snp.asids=99\n\
        feature.node.kubernetes.io/snp.enabled=true\n";
    assert_eq!(labels, expected);
}
