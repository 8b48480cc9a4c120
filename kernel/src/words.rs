// SPDX-License-Identifier: MIT OR GPL-2.0
//! Vectors of words that many may change.

use core::borrow::Borrow;
use core::sync::atomic::AtomicU64;

use kernel::prelude::*;

/// A vector of words, all zero at first.
#[derive(Debug)]
pub(crate) struct Words(KVVec<AtomicU64>);

impl Words {
    pub(crate) fn new(count: usize) -> Result<Self> {
        let mut words = KVVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            words.push(AtomicU64::new(0), GFP_KERNEL)?;
        }
        Ok(Self(words))
    }

    pub(crate) fn all(&self) -> &[AtomicU64] {
        &self.0
    }
}

impl Borrow<[AtomicU64]> for Words {
    fn borrow(&self) -> &[AtomicU64] {
        &self.0
    }
}
