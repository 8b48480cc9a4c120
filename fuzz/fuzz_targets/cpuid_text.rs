//! Dumps of CPUID, and what is said of a host by one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snp_host::state::{HostState, doctor};
use snp_host::system::{Cpuid, CpuidDump, System, looks_like_cpuid};

fuzz_target!(|text: &str| {
    looks_like_cpuid(text);
    if let Ok(dump) = CpuidDump::parse(text) {
        assert!(looks_like_cpuid(text) || text.lines().count() > 200);
        let state = HostState::of(&System::of_cpuid(Cpuid::of_dump("dump", dump)));
        doctor(&state);
    }
});
