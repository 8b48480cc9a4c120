//! A program in a view of an emulated host.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;

use rustix::process::{Pid, Signal, getpgrp, kill_process};
use rustix::termios::tcgetpgrp;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use snp_lab::scenario::Nanos;

use crate::error::{Doing as _, HostError};
use crate::mount::{device, mount_host, private_mounts};
use crate::up::{Wanted, boot};
use crate::view::SPARE;

/// The host that a program is to see.
#[derive(Debug)]
pub enum Seen {
    /// One that is up, by its mount.
    Running(PathBuf),
    /// One of its own, which ends with it.
    Own(Box<Wanted>),
}

/// Runs a program in a view of `seen` and returns its exit code: 128 and the number for one that a signal
/// ended. `entering` makes the command that calls [`crate::enter`] with a root and whether to detach it.
/// This process must have one thread when this is called.
pub fn exec(
    seen: Seen,
    entering: impl FnOnce(&Path, bool) -> Command,
    progress: &mut dyn FnMut(Nanos),
    ready: impl FnOnce(),
) -> Result<u8, HostError> {
    let mut command = match seen {
        Seen::Running(root) => {
            // Without root the view needs a user namespace, which the program's own process makes.
            entering(&root, false)
        }
        Seen::Own(wanted) => {
            // The mount lies in a namespace that only this process and the program have: it goes with them.
            private_mounts()?;
            // The kernel wants it opened in the user namespace that it is mounted in.
            let device = device()?;
            let (_sim, filesystem) = boot(*wanted, progress)?;
            let root = Path::new(SPARE[0]);
            let session = mount_host(device, filesystem, root, "rmpopt:exec")?;
            thread::spawn(move || session.run());
            entering(root, true)
        }
    };
    // What is sent to this process before the program is there waits for it.
    let mut signals = Signals::new([SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2])
        .doing(|| "signals".to_owned())?;
    ready();
    let mut child = command.spawn().doing(|| "the program".to_owned())?;
    let pid = Pid::from_raw(child.id().cast_signed());
    thread::spawn(move || {
        for number in signals.forever() {
            let from_keys = matches!(number, SIGINT | SIGQUIT) && is_foreground();
            if let Some((pid, signal)) = pid.zip(Signal::from_named_raw(number))
                && !from_keys
            {
                let _ = kill_process(pid, signal);
            }
        }
    });
    let status = child.wait().doing(|| "the program".to_owned())?;
    Ok(code(status))
}

/// Whether the terminal's keys send signals to this process's group, and so to the program as well.
fn is_foreground() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// A program and its arguments.
pub fn program(words: &[OsString]) -> Option<Command> {
    let (name, args) = words.split_first()?;
    let mut command = Command::new(name);
    command.args(args);
    Some(command)
}
