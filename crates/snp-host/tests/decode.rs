//! Logs of real hosts: what is found in each, and that neither prefixes, case, line ends nor wraps
//! change it.

mod common;

use std::fs;
use std::path::Path;

use common::data;
use proptest::prelude::*;
use snp_host::decode::{Decoded, Finding, Role, Severity, decode};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");

/// Logs that are kept in the repository.
const KEPT: [&str; 4] = [
    "dmesg-amdsev-245-rmpupdate.txt",
    "dmesg-amdsev-143-rmpupdate.txt",
    "dmesg-amdsev-176-init.txt",
    "dmesg-hetzner-ax162-journal.txt",
];

fn kept(name: &str) -> String {
    fs::read_to_string(data(name)).expect("test data")
}

fn fact(finding: &Finding, name: &str) -> String {
    finding.get(name).map(ToString::to_string).unwrap_or_default()
}

/// Line, kind and severity of everything but unimportant notes.
fn told(decoded: &Decoded) -> Vec<(usize, &'static str, Severity)> {
    decoded.findings.iter().map(|f| (f.line, f.kind, f.severity)).collect()
}

fn first<'a>(decoded: &'a Decoded, kind: &str) -> &'a Finding {
    let found = decoded.findings.iter().find(|f| f.kind == kind);
    assert!(found.is_some(), "no {kind} in {:#?}", told(decoded));
    found.expect("asserted")
}

/// What a finding says without where it stands.
fn said(decoded: &Decoded) -> Vec<Finding> {
    let strip = |finding: &Finding| {
        let mut finding = finding.clone();
        finding.line = 0;
        finding.text.clear();
        // References to other lines move with them.
        finding.meaning = strip_lines(&finding.meaning).into();
        finding
    };
    decoded.findings.iter().map(strip).collect()
}

fn strip_lines(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("(line ") {
        out += before;
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    out + rest
}

#[test]
fn an_update_beside_the_rmp() {
    let found = decode(kept(KEPT[0]).as_bytes());
    assert_eq!(found.findings.len(), 16);
    let failed = first(&found, "rmpupdate-failed");
    assert_eq!((failed.line, failed.severity), (1, Severity::Error));
    assert_eq!(failed.value("pfn"), Some(0x56700));
    assert_eq!(fact(failed, "result"), "FAIL_PERMISSION(2)");
    assert_eq!(fact(failed, "page_size"), "4 KiB");
    let block = first(&found, "rmp-entry-unassigned");
    assert_eq!(
        (block.value("entries_shown"), block.value("firmware_pages_shown")),
        (Some(14), Some(14))
    );
    let head = &found.findings[2];
    assert_eq!(
        (head.value("pfn"), head.value("block_assigned_others")),
        (Some(0x56600), Some(255))
    );
    assert!(failed.meaning.contains("Firmware pages lie in the same 2 MiB block"));
    assert!(found.findings[2..].iter().all(|f| fact(f, "state") == "Firmware"));
}

#[test]
fn an_update_that_overlaps_and_its_caller() {
    let found = decode(kept(KEPT[1]).as_bytes());
    let failed = first(&found, "rmpupdate-failed");
    assert_eq!(failed.value("pfn"), Some(0x37d_4fe8));
    assert_eq!(fact(failed, "result"), "FAIL_OVERLAP(4)");
    assert_eq!(failed.value("max_attempts"), Some(96));
    assert_eq!(fact(failed, "caller"), "sev_vm_destroy");
    assert_eq!(fact(failed, "on_behalf_of"), "KVM, which ends a guest");
    let trace = first(&found, "rmp-call-trace");
    assert_eq!(trace.line, 7);
    assert!(fact(trace, "path").contains("sev_vm_destroy [kvm_amd]"), "{trace:?}");
    assert_eq!(found.findings.len(), 2);
}

#[test]
fn a_start_that_failed() {
    let found = decode(kept(KEPT[2]).as_bytes());
    let kinds: Vec<_> = found.findings.iter().map(|f| f.kind).collect();
    assert_eq!(
        kinds,
        [
            "rmp-table",
            "sev-device",
            "firmware-updated",
            "snp-init-failed",
            "sev-init-failed",
            "sev-firmware-version",
            "sev-asids",
            "snp-asids"
        ]
    );
    assert_eq!(fact(&found.findings[0], "covers"), "129.4961 GiB");
    assert_eq!(fact(&found.findings[3], "status"), "INVALID_CONFIG(0x3)");
    assert!(found.findings[7].meaning.contains("could not be started (line 4)"));
}

#[test]
fn a_journal_of_a_good_host() {
    let found = decode(kept(KEPT[3]).as_bytes());
    assert_eq!(found.worst, Some(Severity::Info));
    assert_eq!(found.boots[0].role, Role::Host);
    let table = first(&found, "rmp-table");
    assert_eq!(
        (fact(table, "size"), fact(table, "covers")),
        ("1030 MiB".into(), "257.4961 GiB".into())
    );
    assert_eq!(
        (fact(table, "begins_on_2mib"), fact(table, "ends_on_2mib")),
        ("no".into(), "no".into())
    );
    let edges: Vec<_> = found.findings.iter().filter(|f| f.kind == "rmp-edge-reserved").collect();
    assert_eq!(
        edges.iter().filter_map(|f| f.value("address")).collect::<Vec<_>>(),
        [0x3540_0000, 0x75a0_0000]
    );
    assert_eq!(first(&found, "snp-asids").value("count"), Some(99));
    assert_eq!(fact(first(&found, "snp-firmware-version"), "version"), "1.55.32");
}

#[test]
fn a_guests_log_is_a_guests() {
    let log = "[    0.000000] Linux version 6.11.0 (a@b) #1 SMP\n\
        [    0.000000] Hypervisor detected: KVM\n\
        [    0.200000] Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP\n\
        [    0.200001] SEV: Status: SEV SEV-ES SEV-SNP\n\
        [    0.300000] SEV: Using SNP CPUID table, 28 entries present.\n\
        [    0.300001] SEV: SNP running at VMPL0.\n\
        [    0.700000] SEV: SNP guest platform devices initialized.\n\
        [    1.100000] sev-guest sev-guest: Initialized SEV guest driver (using VMPCK0 communication key)\n";
    let found = decode(log.as_bytes());
    assert_eq!(found.boots[0].role, Role::Guest);
    assert!(found.findings.iter().all(|f| f.kind == "guest-log"), "{:?}", told(&found));
    assert_eq!((found.findings.len(), found.worst), (6, Some(Severity::Info)));
}

#[test]
fn plain_lines_say_nothing() {
    for line in [
        "[    0.000000] Command line: BOOT_IMAGE=/vmlinuz mem_encrypt=on kvm_amd.sev=1 kvm_amd.sev_snp=1",
        "[    1.000000] several RMPs and no SEV-SNPs; rmp of the snp",
        "[    1.000000] #PF: supervisor write access in kernel mode",
        "[    1.000000] #PF: error_code(0x0002) - not-present page",
        "[    1.000000] ccp 0000:22:00.1: no command queues available",
        "[    1.000000] ccp 0000:22:00.1: psp enabled",
        "[    1.000000] systemd[1]: Reading rules file: /etc/udev/rules.d/99-sev.rules",
        "[    1.000000] AMD-Vi: Extended features (0x58f77ef22294ade, 0x0): PPR NX GT",
        "[    1.000000] kvm_amd: Nested Paging enabled",
        "[    1.000000] usb usb1: Manufacturer: Linux 6.15.0-sev-snp-amd64 ehci_hcd",
        "the RMPUPDATE failed for PFN 56700, pg_level: 1, ret: 2",
        "SEV: Status:",
        "rmpupdate+",
    ] {
        let found = decode(line.as_bytes());
        assert_eq!(found.findings, [], "{line}");
    }
    let odd = decode(b"[ 1.0] SEV-SNP: something that nobody has seen\n");
    assert_eq!(told(&odd), [(1, "unknown", Severity::Info)]);
    assert!(odd.findings[0].advice.is_empty() && odd.findings[0].facts.is_empty());
}

#[test]
fn other_wrappings_of_the_same_lines() {
    let message = "SEV-SNP: RMPUPDATE failed for PFN 56700, pg_level: 1, ret: 2";
    let plain = said(&decode(message.as_bytes()));
    for line in [
        format!("dmesg.txt:12:[  12.345678] {message}"),
        format!(r#"{{"PRIORITY":"3","MESSAGE":"{message}","_HOSTNAME":"h"}}"#),
        format!("kern.err kernel: {message}"),
        format!("\u{1b}[31m[   12.345678] \u{1b}[0m\u{1b}[1m{message}\u{1b}[0m"),
        format!("    {message}"),
        format!("> > {message}"),
        format!("k8s-node-1 | {message}"),
    ] {
        assert_eq!(said(&decode(line.as_bytes())), plain, "{line}");
    }
}

#[test]
fn who_said_it() {
    let log = "Oct 29 16:09:31 host1 microvm@vm2[120980]: SEV-SNP: Leaking PFN range 0x1-0x2\n";
    let found = decode(log.as_bytes());
    assert_eq!(fact(&found.findings[0], "said_by"), "microvm@vm2[120980]");
}

#[test]
fn many_findings_are_counted() {
    let most = snp_host::decode::MAX_FINDINGS;
    let many = "SEV-SNP: PFN: 0x1, [0x8000000000000005 - 0x0]\n".repeat(most + 5)
        + "SEV-SNP: Leaking PFN range 0x1-0x2\n";
    let found = decode(many.as_bytes());
    // What is worse than what there is too much of is not lost.
    assert_eq!((found.findings.len(), found.not_kept), (most + 1, 5));
    assert_eq!(found.worst, Some(Severity::Error));
    assert_eq!(found.findings[most].line, most + 6);
}

const PREFIXES: [&str; 8] = [
    "[    0.000000] ",
    "[ 5025.854364] [   T4616] ",
    "[Tue Nov 24 19:18:12 2026] ",
    "<3>[    1.000000] ",
    "3,339,5140900,-;",
    "Feb 27 19:32:31 host kernel: ",
    "2026-11-22T10:00:00.123456+0100 host kernel: [    1.000000] ",
    "2026-11-22T10:00:00,123456+00:00 ",
];

/// The messages of a log that is kept, without the prefixes it came with.
fn messages(name: &str) -> Vec<String> {
    let text = kept(name);
    let strip = |line: &str| {
        let rest = line.split_once("kernel: ").map_or(line, |(_, rest)| rest);
        let rest = match rest.split_once("] ") {
            Some((stamp, rest)) if stamp.starts_with('[') && !stamp.contains('x') => rest,
            _ => rest,
        };
        rest.to_owned()
    };
    text.lines().map(strip).collect()
}

/// Breaks a line as a terminal of `width` columns shows it.
fn wrapped(line: &str, width: usize) -> String {
    let all: Vec<char> = line.chars().collect();
    all.chunks(width).map(|part| part.iter().collect::<String>()).collect::<Vec<_>>().join("\n")
}

#[test]
fn wraps_do_not_matter() {
    for name in KEPT {
        let messages = messages(name);
        let plain = said(&decode(messages.join("\n").as_bytes()));
        for (prefix, width) in PREFIXES.iter().flat_map(|p| (80..180).map(move |width| (p, width)))
        {
            let lines: Vec<String> =
                messages.iter().map(|m| wrapped(&format!("{prefix}{m}"), width)).collect();
            let other = said(&decode(lines.join("\n").as_bytes()));
            assert_eq!(other, plain, "{name} {prefix:?} {width}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn prefixes_line_ends_and_case_do_not_matter(
        log in 0usize..KEPT.len(),
        prefix in 0usize..PREFIXES.len(),
        upper in 0u8..3,
        crlf in any::<bool>(),
    ) {
        let messages = messages(KEPT[log]);
        let plain = said(&decode(messages.join("\n").as_bytes()));
        let end = if crlf { "\r\n" } else { "\n" };
        let cased = |message: &String| match upper {
            // Functions of a trace have one spelling only.
            1 if !message.contains("+0x") => message.to_ascii_uppercase(),
            2 if !message.contains("+0x") => message.to_ascii_lowercase(),
            _ => message.clone(),
        };
        let lines: Vec<String> =
            messages.iter().map(|m| format!("{}{}", PREFIXES[prefix], cased(m))).collect();
        let other = lines.join(end);
        let other = said(&decode(other.as_bytes()));
        let shape = |found: &[Finding]| -> Vec<_> {
            found.iter().map(|f| (f.kind, f.severity, f.facts.clone(), f.meaning.clone())).collect()
        };
        if upper == 0 {
            prop_assert_eq!(other, plain);
        } else {
            let (other, plain) = (shape(&other), shape(&plain));
            prop_assert_eq!(other, plain);
        }
    }

    #[test]
    fn garbage_is_no_finding_of_anything_bad(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let found = decode(&bytes);
        prop_assert!(found.findings.iter().all(|f| f.kind == "unknown"), "{:?}", found.findings);
    }

    /// Words of this field in any order are no claim.
    #[test]
    fn words_alone_claim_nothing(words in prop::collection::vec(prop::sample::select(vec![
        "the", "sev", "snp", "RMP", "entry", "0x56700", "failed", "page", "PFN", "guest", "error", "2", "ret", "and",
    ]), 0..12)) {
        let found = decode(words.join(" ").as_bytes());
        prop_assert_eq!(found.findings, []);
    }

    #[test]
    fn damaged_logs_are_read(log in 0usize..KEPT.len(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let mut bytes = kept(KEPT[log]).into_bytes();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let found = decode(&bytes);
        prop_assert!(found.findings.windows(2).all(|pair| pair[0].line <= pair[1].line));
    }
}

type Expected = (&'static str, bool, &'static [(&'static str, &'static str, &'static str)]);
/// What the notes beside the samples say of each: whether anything is an error, and kinds that must
/// be there with a fact.
const ALL: &[Expected] = &[
    ("amdsev_issue107_dell_r6525_7543", false, &[("psp-without-sev", "", "")]),
    (
        "amdsev_issue143_rmpupdate_5.19",
        true,
        &[
            ("rmpupdate-failed", "result", "FAIL_OVERLAP(4)"),
            ("rmp-call-trace", "through", "rmpupdate"),
        ],
    ),
    (
        "amdsev_issue176_init_error3",
        true,
        &[
            ("rmp-table", "size", "518 MiB"),
            ("rmp-table", "covers", "129.4961 GiB"),
            ("snp-init-failed", "status", "INVALID_CONFIG(0x3)"),
            ("sev-init-failed", "errno", "-5"),
        ],
    ),
    ("amdsev_issue197_no_rmp_hpe_dl385", true, &[("rmp-not-reserved", "", "")]),
    ("amdsev_issue205_milan2_ccp_busy", false, &[("firmware-busy", "", "")]),
    (
        "amdsev_issue245_rmpupdate_dump",
        true,
        &[
            ("rmpupdate-failed", "pfn", "0x56700"),
            ("rmpupdate-failed", "result", "FAIL_PERMISSION(2)"),
            ("rmp-entry-unassigned", "block_first_pfn", "0x56600"),
            ("rmp-entry-unassigned", "block_end_pfn", "0x56800"),
            ("rmp-entry", "state", "Firmware"),
        ],
    ),
    (
        "amdsev_issue253_vadm_genoa_512G",
        false,
        &[
            ("rmp-table", "size", "2054 MiB"),
            ("rmp-table", "covers", "513.4961 GiB"),
            ("rmp-edge-reserved", "address", "0x7fcd000000"),
            ("snp-asids", "count", "252"),
        ],
    ),
    (
        "amdsev_issue271_proliant_6.15",
        false,
        &[("rmp-table", "size", "1033 MiB"), ("rmp-table", "covers", "258.2461 GiB")],
    ),
    (
        "amdsev_readme_sev-snp-devel_5.19",
        false,
        &[
            ("rmp-table", "size", "1030 MiB"),
            ("rmp-table", "covers", "257.4961 GiB"),
            ("sev-asids", "count", "410"),
            ("snp-asids", "count", "99"),
        ],
    ),
    (
        "azure_dcascc_v5_l1_host_old_format",
        false,
        &[
            ("sev-asids", "count", "0"),
            ("snp-asids", "count", "16"),
            ("sev-init-failed", "status", "INVALID_COMMAND(0x11)"),
            ("snp-firmware-version", "version", "1.42.42"),
        ],
    ),
    (
        "coconut_svsm_issue409_genoa_768G",
        false,
        &[
            ("rmp-table", "size", "3078 MiB"),
            ("rmp-table", "covers", "769.4961 GiB"),
            ("rmp-table", "begins_on_2mib", "yes"),
            ("rmp-table", "ends_on_2mib", "yes"),
        ],
    ),
    ("edgeless_hetzner-ax162-snp", false, &[("rmp-table", "covers", "257.4961 GiB")]),
    (
        "guide_milan_0x97900000",
        false,
        &[
            ("rmp-table", "size", "262 MiB"),
            ("rmp-table", "covers", "65.4961 GiB"),
            ("sev-asids", "last", "509"),
        ],
    ),
    (
        "guide_milan_fwupdate_1.49.3_to_1.55.21",
        false,
        &[
            ("firmware-updated", "from", "1.49.3"),
            ("firmware-updated", "to", "1.55.21"),
            ("rmp-table", "covers", "129.4961 GiB"),
        ],
    ),
    (
        "lkml_400fea4b9651_kexec_genoa_514G",
        false,
        &[
            ("rmp-table", "size", "2057 MiB"),
            ("rmp-table", "covers", "514.2461 GiB"),
            ("rmp-table", "covers_all_ram", "yes"),
        ],
    ),
    (
        "lkml_avic_patch_PF_rmp_violation",
        true,
        &[
            ("rmp-page-fault", "bits", "P, W, RMP"),
            ("rmp-page-fault", "pfn", "0x1149cc"),
            ("rmp-entry-unassigned", "pfn", "0x1149cc"),
            ("rmp-entry-unassigned", "block_first_pfn", "0x114800"),
        ],
    ),
    (
        "sev-utils_pr19_pegah_guest_memfd",
        true,
        &[("guest-memfd-missing", "", ""), ("snp-asids", "count", "99")],
    ),
    (
        "sev_install_guide_fw_too_old_1.40",
        true,
        &[
            ("firmware-too-old", "needs", "1.51"),
            ("sev-init-failed", "status", "INVALID_PLATFORM_STATE(0x1)"),
            ("sev-firmware-version", "version", "1.40.40"),
        ],
    ),
    (
        "snp_guide_genoa_0xbf7e800000",
        false,
        &[
            ("rmp-table", "size", "3081 MiB"),
            ("rmp-table", "covers", "770.2461 GiB"),
            ("rmp-edge-reserved", "address", "0xc03f000000"),
        ],
    ),
    (
        "snp_guide_genoa_api1.55.24",
        false,
        &[("rmp-table", "covers", "65.4961 GiB"), ("snp-asids", "count", "98")],
    ),
];

#[test]
fn every_sample_says_what_is_known_of_it() {
    if !Path::new(SAMPLES).is_dir() {
        println!("skipped: every_sample_says_what_is_known_of_it: shared/data not present");
        return;
    }
    let folder = Path::new(SAMPLES).join("dmesg");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), ALL.len(), "a sample without expectations");
    for (name, errors, facts) in ALL {
        let bytes = fs::read(folder.join(format!("{name}.txt"))).unwrap();
        let found = decode(&bytes);
        assert_eq!(found.worst == Some(Severity::Error), *errors, "{name}: {:?}", told(&found));
        assert!(found.findings.iter().all(|f| f.kind != "unknown"), "{name}");
        assert_eq!(found.boots.last().unwrap().role, Role::Host, "{name}");
        for (kind, fact_name, value) in *facts {
            let any = found
                .findings
                .iter()
                .any(|f| f.kind == *kind && (fact_name.is_empty() || fact(f, fact_name) == *value));
            assert!(any, "{name}: {kind} {fact_name} {value} in {:#?}", found.findings);
        }
    }
    let memfd = decode(&fs::read(folder.join("sev-utils_pr19_pegah_guest_memfd.txt")).unwrap());
    assert_eq!(memfd.findings.iter().filter(|f| f.kind == "guest-memfd-missing").count(), 10);
}

#[test]
fn samples_of_the_series() {
    let folder = Path::new(SAMPLES).join("rmpopt");
    if !folder.is_dir() {
        println!("skipped: samples_of_the_series: shared/data not present");
        return;
    }
    let read = |name: &str| decode(&fs::read(folder.join(name)).unwrap());
    let times = read("kalra_2026-03-11_exec_time_2x100GB_SNP_VMs.txt");
    let ns: Vec<_> = times.findings.iter().filter_map(|f| f.value("duration_ns")).collect();
    assert_eq!(ns, [391_609_638, 457_933_019, 317_016_656, 369_659_769]);
    assert!(times.findings.iter().all(|f| f.value("regions") == Some(2048)));
    let both = read("kalra_2026-03-16_best_worst.txt");
    assert_eq!(both.findings.len(), 4);
    let table = read("rmpopt-table_v1-v8_commitmsg.txt");
    assert_eq!(table.findings.len(), 1);
    let table = &table.findings[0];
    assert_eq!((table.value("rows"), table.value("gaps")), (Some(22), Some(1)));
    assert_eq!((table.value("optimized_on_none"), table.value("last_gib")), (Some(4), Some(1038)));
}

/// Other texts that are kept beside the samples: nothing in them is an error here.
#[test]
fn other_texts_claim_nothing() {
    if !Path::new(SAMPLES).is_dir() {
        println!("skipped: other_texts_claim_nothing: shared/data not present");
        return;
    }
    for folder in ["cpuid", "memmap", "topology", "snphost", "vmm", "frag", "traces"] {
        for entry in fs::read_dir(Path::new(SAMPLES).join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let found = decode(&fs::read(&path).unwrap());
            assert_eq!(found.findings, [], "{}", path.display());
        }
    }
}
