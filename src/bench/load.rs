//! Drives an HTTP endpoint with a load: at full speed, or at a fixed rate with latencies free of coordinated omission.
//!
//! * The series are split into requests ([`Request`]), the requests among connections. A request belongs to one connection,
//!   so the samples of a series are sent in order. Each connection has one request under way.
//! * At a fixed rate every request has its intended time, whatever became of those before it. A connection that is behind
//!   its schedule measures from the intended time, so a stall of the gateway shows in all requests that had to wait for it.
//!   At full speed there is no schedule, and latency is that of the answer alone.
//! * 429 and 503 mean that nothing was kept: the request is repeated. Any other refusal, and a broken connection, ends the
//!   load with an error, since nobody knows then what has arrived.
//! * What the load costs itself is measured: the time spent on bringing bodies up to date and on their digests.

use super::digest::Digest;
use super::http::{Client, ClientError, Headers, authority};
use super::request::{Plan, Request};
use super::shape::Shape;
use crate::clock;
use crate::model::Format;
use bytes::Bytes;
use hdrhistogram::Histogram;
use hyper::{StatusCode, Uri};
use parking_lot::Mutex;
use serde::Serialize;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Series of a load. A series takes some 100 bytes in remote write and up to 400 in text.
pub const SERIES_MAX: usize = 10_000_000;
/// Samples of a request.
pub const SAMPLES_PER_REQUEST_MAX: usize = 100_000;
/// Connections of a load.
pub const CONNECTIONS_MAX: usize = 20_000;
/// How long a load may last.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// How often a refused request is repeated, and how long the pause in between is at most.
const REPEATS_MAX: u32 = 600;
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Latencies beyond are recorded as this.
const LATENCY_MICROSECONDS_MAX: u64 = 3_600_000_000;

/// What to send, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where; the format's usual path is added where the URL has none.
    pub target: Uri,
    /// In which format.
    pub format: Format,
    /// How the series look.
    pub shape: Shape,
    /// What decides labels and values.
    pub seed: u64,
    /// How many series.
    pub series: usize,
    /// Samples of a request; the last one of a pass may have fewer.
    pub samples_per_request: usize,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// The part of all series that is replaced by new ones from one pass to the next, 0 to 1.
    pub churn: f64,
    /// Samples a second; at full speed where there is none.
    pub rate: Option<f64>,
}

/// When a load ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// After so many requests.
    Requests(u64),
    /// After that time.
    Duration(Duration),
}

/// Why a load did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// An option beyond its bounds.
    #[error("{what} must be {least} to {most}")]
    OutOfBounds {
        /// The option.
        what: &'static str,
        /// Its least value.
        least: usize,
        /// Its greatest.
        most: usize,
    },
    /// More connections than requests: some would have nothing to send.
    #[error("{connections} connections, but only {requests} requests a pass: more series, or fewer samples a request")]
    IdleConnections {
        /// As asked for.
        connections: usize,
        /// Requests that the series make.
        requests: usize,
    },
    /// Another machine, without permission.
    #[error(
        "{0} is not on this machine: at full speed this is an attack on whoever listens there; \
         --allow-remote says that it is meant and welcome"
    )]
    Remote(String),
    /// No answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An answer other than success, or 429 and 503 again and again.
    #[error("the target answers {status}: {body}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The beginning of the body.
        body: String,
    },
    /// The histogram of latencies cannot be made.
    #[error("no histogram: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
    /// A task of the load ended early.
    #[error("a connection of the load ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What became of a load.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The format.
    pub format: &'static str,
    /// Samples that were answered with success.
    pub samples: u64,
    /// Requests that were.
    pub requests: u64,
    /// Requests that were refused for a while (429, 503) and repeated.
    pub repeats: u64,
    /// Bytes of the bodies.
    pub body_bytes: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Samples by seconds.
    pub samples_per_second: f64,
    /// How long requests took.
    pub latency: Latency,
    /// What it costs to bring a sample up to date and to sum it up.
    pub generator_ns_per_sample: f64,
    /// The checksum of the samples, to be compared with a sink's.
    pub checksum: String,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "quantiles")]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// A load, ready to run, more than once if need be: each run continues where the one before ended.
#[derive(Debug)]
pub struct Load {
    options: Options,
    headers: Headers,
    /// The requests of each connection, and which is next.
    shares: Vec<Share>,
    sent: Digest,
    progress: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Share {
    requests: Vec<Request>,
    next: usize,
    /// The last timestamp, so that none comes twice.
    milliseconds: i64,
    /// Decides which requests are replaced.
    random: fastrand::Rng,
}

/// What the connections of a run share. Touched once a request.
#[derive(Debug)]
struct Tally {
    latencies: Mutex<Histogram<u64>>,
    requests: AtomicU64,
    repeats: AtomicU64,
    body_bytes: AtomicU64,
    generator_ns: AtomicU64,
}

impl Options {
    /// Whether everything is within bounds, and every connection has something to send.
    pub fn check(&self) -> Result<(), LoadError> {
        let in_bounds = |what, value: usize, most| match value {
            1.. if value <= most => Ok(()),
            _ => Err(LoadError::OutOfBounds { what, least: 1, most }),
        };
        in_bounds("series", self.series, SERIES_MAX)?;
        in_bounds("samples per request", self.samples_per_request, SAMPLES_PER_REQUEST_MAX)?;
        in_bounds("connections", self.connections, CONNECTIONS_MAX)?;
        if !(0.0..=1.0).contains(&self.churn) {
            return Err(LoadError::OutOfBounds { what: "churn", least: 0, most: 1 });
        }
        match (self.connections, self.requests()) {
            (connections, requests) if requests < connections => {
                Err(LoadError::IdleConnections { connections, requests })
            }
            _ => Ok(()),
        }
    }

    /// Requests that bring every series once.
    fn requests(&self) -> usize {
        self.series.div_ceil(self.samples_per_request)
    }
}

impl Load {
    /// Encodes all requests of a load. `allow_remote` permits targets other than loopback.
    pub fn try_new(mut options: Options, allow_remote: bool) -> Result<Self, LoadError> {
        options.check()?;
        if !allow_remote && !is_loopback(&authority(&options.target)?) {
            return Err(LoadError::Remote(options.target.to_string()));
        }
        let requests = options.requests();
        let (path, headers) = endpoint(options.format);
        if matches!(options.target.path(), "" | "/") {
            let url = format!("http://{}{path}", authority(&options.target)?);
            options.target = url.parse().map_err(|_| ClientError::Target(options.target.clone()))?;
        }
        let plan = Plan { shape: options.shape, format: options.format, seed: options.seed };
        let share = |connection| Share {
            requests: Vec::with_capacity(requests.div_ceil(options.connections)),
            next: 0,
            milliseconds: 0,
            random: fastrand::Rng::with_seed(options.seed.wrapping_add(connection as u64)),
        };
        let mut shares: Vec<Share> = (0..options.connections).map(share).collect();
        for request in 0..requests {
            let start = request * options.samples_per_request;
            let end = (start + options.samples_per_request).min(options.series);
            shares[request % options.connections].requests.push(Request::new(plan, start..end));
        }
        Ok(Self { options, headers, shares, sent: Digest::default(), progress: Arc::default() })
    }

    /// Requests that bring every series once.
    pub fn requests_per_pass(&self) -> u64 {
        self.shares.iter().map(|share| share.requests.len() as u64).sum()
    }

    /// All samples that were answered with success, in every run.
    pub fn sent(&self) -> &Digest {
        &self.sent
    }

    /// Has the following runs send so many samples a second.
    pub fn set_rate(&mut self, rate: f64) {
        self.options.rate = Some(rate);
    }

    /// Samples answered with success so far, for a display.
    pub fn progress(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.progress)
    }

    /// Sends until the bound is reached.
    pub async fn run(&mut self, bound: Bound) -> Result<Report, LoadError> {
        let mut clients = Vec::with_capacity(self.shares.len());
        for _ in &self.shares {
            clients.push(Client::connect(&self.options.target).await?);
        }
        let tally = Arc::new(Tally {
            latencies: Mutex::new(Histogram::new_with_bounds(1, LATENCY_MICROSECONDS_MAX, 3)?),
            requests: AtomicU64::new(0),
            repeats: AtomicU64::new(0),
            body_bytes: AtomicU64::new(0),
            generator_ns: AtomicU64::new(0),
        });
        let before = self.sent.samples();
        let start = clock::monotonic();
        let mut connections = JoinSet::new();
        let count = clients.len() as u64;
        for (number, (share, client)) in std::mem::take(&mut self.shares).into_iter().zip(clients).enumerate() {
            let bound = match bound {
                Bound::Requests(all) => Bound::Requests(all / count + u64::from((number as u64) < all % count)),
                Bound::Duration(duration) => Bound::Duration(duration.min(DURATION_MAX)),
            };
            let connection = Connection {
                target: self.options.target.clone(),
                headers: self.headers,
                churn: self.options.churn,
                schedule: self.schedule(start, number),
                bound,
                start,
                tally: Arc::clone(&tally),
                progress: Arc::clone(&self.progress),
            };
            connections.spawn(async move { (number, connection.run(client, share).await) });
        }
        let mut shares = Vec::new();
        while let Some(joined) = connections.join_next().await {
            // An error drops the set, which ends the other connections.
            let (number, done) = joined?;
            let (share, digest) = done?;
            self.sent.merge(&digest);
            shares.push((number, share));
        }
        let seconds = start.elapsed().as_secs_f64();
        shares.sort_by_key(|(number, _)| *number);
        self.shares = shares.into_iter().map(|(_, share)| share).collect();
        Ok(self.report(&tally, self.sent.samples() - before, seconds))
    }

    /// When the requests of a connection are due.
    fn schedule(&self, start: Instant, connection: usize) -> Option<Schedule> {
        let between = self.options.samples_per_request as f64 / self.options.rate?;
        let every = Duration::from_secs_f64((between * self.options.connections as f64).clamp(1e-9, 1e6));
        Some(Schedule { due: start + every.mul_f64(connection as f64 / self.options.connections as f64), every })
    }

    fn report(&self, tally: &Tally, samples: u64, seconds: f64) -> Report {
        let latencies = tally.latencies.lock();
        let milliseconds = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
        Report {
            format: self.options.format.as_str(),
            samples,
            requests: tally.requests.load(Ordering::Relaxed),
            repeats: tally.repeats.load(Ordering::Relaxed),
            body_bytes: tally.body_bytes.load(Ordering::Relaxed),
            seconds,
            samples_per_second: samples as f64 / seconds,
            latency: Latency {
                p50: milliseconds(0.5),
                p90: milliseconds(0.9),
                p99: milliseconds(0.99),
                p999: milliseconds(0.999),
                max: latencies.max() as f64 / 1000.0,
            },
            generator_ns_per_sample: tally.generator_ns.load(Ordering::Relaxed) as f64 / samples.max(1) as f64,
            checksum: format!("{:016x}", self.sent.checksum()),
        }
    }
}

/// When a connection's next request is due, and how long after the one before.
#[derive(Debug)]
struct Schedule {
    due: Instant,
    every: Duration,
}

struct Connection {
    target: Uri,
    headers: Headers,
    churn: f64,
    schedule: Option<Schedule>,
    bound: Bound,
    start: Instant,
    tally: Arc<Tally>,
    progress: Arc<AtomicU64>,
}

impl Connection {
    async fn run(mut self, mut client: Client, mut share: Share) -> Result<(Share, Digest), LoadError> {
        let mut digest = Digest::default();
        let mut done = 0;
        while self.goes_on(done) {
            let due = self.wait().await;
            let body = self.prepare(&mut share);
            let begun = due.unwrap_or_else(clock::monotonic);
            self.send(&mut client, &body).await?;
            let taken = begun.elapsed().as_micros() as u64;
            self.tally.latencies.lock().saturating_record(taken.clamp(1, LATENCY_MICROSECONDS_MAX));

            let prepared = clock::monotonic();
            let request = &share.requests[share.next];
            request.digest(share.milliseconds, &mut digest);
            self.tally.generator_ns.fetch_add(prepared.elapsed().as_nanos() as u64, Ordering::Relaxed);
            self.tally.requests.fetch_add(1, Ordering::Relaxed);
            self.tally.body_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
            self.progress.fetch_add(request.samples() as u64, Ordering::Relaxed);
            share.next = (share.next + 1) % share.requests.len();
            done += 1;
        }
        Ok((share, digest))
    }

    fn goes_on(&self, done: u64) -> bool {
        match self.bound {
            Bound::Requests(requests) => done < requests,
            Bound::Duration(duration) => {
                let next = self.schedule.as_ref().map_or(self.start, |schedule| schedule.due);
                self.start.elapsed().max(next - self.start) < duration
            }
        }
    }

    /// Waits until the next request is due. Gives its intended time where that has passed already: what the timer of this
    /// process is late is not the gateway's.
    async fn wait(&mut self) -> Option<Instant> {
        let schedule = self.schedule.as_mut()?;
        let due = schedule.due;
        schedule.due += schedule.every;
        let early = due.checked_duration_since(clock::monotonic());
        match early {
            Some(early) if !early.is_zero() => {
                sleep(early).await;
                None
            }
            _ => Some(due),
        }
    }

    /// The next body, up to date.
    fn prepare(&self, share: &mut Share) -> Bytes {
        let begun = clock::monotonic();
        share.milliseconds = (clock::now() / 1_000_000).max(share.milliseconds + 1);
        let request = &mut share.requests[share.next];
        if share.random.f64() < self.churn {
            request.churn();
        }
        request.update(share.milliseconds);
        let body = Bytes::copy_from_slice(request.body());
        self.tally.generator_ns.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        body
    }

    async fn send(&self, client: &mut Client, body: &Bytes) -> Result<(), LoadError> {
        let mut repeats = 0;
        loop {
            let answer = client.send(&self.target, Some((self.headers, body.clone()))).await?;
            let status = answer.status;
            if status.is_success() {
                return Ok(());
            }
            let passing = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
            if !passing || repeats == REPEATS_MAX {
                let body = crate::wire::quoted(&answer.body);
                return Err(LoadError::Refused { status, body });
            }
            repeats += 1;
            self.tally.repeats.fetch_add(1, Ordering::Relaxed);
            sleep(answer.retry_after.unwrap_or(PAUSE).min(PAUSE_MAX)).await;
        }
    }
}

/// Whether a host and port is this machine.
fn is_loopback(authority: &str) -> bool {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The usual path of a format, and its headers.
fn endpoint(format: Format) -> (&'static str, Headers) {
    let text = |content_type| Headers { content_type, content_encoding: None, remote_write_version: None };
    let remote_write = |content_type, version| Headers {
        content_type,
        content_encoding: Some("snappy"),
        remote_write_version: Some(version),
    };
    match format {
        Format::RemoteWrite => ("/api/v1/write", remote_write("application/x-protobuf", "0.1.0")),
        Format::RemoteWrite2 => {
            ("/api/v1/write", remote_write("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"))
        }
        Format::InfluxLine => ("/write?db=bench", text("text/plain; charset=utf-8")),
        Format::PrometheusText => ("/api/v1/import/prometheus", text("text/plain; version=0.0.4; charset=utf-8")),
        Format::OpenMetrics => {
            ("/api/v1/import/prometheus", text("application/openmetrics-text; version=1.0.0; charset=utf-8"))
        }
        Format::Wavefront => ("/report?f=wavefront", text("application/octet-stream")),
    }
}
