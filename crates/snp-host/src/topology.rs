//! What the topology readers share: the shape of the CPUs, and their errors.

use crate::input::InputError;
use crate::place::At;

/// The most CPUs a description may have, and one above the highest CPU number.
pub const MAX_CPUS: u32 = 1 << 20;

/// How CPUs are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CpuShape {
    /// Sockets (packages), at least 1.
    pub sockets: u32,
    /// Physical cores of a socket, at least 1.
    pub cores_per_socket: u32,
    /// Hardware threads of a core, at least 1.
    pub threads_per_core: u32,
    /// Logical CPUs as stated; less than the product when some are disabled.
    pub cpus: u32,
}

impl CpuShape {
    /// Sockets x cores x threads, if that is at most [`MAX_CPUS`].
    pub(crate) fn product(sockets: u32, cores: u32, threads: u32) -> Option<u32> {
        sockets.checked_mul(cores)?.checked_mul(threads).filter(|n| *n <= MAX_CPUS)
    }
}

/// Why the output of `lscpu`, `numactl --hardware` or `lstopo` could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// The file could not be taken as text.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A text that is no XML.
    #[error("{at}: not well-formed: {error}, expected the whole output of `{tool}`")]
    Xml {
        /// Where.
        at: At,
        /// What the XML reader says.
        error: String,
        /// The tool.
        tool: &'static str,
    },
    /// A value that is not what its field holds.
    #[error("{at}: {field}: `{value}`, expected {expected}")]
    Malformed {
        /// Where.
        at: At,
        /// The field, as the tool names it.
        field: String,
        /// The text found.
        value: String,
        /// What a good value looks like.
        expected: &'static str,
    },
    /// A field the output cannot be without.
    #[error("{file}: `{field}` is missing, expected the whole output of `{tool}`")]
    Missing {
        /// The file.
        file: String,
        /// The field, as the tool names it.
        field: String,
        /// The tool.
        tool: &'static str,
    },
    /// A field stated twice with different values.
    #[error("{at}: `{field}` differs from line {first}, expected one value")]
    Twice {
        /// The second occurrence.
        at: At,
        /// The field.
        field: String,
        /// Line of the first.
        first: usize,
    },
    /// A CPU in two nodes.
    #[error("{at}: {field}: CPU {cpu} is also in node {other}, expected each CPU in one node")]
    Overlap {
        /// The later node's line.
        at: At,
        /// The later node's field.
        field: String,
        /// The first CPU in both.
        cpu: u32,
        /// The other node.
        other: u32,
    },
    /// Two statements of one output that cannot both hold.
    #[error("{at}: {field}: says {stated}, but {found}")]
    Mismatch {
        /// Where the statement is.
        at: At,
        /// The field.
        field: String,
        /// What it states.
        stated: u64,
        /// What the rest of the output says.
        found: String,
    },
}
