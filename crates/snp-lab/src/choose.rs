//! Choices that the seed makes: which guests of a trace are SNP guests, and how they lie.

use crate::scenario::{Placement, SnpBy, TraceSpec};

/// SplitMix64's output function: spreads any 64 bits over all 64 bits.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// A hash of seed and name; the same on every machine.
pub(crate) fn hash(seed: u64, name: &str) -> u64 {
    name.bytes().fold(mix(seed), |hash, byte| mix(hash ^ u64::from(byte)))
}

/// The generator's state for a seed.
pub(crate) fn seed_state(seed: u64) -> u128 {
    u128::from(mix(seed)) << 64 | u128::from(mix(seed ^ u64::MAX))
}

/// Whether a row of a trace is in a sample: each with the probability `share`, decided by the hash of
/// seed and row. A larger share keeps all that a smaller one keeps.
pub fn in_sample(seed: u64, row: u64, share: f64) -> bool {
    // 2^64 is exact in a float; a share of 1 takes all.
    share >= 1.0 || (mix(mix(seed) ^ row) as f64) < share * 18_446_744_073_709_551_616.0
}

/// For each guest of a trace, in order: is it an SNP guest?
///
/// By VM: each one with the probability `snp_share`, decided by the hash of seed and id. By memory:
/// guests in the order of that hash until they hold `snp_share` of all memory.
pub fn snp_guests(trace: &TraceSpec, seed: u64) -> Vec<bool> {
    let hashes: Vec<u64> = trace.guests.iter().map(|guest| hash(seed, &guest.id)).collect();
    match trace.snp_by {
        SnpBy::Vm => {
            // 2^64 is exact in a float; a share of 1 takes all.
            let below = |hash: u64| (hash as f64) < trace.snp_share * 18_446_744_073_709_551_616.0;
            hashes.into_iter().map(|hash| trace.snp_share >= 1.0 || below(hash)).collect()
        }
        SnpBy::Memory => {
            let total: u128 = trace.guests.iter().map(|guest| u128::from(guest.memory)).sum();
            let wanted = total as f64 * trace.snp_share;
            let mut order: Vec<usize> = (0..hashes.len()).collect();
            order.sort_by_key(|&index| (hashes.get(index).copied(), index));
            let (mut chosen, mut held) = (vec![false; hashes.len()], 0u128);
            for index in order {
                let Some(guest) = trace.guests.get(index) else { continue };
                if held as f64 >= wanted {
                    break;
                }
                held += u128::from(guest.memory);
                if let Some(chosen) = chosen.get_mut(index) {
                    *chosen = true;
                }
            }
            chosen
        }
    }
}

/// How a trace's guests lie, which no trace tells: SNP guests in the 4 KiB pages that guest_memfd
/// gives them, ordinary ones in transparent huge pages (spec/performance.md 4.1).
pub(crate) const fn traced_placement(snp: bool) -> Placement {
    if snp { Placement::Pages4K } else { Placement::Pages2M }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::TraceGuest;

    fn trace(share: f64, by: SnpBy) -> TraceSpec {
        let guest = |index: u64| TraceGuest {
            id: format!("vm-{index}"),
            cpu_milli: 1000,
            memory: (1 + index % 7) << 30,
            start: 0,
            end: None,
            left_censored: false,
            right_censored: false,
        };
        TraceSpec {
            guests: (0..10_000).map(guest).collect(),
            snp_share: share,
            snp_by: by,
            ..TraceSpec::default()
        }
    }

    #[test]
    fn the_share_is_met_and_the_seed_decides_who() {
        let trace = trace(0.3, SnpBy::Vm);
        let one = snp_guests(&trace, 1);
        let chosen = one.iter().filter(|&&snp| snp).count();
        assert!((2_850..3_150).contains(&chosen), "{chosen}");
        assert_eq!(one, snp_guests(&trace, 1));
        assert_ne!(one, snp_guests(&trace, 2));
    }

    #[test]
    fn memory_is_shared_as_asked() {
        let trace = trace(0.3, SnpBy::Memory);
        let chosen = snp_guests(&trace, 1);
        let sum = |snp: bool| -> u64 {
            let guests = trace.guests.iter().zip(&chosen);
            guests.filter(|(_, c)| !snp || **c).map(|(guest, _)| guest.memory).sum()
        };
        let share = sum(true) as f64 / sum(false) as f64;
        assert!((0.3..0.301).contains(&share), "{share}");
    }

    #[test]
    fn none_and_all() {
        for by in SnpBy::ALL {
            assert!(snp_guests(&trace(0.0, by), 1).iter().all(|snp| !snp));
            assert!(snp_guests(&trace(1.0, by), 1).iter().all(|snp| *snp));
        }
    }
}
