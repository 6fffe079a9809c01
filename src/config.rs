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
mod destination;
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

pub use crate::log::{Ack, LogConfig, OnFull};
pub use budget::MEMORY_LIMIT_MIN;
pub use destination::{
    Authorization, BasicAuth, Destination, HttpClient, Influx, InfluxApi, Output, Queue, RemoteWrite, Secret, Tls,
    Version, Wavefront, WavefrontTarget,
};
pub use mistakes::{Mistake, Mistakes};
pub use server_tls::{ServerTls, ServerTlsError};

use crate::micrometer::Profile;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Bytes a configuration file may have.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// What the gateway is told to do. The default is the gateway without a file: it listens, keeps, and sends nowhere.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// The durable log.
    pub log: LogConfig,
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
