//! `rmpopt export`: what it says, and how it stands up to clients.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(dead_code, reason = "helpers of other tests")]

mod exporter;
mod fake_host;

use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;

use assert_cmd::cargo::cargo_bin_cmd;
use predicates::str::contains;

use crate::exporter::{Exporter, exchange, rest, wait_for};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The value of a series, by its name with labels.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find(|line| line.rsplit_once(' ').is_some_and(|l| l.0 == series))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

fn series(page: &str) -> usize {
    page.lines().filter(|line| !line.starts_with('#')).count()
}

#[test]
fn metrics_of_a_big_host() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.json");
    fake_host::snapshot(&file);
    let export = |flags: &[&str]| {
        let root = ["export", "--from", text(&file)];
        let out = cargo_bin_cmd!("rmpopt").args([&root[..], flags].concat()).assert().code(0);
        String::from_utf8(out.get_output().stdout.clone()).unwrap()
    };
    let page = export(&[]);
    for (series, expected) in [
        ("rmp_regions{state=\"unoptimized\"}", 201.0),
        ("rmp_regions{state=\"optimized\"}", 2048.0 - 54.0 - 201.0),
        ("rmp_regions{state=\"partial\"}", 0.0),
        ("rmp_optimized_bytes{node=\"0\"}", ((2048u64 - 54 - 201) << 30) as f64),
        ("rmp_ram_bytes{node=\"1\"}", (6u64 << 40) as f64),
        ("rmp_ram_uncovered_bytes", 0.0),
        ("rmp_cores_enabled", 512.0),
        ("rmp_cores_disagreeing", 0.0),
        ("snp_enabled", 1.0),
        ("snp_guests", 2.0),
        ("snp_asids{pool=\"sev_es\"}", 2.0),
        ("snp_asids_limit{pool=\"sev_es\"}", 99.0),
        ("rmp_rmpopt_total", 1_048_576.0),
        ("rmp_rmpopt_results_total{result=\"dirty\"}", 576.0),
        ("rmp_doctor_check_failed{id=\"D012\",severity=\"warning\"}", 1.0),
        ("rmp_driver_belief_age_seconds", 1.5),
    ] {
        assert_eq!(value(&page, series), Some(expected), "{series}\n{page}");
    }
    assert!(series(&page) <= 200, "{}", series(&page));
    // The other format says the same.
    let open = export(&["--openmetrics"]);
    assert!(open.ends_with("\n# EOF\n"));
    assert_eq!(series(&open), series(&page));
    for line in page.lines().filter(|l| !l.starts_with('#') && !l.contains("_seconds ")) {
        assert!(open.contains(&format!("\n{line}\n")), "{line}");
    }
}

#[test]
fn pages_and_refusals() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.json");
    fake_host::snapshot(&file);
    let exporter = Exporter::start(&["--from", text(&file), "--interval", "1d"]);
    let ask = |request: &str| exchange(exporter.connect(), request.as_bytes());

    let page = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(page.contains("\nrmp_sample_age_seconds "));
    let open = ask("GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n");
    assert!(
        open.contains(
            "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
        )
    );
    assert!(open.ends_with("# EOF\n"));
    let head = ask("HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.ends_with("\r\n\r\n") && head.contains("Content-Length: "), "{head}");
    assert!(ask("GET / HTTP/1.0\r\n\r\n").contains("href=\"/metrics\""));
    for (request, status) in [
        ("POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405 Method Not Allowed"),
        ("GET /../../etc/passwd HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("hello\r\n\r\n", "400 Bad Request"),
        (&format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(20_000)), "431 "),
    ] {
        let answer = ask(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
    // A request in two parts, and one whose sender closes its side behind it.
    let halves = exporter.connect();
    exchange_in_parts(&halves);
    assert!(rest(halves).starts_with("HTTP/1.1 200"));
    let half_closed = exporter.connect();
    std::io::Write::write_all(&mut &half_closed, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    half_closed.shutdown(Shutdown::Write).unwrap();
    assert!(rest(half_closed).starts_with("HTTP/1.1 200"));
    let says_nothing = exporter.connect();
    says_nothing.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(says_nothing), "");
    let counted = exporter.metrics();
    assert_eq!(value(&counted, "rmp_http_responses_total{code=\"405\"}"), Some(1.0));
    assert_eq!(value(&counted, "rmp_samples_total"), Some(1.0), "a scrape reads nothing");
    assert_eq!(exporter.end("-TERM").code(), Some(0));
}

fn exchange_in_parts(mut stream: &TcpStream) {
    use std::io::Write as _;
    for part in ["GET /metr", "ics HTTP/1.1\r", "\n\r\n"] {
        stream.write_all(part.as_bytes()).unwrap();
        stream.flush().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_crowd_that_says_nothing_keeps_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let exporter = Exporter::start(&["--root", text(dir.path()), "--interval", "1d"]);
    // Far more than are held at a time; half of them begin a request and do not end it.
    let crowd: Vec<_> = (0..700)
        .map(|n| {
            let stream = exporter.connect();
            if n % 2 == 0 {
                std::io::Write::write_all(&mut &stream, b"GET /metrics HTTP/1.1\r\nX: ").unwrap();
            }
            stream
        })
        .collect();
    let page = exporter.metrics();
    assert!(value(&page, "rmp_http_connections").unwrap() <= 512.0, "{page}");
    // Those that are left are dropped when their time is over.
    let begun = Instant::now();
    for stream in crowd {
        assert_eq!(rest(stream), "");
    }
    assert!(begun.elapsed().as_secs() < 60);
    let dropped = |reason: &str| format!("rmp_http_dropped_total{{reason=\"{reason}\"}}");
    let page = wait_for("all to be dropped", || {
        let page = exporter.metrics();
        let all = value(&page, &dropped("evicted"))? + value(&page, &dropped("expired"))?;
        (all >= 700.0).then_some(page)
    });
    assert!(value(&page, &dropped("evicted")).unwrap() > 0.0, "{page}");
    assert_eq!(exporter.end("-INT").code(), Some(0));
}

/// What a client of the flood does after it has connected.
fn misbehave(n: usize, mut stream: &TcpStream) {
    use std::io::Write as _;
    // Its place may have been taken already.
    let mut say = |bytes: &[u8]| drop(stream.write_all(bytes));
    match n % 4 {
        0 => {}
        1 => say(b"GET /metrics HTTP/1.1\r\nX: "),
        2 => drop(stream.shutdown(Shutdown::Write)),
        _ => {
            say(b"GET /metr");
            drop(stream.shutdown(Shutdown::Write));
        }
    }
}

#[test]
fn ten_thousand_slow_and_half_closed_clients_keep_nobody_out() {
    const CLIENTS: usize = 10_000;
    /// Connections that are left open, of each of the two: not more than a process may have files.
    const OPEN: usize = 400;
    let dir = tempfile::tempdir().unwrap();
    let exporter = Exporter::start(&["--root", text(dir.path()), "--interval", "1d"]);
    let flood = |from: usize| {
        let mut open = std::collections::VecDeque::new();
        for n in from..from + CLIENTS / 2 {
            let stream = exporter.connect();
            misbehave(n, &stream);
            open.push_back(stream);
            if open.len() > OPEN {
                open.pop_front();
            }
        }
        open
    };
    let scrapes = std::thread::scope(|scope| {
        let crowd = [0, CLIENTS / 2].map(|from| scope.spawn(move || flood(from)));
        let mut scrapes = 0;
        while !crowd.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let page = exporter.metrics();
            assert!(value(&page, "rmp_http_connections").unwrap() <= 512.0, "{page}");
            scrapes += 1;
        }
        scrapes
    });
    assert!(scrapes > 0);
    // One that has asked and says that it will say no more gets its answer.
    let asked = exporter.connect();
    std::io::Write::write_all(&mut &asked, b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    asked.shutdown(Shutdown::Write).unwrap();
    assert!(rest(asked).starts_with("HTTP/1.1 200 OK"));
    wait_for("the crowd's end", || {
        (value(&exporter.metrics(), "rmp_http_connections")? <= 1.0).then_some(())
    });
    let status = format!("/proc/{}/status", exporter.process.0.id());
    let status = std::fs::read_to_string(status).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 64 * 1024, "{peak} KiB");
    assert_eq!(exporter.end("-TERM").code(), Some(0));
}

#[test]
fn the_last_good_sample_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, file) = (dir.path().join("tree"), dir.path().join("s.json"));
    for pid in [4711, 4712] {
        let process = tree.join("proc").join(pid.to_string());
        std::fs::create_dir_all(&process).unwrap();
        let line = "qemu-system-x86_64\0-object\0sev-snp-guest,id=sev0\0";
        std::fs::write(process.join("cmdline"), line).unwrap();
    }
    let snapshot = || {
        cargo_bin_cmd!("rmpopt")
            .args(["snapshot", "--replace", "--mode", "640", "--root", text(&tree)])
            .args(["-o", text(&file)])
            .assert()
            .code(0);
    };
    snapshot();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    let exporter = Exporter::start(&["--from", text(&file), "--interval", "100ms"]);
    let taken = value(&exporter.metrics(), "rmp_last_success_timestamp_seconds").unwrap();
    std::fs::write(&file, "garbage").unwrap();
    let page = wait_for("failures", || {
        let page = exporter.metrics();
        (value(&page, "rmp_sample_failures_total")? >= 2.0).then_some(page)
    });
    assert_eq!(value(&page, "snp_guests"), Some(2.0));
    assert_eq!(value(&page, "rmp_last_success_timestamp_seconds"), Some(taken));
    // The age is that of the snapshot, not of its reading.
    assert!(value(&page, "rmp_sample_age_seconds").unwrap() > 0.0);
    std::fs::remove_file(tree.join("proc/4712/cmdline")).unwrap();
    snapshot();
    wait_for("the new snapshot", || {
        (value(&exporter.metrics(), "snp_guests") == Some(1.0)).then_some(())
    });
}

#[test]
fn textfiles_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (from, file) = (dir.path().join("s.json"), dir.path().join("rmpopt.prom"));
    fake_host::snapshot(&from);
    let base = ["export", "--from", text(&from), "--textfile", text(&file)];
    cargo_bin_cmd!("rmpopt").args(base).arg("--once").assert().code(0);
    let first = std::fs::read_to_string(&file).unwrap();
    assert!(first.ends_with('\n') && first.contains("\nrmp_build_info{"), "{first}");
    // Its age would be wrong by the time it is read.
    assert!(!first.contains("rmp_sample_age_seconds"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);

    let mut running = exporter::Running(
        std::process::Command::new(env!("CARGO_BIN_EXE_rmpopt"))
            .args(base)
            .args(["--interval", "100ms"])
            .spawn()
            .unwrap(),
    );
    wait_for("a third reading", || {
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(series(&text), series(&first), "a part of a file");
        (value(&text, "rmp_samples_total")? >= 3.0).then_some(())
    });
    let pid = running.0.id().to_string();
    assert!(std::process::Command::new("kill").arg(pid).status().unwrap().success());
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    let names = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(names, 2, "the snapshot and the file");
}

#[test]
fn what_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let root = text(dir.path());
    let run = |args: &[&str]| cargo_bin_cmd!("rmpopt").arg("export").args(args).assert();
    run(&["--from", "/nonexistent"]).code(3).stderr(contains("/nonexistent"));
    run(&["--root", root, "--textfile", "/nonexistent/x.prom", "--once"])
        .code(3)
        .stderr(contains("x.prom: cannot be written"));
    run(&["--once"]).code(2);
    run(&["--listen", "host:1"]).code(2).stderr(contains("expected a port"));
    run(&["--listen", "0", "--interval", "1ms"]).code(2).stderr(contains("expected 100ms to 1d"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    run(&["--root", root, "--listen", &address]).code(3).stderr(contains(address));
}
