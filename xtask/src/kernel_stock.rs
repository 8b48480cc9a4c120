//! Parts of the kernel that tests look at or take along.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::kernel_env::{Flavour, KernelEnv};
use crate::process::pipeline;

impl KernelEnv {
    /// A module of the kernel itself, unpacked.
    pub(crate) fn stock_module(&self, name: &str) -> Result<PathBuf> {
        if self.flavour() != Flavour::Stock {
            let (folder, file) = (self.built_modules(), format!("{name}.ko"));
            let found = find(&folder, OsStr::new(&file))?;
            return found.with_context(|| format!("{} has no {file}", folder.display()));
        }
        let image = self.vmlinuz();
        let modules = image.parent().context("the stock kernel has no folder")?.join("kernel");
        let packed = format!("{name}.ko.xz");
        let Some(found) = find(&modules, OsStr::new(&packed))? else {
            bail!("{} has no {packed}", modules.display());
        };
        let folder = self.scratch("modules");
        fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{name}.ko"));
        let log = self.logs().join("modules.log");
        // Another machine may be copying the one from before: it keeps that.
        pipeline("xz -dc \"$1\" > \"$2.new\"; mv \"$2.new\" \"$2\"", &[&found, &file], &log)?;
        Ok(file)
    }

    /// The kernel's type information, as a path inside the environment's root.
    pub(crate) fn btf(&self) -> Result<&'static str> {
        let image = self.vmlinuz();
        let usr = image.ancestors().nth(4).context("the stock kernel has no folder")?;
        let headers = usr.join("src").join(format!("linux-headers-{}", self.kernel().release));
        let file = headers.join("vmlinux");
        fs::copy(&file, self.root().join("build/vmlinux.btf"))
            .with_context(|| format!("copying {}", file.display()))?;
        Ok("/build/vmlinux.btf")
    }
}

/// A file of this name somewhere below a folder.
fn find(folder: &Path, name: &OsStr) -> Result<Option<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.file_name() == Some(name) {
            return Ok(Some(path));
        }
        if path.is_dir()
            && let Some(found) = find(&path, name)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
