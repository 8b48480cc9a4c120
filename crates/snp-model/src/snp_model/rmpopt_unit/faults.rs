//! Defects that can be seeded into the unit.

use crate::snp_model::sync::{const_constructor, AtomicU32, Ordering};

/// A defect that can be seeded, to show that a check would see it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// An RMPUPDATE that should clear the region's bits does not.
    DropClear,
    /// A verify believes a cached scan result although the region changed since.
    StaleCache,
    /// A verify sets the bit although the region changed while it ran.
    BlindPublish,
}

/// How many times each [`Fault`] will still strike; all zero at first.
#[derive(Debug, Default)]
pub struct Faults {
    drop_clear: AtomicU32,
    stale_cache: AtomicU32,
    blind_publish: AtomicU32,
}

impl Faults {
    const_constructor! {
        pub(super) const fn new() -> Self {
            Self {
                drop_clear: AtomicU32::new(0),
                stale_cache: AtomicU32::new(0),
                blind_publish: AtomicU32::new(0),
            }
        }
    }

    fn cell(&self, fault: Fault) -> &AtomicU32 {
        match fault {
            Fault::DropClear => &self.drop_clear,
            Fault::StaleCache => &self.stale_cache,
            Fault::BlindPublish => &self.blind_publish,
        }
    }

    /// The next `times` occasions go wrong; 0 repairs.
    pub fn seed(&self, fault: Fault, times: u32) {
        self.cell(fault).store(times, Ordering::SeqCst);
    }

    /// Occasions left that will go wrong.
    pub fn left(&self, fault: Fault) -> u32 {
        self.cell(fault).load(Ordering::SeqCst)
    }

    /// Uses up one occasion, if any is left.
    #[inline]
    pub(super) fn strikes(&self, fault: Fault) -> bool {
        let cell = self.cell(fault);
        // The common case is a plain load.
        cell.load(Ordering::Relaxed) != 0
            && cell
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok()
    }
}
