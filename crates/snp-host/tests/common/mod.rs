//! Where test data are.

use std::path::PathBuf;

/// A file of the repository's own test data.
pub(crate) fn data(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "tests", "data", name].iter().collect()
}
