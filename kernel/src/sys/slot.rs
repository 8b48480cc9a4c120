// SPDX-License-Identifier: MIT OR GPL-2.0
//! A place for one box, passed between contexts without a lock.

use core::marker::PhantomData;
use core::ptr::{null_mut, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

use kernel::prelude::*;

/// Holds a box or nothing. Whoever takes the box owns it; interrupts may take and put.
pub(crate) struct Slot<T: Send>(AtomicPtr<T>, PhantomData<T>);

impl<T: Send> Slot<T> {
    /// An empty slot.
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()), PhantomData)
    }

    /// Whether there was something in it a moment ago.
    pub(crate) fn is_full(&self) -> bool {
        !self.0.load(Ordering::Acquire).is_null()
    }

    fn own(pointer: *mut T) -> Option<KBox<T>> {
        // SAFETY: The pointer came from `KBox::into_raw` in `put` or `put_back`, and the exchange
        // that gave it to us left null: nobody else has it.
        NonNull::new(pointer).map(|pointer| unsafe { KBox::from_raw(pointer.as_ptr()) })
    }

    /// Takes out what is in it.
    pub(crate) fn take(&self) -> Option<KBox<T>> {
        Self::own(self.0.swap(null_mut(), Ordering::AcqRel))
    }

    /// Puts a box in; what was there comes out.
    pub(crate) fn put(&self, value: KBox<T>) -> Option<KBox<T>> {
        Self::own(self.0.swap(KBox::into_raw(value), Ordering::AcqRel))
    }

    /// Puts a box in unless there is one, which then stays; the refused box comes back.
    pub(crate) fn put_back(&self, value: KBox<T>) -> Option<KBox<T>> {
        let pointer = KBox::into_raw(value);
        match self.0.compare_exchange(null_mut(), pointer, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => None,
            Err(_) => Self::own(pointer),
        }
    }
}

impl<T: Send> Drop for Slot<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}
