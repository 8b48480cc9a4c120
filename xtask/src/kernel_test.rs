//! `cargo xtask kernel-test`: the module built, looked at, and tested in a stock kernel.

mod debug;
mod machines;
mod together;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::machines::{MACHINES, Machine};
use crate::kernel_boot::{Boot, Console};
use crate::kernel_env::{self, KernelEnv, repository};
use crate::kernel_module::{Inspection, LARGE_FRAME, Module, Strictness};
use crate::process::{capture, run_logged};

/// Largest frames listed.
const FRAMES: usize = 5;

/// Arguments of `kernel-test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Build only, without booting the module
    #[arg(long)]
    no_boot: bool,
    /// Boot only, with the modules that were built last
    #[arg(long, conflicts_with = "no_boot")]
    no_build: bool,
    /// Machines that run at once [default: as many as there are CPUs]
    #[arg(long)]
    jobs: Option<usize>,
    /// Seconds after which a boot is given up
    #[arg(long, default_value_t = 600)]
    limit: u64,
    /// Also the machines that take minutes, and both debug kernels
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    instead: debug::Instead,
    /// Only the machines whose names contain this
    #[arg(long, default_value = "")]
    only: String,
}

/// Builds, inspects and boots the module.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut env = kernel_env::ensure(false)?;
    let (mut wrong, mut kernels) = (Vec::new(), Vec::new());
    let flavours = args.instead.flavours(args.full);
    if flavours.is_empty() || args.full {
        wrong.extend(in_stock_kernel(args, &env)?);
        kernels.push(env.release()?);
    }
    for flavour in flavours {
        env = env.with(flavour)?;
        wrong.extend(debug::run(args, &env)?);
        kernels.push(env.release()?);
    }
    if wrong.is_empty() {
        println!("kernel-test: passed on {}", kernels.join(", "));
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

fn in_stock_kernel(args: &Args, env: &KernelEnv) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    if !args.no_build {
        for module in [Module::Packaged, Module::Emulated] {
            wrong.extend(build(env, module)?);
        }
        wrong.extend(layouts(env)?);
    }
    if !args.no_boot {
        let checker = checker()?;
        let wanted = |machine: &&Machine| {
            machine.name.contains(&args.only)
                && (args.full || !machines::SLOW.contains(&machine.name))
        };
        let wanted: Vec<&Machine> = MACHINES.iter().filter(wanted).collect();
        wrong.extend(together::boot(args, env, &checker, &wanted)?);
    }
    Ok(wrong)
}

/// Builds one module, strictly and as the distribution would; what is wrong with it.
fn build(env: &KernelEnv, module: Module) -> Result<Vec<String>> {
    let started = Instant::now();
    let lint = module.build(env, Strictness::Lint);
    let log = module.build(env, Strictness::Stock)?;
    for line in log.lines().filter(|line| line.contains("warning") || line.contains("error")) {
        println!("build: {line}");
    }
    println!("built {} in {:.1} s", module.name(), started.elapsed().as_secs_f64());
    let mut wrong = inspect(env, module)?;
    if let Err(error) = lint {
        wrong.push(format!("{}: clippy with warnings as errors: {error:#}", module.name()));
    }
    Ok(wrong)
}

/// Places from which panicking code may be reached, and why it is not: beginnings of source places,
/// or parts of function names where no line of ours is known.
const CANNOT_PANIC: [(&str, &str); 7] = [
    ("kernel/alloc/kvec.rs", "the kernel crate's: a vector's length and one, its size in bytes"),
    ("kernel::alloc::kvec::Vec", "the same"),
    ("kernel/init.rs", "the kernel crate's"),
    ("core/src/ffi/c_str.rs", "the length of a text that exists, and one"),
    ("core/src/iter/adapters/zip.rs", "positions in a slice that exists"),
    ("core::iter::adapters::zip::Zip", "the same"),
    ("crates/snp-defs/src/snp_defs/geometry/", "where an RMP lies: nothing in the module asks"),
];

/// Functions that may take more stack, and why.
const DEEP: [(&str, &str); 1] = [(
    "rmpopt::emu::host::silicon",
    "runs once, when emulated hardware is made; not in the packaged module",
)];

/// What in the object is not as it should be; the whole list is left in a file beside the logs.
fn inspect(env: &KernelEnv, module: Module) -> Result<Vec<String>> {
    let found: Inspection = module.inspect(env)?;
    let file = env.logs().join(format!("{}-object.txt", module.name()));
    fs::write(&file, found.to_string())?;
    for (bytes, function) in found.frames.iter().take(FRAMES) {
        println!("stack frame: {bytes:5} {function}");
    }
    println!("all of it: {}", file.display());
    let name = module.name();
    let excused =
        |list: &[(&str, &str)], what: &str| list.iter().any(|(part, _)| what.contains(part));
    let panics = found.panics.iter().flat_map(|(symbol, places)| {
        places
            .iter()
            // Emulated hardware is for tests: a panic there fails one.
            .filter(|place| module == Module::Packaged && !excused(&CANNOT_PANIC, place))
            .map(move |place| format!("{name}: {place} can panic ({symbol})"))
    });
    let floats = found.floats.iter().map(|function| format!("{name}: {function} uses floats"));
    let large = found
        .frames
        .iter()
        .filter(|(bytes, function)| *bytes > LARGE_FRAME && !excused(&DEEP, function));
    let frames =
        large.map(|(bytes, function)| format!("{name}: {bytes} bytes of stack in {function}"));
    Ok(panics.chain(floats).chain(frames).collect())
}

/// `struct fprobe` as `kernel/src/sys/fprobe.rs` has it: members in their order with offset and size.
const FPROBE: [(&str, &str); 6] = [
    ("nmissed", "0 8"),
    ("flags", "8 4"),
    ("entry_data_size", "16 8"),
    ("entry_handler", "24 8"),
    ("exit_handler", "32 8"),
    ("hlist_array", "40 8"),
];

/// `struct die_args` as `kernel/src/sys/trap.rs` has it.
const DIE_ARGS: [(&str, &str); 5] =
    [("regs", "0 8"), ("str", "8 8"), ("err", "16 8"), ("trapnr", "24 4"), ("signr", "28 4")];

/// Whether structures that the kernel crate lacks are as the module has them, by the kernel's BTF.
fn layouts(env: &KernelEnv) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (name, members) in [("fprobe", &FPROBE[..]), ("die_args", &DIE_ARGS)] {
        let mut pahole = env.command("pahole");
        pahole.args(["-F", "btf", "-C", name]).arg(env.btf()?);
        let differences = layout_differences(name, members, &capture(&mut pahole)?);
        if differences.is_empty() {
            println!("struct {name} is as the module has it, by the kernel's BTF");
        }
        wrong.extend(differences);
    }
    Ok(wrong)
}

/// Members that `pahole` does not show where they are expected.
fn layout_differences(name: &str, members: &[(&str, &str)], shown: &str) -> Vec<String> {
    let place = |member: &str| {
        shown.lines().find_map(|line| {
            let (declaration, comment) = line.split_once("/*")?;
            let name = declaration.trim().trim_end_matches(';').rsplit([' ', '*']).next()?;
            let words: Vec<&str> = comment.split_whitespace().take(2).collect();
            (name == member).then(|| words.join(" "))
        })
    };
    let wrong = |&(member, expected): &(&str, &str)| match place(member) {
        Some(found) if found == expected => None,
        found => Some(format!("struct {name}: {member} is at {found:?}, expected {expected:?}")),
    };
    members.iter().filter_map(wrong).collect()
}

/// The checker, without need of libraries.
fn checker() -> Result<PathBuf> {
    let root = repository()?;
    let target = root.join("target/kernel-check");
    let triple = "x86_64-unknown-linux-gnu";
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&root).env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols");
    cargo.args(["build", "--release", "--locked", "-p", "rmpopt-check", "--target", triple]);
    cargo.arg("--target-dir").arg(&target);
    fs::create_dir_all(&target)?;
    run_logged(&mut cargo, &target.join("build.log"))?;
    let built = target.join(triple).join("release/rmpopt-check");
    let named = target.join("check");
    fs::copy(&built, &named).with_context(|| format!("copying {}", built.display()))?;
    Ok(named)
}

/// The table that the lab has at `end`, in a file `lab-END`.
fn lab_table(env: &KernelEnv, end: &str) -> Result<PathBuf> {
    let root = repository()?;
    let folder = env.scratch("lab");
    fs::create_dir_all(&folder)?;
    let mut rmpopt = Command::new("cargo");
    rmpopt.current_dir(&root);
    rmpopt.args(["run", "--quiet", "--locked", "-p", "rmpopt", "--", "run"]);
    rmpopt.args(["kernel/check/table.toml", "--table", "--until", end]);
    let file = folder.join(format!("lab-{end}"));
    fs::write(&file, capture(&mut rmpopt)?)?;
    Ok(file)
}

/// Files in a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

impl Machine {
    /// Boots it; what is to be told of it, and what went wrong.
    fn test(&self, args: &Args, env: &KernelEnv, checker: &Path) -> Result<(String, Vec<String>)> {
        let inside = self.files(env, checker)?;
        let boot = Boot {
            name: self.name,
            files: &inside,
            script: &format!("{}\n. /{}\n{}dmesg", self.settings, self.script, debug::after(env)),
            cpu: self.cpu,
            smp: self.smp,
            memory: self.memory + debug::memory(env),
            by_instructions: debug::by_instructions(env, self),
            limit: Duration::from_secs(args.limit),
        };
        let console = boot.run(env)?;
        let wrong = self.judge(&console, debug::quiet(env));
        let seconds = console.time.as_secs_f64();
        let mut told = vec![format!("machine {}: -smp {}, {seconds:.1} s", self.name, self.smp)];
        let lines = console.lines.iter().filter(|line| is_told(line));
        told.extend(lines.map(|line| format!("    {line}")));
        if !wrong.is_empty() {
            told.push(format!("console of {}:", self.name));
            told.extend(console.lines.iter().map(|line| format!("    | {line}")));
        }
        Ok((told.join("\n") + "\n", wrong))
    }

    /// What it takes with it.
    fn files(&self, env: &KernelEnv, checker: &Path) -> Result<Vec<PathBuf>> {
        /// Some are made anew, by one machine at a time.
        static MAKING: Mutex<()> = Mutex::new(());
        let _turn = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let check = repository()?.join("kernel/check");
        let mut inside = files(&check.join("guest"))?;
        inside.extend(files(&check.join("scripts"))?);
        inside.push(checker.to_owned());
        inside.extend(self.module.files(env));
        for name in machines::DEPENDS.iter().chain(self.stock) {
            inside.push(env.stock_module(name)?);
        }
        for end in self.lab {
            inside.push(lab_table(env, end)?);
        }
        Ok(inside)
    }

    /// What went wrong, if these tests and some more were to be passed.
    fn judge(&self, console: &Console, more: &[&str]) -> Vec<String> {
        let mut wrong: Vec<String> = Vec::new();
        let tests: Vec<&str> = self.tests.iter().chain(more).copied().collect();
        let outcomes = outcomes(&console.lines);
        for test in &tests {
            match outcomes.get(test) {
                Some(&"ok") => {}
                Some(outcome) => wrong.push(format!("{}: {test} {outcome}", self.name)),
                None => wrong.push(format!("{}: {test} was not run", self.name)),
            }
        }
        let unknown = outcomes.keys().filter(|name| !tests.contains(name));
        wrong.extend(unknown.map(|name| format!("{}: {name} is not expected", self.name)));
        if !console.finished {
            wrong.push(format!("{}: did not come to its end in time", self.name));
        }
        for said in self.says.iter().filter(|&said| !console.says(said)) {
            wrong.push(format!("{}: the console does not say {said:?}", self.name));
        }
        let trouble = console.trouble();
        wrong.extend(trouble.iter().map(|line| format!("{}: the kernel said: {line}", self.name)));
        wrong
    }
}

/// Lines that a reader of the summary wants.
fn is_told(line: &str) -> bool {
    line.starts_with("test: ")
        || line.starts_with("check: ")
        || line.starts_with("CPUs went")
        || line.contains("rmpopt: a call of")
        || line.starts_with("cap of")
        || line.starts_with("counts ")
}

/// Each test's name and outcome. One that is told of twice has failed if it has failed once.
fn outcomes(lines: &[String]) -> BTreeMap<&str, &str> {
    let mut outcomes = BTreeMap::new();
    for line in lines {
        let Some((name, outcome)) =
            line.strip_prefix("test: ").and_then(|test| test.split_once(' '))
        else {
            continue;
        };
        outcomes
            .entry(name)
            .and_modify(|so_far| {
                if *so_far == "ok" {
                    *so_far = outcome
                }
            })
            .or_insert(outcome);
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(lines: &[&str]) -> Console {
        Console {
            lines: lines.iter().map(|&line| line.to_owned()).collect(),
            time: Duration::ZERO,
            started: true,
            finished: true,
        }
    }

    #[test]
    fn layouts_are_read_as_pahole_shows_them() {
        let shown = "struct fprobe {\n\
                     \tlong unsigned int          nmissed;              /*     0     8 */\n\
                     \tunsigned int               flags;                /*     8     4 */\n\
                     \tsize_t                     entry_data_size;      /*    16     8 */\n\
                     \tfprobe_entry_cb            entry_handler;        /*    24     8 */\n\
                     \tfprobe_exit_cb             exit_handler;         /*    32     8 */\n\
                     \tstruct fprobe_hlist *      hlist_array;          /*    40     8 */\n};\n";
        let differences = |shown: &str| layout_differences("fprobe", &FPROBE, shown);
        assert_eq!(differences(shown), Vec::<String>::new());
        let moved = shown.replace("/*    24 ", "/*    32 ");
        assert_eq!(differences(&moved).len(), 1);
        assert_eq!(differences("").len(), 6);
    }

    #[test]
    fn every_test_must_be_run_and_pass() {
        let [gate, ..] = &MACHINES;
        let passed = ["test: gate.enodev ok", "test: gate.nothing-left ok", "test: gate.log ok"];
        assert!(gate.judge(&console(&passed), &[]).is_empty());
        assert_eq!(
            gate.judge(&console(&passed[1..]), &[]),
            ["gate-guest: gate.enodev was not run"]
        );
        let failed = [passed[0], passed[1], "test: gate.log FAILED: cmp gives 1"];
        assert_eq!(
            gate.judge(&console(&failed), &[]),
            ["gate-guest: gate.log FAILED: cmp gives 1"]
        );
        let both = [passed[0], passed[1], failed[2], passed[2]];
        assert_eq!(gate.judge(&console(&both), &[]).len(), 1, "it has failed once");
        let more = [passed[0], passed[1], passed[2], "test: other ok"];
        assert_eq!(gate.judge(&console(&more), &[]), ["gate-guest: other is not expected"]);
        let trouble = [passed[0], passed[1], passed[2], "WARNING: CPU: 0 PID: 1"];
        assert_eq!(gate.judge(&console(&trouble), &[]).len(), 1);
    }
}
