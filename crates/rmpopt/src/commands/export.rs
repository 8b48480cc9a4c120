//! `rmpopt export`: a host's metrics over HTTP, as a file, or once on standard output.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::atomic;
use crate::cli::ExportArgs;
use crate::exit::Failure;
use crate::export::{Format, Kept, Server};
use crate::output;

/// How often the host is read, unless it is said; with `--deep` every CPU is interrupted each time.
const INTERVAL: Duration = Duration::from_secs(15);
const DEEP_INTERVAL: Duration = Duration::from_secs(300);
/// How long the end waits for a reading that is under way.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// Who may read a textfile: everybody, as node_exporter runs as a user of its own.
const MODE: u32 = 0o644;

/// Runs the command until it is interrupted, or once.
pub(crate) fn run(args: &ExportArgs) -> Result<ExitCode, Failure> {
    let kept = Arc::new(Kept::new(args.source.clone()));
    // The first reading is made here: what is wrong with the source is said at once.
    kept.refresh()?;
    if let Some(file) = &args.textfile {
        write(&kept, file)?;
    }
    if args.listen.is_none() && (args.once || args.textfile.is_none()) {
        if args.textfile.is_none() {
            let format = if args.openmetrics { Format::OpenMetrics } else { Format::Prometheus };
            output::result(&kept.file(format).unwrap_or_default())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (stop, stopped) = UnixStream::pair().map_err(|e| failed("a socket", &e))?;
    let (end, ends) = channel();
    super::interrupt::on_signal(move || {
        // Both ends may be gone already.
        let _ = end.send(());
        let _ = stop.shutdown(std::net::Shutdown::Both);
    })?;
    let interval = args.interval.map_or_else(
        || if args.source.deep { DEEP_INTERVAL } else { INTERVAL },
        Duration::from_nanos,
    );
    let Some(address) = args.listen else {
        refresh(&kept, args.textfile.as_deref(), interval, &ends);
        return Ok(ExitCode::SUCCESS);
    };
    serve(address, stopped, &kept, args.textfile.clone(), interval, ends)?;
    Ok(ExitCode::SUCCESS)
}

/// Answers until the end, while another thread keeps the sample fresh.
fn serve(
    address: SocketAddr,
    stopped: UnixStream,
    kept: &Arc<Kept>,
    textfile: Option<std::path::PathBuf>,
    interval: Duration,
    ends: Receiver<()>,
) -> Result<(), Failure> {
    let at = |e: &std::io::Error| failed(&address.to_string(), e);
    let mut server = Server::new(address, stopped).map_err(|e| at(&e))?;
    let address = server.address().map_err(|e| at(&e))?;
    output::note(&format!("metrics at http://{address}/metrics"));
    if !address.ip().is_loopback() {
        output::note("whoever reaches this address can read them: there is no password and no TLS");
    }
    let (over, is_over): (Sender<()>, _) = channel();
    let for_thread = Arc::clone(kept);
    std::thread::Builder::new()
        .name("sampler".to_owned())
        .spawn(move || {
            refresh(&for_thread, textfile.as_deref(), interval, &ends);
            drop(over);
        })
        .map_err(|e| failed("a thread", &e))?;
    server.run(|format, out| kept.page(format, out)).map_err(|e| at(&e))?;
    // A reading that hangs, as on a file system that is gone, does not hold the end up.
    let _ = is_over.recv_timeout(LAST_WAIT);
    Ok(())
}

/// Reads the host again and again. A failure is said when it is a new one, and counted.
fn refresh(kept: &Kept, textfile: Option<&Path>, interval: Duration, ends: &Receiver<()>) {
    let mut said: Option<Failure> = None;
    let mut due = Instant::now() + interval;
    loop {
        let wait = due.saturating_duration_since(Instant::now());
        if !matches!(ends.recv_timeout(wait), Err(RecvTimeoutError::Timeout)) {
            return;
        }
        // If a reading takes longer than the interval, the next one is not made up for.
        due = (due + interval).max(Instant::now());
        // The file is written after a failed reading too: it counts failures.
        let result = kept.refresh();
        let result = textfile.map_or(Ok(()), |file| write(kept, file)).and(result);
        match result {
            Ok(()) => said = None,
            Err(failure) => {
                if said.as_ref() != Some(&failure) {
                    output::error(&failure);
                }
                said = Some(failure);
            }
        }
    }
}

fn write(kept: &Kept, file: &Path) -> Result<(), Failure> {
    let text = kept.file(Format::Prometheus).unwrap_or_default();
    atomic::replace(file, text.as_bytes(), Some(MODE))
}

fn failed(what: &str, error: &std::io::Error) -> Failure {
    Failure::CannotRead(format!("{what}: {error}"))
}
