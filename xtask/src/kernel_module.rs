//! Building a module inside the kernel environment, and looking at what the compiler made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::kernel_env::{KernelEnv, repository};
use crate::process::{capture, run_logged};

/// Parts of the repository that take part in a module's build: the module and the shared floors.
const STAGED: [&str; 4] =
    ["kernel", "crates/snp-defs/src", "crates/rmpopt-core/src", "crates/snp-model/src"];

/// A stack frame larger than this is worth a second look: a kernel stack has 16 KiB for everyone.
pub(crate) const LARGE_FRAME: u64 = 1024;

/// The module as it is packaged, or with emulated hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Module {
    /// As packaged.
    Packaged,
    /// With emulated hardware.
    Emulated,
}

/// Folder with the Kbuild file, from the repository's root.
const FOLDER: &str = "kernel";
/// Name without `.ko`.
const NAME: &str = "rmpopt";

/// How strict a build is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// As the distribution builds: warnings are printed.
    Stock,
    /// Clippy instead of rustc, every warning an error.
    Lint,
}

impl Module {
    /// Name of its logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Packaged => "rmpopt",
            Self::Emulated => "rmpopt-emulated",
        }
    }

    /// Folder inside the environment's root where it is built: one for each, so that neither
    /// build throws the other's away.
    fn place(self, env: &KernelEnv) -> String {
        let name = match self {
            Self::Packaged => "build",
            Self::Emulated => "build-emulated",
        };
        format!("{name}{}", env.flavour().suffix())
    }

    /// The built module, and with emulated hardware those that take part in its tests.
    pub(crate) fn files(self, env: &KernelEnv) -> Vec<PathBuf> {
        let folder = env.root().join(self.place(env)).join(FOLDER);
        let names = match self {
            Self::Packaged => &[NAME][..],
            Self::Emulated => &[NAME, "rmpopt_emu", "rmpopt_caller"],
        };
        names.iter().map(|name| folder.join(format!("{name}.ko"))).collect()
    }

    /// Builds the module from the repository's present sources; returns the log.
    pub(crate) fn build(self, env: &KernelEnv, strictness: Strictness) -> Result<String> {
        stage(&env.root().join(self.place(env)))?;
        let log = env.logs().join(match strictness {
            Strictness::Stock => format!("{}-build.log", self.name()),
            Strictness::Lint => format!("{}-lint.log", self.name()),
        });
        let mut make = env.make();
        make.arg(format!("M=/{}/{FOLDER}", self.place(env))).arg("modules");
        if self == Self::Emulated {
            make.arg("RMPOPT_EMULATE=1");
        }
        if strictness == Strictness::Lint {
            make.args(["CLIPPY=1", "KRUSTFLAGS=-Dwarnings"]);
        }
        run_logged(&mut make, &log)?;
        Ok(fs::read_to_string(&log)?)
    }

    /// What in the object could stop the kernel or use up its stack.
    pub(crate) fn inspect(self, env: &KernelEnv) -> Result<Inspection> {
        let object = format!("/{}/{FOLDER}/{NAME}.o", self.place(env));
        let mut objdump = env.command("objdump");
        objdump.args(["--disassemble", "--reloc", "--no-show-raw-insn", "--demangle=rust"]);
        let mut found = Inspection::of(&capture(objdump.arg(&object))?);
        found.locate(|section, addresses| {
            let mut lines = env.command("addr2line");
            lines.args(["--inlines", "--addresses", "-j", section, "-e", &object]);
            capture(lines.args(addresses))
        })?;
        Ok(found)
    }
}

/// Findings about an object file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Inspection {
    /// Panicking functions it refers to, each with the source lines (or functions) that do.
    pub(crate) panics: BTreeMap<String, BTreeSet<String>>,
    sites: Vec<Site>,
    /// Functions that touch floating point registers, which the kernel does not save.
    pub(crate) floats: BTreeSet<String>,
    /// Bytes of stack per function, largest first.
    pub(crate) frames: Vec<(u64, String)>,
}

/// A place from which a panicking function is reached.
#[derive(Debug, PartialEq, Eq)]
struct Site {
    section: String,
    address: String,
    target: String,
    function: String,
}

impl Inspection {
    /// Turns sites into source lines. `ask` is given a section and addresses in it, and answers as
    /// `addr2line` does: each address, then the lines it stands for, innermost first.
    fn locate(&mut self, ask: impl Fn(&str, &[String]) -> Result<String>) -> Result<()> {
        let sections: BTreeSet<String> =
            self.sites.iter().map(|site| site.section.clone()).collect();
        let mut lines: BTreeMap<(String, u64), String> = BTreeMap::new();
        for section in sections {
            let here = self.sites.iter().filter(|site| site.section == section);
            let addresses: Vec<String> = here.map(|site| format!("0x{}", site.address)).collect();
            let (mut address, mut innermost) = (None, None);
            for line in ask(&section, &addresses)?.lines() {
                if let Some(hex) = line.strip_prefix("0x") {
                    address = u64::from_str_radix(hex, 16).ok();
                    innermost = None;
                } else if let (Some(at), Some(ours)) = (address, our_line(line)) {
                    let place = match innermost {
                        Some(library) => format!("{library}, from {ours}"),
                        None => ours.to_owned(),
                    };
                    lines.entry((section.clone(), at)).or_insert(place);
                } else if innermost.is_none() {
                    innermost = library_file(line);
                }
            }
        }
        for site in std::mem::take(&mut self.sites) {
            let address = u64::from_str_radix(&site.address, 16).unwrap_or(u64::MAX);
            let place = lines.get(&(site.section, address)).cloned().unwrap_or(site.function);
            self.panics.entry(site.target).or_default().insert(place);
        }
        Ok(())
    }

    /// Reads a disassembly with relocations.
    fn of(disassembly: &str) -> Self {
        let mut found = Self::default();
        let mut frames: BTreeMap<String, u64> = BTreeMap::new();
        let (mut section, mut function) = (String::new(), String::new());
        for line in disassembly.lines() {
            if let Some(rest) = line.strip_prefix("Disassembly of section ") {
                rest.trim_end_matches(':').clone_into(&mut section);
            } else if let Some(name) = label(line) {
                name.clone_into(&mut function);
            } else if let Some((address, target)) = relocation(line) {
                if can_panic(target) {
                    found.sites.push(Site {
                        section: section.clone(),
                        address: address.to_owned(),
                        target: target.to_owned(),
                        function: function.clone(),
                    });
                }
            } else if let Some((_, instruction)) = line.split_once(":\t") {
                let bytes = stack_taken(instruction);
                if bytes > 0 {
                    *frames.entry(function.clone()).or_default() += bytes;
                }
                if ["%xmm", "%ymm", "%st(", "\tfld"].iter().any(|use_| instruction.contains(use_)) {
                    found.floats.insert(function.clone());
                }
            }
        }
        found.frames = frames.into_iter().map(|(name, bytes)| (bytes, name)).collect();
        found.frames.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        found
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (symbol, places) in &self.panics {
            writeln!(f, "{symbol}")?;
            for place in places {
                writeln!(f, "    {place}")?;
            }
        }
        for function in &self.floats {
            writeln!(f, "floating point: {function}")?;
        }
        for (bytes, function) in &self.frames {
            writeln!(f, "{bytes:6} bytes of stack: {function}")?;
        }
        Ok(())
    }
}

/// The name in `0000000000000010 <name>:`.
fn label(line: &str) -> Option<&str> {
    let (address, rest) = line.split_once(" <")?;
    let hex = !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex { rest.strip_suffix(">:") } else { None }
}

/// A line of the repository in `/build/kernel/src/../../crates/x.rs:12 (discriminator 3)`, not one
/// of the compiler's library or of the kernel.
fn our_line(line: &str) -> Option<&str> {
    let line = line.strip_prefix("/build-emulated/").or_else(|| line.strip_prefix("/build/"))?;
    let line = line.rsplit_once("../").map_or(line, |(_, rest)| rest);
    let line = line.split_once(' ').map_or(line, |(line, _)| line);
    (!line.ends_with('?')).then_some(line)
}

/// The file of a line of the compiler's library or of the kernel crate, without the line.
fn library_file(line: &str) -> Option<&str> {
    let file = line.split_once(':')?.0;
    let roots = ["/library/", "/kernel/src/rust/"];
    roots.into_iter().find_map(|root| file.split_once(root)).map(|(_, rest)| rest)
}

/// The place and the target in `  1f: R_X86_64_PLT32 name-0x4`.
fn relocation(line: &str) -> Option<(&str, &str)> {
    let (address, rest) = line.split_once(": R_X86_64_")?;
    let target = rest.split_once(char::is_whitespace)?.1.trim();
    let end = target.rfind(['-', '+']).filter(|at| target[at + 1..].starts_with("0x"));
    Some((address.trim(), end.map_or(target, |at| &target[..at])))
}

fn can_panic(symbol: &str) -> bool {
    let exact = ["unwrap_failed", "expect_failed", "index_fail", "len_fail", "order_fail"];
    symbol.contains("panic") || exact.iter().any(|end| symbol.contains(end))
}

/// Bytes by which an instruction of a function's start moves the stack pointer.
fn stack_taken(instruction: &str) -> u64 {
    let mut words = instruction.split_whitespace();
    match (words.next(), words.next()) {
        (Some("push"), Some(_)) => 8,
        (Some("sub"), Some(operands)) => operands
            .strip_prefix("$0x")
            .and_then(|rest| rest.strip_suffix(",%rsp"))
            .and_then(|hex| u64::from_str_radix(hex, 16).ok())
            // Taking away a negative number gives stack back.
            .filter(|bytes| *bytes < 1 << 31)
            .unwrap_or(0),
        _ => 0,
    }
}

/// Copies the sources into the environment under their own relative paths. Files that have not
/// changed keep their times, so Kbuild rebuilds only what it must.
fn stage(staged: &Path) -> Result<()> {
    let repository = repository()?;
    for part in STAGED {
        let (from, to) = (repository.join(part), staged.join(part));
        if from.is_dir() {
            copy_sources(&from, &to).with_context(|| format!("copying {part}"))?;
        }
        if to.is_dir() {
            drop_stale(&from, &to)?;
        }
    }
    Ok(())
}

fn is_source(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let generated = name.ends_with(".mod.c") || name.starts_with('.');
    let extension = path.extension().and_then(|ext| ext.to_str()).unwrap_or_default();
    let known = matches!(extension, "rs" | "c" | "h") || name == "Kbuild" || name == "Makefile";
    known && !generated
}

fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_sources(&source, &target)?;
        } else if is_source(&source) {
            let text = fs::read(&source)?;
            if fs::read(&target).ok().as_ref() != Some(&text) {
                fs::write(&target, text)?;
            }
        }
    }
    Ok(())
}

/// Removes copies of files that the repository no longer has.
fn drop_stale(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        let (copy, source) = (entry.path(), from.join(entry.file_name()));
        if copy.is_dir() {
            drop_stale(&source, &copy)?;
        } else if is_source(&copy) && !source.exists() {
            fs::remove_file(&copy)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISASSEMBLY: &str = "\
Disassembly of section .text:

0000000000000010 <rmpopt::run>:
  10:\tpush   %rbx
  11:\tsub    $0x420,%rsp
  18:\tcall   1d <rmpopt::run+0xd>
\t\t\t19: R_X86_64_PLT32\tcore::panicking::panic_bounds_check-0x4
  1d:\tadd    $0x420,%rsp

0000000000000030 <rmpopt::float>:
  30:\tmovsd  (%rdi),%xmm0
  34:\tsub    $0xffffffffffffff80,%rsp
  38:\tcall   3d <rmpopt::float+0xd>
\t\t\t39: R_X86_64_PLT32\tktime_get-0x4
";

    #[test]
    fn a_disassembly_tells_panics_floats_and_frames() {
        let mut found = Inspection::of(DISASSEMBLY);
        found
            .locate(|section, addresses| {
                assert_eq!((section, addresses), (".text", &["0x19".to_owned()][..]));
                Ok("0x0000000000000019\n\
                    /usr/lib/rustlib/src/rust/library/core/src/slice/index.rs:12\n\
                    /build/kernel/src/../../crates/a/src/b.rs:31 (discriminator 2)\n\
                    /build/kernel/src/c.rs:9\n"
                    .to_owned())
            })
            .unwrap();
        let places = &found.panics["core::panicking::panic_bounds_check"];
        let place = "core/src/slice/index.rs, from crates/a/src/b.rs:31";
        assert_eq!(places.iter().collect::<Vec<_>>(), [place]);
        assert_eq!((found.panics.len(), found.sites.len()), (1, 0));
        assert_eq!(found.floats.iter().collect::<Vec<_>>(), ["rmpopt::float"]);
        assert_eq!(found.frames, [(0x428, "rmpopt::run".to_owned())]);
    }

    #[test]
    fn own_lines_are_named_from_the_root() {
        assert_eq!(our_line("/build/kernel/src/c.rs:9"), Some("kernel/src/c.rs:9"));
        assert_eq!(our_line("/kernel/src/rust/kernel/types.rs:9"), None);
        assert_eq!(our_line("/build/kernel/src/c.rs:?"), None);
    }

    #[test]
    fn only_sources_are_copied() {
        assert!(is_source(Path::new("a/Kbuild")));
        assert!(is_source(Path::new("a/b.rs")));
        assert!(!is_source(Path::new("a/b.mod.c")));
        assert!(!is_source(Path::new("a/.b.o.cmd")));
        assert!(!is_source(Path::new("a/b.ko")));
    }
}
