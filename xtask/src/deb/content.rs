//! What is in the package, file by file.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{Package, source};
use crate::process::capture;

/// Pages of the guide that an operator wants.
const DOCS: [&str; 8] = [
    "decode.md",
    "doctor.md",
    "fleet.md",
    "kernel-env.md",
    "kernel-module.md",
    "run.md",
    "snapshot.md",
    "status.md",
];

/// Writes the package's tree.
pub(super) fn write(package: &Package, stage: &Path) -> Result<()> {
    let tree = Tree { package, stage };
    tree.program()?;
    tree.fleet()?;
    tree.module()?;
    tree.documents()?;
    tree.control()?;
    modes(stage)
}

struct Tree<'a> {
    package: &'a Package,
    stage: &'a Path,
}

impl Tree<'_> {
    fn put(&self, path: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        let file = self.stage.join(path);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        Ok(file)
    }

    /// A file of the repository.
    fn copy(&self, from: &str, to: &str) -> Result<()> {
        let text =
            fs::read(self.package.root.join(from)).with_context(|| format!("reading {from}"))?;
        self.put(to, text).map(drop)
    }

    /// The same, packed as Debian packs documents.
    fn packed(&self, path: &str, text: impl AsRef<[u8]>) -> Result<()> {
        let file = self.put(path, text)?;
        capture(Command::new("gzip").args(["-9", "--no-name", "--force"]).arg(file)).map(drop)
    }

    /// A text of `fleet/debian` with its version filled in.
    fn debian(&self, name: &str) -> Result<String> {
        let file = self.package.root.join("fleet/debian").join(name);
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(text.replace("@VERSION@", &self.package.version))
    }

    /// The program, its pages and its completions, which it writes itself.
    fn program(&self) -> Result<()> {
        let program = self.put("usr/bin/rmpopt", fs::read(&self.package.binary)?)?;
        capture(Command::new("strip").arg("--strip-unneeded").arg(&program))?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        let pages = self.stage.join("usr/share/man/man1");
        fs::create_dir_all(&pages)?;
        capture(Command::new(&program).arg("man").arg(&pages))?;
        for page in sorted(&pages)? {
            capture(Command::new("gzip").args(["-9", "--no-name"]).arg(page))?;
        }
        for (shell, file) in [
            ("bash", "usr/share/bash-completion/completions/rmpopt"),
            ("zsh", "usr/share/zsh/vendor-completions/_rmpopt"),
            ("fish", "usr/share/fish/vendor_completions.d/rmpopt.fish"),
        ] {
            let script = capture(Command::new(&program).args(["completions", shell]))?;
            self.put(file, script)?;
        }
        Ok(())
    }

    /// Units, rules, the dashboard.
    fn fleet(&self) -> Result<()> {
        for file in source::tracked(&self.package.root, &["fleet/systemd"])? {
            let name = file.rsplit('/').next().unwrap_or_default();
            match name.strip_suffix(".sysusers") {
                Some(name) => self.copy(&file, &format!("usr/lib/sysusers.d/{name}.conf"))?,
                None => self.copy(&file, &format!("usr/lib/systemd/system/{name}"))?,
            }
        }
        for file in source::tracked(&self.package.root, &["fleet/prometheus", "fleet/grafana"])? {
            let name = file.strip_prefix("fleet/").unwrap_or(&file);
            self.copy(&file, &format!("usr/share/doc/rmpopt/examples/{name}"))?;
        }
        self.copy("kernel/rmpopt.conf", "usr/share/doc/rmpopt/examples/modprobe.d/rmpopt.conf")
    }

    fn module(&self) -> Result<()> {
        let version = &self.package.version;
        for (path, text) in source::files(&self.package.root, version)? {
            self.put(&format!("usr/src/rmpopt-{version}/{path}"), text)?;
        }
        Ok(())
    }

    fn documents(&self) -> Result<()> {
        let doc = "usr/share/doc/rmpopt";
        for page in DOCS {
            self.packed(
                &format!("{doc}/{page}"),
                fs::read(self.package.root.join("docs").join(page))?,
            )?;
        }
        self.put(&format!("{doc}/README.Debian"), self.debian("README.Debian")?)?;
        let mit = fs::read_to_string(self.package.root.join("LICENSE-MIT"))?;
        let mit = mit.trim_end().lines().map(|line| match line.trim_end() {
            "" => " .\n".to_owned(),
            line => format!(" {line}\n"),
        });
        let mit: String = mit.collect();
        let copyright = self.debian("copyright")?.replace("@MIT@", mit.trim_end());
        self.put(&format!("{doc}/copyright"), copyright)?;
        self.packed(&format!("{doc}/crates.txt"), self.crates()?)?;
        let news = fs::read(self.package.root.join("CHANGELOG.md"))?;
        self.packed(&format!("{doc}/changelog"), news)?;
        let date = capture(
            Command::new("date")
                .args(["-u", "-R", "-d", &format!("@{}", self.package.epoch)])
                .env("LC_ALL", "C"),
        )?;
        let entry = format!(
            "rmpopt ({}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- {MAINTAINER}  {}\n",
            self.package.debian_version(),
            date.trim()
        );
        self.packed(&format!("{doc}/changelog.Debian"), entry)
    }

    /// The crates that are in the program, with their licences.
    fn crates(&self) -> Result<String> {
        let listed = capture(Command::new("cargo").current_dir(&self.package.root).args([
            "tree",
            "--locked",
            "--package",
            "rmpopt",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}\t{l}",
            "--no-dedupe",
        ]))?;
        let lines: BTreeSet<String> = listed
            .lines()
            .filter_map(|line| line.split_once('\t'))
            // A crate of the workspace has its folder behind its version.
            .filter(|(krate, _)| !krate.contains("(/"))
            .map(|(krate, licence)| format!("{}: {licence}\n", krate.replace(" (proc-macro)", "")))
            .collect();
        ensure!(!lines.is_empty(), "cargo tree lists no crate");
        Ok(lines.into_iter().collect())
    }

    fn control(&self) -> Result<()> {
        let (mut sums, mut bytes) = (String::new(), 0);
        for file in files(self.stage)? {
            let name = file.strip_prefix(self.stage).unwrap_or(&file).display().to_string();
            let sum = capture(Command::new("md5sum").arg(&file))?;
            let sum = sum.split(' ').next().unwrap_or_default();
            sums.extend([sum, "  ", &name, "\n"]);
            bytes += fs::metadata(&file)?.len();
        }
        let libc = glibc(&fs::read(self.stage.join("usr/bin/rmpopt"))?)
            .context("the program needs no version of glibc that is known")?;
        let control = format!(
            "Package: rmpopt\nVersion: {}\nArchitecture: amd64\nMaintainer: {MAINTAINER}\n\
             Installed-Size: {}\nDepends: libc6 (>= {libc}), libgcc-s1 (>= 4.2)\n\
             Suggests: dkms, prometheus, prometheus-node-exporter\nSection: admin\n\
             Priority: optional\nHomepage: https://github.com/rmpopt/rmpopt\n\
             Description: tools for SEV-SNP hosts, the Reverse Map Table and AMD's RMPOPT\n{DESCRIPTION}",
            self.package.debian_version(),
            bytes.div_ceil(1024)
        );
        self.put("DEBIAN/control", control)?;
        self.put("DEBIAN/md5sums", sums)?;
        for script in ["postinst", "prerm", "postrm"] {
            self.put(&format!("DEBIAN/{script}"), self.debian(script)?)?;
        }
        Ok(())
    }
}

const MAINTAINER: &str = "rmpopt developers <rmpopt@users.noreply.github.com>";

const DESCRIPTION: &str = " Shows what a host says of SEV-SNP, the Reverse Map Table and RMPOPT, checks it\n \
    by numbered rules, explains kernel logs, exports metrics to Prometheus, and\n \
    takes an emulated host through the life of its guests. The kernel module's\n \
    source comes along for DKMS.\n";

/// The newest version of glibc whose symbols are named in the program.
fn glibc(program: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"GLIBC_2.";
    let versions = program.windows(MARK.len()).enumerate().filter(|(_, bytes)| *bytes == MARK);
    let minor = versions.filter_map(|(at, _)| {
        let rest = program.get(at + MARK.len()..)?;
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        std::str::from_utf8(rest.get(..digits)?).ok()?.parse::<u32>().ok()
    });
    Some(format!("2.{}", minor.max()?))
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// All files below a folder, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in sorted(folder)? {
        if path.is_dir() {
            all.extend(files(&path)?);
        } else {
            all.push(path);
        }
    }
    Ok(all)
}

/// Permissions that do not depend on the umask.
fn modes(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    for path in sorted(folder)? {
        if path.is_dir() {
            modes(&path)?;
            continue;
        }
        let runs = ["rmpopt", "postinst", "prerm", "postrm"];
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let in_bin = folder.ends_with("usr/bin") || folder.ends_with("DEBIAN");
        let mode = if in_bin && runs.contains(&name.as_str()) { 0o755 } else { 0o644 };
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::glibc;

    #[test]
    fn the_newest_glibc_counts_by_number() {
        let program = b"\0GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.2.5\0GLIBC_PRIVATE\0GLIBC_2.";
        assert_eq!(glibc(program).as_deref(), Some("2.34"));
        assert_eq!(glibc(b"static"), None);
    }
}
