//! The instructions' checks in their order: tables of the model, each check's code found by breaking it.

use snp_defs::{RmpEntry, RmpOperand, RmpStatus, LARGE_PAGE_BYTES};
use snp_model::{
    Check, Choices, GuestCheck, GuestOrder, GuestStop, Issuer, SmashCheck, SmashOrder, UnitConfig,
    UpdateOrder,
};

use crate::host::{private, spa, vmpl, walk, Host, ASID, CORE, FIXED, K4, M2, MEMORY, PAGE};
use crate::page::{code, table, Page};

pub(crate) fn blocks(page: &mut Page) {
    page.block("order of RMPUPDATE", &update_order());
    page.block("order of PSMASH", &smash_order());
    page.block("order of guests", &guest_order());
}

fn names<T: std::fmt::Debug>(checks: &[T]) -> String {
    checks.iter().map(|check| format!("{check:?}")).collect::<Vec<_>>().join(", ")
}

/// What the check refuses, and an RMPUPDATE that breaks it and no other.
fn broken_update(check: Check) -> (&'static str, RmpStatus) {
    let host = Host::new();
    let operand = private(PAGE, K4, false);
    let large = private(MEMORY, M2, false);
    match check {
        Check::Input => ("bad operand", host.update(PAGE + 8, &operand)),
        Check::Issuer => {
            let guest = Issuer { asid: ASID };
            let update = host.machine.rmpupdate_by(guest, CORE, spa(PAGE), &operand).unwrap();
            ("a guest runs it", update.status)
        }
        Check::Lock => {
            host.give(PAGE, &operand);
            host.machine.edit_entry(spa(PAGE).pfn(), |entry| entry.with_lock(true)).unwrap();
            ("the entry is locked", host.update(PAGE, &RmpOperand::shared(K4)))
        }
        Check::Immutable => ("the entry is immutable", host.update(FIXED, &RmpOperand::shared(K4))),
        Check::Overlap => {
            host.give(MEMORY, &large);
            let inside = private(MEMORY + 0x3000, K4, false);
            (
                "4K inside a 2M page; 2M over a block with an assigned 4K page",
                host.update(MEMORY + 0x3000, &inside),
            )
        }
        Check::SubpageLock => {
            let page = spa(MEMORY + 0x3000).pfn();
            host.machine.edit_entry(page, |entry| entry.with_lock(true)).unwrap();
            ("2M over a free block, another entry of which is locked", host.update(MEMORY, &large))
        }
        Check::SubpageImmutable => {
            let page = spa(MEMORY + 0x3000).pfn();
            host.machine.edit_entry(page, |_| RmpEntry::HV_FIXED).unwrap();
            (
                "2M over a free block, another entry of which is immutable",
                host.update(MEMORY, &large),
            )
        }
    }
}

fn update_order() -> String {
    let rows = UpdateOrder::default().0.into_iter().enumerate().map(|(position, check)| {
        let (refuses, status) = broken_update(check);
        assert!(!status.is_success(), "{check:?}");
        [(position + 1).to_string(), code(format_args!("{check:?}")), refuses.into(), code(status)]
    });
    let rows: Vec<[String; 4]> = rows.collect();
    // What is locked and immutable tells the tables apart.
    let of_firmware = |order| {
        let host = Host::with(UnitConfig::default(), order);
        let at = host.page_in(snp_defs::PageState::FirmwareIommu);
        host.update(at, &RmpOperand::shared(K4))
    };
    let orders = [
        ("SUGGESTED", UpdateOrder::SUGGESTED),
        ("IMMUTABLE_FIRST", UpdateOrder::IMMUTABLE_FIRST),
        ("OVERLAP_FIRST", UpdateOrder::OVERLAP_FIRST),
    ]
    .map(|(name, order)| [code(name), names(&order.0), code(of_firmware(order))]);
    format!(
        "{}\nThe model has three such tables. They differ where several checks fail at once:\n\n{}",
        table(&["", "check", "refuses", "code"], rows),
        table(&["table of the model", "order", "a page that the firmware wrote"], orders)
    )
}

fn broken_smash(check: SmashCheck) -> (&'static str, RmpStatus) {
    let host = Host::new();
    host.give(MEMORY, &private(MEMORY, M2, false));
    let head = spa(MEMORY).pfn();
    let smash = |issuer, at| host.machine.psmash_by(issuer, CORE, spa(at)).unwrap().status;
    match check {
        SmashCheck::Input => {
            ("not 2 MiB aligned, or no entry", smash(Issuer::HOST, MEMORY + 0x1000))
        }
        SmashCheck::Issuer => ("a guest runs it", smash(Issuer { asid: ASID }, MEMORY)),
        SmashCheck::Lock => {
            host.machine.edit_entry(head, |entry| entry.with_lock(true)).unwrap();
            ("the entry is locked", smash(Issuer::HOST, MEMORY))
        }
        SmashCheck::Immutable => {
            host.machine.edit_entry(head, |entry| entry.with_immutable(true)).unwrap();
            ("the entry is immutable", smash(Issuer::HOST, MEMORY))
        }
        SmashCheck::Large => {
            ("no assigned 2M page", smash(Issuer::HOST, MEMORY + LARGE_PAGE_BYTES))
        }
    }
}

fn smash_order() -> String {
    let rows = SmashOrder::SUGGESTED.0.iter().enumerate().map(|(position, &check)| {
        let (refuses, status) = broken_smash(check);
        assert!(!status.is_success(), "{check:?}");
        [(position + 1).to_string(), code(format_args!("{check:?}")), refuses.into(), code(status)]
    });
    table(&["", "check", "refuses", "code"], rows)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Instruction {
    Pvalidate,
    Rmpadjust,
    Rmpquery,
}

/// How the instruction ends.
fn ending<T>(result: Result<T, GuestStop>, status: fn(T) -> RmpStatus) -> String {
    match result.map(status) {
        Ok(status) => code(status),
        Err(GuestStop::NestedFault(fault)) => {
            assert!(fault.rmp());
            if fault.size_mismatch() {
                "NPF, SIZEM".into()
            } else {
                "NPF".into()
            }
        }
        Err(GuestStop::Vc(code)) => format!("#VC {code:#x}"),
        Err(other) => other.to_string(),
    }
}

/// What the check refuses, and how the instruction ends when it alone is broken.
fn broken_guest(check: GuestCheck, by: Instruction) -> (&'static str, String) {
    let host = Host::new();
    let (mut cpu, mut walk) = (vmpl(0), walk(PAGE));
    // RDX of RMPADJUST: VMPL 1, read.
    let (mut size, mut target, mut rights) = (0, 1, 1);
    let mut operand = private(PAGE, K4, false);
    let (mut validated, mut locked) = (true, false);
    let refuses = match check {
        GuestCheck::Input => {
            (size, target) = (2, 9);
            "size, alignment, reserved bits, no such VMPL"
        }
        GuestCheck::Vmpl => {
            cpu.vmpl = 1;
            "PVALIDATE above VMPL 0"
        }
        GuestCheck::Target => {
            target = 0;
            "the target VMPL is not less privileged"
        }
        GuestCheck::PrivateMapping => {
            walk.private = false;
            "mapped with C = 0"
        }
        GuestCheck::Owner => {
            cpu.asid += 1;
            "no entry, or not this guest's page"
        }
        GuestCheck::ReverseMap => {
            walk.gpa = snp_defs::Gpa::new(0x7000).unwrap();
            "assigned for another guest address"
        }
        GuestCheck::Mutable => {
            operand.immutable = 1;
            "immutable"
        }
        GuestCheck::PageSize => {
            (operand, walk.nested) = (private(MEMORY, M2, false), M2);
            "4K asked, the entry is 2M (2M asked, the entry 4K: `FAIL_SIZEMISMATCH`)"
        }
        GuestCheck::NestedSize => panic!("in no table"),
        GuestCheck::InUse => {
            locked = true;
            "locked: a vCPU runs with it"
        }
        GuestCheck::Validated => {
            validated = false;
            "not validated"
        }
        GuestCheck::Subset => {
            (cpu.vmpl, target, rights) = (1, 2, 3);
            "rights that the caller lacks"
        }
    };
    let at = if operand.size() == M2 { MEMORY } else { PAGE };
    host.give(at, &operand);
    let edit = |entry: RmpEntry| entry.with_validated(validated).with_lock(locked);
    host.machine.edit_entry(spa(at).pfn(), edit).unwrap();
    let ends = match by {
        Instruction::Pvalidate => {
            ending(host.machine.pvalidate(CORE, cpu, &walk, size, 0), |done| done.status)
        }
        Instruction::Rmpadjust => {
            let rdx = target | rights << 8;
            ending(host.machine.rmpadjust(CORE, cpu, &walk, size, rdx), |done| done.status)
        }
        Instruction::Rmpquery => {
            ending(host.machine.rmpquery(CORE, cpu, &walk, target), |done| done.status)
        }
    };
    assert_ne!(ends, code(RmpStatus::SUCCESS), "{check:?}");
    (refuses, ends)
}

fn guest_order() -> String {
    let Choices { pvalidate, rmpadjust, rmpquery, .. } = Choices::DEFAULT;
    let of = [
        (pvalidate, Instruction::Pvalidate),
        (rmpadjust, Instruction::Rmpadjust),
        (rmpquery, Instruction::Rmpquery),
    ];
    // RMPADJUST has all checks but PVALIDATE's own; one order serves the three.
    let mut all = rmpadjust.0.to_vec();
    all.insert(1, GuestCheck::Vmpl);
    for (GuestOrder(order), _) in of {
        let places: Vec<_> =
            order.iter().map(|check| all.iter().position(|other| other == check)).collect();
        assert!(places.is_sorted() && places.iter().all(Option::is_some));
    }
    let rows = all.iter().map(|&check| {
        let mut row = vec![code(format_args!("{check:?}"))];
        let mut refuses = "";
        let ends = of.map(|(order, by)| {
            if !order.0.contains(&check) {
                return "-".to_owned();
            }
            let (words, ends) = broken_guest(check, by);
            refuses = words;
            ends
        });
        row.push(refuses.into());
        row.extend(ends);
        row
    });
    table(&["check", "refuses", "PVALIDATE", "RMPADJUST", "RMPQUERY"], rows.collect::<Vec<_>>())
}
