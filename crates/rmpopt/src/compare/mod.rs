//! Policies compared: what is run (`plan`), how (`work`), what came of it (here, `row`), and the report as
//! a page (`html`). The terminal's tables are `view::compare`.

pub(crate) mod html;
pub(crate) mod plan;
pub(crate) mod row;
pub(crate) mod work;

use serde::Serialize;
use snp_lab::cost::CostField;
use snp_lab::report::RunReport;
use snp_lab::scenario::{Nanos, PolicyName, SECOND};

use self::plan::{Case, Plan};
use self::row::Row;
use self::work::Outcome;

/// Version of the JSON; grows when a key changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;

/// The result, key for key what `--json` prints. The same plan and seeds give the same bytes, however
/// many threads ran it, but for each `wall_s`.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) schema_version: u32,
    /// Always true.
    pub(crate) emulated: bool,
    /// What was asked for, without what changes no result.
    pub(crate) command: String,
    /// Not everything was run: it was interrupted, or a run failed.
    pub(crate) incomplete: bool,
    /// Runs that were under way then; of them nothing is kept.
    pub(crate) interrupted: Vec<CaseInfo>,
    /// Runs that were planned, and done.
    pub(crate) planned: u64,
    pub(crate) done: u64,
    pub(crate) seeds: Vec<u64>,
    pub(crate) policies: Vec<&'static str>,
    pub(crate) scenarios: Vec<ScenarioInfo>,
    /// The cost model in use.
    pub(crate) costs: Vec<CostInfo>,
    /// Sum over all runs, breaches of laws that were claimed.
    pub(crate) law_violations: u64,
    /// Of laws that were not.
    pub(crate) law_breaches_unclaimed: u64,
    /// `rmpopt run --json` of each run, by scenario, policy and seed.
    pub(crate) results: Vec<RunReport>,
    /// The same under other delays.
    pub(crate) delay_sweep: Vec<Swept>,
    /// Time all of it took.
    pub(crate) wall_s: f64,
}

/// A scenario.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ScenarioInfo {
    pub(crate) name: String,
    pub(crate) description: String,
}

/// A run by what was asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct CaseInfo {
    pub(crate) scenario: String,
    pub(crate) policy: &'static str,
    pub(crate) seed: u64,
    /// The delay of a sweep, else null.
    pub(crate) delay_s: Option<f64>,
}

/// A cost, its range and its source.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CostInfo {
    name: &'static str,
    value: u64,
    unit: &'static str,
    low: u64,
    high: u64,
    source: &'static str,
}

impl From<CostField> for CostInfo {
    fn from(field: CostField) -> Self {
        let CostField { name, value, unit, low, high, source } = field;
        Self { name, value, unit, low, high, source }
    }
}

/// A run under a delay of its own.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Swept {
    pub(crate) delay_s: f64,
    #[serde(flatten)]
    pub(crate) report: RunReport,
}

impl Comparison {
    /// Puts together what was done.
    pub(crate) fn new(plan: &Plan, outcome: Outcome) -> Self {
        let Outcome { done: outcomes, cut, .. } = outcome;
        let info = |case: Case| CaseInfo {
            scenario: plan
                .scenarios
                .get(case.scenario)
                .map_or_else(String::new, |s| s.name.clone()),
            policy: case.policy.as_str(),
            seed: case.seed,
            delay_s: case.delay.map(in_seconds),
        };
        let interrupted = cut.into_iter().map(info).collect();
        let done = outcomes.len() as u64;
        let sum = |count: fn(&RunReport) -> u64| outcomes.iter().map(|(_, r)| count(r)).sum();
        let law_violations = sum(|report| report.law_violations);
        let law_breaches_unclaimed = sum(|report| report.law_breaches_unclaimed);
        let (mut results, mut delay_sweep) = (Vec::new(), Vec::new());
        for (case, report) in outcomes {
            match case.delay {
                None => results.push(report),
                Some(delay) => delay_sweep.push(Swept { delay_s: in_seconds(delay), report }),
            }
        }
        Self {
            schema_version: SCHEMA_VERSION,
            emulated: true,
            command: plan.command.clone(),
            incomplete: done < plan.cases.len() as u64,
            interrupted,
            planned: plan.cases.len() as u64,
            done,
            seeds: plan.seeds.clone(),
            policies: plan.policies.iter().copied().map(PolicyName::as_str).collect(),
            scenarios: plan
                .scenarios
                .iter()
                .map(|scenario| ScenarioInfo {
                    name: scenario.name.clone(),
                    description: scenario.description.clone(),
                })
                .collect(),
            costs: plan.costs.fields().into_iter().map(CostInfo::from).collect(),
            law_violations,
            law_breaches_unclaimed,
            results,
            delay_sweep,
            wall_s: 0.0,
        }
    }

    /// The runs of a scenario under a policy, by seed.
    pub(crate) fn runs<'a>(
        &'a self,
        scenario: &'a str,
        policy: &'a str,
    ) -> impl Iterator<Item = &'a RunReport> {
        self.results.iter().filter(move |run| run.scenario == scenario && run.policy == policy)
    }

    /// The lines of a scenario's table: its policies, then the delays of the sweep.
    pub(crate) fn rows(&self, scenario: &str) -> Vec<(String, Row)> {
        let policies = self.policies.iter().filter_map(|&policy| {
            Some((policy.to_owned(), Row::new(self.runs(scenario, policy))?))
        });
        let swept = self.delay_sweep.iter().filter(|swept| swept.report.scenario == scenario);
        let swept = swept.filter_map(|swept| {
            let name = format!("{}, {} s", swept.report.policy, swept.delay_s);
            Some((name, Row::new(std::iter::once(&swept.report))?))
        });
        policies.chain(swept).collect()
    }

    /// The first seed's run, of which pictures are drawn.
    pub(crate) fn pictured(&self, scenario: &str, policy: &str) -> Option<&RunReport> {
        self.results.iter().find(|run| run.scenario == scenario && run.policy == policy)
    }
}

fn in_seconds(ns: Nanos) -> f64 {
    ns as f64 / SECOND as f64
}
