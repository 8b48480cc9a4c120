//! Booting the stock kernel in QEMU with a small initial file system, and reading its console.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::kernel_env::KernelEnv;
use crate::process::{lossy, pipeline};

/// The guest's own first line: what stands before it is the firmware's.
const START: &str = "guest: start";

/// The guest's script ran to its end.
const END: &str = "guest: end";
/// What the kernel prints when something went wrong in it.
const TROUBLE: [&str; 12] = [
    "BUG:",
    "BUG at",
    "kernel BUG",
    "WARNING:",
    "Oops",
    "Call Trace",
    "Kernel panic",
    "rust_kernel: panicked",
    "general protection",
    "UBSAN",
    "rcu: INFO",
    "blocked for more than",
];

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
    /// The guest's clock goes by the instructions it runs, 4 ns each, and jumps over idle times: what
    /// a script waits for does not depend on how busy the host is.
    pub(crate) by_instructions: bool,
    /// Time after which a boot is given up.
    pub(crate) limit: Duration,
}

/// What a boot printed.
#[derive(Debug)]
pub(crate) struct Console {
    /// Its lines, without the firmware's.
    pub(crate) lines: Vec<String>,
    /// How long it took.
    pub(crate) time: Duration,
    /// Whether the guest's script began.
    pub(crate) started: bool,
    /// Whether the guest's script ran to its end.
    pub(crate) finished: bool,
}

impl Console {
    /// Lines by which the kernel says that something went wrong in it.
    pub(crate) fn trouble(&self) -> Vec<&str> {
        self.lines.iter().map(String::as_str).filter(|line| is_trouble(line)).collect()
    }

    /// Whether some line contains this.
    pub(crate) fn says(&self, what: &str) -> bool {
        self.lines.iter().any(|line| line.contains(what))
    }
}

fn is_trouble(line: &str) -> bool {
    TROUBLE.iter().any(|word| line.contains(word))
}

impl Boot<'_> {
    /// Boots, and once more if the first machine did not come to the script's end: an emulated
    /// machine on a loaded host sometimes misses its own timeouts. Trouble that the kernel had
    /// before the script began is not the script's, and is no reason against a second try.
    pub(crate) fn run(&self, env: &KernelEnv) -> Result<Console> {
        let initrd = self.initrd(env)?;
        let first = self.once(env, &initrd)?;
        let is_final = first.finished || (first.started && !first.trouble().is_empty());
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
        qemu.args(["-m", &format!("{}M", self.memory)]);
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

    /// The initial file system: busybox, the files, and the script.
    fn initrd(&self, env: &KernelEnv) -> Result<PathBuf> {
        let folder = env.scratch(self.name);
        let root = folder.join("root");
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        for part in ["bin", "proc", "sys", "dev"] {
            fs::create_dir_all(root.join(part))?;
        }
        fs::copy(busybox()?, root.join("bin/busybox"))?;
        for file in self.files {
            let name = file.file_name().context("a file without a name")?;
            fs::copy(file, root.join(name)).with_context(|| format!("{}", file.display()))?;
        }
        let init = format!(
            "#!/bin/busybox sh\n\
             /bin/busybox --install -s /bin\n\
             export PATH=/bin\n\
             echo; echo '{START}'\n\
             mount -t proc proc /proc\n\
             mount -t sysfs sysfs /sys\n\
             mount -t devtmpfs devtmpfs /dev 2>/dev/null\n\
             mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null\n\
             {}\n\
             echo '{END}'\n\
             poweroff -f\n",
            self.script
        );
        let path = root.join("init");
        fs::File::create(&path)?.write_all(init.as_bytes())?;
        let initrd = folder.join("initrd.gz");
        pipeline(
            "chmod 755 \"$1/init\"; cd \"$1\"; find . | cpio -o -H newc -R 0:0 | gzip -1 > \"$2\"",
            &[&root, &initrd],
            &env.logs().join(format!("{}-initrd.log", self.name)),
        )?;
        Ok(initrd)
    }
}

/// A busybox that needs no libraries.
fn busybox() -> Result<&'static Path> {
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
    match places.into_iter().find(|place| place.is_file()) {
        Some(place) => Ok(place),
        None => bail!("no /bin/busybox; install busybox-static"),
    }
}

/// The console's lines until the machine ends or the time is over.
fn read_until(qemu: &mut Child, end: Instant) -> Result<Vec<String>> {
    let output = qemu.stdout.take().context("no console")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(lossy(&line)).is_err() {
                break;
            }
        }
    });
    let mut lines = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left) {
            Ok(line) => lines.push(line),
            Err(_) => return Ok(lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_what_the_kernel_complains_about() {
        let lines = ["test: OK", "------------[ cut here ]", "WARNING: CPU: 0 PID: 1", "fine"];
        let lines = lines.map(str::to_owned).to_vec();
        let console = Console { lines, time: Duration::ZERO, started: true, finished: true };
        assert_eq!(console.trouble(), ["WARNING: CPU: 0 PID: 1"]);
    }
}
