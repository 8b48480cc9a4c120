//! CPUID in the forms that people send: `cpuid -r`, InstLatX64 dumps, hwloc's dumps.

use std::collections::BTreeMap;

use snp_defs::CpuidRegs;

use super::error::Why;
use crate::number::{decimal, hex, hex_0x};
use crate::topology::MAX_CPUS;

/// Leaves of one CPU by leaf and subleaf.
pub type Leaves = BTreeMap<(u32, u32), CpuidRegs>;

/// Which form a dump has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DumpForm {
    /// Todd Allen's `cpuid -r`: `0x8000001f 0x00: eax=0x...`.
    CpuidR,
    /// InstLatX64: `CPUID 8000001F: EAX-EBX-ECX-EDX`.
    InstLat,
    /// hwloc's `inmask eax ebx ecx edx => eax ebx ecx edx`.
    Hwloc,
}

/// A dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuidDump {
    /// Its form.
    pub form: DumpForm,
    /// CPUs by number. A dump of one CPU that names none is CPU 0.
    pub cpus: BTreeMap<u32, Leaves>,
}

/// Most leaves that are kept of one CPU.
const MAX_LEAVES: usize = 4096;
const EXPECTED: &str = "CPUID as `cpuid -r`, InstLatX64 or hwloc print it, with at least one leaf";

/// Whether a text looks like a dump of CPUID.
pub fn looks_like_cpuid(text: &str) -> bool {
    text.lines().take(200).any(|line| row(line).is_some())
}

impl CpuidDump {
    /// Reads a dump. Lines of other kinds are passed over; a row that begins like one and does not
    /// go on like one is an error.
    pub fn parse(text: &str) -> Result<Self, Why> {
        let mut dump = Self { form: DumpForm::CpuidR, cpus: BTreeMap::new() };
        let (mut cpu, mut form) = (0, None);
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            let wrong = |expected| Why::malformed(n + 1, expected, line);
            if let Some(header) = header(line) {
                cpu = header.map_err(|Wrong| wrong("a CPU number below 1048576"))?;
                continue;
            }
            let Some(row) = row(line) else { continue };
            let (row_form, leaf, sub, regs) =
                row.map_err(|Wrong| wrong("four registers of 8 hexadecimal digits"))?;
            if *form.get_or_insert(row_form) != row_form {
                return Err(wrong("rows of one form"));
            }
            let leaves = dump.cpus.entry(cpu).or_default();
            if leaves.len() >= MAX_LEAVES {
                return Err(wrong("at most 4096 leaves of one CPU"));
            }
            if leaves.insert((leaf, sub), regs).is_some_and(|before| before != regs) {
                return Err(wrong("each leaf of a CPU once"));
            }
        }
        dump.form = form.ok_or_else(|| Why::malformed(0, EXPECTED, ""))?;
        Ok(dump)
    }
}

/// A line that begins a CPU: `CPU 3:`, `CPU:`, `------[ CPUID Registers / Logical CPU #3 ]------`.
/// InstLatX64 reuses the words for MSRs, which are no rows.
fn header(line: &str) -> Option<Result<u32, Wrong>> {
    let number = if let Some((_, rest)) = line.split_once("Logical CPU #") {
        line.starts_with('-').then(|| rest.split(' ').next().unwrap_or_default())?
    } else {
        let number = line.strip_prefix("CPU")?.strip_suffix(':')?.trim();
        if number.is_empty() {
            return Some(Ok(0));
        }
        number.bytes().all(|b| b.is_ascii_digit()).then_some(number)?
    };
    let number = decimal(number).and_then(|n| u32::try_from(n).ok());
    Some(number.filter(|n| *n < MAX_CPUS).ok_or(Wrong))
}

type Row = (DumpForm, u32, u32, CpuidRegs);

/// A line that begins like one of its kind and does not go on like one.
#[derive(Debug, Clone, Copy)]
struct Wrong;

/// `None`: no row.
fn row(line: &str) -> Option<Result<Row, Wrong>> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("CPUID ")
        && let Some((leaf, rest)) = rest.split_once(':')
        && leaf.len() == 8
    {
        return Some(inst_lat(leaf, rest).ok_or(Wrong));
    }
    if line.starts_with("0x") && line.contains("eax=") {
        return Some(cpuid_r(line).ok_or(Wrong));
    }
    if let Some((input, output)) = line.split_once("=>")
        && line.bytes().all(|b| b.is_ascii_hexdigit() || b" =>".contains(&b))
    {
        return Some(hwloc(input, output).ok_or(Wrong));
    }
    None
}

fn word(digits: &str) -> Option<u32> {
    u32::try_from(hex(digits)?).ok()
}

fn regs(words: &[Option<u32>]) -> Option<CpuidRegs> {
    let [eax, ebx, ecx, edx] = *words else { return None };
    Some(CpuidRegs { eax: eax?, ebx: ebx?, ecx: ecx?, edx: edx? })
}

fn inst_lat(leaf: &str, rest: &str) -> Option<Row> {
    let rest = rest.trim();
    let (values, notes) = rest.split_once(' ').unwrap_or((rest, ""));
    let words: Vec<_> = values.split('-').map(word).collect();
    let sub = match notes.split_once("[SL ") {
        Some((_, sub)) => word(sub.split(']').next()?)?,
        None => 0,
    };
    Some((DumpForm::InstLat, word(leaf)?, sub, regs(&words)?))
}

fn cpuid_r(line: &str) -> Option<Row> {
    let (place, values) = line.split_once(':')?;
    let mut place = place.split_whitespace();
    let mut number = || u32::try_from(hex_0x(place.next()?)?).ok();
    let (leaf, sub) = (number()?, number()?);
    let mut values = values.split_whitespace();
    let mut next = |name: &str| {
        let digits = values.next()?.strip_prefix(name)?.strip_prefix("=0x")?;
        word(digits)
    };
    let words = [next("eax"), next("ebx"), next("ecx"), next("edx")];
    Some((DumpForm::CpuidR, leaf, sub, regs(&words)?))
}

fn hwloc(input: &str, output: &str) -> Option<Row> {
    let input: Vec<_> = input.split_whitespace().map(word).collect();
    let [mask, leaf, _, sub, _] = input[..] else { return None };
    // Bit 2 of the mask says that ECX was an input.
    let sub = if mask? & 4 != 0 { sub? } else { 0 };
    let words: Vec<_> = output.split_whitespace().map(word).collect();
    Some((DumpForm::Hwloc, leaf?, sub, regs(&words)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_three_forms() {
        let regs = CpuidRegs { eax: 0x0101fd3f, ebx: 0x4133, ecx: 0xfd, edx: 0xf };
        for (form, text, cpu) in [
            (
                DumpForm::CpuidR,
                "CPU 7:\r\n   0x8000001f 0x00: eax=0x0101fd3f ebx=0x00004133 ecx=0x000000fd edx=0x0000000f\r\n",
                7,
            ),
            (
                DumpForm::InstLat,
                "------[ CPUID Registers / Logical CPU #7 ]------\n\nCPUID 8000001F: 0101FD3F-00004133-000000FD-0000000F [x]\nMSR 0000010B: < FAILED >\n",
                7,
            ),
            (DumpForm::Hwloc, "# mask\n1 8000001f 0 0 0 => 101fd3f 4133 fd f\n", 0),
        ] {
            let dump = CpuidDump::parse(text).unwrap();
            assert_eq!(dump.form, form);
            assert_eq!(dump.cpus[&cpu][&(0x8000001f, 0)], regs, "{form:?}");
            assert!(looks_like_cpuid(text));
        }
    }

    #[test]
    fn wrong_rows_are_named() {
        let line = |text: &str| match CpuidDump::parse(text) {
            Err(Why::Malformed { line, .. }) => line,
            other => panic!("{other:?}"),
        };
        assert_eq!(line("x\nCPUID 8000001F: 0101FD3F-00004133-000000FD\n"), 2);
        assert_eq!(line("0x8000001f 0x00: eax=0x0101fd3f ebx=0x1\n"), 1);
        assert_eq!(line("1 0 0 0 0 => 1 2 3 4\n0x1 0x00: eax=0x1 ebx=0x1 ecx=0x1 edx=0x1"), 2);
        assert_eq!(line("CPU 1048576:\n"), 1);
        assert_eq!(line("nothing"), 0);
        assert_eq!(line(""), 0);
        assert_eq!(line("1 0 0 0 0 => 1 2 3 4\n1 0 0 0 0 => 1 2 3 5"), 2);
    }

    proptest! {
        #[test]
        fn never_panics(text in "(CPUID |0x|CPU |=>|[0-9a-f:= -]|\n|eax=){0,60}") {
            let _ = CpuidDump::parse(&text);
        }
    }
}
