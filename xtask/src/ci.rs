//! `cargo xtask ci`: every check of this repository, timed. See `docs/ci.md`.
//!
//! All steps run, whatever fails before; the command fails if one did. What cannot run here is
//! skipped with its reason, and the table at the end says so.

mod bench;
mod compare;
mod deny;
mod fuzz;
mod hygiene;
mod kernel;
mod layering;
mod packages;
mod path_home;
mod rust_source;
mod smoke;
mod tests;
mod tools;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use self::tests::Totals;
use crate::process::capture;

/// Arguments of `ci`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only these steps (see --list)
    #[arg(value_name = "STEP")]
    only: Vec<String>,
    /// List the steps
    #[arg(long)]
    list: bool,
    /// Install nothing, whoever runs it
    #[arg(long)]
    no_install: bool,
    #[command(flatten)]
    more: More,
}

/// What is checked beyond the rest.
#[derive(Clone, Copy, Debug, clap::Args)]
struct More {
    /// Not the module in real kernels (as root, about twenty minutes the first time)
    #[arg(long)]
    no_kernel: bool,
    /// Also a minute of each fuzz target, the slow machines and the module in a kernel with KASAN
    #[arg(long)]
    full: bool,
}

/// What became of a step that did not fail.
enum Outcome {
    /// It ran; a few words about it, if any.
    Passed(String),
    /// It could not run, and why.
    Skipped(String),
}

impl Outcome {
    fn passed() -> Self {
        Self::Passed(String::new())
    }
}

/// One check.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&mut Ci) -> Result<Outcome>,
}

/// Cheap ones first, so that what is wrong shows early.
const STEPS: [Step; 20] = [
    Step { name: "tools", about: "what the other steps need", run: tools::run },
    Step { name: "fmt", about: "rustfmt", run: fmt },
    Step { name: "layering", about: "floors, unsafe, the driver's folders", run: layering::run },
    Step { name: "hygiene", about: "paths, hosts, lock file, folders", run: hygiene::run },
    Step {
        name: "path-home",
        about: "floors 1-2 as the kernel compiles them",
        run: path_home::run,
    },
    Step { name: "clippy", about: "lints, warnings refused", run: clippy },
    Step { name: "doc", about: "rustdoc, warnings refused", run: doc },
    Step {
        name: "build",
        about: "the command, optimised",
        run: |ci| ci.cargo(&["build", "--release", "--locked"]),
    },
    Step { name: "tests", about: "all tests of the workspace", run: tests::run },
    Step { name: "loom", about: "snp-model's atomics, model-checked", run: tests::run_loom },
    Step { name: "doctests", about: "examples in documentation", run: tests::run_doctests },
    Step { name: "smoke", about: "`rmpopt run` breaks no law", run: smoke::run },
    Step { name: "compare", about: "`rmpopt compare --quick` breaks no law", run: compare::run },
    Step { name: "bench", about: "the bench runs; its ratios do not count here", run: bench::run },
    Step { name: "deny", about: "licences, sources, duplicate crates", run: deny::run },
    Step { name: "advisories", about: "known vulnerabilities", run: deny::advisories },
    Step { name: "fuzz", about: "the parsers on random input", run: fuzz::run },
    Step { name: "kernel-test", about: "the module in a stock kernel", run: kernel::run },
    Step { name: "kernel-debug", about: "the module in a debug kernel", run: kernel::run_debug },
    Step { name: "kernel-kasan", about: "the same with KASAN", run: kernel::run_kasan },
];

/// What the steps share.
struct Ci {
    root: PathBuf,
    target: PathBuf,
    /// Whether tools may be installed: root, and not forbidden.
    install: bool,
    /// Whether the module is tested in real kernels.
    kernel: bool,
    full: bool,
    totals: Totals,
    /// The test runners' own last lines.
    closing: Vec<String>,
}

impl Ci {
    fn new(args: &Args) -> Result<Self> {
        let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().context("xtask has no parent folder")?.to_owned();
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |folder| root.join(folder));
        let is_root = capture(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0");
        Ok(Self {
            root,
            target,
            install: is_root && !args.no_install,
            kernel: !args.more.no_kernel,
            full: args.more.full,
            totals: Totals::default(),
            closing: Vec::new(),
        })
    }

    /// Folder of tools that this command installed.
    fn tools(&self) -> PathBuf {
        self.target.join("xtask-tools")
    }

    /// A program, run from the root with the installed tools on its search path.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let installed = ["bin", "debian/usr/bin"].map(|folder| self.tools().join(folder));
        let folders = std::env::split_paths(&path).chain(installed);
        if let Ok(path) = std::env::join_paths(folders) {
            command.env("PATH", path);
        }
        command.current_dir(&self.root).stdin(Stdio::null());
        command
    }

    /// Runs cargo with its output shown.
    fn cargo(&self, arguments: &[&str]) -> Result<Outcome> {
        self.show(self.program("cargo").args(arguments))
    }

    /// Runs a program with its output shown.
    #[allow(clippy::unused_self)]
    fn show(&self, command: &mut Command) -> Result<Outcome> {
        println!("$ {}", shown(command));
        let status = command.status().with_context(|| format!("starting {}", shown(command)))?;
        if !status.success() {
            bail!("{} failed ({status})", shown(command));
        }
        Ok(Outcome::passed())
    }
}

/// The command line, for people.
fn shown(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        // Writing to a string cannot fail.
        let _ = write!(line, " {}", argument.to_string_lossy());
    }
    line
}

/// The workspace, and what the kernel's build compiles without cargo.
fn fmt(ci: &mut Ci) -> Result<Outcome> {
    ci.cargo(&["fmt", "--all", "--check"])?;
    let mut command = ci.program("rustfmt");
    command.args(["--check", "--edition", "2021", "tests/path-home/kernel.rs"]);
    for file in layering::rust_files(&ci.root.join("kernel/src"))? {
        command.arg(file.strip_prefix(&ci.root).unwrap_or(&file));
    }
    ci.show(&mut command)
}

fn clippy(ci: &mut Ci) -> Result<Outcome> {
    let arguments = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--keep-going",
        "--locked",
        "--",
        "-D",
        "warnings",
    ];
    ci.cargo(&arguments)
}

fn doc(ci: &mut Ci) -> Result<Outcome> {
    let mut command = ci.program("cargo");
    command
        .args(["doc", "--workspace", "--no-deps", "--locked"])
        .env("RUSTDOCFLAGS", "-D warnings");
    ci.show(&mut command)
}

/// Runs the steps and prints the table.
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.list {
        for step in &STEPS {
            println!("{:<13} {}", step.name, step.about);
        }
        return Ok(());
    }
    for name in &args.only {
        if !STEPS.iter().any(|step| step.name == name) {
            bail!("no step `{name}`; `cargo xtask ci --list` lists them");
        }
    }
    let mut ci = Ci::new(args)?;
    let started = Instant::now();
    let mut rows = Vec::new();
    for step in &STEPS {
        if !args.only.is_empty() && !args.only.iter().any(|name| name == step.name) {
            continue;
        }
        println!("\n== {}: {}", step.name, step.about);
        let begun = Instant::now();
        let result = (step.run)(&mut ci);
        match &result {
            Ok(Outcome::Passed(_)) => {}
            Ok(Outcome::Skipped(reason)) => println!("skipped: {reason}"),
            Err(error) => println!("FAILED: {error:#}"),
        }
        rows.push((step.name, begun.elapsed(), result));
    }
    print_table(&rows, started.elapsed());
    ci.print_closing();
    let failed: Vec<_> =
        rows.iter().filter(|(_, _, result)| result.is_err()).map(|(name, ..)| *name).collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn print_table(rows: &[(&str, Duration, Result<Outcome>)], total: Duration) {
    println!("\n{:<13} {:>7}  result", "step", "seconds");
    for (name, time, result) in rows {
        let said = match result {
            Ok(Outcome::Passed(note)) if note.is_empty() => "passed".to_owned(),
            Ok(Outcome::Passed(note)) => format!("passed ({note})"),
            Ok(Outcome::Skipped(reason)) => format!("skipped: {reason}"),
            Err(error) => {
                let text = format!("{error:#}");
                format!("FAILED: {}", text.lines().next().unwrap_or_default())
            }
        };
        println!("{name:<13} {:>7.1}  {said}", time.as_secs_f64());
    }
    println!("{:<13} {:>7.1}", "total", total.as_secs_f64());
}

impl Ci {
    /// What the tests said, last.
    fn print_closing(&self) {
        if self.closing.is_empty() {
            return;
        }
        println!();
        for notice in &self.totals.notices {
            println!("{notice}");
        }
        for line in &self.closing {
            println!("{line}");
        }
        println!("{}", self.totals);
    }
}
