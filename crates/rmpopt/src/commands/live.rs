//! `rmpopt host`: an emulated host as a live system.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use snp_hostfs::{
    Guest, HostError, Name, NewGuest, Place, Request, SCHEMA_VERSION, Seen, Start, Status, Wanted,
};
use snp_lab::cost::CostModel;
use snp_lab::scenario::{FidelityChoice, Nanos, PolicyName, SECOND, Setup};

use crate::cli::{
    ExecArgs, GuestCommand, GuestStartArgs, HostCommand, NameArg, ShownArgs, TimeArgs, UpArgs,
};
use crate::exit::Failure;
use crate::view::View;
use crate::{costs_input, output, scenario};

/// The name of the host that is meant where none is named.
const DEFAULT_NAME: &str = "host";

/// The command that this process is, also where its file was replaced meanwhile.
const ITSELF: &str = "/proc/self/exe";

/// Runs the command.
pub(crate) fn run(command: &HostCommand) -> Result<ExitCode, Failure> {
    match command {
        HostCommand::Up(args) if args.foreground => serve(args, true),
        HostCommand::Up(args) => up(args),
        HostCommand::Serve(args) => serve(args, false),
        HostCommand::Down(args) => {
            snp_hostfs::down(&place(args)?)?;
            Ok(ExitCode::SUCCESS)
        }
        HostCommand::Status(args) => shown(args, &Request::Status),
        HostCommand::Time(TimeArgs { shown: args, advance, speed }) => {
            shown(args, &Request::Time { advance: *advance, speed: *speed })
        }
        HostCommand::Guest(command) => guest(command),
        HostCommand::Exec(args) => exec(args),
        HostCommand::Watch(args) => {
            snp_hostfs::watch(&place(args)?);
            Ok(ExitCode::SUCCESS)
        }
        HostCommand::Enter(args) => {
            let Some(mut program) = snp_hostfs::program(&args.program) else {
                return Err(Failure::BadInput("expected a program".to_owned()));
            };
            let error = snp_hostfs::enter(&args.root, args.detach, &mut program);
            let HostError::Program { error: why, .. } = &error else { return Err(error.into()) };
            // As shells have it.
            let code = if why.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
            output::error(&error.into());
            Ok(ExitCode::from(code))
        }
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        let message = error.to_string();
        match error {
            HostError::Lab { scenario, error } => super::engine::failure(&scenario, &error),
            HostError::Name(_) | HostError::MountPoint { .. } | HostError::Refused(_) => {
                Self::BadInput(message)
            }
            _ => Self::CannotRead(message),
        }
    }
}

fn place(args: &NameArg) -> Result<Place, Failure> {
    Ok(Place::of(Name::new(&args.name)?)?)
}

/// What is to be emulated.
fn wanted(
    name: &str,
    costs: CostModel,
    policy: Option<PolicyName>,
    seed: u64,
) -> Result<Wanted, Failure> {
    let scenario = scenario::load(name)?;
    let setup = Setup {
        seed,
        policy: policy.or(scenario.policy.name).unwrap_or_default(),
        fidelity: FidelityChoice::Auto,
        costs,
        until: None,
        assumed: Vec::new(),
        scenario,
    };
    Ok(Wanted { setup, start: Start::Settled, speed: 1.0 })
}

// ---- up ----

/// Starts the host in the background and waits until it is ready.
fn up(args: &UpArgs) -> Result<ExitCode, Failure> {
    // What can be known to be wrong is said here.
    place(&args.host)?;
    scenario::load(&args.scenario)?;
    let mut command = Command::new(ITSELF);
    command.args(["host", "serve", &args.scenario, "--name", &args.host.name]);
    command.arg(format!("--speed={}", args.speed)).arg(format!("--seed={}", args.seed));
    let mut option = |name: &str, value: Option<OsString>| {
        if let Some(value) = value {
            command.arg(name).arg(value);
        }
    };
    option("--mount", args.mount.clone().map(Into::into));
    option("--costs", args.costs.clone().map(Into::into));
    option("--policy", args.policy.map(|policy| policy.as_str().into()));
    if args.from_power_on {
        command.arg("--from-power-on");
    }
    let failed = |e: io::Error| Failure::CannotRead(format!("the host cannot be started: {e}"));
    let mut host = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut root = String::new();
    if let Some(told) = host.stdout.take() {
        BufReader::new(told).read_line(&mut root).map_err(failed)?;
    }
    if root.is_empty() {
        // It has said why.
        let code = host.wait().map_err(failed)?.code();
        return Ok(ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(3)));
    }
    output::result(&root)?;
    Ok(ExitCode::SUCCESS)
}

/// Keeps the host until it is to end.
fn serve(args: &UpArgs, foreground: bool) -> Result<ExitCode, Failure> {
    let place = place(&args.host)?;
    let costs = costs_input::load(args.costs.as_deref())?;
    let mut wanted = wanted(&args.scenario, costs, args.policy, args.seed)?;
    wanted.speed = args.speed;
    if args.from_power_on {
        wanted.start = Start::PowerOn;
    }
    let mut watcher = Command::new(ITSELF);
    watcher.args(["host", "watch", "--name", &args.host.name]);
    let mut bar = Bar::new(&wanted);
    let finish = bar.finisher();
    let ready = |root: &Path| {
        finish();
        // The line that whoever started this waits for.
        let mut out = io::stdout().lock();
        let told = writeln!(out, "{}", root.display()).and_then(|()| out.flush());
        if !foreground && told.is_ok() {
            let _ = snp_hostfs::detach();
        }
    };
    snp_hostfs::up(&place, wanted, args.mount.as_deref(), watcher, &mut |now| bar.at(now), ready)?;
    Ok(ExitCode::SUCCESS)
}

/// How far the boot is, if someone is watching.
struct Bar {
    bar: Option<ProgressBar>,
    shown: Option<Instant>,
}

impl Bar {
    fn new(wanted: &Wanted) -> Self {
        let bar = output::stderr_is_watched().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{prefix}: first pass, {msg} simulated")
            {
                bar.set_style(style);
            }
            bar.set_prefix(wanted.setup.scenario.name.clone());
            bar
        });
        Self { bar, shown: None }
    }

    fn at(&mut self, now: Nanos) {
        let Some(bar) = &self.bar else { return };
        if self.shown.is_none_or(|at| at.elapsed() > Duration::from_millis(100)) {
            self.shown = Some(Instant::now());
            bar.set_message(format!("{:.2} s", now as f64 / SECOND as f64));
            bar.tick();
        }
    }

    fn finisher(&self) -> impl FnOnce() + use<> {
        let bar = self.bar.clone();
        move || {
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        }
    }
}

// ---- what is asked of a host that is up ----

fn view() -> View {
    View { unicode: output::locale_is_utf8() }
}

fn shown(args: &ShownArgs, request: &Request) -> Result<ExitCode, Failure> {
    let status: Status = snp_hostfs::call(&place(&args.host)?, request)?;
    let text = if args.json { output::json(&status)? } else { view().live_status(&status) };
    output::result(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn guest(command: &GuestCommand) -> Result<ExitCode, Failure> {
    let (args, request) = match command {
        GuestCommand::Start(args) => (&args.shown, Request::Start(new_guest(args))),
        GuestCommand::Stop { guest, shown } => (shown, Request::Stop { name: guest.clone() }),
        GuestCommand::List(args) => (args, Request::Guests),
    };
    let place = place(&args.host)?;
    let guests: Vec<Guest> = match request {
        Request::Guests => snp_hostfs::call(&place, &request)?,
        // A guest that is gone at once is none.
        _ => snp_hostfs::call::<Option<Guest>>(&place, &request)?.into_iter().collect(),
    };
    let text = if args.json {
        output::json(&json!({ "schema_version": SCHEMA_VERSION, "guests": guests }))?
    } else {
        view().live_guests(&guests)
    };
    output::result(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn new_guest(args: &GuestStartArgs) -> NewGuest {
    NewGuest {
        name: args.guest.clone(),
        kind: args.kind.as_str().to_owned(),
        memory: args.memory,
        placement: args.placement.as_str().to_owned(),
        vcpus: args.vcpus,
        node: args.node,
    }
}

// ---- exec ----

fn exec(args: &ExecArgs) -> Result<ExitCode, Failure> {
    let entering = |root: &Path, detach: bool| {
        let mut command = Command::new(ITSELF);
        command.args(["host", "enter", "--root"]).arg(root);
        if detach {
            command.arg("--detach");
        }
        command.arg("--").args(&args.program);
        command
    };
    let running = match (&args.name, &args.scenario) {
        (Some(name), _) => Some(Place::of(Name::new(name)?)?),
        (None, Some(_)) => None,
        // Without a folder for sockets no host can be up.
        (None, None) => Place::of(Name::new(DEFAULT_NAME)?).ok().filter(Place::is_up),
    };
    if let Some(place) = running {
        let root = snp_hostfs::root_of(&place)?;
        let code = snp_hostfs::exec(Seen::Running(root), entering, &mut |_| {}, || {})?;
        return Ok(ExitCode::from(code));
    }
    let name = args.scenario.as_deref().unwrap_or(scenario::DEFAULT);
    let mut wanted = wanted(name, CostModel::default(), None, 1)?;
    wanted.speed = args.speed;
    let mut bar = Bar::new(&wanted);
    let finish = bar.finisher();
    let seen = Seen::Own(Box::new(wanted));
    let code = snp_hostfs::exec(seen, entering, &mut |now| bar.at(now), finish)?;
    Ok(ExitCode::from(code))
}
