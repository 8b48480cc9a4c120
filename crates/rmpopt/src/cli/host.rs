//! Options of `rmpopt host`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use snp_lab::scenario::{GuestKind, Nanos, Placement, PolicyName};

use super::{choice, policy_names};
use crate::units::{parse_duration, parse_size};

/// What to do with an emulated host.
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Bring a host up: boot it, mount it, keep it in the background.
    ///
    /// It boots as fast as it can be computed, to the end of the first pass; from then on its clock goes
    /// with the wall clock. Needs root.
    Up(UpArgs),

    /// Take a host down: nothing of it is left.
    Down(NameArg),

    /// Say how a host is.
    Status(ShownArgs),

    /// Stop a host's clock, change its speed, bring its time forward.
    Time(TimeArgs),

    /// Launch, shut down and list a host's guests.
    #[command(subcommand)]
    Guest(GuestCommand),

    /// Run a program that sees the emulated host's files at their real places.
    ///
    /// It sees the host that is up; without one, a host of its own, venice-2p with 1,024 CPUs. The program
    /// starts when the host's first pass is over. Works without root where user namespaces are allowed.
    #[command(
        after_help = "Exit codes: the program's; 128 and the signal's number if one ended it; \
        126 it cannot be executed, 127 there is none, 2 usage, 3 no host can be brought up."
    )]
    Exec(ExecArgs),

    /// Keeps a host; `up` starts it.
    #[command(hide = true)]
    Serve(UpArgs),

    /// Takes away what a host that was killed left.
    #[command(hide = true)]
    Watch(NameArg),

    /// Becomes a program in a view of the host at a root.
    #[command(hide = true)]
    Enter(EnterArgs),
}

/// Which host.
#[derive(Clone, Debug, Args)]
pub(crate) struct NameArg {
    /// The host's name; several can be up by different names.
    #[arg(long, value_name = "NAME", default_value = "host")]
    pub(crate) name: String,
}

/// Which host, and how to print.
#[derive(Debug, Args)]
pub(crate) struct ShownArgs {
    /// Which host.
    #[command(flatten)]
    pub(crate) host: NameArg,

    /// Print the result as JSON, alone on standard output.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `rmpopt host up`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Exit codes: 0 up, 2 usage or a bad scenario, 3 it cannot be brought up.")]
pub(crate) struct UpArgs {
    /// A built-in scenario or a TOML file.
    #[arg(value_name = "SCENARIO", default_value = crate::scenario::DEFAULT)]
    pub(crate) scenario: String,

    /// Which host.
    #[command(flatten)]
    pub(crate) host: NameArg,

    /// An empty folder to mount on [default: root, beside the host's socket].
    #[arg(long, value_name = "DIR")]
    pub(crate) mount: Option<PathBuf>,

    /// Simulated seconds a second; 0 is a clock that stands.
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = speed)]
    pub(crate) speed: f64,

    /// Who decides what is optimised when [default: what the scenario says, else tracked].
    #[arg(long, value_name = "NAME", value_parser = policy_names())]
    pub(crate) policy: Option<PolicyName>,

    /// Where every random choice starts.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// What things cost: a TOML file (docs/costs.md).
    #[arg(long, value_name = "FILE")]
    pub(crate) costs: Option<PathBuf>,

    /// Let the clock go from power-on instead of from the first pass's end.
    #[arg(long)]
    pub(crate) from_power_on: bool,

    /// Stay in the foreground until Ctrl-C.
    #[arg(long)]
    pub(crate) foreground: bool,
}

/// Options of `rmpopt host time`.
#[derive(Debug, Args)]
pub(crate) struct TimeArgs {
    /// Which host.
    #[command(flatten)]
    pub(crate) shown: ShownArgs,

    /// Bring time forward at once by this much simulated time, such as 10s; a day at most.
    #[arg(long, value_name = "DUR", value_parser = advance)]
    pub(crate) advance: Option<Nanos>,

    /// Simulated seconds a second from then on; 0 stops the clock.
    #[arg(long, value_name = "N", value_parser = speed)]
    pub(crate) speed: Option<f64>,
}

/// Guests.
#[derive(Debug, Subcommand)]
pub(crate) enum GuestCommand {
    /// Launch a guest now.
    Start(GuestStartArgs),
    /// Shut a guest down.
    Stop {
        /// Its name.
        #[arg(value_name = "GUEST")]
        guest: String,
        /// Which host, and how to print.
        #[command(flatten)]
        shown: ShownArgs,
    },
    /// List the guests that are there or will come.
    List(ShownArgs),
}

/// Options of `rmpopt host guest start`.
#[derive(Debug, Args)]
pub(crate) struct GuestStartArgs {
    /// Its name; no other guest that is there has it.
    #[arg(value_name = "GUEST")]
    pub(crate) guest: String,

    /// Which host, and how to print.
    #[command(flatten)]
    pub(crate) shown: ShownArgs,

    /// SNP guest or not.
    #[arg(long, value_name = "KIND", default_value = "snp", value_parser = choice::<GuestKind>(&GuestKind::ALL.map(GuestKind::as_str)))]
    pub(crate) kind: GuestKind,

    /// Its memory, such as 8GiB.
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = size)]
    pub(crate) memory: u64,

    /// How its memory lies in the host's.
    #[arg(long, value_name = "HOW", default_value = "2m", value_parser = choice::<Placement>(&Placement::ALL.map(Placement::as_str)))]
    pub(crate) placement: Placement,

    /// CPUs it has.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) vcpus: u32,

    /// NUMA node its memory and CPUs come from.
    #[arg(long, value_name = "N")]
    pub(crate) node: Option<u32>,
}

/// Options of `rmpopt host exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The name of a host that is up [default: host if it is up, else a host of its own].
    #[arg(long, value_name = "NAME", conflicts_with = "scenario")]
    pub(crate) name: Option<String>,

    /// A host of its own from this built-in scenario or TOML file, whatever is up.
    #[arg(long, value_name = "SCENARIO")]
    pub(crate) scenario: Option<String>,

    /// Simulated seconds a second, for a host of its own; 0 is a clock that stands.
    #[arg(long, value_name = "N", default_value_t = 1.0, value_parser = speed)]
    pub(crate) speed: f64,

    /// The program and its arguments.
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) program: Vec<OsString>,
}

/// Options of the hidden `enter`.
#[derive(Debug, Args)]
pub(crate) struct EnterArgs {
    /// Where the host is mounted.
    #[arg(long)]
    pub(crate) root: PathBuf,

    /// Take that mount away once it is seen elsewhere.
    #[arg(long)]
    pub(crate) detach: bool,

    /// The program and its arguments.
    #[arg(required = true, last = true)]
    pub(crate) program: Vec<OsString>,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.0..=snp_hostfs::MAX_SPEED).contains(&speed) => Ok(speed),
        _ => Err(format!("expected a number from 0 to {}", snp_hostfs::MAX_SPEED)),
    }
}

fn advance(text: &str) -> Result<Nanos, String> {
    let nanos = parse_duration(text).map_err(|e| e.to_string())?;
    if nanos <= snp_hostfs::MAX_ADVANCE { Ok(nanos) } else { Err("expected at most 1d".to_owned()) }
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_and_steps() {
        assert_eq!((speed("0"), speed("2.5")), (Ok(0.0), Ok(2.5)));
        for wrong in ["-1", "NaN", "inf", "1e7", "x"] {
            assert!(speed(wrong).is_err(), "{wrong}");
        }
        assert_eq!(advance("10s"), Ok(10_000_000_000));
        assert!(advance("2d").is_err() && advance("10").is_err());
    }
}
