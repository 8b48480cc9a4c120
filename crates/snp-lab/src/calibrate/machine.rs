//! The measured machines and what ran on them, as the lab emulates them.
//!
//! What was posted of them (spec/rmpopt.md 1): 1,024 logical CPUs; address space up to 1,038 GiB when
//! cycles were counted, 2 TB of RAM when passes were timed. Assumed: two sockets of 256 cores of two
//! threads, one node each; for the SNP guests 2 MiB pages next to one another, 64 vCPUs, on either
//! node.

use std::rc::Rc;

use super::loops::{Looped, Passes};
use crate::cost::CostModel;
use crate::engine::{Engine, Posted, Tally};
use crate::error::LabError;
use crate::scenario::{
    Action, EventSpec, FidelityChoice, GIB, Grain, GuestKind, GuestSpec, HostSpec, MemorySpec,
    Placement, PlacementRule, PolicyName, PolicySpec, RmpKind, SECOND, Scenario, Setup,
    TopologySpec,
};
use crate::topology::TopologyNumbers;

const CORES: u16 = 512;

/// What was measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Measured {
    /// 2 TiB, the first page of each region assigned.
    Heads,
    /// 2 TiB, nothing assigned but what the firmware has.
    Clean,
    /// 2 TiB, two SNP guests of 100 GB of which one has ended; leader first.
    GuestsLeaderFirst,
    /// The same, all CPUs at once.
    GuestsAllAtOnce,
    /// 1,038 GiB, one CPU after the other.
    Serial,
    /// 1,038 GiB, all CPUs at once, results not known.
    Parallel,
    /// 1,038 GiB, all CPUs at once a second time: results are known.
    ParallelAgain,
}

/// What came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Outcome {
    /// How long the last pass took.
    pub(super) pass_ns: u64,
    /// Its RMPOPTs.
    pub(super) rmpopts: Tally,
}

/// Runs the lab on it.
pub(super) fn measure(what: Measured, costs: CostModel) -> Result<Outcome, LabError> {
    use Measured::{
        Clean, GuestsAllAtOnce, GuestsLeaderFirst, Heads, Parallel, ParallelAgain, Serial,
    };
    let guests = matches!(what, GuestsLeaderFirst | GuestsAllAtOnce);
    let policy = match what {
        GuestsAllAtOnce | Parallel | ParallelAgain => PolicyName::V2,
        Heads | Clean | GuestsLeaderFirst | Serial => PolicyName::V10,
    };
    let one_by_one = (what == Serial).then_some(CORES);
    let memory = if matches!(what, Serial | Parallel | ParallelAgain) { 1024 } else { 2048 };
    let until = match what {
        // The first one is launched and ends after a minute; the pass comes 10 s later under v10, when
        // its memory is free again under v2.
        GuestsLeaderFirst | GuestsAllAtOnce => 90,
        Serial => 60,
        _ => 4,
    };
    let setup = Setup {
        scenario: Scenario {
            name: "calibrate".into(),
            description: String::new(),
            why: String::new(),
            host: HostSpec {
                topology: TopologySpec::Regular(TopologyNumbers {
                    sockets: 2,
                    cores_per_socket: u32::from(CORES) / 2,
                    threads: 2,
                    nps: 1,
                }),
                memory: MemorySpec::Bytes(memory * GIB),
                rmp: RmpKind::Segmented,
                nohz_full: Vec::new(),
            },
            streams: Vec::new(),
            guests: if guests { vec![guest("a", 60), guest("b", 100)] } else { Vec::new() },
            events: match what {
                ParallelAgain => vec![EventSpec { at: 3 * SECOND, action: Action::Request }],
                _ => Vec::new(),
            },
            policy: PolicySpec::default(),
            until: Some(until * SECOND),
            rule: PlacementRule::default(),
            trace: None,
        },
        seed: 1,
        policy,
        fidelity: FidelityChoice::Extents,
        costs,
        until: None,
        assumed: Vec::new(),
    };
    let passes = Passes::default();
    let seen = Rc::clone(&passes);
    let posted = Posted {
        driver: Some(Box::new(move |policy| Box::new(Looped::new(policy, one_by_one, seen)))),
        heads_assigned: what == Heads,
        ..Posted::default()
    };
    let mut engine = Engine::build(&setup, &[], posted)?;
    engine.run(&mut |_| {})?;
    let passes = passes.borrow();
    let wanted = if guests || what == ParallelAgain { 2 } else { 1 };
    let (Some(&(from, to)), Some(&rmpopts), true) =
        (passes.last(), engine.tallies().get(passes.len().wrapping_sub(1)), passes.len() == wanted)
    else {
        return Err(LabError::Calibration { passes: passes.len(), wanted });
    };
    Ok(Outcome { pass_ns: to.as_ns() - from.as_ns(), rmpopts })
}

fn guest(name: &str, until: u64) -> GuestSpec {
    GuestSpec {
        name: name.into(),
        kind: GuestKind::Snp,
        memory: 100 * GIB,
        placement: Placement::Pages2M,
        at: 3 * SECOND,
        until: Some(until * SECOND),
        vcpus: 64,
        node: None,
        touched: 100 * GIB,
        convert_rate: None,
        accept: Grain::default(),
    }
}
