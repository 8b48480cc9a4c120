//! Which 2 TiB each core's RMPOPT table covers.
//!
//! Chosen once, at SNP_INIT: whether moving the base clears the table is unknown, and a bit that
//! survived a move would skip a check on guest memory (DESIGN "On silicon").

use crate::rmpopt_core::{CoreId, Host};
use crate::snp_defs::{Region, Window};

/// Upstream's choice (v2 to v10): the lowest RAM aligned down to 1 GiB, the same for all cores.
pub fn lowest(host: &dyn Host) -> Window {
    let lowest = (0..host.spanned_regions())
        .filter_map(Region::new)
        .find(|&region| host.ram_mib(region) > 0)
        .unwrap_or_default();
    Window { base: lowest }
}

/// Memory that counts as a core's own.
#[derive(Clone, Copy)]
enum Own {
    Socket(u16),
    Node(u16),
}

impl Own {
    fn holds(self, host: &dyn Host, region: Region) -> bool {
        let node = host.region_node(region);
        match self {
            Self::Socket(socket) => host.node_socket(node) == socket,
            Self::Node(own) => node == own,
        }
    }
}

/// `tracked`'s choice for one core.
///
/// If everything up to the top of RAM fits into one window, every core covers all of it. Else the
/// window covers as much of the core's own RAM as it can (its socket's, or its node's where the
/// socket's spans more than a window), slid to cover most RAM in all, the lowest of equals.
pub fn own_memory(host: &dyn Host, core: CoreId) -> Window {
    if host.spanned_regions() <= Window::REGIONS {
        return Window::default();
    }
    let socket = Own::Socket(host.socket(core));
    if span(host, socket) <= Window::REGIONS {
        best(host, socket)
    } else {
        best(host, Own::Node(host.node(core)))
    }
}

/// v1's choice for one core: 0 if everything up to the top of RAM fits into one window, else the
/// first RAM of its socket, or of its node where the socket spans more (spec/rmpopt.md 4).
pub fn start_of_own(host: &dyn Host, core: CoreId) -> Window {
    if host.spanned_regions() <= Window::REGIONS {
        return Window::default();
    }
    let socket = Own::Socket(host.socket(core));
    let own =
        if span(host, socket) <= Window::REGIONS { socket } else { Own::Node(host.node(core)) };
    let first = (0..host.spanned_regions()).find(|&number| is_own_ram(host, own, number));
    Window { base: first.and_then(Region::new).unwrap_or_default() }
}

/// Regions from the first to the last that holds own RAM, holes included.
fn span(host: &dyn Host, own: Own) -> u32 {
    let mut holders = (0..host.spanned_regions()).filter(|&number| is_own_ram(host, own, number));
    match (holders.next(), holders.next_back()) {
        (Some(first), Some(last)) => last.wrapping_sub(first).wrapping_add(1),
        (Some(_), None) => 1,
        _ => 0,
    }
}

fn is_own_ram(host: &dyn Host, own: Own, number: u32) -> bool {
    Region::new(number).is_some_and(|region| host.ram_mib(region) > 0 && own.holds(host, region))
}

/// The base whose window covers most own RAM, then most RAM; the lowest of equals.
fn best(host: &dyn Host, own: Own) -> Window {
    let spanned = host.spanned_regions();
    let weigh = |number: u32| -> (u64, u64) {
        let Some(region) = Region::new(number).filter(|_| number < spanned) else { return (0, 0) };
        let mib = u64::from(host.ram_mib(region));
        if own.holds(host, region) {
            (mib, mib)
        } else {
            (0, mib)
        }
    };
    // Sums of at most 2,048 regions' MiB; what leaves the window had come into it.
    let plus = |a: (u64, u64), b: (u64, u64)| (a.0.wrapping_add(b.0), a.1.wrapping_add(b.1));
    let minus = |a: (u64, u64), b: (u64, u64)| (a.0.wrapping_sub(b.0), a.1.wrapping_sub(b.1));
    let mut covered = (0..Window::REGIONS).map(weigh).fold((0, 0), plus);
    let mut best = (covered, 0);
    // The first region past a window, and the first in it: both leave and come one by one.
    for (come, gone) in (Window::REGIONS..spanned).zip(0..spanned) {
        covered = minus(plus(covered, weigh(come)), weigh(gone));
        if covered > best.0 {
            best = (covered, gone.wrapping_add(1));
        }
    }
    Window { base: Region::new(best.1).unwrap_or_default() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A host with equal nodes; RAM per node in regions, `hole` regions without RAM after node 0.
    pub(crate) struct Plain {
        pub(crate) sockets: u16,
        pub(crate) nodes_per_socket: u16,
        pub(crate) cores_per_node: u16,
        pub(crate) regions_per_node: u32,
        pub(crate) hole: u32,
    }

    impl Plain {
        fn nodes(&self) -> u32 {
            u32::from(self.sockets * self.nodes_per_socket)
        }
    }

    impl Host for Plain {
        fn cores(&self) -> u16 {
            self.sockets * self.nodes_per_socket * self.cores_per_node
        }
        fn participates(&self, _: CoreId) -> bool {
            true
        }
        fn node(&self, core: CoreId) -> u16 {
            core.0 / self.cores_per_node
        }
        fn socket(&self, core: CoreId) -> u16 {
            self.node_socket(self.node(core))
        }
        fn spanned_regions(&self) -> u32 {
            self.nodes() * self.regions_per_node + self.hole
        }
        fn ram_mib(&self, region: Region) -> u32 {
            let (first, hole) = (self.regions_per_node, self.hole);
            u32::from(region.get() < first || region.get() >= first + hole) * 1024
        }
        fn region_node(&self, region: Region) -> u16 {
            let past_hole = region.get().saturating_sub(if region.get() >= self.regions_per_node {
                self.hole
            } else {
                0
            });
            (past_hole / self.regions_per_node).min(self.nodes() - 1) as u16
        }
        fn node_socket(&self, node: u16) -> u16 {
            node / self.nodes_per_socket
        }
    }

    fn bases(host: &Plain) -> Vec<u32> {
        let mut bases: Vec<_> =
            (0..host.cores()).map(|core| own_memory(host, CoreId(core)).base.get()).collect();
        bases.dedup();
        bases
    }

    #[test]
    fn two_tebibytes_need_no_choice() {
        let host = Plain {
            sockets: 2,
            nodes_per_socket: 1,
            cores_per_node: 4,
            regions_per_node: 1024,
            hole: 0,
        };
        assert_eq!(bases(&host), [0]);
        assert_eq!(lowest(&host).base.get(), 0);
    }

    #[test]
    fn a_hole_pushes_the_second_socket_past_the_window() {
        let host = Plain {
            sockets: 2,
            nodes_per_socket: 1,
            cores_per_node: 4,
            regions_per_node: 1024,
            hole: 14,
        };
        assert_eq!(bases(&host), [0, 14]);
    }

    #[test]
    fn each_socket_covers_its_own_two_tebibytes() {
        let host = Plain {
            sockets: 2,
            nodes_per_socket: 2,
            cores_per_node: 2,
            regions_per_node: 1024,
            hole: 0,
        };
        assert_eq!(bases(&host), [0, 2048]);
    }

    #[test]
    fn a_large_socket_is_covered_by_node() {
        let host = Plain {
            sockets: 2,
            nodes_per_socket: 2,
            cores_per_node: 2,
            regions_per_node: 1536,
            hole: 0,
        };
        // Own 1,536 regions first; the window's other 512 fall where most RAM is, lowest base first.
        assert_eq!(bases(&host), [0, 1024, 2560, 4096]);
    }
}
