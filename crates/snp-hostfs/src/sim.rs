//! The thread in which the host lives: it brings time forward, and answers whoever asks in between.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use snp_lab::scenario::{Nanos, SECOND, Setup};
use snp_lab::{LabError, Live};

use crate::clock::Clock;
use crate::machine::{Board, Machine, Shown};

/// Events at a stretch, before somebody who asks is heard.
const STRETCH: u32 = 2_000;
/// How long somebody who asks waits for the host to reach the present.
const PATIENCE: Duration = Duration::from_millis(50);
/// The longest sleep.
const NAP: Duration = Duration::from_secs(1);
/// A first pass that has not ended by then is not waited for.
const BOOT_LIMIT: Nanos = 3600 * SECOND;

/// Where a host begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At power-on.
    PowerOn,
    /// When the first pass is over: what comes before is passed as fast as it can be computed.
    Settled,
}

type Ask = Box<dyn for<'a> FnOnce(&mut World<'a>) + Send>;

/// What a question is put to.
#[derive(Debug)]
pub(crate) struct World<'a> {
    /// The host, at the present.
    pub(crate) live: Live<'a>,
    /// Its clock.
    pub(crate) clock: Clock,
    /// Why it stands still: a defect of the lab.
    pub(crate) fell: Option<String>,
    /// How far it is behind its clock, where that goes faster than the host can be computed.
    pub(crate) behind: Nanos,
    board: Board,
}

impl World<'_> {
    /// Goes on towards the present. Returns whether it is reached.
    fn go_on(&mut self) -> bool {
        let now = self.clock.now();
        self.go_to(now)
    }

    fn go_to(&mut self, to: Nanos) -> bool {
        if self.fell.is_some() {
            return true;
        }
        let done = match self.live.advance(to, STRETCH) {
            Ok(done) => done,
            Err(error) => {
                self.fell = Some(error.to_string());
                true
            }
        };
        self.behind = if done { 0 } else { to.saturating_sub(self.live.now()) };
        self.board.put(Shown::of(&self.live));
        done
    }

    /// Goes on to `at` at once, however long that takes, and sets the clock there.
    pub(crate) fn jump(&mut self, at: Nanos) {
        while !self.go_to(at) {}
        self.clock = Clock::new(self.live.now(), self.clock.speed());
    }

    /// Changes the clock's speed from now on.
    pub(crate) fn set_speed(&mut self, speed: f64) {
        self.clock = Clock::new(self.live.now(), speed);
        self.behind = 0;
    }

    /// Whether the host still lives.
    pub(crate) fn alive(&self) -> Result<(), String> {
        self.fell.clone().map_or(Ok(()), Err)
    }
}

/// The host, to whoever asks.
#[derive(Clone, Debug)]
pub(crate) struct Sim {
    asks: Sender<Ask>,
    board: Board,
}

/// The host has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host has ended")]
pub(crate) struct Gone;

impl Sim {
    /// Boots the host that `setup` describes. `progress` is told the simulated time now and then until
    /// it has come to `start`. The thread ends when nobody can ask any more.
    pub(crate) fn boot(
        setup: Setup,
        start: Start,
        speed: f64,
        progress: &mut dyn FnMut(Nanos),
    ) -> Result<(Self, Machine), LabError> {
        enum Told {
            Time(Nanos),
            Up(Box<Machine>),
            Failed(LabError),
        }
        let (asks, inbox) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let board = Board::default();
        let shown = board.clone();
        thread::spawn(move || {
            let mut live = match Live::new(&setup) {
                Ok(live) => live,
                Err(error) => {
                    let _ = tell.send(Told::Failed(error));
                    return;
                }
            };
            while start == Start::Settled && !live.is_settled() && live.now() < BOOT_LIMIT {
                let next = live.next_at().unwrap_or(BOOT_LIMIT).min(BOOT_LIMIT);
                if let Err(error) = live.advance(next, STRETCH) {
                    let _ = tell.send(Told::Failed(error));
                    return;
                }
                let _ = tell.send(Told::Time(live.now()));
            }
            let machine = Box::new(Machine::of(&setup, &live));
            let clock = Clock::new(live.now(), speed);
            let mut world = World { live, clock, fell: None, behind: 0, board: shown };
            world.go_on();
            let _ = tell.send(Told::Up(machine));
            drop(tell);
            live_on(&mut world, &inbox);
        });
        loop {
            match told.recv() {
                Ok(Told::Time(now)) => progress(now),
                Ok(Told::Up(machine)) => return Ok((Self { asks, board }, *machine)),
                Ok(Told::Failed(error)) => return Err(error),
                // The thread panicked, and has said why on standard error.
                Err(mpsc::RecvError) => std::process::abort(),
            }
        }
    }

    /// What changes seldom.
    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask<R: Send + 'static>(
        &self,
        question: impl for<'a> FnOnce(&mut World<'a>) -> R + Send + 'static,
    ) -> Result<R, Gone> {
        let (answer, answered) = mpsc::sync_channel(1);
        let ask = Box::new(move |world: &mut World<'_>| {
            let _ = answer.send(question(world));
        });
        self.asks.send(ask).map_err(|_| Gone)?;
        answered.recv().map_err(|_| Gone)
    }
}

fn live_on(world: &mut World<'_>, inbox: &Receiver<Ask>) {
    loop {
        let done = world.go_on();
        let ask = if done {
            let next = world.live.next_at().filter(|_| world.fell.is_none());
            let nap = next.and_then(|at| world.clock.until(at)).unwrap_or(NAP).min(NAP);
            match inbox.recv_timeout(nap) {
                Ok(ask) => Some(ask),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        } else {
            match inbox.try_recv() {
                Ok(ask) => Some(ask),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return,
            }
        };
        if let Some(ask) = ask {
            let from = Instant::now();
            while !world.go_on() && from.elapsed() < PATIENCE {}
            ask(world);
            world.board.put(Shown::of(&world.live));
        }
    }
}
