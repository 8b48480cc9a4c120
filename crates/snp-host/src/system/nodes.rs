//! `/sys/devices/system/node` and `.../memory`: which memory and CPUs belong to which NUMA node.

use std::collections::BTreeMap;

use super::cpus::{list, optional};
use super::error::{Got, ReadError, Why};
use super::root::Root;
use crate::cpulist::CpuList;
use crate::e820::Span;
use crate::number::{ADDRESS_LIMIT, decimal, hex};

const NODE: &str = "/sys/devices/system/node";
const MEMORY: &str = "/sys/devices/system/memory";
const HUGE: &str = "/sys/kernel/mm/hugepages";

/// A NUMA node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its CPUs.
    pub cpus: CpuList,
    /// Its memory in whole memory blocks, by address and joined; coarser than RAM itself.
    pub memory: Vec<Span>,
    /// `MemTotal` of its meminfo, in KiB.
    pub total_kib: Option<u64>,
}

/// Reads all nodes.
pub(super) fn nodes(root: &Root) -> Got<BTreeMap<u32, Node>> {
    let block = block_bytes(root)?;
    let mut nodes = BTreeMap::new();
    for name in root.names(NODE)? {
        let Some(number) = numbered(&name, "node") else { continue };
        let dir = format!("{NODE}/{name}");
        let number = u32::try_from(number).ok().filter(|n| *n < 1 << 16);
        let number = number.ok_or_else(|| {
            ReadError::new(&dir, Why::malformed(0, "a node number below 65536", &name))
        })?;
        let cpus = optional(list(root, &format!("{dir}/cpulist")))?.unwrap_or_default();
        let mut memory = Vec::new();
        if let Some(block) = block {
            // Links to the blocks; their names are enough.
            let names = root.names(&dir)?;
            let mut blocks: Vec<u64> = names.iter().filter_map(|n| numbered(n, "memory")).collect();
            blocks.sort_unstable();
            memory = joined(&blocks, block);
        }
        let total_kib = optional(root.text(&format!("{dir}/meminfo")))?.and_then(|t| total(&t));
        nodes.insert(number, Node { cpus, memory, total_kib });
    }
    Ok(nodes)
}

/// Size of a memory block in bytes, `None` if the kernel has none.
fn block_bytes(root: &Root) -> Got<Option<u64>> {
    let path = format!("{MEMORY}/block_size_bytes");
    let Some(text) = optional(root.text(&path))? else { return Ok(None) };
    let fits = |size: &u64| size.is_power_of_two() && (1 << 20..=ADDRESS_LIMIT).contains(size);
    let size = hex(text.trim()).filter(fits);
    let wrong = || Why::malformed(1, "a power of two from 1 MiB to 2^52, hexadecimal", text.trim());
    size.map(Some).ok_or_else(|| ReadError::new(&path, wrong()))
}

fn numbered(name: &str, prefix: &str) -> Option<u64> {
    decimal(name.strip_prefix(prefix)?)
}

/// Blocks as ranges; those beyond physical addresses are left out. `size` divides [`ADDRESS_LIMIT`].
fn joined(blocks: &[u64], size: u64) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for block in blocks {
        let Some(start) = block.checked_mul(size).filter(|start| *start < ADDRESS_LIMIT) else {
            continue;
        };
        let end_inclusive = start + (size - 1);
        match spans.last_mut() {
            Some(last) if last.end_inclusive.checked_add(1) == Some(start) => {
                last.end_inclusive = end_inclusive;
            }
            _ => spans.push(Span { start, end_inclusive }),
        }
    }
    spans
}

/// `Node 0 MemTotal:       65807128 kB`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.contains("MemTotal:"))?;
    decimal(line.split_once("MemTotal:")?.1.trim().strip_suffix("kB")?.trim())
}

/// Pools of huge pages: size in KiB, pages, free pages.
pub(super) fn hugepages(root: &Root) -> Got<Vec<(u64, u64, u64)>> {
    let mut pools = Vec::new();
    for name in root.names(HUGE)? {
        let size = name.strip_prefix("hugepages-").and_then(|n| decimal(n.strip_suffix("kB")?));
        let Some(size) = size else { continue };
        let number = |file: &str| {
            let path = format!("{HUGE}/{name}/{file}");
            let text = root.text(&path)?;
            decimal(text.trim())
                .ok_or_else(|| ReadError::new(&path, Why::malformed(1, "a number", text.trim())))
        };
        pools.push((size, number("nr_hugepages")?, number("free_hugepages")?));
    }
    pools.sort_unstable();
    Ok(pools)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_joined() {
        let size = 128 << 20;
        let spans = joined(&[0, 1, 2, 32, 33, u64::MAX], size);
        assert_eq!(spans.len(), 2);
        assert_eq!((spans[0].start, spans[0].end_inclusive), (0, 3 * size - 1));
        assert_eq!(spans[1].start, 32 * size);
        assert_eq!(total("Node 0 MemTotal:       65807128 kB\n"), Some(65807128));
        assert_eq!(total("x"), None);
    }

    #[test]
    fn sizes_of_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::tree(dir.path()).unwrap();
        assert_eq!(block_bytes(&root), Ok(None));
        let file = dir.path().join(&format!("{MEMORY}/block_size_bytes")[1..]);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        for (text, size) in [("8000000\n", 128 << 20), ("10000000000000\n", ADDRESS_LIMIT)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(block_bytes(&root), Ok(Some(size)), "{text}");
        }
        for wrong in ["", "0\n", "80000\n", "8000001\n", "80000000000000\n", "x\n"] {
            std::fs::write(&file, wrong).unwrap();
            let error = block_bytes(&root).unwrap_err();
            assert!(matches!(error.why, Why::Malformed { line: 1, .. }), "{wrong:?}: {error}");
        }
    }
}
