//! One domain: the XML of its file.

use roxmltree::{Document, Node};

use crate::cpulist::CpuList;
use crate::number::{decimal, hex_0x};
use crate::system::error::Why;
use crate::xml;

/// Elements and texts of a file.
const MAX_NODES: u32 = 400_000;
/// Characters of a name or a word that are kept.
const MAX_TEXT: usize = 200;

/// A domain that is an SNP guest (`<launchSecurity type='sev-snp'>`). Names may hold any character.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domain {
    /// Its name, not empty, at most 200 characters.
    pub name: String,
    /// Its UUID, lower case with hyphens.
    pub uuid: Option<String>,
    /// `qemu` or `cloud-hypervisor`.
    pub vmm: &'static str,
    /// The process that runs it; `None` if the domain is only defined.
    pub pid: Option<u64>,
    /// What libvirt calls its state (`running`, `paused`, ...); `None` if it is only defined.
    pub state: Option<String>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Virtual CPUs that it starts with.
    pub vcpus: Option<u32>,
    /// The guest's policy, as the firmware gets it.
    pub policy: Option<u64>,
    /// The CPU's model, or its mode where that names none (`host-passthrough`).
    pub cpu: Option<String>,
    /// Sizes of the huge pages behind its memory, in bytes; empty: of the host's default size;
    /// `None`: no huge pages.
    pub hugepages: Option<Vec<u64>>,
    /// Where its memory comes from: libvirt's mode (`strict`, `preferred`, ...) and the host's nodes.
    pub numa: Option<(String, CpuList)>,
}

impl Domain {
    /// Reads a file of a domain that runs (`domstatus`) or is defined (`domain`); `None` if it is no
    /// SNP guest's. `vmm` is left empty: the folder says it.
    pub fn parse(text: &str, runs: bool) -> Result<Option<Self>, Why> {
        let document = xml::document(text, MAX_NODES).map_err(|error| {
            Why::malformed(error.line, "libvirt's XML of a domain", &error.what)
        })?;
        let file = File { document: &document };
        let root = document.root_element();
        let (expected, tag) =
            if runs { ("a `<domstatus>`", "domstatus") } else { ("a `<domain>`", "domain") };
        if !root.has_tag_name(tag) {
            return Err(file.wrong(root, expected, root.tag_name().name()));
        }
        let domain = if runs {
            let domain = child(root, "domain");
            domain.ok_or_else(|| file.wrong(root, "a `<domain>` in it", "none"))?
        } else {
            root
        };
        let secured = domain.children().find(|node| {
            node.has_tag_name("launchSecurity") && node.attribute("type") == Some("sev-snp")
        });
        let Some(secured) = secured else { return Ok(None) };
        let mut read = file.domain(domain, secured)?;
        if runs {
            let pid = root.attribute("pid").unwrap_or_default();
            let number = decimal(pid).filter(|pid| (1..1 << 31).contains(pid));
            read.pid = Some(number.ok_or_else(|| file.wrong(root, "pid of 1 to 2147483647", pid))?);
            read.state = root.attribute("state").map(short);
        }
        Ok(Some(read))
    }

    /// What is kept of it, as a file of the same kind.
    pub(in crate::system) fn to_xml(&self) -> String {
        let element = |tag: &str, text: &str| format!("<{tag}>{}</{tag}>", escaped(text));
        let hugepages = self.hugepages.as_ref().map(|sizes| {
            let page = |bytes: &u64| format!("<page size='{bytes}' unit='bytes'/>");
            let pages: String = sizes.iter().map(page).collect();
            format!("<memoryBacking><hugepages>{pages}</hugepages></memoryBacking>")
        });
        let numa = self.numa.as_ref().map(|(mode, nodes)| {
            let mode = escaped(mode);
            format!("<numatune><memory mode='{mode}' nodeset='{nodes}'/></numatune>")
        });
        let policy = self.policy.map(|policy| element("policy", &format!("{policy:#x}")));
        let parts = [
            Some(element("name", &self.name)),
            self.uuid.as_ref().map(|uuid| element("uuid", uuid)),
            self.memory_bytes.map(|bytes| format!("<memory unit='bytes'>{bytes}</memory>")),
            self.vcpus.map(|vcpus| element("vcpu", &vcpus.to_string())),
            hugepages,
            numa,
            self.cpu.as_ref().map(|cpu| format!("<cpu>{}</cpu>", element("model", cpu))),
        ];
        let parts: String = parts.into_iter().flatten().collect();
        let policy = policy.unwrap_or_default();
        let secured = format!("<launchSecurity type='sev-snp'>{policy}</launchSecurity>");
        let xml = format!("<domain>{parts}{secured}</domain>");
        let Some(pid) = self.pid else { return xml };
        let state = self.state.as_deref().map(|state| format!(" state='{}'", escaped(state)));
        format!("<domstatus{} pid='{pid}'>{xml}</domstatus>", state.unwrap_or_default())
    }
}

struct File<'a> {
    document: &'a Document<'a>,
}

impl File<'_> {
    fn domain(&self, domain: Node<'_, '_>, secured: Node<'_, '_>) -> Result<Domain, Why> {
        let name = child(domain, "name").and_then(|node| node.text()).map(short);
        let name = name.filter(|name| !name.is_empty());
        let mut read = Domain {
            name: name.ok_or_else(|| self.wrong(domain, "a `<name>` in it", "none"))?,
            ..Domain::default()
        };
        if let Some(node) = child(domain, "uuid") {
            let uuid = self.text_as(node, "32 hexadecimal digits", uuid)?;
            read.uuid = Some(uuid);
        }
        if let Some(node) = child(domain, "memory") {
            let unit = node.attribute("unit").unwrap_or("KiB");
            let bytes = |text: &str| decimal(text)?.checked_mul(unit_bytes(unit)?);
            read.memory_bytes = Some(self.text_as(node, "memory in a unit of libvirt", bytes)?);
        }
        if let Some(node) = child(domain, "vcpu") {
            let text = node.attribute("current").or_else(|| node.text()).unwrap_or_default();
            let number = decimal(text.trim()).filter(|n| (1..1 << 16).contains(n));
            let number = number.ok_or_else(|| self.wrong(node, "1 to 65535 vCPUs", text))?;
            read.vcpus = Some(number as u32);
        }
        if let Some(node) = child(secured, "policy") {
            let number = |text: &str| hex_0x(text).or_else(|| decimal(text));
            read.policy = Some(self.text_as(node, "a policy such as 0x30000", number)?);
        }
        if let Some(node) = child(domain, "cpu") {
            let model = child(node, "model").and_then(|model| model.text());
            read.cpu = model.or_else(|| node.attribute("mode")).map(short);
        }
        let pages = child(domain, "memoryBacking").and_then(|node| child(node, "hugepages"));
        if let Some(pages) = pages {
            let sizes = pages.children().filter(|node| node.has_tag_name("page"));
            read.hugepages = Some(sizes.map(|page| self.page(page)).collect::<Result<_, _>>()?);
        }
        let numa = child(domain, "numatune").and_then(|node| child(node, "memory"));
        // With placement='auto' libvirt asks numad, and the file names no nodes.
        if let Some(node) = numa
            && let Some(nodes) = node.attribute("nodeset")
        {
            let list = CpuList::parse(nodes)
                .map_err(|_| self.wrong(node, "nodeset as a list such as 0-3", nodes))?;
            // libvirt's default.
            let mode = node.attribute("mode").unwrap_or("strict");
            read.numa = Some((short(mode), list));
        }
        Ok(read)
    }

    fn page(&self, page: Node<'_, '_>) -> Result<u64, Why> {
        let size = page.attribute("size").unwrap_or_default();
        let unit = unit_bytes(page.attribute("unit").unwrap_or("KiB"));
        let bytes = decimal(size).zip(unit).and_then(|(size, unit)| size.checked_mul(unit));
        bytes.ok_or_else(|| self.wrong(page, "size in a unit of libvirt", size))
    }

    fn text_as<T>(
        &self,
        node: Node<'_, '_>,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Why> {
        let text = node.text().unwrap_or_default();
        read(text.trim()).ok_or_else(|| self.wrong(node, expected, text))
    }

    /// What is wrong with an element.
    fn wrong(&self, node: Node<'_, '_>, expected: &str, found: &str) -> Why {
        let line = self.document.text_pos_at(node.range().start).row as usize;
        Why::malformed(line, &format!("<{}>: {expected}", node.tag_name().name()), found)
    }
}

fn child<'a, 'text>(node: Node<'a, 'text>, tag: &'static str) -> Option<Node<'a, 'text>> {
    node.children().find(|child| child.has_tag_name(tag))
}

fn short(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

fn uuid(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let fits = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let digits = fits.then(|| digits.to_ascii_lowercase())?;
    let mut parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)].into_iter();
    let parts = parts.try_fold(Vec::new(), |mut parts, (from, to)| {
        parts.push(digits.get(from..to)?);
        Some(parts)
    })?;
    Some(parts.join("-"))
}

/// Bytes of libvirt's units: `KB` is 1000 of them, `K` and `KiB` are 1024.
fn unit_bytes(unit: &str) -> Option<u64> {
    let lower = unit.to_ascii_lowercase();
    if ["b", "byte", "bytes"].contains(&lower.as_str()) {
        return Some(1);
    }
    let power = "kmgtpe".find(lower.chars().next()?)? as u32 + 1;
    match lower.get(1..)? {
        "" | "ib" => 1024u64.checked_pow(power),
        "b" => 1000u64.checked_pow(power),
        _ => None,
    }
}

/// Text for an element or an attribute. What XML turns into blanks is written by its number.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As libvirt writes it, shortened.
    const STATUS: &str = "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\
        <domstatus state='running' reason='booted' pid='4711'>\n\
        <taint flag='host-cpu'/>\n\
        <monitor path='/var/lib/libvirt/qemu/domain-3-web/monitor.sock' type='unix'/>\n\
        <vcpus><vcpu id='0' pid='4720'/></vcpus>\n\
        <domain type='kvm' id='3' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n\
        <name>web</name>\n<uuid>C7A5FDBD-edaf-9455-926a-d65c16db1809</uuid>\n\
        <memory unit='KiB'>8388608</memory>\n<currentMemory unit='KiB'>8388608</currentMemory>\n\
        <memoryBacking><hugepages><page size='1048576' unit='KiB'/></hugepages></memoryBacking>\n\
        <vcpu placement='static' current='4'>8</vcpu>\n\
        <numatune><memory mode='strict' nodeset='0-1'/></numatune>\n\
        <cpu mode='custom' match='exact'><model fallback='forbid'>EPYC-v4</model></cpu>\n\
        <devices><graphics type='vnc' passwd='secret'/></devices>\n\
        <launchSecurity type='sev-snp' kernelHashes='yes'><cbitpos>51</cbitpos>\
        <reducedPhysBits>1</reducedPhysBits><policy>0x00030000</policy></launchSecurity>\n\
        </domain></domstatus>\n";

    pub(in crate::system::libvirt) fn web() -> Domain {
        Domain {
            name: "web".to_owned(),
            uuid: Some("c7a5fdbd-edaf-9455-926a-d65c16db1809".to_owned()),
            vmm: "",
            pid: Some(4711),
            state: Some("running".to_owned()),
            memory_bytes: Some(8 << 30),
            vcpus: Some(4),
            policy: Some(0x30000),
            cpu: Some("EPYC-v4".to_owned()),
            hugepages: Some(vec![1 << 30]),
            numa: Some(("strict".to_owned(), CpuList::parse("0-1").unwrap())),
        }
    }

    #[test]
    fn running_and_defined() {
        assert_eq!(Domain::parse(STATUS, true), Ok(Some(web())));
        let kept = web().to_xml();
        assert!(!kept.contains("secret") && !kept.contains("monitor"), "{kept}");
        // Inside is the file of a defined one.
        let start = STATUS.find("<domain ").unwrap();
        let end = STATUS.find("</domstatus>").unwrap();
        let defined = Domain::parse(&STATUS[start..end], false).unwrap().unwrap();
        assert_eq!(defined, Domain { pid: None, state: None, ..web() });
        let least = "<domain><name>a</name><cpu mode='host-passthrough'/><launchSecurity type='sev-snp'/>\
             <memoryBacking><hugepages/></memoryBacking><numatune><memory mode='strict' \
             placement='auto'/></numatune></domain>";
        let read = Domain::parse(least, false).unwrap().unwrap();
        assert_eq!((read.cpu.as_deref(), read.hugepages), (Some("host-passthrough"), Some(vec![])));
        assert_eq!((read.policy, read.numa, read.memory_bytes), (None, None, None));
        for other in [
            "<domain><launchSecurity type='sev'><policy>x</policy></launchSecurity></domain>",
            "<domain><name>plain</name></domain>",
            "<domain><devices><launchSecurity type='sev-snp'/></devices></domain>",
        ] {
            assert_eq!(Domain::parse(other, false), Ok(None), "{other}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |from: &str, to: &str| {
            assert!(STATUS.contains(from), "{from}");
            match Domain::parse(&STATUS.replacen(from, to, 1), true) {
                Err(Why::Malformed { line, expected, .. }) => (line, expected),
                other => panic!("{other:?}"),
            }
        };
        for (from, to, line, word) in [
            ("pid='4711'", "", 4, "<domstatus>: pid"),
            ("pid='4711'", "pid='0'", 4, "<domstatus>: pid"),
            ("<name>web</name>", "", 8, "<domain>: a `<name>`"),
            ("<name>web</name>", "<name/>", 8, "<domain>: a `<name>`"),
            ("C7A5FDBD-", "C7A5FDBG-", 10, "<uuid>"),
            (">8388608</memory>", ">8 GiB</memory>", 11, "<memory>"),
            ("unit='KiB'>8388608</memory>", "unit='x'>1</memory>", 11, "<memory>"),
            (">8388608</memory>", ">99999999999999999</memory>", 11, "<memory>"),
            ("size='1048576'", "size='-1'", 13, "<page>"),
            ("current='4'", "current='70000'", 14, "<vcpu>"),
            ("nodeset='0-1'", "nodeset='1-0'", 15, "<memory>: nodeset"),
            ("0x00030000", "0x", 18, "<policy>"),
            ("<domstatus", "<domain", 19, "libvirt's XML"),
            ("</domain>", "", 19, "libvirt's XML"),
        ] {
            let (at, expected) = wrong(from, to);
            assert!(at == line && expected.contains(word), "{from} {to}: {at} {expected}");
        }
        assert!(matches!(Domain::parse("<domain/>", true), Err(Why::Malformed { line: 1, .. })));
        assert!(Domain::parse("<domstatus pid='1'/>", true).is_err());
        assert!(Domain::parse("", true).is_err());
    }

    #[test]
    fn units() {
        for (unit, bytes) in [
            ("b", 1),
            ("bytes", 1),
            ("KB", 1000),
            ("k", 1024),
            ("KiB", 1024),
            ("MB", 1_000_000),
            ("MiB", 1 << 20),
            ("G", 1 << 30),
            ("TiB", 1 << 40),
            ("EiB", 1 << 60),
        ] {
            assert_eq!(unit_bytes(unit), Some(bytes), "{unit}");
        }
        for unit in ["", "x", "KiBs", "ki", "ü", "µ"] {
            assert_eq!(unit_bytes(unit), None, "{unit}");
        }
    }

    proptest! {
        /// What a snapshot keeps reads the same, whatever the names hold.
        #[test]
        fn what_is_kept_reads_the_same(
            name in "[\\t\\n\\r -\u{7e}\u{80}-\u{d7ff}]{1,40}",
            state in proptest::option::of("[\\t\\n\\r -~]{0,20}"),
            cpu in proptest::option::of("[ -~é]{1,20}"),
            policy: Option<u64>,
            memory_bytes: Option<u64>,
            vcpus in proptest::option::of(1u32..65_536),
            hugepages in proptest::option::of(proptest::collection::vec(any::<u64>(), 0..4)),
            pid in proptest::option::of(1u64..1 << 31),
        ) {
            let domain = Domain {
                name,
                state: state.filter(|_| pid.is_some()),
                cpu,
                policy,
                memory_bytes,
                vcpus,
                hugepages,
                pid,
                ..web()
            };
            prop_assert_eq!(Domain::parse(&domain.to_xml(), pid.is_some()), Ok(Some(domain)));
        }

        #[test]
        fn never_panics(cut in 0usize..STATUS.len(), with in "[<>&'=/a-z0-9x ]{0,12}", runs: bool) {
            let mut text = STATUS.to_owned();
            if text.is_char_boundary(cut) {
                text.replace_range(cut..(cut + 5).min(STATUS.len()), &with);
            }
            let _ = Domain::parse(&text, runs);
        }
    }
}
