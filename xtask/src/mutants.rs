//! `cargo xtask mutants`: changes the code of the crates that others stand on in small ways, one at
//! a time, and sees whether a test turns red. What survives must be listed with its reason.
//!
//! See `docs/mutants.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::process::is_installed;

/// Packages tested unless others are named.
const PACKAGES: [&str; 2] = ["snp-defs", "snp-model"];

/// The list of survivors, from the repository's root.
const SURVIVORS: &str = "xtask/mutants.toml";

/// Least share of mutants that tests must catch, in percent.
const LEAST: u64 = 90;

/// Arguments of `mutants`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Packages whose code is changed [default: snp-defs snp-model]
    #[arg(value_name = "PACKAGE")]
    packages: Vec<String>,
    /// How many mutants are tested at once
    #[arg(long, default_value_t = 1)]
    jobs: u32,
    /// Only code that this file's diff (of `git diff`) touches
    #[arg(long, value_name = "FILE")]
    in_diff: Option<PathBuf>,
    /// Run nothing: judge what the last run left in target/mutants
    #[arg(long)]
    judge: bool,
}

/// The list of survivors.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    group: Vec<Group>,
}

/// Survivors for one reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    /// Why no test can, or need, tell them from the code.
    why: String,
    /// `file: mutation`, as cargo-mutants prints it but without line and column.
    mutants: Vec<String>,
}

impl List {
    fn read(root: &Path) -> Result<Self> {
        let file = root.join(SURVIVORS);
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let list: Self = toml::from_str(&text).with_context(|| format!("{SURVIVORS}: syntax"))?;
        for group in &list.group {
            if group.why.trim().is_empty() {
                bail!("{SURVIVORS}: a group without a reason, expected `why`");
            }
        }
        Ok(list)
    }

    /// How often each mutation is expected to survive.
    fn counts(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for mutant in self.group.iter().flat_map(|group| &group.mutants) {
            *counts.entry(mutant.as_str()).or_default() += 1;
        }
        counts
    }
}

/// What became of one package's mutants.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    caught: u64,
    /// Tests that no longer ended.
    hung: u64,
    /// Changes that do not compile.
    unviable: u64,
    /// `file: mutation` of those that no test noticed.
    missed: Vec<String>,
}

impl Tally {
    /// Reads the lists that cargo-mutants left in a folder.
    fn read(folder: &Path) -> Result<Self> {
        let lines = |name: &str| -> Result<Vec<String>> {
            let file = folder.join(name);
            let text =
                fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            Ok(text.lines().filter(|line| !line.is_empty()).map(without_place).collect())
        };
        Ok(Self {
            caught: lines("caught.txt")?.len() as u64,
            hung: lines("timeout.txt")?.len() as u64,
            unviable: lines("unviable.txt")?.len() as u64,
            missed: lines("missed.txt")?,
        })
    }

    fn add(&mut self, other: Self) {
        self.caught += other.caught;
        self.hung += other.hung;
        self.unviable += other.unviable;
        self.missed.extend(other.missed);
    }

    /// Mutants that compile.
    fn viable(&self) -> u64 {
        self.caught + self.hung + self.missed.len() as u64
    }

    /// Whether enough of them were noticed.
    fn is_enough(&self) -> bool {
        (self.caught + self.hung) * 100 >= self.viable() * LEAST
    }

    /// Survivors that the list does not have, or has less often.
    fn unlisted(&self, list: &List) -> Vec<&str> {
        let mut left = list.counts();
        self.missed
            .iter()
            .map(String::as_str)
            .filter(|mutant| match left.get_mut(mutant) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    false
                }
                _ => true,
            })
            .collect()
    }
}

/// `path:line:column: what` without line and column, so that edits above do not change it.
fn without_place(line: &str) -> String {
    let mut parts = line.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(what)) => format!("{file}:{what}"),
        _ => line.to_owned(),
    }
}

fn share(part: u64, of: u64) -> String {
    // Tenths of a percent, rounded down.
    let tenths = (part * 1000).checked_div(of).unwrap_or(1000);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// Installs cargo-mutants where cargo does not find it.
fn tool(root: &Path) -> Result<PathBuf> {
    let tools = root.join("target/xtask-tools");
    let bin = tools.join("bin");
    if !is_installed("cargo-mutants") && !bin.join("cargo-mutants").is_file() {
        println!("installing cargo-mutants into target/xtask-tools (some minutes, once)");
        let status = Command::new("cargo")
            .args(["install", "cargo-mutants", "--locked", "--quiet", "--root"])
            .arg(&tools)
            .stdin(Stdio::null())
            .status()
            .context("starting cargo install")?;
        if !status.success() {
            bail!("cargo-mutants could not be installed ({status})");
        }
    }
    Ok(bin)
}

/// Runs cargo-mutants over one package.
fn mutate(root: &Path, bin: &Path, package: &str, folder: &Path, args: &Args) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([bin.to_owned()]);
    let mut command = Command::new("cargo");
    command
        .args(["mutants", "--package", package, "--no-shuffle", "--cap-lints=true"])
        .args(["--timeout", "60", "--jobs", &args.jobs.to_string()])
        // Examples in documentation show the crate; the tests are what must notice.
        .arg("--cargo-test-arg=--tests")
        .arg("--output")
        .arg(folder)
        .env("PATH", std::env::join_paths(folders)?)
        // Hundreds of builds: quick ones, and fewer random operations in each.
        .env("CARGO_PROFILE_TEST_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_TEST_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("RMPOPT_TRIAL_OPERATIONS", "60000")
        .env("RMPOPT_STRESS_S", "0.1")
        .current_dir(root)
        .stdin(Stdio::null());
    if let Some(diff) = &args.in_diff {
        command.arg("--in-diff").arg(std::path::absolute(diff)?);
    }
    let status = command.status().context("starting cargo mutants")?;
    // 2: some were missed, 3: some hung; both are judged here.
    match status.code() {
        Some(0 | 2 | 3) => Ok(()),
        Some(4) => bail!("the tests of {package} fail without any mutation"),
        _ => bail!("cargo mutants failed ({status})"),
    }
}

/// Tests the mutants and judges.
pub(crate) fn run(args: &Args) -> Result<()> {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.parent().context("xtask has no parent folder")?;
    let list = List::read(root)?;
    let packages: Vec<&str> = if args.packages.is_empty() {
        PACKAGES.to_vec()
    } else {
        args.packages.iter().map(String::as_str).collect()
    };
    let bin = if args.judge { PathBuf::new() } else { tool(root)? };
    let mut sum = Tally::default();
    let mut rows = Vec::new();
    for package in packages {
        let folder = root.join("target/mutants").join(package);
        if !args.judge {
            fs::create_dir_all(&folder)
                .with_context(|| format!("creating {}", folder.display()))?;
            mutate(root, &bin, package, &folder, args)?;
        }
        let tally = Tally::read(&folder.join("mutants.out"))?;
        rows.push((package.to_owned(), tally));
    }
    println!(
        "\n{:<12} {:>7} {:>7} {:>7} {:>7}  noticed",
        "package", "viable", "caught", "hung", "missed"
    );
    for (package, tally) in rows {
        print_row(&package, &tally);
        sum.add(tally);
    }
    print_row("all", &sum);
    let unlisted = sum.unlisted(&list);
    if !unlisted.is_empty() {
        println!("\nnot in {SURVIVORS}:");
        for mutant in &unlisted {
            println!("  {mutant}");
        }
        bail!("{} survived and {SURVIVORS} does not say why", unlisted.len());
    }
    if !sum.is_enough() {
        bail!("fewer than {LEAST} % of the mutants were noticed");
    }
    Ok(())
}

fn print_row(name: &str, tally: &Tally) {
    let missed = tally.missed.len() as u64;
    println!(
        "{name:<12} {:>7} {:>7} {:>7} {missed:>7}  {}",
        tally.viable(),
        tally.caught,
        tally.hung,
        share(tally.caught + tally.hung, tally.viable())
    );
}

#[cfg(test)]
mod checks {
    use super::*;

    fn list(mutants: &[&str]) -> List {
        let mutants = mutants.iter().map(|&mutant| mutant.to_owned()).collect();
        List { group: vec![Group { why: "the same".into(), mutants }] }
    }

    #[test]
    fn a_mutant_is_named_without_its_place() {
        assert_eq!(
            without_place("crates/a/src/b.rs:74:73: replace | with ^ in A::b -> C::D"),
            "crates/a/src/b.rs: replace | with ^ in A::b -> C::D"
        );
        assert_eq!(without_place("odd"), "odd");
    }

    #[test]
    fn each_survivor_is_listed_once() {
        let missed = ["a: x", "a: x", "b: y"].map(String::from).to_vec();
        let tally = Tally { missed, ..Tally::default() };
        assert_eq!(tally.unlisted(&list(&["a: x", "a: x", "b: y", "c: z"])), Vec::<&str>::new());
        assert_eq!(tally.unlisted(&list(&["a: x", "b: y"])), ["a: x"]);
        assert_eq!(tally.unlisted(&list(&[])).len(), 3);
    }

    #[test]
    fn nine_tenths_are_enough() {
        let missed = vec![String::new()];
        let tally = |caught| Tally { caught, missed: missed.clone(), ..Tally::default() };
        assert!(tally(9).is_enough() && !tally(8).is_enough());
        assert!(Tally { hung: 9, ..tally(0) }.is_enough(), "a test that hangs has noticed");
        assert_eq!(share(2, 3), "66.6 %");
        assert_eq!(share(0, 0), "100.0 %");
    }

    #[test]
    fn the_runs_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("caught.txt", "a:1:2: x\na:3:4: y\n");
        write("timeout.txt", "");
        write("unviable.txt", "a:5:6: z\n");
        assert!(Tally::read(folder.path()).is_err(), "a list is missing");
        write("missed.txt", "a:7:8: w\n");
        let tally = Tally::read(folder.path()).unwrap();
        assert_eq!((tally.caught, tally.unviable, tally.viable()), (2, 1, 3));
        assert_eq!(tally.missed, ["a: w"]);
    }

    #[test]
    fn the_list_of_this_repository_is_sound() {
        let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().unwrap();
        for mutant in List::read(root).unwrap().counts().keys() {
            let (file, what) = mutant.split_once(": ").expect("`file: mutation`");
            assert!(root.join(file).is_file() && !what.is_empty(), "{mutant}");
        }
    }
}
