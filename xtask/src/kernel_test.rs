//! `cargo xtask kernel-test`: the module built, looked at, and tested in a stock kernel and in debug kernels.

mod debug;
mod dkms;
mod kernels;
mod machines;
mod object;
mod together;
mod tool;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::kernels::Kernels;
use self::machines::{MACHINES, Machine};
pub(crate) use self::together::ONLY_TOGETHER;
use crate::kernel_boot::{Boot, Console};
use crate::kernel_env::{self, Flavour, KernelEnv, repository};
use crate::kernel_module::{Module, Strictness};
use crate::process::{capture, run_logged};

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
    /// Boot a machine in which something went wrong once more, alone, and count only that
    #[arg(long)]
    again: bool,
    /// Seconds after which a boot is given up
    #[arg(long, default_value_t = 600)]
    limit: u64,
    #[command(flatten)]
    kernels: Kernels,
    /// Only the machines whose names contain one of these
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    only: Vec<String>,
}

impl Args {
    fn wants(&self, machine: &Machine) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| machine.name.contains(part.as_str()))
    }
}

/// The series of kernels that the module is made for. Another's interfaces may differ.
const SERIES: &str = "7.3";

/// Builds, inspects and boots the module.
pub(crate) fn run(args: &Args) -> Result<()> {
    let env = kernel_env::ensure(false)?;
    let series = env.kernel().series();
    let tested = test(args, env);
    if series == SERIES {
        return tested;
    }
    let other = || format!("the kernel is {series}, the module is made for {SERIES}");
    kernel_env::unavailable(tested.with_context(other))
}

fn test(args: &Args, mut env: KernelEnv) -> Result<()> {
    let (mut wrong, mut kernels) = (Vec::new(), Vec::new());
    for flavour in args.kernels.flavours() {
        env = env.with(flavour)?;
        wrong.extend(match flavour {
            Flavour::Stock => in_stock_kernel(args, &env)?,
            Flavour::Debug | Flavour::Kasan => debug::run(args, &env)?,
        });
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
            wrong.extend(object::build(env, module)?);
        }
        wrong.extend(object::layouts(env)?);
        wrong.extend(dkms::check(env)?);
    }
    if !args.no_boot {
        let checker = checker()?;
        let wanted = |machine: &&Machine| {
            args.wants(machine) && (args.kernels.slow() || !machines::SLOW.contains(&machine.name))
        };
        let wanted: Vec<&Machine> = MACHINES.iter().filter(wanted).collect();
        wrong.extend(together::boot(args, env, &checker, &wanted)?);
    }
    Ok(wrong)
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
            disk: None,
            by_instructions: debug::by_instructions(env, self),
            limit: Duration::from_secs(args.limit),
        };
        let console = boot.run(env)?;
        let wrong = self.judge(&console, debug::quiet(env));
        let seconds = console.time.as_secs_f64();
        let mut told = vec![format!("machine {}: -smp {}, {seconds:.1} s", self.name, self.smp)];
        let lines = console.lines.iter().filter(|line| is_told(line));
        told.extend(lines.map(|line| format!("    {line}")));
        let outcomes = outcomes(&console.lines);
        let not_run = self.tests(debug::quiet(env)).filter(|test| !outcomes.contains_key(test));
        told.extend(not_run.map(|test| format!("    test: {test} NOT RUN")));
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
        if let Some(seconds) = self.tool {
            inside.extend(tool::program(env)?);
            inside.extend(tool::lab_snapshots(env, seconds)?);
        }
        Ok(inside)
    }

    /// Its tests and some more.
    fn tests<'a>(&self, more: &'a [&'a str]) -> impl Iterator<Item = &'a str> + use<'a> {
        self.tests.iter().chain(more).copied()
    }

    /// What went wrong, if these tests and some more were to be passed.
    fn judge(&self, console: &Console, more: &[&str]) -> Vec<String> {
        let mut wrong: Vec<String> = Vec::new();
        let tests: Vec<&str> = self.tests(more).collect();
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
pub(crate) fn outcomes(lines: &[String]) -> BTreeMap<&str, &str> {
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
                    *so_far = outcome;
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
