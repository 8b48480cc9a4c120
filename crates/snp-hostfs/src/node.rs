//! What a file or folder is, as a number: inodes are worked out, never handed out, so that nothing
//! has to be kept for a file that was looked at.

/// Declares [`Kind`] with its numbers.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident,)*) => {
        /// Sorts of files and folders.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Kind {
            $($(#[doc = $doc])+ $kind,)*
        }

        impl Kind {
            const ALL: &'static [Self] = &[$(Self::$kind),*];
        }
    };
}

kinds! {
    /// At a fixed path: `a` is its place in the list.
    Fixed,
    /// `/dev/cpu/A`.
    Device,
    /// `/dev/cpu/A/msr`.
    Msr,
    /// `/dev/cpu/A/cpuid`.
    Cpuid,
    /// `/sys/devices/system/cpu/cpuA`.
    Cpu,
    /// Its `online`.
    CpuOnline,
    /// Its link `nodeB`.
    CpuNode,
    /// Its `topology`.
    Topology,
    /// File B of that.
    TopologyFile,
    /// Its `cache`.
    Cache,
    /// `indexB` of that.
    CacheIndex,
    /// A file of that: B is index times 256, plus the file.
    CacheFile,
    /// `/sys/devices/system/node/nodeA`.
    Node,
    /// File B of that.
    NodeFile,
    /// Its link `cpuA`, of node B.
    NodeCpu,
    /// Its link `memoryA`, of node B.
    NodeBlock,
    /// `/sys/devices/system/memory/memoryA`.
    Block,
    /// File B of that.
    BlockFile,
    /// Its link `nodeB`.
    BlockNode,
    /// `/proc/A` of a guest's process.
    Process,
    /// Its `cmdline`.
    Cmdline,
}

/// A file or folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Node {
    /// Its sort.
    pub(crate) kind: Kind,
    /// Its first number.
    pub(crate) a: u32,
    /// Its second.
    pub(crate) b: u16,
}

impl Node {
    /// The top.
    pub(crate) const ROOT: Self = Self::of(Kind::Fixed, 0);

    pub(crate) const fn of(kind: Kind, a: u32) -> Self {
        Self { kind, a, b: 0 }
    }

    pub(crate) const fn part(kind: Kind, a: u32, b: u16) -> Self {
        Self { kind, a, b }
    }

    /// Its inode; the top's is 1.
    pub(crate) const fn inode(self) -> u64 {
        ((self.kind as u64) << 56 | (self.b as u64) << 32 | self.a as u64) + 1
    }

    /// What has that inode. The kernel asks for none that it was not given.
    pub(crate) fn of_inode(inode: u64) -> Option<Self> {
        let raw = inode.checked_sub(1)?;
        let kind = *Kind::ALL.get((raw >> 56) as usize)?;
        Some(Self { kind, a: raw as u32, b: (raw >> 32) as u16 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inodes_and_back() {
        assert_eq!(Node::ROOT.inode(), 1);
        for kind in Kind::ALL {
            let node = Node::part(*kind, u32::MAX, 7);
            assert_eq!(Node::of_inode(node.inode()), Some(node));
        }
        assert_eq!(Node::of_inode(0), None);
        assert_eq!(Node::of_inode(u64::MAX), None);
    }
}
