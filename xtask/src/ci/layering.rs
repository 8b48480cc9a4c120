//! The floors of ARCHITECTURE.md: who may depend on whom, where `unsafe` may stand, and what the
//! folders that the driver compiles may say.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::rust_source::{TestCode, Token, tokens};
use super::{Ci, Outcome};
use crate::process::capture;

/// Each crate and its floor: a crate may depend on those of lower floors.
const FLOORS: [(&str, u8); 9] = [
    ("snp-defs", 1),
    ("rmpopt-core", 2),
    ("snp-model", 2),
    ("snp-lab", 3),
    ("snp-host", 3),
    ("snp-hostfs", 4),
    ("snp-top", 4),
    ("snp-bench", 5),
    ("rmpopt", 5),
];

/// Up to this floor the driver compiles the source: no other crates there, no `std`, no floats.
const DRIVER_FLOOR: u8 = 2;

/// Dependencies under this condition are for model checking: no ordinary build has them.
const MODEL_CHECKING: &str = "cfg(loom)";

/// Crates beside the floors: on nothing of the workspace, and nothing on them.
const BESIDE: [&str; 2] = ["xtask", "rmpopt-check"];

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, floor)| *floor)
}

pub(super) fn run(ci: &mut Ci) -> Result<Outcome> {
    let mut wrong = dependencies(&metadata(&ci.root)?)?;
    let mut files = 0;
    for top in ["crates", "kernel", "xtask"] {
        for file in rust_files(&ci.root.join(top))? {
            files += 1;
            let shown = file.strip_prefix(&ci.root).unwrap_or(&file).to_owned();
            let is_sys = shown.components().any(|part| {
                Path::new(part.as_os_str()).file_stem().is_some_and(|stem| stem == "sys")
            });
            if !is_sys {
                report(&shown, unsafe_code(&tokens(&file, TestCode::Included)?), &mut wrong);
            }
            if let Some(folder) = driver_folder(&shown)
                && !is_test_file(&shown)
            {
                let code = tokens(&file, TestCode::LeftOut)?;
                report(&shown, folder_rules(&code, &folder), &mut wrong);
            }
        }
    }
    if !wrong.is_empty() {
        bail!("{} breaches of the floors:\n{}", wrong.len(), wrong.join("\n"));
    }
    Ok(Outcome::Passed(format!("{files} files")))
}

fn metadata(root: &Path) -> Result<Value> {
    let mut command = Command::new("cargo");
    command.args(["metadata", "--no-deps", "--format-version", "1", "--locked"]).current_dir(root);
    serde_json::from_str(&capture(&mut command)?).context("reading cargo's metadata")
}

/// Dependencies that the floors forbid. Those of tests and of model checking only are free.
fn dependencies(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo's metadata has no packages")?;
    let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut wrong = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package without a name")?;
        let own = floor(name);
        if own.is_none() && !BESIDE.contains(&name) {
            wrong.push(format!("{name}: has no floor, expected one in FLOORS"));
        }
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let (Some(on), None | Some("build")) =
                (dependency["name"].as_str(), dependency["kind"].as_str())
            else {
                continue;
            };
            if dependency["target"] == MODEL_CHECKING {
                continue;
            }
            match (own, floor(on)) {
                (Some(own), Some(lower)) if lower < own => {}
                (Some(own), Some(other)) => {
                    wrong.push(format!("{name} (floor {own}) depends on {on} (floor {other})"));
                }
                (None, Some(_)) => wrong.push(format!("{name} depends on {on}, expected nothing")),
                (Some(own), None) if own <= DRIVER_FLOOR || names.contains(&on) => {
                    wrong.push(format!("{name} (floor {own}) depends on {on}, expected floors"));
                }
                (_, None) => {}
            }
        }
    }
    Ok(wrong)
}

/// Every Rust file below a folder, in order.
pub(super) fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in folder.read_dir().with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The name of the folder that the driver compiles this file in: `crates/a-b/src/a_b/...`.
fn driver_folder(file: &Path) -> Option<String> {
    let mut parts = file.iter().map(|part| part.to_string_lossy());
    let (top, package, src, folder) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_driver = floor(&package).is_some_and(|floor| floor <= DRIVER_FLOOR);
    let is_folder = folder == package.replace('-', "_");
    (top == "crates" && src == "src" && is_driver && is_folder).then(|| folder.into_owned())
}

/// `tests.rs`, or a file in a folder `tests`.
fn is_test_file(file: &Path) -> bool {
    file.iter().any(|part| Path::new(part).file_stem().is_some_and(|stem| stem == "tests"))
}

fn report(file: &Path, found: Vec<(usize, String)>, wrong: &mut Vec<String>) {
    wrong
        .extend(found.into_iter().map(|(line, what)| format!("{}:{line}: {what}", file.display())));
}

fn unsafe_code(code: &[Token]) -> Vec<(usize, String)> {
    code.iter()
        .filter(|token| token.text == "unsafe")
        .map(|token| (token.line, "`unsafe` outside a module `sys`".to_owned()))
        .collect()
}

/// What a folder compiled in two homes may not say.
fn folder_rules(code: &[Token], folder: &str) -> Vec<(usize, String)> {
    let driver: Vec<String> = FLOORS
        .iter()
        .filter(|(_, floor)| *floor <= DRIVER_FLOOR)
        .map(|(name, _)| name.replace('-', "_"))
        .collect();
    let own = floor(&folder.replace('_', "-"));
    let may_name = |name: &str| {
        name == folder || driver.iter().any(|d| d == name) && floor(&name.replace('_', "-")) < own
    };
    let text = |at: Option<usize>| at.and_then(|at| code.get(at)).map_or("", |token| &token.text);
    let mut wrong = Vec::new();
    for (at, token) in code.iter().enumerate() {
        let is_path = text(Some(at + 1)) == ":" && text(Some(at + 2)) == ":";
        let follows_path = text(at.checked_sub(1)) == ":" && text(at.checked_sub(2)) == ":";
        let mut say = |what: String| wrong.push((token.line, what));
        match token.text.as_str() {
            "crate" if is_path => {
                let next = text(Some(at + 3));
                if !may_name(next) {
                    say(format!("`crate::{next}`, expected `crate::{folder}` or a lower floor's"));
                }
            }
            "std" | "alloc" if is_path && !follows_path => {
                say(format!("`{}` is not there in the kernel, expected `core`", token.text));
            }
            "f32" | "f64" => say("the kernel has no floating point".to_owned()),
            name if is_path && driver.iter().any(|d| d == name) => {
                let is_crates = follows_path && text(at.checked_sub(3)) == "crate";
                let what = format!("`{name}::`, expected `crate::{name}::` or `super::`");
                wrong.extend((!is_crates).then_some((token.line, what)));
            }
            literal if is_float(literal) && text(at.checked_sub(1)) != "." => {
                say(format!("`{literal}`: the kernel has no floating point"));
            }
            _ => {}
        }
    }
    wrong
}

fn is_float(literal: &str) -> bool {
    literal.starts_with(|first: char| first.is_ascii_digit())
        && !literal.starts_with("0x")
        && (literal.contains('.') || literal.ends_with("f32") || literal.ends_with("f64"))
}

#[cfg(test)]
mod checks {
    use super::*;

    fn rules(source: &str, folder: &str) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), source).unwrap();
        let code = tokens(file.path(), TestCode::LeftOut).unwrap();
        folder_rules(&code, folder).into_iter().map(|(_, what)| what).collect()
    }

    #[test]
    fn folders_name_themselves_and_lower_floors() {
        let good =
            "use crate::rmpopt_core::a; use crate::snp_defs::Spa; use super::b; use core::fmt;
                    pub(crate) fn f(x: (u8, (u8, u8))) -> u8 { x.1.0 + self::g() }";
        assert_eq!(rules(good, "rmpopt_core"), Vec::<String>::new());
        for bad in [
            "use crate::a;",
            "use crate::{snp_defs};",
            "use snp_defs::Spa;",
            "use ::snp_defs::Spa;",
            "use crate::snp_model::x;",
            "use std::fmt;",
            "const A: u8 = 1.5 as u8;",
            "fn f(x: f64) {}",
        ] {
            assert!(!rules(bad, "rmpopt_core").is_empty(), "{bad}");
        }
    }

    #[test]
    fn floors_bound_dependencies() {
        let package = |name: &str, on: &str, kind: Value| {
            serde_json::json!({ "packages": [
                { "name": name, "dependencies": [{ "name": on, "kind": kind }] },
            ]})
        };
        let breaches = |name, on| dependencies(&package(name, on, Value::Null)).unwrap().len();
        assert_eq!(breaches("snp-lab", "snp-model"), 0);
        assert_eq!(breaches("rmpopt", "clap"), 0);
        assert_eq!(breaches("snp-model", "rmpopt-core"), 1);
        assert_eq!(breaches("snp-defs", "libc"), 1);
        assert_eq!(breaches("xtask", "snp-defs"), 1);
        assert_eq!(breaches("other", "clap"), 1);
        let tests_only = package("snp-defs", "proptest", "dev".into());
        assert!(dependencies(&tests_only).unwrap().is_empty());
        let under = |target: &str| {
            let mut package = package("snp-model", "loom", Value::Null);
            package["packages"][0]["dependencies"][0]["target"] = target.into();
            dependencies(&package).unwrap().len()
        };
        assert_eq!((under("cfg(loom)"), under("cfg(unix)")), (0, 1));
    }

    #[test]
    fn driver_folders_are_known_by_their_path() {
        let folder = |path| driver_folder(Path::new(path));
        assert_eq!(folder("crates/snp-defs/src/snp_defs/msr.rs").as_deref(), Some("snp_defs"));
        assert_eq!(folder("crates/snp-model/src/std_storage.rs"), None);
        assert_eq!(folder("crates/snp-lab/src/snp_lab/a.rs"), None);
    }
}
