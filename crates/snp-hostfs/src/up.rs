//! A host that is up: mounted, listening, until it is told to end.
//!
//! No mount is left behind. On `down`, Ctrl-C, SIGTERM and SIGHUP the host takes it away itself. If it is
//! killed, a watcher does: a process of its own session that waits on a pipe, whose other end goes with
//! the host.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use snp_lab::scenario::{Nanos, Setup};

use crate::content::Files;
use crate::control::{self, Told};
use crate::error::{Doing as _, HostError};
use crate::fs::HostFs;
use crate::mount::{device, mount_host, unmount_all};
use crate::place::Place;
use crate::sim::{Sim, Start};
use crate::tree::Tree;

/// What kind of host is wanted.
#[derive(Debug)]
pub struct Wanted {
    /// The scenario, policy and costs.
    pub setup: Setup,
    /// Where its time begins.
    pub start: Start,
    /// Simulated seconds a second.
    pub speed: f64,
}

/// Boots a host, and makes its files.
pub(crate) fn boot(
    wanted: Wanted,
    progress: &mut dyn FnMut(Nanos),
) -> Result<(Sim, HostFs), HostError> {
    let scenario = wanted.setup.scenario.name.clone();
    let (sim, machine) = Sim::boot(wanted.setup, wanted.start, wanted.speed, progress)
        .map_err(|error| HostError::Lab { scenario, error })?;
    let tree = Tree::new(machine, sim.board().clone());
    let files = Files { tree, sim: sim.clone() };
    Ok((sim, HostFs::new(files)))
}

/// Brings a host up at `place` and keeps it until it is to end. `watcher` is a command that calls
/// [`watch`] for the same place; `ready` is told where the host is mounted.
pub fn up(
    place: &Place,
    wanted: Wanted,
    mount: Option<&Path>,
    mut watcher: Command,
    progress: &mut dyn FnMut(Nanos),
    ready: impl FnOnce(&Path),
) -> Result<(), HostError> {
    let lock = place.take()?;
    place.clean(&lock);
    let done = up_locked(place, wanted, mount, &mut watcher, progress, ready);
    place.clean(&lock);
    place.leave(lock);
    done
}

fn up_locked(
    place: &Place,
    wanted: Wanted,
    mount: Option<&Path>,
    watcher: &mut Command,
    progress: &mut dyn FnMut(Nanos),
    ready: impl FnOnce(&Path),
) -> Result<(), HostError> {
    // What cannot be is said before the boot.
    let device = device()?;
    let at = place.mount_point(mount)?;
    let (stop, stopped) = mpsc::channel();
    stop_on_signals(&stop)?;
    let told = Told {
        name: place.name().as_str().to_owned(),
        root: at.clone(),
        scenario: wanted.setup.scenario.name.clone(),
        policy: wanted.setup.policy.as_str().to_owned(),
    };
    let (sim, filesystem) = boot(wanted, progress)?;
    if stopped.try_recv().is_ok() {
        return Ok(());
    }
    let source = format!("rmpopt:{}:{}", place.name().as_str(), std::process::id());
    place.note_mount(&source, &at)?;
    let mut guard = Mounted { source, watcher: start_watcher(watcher)? };
    let session = mount_host(device, filesystem, &at, &guard.source)?;
    thread::spawn(move || session.run());
    control::listen(place, &told, &sim, &stop)?;
    ready(&at);
    // Every sender is a thread that lives as long as the process.
    let _ = stopped.recv();
    guard.take_away();
    Ok(())
}

fn start_watcher(command: &mut Command) -> Result<Child, HostError> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().doing(|| "the watcher of the mount".to_owned())
}

fn stop_on_signals(stop: &Sender<()>) -> Result<(), HostError> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).doing(|| "signals".to_owned())?;
    let stop = stop.clone();
    thread::spawn(move || {
        for _ in signals.forever() {
            let _ = stop.send(());
        }
    });
    Ok(())
}

/// A mount, and who takes it away if this process cannot.
struct Mounted {
    source: String,
    watcher: Child,
}

impl Mounted {
    fn take_away(&mut self) {
        unmount_all(&self.source);
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.take_away();
    }
}

/// Waits until the host that started this process is gone, then takes away what it left.
pub fn watch(place: &Place) {
    // Ctrl-C and a terminal that closes are for the host.
    let _ = rustix::process::setsid();
    let mut sink = [0; 64];
    let mut input = io::stdin().lock();
    while !matches!(input.read(&mut sink), Ok(0) | Err(_)) {}
    // The lock goes when the process is gone, a moment after its pipe.
    for _ in 0..100 {
        place.clean_if_down();
        if !place.has_mount() {
            return;
        }
        thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Puts this process into the background, once it is ready: its own session, nothing to read from or
/// write to.
pub fn detach() -> Result<(), HostError> {
    let _ = rustix::process::setsid();
    std::env::set_current_dir("/").doing(|| "/".to_owned())?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.doing(|| "/dev/null".to_owned())?;
    let done = rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .and_then(|()| rustix::stdio::dup2_stderr(&null));
    done.doing(|| "/dev/null".to_owned())
}

/// Where the host of a place is mounted.
pub fn root_of(place: &Place) -> Result<PathBuf, HostError> {
    let status: control::Status = control::call(place, &control::Request::Status)?;
    Ok(status.root)
}
