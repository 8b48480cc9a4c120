//! hwloc's XML (`lstopo --of xml`, versions 1.11 to 3 of the format): what `lscpu` and
//! `numactl --hardware` say, from one file.
//!
//! Read are Package (Socket in old files), Core, PU and `NUMANode` with their cpusets, the memory of
//! each node, the distances between them, and the CPU's model. All else (caches, devices) is passed
//! over. CPUs that hwloc was told to hide, or that were off-line, are not in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use roxmltree::{Document, Node};

use crate::cpulist::CpuList;
use crate::input::read_text;
use crate::lscpu::Lscpu;
use crate::numactl::{NumaNode, Numactl};
use crate::number::{decimal, hex};
use crate::place::{At, quoted};
use crate::topology::{CpuShape, MAX_CPUS, TopologyError};
use crate::xml;

const TOOL: &str = "lstopo --of xml";
/// Elements in a file. The largest hosts, devices and all, have some tens of thousands.
const MAX_ELEMENTS: u32 = 4_000_000;
/// One above the highest number of a node: Linux's `MAX_NUMNODES`. Nodes are compared in pairs here.
const MAX_NODES: u64 = 1024;
/// What a number must be: a limit, and the words for it.
const CPU: (u64, &str) = (MAX_CPUS as u64, "a CPU number below 1048576");
const NODE: (u64, &str) = (MAX_NODES, "a node number below 1024");
const MEMORY: (u64, &str) = (1 << 52, "bytes below 2^52");

/// What an XML file of hwloc says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hwloc {
    /// Sockets, cores, threads, CPUs and the CPUs of each node.
    pub cpus: Lscpu,
    /// The nodes' memory and distances; `None` where no node states its memory.
    pub numa: Option<Numactl>,
}

/// Whether a text is one of hwloc's.
pub(crate) fn is_hwloc(text: &str) -> bool {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    // After the XML declaration and the document type.
    text.starts_with('<') && text.split('<').take(6).any(|tag| tag.starts_with("topology"))
}

impl Hwloc {
    /// Reads the text; `file` names it in errors.
    ///
    /// There must be a Package, a Core and a PU. `cpus` of the shape are the PUs, `cores_per_socket`
    /// and `threads_per_core` the most that a package and a core have; where their product is not
    /// the number of PUs a note says so.
    pub fn parse(file: &str, text: &str) -> Result<Self, TopologyError> {
        let document = xml::document(text, MAX_ELEMENTS).map_err(|error| {
            let at = At::new(file, error.line);
            TopologyError::Xml { at, error: quoted(&error.what), tool: TOOL }
        })?;
        Reading { file, document: &document }.all()
    }

    /// The same from a file.
    pub fn read(path: &Path) -> Result<Self, TopologyError> {
        Self::parse(&path.display().to_string(), &read_text(path)?)
    }
}

struct Reading<'a, 'text> {
    file: &'a str,
    document: &'a Document<'text>,
}

impl<'a, 'text> Reading<'a, 'text> {
    fn all(&self) -> Result<Hwloc, TopologyError> {
        let online = self.online()?;
        let packages: Vec<_> = self.objects(&["Package", "Socket"]).collect();
        let cores: Vec<_> = self.objects(&["Core"]).collect();
        let shape = CpuShape {
            sockets: self.some("Package", packages.len())?,
            cores_per_socket: self.some("Core", most(&packages, "Core"))?,
            threads_per_core: self.some("PU", most(&cores, "PU"))?,
            cpus: online.len(),
        };
        let product =
            CpuShape::product(shape.sockets, shape.cores_per_socket, shape.threads_per_core);
        let mut notes = Vec::new();
        if product != Some(shape.cpus) {
            notes.push(format!(
                "{}: {} packages of up to {} cores of up to {} PUs, but {} PUs in all: kept as stated \
                 (some may be disabled)",
                self.file, shape.sockets, shape.cores_per_socket, shape.threads_per_core, shape.cpus
            ));
        }
        let numa = self.nodes(&online)?;
        let nodes = numa.iter().map(|(number, node)| (*number, node.cpus.clone())).collect();
        let siblings = Some(self.siblings(&cores)?);
        let model = self.model();
        let cpus = Lscpu { shape, online: Some(online), nodes, siblings, model, notes };
        let stated = numa.values().any(|node| node.size_mib.is_some_and(|mib| mib > 0));
        let numa = if stated {
            let distances = self.distances(&numa)?;
            Some(Numactl { nodes: numa, distances, notes: Vec::new() })
        } else {
            None
        };
        Ok(Hwloc { cpus, numa })
    }

    fn objects(
        &self,
        kinds: &'static [&'static str],
    ) -> impl Iterator<Item = Node<'a, 'text>> + use<'a, 'text> {
        self.document.descendants().filter(move |node| is_object(*node, kinds))
    }

    fn online(&self) -> Result<CpuList, TopologyError> {
        let mut seen = BTreeSet::new();
        for unit in self.objects(&["PU"]) {
            let cpu = self.number(unit, "os_index", CPU)?;
            if !seen.insert(cpu) {
                return Err(self.malformed(unit, "PU os_index", &cpu.to_string(), "each CPU once"));
            }
        }
        self.some("PU", seen.len())?;
        Ok(CpuList::of(seen.into_iter().map(|cpu| cpu as u32)))
    }

    /// The CPUs of each core.
    fn siblings(&self, cores: &[Node<'_, '_>]) -> Result<Vec<CpuList>, TopologyError> {
        let of = |core: &Node<'_, '_>| {
            let units = core.descendants().filter(|node| is_object(*node, &["PU"]));
            let cpus = units.map(|unit| self.number(unit, "os_index", CPU));
            let cpus = cpus.collect::<Result<BTreeSet<_>, _>>()?;
            Ok(CpuList::of(cpus.into_iter().map(|cpu| cpu as u32)))
        };
        cores.iter().map(of).collect()
    }

    /// The nodes by number, each with those of its CPUs that are there.
    fn nodes(&self, online: &CpuList) -> Result<BTreeMap<u32, NumaNode>, TopologyError> {
        let mut nodes: BTreeMap<u32, NumaNode> = BTreeMap::new();
        for object in self.objects(&["NUMANode"]) {
            let number = self.number(object, "os_index", NODE)? as u32;
            let text = object.attribute("cpuset").unwrap_or_default();
            let Some(cpus) = bits(text) else {
                return Err(self.malformed(
                    object,
                    "NUMANode cpuset",
                    text,
                    "a mask such as `0x000000ff,0xffffffff`",
                ));
            };
            let cpus = CpuList::of(cpus.into_iter().filter(|cpu| online.contains(*cpu)));
            let size_mib = match object.attribute("local_memory") {
                None => None,
                Some(_) => Some(self.number(object, "local_memory", MEMORY)? >> 20),
            };
            for (other, node) in &nodes {
                if let Some(cpu) = node.cpus.first_common(&cpus) {
                    let (at, field) = (self.at(object), "NUMANode cpuset".to_owned());
                    return Err(TopologyError::Overlap { at, field, cpu, other: *other });
                }
            }
            if nodes.insert(number, NumaNode { cpus, size_mib, free_mib: None }).is_some() {
                return Err(self.malformed(
                    object,
                    "NUMANode os_index",
                    &number.to_string(),
                    "each node once",
                ));
            }
        }
        Ok(nodes)
    }

    /// The matrix of latencies; empty where there is none of these nodes.
    fn distances(
        &self,
        nodes: &BTreeMap<u32, NumaNode>,
    ) -> Result<BTreeMap<u32, BTreeMap<u32, u32>>, TopologyError> {
        let latency = |node: &Node<'_, '_>| {
            node.has_tag_name("distances2")
                && node.attribute("type") == Some("NUMANode")
                && node.attribute("name").is_none_or(|name| name == "NUMALatency")
        };
        let Some(matrix) = self.document.descendants().find(latency) else {
            return Ok(BTreeMap::new());
        };
        let numbers = |tag: &str| -> Result<Vec<u64>, TopologyError> {
            let texts = matrix
                .children()
                .filter(|node| node.has_tag_name(tag))
                .filter_map(|node| node.text());
            let words = texts.flat_map(str::split_whitespace);
            let number = |word| {
                decimal(word).ok_or_else(|| self.malformed(matrix, tag, word, "whole numbers"))
            };
            words.map(number).collect()
        };
        let (indexes, values) = (numbers("indexes")?, numbers("u64values")?);
        let node = |n: &u64| u32::try_from(*n).is_ok_and(|n| nodes.contains_key(&n));
        let known = indexes.len() <= nodes.len() && indexes.iter().all(node);
        if !known
            || values.len() != indexes.len() * indexes.len()
            || values.iter().any(|d| *d > 255)
        {
            let found = format!("{} indexes, {} values", indexes.len(), values.len());
            return Err(self.malformed(
                matrix,
                "distances2",
                &found,
                "a value of at most 255 for each two nodes of the file",
            ));
        }
        let row =
            |row: &[u64]| indexes.iter().zip(row).map(|(n, d)| (*n as u32, *d as u32)).collect();
        let rows = values.chunks(indexes.len().max(1)).map(row);
        Ok(indexes.iter().map(|n| *n as u32).zip(rows).collect())
    }

    fn model(&self) -> Option<String> {
        let mut infos = self.document.descendants().filter(|node| node.has_tag_name("info"));
        let info = infos.find(|node| node.attribute("name") == Some("CPUModel"))?;
        info.attribute("value").map(|model| model.trim().to_owned())
    }

    /// How many there are, if any.
    fn some(&self, kind: &str, count: usize) -> Result<u32, TopologyError> {
        let (file, field) = (self.file.to_owned(), format!("object type=\"{kind}\""));
        let found = u32::try_from(count).ok().filter(|n| (1..=MAX_CPUS).contains(n));
        found.ok_or(TopologyError::Missing { file, field, tool: TOOL })
    }

    /// An attribute that is a number below a limit.
    fn number(
        &self,
        node: Node<'_, '_>,
        name: &str,
        (limit, expected): (u64, &'static str),
    ) -> Result<u64, TopologyError> {
        let text = node.attribute(name).unwrap_or_default();
        let number = decimal(text).filter(|n| *n < limit);
        number.ok_or_else(|| self.malformed(node, name, text, expected))
    }

    fn malformed(
        &self,
        node: Node<'_, '_>,
        field: &str,
        value: &str,
        expected: &'static str,
    ) -> TopologyError {
        let (at, field) = (self.at(node), field.to_owned());
        TopologyError::Malformed { at, field, value: quoted(value), expected }
    }

    fn at(&self, node: Node<'_, '_>) -> At {
        At::new(self.file, self.document.text_pos_at(node.range().start).row as usize)
    }
}

fn is_object(node: Node<'_, '_>, kinds: &[&str]) -> bool {
    node.has_tag_name("object") && node.attribute("type").is_some_and(|kind| kinds.contains(&kind))
}

/// The most objects of a kind that one of `these` holds.
fn most(these: &[Node<'_, '_>], kind: &str) -> usize {
    let held =
        |node: &Node<'_, '_>| node.descendants().filter(|inner| is_object(*inner, &[kind])).count();
    these.iter().map(held).max().unwrap_or(0)
}

/// The bits of a mask as hwloc prints it: words of 32 bits, the highest first, those of 0 may be left
/// empty. `None` if it is none, is endless (`0xf...f`) or has bits at or above [`MAX_CPUS`].
fn bits(text: &str) -> Option<Vec<u32>> {
    let words: Vec<&str> = text.split(',').collect();
    if words.len() > MAX_CPUS as usize / 32 {
        return None;
    }
    let mut bits = Vec::new();
    for (n, word) in words.iter().rev().enumerate() {
        let word = match word.strip_prefix("0x") {
            None if word.is_empty() && words.len() > 1 => 0,
            digits => u32::try_from(hex(digits?)?).ok()?,
        };
        bits.extend((0..32).filter(|bit| word & (1 << bit) != 0).map(|bit| n as u32 * 32 + bit));
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        let all = |text| bits(text).map(|bits| CpuList::of(bits.into_iter()).to_string());
        for (text, list) in [
            ("0x0", ""),
            ("0x0000000f", "0-3"),
            ("0xff,0x0,0xffffffff", "0-31,64-71"),
            ("0x1,,0x1", "0,64"),
            ("0xffffffff,0xffffffff", "0-63"),
        ] {
            assert_eq!(all(text).as_deref(), Some(list), "{text}");
        }
        for bad in ["", "ff", "0xf...f", "0x1ffffffff", "0x", "0xf,x"] {
            assert_eq!(bits(bad), None, "{bad}");
        }
    }
}
