// SPDX-License-Identifier: MIT OR GPL-2.0
//! What the emulated host is to be like: parameters of the module that it belongs to.

use kernel::prelude::*;

use crate::snp_defs::Region;
use crate::snp_model::{BaseWrite, EnableToggle, UnitConfig};
use crate::sys::text::{self, text_parameter};

text_parameter!(MEMORY, "emu_mem", "memory of the emulated host in GiB, as 70G or 2T");
text_parameter!(HOLE, "emu_hole", "GiB of it without RAM, as 2-3");
text_parameter!(CHOICES, "emu_choices", "of base writes and enable edges, as keeps,misses");

text_parameter!(
    UP,
    "emu_up",
    "SNP is up: fresh (bases 0), left or left:GIB (bases of an earlier load)"
);

/// Regions that the model has room for.
const MOST_GIB: u32 = 2048;

/// How the emulated host is found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// SNP is off.
    Down,
    /// SNP is up, no base was written.
    Fresh,
    /// SNP is up, and an earlier driver left bases at this GiB.
    Left(Region),
}

/// Whether any of them was given.
#[inline(never)]
pub(crate) fn is_described() -> bool {
    let given = |text: &text::Text| !text.read(&mut [0; text::LONGEST]).is_empty();
    [&MEMORY, &HOLE, &CHOICES, &UP].into_iter().any(given)
}

/// How the emulated host is to be found.
#[inline(never)]
pub(crate) fn found() -> Result<Found> {
    let mut place = [0; text::LONGEST];
    match UP.read(&mut place) {
        "" => Ok(Found::Down),
        "fresh" => Ok(Found::Fresh),
        "left" => Ok(Found::Left(Region::ZERO)),
        word => {
            let gib = word.strip_prefix("left:").and_then(|gib| gib.parse().ok());
            gib.and_then(Region::new).map(Found::Left).ok_or_else(|| {
                pr_err!("parameter emu_up is \"{word}\", expected fresh, left or left:GIB\n");
                EINVAL
            })
        }
    }
}

/// GiB of emulated memory.
#[inline(never)]
pub(crate) fn gib() -> Result<u32> {
    let mut place = [0; text::LONGEST];
    let word = match MEMORY.read(&mut place) {
        "" => "16G",
        word => word,
    };
    let parsed = match (word.strip_suffix('G'), word.strip_suffix('T')) {
        (Some(gib), _) => gib.parse::<u32>().ok(),
        (_, Some(tib)) => tib.parse::<u32>().ok().and_then(|tib| tib.checked_mul(1024)),
        _ => None,
    };
    match parsed {
        Some(gib) if gib > 0 && gib <= MOST_GIB => Ok(gib),
        _ => {
            pr_err!("parameter emu_mem is \"{word}\", expected 1G to 2T\n");
            Err(EINVAL)
        }
    }
}

/// First and last GiB without RAM.
#[inline(never)]
pub(crate) fn hole() -> Result<Option<(u32, u32)>> {
    let mut place = [0; text::LONGEST];
    let word = HOLE.read(&mut place);
    if word.is_empty() {
        return Ok(None);
    }
    let ends = word.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match ends {
        Some((first, last)) if 0 < first && first <= last && last < MOST_GIB => {
            Ok(Some((first, last)))
        }
        _ => {
            pr_err!("parameter emu_hole is \"{word}\", expected GIB-GIB, from 1 on\n");
            Err(EINVAL)
        }
    }
}

/// What the emulated hardware does where AMD's manual is not public.
#[inline(never)]
pub(crate) fn unit() -> Result<UnitConfig> {
    let mut place = [0; text::LONGEST];
    let word = CHOICES.read(&mut place);
    let (base, toggle) = word.split_once(',').unwrap_or((word, ""));
    let base_write = match base {
        "" | "clears" => BaseWrite::Clears,
        "keeps" => BaseWrite::KeepsByIndex,
        "gp" => BaseWrite::Gp,
        _ => return refuse(word),
    };
    let en_toggle = match toggle {
        "" | "clears" => EnableToggle::Clears,
        "keeps" => EnableToggle::Keeps,
        "misses" => EnableToggle::KeepsAndMissesRmpupdate,
        _ => return refuse(word),
    };
    Ok(UnitConfig { base_write, en_toggle, ..UnitConfig::default() })
}

fn refuse<T>(word: &str) -> Result<T> {
    pr_err!(
        "parameter emu_choices is \"{word}\", expected clears, keeps or gp for writes of the base, \
         then clears, keeps or misses for the enable bit\n"
    );
    Err(EINVAL)
}
