//! The text of trials: there and back, and what is wrong with a line.

use std::fmt::Write as _;

use proptest::prelude::*;
use snp_model::trial::{random, Operation, Plan, Random, Script, Trial};

/// Scripts that the generator makes: every switch and every operation.
#[test]
fn there_and_back() {
    let mut keywords = std::collections::BTreeSet::new();
    for number in 0..108 {
        let run = Random::numbered(number, 2_000);
        let mut script = Script { plan: run.plan, operations: Vec::new() };
        random(&run, |operation, _| script.operations.push(*operation)).unwrap();
        keywords.extend(script.operations.iter().map(Operation::keyword));
        let text = script.to_string();
        assert_eq!(text.parse::<Script>().unwrap(), script);
        assert_eq!(Trial::replay(&script, |_, _, _| ()), Ok(()), "operations stand for themselves");
    }
    assert_eq!(keywords.into_iter().collect::<Vec<_>>(), {
        let mut all = Operation::KEYWORDS.to_vec();
        all.sort_unstable();
        all
    });
}

/// docs/replay.md names every operation, every switch and every value.
#[test]
fn the_guide_is_complete() {
    let guide = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/replay.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let mut missing: Vec<String> = Vec::new();
    let mut look = |word: &str| {
        if !guide.contains(&format!("`{word}`")) {
            missing.push(word.to_owned());
        }
    };
    for keyword in Operation::KEYWORDS {
        look(keyword);
    }
    for number in 0..200 {
        for line in Random::numbered(number, 1).plan.to_string().lines() {
            let (name, value) = line.strip_prefix("set ").unwrap().split_once('=').unwrap();
            look(name);
            look(value);
        }
    }
    for defect in Plan::defects() {
        let mut plan = Plan::default();
        plan.choices.defect = Some(defect);
        look(plan.to_string().lines().last().unwrap().split_once('=').unwrap().1);
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn comments_blanks_and_order_of_words_do_not_matter() {
    let text = "\n# a host\r\n  rmpopt-trial   1 # version\r\n\
                set fault=drop-clear laws=off\n\tset errata=both\n\
                enable-snp core=0x2\n\
                psmash spa=0x200000 core=1   # no by\n";
    let script: Script = text.parse().unwrap();
    assert_eq!(script.operations.len(), 2);
    assert_eq!(script.operations[1].to_string(), "psmash core=1 spa=0x200000");
    assert!(script.plan.fault.is_some() && !script.plan.laws);
    assert!(script.plan.choices.errata.head_in_use_faults);
    assert_eq!("rmpopt-trial 1".parse::<Script>().unwrap(), Script::default());
    assert_eq!(Script::default().plan, Plan::default());
}

#[test]
fn errors_name_line_word_and_what_was_expected() {
    let long = "x".repeat(100);
    for (text, shown) in [
        ("", "line 1: the end, expected \"rmpopt-trial 1\""),
        ("# nothing\n\n", "line 2: the end, expected \"rmpopt-trial 1\""),
        ("rmpopt-trial 2", "line 1: \"rmpopt-trial 2\", expected \"rmpopt-trial 1\""),
        ("\u{1b}[31m\n", "line 1: \"\\u{1b}[31m\", expected \"rmpopt-trial 1\""),
        ("rmpopt-trial 1\nreset core=3", "line 2: core \"3\", expected a number from 0 to 0x2"),
        ("rmpopt-trial 1\n\nreset", "line 3: no \"core=\" in \"reset\", expected one"),
        ("rmpopt-trial 1\nreset core", "line 2: \"core\", expected name=value"),
        ("rmpopt-trial 1\nreset core=0 core=1", "line 2: \"core\" a second time, expected it once"),
        ("rmpopt-trial 1\nreset core=-1", "line 2: core \"-1\", expected a number from 0 to 0x2"),
        ("rmpopt-trial 1\nreset core=0x", "line 2: core \"0x\", expected a number from 0 to 0x2"),
        (
            "rmpopt-trial 1\nsnp-init now=1",
            "line 2: \"now=1\", expected no such word after \"snp-init\"",
        ),
        (
            "rmpopt-trial 1\nedit spa=0 what=burn",
            "line 2: what \"burn\", expected one of validate, lock, unlock, release, vmsa, no-vmsa",
        ),
        (
            "rmpopt-trial 1\nrmpread core=0 spa=0x10000000000000",
            "line 2: spa \"0x10000000000000\", expected a number from 0 to 0xfffffffffffff",
        ),
        (
            "rmpopt-trial 1\nset fault=all",
            "line 2: fault \"all\", expected one of none, drop-clear, stale-cache, blind-publish",
        ),
        (
            "rmpopt-trial 1\nsnp-init\nset fault=none",
            "line 3: \"set\" after an operation, expected switches before operations",
        ),
    ] {
        assert_eq!(text.parse::<Script>().unwrap_err().to_string(), shown);
    }
    let error = format!("rmpopt-trial 1\n{long} a=1").parse::<Script>().unwrap_err();
    assert!(error.expected.starts_with("one of rmpupdate, rmpupdate-range, psmash,"), "{error}");
    let error = "rmpopt-trial 1\nset speed=1".parse::<Script>().unwrap_err();
    assert!(error.expected.starts_with("one of rmp, base-write,"), "{error}");
}

proptest! {
    /// Whatever somebody feeds it: an answer, and what was read runs.
    #[test]
    fn garbage_never_panics(
        head in prop::bool::ANY,
        lines in prop::collection::vec(
            prop_oneof![
                "[ -~]{0,40}",
                ("[a-z-]{1,12}", "[a-z_]{1,8}", "[0-9a-fx]{0,18}").prop_map(|(k, n, v)| format!("{k} {n}={v}")),
                (prop::sample::select(Operation::KEYWORDS.to_vec()), any::<u64>(), any::<u64>())
                    .prop_map(|(k, a, b)| format!("{k} core=0 spa={:#x} rax={b:#x}", a >> 12)),
            ],
            0..8,
        ),
    ) {
        let first = if head { "rmpopt-trial 1\n" } else { "" };
        let text = format!("{first}{}", lines.join("\n"));
        if let Ok(script) = text.parse::<Script>() {
            prop_assert_eq!(script.to_string().parse::<Script>().unwrap(), script.clone());
            let _ = Trial::replay(&script, |_, _, _| ());
        }
    }

    /// Any addresses and operands at all, also far outside the trial's host.
    #[test]
    fn extreme_operands_run(spa in 0u64..1 << 52, rax: u64, rdx: u64, size in 0u64..4, asid: u32) {
        let text = format!(
            "rmpopt-trial 1\nenable-snp core=0\nenable-snp core=1\nenable-snp core=2\nsnp-init\n\
             write-base core=0 value={:#x}\n\
             rmpupdate core=0 spa={spa:#x} gpa={rdx:#x} assigned=1 page_size=1 immutable=0 asid={asid}\n\
             psmash core=0 spa={spa:#x}\nrmpopt core=0 rax={rax:#x} function=verify\n\
             pvalidate core=0 asid={asid} vmpl=0 gva={rax:#x} gpa={spa:#x} spa={spa:#x} nested=2m c=1 \
             size={size} validate=1\n\
             access core=0 by=guest kind=write spa={spa:#x} size=2m\ndevice-write spa={spa:#x}\n\
             edit spa={spa:#x} what=lock\nrmpread core=0 spa={spa:#x}\n",
            rax | 1
        );
        let script: Script = text.parse().unwrap();
        prop_assert_eq!(Trial::replay(&script, |_, _, _| ()), Ok(()));
    }

    /// The same for VMRUN, every access of a guest, ranges of pages, and the firmware's commands.
    #[test]
    fn extreme_commands_run(spa in 0u64..1 << 52, any: u64, asid: u32, byte: u8, on: bool) {
        let (page, block) = (spa & !0xFFF, spa & !0x1F_FFFF);
        let mut text = format!(
            "rmpopt-trial 1\nenable-snp core=0\nenable-snp core=1\nenable-snp core=2\n\
             snp-init-ex init_rmp=1 list={}\n\
             rmpupdate-range core=0 spa={page:#x} count=4096 gpa={any:#x} assigned=1 page_size=0 \
             immutable=1 asid={asid}\n\
             rmpupdate-range core=0 spa={block:#x} count=9 gpa={block:#x} assigned=1 page_size=1 \
             immutable=0 asid={}\n\
             vmrun id=7 core=0 hsave={any} vmcb={spa:#x} avic={page:#x} save={block:#x}\n\
             vmrun id=7 core=0 hsave=1 vmcb=0 vmsa={page:#x} gpa={spa:#x} asid={asid}\n\
             vmexit id=7\nvmexit id={any}\n",
            u8::from(on), asid % 1024
        );
        for kind in ["read", "write", "shadow-stack", "fetch-user", "walk", "walk-update"] {
            writeln!(
                text,
                "guest core=0 asid={asid} vmpl=3 gva={any:#x} gpa={spa:#x} spa={spa:#x} nested=2m \
                 c={} kind={kind}",
                u8::from(on)
            )
            .unwrap();
        }
        for gctx in [spa, page, 0x3000] {
            writeln!(
                text,
                "rmpupdate core=0 spa={gctx:#x} gpa=0 assigned=1 page_size=0 immutable=1 asid=0\n\
                 gctx-create gctx={gctx:#x}\nlaunch-start gctx={gctx:#x} policy={any:#x}\n\
                 activate gctx={gctx:#x} asid={asid}\n\
                 launch-update gctx={gctx:#x} spa={block:#x} size=2m page=normal vmpl1={byte} \
                 vmpl2=255 vmpl3=0\n\
                 launch-finish gctx={gctx:#x}\ndecommission gctx={gctx:#x}"
            )
            .unwrap();
        }
        writeln!(
            text,
            "page-reclaim address={any:#x}\npage-reclaim address={:#x}\npage-unsmash spa={block:#x}\n\
             page-set-state spa={block:#x} blocks=8\ndf-flush\nwbinvd core=1\n\
             snp-shutdown-ex iommu={} x86=1\nsnp-init-ex init_rmp=0 list=0",
            block | 1,
            u8::from(on)
        )
        .unwrap();
        let script: Script = text.parse().unwrap();
        prop_assert_eq!(script.to_string().parse::<Script>().unwrap(), script.clone());
        prop_assert_eq!(Trial::replay(&script, |_, _, _| ()), Ok(()));
    }
}
