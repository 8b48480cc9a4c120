//! Where the RMP is, how much it covers, and why Linux leaves SNP off.
//!
//! Sizes and coverage come from snp-defs; spec/snp-arch.md 2.1, 2.2 and 6.1.

use snp_defs::{ContiguousRmp, Gib};

use super::Pattern;
use super::finding::{Fact, Finding};
use super::template::Captures;

const BIOS: &str = "Reserve memory for the RMP in the firmware setup (names differ: `SNP Memory (RMP \
    Table) Coverage`, `SEV-SNP Support`, `SEV-ES ASID Space Limit`) so that it covers all RAM, and \
    boot again. Without such an option the firmware of the board does not support SNP: ask its \
    maker.";

pub(super) const PATTERNS: &[Pattern] = &[
    Pattern::new(
        "RMP table physical range [{start:h} - {end:h}]",
        "Linux 7.3, virt/svm/sev.c",
        |c| Some(table(c)),
    ),
    Pattern::new(
        "RMP table physical address [{start:h} - {end:h}]",
        "AMDSEV README (tree of Linux 5.19), issue 189",
        |c| Some(table(c)),
    ),
    Pattern::new(
        "Segmented RMP base table physical range [{start:h} - {end:h}]",
        "Linux 7.3, virt/svm/sev.c",
        |c| {
            Some(
                Finding::info("rmp-segment-table")
                    .hex("base", c.number("start"))
                    .hex("end", c.number("end"))
                    .meaning(
                        "The RMP is segmented: here lie 16 KiB of bookkeeping and the table that \
                         says where each segment is.",
                    ),
            )
        },
    ),
    Pattern::new("Segmented RMP using {size:d}GB segments", "Linux 7.3, virt/svm/sev.c", |c| {
        let bytes = c.number("size").checked_mul(1 << 30).filter(|bytes| *bytes > 0)?;
        Some(
            Finding::info("rmp-segment-size")
                .text("segment_covers", Gib(bytes).to_string())
                .number("segment_covers_bytes", bytes)
                .meaning("Most memory that one segment of the RMP describes."),
        )
    }),
    Pattern::new(
        "RMP segment {index:d} physical address [{start:h} - {end:h}] covering [{from:h} - {to:h}]",
        "Linux 7.3, virt/svm/sev.c",
        segment,
    ),
    Pattern::new(
        "RMP segment {index:d} mapped size ({size:h}) reduced to {reduced:h}",
        "Linux 7.3, virt/svm/sev.c",
        |c| {
            Some(
                Finding::warning("rmp-segment-reduced")
                    .number("segment", c.number("index"))
                    .hex("size", c.number("size"))
                    .hex("reduced", c.number("reduced"))
                    .meaning(
                        "The segment table says more memory than a segment can cover; Linux \
                              takes the smaller.",
                    ),
            )
        },
    ),
    Pattern::new(
        "Reserving start/end of RMP table on a 2MB boundary [{address:h}]",
        "Linux 7.3, virt/svm/sev.c",
        |c| {
            Some(
                Finding::info("rmp-edge-reserved")
                    .hex("address", c.number("address"))
                    .meaning(
                        "The RMP begins or ends inside this 2 MiB block. The block also holds \
                         firmware pages, so 2 MiB writes to it would fault: Linux keeps the rest of \
                         it free.",
                    ),
            )
        },
    ),
    Pattern::new(
        "Memory for the RMP table has not been reserved by BIOS",
        "Linux 7.3, virt/svm/sev.c",
        |_| {
            Some(
                Finding::error("rmp-not-reserved")
                    .meaning(
                        "The machine's firmware reserved no memory for the RMP: SNP stays off, \
                         whatever the kernel's command line says.",
                    )
                    .advice(BIOS),
            )
        },
    ),
    Pattern::new(
        "Memory reserved for the RMP table does not cover full system RAM (expected {want:h} got {have:h})",
        "Linux 7.3, virt/svm/sev.c",
        |c| Some(too_small(c)),
    ),
    Pattern::new(
        "Segmented RMP does not cover full system RAM (expected {want:h} got {have:h})",
        "Linux 7.3, virt/svm/sev.c",
        |c| {
            // Here the numbers are addresses: the end of RAM and the end of what is covered.
            Some(
                Finding::error("rmp-too-small")
                    .text("ram_ends", Gib(c.number("want")).to_string())
                    .text("covers", Gib(c.number("have")).to_string())
                    .number("covered_bytes", c.number("have"))
                    .meaning("The segments of the RMP do not cover all RAM: SNP stays off.")
                    .advice(BIOS),
            )
        },
    ),
    Pattern::new(
        "Memory reserved for the RMP table does not cover full system RAM",
        "Linux 7.3, cut",
        |_| Some(small()),
    ),
    Pattern::new("Segmented RMP does not cover full system RAM", "Linux 7.3, cut", |_| {
        Some(small())
    }),
    Pattern::new("Memory allocated for RMP table not sufficient", "development trees", |_| {
        Some(small())
    }),
    Pattern::new("Memory allocated for the RMP table not sufficient", "development trees", |_| {
        Some(small())
    }),
    Pattern::new(
        "RMP configuration not valid: base={base:h}, end={end:h}",
        "Linux 7.3, virt/svm/sev.c",
        |c| {
            Some(
                Finding::error("rmp-bad-registers")
                    .hex("rmp_base", c.number("base"))
                    .hex("rmp_end", c.number("end"))
                    .meaning(
                        "RMP_BASE and RMP_END, which the machine's firmware sets, are no range: \
                         SNP stays off.",
                    )
                    .advice(BIOS),
            )
        },
    ),
    Pattern::new(
        "RMP segment size ({size:d}) is not within advertised bounds (min={min:d}, max={max:d})",
        "Linux 7.3, virt/svm/sev.c",
        |c| {
            Some(
                Finding::error("rmp-bad-registers")
                    .number("segment_shift", c.number("size"))
                    .number("min_shift", c.number("min"))
                    .number("max_shift", c.number("max"))
                    .meaning(
                        "RMP_CFG asks for segments of a size that CPUID 0x80000025 does not allow \
                         (numbers are powers of two of bytes): SNP stays off.",
                    )
                    .advice(
                        "The machine's firmware sets RMP_CFG: update it, or switch the \
                             segmented RMP off there.",
                    ),
            )
        },
    ),
    Pattern::new(
        "Invalid RMP size {size:h} for configured segment size {segment:h}",
        "Linux 7.3, virt/svm/sev.c",
        |_| Some(bad_segment()),
    ),
    Pattern::new(
        "Invalid RMP segment base address {base:h} for configured segment size {segment:h}",
        "Linux 7.3, virt/svm/sev.c",
        |_| Some(bad_segment()),
    ),
    Pattern::new(
        "RMP segment descriptor already exists at index {index:d}",
        "Linux 7.3, virt/svm/sev.c",
        |_| Some(bad_segment()),
    ),
    Pattern::new("Failed to map RMP {what:t}", "Linux 7.3, virt/svm/sev.c", |c| {
        Some(
            Finding::error("rmp-not-mapped")
                .text("what", c.word("what"))
                .meaning("The kernel could not map the RMP or a part of it: SNP stays off."),
        )
    }),
    Pattern::new(
        "SNP init failed: not all CPUs online. ({masks:t}).",
        "Linux 7.3, virt/svm/sev.c",
        |c| {
            Some(
            Finding::error("cpus-offline")
                .text("masks", c.word("masks"))
                .meaning("SNP is initialised only with every present CPU online.")
                .advice("Bring the CPUs online (/sys/devices/system/cpu/cpuN/online; no maxcpus= or \
                         nosmt) and load kvm_amd again."),
        )
        },
    ),
];

/// A contiguous table with its size and coverage.
fn table(captures: &Captures<'_>) -> Finding {
    let (start, end) = (captures.number("start"), captures.number("end"));
    let range = |finding: Finding| finding.hex("base", start).hex("end", end);
    let rmp = match ContiguousRmp::new(start, end) {
        Ok(rmp) => rmp,
        Err(error) => {
            return range(Finding::error("rmp-table")).meaning(format!("No valid RMP: {error}."));
        }
    };
    let mib = rmp.bytes() as f64 / f64::from(1 << 20);
    let mut finding = range(Finding::info("rmp-table"))
        .text("size", format!("{mib} MiB"))
        .number("size_bytes", rmp.bytes())
        .text("covers", Gib(rmp.covered_bytes()).to_string())
        .number("covered_bytes", rmp.covered_bytes())
        .meaning(format!(
            "The RMP has {mib} MiB and covers {} of memory from address 0 on. RAM above that could \
             never be a guest's, and Linux leaves SNP off if there is any.",
            Gib(rmp.covered_bytes())
        ));
    let block = snp_defs::LARGE_PAGE_BYTES;
    finding.set("begins_on_2mib", Fact::Flag(start.is_multiple_of(block)));
    finding.set("ends_on_2mib", Fact::Flag((end + 1).is_multiple_of(block)));
    if let Err(error) = rmp.firmware_check() {
        finding.severity = super::Severity::Error;
        finding.add(&format!("AMD's firmware refuses it: {error}."));
    }
    finding
}

fn segment(captures: &Captures<'_>) -> Option<Finding> {
    let span = |from, to| captures.number(to).checked_sub(captures.number(from))?.checked_add(1);
    let (bytes, covered) = (span("start", "end")?, span("from", "to")?);
    let mib = bytes as f64 / f64::from(1 << 20);
    let finding = Finding::info("rmp-segment")
        .number("segment", captures.number("index"))
        .hex("base", captures.number("start"))
        .hex("end", captures.number("end"))
        .text("size", format!("{mib} MiB"))
        .number("size_bytes", bytes)
        .hex("covers_from", captures.number("from"))
        .hex("covers_to", captures.number("to"))
        .text("covers", Gib(covered).to_string())
        .number("covered_bytes", covered);
    let meaning = format!("One segment of the RMP: {mib} MiB that describe {}.", Gib(covered));
    Some(finding.meaning(meaning))
}

fn too_small(captures: &Captures<'_>) -> Finding {
    // The kernel prints bytes of the table: 16 for each page up to the end of RAM, and 16 KiB.
    let covers = |bytes: u64| {
        let entries = bytes.saturating_sub(snp_defs::BOOKKEEPING_BYTES) / snp_defs::RmpEntry::BYTES;
        entries.saturating_mul(snp_defs::PAGE_BYTES)
    };
    let (want, have) = (covers(captures.number("want")), covers(captures.number("have")));
    let mib = |bytes: u64| format!("{:.4} MiB", bytes as f64 / f64::from(1 << 20));
    Finding::error("rmp-too-small")
        .text("needed", mib(captures.number("want")))
        .number("needed_bytes", captures.number("want"))
        .text("size", mib(captures.number("have")))
        .number("size_bytes", captures.number("have"))
        .text("ram_ends", Gib(want).to_string())
        .text("covers", Gib(have).to_string())
        .number("covered_bytes", have)
        .meaning(format!(
            "The RMP that the machine's firmware reserved covers {}, RAM ends at {}: SNP stays off.",
            Gib(have),
            Gib(want)
        ))
        .advice(BIOS)
}

fn small() -> Finding {
    Finding::error("rmp-too-small")
        .meaning("The memory reserved for the RMP does not cover all RAM: SNP stays off.")
        .advice(BIOS)
}

fn bad_segment() -> Finding {
    Finding::error("rmp-bad-segment")
        .meaning(
            "An entry of the RMP's segment table, which the machine's firmware wrote, is wrong: \
             SNP stays off.",
        )
        .advice("Update the machine's firmware, or switch the segmented RMP off there.")
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::testing::one;

    fn fact(text: &str, name: &str) -> String {
        one(text).get(name).unwrap_or_else(|| panic!("{name}: {text}")).to_string()
    }

    #[test]
    fn size_and_coverage() {
        for (text, size, covers) in [
            (
                "SEV-SNP: RMP table physical address 0x0000000035600000 - 0x0000000075bfffff",
                "1030 MiB",
                "257.4961 GiB",
            ),
            (
                "SEV-SNP: RMP table physical range [0x000000bf7e800000 - 0x000000c03f0fffff]",
                "3081 MiB",
                "770.2461 GiB",
            ),
            (
                "SEV-SNP: RMP table physical address [0x000000004de00000 - 0x00000000566fffff]",
                "137 MiB",
                "34.2461 GiB",
            ),
            ("sev-snp: rmp table physical range 8b7300000-8bfffffff", "141 MiB", "35.2461 GiB"),
        ] {
            assert_eq!(
                (fact(text, "size"), fact(text, "covers")),
                (size.into(), covers.into()),
                "{text}"
            );
            assert_eq!(one(text).severity, Severity::Info);
        }
        assert_eq!(
            one("SEV-SNP: RMP table physical range [0x2000000 - 0x1000000]").severity,
            Severity::Error
        );
    }

    #[test]
    fn what_keeps_snp_off() {
        let small = one(
            "SEV-SNP: Memory reserved for the RMP table does not cover full system RAM (expected 0x40d00000 got 0x32d00000)",
        );
        assert_eq!((small.kind, small.severity), ("rmp-too-small", Severity::Error));
        // (0x32d00000 - 0x4000) / 16 * 4 KiB and the same of 0x40d00000.
        assert_eq!(small.get("covers").unwrap().to_string(), "203.2461 GiB");
        assert_eq!(small.get("ram_ends").unwrap().to_string(), "259.2461 GiB");
        assert_eq!(small.get("size").unwrap().to_string(), "813.0000 MiB");
        let none = one("SEV-SNP: Memory for the RMP table has not been reserved by BIOS");
        assert_eq!((none.kind, none.severity), ("rmp-not-reserved", Severity::Error));
        let segmented = one(
            "SEV-SNP: Segmented RMP does not cover full system RAM (expected 0x8000000000 got 0x4000000000)",
        );
        assert_eq!(segmented.get("covers").unwrap().to_string(), "256.0000 GiB");
        assert_eq!(
            one("SEV-SNP: Memory allocated for RMP table not sufficient").kind,
            "rmp-too-small"
        );
    }

    #[test]
    fn segments() {
        let text = "SEV-SNP: RMP segment 8 physical address [0x55b00000 - 0x75afffff] covering [0x10000000000 - 0x11fffffffff]";
        assert_eq!(
            (fact(text, "size"), fact(text, "covers")),
            ("512 MiB".into(), "128.0000 GiB".into())
        );
        assert_eq!(
            fact("SEV-SNP: Segmented RMP using 128GB segments", "segment_covers"),
            "128.0000 GiB"
        );
    }
}
