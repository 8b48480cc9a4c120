//! DKMS builds, installs and removes the packaged module, for a kernel whose build folder has Rust's
//! metadata: the stock kernel's, as the environment has it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::deb::{self, source};
use crate::kernel_env::{KernelEnv, repository};
use crate::process::{capture, run_logged};

/// What is wrong with it.
pub(super) fn check(env: &KernelEnv) -> Result<Vec<String>> {
    let started = Instant::now();
    let (root, release) = (env.root(), env.release()?);
    let repository = repository()?;
    let version = deb::version(&repository)?;
    let (sources, modules) = (root.join("usr/src"), root.join("lib/modules").join(&release));
    let place = sources.join(format!("rmpopt-{version}"));
    remove(&place)?;
    for (path, text) in source::files(&repository, &version)? {
        let file = place.join(path);
        fs::create_dir_all(file.parent().unwrap_or(&place))?;
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    // As a package of headers would have it.
    remove(&modules)?;
    fs::create_dir_all(&modules)?;
    std::os::unix::fs::symlink("/kernel/obj", modules.join("build"))?;
    remove(&root.join("var/lib/dkms/rmpopt"))?;

    let package = format!("rmpopt/{version}");
    let dkms = |action: &str, more: &[&str]| {
        let mut dkms = env.command("dkms");
        dkms.arg(action).arg(&package).args(more);
        run_logged(&mut dkms, &env.logs().join(format!("dkms-{action}.log")))
    };
    let kernel = ["-k", &release];
    dkms("add", &[])?;
    dkms("build", &kernel)?;
    dkms("install", &kernel)?;
    let mut wrong = Vec::new();
    let installed = format!("/lib/modules/{release}/updates/dkms/rmpopt.ko");
    let magic = capture(env.command("modinfo").args(["-F", "vermagic", &installed]))?;
    if magic.split_whitespace().next() != Some(release.as_str()) {
        wrong.push(format!("dkms: {installed} is for `{}`, expected {release}", magic.trim()));
    }
    dkms("remove", &["--all"])?;
    for left in [root.join("var/lib/dkms/rmpopt"), root.join(&installed[1..])] {
        if left.exists() {
            wrong.push(format!("dkms: {} is left after the removal", left.display()));
        }
    }
    remove(&place)?;
    remove(&modules)?;
    println!(
        "DKMS has built, installed and removed it in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    Ok(wrong)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}
