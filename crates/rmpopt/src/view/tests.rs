use snp_lab::report::{
    CpusReport, DriverReport, Fact, GuestOpsReport, HostReport, InterruptionReport, JitterMap,
    JitterReport, LawReport, MapReport, NeverReport, OptimizedReport, RegionMark, ReoptimizeReport,
    RmpoptReport, RunReport, SharePoint, SliceReport, SteadyReport, StolenReport, TimelineEntry,
    TimelineKind, TraceReport, WindowReport,
};

use super::View;
use super::page::WIDTH;

fn slices(windows: u64, p999: f64, max: f64) -> SliceReport {
    let (p50, p99, p999, max) = (Some(0.0), Some(0.0), Some(p999), Some(max));
    SliceReport { windows, hit: 1_000, p50, p99, p999, max }
}

#[expect(clippy::too_many_lines, reason = "one value, field by field")]
fn sample() -> RunReport {
    let marks = (0..2064u64).map(|region| match region {
        0 | 1040 | 2063 => RegionMark::Firmware,
        2..=3 | 1012..=1023 => RegionMark::NoRam,
        100..=160 => RegionMark::SnpGuest,
        200..=230 => RegionMark::SomeCores,
        300 => RegionMark::NotYet,
        2048.. => RegionMark::Outside,
        _ => RegionMark::AllCores,
    });
    let entry = |t_s: f64, kind, text: &str| TimelineEntry { t_s, kind, text: text.to_owned() };
    let law = |law, name, claimed, checks, breaches, first: Option<&str>| LawReport {
        law,
        name,
        claimed,
        checks,
        breaches,
        first: first.map(str::to_owned),
    };
    RunReport {
        schema_version: 1,
        emulated: true,
        scenario: "venice-2p".to_owned(),
        seed: 1,
        policy: "tracked",
        fidelity: "extents",
        assumed: vec!["memory: 2,048 GiB from venice-2p".to_owned()],
        host: HostReport {
            sockets: 2,
            cores: 512,
            cpus: 1024,
            memory_bytes: 2 << 40,
            regions: 2050,
            spanned_regions: 2064,
            window_regions: 2034,
        },
        trace: Some(TraceReport { rows: 8152, unscheduled: 897, ..TraceReport::default() }),
        optimized: OptimizedReport {
            at_end: Some(0.9934),
            mean: Some(0.871),
            optimizable_at_end: Some(1.0),
            optimizable_mean: Some(0.9321),
            weighted_at_end: Some(0.9712),
            weighted_mean: Some(0.904),
            ..OptimizedReport::default()
        },
        rmpopt: RmpoptReport {
            executed: 1_050_112,
            verify: 1_050_000,
            report: 112,
            leader: 2_300,
            followers: 1_047_700,
            slow: 2_048,
            early: 252,
            fast: 1_047_812,
        },
        ipis: 1022,
        wakeups: 514,
        interruptions: InterruptionReport { total: 1536, max_per_cpu: 3, p99_per_cpu: 2 },
        passes: 9,
        reoptimize_s: ReoptimizeReport {
            p50: Some(1.25),
            p99: Some(1.75),
            max: Some(1.8),
            never: 0,
            ..ReoptimizeReport::default()
        },
        stolen_us: StolenReport {
            total: 5_400_123.25,
            max_hold: 151.0,
            max_per_cpu: 312_000.0,
            p99_per_cpu: 10_500.0,
        },
        rmpupdates: 104_857_600,
        guests: GuestOpsReport {
            psmashes: 2,
            pvalidates: 61_440,
            size_mismatches: 3,
            sizem_faults: 2,
            firmware_commands: 1_040,
            firmware_errors: 1,
            wbinvds: 2,
            df_flushes: 1,
            reclaim_failures: 1,
            leaked_pages: 512,
        },
        steady: SteadyReport {
            rmpopt: 5_120,
            ipis: 0,
            wakeups: 3,
            interruptions: 3,
            stolen_us: 12_300.0,
            ..SteadyReport::default()
        },
        jitter_us: JitterReport {
            cpu: slices(153_600_000, 0.0, 112.5),
            vcpu: slices(24_000_000, 3.2, 112.5),
        },
        law_violations: 0,
        law_breaches_unclaimed: 0,
        simulated_s: 150.0,
        wall_s: 2.31,
        laws: vec![
            law(1, "safety: no bit set where a page is assigned", true, 104_857_600, 0, None),
            law(
                3,
                "liveness: free regions are optimised within the bound",
                false,
                2050,
                1,
                Some("at 12.5 s region 17 waited 31 s on core 4"),
            ),
        ],
        timeline: vec![
            entry(0.0, TimelineKind::Host, "power-on: 2 sockets, 512 cores"),
            entry(1.0, TimelineKind::Snp, "SNP_INIT done, RMPOPT enabled on 512 cores"),
            entry(
                10.0,
                TimelineKind::Guest,
                "vault launched: SNP, 100 GiB of 2 MiB pages on node 0, 32 vCPUs, and a line that \
                 needs more room",
            ),
        ],
        share: vec![
            SharePoint { t_s: 0.0, optimized: None, optimizable: None, weighted: None },
            SharePoint { t_s: 1.0, optimized: Some(0.0), optimizable: Some(0.0), weighted: None },
            SharePoint { t_s: 4.0, optimized: Some(0.99), optimizable: Some(1.0), weighted: None },
            SharePoint { t_s: 20.0, optimized: Some(0.8), optimizable: Some(0.95), weighted: None },
            SharePoint { t_s: 75.0, optimized: Some(0.99), optimizable: Some(1.0), weighted: None },
            SharePoint { t_s: 140.0, optimized: None, optimizable: None, weighted: None },
        ],
        map: MapReport::new(0, marks),
        never_optimizable: vec![
            NeverReport { region: 0, reason: "firmware".to_owned() },
            NeverReport { region: 1040, reason: "RMP segment 0".to_owned() },
            NeverReport { region: 2063, reason: "RMP segment 1".to_owned() },
        ],
        driver: DriverReport {
            refused: None,
            windows: vec![WindowReport { base_region: 0, cores: 512 }],
            facts: vec![Fact::new("delay", "1 s"), Fact::new("RMPOPT_BASE", "0x1")],
        },
        cpus: CpusReport {
            stolen_us: (0..1024).map(|cpu| f64::from(cpu % 512 + 1) * 10.0).collect(),
            interruptions: (0..1024).map(|cpu| cpu % 4).collect(),
        },
        jitter_map: JitterMap::default(),
        table: String::new(),
    }
}

/// What a terminal shows once the colours are out.
fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn fits_a_terminal_of_80_columns() {
    for unicode in [true, false] {
        let text = plain(&View { unicode }.report(&sample()));
        println!("{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
            assert_eq!(line, line.trim_end());
        }
        assert_eq!(text.is_ascii(), !unicode);
    }
}

#[test]
fn says_what_matters_first() {
    let text = plain(&View { unicode: false }.report(&sample()));
    let mut lines = text.lines();
    let first = lines.next().unwrap();
    assert!(first.starts_with("rmpopt run: venice-2p, policy tracked, seed 1"), "{first}");
    assert!(first.ends_with("EMULATED"), "{first}");
    assert_eq!(
        lines.nth(1).unwrap(),
        "  99.34 %  optimised at the end              100 %  of what can be"
    );
    assert!(text.contains("RMP segment: 2 regions (1040, 2063)"), "{text}");
}

#[test]
fn a_broken_law_stands_out() {
    let mut report = sample();
    report.law_violations = 1;
    report.law_breaches_unclaimed = 2;
    let text = plain(&View { unicode: false }.report(&report));
    assert!(text.contains("  BROKEN: 1 breach of claimed laws\n"), "{text}");
    assert!(text.contains("  ! 2 breaches of laws the policy does not claim\n"), "{text}");
}

#[test]
fn nothing_is_needed() {
    for unicode in [true, false] {
        let text = plain(&View { unicode }.report(&RunReport::default()));
        assert!(text.contains("-  optimised at the end"), "{text}");
    }
}

#[test]
fn twelve_tebibytes_fit_on_a_page() {
    let mut report = sample();
    report.map = MapReport::new(0, (0..12_304).map(|_| RegionMark::AllCores));
    let text = plain(&View { unicode: true }.report(&report));
    assert!(text.lines().count() < 120, "{}", text.lines().count());
    assert!(text.contains("lines like this one"));
}

/// The documented keys, in order.
const KEYS: [&str; 118] = [
    "schema_version",
    "emulated",
    "scenario",
    "seed",
    "policy",
    "fidelity",
    "assumed",
    "host",
    "sockets",
    "cores",
    "cpus",
    "memory_bytes",
    "regions",
    "spanned_regions",
    "window_regions",
    "trace",
    "rows",
    "unscheduled",
    "invalid",
    "left_out",
    "admitted",
    "rejected",
    "snp",
    "ordinary",
    "left_censored",
    "right_censored",
    "peak_bytes",
    "optimized",
    "final",
    "mean",
    "optimizable_final",
    "optimizable_mean",
    "integral_s",
    "weighted_final",
    "weighted_mean",
    "rmpopt",
    "executed",
    "verify",
    "report",
    "leader",
    "followers",
    "slow",
    "early",
    "fast",
    "ipis",
    "wakeups",
    "interruptions",
    "total",
    "max_per_cpu",
    "p99_per_cpu",
    "passes",
    "reoptimize_s",
    "p50",
    "p99",
    "max",
    "never",
    "count",
    "never_longest",
    "stolen_us",
    "total",
    "max_hold",
    "max_per_cpu",
    "p99_per_cpu",
    "jitter_us",
    "cpu",
    "windows",
    "hit",
    "p50",
    "p99",
    "p999",
    "max",
    "vcpu",
    "rmpupdates",
    "guests",
    "psmashes",
    "pvalidates",
    "size_mismatches",
    "sizem_faults",
    "firmware_commands",
    "firmware_errors",
    "wbinvds",
    "df_flushes",
    "reclaim_failures",
    "leaked_pages",
    "steady",
    "rmpopt",
    "ipis",
    "wakeups",
    "interruptions",
    "stolen_us",
    "max_interruptions_per_cpu",
    "max_stolen_us_per_cpu",
    "jitter_us",
    "law_violations",
    "law_breaches_unclaimed",
    "simulated_s",
    "wall_s",
    "laws",
    "timeline",
    "share",
    "map",
    "first_region",
    "states",
    "legend",
    "never_optimizable",
    "driver",
    "refused",
    "windows",
    "base_region",
    "cores",
    "facts",
    "cpus",
    "jitter_map",
    "cpus_per_row",
    "rows",
    "columns",
    "step_s",
    "cells",
];

#[test]
fn json_has_the_documented_keys_in_order() {
    let json = serde_json::to_string(&sample()).unwrap();
    // The order in the text counts, which a map type would lose.
    let mut at = 0;
    for key in KEYS {
        let wanted = format!("\"{key}\":");
        let found = json[at..].find(&wanted).unwrap_or_else(|| panic!("{key} after byte {at}"));
        at += found + wanted.len();
    }
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let count = |pointer: &str| value.pointer(pointer).unwrap().as_object().unwrap().len();
    assert_eq!(value.as_object().unwrap().len(), 33);
    assert_eq!((count("/host"), count("/trace"), count("/optimized")), (7, 11, 7));
    assert_eq!((count("/rmpopt"), count("/steady"), count("/stolen_us")), (8, 8, 4));
    assert_eq!((count("/jitter_us"), count("/jitter_us/vcpu"), count("/jitter_map")), (2, 6, 5));
    assert_eq!(count("/guests"), 10);
    assert_eq!(value["map"]["legend"]["S"], "SNP guest memory");
    assert_eq!(value["optimized"]["final"], 0.9934);
    let mut bare = sample();
    bare.trace = None;
    assert!(serde_json::to_value(&bare).unwrap()["trace"].is_null());
}
