//! `cargo xtask bench`: how fast snp-model is, as ratios against bare loops, and what the command
//! takes on a large host, against what is promised. See `docs/bench.md`.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A short run on a small table: shows that it runs, its ratios say little
    #[arg(long)]
    quick: bool,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Measure only rows whose name holds this text
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// The package whose program measures, optimised.
pub(crate) const RUN: [&str; 7] =
    ["run", "--release", "--quiet", "--locked", "--package", "snp-bench", "--"];

/// What measures the command on a large host, optimised.
const HOST: [&str; 8] =
    ["bench", "--quiet", "--locked", "--package", "rmpopt", "--bench", "host", "--"];

/// Builds and runs both; fails if a limit was missed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut reports = Vec::new();
    let mut missed = false;
    for part in [&RUN[..], &HOST] {
        let mut command = command(part, args)?;
        if args.json {
            command.stdout(Stdio::piped());
        }
        let output = command.spawn().and_then(Child::wait_with_output).context("starting cargo")?;
        // cargo bench ends with 101 when what it ran fails, whatever its code was.
        match output.status.code() {
            Some(0) => {}
            Some(1 | 101) => missed = true,
            _ => bail!("the measurement failed ({})", output.status),
        }
        if args.json {
            let report = serde_json::from_slice(&output.stdout);
            reports.push(report.context("the measurement failed: it gave no JSON")?);
        }
    }
    if args.json {
        println!("{:#}", joined(reports)?);
    }
    ensure!(!missed, "a ratio misses its limit");
    Ok(())
}

fn command(part: &[&str], args: &Args) -> Result<Command> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent")?;
    let mut command = Command::new("cargo");
    command.current_dir(root).args(part);
    command.args(args.quick.then_some("--quick")).args(args.json.then_some("--json"));
    if let Some(text) = &args.only {
        command.args(["--only", text]);
    }
    Ok(command)
}

/// One report with the rows of all.
fn joined(reports: Vec<Value>) -> Result<Value> {
    let mut reports = reports.into_iter();
    let mut first = reports.next().context("nothing was measured")?;
    let rows = first["rows"].as_array_mut().context("a report has no rows")?;
    for mut report in reports {
        rows.append(report["rows"].as_array_mut().context("a report has no rows")?);
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_put_together() {
        let report = |row: &str| json!({ "schema_version": 1, "rows": [{ "row": row }] });
        let both = joined(vec![report("a"), report("b")]).unwrap();
        assert_eq!(both["rows"], json!([{ "row": "a" }, { "row": "b" }]));
        assert!(joined(vec![report("a"), json!({})]).is_err() && joined(Vec::new()).is_err());
    }
}
