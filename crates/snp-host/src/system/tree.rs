//! Files below a folder, read without ever leaving it.
//!
//! Every part of a path is opened by itself, relative to the one before and without following a
//! symbolic link, so that neither a link nor `..` in a copied tree leads out of it. Nothing is
//! written. What is not a regular file is refused, but for the kernel's MSR and CPUID devices and
//! its log, known by their device numbers, and the secure processor, which is asked by an ioctl.

use std::cell::RefCell;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Dir, FileType, Mode, OFlags, fstat, open, openat};
use rustix::io::Errno;
use snp_defs::FirmwareStatus;

use super::error::Why;
use super::sev::STATUS_BYTES;
use super::sys;

/// Most names that are read of one folder.
const MAX_NAMES: usize = 1 << 18;
/// Device numbers that may be read: the kernel log, MSRs, CPUID (Documentation/admin-guide/devices.txt).
const KMSG: (u32, u32) = (1, 11);
const MSR_MAJOR: u32 = 202;
const CPUID_MAJOR: u32 = 203;
/// Devices of the misc driver, of which the secure processor's is one.
const MISC_MAJOR: u32 = 10;
const PROCESSOR: &str = "the device of the secure processor";

/// How long an open device is used again: one that has gone meanwhile must be seen to have.
const BURST: Duration = Duration::from_millis(50);

/// A folder.
#[derive(Debug)]
pub(super) struct Tree {
    dir: OwnedFd,
    /// The device that was read last: its leaves are read one after the other.
    last: RefCell<Option<(String, File, Instant)>>,
}

fn why(errno: Errno) -> Why {
    match errno {
        // ENXIO and ENODEV: the CPU behind a device is offline or has no such interface.
        Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::NODEV => Why::Absent,
        Errno::ACCESS | Errno::PERM => Why::Forbidden,
        Errno::LOOP => Why::malformed(0, "a file, as links are not followed", "a symbolic link"),
        other => Why::Io(std::io::Error::from(other).to_string()),
    }
}

fn io_why(error: &std::io::Error) -> Why {
    match (error.raw_os_error(), error.kind()) {
        (Some(code), _) => why(Errno::from_raw_os_error(code)),
        (None, ErrorKind::UnexpectedEof) => Why::malformed(0, "8 or 16 bytes", "fewer bytes"),
        _ => Why::Io(error.to_string()),
    }
}

impl Tree {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { dir: open(path, flags, Mode::empty())?, last: RefCell::default() })
    }

    fn descend(&self, path: &str, last: OFlags) -> Result<OwnedFd, Why> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        if parts.is_empty() || parts.iter().any(|part| *part == ".." || *part == ".") {
            return Err(Why::malformed(0, "a path without `.` and `..`", path));
        }
        let mut at: Option<OwnedFd> = None;
        let base = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for (n, part) in parts.iter().enumerate() {
            let flags = if n + 1 == parts.len() { last } else { OFlags::PATH | OFlags::DIRECTORY };
            let dir = at.as_ref().unwrap_or(&self.dir);
            at = Some(openat(dir, *part, flags | base, Mode::empty()).map_err(why)?);
        }
        at.ok_or(Why::Absent)
    }

    fn file(&self, path: &str) -> Result<(File, bool), Why> {
        let fd = self.descend(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = fstat(&fd).map_err(why)?;
        let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let log = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => false,
            FileType::CharacterDevice if device == KMSG => true,
            FileType::CharacterDevice if [MSR_MAJOR, CPUID_MAJOR].contains(&device.0) => false,
            _ => return Err(Why::malformed(0, "a regular file", "another kind of file")),
        };
        Ok((File::from(fd), log))
    }

    /// A whole file of at most `limit` bytes.
    pub(super) fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, Why> {
        let (mut file, log) = self.file(path)?;
        let mut bytes = Vec::new();
        if log {
            return kmsg(&mut file, limit);
        }
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| io_why(&e))?;
        if bytes.len() as u64 > limit { Err(Why::TooLarge { limit }) } else { Ok(bytes) }
    }

    /// A file of one line, which ends with it: nobody is asked whether there is more.
    pub(super) fn line(&self, path: &str, limit: u64) -> Result<Vec<u8>, Why> {
        let (mut file, _) = self.file(path)?;
        let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
        while bytes.last() != Some(&b'\n') {
            match file.read(&mut part) {
                Ok(0) => break,
                Ok(length) => bytes.extend_from_slice(part.get(..length).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(io_why(&e)),
            }
            if bytes.len() as u64 > limit {
                return Err(Why::TooLarge { limit });
            }
        }
        Ok(bytes)
    }

    /// The first bytes of a file, `N` at most.
    pub(super) fn head<const N: usize>(&self, path: &str) -> Result<Vec<u8>, Why> {
        let (file, _) = self.file(path)?;
        let mut bytes = Vec::new();
        file.take(N as u64).read_to_end(&mut bytes).map_err(|e| io_why(&e))?;
        Ok(bytes)
    }

    /// Exactly `N` bytes at an offset, as MSR and CPUID devices give them.
    pub(super) fn read_at<const N: usize>(&self, path: &str, offset: u64) -> Result<[u8; N], Why> {
        let mut last = self.last.borrow_mut();
        let fits = |(known, _, at): &(String, File, Instant)| known == path && at.elapsed() < BURST;
        if !last.as_ref().is_some_and(fits) {
            *last = None;
            *last = Some((path.to_owned(), self.file(path)?.0, Instant::now()));
        }
        let Some((_, file, _)) = &*last else { return Err(Why::Absent) };
        let mut bytes = [0; N];
        match file.read_exact_at(&mut bytes, offset) {
            // The CPU has no such MSR.
            Err(e) if e.raw_os_error() == Some(Errno::IO.raw_os_error()) => Err(Why::Absent),
            Err(e) => Err(io_why(&e)),
            Ok(()) => Ok(bytes),
        }
    }

    /// Asks the firmware behind a device of the secure processor for the platform's status.
    pub(super) fn platform_status(&self, path: &str) -> Result<[u8; STATUS_BYTES], Why> {
        let fd = self.descend(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = fstat(&fd).map_err(why)?;
        let device = (FileType::from_raw_mode(stat.st_mode), rustix::fs::major(stat.st_rdev));
        // Any other file is asked too and refuses, any other driver's device is not.
        if !matches!(device, (FileType::CharacterDevice, MISC_MAJOR) | (FileType::RegularFile, _)) {
            return Err(Why::malformed(0, PROCESSOR, "another kind of file"));
        }
        sys::snp_platform_status(fd.as_fd()).map_err(|(errno, code)| match (errno, code) {
            (Errno::NOTTY, _) => Why::malformed(0, PROCESSOR, "another file (ENOTTY)"),
            (_, code) if code != sys::NOT_CALLED && code != 0 => {
                Why::Io(format!("the firmware answers {}", FirmwareStatus(code)))
            }
            (Errno::INVAL, _) => Why::Io(
                "EINVAL: this kernel asks the firmware only once SNP is initialised".to_owned(),
            ),
            (errno, _) => why(errno),
        })
    }

    /// The names in a folder, sorted.
    pub(super) fn list(&self, path: &str) -> Result<Vec<String>, Why> {
        let fd = self.descend(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd).map_err(why)? {
            let entry = entry.map_err(why)?;
            let name = entry.file_name().to_string_lossy();
            if name != "." && name != ".." {
                names.push(name.into_owned());
            }
            if names.len() > MAX_NAMES {
                return Err(Why::TooLarge { limit: MAX_NAMES as u64 });
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// The kernel's log, a record a read, until there is no more. If it is too long its end is kept.
fn kmsg(file: &mut File, limit: u64) -> Result<Vec<u8>, Why> {
    let mut bytes = Vec::new();
    let mut record = [0; 8192];
    while bytes.len() as u64 <= limit {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(record.get(..length).unwrap_or_default()),
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            // Records were overwritten meanwhile; the next read goes on after them.
            Err(e) if e.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(io_why(&e)),
        }
    }
    Ok(bytes)
}
