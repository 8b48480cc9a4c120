//! Where guests are put if the operator follows the advice (docs/placement.md).
//!
//! A region is worth to ordinary guests what share of the writes to it comes from cores whose window
//! covers it: 80 % from the cores of its node, the rest from all others, as in [`super::writes`].
//! Ordinary guests take the regions of most worth, from the lowest address up. SNP guests take those of
//! least worth, from the highest down: outside all windows nothing can be lost by them, and inside they
//! lie together and away from the others.
//!
//! A guest that is bound to a node stays there, scattered pages stay scattered, and the kernel's own
//! pages go where the kernel puts them. Before the first SNP_INIT there are no windows and no advice.

use std::collections::BTreeMap;
use std::ops::Range;

use rmpopt_core::{CoreId, Host as _};
use snp_defs::Region;

use super::Engine;
use crate::scenario::{GuestKind, GuestSpec, Placement, PlacementRule};

/// Worth of a region whose writes are all covered.
const ALL: u64 = 1_000_000;
/// Of this, what comes from the region's own node.
const LOCAL: u64 = ALL * 8 / 10;

/// Cores of one node that share a window, by its first region.
type Groups = BTreeMap<(u16, Region), u64>;

impl Engine<'_> {
    /// The regions in which to look for a guest's memory, one range after the other; nothing if it goes
    /// wherever there is room.
    pub(super) fn advised(&self, spec: &GuestSpec) -> Vec<Range<u32>> {
        let scattered = matches!(spec.placement, Placement::Scattered4K | Placement::Scattered2M);
        if self.setup.scenario.rule == PlacementRule::Ordered || scattered {
            return Vec::new();
        }
        let groups = self.window_groups();
        if groups.is_empty() {
            return Vec::new();
        }
        let mut cores = BTreeMap::new();
        for core in 0..self.view.cores() {
            *cores.entry(self.view.node(CoreId(core))).or_insert(0u64) += 1;
        }
        let regions = (0..self.view.spanned_regions()).filter_map(Region::new);
        let worth = |region: Region| worth(&groups, &cores, self.view.region_node(region), region);
        let ram = regions.filter(|&region| self.view.ram_mib(region) > 0);
        let mut order: Vec<(u64, u32)> = ram.map(|region| (worth(region), region.get())).collect();
        match spec.kind {
            GuestKind::Ordinary => {
                order.sort_by_key(|&(worth, region)| (std::cmp::Reverse(worth), region));
            }
            GuestKind::Snp => {
                order.sort_by_key(|&(worth, region)| (worth, std::cmp::Reverse(region)));
            }
        }
        let mut ranges: Vec<Range<u32>> = Vec::new();
        for (_, region) in order {
            match ranges.last_mut() {
                Some(last) if last.end == region => last.end = region + 1,
                _ => ranges.push(region..region + 1),
            }
        }
        ranges
    }

    fn window_groups(&self) -> Groups {
        let mut groups = Groups::new();
        for (core, window) in self.windows.iter().enumerate() {
            let Some(window) = window else { continue };
            let node = self.view.node(CoreId(core as u16));
            *groups.entry((node, window.base)).or_insert(0) += 1;
        }
        groups
    }
}

/// Share of a region's writes that come from cores whose window covers it, in millionths.
fn worth(groups: &Groups, cores: &BTreeMap<u16, u64>, node: u16, region: Region) -> u64 {
    let (mut local, mut remote) = (0, 0);
    for (&(of, base), &count) in groups {
        if (snp_defs::Window { base }).covers(region) {
            *(if of == node { &mut local } else { &mut remote }) += count;
        }
    }
    let own = cores.get(&node).copied().unwrap_or(0);
    let others = cores.values().sum::<u64>() - own;
    // All writes are local where there is one node, and none where the node has no cores.
    let from_own = match (own, others) {
        (0, _) => 0,
        (_, 0) => ALL,
        _ => LOCAL,
    };
    from_own * local / own.max(1) + (ALL - from_own) * remote / others.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_worth_what_its_writers_cover() {
        let region = |number| Region::new(number).unwrap();
        // Two nodes of four cores; those of node 1 have windows further up.
        let cores = BTreeMap::from([(0, 4), (1, 4)]);
        let groups = Groups::from([((0, region(0)), 4), ((1, region(1000)), 4)]);
        let of = |node, number| worth(&groups, &cores, node, region(number));
        assert_eq!(of(0, 10), 800_000);
        assert_eq!(of(1, 10), 200_000);
        assert_eq!(of(0, 1500), 1_000_000);
        assert_eq!(of(1, 2500), 800_000);
        assert_eq!(of(1, 3048), 0);
        // Cores that do not take part cover nothing.
        let half = Groups::from([((0, region(0)), 2)]);
        assert_eq!(worth(&half, &cores, 0, region(0)), 400_000);
        // One node: all writes are its own. A node without cores: none.
        let one = BTreeMap::from([(0, 4)]);
        let all = Groups::from([((0, region(0)), 4)]);
        assert_eq!(worth(&all, &one, 0, region(0)), 1_000_000);
        assert_eq!(worth(&all, &one, 7, region(0)), 1_000_000);
    }
}
