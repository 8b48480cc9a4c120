//! Facts other than the memory map that a kernel log states: where the RMP table is, which memory
//! belongs to which NUMA node, how the CPUs are arranged.
//!
//! Of a log of several boots the last one's facts are kept. A line that begins like one of these
//! and does not go on like one is an error, as in the memory map: a fact half read is worse than
//! none.

mod cpu_topo;
mod rmp;
mod srat;

use std::path::Path;

pub use self::cpu_topo::CpuTopo;
pub use self::rmp::{Rmp, RmpSegment};
pub use self::srat::SratRange;
use crate::e820::LogError;
use crate::input::read_text;
use crate::log::{Mark, kernel_version, mark};
use crate::place::At;

/// What a log's last boot says besides its memory map; every fact may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelFacts {
    /// The kernel's version as in its banner, such as `6.12.0-rc2+`.
    pub version: Option<String>,
    /// Where the RMP table is.
    pub rmp: Option<Rmp>,
    /// Memory ranges by NUMA node, in the order printed (not always by address).
    pub srat: Vec<SratRange>,
    /// How the CPUs are arranged.
    pub cpu_topo: Option<CpuTopo>,
    /// What a reader of the results should know.
    pub notes: Vec<String>,
}

impl KernelFacts {
    /// Reads the facts out of a kernel log; `file` names the text in errors and notes. A log that
    /// states none gives none, without error.
    pub fn parse(file: &str, log: &str) -> Result<Self, LogError> {
        let mut facts = Self::default();
        let mut cpu_topo = CpuTopo::default();
        let mut map_seen = false;
        for (n, line) in log.lines().enumerate() {
            match mark(line) {
                Some(Mark::Boot) => {
                    facts = Self::default();
                    cpu_topo = CpuTopo::default();
                    map_seen = false;
                    facts.version = kernel_version(line).map(str::to_owned);
                    continue;
                }
                Some(Mark::MapHeader) => {
                    // A second map without a banner: another boot, whose RMP line came before it.
                    if map_seen {
                        facts.srat.clear();
                        cpu_topo = CpuTopo::default();
                    }
                    map_seen = true;
                    continue;
                }
                None => {}
            }
            let at = || At::new(file, n + 1);
            if line.contains("SEV-SNP:") {
                rmp::read(&at, line, &mut facts)?;
            } else if line.contains("SRAT") {
                srat::read(&at, line, &mut facts)?;
            } else if line.contains("CPU topo:") {
                cpu_topo.line(&at, line)?;
            }
        }
        if cpu_topo != CpuTopo::default() {
            facts.cpu_topo = Some(cpu_topo);
        }
        srat::finish(file, &mut facts)?;
        Ok(facts)
    }

    /// The same from a file.
    pub fn read(path: &Path) -> Result<Self, LogError> {
        Self::parse(&path.display().to_string(), &read_text(path)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_boots_facts() {
        let log = "[ 0.0] Linux version 6.11.0 (a@b)\n\
                   [ 0.0] SEV-SNP: RMP table physical range [0x1000000 - 0x1ffffff]\n\
                   [ 0.0] BIOS-provided physical RAM map:\n\
                   [ 0.0] CPU topo: Max. threads per core:   2\n\
                   [ 0.0] Linux version 6.12.0 (a@b)\n\
                   [ 0.0] BIOS-provided physical RAM map:\n";
        let facts = KernelFacts::parse("log", log).unwrap();
        assert_eq!(facts.version.as_deref(), Some("6.12.0"));
        assert_eq!((facts.rmp, facts.cpu_topo), (None, None));
    }

    #[test]
    fn a_log_without_facts_is_fine() {
        assert_eq!(KernelFacts::parse("log", "x\ny").unwrap(), KernelFacts::default());
    }
}
