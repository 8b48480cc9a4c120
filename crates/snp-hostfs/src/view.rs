//! The emulated host's files at their real places, for one program.
//!
//! In a mount namespace of the program's own each of them is mounted upon what this machine has there.
//! Where this machine has nothing (it has no /dev/cpu, no module kvm_amd), the folder above is made anew
//! on a tmpfs: what was in it is mounted there again, the emulated part beside it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, mount_bind_recursive, mount_move, unmount};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::error::{Doing as _, HostError};
use crate::mount::private_mounts;

/// What is shown, below the host's root and below `/`.
const SHOWN: [&str; 15] = [
    "dev/cpu",
    "proc/cpuinfo",
    "proc/iomem",
    "sys/devices/system/cpu",
    "sys/devices/system/memory",
    "sys/devices/system/node",
    "sys/fs/cgroup/misc.capacity",
    "sys/fs/cgroup/misc.current",
    "sys/kernel/config/rmpopt",
    "sys/kernel/debug/rmpopt",
    "sys/kernel/debug/x86/rmpopt",
    "sys/kernel/mm/hugepages",
    "sys/module/ccp",
    "sys/module/kvm_amd",
    "sys/module/rmpopt",
];

/// Folders that every Linux with /proc has and nothing uses: a mount that nobody is to see lies there
/// for a moment.
pub(crate) const SPARE: [&str; 2] = ["/proc/driver", "/proc/fs"];

/// Shows the host at `root` at its real places and becomes `program`. Returns only if that fails.
/// With `detach` the mount at `root` is taken away before.
pub fn enter(root: &Path, detach: bool, program: &mut Command) -> HostError {
    // Whoever started this serves the files: without it there is nothing to see.
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    if let Err(error) = show(root, detach) {
        return error;
    }
    let name = program.get_program().to_string_lossy().into_owned();
    HostError::Program { name, error: program.exec() }
}

fn show(root: &Path, detach: bool) -> Result<(), HostError> {
    private_mounts()?;
    let mut view = View { made: BTreeSet::new() };
    for path in SHOWN {
        let from = root.join(path);
        if from.exists() {
            view.put(&from, &Path::new("/").join(path))?;
        }
    }
    if detach {
        unmount(root, UnmountFlags::DETACH).doing(|| format!("{}", root.display()))?;
    }
    Ok(())
}

struct View {
    /// Folders that lie on a tmpfs of ours.
    made: BTreeSet<PathBuf>,
}

impl View {
    fn put(&mut self, from: &Path, to: &Path) -> Result<(), HostError> {
        if !to.exists() {
            // procfs cannot be made anew: a kernel without /proc/iomem has none.
            if to.starts_with("/proc") {
                return Ok(());
            }
            self.make_room(to, from.is_dir())?;
        }
        bind(from, to)
    }

    /// Makes a place for `to`, and the folders above it.
    fn make_room(&mut self, to: &Path, folder: bool) -> Result<(), HostError> {
        let above = to.ancestors().skip(1).find(|above| above.is_dir()).unwrap_or(Path::new("/"));
        if above == Path::new("/") {
            let what = format!("{}: there is no {}", to.display(), first(to).display());
            return Err(HostError::NotAllowed(what));
        }
        if !self.made.contains(above) {
            renew(above)?;
            self.made.insert(above.to_owned());
        }
        let mut new: Vec<&Path> = to.ancestors().take_while(|path| *path != above).collect();
        new.reverse();
        for path in new {
            if path == to && !folder {
                fs::write(path, "").doing(|| path.display().to_string())?;
            } else {
                fs::create_dir(path).doing(|| path.display().to_string())?;
                if path != to {
                    self.made.insert(path.to_owned());
                }
            }
        }
        Ok(())
    }
}

/// The first folder of a path.
fn first(path: &Path) -> PathBuf {
    path.iter().take(2).collect()
}

fn bind(from: &Path, to: &Path) -> Result<(), HostError> {
    mount_bind_recursive(from, to)
        .doing(|| format!("{} cannot be mounted on {}", from.display(), to.display()))
}

/// Makes a folder anew on a tmpfs, with all that was in it.
fn renew(folder: &Path) -> Result<(), HostError> {
    let stage = Path::new(SPARE[1]);
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("rmpopt", stage, "tmpfs", flags, Some(c"mode=755"))
        .doing(|| format!("a tmpfs for {}", folder.display()))?;
    // A folder that cannot be listed (debugfs, without root) has nothing to show.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (from, to) = (entry.path(), stage.join(entry.file_name()));
        let made = match entry.file_type() {
            Ok(kind) if kind.is_symlink() => {
                let done = fs::read_link(&from).and_then(|target| symlink(target, &to));
                done.doing(|| from.display().to_string())?;
                continue;
            }
            Ok(kind) if kind.is_dir() => fs::create_dir(&to),
            _ => fs::write(&to, ""),
        };
        made.doing(|| from.display().to_string())?;
        bind(&from, &to)?;
    }
    mount_move(stage, folder).doing(|| format!("{} cannot be made anew", folder.display()))
}
