//! `rmpopt top` for scripts, and on a terminal that tmux makes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake_host;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use assert_cmd::assert::Assert;
use assert_cmd::cargo::cargo_bin_cmd;
use predicates::prelude::PredicateBooleanExt as _;
use predicates::str::{contains, is_empty};
use serde_json::Value;

fn top(args: &[&str]) -> Assert {
    cargo_bin_cmd!("rmpopt").arg("top").args(args).env("LANG", "C.UTF-8").assert()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn frames_and_records_for_scripts() {
    let dir = fake_host::dir();
    let (tree, file) = (dir.path().join("tree"), dir.path().join("s.json"));
    fake_host::write(&tree);
    let (tree, file) = (text(&tree), text(&file));
    let once = top(&["--once", "--root", tree]).code(0).stderr(is_empty());
    let shown = String::from_utf8(once.get_output().stdout.clone()).unwrap();
    assert_eq!(shown.lines().count(), 24);
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert!(shown.contains("RMPOPT on 512 of 512 cores") && shown.contains("web"), "{shown}");
    top(&["--once", "--no-unicode", "--size", "200x60", "--root", tree])
        .code(0)
        .stdout(predicates::function::function(|text: &str| text.is_ascii()))
        .stdout(contains("12288 of 1 GiB"));
    // Two samples, one line each.
    let json = top(&["--json", "--frames", "2", "--interval", "100ms", "--root", tree]).code(0);
    let lines = String::from_utf8(json.get_output().stdout.clone()).unwrap();
    let records: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(records.len(), 2);
    assert_eq!((&records[0]["sample"], &records[1]["sample"]), (&0.into(), &1.into()));
    assert_eq!(records[0]["interval_ms"], Value::Null);
    assert!(records[1]["interval_ms"].as_u64().unwrap() >= 100);
    assert_eq!(records[0]["memory"]["regions"]["none"], 201);
    assert_eq!(records[1]["rates"]["cpu_taken"], 0.0);
    // A snapshot is a picture that does not go on, and says the same.
    cargo_bin_cmd!("rmpopt").args(["snapshot", "--root", tree, "-o", file]).assert().code(0);
    let still = top(&["--json", "--frames", "5", "--from", file]).code(0);
    let still: Value = serde_json::from_slice(&still.get_output().stdout).unwrap();
    for part in ["memory", "driver", "guests", "regions", "cpus"] {
        assert_eq!(still[part], records[0][part], "{part}");
    }
    let colours = top(&["--once", "--color", "always", "--from", file]).code(0);
    assert!(colours.get_output().stdout.contains(&0x1b));
    top(&["--once", "--from", file]).stdout(contains("s.json")).stdout(contains('\u{1b}').not());
}

#[test]
fn wrong_usage() {
    top(&["--root", "/"]).code(4).stdout(is_empty()).stderr(contains("--once"));
    top(&["--once", "--root", "/nonexistent"]).code(3).stderr(contains("/nonexistent"));
    top(&["--once", "--from", "/nonexistent"]).code(3);
    for wrong in [
        &["--once", "--frames", "2"][..],
        &["--frames", "0"],
        &["--interval", "1"],
        &["--interval", "1ms"],
        &["--size", "80"],
        &["--once", "--root", "/", "--from", "x"],
    ] {
        top(wrong).code(2).stdout(is_empty());
    }
}

#[test]
fn nobody_reads_and_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let run = |script: &str| {
        let bin = env!("CARGO_BIN_EXE_rmpopt");
        let script = script.replace(
            "TOP",
            &format!("{bin} top --json --interval 100ms --root {}", text(dir.path())),
        );
        Command::new("bash").args(["-c", &script]).output().unwrap()
    };
    let out = run("TOP | head -n 2 | wc -l; echo ${PIPESTATUS[0]}");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "2\n0\n");
    let out = run("TOP >/dev/null & sleep 1; kill $!; wait $!; echo $?");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "143\n");
}

/// A terminal of tmux with a shell in it; ends with its server.
struct Tmux {
    socket: String,
}

impl Tmux {
    /// `None` where there is no tmux, which is said.
    fn start(test: &str) -> Option<Self> {
        let there = Command::new("tmux").arg("-V").output().is_ok_and(|out| out.status.success());
        if !there {
            println!("skipped: {test}: tmux is missing");
            return None;
        }
        let tmux = Self { socket: format!("rmpopt-{test}-{}", std::process::id()) };
        tmux.run(&[
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            "env",
            "-i",
            "TERM=screen-256color",
            "LANG=C.UTF-8",
            "PATH=/usr/bin:/bin",
            "PS1=READY> ",
            "bash",
            "--norc",
            "-i",
        ]);
        tmux.until("READY>");
        Some(tmux)
    }

    fn run(&self, args: &[&str]) -> String {
        let args = [&["-L", &self.socket, "-f", "/dev/null", "-u"], args].concat();
        let out = Command::new("tmux").args(&args).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys"], keys].concat());
    }

    /// Types a command line.
    fn line(&self, line: &str) {
        self.run(&["send-keys", "-l", line]);
        self.keys(&["Enter"]);
    }

    /// The screen once it shows something; a loaded machine takes its time.
    fn until(&self, what: &str) -> String {
        self.until_is(what, |screen| screen.contains(what))
    }

    fn until_is(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let screen = self.screen();
            if is(&screen) {
                return screen;
            }
            assert!(start.elapsed() < Duration::from_secs(120), "no {what} on:\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.socket, "kill-server"]).output();
    }
}

fn command(tree: &Path) -> String {
    format!("{} top --interval 100ms --root {}", env!("CARGO_BIN_EXE_rmpopt"), text(tree))
}

#[test]
fn keys_sizes_and_what_is_left_behind() {
    let Some(tmux) = Tmux::start("keys_sizes_and_what_is_left_behind") else { return };
    let dir = fake_host::dir();
    fake_host::write(dir.path());
    tmux.line("stty -g > /dev/null; echo BEFORE");
    tmux.until("\nBEFORE");
    tmux.line(&format!("{}; echo ENDED $?", command(dir.path())));
    let shown = tmux.until("12288 of 1 GiB");
    assert!(!shown.contains("BEFORE"), "the screen is its own:\n{shown}");
    tmux.keys(&["?"]);
    tmux.until("any key leaves this page");
    tmux.keys(&["x"]);
    tmux.until("12288 of 1 GiB");
    tmux.keys(&["n"]);
    tmux.until("node 0 alone");
    tmux.keys(&["f"]);
    tmux.until("optimised alone");
    tmux.keys(&["Escape"]);
    tmux.until_is("all regions", |screen| screen.contains("12288") && !screen.contains("alone"));
    tmux.keys(&["Right", "+"]);
    tmux.until("GiB 0-");
    tmux.keys(&["p"]);
    tmux.until("PAUSED");
    tmux.keys(&["p"]);
    // Larger: the lists stand beside the map. Tiny: no harm. And back.
    tmux.run(&["resize-window", "-x", "200", "-y", "60"]);
    tmux.until_is("lists beside the map", |screen| {
        screen.lines().any(|line| line.contains("Regions") && line.contains("Driver"))
    });
    tmux.run(&["resize-window", "-x", "20", "-y", "5"]);
    tmux.until_is("a tiny frame", |screen| screen.lines().any(|l| l.starts_with(" Optimised 1.8")));
    tmux.run(&["resize-window", "-x", "80", "-y", "24"]);
    tmux.until("SNP guests");
    // The module is unloaded.
    std::fs::remove_dir_all(dir.path().join("sys/kernel/debug")).unwrap();
    tmux.until("rmpopt-table is gone");
    // Suspended and taken up again.
    tmux.keys(&["C-z"]);
    tmux.until_is("a stopped job", |screen| {
        screen.contains("Stopped") && screen.contains("BEFORE")
    });
    tmux.line("fg");
    tmux.until("SNP guests");
    tmux.keys(&["q"]);
    let left = tmux.until("ENDED");
    assert!(left.contains("BEFORE") && !left.contains("SNP guests"), "{left}");
    tmux.line("clear; stty -a");
    let tty = tmux.until("icanon");
    assert!(!tty.contains("-icanon") && !tty.contains("-echo "), "{tty}");
}

#[test]
fn signals_give_the_terminal_back() {
    let Some(tmux) = Tmux::start("signals_give_the_terminal_back") else { return };
    let dir = tempfile::tempdir().unwrap();
    for (signal, code) in [("TERM", 143), ("HUP", 129), ("INT", 130)] {
        tmux.line("clear");
        tmux.line(&format!("{}; echo ENDED $?", command(dir.path())));
        tmux.until("no regions are known");
        let find = format!("pgrep -f 'top --interval 100ms --root {}$'", text(dir.path()));
        let pid = Command::new("bash").args(["-c", &find]).output().unwrap();
        let pid = String::from_utf8_lossy(&pid.stdout).lines().next().unwrap().trim().to_owned();
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success()
        );
        let screen = tmux.until(&format!("ENDED {code}"));
        assert!(!screen.contains("no regions"), "{screen}");
        tmux.line("clear; stty -a");
        let tty = tmux.until("icanon");
        assert!(!tty.contains("-icanon") && !tty.contains("-echo "), "{signal}: {tty}");
    }
}

/// The terminal goes away under it: it ends, and does not read what is not there without end.
#[test]
fn it_ends_with_its_terminal() {
    let Some(tmux) = Tmux::start("it_ends_with_its_terminal") else { return };
    let dir = tempfile::tempdir().unwrap();
    tmux.line(&format!("exec {}", command(dir.path())));
    tmux.until("no regions are known");
    let pid = tmux.run(&["display-message", "-p", "#{pane_pid}"]);
    let process = Path::new("/proc").join(pid.trim());
    assert!(process.exists());
    drop(tmux);
    let start = Instant::now();
    while process.join("exe").read_link().is_ok() {
        assert!(start.elapsed() < Duration::from_secs(60), "it goes on without a terminal");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn no_colour_and_no_unicode() {
    let Some(tmux) = Tmux::start("no_colour_and_no_unicode") else { return };
    let dir = fake_host::dir();
    fake_host::write(dir.path());
    let colours = |screen: &str| screen.contains("\u{1b}[38;5;");
    tmux.line(&command(dir.path()));
    tmux.until("12288 of 1 GiB");
    assert!(colours(&tmux.run(&["capture-pane", "-p", "-e"])));
    tmux.keys(&["C-c"]);
    tmux.until("READY>");
    tmux.line(&format!("clear; NO_COLOR=1 LC_ALL=C {}", command(dir.path())));
    let shown = tmux.until("12288 of 1 GiB");
    assert!(shown.is_ascii(), "{shown}");
    assert!(!colours(&tmux.run(&["capture-pane", "-p", "-e"])));
    tmux.keys(&["q"]);
    tmux.until("READY>");
}
