//! What keeps a host from being brought up, reached or shown.

use std::io;
use std::path::PathBuf;

use snp_lab::LabError;
use thiserror::Error;

/// Why it did not work.
#[derive(Debug, Error)]
pub enum HostError {
    /// The scenario cannot be emulated.
    #[error("scenario {scenario}: {error}")]
    Lab {
        /// Its name.
        scenario: String,
        /// Why not.
        error: LabError,
    },
    /// A name that cannot be one.
    #[error("\"{0}\" is no name for a host, expected 1 to 32 of a-z, 0-9 and -")]
    Name(String),
    /// A host of that name is up.
    #[error(
        "a host named {name} is up already: take it down with `rmpopt host down --name {name}`, or give \
         this one another --name"
    )]
    Up {
        /// Its name.
        name: String,
    },
    /// None of that name is up.
    #[error("no host named {name} is up: `rmpopt host up --name {name}` brings one up")]
    Down {
        /// The name.
        name: String,
    },
    /// There is no place for sockets.
    #[error(
        "there is no folder for running programs' files: set XDG_RUNTIME_DIR to one that belongs to you"
    )]
    NoRuntime,
    /// A folder to mount on that is not empty or no folder.
    #[error("{path}: {what}, expected an empty folder to mount on", path = path.display())]
    MountPoint {
        /// The folder.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Mounting is not allowed.
    #[error("{0}")]
    NotAllowed(String),
    /// The system refused something.
    #[error("{what}: {error}")]
    System {
        /// What was to be done.
        what: String,
        /// What it said.
        error: io::Error,
    },
    /// The program that was to see the host cannot be run.
    #[error("{name}: cannot be run: {error}")]
    Program {
        /// Its name.
        name: String,
        /// What the system said.
        error: io::Error,
    },
    /// The host answered with a refusal.
    #[error("{0}")]
    Refused(String),
    /// The host answered with something else than an answer.
    #[error("the host's answer makes no sense: {0}")]
    Answer(String),
}

/// With what was to be done.
pub(crate) trait Doing<T> {
    /// Names it, lazily.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, HostError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, HostError> {
        self.map_err(|error| HostError::System { what: what(), error: error.into() })
    }
}
