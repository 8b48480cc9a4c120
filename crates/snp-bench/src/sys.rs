//! Plain reads of memory that the model holds as atomics: what reading costs without the model.

use std::sync::atomic::AtomicU64;

/// All words put together with OR, read by the widest vectors of this CPU.
pub(crate) fn or_of(words: &[AtomicU64]) -> u64 {
    // SAFETY: `AtomicU64` has the size and the values of `u64` and at least its alignment, and the
    // words outlive the call. Nothing writes them meanwhile: this program starts no thread.
    let words = unsafe { std::slice::from_raw_parts(words.as_ptr().cast::<u64>(), words.len()) };
    #[cfg(target_arch = "x86_64")]
    {
        if std::is_x86_feature_detected!("avx512f") {
            // SAFETY: the CPU has AVX-512F.
            return unsafe { or_avx512(words) };
        }
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has AVX2.
            return unsafe { or_avx2(words) };
        }
    }
    or_all(words)
}

/// Compiled once for each width: the compiler makes vectors of it.
#[allow(clippy::inline_always)] // Else it has the width of its own function, not of its caller.
#[inline(always)]
fn or_all(words: &[u64]) -> u64 {
    words.iter().fold(0, |sum, word| sum | word)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn or_avx512(words: &[u64]) -> u64 {
    or_all(words)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn or_avx2(words: &[u64]) -> u64 {
    or_all(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_counts() {
        for len in [0, 1, 31, 32, 33, 100] {
            for set in 0..len {
                let words: Vec<_> =
                    (0..len).map(|at| AtomicU64::new(u64::from(at == set) << 40)).collect();
                assert_eq!(or_of(&words), 1 << 40);
            }
        }
        assert_eq!(or_of(&[AtomicU64::new(5), AtomicU64::new(8)]), 13);
    }
}
