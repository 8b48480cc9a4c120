//! The secure processor's firmware: commands of a platform's and a guest's life, as far as they
//! concern page states (spec/snp-arch.md 4.3 to 4.5). Contents, keys and measurements are not here:
//! what depends on them, the caller says.
//!
//! One command runs at a time, as through the real mailbox. Commands may sleep.

mod choices;
mod guests;
mod launch;
mod pages;
mod platform;
mod state;

// Where this folder is a module of another crate, what that crate does not use is an unused import.
#[allow(unused_imports)]
pub use self::{
    choices::{ApiVersion, FirmwareChoices, LaunchCheck, LaunchOrder, RmpAddress},
    launch::{GuestPolicy, IdBlock, LaunchPage, PageType},
    platform::{InitEx, ShutdownEx},
    state::{CoreRegs, FirmwareStorage, GuestSlot, GuestState, MemoryRange},
};

use crate::snp_defs::{FirmwareCommand, FirmwareStatus, PageSize, PageState, Pfn, RmpEntry, Spa};
use crate::snp_model::page_lock::{Governing, LockFailure, LockedPage};
use crate::snp_model::sync::{const_constructor, spin_loop, AtomicBool, Ordering};
use crate::snp_model::{Machine, NeighbourRace, Storage, UnitStorage};

/// A command's end: `Err` has the code that is not `SUCCESS`.
pub type Answer = Result<(), FirmwareStatus>;

/// The firmware of one host; `F` holds its memory. Every command names the machine it works on, which
/// must always be the same.
#[derive(Debug)]
pub struct Firmware<F> {
    storage: F,
    choices: FirmwareChoices,
    busy: AtomicBool,
    /// The RMP was built and not given up since.
    rmp_initialised: AtomicBool,
    /// Legacy SEV is initialised.
    sev_initialised: AtomicBool,
}

/// A command that runs.
struct Command<'a>(&'a AtomicBool);

impl Drop for Command<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<F: FirmwareStorage> Firmware<F> {
    const_constructor! {
        /// Firmware after power-on. `storage` must hold zeroes, but for the cores' registers.
        pub const fn new(storage: F, choices: FirmwareChoices) -> Self {
            Self {
                storage,
                choices,
                busy: AtomicBool::new(false),
                rmp_initialised: AtomicBool::new(false),
                sev_initialised: AtomicBool::new(false),
            }
        }
    }

    /// The memory behind it.
    pub const fn storage(&self) -> &F {
        &self.storage
    }

    /// The choices in force.
    pub const fn choices(&self) -> &FirmwareChoices {
        &self.choices
    }

    /// Waits for the command before this one.
    fn command(&self) -> Command<'_> {
        while self.busy.swap(true, Ordering::Acquire) {
            spin_loop();
        }
        Command(&self.busy)
    }

    /// What every SNP command begins with: SNP is initialised.
    fn begin<S: Storage, U: UnitStorage>(
        &self,
        host: &Machine<S, U>,
    ) -> Result<Command<'_>, FirmwareStatus> {
        let command = self.command();
        require(host.is_initialised(), FirmwareStatus::INVALID_PLATFORM_STATE)?;
        Ok(command)
    }

    /// The answer to commands that the model does not have: swap, move, debug, messages,
    /// configuration. `INVALID_COMMAND` for an id that no source names.
    pub fn not_modelled(&self, command: FirmwareCommand) -> FirmwareStatus {
        if command.name().is_some() {
            FirmwareStatus::UNSUPPORTED
        } else {
            FirmwareStatus::INVALID_COMMAND
        }
    }
}

/// `Err(otherwise)` unless `holds`.
const fn require(holds: bool, otherwise: FirmwareStatus) -> Answer {
    if holds {
        Ok(())
    } else {
        Err(otherwise)
    }
}

/// A page's entry, its block locked and with memory of its own. `Ok(None)`: the page has no entry.
fn lock_page<S: Storage, U: UnitStorage>(
    host: &Machine<S, U>,
    pfn: Pfn,
) -> Result<Option<LockedPage<'_>>, FirmwareStatus> {
    if host.reserve_pages(crate::snp_model::PfnRange::new(pfn, 1)).is_err() {
        return Err(FirmwareStatus::HWERROR_PLATFORM);
    }
    match host.rmp().lock_as(pfn, NeighbourRace::Spin) {
        Ok(page) => Ok(Some(page)),
        Err(LockFailure::NotCovered) => Ok(None),
        Err(LockFailure::Busy) => Err(FirmwareStatus::HWERROR_PLATFORM),
    }
}

/// State and size of a locked page; without an entry, Default and 4K.
fn state_of(page: Option<&LockedPage<'_>>) -> (PageState, Governing) {
    match page.map(LockedPage::governing) {
        Some(governing) => (PageState::of(governing.entry), governing),
        None => (PageState::Default, Governing::of(RmpEntry::HYPERVISOR, RmpEntry::HYPERVISOR, 0)),
    }
}

/// The entry as the firmware writes it: the lock follows `immutable`.
const fn written(entry: RmpEntry) -> RmpEntry {
    entry.with_lock(entry.immutable())
}

/// A page that the firmware itself writes to must be its own or have no entry.
fn check_output<S: Storage, U: UnitStorage>(host: &Machine<S, U>, output: Spa) -> Answer {
    if !host.is_initialised() {
        return Ok(());
    }
    let state = host.page_state(output.pfn());
    require(
        matches!(state, PageState::Firmware | PageState::Default),
        FirmwareStatus::INVALID_PAGE_STATE,
    )
}

/// Bit 0 of an address parameter is the page's size, where a command has it there.
const fn split_size(address: u64) -> (u64, PageSize) {
    (address & !1, PageSize::from_bit(address & 1))
}
