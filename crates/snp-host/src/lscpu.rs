//! The output of `lscpu`: sockets, cores, threads, and which CPUs belong to which NUMA node.
//!
//! The default output is read, indented (util-linux 2.37 and later) or not, with any spacing. It
//! must be in English: run `LC_ALL=C lscpu`. The forms of `lscpu -e`, `-p`, `--json` and `-x` are
//! not read.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cpulist::CpuList;
use crate::input::read_text;
use crate::number::decimal;
use crate::place::{At, quoted};
use crate::topology::{CpuShape, MAX_CPUS, TopologyError};

/// What `lscpu` says of the CPUs' arrangement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lscpu {
    /// Sockets, cores, threads, and the CPUs as stated.
    pub shape: CpuShape,
    /// CPUs in use, if the line is there.
    pub online: Option<CpuList>,
    /// CPUs of each NUMA node, if the lines are there; a node of memory alone has none.
    pub nodes: BTreeMap<u32, CpuList>,
    /// The CPUs of each core; `lscpu` does not tell, hwloc does.
    pub siblings: Option<Vec<CpuList>>,
    /// `Model name`, if the line is there.
    pub model: Option<String>,
    /// What a reader of the results should know.
    pub notes: Vec<String>,
}

const TOOL: &str = "LC_ALL=C lscpu";
/// The fields read, besides `NUMA nodeN CPU(s)`.
const CPUS: &str = "CPU(s)";
const THREADS: &str = "Thread(s) per core";
const CORES: &str = "Core(s) per socket";
const SOCKETS: &str = "Socket(s)";
const ONLINE: &str = "On-line CPU(s) list";
const NODES: &str = "NUMA node(s)";
const MODEL: &str = "Model name";

/// Whether a line is one only `lscpu` prints.
pub(crate) fn is_line(line: &str) -> bool {
    let Some((key, _)) = line.split_once(':') else { return false };
    matches!(key.trim(), CPUS | THREADS | CORES | SOCKETS | ONLINE)
}

impl Lscpu {
    /// Reads the output; `file` names the text in errors and notes.
    ///
    /// `CPU(s)`, `Thread(s) per core`, `Core(s) per socket` and `Socket(s)` must be there. Where
    /// their product is not `CPU(s)`, as with disabled CPUs, the stated values are kept and a note
    /// says so.
    pub fn parse(file: &str, text: &str) -> Result<Self, TopologyError> {
        let mut fields: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
        let mut nodes: BTreeMap<u32, (CpuList, usize)> = BTreeMap::new();
        for (n, line) in text.lines().enumerate() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let (key, value, number) = (key.trim(), value.trim(), n + 1);
            if let Some(node) = node_of(key) {
                add_node(&mut nodes, At::new(file, number), key, node, value)?;
            } else if matches!(key, CPUS | THREADS | CORES | SOCKETS | ONLINE | NODES | MODEL) {
                let (before, first) = *fields.entry(key).or_insert((value, number));
                if before != value {
                    let at = At::new(file, number);
                    return Err(TopologyError::Twice { at, field: key.to_owned(), first });
                }
            }
        }
        Self::build(file, &fields, nodes)
    }

    /// The same from a file.
    pub fn read(path: &Path) -> Result<Self, TopologyError> {
        Self::parse(&path.display().to_string(), &read_text(path)?)
    }

    fn build(
        file: &str,
        fields: &BTreeMap<&str, (&str, usize)>,
        nodes: BTreeMap<u32, (CpuList, usize)>,
    ) -> Result<Self, TopologyError> {
        let count = |key: &str| -> Result<u32, TopologyError> {
            let field = key.to_owned();
            let Some((value, line)) = fields.get(key) else {
                return Err(TopologyError::Missing { file: file.to_owned(), field, tool: TOOL });
            };
            let found = decimal(value).filter(|n| (1..=u64::from(MAX_CPUS)).contains(n));
            found.map(|n| n as u32).ok_or_else(|| TopologyError::Malformed {
                at: At::new(file, *line),
                field,
                value: quoted(value),
                expected: "a count from 1 to 1048576",
            })
        };
        let shape = CpuShape {
            cpus: count(CPUS)?,
            threads_per_core: count(THREADS)?,
            cores_per_socket: count(CORES)?,
            sockets: count(SOCKETS)?,
        };
        let line_of = |key: &str| At::new(file, fields.get(key).map_or(0, |(_, line)| *line));
        let product =
            CpuShape::product(shape.sockets, shape.cores_per_socket, shape.threads_per_core)
                .ok_or_else(|| TopologyError::Mismatch {
                    at: line_of(SOCKETS),
                    field: SOCKETS.to_owned(),
                    stated: u64::from(shape.sockets),
                    found: "sockets x cores x threads is more than 1048576 CPUs".to_owned(),
                })?;
        let mut notes = Vec::new();
        if product != shape.cpus {
            notes.push(format!(
                "{file}: {} sockets x {} cores x {} threads are {product} CPUs, `{CPUS}` says {}: \
                 kept as stated (some may be disabled)",
                shape.sockets, shape.cores_per_socket, shape.threads_per_core, shape.cpus
            ));
        }
        let online = fields.get(ONLINE).map(|(value, line)| cpus(file, *line, ONLINE, value));
        let online = online.transpose()?;
        if let Some(online) = &online {
            at_most(shape.cpus, online.len(), &line_of(ONLINE), ONLINE)?;
            if online.len() < shape.cpus {
                notes.push(format!("{file}: {} of {} CPUs are on-line", online.len(), shape.cpus));
            }
        }
        if fields.contains_key(NODES) {
            let stated = count(NODES)?;
            if stated as usize != nodes.len() {
                return Err(TopologyError::Mismatch {
                    at: line_of(NODES),
                    field: NODES.to_owned(),
                    stated: u64::from(stated),
                    found: format!("{} lists of a node's CPUs follow (is it cut?)", nodes.len()),
                });
            }
        }
        let listed = nodes.values().map(|(list, _)| u64::from(list.len())).sum::<u64>();
        if let Some((_, line)) = nodes.values().last() {
            let listed = u32::try_from(listed).unwrap_or(u32::MAX);
            at_most(shape.cpus, listed, &At::new(file, *line), "NUMA node CPU(s)")?;
        }
        let model = fields.get(MODEL).map(|(value, _)| (*value).to_owned());
        let nodes = nodes.into_iter().map(|(node, (list, _))| (node, list)).collect();
        Ok(Self { shape, online, nodes, siblings: None, model, notes })
    }
}

/// `N` of `NUMA nodeN CPU(s)`.
fn node_of(key: &str) -> Option<&str> {
    let node = key.strip_prefix("NUMA node")?.strip_suffix("CPU(s)")?.trim();
    (!node.is_empty() && node != "(s)").then_some(node)
}

fn add_node(
    nodes: &mut BTreeMap<u32, (CpuList, usize)>,
    at: At,
    key: &str,
    node: &str,
    value: &str,
) -> Result<(), TopologyError> {
    let field = key.to_owned();
    let Some(node) = decimal(node).filter(|n| *n < 1024) else {
        let expected = "a node number below 1024";
        return Err(TopologyError::Malformed { at, field, value: quoted(node), expected });
    };
    let node = node as u32;
    let list = cpus(&at.file, at.line, key, value)?;
    for (other, (theirs, line)) in nodes.iter() {
        if *other == node {
            // The same line twice does no harm.
            if *theirs == list {
                return Ok(());
            }
            return Err(TopologyError::Twice { at, field, first: *line });
        }
        if let Some(cpu) = theirs.first_common(&list) {
            return Err(TopologyError::Overlap { at, field, cpu, other: *other });
        }
    }
    nodes.insert(node, (list, at.line));
    Ok(())
}

fn cpus(file: &str, line: usize, field: &str, value: &str) -> Result<CpuList, TopologyError> {
    CpuList::parse(value).map_err(|e| TopologyError::Malformed {
        at: At::new(file, line),
        field: field.to_owned(),
        value: quoted(value),
        expected: e.expected(),
    })
}

fn at_most(stated: u32, found: u32, at: &At, field: &str) -> Result<(), TopologyError> {
    if found <= stated {
        return Ok(());
    }
    Err(TopologyError::Mismatch {
        at: at.clone(),
        field: CPUS.to_owned(),
        stated: u64::from(stated),
        found: format!("`{field}` lists {found}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From LKML, a pair of EPYC 9654.
    const INDENTED: &str = "\
CPU(s):                   384
  On-line CPU(s) list:    0-383
Vendor ID:                AuthenticAMD
  Model name:             AMD EPYC 9654 96-Core Processor
    Thread(s) per core:   2
    Core(s) per socket:   96
    Socket(s):            2
    CPU(s) scaling MHz:   100%
";

    const FLAT: &str = "\
CPU(s):                          96
On-line CPU(s) list:             0-95
Thread(s) per core:              2
Core(s) per socket:              24
Socket(s):                       2
NUMA node(s):                    2
NUMA node0 CPU(s):               0-23,48-71
NUMA node1 CPU(s):               24-47,72-95
";

    fn parse(text: &str) -> Lscpu {
        Lscpu::parse("f", text).unwrap()
    }

    fn fails(text: &str) -> String {
        Lscpu::parse("f", text).unwrap_err().to_string()
    }

    #[test]
    fn both_layouts() {
        let host = parse(INDENTED);
        let shape = CpuShape { sockets: 2, cores_per_socket: 96, threads_per_core: 2, cpus: 384 };
        assert_eq!(host.shape, shape);
        assert_eq!(host.model.as_deref(), Some("AMD EPYC 9654 96-Core Processor"));
        assert!(host.nodes.is_empty() && host.notes.is_empty());
        let host = parse(&FLAT.replace('\n', "\r\n"));
        assert_eq!(host.nodes.get(&1).unwrap().to_string(), "24-47,72-95");
        assert!(host.notes.is_empty());
    }

    #[test]
    fn disabled_cpus_are_noted() {
        let host = parse(&INDENTED.replace("384", "192").replace("0-383", "0-95"));
        assert_eq!(host.shape.cpus, 192);
        assert_eq!(host.notes.len(), 2);
    }

    #[test]
    fn memory_only_node() {
        let text = FLAT.replace("node(s):                    2", "node(s): 3")
            + "NUMA node2 CPU(s):               \n";
        assert!(parse(&text).nodes.get(&2).unwrap().is_empty());
    }

    #[test]
    fn errors() {
        for (from, to, says) in [
            ("CPU(s):                          96", "CPU(s): 0", "f:1: CPU(s): `0`, expected"),
            ("CPU(s):                          96", "CPU(s): 2000000", "1 to 1048576"),
            ("per core:              2", "per core: two", "f:3: Thread(s) per core: `two`"),
            ("Socket(s):                       2\n", "", "f: `Socket(s)` is missing"),
            ("Socket(s):                       2", "Socket(s): 1000000", "f:5: Socket(s): says"),
            ("24-47,72-95", "23-47,72-95", "f:8: NUMA node1 CPU(s): CPU 23 is also in node 0"),
            ("24-47,72-95", "24-47,0x3", "f:8: NUMA node1 CPU(s): `24-47,0x3`"),
            ("NUMA node1", "NUMA node0", "f:8: `NUMA node0 CPU(s)` differs from line 7"),
            ("NUMA node1", "NUMA nodex", "f:8: NUMA nodex CPU(s): `x`"),
            ("NUMA node1 CPU(s):               24-47,72-95\n", "", "f:6: NUMA node(s): says 2"),
            ("0-95\n", "0-96\n", "says 96, but `On-line CPU(s) list` lists 97"),
        ] {
            let text = FLAT.replacen(from, to, 1);
            assert_ne!(text, FLAT, "{from}");
            assert!(fails(&text).contains(says), "{}", fails(&text));
        }
        assert!(fails(&[INDENTED, "Socket(s): 4\n"].concat()).contains("differs from line 7"));
    }
}
