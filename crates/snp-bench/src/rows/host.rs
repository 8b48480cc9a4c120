//! The operator's commands on a host of 1,024 CPUs and 12 TiB, against the time that they may take.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use snp_host::decode::decode;
use snp_host::state::HostState;
use snp_host::system::{Record, Root, System};
use snp_top::{Key, Look, Model, Sampler, draw};

use crate::fake_host;
use crate::measure::{Times, interleave};

/// What was measured.
pub(crate) struct Sides {
    /// A snapshot's text to the JSON of `status`.
    pub(crate) status: Times,
    /// A frame of 200x60, and what differs from the one before.
    pub(crate) frame: Times,
    /// A sample of a host whose driver's belief changed.
    pub(crate) sample: Times,
    /// `decode`, by the byte.
    pub(crate) decode: Times,
}

/// A side that takes what is allowed.
pub(crate) fn allowed(ns: f64, like: &Times) -> Times {
    Times { what: "allowed", ns: vec![ns; like.ns.len()] }
}

/// Copies of the log below that are decoded at a time.
const COPIES: usize = 2_000;
/// Lines of which a log of a host has many, and some that say something.
const LOG: &str = "\
[   12.000000] usb 1-1: new high-speed USB device number 2 using xhci_hcd
[   12.100000] nvme nvme0: 64/0/0 default/read/poll queues
[   13.000000] EXT4-fs (dm-0): mounted filesystem with ordered data mode. Quota mode: none.
[   14.000000] SEV-SNP: RMP segment 3 physical address [0x0000000150000000 - 0x000000015fffffff] covering [0x0000003000000000 - 0x0000003fffffffff]
[   15.000000] audit: type=1400 audit(1.2:3): apparmor=\"STATUS\" operation=\"profile_load\" name=\"x\"
[   16.000000] rmpopt: pass 12 ended after 45 ms
";

pub(crate) fn run(rounds: usize) -> Result<Sides> {
    let dir = fake_host::dir();
    fake_host::write(dir.path());
    let text = snapshot(dir.path())?;
    let status = only(rounds, "status", &mut |_| {
        let record = Record::parse(&text).unwrap_or_default();
        let state = HostState::of(&System::read(&Root::snapshot(record), false));
        serde_json::to_string(&state).map_or(0, |json| u64::from(json.len() > 1000))
    });
    // Each sample reads all of the driver's files.
    fake_host::belief_changes(dir.path());
    let mut sampler = Sampler::new(Root::tree(dir.path())?, false);
    let mut model = Model::new();
    model.take(sampler.sample(false));
    let sample = only(rounds, "sample", &mut |_| {
        model.take(sampler.sample(false));
        1
    });
    let look = Look { unicode: true, colour: true };
    let area = Rect::new(0, 0, 200, 60);
    let (mut old, mut new) = (Buffer::empty(area), Buffer::empty(area));
    let mut cells = 0;
    let frame = only(rounds * 4, "frame", &mut |round| {
        model.press(if round % 2 == 0 { Key::Right } else { Key::NextFilter });
        draw(&mut model, look, &mut new);
        cells += old.diff(&new).len();
        std::mem::swap(&mut old, &mut new);
        1
    });
    if cells == 0 {
        return Err(anyhow!("no frame differs from the one before"));
    }
    let log = LOG.repeat(COPIES);
    let decode = only(rounds, "decode", &mut |_| {
        let found = decode(log.as_bytes()).findings.len();
        if found < COPIES * 2 { 0 } else { log.len() as u64 }
    });
    Ok(Sides { status, frame, sample, decode })
}

/// One side by itself.
fn only(rounds: usize, what: &'static str, side: &mut dyn FnMut(usize) -> u64) -> Times {
    interleave(rounds, &mut [(what, side)]).pop().unwrap_or_default()
}

fn snapshot(root: &Path) -> Result<String> {
    let root = Root::tree(root)?.recording();
    System::read(&root, false);
    let record = root.into_record().context("nothing was recorded")?;
    record.to_text().map_err(|e| anyhow!(e))
}
