//! The firmware's commands as data: their text, and their run on model and oracle.

use core::fmt;
use std::sync::atomic::AtomicU64;

use ::snp_defs::{PageSize, Pfn, Spa};

use super::execute::Hosts;
use super::operation::{core, name, spa, Names, SIZES};
use super::plan::CORES;
use super::words::{Words, WordsError};
use crate::snp_model::{
    Answer, CoreId, CoreRegs, Firmware, FirmwareChoices, FirmwareStorage, GuestPolicy, GuestSlot,
    InitEx, LaunchPage, MemoryRange, PageType, PfnRange, ShutdownEx,
};

/// A command of the firmware, or what one waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)] // The fields are the operands that the commands name.
pub enum Command {
    /// SNP_INIT_EX: with a new RMP, with the list of HV-fixed memory.
    SnpInitEx { init_rmp: bool, list: bool },
    /// SNP_SHUTDOWN_EX.
    SnpShutdownEx { iommu: bool, x86: bool },
    /// WBINVD on a core.
    Wbinvd { core: CoreId },
    /// SNP_DF_FLUSH.
    DfFlush,
    /// SNP_GCTX_CREATE.
    GctxCreate { gctx: Spa },
    /// SNP_LAUNCH_START.
    LaunchStart { gctx: Spa, policy: u64 },
    /// SNP_ACTIVATE.
    Activate { gctx: Spa, asid: u32 },
    /// SNP_LAUNCH_UPDATE; `rights` are those of VMPL 1, 2 and 3.
    LaunchUpdate { gctx: Spa, spa: Spa, size: PageSize, page: PageType, rights: [u8; 3] },
    /// SNP_LAUNCH_FINISH without id block.
    LaunchFinish { gctx: Spa },
    /// SNP_DECOMMISSION.
    Decommission { gctx: Spa },
    /// SNP_PAGE_RECLAIM: the page's size in bit 0.
    PageReclaim { address: u64 },
    /// SNP_PAGE_UNSMASH.
    PageUnsmash { spa: Spa },
    /// SNP_PAGE_SET_STATE of this many blocks.
    PageSetState { spa: Spa, blocks: u64 },
}

const PAGES: Names<PageType> = &[
    ("normal", PageType::Normal),
    ("vmsa", PageType::Vmsa),
    ("zero", PageType::Zero),
    ("unmeasured", PageType::Unmeasured),
    ("secrets", PageType::Secrets),
    ("cpuid", PageType::Cpuid { allowed: true }),
    ("cpuid-refused", PageType::Cpuid { allowed: false }),
];

/// The most blocks that one SNP_PAGE_SET_STATE names here.
const BLOCKS_MAX: u64 = 8;

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keyword = self.keyword();
        match *self {
            Self::SnpInitEx { init_rmp, list } => {
                write!(f, "{keyword} init_rmp={} list={}", u8::from(init_rmp), u8::from(list))
            }
            Self::SnpShutdownEx { iommu, x86 } => {
                write!(f, "{keyword} iommu={} x86={}", u8::from(iommu), u8::from(x86))
            }
            Self::Wbinvd { core } => write!(f, "{keyword} core={core}"),
            Self::DfFlush => f.write_str(keyword),
            Self::GctxCreate { gctx }
            | Self::LaunchFinish { gctx }
            | Self::Decommission { gctx } => write!(f, "{keyword} gctx={gctx}"),
            Self::LaunchStart { gctx, policy } => {
                write!(f, "{keyword} gctx={gctx} policy={policy:#x}")
            }
            Self::Activate { gctx, asid } => write!(f, "{keyword} gctx={gctx} asid={asid}"),
            Self::LaunchUpdate { gctx, spa, size, page, rights: [vmpl1, vmpl2, vmpl3] } => {
                write!(f, "{keyword} gctx={gctx} spa={spa} size={}", name(SIZES, size))?;
                write!(f, " page={} vmpl1={vmpl1:#x}", name(PAGES, page))?;
                write!(f, " vmpl2={vmpl2:#x} vmpl3={vmpl3:#x}")
            }
            Self::PageReclaim { address } => write!(f, "{keyword} address={address:#x}"),
            Self::PageUnsmash { spa } => write!(f, "{keyword} spa={spa}"),
            Self::PageSetState { spa, blocks } => {
                write!(f, "{keyword} spa={spa} blocks={blocks}")
            }
        }
    }
}

impl Command {
    /// The keyword of its line.
    #[must_use]
    pub const fn keyword(&self) -> &'static str {
        match self {
            Self::SnpInitEx { .. } => "snp-init-ex",
            Self::SnpShutdownEx { .. } => "snp-shutdown-ex",
            Self::Wbinvd { .. } => "wbinvd",
            Self::DfFlush => "df-flush",
            Self::GctxCreate { .. } => "gctx-create",
            Self::LaunchStart { .. } => "launch-start",
            Self::Activate { .. } => "activate",
            Self::LaunchUpdate { .. } => "launch-update",
            Self::LaunchFinish { .. } => "launch-finish",
            Self::Decommission { .. } => "decommission",
            Self::PageReclaim { .. } => "page-reclaim",
            Self::PageUnsmash { .. } => "page-unsmash",
            Self::PageSetState { .. } => "page-set-state",
        }
    }

    /// `None` if the line's keyword is no command's.
    pub(super) fn of(words: &mut Words<'_>) -> Result<Option<Self>, WordsError> {
        fn gctx(words: &mut Words<'_>) -> Result<Spa, WordsError> {
            words.address("gctx")
        }
        fn flag(words: &mut Words<'_>, name: &str) -> Result<bool, WordsError> {
            Ok(words.number(name, 1)? == 1)
        }
        Ok(Some(match words.keyword() {
            "snp-init-ex" => {
                Self::SnpInitEx { init_rmp: flag(words, "init_rmp")?, list: flag(words, "list")? }
            }
            "snp-shutdown-ex" => {
                Self::SnpShutdownEx { iommu: flag(words, "iommu")?, x86: flag(words, "x86")? }
            }
            "wbinvd" => Self::Wbinvd { core: core(words)? },
            "df-flush" => Self::DfFlush,
            "gctx-create" => Self::GctxCreate { gctx: gctx(words)? },
            "launch-start" => {
                Self::LaunchStart { gctx: gctx(words)?, policy: words.number("policy", u64::MAX)? }
            }
            "activate" => Self::Activate {
                gctx: gctx(words)?,
                asid: words.number("asid", u32::MAX.into())? as u32,
            },
            "launch-update" => Self::LaunchUpdate {
                gctx: gctx(words)?,
                spa: spa(words)?,
                size: words.choice("size", SIZES)?,
                page: words.choice("page", PAGES)?,
                rights: [
                    words.number("vmpl1", 255)? as u8,
                    words.number("vmpl2", 255)? as u8,
                    words.number("vmpl3", 255)? as u8,
                ],
            },
            "launch-finish" => Self::LaunchFinish { gctx: gctx(words)? },
            "decommission" => Self::Decommission { gctx: gctx(words)? },
            "page-reclaim" => Self::PageReclaim { address: words.number("address", u64::MAX)? },
            "page-unsmash" => Self::PageUnsmash { spa: spa(words)? },
            "page-set-state" => {
                Self::PageSetState { spa: spa(words)?, blocks: words.number("blocks", BLOCKS_MAX)? }
            }
            _ => return Ok(None),
        }))
    }

    pub(super) fn core_mut(&mut self) -> Option<&mut CoreId> {
        match self {
            Self::Wbinvd { core } => Some(core),
            _ => None,
        }
    }

    /// The pages whose entries it may change.
    pub(super) fn pages(self) -> impl Iterator<Item = Spa> {
        let (first, blocks) = match self {
            Self::GctxCreate { gctx } | Self::Decommission { gctx } => (Some(gctx), 1),
            Self::LaunchUpdate { spa, .. } | Self::PageUnsmash { spa } => (Some(spa), 1),
            Self::PageReclaim { address } => (Spa::new(address & !1), 1),
            Self::PageSetState { spa, blocks } => (Some(spa), blocks),
            _ => (None, 0),
        };
        let page = move |index| first?.checked_add(index << 21);
        (0..blocks).filter_map(page)
    }

    /// Runs it on both; the answers. `None` for what has none.
    pub(super) fn run(self, hosts: &mut Hosts<'_>) -> Option<(Answer, Answer)> {
        let Hosts { machine, firmware, oracle, memory } = hosts;
        Some(match self {
            Self::SnpInitEx { init_rmp, list } => {
                let layout = memory.firmware_layout();
                let init = InitEx { init_rmp, list_paddr_en: list, reserved: 0, layout };
                let model = firmware.snp_init_ex(machine, &init);
                (model, oracle.snp_init_ex(init_rmp, list, &layout))
            }
            Self::SnpShutdownEx { iommu, x86 } => {
                let buffers = memory.firmware_layout().iommu;
                let shutdown = ShutdownEx {
                    iommu_snp_shutdown: iommu,
                    x86_snp_shutdown: x86,
                    reserved: 0,
                    iommu: buffers,
                };
                let model = firmware.snp_shutdown_ex(machine, &shutdown);
                (model, oracle.snp_shutdown_ex(iommu, x86, buffers))
            }
            Self::Wbinvd { core } => {
                firmware.wbinvd(core);
                oracle.wbinvd(core);
                return None;
            }
            Self::DfFlush => (firmware.df_flush(machine), oracle.df_flush()),
            Self::GctxCreate { gctx } => {
                (firmware.gctx_create(machine, gctx), oracle.gctx_create(gctx))
            }
            Self::LaunchStart { gctx, policy } => {
                let policy = GuestPolicy(policy);
                let model = firmware.launch_start(machine, gctx, policy);
                (model, oracle.launch_start(gctx, policy))
            }
            Self::Activate { gctx, asid } => {
                (firmware.activate(machine, gctx, asid), oracle.activate(gctx, asid))
            }
            Self::LaunchUpdate { gctx, spa, size, page, rights } => {
                let operand = LaunchPage { spa, size, page_type: page, rights, reserved: 0 };
                let model = firmware.launch_update(machine, gctx, &operand);
                (model, oracle.launch_update(gctx, &operand))
            }
            Self::LaunchFinish { gctx } => {
                let model = firmware.launch_finish(machine, gctx, false, None);
                (model, oracle.launch_finish(gctx))
            }
            Self::Decommission { gctx } => {
                (firmware.decommission(machine, gctx), oracle.decommission(gctx))
            }
            Self::PageReclaim { address } => {
                (firmware.page_reclaim(machine, address), oracle.page_reclaim(address))
            }
            Self::PageUnsmash { spa } => {
                (firmware.page_unsmash(machine, spa), oracle.page_unsmash(spa))
            }
            Self::PageSetState { spa, blocks } => {
                let range = PfnRange::new(spa.pfn(), blocks * 512);
                let model = firmware.page_set_state(machine, &[range]);
                (model, oracle.page_set_state(range))
            }
        })
    }
}

/// ASIDs that a trial's firmware knows, and guests that it can hold.
pub(super) const FIRMWARE_ASIDS: u32 = 16;

/// Memory of a small firmware.
#[derive(Debug)]
pub(super) struct SmallStorage {
    cores: [CoreRegs; CORES as usize],
    guests: [GuestSlot; FIRMWARE_ASIDS as usize],
    asids: [AtomicU64; FIRMWARE_ASIDS as usize],
    memory: [MemoryRange; 8],
}

impl FirmwareStorage for SmallStorage {
    fn cores(&self) -> &[CoreRegs] {
        &self.cores
    }
    fn guests(&self) -> &[GuestSlot] {
        &self.guests
    }
    fn asids(&self) -> &[AtomicU64] {
        &self.asids
    }
    fn memory(&self) -> &[MemoryRange] {
        &self.memory
    }
}

/// A trial's firmware.
pub(super) type SmallFirmware = Firmware<SmallStorage>;

/// After power-on.
pub(super) fn small_firmware(choices: FirmwareChoices) -> SmallFirmware {
    let storage = SmallStorage {
        cores: std::array::from_fn(|_| CoreRegs::ready()),
        guests: std::array::from_fn(|_| GuestSlot::default()),
        asids: std::array::from_fn(|_| AtomicU64::default()),
        memory: std::array::from_fn(|_| MemoryRange::default()),
    };
    Firmware::new(storage, choices)
}

/// The last page of a page's block: with head and page itself, what is compared after a command.
pub(super) fn last_of_block(spa: Spa) -> Spa {
    let head = spa.pfn().head();
    head.checked_add(511).map_or(spa, Pfn::spa)
}
