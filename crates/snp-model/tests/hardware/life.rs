//! One guest's life, command by command.

use snp_defs::{FirmwareCommand, FirmwareStatus, RmpOperand};
use snp_model::{Answer, CoreId, GuestPolicy, LaunchPage, PageType};

use crate::host::{gpa, private, spa, vmpl, walk, Host, ASID, CONTEXT, CORE, K4, MEMORY};
use crate::page::{code, table, Page};

pub(crate) fn blocks(page: &mut Page) {
    page.block("life", &life());
    page.block("commands", &commands());
    page.block("firmware codes", &firmware_codes());
}

fn answer(answer: Answer) -> String {
    match answer {
        Ok(()) => code(FirmwareStatus::SUCCESS),
        Err(status) => code(status),
    }
}

fn life() -> String {
    let host = Host::new();
    let Host { machine, firmware } = &host;
    let gctx = spa(CONTEXT);
    // A page of the image, the save area, and a page that the guest gets while it runs.
    let (image, save, later) = (MEMORY + 0x1000, MEMORY + 0x2000, MEMORY + 0x3000);
    let mut rows: Vec<[String; 6]> = Vec::new();
    let mut step = |by: &str, what: String, result: String| {
        let states = [CONTEXT, image, save, later].map(|at| host.state(at).name().to_owned());
        let [context, image, save, later] = states;
        assert!(result.contains("SUCCESS") || result == "done", "{what}: {result}");
        rows.push([
            format!("{by}: {what}"),
            context,
            image,
            save,
            later,
            machine.rmp().assigned_to(ASID).to_string(),
        ]);
    };
    let update = |at, operand: &RmpOperand| code(host.update(at, operand));
    let firmware_page = RmpOperand::firmware();
    step("host", "RMPUPDATE of a page for the firmware".into(), update(CONTEXT, &firmware_page));
    step("firmware", "GCTX_CREATE".into(), answer(firmware.gctx_create(machine, gctx)));
    let policy = GuestPolicy::default();
    step("firmware", "LAUNCH_START".into(), answer(firmware.launch_start(machine, gctx, policy)));
    step(
        "firmware",
        format!("ACTIVATE, ASID {ASID}"),
        answer(firmware.activate(machine, gctx, ASID)),
    );
    step(
        "host",
        "RMPUPDATE of an image page, immutable".into(),
        update(image, &private(image, K4, true)),
    );
    let page = LaunchPage::normal(spa(image));
    step(
        "firmware",
        "LAUNCH_UPDATE of it".into(),
        answer(firmware.launch_update(machine, gctx, &page)),
    );
    let save_area = RmpOperand::private(gpa(0xFFFF_FFFF_F000), K4, ASID, true);
    step("host", "RMPUPDATE of the save area, immutable".into(), update(save, &save_area));
    let page = LaunchPage { page_type: PageType::Vmsa, ..LaunchPage::normal(spa(save)) };
    step(
        "firmware",
        "LAUNCH_UPDATE of it as VMSA".into(),
        answer(firmware.launch_update(machine, gctx, &page)),
    );
    step(
        "firmware",
        "LAUNCH_FINISH".into(),
        answer(firmware.launch_finish(machine, gctx, false, None)),
    );
    step(
        "host",
        "RMPUPDATE of a page that the guest asked for".into(),
        update(later, &private(later, K4, false)),
    );
    let accepted = machine.pvalidate(CORE, vmpl(0), &walk(later), 0, 1).unwrap();
    step("guest", "PVALIDATE of it".into(), code(accepted.status));
    step("firmware", "DECOMMISSION".into(), answer(firmware.decommission(machine, gctx)));
    let reclaimed = firmware.page_reclaim(machine, CONTEXT);
    step("firmware", "PAGE_RECLAIM of the context page".into(), answer(reclaimed));
    step(
        "host",
        "RMPUPDATE of it to the hypervisor".into(),
        update(CONTEXT, &RmpOperand::shared(K4)),
    );
    for (at, what) in
        [(later, "the page that came later"), (image, "the image page"), (save, "the save area")]
    {
        let shared = update(at, &RmpOperand::shared(K4));
        step("host", format!("RMPUPDATE of {what} to the hypervisor"), shared);
    }
    assert_eq!(firmware.df_flush(machine), Err(FirmwareStatus::WBINVD_REQUIRED));
    (0..2).map(CoreId).for_each(|core| firmware.wbinvd(core));
    step("host", "WBINVD on every core".into(), "done".into());
    step(
        "firmware",
        "DF_FLUSH: the ASID can be used again".into(),
        answer(firmware.df_flush(machine)),
    );
    let header =
        ["step", "context page", "image page", "save area", "later page", "pages of ASID 5"];
    table(&header, rows)
}

/// Commands of a platform's and a guest's life, in their order, and those that the model has not.
fn commands() -> String {
    let here = [
        (FirmwareCommand::SNP_INIT_EX, "builds the RMP"),
        (FirmwareCommand::SNP_GCTX_CREATE, "a Firmware page becomes a guest's context"),
        (FirmwareCommand::SNP_LAUNCH_START, "the guest's launch begins, with its policy"),
        (
            FirmwareCommand::SNP_ACTIVATE,
            "binds the guest to an ASID that has no pages and is not dirty",
        ),
        (FirmwareCommand::SNP_LAUNCH_UPDATE, "encrypts and measures a Pre-guest page"),
        (FirmwareCommand::SNP_LAUNCH_FINISH, "the guest may run"),
        (FirmwareCommand::SNP_GUEST_STATUS, "tells of a guest"),
        (FirmwareCommand::SNP_DECOMMISSION, "ends the guest; its ASID is dirty"),
        (
            FirmwareCommand::SNP_DF_FLUSH,
            "dirty ASIDs can be used again, after WBINVD on every core",
        ),
        (FirmwareCommand::SNP_PAGE_RECLAIM, "clears a page's immutable bit"),
        (FirmwareCommand::SNP_PAGE_UNSMASH, "joins 512 Pre-guest or Pre-swap pages"),
        (FirmwareCommand::SNP_PAGE_SET_STATE, "Firmware pages become HV-fixed"),
        (FirmwareCommand::SNP_PLATFORM_STATUS, "tells of the platform"),
        (FirmwareCommand::SNP_SHUTDOWN_EX, "ends SNP"),
    ];
    let host = Host::new();
    let id = |command: FirmwareCommand| code(format_args!("{:#04x}", command.0));
    let mut rows: Vec<[String; 3]> = here
        .iter()
        .map(|(command, what)| [id(*command), code(command.name().unwrap()), (*what).to_owned()])
        .collect();
    let absent = FirmwareCommand::KNOWN.iter().filter(|command| {
        // SNP_INIT, SNP_SHUTDOWN and the legacy flush are the commands above in an older form.
        let older =
            [FirmwareCommand::DF_FLUSH, FirmwareCommand::SNP_INIT, FirmwareCommand::SNP_SHUTDOWN];
        !older.contains(command) && here.iter().all(|(other, _)| other != *command)
    });
    for &command in absent {
        let answer = code(host.firmware.not_modelled(command));
        rows.push([
            id(command),
            code(command.name().unwrap()),
            format!("not modelled, answers {answer}"),
        ]);
    }
    table(&["id", "command", "what it does"], rows)
}

fn firmware_codes() -> String {
    let names: Vec<String> = FirmwareStatus::KNOWN
        .iter()
        .map(|status| format!("{:#x} {}", status.0, status.name().unwrap()))
        .collect();
    format!("{}.", names.join(", "))
}
