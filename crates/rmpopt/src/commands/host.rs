//! `rmpopt status`, `doctor`, `regions`: a host as its files show it.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use snp_host::state::{Check, HostState, RegionState, SCHEMA_VERSION, Verdict, doctor as checks};
use snp_host::system::{Cpuid, CpuidDump, Record, Root, System, looks_like_cpuid};
use snp_host::{FileKind, read_text};

use crate::cli::{HostArgs, RegionsArgs};
use crate::exit::{FOUND_PROBLEMS, Failure};
use crate::output;
use crate::units::exact_duration;
use crate::view::View;

/// `rmpopt status`.
pub(crate) fn status(args: &HostArgs) -> Result<ExitCode, Failure> {
    let state = state(args)?;
    let text = if args.json {
        output::json(&state)?
    } else {
        view().status(&state, output::stdout_width())
    };
    output::result(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// `rmpopt doctor`; 1 if a check of severity error or warning failed.
pub(crate) fn doctor(args: &HostArgs) -> Result<ExitCode, Failure> {
    let state = state(args)?;
    let checks = checks(&state);
    let problems = checks.iter().filter(|check| is_problem(check)).count();
    let text = if args.json {
        output::json(&json!({
            "schema_version": SCHEMA_VERSION,
            "problems": problems,
            "needs_root": state.needs_root,
            "needs_deep": state.needs_deep,
            "checks": checks,
        }))?
    } else {
        view().doctor(&checks, output::stdout_width())
    };
    output::result(&text)?;
    Ok(ExitCode::from(if problems > 0 { FOUND_PROBLEMS } else { 0 }))
}

fn is_problem(check: &Check) -> bool {
    check.status == Verdict::Problem && check.severity != "info"
}

/// `rmpopt regions`.
pub(crate) fn regions(args: &RegionsArgs) -> Result<ExitCode, Failure> {
    let state = state(&args.host)?;
    let wanted = |region: &&RegionState| {
        (args.state.is_empty() || args.state.iter().any(|s| s == region.state.word()))
            && args.node.is_none_or(|node| region.nodes.contains(&node))
            && args.gib.is_none_or(|(first, last)| (first..=last).contains(&region.gib))
    };
    let regions: Vec<&RegionState> = state.regions.iter().filter(wanted).collect();
    let text = if args.host.json {
        let fact = |fact: &str| state.sources.iter().find(|source| source.fact == fact);
        output::json(&json!({
            "schema_version": SCHEMA_VERSION,
            "source": fact("rmpopt-table"),
            "ram_source": state.memory.source,
            "cores": state.cpus.cores,
            "regions": regions,
        }))?
    } else {
        view().regions(&state, &regions, args.list)
    };
    output::result(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn view() -> View {
    View { unicode: output::locale_is_utf8() }
}

/// The host that is asked for.
fn state(args: &HostArgs) -> Result<HostState, Failure> {
    let system = match (&args.from, &args.root) {
        (Some(file), _) => {
            let text = read_text(file)?;
            let name = file.display().to_string();
            from_text(&name, text)?
        }
        (None, root) => System::read(&open(root.as_deref())?, args.deep),
    };
    Ok(HostState::of(&system))
}

/// This machine, or a folder.
pub(super) fn open(root: Option<&std::path::Path>) -> Result<Root, Failure> {
    let opened = root.map_or_else(Root::live, Root::tree);
    opened.map_err(|e| {
        let path = root.map_or_else(|| "/".to_owned(), |root| root.display().to_string());
        Failure::CannotRead(format!("{path}: cannot be read: {e}"))
    })
}

/// A snapshot, a dump of CPUID or a kernel log: told apart by content.
fn from_text(name: &str, text: String) -> Result<System, Failure> {
    if text.trim_start().starts_with('{') {
        let record = Record::parse(&text)
            .map_err(|e| Failure::BadInput(format!("{name}: no snapshot of rmpopt: {e}")))?;
        said(&record);
        return Ok(System::read(&Root::snapshot(record), false));
    }
    if looks_like_cpuid(&text) {
        let dump = CpuidDump::parse(&text).map_err(|why| {
            Failure::BadInput(
                snp_host::system::ReadError { path: name.to_owned(), why }.to_string(),
            )
        })?;
        return Ok(System::of_cpuid(Cpuid::of_dump(name, dump)));
    }
    if FileKind::of(&text) == Some(FileKind::KernelLog) {
        return Ok(System::of_log(name, text));
    }
    Err(Failure::BadInput(format!(
        "{name}: not recognised, expected a snapshot, a dump of CPUID or a kernel log"
    )))
}

/// Says how old a snapshot is. Not a part of the result: that is the same as when it was taken.
fn said(record: &Record) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    if record.taken_s > 0 && now >= record.taken_s {
        let age = exact_duration((now - record.taken_s).saturating_mul(1_000_000_000));
        let redacted = if record.redacted { ", without names" } else { "" };
        output::note(&format!("the snapshot was taken {age} ago{redacted}"));
    }
}
