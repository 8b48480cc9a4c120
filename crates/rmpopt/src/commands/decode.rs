//! `rmpopt decode`: explains logs, entries and codes.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use snp_defs::{NestedFaultCode, PageFaultCode};
use snp_host::decode::{
    self, Decoded, Finding, Instruction, Severity, firmware_command, firmware_status,
    instruction_result, nested_fault, page_fault, raw_entry,
};
use snp_host::{bytes_from, read_bytes, refuse_packed};

use crate::cli::DecodeArgs;
use crate::exit::{FOUND_ERRORS, Failure};
use crate::output;
use crate::view::{DecodedInput, View, decode_json};

const STDIN: &str = "standard input";

/// Runs the command; the exit code is 0, or 1 if something has severity error.
pub(crate) fn run(args: &DecodeArgs) -> Result<ExitCode, Failure> {
    let mut inputs = Vec::new();
    let asked = codes(args);
    let alone = asked.findings.is_empty();
    if !alone {
        inputs.push(DecodedInput { file: None, bytes: 0, decoded: asked });
    }
    if args.file.is_empty() && alone {
        inputs.push(input(Path::new("-"))?);
    }
    for file in &args.file {
        inputs.push(input(file)?);
    }
    for empty in inputs.iter().filter(|input| input.file.is_some() && input.bytes == 0) {
        output::note(&format!("{}: is empty", empty.file.as_deref().unwrap_or_default()));
    }
    let text = if args.json {
        output::json(&decode_json(&inputs))?
    } else {
        let view = View { unicode: output::locale_is_utf8() };
        view.decoded(&inputs, output::stdout_width())
    };
    output::result(&text)?;
    let worst = inputs.iter().filter_map(|input| input.decoded.worst).max();
    Ok(ExitCode::from(if worst == Some(Severity::Error) { FOUND_ERRORS } else { 0 }))
}

/// One file with what it says.
fn input(path: &Path) -> Result<DecodedInput, Failure> {
    let (file, bytes) = if path == Path::new("-") {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            output::note("paste what is to be explained, then press Ctrl-D on an empty line");
        }
        (STDIN.to_owned(), bytes_from(STDIN, stdin.lock())?)
    } else {
        (path.display().to_string(), read_bytes(path)?)
    };
    refuse_packed(&file, &bytes)?;
    Ok(DecodedInput { decoded: decode::decode(&bytes), bytes: bytes.len(), file: Some(file) })
}

/// The codes that were asked for, in the order of the help.
fn codes(args: &DecodeArgs) -> Decoded {
    let mut findings = Vec::new();
    let mut add = |option: String, mut finding: Finding| {
        finding.text = option;
        findings.push(finding);
    };
    for asked in &args.entry {
        let of = asked.pfn.map_or_else(String::new, |pfn| format!("{pfn}="));
        let (lo, hi) = (asked.entry.lo, asked.entry.hi);
        add(format!("--entry {of}{lo:#018x}:{hi:#018x}"), raw_entry(asked.entry, asked.pfn));
    }
    let results = [
        ("--rmpupdate", Instruction::Rmpupdate, &args.rmpupdate),
        ("--psmash", Instruction::Psmash, &args.psmash),
        ("--pvalidate", Instruction::Pvalidate, &args.pvalidate),
        ("--rmpadjust", Instruction::Rmpadjust, &args.rmpadjust),
    ];
    for (option, instruction, codes) in results {
        for code in codes {
            add(format!("{option} {code}"), instruction_result(instruction, *code));
        }
    }
    for code in &args.firmware {
        add(format!("--firmware {code:#x}"), firmware_status(*code));
    }
    for id in &args.command {
        add(format!("--command {id:#x}"), firmware_command(*id));
    }
    for code in &args.pf {
        add(format!("--pf {code:#x}"), page_fault(PageFaultCode(*code)));
    }
    for code in &args.npf {
        add(format!("--npf {code:#x}"), nested_fault(NestedFaultCode(*code)));
    }
    Decoded::of_codes(findings)
}
