//! Frames of a host of 1,024 CPUs and 12 TiB, as they must look, and what keys and changes do to them.
//!
//! `UPDATE_FRAMES=1` writes the pictures in `tests/frames/` anew; look at them before they are kept.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

#[path = "../../rmpopt/tests/fake_host/mod.rs"]
mod fake_host;
mod svg;

use std::fs;
use std::path::Path;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use snp_host::state::RegionKind;
use snp_host::system::Root;
use snp_top::{Key, Look, Model, Record, Sample, Sampler, draw};

const PLAIN: Look = Look { unicode: true, colour: false };
const COLOUR: Look = Look { unicode: true, colour: true };
const ASCII: Look = Look { unicode: false, colour: false };
/// 2026-06-01 12:00:00 UTC.
const NOON: u64 = 1_780_315_200_000;

fn buffer(model: &mut Model, look: Look, (columns, rows): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(model, look, frame.buffer_mut())).unwrap();
    terminal.backend().buffer().clone()
}

fn frame(model: &mut Model, look: Look, (columns, rows): (u16, u16)) -> String {
    let buffer = buffer(model, look, (columns, rows));
    let cells = buffer.content();
    let line = |row: &[ratatui::buffer::Cell]| {
        let text: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        format!("{}\n", text.trim_end())
    };
    cells.chunks(usize::from(columns)).map(line).collect()
}

/// A host of files whose driver did something between two samples.
struct Host {
    dir: tempfile::TempDir,
    sampler: Sampler,
    model: Model,
}

/// Times that do not depend on the machine.
fn settle(sample: &mut Sample) {
    sample.at = Duration::from_secs(sample.number);
    sample.unix_ms = NOON + sample.number * 1000;
}

impl Host {
    fn new() -> Self {
        let dir = fake_host::dir();
        fake_host::write(dir.path());
        Self::of(dir)
    }

    fn of(dir: tempfile::TempDir) -> Self {
        let sampler = Sampler::new(Root::tree(dir.path()).unwrap(), false);
        let mut host = Self { dir, sampler, model: Model::new() };
        host.sample();
        host
    }

    fn sample(&mut self) -> Vec<snp_top::Change> {
        let mut sample = self.sampler.sample(false);
        settle(&mut sample);
        self.model.take(sample)
    }

    fn edit(&self, path: &str, edit: impl Fn(String) -> String) {
        let path = self.dir.path().join(path);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, edit(text)).unwrap();
    }

    /// A guest ends, its 200 GiB become optimised, and the driver counts what that took.
    fn guest_ends(&self) {
        const DEBUG: &str = "sys/kernel/debug/x86/rmpopt";
        self.edit(&format!("{DEBUG}/rmpopt-table"), |text| {
            let row = |line: &str| {
                let gib: u32 =
                    line["Memory @".len()..].split('G').next().unwrap().trim().parse().unwrap();
                if (100..200).contains(&gib) {
                    line.replace("none", "0-1023")
                } else {
                    line.to_owned()
                }
            };
            text.lines().map(|line| row(line) + "\n").collect()
        });
        self.edit(&format!("{DEBUG}/regions"), |text| text.replace("1500 ms", "0 ms"));
        self.edit(&format!("{DEBUG}/stats"), |text| {
            text.replace("cpu.taken_ns 5000000", "cpu.taken_ns 17000000")
                .replace("rmpopt.executed 1048576", "rmpopt.executed 1099876")
                .replace("rmpopt.clean 1048000", "rmpopt.clean 1099250")
                .replace("interruptions.total 512", "interruptions.total 1024")
        });
        fs::remove_dir_all(self.dir.path().join("proc/4711")).unwrap();
    }
}

fn same_as_kept(name: &str, shown: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames").join(name);
    same_as_file(&path, shown);
}

fn same_as_file(path: &Path, shown: &str) {
    if std::env::var_os("UPDATE_FRAMES").is_some() {
        fs::write(path, shown).unwrap();
    }
    let kept = fs::read_to_string(path).unwrap();
    assert!(kept == shown, "{} differs; it is now:\n{shown}", path.display());
}

/// The picture of the README: a host of 2 TiB in the middle of a pass after a guest's end.
#[test]
fn the_picture_of_the_readme() {
    let dir = fake_host::dir();
    fake_host::write_of(dir.path(), 2 << 40);
    let mut host = Host::of(dir);
    for (pid, name, gib) in
        [(5001, "db-1", 64), (5002, "db-2", 64), (5003, "cache", 32), (5004, "batch-7", 40)]
    {
        let line = format!(
            "/usr/bin/qemu-system-x86_64\0-name\0{name}\0-m\0{gib}G\0-object\0sev-snp-guest,id=sev0\0"
        );
        let to = host.dir.path().join(format!("proc/{pid}"));
        fs::create_dir_all(&to).unwrap();
        fs::write(to.join("cmdline"), line).unwrap();
    }
    fs::remove_dir_all(host.dir.path().join("proc/4712")).unwrap();
    host.sample();
    host.guest_ends();
    // Half of the cores have a part of it already.
    host.edit("sys/kernel/debug/x86/rmpopt/rmpopt-table", |text| {
        let row = |line: &str| {
            let gib: u32 =
                line["Memory @".len()..].split('G').next().unwrap().trim().parse().unwrap();
            match gib {
                150..200 => line.replace("0-1023", "0-255,512-767"),
                1200..1240 | 1600..1664 => line.replace("0-1023", "none"),
                _ => line.to_owned(),
            }
        };
        text.lines().map(|line| row(line) + "\n").collect()
    });
    host.sample();
    let buffer = buffer(&mut host.model, COLOUR, (120, 34));
    let to = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/images/top.svg");
    same_as_file(&to, &svg::of(&buffer));
}

#[test]
fn frames_of_all_sizes() {
    let mut host = Host::new();
    host.guest_ends();
    host.sample();
    let model = &mut host.model;
    same_as_kept("80x24.txt", &frame(model, PLAIN, (80, 24)));
    same_as_kept("80x24-ascii.txt", &frame(model, ASCII, (80, 24)));
    same_as_kept("200x60.txt", &frame(model, PLAIN, (200, 60)));
    same_as_kept("20x5.txt", &frame(model, PLAIN, (20, 5)));
    for size in
        [(1, 1), (2, 1), (1, 9), (3, 3), (40, 10), (119, 17), (120, 17), (500, 200), (80, 1)]
    {
        let shown = frame(model, PLAIN, size);
        assert_eq!(shown.lines().count(), usize::from(size.1), "{size:?}");
        for key in [Key::Down, Key::End, Key::PageUp, Key::Home, Key::ZoomIn, Key::NextNode] {
            model.press(key);
            frame(model, ASCII, size);
        }
    }
    assert!(frame(model, ASCII, (200, 60)).is_ascii());
    model.press(Key::Help);
    same_as_kept("help-80x24.txt", &frame(model, PLAIN, (80, 24)));
}

#[test]
fn what_changed_is_said() {
    let mut host = Host::new();
    assert!(host.model.rates().is_none());
    host.guest_ends();
    let changes = host.sample();
    let said: Vec<&str> = changes.iter().map(|change| change.text.as_str()).collect();
    assert!(said.contains(&"SNP guest ended: web (qemu, pid 4711)"), "{said:?}");
    assert!(said.contains(&"100 regions: optimised, was none (GiB 100-199)"), "{said:?}");
    let rates = *host.model.rates().unwrap();
    assert!((rates.cpu_taken - 0.012).abs() < 1e-9, "{rates:?}");
    assert!((rates.rmpopts - 51_300.0).abs() < 1e-9 && (rates.interruptions - 512.0).abs() < 1e-9);
    assert_eq!(rates.clean_share, Some(1.0));
    assert!(host.sample().is_empty(), "nothing more changed");
}

/// The module is unloaded: said, shown, and the rest goes on.
#[test]
fn a_source_that_vanishes_is_no_end() {
    let mut host = Host::new();
    for gone in ["sys/kernel/debug/x86", "sys/module/rmpopt"] {
        fs::remove_dir_all(host.dir.path().join(gone)).unwrap();
    }
    let changes = host.sample();
    let text: Vec<&str> = changes.iter().map(|change| change.text.as_str()).collect();
    let text = text.join("\n");
    for words in
        ["rmpopt-table is gone", "driver-stats is gone", "driver: ", "unknown, was optimised"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    let shown = frame(&mut host.model, PLAIN, (100, 40));
    assert!(shown.contains("not known") && shown.contains("web"), "{shown}");
    // The module is there, its files are not: that is no matter of rights.
    fs::create_dir_all(host.dir.path().join("sys/module/rmpopt/parameters")).unwrap();
    host.model.take(host.sampler.sample(true));
    let shown = frame(&mut host.model, PLAIN, (100, 40));
    assert!(shown.contains("its counters are not there (is debugfs mounted?)"), "{shown}");
    // And comes back, with counters that begin at 0 again.
    fake_host::write(host.dir.path());
    let changes = host.sample();
    assert!(changes.iter().any(|c| c.text == "rmpopt-table answers"), "{changes:?}");
    assert!(host.model.rates().is_none(), "there was nothing to subtract from");
    host.sample();
    assert!(host.model.rates().is_some());
}

#[test]
fn a_belief_that_did_not_change_is_not_read_again() {
    let host = &mut Host::new();
    let table = "sys/kernel/debug/x86/rmpopt/rmpopt-table";
    // The head says that the last change was before the last reading: the table is not looked at.
    host.edit("sys/kernel/debug/x86/rmpopt/regions", |text| text.replace("1500 ms", "3600000 ms"));
    let whole = fs::read_to_string(host.dir.path().join(table)).unwrap();
    host.edit(table, |_| "garbage\n".to_owned());
    assert!(host.sample().is_empty());
    let ago = |host: &Host| host.model.latest().unwrap().state.driver.changed_ms_ago;
    assert_eq!(ago(host), Some(3_600_000));
    host.edit("sys/kernel/debug/x86/rmpopt/regions", |text| text.replace("3600000 ms", "1 ms"));
    let changes = host.sample();
    assert!(changes.iter().any(|c| c.text.contains("rmpopt-table is gone")), "{changes:?}");
    host.edit(table, |_| whole.clone());
    assert!(host.sample().iter().any(|c| c.text.contains("rmpopt-table answers")));
}

#[test]
fn keys_steer_what_is_shown() {
    let mut host = Host::new();
    let model = &mut host.model;
    let shows = |model: &mut Model| frame(model, PLAIN, (80, 24));
    shows(model);
    model.press(Key::NextNode);
    assert_eq!(model.filter.node, Some(0));
    assert!(shows(model).contains("node 0 alone"));
    model.press(Key::NextFilter);
    assert_eq!(model.filter.state, Some(RegionKind::Optimised));
    model.press(Key::Back);
    assert_eq!((model.filter.node, model.filter.state), (None, None));
    // The cursor: the first region, then one cell on, over the hole.
    model.press(Key::Right);
    assert_eq!(model.cursor, Some(0));
    model.press(Key::ZoomIn);
    for _ in 0..20 {
        model.press(Key::ZoomIn);
    }
    shows(model);
    assert_eq!(model.zoom, Some(0));
    model.press(Key::Right);
    model.press(Key::Right);
    assert_eq!(model.cursor, Some(56), "GiB 2 to 55 have no RAM");
    assert!(
        shows(model).contains("GiB 56: optimised; node 0; 512 of 512 cores"),
        "{}",
        shows(model)
    );
    model.press(Key::Left);
    assert_eq!(model.cursor, Some(1));
    model.press(Key::End);
    assert_eq!(model.cursor, Some(12_341));
    assert!(shows(model).contains("GiB 12341: outside"));
    model.press(Key::Home);
    assert_eq!(model.cursor, Some(0));
    // Held: samples are taken, the picture stays.
    model.press(Key::Pause);
    host.guest_ends();
    host.sample();
    let held = frame(&mut host.model, PLAIN, (120, 40));
    assert!(
        held.contains("PAUSED") && held.contains("web") && held.contains("guest ended"),
        "{held}"
    );
    host.model.press(Key::Pause);
    let shown = frame(&mut host.model, PLAIN, (120, 40));
    assert!(!shown.contains("PAUSED") && !shown.contains(" web  "), "{shown}");
}

#[test]
fn a_record_says_what_the_frame_says() {
    let mut host = Host::new();
    host.guest_ends();
    let changes = host.sample();
    let sample = host.model.latest().unwrap();
    let record = Record::new(sample, Some(1000), host.model.rates(), &changes);
    let json = serde_json::to_value(&record).unwrap();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["sample"], 1);
    assert_eq!(json["memory"]["regions"]["optimised"], 2048 - 54 - 101);
    assert_eq!(json["rates"]["seconds"], 1.0);
    assert!(json["changes"].as_array().unwrap().len() >= 2);
    // Runs of regions cover each region once.
    let runs = json["regions"].as_array().unwrap();
    assert!(runs.len() < 10, "{runs:?}");
    let count = |run: &serde_json::Value| {
        run["last_gib"].as_u64().unwrap() - run["first_gib"].as_u64().unwrap() + 1
    };
    assert_eq!(runs.iter().map(count).sum::<u64>(), 12 * 1024);
}

#[test]
fn names_steer_no_terminal() {
    let mut host = Host::new();
    host.model.ended(NOON, "a\u{1b}[31m\u{202e}b\n");
    for look in [PLAIN, ASCII] {
        let shown = frame(&mut host.model, look, (200, 60));
        assert!(!shown.contains(|c: char| c != '\n' && snp_host::steers(c)), "{shown:?}");
        assert!(shown.contains("owned") && shown.contains("\\u{1b}"));
    }
}

#[test]
fn a_host_of_which_nothing_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let mut sampler = Sampler::new(Root::tree(dir.path()).unwrap(), false);
    let mut model = Model::new();
    assert!(frame(&mut model, PLAIN, (80, 24)).contains("reading"));
    model.take(sampler.sample(false));
    for key in [Key::Right, Key::End, Key::NextNode, Key::Focus, Key::Down, Key::ZoomOut] {
        model.press(key);
        let shown = frame(&mut model, PLAIN, (80, 24));
        assert!(shown.contains("no regions are known") && shown.contains("not known"), "{shown}");
    }
}
