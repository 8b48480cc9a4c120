//! What can be done to a host, as data; and its text, one operation a line.

use core::fmt;

use ::snp_defs::{Gpa, PageSize, Region, RmpOperand, RmpoptFunction, Spa};

use super::words::{Words, WordsError, ADDRESS_MAX};
use super::Command;
use crate::snp_model::{
    AccessKind, Accessor, CoreId, GuestAccess, GuestCpu, Issuer, SaveArea, Walk,
};

/// What the firmware, a guest or a running vCPU changes in a page's own entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Edit {
    /// Validated, if the page is assigned.
    Validate,
    /// Locked.
    Lock,
    /// Not locked.
    Unlock,
    /// Neither immutable nor locked.
    Release,
    /// A save area, if the page is assigned.
    Vmsa,
    /// No save area.
    NoVmsa,
}

/// A guest's virtual CPU and its translation of the address that the instruction names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Guest {
    /// Who.
    pub cpu: GuestCpu,
    /// What the walk of both page tables gave.
    pub walk: Walk,
}

/// One operation. Each stands for itself: what it does depends on the host alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)] // The fields are the registers and operands that the instructions name.
pub enum Operation {
    /// RMPUPDATE.
    Rmpupdate { core: CoreId, by: Issuer, spa: Spa, operand: RmpOperand },
    /// RMPUPDATEs of consecutive pages, the guest address growing with the page.
    RmpupdateRange { core: CoreId, spa: Spa, count: u64, operand: RmpOperand },
    /// PSMASH.
    Psmash { core: CoreId, by: Issuer, spa: Spa },
    /// RMPREAD.
    Rmpread { core: CoreId, spa: Spa },
    /// RMPOPT, both halves.
    Rmpopt { core: CoreId, rax: u64, function: RmpoptFunction },
    /// RMPOPT's first half; `id` names it for its second.
    Begin { id: u64, core: CoreId, rax: u64, function: RmpoptFunction },
    /// RMPOPT's second half; nothing if no first half of that number is under way.
    Finish { id: u64 },
    /// WRMSR of `RMPOPT_BASE`.
    WriteBase { core: CoreId, value: u64 },
    /// An access by the host or an ordinary guest.
    Access { core: CoreId, accessor: Accessor, kind: AccessKind, spa: Spa, size: PageSize },
    /// A device's write.
    DeviceWrite { spa: Spa },
    /// PVALIDATE: ECX, EDX.
    Pvalidate { core: CoreId, guest: Guest, size: u64, validate: u64 },
    /// RMPADJUST: RCX, RDX.
    Rmpadjust { core: CoreId, guest: Guest, size: u64, rdx: u64 },
    /// RMPQUERY: RDX.
    Rmpquery { core: CoreId, guest: Guest, target: u64 },
    /// An SNP guest's access.
    GuestAccess { core: CoreId, guest: Guest, access: GuestAccess },
    /// VMRUN; `id` names the guest until it exits. One of that name that still runs exits first.
    Vmrun { id: u64, core: CoreId, hsave: u64, vmcb: Spa, avic: Option<Spa>, save: SaveArea },
    /// `#VMEXIT`; nothing if no guest of that number runs.
    Vmexit { id: u64 },
    /// A change of one entry by others than the host's instructions.
    Edit { spa: Spa, edit: Edit },
    /// The cached scan result of a region is lost.
    DropCache { region: Region },
    /// All cached scan results are.
    DropCaches,
    /// `SYSCFG.SNP_EN` is set on a core.
    EnableSnp { core: CoreId },
    /// A core is reset.
    Reset { core: CoreId },
    /// `SNP_INIT` of the bare machine, without the firmware's checks and memory.
    SnpInit,
    /// The end of SNP on the bare machine; with `x86`, SNP goes off on every core.
    SnpShutdown { x86: bool },
    /// The host writes zeroes over the RMP.
    ClearRmp,
    /// A command of the firmware.
    Firmware(Command),
}

/// Names of choices in the text, each with its value.
pub(super) type Names<T> = &'static [(&'static str, T)];

const FUNCTIONS: Names<RmpoptFunction> =
    &[("verify", RmpoptFunction::Verify), ("report", RmpoptFunction::Report)];
pub(super) const SIZES: Names<PageSize> = &[("4k", PageSize::Size4K), ("2m", PageSize::Size2M)];
const ACCESSORS: Names<Accessor> = &[
    ("host-kernel", Accessor::HostKernel),
    ("host-user", Accessor::HostUser),
    ("guest", Accessor::Guest),
    ("guest-walk", Accessor::GuestWalk),
    ("host-walk", Accessor::HostWalk),
];
const KINDS: Names<AccessKind> =
    &[("read", AccessKind::Read), ("fetch", AccessKind::Fetch), ("write", AccessKind::Write)];
const GUEST_ACCESSES: Names<GuestAccess> = &[
    ("read", GuestAccess::Read),
    ("write", GuestAccess::Write),
    ("shadow-stack", GuestAccess::ShadowStack),
    ("fetch-user", GuestAccess::Fetch { user: true }),
    ("fetch-supervisor", GuestAccess::Fetch { user: false }),
    ("walk", GuestAccess::TableWalk { update: false }),
    ("walk-update", GuestAccess::TableWalk { update: true }),
];
const EDITS: Names<Edit> = &[
    ("validate", Edit::Validate),
    ("lock", Edit::Lock),
    ("unlock", Edit::Unlock),
    ("release", Edit::Release),
    ("vmsa", Edit::Vmsa),
    ("no-vmsa", Edit::NoVmsa),
];

pub(super) fn name<T: Copy + PartialEq>(names: Names<T>, value: T) -> &'static str {
    names.iter().find(|(_, known)| *known == value).map_or("?", |(name, _)| *name)
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, walk } = self;
        write!(f, "asid={} vmpl={} gva={:#x}", cpu.asid, cpu.vmpl, walk.gva)?;
        write!(f, " gpa={} spa={}", walk.gpa, walk.spa)?;
        write!(f, " nested={} c={}", name(SIZES, walk.nested), u8::from(walk.private))
    }
}

impl fmt::Display for Operation {
    /// The operation's line in a script.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asid =
            |by: Issuer| if by.asid == 0 { String::new() } else { format!(" by={}", by.asid) };
        match *self {
            Self::Rmpupdate { core, by, spa, operand } => {
                write!(f, "rmpupdate core={core} spa={spa}")?;
                write_operand(f, &operand)?;
                f.write_str(&asid(by))
            }
            Self::RmpupdateRange { core, spa, count, operand } => {
                write!(f, "rmpupdate-range core={core} spa={spa} count={count}")?;
                write_operand(f, &operand)
            }
            Self::Psmash { core, by, spa } => {
                write!(f, "psmash core={core} spa={spa}{}", asid(by))
            }
            Self::Rmpread { core, spa } => write!(f, "rmpread core={core} spa={spa}"),
            Self::Rmpopt { core, rax, function } => {
                let function = name(FUNCTIONS, function);
                write!(f, "rmpopt core={core} rax={rax:#x} function={function}")
            }
            Self::Begin { id, core, rax, function } => {
                let function = name(FUNCTIONS, function);
                write!(f, "begin id={id} core={core} rax={rax:#x} function={function}")
            }
            Self::Finish { id } => write!(f, "finish id={id}"),
            Self::WriteBase { core, value } => write!(f, "write-base core={core} value={value:#x}"),
            Self::Access { core, accessor, kind, spa, size } => {
                let (by, kind) = (name(ACCESSORS, accessor), name(KINDS, kind));
                let size = name(SIZES, size);
                write!(f, "access core={core} by={by} kind={kind} spa={spa} size={size}")
            }
            Self::DeviceWrite { spa } => write!(f, "device-write spa={spa}"),
            Self::Pvalidate { core, guest, size, validate } => {
                write!(f, "pvalidate core={core} {guest} size={size} validate={validate}")
            }
            Self::Rmpadjust { core, guest, size, rdx } => {
                write!(f, "rmpadjust core={core} {guest} size={size} rdx={rdx:#x}")
            }
            Self::Rmpquery { core, guest, target } => {
                write!(f, "rmpquery core={core} {guest} target={target}")
            }
            Self::GuestAccess { core, guest, access } => {
                write!(f, "guest core={core} {guest} kind={}", name(GUEST_ACCESSES, access))
            }
            Self::Vmrun { id, core, hsave, vmcb, avic, save } => {
                write!(f, "vmrun id={id} core={core} hsave={hsave:#x} vmcb={vmcb}")?;
                avic.map_or(Ok(()), |page| write!(f, " avic={page}"))?;
                match save {
                    SaveArea::InVmcb => Ok(()),
                    SaveArea::Encrypted(page) => write!(f, " save={page}"),
                    SaveArea::Snp { vmsa, gpa, asid } => {
                        write!(f, " vmsa={vmsa} gpa={gpa} asid={asid}")
                    }
                }
            }
            Self::Vmexit { id } => write!(f, "vmexit id={id}"),
            Self::Edit { spa, edit } => write!(f, "edit spa={spa} what={}", name(EDITS, edit)),
            Self::DropCache { region } => write!(f, "drop-cache region={region}"),
            Self::DropCaches => f.write_str("drop-caches"),
            Self::EnableSnp { core } => write!(f, "enable-snp core={core}"),
            Self::Reset { core } => write!(f, "reset core={core}"),
            Self::SnpInit => f.write_str("snp-init"),
            Self::SnpShutdown { x86 } => write!(f, "snp-shutdown x86={}", u8::from(x86)),
            Self::ClearRmp => f.write_str("clear-rmp"),
            Self::Firmware(command) => command.fmt(f),
        }
    }
}

fn write_operand(f: &mut fmt::Formatter<'_>, operand: &RmpOperand) -> fmt::Result {
    write!(f, " gpa={:#x}", operand.gpa)?;
    write!(f, " assigned={} page_size={}", operand.assigned, operand.page_size)?;
    write!(f, " immutable={} asid={}", operand.immutable, operand.asid)?;
    match operand.reserved {
        0 => Ok(()),
        reserved => write!(f, " reserved={reserved}"),
    }
}

impl Operation {
    /// Every keyword that begins a line.
    pub const KEYWORDS: [&'static str; 37] = [
        "rmpupdate",
        "rmpupdate-range",
        "psmash",
        "rmpread",
        "rmpopt",
        "begin",
        "finish",
        "write-base",
        "access",
        "device-write",
        "pvalidate",
        "rmpadjust",
        "rmpquery",
        "guest",
        "vmrun",
        "vmexit",
        "edit",
        "drop-cache",
        "drop-caches",
        "enable-snp",
        "reset",
        "snp-init",
        "snp-shutdown",
        "clear-rmp",
        "snp-init-ex",
        "snp-shutdown-ex",
        "wbinvd",
        "df-flush",
        "gctx-create",
        "launch-start",
        "activate",
        "launch-update",
        "launch-finish",
        "decommission",
        "page-reclaim",
        "page-unsmash",
        "page-set-state",
    ];

    /// The keyword of its line.
    #[must_use]
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Rmpupdate { .. } => "rmpupdate",
            Self::RmpupdateRange { .. } => "rmpupdate-range",
            Self::Psmash { .. } => "psmash",
            Self::Rmpread { .. } => "rmpread",
            Self::Rmpopt { .. } => "rmpopt",
            Self::Begin { .. } => "begin",
            Self::Finish { .. } => "finish",
            Self::WriteBase { .. } => "write-base",
            Self::Access { .. } => "access",
            Self::DeviceWrite { .. } => "device-write",
            Self::Pvalidate { .. } => "pvalidate",
            Self::Rmpadjust { .. } => "rmpadjust",
            Self::Rmpquery { .. } => "rmpquery",
            Self::GuestAccess { .. } => "guest",
            Self::Vmrun { .. } => "vmrun",
            Self::Vmexit { .. } => "vmexit",
            Self::Edit { .. } => "edit",
            Self::DropCache { .. } => "drop-cache",
            Self::DropCaches => "drop-caches",
            Self::EnableSnp { .. } => "enable-snp",
            Self::Reset { .. } => "reset",
            Self::SnpInit => "snp-init",
            Self::SnpShutdown { .. } => "snp-shutdown",
            Self::ClearRmp => "clear-rmp",
            Self::Firmware(command) => command.keyword(),
        }
    }

    /// The core on which it runs, if it runs on one.
    pub(super) fn core_mut(&mut self) -> Option<&mut CoreId> {
        match self {
            Self::Rmpupdate { core, .. }
            | Self::RmpupdateRange { core, .. }
            | Self::Psmash { core, .. }
            | Self::Rmpread { core, .. }
            | Self::Rmpopt { core, .. }
            | Self::Begin { core, .. }
            | Self::WriteBase { core, .. }
            | Self::Access { core, .. }
            | Self::Pvalidate { core, .. }
            | Self::Rmpadjust { core, .. }
            | Self::Rmpquery { core, .. }
            | Self::GuestAccess { core, .. }
            | Self::Vmrun { core, .. }
            | Self::EnableSnp { core }
            | Self::Reset { core } => Some(core),
            Self::Firmware(command) => command.core_mut(),
            _ => None,
        }
    }

    /// Reads a line without its comment.
    pub(super) fn parse(line: &str) -> Result<Self, WordsError> {
        let mut words = Words::read(line)?;
        let operation = Self::of(&mut words)?;
        words.end()?;
        Ok(operation)
    }

    fn of(words: &mut Words<'_>) -> Result<Self, WordsError> {
        Ok(match words.keyword() {
            "rmpupdate" => Self::Rmpupdate {
                core: core(words)?,
                by: Issuer { asid: words.number_or("by", 0, 1023)? as u32 },
                spa: spa(words)?,
                operand: operand(words)?,
            },
            "rmpupdate-range" => Self::RmpupdateRange {
                core: core(words)?,
                spa: spa(words)?,
                count: words.number("count", COUNT_MAX)?,
                operand: operand(words)?,
            },
            "psmash" => Self::Psmash {
                core: core(words)?,
                by: Issuer { asid: words.number_or("by", 0, 1023)? as u32 },
                spa: spa(words)?,
            },
            "rmpread" => Self::Rmpread { core: core(words)?, spa: spa(words)? },
            "rmpopt" => Self::Rmpopt {
                core: core(words)?,
                rax: words.number("rax", u64::MAX)?,
                function: words.choice("function", FUNCTIONS)?,
            },
            "begin" => Self::Begin {
                id: words.number("id", u64::MAX)?,
                core: core(words)?,
                rax: words.number("rax", u64::MAX)?,
                function: words.choice("function", FUNCTIONS)?,
            },
            "finish" => Self::Finish { id: words.number("id", u64::MAX)? },
            "write-base" => {
                Self::WriteBase { core: core(words)?, value: words.number("value", u64::MAX)? }
            }
            "access" => Self::Access {
                core: core(words)?,
                accessor: words.choice("by", ACCESSORS)?,
                kind: words.choice("kind", KINDS)?,
                spa: spa(words)?,
                size: words.choice("size", SIZES)?,
            },
            "device-write" => Self::DeviceWrite { spa: spa(words)? },
            "pvalidate" => Self::Pvalidate {
                core: core(words)?,
                guest: guest(words)?,
                size: words.number("size", u64::MAX)?,
                validate: words.number("validate", u64::MAX)?,
            },
            "rmpadjust" => Self::Rmpadjust {
                core: core(words)?,
                guest: guest(words)?,
                size: words.number("size", u64::MAX)?,
                rdx: words.number("rdx", u64::MAX)?,
            },
            "rmpquery" => Self::Rmpquery {
                core: core(words)?,
                guest: guest(words)?,
                target: words.number("target", u64::MAX)?,
            },
            "guest" => Self::GuestAccess {
                core: core(words)?,
                guest: guest(words)?,
                access: words.choice("kind", GUEST_ACCESSES)?,
            },
            "vmrun" => Self::Vmrun {
                id: words.number("id", u64::MAX)?,
                core: core(words)?,
                hsave: words.number("hsave", u64::MAX)?,
                vmcb: words.address("vmcb")?,
                avic: words.address_or_none("avic")?,
                save: save_area(words)?,
            },
            "vmexit" => Self::Vmexit { id: words.number("id", u64::MAX)? },
            "edit" => Self::Edit { spa: spa(words)?, edit: words.choice("what", EDITS)? },
            "drop-cache" => Self::DropCache {
                region: {
                    let number = words.number("region", u64::from(Region::LIMIT) - 1)?;
                    Region::new(number as u32).unwrap_or(Region::ZERO)
                },
            },
            "drop-caches" => Self::DropCaches,
            "enable-snp" => Self::EnableSnp { core: core(words)? },
            "reset" => Self::Reset { core: core(words)? },
            "snp-init" => Self::SnpInit,
            "snp-shutdown" => Self::SnpShutdown { x86: words.number("x86", 1)? == 1 },
            "clear-rmp" => Self::ClearRmp,
            other => match Command::of(words)? {
                Some(command) => Self::Firmware(command),
                None => return Err(WordsError::keyword(other, &Self::KEYWORDS)),
            },
        })
    }
}

pub(super) fn core(words: &mut Words<'_>) -> Result<CoreId, WordsError> {
    Ok(CoreId(words.number("core", u64::from(super::CORES) - 1)? as u32))
}

pub(super) fn spa(words: &mut Words<'_>) -> Result<Spa, WordsError> {
    words.address("spa")
}

/// The most pages of one `rmpupdate-range`.
const COUNT_MAX: u64 = 4096;

fn operand(words: &mut Words<'_>) -> Result<RmpOperand, WordsError> {
    Ok(RmpOperand {
        gpa: words.number("gpa", u64::MAX)?,
        assigned: words.number("assigned", 255)? as u8,
        page_size: words.number("page_size", 255)? as u8,
        immutable: words.number("immutable", 255)? as u8,
        reserved: words.number_or("reserved", 0, 255)? as u8,
        asid: words.number("asid", u32::MAX.into())? as u32,
    })
}

fn save_area(words: &mut Words<'_>) -> Result<SaveArea, WordsError> {
    if let Some(page) = words.address_or_none("save")? {
        return Ok(SaveArea::Encrypted(page));
    }
    let Some(vmsa) = words.address_or_none("vmsa")? else { return Ok(SaveArea::InVmcb) };
    Ok(SaveArea::Snp {
        vmsa,
        gpa: Gpa::new(words.number("gpa", ADDRESS_MAX)?).unwrap_or(Gpa::ZERO),
        asid: words.number("asid", u32::MAX.into())? as u32,
    })
}

fn guest(words: &mut Words<'_>) -> Result<Guest, WordsError> {
    Ok(Guest {
        cpu: GuestCpu {
            asid: words.number("asid", u32::MAX.into())? as u32,
            vmpl: words.number("vmpl", 3)? as u8,
        },
        walk: Walk {
            gva: words.number("gva", u64::MAX)?,
            gpa: Gpa::new(words.number("gpa", ADDRESS_MAX)?).unwrap_or(Gpa::ZERO),
            spa: spa(words)?,
            nested: words.choice("nested", SIZES)?,
            private: words.number("c", 1)? == 1,
        },
    })
}
