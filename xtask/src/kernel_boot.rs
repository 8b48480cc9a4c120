//! Booting the stock kernel in QEMU with a small initial file system, and reading its console.

mod console;
mod initrd;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

pub(crate) use self::console::Console;
use self::console::{END, START, is_trouble, read_until};
use crate::kernel_env::KernelEnv;

/// A machine, what is in it and what it does.
#[derive(Debug)]
pub(crate) struct Boot<'a> {
    /// Name of the scratch folder and the log.
    pub(crate) name: &'a str,
    /// Files put into the guest's root folder.
    pub(crate) files: &'a [PathBuf],
    /// Commands for the guest's shell, run as root after the usual file systems are mounted.
    pub(crate) script: &'a str,
    /// QEMU's model of the CPUs, with changes.
    pub(crate) cpu: &'a str,
    /// How many virtual CPUs, and their topology, as QEMU takes it.
    pub(crate) smp: &'a str,
    /// MiB of memory.
    pub(crate) memory: u32,
    /// A disk and its size in MiB: a file that the machine has as persistent memory, `/dev/pmem0`.
    pub(crate) disk: Option<(&'a Path, u32)>,
    /// The guest's clock goes by the instructions it runs, 4 ns each, and jumps over idle times: what
    /// a script waits for does not depend on how busy the host is.
    pub(crate) by_instructions: bool,
    /// Time after which a boot is given up.
    pub(crate) limit: Duration,
}

impl Boot<'_> {
    /// Boots, and once more if the first machine did not come to the script's end: an emulated
    /// machine on a loaded host sometimes misses its own timeouts. Trouble that the kernel had
    /// before the script began is not the script's, and is no reason against a second try. What the
    /// first did to a disk is, so with one there is none.
    pub(crate) fn run(&self, env: &KernelEnv) -> Result<Console> {
        let initrd = self.initrd(env)?;
        let first = self.once(env, &initrd)?;
        let is_final =
            first.finished || self.disk.is_some() || (first.started && !first.trouble().is_empty());
        if is_final {
            return Ok(first);
        }
        let seconds = first.time.as_secs_f64();
        eprintln!("the machine did not come to its end in {seconds:.1} s; booting once more");
        self.once(env, &initrd)
    }

    fn once(&self, env: &KernelEnv, initrd: &Path) -> Result<Console> {
        let started = Instant::now();
        let mut qemu = Command::new("qemu-system-x86_64");
        // One thread for all CPUs: with several, QEMU can run an instruction that the kernel has
        // just patched in its old form, and the kernel dies of a breakpoint nobody waits for.
        qemu.args(["-accel", "tcg,thread=single", "-cpu", self.cpu]);
        if self.by_instructions {
            qemu.args(["-icount", "shift=2,sleep=off"]);
        }
        qemu.args([
            "-nographic",
            "-no-reboot",
            "-nodefaults",
            "-serial",
            "stdio",
            "-smp",
            self.smp,
        ]);
        match self.disk {
            None => qemu.args(["-m", &format!("{}M", self.memory)]),
            Some((file, mib)) => {
                let memory = self.memory;
                let most = memory + 2 * mib;
                qemu.args(["-machine", "pc,nvdimm=on"]);
                qemu.args(["-m", &format!("{memory}M,slots=2,maxmem={most}M")]);
                let file = file.display();
                let backend =
                    format!("memory-backend-file,id=disk,share=on,size={mib}M,mem-path={file}");
                qemu.args(["-object", &backend, "-device", "nvdimm,memdev=disk"])
            }
        };
        qemu.arg("-kernel").arg(env.vmlinuz()).arg("-initrd").arg(initrd);
        let arguments = env.flavour().arguments();
        qemu.args(["-append", &format!("console=ttyS0 panic=-1 oops=panic quiet{arguments}")]);
        let mut qemu = qemu
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("starting qemu-system-x86_64")?;
        let lines = read_until(&mut qemu, started + self.limit);
        // It has ended or is out of time; either way nothing more is wanted of it.
        let _ = qemu.kill();
        qemu.wait()?;
        let mut lines = lines?;
        let log = env.logs().join(format!("{}-console.log", self.name));
        fs::write(&log, lines.join("\n") + "\n")?;
        let finished = lines.iter().any(|line| line.contains(END));
        let start = lines.iter().position(|line| line.contains(START));
        if let Some(start) = start {
            // The kernel's own complaints from before that point stay.
            let early: Vec<String> = lines.drain(..=start).collect();
            lines.splice(..0, early.into_iter().filter(|line| is_trouble(line)));
        }
        Ok(Console { lines, time: started.elapsed(), started: start.is_some(), finished })
    }
}
