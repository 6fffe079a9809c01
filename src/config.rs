//! A YAML file to a [`Config`] that is right, or to all of its [`Mistakes`] at once.
//!
//! * Nothing later re-checks: whatever cannot work together is refused here, with line, column, key path, what was expected
//!   and what was found. Keys that do not exist are mistakes.
//! * `${VAR}` and `${VAR:-default}` are expanded inside scalars after parsing, so a value cannot add keys.
//! * Blocks that Prometheus has keep its names and meaning. Unlike Prometheus, files that hold secrets are read when the
//!   configuration is, not for every request.
//! * Relative paths start at the file's folder, except `log.dir`, which starts at the working directory.
//! * The file is bounded ([`FILE_BYTES_MAX`]), as are nesting and aliases.
//!
//! Reading has three steps: `document` (YAML to a tree with places), `walk` (typed reading that records mistakes) and one
//! file for each part of the configuration.

mod address;
mod budget;
mod dashboards;
mod document;
mod expand;
mod gateway;
mod http;
mod micrometer;
mod mistakes;
mod output;
mod server_tls;
pub(crate) mod units;
mod walk;

pub use budget::MEMORY_LIMIT_MIN;
pub use mistakes::{Mistake, Mistakes};
pub use server_tls::{ServerTls, ServerTlsError};

use crate::micrometer::Profile;
use crate::model::TimestampNs;
use crate::relabel;
use crate::wire::influx_line::schema;
use crate::wire::{prometheus_names, wavefront};
use std::fmt;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes a configuration file may have.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// What the gateway is told to do. The default is the gateway without a file: it listens, keeps, and sends nowhere.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// The durable log.
    pub log: LogSettings,
    /// The table of series.
    pub series: SeriesSettings,
    /// Bounds of requests and connections.
    pub limits: Limits,
    /// Applications that are scraped over the connection they made.
    pub rsocket: Rsocket,
    /// What is taken for meters of Micrometer, and what they become in other dialects.
    pub micrometer: Profile,
    /// Where the buttons of the web page lead.
    pub dashboards: Option<Dashboards>,
    /// Where to send; names are distinct.
    pub outputs: Vec<Output>,
    /// What is worth knowing and no mistake: keys accepted that have no effect.
    pub notes: Vec<String>,
}

/// `dashboards`: the boards of streams, applications and tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dashboards {
    /// Where they are, without a slash at the end.
    pub url: String,
    /// Whose they are (`type`).
    pub board: Board,
}

/// Whose boards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Board {
    /// Grafana's.
    Grafana {
        /// How often they refresh, in whole seconds.
        refresh: Duration,
    },
    /// Wavefront's.
    Wavefront {
        /// The source that is looked at.
        source: String,
    },
}

/// An address to listen on; port 0 lets the system choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

/// `listen`: the sockets. No two that are given share an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// HTTP, always on.
    pub http: ListenAddress,
    /// Wavefront, TCP and HTTP on one port.
    pub wavefront: Option<ListenAddress>,
    /// Line protocol over TCP.
    pub influx_tcp: Option<ListenAddress>,
    /// Line protocol over UDP.
    pub influx_udp: Option<ListenAddress>,
    /// RSocket over TCP.
    pub rsocket_tcp: Option<ListenAddress>,
    /// RSocket over WebSocket.
    pub rsocket_websocket: Option<ListenAddress>,
}

impl Default for Listen {
    fn default() -> Self {
        let http = ListenAddress(SocketAddr::from((Ipv4Addr::LOCALHOST, 8900)));
        Self { http, wavefront: None, influx_tcp: None, influx_udp: None, rsocket_tcp: None, rsocket_websocket: None }
    }
}

/// `log`: the durable log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Its folder.
    pub dir: PathBuf,
    /// When a request is answered.
    pub ack: Ack,
    /// Bytes on disk at most (`max_bytes`).
    pub bytes_max: u64,
    /// What to do when they are used up.
    pub on_full: OnFull,
    /// Bytes of one segment, not more than `bytes_max`.
    pub segment_bytes: u64,
    /// Bytes of batches kept in memory for outputs that keep up.
    pub memory_bytes: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("./sluicegate-data"),
            ack: Ack::Durable,
            bytes_max: 10 << 30,
            on_full: OnFull::Reject,
            segment_bytes: 256 << 20,
            memory_bytes: 64 << 20,
        }
    }
}

/// When a request is answered with success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// When its samples survive a power loss.
    Durable,
    /// When its samples are in memory; a crash may lose them.
    Memory,
}

/// What to do when the log is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// Refuse requests until there is room.
    Reject,
    /// Drop the oldest samples, counted by output.
    DropOldest,
}

/// `series`: the table of series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesSettings {
    /// Bytes it may take (`max_bytes`).
    pub bytes_max: usize,
    /// How long a series may be silent before it can be evicted.
    pub idle: Duration,
}

impl Default for SeriesSettings {
    fn default() -> Self {
        Self { bytes_max: 2 << 30, idle: Duration::from_secs(3600) }
    }
}

/// `limits`: bounds of requests and connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request body as sent (`max_body_bytes`).
    pub body_bytes_max: usize,
    /// Bytes of a request body after decompression (`max_decompressed_bytes`).
    pub decompressed_bytes_max: usize,
    /// Bytes of a line on line sockets (`max_line_bytes`).
    pub line_bytes_max: usize,
    /// Labels of a series (`max_labels`).
    pub labels_max: usize,
    /// Bytes of a label's name (`max_label_name_bytes`).
    pub label_name_bytes_max: usize,
    /// Bytes of a label's value or of a metric's name (`max_label_value_bytes`).
    pub label_value_bytes_max: usize,
    /// Series that one source may hold (`max_series_per_source`); none: as many as its share of the table has room for.
    pub series_per_source_max: Option<usize>,
    /// Connections at a time, all listeners together (`max_connections`).
    pub connections_max: usize,
    /// Connections of one source at a time (`max_connections_per_source`); none: as many as there are.
    pub connections_per_source_max: Option<usize>,
    /// How long a begun request may go without a byte, and its head may take.
    pub read_timeout: Duration,
    /// How long a connection may stay open between requests.
    pub idle_timeout: Duration,
    /// Memory the process may have (`memory_limit`); where it is given, the defaults of other bounds follow from it.
    pub memory_limit: Option<usize>,
    /// Memory of bodies and batches between sockets and the log; follows from `memory_limit`.
    pub in_flight_bytes: usize,
    /// Memory of what Pushgateway groups remember; follows from `memory_limit`.
    pub pushed_bytes_max: usize,
    /// How long a silent series stays on `/scrape`.
    pub series_stale: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 32 << 20,
            decompressed_bytes_max: 64 << 20,
            line_bytes_max: 64 << 10,
            labels_max: 128,
            label_name_bytes_max: 1 << 10,
            label_value_bytes_max: 16 << 10,
            series_per_source_max: None,
            connections_max: 4096,
            connections_per_source_max: None,
            read_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
            memory_limit: None,
            in_flight_bytes: 256 << 20,
            pushed_bytes_max: 256 << 20,
            series_stale: Duration::from_secs(300),
        }
    }
}

/// `rsocket`: applications that are scraped over the connection they made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rsocket {
    /// How often they are scraped for the log.
    pub scrape_interval: Duration,
    /// How long one may take to answer; not longer than the interval.
    pub scrape_timeout: Duration,
    /// How they send their text.
    pub encryption: Encryption,
    /// TLS of the listeners.
    pub tls: Option<ServerTls>,
}

impl Default for Rsocket {
    fn default() -> Self {
        Self {
            scrape_interval: Duration::from_secs(10),
            scrape_timeout: Duration::from_secs(7),
            encryption: Encryption::Rsa,
            tls: None,
        }
    }
}

/// How an application sends its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Encrypted with the gateway's key.
    Rsa,
    /// As it is.
    Plaintext,
}

/// One of `outputs`.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its name: 1 to 64 of `A-Za-z0-9_.-`, not beginning with a dot. Cursor and metrics go by it.
    pub name: String,
    /// Where it sends.
    pub destination: Destination,
    /// How it sends (`queue_config`).
    pub queue: Queue,
    /// What it sends (`write_relabel_configs`).
    pub relabel: Vec<relabel::Rule>,
    /// Size of what its destination refused and is kept (`dead_letters_max_bytes`).
    pub dead_letters_bytes_max: u64,
}

/// Where an output sends.
#[derive(Clone, Debug)]
pub enum Destination {
    /// `prometheus_remote_write`.
    RemoteWrite(RemoteWrite),
    /// `influxdb`.
    Influx(Influx),
    /// `wavefront`.
    Wavefront(Wavefront),
}

impl Destination {
    /// The destination's key in the file.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::RemoteWrite(_) => "prometheus_remote_write",
            Self::Influx(_) => "influxdb",
            Self::Wavefront(_) => "wavefront",
        }
    }
}

/// A receiver of Prometheus remote write.
#[derive(Clone, Debug)]
pub struct RemoteWrite {
    /// Its whole URL, without credentials.
    pub url: String,
    /// Which version to speak.
    pub version: Version,
    /// The client.
    pub http: HttpClient,
    /// How series of other dialects are named.
    pub style: prometheus_names::Style,
    /// Whether 429 is tried again (in `queue_config`, as in Prometheus; on by default, there it is off).
    pub retry_on_http_429: bool,
}

/// A version of remote write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 2.0 where the receiver takes it, else 1.0.
    Auto,
    /// 1.0.
    V1,
    /// 2.0.
    V2,
}

/// An InfluxDB server.
#[derive(Clone, Debug)]
pub struct Influx {
    /// Its base URL, without credentials and without a slash at the end.
    pub url: String,
    /// Which write API, and where in it.
    pub api: InfluxApi,
    /// The client.
    pub http: HttpClient,
    /// Whether bodies are compressed.
    pub gzip: bool,
    /// Whether the database is created; only with [`InfluxApi::V1`].
    pub create_database: bool,
    /// How series of Prometheus become rows.
    pub style: schema::Style,
}

/// Where in an InfluxDB server.
#[derive(Clone, Debug)]
pub enum InfluxApi {
    /// `/write` of InfluxDB 1.
    V1 {
        /// `db`.
        database: String,
        /// `rp`.
        retention_policy: Option<String>,
        /// `consistency`: any, one, quorum or all.
        consistency: Option<String>,
    },
    /// `/api/v2/write` of InfluxDB 2.
    V2 {
        /// `org`.
        org: String,
        /// `bucket`.
        bucket: String,
        /// The API token.
        token: Secret,
    },
    /// `/api/v3/write_lp` of InfluxDB 3.
    V3 {
        /// `db`.
        database: String,
        /// The API token.
        token: Option<Secret>,
    },
}

/// A Wavefront proxy or cluster.
#[derive(Clone, Debug)]
pub struct Wavefront {
    /// Where it is.
    pub target: WavefrontTarget,
    /// The source of samples that name none.
    pub source: Option<String>,
    /// Labels whose value is the source, the first present wins.
    pub source_labels: Vec<String>,
    /// How names and shapes are chosen.
    pub style: wavefront::encode::Style,
    /// The client, with the token as authorization; at its defaults with TCP.
    pub http: HttpClient,
}

/// Where a Wavefront proxy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WavefrontTarget {
    /// HTTP.
    Http {
        /// Its base URL, without credentials and without a slash at the end.
        url: String,
    },
    /// Lines over TCP.
    Tcp {
        /// Host name or address; IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
    },
}

/// How requests are made. At most one of `basic_auth` and `authorization` is there.
#[derive(Clone, Debug)]
pub struct HttpClient {
    /// User and password.
    pub basic_auth: Option<BasicAuth>,
    /// Another `Authorization` header.
    pub authorization: Option<Authorization>,
    /// Further headers, valid and none of those that sluicegate sets.
    pub headers: Vec<(String, String)>,
    /// TLS.
    pub tls: Tls,
    /// How long a request may take (`remote_timeout`).
    pub timeout: Duration,
    /// The proxy.
    pub proxy_url: Option<String>,
}

impl HttpClient {
    const TIMEOUT: Duration = Duration::from_secs(30);
}

impl Default for HttpClient {
    fn default() -> Self {
        Self {
            basic_auth: None,
            authorization: None,
            headers: Vec::new(),
            tls: Tls::default(),
            timeout: Self::TIMEOUT,
            proxy_url: None,
        }
    }
}

/// User and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// User.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// An `Authorization` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// Its scheme, `Bearer` unless told otherwise.
    pub kind: String,
    /// What follows the scheme.
    pub credentials: Secret,
}

/// `tls_config`; the files could be read. Certificate and key are both there or neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates to trust.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate.
    pub cert_file: Option<PathBuf>,
    /// The client's key.
    pub key_file: Option<PathBuf>,
    /// The name to expect in the server's certificate.
    pub server_name: Option<String>,
    /// Trust any certificate.
    pub insecure_skip_verify: bool,
}

/// How an output sends: Prometheus's `queue_config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Requests at a time (`max_shards`).
    pub lanes: usize,
    /// Samples in a request at most (`max_samples_per_send`).
    pub samples_per_send: usize,
    /// Bytes after which a request is full whatever its number of samples; follows from `memory_limit`.
    pub body_bytes_max: usize,
    /// How long samples wait for a request to fill (`batch_send_deadline`).
    pub send_deadline: Duration,
    /// The first wait after a failure (`min_backoff`).
    pub backoff_min: Duration,
    /// The longest wait after failures (`max_backoff`), not shorter than the first.
    pub backoff_max: Duration,
    /// Samples older than this are dropped.
    pub sample_age_limit: Option<Duration>,
}

impl Queue {
    /// The oldest timestamp that is sent at that time.
    pub fn oldest_wanted(&self, now: TimestampNs) -> TimestampNs {
        let limit = self.sample_age_limit.and_then(|limit| i64::try_from(limit.as_nanos()).ok());
        limit.map_or(TimestampNs::MIN, |limit| now.saturating_sub(limit))
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            lanes: 4,
            samples_per_send: 5000,
            body_bytes_max: 4 << 20,
            send_deadline: Duration::from_secs(1),
            backoff_min: Duration::from_millis(30),
            backoff_max: Duration::from_secs(5),
            sample_age_limit: None,
        }
    }
}

/// Text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the request that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl Config {
    /// Reads a file. `env` gives the values of environment variables.
    pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Mistakes> {
        let file = path.display().to_string();
        let folder = path.parent().unwrap_or(Path::new(""));
        match read_bounded(path, FILE_BYTES_MAX) {
            Ok(text) => Self::parse(&text, folder, env).map_err(|list| Mistakes::new(file, list)),
            Err(reason) => Err(Mistakes::new(file, vec![Mistake::of_file(reason)])),
        }
    }

    /// Reads the text of a file in that folder.
    fn parse(text: &str, folder: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let node = match document::parse(text, &mut mistakes) {
            Ok(node) => node,
            Err(mistake) => {
                mistakes.push(mistake);
                return Err(mistakes);
            }
        };
        let context = walk::Context { env, folder, mistakes: mistakes.into(), notes: Vec::new().into() };
        let config = walk::Section::root(&context, node.as_ref()).map(gateway::read);
        let mistakes = context.mistakes.into_inner();
        match config {
            Some(config) if mistakes.is_empty() => Ok(Self { notes: context.notes.into_inner(), ..config }),
            _ => Err(mistakes),
        }
    }
}

/// A file's text, if it is not longer than that.
fn read_bounded(path: &Path, bytes_max: usize) -> Result<String, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(bytes_max as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > bytes_max {
        return Err(format!("longer than {bytes_max} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
}

#[cfg(test)]
mod tests;
