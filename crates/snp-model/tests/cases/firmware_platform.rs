//! Cases 61 to 65 and 83 to 85: the platform's life.

use snp_defs::{
    FirmwareCommand, FirmwareStatus as Status, Hwcr, PageState, RmpOperand, RmpStatus, Syscfg,
    VmHsavePa,
};
use snp_model::{
    ApiVersion, CoreId, FirmwareChoices, FirmwareStorage, PfnRange, ShutdownEx, Verdict,
};

use super::support::*;

const OTHER: usize = 1;

#[test]
pub(super) fn case_061_one_core_without_snp() {
    let host = Setup::default().cold();
    let regs = &host.firmware.storage().cores()[OTHER];
    for bit in [
        Syscfg::SNP_EN,
        Syscfg::VMPL_EN,
        Syscfg::MEM_ENCRYPTION_MOD_EN,
        Syscfg::MTRR_FIX_DRAM_MOD_EN,
    ] {
        regs.set_syscfg(Syscfg(Syscfg::SNP_INIT_NEEDS & !bit));
        assert_eq!(host.init(&|_| {}), INVALID_CONFIG);
    }
    regs.set_syscfg(Syscfg(Syscfg::SNP_INIT_NEEDS));
    regs.set_hwcr(Hwcr(0));
    assert_eq!(host.init(&|_| {}), INVALID_CONFIG, "SMM is not locked");
    regs.set_hwcr(Hwcr(1));
    regs.set_others(7);
    assert_eq!(host.init(&|_| {}), INVALID_CONFIG, "cores differ");
    regs.set_others(0);
    host.machine.reset_core(CoreId(1));
    assert_eq!(host.init(&|_| {}), INVALID_CONFIG, "the machine's own core");
    host.machine.enable_snp_on(CoreId(1));
    assert_eq!(host.init(&|_| {}), Ok(()));
}

#[test]
pub(super) fn case_062_hsave_on_one_core() {
    let host = Setup::default().cold();
    let regs = &host.firmware.storage().cores()[OTHER];
    regs.set_hsave(VmHsavePa(0x9000));
    assert_eq!(host.init(&|_| {}), INVALID_CONFIG);
    regs.set_hsave(VmHsavePa(0));
    assert_eq!(host.init(&|_| {}), Ok(()));
}

#[test]
fn an_rmp_that_does_not_fit() {
    let host = Setup::default().cold();
    for rmp in [pages(RMP + 0x1000, 256), pages(RMP, 255), pages(FIXED - (1 << 20), 512)] {
        let bounds = [rmp];
        let dram = [pages(0, 2 << 18)];
        let mut init = snp_model::InitEx { init_rmp: true, ..snp_model::InitEx::default() };
        (init.layout.dram, init.layout.rmp) = (&dram, &bounds);
        assert_eq!(host.firmware.snp_init_ex(&host.machine, &init), INVALID_CONFIG);
    }
    assert_eq!(host.init(&|init| init.reserved = 1), Err(Status::INVALID_PARAM));
}

#[test]
fn what_a_new_rmp_says() {
    let host = Setup::default().cold();
    let fixed = [pages(BLOCK, 3)];
    let listed: &[PfnRange] = Box::leak(Box::new(fixed));
    let init = host.init(&|init| {
        init.list_paddr_en = true;
        init.layout.hv_fixed = listed;
    });
    assert_eq!(init, Ok(()));
    for (at, state) in [
        (0, PageState::Hypervisor),
        (BLOCK, PageState::HvFixed),
        (BLOCK + 0x3000, PageState::Hypervisor),
        (RMP, PageState::Firmware),
        (RMP_TAIL, PageState::Hypervisor),
        (IOMMU, PageState::FirmwareIommu),
        (FIXED, PageState::HvFixed),
        (UNCOVERED, PageState::Default),
    ] {
        assert_eq!(host.state(at), state, "{at:#x}");
    }
}

#[test]
pub(super) fn case_064_no_new_rmp_the_first_time() {
    let host = Setup::default().cold();
    let keep = |host: &Host| host.init(&|init| init.init_rmp = false);
    assert_eq!(keep(&host), Err(Status::RMP_INIT_REQUIRED));
    let listed = host.init(&|init| (init.init_rmp, init.list_paddr_en) = (false, true));
    assert_eq!(listed, Err(Status::INVALID_PARAM));
    let host = Setup::default().host();
    host.valid(0, 0x4000, 1);
    let end = |iommu_snp_shutdown| {
        let end = ShutdownEx { iommu_snp_shutdown, ..ShutdownEx::default() };
        host.firmware.snp_shutdown_ex(&host.machine, &end)
    };
    assert_eq!(end(false), Ok(()));
    assert_eq!(keep(&host), Ok(()));
    assert_eq!(host.state(0), PageState::GuestValid, "the RMP was kept");
    assert_eq!(end(true), Ok(()));
    assert_eq!(keep(&host), Err(Status::RMP_INIT_REQUIRED));
}

#[test]
pub(super) fn case_065_init_twice() {
    let host = host();
    assert_eq!(host.init(&|_| {}), Err(Status::INVALID_PLATFORM_STATE));
    let cold = Setup::default().cold();
    cold.firmware.set_sev_initialised(true);
    assert_eq!(cold.init(&|_| {}), Err(Status::INVALID_PLATFORM_STATE));
    let early = cold.firmware.gctx_create(&cold.machine, spa(0));
    assert_eq!(early, Err(Status::INVALID_PLATFORM_STATE));
    assert_eq!(cold.reclaim(0, K4), Err(Status::INVALID_PLATFORM_STATE));
}

#[test]
pub(super) fn case_083_shutdown_with_a_dirty_asid() {
    let host = host();
    let gctx = host.launching(0x1000, 3);
    assert_eq!(host.firmware.decommission(&host.machine, gctx), Ok(()));
    let shutdown = |change: &dyn Fn(&mut ShutdownEx<'_>)| {
        let mut operand = ShutdownEx::default();
        change(&mut operand);
        host.firmware.snp_shutdown_ex(&host.machine, &operand)
    };
    assert_eq!(shutdown(&|_| {}), Err(Status::DFFLUSH_REQUIRED));
    host.wbinvd_everywhere();
    assert_eq!(host.firmware.df_flush(&host.machine), Ok(()));
    host.firmware.set_sev_initialised(true);
    assert_eq!(shutdown(&|_| {}), Err(Status::INVALID_PLATFORM_STATE));
    host.firmware.set_sev_initialised(false);
    assert_eq!(shutdown(&|end| end.reserved = 1), Err(Status::INVALID_PARAM));
    assert_eq!(shutdown(&|end| end.x86_snp_shutdown = true), Err(Status::INVALID_PARAM));
    assert_eq!(shutdown(&|end| end.iommu_snp_shutdown = true), Ok(()));
    assert_eq!(shutdown(&|_| {}), Err(Status::INVALID_PLATFORM_STATE));
}

#[test]
pub(super) fn case_084_iommu_pages_after_a_shutdown() {
    for (minor, reclaim) in [(55, true), (53, true), (52, false)] {
        let version = ApiVersion { major: 1, minor };
        let firmware = FirmwareChoices { version, ..FirmwareChoices::DEFAULT };
        let host = Setup { firmware, ..Setup::default() }.host();
        let iommu = [pages(IOMMU, 3)];
        let end = ShutdownEx { iommu_snp_shutdown: true, iommu: &iommu, ..ShutdownEx::default() };
        assert_eq!(host.firmware.snp_shutdown_ex(&host.machine, &end), Ok(()));
        let expected = if reclaim { PageState::Reclaim } else { PageState::Hypervisor };
        for page in 0..3 {
            assert_eq!(host.state(IOMMU + page * 4096), expected);
            assert_eq!(host.update(IOMMU + page * 4096, &SHARED), RmpStatus::SUCCESS);
        }
        let large = host.host_write(IOMMU, M2);
        assert_eq!(large == Verdict::Allowed, reclaim, "the head's stale count faults");
        assert_eq!(host.host_write(IOMMU, K4), Verdict::Allowed);
        let device = host.machine.check_device_write(spa(RMP));
        assert_eq!(device, snp_model::DeviceVerdict::Allowed, "IOMMU checks are off");
    }
}

#[test]
fn shutdown_takes_snp_off_where_asked() {
    let host = host();
    let end =
        ShutdownEx { iommu_snp_shutdown: true, x86_snp_shutdown: true, ..ShutdownEx::default() };
    assert_eq!(host.firmware.snp_shutdown_ex(&host.machine, &end), Ok(()));
    assert!(host.machine.rmpread(CORE, spa(0)).is_err());
    assert!(!host.firmware.storage().cores()[OTHER].syscfg().snp_en());
}

#[test]
pub(super) fn case_085_status_into_a_page() {
    let host = host();
    let gctx = host.context(0x1000);
    host.give(0x2000, &RmpOperand::firmware());
    let platform = |at| host.firmware.platform_status(&host.machine, spa(at));
    let guest = |at| host.firmware.guest_status(&host.machine, gctx, spa(at));
    assert_eq!((platform(0x3000), guest(0x3000)), (INVALID_STATE, INVALID_STATE));
    assert_eq!((platform(0x2000), guest(0x2000)), (Ok(()), Ok(())));
    assert_eq!((platform(UNCOVERED), guest(UNCOVERED)), (Ok(()), Ok(())));
    let none = host.firmware.guest_status(&host.machine, spa(0x2000), spa(0x2000));
    assert_eq!(none, Err(Status::INVALID_GUEST));
    let cold = Setup::default().cold();
    assert_eq!(cold.firmware.platform_status(&cold.machine, spa(0x3000)), Ok(()));
}

#[test]
fn commands_that_are_not_modelled_say_so() {
    let host = host();
    for command in [
        FirmwareCommand::SNP_DBG_DECRYPT,
        FirmwareCommand::SNP_DBG_ENCRYPT,
        FirmwareCommand::SNP_PAGE_MOVE,
        FirmwareCommand::SNP_PAGE_SWAP_IN,
        FirmwareCommand::SNP_PAGE_SWAP_OUT,
        FirmwareCommand::SNP_PAGE_MD_INIT,
        FirmwareCommand::SNP_GUEST_REQUEST,
    ] {
        assert_eq!(host.firmware.not_modelled(command), Status::UNSUPPORTED);
    }
    assert_eq!(host.firmware.not_modelled(FirmwareCommand(0x77)), Status::INVALID_COMMAND);
}
