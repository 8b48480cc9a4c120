//! Hosts of unusual size.

use std::time::Instant;

use super::{config, tracked, Layout, MILLISECOND};
use crate::rmpopt_core::tests::Core;
use crate::rmpopt_core::{
    words_needed, Action, BatchReport, Buffers, CoreCell, CoreId, Drained, Event, Facts, Host,
    Policy, RegionCell, Time, Tracked, Verdict, WindowMask,
};

#[test]
fn one_core() {
    let mut machine = tracked(Layout::new(1, 1), config());
    machine.snp_init();
    machine.settle();
    assert_eq!(machine.did(), ["base 0", "verify 0:0"]);
    assert!(machine.policy.first_pass_over());
    machine.snp_shutdown();
    machine.settle();
    assert!(machine.stopped);
}

#[test]
fn no_ram() {
    let mut machine = tracked(Layout::new(2, 0), config());
    machine.snp_init();
    machine.until_ms(100_000);
    assert_eq!(machine.did(), ["base 0", "base 1"]);
    assert!(machine.policy.first_pass_over());
    machine.snp_shutdown();
    machine.settle();
    assert!(machine.stopped);
}

#[test]
fn nobody_takes_part() {
    for cores in [0, 2] {
        let mut layout = Layout::new(cores, 2);
        layout.offline.extend(0..cores);
        let mut machine = tracked(layout, config());
        machine.snp_init();
        machine.flip(1);
        machine.until_ms(100_000);
        assert!(machine.did().is_empty() && machine.policy.first_pass_over());
        machine.snp_shutdown();
        assert!(machine.stopped);
    }
}

#[test]
fn storage_that_is_too_small_is_not_overrun() {
    let mut machine = tracked(Layout::new(2, 3), config());
    machine.layout = Layout::new(5, 300);
    machine.hardware.cores.resize(5, Core::default());
    machine.snp_init();
    machine.settle();
    let did = machine.did();
    assert!(did.contains(&"verify 0:2".to_owned()), "{did:?}");
    assert!(!did.contains(&"verify 0:3".to_owned()) && !did.contains(&"base 2".to_owned()));
    machine.snp_shutdown();
    machine.settle();
    assert!(machine.stopped);
}

#[test]
fn more_windows_than_leaders() {
    let nodes = 70u16;
    let layout = Layout {
        cores: (0..nodes).flat_map(|node| [node, node]).collect(),
        ram: (0..nodes).map(|node| (u32::from(node) * 2048 + 5, node)).collect(),
        offline: [].into(),
    };
    let mut machine = tracked(layout, config());
    machine.snp_init();
    machine.settle();
    for (core, node) in (0..).zip(machine.layout.cores.clone()) {
        let led = usize::from(node) < super::super::MAX_WINDOWS;
        assert_eq!(machine.hardware.has(core, u32::from(node) * 2048 + 5), led, "node {node}");
    }
    machine.flip(69 * 2048 + 5);
    machine.until_ms(100_000);
    machine.snp_shutdown();
    machine.settle();
    assert!(machine.stopped);
}

/// Six nodes of 2 TiB.
struct Huge;

impl Host for Huge {
    fn cores(&self) -> u16 {
        4096
    }
    fn participates(&self, _: CoreId) -> bool {
        true
    }
    fn node(&self, core: CoreId) -> u16 {
        core.0 * 6 / 4096
    }
    fn socket(&self, core: CoreId) -> u16 {
        self.node(core) / 3
    }
    fn spanned_regions(&self) -> u32 {
        12_288
    }
    fn ram_mib(&self, _: crate::snp_defs::Region) -> u32 {
        1024
    }
    fn region_node(&self, region: crate::snp_defs::Region) -> u16 {
        (region.get() / 2048) as u16
    }
    fn node_socket(&self, node: u16) -> u16 {
        node / 3
    }
}

#[test]
fn the_largest_host_is_served_in_good_time() {
    assert!(size_of::<CoreCell>() * 4096 <= 1280 << 10, "{}", size_of::<CoreCell>());
    assert!(size_of::<RegionCell>() * 12_288 <= 600 << 10, "{}", size_of::<RegionCell>());
    let storage = Buffers {
        regions: vec![RegionCell::default(); 12_288],
        cores: vec![CoreCell::default(); 4096],
        words: vec![0; words_needed(12_288)],
    };
    let mut policy = Tracked::new(Facts::venice(1).check().unwrap(), config(), storage);
    let (mut bases, mut verifies, mut offers) = (0, 0, 0);
    let started = Instant::now();
    let mut drive = |policy: &mut Tracked<_>, now: Time| {
        while let Some(action) = policy.poll(now) {
            match action {
                Action::WriteBase { core, base } => {
                    bases += 1;
                    let base = Some(base);
                    policy.handle(now, Event::BaseWritten { core, base, snp_en: true });
                }
                Action::Verify { core, region, ticket } => {
                    verifies += 1;
                    let verdict = Verdict::Clean;
                    let answer = Event::Verified { ticket, core, region, verdict, took_ns: 1 };
                    policy.handle(now, answer);
                }
                Action::Offer { batch, .. } => {
                    offers += 1;
                    policy.handle(
                        now,
                        Event::Batch(&BatchReport {
                            core: batch.core,
                            ticket: batch.ticket,
                            function: batch.function,
                            set: batch.regions,
                            refused: WindowMask::EMPTY,
                            slow: 0,
                            held_ns: 1,
                            finished: true,
                        }),
                    );
                }
                Action::Quiesce => policy.handle(now, Event::Quiesced),
                Action::ArmTimer(_) | Action::Stopped | Action::Broadcast { .. } => {}
            }
        }
        (bases, verifies, offers)
    };
    policy.handle(Time::ZERO, Event::SnpInitialised(&Huge));
    // The six leaders need no offer.
    assert_eq!(drive(&mut policy, Time::ZERO), (4096, 12_288, 4090));
    // Every region is marked once a second for a while.
    for second in 100..110u64 {
        let now = Time::from_ns(second * 1_000 * MILLISECOND);
        for word in 0..192 {
            policy.handle(now, Event::Drained(Drained { word, shared: u64::MAX, lost: u64::MAX }));
        }
        drive(&mut policy, now);
    }
    let now = Time::from_ns(200_000 * MILLISECOND);
    assert_eq!(drive(&mut policy, now), (4096, 2 * 12_288, 2 * 4090));
    policy.handle(now, Event::SnpGoingDown);
    assert_eq!(drive(&mut policy, now), (2 * 4096, 2 * 12_288, 2 * 4090));
    // Seconds in the slowest build on a busy machine; a square of cores or regions takes minutes.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    println!("{:?}", started.elapsed());
}
