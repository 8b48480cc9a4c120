//! `rmpopt status`, `doctor`, `regions`: a host as its files show it.

use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use snp_host::state::{Check, HostState, RegionState, SCHEMA_VERSION, Verdict, doctor as checks};
use snp_host::system::{Cpuid, CpuidDump, Record, Root, System, looks_like_cpuid};
use snp_host::{FileKind, read_text};

use crate::cli::{DoctorArgs, HostArgs, RegionsArgs, SourceArgs, StatusArgs};
use crate::exit::{FOUND_PROBLEMS, Failure, NOT_CHECKED};
use crate::output;
use crate::units::exact_duration;
use crate::view::View;

/// `rmpopt status`.
pub(crate) fn status(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let source = &args.host.source;
    let mut system = shown(source)?;
    if args.firmware {
        system.ask_firmware(&open(source.root.as_deref())?);
    }
    let state = HostState::of(&system);
    let text = if args.host.json {
        output::json(&state)?
    } else {
        view().status(&state, output::stdout_width())
    };
    output::result(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// `rmpopt doctor`; 1 if a check of severity error or warning failed, 5 if one was missed.
pub(crate) fn doctor(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let state = state(&args.host)?;
    let checks = checks(&state);
    let problems = checks.iter().filter(|check| is_problem(check)).count();
    let missed: Option<Vec<&str>> = args.strict.as_ref().map(|ids| {
        let wanted = |check: &&Check| check.status == Verdict::Unknown && must_be_made(check, ids);
        checks.iter().filter(wanted).map(|check| check.id).collect()
    });
    let text = if args.host.json {
        output::json(&json!({
            "schema_version": SCHEMA_VERSION,
            "problems": problems,
            "missed": missed,
            "needs_root": state.needs_root,
            "needs_deep": state.needs_deep,
            "checks": checks,
        }))?
    } else {
        view().doctor(&checks, output::stdout_width())
    };
    output::result(&text)?;
    let missed = missed.unwrap_or_default();
    if !missed.is_empty() {
        output::note(&format!("could not be checked: {}", missed.join(", ")));
    }
    Ok(ExitCode::from(match (problems, missed.len()) {
        (0, 0) => 0,
        (0, _) => NOT_CHECKED,
        _ => FOUND_PROBLEMS,
    }))
}

/// Whether --strict asks for this check: by its id, or by its severity if no id is given.
fn must_be_made(check: &Check, ids: &[String]) -> bool {
    let mut named = ids.iter().filter(|id| !id.is_empty()).peekable();
    if named.peek().is_none() {
        return check.severity != "info";
    }
    named.any(|id| id == check.id)
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

/// What a file that was sent says: a state that does not go on, and when it was taken, in seconds
/// since 1970 (0 if that is not known).
pub(super) fn still(file: &Path) -> Result<(HostState, u64), Failure> {
    let (system, taken) = from_file(file)?;
    Ok((HostState::of(&system), taken.map_or(0, |taken| taken.seconds)))
}

fn view() -> View {
    View { unicode: output::locale_is_utf8() }
}

/// The host that is asked for.
fn state(args: &HostArgs) -> Result<HostState, Failure> {
    shown(&args.source).map(|system| HostState::of(&system))
}

/// What is read of it; a snapshot's age is said.
fn shown(source: &SourceArgs) -> Result<System, Failure> {
    let (system, taken) = system(source)?;
    if let Some(taken) = taken {
        said(&taken);
    }
    Ok(system)
}

/// What is read of the host that is asked for, and when, if that was by a snapshot.
pub(crate) fn system(source: &SourceArgs) -> Result<(System, Option<Taken>), Failure> {
    match &source.from {
        Some(file) => from_file(file),
        None => Ok((System::read(&open(source.root.as_deref())?, source.deep), None)),
    }
}

/// When and how a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Seconds since 1970; 0 if not known.
    pub(crate) seconds: u64,
    redacted: bool,
}

/// This machine, or a folder.
pub(super) fn open(root: Option<&Path>) -> Result<Root, Failure> {
    let opened = root.map_or_else(Root::live, Root::tree);
    opened.map_err(|e| {
        let path = root.map_or_else(|| "/".to_owned(), |root| root.display().to_string());
        Failure::CannotRead(format!("{path}: cannot be read: {e}"))
    })
}

/// A snapshot, a dump of CPUID or a kernel log: told apart by content.
fn from_file(file: &Path) -> Result<(System, Option<Taken>), Failure> {
    let (name, text) = (file.display().to_string(), read_text(file)?);
    let name = name.as_str();
    if text.trim_start().starts_with('{') {
        let record = Record::parse(&text)
            .map_err(|e| Failure::BadInput(format!("{name}: no snapshot of rmpopt: {e}")))?;
        let taken = Taken { seconds: record.taken_s, redacted: record.redacted };
        return Ok((System::read(&Root::snapshot(record), false), Some(taken)));
    }
    if looks_like_cpuid(&text) {
        let dump = CpuidDump::parse(&text).map_err(|why| {
            Failure::BadInput(
                snp_host::system::ReadError { path: name.to_owned(), why }.to_string(),
            )
        })?;
        return Ok((System::of_cpuid(Cpuid::of_dump(name, dump)), None));
    }
    if FileKind::of(&text) == Some(FileKind::KernelLog) {
        return Ok((System::of_log(name, text), None));
    }
    Err(Failure::BadInput(format!(
        "{name}: not recognised, expected a snapshot, a dump of CPUID or a kernel log"
    )))
}

/// Says how old a snapshot is. Not a part of the result: that is the same as when it was taken.
fn said(taken: &Taken) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    if taken.seconds > 0 && now >= taken.seconds {
        let age = exact_duration((now - taken.seconds).saturating_mul(1_000_000_000));
        let redacted = if taken.redacted { ", without names" } else { "" };
        output::note(&format!("the snapshot was taken {age} ago{redacted}"));
    }
}
