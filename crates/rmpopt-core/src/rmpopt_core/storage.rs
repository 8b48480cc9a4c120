//! The core's memory: three slices that the executor provides.
//!
//! An array, a `Vec` or a kernel vector will do; the core never allocates. Worst case 4,096 cores
//! and 12,288 regions: 1.2 MiB of cores and 0.6 MiB of regions.

use core::ops::DerefMut;

use crate::rmpopt_core::bits::{self, WindowMask};
use crate::rmpopt_core::{Serial, Time};
use crate::snp_defs::{Region, Window};

/// What the policy keeps of one core.
#[derive(Clone, Copy, Debug, Default)]
pub struct CoreCell {
    pub(crate) window: Window,
    pub(crate) state: CoreState,
    pub(crate) believed: WindowMask,
    /// What this core was offered and has not finished.
    pub(crate) offered: Option<Offered>,
    /// Writes of its base that have not been answered.
    pub(crate) writes: u8,
    /// We wrote its base, or took it over, and have not read back 0 since.
    pub(crate) programmed: bool,
    /// The operator does not want it to lead.
    pub(crate) follows_only: bool,
}

/// An offer that is out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Offered {
    pub(crate) serial: Serial,
    /// For the audit: a real offer takes its place.
    pub(crate) audit: bool,
    /// Regions in it.
    pub(crate) regions: u32,
    /// When the core is woken for it.
    pub(crate) by: Time,
    /// A hold has been reported: it is too late to put more into it.
    pub(crate) begun: bool,
}

/// How far a core is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum CoreState {
    /// Offline, masked, or not yet told of.
    #[default]
    Out,
    /// Online; its base has to be written in this SNP_INIT.
    Waiting,
    /// The base is being written.
    Programming,
    /// SNP_EN and the enable bit were read back: RMPOPT may run here.
    Enabled,
    /// Enabled in this SNP_INIT, now offline.
    Away,
    /// Not usable before the next SNP_INIT.
    Barred,
    /// SNP is going down, or is down, and its base is still to be cleared.
    Leftover,
}

/// What the policy keeps of one region.
#[derive(Clone, Copy, Debug, Default)]
pub struct RegionCell {
    /// Sequence number of the last mark: verdicts asked for before it are void.
    pub(crate) marked: u64,
    /// When the region became a candidate.
    pub(crate) since: Time,
    /// When it may be verified.
    pub(crate) due: Time,
    /// When it was last found clean.
    pub(crate) clean_since: Time,
    /// Doublings of the delay, for a region that flips.
    pub(crate) hold_off: u8,
    /// Doublings of the retry interval, while the evidence is incomplete.
    pub(crate) retries: u8,
}

/// Storage sized for a host: see [`words_needed`] and [`Buffers`].
pub trait Storage {
    /// A cell for each region up to the top of RAM.
    fn regions(&self) -> &[RegionCell];
    /// The same, to change.
    fn regions_mut(&mut self) -> &mut [RegionCell];
    /// A cell for each core.
    fn cores(&self) -> &[CoreCell];
    /// The same, to change.
    fn cores_mut(&mut self) -> &mut [CoreCell];
    /// [`words_needed`] words.
    fn words(&self) -> &[u64];
    /// The same, to change.
    fn words_mut(&mut self) -> &mut [u64];
}

/// Words of bitmap storage for a host with so many regions.
pub const fn words_needed(regions: u32) -> usize {
    Bitmap::COUNT.saturating_mul(bits::words_for(regions))
}

/// Bitmaps over regions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bitmap {
    /// Holds RAM and lies in some participating core's window.
    Eligible,
    /// Found clean since the last mark.
    Clean,
    /// To be verified when due.
    Candidate,
}

impl Bitmap {
    const COUNT: usize = 3;

    pub(crate) fn of<S: Storage>(self, storage: &S) -> &[u64] {
        let each = bits::words_for(storage.regions().len() as u32);
        storage.words().chunks_exact(each.max(1)).nth(self as usize).unwrap_or(&[])
    }

    pub(crate) fn of_mut<S: Storage>(self, storage: &mut S) -> &mut [u64] {
        let each = bits::words_for(storage.regions().len() as u32);
        storage.words_mut().chunks_exact_mut(each.max(1)).nth(self as usize).unwrap_or(&mut [])
    }

    pub(crate) fn has<S: Storage>(self, storage: &S, region: Region) -> bool {
        bits::test(self.of(storage), region.get())
    }

    pub(crate) fn put<S: Storage>(self, storage: &mut S, region: Region, on: bool) -> bool {
        bits::assign(self.of_mut(storage), region.get(), on)
    }
}

/// Storage of three buffers: `Vec`s, kernel vectors, or slices of arrays.
#[derive(Debug)]
pub struct Buffers<R, C, W> {
    /// One for each region.
    pub regions: R,
    /// One for each core.
    pub cores: C,
    /// [`words_needed`] words, zero.
    pub words: W,
}

impl<R, C, W> Storage for Buffers<R, C, W>
where
    R: DerefMut<Target = [RegionCell]>,
    C: DerefMut<Target = [CoreCell]>,
    W: DerefMut<Target = [u64]>,
{
    fn regions(&self) -> &[RegionCell] {
        &self.regions
    }
    fn regions_mut(&mut self) -> &mut [RegionCell] {
        &mut self.regions
    }
    fn cores(&self) -> &[CoreCell] {
        &self.cores
    }
    fn cores_mut(&mut self) -> &mut [CoreCell] {
        &mut self.cores
    }
    fn words(&self) -> &[u64] {
        &self.words
    }
    fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }
}
