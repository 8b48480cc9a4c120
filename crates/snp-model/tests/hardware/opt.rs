//! RMPOPT: a region's way on two cores, what clears the bit, and what nobody knows.

use snp_defs::{PageState, Region, RmpOperand, RmpoptBase, RmpoptFunction};
use snp_model::{
    Accessor, CoreId, LaunchPage, ScanCache, ShutdownEx, UnitConfig, UpdateOrder, VmrunPages,
};

use crate::host::{
    pages, private, segment_rmp, spa, vmpl, walk, Host, CONTEXT, CORE, GIB, K4, M2, MEMORY,
    OTHER_CORE, PAGE,
};
use crate::page::{code, table, Page};

pub(crate) fn blocks(page: &mut Page) {
    page.block("one region", &one_region());
    page.block("what clears", &what_clears());
    page.block("unknown", &unknown());
}

const VERIFY: RmpoptFunction = RmpoptFunction::Verify;

fn enable(host: &Host) {
    let base = RmpoptBase::enabled_at(Region::ZERO).raw();
    for core in [CORE, OTHER_CORE] {
        host.machine.wrmsr_rmpopt_base(core, base).unwrap();
    }
}

fn one_region() -> String {
    let host = Host::new();
    let region = spa(PAGE).region();
    let mut rows: Vec<[String; 5]> = Vec::new();
    let bit = |core| u8::from(host.machine.unit().is_optimised(core, region)).to_string();
    let mut row = |core: Option<CoreId>, what: &str, result: String| {
        let core = core.map_or_else(|| "-".to_owned(), |core| core.to_string());
        rows.push([core, what.to_owned(), result, bit(CORE), bit(OTHER_CORE)]);
    };
    let verify = |core, at: u64| match host.machine.rmpopt(core, at, VERIFY) {
        Ok(outcome) => {
            let from = if outcome.cached {
                "cached verdict".to_owned()
            } else {
                format!("{} lines read", outcome.lines)
            };
            format!("CF = {}, {from}", u8::from(outcome.cf))
        }
        Err(exception) => exception.to_string(),
    };
    let write = |core| {
        let access = host.machine.check_write(core, Accessor::HostKernel, spa(PAGE + 0x1000), K4);
        assert_eq!(access.verdict, snp_model::Verdict::Allowed);
        if access.skipped_by_rmpopt {
            "no check".to_owned()
        } else {
            format!("checked, {} line read", access.lines)
        }
    };
    row(Some(CORE), "RMPOPT, before the core's MSR is written", verify(CORE, PAGE));
    enable(&host);
    row(None, "`RMPOPT_BASE` = 1 on both cores", "window 0 to 2 TiB".into());
    row(Some(CORE), "the host writes to the region", write(CORE));
    row(Some(CORE), "RMPOPT verify: the leader", verify(CORE, PAGE));
    row(Some(OTHER_CORE), "RMPOPT verify: a follower", verify(OTHER_CORE, PAGE));
    row(Some(CORE), "the host writes to the region", write(CORE));
    let status = host.update(PAGE, &private(PAGE, K4, false));
    row(Some(CORE), "RMPUPDATE assigns one page", code(status));
    row(Some(OTHER_CORE), "the host writes to the page beside", write(OTHER_CORE));
    row(Some(CORE), "RMPOPT verify", verify(CORE, PAGE));
    let status = host.update(PAGE, &RmpOperand::shared(K4));
    row(Some(CORE), "RMPUPDATE gives the page back", code(status));
    row(Some(CORE), "the host writes to the region", write(CORE));
    row(Some(CORE), "RMPOPT verify", verify(CORE, PAGE));
    row(Some(OTHER_CORE), "the host writes to the region", write(OTHER_CORE));
    row(Some(OTHER_CORE), "RMPOPT verify", verify(OTHER_CORE, PAGE));
    let table_region = verify(CORE, segment_rmp(0));
    row(Some(CORE), "RMPOPT of a region that holds a part of the RMP", table_region);
    row(Some(CORE), "RMPOPT of a region past the window", verify(CORE, u64::from(GIB) << 30));
    let header = ["core", "what", "result", "bit, core 0", "bit, core 1"];
    table(&header, rows)
}

/// An operation in the guest's region, after a preparation there.
type Operation = (&'static str, fn(&Host), fn(&Host));

fn reach(host: &Host, state: PageState) {
    host.launching();
    host.page_in(state);
}

fn nothing(_: &Host) {}

fn large(host: &Host) {
    host.give(MEMORY, &private(MEMORY, M2, false));
}

const OPERATIONS: [Operation; 16] = [
    ("RMPUPDATE: shared page stays shared", nothing, |host| {
        host.give(PAGE, &RmpOperand::shared(K4));
    }),
    ("RMPUPDATE: page becomes assigned", nothing, |host| {
        host.give(PAGE, &private(PAGE, K4, false));
    }),
    (
        "RMPUPDATE: page becomes shared",
        |host| reach(host, PageState::GuestValid),
        |host| host.give(PAGE, &RmpOperand::shared(K4)),
    ),
    ("RMPUPDATE that fails", large, |host| {
        assert!(!host.update(MEMORY + 0x3000, &RmpOperand::shared(K4)).is_success());
    }),
    ("RMPREAD", nothing, |host| {
        host.machine.rmpread(CORE, spa(PAGE)).unwrap();
    }),
    ("PSMASH", large, |host| {
        assert!(host.machine.psmash(CORE, spa(MEMORY)).unwrap().status.is_success());
    }),
    ("PVALIDATE", |host| reach(host, PageState::GuestInvalid), |host| host.accept(PAGE)),
    (
        "RMPADJUST",
        |host| reach(host, PageState::GuestValid),
        |host| {
            assert!(host
                .machine
                .rmpadjust(CORE, vmpl(0), &walk(PAGE), 0, 1 | 1 << 8)
                .unwrap()
                .status
                .is_success());
        },
    ),
    (
        "LAUNCH_UPDATE",
        |host| reach(host, PageState::PreGuest),
        |host| {
            host.firmware
                .launch_update(&host.machine, spa(CONTEXT), &LaunchPage::normal(spa(PAGE)))
                .unwrap();
        },
    ),
    ("PAGE_RECLAIM", |host| reach(host, PageState::PreGuest), |host| host.reclaim(PAGE, K4)),
    (
        "PAGE_UNSMASH",
        |host| {
            for at in (0..512).map(|page| MEMORY + page * 4096) {
                host.give(at, &private(at, K4, true));
            }
        },
        |host| host.firmware.page_unsmash(&host.machine, spa(MEMORY)).unwrap(),
    ),
    (
        "PAGE_SET_STATE",
        |host| {
            for at in (0..512).map(|page| MEMORY + page * 4096) {
                host.give(at, &RmpOperand::firmware());
            }
        },
        |host| host.firmware.page_set_state(&host.machine, &[pages(MEMORY, 512)]).unwrap(),
    ),
    ("VMRUN and #VMEXIT", nothing, |host| {
        let pages = VmrunPages {
            hsave: snp_defs::VmHsavePa(0xC000),
            vmcb: spa(PAGE),
            avic: None,
            save_area: snp_model::SaveArea::InVmcb,
        };
        let running = host.machine.vmrun(CORE, &pages).unwrap();
        host.machine.vmexit(running);
    }),
    ("the same value into `RMPOPT_BASE`", nothing, enable),
    ("SNP_SHUTDOWN_EX with `x86_snp_shutdown`, SNP on again", nothing, |host| {
        shut_down(host, true);
        host.machine.enable_snp();
    }),
    ("SNP_SHUTDOWN_EX without, then SNP_INIT_EX that keeps the RMP", nothing, |host| {
        shut_down(host, false);
        let init = snp_model::InitEx::default();
        host.firmware.snp_init_ex(&host.machine, &init).unwrap();
    }),
];

fn shut_down(host: &Host, x86_snp_shutdown: bool) {
    let iommu_snp_shutdown = x86_snp_shutdown;
    let end = ShutdownEx { iommu_snp_shutdown, x86_snp_shutdown, ..ShutdownEx::default() };
    host.firmware.snp_shutdown_ex(&host.machine, &end).unwrap();
}

fn what_clears() -> String {
    let rows = OPERATIONS.map(|(name, prepare, run)| {
        // Negative verdicts are kept, so that a clear shows where the region holds an assigned page.
        let scan_cache = ScanCache { enabled: true, negative: true };
        let unit = UnitConfig { scan_cache, ..UnitConfig::default() };
        let host = Host::with(unit, UpdateOrder::default());
        enable(&host);
        prepare(&host);
        let before = host.machine.rmpopt(CORE, PAGE, VERIFY).unwrap();
        run(&host);
        let bit = host.machine.unit().is_optimised(CORE, spa(PAGE).region());
        let shown = |bit: bool| u8::from(bit).to_string();
        let cached = host.machine.rmpopt(CORE, PAGE, VERIFY).unwrap().cached;
        let void = if cached { "stays" } else { "**void**" };
        let after = if before.cf && !bit { "**0**".to_owned() } else { shown(bit) };
        [name.to_owned(), shown(before.cf), after, void.to_owned()]
    });
    table(&["operation", "bit before", "bit after", "cached verdict"], rows)
}

fn unknown() -> String {
    let config = UnitConfig::default();
    let rows = [
        (
            "Another base in `RMPOPT_BASE`: are the bits cleared?",
            "BaseWrite",
            format!("{:?}", config.base_write),
        ),
        (
            "Enable bit off and on: are they cleared?",
            "EnableToggle",
            format!("{:?}", config.en_toggle),
        ),
        ("RMPOPT outside the window", "OutsideWindow", format!("{:?}", config.outside_window)),
        (
            "Does a follower find the leader's verdict?",
            "ScanCache::enabled",
            config.scan_cache.enabled.to_string(),
        ),
        (
            "Is \"holds an assigned page\" cached too?",
            "ScanCache::negative",
            config.scan_cache.negative.to_string(),
        ),
    ];
    let rows =
        rows.map(|(question, switch, default)| [question.to_owned(), code(switch), code(default)]);
    table(&["question", "switch of the model", "default"], rows)
}
