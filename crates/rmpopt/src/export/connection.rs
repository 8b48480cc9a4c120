//! One connection: a request, its answer, and the end. No call waits.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::request::{MAX_HEAD, Request, read};

/// How long a client may take to send its request, and again to take the answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long is waited for the client to close after the answer, so that the answer is not lost.
const LINGER: Duration = Duration::from_secs(1);

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Reads,
    Writes,
    Lingers,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    phase: Phase,
    /// When this phase began.
    since: Instant,
    /// The request so far, then the answer.
    bytes: Vec<u8>,
    sent: usize,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, now: Instant) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, phase: Phase::Reads, since: now, bytes: Vec::new(), sent: 0 })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// When its phase began: of a full house the one that has been longest in its phase goes first.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn wants_to_write(&self) -> bool {
        self.phase == Phase::Writes
    }

    /// When it is given up.
    pub(super) fn deadline(&self) -> Instant {
        self.since + if self.phase == Phase::Lingers { LINGER } else { PATIENCE }
    }

    /// Goes on as far as it can without waiting; false when the connection is over.
    pub(super) fn go_on(&mut self, now: Instant, answer: impl FnOnce(Request) -> Vec<u8>) -> bool {
        if self.phase == Phase::Reads {
            match self.read_head() {
                Some(Request::More) => return true,
                Some(request) => {
                    self.bytes = answer(request);
                    (self.phase, self.since) = (Phase::Writes, now);
                }
                None => return false,
            }
        }
        if self.phase == Phase::Writes {
            match self.write() {
                Some(false) => return true,
                Some(true) => {
                    if self.stream.shutdown(Shutdown::Write).is_err() {
                        return false;
                    }
                    self.bytes = Vec::new();
                    (self.phase, self.since) = (Phase::Lingers, now);
                }
                None => return false,
            }
        }
        self.drain()
    }

    /// `None` if the client is gone or closed its side before the request ended.
    fn read_head(&mut self) -> Option<Request> {
        let mut chunk = [0; 2048];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => {
                    self.bytes.extend_from_slice(chunk.get(..n)?);
                    let request = read(&self.bytes);
                    if request != Request::More {
                        return Some(request);
                    }
                    debug_assert!(self.bytes.len() < MAX_HEAD);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Some(Request::More),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    /// Whether all is written.
    fn write(&mut self) -> Option<bool> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Some(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        Some(true)
    }

    /// Throws away what still comes, a little at a time; false once the client has closed.
    fn drain(&mut self) -> bool {
        let mut chunk = [0; 2048];
        for _ in 0..8 {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return e.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }
}
