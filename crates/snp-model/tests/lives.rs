//! Guests that come and go at once: commands of one firmware from several threads.

#![allow(clippy::unwrap_used)] // Helpers unwrap what the tests state.

use std::thread;

use snp_defs::{FirmwareStatus, Gpa, PageSize, PageState, Pfn, RmpOperand, Spa};
use snp_model::{
    CoreId, Coverage, FirmwareChoices, GuestAccess, GuestCpu, GuestPolicy, InitEx, InitLayout,
    LaunchPage, PfnRange, StdFirmware, StdMachine, UnitConfig, Walk,
};

const CORE: CoreId = CoreId(0);
const LIVES: u32 = 300;

struct Host {
    machine: StdMachine,
    firmware: StdFirmware,
}

fn host() -> Host {
    let coverage = Coverage::segmented(30).unwrap().with_regions(1);
    let machine = StdMachine::on_heap(2, 1, coverage, UnitConfig::default());
    let firmware = StdFirmware::on_heap(2, 16, FirmwareChoices::DEFAULT);
    machine.enable_snp();
    let dram = [PfnRange::new(Pfn::new(0).unwrap(), 1 << 18)];
    let layout = InitLayout { dram: &dram, ..InitLayout::default() };
    let init = InitEx { init_rmp: true, layout, ..InitEx::default() };
    firmware.snp_init_ex(&machine, &init).unwrap();
    machine.reserve_pages(PfnRange::new(Pfn::new(0).unwrap(), 512)).unwrap();
    Host { machine, firmware }
}

impl Host {
    fn update(&self, page: Spa, operand: &RmpOperand) {
        assert!(self.machine.rmpupdate(CORE, page, operand).unwrap().status.is_success());
    }

    /// ACTIVATE, with the flushes that other guests' ends ask for.
    fn activate(&self, gctx: Spa, asid: u32) {
        loop {
            match self.firmware.activate(&self.machine, gctx, asid) {
                Ok(()) => return,
                Err(FirmwareStatus::DFFLUSH_REQUIRED) => {
                    (0..2).map(CoreId).for_each(|core| self.firmware.wbinvd(core));
                    let flush = self.firmware.df_flush(&self.machine);
                    assert!(matches!(flush, Ok(()) | Err(FirmwareStatus::WBINVD_REQUIRED)));
                }
                other => assert_eq!(other, Ok(())),
            }
        }
    }

    /// One guest's life, with one page besides its context.
    fn live(&self, asid: u32) {
        let Self { machine, firmware } = self;
        let page = |index: u32| Spa::new(u64::from(asid * 4 + index) << 12).unwrap();
        let (gctx, at) = (page(0), page(1));
        self.update(gctx, &RmpOperand::firmware());
        firmware.gctx_create(machine, gctx).unwrap();
        firmware.launch_start(machine, gctx, GuestPolicy::default()).unwrap();
        self.activate(gctx, asid);
        let gpa = Gpa::new(0x9000).unwrap();
        self.update(at, &RmpOperand::private(gpa, PageSize::Size4K, asid, true));
        firmware.launch_update(machine, gctx, &LaunchPage::normal(at)).unwrap();
        firmware.launch_finish(machine, gctx, false, None).unwrap();

        let walk = Walk { gva: 0, gpa, spa: at, nested: PageSize::Size4K, private: true };
        let access =
            |asid| machine.check_guest(CORE, GuestCpu { asid, vmpl: 0 }, GuestAccess::Write, &walk);
        assert_eq!(access(asid).verdict, Ok(()));
        assert!(access(asid + 1).verdict.is_err());

        firmware.decommission(machine, gctx).unwrap();
        self.update(at, &RmpOperand::shared(PageSize::Size4K));
        firmware.page_reclaim(machine, gctx.get()).unwrap();
        self.update(gctx, &RmpOperand::shared(PageSize::Size4K));
    }
}

#[test]
fn guests_come_and_go() {
    let host = host();
    thread::scope(|scope| {
        for asid in 1..4 {
            let host = &host;
            scope.spawn(move || (0..LIVES).for_each(|_| host.live(asid)));
        }
    });
    for number in 0..512 {
        assert_eq!(host.machine.page_state(Pfn::new(number).unwrap()), PageState::Hypervisor);
    }
    assert_eq!(host.machine.rmp().entry(Pfn::new(0).unwrap()).unwrap().subpage_count(), 0);
    assert!((1..4).all(|asid| host.machine.rmp().assigned_to(asid) == 0));
}
