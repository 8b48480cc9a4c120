//! The optimised share as ordinary guests see it: by their bytes and the cores that write them.
//!
//! A region weighs what ordinary guests touch in it. Of the writes there, 80 % come from the cores of its
//! node, each as often as the other, and 20 % from all other cores (assumed). All sums are whole numbers,
//! so nothing is lost over a long run.

/// Share of writes that come from the memory's own node, in per cent.
const LOCAL_PERCENT: f64 = 80.0;

/// One node: its cores, and the sums over its regions of bytes times cores that have them optimised.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    cores: u64,
    local: u128,
    remote: u128,
    bytes: u64,
}

/// One region: bytes of ordinary guests, and how many cores have it optimised.
#[derive(Clone, Copy, Debug, Default)]
struct Book {
    node: u16,
    bytes: u64,
    local: u32,
    remote: u32,
}

#[derive(Debug)]
pub(super) struct Writes {
    cores: Vec<u16>,
    nodes: Vec<Node>,
    regions: Vec<Book>,
    /// The share as it was last asked for, unless something changed since.
    share: Option<f64>,
    changed: bool,
}

impl Writes {
    /// By the node of each core and of each region.
    pub(super) fn new(cores: Vec<u16>, regions: Vec<u16>) -> Self {
        let most = cores.iter().chain(&regions).max().map_or(0, |&node| usize::from(node) + 1);
        let mut nodes = vec![Node::default(); most];
        for &node in &cores {
            nodes[usize::from(node)].cores += 1;
        }
        let regions = regions.into_iter().map(|node| Book { node, ..Book::default() }).collect();
        Self { cores, nodes, regions, share: None, changed: false }
    }

    /// Ordinary guests touch `bytes` more of a region, or no longer.
    pub(super) fn touched(&mut self, index: usize, bytes: u64, more: bool) {
        self.changed = true;
        let Some(book) = self.regions.get_mut(index) else { return };
        let Some(node) = self.nodes.get_mut(usize::from(book.node)) else { return };
        let bytes = if more { bytes } else { bytes.min(book.bytes) };
        let (local, remote) = (
            u128::from(bytes) * u128::from(book.local),
            u128::from(bytes) * u128::from(book.remote),
        );
        if more {
            book.bytes += bytes;
            node.bytes += bytes;
            node.local += local;
            node.remote += remote;
        } else {
            book.bytes -= bytes;
            node.bytes -= bytes;
            node.local -= local;
            node.remote -= remote;
        }
    }

    /// A core's bit for a region changed.
    pub(super) fn bit(&mut self, core: usize, index: usize, on: bool) {
        self.changed = true;
        let (Some(book), Some(&at)) = (self.regions.get_mut(index), self.cores.get(core)) else {
            return;
        };
        let Some(node) = self.nodes.get_mut(usize::from(book.node)) else { return };
        let bytes = u128::from(book.bytes);
        let (count, sum) = if at == book.node {
            (&mut book.local, &mut node.local)
        } else {
            (&mut book.remote, &mut node.remote)
        };
        if on {
            *count += 1;
            *sum += bytes;
        } else if *count > 0 {
            *count -= 1;
            *sum -= bytes;
        }
    }

    /// No core has the region any more.
    pub(super) fn clear(&mut self, index: usize) {
        self.changed = true;
        let Some(book) = self.regions.get_mut(index) else { return };
        let Some(node) = self.nodes.get_mut(usize::from(book.node)) else { return };
        node.local -= u128::from(book.bytes) * u128::from(book.local);
        node.remote -= u128::from(book.bytes) * u128::from(book.remote);
        (book.local, book.remote) = (0, 0);
    }

    /// No core has any region.
    pub(super) fn clear_all(&mut self) {
        for index in 0..self.regions.len() {
            self.clear(index);
        }
    }

    /// Share of ordinary guests' writes that need no check; `None` while they touch nothing.
    pub(super) fn share(&mut self) -> Option<f64> {
        if self.changed {
            self.changed = false;
            self.share = self.sum();
        }
        self.share
    }

    fn sum(&self) -> Option<f64> {
        let cores = self.cores.len() as u64;
        let bytes: u64 = self.nodes.iter().map(|node| node.bytes).sum();
        let covered = self.nodes.iter().map(|node| {
            let others = cores - node.cores;
            let part = |sum: u128, of: u64| sum as f64 / of.max(1) as f64;
            let local = match (node.cores, others) {
                (0, _) => 0.0,
                (_, 0) => 1.0,
                _ => LOCAL_PERCENT / 100.0,
            };
            local * part(node.local, node.cores) + (1.0 - local) * part(node.remote, others)
        });
        (bytes > 0).then(|| covered.sum::<f64>() / bytes as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(share: Option<f64>, wanted: f64) {
        assert!(share.is_some_and(|share| (share - wanted).abs() < 1e-12), "{share:?} {wanted}");
    }

    #[test]
    fn four_of_five_writes_are_local() {
        // Two nodes of two cores, a region each.
        let mut writes = Writes::new(vec![0, 0, 1, 1], vec![0, 1]);
        assert_eq!(writes.share(), None);
        writes.touched(0, 100, true);
        writes.bit(0, 0, true);
        close(writes.share(), 0.4);
        writes.bit(1, 0, true);
        close(writes.share(), 0.8);
        writes.bit(2, 0, true);
        close(writes.share(), 0.9);
        // Bytes that no core has optimised.
        writes.touched(1, 300, true);
        close(writes.share(), 0.225);
        writes.touched(1, 300, false);
        writes.bit(0, 0, false);
        close(writes.share(), 0.5);
        writes.clear(0);
        close(writes.share(), 0.0);
        writes.touched(0, 100, false);
        assert_eq!(writes.share(), None);
    }

    #[test]
    fn one_node_is_all_local_and_memory_without_cores_all_remote() {
        let mut one = Writes::new(vec![0, 0], vec![0]);
        one.touched(0, 7, true);
        one.bit(1, 0, true);
        close(one.share(), 0.5);
        let mut memory = Writes::new(vec![0, 0], vec![1]);
        memory.touched(0, 7, true);
        memory.bit(0, 0, true);
        memory.bit(1, 0, true);
        close(memory.share(), 1.0);
        memory.clear_all();
        close(memory.share(), 0.0);
    }
}
