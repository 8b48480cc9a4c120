//! Names taken out of a record: host names, users, guests. Addresses and sizes stay, since without
//! them nothing could be said of the RMP.

use super::guests::of_cmdline;
use super::klog::LOG_PATHS;
use super::record::{Item, Record};

/// Words of which one must be in a line of the log that is kept.
const KEPT: [&str; 14] = [
    "SEV",
    "SNP",
    "RMP",
    "rmp",
    "ccp",
    "e820",
    "SRAT",
    "CPU topo",
    "AMD-Vi",
    "kvm",
    "psp",
    "PFN",
    "guest_memfd",
    "Linux version",
];

impl Record {
    /// Takes names out. Of the log the lines that are read here are kept, without what stands
    /// before the message; of a guest's command line what makes it an SNP guest and its memory.
    ///
    /// Guests are named after their process, those that do not run by a number; the same UUID becomes
    /// the same other one.
    pub fn redact(&mut self) {
        self.redacted = true;
        super::libvirt::redact(&mut self.items);
        for (path, item) in &mut self.items {
            let Item::Text(text) = item else { continue };
            if LOG_PATHS.contains(&path.as_str()) {
                *text = log(text);
            } else if let Some(pid) =
                path.strip_prefix("/proc/").and_then(|p| p.strip_suffix("/cmdline"))
            {
                *text = cmdline(pid, text);
            } else if path.starts_with("/sys/module/ccp/parameters/") && text.contains('/') {
                // A path of a file, such as init_ex_path.
                "redacted".clone_into(text);
            }
        }
    }
}

fn log(text: &str) -> String {
    let mut kept = String::new();
    for line in text.lines().filter(|line| KEPT.iter().any(|word| line.contains(word))) {
        // A journal's or syslog's line: date, host, `kernel:`.
        let line = line.split_once(" kernel: ").map_or(line, |(_, message)| message);
        if let Some((before, after)) = line.split_once("Linux version ") {
            let version = after.split(' ').next().unwrap_or_default();
            let time = if before.contains(';') || before.contains(']') { before } else { "" };
            kept.extend([time, "Linux version ", version, "\n"]);
        } else if !line.contains("ommand line:") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn cmdline(pid: &str, text: &str) -> String {
    let guest = of_cmdline(pid.parse().unwrap_or_default(), text);
    let Some(guest) = guest else { return String::new() };
    let name = guest.name.is_some().then(|| format!("guest-{pid}"));
    let bytes = guest.memory_bytes;
    if guest.vmm == "qemu" {
        let name = name.map_or_else(String::new, |name| format!("-name\0{name}\0"));
        let memory = bytes.map_or_else(String::new, |b| format!("-m\0{}k\0", b >> 10));
        return format!("qemu\0{name}{memory}-object\0sev-snp-guest\0");
    }
    let memory = bytes.map_or_else(String::new, |b| format!("--memory\0size={b}\0"));
    format!("cloud-hypervisor\0--platform\0sev_snp=on\0{memory}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_gone_and_facts_stay() {
        let text = log(
            "Nov 24 10:00:00 secret-host kernel: SEV-SNP: RMP table physical range [0x1 - 0x2]\n\
                        Linux version 6.12.0 (joe@secret-build) (gcc)\nCommand line: root=UUID=secret SNP\nusb: secret\n",
        );
        assert_eq!(text, "SEV-SNP: RMP table physical range [0x1 - 0x2]\nLinux version 6.12.0\n");
        let text = cmdline("7", "qemu\0-name\0secret\0-m\08G\0-object\0sev-snp-guest,id=secret\0");
        assert!(!text.contains("secret"), "{text}");
        let guest = of_cmdline(7, &text).unwrap();
        assert_eq!((guest.name.as_deref(), guest.memory_bytes), (Some("guest-7"), Some(8 << 30)));
    }
}
