//! A stand-in for a Wavefront proxy: plain lines and `POST /report` on one port, each line judged as strictly as the proxy
//! judges it, by a reading of its own ([`super::wavefront_line`]).
//!
//! Like the proxy it answers 202 however many lines it refuses; what it refused is asked with [`WavefrontProxy::rejected`].

#![allow(dead_code, reason = "each test program uses its part")]

use super::wavefront_line::{Line, Rules, SAAS, read};
use flate2::read::GzDecoder;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Longest line of a plain connection; a longer one is skipped.
const LINE_BYTES_MAX: usize = 32 * 1024;
/// Methods by whose first letters a connection is taken for HTTP.
const METHODS: [&[u8]; 9] = [b"GE", b"PO", b"PU", b"HE", b"OP", b"PA", b"DE", b"TR", b"CO"];

/// A point that was taken.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    /// Metric name.
    pub(crate) name: String,
    /// Source.
    pub(crate) source: String,
    /// Point tags.
    pub(crate) tags: BTreeMap<String, String>,
    /// Value.
    pub(crate) value: f64,
    /// Time in milliseconds; of arrival where the line had none.
    pub(crate) timestamp_ms: i64,
}

#[derive(Default)]
struct Taken {
    points: Vec<Point>,
    distributions: Vec<Line>,
    rejected: Vec<String>,
    answers: VecDeque<u16>,
    requests: usize,
}

struct Shared {
    rules: Rules,
    judges_age: bool,
    taken: Mutex<Taken>,
    changed: Condvar,
}

/// A listening stand-in; its threads end with the test program.
pub(crate) struct WavefrontProxy {
    port: u16,
    shared: Arc<Shared>,
}

impl WavefrontProxy {
    /// Listens on a free port, with the limits of the vendor's service. Points of any age are taken.
    pub(crate) fn start() -> Self {
        Self::start_with(SAAS, false)
    }

    /// Listens on a free port. Judging the age refuses points older than a year and those of more than a day ahead.
    pub(crate) fn start_with(rules: Rules, judges_age: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Shared { rules, judges_age, taken: Mutex::default(), changed: Condvar::new() });
        let for_threads = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&for_threads);
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { port, shared }
    }

    /// Where it takes requests.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it takes plain lines; the same port.
    pub(crate) fn tcp_url(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The statuses of the next answers, in this order; then 202 again. A request that is not answered with 2xx is not kept.
    pub(crate) fn answer_next(&self, statuses: &[u16]) {
        self.shared.lock().answers.extend(statuses);
    }

    /// Every point taken so far.
    pub(crate) fn points(&self) -> Vec<Point> {
        self.shared.lock().points.clone()
    }

    /// Every distribution taken so far.
    pub(crate) fn distributions(&self) -> Vec<Line> {
        self.shared.lock().distributions.clone()
    }

    /// Every line that was blocked, behind the proxy's code: `WF-400 a:b 1`.
    pub(crate) fn rejected(&self) -> Vec<String> {
        self.shared.lock().rejected.clone()
    }

    /// Requests answered, with whatever status.
    pub(crate) fn requests(&self) -> usize {
        self.shared.lock().requests
    }

    /// Waits until the points are as wanted; true if they came to be in time.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&[Point]) -> bool, timeout: Duration) -> bool {
        let taken = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(taken, timeout, |taken| !wanted(&taken.points));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges the lines of a body; the form is the parameter `f`.
    fn take_lines(&self, body: &str, form: Option<&str>, peer: &str) {
        let mut taken = self.lock();
        for line in body.split('\n').map(|line| line.trim_matches(|c| c <= ' ')).filter(|line| !line.is_empty()) {
            match self.judge(line, form, peer) {
                Ok(read) if read.bin.is_some() => taken.distributions.push(read),
                Ok(Line { name, source, tags, value, timestamp_ms, .. }) => {
                    let timestamp_ms = timestamp_ms.unwrap_or_else(now_ms);
                    taken.points.push(Point { name, source, tags, value, timestamp_ms });
                }
                Err(code) => taken.rejected.push(format!("{code} {line}")),
            }
        }
        drop(taken);
        self.changed.notify_all();
    }

    fn judge(&self, line: &str, form: Option<&str>, peer: &str) -> Result<Line, &'static str> {
        const HOUR: i64 = 3_600_000;
        let read = read(line, &self.rules, peer)?;
        match (form, read.bin) {
            (Some("wavefront"), Some(_)) | (Some("histogram"), None) => return Err("WF-300"),
            _ => {}
        }
        let age = read.timestamp_ms.map_or(0, |timestamp| now_ms() - timestamp);
        if self.judges_age && !(-24 * HOUR + 1..8760 * HOUR).contains(&age) {
            return Err("WF-402");
        }
        // The proxy forwards them, and the backend then drops the whole batch.
        if read.bin.is_none() && !read.value.is_finite() {
            return Err("non-finite");
        }
        Ok(read)
    }
}

fn now_ms() -> i64 {
    sluicegate::clock::now() / 1_000_000
}

fn serve(stream: &TcpStream, shared: &Shared) -> Option<()> {
    let peer = stream.peer_addr().ok()?.ip().to_string();
    let mut first = [0; 2];
    while stream.peek(&mut first).ok()? == 1 {
        thread::sleep(Duration::from_millis(1));
    }
    let mut reader = BufReader::new(stream);
    if METHODS.iter().any(|method| first == *method) {
        while answer(&mut reader, shared, &peer).is_some() {}
        return None;
    }
    if first == [0x1f, 0x8b] {
        return take_stream(&mut BufReader::new(GzDecoder::new(reader)), shared, &peer);
    }
    take_stream(&mut reader, shared, &peer)
}

/// Plain lines. The last one counts only with its line end, and nothing is ever answered.
fn take_stream(reader: &mut impl BufRead, shared: &Shared, peer: &str) -> Option<()> {
    loop {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).ok()?;
        line.pop().filter(|last| *last == b'\n')?;
        if line.len() > LINE_BYTES_MAX {
            shared.lock().rejected.push(format!("too long: a line of {} bytes", line.len()));
        } else {
            shared.take_lines(&String::from_utf8_lossy(&line), None, peer);
        }
    }
}

/// One request and its answer.
fn answer(reader: &mut BufReader<&TcpStream>, shared: &Shared, peer: &str) -> Option<()> {
    let request = read_line(reader).filter(|line| !line.is_empty())?;
    let (mut length, mut gzip, mut chunked, mut expects) = (0, false, false, false);
    loop {
        let line = read_line(reader)?.to_ascii_lowercase();
        match line.split_once(':').map(|(name, value)| (name, value.trim())) {
            None => break,
            Some(("content-length", value)) => length = value.parse().ok()?,
            Some(("content-encoding", value)) => gzip = value == "gzip",
            Some(("transfer-encoding", value)) => chunked = value == "chunked",
            Some(("expect", _)) => expects = true,
            Some(_) => {}
        }
    }
    let mut stream = *reader.get_ref();
    if expects {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let body = if chunked { read_chunks(reader)? } else { read_bytes(reader, length)? };
    let scripted = shared.lock().answers.pop_front();
    let status = match (scripted, plain_text(&body, gzip)) {
        (Some(status), _) if !(200..300).contains(&status) => status,
        (_, None) => 400,
        (scripted, Some(text)) => {
            let form = request.split(['?', '&', ' ']).find_map(|parameter| parameter.strip_prefix("f="));
            shared.take_lines(&text, form, peer);
            scripted.unwrap_or(202)
        }
    };
    shared.lock().requests += 1;
    shared.changed.notify_all();
    let head = format!("HTTP/1.1 {status} Scripted\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()
}

fn plain_text(body: &[u8], gzip: bool) -> Option<String> {
    if !gzip {
        return Some(String::from_utf8_lossy(body).into_owned());
    }
    let mut plain = Vec::new();
    GzDecoder::new(body).read_to_end(&mut plain).ok()?;
    Some(String::from_utf8_lossy(&plain).into_owned())
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
}

fn read_bytes(reader: &mut impl Read, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).ok().map(|()| bytes)
}

fn read_chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let length = usize::from_str_radix(&read_line(reader)?, 16).ok()?;
        body.extend(read_bytes(reader, length)?);
        read_line(reader)?;
        if length == 0 {
            return Some(body);
        }
    }
}
