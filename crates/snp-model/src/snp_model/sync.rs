//! The atomics that the model is built of: `core`'s, or loom's where it is model-checked.
//!
//! Everything in this folder that is shared between threads goes through here, so that the code that
//! `tests/loom` explores is the code that runs.

#[cfg(not(loom))]
pub use core::{
    hint::spin_loop,
    sync::atomic::{fence, AtomicBool, AtomicU32, AtomicU64, Ordering},
};
#[cfg(loom)]
pub use loom::{
    hint::spin_loop,
    sync::atomic::{fence, AtomicU32, Ordering},
};

#[cfg(loom)]
pub use self::checked::{AtomicBool, AtomicU64};

/// A constructor that makes atomics: `const`, but for loom, whose atomics have no such.
macro_rules! const_constructor {
    ($(#[$attribute:meta])* $visibility:vis const fn $($rest:tt)+) => {
        #[cfg(not(loom))]
        $(#[$attribute])*
        $visibility const fn $($rest)+
        #[cfg(loom)]
        $(#[$attribute])*
        $visibility fn $($rest)+
    };
}
pub(super) use const_constructor;

/// The words as an array, so that its length is known; `None` if there are fewer or more.
#[cfg(not(loom))]
#[inline]
pub(super) fn as_long_as<const WORDS: usize>(words: &[AtomicU64]) -> Option<&[AtomicU64; WORDS]> {
    words.try_into().ok()
}

/// As they are: loom's blocks are of a few pages.
#[cfg(loom)]
pub(super) fn as_long_as<const WORDS: usize>(words: &[AtomicU64]) -> Option<&[AtomicU64]> {
    (words.len() <= WORDS).then_some(words)
}

/// A store, with release, to a word that others change by read-modify-writes.
#[cfg(not(loom))]
#[inline]
pub(super) fn store_over_others(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Release);
}

/// loom keeps no order between a store and the read-modify-writes that race with it, and would let each
/// go on by itself.
#[cfg(loom)]
pub(super) fn store_over_others(word: &AtomicU64, value: u64) {
    word.swap(value, Ordering::Release);
}

/// loom's atomics, made safe against what its reduction leaves out.
#[cfg(loom)]
mod checked {
    use core::fmt;

    use loom::sync::atomic;

    use super::Ordering;

    /// loom notes for each word only the last access, and takes two loads for independent: a thread
    /// that loads a word before it writes it hides another's load from the reduction, and orders of
    /// the two are left out. So every access touches a second word first, by a relaxed
    /// read-modify-write. That orders no memory, and makes all accesses of a word dependent.
    macro_rules! checked {
        ($name:ident, $word:ty) => {
            /// A word that is shared between threads.
            pub struct $name {
                order: atomic::AtomicBool,
                word: atomic::$name,
            }

            impl $name {
                /// A word with this value.
                pub fn new(value: $word) -> Self {
                    let order = atomic::AtomicBool::new(false);
                    Self { order, word: atomic::$name::new(value) }
                }
                /// A write; nothing comes between it and the touch of the second word.
                fn write<T>(&self, write: impl FnOnce(&atomic::$name) -> T) -> T {
                    self.order.swap(false, Ordering::Relaxed);
                    loom::stop_exploring();
                    let result = write(&self.word);
                    loom::explore();
                    result
                }
                /// As `core` has it.
                pub fn load(&self, order: Ordering) -> $word {
                    self.order.swap(false, Ordering::Relaxed);
                    self.word.load(order)
                }
                /// As `core` has it.
                pub fn store(&self, value: $word, order: Ordering) {
                    self.write(|word| word.store(value, order));
                }
                /// As `core` has it.
                pub fn swap(&self, value: $word, order: Ordering) -> $word {
                    self.write(|word| word.swap(value, order))
                }
            }

            impl Default for $name {
                fn default() -> Self {
                    Self::new(<$word>::default())
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.pad(stringify!($name))
                }
            }
        };
    }
    checked!(AtomicU64, u64);
    checked!(AtomicBool, bool);

    macro_rules! forward {
        ($($name:ident)+) => {
            impl AtomicU64 {
                $(
                    /// As `core` has it.
                    pub fn $name(&self, value: u64, order: Ordering) -> u64 {
                        self.write(|word| word.$name(value, order))
                    }
                )+
            }
        };
    }
    forward!(fetch_add fetch_sub fetch_and fetch_or);

    impl AtomicU64 {
        /// As `core` has it.
        pub fn compare_exchange_weak(
            &self,
            current: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            self.write(|word| word.compare_exchange_weak(current, new, success, failure))
        }
    }
}
