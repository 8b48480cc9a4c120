//! What is to be run: every policy in every scenario from every seed, and the delays of a sweep.

use snp_lab::cost::CostModel;
use snp_lab::scenario::{
    GuestKind, MemorySpec, Nanos, PlacementRule, PolicyName, SECOND, Scenario, Setup, TopologySpec,
};

use crate::cli::CompareArgs;
use crate::exit::Failure;
use crate::{costs_input, scenario, units};

/// Seeds of a comparison that does not say how many.
const SEEDS: u64 = 3;
/// Simulated time after which `--quick` stops each run.
const QUICK_UNTIL: Nanos = 60 * SECOND;
/// The delays of `--delay-sweep`.
const DELAYS: [Nanos; 6] =
    [SECOND / 10, 3 * SECOND / 10, SECOND, 3 * SECOND, 10 * SECOND, 30 * SECOND];

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// Index into the plan's scenarios.
    pub(crate) scenario: usize,
    pub(crate) policy: PolicyName,
    pub(crate) seed: u64,
    /// A delay other than the policy's and the scenario's own.
    pub(crate) delay: Option<Nanos>,
}

/// Everything that is to be run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) policies: Vec<PolicyName>,
    pub(crate) seeds: Vec<u64>,
    /// In the order of the result.
    pub(crate) cases: Vec<Case>,
    /// The command line without what changes no result.
    pub(crate) command: String,
    pub(crate) costs: CostModel,
    until: Option<Nanos>,
}

impl Plan {
    /// Reads what the command line names.
    pub(crate) fn new(args: &CompareArgs) -> Result<Self, Failure> {
        let mut names: Vec<&str> = args.scenarios.iter().map(String::as_str).collect();
        if names.is_empty() {
            names = scenario::names().collect();
        }
        let mut scenarios: Vec<Scenario> = Vec::new();
        let mut asked: Vec<&str> = Vec::new();
        for name in names {
            if asked.contains(&name) {
                continue;
            }
            asked.push(name);
            let scenario = scenario::load(name)?;
            if scenarios.iter().any(|other| other.name == scenario.name) {
                return Err(Failure::BadInput(format!(
                    "{name}: another scenario is named \"{}\" too, expected different names",
                    scenario.name
                )));
            }
            scenarios.push(scenario);
        }
        let scenarios = under_rules(scenarios, &args.placement);
        let mut policies: Vec<PolicyName> = Vec::new();
        let all: &[PolicyName] =
            if args.policies.is_empty() { &PolicyName::ALL } else { &args.policies };
        for policy in all {
            if !policies.contains(policy) {
                policies.push(*policy);
            }
        }
        let count = args.seeds.unwrap_or(if args.quick { 1 } else { SEEDS });
        let seeds: Vec<u64> = (1..=count).collect();
        let mut cases = Vec::new();
        for scenario in 0..scenarios.len() {
            for &policy in &policies {
                let case = |&seed| Case { scenario, policy, seed, delay: None };
                cases.extend(seeds.iter().map(case));
            }
        }
        if args.delay_sweep {
            for scenario in 0..scenarios.len() {
                for policy in policies.iter().copied().filter(|policy| policy.has_delay()) {
                    let case = |delay| Case { scenario, policy, seed: 1, delay: Some(delay) };
                    cases.extend(DELAYS.into_iter().map(case));
                }
            }
        }
        let costs = costs_input::load(args.costs.as_deref())?;
        let command = command(args, count);
        let until = args.quick.then_some(QUICK_UNTIL);
        Ok(Self { scenarios, policies, seeds, cases, command, costs, until })
    }

    /// What the lab is to run for a case.
    pub(crate) fn setup(&self, case: Case) -> Option<Setup> {
        let mut scenario = self.scenarios.get(case.scenario)?.clone();
        if let Some(delay) = case.delay {
            let policy = &mut scenario.policy;
            policy.delay = Some(delay);
            policy.bound = policy.bound.map(|bound| bound.max(delay)).or(
                // Not below the delay, as of a scenario's file.
                Some(delay.max(rmpopt_core::Config::default().bound_ns)),
            );
        }
        let until = self.until.map(|until| scenario.until.map_or(until, |own| own.min(until)));
        Some(Setup {
            scenario,
            seed: case.seed,
            policy: case.policy,
            fidelity: snp_lab::scenario::FidelityChoice::Auto,
            costs: self.costs,
            until,
            assumed: costs_input::changes(&self.costs),
        })
    }

    /// A guess at how long a case takes, for the order and for the time left.
    pub(crate) fn weight(&self, case: Case) -> u64 {
        let Some(scenario) = self.scenarios.get(case.scenario) else { return 1 };
        let cores = match &scenario.host.topology {
            TopologySpec::Regular(n) => u64::from(n.sockets) * u64::from(n.cores_per_socket),
            TopologySpec::Listed(lists) => {
                let cpus: usize = lists.nodes.iter().map(|node| node.cpus.len()).sum();
                cpus as u64 / u64::from(lists.threads.max(1))
            }
        };
        let bytes = match &scenario.host.memory {
            MemorySpec::Bytes(bytes) => *bytes,
            MemorySpec::Map { .. } => 1 << 40,
        };
        let until = self.until.or(scenario.until).unwrap_or(QUICK_UNTIL);
        let snp = scenario.guests.iter().filter(|guest| guest.kind == GuestKind::Snp).count();
        let traced = scenario.trace.as_ref().map_or(0, |trace| trace.guests.len());
        let streamed = scenario.streams.iter().map(|stream| {
            let time = stream.until.min(until).saturating_sub(stream.guest.at);
            time / stream.every.max(1)
        });
        let guests = (snp + traced) as u64 + streamed.sum::<u64>();
        // The first pass sets each core's bits; later ones cost for each region, and there is at most
        // one in each delay.
        let delay = case.delay.unwrap_or(10 * SECOND).max(SECOND);
        let regions = bytes >> 30;
        let (first, passes) = match case.policy {
            PolicyName::Off => (0, 0),
            PolicyName::Oracle | PolicyName::OracleDelayed => (cores * regions, 0),
            _ => (cores * regions, guests.min(until / delay)),
        };
        1 + (first + 2 * passes * regions) / 1024 + guests / 4
    }

    /// A case in words, for progress and errors.
    pub(crate) fn name(&self, case: Case) -> String {
        let scenario = self.scenarios.get(case.scenario).map_or("", |s| s.name.as_str());
        let delay = case
            .delay
            .map_or_else(String::new, |ns| format!(", delay {}", units::exact_duration(ns)));
        format!("{scenario}, {}, seed {}{delay}", case.policy, case.seed)
    }
}

/// Each scenario under each rule, once.
fn under_rules(scenarios: Vec<Scenario>, rules: &[PlacementRule]) -> Vec<Scenario> {
    if rules.is_empty() {
        return scenarios;
    }
    let mut all: Vec<Scenario> = Vec::new();
    for scenario in scenarios {
        for &rule in rules {
            let placed = scenario::placed(scenario.clone(), rule);
            if all.iter().all(|other| other.name != placed.name) {
                all.push(placed);
            }
        }
    }
    all
}

/// The command line again, but for what changes no result.
fn command(args: &CompareArgs, seeds: u64) -> String {
    let mut words = vec!["rmpopt compare".to_owned()];
    if !args.policies.is_empty() {
        let names: Vec<&str> = args.policies.iter().map(|policy| policy.as_str()).collect();
        words.push(format!("--policies {}", names.join(",")));
    }
    if !args.scenarios.is_empty() {
        words.push(format!("--scenarios {}", args.scenarios.join(",")));
    }
    if !args.placement.is_empty() {
        let names: Vec<&str> = args.placement.iter().map(|rule| rule.as_str()).collect();
        words.push(format!("--placement {}", names.join(",")));
    }
    words.push(format!("--seeds {seeds}"));
    if let Some(costs) = &args.costs {
        words.push(format!("--costs {}", costs.display()));
    }
    for (set, option) in [(args.quick, "--quick"), (args.delay_sweep, "--delay-sweep")] {
        if set {
            words.push(option.to_owned());
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> CompareArgs {
        CompareArgs::default()
    }

    #[test]
    fn everything_is_planned_once() {
        let plan = Plan::new(&args()).unwrap();
        let scenarios = scenario::names().count();
        assert_eq!(plan.cases.len(), scenarios * PolicyName::ALL.len() * 3);
        let mut seen = plan.cases.clone();
        seen.dedup();
        assert_eq!(seen.len(), plan.cases.len());
        assert_eq!(plan.command, "rmpopt compare --seeds 3");
    }

    #[test]
    fn a_sweep_changes_the_delay_and_keeps_the_bound_above() {
        let plan = Plan::new(&CompareArgs {
            scenarios: vec!["small".into(), "small".into()],
            policies: vec![PolicyName::Tracked, PolicyName::Tracked],
            quick: true,
            delay_sweep: true,
            jobs: Some(7),
            ..args()
        })
        .unwrap();
        assert_eq!(plan.cases.len(), 1 + DELAYS.len());
        let words = "rmpopt compare --policies tracked,tracked --scenarios small,small --seeds 1 \
                     --quick --delay-sweep";
        assert_eq!(plan.command, words, "jobs change no result");
        for &case in &plan.cases {
            let setup = plan.setup(case).unwrap();
            let policy = &setup.scenario.policy;
            assert_eq!(policy.delay, case.delay);
            assert!(policy.delay <= policy.bound, "{policy:?}");
            assert_eq!(setup.until, Some(60 * SECOND));
        }
    }

    #[test]
    fn each_policy_with_a_delay_is_swept() {
        let args = CompareArgs { scenarios: vec!["small".into()], delay_sweep: true, ..args() };
        let plan = Plan::new(&args).unwrap();
        let swept =
            |policy| plan.cases.iter().filter(move |c| c.policy == policy && c.delay.is_some());
        for policy in PolicyName::ALL {
            let wanted = if policy.has_delay() { DELAYS.len() } else { 0 };
            assert_eq!(swept(policy).count(), wanted, "{policy}");
        }
    }

    #[test]
    fn each_scenario_is_run_under_each_rule() {
        let rules = |placement: &[PlacementRule]| {
            let scenarios = vec!["small".into(), "no-guest".into()];
            let args = CompareArgs { scenarios, placement: placement.to_vec(), ..args() };
            let plan = Plan::new(&args).unwrap();
            (plan.scenarios.into_iter().map(|s| s.name).collect::<Vec<_>>(), plan.command)
        };
        let (ordered, advised) = (PlacementRule::Ordered, PlacementRule::Advised);
        assert_eq!(rules(&[]).0, ["small", "no-guest"]);
        let (names, command) = rules(&[ordered, advised, advised]);
        assert_eq!(names, ["small", "small+advised", "no-guest", "no-guest+advised"]);
        assert!(command.contains("--placement ordered,advised,advised --seeds"), "{command}");
        assert_eq!(rules(&[advised]).0, ["small+advised", "no-guest+advised"]);
    }

    #[test]
    fn two_scenarios_of_one_name_are_refused() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/small.toml");
        let scenarios = vec!["small".into(), file.into()];
        let failure = Plan::new(&CompareArgs { scenarios, ..args() }).unwrap_err();
        assert!(failure.to_string().contains("another scenario is named \"small\" too"));
    }
}
