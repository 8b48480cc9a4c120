//! Mounting without libfuse and without fusermount: /dev/fuse and mount(2), as root or in a user
//! namespace of one's own.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use fuser::{Config, Session, SessionACL};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};

use crate::error::{Doing as _, HostError};
use crate::fs::HostFs;
use crate::sys;

/// Threads that answer the kernel. Two, so that one answers while the other waits for the host.
const THREADS: usize = 2;

/// What is needed, said when it is missing.
const NEEDS: &str = "an emulated host is mounted through FUSE: that needs root, or for `rmpopt host exec` \
    a kernel that lets users have namespaces of their own (sysctl kernel.unprivileged_userns_clone, \
    user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)";

/// Opens /dev/fuse.
pub(crate) fn device() -> Result<OwnedFd, HostError> {
    match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(file) => Ok(file.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(HostError::NotAllowed(
            "/dev/fuse is not there: the kernel's module fuse is needed (modprobe fuse), and in a \
             container the device"
                .to_owned(),
        )),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(HostError::NotAllowed(format!(
                "/dev/fuse cannot be opened: {error}. It needs mode 0666, as Debian has it, or root"
            )))
        }
        Err(error) => Err(HostError::System { what: "/dev/fuse".to_owned(), error }),
    }
}

/// Mounts `filesystem` on `at` under the name `source`. The session is to be run by the caller.
pub(crate) fn mount_host(
    device: OwnedFd,
    filesystem: HostFs,
    at: &Path,
    source: &str,
) -> Result<Session<HostFs>, HostError> {
    // Whoever may see the files by their modes may use them: the host is everybody's, as a real one.
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},allow_other,default_permissions",
        device.as_raw_fd(),
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let options = CString::new(options).doing(|| "mount options".to_owned())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(source, at, "fuse.rmpopt", flags, Some(options.as_c_str())).map_err(
        |error| match error {
            Errno::PERM | Errno::ACCESS => HostError::NotAllowed(NEEDS.to_owned()),
            Errno::NODEV => {
                HostError::NotAllowed("the kernel has no FUSE (modprobe fuse)".to_owned())
            }
            error => HostError::System {
                what: format!("{}: cannot be mounted on", at.display()),
                error: error.into(),
            },
        },
    )?;
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    let session = Session::from_fd(filesystem, device, SessionACL::All, config);
    if session.is_err() {
        let _ = unmount(at, UnmountFlags::DETACH);
    }
    session.doing(|| "FUSE".to_owned())
}

/// Gives this process a mount namespace of its own, from which nothing gets out. Without root in a user
/// namespace, in which it is root. The process must have one thread.
pub(crate) fn private_mounts() -> Result<(), HostError> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    match sys::unshare_mounts(false) {
        Ok(()) => {}
        Err(Errno::PERM) => {
            sys::unshare_mounts(true).map_err(|_| HostError::NotAllowed(NEEDS.to_owned()))?;
            let write = |file: &str, text: String| {
                let path = format!("/proc/self/{file}");
                fs::write(&path, text).doing(|| path)
            };
            write("setgroups", "deny".to_owned())?;
            write("uid_map", format!("0 {} 1", user.as_raw()))?;
            write("gid_map", format!("0 {} 1", group.as_raw()))?;
        }
        Err(error) => return Err(error).doing(|| "unshare".to_owned()),
    }
    let all = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", all).doing(|| "mounts cannot be made private".to_owned())
}

/// Takes away every mount with this source that this namespace has. Returns how many.
pub(crate) fn unmount_all(source: &str) -> usize {
    let Ok(text) = fs::read_to_string("/proc/self/mountinfo") else { return 0 };
    let all = mounted(&text, source);
    // The latest first: it may lie upon an earlier one.
    all.iter().rev().filter(|at| unmount(*at, UnmountFlags::DETACH).is_ok()).count()
}

/// Where `source` is mounted, by the text of mountinfo (proc_pid_mountinfo(5)).
fn mounted(text: &str, source: &str) -> Vec<PathBuf> {
    let at = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut words = after.split(' ');
        let (kind, from) = (words.next()?, words.next()?);
        let is_it = kind == "fuse.rmpopt" && unescape(from) == source;
        is_it.then(|| PathBuf::from(unescape(before.split(' ').nth(4).unwrap_or_default())))
    };
    text.lines().filter_map(at).collect()
}

/// `\040` is a blank; so are tab, newline and backslash written.
fn unescape(word: &str) -> String {
    let mut text = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let (Some(code), Some(after)) = (code, after.get(3..)) {
            text.push(code.into());
            rest = after;
        } else {
            text.push('\\');
            rest = after;
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_their_source() {
        let text = "21 1 0:20 / /proc rw - proc proc rw\n\
            40 1 0:33 / /run/a\\040b rw,nosuid - fuse.rmpopt rmpopt:host:12 rw,user_id=0\n\
            41 1 0:34 / /mnt rw - fuse.rmpopt rmpopt:other:13 rw\n\
            42 1 0:35 / /x rw - tmpfs rmpopt:host:12 rw\n";
        assert_eq!(mounted(text, "rmpopt:host:12"), [PathBuf::from("/run/a b")]);
        assert_eq!(mounted(text, "rmpopt:host:1"), Vec::<PathBuf>::new());
        assert_eq!(mounted("x\n - \n", ""), Vec::<PathBuf>::new());
        assert_eq!(unescape("a\\134b\\"), "a\\b\\");
    }
}
