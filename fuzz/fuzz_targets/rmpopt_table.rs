//! The files of a driver: `rmpopt-table`, `stats`, `regions`; MSRs as rdmsr prints them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snp_host::system::{Iomem, ModuleRegions, RmpoptTable, parse_rdmsr, parse_stats};

fuzz_target!(|text: &str| {
    if let Ok(table) = RmpoptTable::parse(text) {
        // Printed again it reads the same.
        let mut again = if table.cut { "...\n".to_owned() } else { String::new() };
        for (region, cpus) in &table.rows {
            let cpus = if cpus.is_empty() { "none".to_owned() } else { cpus.to_string() };
            again += &format!("Memory @{region:3}GB: CPU(s): {cpus}\n");
        }
        assert_eq!(RmpoptTable::parse(&again).as_ref(), Ok(&table));
    }
    if let Ok(regions) = ModuleRegions::parse(text) {
        let head = ModuleRegions::head(text).expect("a head that was read");
        assert_eq!((head.policy, head.changed_ms_ago), (regions.policy, regions.changed_ms_ago));
    }
    let _ = (parse_stats(text), parse_rdmsr(text), Iomem::parse(text));
});
