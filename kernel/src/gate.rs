// SPDX-License-Identifier: MIT OR GPL-2.0
//! May RMPOPT be used on this machine? Reads, and changes nothing.

use core::sync::atomic::{AtomicU32, Ordering};

use kernel::prelude::*;

use crate::rmpopt_core::{Capable, Facts, Refusal};
use crate::snp_defs::{msr, ExtendedLeaves, RmpCfg};
use crate::sys::{cpu, fprobe, ipi, symbol};

/// CPUID `Fn0000_0001` ECX\[31\]: we run as a guest.
const HYPERVISOR: u32 = 1 << 31;
/// By what it exports a kernel with RMPOPT of its own is known, whichever version of the series it has
/// (spec/rmpopt.md 4): v1 and v2, v3, v4 and later, v4 and later.
const EXPORTS: [&CStr; 4] = [
    c"snp_perform_rmp_optimization",
    c"rmpopt_all_physmem",
    c"snp_rmpopt_all_physmem",
    c"snp_setup_rmpopt",
];
/// By what it does on its own since v3, whatever it exports.
const WORKER: &CStr = c"rmpopt_work_handler";

/// The proof, or one line in the log and the error that the operator sees.
pub(crate) fn check() -> Result<Capable> {
    let facts = facts()?;
    prove(&facts)
}

/// The same of facts that are known.
pub(crate) fn prove(facts: &Facts) -> Result<Capable> {
    facts.check().map_err(|refusal| {
        pr_err!("not loaded: {refusal}\n");
        errno(refusal)
    })
}

/// Whether the kernel sees to RMPOPT itself. May sleep.
pub(crate) fn is_the_kernels_own() -> bool {
    EXPORTS.into_iter().any(symbol::exists) || fprobe::is_function(WORKER)
}

/// `ENODEV`: there is no such hardware. `EOPNOTSUPP`: there is, set up otherwise. `EBUSY`: taken.
fn errno(refusal: Refusal) -> Error {
    match refusal {
        Refusal::NotAmd
        | Refusal::Guest
        | Refusal::LeafMissing { .. }
        | Refusal::NoSnp
        | Refusal::NoRmpopt
        | Refusal::CpusDisagree { .. } => ENODEV,
        Refusal::NoSegmentedRmp | Refusal::ContiguousRmp => EOPNOTSUPP,
        Refusal::KernelOwnsRmpopt => EBUSY,
    }
}

/// What all CPUs say together.
struct Tally {
    /// CPUs that are AMD's and have extended leaves.
    amd: AtomicU32,
    guest: AtomicU32,
    lowest_max: AtomicU32,
    snp: AtomicU32,
    segmented: AtomicU32,
    rmpopt: AtomicU32,
}

impl Tally {
    /// Reads CPUID of the CPU it is called on.
    fn take(&self) {
        let count = |counter: &AtomicU32, holds: bool| {
            counter.fetch_add(u32::from(holds), Ordering::Relaxed);
        };
        count(&self.guest, cpu::cpuid(1, 0).ecx & HYPERVISOR != 0);
        let Ok(leaves) = ExtendedLeaves::probe(cpu::cpuid) else { return };
        count(&self.amd, true);
        self.lowest_max.fetch_min(leaves.max(), Ordering::Relaxed);
        if let Some(leaf) = leaves.fn8000_001f() {
            count(&self.snp, leaf.sev_snp());
            count(&self.segmented, leaf.segmented_rmp());
        }
        count(&self.rmpopt, leaves.fn8000_0025().is_some_and(|leaf| leaf.rmpopt()));
    }
}

fn facts() -> Result<Facts> {
    let tally = Tally {
        amd: AtomicU32::new(0),
        guest: AtomicU32::new(0),
        lowest_max: AtomicU32::new(u32::MAX),
        snp: AtomicU32::new(0),
        segmented: AtomicU32::new(0),
        rmpopt: AtomicU32::new(0),
    };
    let mut cpus = 0u32;
    let mut asked = 0u32;
    for number in (0..cpu::limit()).filter(|&number| cpu::is_present(number)) {
        cpus = cpus.saturating_add(1);
        // One that is offline cannot be asked, and so does not show RMPOPT.
        if cpu::is_online(number) && ipi::on_cpu(number, &|| tally.take()).is_ok() {
            asked = asked.saturating_add(1);
        }
    }
    let of = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
    let on_all = |counter: &AtomicU32| asked > 0 && of(counter) == asked;
    let mut facts = Facts {
        vendor_amd: on_all(&tally.amd),
        hypervisor_present: of(&tally.guest) > 0,
        max_extended_leaf: of(&tally.lowest_max),
        snp: on_all(&tally.snp),
        segmented_rmp: on_all(&tally.segmented),
        segmented_rmp_enabled: false,
        rmpopt: of(&tally.rmpopt) > 0,
        cpus_with_rmpopt: of(&tally.rmpopt),
        cpus,
        kernel_owns_rmpopt: is_the_kernels_own(),
    };
    // The register is there only if CPUID says so.
    if facts.vendor_amd && !facts.hypervisor_present && facts.segmented_rmp {
        let first = (0..cpu::limit()).find(|&number| cpu::is_online(number)).unwrap_or(0);
        let config = crate::sys::msr::read(first, msr::RMP_CFG)?;
        facts.segmented_rmp_enabled = RmpCfg(config).is_segmented();
    }
    Ok(facts)
}

/// For the kernel's log, whose formatting has a trait of its own.
impl kernel::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}
