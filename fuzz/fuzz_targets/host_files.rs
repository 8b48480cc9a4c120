//! The files that describe a host: kernel log with its memory map, lscpu, numactl -H, hwloc's XML, lists of CPUs,
//! command lines of guests, libvirt's XML.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snp_host::state::{HostState, doctor};
use snp_host::system::{Domain, System, of_cmdline};
use snp_host::{CpuList, FileKind, Hwloc, KernelFacts, Lscpu, MemoryMap, Numactl, text_from_bytes};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = text_from_bytes("f", bytes.to_vec()) else { return };
    let _ = FileKind::of(&text);
    let _ = KernelFacts::parse("f", &text);
    let _ = Lscpu::parse("f", &text);
    let _ = Numactl::parse("f", &text);
    let _ = Hwloc::parse("f", &text);
    let _ = of_cmdline(1, &text);
    let _ = (Domain::parse(&text, true), Domain::parse(&text, false));
    if let Ok(list) = CpuList::parse(&text) {
        assert_eq!(CpuList::parse(&list.to_string()).as_ref(), Ok(&list));
    }
    if let Ok(map) = MemoryMap::parse("f", &text) {
        assert_eq!(map.usable_bytes_in(0, u64::MAX), map.usable_bytes());
    }
    doctor(&HostState::of(&System::of_log("f", text)));
});
