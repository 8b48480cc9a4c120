//! The command line.

mod fleet;
mod host;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use snp_lab::scenario::{FidelityChoice, Nanos, PlacementRule, PolicyName, SnpBy, limits};

pub(crate) use self::fleet::{CompletionsArgs, ExportArgs, LabelsArgs, ManArgs};
pub(crate) use self::host::{
    ExecArgs, GuestCommand, GuestStartArgs, HostCommand, NameArg, ShownArgs, TimeArgs, UpArgs,
};
use crate::codes;
use crate::trace_input::TraceFormat;
use crate::units::{exact_duration, parse_duration};

/// RMPOPT for Linux: run, compare and look at SEV-SNP hosts.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,

    /// When to colour what is printed; auto heeds the terminal and NO_COLOR.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub(crate) color: Color,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Sets it for both streams.
    pub(crate) fn apply(self) {
        match self {
            Self::Auto => {}
            Self::Always => anstream::ColorChoice::Always.write_global(),
            Self::Never => anstream::ColorChoice::Never.write_global(),
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take an emulated SNP host through a scenario and report what RMPOPT did.
    ///
    /// Nothing here needs or touches real hardware: every result is emulated and says so.
    Run(RunArgs),

    /// Run every policy in every scenario, and compare what they did and what that took.
    ///
    /// Nothing here needs or touches real hardware: every result is emulated and says so.
    Compare(CompareArgs),

    /// Hold the model of the hardware against an oracle: a script, or random operations.
    ///
    /// The oracle states the rules of RMP and RMPOPT once more in the simplest way. A script is a
    /// list of instructions on a small host (docs/replay.md); both execute each, and every result,
    /// entry and RMPOPT bit must be the same.
    Replay(ReplayArgs),

    /// Hold the emulated costs against what AMD posted: three figures fitted, three predicted.
    ///
    /// Under both readings of the slowdown of RMPOPTs that run together. Every simulated figure comes
    /// from a run of the emulated host (docs/calibrate.md).
    Calibrate(CalibrateArgs),

    /// Explain kernel logs, raw RMP entries and codes: what happened, to which page, what to do.
    ///
    /// Reads dmesg, journal and syslog of hosts and guests, of any kernel, pasted or piped. What it
    /// does not know it leaves alone. All that is understood: docs/decode.md.
    Decode(DecodeArgs),

    /// Show what this host, a copy of its files or a snapshot says of SNP, the RMP and RMPOPT.
    ///
    /// Without root it shows what it may see and names the rest. CPUID and MSRs are read on one CPU,
    /// since each read interrupts the CPU: --deep reads them on all (docs/status.md).
    Status(StatusArgs),

    /// Check a host by numbered rules: what is wrong, how that is known, what to do.
    ///
    /// All checks: docs/doctor.md.
    #[command(
        after_help = "Exit codes: 0 no problem found, 1 a check of severity error or warning failed, \
        2 usage or bad input, 3 a file cannot be read, 5 none failed but --strict misses some."
    )]
    Doctor(DoctorArgs),

    /// Show each 1 GiB region: how many cores have it optimised, and what is known to hold it.
    Regions(RegionsArgs),

    /// Watch a host on the whole screen: regions, nodes, guests, the driver, what changes.
    ///
    /// ? shows the keys. With --once, --frames or --json it prints for scripts (docs/top.md).
    Top(TopArgs),

    /// Write all that status, doctor and regions read into one file, for a bug report.
    ///
    /// Any of them shows it again with --from (docs/snapshot.md).
    Snapshot(SnapshotArgs),

    /// Bring an emulated host up as a live system, act on it, show it to any program.
    ///
    /// Its files lie at a mount point, or for one program at their real places (docs/host.md).
    #[command(subcommand)]
    Host(HostCommand),

    /// Serve a host's metrics to Prometheus, or write them for node_exporter.
    ///
    /// One sample is kept and read anew by a timer; a scrape reads nothing. Names, units and files for
    /// fleets: docs/fleet.md.
    Export(ExportArgs),

    /// Print a host's labels for Node Feature Discovery: SNP, its RMP, RMPOPT, the driver.
    ///
    /// The format is that of a local feature file (docs/fleet.md).
    Labels(LabelsArgs),

    /// Print a script that completes this command in a shell.
    Completions(CompletionsArgs),

    /// Print the manual page, or write those of all commands.
    Man(ManArgs),
}

/// Where a host is read: this machine, unless it is said.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SourceArgs {
    /// A folder that holds proc, sys and dev of the host, instead of this machine.
    #[arg(long, value_name = "DIR", conflicts_with = "from")]
    pub(crate) root: Option<PathBuf>,

    /// A snapshot, or a dump of CPUID (cpuid -r, InstLatX64, hwloc) or a kernel log alone.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,

    /// Ask every CPU, each of which is interrupted for it; and read upstream's rmpopt-table.
    #[arg(long, conflicts_with = "from")]
    pub(crate) deep: bool,
}

/// Which host.
#[derive(Debug, Default, Args)]
pub(crate) struct HostArgs {
    /// Where it is read.
    #[command(flatten)]
    pub(crate) source: SourceArgs,

    /// Print the result as JSON, alone on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `rmpopt status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Which host.
    #[command(flatten)]
    pub(crate) host: HostArgs,

    /// Ask the SEV firmware too, through /dev/sev; one GiB has to be optimised again after that.
    #[arg(long, conflicts_with = "from")]
    pub(crate) firmware: bool,
}

/// Options of `rmpopt doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Which host.
    #[command(flatten)]
    pub(crate) host: HostArgs,

    /// End with 5 if no check failed but one of these could not be made [default: all of severity
    /// error and warning].
    #[arg(long, value_name = "IDS", num_args = 0..=1, require_equals = true, value_delimiter = ',',
        default_missing_value = "", value_parser = check_id)]
    pub(crate) strict: Option<Vec<String>>,
}

/// Options of `rmpopt regions`.
#[derive(Debug, Args)]
pub(crate) struct RegionsArgs {
    /// Which host.
    #[command(flatten)]
    pub(crate) host: HostArgs,

    /// Only regions in these states, separated by commas.
    #[arg(long, value_name = "STATES", value_delimiter = ',',
        value_parser = ["optimised", "partial", "none", "outside", "unknown"])]
    pub(crate) state: Vec<String>,

    /// Only regions of this NUMA node.
    #[arg(long, value_name = "N")]
    pub(crate) node: Option<u32>,

    /// Only regions from this GiB to that one, such as 0-63.
    #[arg(long, value_name = "FIRST-LAST", value_parser = gib_range)]
    pub(crate) gib: Option<(u32, u32)>,

    /// A line for each region instead of the map.
    #[arg(long)]
    pub(crate) list: bool,
}

/// Options of `rmpopt top`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 quit or done, 2 usage or bad input, 3 a file cannot be read, \
    4 no terminal that can be used, 130 and 143 ended by SIGINT or SIGTERM (--frames and --json)."
)]
pub(crate) struct TopArgs {
    /// Which host.
    #[command(flatten)]
    pub(crate) host: HostArgs,

    /// Time between samples, such as 500ms or 5s; 100ms to 1h.
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Nanos,

    /// Print one frame and end; the same as --frames 1.
    #[arg(long, conflicts_with = "frames")]
    pub(crate) once: bool,

    /// Print so many frames, or with --json samples, and end.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) frames: Option<u64>,

    /// Size of printed frames: columns and rows [default: 80x24].
    #[arg(long, value_name = "COLSxROWS", value_parser = frame_size)]
    pub(crate) size: Option<(u16, u16)>,

    /// Only ASCII characters; the default where the locale is not UTF-8.
    #[arg(long)]
    pub(crate) no_unicode: bool,
}

impl TopArgs {
    /// Frames to print; `None`: no end.
    pub(crate) fn frames(&self) -> Option<u64> {
        if self.once { Some(1) } else { self.frames }
    }
}

/// Options of `rmpopt snapshot`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 written, 2 usage, 3 something cannot be read or written.")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct SnapshotArgs {
    /// The file to write; one that exists is not overwritten.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,

    /// Replace the file if it exists; it is whole at every moment.
    #[arg(long)]
    pub(crate) replace: bool,

    /// Who may read the file, as for chmod.
    #[arg(long, value_name = "OCTAL", default_value = "600", value_parser = mode)]
    pub(crate) mode: u32,

    /// A folder that holds proc, sys and dev of the host, instead of this machine.
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,

    /// Ask every CPU, each of which is interrupted for it; and read upstream's rmpopt-table.
    #[arg(long)]
    pub(crate) deep: bool,

    /// Ask the SEV firmware too, through /dev/sev; one GiB has to be optimised again after that.
    #[arg(long)]
    pub(crate) firmware: bool,

    /// Leave out names of hosts, users and guests; addresses and sizes stay.
    #[arg(long)]
    pub(crate) redact: bool,
}

/// Options of `rmpopt compare`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Exit codes: 0 done, 1 a law that a policy claims was broken, \
    2 usage or bad input, 3 a file cannot be read or written, 4 unsupported, 130 interrupted: what was done \
    by then is printed and marked incomplete.")]
pub(crate) struct CompareArgs {
    /// Policies, separated by commas [default: all].
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = policy_names())]
    pub(crate) policies: Vec<PolicyName>,

    /// Built-in scenarios or TOML files, separated by commas [default: all built-in ones].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) scenarios: Vec<String>,

    /// Put guests by these rules, separated by commas: ordered, advised; a scenario is run under each
    /// [default: what each scenario says, else ordered].
    #[arg(long, value_name = "RULES", value_delimiter = ',', value_parser = choice::<PlacementRule>(&PlacementRule::ALL.map(PlacementRule::as_str)))]
    pub(crate) placement: Vec<PlacementRule>,

    /// Run each from so many seeds, 1 to N [default: 3, with --quick 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) seeds: Option<u64>,

    /// Run so many at a time; changes no result [default: one for each CPU].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) jobs: Option<u32>,

    /// One seed, and no run longer than a minute of simulated time.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Also run each policy that has a delay with delays from 0.1 s to 30 s, from seed 1.
    #[arg(long)]
    pub(crate) delay_sweep: bool,

    /// What things cost: a TOML file (docs/costs.md).
    #[arg(long, value_name = "FILE")]
    pub(crate) costs: Option<PathBuf>,

    /// Print the result as JSON, alone on standard output.
    #[arg(long)]
    pub(crate) json: bool,

    /// Write a report with pictures to this file: one page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// Options of `rmpopt calibrate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 every predicted figure is within 15 % and every cost in its \
    range, 1 not so, 2 usage or a bad costs file, 3 a file cannot be read."
)]
pub(crate) struct CalibrateArgs {
    /// Begin with the costs of this TOML file (docs/costs.md).
    #[arg(long, value_name = "FILE")]
    pub(crate) costs: Option<PathBuf>,

    /// Print the result as JSON, alone on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `rmpopt decode`. Codes are decimal, or hexadecimal with 0x; _ may stand between digits.
#[derive(Debug, Args)]
#[command(after_help = "Codes are decimal, or hexadecimal with 0x; _ may stand between digits.\n\
    Exit codes: 0 read, 1 something has severity error, 2 usage or input that is no text, \
    3 a file cannot be read.")]
pub(crate) struct DecodeArgs {
    /// Logs or other text; - is standard input [default: standard input, unless a code is asked for].
    #[arg(value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,

    /// A raw RMP entry, its two words as Linux dumps them; PFN, if given, is hexadecimal.
    #[arg(long, value_name = "[PFN=]LO:HI", value_parser = codes::entry)]
    pub(crate) entry: Vec<codes::Entry>,

    /// Result of RMPUPDATE.
    #[arg(long, value_name = "CODE", value_parser = codes::short)]
    pub(crate) rmpupdate: Vec<u32>,

    /// Result of PSMASH.
    #[arg(long, value_name = "CODE", value_parser = codes::short)]
    pub(crate) psmash: Vec<u32>,

    /// Result of PVALIDATE.
    #[arg(long, value_name = "CODE", value_parser = codes::short)]
    pub(crate) pvalidate: Vec<u32>,

    /// Result of RMPADJUST.
    #[arg(long, value_name = "CODE", value_parser = codes::short)]
    pub(crate) rmpadjust: Vec<u32>,

    /// Status of a firmware command.
    #[arg(long, value_name = "CODE", value_parser = codes::short)]
    pub(crate) firmware: Vec<u32>,

    /// Id of a firmware command.
    #[arg(long, value_name = "ID", value_parser = codes::short)]
    pub(crate) command: Vec<u32>,

    /// Error code of a page fault (#PF).
    #[arg(long, value_name = "CODE", value_parser = codes::long)]
    pub(crate) pf: Vec<u64>,

    /// Error code of a nested page fault: EXITINFO1 of #VMEXIT(NPF).
    #[arg(long, value_name = "CODE", value_parser = codes::long)]
    pub(crate) npf: Vec<u64>,

    /// Print the result as JSON, alone on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `rmpopt replay`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 model and oracle agree, 1 they differ or a law is broken, \
    2 usage or a bad script, 3 a file cannot be read or written, 130 interrupted.")]
#[command(group = clap::ArgGroup::new("what").required(true).args(["file", "random"]))]
pub(crate) struct ReplayArgs {
    /// A script; - is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Run so many random operations instead, under every switch of the model in turn.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) random: Option<u64>,

    /// Number of the first run of --random; each run has 50,000 operations and its number is its
    /// seed.
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "file")]
    pub(crate) seed: u64,

    /// Write the script of a difference that --random finds to this file instead of printing it.
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    pub(crate) out: Option<PathBuf>,

    /// Say what each operation of the script did.
    #[arg(long, short, conflicts_with = "random")]
    pub(crate) verbose: bool,

    /// Print the result as JSON, alone on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `rmpopt run`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, 1 a law the policy claims was broken, \
    2 usage or bad input, 3 a file cannot be read, 4 unsupported.")]
pub(crate) struct RunArgs {
    /// A built-in scenario (see --list) or a TOML file [default: venice-2p, unless --host or --trace
    /// says what to run].
    #[arg(value_name = "SCENARIO")]
    pub(crate) scenario: Option<String>,

    /// List the built-in scenarios and why each one is there, and run nothing; with --json as JSON.
    #[arg(long, conflicts_with_all = ["scenario", "host", "trace", "policy", "until", "table"])]
    pub(crate) list: bool,

    /// Describe the host by files of a real one: kernel log, lscpu, numactl -H, lstopo --of xml, a
    /// snapshot, told apart by content; or a directory of them, or with proc and sys of the host, such
    /// as /. Repeatable.
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) host: Vec<PathBuf>,

    /// Run the guests of a recorded trace: Alibaba openb pod list, Alibaba DLRM instances, Azure
    /// vmtable, Azure packing trace (SQLite).
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,

    /// What kind of file the trace is; auto tells by how it begins.
    #[arg(long, value_name = "KIND", requires = "trace", default_value = "auto", value_parser = choice::<TraceFormat>(&TraceFormat::ALL.map(TraceFormat::as_str)))]
    pub(crate) trace_format: TraceFormat,

    /// Take each row of the trace with this probability, above 0 and at most 1; seed and row decide
    /// [default: 1].
    #[arg(long, value_name = "F", requires = "trace", value_parser = sample, allow_negative_numbers = true)]
    pub(crate) trace_sample: Option<f64>,

    /// Share of the trace's guests that are SNP guests, 0 to 1 [default: 0.3].
    #[arg(long, value_name = "F", requires = "trace", value_parser = share, allow_negative_numbers = true)]
    pub(crate) snp_share: Option<f64>,

    /// What --snp-share is a share of: vm is each guest's probability, memory is the guests' bytes.
    #[arg(long, value_name = "WHAT", requires = "trace", value_parser = choice::<SnpBy>(&SnpBy::ALL.map(SnpBy::as_str)))]
    pub(crate) snp_by: Option<SnpBy>,

    /// Where guests are put: ordered is the lowest free memory, advised follows docs/placement.md
    /// [default: what the scenario says, else ordered].
    #[arg(long, value_name = "RULE", value_parser = choice::<PlacementRule>(&PlacementRule::ALL.map(PlacementRule::as_str)))]
    pub(crate) placement: Option<PlacementRule>,

    /// Who decides what is optimised when [default: what the scenario says, else tracked].
    #[arg(long, value_name = "NAME", value_parser = policy_names())]
    pub(crate) policy: Option<PolicyName>,

    /// Where every random choice starts; one seed gives one result.
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    pub(crate) seed: u64,

    /// Stop after this much simulated time, such as 90s or 2h.
    #[arg(long, value_name = "DUR", value_parser = until)]
    pub(crate) until: Option<Nanos>,

    /// What things cost: a TOML file (docs/costs.md).
    #[arg(long, value_name = "FILE")]
    pub(crate) costs: Option<PathBuf>,

    /// How the RMP is held: every entry, or 2 MiB blocks. auto takes pages up to 64 GiB.
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = choice::<FidelityChoice>(&FidelityChoice::ALL.map(FidelityChoice::as_str)))]
    pub(crate) fidelity: FidelityChoice,

    /// Print the result as JSON, alone on standard output.
    #[arg(long, conflicts_with = "table")]
    pub(crate) json: bool,

    /// Print the final RMPOPT table as the kernel's debugfs file shows it, alone on standard
    /// output.
    #[arg(long)]
    pub(crate) table: bool,
}

/// One of several words, listed by `--help` and in errors.
fn choice<T>(words: &[&'static str]) -> impl clap::builder::TypedValueParser<Value = T> + use<T>
where
    T: std::str::FromStr + Clone + Send + Sync + 'static,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    use clap::builder::TypedValueParser as _;
    clap::builder::PossibleValuesParser::new(words.iter().copied())
        .try_map(|word| word.parse::<T>())
}

/// The policies, each with its line in `--help`.
fn policy_names() -> impl clap::builder::TypedValueParser<Value = PolicyName> {
    use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
    let names = PolicyName::ALL.map(|name| PossibleValue::new(name.as_str()).help(name.about()));
    PossibleValuesParser::new(names).try_map(|word| word.parse::<PolicyName>())
}

/// An id of the doctor's; none is all of them.
fn check_id(text: &str) -> Result<String, String> {
    if text.is_empty() || snp_host::state::CHECKS.iter().any(|(id, ..)| *id == text) {
        return Ok(text.to_owned());
    }
    Err("expected checks such as D001,D003 (docs/doctor.md)".to_owned())
}

/// Permissions of a file: its owner must be able to read it.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && mode & 0o400 != 0 => Ok(mode),
        _ => Err("expected three octal digits from 400, such as 640".to_owned()),
    }
}

fn gib_range(text: &str) -> Result<(u32, u32), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
        _ => Err("expected a number of GiB, or two as in 0-63".to_owned()),
    }
}

fn interval(text: &str) -> Result<Nanos, String> {
    let nanos = parse_duration(text).map_err(|e| e.to_string())?;
    if (100_000_000..=3_600_000_000_000).contains(&nanos) {
        return Ok(nanos);
    }
    Err("expected 100ms to 1h".to_owned())
}

fn frame_size(text: &str) -> Result<(u16, u16), String> {
    let sizes = text.split_once('x').and_then(|(columns, rows)| {
        let side = |text: &str| text.parse::<u16>().ok().filter(|n| (1..=1000).contains(n));
        Some((side(columns)?, side(rows)?))
    });
    sizes.ok_or_else(|| "expected columns and rows, 1 to 1000 each, as in 80x24".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

fn sample(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("expected a number above 0, at most 1".to_owned()),
    }
}

fn until(text: &str) -> Result<Nanos, String> {
    let nanos = parse_duration(text).map_err(|e| e.to_string())?;
    let range = 1_000_000..=limits::TIME_MAX;
    if range.contains(&nanos) {
        return Ok(nanos);
    }
    let (low, high) = (exact_duration(*range.start()), exact_duration(*range.end()));
    Err(format!("expected {low} to {high}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ranges_of_gib() {
        assert_eq!((gib_range("7"), gib_range("0-63")), (Ok((7, 7)), Ok((0, 63))));
        for wrong in ["", "-", "3-1", "x", "1-2-3"] {
            assert!(gib_range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_and_intervals() {
        assert_eq!(frame_size("200x60"), Ok((200, 60)));
        for wrong in ["", "80", "0x1", "80x", "x24", "80x24x2", "1001x2", "-1x2"] {
            assert!(frame_size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(interval("500ms"), Ok(500_000_000));
        assert!(interval("99ms").is_err() && interval("2h").is_err());
    }

    #[test]
    fn shares_and_times() {
        assert_eq!(share("0.3"), Ok(0.3));
        for wrong in ["-0.1", "1.1", "NaN", "inf", "half", ""] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
        assert_eq!(sample("1"), Ok(1.0));
        for wrong in ["0", "-1", "1.1", "NaN", "all"] {
            assert!(sample(wrong).is_err(), "{wrong}");
        }
        assert_eq!(until("2m"), Ok(120_000_000_000));
        assert_eq!(until("0s"), Err("expected 1ms to 3653d".to_owned()));
    }
}
