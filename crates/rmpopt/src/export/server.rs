//! A small HTTP server: one thread, at most [`MAX_CONNECTIONS`] at a time, each with its time limit.
//!
//! When all places are taken, the connection that has been longest in its phase makes room for a new
//! one: whoever connects and says nothing cannot keep a Prometheus out.

use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connection::Connection;
use super::encode::{Family, Format, Kind, Value};
use super::request::{Page, Request};

/// Connections at a time.
pub(crate) const MAX_CONNECTIONS: usize = 512;
/// A place is not taken from a connection before it had this long.
const GRACE: Duration = Duration::from_millis(100);
/// How long nothing is accepted after the system refused to.
const PAUSE: Duration = Duration::from_millis(100);
/// Statuses that are answered, and their words.
const STATUSES: [(u16, &str); 6] = [
    (200, "OK"),
    (400, "Bad Request"),
    (404, "Not Found"),
    (405, "Method Not Allowed"),
    (431, "Request Header Fields Too Large"),
    (503, "Service Unavailable"),
];

const INDEX: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
    <title>rmpopt export</title></head>\n\
    <body><h1>rmpopt export</h1><p><a href=\"/metrics\">Metrics</a> of this host's RMP and RMPOPT.</p>\
    </body></html>\n";

/// What the server counts of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    answers: [u64; STATUSES.len()],
    evicted: u64,
    expired: u64,
    open: u64,
}

/// Series of [`Served::families`].
#[cfg(test)]
pub(super) const SERVER_SERIES: usize = STATUSES.len() + 3;

impl Served {
    fn families(&self) -> [Family; 3] {
        let answers = STATUSES.iter().zip(self.answers);
        let answers =
            answers.map(|((code, _), n)| (vec![("code", code.to_string())], Value::Whole(n)));
        let ends = [("evicted", self.evicted), ("expired", self.expired)];
        let ends = ends.map(|(why, n)| (vec![("reason", why.to_owned())], Value::Whole(n)));
        [
            Family {
                name: "rmp_http_responses",
                help: "Answers of this server before this one, by status.",
                kind: Kind::Counter,
                samples: answers.collect(),
            },
            Family {
                name: "rmp_http_dropped",
                help: "Connections that were closed without an answer, to make room or for slowness.",
                kind: Kind::Counter,
                samples: ends.to_vec(),
            },
            Family {
                name: "rmp_http_connections",
                help: "Connections that are open.",
                kind: Kind::Gauge,
                samples: vec![(Vec::new(), Value::Whole(self.open))],
            },
        ]
    }
}

/// The server.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    stop: UnixStream,
    connections: Vec<Connection>,
    served: Served,
    accept_from: Option<Instant>,
}

impl Server {
    /// Listens. Anything that comes through `stop`, or its end, ends [`Server::run`].
    pub(crate) fn new(address: SocketAddr, stop: UnixStream) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        stop.set_nonblocking(true)?;
        let connections = Vec::with_capacity(MAX_CONNECTIONS);
        Ok(Self { listener, stop, connections, served: Served::default(), accept_from: None })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until it is told to stop. `metrics` gives the host's part of the page, or `None` while
    /// nothing was read yet.
    pub(crate) fn run(
        &mut self,
        metrics: impl Fn(Format, &mut String) -> Option<()>,
    ) -> std::io::Result<()> {
        loop {
            let (stops, accepts, ready) = self.wait()?;
            let now = Instant::now();
            if stops {
                return Ok(());
            }
            let served = &mut self.served;
            let mut n = 0;
            self.connections.retain_mut(|connection| {
                let is_ready = ready.get(n).copied().unwrap_or(false);
                n += 1;
                // Also one that always has something to say has only so much time.
                if now >= connection.deadline() {
                    served.expired += 1;
                    return false;
                }
                !is_ready || connection.go_on(now, |request| answer(served, request, &metrics))
            });
            if accepts {
                self.accept(now, &metrics);
            }
            self.served.open = self.connections.len() as u64;
        }
    }

    /// Waits until something can be done: whether to stop, whether to accept, which connections.
    fn wait(&mut self) -> std::io::Result<(bool, bool, Vec<bool>)> {
        let now = Instant::now();
        let full_until = (self.connections.len() >= MAX_CONNECTIONS)
            .then(|| self.connections.iter().map(Connection::since).min())
            .flatten()
            .map(|oldest| oldest + GRACE);
        let closed_until = self.accept_from.max(full_until).filter(|until| *until > now);
        let deadlines = self.connections.iter().map(Connection::deadline);
        let first = deadlines.chain(closed_until).min();
        let timeout = first.map(|first| {
            // A millisecond more: a deadline must have passed when it is looked at.
            let wait = first.saturating_duration_since(now) + Duration::from_millis(1);
            Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() }
        });
        let listens = if closed_until.is_none() { PollFlags::IN } else { PollFlags::empty() };
        let mut fds =
            vec![PollFd::new(&self.stop, PollFlags::IN), PollFd::new(&self.listener, listens)];
        fds.extend(self.connections.iter().map(|connection| {
            let wants = if connection.wants_to_write() { PollFlags::OUT } else { PollFlags::IN };
            PollFd::new(connection.stream(), wants)
        }));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok((false, false, Vec::new())),
            Err(errno) => return Err(errno.into()),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let stops = ready.next().unwrap_or(false) && self.told_to_stop();
        let accepts = ready.next().unwrap_or(false);
        Ok((stops, accepts, ready.collect()))
    }

    fn told_to_stop(&self) -> bool {
        let read = (&self.stop).read(&mut [0]);
        !read.is_err_and(|e| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted))
    }

    fn accept(&mut self, now: Instant, metrics: &impl Fn(Format, &mut String) -> Option<()>) {
        // A few at a time, so that those that are there have their turn.
        for _ in 0..64 {
            if self.connections.len() >= MAX_CONNECTIONS && !self.make_room(now) {
                return;
            }
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                // The client was gone before it was met.
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                    ) =>
                {
                    continue;
                }
                Err(_) => {
                    self.accept_from = Some(now + PAUSE);
                    return;
                }
            };
            let served = &mut self.served;
            if let Ok(mut connection) = Connection::new(stream, now)
                && connection.go_on(now, |request| answer(served, request, metrics))
            {
                self.connections.push(connection);
            }
        }
    }

    /// Closes the connection that has been longest in its phase, if it had its time.
    fn make_room(&mut self, now: Instant) -> bool {
        let oldest = self.connections.iter().enumerate().min_by_key(|(_, c)| c.since());
        match oldest {
            Some((n, connection)) if connection.since() + GRACE <= now => {
                self.connections.swap_remove(n);
                self.served.evicted += 1;
                true
            }
            _ => false,
        }
    }
}

fn answer(
    served: &mut Served,
    request: Request,
    metrics: &impl Fn(Format, &mut String) -> Option<()>,
) -> Vec<u8> {
    let (code, kind, body, head_only) = match request {
        Request::Ask { page: Page::Index, head_only } => {
            (200, "text/html; charset=utf-8", INDEX.to_owned(), head_only)
        }
        Request::Ask { page: Page::Metrics(format), head_only } => {
            let mut body = String::new();
            if metrics(format, &mut body).is_some() {
                for family in served.families() {
                    family.write(format, &mut body);
                }
                body.push_str(format.end());
                (200, format.content_type(), body, head_only)
            } else {
                (503, "text/plain; charset=utf-8", "nothing was read yet\n".to_owned(), head_only)
            }
        }
        Request::Refuse(code) => {
            let body = format!("{}\n", reason(code));
            (code, "text/plain; charset=utf-8", body, false)
        }
        Request::More => return Vec::new(),
    };
    for ((status, _), count) in STATUSES.iter().zip(&mut served.answers) {
        *count += u64::from(*status == code);
    }
    let allow = if code == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    let mut bytes = format!(
        "HTTP/1.1 {code} {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}\
         Vary: Accept\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
         Connection: close\r\n\r\n",
        reason(code),
        body.len()
    )
    .into_bytes();
    if !head_only {
        bytes.extend_from_slice(body.as_bytes());
    }
    bytes
}

fn reason(code: u16) -> &'static str {
    STATUSES.iter().find(|(status, _)| *status == code).map_or("", |(_, words)| words)
}
