//! The kernel's packages: which version, and their files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::kernel::{KERNEL_SUITE, newest_version, parse_kernel, release_in};
use super::maker::{Maker, say};
use super::{Kernel, Mirror, SUITE, mirror};
use crate::process::{capture, run_logged};

/// The metapackage that follows the newest kernel.
const KERNEL_METAPACKAGE: &str = "linux-image-amd64";
impl Maker {
    /// Step 2: which kernel. What was resolved before stands until a refresh is asked for.
    pub(super) fn kernel(&self, refresh: bool) -> Result<Kernel> {
        let remembered = fs::read_to_string(self.stamp("kernel")).ok();
        let remembered = remembered.as_deref().and_then(parse_kernel);
        if let (Some(kernel), false) = (&remembered, refresh) {
            say(2, &format!("kernel: {} (package version {})", kernel.release, kernel.version));
            return Ok(kernel.clone());
        }
        let mirror = mirror()?;
        say(2, &format!("kernel: asking {} on {}", KERNEL_SUITE, mirror.address));
        self.private_apt(&mirror)?;
        run_logged(
            self.apt("apt-get").args(["update", "-o", "APT::Update::Error-Mode=any"]),
            &self.log("apt-update"),
        )
        .context("reading the mirror's package lists")?;
        let listed = capture(self.apt("apt-cache").args(["madison", KERNEL_METAPACKAGE]))?;
        let version = newest_version(&listed)
            .with_context(|| format!("{KERNEL_METAPACKAGE} is not in {KERNEL_SUITE}"))?;
        let wanted = format!("{KERNEL_METAPACKAGE}={version}");
        let shown = capture(self.apt("apt-cache").args(["show", &wanted]))?;
        let release = release_in(&shown)
            .with_context(|| format!("{wanted} depends on no linux-image package"))?;
        let kernel = Kernel { version, release };
        let missing: Vec<String> = kernel
            .packages()
            .into_iter()
            .filter(|package| {
                let wanted = format!("{package}={}", kernel.version);
                capture(self.apt("apt-cache").args(["show", &wanted])).is_err()
            })
            .collect();
        if !missing.is_empty() {
            bail!(
                "the mirror has kernel {} but not, in the same version: {}",
                kernel.version,
                missing.join(" ")
            )
        }
        say(2, &format!("kernel: {} (package version {})", kernel.release, kernel.version));
        self.done("kernel", &format!("{}\n{}\n", kernel.version, kernel.release))?;
        Ok(kernel)
    }

    /// An apt that knows other suites than the system's and keeps its state in the cache folder.
    fn private_apt(&self, mirror: &Mirror) -> Result<()> {
        let apt = self.cache.join("apt");
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(apt.join(folder))?;
        }
        fs::write(apt.join("state/status"), "")?;
        let Mirror { address, keys } = mirror;
        let source = |suite| format!("deb [arch=amd64 signed-by={keys}] {address} {suite} main\n");
        fs::write(apt.join("sources.list"), [SUITE, KERNEL_SUITE].map(source).concat())?;
        let at = apt.display();
        fs::write(
            apt.join("apt.conf"),
            format!(
                "Dir::State \"{at}/state\";\n\
                 Dir::State::status \"{at}/state/status\";\n\
                 Dir::Cache \"{at}/cache\";\n\
                 Dir::Etc::sourcelist \"{at}/sources.list\";\n\
                 Dir::Etc::sourceparts \"-\";\n\
                 Dir::Etc::preferences \"-\";\n\
                 Dir::Etc::preferencesparts \"-\";\n\
                 APT::Architecture \"amd64\";\n\
                 APT::Architectures {{ \"amd64\"; }};\n\
                 APT::Sandbox::User \"root\";\n\
                 Acquire::Languages \"none\";\n\
                 #clear APT::Update::Post-Invoke;\n\
                 #clear APT::Update::Post-Invoke-Success;\n"
            ),
        )?;
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.cache.join("apt/apt.conf")).env("LC_ALL", "C");
        command
    }

    /// Step 3: the kernel's packages.
    pub(super) fn packages(&self, kernel: &Kernel) -> Result<()> {
        let folder = self.cache.join("debs");
        let wanted: Vec<String> = kernel
            .packages()
            .into_iter()
            .filter(|package| deb(&folder, package, &kernel.version).is_err())
            .collect();
        if wanted.is_empty() {
            say(3, "kernel packages: present");
            return Ok(());
        }
        say(3, &format!("kernel packages: downloading {}", wanted.join(" ")));
        for stale in fs::read_dir(&folder)? {
            let stale = stale?;
            if !stale.file_name().to_string_lossy().contains(&format!("_{}_", kernel.version)) {
                fs::remove_file(stale.path())?;
            }
        }
        let mut download = self.apt("apt-get");
        download.arg("download").current_dir(&folder);
        download.args(wanted.iter().map(|package| format!("{package}={}", kernel.version)));
        run_logged(&mut download, &self.log("apt-download")).with_context(|| {
            format!(
                "downloading version {}; if the mirror no longer has it, run \
                 `cargo xtask kernel-env --refresh`",
                kernel.version
            )
        })
    }
}

/// The downloaded file of a package.
pub(super) fn deb(folder: &Path, package: &str, version: &str) -> Result<PathBuf> {
    // apt writes the colon of an epoch as %3a.
    let start = format!("{package}_{}_", version.replace(':', "%3a"));
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(&start) && path.extension().is_some_and(|ext| ext == "deb") {
            return Ok(path);
        }
    }
    bail!("no downloaded package {package} of version {version}")
}
