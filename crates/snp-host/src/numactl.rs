//! The output of `numactl --hardware` (`-H`), with or without `--cpu-compress`: CPUs, memory and
//! distances of the NUMA nodes.
//!
//! Sizes are printed in "MB" and are MiB. They are what the kernel manages, so less than the RAM
//! in the firmware's map by what the kernel keeps for itself.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cpulist::CpuList;
use crate::input::read_text;
use crate::number::decimal;
use crate::place::{At, quoted};
use crate::topology::{MAX_CPUS, TopologyError};

/// One NUMA node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NumaNode {
    /// Its CPUs; none for a node of memory alone.
    pub cpus: CpuList,
    /// Its memory in MiB; 0 for a node of CPUs alone, `None` where `numactl` says
    /// `<not available>`.
    pub size_mib: Option<u64>,
    /// Free memory in MiB at the time, where stated.
    pub free_mib: Option<u64>,
}

/// What `numactl --hardware` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numactl {
    /// The nodes by number; numbers may be missing between them.
    pub nodes: BTreeMap<u32, NumaNode>,
    /// Distances from a node (outer key) to each node: 10 to itself, up to 255. Empty where
    /// firmware gives none.
    pub distances: BTreeMap<u32, BTreeMap<u32, u32>>,
    /// What a reader of the results should know.
    pub notes: Vec<String>,
}

const TOOL: &str = "numactl --hardware";
/// No node is larger than the address space of 2^52 bytes.
const MAX_MIB: u64 = 1 << 32;

/// Whether a line is one only `numactl --hardware` prints.
pub(crate) fn is_line(line: &str) -> bool {
    let line = line.trim_start();
    if let Some(rest) = line.strip_prefix("available: ") {
        return rest.contains(" nodes (") || rest.contains(" node (");
    }
    node_line(line).is_some_and(|(_, key, _)| key == "cpus")
}

/// `node N key: value`.
fn node_line(line: &str) -> Option<(&str, &str, &str)> {
    let (node, rest) = line.trim().strip_prefix("node ")?.split_once(' ')?;
    let (key, value) = rest.split_once(':')?;
    matches!(key, "cpus" | "size" | "free").then_some((node, key, value.trim()))
}

#[derive(Debug, Default)]
struct Seen {
    node: NumaNode,
    cpus: Option<usize>,
    size: Option<usize>,
    free: Option<usize>,
}

impl Numactl {
    /// Reads the output; `file` names the text in errors and notes.
    pub fn parse(file: &str, text: &str) -> Result<Self, TopologyError> {
        let mut available: Option<(CpuList, usize)> = None;
        let mut nodes: BTreeMap<u32, Seen> = BTreeMap::new();
        let mut distances = Distances::default();
        for (n, line) in text.lines().enumerate() {
            let at = At::new(file, n + 1);
            let line = line.trim();
            if let Some(rest) = line.strip_prefix("available: ") {
                let list = available_nodes(&at, rest)?;
                if let Some((before, first)) = &available
                    && *before != list
                {
                    let first = *first;
                    return Err(TopologyError::Twice { at, field: "available".into(), first });
                }
                available = Some((list, at.line));
            } else if let Some((node, key, value)) = node_line(line) {
                take_node(&mut nodes, &at, node, key, value)?;
            } else if line.starts_with("node distances:") {
                distances = Distances { begun: true, ..Distances::default() };
            } else if distances.begun {
                distances.line(&at, line)?;
            }
        }
        let missing = |field: &str| TopologyError::Missing {
            file: file.to_owned(),
            field: field.to_owned(),
            tool: TOOL,
        };
        let (available, line) = available.ok_or_else(|| missing("available: N nodes"))?;
        for node in available.iter() {
            let seen = nodes.get(&node);
            if seen.is_none_or(|s| s.cpus.is_none()) {
                return Err(missing(&format!("node {node} cpus")));
            }
            if seen.is_none_or(|s| s.size.is_none()) {
                return Err(missing(&format!("node {node} size")));
            }
        }
        if let Some((node, seen)) = nodes.iter().find(|(node, _)| !available.contains(**node)) {
            let line = seen.cpus.or(seen.size).or(seen.free).unwrap_or(line);
            return Err(TopologyError::Malformed {
                at: At::new(file, line),
                field: "node".into(),
                value: node.to_string(),
                expected: "a node that the line `available:` names",
            });
        }
        let distances = distances.finish(file, &available)?;
        let nodes: BTreeMap<u32, NumaNode> =
            nodes.into_iter().map(|(number, seen)| (number, seen.node)).collect();
        let notes = nodes
            .iter()
            .filter(|(_, n)| n.size_mib.zip(n.free_mib).is_some_and(|(size, free)| free > size))
            .map(|(number, _)| format!("{file}: node {number} has more memory free than in all"))
            .collect();
        Ok(Self { nodes, distances, notes })
    }

    /// The same from a file.
    pub fn read(path: &Path) -> Result<Self, TopologyError> {
        Self::parse(&path.display().to_string(), &read_text(path)?)
    }

    /// Memory of all nodes in MiB, as far as stated.
    pub fn size_mib(&self) -> u64 {
        self.nodes.values().filter_map(|n| n.size_mib).sum()
    }

    /// CPUs of all nodes.
    pub fn cpus(&self) -> u32 {
        self.nodes.values().map(|n| n.cpus.len()).sum()
    }
}

fn malformed(at: &At, field: &str, value: &str, expected: &'static str) -> TopologyError {
    let (at, value) = (at.clone(), quoted(value));
    TopologyError::Malformed { at, field: field.to_owned(), value, expected }
}

/// `2 nodes (0-1)`.
fn available_nodes(at: &At, rest: &str) -> Result<CpuList, TopologyError> {
    let bad = || malformed(at, "available", rest, "`N nodes (0-M)`");
    let (count, tail) = rest.split_once(" node").ok_or_else(bad)?;
    let count = decimal(count).filter(|n| (1..=1024).contains(n)).ok_or_else(bad)?;
    let inner = tail.split_once('(').and_then(|(_, t)| t.trim().strip_suffix(')'));
    let list = inner.and_then(|t| CpuList::parse(t).ok()).ok_or_else(bad)?;
    if list.iter().any(|n| n >= 1024) {
        return Err(bad());
    }
    if u64::from(list.len()) != count {
        return Err(TopologyError::Mismatch {
            at: at.clone(),
            field: "available".into(),
            stated: count,
            found: format!("names {} nodes", list.len()),
        });
    }
    Ok(list)
}

fn take_node(
    nodes: &mut BTreeMap<u32, Seen>,
    at: &At,
    node: &str,
    key: &str,
    value: &str,
) -> Result<(), TopologyError> {
    let field = format!("node {} {key}", quoted(node));
    let number = decimal(node).filter(|n| *n < 1024);
    let number =
        number.ok_or_else(|| malformed(at, &field, node, "a node number below 1024"))? as u32;
    let cpus = if key == "cpus" { Some(cpu_list(at, &field, value)?) } else { None };
    if let Some(cpus) = &cpus {
        for (other, seen) in nodes.iter().filter(|(other, _)| **other != number) {
            if let Some(cpu) = seen.node.cpus.first_common(cpus) {
                let at = at.clone();
                return Err(TopologyError::Overlap { at, field, cpu, other: *other });
            }
        }
    }
    let seen = nodes.entry(number).or_default();
    let before = seen.node.clone();
    let first = match (key, cpus) {
        (_, Some(cpus)) => {
            seen.node.cpus = cpus;
            &mut seen.cpus
        }
        ("size", None) => {
            seen.node.size_mib = mib(at, &field, value)?;
            &mut seen.size
        }
        _ => {
            seen.node.free_mib = mib(at, &field, value)?;
            &mut seen.free
        }
    };
    if let Some(first) = *first
        && before != seen.node
    {
        return Err(TopologyError::Twice { at: at.clone(), field, first });
    }
    *first = Some(first.unwrap_or(at.line));
    Ok(())
}

/// `0 1 2`, or compressed `0-15,32 (17)`; no CPU at all is possible.
fn cpu_list(at: &At, field: &str, value: &str) -> Result<CpuList, TopologyError> {
    let (list, count) = match value.split_once('(') {
        Some((list, count)) => {
            let count = count.strip_suffix(')').and_then(|c| decimal(c.trim()));
            let bad = || malformed(at, field, value, "CPUs and their count, such as `0-15 (16)`");
            (list, Some(count.filter(|c| *c <= u64::from(MAX_CPUS)).ok_or_else(bad)?))
        }
        None => (value, None),
    };
    let list = CpuList::parse(list).map_err(|e| malformed(at, field, value, e.expected()))?;
    if let Some(stated) = count
        && stated != u64::from(list.len())
    {
        return Err(TopologyError::Mismatch {
            at: at.clone(),
            field: field.to_owned(),
            stated,
            found: format!("lists {} CPUs", list.len()),
        });
    }
    Ok(list)
}

/// `773271 MB` or `<not available>`.
fn mib(at: &At, field: &str, value: &str) -> Result<Option<u64>, TopologyError> {
    if value == "<not available>" {
        return Ok(None);
    }
    let found = value.strip_suffix(" MB").and_then(decimal).filter(|n| *n <= MAX_MIB);
    found.map(Some).ok_or_else(|| malformed(at, field, value, "`N MB`, below 2^52 bytes"))
}

/// The matrix, as it is read.
#[derive(Debug, Default)]
struct Distances {
    begun: bool,
    columns: Vec<u32>,
    rows: BTreeMap<u32, BTreeMap<u32, u32>>,
    line: usize,
}

impl Distances {
    fn line(&mut self, at: &At, line: &str) -> Result<(), TopologyError> {
        const NODE: &str = "a node number below 1024";
        let node = |text: &str| {
            let found = decimal(text).filter(|n| *n < 1024).map(|n| n as u32);
            found.ok_or_else(|| malformed(at, "node distances", text, NODE))
        };
        if let Some(columns) = line.strip_prefix("node ") {
            self.columns = columns.split_whitespace().map(node).collect::<Result<_, _>>()?;
            self.line = at.line;
            return Ok(());
        }
        let Some((row, values)) = line.split_once(':') else {
            // Anything else ends the matrix, such as a shell's prompt.
            return if line.is_empty() || self.rows.len() >= self.columns.len() {
                Ok(())
            } else {
                Err(malformed(at, "node distances", line, "`N: DISTANCES` (is it cut?)"))
            };
        };
        if !self.rows.is_empty() && self.rows.len() >= self.columns.len() {
            return Ok(());
        }
        let row = node(row.trim())?;
        let field = format!("node distances, row {row}");
        let mut found = BTreeMap::new();
        let mut values = values.split_whitespace();
        for column in &self.columns {
            let value = values.next().unwrap_or("");
            let distance = decimal(value).filter(|d| (10..=255).contains(d));
            let wanted = "a distance from 10 to 255 for each node (is it cut?)";
            let distance = distance.ok_or_else(|| malformed(at, &field, value, wanted))?;
            found.insert(*column, distance as u32);
        }
        if let Some(extra) = values.next() {
            return Err(malformed(at, &field, extra, "one distance for each node"));
        }
        if self.rows.insert(row, found).is_some() {
            return Err(malformed(at, &field, &row.to_string(), "each node's row once"));
        }
        Ok(())
    }

    fn finish(
        self,
        file: &str,
        nodes: &CpuList,
    ) -> Result<BTreeMap<u32, BTreeMap<u32, u32>>, TopologyError> {
        if !self.begun {
            return Ok(BTreeMap::new());
        }
        if let Some(node) = nodes.iter().find(|n| !self.rows.contains_key(n)) {
            return Err(TopologyError::Missing {
                file: file.to_owned(),
                field: format!("node distances, row {node}"),
                tool: TOOL,
            });
        }
        if nodes.iter().any(|n| !self.columns.contains(&n)) || self.rows.len() as u32 != nodes.len()
        {
            return Err(TopologyError::Mismatch {
                at: At::new(file, self.line),
                field: "node distances".into(),
                stated: self.columns.len() as u64,
                found: format!("`available:` names {} nodes", nodes.len()),
            });
        }
        Ok(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From egandro/proxmox-cpu-affinity issues/58, CPUs shortened.
    const PLAIN: &str = "\
available: 2 nodes (0-1)
node 0 cpus: 0 1 2 3
node 0 size: 773271 MB
node 0 free: 678823 MB
node 1 cpus: 4 5 6 7
node 1 size: 774028 MB
node 1 free: 684984 MB
node distances:
node   0   1 
  0:  10  32 
  1:  32  10 
";

    fn parse(text: &str) -> Numactl {
        Numactl::parse("f", text).unwrap()
    }

    fn fails(text: &str) -> String {
        Numactl::parse("f", text).unwrap_err().to_string()
    }

    #[test]
    fn plain_and_compressed() {
        let host = parse(PLAIN);
        assert_eq!((host.size_mib(), host.cpus()), (1_547_299, 8));
        assert_eq!(host.distances.get(&0).unwrap().get(&1), Some(&32));
        let text = PLAIN.replace("0 1 2 3", "0-3 (4)").replace("4 5 6 7", "4-5,6-7 (4)");
        assert_eq!(parse(&text), host);
        assert_eq!(parse(&PLAIN.replace('\n', "\r\n")), host);
        let prompts = format!("$ numactl -H\n{PLAIN}$ exit\n");
        assert_eq!(parse(&prompts), host);
    }

    #[test]
    fn nodes_without_cpus_or_memory() {
        let text = "available: 3 nodes (0,2-3)\n\
                    node 0 cpus: 0\nnode 0 size: 0 MB\nnode 0 free: 0 MB\n\
                    node 2 cpus:\nnode 2 size: 64 MB\nnode 2 free: <not available>\n\
                    node 3 cpus:\nnode 3 size: <not available>\nnode 3 free: <not available>\n\
                    No distance information available.\n";
        let host = parse(text);
        assert_eq!(host.nodes.len(), 3);
        assert!(host.distances.is_empty());
        assert_eq!(host.nodes.get(&3).unwrap().size_mib, None);
    }

    #[test]
    fn errors() {
        for (from, to, says) in [
            ("available: 2 nodes (0-1)\n", "", "f: `available: N nodes` is missing"),
            ("2 nodes (0-1)", "3 nodes (0-1)", "f:1: available: says 3, but names 2"),
            ("2 nodes (0-1)", "2 nodes (0-", "f:1: available"),
            ("node 1 size: 774028 MB\n", "", "f: `node 1 size` is missing"),
            ("size: 774028 MB", "size: -5 MB", "f:6: node 1 size: `-5 MB`"),
            ("size: 774028 MB", "size: 99999999999999 MB", "below 2^52"),
            ("size: 774028 MB", "size: 774028", "`N MB`"),
            ("4 5 6 7", "3 4 5 6", "f:5: node 1 cpus: CPU 3 is also in node 0"),
            ("4 5 6 7", "4-7 (5)", "f:5: node 1 cpus: says 5, but lists 4 CPUs"),
            ("4 5 6 7", "4 five", "f:5: node 1 cpus: `4 five`"),
            ("node 1 free", "node 7 free", "f:7: node: `7`"),
            ("node 1 free: 6", "node x free: 6", "f:7: node x free"),
            ("0:  10  32", "0:  10", "f:10: node distances, row 0: ``"),
            ("0:  10  32", "0:  10  32  32", "f:10: node distances, row 0: `32`"),
            ("0:  10  32", "0:  10  -1", "f:10: node distances, row 0: `-1`"),
            ("  1:  32  10 \n", "", "f: `node distances, row 1` is missing"),
            ("  1:  32  10 \n", "  0:  32  10 \n", "each node's row once"),
        ] {
            let text = PLAIN.replacen(from, to, 1);
            assert_ne!(text, PLAIN, "{from}");
            assert!(fails(&text).contains(says), "{says}: {}", fails(&text));
        }
        assert!(fails("No NUMA available on this system\n").contains("available: N nodes"));
    }
}
