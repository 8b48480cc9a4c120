//! `off`: SNP without RMPOPT, to compare with.

use crate::rmpopt_core::{
    Action, Budget, Claims, CoreId, Event, LivenessBound, Policy, Time, WorstCase,
};
use crate::snp_defs::Window;

/// A policy that never enables RMPOPT.
#[derive(Clone, Copy, Debug, Default)]
pub struct Off {
    stopping: bool,
}

impl Policy for Off {
    fn name(&self) -> &'static str {
        "off"
    }
    /// It optimises nothing, so it does not claim law 3.
    fn claims(&self) -> Claims {
        Claims::of(&[1, 2, 4, 5, 6])
    }
    fn handle(&mut self, _: Time, event: Event<'_>) {
        self.stopping |= matches!(event, Event::SnpGoingDown | Event::Unload);
    }
    fn poll(&mut self, _: Time) -> Option<Action> {
        core::mem::take(&mut self.stopping).then_some(Action::Stopped)
    }
    fn tick_ns(&self) -> Option<u64> {
        None
    }
    fn budget(&self) -> Option<Budget> {
        None
    }
    fn followers_at_once(&self) -> u16 {
        1
    }
    fn liveness_bound(&self, _: &WorstCase) -> Option<LivenessBound> {
        None
    }
    fn passes(&self) -> u64 {
        0
    }
    fn first_pass_over(&self) -> bool {
        true
    }
    fn window(&self, _: CoreId) -> Option<Window> {
        None
    }
}
