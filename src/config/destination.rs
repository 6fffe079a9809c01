//! One of `outputs`, validated: where it sends, how, and what.

use crate::model::TimestampNs;
use crate::relabel;
use crate::wire::influx_line::schema;
use crate::wire::{prometheus_names, wavefront};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

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
    pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
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
pub struct Secret(pub(super) String);

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
