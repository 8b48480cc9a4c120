//! The state diagram. Places are chosen by hand; what leads where comes from the model, and an edge
//! that the model has not, or that nobody drew, fails.

use snp_defs::PageState;

use crate::edges::{Actor, Edge};
use crate::host::{Host, STATES};

const WIDTH: u32 = 890;
const HEIGHT: u32 = 610;
const FONT: &str = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace";
const PANEL: &str = "#0d1117";
const TEXT: &str = "#c9d1d9";
const DIM: &str = "#8b949e";

/// Left, top, width and height of a state's box.
fn place(state: PageState) -> (u32, u32, u32, u32) {
    let (x, y, width) = match state {
        PageState::Reclaim => (60, 110, 120),
        PageState::Firmware => (60, 290, 120),
        PageState::Context => (60, 420, 120),
        PageState::FirmwareIommu => (60, 490, 120),
        PageState::Metadata => (60, 545, 120),
        PageState::Hypervisor => (300, 110, 120),
        PageState::HvFixed => (300, 290, 120),
        PageState::Default => (300, 420, 120),
        PageState::GuestInvalid => (515, 110, 110),
        PageState::GuestValid => (710, 110, 110),
        PageState::PreGuest => (515, 290, 110),
        PageState::PreSwap => (710, 290, 110),
        PageState::Invalid => panic!("no page is meant to be {state}"),
    };
    (x, y, width, 40)
}

/// An arrow: its ends, what makes it, its line, and its label's place.
#[derive(Clone, Copy)]
struct Arrow {
    from: &'static str,
    to: &'static str,
    by: &'static str,
    /// Goes back too, by the same instruction.
    both: bool,
    path: &'static str,
    label: (u32, u32, Align),
}

#[derive(Clone, Copy)]
enum Align {
    Start,
    Middle,
    End,
    /// Along a vertical line.
    Upwards,
}

const fn arrow(
    (from, to, by): (&'static str, &'static str, &'static str),
    path: &'static str,
    label: (u32, u32, Align),
) -> Arrow {
    Arrow { from, to, by, both: false, path, label }
}

const fn both(arrow: Arrow) -> Arrow {
    Arrow { both: true, ..arrow }
}

const ARROWS: [Arrow; 17] = [
    both(arrow(("Hypervisor", "Reclaim", "RMPUPDATE"), "M300 130H180", (240, 122, Align::Middle))),
    both(arrow(
        ("Hypervisor", "Guest-invalid", "RMPUPDATE"),
        "M420 130H515",
        (467, 122, Align::Middle),
    )),
    arrow(("Hypervisor", "Firmware", "RMPUPDATE"), "M315 150L180 296", (245, 246, Align::Start)),
    arrow(("Hypervisor", "Pre-guest", "RMPUPDATE"), "M400 150L520 290", (462, 246, Align::End)),
    arrow(
        ("Guest-valid", "Hypervisor", "RMPUPDATE"),
        "M765 110C765 40 360 40 360 110",
        (562, 50, Align::Middle),
    ),
    arrow(("Guest-invalid", "Pre-guest", "RMPUPDATE"), "M535 150V290", (530, 182, Align::End)),
    arrow(("Guest-valid", "Pre-swap", "RMPUPDATE"), "M800 150V290", (806, 224, Align::Start)),
    both(arrow(
        ("Guest-invalid", "Guest-valid", "PVALIDATE"),
        "M625 130H710",
        (667, 122, Align::Middle),
    )),
    arrow(
        ("Pre-guest", "Guest-valid", "LAUNCH_UPDATE"),
        "M625 297L716 150",
        (650, 276, Align::Start),
    ),
    arrow(("Pre-guest", "Guest-invalid", "PAGE_RECLAIM"), "M575 290V150", (581, 182, Align::Start)),
    arrow(("Pre-swap", "Guest-valid", "PAGE_RECLAIM"), "M765 290V150", (760, 240, Align::End)),
    arrow(("Firmware", "Reclaim", "PAGE_RECLAIM"), "M120 290V150", (126, 218, Align::Start)),
    arrow(("Firmware", "Context", "GCTX_CREATE"), "M100 330V420", (146, 370, Align::Start)),
    arrow(("Context", "Firmware", "DECOMMISSION"), "M125 420V330", (146, 392, Align::Start)),
    arrow(("Firmware", "HV-fixed", "PAGE_SET_STATE"), "M180 315H300", (240, 307, Align::Middle)),
    arrow(
        ("Firmware-IOMMU", "Reclaim", "SNP_SHUTDOWN_EX"),
        "M60 510H42V138H60",
        (37, 320, Align::Upwards),
    ),
    arrow(("Metadata", "Reclaim", "PAGE_RECLAIM"), "M60 565H20V122H60", (15, 320, Align::Upwards)),
];

const fn colour(actor: Actor) -> &'static str {
    match actor {
        Actor::Host => "#58a6ff",
        Actor::Guest => "#bc8cff",
        Actor::Firmware => "#3fb950",
    }
}

const ACTORS: [(Actor, &str); 3] = [
    (Actor::Host, "an instruction of the host"),
    (Actor::Guest, "an instruction of the guest"),
    (Actor::Firmware, "a command of the firmware"),
];

impl Arrow {
    fn is(&self, edge: &Edge) -> bool {
        let there = self.from == edge.from && self.to == edge.to;
        let back = self.both && self.from == edge.to && self.to == edge.from;
        self.by == edge.by && (there || back)
    }
}

/// The state's entry says immutable: no x86 instruction leads out.
fn is_immutable(state: PageState) -> bool {
    let host = Host::new();
    host.launching();
    let at = host.page_in(state);
    host.entry(at).is_some_and(snp_defs::RmpEntry::immutable)
}

/// Every edge is drawn, or is what the caption says of RMPUPDATE; every arrow is an edge.
fn check(edges: &[Edge]) {
    let named = |name: &str| STATES.into_iter().find(|state| state.name() == name).unwrap();
    for edge in edges.iter().filter(|edge| !ARROWS.iter().any(|arrow| arrow.is(edge))) {
        let written = ["Hypervisor", "Reclaim", "Firmware", "Guest-invalid", "Pre-guest"];
        let caption =
            edge.by == "RMPUPDATE" && written.contains(&edge.to) && !is_immutable(named(edge.from));
        assert!(caption, "nobody drew {edge:?}");
    }
    for arrow in &ARROWS {
        let found = edges.iter().filter(|edge| arrow.is(edge)).count();
        assert_eq!(found, 1 + usize::from(arrow.both), "{} to {}", arrow.from, arrow.to);
    }
}

fn text(x: u32, y: u32, colour: &str, more: &str, words: &str) -> String {
    format!("<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\"{more}>{words}</text>\n")
}

fn heading(x: u32, words: &str) -> String {
    text(x, 24, TEXT, " text-anchor=\"middle\" font-weight=\"bold\"", words)
}

fn drawn(arrow: &Arrow, actor: Actor) -> String {
    let colour = colour(actor);
    let start =
        if arrow.both { format!(" marker-start=\"url(#{actor:?}Back)\"") } else { String::new() };
    let line = format!(
        "<path d=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" marker-end=\"url(#{actor:?})\"{start}/>\n",
        arrow.path
    );
    let (x, y, align) = arrow.label;
    let more = match align {
        Align::Start => String::new(),
        Align::Middle => " text-anchor=\"middle\"".into(),
        Align::End => " text-anchor=\"end\"".into(),
        Align::Upwards => format!(" text-anchor=\"middle\" transform=\"rotate(-90 {x} {y})\""),
    };
    let words = match arrow.by {
        "GCTX_CREATE" => "↓ GCTX_CREATE",
        "DECOMMISSION" => "↑ DECOMMISSION",
        other => other,
    };
    line + &text(x, y, colour, &more, words)
}

fn boxed(state: PageState) -> String {
    let (x, y, width, height) = place(state);
    let dash = if state == PageState::Default { " stroke-dasharray=\"4 3\"" } else { "" };
    let frame = |inset: u32| {
        format!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"6\" fill=\"#161b22\" stroke=\"{TEXT}\"{dash}/>\n",
            x + inset,
            y + inset,
            width - 2 * inset,
            height - 2 * inset
        )
    };
    let mut frames = frame(0);
    if is_immutable(state) {
        frames += &frame(3);
    }
    let name = " text-anchor=\"middle\" font-weight=\"bold\"";
    frames + &text(x + width / 2, y + height / 2 + 4, TEXT, name, state.name())
}

/// What the colours and frames mean.
fn legend() -> String {
    let actors = (0..).zip(ACTORS).map(|(line, (actor, words))| {
        let y = 430 + line * 20;
        let sample = format!(
            "<path d=\"M470 {}h30\" stroke=\"{}\" stroke-width=\"1.5\"/>\n",
            y - 4,
            colour(actor)
        );
        sample + &text(510, y, TEXT, "", words)
    });
    let notes = [
        "Double frame: immutable. No x86 instruction leads out, only the firmware.",
        "Single frame: RMPUPDATE also leads from each of these to Hypervisor,",
        "Reclaim, Firmware, Guest-invalid and Pre-guest.",
        "SNP_INIT_EX makes Hypervisor, HV-fixed, Firmware and Firmware-IOMMU.",
    ];
    let notes = (0..).zip(notes).map(|(line, words)| text(300, 524 + line * 20, DIM, "", words));
    let default = text(300, 480, DIM, "", "no entry at all");
    actors.chain(std::iter::once(default)).chain(notes).collect()
}

/// Heads for either end of a line: not every renderer can turn one round.
fn arrow_heads() -> String {
    let head = |actor: Actor, end: &str, tip: u32, path: &str| {
        let size = "viewBox=\"0 0 8 8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\"";
        let colour = colour(actor);
        format!(
            "<marker id=\"{actor:?}{end}\" {size} refX=\"{tip}\" orient=\"auto\">\
             <path d=\"{path}\" fill=\"{colour}\"/></marker>\n"
        )
    };
    let heads =
        |(actor, _)| head(actor, "", 7, "M0 0L8 4L0 8z") + &head(actor, "Back", 1, "M8 0L0 4L8 8z");
    ACTORS.map(heads).concat()
}

/// The picture.
pub(crate) fn svg(edges: &[Edge]) -> String {
    check(edges);
    let headings = heading(120, "the firmware's")
        + &heading(360, "the hypervisor's")
        + &heading(667, "a guest's");
    let arrows: String = ARROWS
        .iter()
        .map(|arrow| drawn(arrow, edges.iter().find(|edge| arrow.is(edge)).unwrap().actor))
        .collect();
    let (heads, boxes, legend) = (arrow_heads(), STATES.map(boxed).concat(), legend());
    let what = "States of a page and what leads from one to another";
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{what}\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\" fill=\"{PANEL}\"/>\n\
         <defs>\n{heads}</defs>\n\
         <g font-family=\"{FONT}\" font-size=\"12\">\n\
         {headings}{boxes}{arrows}{legend}</g>\n</svg>\n"
    )
}
