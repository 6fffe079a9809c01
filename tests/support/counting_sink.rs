//! A destination that decodes and judges every sample, counts how often it came, and fails as it is told.
//!
//! It speaks what the three kinds of outputs speak: remote write 1.0 and 2.0, line protocol, Wavefront lines.

use crate::support::destination::{self, Request};
use crate::support::numbered::{self, is_finite};
use crate::support::server::free_port;
use crate::support::wavefront_line::{self, PROXY};
use prost::Message;
use sluicegate::clock;
use sluicegate::wire::{remote_write, remote_write2};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often a silent sink looks whether it should still be silent.
const POLL: Duration = Duration::from_millis(5);
/// Wrong samples that are kept to be shown.
const WRONG_MAX: usize = 10;
/// Small waits, so that tests are quick. A request that is not answered ends soon.
const QUEUE: &str =
    "queue_config: { batch_send_deadline: 20ms, max_samples_per_send: 500, min_backoff: 10ms, max_backoff: 200ms }";

/// What a sink speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    RemoteWrite,
    Influx,
    Wavefront,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::RemoteWrite, Self::Influx, Self::Wavefront];

    /// Whether it can carry that sample.
    pub(crate) fn carries(self, client: u64, number: u64) -> bool {
        self == Self::RemoteWrite || is_finite(client, number)
    }
}

/// What a sink does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Takes them.
    Takes,
    /// Takes most. Each so-many-th fails, in one of all the ways a request can fail without having been taken.
    FailsEvery(u64),
    /// Answers with that status and takes nothing.
    Answers(u16),
    /// Reads them and never answers.
    Silent,
    /// Closes the connection in the middle of the body.
    CutsOff,
}

/// A sample that came for the first time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) client: u64,
    pub(crate) number: u64,
    pub(crate) at: Instant,
}

#[derive(Default)]
struct Seen {
    /// How often each number of a client came.
    times: BTreeMap<u64, Vec<u16>>,
    duplicates: u64,
    wrong: Vec<String>,
    arrivals: Option<Vec<Arrival>>,
}

struct Shared {
    kind: Kind,
    mode: Mutex<Mode>,
    requests: AtomicU64,
    seen: Mutex<Seen>,
}

/// A sink; its threads end with the test program.
pub(crate) struct CountingSink {
    port: u16,
    shared: Arc<Shared>,
}

impl CountingSink {
    /// One that listens.
    pub(crate) fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let sink = Self::at(listener.local_addr().expect("bound").port(), kind);
        sink.listen(listener);
        sink
    }

    /// One that has a port and does not listen: connections are refused.
    pub(crate) fn absent(kind: Kind) -> Self {
        Self::at(free_port(), kind)
    }

    /// Begins to listen.
    pub(crate) fn appear(&self) {
        self.listen(TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).expect("its port is free"));
    }

    fn at(port: u16, kind: Kind) -> Self {
        let (mode, requests, seen) = (Mutex::new(Mode::Takes), AtomicU64::new(0), Mutex::default());
        Self { port, shared: Arc::new(Shared { kind, mode, requests, seen }) }
    }

    fn listen(&self, listener: TcpListener) {
        let accepting = Arc::clone(&self.shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                thread::spawn(move || while_open(&stream, &shared));
            }
        });
    }

    /// From now on it does that.
    pub(crate) fn set(&self, mode: Mode) {
        *self.shared.mode() = mode;
    }

    /// Keeps the moment at which each sample comes first.
    pub(crate) fn timed(self) -> Self {
        self.shared.seen().arrivals = Some(Vec::new());
        self
    }

    /// The samples that came since the last look, in the order of their coming.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.shared.seen().arrivals.replace(Vec::new()).expect("a timed sink")
    }

    /// The output that sends to it, for a configuration, with more keys of its block.
    pub(crate) fn block_with(&self, keys: &str) -> String {
        let url = format!("http://127.0.0.1:{}", self.port);
        match self.shared.kind {
            Kind::RemoteWrite => format!("prometheus_remote_write: {{ url: \"{url}/api/v1/write\", {keys} }}"),
            Kind::Influx => format!("influxdb: {{ url: \"{url}\", database: x, {keys} }}"),
            Kind::Wavefront => format!("wavefront: {{ url: \"{url}\", source: here, {keys} }}"),
        }
    }

    /// The output that sends to it, in small requests.
    pub(crate) fn block(&self) -> String {
        self.block_with(QUEUE)
    }

    /// What it speaks.
    pub(crate) fn kind(&self) -> Kind {
        self.shared.kind
    }

    /// Different samples that came.
    pub(crate) fn distinct(&self) -> u64 {
        self.count(|_, _| true)
    }

    /// Different samples that came and that the condition holds for.
    pub(crate) fn count(&self, wanted: impl Fn(u64, u64) -> bool) -> u64 {
        let seen = self.shared.seen();
        let of = |(client, times): (&u64, &Vec<u16>)| {
            times.iter().enumerate().filter(|(number, times)| **times > 0 && wanted(*client, *number as u64)).count()
        };
        seen.times.iter().map(of).sum::<usize>() as u64
    }

    /// How often that sample came.
    pub(crate) fn times(&self, client: u64, number: u64) -> u16 {
        self.shared.seen().times.get(&client).and_then(|times| times.get(number as usize)).copied().unwrap_or(0)
    }

    /// Samples that came once more than they had to, all together.
    pub(crate) fn duplicates(&self) -> u64 {
        self.shared.seen().duplicates
    }

    /// Samples that nobody posted so; only the first few are kept.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.shared.seen().wrong.clone()
    }

    /// Requests so far, whatever became of them.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn mode(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, request: &Request) -> usize {
        let samples = match self.kind {
            Kind::RemoteWrite if request.is_version_2() => remote_write_2(&request.body),
            Kind::RemoteWrite => remote_write_1(&request.body),
            Kind::Influx => lines(&request.body, influx_line),
            Kind::Wavefront => lines(&request.body, wavefront),
        };
        let now = clock::monotonic();
        let count = samples.len();
        let mut seen = self.seen();
        for sample in samples {
            match sample {
                Ok((client, number)) => seen.note(client, number, now),
                Err(wrong) if seen.wrong.len() < WRONG_MAX => seen.wrong.push(wrong),
                Err(_) => {}
            }
        }
        count
    }
}

impl Seen {
    fn note(&mut self, client: u64, number: u64, at: Instant) {
        // Else a time far off would ask for all memory.
        const NUMBERS_MAX: u64 = 1 << 28;
        if number >= NUMBERS_MAX {
            self.wrong.push(format!("client {client} never posted a number {number}"));
            return;
        }
        let times = self.times.entry(client).or_default();
        if times.len() <= number as usize {
            times.resize(number as usize + 1, 0);
        }
        let times = &mut times[number as usize];
        self.duplicates += u64::from(*times > 0);
        if *times == 0
            && let Some(arrivals) = &mut self.arrivals
        {
            arrivals.push(Arrival { client, number, at });
        }
        *times += 1;
    }
}

/// Answers the requests of a connection until it ends.
fn while_open(stream: &TcpStream, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        if reader.fill_buf().ok()?.is_empty() {
            return None;
        }
        let turn = 1 + shared.requests.fetch_add(1, Ordering::Relaxed);
        let mode = match *shared.mode() {
            Mode::FailsEvery(every) if turn.is_multiple_of(every) => match turn / every % 5 {
                0 => Mode::Answers(500),
                1 => Mode::Answers(503),
                2 => Mode::Answers(429),
                3 => Mode::CutsOff,
                _ => Mode::Silent,
            },
            Mode::FailsEvery(_) => Mode::Takes,
            mode => mode,
        };
        if mode == Mode::CutsOff {
            let _ = reader.read(&mut [0; 100]);
            return stream.shutdown(Shutdown::Both).ok();
        }
        let request = destination::read(&mut reader)?;
        let mut stream = stream;
        match mode {
            Mode::Answers(status) => {
                write!(stream, "HTTP/1.1 {status} Told\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n").ok()?;
            }
            Mode::Silent => {
                // Among others it is a connection that breaks before the answer.
                while *shared.mode() == Mode::Silent {
                    thread::sleep(POLL);
                }
                return stream.shutdown(Shutdown::Both).ok();
            }
            _ => {
                let samples = shared.take(&request);
                let written = if request.is_version_2() {
                    format!("X-Prometheus-Remote-Write-Samples-Written: {samples}\r\n")
                } else {
                    String::new()
                };
                write!(stream, "HTTP/1.1 204 Taken\r\n{written}Content-Length: 0\r\n\r\n").ok()?;
            }
        }
    }
}

type Judged = Result<(u64, u64), String>;

fn remote_write_1(body: &[u8]) -> Vec<Judged> {
    let request = match remote_write::messages::WriteRequest::decode(body) {
        Ok(request) => request,
        Err(error) => return vec![Err(error.to_string())],
    };
    let mut samples = Vec::new();
    for series in &request.timeseries {
        let labels = series.labels.iter().map(|label| (label.name.as_str(), label.value.as_str())).collect();
        samples.extend(series.samples.iter().map(|sample| judge(&labels, sample.timestamp, sample.value)));
    }
    samples
}

fn remote_write_2(body: &[u8]) -> Vec<Judged> {
    let request = match remote_write2::messages::Request::decode(body) {
        Ok(request) => request,
        Err(error) => return vec![Err(error.to_string())],
    };
    let symbol = |reference: u32| request.symbols.get(reference as usize).map_or("", String::as_str);
    let mut samples = Vec::new();
    for series in &request.timeseries {
        let labels = series.labels_refs.chunks_exact(2).map(|pair| (symbol(pair[0]), symbol(pair[1]))).collect();
        samples.extend(series.samples.iter().map(|sample| judge(&labels, sample.timestamp, sample.value)));
    }
    samples
}

fn judge(labels: &BTreeMap<&str, &str>, timestamp: i64, value: f64) -> Judged {
    let label = |name| labels.get(name).copied().unwrap_or_default();
    numbered::judge(label("__name__"), label("client"), label("series"), timestamp, value)
}

fn lines(body: &[u8], read: fn(&str) -> Judged) -> Vec<Judged> {
    match std::str::from_utf8(body) {
        Ok(text) => text.lines().map(read).collect(),
        Err(error) => vec![Err(error.to_string())],
    }
}

/// Read by the parser of InfluxDB 3.
fn influx_line(text: &str) -> Judged {
    use influxdb_line_protocol::{FieldValue, parse_lines};
    let wrong = || format!("not a numbered sample: {text}");
    let line = parse_lines(text).next().and_then(Result::ok).ok_or_else(wrong)?;
    let tag = |name: &str| line.tag_value(name).map(ToString::to_string).unwrap_or_default();
    let [(field, FieldValue::F64(value))] = line.field_set.as_slice() else { return Err(wrong()) };
    let time = line.timestamp.filter(|time| time % 1_000_000 == 0 && field.as_str() == "value").ok_or_else(wrong)?;
    numbered::judge(line.series.measurement.as_str(), &tag("client"), &tag("series"), time / 1_000_000, *value)
}

fn wavefront(text: &str) -> Judged {
    let line = wavefront_line::read(text, &PROXY, "").map_err(|code| format!("{code}: {text}"))?;
    let tag = |name| line.tags.get(name).map_or("", String::as_str);
    numbered::judge(&line.name, tag("client"), tag("series"), line.timestamp_ms.unwrap_or_default(), line.value)
}
