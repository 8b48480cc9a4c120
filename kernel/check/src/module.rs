//! The driver loaded and unloaded, while `rmpopt_emu` keeps the host.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use crate::files;

/// Where the parameters of every load stand: the scripts' settings for slow machines.
const ALWAYS: &str = "LOAD";

/// Loads the driver with these parameters, besides those in the environment that are not among them: a
/// parameter can be given once.
pub(crate) fn load(parameters: &[&str]) -> Result<(), String> {
    let always = std::env::var(ALWAYS).unwrap_or_default();
    let name = |word: &str| word.split('=').next().map(str::to_owned);
    let given = |word: &&str| parameters.iter().any(|parameter| name(parameter) == name(word));
    let always = always.split_whitespace().filter(|word| !given(word));
    let mut insmod = Command::new("insmod");
    insmod.args(["/rmpopt.ko", "emulate=model"]).args(always).args(parameters);
    run(&mut insmod)
}

/// Unloads it.
pub(crate) fn unload() -> Result<(), String> {
    run(Command::new("rmmod").arg("rmpopt"))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}, {}", output.status, said.trim()))
}

/// Unloads it although files are held open: while one of debugfs is, it stays; those of configfs are
/// of no more use afterwards. How many were held.
pub(crate) fn unload_held() -> Result<usize, String> {
    let open = |path: &Path| {
        let readable = File::open(path);
        let file = readable.or_else(|_| File::options().write(true).open(path));
        file.map_err(|error| format!("{}: {error}", path.display()))
    };
    let mut held = 0;
    for path in all(Path::new(files::DRIVER))? {
        let file = open(&path)?;
        if unload().is_ok() {
            return Err(format!("{}: was open, and the module went", path.display()));
        }
        drop(file);
        held += 1;
    }
    let mut open_ones = Vec::new();
    for path in all(Path::new(files::CONFIG))? {
        open_ones.push((open(&path)?, path));
        held += 1;
    }
    unload()?;
    for (mut file, path) in open_ones {
        if file.read(&mut [0; 16]).is_ok() {
            return Err(format!("{}: can be read without the module", path.display()));
        }
    }
    Ok(held)
}

/// All files below a folder.
fn all(folder: &Path) -> Result<Vec<std::path::PathBuf>, String> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(folder);
    for entry in entries.map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            files.extend(all(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}
