//! A host that is up for a test, with a folder for its socket, and goes with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use tempfile::TempDir;

/// A folder for sockets.
pub(crate) struct Runtime(TempDir);

impl Runtime {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn dir(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin!("rmpopt"));
        command.args(args).env("XDG_RUNTIME_DIR", self.dir());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// As a user without rights; the command is copied to where that user may execute it.
    pub(crate) fn run_as_nobody(&self, args: &[&str]) -> Output {
        let copy = self.dir().join("rmpopt-copy");
        fs::copy(cargo_bin!("rmpopt"), &copy).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(copy).args(args);
        command.env("XDG_RUNTIME_DIR", self.dir()).output().unwrap()
    }
}

/// A host that is up.
pub(crate) struct Host {
    runtime: Runtime,
    /// Where it is mounted.
    pub(crate) root: PathBuf,
}

impl Host {
    pub(crate) fn up(scenario: &str, flags: &[&str]) -> Self {
        let runtime = Runtime::new();
        let run = runtime.run(&[&["host", "up", scenario][..], flags].concat());
        assert_eq!(run.status.code(), Some(0), "{run:?}");
        let root = PathBuf::from(stdout(&run).trim_end());
        Self { runtime, root }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.runtime.dir()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.runtime.command(args)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.runtime.run(args)
    }

    pub(crate) fn ok(&self, args: &[&str]) {
        let run = self.run(args);
        assert_eq!(run.status.code(), Some(0), "{args:?}: {run:?}");
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let run = self.run(args);
        serde_json::from_slice(&run.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {run:?}"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may be down already.
        let _ = self.run(&["host", "down"]);
    }
}

pub(crate) fn stdout(run: &Output) -> String {
    String::from_utf8(run.stdout.clone()).unwrap()
}

/// Why nothing can be mounted here.
pub(crate) fn cannot_mount() -> Option<&'static str> {
    let id = Command::new("id").arg("-u").output();
    if !id.is_ok_and(|id| id.stdout == b"0\n") {
        return Some("mounting needs root");
    }
    if fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_err() {
        return Some("/dev/fuse cannot be opened");
    }
    // Root in a container may not mount.
    let may = Command::new("unshare").args(["--mount", "true"]).output();
    if may.is_ok_and(|run| run.status.success()) { None } else { Some("mounts are not allowed") }
}

/// Says that a test cannot run here.
pub(crate) fn skip(test: &str) -> bool {
    let why = cannot_mount();
    if let Some(why) = why {
        println!("skipped: {test}: {why}");
    }
    why.is_some()
}

pub(crate) fn is_mounted(root: &Path) -> bool {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().any(|line| line.split(' ').nth(4) == root.to_str())
}

pub(crate) fn kill(signal: &str, pid: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().unwrap();
    assert!(sent.success(), "{signal} {pid}");
}
