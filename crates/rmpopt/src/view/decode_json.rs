//! `rmpopt decode --json`; field by field in docs/decode.md.

use serde_json::{Map, Value, json};
use snp_host::decode::{Fact, Finding, Severity};

use super::DecodedInput;

/// Version of the object's shape.
const SCHEMA_VERSION: u32 = 1;

/// All of it.
pub(crate) fn decode_json(inputs: &[DecodedInput]) -> Value {
    let findings = inputs.iter().flat_map(|input| {
        input.decoded.findings.iter().map(|found| finding(input.file.as_deref(), found))
    });
    let of = |severity: Severity| {
        let all = inputs.iter().flat_map(|input| &input.decoded.findings);
        all.filter(|finding| finding.severity == severity).count()
    };
    json!({
        "schema_version": SCHEMA_VERSION,
        "inputs": inputs.iter().filter(|input| input.file.is_some()).map(input).collect::<Vec<_>>(),
        "counts": {
            "error": of(Severity::Error),
            "warning": of(Severity::Warning),
            "info": of(Severity::Info),
        },
        "worst": inputs.iter().filter_map(|input| input.decoded.worst).max().map(Severity::name),
        "findings": findings.collect::<Vec<_>>(),
    })
}

fn input(input: &DecodedInput) -> Value {
    let boots =
        input.decoded.boots.iter().map(
            |boot| json!({ "line": boot.line, "kernel": boot.kernel, "role": boot.role.name() }),
        );
    json!({
        "file": input.file,
        "bytes": input.bytes,
        "lines": input.decoded.lines,
        "boots": boots.collect::<Vec<_>>(),
        "findings_not_kept": input.decoded.not_kept,
    })
}

fn finding(file: Option<&str>, finding: &Finding) -> Value {
    let facts: Map<String, Value> =
        finding.facts.iter().map(|(name, fact)| ((*name).to_owned(), value(fact))).collect();
    json!({
        "file": file,
        "line": (finding.line > 0).then_some(finding.line),
        "kind": finding.kind,
        "severity": finding.severity.name(),
        "facts": facts,
        "meaning": finding.meaning,
        "advice": finding.advice,
        "text": finding.text,
        "known_from": finding.known_from,
    })
}

fn value(fact: &Fact) -> Value {
    match fact {
        Fact::Number(number) => json!(number),
        Fact::Signed(number) => json!(number),
        Fact::Flag(flag) => json!(flag),
        Fact::List(parts) => json!(parts),
        fact => json!(fact.to_string()),
    }
}
