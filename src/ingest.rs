//! Sockets in: turns what senders write into batches in the log, and answers them in their own ecosystem's words.
//!
//! * [`serve_http`] is the one HTTP port of every ecosystem; [`serve_wavefront`], [`serve_influx_tcp`] and
//!   [`serve_influx_udp`] are the further ones. All are given a bound socket and a token that ends them: they stop
//!   accepting, let the requests that run finish, and return.
//! * [`serve_rsocket`] takes applications that are scraped over the connection they made.
//! * `intake` is the only place that owns limits, decompression, decoding, appending and the counts of what was refused.
//!   The file of an ecosystem parses parameters and phrases answers; it knows no grammar, and a decoder knows no HTTP.
//! * Nothing is answered with success before the log took it. Everything that a sender can make grow has a bound with a
//!   name: bytes of a head, a body (before and after decompression) and a line; connections; bytes of all requests in
//!   flight; names that are remembered.
//! * Not here: the status API, the web page, `/metrics` and `/scrape` ([`Pages`], given by the gateway), TLS (RSocket has it) and
//!   authentication of senders (any `Authorization` is accepted and ignored).

mod answer;
mod connections;
mod databases;
mod datagrams;
mod decoder;
mod http;
mod influx;
mod influx_query;
mod intake;
mod line_sockets;
mod lines;
mod parameters;
mod prometheus;
mod pushgateway;
mod remote_write;
mod routes;
mod rsocket;
mod stale;
pub mod temporality;
#[cfg(test)]
mod tests;
mod wavefront;

pub use datagrams::Datagrams;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use http::serve_bytes;
pub use http::serve_http;
pub use line_sockets::{serve_influx_tcp, serve_influx_udp};
pub use routes::Pages;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use rsocket::converse;
pub use rsocket::{ApplicationCounts, Applications, RsocketListeners, serve_rsocket};
pub use wavefront::serve_wavefront;

use crate::config::{Limits, Rsocket};
use crate::ledger::Ledger;
use crate::log::Log;
use crate::memory::Memory;
use crate::micrometer::{Mode, Profile};
use crate::model::{Batch, Databases, SeriesId, SeriesTable, TimestampNs};
use connections::Connections;
use intake::{Buffers, Flight};
use std::sync::Arc;
use temporality::Tallies;
use tokio::sync::Semaphore;

/// What every input needs: where series are interned, where batches go, where refusals are counted, how large things may be.
#[derive(Debug)]
pub struct Gate {
    table: Arc<SeriesTable>,
    log: Arc<Log>,
    ledger: Arc<Ledger>,
    limits: Limits,
    connections: Connections,
    memory: Arc<Memory>,
    flight: Flight,
    /// What bodies were read into, and decompressed into.
    bodies: Buffers,
    scratch: Buffers,
    /// Large bodies are decoded off the runtime's workers, no more of them at a time than cores: decoding is bound by the
    /// processor, and what comes out of decompression is large. Small ones do not queue behind them.
    decoding: Arc<Semaphore>,
    /// One at a time while memory is tight.
    turns: Arc<Semaphore>,
    page_turns: routes::Turns,
    databases: Arc<Databases>,
    databases_saved: databases::Saved,
    groups: pushgateway::Groups,
    tallies: Arc<Tallies>,
    warnings: answer::Seldom,
    shelf: Arc<dyn Shelf>,
    applications: Arc<Applications>,
}

/// Where the latest values stand (`/scrape`): those of a Pushgateway group stay there for as long as the group exists.
pub trait Shelf: std::fmt::Debug + Send + Sync {
    /// Shows samples that do not come through the log: of groups that were pushed before the gateway started.
    fn show(&self, batch: Arc<Batch>, table: &SeriesTable, appended_at: TimestampNs);
    /// Keeps series, however long they are silent.
    fn keep(&self, series: &[SeriesId]);
    /// Takes series away that their group no longer has.
    fn release(&self, series: &[SeriesId]);
}

/// No shelf.
impl Shelf for () {
    fn show(&self, _batch: Arc<Batch>, _table: &SeriesTable, _appended_at: TimestampNs) {}
    fn keep(&self, _series: &[SeriesId]) {}
    fn release(&self, _series: &[SeriesId]) {}
}

impl Gate {
    /// A gate to that log.
    pub fn new(table: Arc<SeriesTable>, log: Arc<Log>, ledger: Arc<Ledger>, limits: Limits) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            table,
            log,
            ledger,
            connections: Connections::new(limits.connections_max, limits.connections_per_source_max),
            memory: Arc::new(Memory::new(limits.memory_limit)),
            flight: Flight::new(limits.in_flight_bytes),
            groups: pushgateway::Groups::new(limits.pushed_bytes_max),
            limits,
            bodies: Buffers::new(intake::ANNOUNCED_BYTES_MAX),
            scratch: Buffers::new(intake::SCRATCH_KEPT_BYTES_MAX),
            decoding: Arc::new(Semaphore::new(cores)),
            turns: Arc::new(Semaphore::new(1)),
            page_turns: routes::Turns::default(),
            databases: Arc::default(),
            databases_saved: databases::Saved::default(),
            tallies: Arc::new(Tallies::new(Arc::new(Profile { mode: Mode::Never, ..Profile::default() }))),
            warnings: answer::Seldom::default(),
            shelf: Arc::new(()),
            applications: Arc::new(Applications::new(Rsocket::default())),
        }
    }

    /// The same gate, with a shelf for Pushgateway groups.
    #[must_use]
    pub fn with_shelf(self, shelf: Arc<dyn Shelf>) -> Self {
        Self { shelf, ..self }
    }

    /// The same gate, which restates counters.
    #[must_use]
    pub fn with_tallies(self, tallies: Arc<Tallies>) -> Self {
        Self { tallies, ..self }
    }

    /// The same gate, which heeds the limit of that memory.
    #[must_use]
    pub fn with_memory(self, memory: Arc<Memory>) -> Self {
        Self { memory, ..self }
    }

    /// The same gate, which knows those applications.
    #[must_use]
    pub fn with_applications(self, applications: Arc<Applications>) -> Self {
        Self { applications, ..self }
    }

    /// Whether no request holds memory.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn is_free(&self) -> bool {
        self.flight.is_free()
    }
}
