//! The module's object: built strictly, and what is in it that should not be.

use std::fs;
use std::time::Instant;

use anyhow::Result;

use crate::kernel_env::KernelEnv;
use crate::kernel_module::{Inspection, LARGE_FRAME, Module, Strictness};
use crate::process::capture;

/// Largest frames listed.
const FRAMES: usize = 5;

/// Builds one module, strictly and as the distribution would; what is wrong with it.
pub(super) fn build(env: &KernelEnv, module: Module) -> Result<Vec<String>> {
    let started = Instant::now();
    let lint = module.build(env, Strictness::Lint);
    let log = module.build(env, Strictness::Stock)?;
    for line in log.lines().filter(|line| line.contains("warning") || line.contains("error")) {
        println!("build: {line}");
    }
    println!("built {} in {:.1} s", module.name(), started.elapsed().as_secs_f64());
    let mut wrong = inspect(env, module)?;
    if let Err(error) = lint {
        wrong.push(format!("{}: clippy with warnings as errors: {error:#}", module.name()));
    }
    Ok(wrong)
}

/// Places from which panicking code may be reached, and why it is not: beginnings of source places,
/// or parts of function names where no line of ours is known.
const CANNOT_PANIC: [(&str, &str); 7] = [
    ("kernel/alloc/kvec.rs", "the kernel crate's: a vector's length and one, its size in bytes"),
    ("kernel::alloc::kvec::Vec", "the same"),
    ("kernel/init.rs", "the kernel crate's"),
    ("core/src/ffi/c_str.rs", "the length of a text that exists, and one"),
    ("core/src/iter/adapters/zip.rs", "positions in a slice that exists"),
    ("core::iter::adapters::zip::Zip", "the same"),
    ("crates/snp-defs/src/snp_defs/geometry/", "where an RMP lies: nothing in the module asks"),
];

/// Functions that may take more stack, and why.
const DEEP: [(&str, &str); 1] = [(
    "rmpopt::emu::host::silicon",
    "runs once, when emulated hardware is made; not in the packaged module",
)];

/// What in the object is not as it should be; the whole list is left in a file beside the logs.
fn inspect(env: &KernelEnv, module: Module) -> Result<Vec<String>> {
    let found: Inspection = module.inspect(env)?;
    let file = env.logs().join(format!("{}-object.txt", module.name()));
    fs::write(&file, found.to_string())?;
    for (bytes, function) in found.frames.iter().take(FRAMES) {
        println!("stack frame: {bytes:5} {function}");
    }
    println!("all of it: {}", file.display());
    let name = module.name();
    let excused =
        |list: &[(&str, &str)], what: &str| list.iter().any(|(part, _)| what.contains(part));
    let panics = found.panics.iter().flat_map(|(symbol, places)| {
        places
            .iter()
            // Emulated hardware is for tests: a panic there fails one.
            .filter(|place| module == Module::Packaged && !excused(&CANNOT_PANIC, place))
            .map(move |place| format!("{name}: {place} can panic ({symbol})"))
    });
    let floats = found.floats.iter().map(|function| format!("{name}: {function} uses floats"));
    let large = found
        .frames
        .iter()
        .filter(|(bytes, function)| *bytes > LARGE_FRAME && !excused(&DEEP, function));
    let frames =
        large.map(|(bytes, function)| format!("{name}: {bytes} bytes of stack in {function}"));
    Ok(panics.chain(floats).chain(frames).collect())
}

/// `struct fprobe` as `kernel/src/sys/fprobe.rs` has it: members in their order with offset and size.
const FPROBE: [(&str, &str); 6] = [
    ("nmissed", "0 8"),
    ("flags", "8 4"),
    ("entry_data_size", "16 8"),
    ("entry_handler", "24 8"),
    ("exit_handler", "32 8"),
    ("hlist_array", "40 8"),
];

/// `struct die_args` as `kernel/src/sys/trap.rs` has it.
const DIE_ARGS: [(&str, &str); 5] =
    [("regs", "0 8"), ("str", "8 8"), ("err", "16 8"), ("trapnr", "24 4"), ("signr", "28 4")];

/// Whether structures that the kernel crate lacks are as the module has them, by the kernel's BTF.
pub(super) fn layouts(env: &KernelEnv) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (name, members) in [("fprobe", &FPROBE[..]), ("die_args", &DIE_ARGS)] {
        let mut pahole = env.command("pahole");
        pahole.args(["-F", "btf", "-C", name]).arg(env.btf()?);
        let differences = layout_differences(name, members, &capture(&mut pahole)?);
        if differences.is_empty() {
            println!("struct {name} is as the module has it, by the kernel's BTF");
        }
        wrong.extend(differences);
    }
    Ok(wrong)
}

/// Members that `pahole` does not show where they are expected.
fn layout_differences(name: &str, members: &[(&str, &str)], shown: &str) -> Vec<String> {
    let place = |member: &str| {
        shown.lines().find_map(|line| {
            let (declaration, comment) = line.split_once("/*")?;
            let name = declaration.trim().trim_end_matches(';').rsplit([' ', '*']).next()?;
            let words: Vec<&str> = comment.split_whitespace().take(2).collect();
            (name == member).then(|| words.join(" "))
        })
    };
    let wrong = |&(member, expected): &(&str, &str)| match place(member) {
        Some(found) if found == expected => None,
        found => Some(format!("struct {name}: {member} is at {found:?}, expected {expected:?}")),
    };
    members.iter().filter_map(wrong).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_read_as_pahole_shows_them() {
        let shown = "struct fprobe {\n\
                     \tlong unsigned int          nmissed;              /*     0     8 */\n\
                     \tunsigned int               flags;                /*     8     4 */\n\
                     \tsize_t                     entry_data_size;      /*    16     8 */\n\
                     \tfprobe_entry_cb            entry_handler;        /*    24     8 */\n\
                     \tfprobe_exit_cb             exit_handler;         /*    32     8 */\n\
                     \tstruct fprobe_hlist *      hlist_array;          /*    40     8 */\n};\n";
        let differences = |shown: &str| layout_differences("fprobe", &FPROBE, shown);
        assert_eq!(differences(shown), Vec::<String>::new());
        let moved = shown.replace("/*    24 ", "/*    32 ");
        assert_eq!(differences(&moved).len(), 1);
        assert_eq!(differences("").len(), 6);
    }
}
