//! docs/hardware.md: what it says of the hardware is what the model does.
//!
//! Blocks between `<!-- generated: NAME -->` and `<!-- end -->` come from this program, which runs
//! the model; the prose around them is written by hand. The test fails if page or picture differ from
//! the model. `cargo xtask hardware-doc` writes them anew.

// Helpers unwrap what the tests state.
#![allow(clippy::unwrap_used, clippy::panic)]

mod access;
mod checks;
mod diagram;
mod edges;
mod entry;
mod host;
mod life;
mod opt;
mod page;
mod registers;

use std::fs;
use std::path::{Path, PathBuf};

use page::Page;

/// Set by `cargo xtask hardware-doc`: write instead of compare.
const REWRITE: &str = "RMPOPT_HARDWARE_DOC";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// Compares a file with what it should hold, or writes that.
fn hold(file: &Path, wanted: &str) {
    if std::env::var_os(REWRITE).is_some() {
        fs::write(file, wanted).unwrap();
        return;
    }
    let found = fs::read_to_string(file).unwrap_or_default();
    let differ = found.lines().zip(wanted.lines()).position(|(found, wanted)| found != wanted);
    let line = differ.unwrap_or_else(|| found.lines().count().min(wanted.lines().count())) + 1;
    assert!(
        found == wanted,
        "docs/{} differs from the model at line {line}, expected {:?}; `cargo xtask hardware-doc` rewrites it",
        file.strip_prefix(docs()).unwrap().display(),
        wanted.lines().nth(line - 1).unwrap_or("its end"),
    );
}

#[test]
fn the_page_says_what_the_model_does() {
    let file = docs().join("hardware.md");
    let text = fs::read_to_string(&file).unwrap();
    let mut page = Page::new(&text);
    entry::blocks(&mut page);
    registers::blocks(&mut page);
    checks::blocks(&mut page);
    edges::blocks(&mut page);
    access::blocks(&mut page);
    life::blocks(&mut page);
    opt::blocks(&mut page);
    hold(&file, &page.finish());
}

#[test]
fn the_picture_shows_the_edges_of_the_model() {
    hold(&docs().join("images/page-states.svg"), &diagram::svg(&edges::found()));
}
