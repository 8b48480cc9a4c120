//! `cargo xtask fuzz`: libFuzzer against the parsers. See `docs/fuzz.md`.
//!
//! The targets in `fuzz/` have the layout of cargo-fuzz, which needs a nightly compiler. Here they are
//! built by the stable one: coverage for libFuzzer comes from a pass of LLVM, and without `unsafe` in
//! the parsers no sanitizer is missed. Overflow checks and debug assertions are on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Arguments of `fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these targets (see --list)
    #[arg(value_name = "TARGET")]
    only: Vec<String>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// List the targets
    #[arg(long)]
    list: bool,
}

/// A target: its name, and which files of `tests/data` it begins with.
const TARGETS: [(&str, &[&str]); 6] = [
    ("decode", &["dmesg-", "rmpopt-table-"]),
    ("cpuid_text", &["cpuid-"]),
    ("rmpopt_table", &["rmpopt-table-", "iomem-"]),
    ("snapshot", &[]),
    (
        "host_files",
        &["dmesg-", "axboe-", "desnoyers-", "proxmox-", "ktransformers-", "qemu-", "lstopo-"],
    ),
    ("traces", &["alibaba-"]),
];

/// A small snapshot to begin with; the others begin with samples of `tests/data`.
const SNAPSHOT: &str = r##"{"format":"rmpopt-snapshot","version":1,"taken_s":1,"deep":false,"redacted":false,"items":{"/proc/iomem":{"text":"00001000-1ffffffff : System RAM\n"},"/sys/devices/system/cpu/online":{"text":"0-1\n"},"/sys/devices/system/cpu/cpu0/topology/thread_siblings_list":{"text":"0-1\n"},"/sys/devices/system/node":{"names":["node0"]},"/sys/devices/system/node/node0":{"names":["memory0","memory1"]},"/sys/devices/system/memory/block_size_bytes":{"text":"80000000\n"},"/sys/kernel/debug/x86/rmpopt/stats":{"text":"rmpopt.executed 1\n"},"/sys/kernel/debug/x86/rmpopt/regions":{"text":"# policy tracked, runs, first pass over, last change 5 ms ago\n0 1024 clean 1\n"},"/sys/kernel/debug/x86/rmpopt/rmpopt-table":{"text":"Memory @  0GB: CPU(s): 0-1\n"},"/dev/cpu/0/msr":{"at":{"3221291024":{"Ok":"0000fc0300000000"}}},"/dev/cpu/0/cpuid":{"at":{"0":{"Ok":"100000004175746863414d44656e7469"}}},"/proc":{"names":["7"]},"/proc/7/cmdline":{"text":"qemu\u0000-name\u0000a\u0000-m\u00001G\u0000-object\u0000sev-snp-guest\u0000"},"/sys/fs/cgroup/misc.current":{"text":"sev_es 1\n"},"/sys/fs/cgroup/misc.capacity":{"text":"sev_es 9\n"},"/sys/module":{"names":["rmpopt"]},"/sys/module/rmpopt":{"names":["parameters"]},"/sys/module/rmpopt/parameters":{"names":["policy"]},"/sys/module/rmpopt/parameters/policy":{"text":"tracked\n"},"/dmesg.txt":{"text":"[    0.1] SEV-SNP: RMP table physical range [0x4000000 - 0x5ffffff]\n"}}}"##;

/// What libFuzzer gets: no input larger than this, none slower (by the clock: a busy host needs room), no
/// more memory.
const LIMITS: [&str; 3] = ["-max_len=65536", "-timeout=60", "-rss_limit_mb=2048"];
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// What a run of one target came to.
pub(crate) struct Ran {
    /// The target.
    pub(crate) target: &'static str,
    /// Figures by name, as libFuzzer prints them at its end.
    stats: BTreeMap<String, String>,
    /// Edges of the code that were reached.
    edges: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.list {
        for (target, _) in TARGETS {
            println!("{target}");
        }
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent")?;
    let target = root.join("target");
    run_targets(root, &target, &args.only, args.seconds).map(drop)
}

/// Builds and runs targets, all if none is named; fails with the first that finds something.
pub(crate) fn run_targets(
    root: &Path,
    target: &Path,
    only: &[String],
    seconds: u32,
) -> Result<Vec<Ran>> {
    if let Some(wrong) = only.iter().find(|name| !TARGETS.iter().any(|(target, _)| target == name))
    {
        bail!("no target `{wrong}`; `cargo xtask fuzz --list` lists them");
    }
    let bins = build(root, target)?;
    let mut all = Vec::new();
    println!(
        "{:<14} {:>12} {:>9} {:>7} {:>8}  slowest",
        "target", "inputs", "inputs/s", "edges", "corpus"
    );
    for (name, samples) in TARGETS {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        let ran = fuzz(root, target, &bins.join(name), (name, samples), seconds)?;
        let stat = |key: &str| ran.stats.get(key).map_or("?", String::as_str);
        println!(
            "{name:<14} {:>12} {:>9} {:>7} {:>8}  {} s",
            stat("number_of_executed_units"),
            stat("average_exec_per_sec"),
            ran.edges,
            stat("new_units_added"),
            stat("slowest_unit_time_sec"),
        );
        all.push(ran);
    }
    Ok(all)
}

/// Builds all targets; returns the folder of the programs.
fn build(root: &Path, target: &Path) -> Result<PathBuf> {
    let folder = target.join("fuzz");
    let flags = [
        "--cfg fuzzing",
        "-Cpasses=sancov-module",
        "-Cllvm-args=-sanitizer-coverage-level=4",
        "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
        "-Cllvm-args=-sanitizer-coverage-pc-table",
        "-Cllvm-args=-sanitizer-coverage-trace-compares",
        "-Ccodegen-units=1",
    ];
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--target", TRIPLE, "--target-dir"])
        .arg(&folder)
        .current_dir(root.join("fuzz"))
        .env("RUSTFLAGS", flags.join(" "))
        .stdin(Stdio::null())
        .status()
        .context("starting cargo")?;
    if !status.success() {
        bail!("the fuzz targets do not build ({status})");
    }
    Ok(folder.join(TRIPLE).join("debug"))
}

fn fuzz(
    root: &Path,
    target: &Path,
    program: &Path,
    (name, samples): (&'static str, &[&str]),
    seconds: u32,
) -> Result<Ran> {
    let (corpus, seeds) =
        (target.join("fuzz-corpus").join(name), target.join("fuzz-seeds").join(name));
    let artifacts = target.join("fuzz-artifacts");
    for folder in [&corpus, &seeds, &artifacts] {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    copy_seeds(root, &seeds, name, samples)?;
    let output = Command::new("nice")
        .args(["-n", "19"])
        .arg(program)
        .args([&corpus, &seeds])
        .args(LIMITS)
        .arg(format!("-max_total_time={seconds}"))
        .arg("-print_final_stats=1")
        .arg(format!("-artifact_prefix={}/{name}-", artifacts.display()))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let lines: Vec<&str> = said.lines().collect();
        let end = lines[lines.len().saturating_sub(40)..].join("\n");
        bail!("{name} found something; the input is in {}:\n{end}", artifacts.display());
    }
    let stats = said.lines().filter_map(|line| line.strip_prefix("stat::")?.split_once(':'));
    let stats: BTreeMap<String, String> =
        stats.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect();
    if stats.get("number_of_executed_units").and_then(|n| n.parse().ok()).unwrap_or(0u64) == 0 {
        bail!("{name} ran no input:\n{said}");
    }
    let edges = said.lines().rev().find_map(|line| line.split(" cov: ").nth(1)?.split(' ').next());
    Ok(Ran { target: name, stats, edges: edges.unwrap_or("0").to_owned() })
}

/// The samples that a target begins with, cut to what libFuzzer takes.
fn copy_seeds(root: &Path, seeds: &Path, name: &str, samples: &[&str]) -> Result<()> {
    if name == "snapshot" {
        return fs::write(seeds.join("snapshot"), SNAPSHOT).context("writing a seed");
    }
    for entry in fs::read_dir(root.join("tests/data")).context("reading tests/data")? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        if samples.iter().any(|prefix| file.starts_with(prefix)) {
            let bytes = fs::read(entry.path())?;
            fs::write(seeds.join(file), bytes.get(..16 << 10).unwrap_or(&bytes))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_is_there_and_begins_with_something() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
        for (name, samples) in TARGETS {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
            assert!(root.join(format!("fuzz/fuzz_targets/{name}.rs")).is_file(), "{name}");
            let seeds = tempfile::tempdir().unwrap();
            copy_seeds(root, seeds.path(), name, samples).unwrap();
            assert!(fs::read_dir(seeds.path()).unwrap().next().is_some(), "{name}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
        serde_json::from_str::<serde_json::Value>(SNAPSHOT).unwrap();
    }
}
