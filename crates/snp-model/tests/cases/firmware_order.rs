//! The order of the firmware's checks: several rules broken at once, the first one's code is the
//! answer (spec/snp-arch.md 4.3, 4.4; where it has no order, docs/not-modelled.md).

use snp_defs::{FirmwareStatus as Status, Hwcr, RmpOperand, VmHsavePa};
use snp_model::{Answer, FirmwareStorage, GuestPolicy, InitEx, ShutdownEx};

use super::support::*;

const INVALID_PARAM: Answer = Err(Status::INVALID_PARAM);
const INVALID_ADDRESS: Answer = Err(Status::INVALID_ADDRESS);
const NO_PLATFORM: Answer = Err(Status::INVALID_PLATFORM_STATE);

#[test]
fn page_reclaim() {
    let reclaim = |host: &Host, address| host.firmware.page_reclaim(&host.machine, address);
    let cold = Setup::default().cold();
    assert_eq!(reclaim(&cold, RMP | 8), INVALID_PARAM, "reserved bits before the platform's state");
    assert_eq!(reclaim(&cold, RMP), NO_PLATFORM, "the platform's state before the address");
    let host = host();
    assert_eq!(reclaim(&host, 1 << 60 | 1), INVALID_ADDRESS, "the range before the entry");
    assert_eq!(reclaim(&host, (RMP + 0x1000) | 1), INVALID_PARAM, "the RMP before sizes");
    assert_eq!(reclaim(&host, (UNCOVERED + 0x1000) | 1), INVALID_STATE, "no entry before sizes");
    assert_eq!(reclaim(&host, 0x1000 | 1), INVALID_SIZE, "size before alignment");
    host.give(BLOCK, &private_2m(0, 3));
    assert_eq!(reclaim(&host, (BLOCK + 0x1000) | 1), INVALID_ADDRESS, "alignment before mutable");
    assert_eq!(reclaim(&host, BLOCK | 1), Ok(()), "mutable");
    host.context(0x2000);
    assert_eq!(reclaim(&host, 0x2000 | 1), INVALID_SIZE, "size before state");
    assert_eq!(reclaim(&host, 0x2000), INVALID_STATE);
}

#[test]
fn gctx_create() {
    let create = |host: &Host, at| host.firmware.gctx_create(&host.machine, spa(at));
    assert_eq!(create(&Setup::default().cold(), 0x1008), NO_PLATFORM);
    let host = host();
    assert_eq!(create(&host, FIXED + 8), INVALID_ADDRESS, "alignment before RAM");
    assert_eq!(create(&host, UNCOVERED), INVALID_CONFIG, "RAM before state");
    assert_eq!(create(&host, RMP), INVALID_PARAM, "the RMP before its state");
    host.give(BLOCK, &private_2m(0, 3));
    assert_eq!(create(&host, BLOCK), INVALID_STATE, "state before size");
}

#[test]
fn activate() {
    let host = host();
    let activate = |gctx, asid| host.firmware.activate(&host.machine, gctx, asid);
    let start = |at| {
        let gctx = host.context(at);
        let policy = GuestPolicy::default();
        assert_eq!(host.firmware.launch_start(&host.machine, gctx, policy), Ok(()));
        gctx
    };
    let dying = host.launching(0x1000, 3);
    let owner = host.launching(0x2000, 4);
    let early = host.context(0x3000);
    let late = start(0x4000);
    assert_eq!(activate(early, 0), Err(Status::INVALID_GUEST_STATE), "the guest's state first");
    assert_eq!(activate(dying, 4), Err(Status::ASID_OWNED), "owned before active");
    assert_eq!(activate(owner, 0), Err(Status::INVALID_ASID), "the ASID before active");
    host.give(0x8000, &private(0, 3));
    assert_eq!(host.firmware.decommission(&host.machine, dying), Ok(()));
    assert_eq!(activate(owner, 3), Err(Status::ACTIVE), "active before dirty");
    assert_eq!(activate(late, 3), Err(Status::DFFLUSH_REQUIRED), "dirty before pages");
    host.wbinvd_everywhere();
    assert_eq!(host.firmware.df_flush(&host.machine), Ok(()));
    assert_eq!(activate(late, 3), INVALID_CONFIG, "pages");
}

#[test]
fn launch_start_and_status() {
    let host = host();
    let start = |gctx, policy| host.firmware.launch_start(&host.machine, gctx, policy);
    let too_new = GuestPolicy(0xFF << 8);
    assert_eq!(start(spa(0x9000), too_new), Err(Status::INVALID_GUEST));
    let gctx = host.launching(0x1000, 3);
    assert_eq!(start(gctx, too_new), Err(Status::INVALID_GUEST_STATE), "state before policy");
    let status = host.firmware.guest_status(&host.machine, spa(0x9000), spa(0x9000));
    assert_eq!(status, Err(Status::INVALID_GUEST), "the guest before the output page");
}

#[test]
fn page_unsmash_and_set_state() {
    let cold = Setup::default().cold();
    assert_eq!(cold.firmware.page_unsmash(&cold.machine, spa(0x1000)), NO_PLATFORM);
    let host = host();
    let unsmash = |at| host.firmware.page_unsmash(&host.machine, spa(at));
    assert_eq!(unsmash(RMP + 0x1000), INVALID_PARAM, "alignment, the RMP");
    assert_eq!(unsmash(RMP), INVALID_PARAM, "the RMP before the entries");
    let set = |ranges: &[_]| host.firmware.page_set_state(&host.machine, ranges);
    let odd = pages(BLOCK, 511);
    assert_eq!(set(&[pages(0, 512), odd]), INVALID_PARAM, "every range before any page's state");
    assert_eq!(set(&[pages(RMP, 512)]), INVALID_PARAM, "the RMP before states");
}

#[test]
fn snp_init_ex() {
    let host = Setup::default().cold();
    let regs = &host.firmware.storage().cores()[1];
    let init = |change: &dyn Fn(&mut InitEx<'_>)| host.init(change);
    let everything_wrong = |init: &mut InitEx<'_>| {
        (init.reserved, init.init_rmp) = (1, false);
    };
    host.firmware.set_sev_initialised(true);
    regs.set_hwcr(Hwcr(0));
    regs.set_hsave(VmHsavePa(0x9000));
    assert_eq!(init(&everything_wrong), NO_PLATFORM, "the platform's state first");
    host.firmware.set_sev_initialised(false);
    assert_eq!(init(&everything_wrong), INVALID_PARAM, "reserved bits before registers");
    assert_eq!(init(&|init| init.init_rmp = false), INVALID_CONFIG, "registers before the RMP");
    regs.set_hwcr(Hwcr(Hwcr::SMM_LOCK));
    let kept = init(&|init| init.init_rmp = false);
    assert_eq!(kept, Err(Status::RMP_INIT_REQUIRED), "VM_HSAVE_PA only where a new RMP is built");
    assert_eq!(init(&|_| {}), INVALID_CONFIG, "VM_HSAVE_PA");
    regs.set_hsave(VmHsavePa(0));
    assert_eq!(init(&|_| {}), Ok(()));
}

#[test]
fn snp_shutdown_ex() {
    let host = host();
    let gctx = host.launching(0x1000, 3);
    host.give(0x2000, &RmpOperand::firmware());
    assert_eq!(host.firmware.decommission(&host.machine, gctx), Ok(()));
    let shutdown = |reserved| {
        let end = ShutdownEx { reserved, ..ShutdownEx::default() };
        host.firmware.snp_shutdown_ex(&host.machine, &end)
    };
    host.firmware.set_sev_initialised(true);
    assert_eq!(shutdown(1), NO_PLATFORM, "the platform's state first");
    host.firmware.set_sev_initialised(false);
    assert_eq!(shutdown(1), INVALID_PARAM, "reserved bits before dirty ASIDs");
    assert_eq!(shutdown(0), Err(Status::DFFLUSH_REQUIRED));
}
