//! The control socket: one line of JSON asks, one line answers.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use snp_lab::LiveGuest;
use snp_lab::scenario::{Grain, GuestKind, GuestSpec, Nanos, Placement};

use crate::clock::MAX_SPEED;
use crate::error::{Doing as _, HostError};
use crate::place::Place;
use crate::sim::{Sim, World};

/// The longest line.
const MAX_LINE: u64 = 1 << 20;
/// How long a line may take to come.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// The furthest that time is brought forward at once: a day.
pub const MAX_ADVANCE: Nanos = 86_400_000_000_000;
/// Version of [`Status`] and of guests as JSON.
pub const SCHEMA_VERSION: u32 = 1;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// How it is: [`Status`].
    Status,
    /// It ends.
    Down,
    /// Its guests: a list of [`Guest`].
    Guests,
    /// Launches a guest now: [`Guest`].
    Start(NewGuest),
    /// Shuts one down.
    Stop {
        /// Which.
        name: String,
    },
    /// Brings time forward at once, then sets the clock's speed: [`Status`].
    Time {
        /// By how much, in nanoseconds of simulated time.
        advance: Option<Nanos>,
        /// Simulated seconds a second; 0 stops the clock.
        speed: Option<f64>,
    },
}

/// A guest that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGuest {
    /// Its name; no other guest that is there has it.
    pub name: String,
    /// `snp` or `ordinary`.
    pub kind: String,
    /// Bytes, whole pages of its placement.
    pub memory: u64,
    /// How its memory lies: `4k`, `2m`, `1g`, `4k-scattered`, `2m-scattered`.
    pub placement: String,
    /// CPUs.
    pub vcpus: u32,
    /// NUMA node it is bound to.
    pub node: Option<u32>,
}

impl NewGuest {
    fn spec(&self) -> Result<GuestSpec, String> {
        let wrong = |e: snp_lab::scenario::UnknownChoice| e.to_string();
        let name: Vec<char> = self.name.chars().collect();
        if !(1..=64).contains(&name.len()) || name.iter().any(|c| c.is_control()) {
            return Err("a guest's name has 1 to 64 characters that can be printed".to_owned());
        }
        Ok(GuestSpec {
            name: self.name.clone(),
            kind: self.kind.parse::<GuestKind>().map_err(wrong)?,
            memory: self.memory,
            placement: self.placement.parse::<Placement>().map_err(wrong)?,
            at: 0,
            until: None,
            vcpus: self.vcpus,
            node: self.node,
            touched: self.memory,
            convert_rate: None,
            accept: Grain::default(),
        })
    }
}

/// A guest as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Its name.
    pub name: String,
    /// `snp` or `ordinary`.
    pub kind: String,
    /// `future`, `launching`, `running`, `ending`.
    pub state: String,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Of it, private.
    pub private_bytes: u64,
    /// How its memory lies.
    pub placement: String,
    /// CPUs.
    pub vcpus: u32,
    /// NUMA node it is bound to.
    pub node: Option<u32>,
    /// ASID of an SNP guest that has one.
    pub asid: Option<u32>,
}

impl Guest {
    fn of(guest: &LiveGuest) -> Self {
        let spec = &guest.spec;
        Self {
            name: spec.name.clone(),
            kind: spec.kind.as_str().to_owned(),
            state: guest.life.as_str().to_owned(),
            memory_bytes: spec.memory,
            private_bytes: guest.private_bytes,
            placement: spec.placement.as_str().to_owned(),
            vcpus: spec.vcpus,
            node: spec.node,
            asid: (guest.asid > 0).then_some(guest.asid),
        }
    }
}

/// How a host is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Always true.
    pub emulated: bool,
    /// The host's name.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Where it is mounted.
    pub root: PathBuf,
    /// The scenario.
    pub scenario: String,
    /// The policy.
    pub policy: String,
    /// Why RMPOPT is not used on it.
    pub refused: Option<String>,
    /// Simulated nanoseconds since power-on.
    pub now_ns: Nanos,
    /// Simulated seconds a second.
    pub speed: f64,
    /// Simulated nanoseconds by which it is behind its clock.
    pub behind_ns: Nanos,
    /// SNP is up.
    pub snp_up: bool,
    /// The policy has looked at every region since SNP came up.
    pub first_pass_over: bool,
    /// Share of pairs of core and region that are optimised, 0 to 1.
    pub optimised: Option<f64>,
    /// The same of pairs whose region holds no assigned page.
    pub optimisable: Option<f64>,
    /// Guests that run.
    pub guests: u64,
    /// Of them, SNP guests.
    pub snp_guests: u64,
    /// CPUs that are online.
    pub cpus_online: u64,
    /// Breaches of laws that the policy claims.
    pub law_breaches: u64,
    /// Writes of `RMPOPT_BASE` by others than the driver that changed it.
    pub foreign_writes: u64,
    /// Why the host stands still, if it does: a defect of the emulation.
    pub fell: Option<String>,
    /// The latest of what happened: seconds, and what.
    pub notes: Vec<(f64, String)>,
}

/// What of a host is told with its status and never changes.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) name: String,
    pub(crate) root: PathBuf,
    pub(crate) scenario: String,
    pub(crate) policy: String,
}

fn status(told: &Told, world: &World<'_>) -> Status {
    const NOTES: usize = 8;
    let live = &world.live;
    let lives = live.status();
    let guests = live.guests();
    let there = guests.iter().filter(|guest| guest.life != snp_lab::LiveLife::Future);
    let snp = there.clone().filter(|guest| guest.spec.kind == GuestKind::Snp).count();
    let skip = live.notes().len().saturating_sub(NOTES);
    let topology = live.topology();
    Status {
        schema_version: SCHEMA_VERSION,
        emulated: true,
        name: told.name.clone(),
        pid: std::process::id(),
        root: told.root.clone(),
        scenario: told.scenario.clone(),
        policy: told.policy.clone(),
        refused: live.refused().map(str::to_owned),
        now_ns: lives.now,
        speed: world.clock.speed(),
        behind_ns: world.behind,
        snp_up: lives.snp_up,
        first_pass_over: lives.first_pass_over,
        optimised: lives.optimised,
        optimisable: lives.optimisable,
        guests: there.count() as u64,
        snp_guests: snp as u64,
        cpus_online: topology.iter_cpus().filter(|&cpu| live.is_online(cpu)).count() as u64,
        law_breaches: lives.law_breaches,
        foreign_writes: lives.foreign_writes,
        fell: world.fell.clone(),
        notes: live.notes().skip(skip).map(|note| (note.t_s, note.text.clone())).collect(),
    }
}

/// An answer, or a refusal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Done(serde_json::Value),
    Refused(String),
}

fn json(value: impl Serialize) -> Result<serde_json::Value, String> {
    serde_json::to_value(value).map_err(|error| error.to_string())
}

fn answer(told: &Told, sim: &Sim, request: Request) -> Result<serde_json::Value, String> {
    let told = told.clone();
    let question = move |world: &mut World<'_>| match request {
        Request::Status | Request::Down => json(status(&told, world)),
        Request::Guests => json(world.live.guests().iter().map(Guest::of).collect::<Vec<_>>()),
        Request::Start(guest) => {
            world.alive()?;
            let number = world.live.start_guest(guest.spec()?)?;
            json(world.live.guests().iter().find(|guest| guest.number == number).map(Guest::of))
        }
        Request::Stop { name } => {
            world.alive()?;
            world.live.stop_guest(&name)?;
            json(world.live.guests().iter().find(|guest| guest.spec.name == name).map(Guest::of))
        }
        Request::Time { advance, speed } => {
            world.alive()?;
            if advance.is_some_and(|by| by > MAX_ADVANCE) {
                return Err("time can be brought forward by one day at once".to_owned());
            }
            if speed.is_some_and(|speed| !(0.0..=MAX_SPEED).contains(&speed)) {
                return Err(format!("expected a speed of 0 to {MAX_SPEED}"));
            }
            if let Some(by) = advance {
                world.jump(world.live.now().saturating_add(by));
            }
            if let Some(speed) = speed {
                world.set_speed(speed);
            }
            json(status(&told, world))
        }
    };
    sim.ask(question).map_err(|gone| gone.to_string())?
}

/// Listens until the process ends. `Down` goes to `stop`.
pub(crate) fn listen(
    place: &Place,
    told: &Told,
    sim: &Sim,
    stop: &Sender<()>,
) -> Result<(), HostError> {
    let path = place.socket();
    let listener = UnixListener::bind(&path).doing(|| path.display().to_string())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .doing(|| path.display().to_string())?;
    let (told, sim, stop) = (told.clone(), sim.clone(), stop.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (told, sim, stop) = (told.clone(), sim.clone(), stop.clone());
            // A client that goes away is no concern of the host's.
            thread::spawn(move || serve(stream, &told, &sim, &stop));
        }
    });
    Ok(())
}

fn serve(mut stream: UnixStream, told: &Told, sim: &Sim, stop: &Sender<()>) -> io::Result<()> {
    stream.set_read_timeout(Some(LINE_TIMEOUT))?;
    stream.set_write_timeout(Some(LINE_TIMEOUT))?;
    let mut line = String::new();
    BufReader::new((&stream).take(MAX_LINE)).read_line(&mut line)?;
    let request: Result<Request, String> = serde_json::from_str(&line).map_err(|e| e.to_string());
    let down = matches!(request, Ok(Request::Down));
    let answer = match request.and_then(|request| answer(told, sim, request)) {
        Ok(value) => Answer::Done(value),
        Err(why) => Answer::Refused(why),
    };
    let text = serde_json::to_string(&answer)? + "\n";
    let sent = stream.write_all(text.as_bytes());
    if down {
        let _ = stop.send(());
    }
    sent
}

/// Asks the host of that place.
pub fn call<T: for<'de> Deserialize<'de>>(
    place: &Place,
    request: &Request,
) -> Result<T, HostError> {
    let down = || HostError::Down { name: place.name().as_str().to_owned() };
    if !place.is_up() {
        // One that was killed may have left its socket.
        place.clean_if_down();
        return Err(down());
    }
    let mut stream = UnixStream::connect(place.socket()).map_err(|_| down())?;
    let text = serde_json::to_string(request).map_err(|e| HostError::Answer(e.to_string()))? + "\n";
    stream.write_all(text.as_bytes()).doing(|| "the host's socket".to_owned())?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).doing(|| "the host's socket".to_owned())?;
    let answer = serde_json::from_str(&line).map_err(|e| HostError::Answer(e.to_string()))?;
    match answer {
        Answer::Refused(why) => Err(HostError::Refused(why)),
        Answer::Done(value) => {
            serde_json::from_value(value).map_err(|e| HostError::Answer(e.to_string()))
        }
    }
}

/// Takes the host of that place down, and waits until nothing of it is left.
pub fn down(place: &Place) -> Result<(), HostError> {
    const STEP: Duration = Duration::from_millis(20);
    const STEPS: u32 = 500;
    let _: serde_json::Value = call(place, &Request::Down)?;
    for _ in 0..STEPS {
        if !place.is_up() {
            return Ok(());
        }
        thread::sleep(STEP);
    }
    Err(HostError::Refused("the host does not end".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_as_lines() {
        let start = "{\"op\":\"start\",\"name\":\"a\",\"kind\":\"snp\",\"memory\":4096,\
            \"placement\":\"4k\",\"vcpus\":1,\"node\":null}";
        let Ok(Request::Start(guest)) = serde_json::from_str(start) else { panic!("{start}") };
        assert_eq!(guest.spec().unwrap().placement, Placement::Pages4K);
        for wrong in ["{}", "{\"op\":\"x\"}", "{\"op\":\"stop\"}", "[]", ""] {
            assert!(serde_json::from_str::<Request>(wrong).is_err(), "{wrong}");
        }
        for (name, kind) in [("", "snp"), ("a\n", "snp"), ("a", "sev")] {
            let guest = NewGuest { name: name.into(), kind: kind.into(), ..guest.clone() };
            assert!(guest.spec().is_err(), "{name:?} {kind}");
        }
    }
}
