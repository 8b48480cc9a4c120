//! Who is checked when, how a refusal looks, the 2 MiB rule, VMRUN.

use snp_defs::{PageSize, PageState, RmpOperand, VmHsavePa};
use snp_model::{
    AccessKind, Accessor, DeviceVerdict, GuestAccess, GuestCpu, GuestStop, SaveArea, Verdict,
    VmrunPages, VmrunStop, Walk,
};

use crate::host::{
    gpa, guest_address, private, spa, vmpl, walk, Host, ASID, CORE, K4, M2, MEMORY, OTHER_ASID,
    PAGE,
};
use crate::page::{code, table, Page};

pub(crate) fn blocks(page: &mut Page) {
    page.block("matrix", &matrix());
    page.block("refusals", &refusals());
    page.block("two mebibytes", &two_mebibytes());
    page.block("VMRUN", &vmrun());
}

/// Whose page is accessed.
#[derive(Clone, Copy)]
enum Target {
    In(PageState),
    OtherGuests,
}

const TARGETS: [(&str, Target); 6] = [
    ("hypervisor's", Target::In(PageState::Hypervisor)),
    ("guest 5's, valid", Target::In(PageState::GuestValid)),
    ("guest 5's, not validated", Target::In(PageState::GuestInvalid)),
    ("guest 5's, immutable", Target::In(PageState::PreSwap)),
    ("guest 6's, valid", Target::OtherGuests),
    ("firmware's", Target::In(PageState::Firmware)),
];

impl Target {
    fn on(self, host: &Host) -> u64 {
        host.launching();
        match self {
            Self::In(state) => host.page_in(state),
            Self::OtherGuests => {
                let guest = gpa(guest_address(PAGE));
                host.give(PAGE, &RmpOperand::private(guest, K4, OTHER_ASID, false));
                let cpu = GuestCpu { asid: OTHER_ASID, vmpl: 0 };
                host.machine.pvalidate(CORE, cpu, &walk(PAGE), 0, 1).unwrap();
                PAGE
            }
        }
    }
}

/// Who does what, and how it ends on a page.
type Access = (&'static str, &'static str, fn(&Host, u64) -> String);

fn of_host(host: &Host, at: u64, accessor: Accessor, kind: AccessKind) -> String {
    match host.machine.check_access(CORE, accessor, kind, spa(at), K4).verdict {
        Verdict::Allowed => "yes".into(),
        Verdict::PageFault(_) => "**#PF**".into(),
        Verdict::NestedPageFault(_) => "**NPF**".into(),
    }
}

fn of_guest(host: &Host, at: u64, access: GuestAccess, private: bool) -> String {
    match host.machine.check_guest(CORE, vmpl(0), access, &Walk { private, ..walk(at) }).verdict {
        Ok(()) => "yes".into(),
        Err(GuestStop::NestedFault(_)) => "**NPF**".into(),
        Err(GuestStop::Vc(_)) => "**#VC**".into(),
        Err(other) => other.to_string(),
    }
}

const ACCESSES: [Access; 10] = [
    ("host", "write", |host, at| of_host(host, at, Accessor::HostKernel, AccessKind::Write)),
    ("host", "page-table walk", |host, at| of_host(host, at, Accessor::HostWalk, AccessKind::Read)),
    ("host", "read, fetch", |host, at| {
        let read = of_host(host, at, Accessor::HostKernel, AccessKind::Read);
        assert_eq!(read, of_host(host, at, Accessor::HostKernel, AccessKind::Fetch));
        read
    }),
    ("ordinary guest", "write", |host, at| of_host(host, at, Accessor::Guest, AccessKind::Write)),
    ("ordinary guest", "page-table walk", |host, at| {
        of_host(host, at, Accessor::GuestWalk, AccessKind::Read)
    }),
    ("ordinary guest", "read, fetch", |host, at| {
        of_host(host, at, Accessor::Guest, AccessKind::Read)
    }),
    ("SNP guest 5", "private read, write, fetch, walk", |host, at| {
        let fetch = GuestAccess::Fetch { user: true };
        let walk = GuestAccess::TableWalk { update: false };
        let ends = [GuestAccess::Read, GuestAccess::Write, fetch, walk]
            .map(|access| of_guest(host, at, access, true));
        assert!(ends.iter().all(|end| *end == ends[0]));
        let [end, ..] = ends;
        end
    }),
    ("SNP guest 5", "shared write (C = 0)", |host, at| {
        of_guest(host, at, GuestAccess::Write, false)
    }),
    ("SNP guest 5", "shared read (C = 0)", |host, at| of_guest(host, at, GuestAccess::Read, false)),
    ("device", "write", |host, at| match host.machine.check_device_write(spa(at)) {
        DeviceVerdict::Allowed => "yes".into(),
        DeviceVerdict::Aborted { event } => format!("**event {event:#x}**"),
    }),
];

fn matrix() -> String {
    let mut header = vec!["who", "access"];
    header.extend(TARGETS.map(|(name, _)| name));
    let rows = ACCESSES.map(|(who, access, run)| {
        let mut row = vec![who.to_owned(), access.to_owned()];
        row.extend(TARGETS.map(|(_, target)| {
            let host = Host::new();
            let at = target.on(&host);
            run(&host, at)
        }));
        row
    });
    table(&header, rows)
}

fn stopped(result: Result<(), GuestStop>) -> (String, String) {
    match result {
        Ok(()) => panic!("nothing was refused"),
        Err(GuestStop::NestedFault(fault)) => ("NPF".into(), code(fault)),
        Err(GuestStop::Vc(error)) => ("#VC".into(), code(format_args!("{error:#x}"))),
        Err(other) => (other.to_string(), String::new()),
    }
}

fn refusals() -> String {
    let host = Host::new();
    host.launching();
    let valid = host.page_in(PageState::GuestValid);
    let refused = |accessor| match host.machine.check_write(CORE, accessor, spa(valid), K4).verdict
    {
        Verdict::PageFault(fault) => ("#PF".to_owned(), code(fault)),
        Verdict::NestedPageFault(fault) => ("NPF".to_owned(), code(fault)),
        Verdict::Allowed => panic!("nothing was refused"),
    };
    let guest = |level, access, walk: Walk| {
        stopped(host.machine.check_guest(CORE, vmpl(level), access, &walk).verdict)
    };
    let own = walk(valid);
    let other = gpa(own.gpa.get() + 0x1000);
    let invalid = MEMORY + 0x4000;
    host.give(invalid, &private(invalid, K4, false));
    let rows = [
        ("the host's kernel writes to a guest's page", refused(Accessor::HostKernel)),
        ("a host process does", refused(Accessor::HostUser)),
        ("an ordinary guest does", refused(Accessor::Guest)),
        ("an ordinary guest's page table lies there", refused(Accessor::GuestWalk)),
        (
            "the SNP guest writes to its private page with C = 0",
            guest(0, GuestAccess::Write, Walk { private: false, ..own }),
        ),
        (
            "reads a page mapped at another guest address",
            guest(0, GuestAccess::Read, Walk { gpa: other, ..own }),
        ),
        (
            "reads a 4K page through a 2M nested leaf",
            guest(0, GuestAccess::Read, Walk { nested: M2, ..own }),
        ),
        ("reads a page that it has not validated", guest(0, GuestAccess::Read, walk(invalid))),
        ("VMPL 1 reads without the right", guest(1, GuestAccess::Read, own)),
    ];
    let rows = rows.map(|(what, (event, bits))| [what.to_owned(), event, bits]);
    table(&["what happens", "event", "code and its bits"], rows)
}

fn two_mebibytes() -> String {
    let host = Host::new();
    let write = |at, size: PageSize| match host
        .machine
        .check_write(CORE, Accessor::HostKernel, spa(at), size)
        .verdict
    {
        Verdict::Allowed => "yes".to_owned(),
        Verdict::PageFault(fault) => format!("#PF {}", code(fault)),
        Verdict::NestedPageFault(_) => panic!("the host has no nested faults"),
    };
    let (one, beside) = (MEMORY + 0x3000, MEMORY + 0x9000);
    let row = |what: &str| {
        let head = host.entry(MEMORY).unwrap();
        [
            what.to_owned(),
            if head.page_size() == M2 { "2M".into() } else { "4K".into() },
            head.subpage_count().to_string(),
            write(beside, K4),
            write(beside, M2),
        ]
    };
    let mut rows = vec![row("all pages are the hypervisor's")];
    host.give(one, &private(one, K4, false));
    rows.push(row("one 4K page (offset 0x3000) is assigned"));
    host.give(one, &RmpOperand::shared(K4));
    rows.push(row("it is given back"));
    host.give(MEMORY, &private(MEMORY, M2, false));
    rows.push(row("the block is assigned as one 2M page"));
    assert!(host.machine.psmash(CORE, spa(MEMORY)).unwrap().status.is_success());
    rows.push(row("PSMASH"));
    host.give(beside, &RmpOperand::shared(K4));
    rows.push(row("the page at 0x9000 is given back"));
    let header =
        ["then", "head's size", "count", "host writes 0x9000 through a 4K mapping", "through 2M"];
    table(&header, rows)
}

fn vmrun() -> String {
    let (vmcb, avic, save) = (MEMORY + 0x8000, MEMORY + 0x9000, MEMORY + 0xA000);
    let guests_page = MEMORY + 0xB000;
    let host = Host::new();
    for at in [save, guests_page] {
        host.give(at, &private(at, K4, false));
        host.accept(at);
    }
    let good = VmrunPages {
        hsave: VmHsavePa(0xC000),
        vmcb: spa(vmcb),
        avic: Some(spa(avic)),
        save_area: SaveArea::Snp { vmsa: spa(save), gpa: gpa(guest_address(save)), asid: ASID },
    };
    let run = |pages: VmrunPages| match host.machine.vmrun(CORE, &pages) {
        Ok(running) => {
            host.machine.vmexit(running);
            "runs".to_owned()
        }
        Err(VmrunStop::Exception(exception)) => exception.to_string(),
        Err(VmrunStop::ExitInvalid) => "#VMEXIT(INVALID)".into(),
        Err(VmrunStop::NotReserved(region)) => panic!("region {region} is not reserved"),
    };
    let without_vmsa = run(good);
    host.machine.edit_entry(spa(save).pfn(), |entry| entry.with_vmsa(true)).unwrap();
    let snp = |vmsa, guest, asid| SaveArea::Snp { vmsa: spa(vmsa), gpa: gpa(guest), asid };
    let address = guest_address(save);
    let rows = [
        ("all pages as they should be", run(good)),
        ("`VM_HSAVE_PA` is 0", run(VmrunPages { hsave: VmHsavePa(0), ..good })),
        ("the VMCB is not the hypervisor's", run(VmrunPages { vmcb: spa(guests_page), ..good })),
        (
            "the AVIC page is not the hypervisor's",
            run(VmrunPages { avic: Some(spa(guests_page)), ..good }),
        ),
        (
            "an SEV-ES guest's save area is not the hypervisor's",
            run(VmrunPages { save_area: SaveArea::Encrypted(spa(guests_page)), ..good }),
        ),
        ("an SNP guest's save area has no VMSA bit", without_vmsa),
        (
            "... is for another guest address",
            run(VmrunPages { save_area: snp(save, address + 0x1000, ASID), ..good }),
        ),
        (
            "... is another guest's",
            run(VmrunPages { save_area: snp(save, address, OTHER_ASID), ..good }),
        ),
    ];
    let mut rows: Vec<[String; 2]> = rows.map(|(what, ends)| [what.to_owned(), ends]).into();
    let running = host.machine.vmrun(CORE, &good).unwrap();
    let status = host.update(vmcb, &private(vmcb, K4, false));
    host.machine.vmexit(running);
    rows.push(["RMPUPDATE of the VMCB while the vCPU runs".into(), code(status)]);
    let status = host.update(vmcb, &private(vmcb, K4, false));
    rows.push(["RMPUPDATE of it after #VMEXIT".into(), code(status)]);
    table(&["VMRUN where", "ends"], rows)
}
