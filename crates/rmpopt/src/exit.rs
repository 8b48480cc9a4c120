//! How the command ends: its exit codes, and one message for each failure.

use std::fmt;
use std::process::ExitCode;

use snp_host::{HostError, InputError, LogError, TopologyError, TraceError};

/// A law the policy claims was broken.
pub(crate) const LAW_VIOLATED: u8 = 1;
/// The calibration does not hold.
pub(crate) const OUT_OF_TOLERANCE: u8 = 1;
/// Interrupted by Ctrl-C, as shells have it: 128 and the signal's number.
pub(crate) const INTERRUPTED: u8 = 130;

/// Something that was decoded has severity error.
pub(crate) const FOUND_ERRORS: u8 = 1;

/// A check of the doctor failed.
pub(crate) const FOUND_PROBLEMS: u8 = 1;

/// No check of the doctor failed, but some that were to be made could not be.
pub(crate) const NOT_CHECKED: u8 = 5;

/// Why the command could not do what was asked. Each holds one message that names file and place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Options that do not go together, or input that is wrong.
    BadInput(String),
    /// A file that cannot be opened or read, or a result that cannot be written.
    CannotRead(String),
    /// Input that is right and beyond what can be emulated.
    Unsupported(String),
}

impl Failure {
    /// The exit code: 2, 3 or 4.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::BadInput(_) => 2,
            Self::CannotRead(_) => 3,
            Self::Unsupported(_) => 4,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::BadInput(message) | Self::CannotRead(message) | Self::Unsupported(message)) =
            self;
        f.write_str(message)
    }
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Self {
        let message = error.to_string();
        match error {
            InputError::Io { .. } | InputError::Directory { .. } => Self::CannotRead(message),
            _ => Self::BadInput(message),
        }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Input(error) => error.into(),
            error => Self::BadInput(error.to_string()),
        }
    }
}

impl From<TopologyError> for Failure {
    fn from(error: TopologyError) -> Self {
        match error {
            TopologyError::Input(error) => error.into(),
            error => Self::BadInput(error.to_string()),
        }
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Input(error) => error.into(),
            HostError::Log(error) => error.into(),
            HostError::Topology(error) => error.into(),
            error => Self::BadInput(error.to_string()),
        }
    }
}

impl From<TraceError> for Failure {
    fn from(error: TraceError) -> Self {
        let message = error.to_string();
        match error {
            TraceError::Input(error) => error.into(),
            // A good file of a known kind that is not read yet.
            TraceError::Unsupported { looks, .. } if !looks.is_empty() => {
                Self::Unsupported(message)
            }
            _ => Self::BadInput(message),
        }
    }
}
