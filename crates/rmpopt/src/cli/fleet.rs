//! Options of the commands for fleets of hosts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;

use super::{HostArgs, SourceArgs};
use crate::units::{exact_duration, parse_duration};

/// A day, in nanoseconds.
const DAY: u64 = 86_400_000_000_000;

/// Options of `rmpopt export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --listen and --textfile the metrics are printed once. With them the host is read \
    again and again; so is a snapshot, which somebody with more rights may write.\n\
    Exit codes: 0 done or ended by a signal, 2 usage or bad input, 3 a file cannot be read or \
    written, or the address cannot be used."
)]
pub(crate) struct ExportArgs {
    /// Serve /metrics over HTTP at this address; a port alone is that of 127.0.0.1.
    #[arg(long, value_name = "[ADDR:]PORT", value_parser = listen)]
    pub(crate) listen: Option<SocketAddr>,

    /// Write the metrics to this file, for node_exporter's textfile collector (NAME.prom).
    #[arg(long, value_name = "FILE")]
    pub(crate) textfile: Option<PathBuf>,

    /// Write the file once and end.
    #[arg(long, requires = "textfile", conflicts_with_all = ["listen", "interval"])]
    pub(crate) once: bool,

    /// How often the host is read, 100ms to 1d; a scrape reads nothing [default: 15s, with --deep 5m].
    #[arg(long, value_name = "DUR", value_parser = interval)]
    pub(crate) interval: Option<u64>,

    /// Print OpenMetrics instead of the Prometheus text format, where it is printed.
    #[arg(long, conflicts_with_all = ["listen", "textfile"])]
    pub(crate) openmetrics: bool,

    /// Where the host is read, each time anew.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

/// Options of `rmpopt labels`.
#[derive(Debug, Args)]
#[command(after_help = "What is not known has no label.\n\
    Exit codes: 0 done, 2 usage or bad input, 3 a file cannot be read or written.")]
pub(crate) struct LabelsArgs {
    /// Which host; with --json the labels as JSON instead of a feature file.
    #[command(flatten)]
    pub(crate) host: HostArgs,

    /// Write them to this file, whole at every moment, instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Let Node Feature Discovery drop them if they are not renewed within this time.
    #[arg(long, value_name = "DUR", value_parser = expire)]
    pub(crate) expire: Option<u64>,
}

/// Options of `rmpopt completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// For which shell.
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// Options of `rmpopt man`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done, 2 usage, 3 a page cannot be written.")]
pub(crate) struct ManArgs {
    /// A folder for all pages; without it the main page is printed.
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// An address; the host's own where there is a port alone.
fn listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    named
        .as_deref()
        .unwrap_or(text)
        .parse()
        .map_err(|_| "expected a port, or an address such as 127.0.0.1:9749".to_owned())
}

fn interval(text: &str) -> Result<u64, String> {
    within(text, 100_000_000..=DAY)
}

fn expire(text: &str) -> Result<u64, String> {
    within(text, 1_000_000_000..=365 * DAY)
}

fn within(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let nanos = parse_duration(text).map_err(|e| e.to_string())?;
    if range.contains(&nanos) {
        return Ok(nanos);
    }
    let (low, high) = (exact_duration(*range.start()), exact_duration(*range.end()));
    Err(format!("expected {low} to {high}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, address) in [
            ("9749", "127.0.0.1:9749"),
            (":0", "127.0.0.1:0"),
            ("localhost:1", "127.0.0.1:1"),
            ("[::1]:80", "[::1]:80"),
            ("0.0.0.0:80", "0.0.0.0:80"),
        ] {
            assert_eq!(listen(text).unwrap().to_string(), address);
        }
        for wrong in ["", "host:80", "65536", "1.2.3.4", "-1"] {
            assert!(listen(wrong).is_err(), "{wrong}");
        }
        assert_eq!(interval("1s"), Ok(1_000_000_000));
        assert!(interval("1ms").is_err() && interval("2d").is_err());
    }
}
