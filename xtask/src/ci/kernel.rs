//! The module in a stock kernel, by `cargo xtask kernel-test`, where its environment can be made.

use anyhow::Result;

use super::{Ci, Outcome};
use crate::process::is_installed;

pub(super) fn run(ci: &mut Ci) -> Result<Outcome> {
    let skipped = |reason: &str| Ok(Outcome::Skipped(reason.to_owned()));
    if !ci.kernel {
        return skipped("not asked for (--kernel)");
    }
    if !ci.install {
        return skipped("its environment is made as root");
    }
    if !is_installed("apt-get") {
        return skipped("its environment is made of Debian packages, and apt-get is missing");
    }
    let mut command = ci.program("cargo");
    command.args(["xtask", "kernel-test"]);
    ci.show(&mut command)
}
