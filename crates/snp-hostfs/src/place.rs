//! Where a running host keeps its socket and its mount point, by its name.
//!
//! `$XDG_RUNTIME_DIR/rmpopt/NAME`, for root without that `/run/rmpopt/NAME`: `lock`, held while the host
//! is up; `socket`; `mount`, which says where it is mounted; `root`, the mount point unless another was
//! asked for.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Doing as _, HostError};

/// How often a lock is tried that somebody has, and the pause between.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// A host's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// A name of 1 to 32 of `a-z`, `0-9` and `-`.
    pub fn new(name: &str) -> Result<Self, HostError> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=32).contains(&name.len()) && name.bytes().all(fits) {
            return Ok(Self(name.to_owned()));
        }
        Err(HostError::Name(name.chars().take(64).collect()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The folder of a host of that name, whether it is up or not.
#[derive(Clone, Debug)]
pub struct Place {
    name: Name,
    folder: PathBuf,
}

impl Place {
    /// The place of a name.
    pub fn of(name: Name) -> Result<Self, HostError> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
        let base = match runtime {
            Some(dir) => PathBuf::from(dir),
            None if rustix::process::geteuid().is_root() => PathBuf::from("/run"),
            None => return Err(HostError::NoRuntime),
        };
        let folder = base.join("rmpopt").join(name.as_str());
        Ok(Self { name, folder })
    }

    /// The host's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// Where it is mounted unless another place is asked for.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    fn mount_file(&self) -> PathBuf {
        self.folder.join("mount")
    }

    /// Makes the folders, and takes the lock; it is given back when what is returned is dropped.
    pub(crate) fn take(&self) -> Result<File, HostError> {
        let mut error = HostError::Up { name: self.name.0.clone() };
        // Whoever looks whether a host is up has the lock for a moment, and whoever takes one down
        // removes the folder.
        for _ in 0..TRIES {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
            match made.doing(|| self.folder.display().to_string()).and_then(|()| self.lock()) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => {}
                Err(other) => error = other,
            }
            std::thread::sleep(PAUSE);
        }
        Err(error)
    }

    /// The lock, if nobody has it.
    fn lock(&self) -> Result<Option<File>, HostError> {
        let path = self.folder.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.doing(|| path.display().to_string())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                // Another may have removed the file that was opened.
                let here = fs::metadata(&path)
                    .is_ok_and(|known| file.metadata().is_ok_and(|file| file.ino() == known.ino()));
                Ok(here.then_some(file))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).doing(|| path.display().to_string()),
        }
    }

    /// Whether a host of that name is up.
    pub fn is_up(&self) -> bool {
        self.folder.is_dir() && matches!(self.lock(), Ok(None))
    }

    /// Notes what is mounted, so that it can be taken away whatever happens.
    pub(crate) fn note_mount(&self, source: &str, at: &Path) -> Result<(), HostError> {
        let path = self.mount_file();
        let text = format!("{source}\n{}\n", at.display());
        fs::write(&path, text).doing(|| path.display().to_string())
    }

    /// Takes away what a host left that is not up any more. The lock must be held.
    pub(crate) fn clean(&self, _: &File) {
        if let Ok(text) = fs::read_to_string(self.mount_file())
            && let Some(source) = text.lines().next()
        {
            crate::mount::unmount_all(source);
        }
        for file in [self.socket(), self.mount_file()] {
            let _ = fs::remove_file(file);
        }
        let _ = fs::remove_dir(self.root());
    }

    /// The same if no host of that name is up. The folder goes too.
    pub(crate) fn clean_if_down(&self) {
        if self.folder.is_dir()
            && let Ok(Some(lock)) = self.lock()
        {
            self.clean(&lock);
            self.leave(lock);
        }
    }

    /// Whether a host has noted a mount that nobody has taken away yet.
    pub(crate) fn has_mount(&self) -> bool {
        self.mount_file().exists()
    }

    /// Gives the lock back and the folder with it.
    pub(crate) fn leave(&self, lock: File) {
        let _ = fs::remove_file(self.folder.join("lock"));
        drop(lock);
        let _ = fs::remove_dir(&self.folder);
    }

    /// A folder to mount on: the one asked for, which must be empty, or one of the place's own.
    pub(crate) fn mount_point(&self, wanted: Option<&Path>) -> Result<PathBuf, HostError> {
        let Some(path) = wanted else {
            let root = self.root();
            let made = DirBuilder::new().mode(0o755).create(&root);
            made.doing(|| root.display().to_string())?;
            return Ok(root);
        };
        let wrong = |what| HostError::MountPoint { path: path.to_owned(), what };
        match fs::read_dir(path) {
            Ok(mut entries) => match entries.next() {
                Some(_) => Err(wrong("is not empty")),
                None => fs::canonicalize(path).doing(|| path.display().to_string()),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Err(wrong("is not there")),
            Err(error) if error.kind() == ErrorKind::NotADirectory => Err(wrong("is no folder")),
            Err(error) => Err(error).doing(|| path.display().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(Name::new("host").is_ok() && Name::new("a-1").is_ok());
        for wrong in ["", ".", "..", "a/b", "A", "a b", &"x".repeat(33)] {
            assert!(Name::new(wrong).is_err(), "{wrong}");
        }
    }
}
