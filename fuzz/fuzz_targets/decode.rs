//! `rmpopt decode`: any bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snp_host::decode::{Finding, decode};

fuzz_target!(|bytes: &[u8]| {
    let decoded = decode(bytes);
    assert!(!decoded.boots.is_empty());
    for finding in &decoded.findings {
        assert!((1..=decoded.lines).contains(&finding.line), "{finding:?}");
        assert!(finding.text.chars().count() <= Finding::TEXT);
        assert!(!finding.kind.is_empty() && !finding.meaning.is_empty(), "{finding:?}");
    }
    let worst = decoded.findings.iter().map(|finding| finding.severity).max();
    assert!(decoded.not_kept > 0 || worst == decoded.worst);
});
