//! Works out what a text is from what it says.

use crate::log::{after, kernel_version, split};
use crate::system::SNAPSHOT_FORMAT;
use crate::{hwloc, lscpu, numactl};

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// A kernel log (`dmesg`, `journalctl -k`), with or without a memory map.
    KernelLog,
    /// The output of `lscpu`.
    Lscpu,
    /// The output of `numactl --hardware`.
    Numactl,
    /// hwloc's XML (`lstopo --of xml`).
    Hwloc,
    /// A snapshot of a host (`rmpopt snapshot`).
    Snapshot,
}

impl FileKind {
    /// Tells the kind by content; `None` for anything else.
    ///
    /// A text that holds the outputs of several commands counts as the first kind it fits, in the
    /// order of the variants: keep each command's output in a file of its own. hwloc's XML and a
    /// snapshot are known by their heads.
    pub fn of(text: &str) -> Option<Self> {
        if hwloc::is_hwloc(text) {
            Some(Self::Hwloc)
        } else if is_snapshot(text) {
            Some(Self::Snapshot)
        } else if text.lines().any(is_log_line) {
            Some(Self::KernelLog)
        } else if text.lines().any(lscpu::is_line) {
            Some(Self::Lscpu)
        } else if text.lines().any(numactl::is_line) {
            Some(Self::Numactl)
        } else {
            text.lines().any(is_stamped).then_some(Self::KernelLog)
        }
    }
}

/// A snapshot is one JSON object, with its format among the first keys as it is written.
fn is_snapshot(text: &str) -> bool {
    let head = text.trim_start();
    let end = head.char_indices().nth(200).map_or(head.len(), |(end, _)| end);
    head.starts_with('{') && head.get(..end).is_some_and(|head| head.contains(SNAPSHOT_FORMAT))
}

/// A line that states a fact read here.
fn is_log_line(line: &str) -> bool {
    const TOKENS: [&str; 6] = [
        "BIOS-e820:",
        "BIOS-provided physical RAM map:",
        "E820 memmap:",
        "SEV-SNP:",
        "SRAT: Node ",
        "CPU topo:",
    ];
    TOKENS.iter().any(|token| after(line, token).is_some())
        || after(line, "user:").is_some_and(starts_range)
        || after(line, "modified:").is_some_and(starts_range)
        || kernel_version(line).is_some()
}

fn starts_range(rest: &str) -> bool {
    let rest = rest.trim_start();
    rest.starts_with("[mem 0x") || rest.bytes().take_while(u8::is_ascii_hexdigit).count() == 16
}

/// `[    1.234567] ` or `... kernel: `: some kernel log, whatever it says.
fn is_stamped(line: &str) -> bool {
    split(line).kernel
}

/// What an unrecognised text resembles, for an error's hint.
pub(crate) fn resembles(text: &str) -> &'static str {
    let first = text.lines().find(|l| !l.trim().is_empty()).unwrap_or_default().trim();
    if first.starts_with("RANGE ") || first.starts_with("Memory block size") {
        "; it looks like the output of `lsmem`, which is not read"
    } else if text.lines().any(|l| l.trim_end().ends_with(" : System RAM")) {
        "; it looks like /proc/iomem, which is not read: give the kernel log"
    } else if text.lines().any(|l| l.starts_with("MemTotal") && l.split_whitespace().count() > 3) {
        "; it looks like the output of `numastat -m`, which is not read"
    } else if first.starts_with("# The following is the parsable format") {
        "; it looks like the output of `lscpu -p`: run `LC_ALL=C lscpu` without options"
    } else if first.starts_with('{') || first.starts_with("[{") {
        "; it looks like JSON: the plain output of the command is read"
    } else if first.starts_with('<') {
        "; it looks like XML, of which only hwloc's is read"
    } else if first.split(',').count() > 3 {
        "; it looks like CSV, perhaps a trace"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_content() {
        for (text, kind) in [
            ("[ 0.0] BIOS-e820: [mem 0x0-0xfff] usable", Some(FileKind::KernelLog)),
            ("ACPI: SRAT: Node 0 PXM 0 [mem 0x0-0xfff]", Some(FileKind::KernelLog)),
            ("kernel: SEV-SNP: RMP table", Some(FileKind::KernelLog)),
            ("[    0.123456] random: crng init done", Some(FileKind::KernelLog)),
            (
                " modified: 0000000000000000 - 0000000000010000 (reserved)",
                Some(FileKind::KernelLog),
            ),
            ("modified: yes", None),
            ("Architecture: x86_64\n  Socket(s):   2", Some(FileKind::Lscpu)),
            ("available: 2 nodes (0-1)", Some(FileKind::Numactl)),
            ("node 0 cpus: 0-15 (16)", Some(FileKind::Numactl)),
            (
                "<?xml version=\"1.0\"?>\n<!DOCTYPE x>\n<topology version=\"2.0\">",
                Some(FileKind::Hwloc),
            ),
            ("<domain type='kvm'>", None),
            (
                "{\"format\":\"rmpopt-snapshot\",\"items\":{\"/dev/kmsg\":\"BIOS-e820: \"}}",
                Some(FileKind::Snapshot),
            ),
            ("{\"lscpu\": []}", None),
            ("hello", None),
            ("", None),
        ] {
            assert_eq!(FileKind::of(text), kind, "{text}");
        }
    }

    #[test]
    fn hints() {
        assert!(resembles("00100000-59cccfff : System RAM\n").contains("iomem"));
        assert!(resembles("a,b,c,d\n").contains("CSV"));
        assert!(resembles("\n{\"lscpu\": []}").contains("JSON"));
        assert_eq!(resembles("hello"), "");
    }
}
