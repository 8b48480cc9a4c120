//! A shorter script that shows the same difference.

use ::snp_defs::RmpOperand;

use super::{Difference, Found, Operation, Script, Trial, CORES};
use crate::snp_model::CoreId;

/// The difference that a script shows, and after how many operations.
fn shows(script: &Script) -> Option<(usize, Difference)> {
    Trial::replay(script, |_, _, _| ()).err().map(|(at, difference)| (at + 1, difference))
}

/// Shortens the script as long as it shows a difference of the same kind: operations are left out, in
/// halves, quarters and so on down to one, then what they name is made simpler. What is found by a
/// comparison of everything may need no operation of its own.
///
/// Repeatable: the same script gives the same result.
#[must_use]
pub fn shrink(found: &Found) -> Found {
    let same = |difference: &Difference| kind(difference) == kind(&found.difference);
    let Some((end, difference)) = shows(&found.script).filter(|(_, other)| same(other)) else {
        // Seen only by the comparisons between the operations: kept as it is.
        return found.clone();
    };
    let mut best = Found { script: found.script.clone(), difference };
    best.script.operations.truncate(end);
    loop {
        let before = best.script.clone();
        leave_out(&mut best, same);
        simplify(&mut best, same);
        if best.script == before {
            return best;
        }
    }
}

/// Differences of one kind are seen by one comparison; a bit or an entry that is wrong may be seen
/// after any operation.
fn kind(difference: &Difference) -> &str {
    match difference.what.rsplit_once(": ") {
        Some((_, part @ ("bit" | "entry" | "state" | "count"))) => part,
        _ => &difference.what,
    }
}

/// Takes `script` if it still shows the difference.
fn attempt(best: &mut Found, script: Script, same: impl Fn(&Difference) -> bool) -> bool {
    match shows(&script) {
        Some((end, difference)) if same(&difference) => {
            *best = Found { script, difference };
            best.script.operations.truncate(end);
            true
        }
        _ => false,
    }
}

fn leave_out(best: &mut Found, same: impl Fn(&Difference) -> bool) {
    let mut size = best.script.operations.len().div_ceil(2);
    while size > 0 {
        // From the end: what comes late depends on what came early.
        let mut end = best.script.operations.len();
        while end > 0 {
            let start = end.saturating_sub(size);
            let mut script = best.script.clone();
            let end_here = end.min(script.operations.len());
            if start < end_here {
                script.operations.drain(start..end_here);
                attempt(best, script, &same);
            }
            end = start;
        }
        size /= 2;
    }
}

/// What an operation names, simpler where it can be.
fn simpler(operation: Operation) -> Vec<Operation> {
    let mut all = Vec::new();
    let mut elsewhere = operation;
    if let Some(core) = elsewhere.core_mut() {
        *core = CoreId(0);
        all.push(elsewhere);
    }
    match operation {
        Operation::Rmpupdate { core, by, spa, operand } => {
            for operand in [
                RmpOperand { gpa: 0, ..operand },
                RmpOperand { immutable: 0, ..operand },
                RmpOperand { asid: operand.asid.min(1), ..operand },
            ] {
                all.push(Operation::Rmpupdate { core, by, spa, operand });
            }
        }
        Operation::Rmpopt { core, rax, function } => {
            all.push(Operation::Rmpopt { core, rax: rax >> 30 << 30, function });
        }
        Operation::Begin { id, core, rax, function } => {
            all.push(Operation::Begin { id, core, rax: rax >> 30 << 30, function });
        }
        Operation::WriteBase { core, value } => {
            all.push(Operation::WriteBase { core, value: value & 1 });
        }
        _ => {}
    }
    all.retain(|other| *other != operation);
    all
}

fn simplify(best: &mut Found, same: impl Fn(&Difference) -> bool) {
    // One core may be enough for everything.
    for core in (0..CORES).map(CoreId) {
        let mut script = best.script.clone();
        for operation in &mut script.operations {
            if let Some(other) = operation.core_mut().filter(|other| **other == core) {
                *other = CoreId(0);
            }
        }
        attempt(best, script, &same);
    }
    let mut at = 0;
    while let Some(&operation) = best.script.operations.get(at) {
        for other in simpler(operation) {
            let mut script = best.script.clone();
            if let Some(place) = script.operations.get_mut(at) {
                *place = other;
            }
            attempt(best, script, &same);
        }
        at += 1;
    }
}
