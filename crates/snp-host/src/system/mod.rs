//! The interfaces of a running kernel, each with a small reader, on this machine, below a folder
//! ([`Root::tree`]) or in a snapshot ([`Root::snapshot`]).
//!
//! A reader that finds nothing says whether its file is absent, forbidden or malformed ([`Why`]).
//! Nothing is written, no link is followed, no file is read beyond [`MAX_INTERFACE_BYTES`].
//! Reading an MSR or CPUID through `/dev/cpu/N`, or upstream's `rmpopt-table`, interrupts the CPUs
//! that are asked: without `deep` only the first CPU is. The SEV firmware is asked only by
//! [`System::ask_firmware`].

mod cpuid;
mod cpuid_text;
mod cpus;
mod error;
mod guests;
mod iomem;
mod klog;
mod libvirt;
mod module;
mod msr;
mod nodes;
mod params;
mod record;
mod redact;
mod refresh;
mod rmpopt_table;
mod root;
mod sev;
mod sys;
mod tree;
mod tunables;

use std::collections::BTreeMap;

pub use self::cpuid::{CPUID_TEXT, Cpuid, extended, leaf_of};
pub use self::cpuid_text::{CpuidDump, DumpForm, Leaves, looks_like_cpuid};
pub use self::cpus::Cpus;
pub use self::error::{Got, ReadError, Why};
pub use self::guests::{GuestProcess, of_cmdline};
pub use self::iomem::{IOMEM, Iomem};
pub use self::klog::LOG_PATHS;
pub use self::libvirt::{Domain, Libvirt};
use self::module::FILES;
pub use self::module::{ModuleRegion, ModuleRegions, REGIONS, STATS, parse_stats};
pub use self::msr::{Values, parse_rdmsr, rdmsr_path};
pub use self::nodes::Node;
pub use self::params::{Asids, flag};
pub use self::record::{Record, SNAPSHOT_FORMAT, SNAPSHOT_VERSION};
pub use self::refresh::{Refresher, Renewed};
pub use self::rmpopt_table::{RmpoptTable, TABLE_PATHS};
pub use self::root::{MAX_INTERFACE_BYTES, Root};
pub use self::sev::{PlatformStatus, SEV};
pub use self::tunables::{NUMBERS, TUNABLES};

use snp_defs::msr as defs;

/// The MSRs that are read.
pub const MSRS: [(u32, &str); 5] = [
    (defs::SYSCFG, "SYSCFG"),
    (defs::RMP_BASE, "RMP_BASE"),
    (defs::RMP_END, "RMP_END"),
    (defs::RMP_CFG, "RMP_CFG"),
    (defs::RMPOPT_BASE, "RMPOPT_BASE"),
];

/// All that was read of a host: each interface's answer or why there is none.
#[derive(Debug)]
pub struct System {
    /// Whether every CPU was asked.
    pub deep: bool,
    /// CPUs and cores.
    pub cpus: Got<Cpus>,
    /// CPUID.
    pub cpuid: Got<Cpuid>,
    /// MSRs by number, with the source that answered.
    pub msrs: BTreeMap<u32, Got<(String, Values)>>,
    /// RAM.
    pub iomem: Got<Iomem>,
    /// NUMA nodes.
    pub nodes: Got<BTreeMap<u32, Node>>,
    /// Huge pages: size in KiB, pages, free pages.
    pub hugepages: Got<Vec<(u64, u64, u64)>>,
    /// Module parameters.
    pub params: Got<BTreeMap<String, BTreeMap<String, String>>>,
    /// Our module's numbers that can be set.
    pub tunables: Got<BTreeMap<&'static str, u64>>,
    /// ASIDs.
    pub asids: Got<BTreeMap<String, Asids>>,
    /// Our module's counters.
    pub stats: Got<BTreeMap<String, u64>>,
    /// Our module's regions.
    pub regions: Got<ModuleRegions>,
    /// Whether our module has emulated hardware, which has a folder beside them.
    pub emulated: Got<bool>,
    /// `rmpopt-table`, with the path that answered.
    pub table: Got<(String, RmpoptTable)>,
    /// SNP guests among processes.
    pub guests: Got<Vec<GuestProcess>>,
    /// SNP guests that libvirt knows.
    pub libvirt: Got<Libvirt>,
    /// What the SEV firmware says; asked by [`System::ask_firmware`] alone.
    pub firmware: Got<PlatformStatus>,
    /// The kernel's log, with its path.
    pub log: Got<(String, String)>,
}

impl System {
    /// Reads everything. With `deep` every CPU is asked for its CPUID and MSRs, and upstream's
    /// table is read, which makes each CPU run an RMPOPT for each region. A snapshot was already
    /// taken one way or the other, which is what counts.
    pub fn read(root: &Root, deep: bool) -> Self {
        let deep = root.as_snapshot().map_or(deep, |record| record.deep);
        let cpus = Cpus::read(root);
        let asked: Vec<u32> = match &cpus {
            Ok(cpus) if deep => cpus.online.iter().collect(),
            Ok(cpus) => cpus.online.iter().take(1).collect(),
            Err(_) => vec![0],
        };
        let stats = stats(root);
        let ours = stats.is_ok();
        let regions = regions(root);
        Self {
            deep,
            cpuid: Cpuid::read(root, &asked),
            msrs: MSRS.iter().map(|(msr, _)| (*msr, msr::read(root, &asked, *msr))).collect(),
            iomem: Iomem::read(root),
            nodes: nodes::nodes(root),
            hugepages: nodes::hugepages(root),
            params: params::params(root),
            tunables: tunables::tunables(root),
            asids: params::asids(root),
            table: table(root, ours || deep),
            guests: guests::guests(root),
            libvirt: libvirt::libvirt(root),
            firmware: sev::kept(root),
            emulated: root.names(FILES).map(|names| names.iter().any(|name| name == "emu")),
            log: klog::read(root),
            cpus,
            stats,
            regions,
        }
    }

    /// Asks the SEV firmware for the platform's status, through `/dev/sev` of `root`: a command of the
    /// firmware, after which one 1 GiB region has to be optimised again.
    pub fn ask_firmware(&mut self, root: &Root) {
        self.firmware = sev::ask(root);
    }

    /// A host of which nothing is known but a dump of CPUID.
    pub fn of_cpuid(cpuid: Cpuid) -> Self {
        let empty = Root::snapshot(Record::default());
        Self { cpuid: Ok(cpuid), deep: true, ..Self::read(&empty, true) }
    }

    /// A host of which nothing is known but its kernel log.
    pub fn of_log(file: &str, log: String) -> Self {
        let empty = Root::snapshot(Record::default());
        Self { log: Ok((file.to_owned(), log)), deep: true, ..Self::read(&empty, true) }
    }
}

/// Our module's counters.
fn stats(root: &Root) -> Got<BTreeMap<String, u64>> {
    let text = root.text(STATS)?;
    parse_stats(&text).map_err(|why| ReadError::new(STATS, why))
}

/// Our module's regions.
fn regions(root: &Root) -> Got<ModuleRegions> {
    let text = root.text(REGIONS)?;
    ModuleRegions::parse(&text).map_err(|why| ReadError::new(REGIONS, why))
}

/// The table, newest path first. Upstream's asks every CPU about every region.
fn table(root: &Root, may_ask: bool) -> Got<(String, RmpoptTable)> {
    let mut first = None;
    for path in TABLE_PATHS {
        if !may_ask {
            // The folder says whether there is a table, and nobody is interrupted.
            let folder = path.trim_end_matches("/rmpopt-table");
            match root.names(folder) {
                Ok(names) if names.iter().any(|name| name == "rmpopt-table") => {
                    return Err(ReadError::new(path, Why::NotAsked));
                }
                Ok(_) => {}
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
            continue;
        }
        match root.text(path) {
            Ok(text) => {
                let table = RmpoptTable::parse(&text).map_err(|why| ReadError::new(path, why))?;
                return Ok((path.to_owned(), table));
            }
            Err(error) if error.why == Why::Absent => {
                first.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(first.unwrap_or_else(|| ReadError::new(TABLE_PATHS[0], Why::Absent)))
}
