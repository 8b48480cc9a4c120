//! `fleet/grafana/rmpopt.json`, as far as it can be held without Grafana.

use std::collections::BTreeSet;

use serde_json::Value;

/// What Grafana itself fills in.
const GRAFANAS: [&str; 1] = ["__rate_interval"];

/// A query of a panel.
pub(crate) struct Target {
    pub(crate) panel: String,
    /// For all hosts of today.
    pub(crate) expr: String,
    /// How a series is named, as `{{label}} text`; empty in a table, which shows all labels.
    legend: String,
}

fn text() -> String {
    std::fs::read_to_string(crate::fleet("grafana/rmpopt.json")).unwrap()
}

fn dashboard() -> Value {
    serde_json::from_str(&text()).unwrap()
}

fn panels(dashboard: &Value) -> Vec<Value> {
    dashboard["panels"].as_array().unwrap().clone()
}

fn variables(dashboard: &Value) -> Vec<&str> {
    let list = dashboard["templating"]["list"].as_array().unwrap();
    list.iter().map(|variable| variable["name"].as_str().unwrap()).collect()
}

/// All queries of all panels.
pub(crate) fn targets() -> Vec<Target> {
    let mut all = Vec::new();
    for panel in panels(&dashboard()) {
        for target in panel["targets"].as_array().unwrap() {
            let of = |key: &str| target[key].as_str().unwrap_or_default();
            all.push(Target {
                panel: panel["title"].as_str().unwrap().to_owned(),
                expr: of("expr").replace("$instance", ".*").replace("$__rate_interval", "1m"),
                legend: of("legendFormat").to_owned(),
            });
        }
    }
    all
}

impl Target {
    /// The names under which the answer's series are shown: they differ, and each label in them is there.
    pub(crate) fn shows(&self, answer: &[Value]) {
        let mut shown = BTreeSet::new();
        for series in answer {
            let name = self.named(&series["metric"]);
            assert!(shown.insert(name.clone()), "{}: two series are shown as {name}", self.panel);
        }
    }

    fn named(&self, labels: &Value) -> String {
        if self.legend.is_empty() {
            return labels.to_string();
        }
        let mut name = String::new();
        let mut rest = self.legend.as_str();
        while let Some((before, after)) = rest.split_once("{{") {
            let (label, after) = after.split_once("}}").expect("closed");
            let value = labels[label.trim()].as_str();
            name += before;
            name += value.unwrap_or_else(|| panic!("{}: no label {label}: {labels}", self.panel));
            rest = after;
        }
        name + rest
    }
}

/// Names behind `$` and in `${}`.
fn used(text: &str) -> BTreeSet<String> {
    let names = text.split('$').skip(1).map(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    });
    names.collect()
}

#[test]
fn its_variables_are_defined() {
    let dashboard = dashboard();
    let variables = variables(&dashboard);
    assert_eq!(variables, ["datasource", "instance"]);
    let known = variables.into_iter().chain(GRAFANAS).map(str::to_owned).collect();
    assert_eq!(used(&text()), known);
    assert_eq!(used("$a ${b:csv} $__c[$d]"), ["__c", "a", "b", "d"].map(str::to_owned).into());
}

/// The fields are those that Grafana's own types have; what of them has a choice is one.
#[test]
fn it_is_a_dashboard() {
    let dashboard = dashboard();
    assert!(dashboard["title"].is_string() && dashboard["uid"].is_string());
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        assert!(["stat", "timeseries", "table"].contains(&panel["type"].as_str().unwrap()));
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{title}");
        let is_drawn = panel["type"] == "timeseries";
        assert_eq!(panel["options"]["legend"]["calcs"].is_array(), is_drawn, "{title}");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24 && at("w") > 0 && at("h") > 0, "{title}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{title} lies on another panel");
            }
        }
        let mut refs = BTreeSet::new();
        for target in panel["targets"].as_array().unwrap() {
            assert!(refs.insert(target["refId"].as_str().unwrap()), "{title}");
            // Hosts that were not chosen are not shown.
            let expr = target["expr"].as_str().unwrap();
            assert!(expr.contains("{instance=~\"$instance\""), "{title}: {expr}");
        }
    }
}
