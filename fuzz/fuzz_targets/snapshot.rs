//! Snapshots that anybody sent, and all that is said by them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snp_host::state::{HostState, doctor};
use snp_host::system::{Record, Root, System};

fuzz_target!(|text: &str| {
    let Ok(record) = Record::parse(text) else { return };
    let written = record.to_text().expect("a record has a text");
    assert_eq!(Record::parse(&written).as_ref(), Ok(&record));
    let mut redacted = record.clone();
    redacted.redact();
    for record in [record, redacted] {
        let state = HostState::of(&System::read(&Root::snapshot(record), false));
        doctor(&state);
        let covered: u64 = state.memory.by_state.values().sum();
        assert_eq!(covered, state.memory.ram_bytes);
    }
});
