//! Traces of guests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snp_host::TraceKind;
use snp_host::trace::openb::PodList;
use snp_host::trace::vms::VmList;

fuzz_target!(|text: &str| {
    let _ = TraceKind::of_header(text);
    let _ = PodList::parse("f", text);
    let _ = VmList::parse("f", text.as_bytes());
});
