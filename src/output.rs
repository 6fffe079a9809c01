//! Outputs: from the log to the destinations, each at its own pace.
//!
//! ```text
//! log --reader--> dispatch --encode--> open body of a lane --shipment--> lane --send--> destination
//!                    ^                                                    |
//!                    +------------------ settlement ----------------------+--> cursor
//! ```
//!
//! One [`dispatch`] task an output reads records in order, resolves each series once ([`memo`]) and encodes its samples
//! straight into the open body of the series' lane; a body is shipped when it is full or old enough. One [`lane`] task a
//! lane sends its shipments one after the other, so the samples of a series keep their order while lanes run in parallel.
//! [`progress`] moves the cursor when all samples of a record are finished, in log order: a crash sends again, it never
//! skips. What an answer of the destination means is decided by one pure function a destination ([`verdict`]); what it
//! refuses is found by a [`search`] and kept as [`dead_letters`], which a [`replay`] can send again.
//!
//! Outputs share nothing but the log: a slow or dead destination makes its own output lag and no other.

pub mod backoff;
pub mod change;
pub mod dead_letters;
pub mod destination;
pub mod dispatch;
pub mod encoding;
pub mod influxdb;
pub mod instances;
pub mod lane;
pub mod memo;
pub mod plans;
pub mod progress;
pub mod remote_write;
pub mod replay;
pub mod scrape;
pub mod search;
pub mod shipment;
pub mod strings;
pub mod transport;
pub mod verdict;
pub mod wavefront;

use crate::clock;
use crate::config::{self, Version as Wanted};
use crate::ledger::{OutputAccount, State};
use crate::log::{Cursor, Log, LogError};
use crate::micrometer::Profile;
use crate::model::{Databases, SeriesTable};
use crate::wire::{influx_line, remote_write as remote_write1, remote_write2, wavefront as wavefront_lines};
use dead_letters::DeadLetters;
use destination::Destination;
use dispatch::{Dispatch, End, Parts};
use encoding::Encoding;
use lane::Lane;
use remote_write::{Fallback, Version};
use replay::Replay;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Shipments that wait for a lane beside the one it sends.
const WAITING_MAX: usize = 1;

/// Pause before an output starts again whose task failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// An output cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Its client cannot be made.
    #[error("output {name}: {source}")]
    Client {
        /// The output.
        name: String,
        /// Why.
        source: transport::ClientError,
    },
    /// Its cursor cannot be opened.
    #[error("output {name}: {source}")]
    Cursor {
        /// The output.
        name: String,
        /// Why.
        source: LogError,
    },
}

/// One configured output.
#[derive(Debug)]
pub struct Output {
    config: config::Output,
    /// What to speak, in the order of preference; only remote write has more than one.
    destinations: Vec<Arc<Destination>>,
    cursor: Cursor,
    account: Arc<OutputAccount>,
    dead_letters: Arc<DeadLetters>,
    host: String,
    profile: Arc<Profile>,
}

impl Output {
    /// Sets an output up: its client, its cursor, its account. `host` is the name of this machine, the last resort for a
    /// Wavefront source; `databases` are those that clients of InfluxDB asked for.
    pub fn try_new(
        config: config::Output,
        log: &Log,
        host: &str,
        profile: &Arc<Profile>,
        databases: &Arc<Databases>,
    ) -> Result<Self, OutputError> {
        let name = config.name.clone();
        let (kind, address, destinations) = destinations(&config.destination, databases)
            .map_err(|source| OutputError::Client { name: name.clone(), source })?;
        let cursor = log.cursor(&name).map_err(|source| OutputError::Cursor { name: name.clone(), source })?;
        let state = cursor.state();
        let account = Arc::new(OutputAccount::new(name, kind, address, state.delivered, state.dropped));
        let dead_letters = DeadLetters::new(log.dir(), config.dead_letters_bytes_max, Arc::clone(&account));
        let (dead_letters, host, profile) = (Arc::new(dead_letters), host.to_owned(), Arc::clone(profile));
        Ok(Self { config, destinations, cursor, account, dead_letters, host, profile })
    }

    /// The name it is known by.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The output's account, for the ledger.
    pub fn account(&self) -> Arc<OutputAccount> {
        Arc::clone(&self.account)
    }

    /// Forwards the log until `drain` is cancelled and everything that was in the log by then is finished. May be dropped
    /// at any time: what was not acknowledged is sent again after the next start.
    ///
    /// A task that panics takes nothing with it: the output starts again from its cursor.
    pub async fn run(self, log: Arc<Log>, table: Arc<SeriesTable>, drain: CancellationToken) {
        let output = Arc::new(self);
        let replay = Replay {
            destinations: output.destinations.clone(),
            account: Arc::clone(&output.account),
            dead_letters: Arc::clone(&output.dead_letters),
            queue: output.config.queue.clone(),
        };
        let _beside = AbortOnDropHandle::new(tokio::spawn(replay.run()));
        let forward = |version: usize| {
            let destination = output.destinations.get(version).map(Arc::clone)?;
            let (log, table, drain) = (Arc::clone(&log), Arc::clone(&table), drain.clone());
            Some(Arc::clone(&output).forward_to(destination, log, table, drain))
        };
        keep_forwarding(&output.account, FAILURE_PAUSE, forward).await;
    }

    async fn forward_to(
        self: Arc<Self>,
        destination: Arc<Destination>,
        log: Arc<Log>,
        table: Arc<SeriesTable>,
        drain: CancellationToken,
    ) -> End {
        let (destination, log, table, drain) = (&destination, &log, &table, &drain);
        match (&self.config.destination, &**destination) {
            (config::Destination::RemoteWrite(config), Destination::RemoteWrite { version: Version::V1, .. }) => {
                let options = remote_write1::encode::Options::new(config.style.clone());
                self.forward::<remote_write1::encode::Encoder>(&options, destination, log, table, drain).await
            }
            (config::Destination::RemoteWrite(config), Destination::RemoteWrite { version: Version::V2, .. }) => {
                let options = remote_write2::encode::Options { style: config.style.clone() };
                self.forward::<remote_write2::encode::Encoder>(&options, destination, log, table, drain).await
            }
            (config::Destination::Influx(influx), _) => {
                // Version 1 has no unsigned integers.
                let unsigned = !matches!(influx.api, config::InfluxApi::V1 { .. });
                let style = influx.style.clone();
                let gzip = influx.gzip;
                let options =
                    influx_line::encode::Options { unsigned, style, gzip, ..influx_line::encode::Options::default() };
                self.forward::<influx_line::encode::Encoder>(&options, destination, log, table, drain).await
            }
            (config::Destination::Wavefront(wavefront), _) => {
                let source = wavefront.source.clone().unwrap_or_else(|| self.host.clone());
                let mut options = wavefront_lines::encode::Options::new(source);
                options.source_labels.clone_from(&wavefront.source_labels);
                options.style = wavefront.style;
                options.gzip = matches!(wavefront.target, config::WavefrontTarget::Http { .. });
                self.forward::<wavefront_lines::encode::Encoder>(&options, destination, log, table, drain).await
            }
            (config::Destination::RemoteWrite(_), _) => End::Drained,
        }
    }

    async fn forward<E: Encoding>(
        &self,
        options: &E::Options,
        destination: &Arc<Destination>,
        log: &Arc<Log>,
        table: &Arc<SeriesTable>,
        drain: &CancellationToken,
    ) -> End {
        let (events, settled) = mpsc::unbounded_channel();
        // Dropped with this function: a lane does not outlive its dispatcher.
        let mut tasks = JoinSet::new();
        let lanes = (0..self.config.queue.lanes)
            .map(|_| {
                let (sender, shipments) = mpsc::channel(WAITING_MAX);
                let lane = Lane {
                    destination: Arc::clone(destination),
                    account: Arc::clone(&self.account),
                    dead_letters: Arc::clone(&self.dead_letters),
                    queue: self.config.queue.clone(),
                };
                tasks.spawn(lane.run(shipments, events.clone()));
                sender
            })
            .collect();
        let parts = Parts {
            log,
            cursor: &self.cursor,
            account: &self.account,
            table,
            profile: &self.profile,
            queue: &self.config.queue,
            relabel: &self.config.relabel,
        };
        let dispatching = Dispatch::<E>::new(parts, options, lanes, settled).run(drain);
        tokio::select! {
            end = dispatching => end,
            // A lane ends only after its dispatcher, unless it panicked.
            Some(_) = tasks.join_next() => End::Failed,
        }
    }
}

/// Forwards in the first version there is, in the next where the destination is older, and again after a pause where a task
/// failed or panicked.
async fn keep_forwarding<F: Future<Output = End> + Send + 'static>(
    account: &OutputAccount,
    pause: Duration,
    mut forward: impl FnMut(usize) -> Option<F>,
) {
    let name = &account.name;
    let mut version = 0;
    while let Some(forwarding) = forward(version) {
        match AbortOnDropHandle::new(tokio::spawn(forwarding)).await {
            Ok(End::Drained) => return,
            Ok(End::OlderVersion) => {
                tracing::info!(output = name, "the destination does not speak remote write 2.0; going on with 1.0");
                version += 1;
            }
            Ok(End::Failed) | Err(_) => {
                tracing::error!(output = name, "a task of the output failed; it starts again from its cursor");
                account.note_error(clock::now(), State::Restarting, "a task failed; see the log".to_owned());
                tokio::time::sleep(pause).await;
            }
        }
    }
}

type Destinations = (&'static str, String, Vec<Arc<Destination>>);

fn destinations(
    config: &config::Destination,
    databases: &Arc<Databases>,
) -> Result<Destinations, transport::ClientError> {
    Ok(match config {
        config::Destination::RemoteWrite(remote_write) => {
            let versions: &[_] = match remote_write.version {
                Wanted::Auto => &[(Version::V2, Fallback::Allowed), (Version::V1, Fallback::Forbidden)],
                Wanted::V1 => &[(Version::V1, Fallback::Forbidden)],
                Wanted::V2 => &[(Version::V2, Fallback::Forbidden)],
            };
            let destinations = versions
                .iter()
                .map(|(version, fallback)| Destination::remote_write(remote_write, *version, *fallback).map(Arc::new))
                .collect::<Result<_, _>>()?;
            ("prometheus_remote_write", without_credentials(&remote_write.url), destinations)
        }
        config::Destination::Influx(influx) => {
            ("influxdb", without_credentials(&influx.url), vec![Arc::new(Destination::influx(influx, databases)?)])
        }
        config::Destination::Wavefront(wavefront) => {
            let address = match &wavefront.target {
                config::WavefrontTarget::Http { url } => without_credentials(url),
                config::WavefrontTarget::Tcp { host, port } => format!("tcp://{host}:{port}"),
            };
            ("wavefront", address, vec![Arc::new(Destination::wavefront(wavefront)?)])
        }
    })
}

/// A URL for people to read: without user, password and query.
fn without_credentials(url: &str) -> String {
    reqwest::Url::parse(url).map_or_else(
        |_| String::new(),
        |mut url| {
            // Fails only for URLs that have no host, which have no credentials either.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.set_query(None);
            url.to_string()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_fails_or_panics_starts_again_and_an_older_version_follows_a_newer_one() {
        let account = OutputAccount::new("a".into(), "influxdb", String::new(), 0, std::collections::BTreeMap::new());
        let mut versions = Vec::new();
        let mut states = Vec::new();
        let forward = |version| {
            versions.push(version);
            states.push(account.snapshot().state);
            let turn = versions.len();
            Some(async move {
                match turn {
                    1 => panic!("a bug"),
                    2 => End::Failed,
                    3 => End::OlderVersion,
                    _ => End::Drained,
                }
            })
        };
        keep_forwarding(&account, Duration::ZERO, forward).await;
        assert_eq!(versions, [0, 0, 0, 1]);
        assert_eq!(states[..2], [State::Ok, State::Restarting]);
    }
}
