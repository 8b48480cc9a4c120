//! A running `rmpopt export --listen`, and the little HTTP a test needs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Longest wait for anything: a loaded machine is no failure.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A process that is ended with the test, however the test ends.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An exporter and its address.
#[derive(Debug)]
pub(crate) struct Exporter {
    pub(crate) process: Running,
    pub(crate) address: SocketAddr,
}

impl Exporter {
    /// Starts one at a free port of this machine.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_rmpopt"))
            .args(["export", "--listen", "0"])
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("note: metrics at http://");
        let address = address.and_then(|rest| rest.strip_suffix("/metrics")).unwrap_or_else(|| {
            panic!("no address: {line}");
        });
        // What it says later must not block it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { address: address.parse().unwrap(), process: Running(process) }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// The metrics page in the text format.
    pub(crate) fn metrics(&self) -> String {
        get(self.address, "/metrics", "")
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(mut self, signal: &str) -> ExitStatus {
        let pid = self.process.0.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        self.process.0.wait().unwrap()
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Sends bytes and returns all that comes until the other side closes.
pub(crate) fn exchange(mut stream: TcpStream, request: &[u8]) -> String {
    stream.write_all(request).unwrap();
    rest(stream)
}

/// All that still comes.
pub(crate) fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset ends it as a close does.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// The body of a page that must be there. HTTP/1.0: no server sends it in chunks.
pub(crate) fn get(address: SocketAddr, target: &str, headers: &str) -> String {
    let request = format!("GET {target} HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n");
    let answer = exchange(connect(address), request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    assert!(head.contains(" 200 OK"), "{target}: {answer}");
    body.to_owned()
}

/// Waits until `found` gives something.
pub(crate) fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < LIMIT, "waited for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
