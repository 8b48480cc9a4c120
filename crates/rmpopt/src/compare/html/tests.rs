use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use snp_lab::scenario::PolicyName;

use super::*;
use crate::cli::CompareArgs;
use crate::commands::engine;
use crate::compare::CaseInfo;
use crate::compare::plan::Plan;
use crate::compare::work;

static NEVER: AtomicBool = AtomicBool::new(false);

fn comparison() -> Comparison {
    let args = CompareArgs {
        scenarios: vec!["small".into()],
        policies: vec![PolicyName::Tracked, PolicyName::V2, PolicyName::V10, PolicyName::Off],
        seeds: Some(2),
        delay_sweep: true,
        ..CompareArgs::default()
    };
    let plan = Arc::new(Plan::new(&args).unwrap());
    let lab = |setup: &_| engine::run(setup, &mut |_| {});
    Comparison::new(&plan, work::run(&plan, 2, lab, &NEVER, &mut |_| {}))
}

/// Elements are closed in order, and nothing is asked of the outside.
fn is_well_formed(html: &str) {
    const VOID: [&str; 2] = ["meta", "!DOCTYPE"];
    let mut open: Vec<&str> = Vec::new();
    let body = html.split_once("</style>").map_or(html, |(_, rest)| rest);
    for tag in body.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag ends");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        if let Some(closed) = tag.strip_prefix('/') {
            if !["style", "head", "html"].contains(&closed) {
                assert_eq!(open.pop(), Some(closed), "{open:?}");
            }
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    for outside in ["http:", "https:", "src=", "url(", "@import", "<script", "<link"] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn the_page_is_whole_and_says_what_it_is() {
    let all = comparison();
    let html = page(&all);
    is_well_formed(&html);
    for said in [
        "EMULATED",
        "Everything here is emulated.",
        "rmpopt compare --policies tracked,v2,v10,off --scenarios small --seeds 2 --delay-sweep",
        "time, seconds",
        "optimised, %",
        ">CPU</text>",
        "seconds per hour",
        "300 µs to 1 ms",
        "rmpopt_slow",
        "assumed",
    ] {
        assert!(html.contains(said), "{said}");
    }
    for policy in &all.policies {
        assert!(html.contains(&format!("</svg>{policy}</li>")), "{policy} has no legend");
    }
    assert!(!html.contains("NaN") && !html.contains("inf\""));
    // The sweep's lines are there.
    assert!(html.contains("class=\"thin s0\"") && html.contains("<title>tracked, 0.1 s</title>"));
}

#[test]
fn text_from_files_stays_text() {
    let mut all = comparison();
    let evil = "<img src=x onerror=alert(1)>\"'&";
    all.scenarios[0].name = evil.into();
    all.scenarios[0].description = evil.into();
    all.command = evil.into();
    for run in &mut all.results {
        run.scenario = evil.into();
        run.driver.refused = Some(evil.into());
    }
    let html = page(&all);
    assert!(!html.contains("<img"));
    assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;"));
}

#[test]
fn nothing_done_is_a_page_too() {
    let mut all = comparison();
    all.results.clear();
    all.delay_sweep.clear();
    (all.done, all.incomplete) = (0, true);
    let run = |scenario: &str, delay_s| CaseInfo {
        scenario: scenario.into(),
        policy: "v10",
        seed: 7,
        delay_s,
    };
    all.interrupted = vec![run("<b>", None), run("small", Some(0.3))];
    let html = page(&all);
    is_well_formed(&html);
    assert!(html.contains("Incomplete: it was interrupted"));
    let cut = "2 runs were under way then and nothing of them is kept: &lt;b&gt;, v10, seed 7; \
               small, v10, seed 7, delay 0.3 s</p>";
    assert!(html.contains(cut));
    assert!(html.contains("not run"));
}
