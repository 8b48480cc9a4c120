//! The initial file system of a machine.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Boot;
use super::console::{END, START};
use crate::kernel_env::KernelEnv;
use crate::process::pipeline;

impl Boot<'_> {
    /// The initial file system: busybox, the files, and the script.
    pub(super) fn initrd(&self, env: &KernelEnv) -> Result<PathBuf> {
        let folder = env.scratch(self.name);
        let root = folder.join("root");
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        for part in ["bin", "proc", "sys", "dev"] {
            fs::create_dir_all(root.join(part))?;
        }
        fs::copy(busybox()?, root.join("bin/busybox"))?;
        for file in self.files {
            let name = file.file_name().context("a file without a name")?;
            fs::copy(file, root.join(name)).with_context(|| format!("{}", file.display()))?;
        }
        let init = format!(
            "#!/bin/busybox sh\n\
             /bin/busybox --install -s /bin\n\
             export PATH=/bin\n\
             echo; echo '{START}'\n\
             mount -t proc proc /proc\n\
             mount -t sysfs sysfs /sys\n\
             mount -t devtmpfs devtmpfs /dev 2>/dev/null\n\
             mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null\n\
             {}\n\
             echo '{END}'\n\
             poweroff -f\n",
            self.script
        );
        let path = root.join("init");
        fs::File::create(&path)?.write_all(init.as_bytes())?;
        let initrd = folder.join("initrd.gz");
        pipeline(
            "chmod 755 \"$1/init\"; cd \"$1\"; find . | cpio -o -H newc -R 0:0 | gzip -1 > \"$2\"",
            &[&root, &initrd],
            &env.logs().join(format!("{}-initrd.log", self.name)),
        )?;
        Ok(initrd)
    }
}

/// A busybox that needs no libraries.
fn busybox() -> Result<&'static Path> {
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
    match places.into_iter().find(|place| place.is_file()) {
        Some(place) => Ok(place),
        None => bail!("no /bin/busybox; install busybox-static"),
    }
}
