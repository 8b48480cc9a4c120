//! Requests: what is asked, and in which format.

use super::encode::Format;

/// Largest head of a request, in bytes. Prometheus sends some 400.
pub(super) const MAX_HEAD: usize = 8192;
const MAX_HEADERS: usize = 64;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// `/metrics`.
    Metrics(Format),
    /// `/`.
    Index,
}

/// A request's head, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// The head has not ended yet.
    More,
    /// A page; whether only its head is wanted.
    Ask {
        /// Which.
        page: Page,
        /// HEAD instead of GET.
        head_only: bool,
    },
    /// An answer without a page: its status.
    Refuse(u16),
}

/// Reads what has come so far.
pub(super) fn read(bytes: &[u8]) -> Request {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Request::More,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Request::Refuse(431);
        }
        Err(_) => return Request::Refuse(400),
        Ok(httparse::Status::Complete(_)) => {}
    }
    let head_only = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Request::Refuse(405),
    };
    let page = match path(request.path.unwrap_or_default()) {
        "/metrics" => Page::Metrics(format(&accepted(request.headers))),
        "/" => Page::Index,
        _ => return Request::Refuse(404),
    };
    Request::Ask { page, head_only }
}

/// The path of a target, also in its absolute form, without the query.
fn path(target: &str) -> &str {
    let origin = target
        .split_once("://")
        .map_or(target, |(_, rest)| rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"));
    origin.split(['?', '#']).next().unwrap_or_default()
}

/// What the Accept headers say together.
fn accepted(headers: &[httparse::Header<'_>]) -> String {
    let accept = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("accept"));
    let values = accept.map(|header| String::from_utf8_lossy(header.value));
    values.collect::<Vec<_>>().join(",")
}

/// OpenMetrics where it is asked for by name and no less than plain text is; else the text format,
/// which everything reads.
fn format(accept: &str) -> Format {
    let (mut open, mut plain) = (0.0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut version) = (1.0, None);
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key.trim().to_ascii_lowercase().as_str() {
                "q" => quality = value.trim().parse::<f64>().unwrap_or(0.0),
                "version" => version = Some(value.trim().trim_matches('"').to_owned()),
                _ => {}
            }
        }
        let best: &mut f64 = match (name.as_str(), version.as_deref()) {
            ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => &mut open,
            ("text/plain", None | Some("0.0.4")) => &mut plain,
            _ => continue,
        };
        *best = best.max(quality);
    }
    if open > 0.0 && open >= plain { Format::OpenMetrics } else { Format::Prometheus }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Request {
        read(text.replace('\n', "\r\n").as_bytes())
    }

    fn metrics(format: Format) -> Request {
        Request::Ask { page: Page::Metrics(format), head_only: false }
    }

    #[test]
    fn pages_methods_and_nonsense() {
        assert_eq!(ask("GET /metrics HTTP/1.1\nHost: x\n\n"), metrics(Format::Prometheus));
        assert_eq!(ask("GET /metrics?x=1 HTTP/1.0\n\n"), metrics(Format::Prometheus));
        assert_eq!(ask("GET http://h:1/metrics HTTP/1.1\n\n"), metrics(Format::Prometheus));
        let index = Request::Ask { page: Page::Index, head_only: true };
        assert_eq!(ask("HEAD / HTTP/1.1\n\n"), index);
        assert_eq!(ask("HEAD http://h HTTP/1.1\n\n"), index);
        for (text, code) in [
            ("POST /metrics HTTP/1.1\n\n", 405),
            ("GET /metrics/ HTTP/1.1\n\n", 404),
            ("GET /../etc/passwd HTTP/1.1\n\n", 404),
            ("\u{16}\u{3}\u{1}\n", 400),
            ("GET  HTTP/1.1\n\n", 400),
            ("GET / HTTP/9.9\n\n", 400),
        ] {
            assert_eq!(ask(text), Request::Refuse(code), "{text}");
        }
        assert_eq!(ask("GET /metrics HT"), Request::More);
        let long = format!("GET /{} HTTP/1.1\n", "x".repeat(MAX_HEAD));
        assert_eq!(ask(&long), Request::Refuse(431));
        let many = format!("GET / HTTP/1.1\n{}\n", "a: b\n".repeat(MAX_HEADERS + 1));
        assert_eq!(ask(&many), Request::Refuse(431));
    }

    #[test]
    fn the_format_is_what_is_wanted_most() {
        let of = |accept: &str| ask(&format!("GET /metrics HTTP/1.1\nAccept: {accept}\n\n"));
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(of(prometheus), metrics(Format::OpenMetrics));
        assert_eq!(
            of("application/openmetrics-text; version=\"1.0.0\""),
            metrics(Format::OpenMetrics)
        );
        for accept in [
            "*/*",
            "text/html",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=0.3, text/plain;q=0.4",
            ",;;=,q=1",
        ] {
            assert_eq!(of(accept), metrics(Format::Prometheus), "{accept}");
        }
    }
}
