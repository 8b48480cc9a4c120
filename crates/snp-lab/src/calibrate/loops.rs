//! What stands around a driver that is measured: it sees when passes begin and end, and can send each
//! RMPOPT of the leader from CPU to CPU instead.

use std::cell::RefCell;
use std::rc::Rc;

use rmpopt_core::{
    Action, Budget, Claims, CoreId, Event, LivenessBound, Policy, Ticket, Time, WorstCase,
};
use snp_defs::{Region, Window};

/// When passes began and ended.
pub(super) type Passes = Rc<RefCell<Vec<(Time, Time)>>>;

/// The driver.
pub(super) struct Looped {
    inner: Box<dyn Policy>,
    /// Each region goes to one CPU after the other, of so many cores of two threads: a test that AMD
    /// posted.
    one_by_one: Option<u16>,
    began: Option<Time>,
    passes: Passes,
    /// The region that goes from CPU to CPU, and how many have had it.
    at: Option<(Region, Ticket, u16)>,
    asked: bool,
}

impl Looped {
    pub(super) fn new(inner: Box<dyn Policy>, one_by_one: Option<u16>, passes: Passes) -> Self {
        Self { inner, one_by_one, began: None, passes, at: None, asked: false }
    }

    /// Tells the driver, and keeps the pass's end.
    fn tell(&mut self, now: Time, event: Event<'_>) {
        let before = self.inner.passes();
        self.inner.handle(now, event);
        if self.inner.passes() != before
            && let Some(began) = self.began.take()
        {
            self.passes.borrow_mut().push((began, now));
        }
    }

    /// The next CPU of the region that goes round.
    fn next_cpu(&mut self) -> Option<Action> {
        let cores = self.one_by_one?;
        let (region, ticket, done) = self.at?;
        self.asked = true;
        // CPUs are numbered so that all cores' first threads come first.
        Some(Action::Verify { core: CoreId(done % cores.max(1)), region, ticket })
    }
}

impl Policy for Looped {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn claims(&self) -> Claims {
        self.inner.claims()
    }

    fn handle(&mut self, now: Time, event: Event<'_>) {
        if let (Some(cores), Event::Verified { .. }, Some((region, ticket, done))) =
            (self.one_by_one, event, self.at)
        {
            self.asked = false;
            let done = done + 1;
            if done < cores.saturating_mul(2) {
                self.at = Some((region, ticket, done));
                return;
            }
            self.at = None;
        }
        self.tell(now, event);
    }

    fn poll(&mut self, now: Time) -> Option<Action> {
        if self.at.is_some() {
            return if self.asked { None } else { self.next_cpu() };
        }
        loop {
            let action = self.inner.poll(now)?;
            if matches!(action, Action::Verify { .. } | Action::Broadcast { .. }) {
                self.began.get_or_insert(now);
            }
            match (self.one_by_one, action) {
                (Some(_), Action::Verify { region, ticket, .. }) => {
                    self.at = Some((region, ticket, 0));
                    return self.next_cpu();
                }
                (Some(_), Action::Broadcast { ticket, .. }) => {
                    self.tell(now, Event::BroadcastDone { ticket });
                }
                (_, action) => return Some(action),
            }
        }
    }

    fn tick_ns(&self) -> Option<u64> {
        self.inner.tick_ns()
    }

    fn leader_reschedules(&self) -> bool {
        self.inner.leader_reschedules()
    }

    fn budget(&self) -> Option<Budget> {
        self.inner.budget()
    }

    fn followers_at_once(&self) -> u16 {
        self.inner.followers_at_once()
    }

    fn liveness_bound(&self, costs: &WorstCase) -> Option<LivenessBound> {
        self.inner.liveness_bound(costs)
    }

    fn passes(&self) -> u64 {
        self.inner.passes()
    }

    fn first_pass_over(&self) -> bool {
        self.inner.first_pass_over()
    }

    fn window(&self, core: CoreId) -> Option<Window> {
        self.inner.window(core)
    }
}
