//! What each instruction and command makes of a page in each state.

use snp_defs::{FirmwareStatus, PageState, RmpOperand};
use snp_model::{Answer, GuestStop, LaunchPage, PfnRange, ShutdownEx};

use crate::host::{
    gpa, guest_address, pages, private, spa, vmpl, walk, Host, ASID, CONTEXT, CORE, K4, M2, MEMORY,
    PAGE, STATES,
};
use crate::page::{table, Page};

/// Who acts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Actor {
    Host,
    Guest,
    Firmware,
}

/// An action on one page: `Ok` if it succeeded, else the refusal in words.
struct Action {
    name: &'static str,
    /// Heading of its column.
    heading: &'static str,
    actor: Actor,
    run: fn(&Host, u64) -> Result<(), String>,
}

/// A way from one state to another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Edge {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) by: &'static str,
    pub(crate) actor: Actor,
}

fn updated(host: &Host, at: u64, operand: &RmpOperand) -> Result<(), String> {
    match host.update(at, operand) {
        status if status.is_success() => Ok(()),
        status => Err(status.0.to_string()),
    }
}

fn assigned(host: &Host, at: u64, asid: u32, immutable: bool) -> Result<(), String> {
    let guest = if asid == 0 { 0 } else { guest_address(at) };
    updated(host, at, &RmpOperand::private(gpa(guest), K4, asid, immutable))
}

fn stopped(stop: GuestStop) -> String {
    match stop {
        GuestStop::NestedFault(_) => "NPF".into(),
        GuestStop::Vc(_) => "#VC".into(),
        other => other.to_string(),
    }
}

fn answered(answer: Answer) -> Result<(), String> {
    answer.map_err(|status| status.name().map_or_else(|| status.to_string(), ToOwned::to_owned))
}

const HOSTS: [Action; 5] = [
    Action {
        name: "RMPUPDATE",
        heading: "to the hypervisor",
        actor: Actor::Host,
        run: |host, at| updated(host, at, &RmpOperand::shared(K4)),
    },
    Action {
        name: "RMPUPDATE",
        heading: "ASID 0",
        actor: Actor::Host,
        run: |host, at| assigned(host, at, 0, false),
    },
    Action {
        name: "RMPUPDATE",
        heading: "ASID 0, immutable",
        actor: Actor::Host,
        run: |host, at| assigned(host, at, 0, true),
    },
    Action {
        name: "RMPUPDATE",
        heading: "ASID 5",
        actor: Actor::Host,
        run: |host, at| assigned(host, at, ASID, false),
    },
    Action {
        name: "RMPUPDATE",
        heading: "ASID 5, immutable",
        actor: Actor::Host,
        run: |host, at| assigned(host, at, ASID, true),
    },
];

const GUESTS: [Action; 4] = [
    Action {
        name: "PVALIDATE",
        heading: "PVALIDATE 1",
        actor: Actor::Guest,
        run: |host, at| pvalidate(host, at, 1),
    },
    Action {
        name: "PVALIDATE",
        heading: "PVALIDATE 0",
        actor: Actor::Guest,
        run: |host, at| pvalidate(host, at, 0),
    },
    Action {
        name: "RMPADJUST",
        heading: "RMPADJUST",
        actor: Actor::Guest,
        run: |host, at| {
            let done =
                host.machine.rmpadjust(CORE, vmpl(0), &walk(at), 0, 1 | 1 << 8).map_err(stopped)?;
            if done.status.is_success() {
                Ok(())
            } else {
                Err(done.status.0.to_string())
            }
        },
    },
    Action {
        name: "RMPQUERY",
        heading: "RMPQUERY",
        actor: Actor::Guest,
        run: |host, at| {
            let query = host.machine.rmpquery(CORE, vmpl(0), &walk(at), 1).map_err(stopped)?;
            if query.status.is_success() {
                Ok(())
            } else {
                Err(query.status.0.to_string())
            }
        },
    },
];

fn pvalidate(host: &Host, at: u64, validate: u64) -> Result<(), String> {
    let done = host.machine.pvalidate(CORE, vmpl(0), &walk(at), 0, validate).map_err(stopped)?;
    match (done.status.is_success(), done.carry) {
        (true, false) => Ok(()),
        (true, true) => Err("0, CF = 1".into()),
        (false, _) => Err(done.status.0.to_string()),
    }
}

const COMMANDS: [Action; 6] = [
    Action {
        name: "GCTX_CREATE",
        heading: "GCTX_CREATE",
        actor: Actor::Firmware,
        run: |host, at| answered(host.firmware.gctx_create(&host.machine, spa(at))),
    },
    Action {
        name: "LAUNCH_UPDATE",
        heading: "LAUNCH_UPDATE",
        actor: Actor::Firmware,
        run: |host, at| {
            answered(host.firmware.launch_update(
                &host.machine,
                spa(CONTEXT),
                &LaunchPage::normal(spa(at)),
            ))
        },
    },
    Action {
        name: "DECOMMISSION",
        heading: "DECOMMISSION",
        actor: Actor::Firmware,
        run: |host, at| answered(host.firmware.decommission(&host.machine, spa(at))),
    },
    Action {
        name: "PAGE_RECLAIM",
        heading: "PAGE_RECLAIM",
        actor: Actor::Firmware,
        run: |host, at| answered(host.firmware.page_reclaim(&host.machine, at)),
    },
    Action {
        name: "PLATFORM_STATUS",
        heading: "PLATFORM_STATUS into it",
        actor: Actor::Firmware,
        run: |host, at| answered(host.firmware.platform_status(&host.machine, spa(at))),
    },
    Action {
        name: "SNP_SHUTDOWN_EX",
        heading: "SNP_SHUTDOWN_EX",
        actor: Actor::Firmware,
        run: |host, at| {
            let iommu = [pages(at, 1)];
            let end =
                ShutdownEx { iommu_snp_shutdown: true, iommu: &iommu, ..ShutdownEx::default() };
            answered(host.firmware.snp_shutdown_ex(&host.machine, &end))
        },
    },
];

/// The state after the action, or the refusal.
fn after(state: PageState, action: &Action) -> Result<PageState, String> {
    let host = Host::new();
    host.launching();
    let at = host.page_in(state);
    (action.run)(&host, at)?;
    Ok(host.state(at))
}

fn matrix(actions: &[Action]) -> String {
    let mut header = vec!["state before"];
    header.extend(actions.iter().map(|action| action.heading));
    let rows = STATES.map(|state| {
        let mut row = vec![state.name().to_owned()];
        row.extend(actions.iter().map(|action| match after(state, action) {
            Ok(same) if same == state => "no change".to_owned(),
            Ok(new) => format!("**{new}**"),
            Err(refusal) => refusal.replace("INVALID_", ""),
        }));
        row
    });
    table(&header, rows)
}

pub(crate) fn blocks(page: &mut Page) {
    page.block("host edges", &matrix(&HOSTS));
    page.block("guest edges", &matrix(&GUESTS));
    page.block("firmware edges", &matrix(&COMMANDS));
    page.block("block edges", &blocks_of_512());
}

/// An operation on a 2 MiB block: name, preparation, itself.
type BlockOperation = (&'static str, fn(&Host), fn(&Host) -> Result<(), String>);

/// What works on a whole 2 MiB block.
fn blocks_of_512() -> String {
    let shown = |host: &Host| {
        let head = host.entry(MEMORY).unwrap();
        let size = if head.page_size() == M2 { "one 2M page" } else { "512 pages of 4K" };
        format!("{size}, {}, count {}", host.state(PAGE - (2 << 20)), head.subpage_count())
    };
    let each = |host: &Host, operand: fn(u64) -> RmpOperand| {
        for at in (0..512).map(|page| MEMORY + page * 4096) {
            host.give(at, &operand(at));
        }
    };
    let rows: [BlockOperation; 5] = [
        (
            "RMPUPDATE of 2M, ASID 5",
            |_| {},
            |host| updated(host, MEMORY, &private(MEMORY, M2, false)),
        ),
        (
            "PSMASH",
            |host| {
                host.give(MEMORY, &private(MEMORY, M2, false));
                let large = snp_model::Walk { nested: M2, ..walk(MEMORY) };
                host.machine.pvalidate(CORE, vmpl(0), &large, 1, 1).unwrap();
            },
            |host| match host.machine.psmash(CORE, spa(MEMORY)).unwrap().status {
                status if status.is_success() => Ok(()),
                status => Err(status.to_string()),
            },
        ),
        (
            "RMPUPDATE of one 4K page to the hypervisor",
            |host| {
                host.give(MEMORY, &private(MEMORY, M2, false));
                host.machine.psmash(CORE, spa(MEMORY)).unwrap();
            },
            |host| updated(host, MEMORY + 0x5000, &RmpOperand::shared(K4)),
        ),
        (
            "PAGE_UNSMASH",
            |_| {},
            |host| answered(host.firmware.page_unsmash(&host.machine, spa(MEMORY))),
        ),
        (
            "PAGE_SET_STATE",
            |_| {},
            |host| {
                let block: [PfnRange; 1] = [pages(MEMORY, 512)];
                answered(host.firmware.page_set_state(&host.machine, &block))
            },
        ),
    ];
    let rows = rows.map(|(name, prepare, run)| {
        let host = Host::new();
        prepare(&host);
        match name {
            "PAGE_UNSMASH" => each(&host, |at| private(at, K4, true)),
            "PAGE_SET_STATE" => each(&host, |_| RmpOperand::firmware()),
            _ => {}
        }
        let before = shown(&host);
        run(&host).unwrap();
        [name.to_owned(), before, shown(&host)]
    });
    table(&["operation", "block before", "block after"], rows)
}

/// Every edge between two states that an action on one page or block makes.
pub(crate) fn found() -> Vec<Edge> {
    let mut edges = Vec::new();
    for state in STATES {
        for action in HOSTS.iter().chain(&GUESTS).chain(&COMMANDS) {
            if let Ok(new) = after(state, action) {
                if new != state {
                    edges.push(Edge {
                        from: state.name(),
                        to: new.name(),
                        by: action.name,
                        actor: action.actor,
                    });
                }
            }
        }
    }
    let host = Host::new();
    for at in (0..512).map(|page| MEMORY + page * 4096) {
        host.give(at, &RmpOperand::firmware());
    }
    let from = host.state(MEMORY).name();
    let done: Result<(), FirmwareStatus> =
        host.firmware.page_set_state(&host.machine, &[pages(MEMORY, 512)]);
    done.unwrap();
    edges.push(Edge {
        from,
        to: host.state(MEMORY).name(),
        by: "PAGE_SET_STATE",
        actor: Actor::Firmware,
    });
    edges.sort_unstable();
    edges.dedup();
    edges
}
