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
/// If everything up to the top of RAM fits into one window, every core covers all of it. Else a core
/// has its own RAM: its socket's, or its node's where the socket's spans more than a window. The
/// window begins with it, as guests get low memory first on a fresh host (docs/policies.md "Which
/// window"), unless that covers over 1/64 less of it, or of all RAM, than the best window does.
pub fn own_memory(host: &dyn Host, core: CoreId) -> Window {
    if host.spanned_regions() <= Window::REGIONS {
        return Window::default();
    }
    let own = own(host, core);
    let most = best(host, own);
    let start = covering(host, own, start(host, own));
    let enough = |covered: u64, most: u64| covered.saturating_add(most / 64) >= most;
    if enough(start.own, most.own) && enough(start.all, most.all) {
        start.window
    } else {
        most.window
    }
}

/// v1's choice for one core: 0 if everything up to the top of RAM fits into one window, else the
/// first RAM of its socket, or of its node where the socket spans more (spec/rmpopt.md 4).
pub fn start_of_own(host: &dyn Host, core: CoreId) -> Window {
    if host.spanned_regions() <= Window::REGIONS {
        return Window::default();
    }
    Window { base: first(host, own(host, core)) }
}

/// The core's socket, or its node where the socket's RAM spans more than a window.
fn own(host: &dyn Host, core: CoreId) -> Own {
    let socket = Own::Socket(host.socket(core));
    if span(host, socket) <= Window::REGIONS {
        socket
    } else {
        Own::Node(host.node(core))
    }
}

/// The first region with own RAM.
fn first(host: &dyn Host, own: Own) -> Region {
    let first = (0..host.spanned_regions()).find(|&number| is_own_ram(host, own, number));
    first.and_then(Region::new).unwrap_or_default()
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

/// A window and the RAM in it, MiB.
#[derive(Clone, Copy, Default)]
struct Covering {
    own: u64,
    all: u64,
    window: Window,
}

impl Covering {
    // Sums of at most 2,048 regions' MiB; what leaves a window had come into it.
    fn plus(self, (own, all): (u64, u64)) -> Self {
        Self { own: self.own.wrapping_add(own), all: self.all.wrapping_add(all), ..self }
    }

    fn minus(self, (own, all): (u64, u64)) -> Self {
        Self { own: self.own.wrapping_sub(own), all: self.all.wrapping_sub(all), ..self }
    }
}

/// A region's own RAM and all its RAM, MiB.
fn weigh(host: &dyn Host, own: Own, number: u32) -> (u64, u64) {
    let inside = |region: &Region| region.get() < host.spanned_regions();
    let Some(region) = Region::new(number).filter(inside) else { return (0, 0) };
    let mib = u64::from(host.ram_mib(region));
    (if own.holds(host, region) { mib } else { 0 }, mib)
}

/// The window that covers most own RAM, then most RAM; the lowest of equals.
fn best(host: &dyn Host, own: Own) -> Covering {
    let mut here = covering(host, own, Region::default());
    let mut best = here;
    // The first region past a window, and the first in it: both leave and come one by one.
    for (come, gone) in (Window::REGIONS..host.spanned_regions()).zip(0_u32..) {
        here = here.plus(weigh(host, own, come)).minus(weigh(host, own, gone));
        here.window.base = Region::new(gone.wrapping_add(1)).unwrap_or_default();
        if (here.own, here.all) > (best.own, best.all) {
            best = here;
        }
    }
    best
}

/// Where the own RAM begins, or lower where a window from there would reach past the top of RAM.
fn start(host: &dyn Host, own: Own) -> Region {
    let top = host.spanned_regions().saturating_sub(Window::REGIONS);
    first(host, own).min(Region::new(top).unwrap_or_default())
}

fn covering(host: &dyn Host, own: Own, base: Region) -> Covering {
    let empty = Covering { window: Window { base }, ..Covering::default() };
    let end = base.get().saturating_add(Window::REGIONS);
    (base.get()..end).map(|number| weigh(host, own, number)).fold(empty, Covering::plus)
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
        // Each begins with its own 1,536 regions; the last would reach past the top of RAM.
        assert_eq!(bases(&host), [0, 1536, 3072, 4096]);
    }

    /// A host without RAM in some regions.
    struct Holed {
        plain: Plain,
        hole: core::ops::Range<u32>,
    }

    impl Host for Holed {
        fn cores(&self) -> u16 {
            self.plain.cores()
        }
        fn participates(&self, core: CoreId) -> bool {
            self.plain.participates(core)
        }
        fn node(&self, core: CoreId) -> u16 {
            self.plain.node(core)
        }
        fn socket(&self, core: CoreId) -> u16 {
            self.plain.socket(core)
        }
        fn spanned_regions(&self) -> u32 {
            self.plain.spanned_regions()
        }
        fn ram_mib(&self, region: Region) -> u32 {
            if self.hole.contains(&region.get()) {
                0
            } else {
                self.plain.ram_mib(region)
            }
        }
        fn region_node(&self, region: Region) -> u16 {
            self.plain.region_node(region)
        }
        fn node_socket(&self, node: u16) -> u16 {
            self.plain.node_socket(node)
        }
    }

    /// Base of the first core's window on a socket of 3 TiB with a hole that ends at 1 TiB.
    fn base_below_and_above(hole: u32) -> u32 {
        let plain = Plain {
            sockets: 2,
            nodes_per_socket: 1,
            cores_per_node: 2,
            regions_per_node: 3072,
            hole: 0,
        };
        own_memory(&Holed { plain, hole: 1024 - hole..1024 }, CoreId(0)).base.get()
    }

    #[test]
    fn a_window_slides_over_a_hole_only_for_more_than_a_64th() {
        assert_eq!(base_below_and_above(12), 0);
        // Without the hole 2,048 regions, with it 2,048 less its size: 2,048 / 64 is allowed.
        assert_eq!(base_below_and_above(32), 0);
        assert_eq!(base_below_and_above(33), 1024);
    }

    #[test]
    fn little_memory_before_a_large_hole_is_left_out() {
        assert_eq!(base_below_and_above(1000), 1024);
    }
}
