//! A destination that follows a script: it records every request and answers as it is told.
//!
//! Plain HTTP/1.1 on a loopback port, one thread a connection. Without a script it takes everything, as a good server of
//! its kind would.

use crate::support::gateway::Setup;
use crate::support::server::eventually;
use flate2::read::GzDecoder;
use prost::Message;
use sluicegate::clock;
use sluicegate::wire::{remote_write, remote_write2};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take to arrive, on a busy machine.
const WITHIN: Duration = Duration::from_secs(30);
/// Small waits, so that tests are quick.
const QUEUE: &str = "queue_config: { batch_send_deadline: 5ms, min_backoff: 20ms, max_backoff: 200ms }";

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Path and query.
    pub(crate) target: String,
    /// Header names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// The body, decompressed.
    pub(crate) body: Vec<u8>,
    /// When its body had arrived.
    pub(crate) at: Instant,
    /// What it was answered.
    pub(crate) status: u16,
}

impl Request {
    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Whether it speaks remote write 2.0.
    pub(crate) fn is_version_2(&self) -> bool {
        self.header("content-type").contains("io.prometheus.write.v2.Request")
    }

    /// One line a sample, in the order of the body: `name{label="value"} value timestamp` of remote write, else as sent.
    pub(crate) fn lines(&self) -> Vec<String> {
        if self.header("content-type").starts_with("application/x-protobuf") {
            return if self.is_version_2() { version_2_lines(&self.body) } else { version_1_lines(&self.body) };
        }
        String::from_utf8_lossy(&self.body).lines().map(str::to_owned).collect()
    }
}

fn version_1_lines(body: &[u8]) -> Vec<String> {
    let request = remote_write::messages::WriteRequest::decode(body).expect("a WriteRequest");
    let lines = request.timeseries.iter().flat_map(|series| {
        let name = text(series.labels.iter().map(|label| (label.name.as_str(), label.value.as_str())));
        series.samples.iter().map(move |sample| format!("{name} {} {}", sample.value, sample.timestamp))
    });
    lines.collect()
}

fn version_2_lines(body: &[u8]) -> Vec<String> {
    let request = remote_write2::messages::Request::decode(body).expect("a Request");
    let symbol = |reference: &u32| request.symbols[*reference as usize].as_str();
    let lines = request.timeseries.iter().flat_map(|series| {
        let name = text(series.labels_refs.chunks_exact(2).map(|pair| (symbol(&pair[0]), symbol(&pair[1]))));
        series.samples.iter().map(move |sample| format!("{name} {} {}", sample.value, sample.timestamp))
    });
    lines.collect()
}

fn text<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let (name, others): (Vec<_>, Vec<_>) = labels.partition(|(name, _)| *name == "__name__");
    let others: Vec<_> = others.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let name = name.first().map_or("", |(_, name)| name);
    if others.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", others.join(",")) }
}

/// What to answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    delay: Duration,
    /// Close the connection instead of answering.
    hang_up: bool,
}

/// An answer with that status.
pub(crate) fn status(status: u16) -> Answer {
    Answer { status, ..Answer::default() }
}

/// No answer: the connection is closed.
pub(crate) fn hang_up() -> Answer {
    Answer { hang_up: true, ..Answer::default() }
}

impl Answer {
    /// With a header.
    #[allow(clippy::needless_pass_by_value, reason = "calls read better: a number or a text")]
    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// With the header by which a 2.0 receiver says how many samples it took.
    pub(crate) fn written(self, samples: usize) -> Self {
        self.header("X-Prometheus-Remote-Write-Samples-Written", samples)
    }

    /// With a body.
    pub(crate) fn body(self, body: &str) -> Self {
        Self { body: body.to_owned(), ..self }
    }

    /// After a while.
    pub(crate) fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

type Rule = Box<dyn Fn(&Request) -> Option<Answer> + Send>;

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    script: VecDeque<Answer>,
    rule: Option<Rule>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    open: AtomicUsize,
    open_max: AtomicUsize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the stand-in panicked")
    }
}

/// A destination under the test's control.
pub(crate) struct Destination {
    port: u16,
    block: fn(u16) -> String,
    shared: Arc<Shared>,
}

/// A remote-write receiver that takes 1.0 and 2.0.
pub(crate) fn remote_write() -> Destination {
    Destination::start(0, |port| format!("url: \"http://127.0.0.1:{port}/api/v1/write\""))
}

/// The same on a port that was chosen before.
pub(crate) fn remote_write_at(port: u16) -> Destination {
    Destination::start(port, |port| format!("url: \"http://127.0.0.1:{port}/api/v1/write\""))
}

/// A server that takes whatever is posted to it.
pub(crate) fn http() -> Destination {
    Destination::start(0, |port| format!("url: \"http://127.0.0.1:{port}\""))
}

/// A server for an output of that kind.
pub(crate) fn of(kind: &str) -> Destination {
    if kind == "prometheus_remote_write" { remote_write() } else { http() }
}

impl Destination {
    /// Port 0 is any that is free.
    fn start(port: u16, block: fn(u16) -> String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { port, block, shared }
    }

    /// The URL in the configuration of an output.
    pub(crate) fn url(&self) -> String {
        (self.block)(self.port)
    }

    /// Its address without a path.
    pub(crate) fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its address, as senders write to it.
    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1/write", self.port)
    }

    /// The next requests get these answers, one each.
    pub(crate) fn script(self, answers: impl IntoIterator<Item = Answer>) -> Self {
        self.shared.state().script.extend(answers);
        self
    }

    /// Requests beyond the script are answered by a rule; without an answer of it, with success.
    pub(crate) fn rule(self, rule: impl Fn(&Request) -> Option<Answer> + Send + 'static) -> Self {
        self.shared.state().rule = Some(Box::new(rule));
        self
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// Waits until there were that many requests.
    pub(crate) fn await_requests(&self, count: usize) -> Vec<Request> {
        eventually(WITHIN, || {
            let requests = self.requests();
            if requests.len() >= count { Ok(requests) } else { Err(format!("{} of {count} requests", requests.len())) }
        })
    }

    /// The lines of requests that were answered with success.
    pub(crate) fn lines(&self) -> Vec<String> {
        let requests = self.requests();
        requests.iter().filter(|request| (200..300).contains(&request.status)).flat_map(Request::lines).collect()
    }

    /// Waits until a line was taken that begins so.
    pub(crate) fn expect(&self, line: &str) {
        eventually(WITHIN, || {
            let lines = self.lines();
            if lines.iter().any(|taken| taken.starts_with(line)) {
                Ok(())
            } else {
                Err(format!("no {line:?} in {lines:?}"))
            }
        });
    }

    /// The most requests that were ever being answered at a time.
    pub(crate) fn parallel_max(&self) -> usize {
        self.shared.open_max.load(Ordering::Relaxed)
    }
}

fn serve(stream: &TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    while let Some(mut request) = read(&mut reader) {
        let open = shared.open.fetch_add(1, Ordering::Relaxed) + 1;
        shared.open_max.fetch_max(open, Ordering::Relaxed);
        let answer = {
            let mut state = shared.state();
            let scripted = state.script.pop_front();
            let answer = scripted.or_else(|| state.rule.as_ref()?(&request)).unwrap_or_else(|| success(&request));
            request.status = answer.status;
            state.requests.push(request);
            answer
        };
        thread::sleep(answer.delay);
        shared.open.fetch_sub(1, Ordering::Relaxed);
        if answer.hang_up {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
        let mut head = format!("HTTP/1.1 {} Scripted\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let mut stream = stream;
        if stream.write_all(format!("{head}\r\n{}", answer.body).as_bytes()).is_err() {
            return;
        }
    }
}

/// What a good server answers.
fn success(request: &Request) -> Answer {
    if request.is_version_2() { status(204).written(request.lines().len()) } else { status(204) }
}

/// Reads one request; nothing where the connection ends.
pub(crate) fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        Some(line.trim_end().to_owned())
    };
    let target = line()?.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let header = line()?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).ok()?;
    let body = match headers.get("content-encoding").map(String::as_str) {
        Some("snappy") => snap::raw::Decoder::new().decompress_vec(&bytes).expect("one Snappy block"),
        Some("gzip") => {
            let mut body = Vec::new();
            GzDecoder::new(&*bytes).read_to_end(&mut body).expect("gzip");
            body
        }
        _ => bytes,
    };
    Some(Request { target, headers, body, at: clock::monotonic(), status: 0 })
}

/// Outputs to such destinations.
pub(crate) trait ToDestination {
    /// A remote-write output named `prom`.
    fn to(self, sink: &Destination) -> Self;
    /// An output of that kind and name, with more keys of its block, and of the output itself.
    fn to_kind(self, name: &'static str, kind: &str, sink: &Destination, keys: &str) -> Self;
}

impl ToDestination for Setup {
    fn to(self, sink: &Destination) -> Self {
        self.to_kind("prom", "prometheus_remote_write", sink, "")
    }

    fn to_kind(self, name: &'static str, kind: &str, sink: &Destination, keys: &str) -> Self {
        let queue = if keys.contains("queue_config") { "" } else { QUEUE };
        let inner = [sink.url().as_str(), keys, queue]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(", ");
        self.output(name, &format!("{kind}: {{ {inner} }}"))
    }
}
