//! The gateways that are compared: each started with a fresh folder, on a free loopback port, sending to given sinks, and
//! otherwise as its makers ship it. Killed when it goes out of scope.
//!
//! Of sluicegate two defaults are raised where the load is beyond them: one source would get 1.6 GiB of the series table and
//! 3276 connections. Of Telegraf, which holds 10,000 samples and forgets the oldest, the buffer; no Telegraf was at hand when
//! this was written, and its configuration was tried on a stand-in alone.
//!
//! vmagent names its destination by its URL alone. `?db=` is left out of its line protocol, where it would add a label.

use super::compare::Point;
use super::http::{Client, ClientError};
use super::process::{self, Usage};
use crate::clock;
use crate::model::Format;
use hyper::Uri;
use serde::Serialize;
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::sleep;

/// How long a gateway may take until it is ready.
const READY_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// How much of a gateway's own output is told when it fails.
const OUTPUT_BYTES_MAX: usize = 2000;
/// sluicegate's own `limits.max_connections` and `series.max_bytes`, and what a series of a load may take of the latter.
const CONNECTIONS_MIN: usize = 4096;
const TABLE_KIBIBYTES_MIN: u64 = 2 << 20;
const KIBIBYTES_PER_SERIES: u64 = 2;

/// A gateway program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Contender {
    /// This program
    Sluicegate,
    /// VictoriaMetrics' agent
    Vmagent,
    /// InfluxData's agent
    Telegraf,
}

/// Where a gateway sends.
#[derive(Clone, Copy, Debug)]
pub struct Destination {
    /// In which format: remote write, line protocol or Wavefront.
    pub format: Format,
    /// To whom.
    pub address: SocketAddr,
}

/// A gateway that does not do as it should.
#[derive(Debug, thiserror::Error)]
pub enum ContenderError {
    /// It cannot be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It ended, or did not get ready.
    #[error("{name} {what}; its last output:\n{output}")]
    Failed {
        /// The contender.
        name: &'static str,
        /// What it did.
        what: String,
        /// The end of its output.
        output: String,
    },
    /// It cannot be measured.
    #[error("cannot measure {0}: {1}")]
    Measure(&'static str, io::Error),
}

impl Contender {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sluicegate => "sluicegate",
            Self::Vmagent => "vmagent",
            Self::Telegraf => "telegraf",
        }
    }

    /// Its executable, if it is installed; of sluicegate, the one that runs.
    pub fn program(self) -> Option<PathBuf> {
        if self == Self::Sluicegate {
            return std::env::current_exe().ok();
        }
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join(self.as_str())).find(|program| program.is_file())
    }

    /// Its version in its own words.
    pub fn version(self, program: &Path) -> String {
        let flag = if self == Self::Vmagent { "-version" } else { "--version" };
        let output = Command::new(program).arg(flag).stdin(Stdio::null()).output();
        let said = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let debian = || {
            let asked =
                Command::new("dpkg-query").args(["-f", "${Version}", "-W", "victoria-metrics"]).output().ok()?;
            asked.status.success().then(|| format!("Debian {}", String::from_utf8_lossy(&asked.stdout)))
        };
        match said.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
            Some(line) => line.to_owned(),
            None if self == Self::Vmagent => debian().unwrap_or_else(|| "unknown version".to_owned()),
            None => "unknown version".to_owned(),
        }
    }

    /// Whether it can take that format and send to those destinations.
    pub fn serves(self, input: Format, outputs: &[Format]) -> bool {
        match self {
            Self::Sluicegate => true,
            Self::Vmagent => outputs == [Format::RemoteWrite],
            Self::Telegraf => input == Format::InfluxLine && outputs == [Format::RemoteWrite],
        }
    }

    /// Path and query at which it takes that format; none is the usual one.
    pub fn path(self, input: Format) -> &'static str {
        match (self, input) {
            (Self::Vmagent, Format::InfluxLine) => "/write",
            _ => "",
        }
    }

    fn ready_path(self) -> &'static str {
        match self {
            Self::Sluicegate => "/-/ready",
            Self::Vmagent => "/health",
            Self::Telegraf => "/ping",
        }
    }

    /// The command that runs it in that folder.
    fn command(
        self,
        program: &Path,
        dir: &Path,
        port: u16,
        destinations: &[Destination],
        load: Point,
    ) -> io::Result<Command> {
        let mut command = Command::new(program);
        let config = dir.join("config");
        match self {
            Self::Sluicegate => {
                let mut text = format!("listen: {{ http: \"127.0.0.1:{port}\" }}\n");
                let connections = CONNECTIONS_MIN.max(load.connections * 2);
                let table = TABLE_KIBIBYTES_MIN.max(load.series as u64 * KIBIBYTES_PER_SERIES);
                let _ =
                    writeln!(text, "limits: {{ max_connections: {connections} }}\nseries: {{ max_bytes: {table}KiB }}");
                let _ = writeln!(text, "log: {{ dir: \"{}\" }}\noutputs:", dir.join("log").display());
                for Destination { format, address } in destinations {
                    let output = match format {
                        Format::RemoteWrite => {
                            format!("prometheus_remote_write: {{ url: \"http://{address}/api/v1/write\", version: 1 }}")
                        }
                        Format::RemoteWrite2 => {
                            format!("prometheus_remote_write: {{ url: \"http://{address}/api/v1/write\", version: 2 }}")
                        }
                        Format::InfluxLine => format!("influxdb: {{ url: \"http://{address}\", database: bench }}"),
                        _ => format!("wavefront: {{ url: \"http://{address}\", source: bench }}"),
                    };
                    let _ = writeln!(text, "  - name: {}\n    {output}", format.as_str());
                }
                std::fs::write(&config, text)?;
                command.arg("--config").arg(config).env("RUST_LOG", "warn");
            }
            Self::Vmagent => {
                for Destination { address, .. } in destinations {
                    command.arg(format!("-remoteWrite.url=http://{address}/api/v1/write"));
                }
                command.arg(format!("-httpListenAddr=127.0.0.1:{port}"));
                command.arg(format!("-remoteWrite.tmpDataPath={}", dir.join("queue").display()));
            }
            Self::Telegraf => {
                let mut text = format!(
                    "[agent]\nomit_hostname = true\nflush_interval = \"1s\"\n\
                     metric_batch_size = 10000\nmetric_buffer_limit = 10000000\n[[inputs.influxdb_listener]]\nservice_address = \"127.0.0.1:{port}\"\n"
                );
                for Destination { address, .. } in destinations {
                    let _ = write!(
                        text,
                        "[[outputs.http]]\nurl = \"http://{address}/api/v1/write\"\ndata_format = \"prometheusremotewrite\"\n\
                         [outputs.http.headers]\nContent-Type = \"application/x-protobuf\"\nContent-Encoding = \"snappy\"\n\
                         X-Prometheus-Remote-Write-Version = \"0.1.0\"\n"
                    );
                }
                std::fs::write(&config, text)?;
                command.arg("--config").arg(config);
            }
        }
        Ok(command)
    }
}

/// A gateway that runs.
#[derive(Debug)]
pub struct Running {
    contender: Contender,
    child: Child,
    port: u16,
    // Last, so that the folder outlives the process.
    dir: TempDir,
}

impl Running {
    /// Starts a gateway and waits until it is ready.
    pub async fn start(
        contender: Contender,
        program: &Path,
        to: &[Destination],
        load: Point,
    ) -> Result<Self, ContenderError> {
        let failed = |source| ContenderError::Start { program: program.display().to_string(), source };
        let dir = tempfile::tempdir().map_err(failed)?;
        // Free now; in the unlikely case that another program takes it, the gateway fails to start and says so.
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|taken| taken.local_addr()).map_err(failed)?.port();
        let output = std::fs::File::create(dir.path().join("output")).map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        let child = contender
            .command(program, dir.path(), port, to, load)
            .and_then(|mut command| {
                command.current_dir(dir.path()).stdin(Stdio::null()).stdout(output).stderr(errors).spawn()
            })
            .map_err(failed)?;
        let mut running = Self { contender, child, port, dir };
        running.await_ready().await?;
        Ok(running)
    }

    async fn await_ready(&mut self) -> Result<(), ContenderError> {
        let start = clock::monotonic();
        let url = self.url(self.contender.ready_path());
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(format!("ended with {status} instead of getting ready")));
            }
            let asked = async { Client::connect(&url).await?.send(&url, None).await };
            let last: Result<_, ClientError> = asked.await;
            match last {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                last if start.elapsed() > READY_MAX => {
                    let last = last.map_or_else(|error| error.to_string(), |answer| answer.status.to_string());
                    return Err(self.failed(format!("is not ready within {READY_MAX:?}: {last}")));
                }
                _ => sleep(POLL).await,
            }
        }
    }

    /// The address of a path on it.
    pub fn url(&self, path: &str) -> Uri {
        // Made of a number and constants.
        format!("http://127.0.0.1:{}{path}", self.port).parse().unwrap_or_default()
    }

    /// What it has used so far.
    pub fn usage(&self) -> Result<Usage, ContenderError> {
        process::usage(self.child.id()).map_err(|error| ContenderError::Measure(self.contender.as_str(), error))
    }

    /// An error with the end of its output.
    pub fn failed(&self, what: String) -> ContenderError {
        let output = std::fs::read(self.dir.path().join("output")).unwrap_or_default();
        let end = &output[output.len().saturating_sub(OUTPUT_BYTES_MAX)..];
        let output = String::from_utf8_lossy(end).into_owned();
        ContenderError::Failed { name: self.contender.as_str(), what, output }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
