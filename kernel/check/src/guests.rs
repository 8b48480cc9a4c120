//! Lives of guests, from a seed.

use std::collections::BTreeSet;

/// Blocks of 2 MiB in a region.
const BLOCKS: u64 = 512;
/// 4 KiB pages in a block.
const PAGES: u64 = 512;
/// Guests alive at once.
const AT_ONCE: usize = 8;

/// Commands that let `count` guests live and die in a host of so many regions: each step is a write
/// to the control file.
pub(crate) fn lives(count: u64, seed: u64, regions: u64) -> Vec<String> {
    let mut random = Random(seed);
    let mut taken = BTreeSet::new();
    let mut alive: Vec<Vec<Piece>> = Vec::new();
    let mut steps = Vec::new();
    for guest in 0..count {
        if alive.len() == AT_ONCE {
            let victim = random.below(alive.len() as u64) as usize;
            steps.push(death(&alive.swap_remove(victim), &mut taken));
        }
        let asid = 1 + guest % 500;
        let memory: Vec<Piece> = (0..=random.below(3))
            .filter_map(|_| Piece::choose(&mut random, &mut taken, regions))
            .collect();
        let commands: Vec<String> = memory.iter().map(|piece| piece.command(Some(asid))).collect();
        steps.push(commands.join("\n"));
        alive.push(memory);
    }
    for memory in alive {
        steps.push(death(&memory, &mut taken));
    }
    steps
}

/// All memory of a guest goes back, then the guest itself.
fn death(memory: &[Piece], taken: &mut BTreeSet<u64>) -> String {
    let mut commands = String::new();
    for piece in memory {
        taken.remove(&piece.block);
        commands += &piece.command(None);
        commands.push('\n');
    }
    commands + "decommission"
}

/// Memory of a guest within one block.
struct Piece {
    /// Number of the block on the host.
    block: u64,
    /// Pages from the block's start on; `None`: the block as one page.
    pages: Option<u64>,
}

impl Piece {
    fn choose(random: &mut Random, taken: &mut BTreeSet<u64>, regions: u64) -> Option<Self> {
        let block = random.below(regions * BLOCKS);
        if !taken.insert(block) {
            return None;
        }
        let pages = (random.below(3) > 0).then(|| 1 + random.below(12));
        Some(Self { block, pages })
    }

    /// The command that assigns it, or that gives it back.
    fn command(&self, asid: Option<u64>) -> String {
        let name = if asid.is_some() { "assign" } else { "share" };
        let first = self.block * PAGES;
        let owner = asid.map_or(String::new(), |asid| format!(" {asid}"));
        match self.pages {
            Some(pages) => format!("{name} {first} {pages}{owner}"),
            None => format!("{name} {first} 1{owner} 2m"),
        }
    }
}

/// SplitMix64 (public domain, Vigna).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 to `end` - 1.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;

    #[test]
    fn every_guest_gives_all_its_memory_back() {
        let mut account = Account::new(16);
        account.note("snp-init").unwrap();
        let steps = lives(200, 7, 16);
        let mut most = 0;
        for step in &steps {
            for command in step.lines() {
                account.note(command).unwrap();
            }
            most = most.max((0..16).filter(|&region| account.is_assigned(region)).count());
        }
        assert!(most > 4, "guests lie in several regions at once, got {most}");
        assert!((0..16).all(|region| !account.is_assigned(region)));
        assert_eq!(steps.iter().filter(|step| step.ends_with("decommission")).count(), 200);
        assert_ne!(steps, lives(200, 8, 16), "the seed matters");
    }
}
