//! Lines of AMD's posted RMPOPT series, v1 to v10, none of which is in Linux.
//!
//! Source: spec/rmpopt.md 4 and ecosystem.md 4.1 (the mails). Execution times are of a test patch.

use snp_defs::Gib;

use super::Pattern;
use super::finding::{Fact, Finding};
use super::template::Captures;

/// A pass over the memory begins, or in v2 and v3 has ended.
pub(super) const PATTERNS: &[Pattern] = &[
    Pattern::new(
        "Attempt RMP optimizations on physical address range @1GB alignment [{start:h} - {end:h}]",
        "RMPOPT series v4 to v10",
        |c| {
            pass(
                c,
                "A pass begins: every core is to run RMPOPT on each GiB of this range (its end is not \
                 included). How it went is not printed anywhere.",
            )
        },
    ),
    Pattern::new(
        "RMP optimizations enabled on physical address range @1GB alignment [{start:h} - {end:h}]",
        "RMPOPT series v2 and v3",
        |c| {
            pass(
                c,
                "RMPOPT was run on each GiB of this range (its end is not included). The line comes \
                 whatever the result was: it does not say that any region is optimised.",
            )
        },
    ),
    Pattern::new(
        "RMPOPT execution time {ns:d} ns for physical address range [{start:h} - {end:h}]",
        "test patch of March 2026",
        |c| {
            let ns = c.number("ns");
            let finding = pass(c, "")?.number("duration_ns", ns);
            let ms = ns as f64 / 1e6;
            let regions = finding.value("regions")?;
            Some(
                Finding { kind: "rmpopt-pass-time", ..finding }
                    .text("duration", format!("{ms:.1} ms"))
                    .meaning(format!("One pass over {regions} regions of 1 GiB took {ms:.1} ms.")),
            )
        },
    ),
    Pattern::new(
        "RMPOPT coverage limited to 2TB; memory above {address:h} not optimized",
        "RMPOPT series v5 to v10",
        |c| {
            Some(
                Finding::warning("rmpopt-window")
                    .hex("address", c.number("address"))
                    .text("window_ends", Gib(c.number("address")).to_string())
                    .meaning(
                        "A core's RMPOPT table covers 2 TiB. The series uses the lowest 2 TiB on all \
                         cores: writes to memory above this address are always checked against the RMP.",
                    )
                    .advice("Place SNP guests above the address and ordinary guests below it."),
            )
        },
    ),
    Pattern::new("Failed to allocate RMPOPT {what:w}", "RMPOPT series v5 to v10", |c| {
        Some(
            Finding::error("rmpopt-not-set-up")
                .text("what", c.word("what"))
                .meaning("The kernel had no memory to set RMPOPT up: nothing is optimised."),
        )
    }),
    Pattern::new(
        "RMP optimization pass skipped: cpumask allocation failed",
        "RMPOPT series v10",
        |_| {
            Some(Finding::warning("rmpopt-pass-skipped").meaning(
            "The kernel had no memory for a pass: what has become free since the last one stays \
             unoptimised until the next SNP guest ends.",
        ))
        },
    ),
    Pattern::new(
        "RMPOPT optimizations not enabled, segmented RMP required",
        "RMPOPT series v1",
        |_| {
            Some(
            Finding::warning("rmpopt-needs-segments")
                .meaning("RMPOPT works only with a segmented RMP, and this host has a contiguous one.")
                .advice("Switch the segmented RMP on in the firmware setup (names differ: `Split RMP table`)."),
        )
        },
    ),
];

fn pass(captures: &Captures<'_>, meaning: &'static str) -> Option<Finding> {
    let (start, end) = (captures.number("start"), captures.number("end"));
    let bytes = end.checked_sub(start)?;
    Some(
        Finding::info("rmpopt-pass")
            .hex("start", start)
            .hex("end", end)
            .number("regions", bytes >> snp_defs::REGION_SHIFT)
            .text("range", Gib(bytes).to_string())
            .meaning(meaning),
    )
}

/// One row of the series' debugfs table, `Memory @  2GB: CPU(s): 0-1023`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    gib: u64,
    optimized: bool,
}

pub(super) fn row(message: &str) -> Option<Row> {
    let rest = message.trim().strip_prefix("Memory @")?;
    let (gib, cpus) = rest.split_once("GB: CPU(s):")?;
    let cpus = cpus.trim();
    let list = cpus.parse::<crate::CpuList>().is_ok();
    if !(cpus == "none" || list) {
        return None;
    }
    Some(Row { gib: crate::number::decimal(gib.trim())?, optimized: cpus != "none" })
}

/// Rows that follow each other, as one finding.
pub(super) fn rows(rows: &[Row]) -> Option<Finding> {
    let (first, last) = (rows.first()?.gib, rows.last()?.gib);
    let optimized = rows.iter().filter(|row| row.optimized).count();
    let gaps = rows.windows(2).filter(|pair| pair[1].gib != pair[0].gib + 1).count();
    let mut finding = Finding::info("rmpopt-table")
        .number("rows", rows.len() as u64)
        .number("optimized_on_some_cpu", optimized as u64)
        .number("optimized_on_none", (rows.len() - optimized) as u64)
        .number("first_gib", first)
        .number("last_gib", last)
        .meaning(format!(
            "Upstream's RMPOPT table (debugfs, series v1 to v8): {optimized} of {} listed regions of \
             1 GiB are optimised on at least one CPU.",
            rows.len()
        ));
    if gaps > 0 {
        finding.set("gaps", Fact::Number(gaps as u64));
        finding.add("Rows are missing in between; nothing is known of those regions.");
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::super::testing::one;
    use super::*;

    #[test]
    fn lines_of_the_series() {
        let pass = one(
            "SEV-SNP: RMP optimizations enabled on physical address range @1GB alignment [0x0000000000000000 - 0x0000020000000000]",
        );
        assert_eq!((pass.kind, pass.value("regions")), ("rmpopt-pass", Some(2048)));
        assert!(pass.meaning.contains("does not say"));
        let time = one(
            "SEV-SNP: RMPOPT execution time 391609638 ns for physical address range 0x0000000000000000 - 0x0000020000000000 on all cpus -> ~391 ms",
        );
        assert_eq!((time.kind, time.value("duration_ns")), ("rmpopt-pass-time", Some(391_609_638)));
        assert!(time.meaning.contains("2048 regions") && time.meaning.contains("391.6 ms"));
        let window = one(
            "SEV-SNP: RMPOPT coverage limited to 2TB; memory above 0x20000000000 not optimized",
        );
        assert_eq!(window.get("window_ends").unwrap().to_string(), "2048.0000 GiB");
        assert_eq!(one("SEV-SNP: Failed to allocate RMPOPT workqueue").kind, "rmpopt-not-set-up");
        assert_eq!(
            one("SEV-SNP: RMP optimization pass skipped: cpumask allocation failed").kind,
            "rmpopt-pass-skipped"
        );
    }

    #[test]
    fn rows_and_gaps() {
        let table = [
            "Memory @  0GB: CPU(s): none",
            "Memory @  1GB: CPU(s): 0-1023",
            "Memory @1038GB: CPU(s): 0,3-5",
        ];
        let read: Vec<Row> = table.iter().filter_map(|line| row(line)).collect();
        let found = rows(&read).unwrap();
        assert_eq!(
            (found.value("rows"), found.value("optimized_on_some_cpu"), found.value("gaps")),
            (Some(3), Some(2), Some(1))
        );
        assert_eq!(row("Memory @ 1GB: CPU(s): some"), None);
        assert_eq!(row("Memory @ xGB: CPU(s): none"), None);
    }
}
