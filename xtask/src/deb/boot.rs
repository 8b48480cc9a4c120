//! `cargo xtask deb --boot`: the package's units under systemd, in a Debian that is booted in QEMU with the
//! stock kernel. What is tested there: `fleet/check/units.sh`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::Package;
use super::minimal::Minimal;
use crate::kernel_boot::{Boot, Console};
use crate::kernel_env::{self, KernelEnv};
use crate::kernel_module::{Module, Strictness};
use crate::kernel_test::outcomes;
use crate::process::{capture, is_installed, run_logged};

/// The tests of both boots.
const TESTS: [&[&str]; 2] = [
    &[
        "installed",
        "enabled",
        "unprivileged",
        "kept-from-others",
        "facts",
        "as-root-sees",
        "ages",
        "ticks",
        "driver",
        "guest",
        "counts",
        "as-root-sees-the-driver",
        "textfile",
        "labels",
        "followed",
        "quiet",
        "killed",
        "elsewhere",
        "stopped",
    ],
    &["started-by-itself", "quiet-after-boot", "upgraded", "removed", "purged"],
];

/// Modules of the stock kernel for a disk that is memory, in the order in which they load. What is read from
/// it or written to it is so at once; a disk that lets the machine wait would do so for minutes of a clock
/// that jumps over idle times.
const DISK: [&str; 8] =
    ["crc16", "mbcache", "jbd2", "ext4", "libnvdimm", "nd_btt", "nd_pmem", "nfit"];

/// Those that the system loads itself.
const INSIDE: [&str; 3] = ["msr", "cpuid", "configfs"];

const DISK_MIB: u32 = 900;

/// What the initial file system does: it gives way to the Debian on the disk.
const SWITCH: &str = "for module in crc16 mbcache jbd2 ext4 libnvdimm nd_btt nd_pmem nfit; do insmod /$module.ko; done\n\
     umount /sys/kernel/debug /sys /proc /dev\n\
     mount -t devtmpfs devtmpfs /dev\n\
     mkdir /debian\n\
     mount -t ext4 /dev/pmem0 /debian && umount /dev && exec switch_root /debian /usr/lib/systemd/systemd\n";

/// Boots it twice and checks what its units do.
pub(super) fn run(package: &Package, deb: &Path) -> Result<()> {
    for program in ["qemu-system-x86_64", "mke2fs"] {
        ensure!(is_installed(program), "{program} is missing");
    }
    let env = kernel_env::ensure(false)?;
    Module::Emulated.build(&env, Strictness::Stock)?;
    let minimal = Minimal::ensure()?;
    let root = minimal.bootable("units")?;
    fill(package, deb, &env, &root)?;
    let disk = disk(&env, &root)?;
    fs::remove_dir_all(&root)?;
    let modules = DISK.iter().map(|name| env.stock_module(name));
    let modules = modules.collect::<Result<Vec<_>>>()?;
    let mut wrong = Vec::new();
    for (tests, name) in TESTS.iter().zip(["units", "units-again"]) {
        let boot = Boot {
            name,
            files: &modules,
            script: SWITCH,
            cpu: "max",
            smp: "2",
            memory: 1024,
            disk: Some((&disk, DISK_MIB)),
            by_instructions: true,
            limit: Duration::from_secs(1200),
        };
        let console = boot.run(&env)?;
        println!("machine {name}: {:.1} s", console.time.as_secs_f64());
        let found = judge(&console, tests);
        let all = !found.is_empty();
        for line in console.lines.iter().filter(|line| all || line.starts_with("test: ")) {
            println!("    {line}");
        }
        wrong.extend(found.into_iter().map(|what| format!("{name}: {what}")));
    }
    fs::remove_file(&disk)?;
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"))
    }
    Ok(())
}

/// Puts the tests, the package and the kernel's modules into the system.
fn fill(package: &Package, deb: &Path, env: &KernelEnv, root: &Path) -> Result<()> {
    let check = root.join("check");
    fs::create_dir(&check)?;
    fs::copy(deb, check.join("rmpopt.deb"))?;
    let ours = package.root.join("fleet/check");
    fs::copy(ours.join("units.sh"), check.join("units.sh"))?;
    let system = root.join("etc/systemd/system");
    for unit in ["units-check.service", "units-check.target"] {
        fs::copy(ours.join(unit), system.join(unit))?;
    }
    symlink("units-check.target", system.join("default.target"))?;
    // No udev tells of the console, and nobody logs in.
    symlink("/dev/null", system.join("serial-getty@ttyS0.service"))?;
    let folder = root.join("usr/lib/modules").join(&env.kernel().release);
    fs::create_dir_all(folder.join("kernel"))?;
    let mut modules = Module::Emulated.files(env);
    for name in INSIDE {
        modules.push(env.stock_module(name)?);
    }
    for module in modules {
        let name = module.file_name().context("a module without a name")?;
        fs::copy(&module, folder.join("kernel").join(name))?;
    }
    capture(kernel_env::inside(root, "depmod").arg(&env.kernel().release)).map(drop)
}

/// The system as a disk.
fn disk(env: &KernelEnv, root: &Path) -> Result<PathBuf> {
    let disk = env.scratch("units.disk");
    if disk.exists() {
        fs::remove_file(&disk)?;
    }
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-t", "ext4", "-d"]).arg(root).arg(&disk).arg(format!("{DISK_MIB}M"));
    run_logged(&mut make, &env.logs().join("units-disk.log"))?;
    Ok(disk)
}

/// What went wrong, if just these tests were to be passed.
fn judge(console: &Console, tests: &[&str]) -> Vec<String> {
    let outcomes = outcomes(&console.lines);
    let mut wrong = Vec::new();
    for test in tests {
        match outcomes.get(format!("units.{test}").as_str()) {
            Some(&"ok") => {}
            Some(outcome) => wrong.push(format!("{test} {outcome}")),
            None => wrong.push(format!("{test} was not run")),
        }
    }
    if outcomes.len() > tests.len() {
        wrong.push(format!("{} tests, {} expected", outcomes.len(), tests.len()));
    }
    if !console.finished {
        wrong.push("did not come to its end in time".to_owned());
    }
    wrong.extend(console.trouble().iter().map(|line| format!("the kernel said: {line}")));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(lines: &[&str], finished: bool) -> Console {
        let lines = lines.iter().map(|&line| line.to_owned()).collect();
        Console { lines, time: Duration::ZERO, started: true, finished }
    }

    #[test]
    fn every_test_must_be_run_and_pass() {
        let tests = ["removed", "purged"];
        let passed = ["test: units.removed ok", "test: units.purged ok"];
        assert!(judge(&console(&passed, true), &tests).is_empty());
        assert_eq!(judge(&console(&passed, false), &tests).len(), 1);
        assert_eq!(judge(&console(&passed[1..], true), &tests), ["removed was not run"]);
        let failed = [passed[0], "test: units.purged FAILED: purged gives 1"];
        assert_eq!(judge(&console(&failed, true), &tests), ["purged FAILED: purged gives 1"]);
        let more = [passed[0], passed[1], "test: units.other ok"];
        assert_eq!(judge(&console(&more, true), &tests).len(), 1);
        let trouble = [passed[0], passed[1], "kernel BUG at x.c:1"];
        assert_eq!(judge(&console(&trouble, true), &tests).len(), 1);
    }

    #[test]
    fn the_script_runs_just_these_tests() {
        let script = include_str!("../../../fleet/check/units.sh");
        let run = script.lines().filter_map(|line| line.trim().strip_prefix("test_that units."));
        let run: Vec<_> = run.filter_map(|rest| rest.split(' ').next()).collect();
        assert_eq!(run, TESTS.concat());
    }

    #[test]
    fn the_disks_modules_are_those_that_are_loaded() {
        assert!(SWITCH.contains(&format!("in {}; do", DISK.join(" "))));
    }
}
