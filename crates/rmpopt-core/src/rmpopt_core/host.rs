//! What a policy may know of the host.

use core::fmt;

use crate::snp_defs::Region;

/// A physical core: one RMPOPT table, shared by its threads. Numbered from 0 without gaps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CoreId(pub u16);

impl CoreId {
    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "core {}", self.0)
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where memory and cores lie: asked when SNP is initialised, not kept.
pub trait Host {
    /// Physical cores, online or not.
    fn cores(&self) -> u16;
    /// Whether RMPOPT may be run on this core: it is online and not masked by the operator.
    fn participates(&self, core: CoreId) -> bool;
    /// NUMA node of a core.
    fn node(&self, core: CoreId) -> u16;
    /// Socket of a core.
    fn socket(&self, core: CoreId) -> u16;
    /// Regions up to the top of RAM, holes included.
    fn spanned_regions(&self) -> u32;
    /// MiB of usable RAM in a region (0 to 1,024).
    fn ram_mib(&self, region: Region) -> u32;
    /// NUMA node that holds most of a region's RAM.
    fn region_node(&self, region: Region) -> u16;
    /// Socket that a node belongs to.
    fn node_socket(&self, node: u16) -> u16;
}
