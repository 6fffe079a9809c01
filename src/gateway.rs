//! Assembly: a configuration becomes listeners, a log and outputs; then they run; then they drain.
//!
//! The only file that knows every part. [`Gateway::build`] binds the sockets and recovers the log, so that mistakes show
//! and addresses are known before anything moves; nothing runs until [`Gateway::run`].

use crate::clock;
use crate::config::{self, Config, ServerTls, ServerTlsError};
use crate::ingest::temporality::{CURSOR, StoreError, Tallies};
use crate::ingest::{self, Applications, Datagrams, Gate, RsocketListeners, Shelf};
use crate::ledger::Ledger;
use crate::log::{self, Log, LogError};
use crate::memory::Memory;
use crate::model::{Batch, SeriesId, SeriesTable, TableBounds, TimestampNs};
use crate::open_files;
use crate::output::scrape::Latest;
use crate::output::{Output, OutputError};
use crate::telemetry::{Abandoned, Status, Telemetry};
use crate::ui::Pages;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Longest that running requests may take to finish once the drain began.
const REQUESTS_DRAIN_MAX: Duration = Duration::from_secs(5);
/// Longest that outputs may take to send what the log holds; the rest waits in the log for the next start.
const OUTPUTS_DRAIN_MAX: Duration = Duration::from_secs(15);
/// Sweeps of the series table within its idle time.
const IDLE_SWEEPS: u32 = 60;

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A socket cannot be bound.
    #[error("cannot listen on {address} ({key}): {source}")]
    Listen {
        /// The configuration key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The log cannot be opened.
    #[error("cannot open the log (log.dir): {0}")]
    Log(#[from] LogError),
    /// The databases that clients asked for cannot be read.
    #[error("cannot read the databases that clients asked for (log.dir): {0}")]
    Databases(#[source] std::io::Error),
    /// The pushes that were kept cannot be looked for.
    #[error("cannot read pushed groups (log.dir): {0}")]
    PushedGroups(#[source] std::io::Error),
    /// The certificate of RSocket cannot be used.
    #[error("rsocket.tls: {0}")]
    Tls(#[from] ServerTlsError),
    /// What is known of counters cannot be taken up.
    #[error("cannot take up the sums of counters (log.dir): {0}")]
    Counters(#[from] StoreError),
    /// An output cannot be set up.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Everything, ready to run.
#[derive(Debug)]
pub struct Gateway {
    http: TcpListener,
    wavefront: Option<TcpListener>,
    influx_tcp: Option<TcpListener>,
    influx_udp: Option<UdpSocket>,
    rsocket: RsocketListeners,
    outputs: Vec<Output>,
    log: Arc<Log>,
    table: Arc<SeriesTable>,
    latest: Arc<Latest>,
    telemetry: Arc<Telemetry>,
    gate: Arc<Gate>,
    memory: Arc<Memory>,
    pages: Arc<Pages>,
    tallies: Arc<Tallies>,
    sweep_interval: Duration,
}

impl Gateway {
    /// Binds the sockets, recovers the log, sets the outputs up. `config_file` is the file the configuration came from and
    /// its text.
    pub async fn build(config: Config, config_file: Option<(PathBuf, String)>) -> Result<Self, GatewayError> {
        let Config { listen, log, series, mut limits, rsocket, micrometer, dashboards, outputs, .. } = config;
        let connections_max = open_files::connections_max(outputs.iter().map(|output| output.queue.lanes));
        if connections_max < limits.connections_max {
            let wanted = limits.connections_max;
            tracing::warn!(wanted, connections_max, "ulimit -n leaves fewer connections than limits.max_connections");
            limits.connections_max = connections_max;
        }

        // TLS towards destinations; a second call within one process finds it there already.
        let _ = rustls::crypto::ring::default_provider().install_default();

        let http = tcp("listen.http", listen.http.0).await?;
        let wavefront = optional(tcp, "listen.wavefront", listen.wavefront).await?;
        let influx_tcp = optional(tcp, "listen.influx_tcp", listen.influx_tcp).await?;
        let influx_udp = optional(udp, "listen.influx_udp", listen.influx_udp).await?;

        let rsocket_listeners = RsocketListeners {
            tcp: optional(tcp, "listen.rsocket_tcp", listen.rsocket_tcp).await?,
            websocket: optional(tcp, "listen.rsocket_websocket", listen.rsocket_websocket).await?,
            tls: rsocket.tls.as_ref().map(ServerTls::load).transpose()?,
        };

        let bounds = TableBounds {
            bytes_max: series.bytes_max,
            idle_sweeps: IDLE_SWEEPS,
            series_per_source_max: limits.series_per_source_max.unwrap_or(usize::MAX),
        };
        let table = Arc::new(SeriesTable::new(bounds));
        let log_bytes_max = log.bytes_max;
        let log = Arc::new(Log::open(log, Arc::clone(&table))?);

        let host = host_name();
        let profile = Arc::new(micrometer);
        let tallies = Arc::new(Tallies::open(Arc::clone(&profile), &log, &table).await?);
        let databases = Arc::default();
        let outputs = outputs
            .into_iter()
            .map(|output| Output::try_new(output, &log, &host, &profile, &databases))
            .collect::<Result<Vec<_>, _>>()?;
        let abandoned = abandoned(&log, &outputs)?;
        let ledger = Arc::new(Ledger::new(outputs.iter().map(Output::account).collect()));

        let memory = Arc::new(Memory::new(limits.memory_limit));
        let latest = Arc::new(Latest::new(limits.series_stale, series.bytes_max / 2, Arc::clone(&profile)));
        let applications = Arc::new(Applications::new(rsocket));
        let telemetry = Arc::new(Telemetry {
            ledger: Arc::clone(&ledger),
            log: Arc::clone(&log),
            table: Arc::clone(&table),
            latest: Arc::clone(&latest),
            abandoned,
            log_bytes_max,
            memory: Arc::clone(&memory),
            applications: Arc::clone(&applications),
            datagrams: influx_udp.as_ref().and_then(Datagrams::of),
            started_at: clock::now(),
        });
        let pages = Arc::new(Pages::new(Arc::clone(&telemetry), config_file, dashboards));
        let gate = Gate::new(Arc::clone(&table), Arc::clone(&log), ledger, limits);
        let gate = gate.with_shelf(Arc::<Latest>::clone(&latest)).with_memory(Arc::clone(&memory));
        let gate = gate.with_tallies(Arc::clone(&tallies)).with_applications(applications);
        let gate = gate.with_databases(databases).map_err(GatewayError::Databases)?;
        let gate = Arc::new(gate.with_pushed_groups().await.map_err(GatewayError::PushedGroups)?);
        let sweep_interval = (series.idle / IDLE_SWEEPS).max(Duration::from_secs(1));
        Ok(Self {
            http,
            wavefront,
            influx_tcp,
            influx_udp,
            rsocket: rsocket_listeners,
            outputs,
            log,
            table,
            latest,
            telemetry,
            gate,
            memory,
            pages,
            tallies,
            sweep_interval,
        })
    }

    /// Where HTTP is listening.
    pub fn http_address(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// The pages, which can reload the configuration.
    pub fn pages(&self) -> Arc<Pages> {
        Arc::clone(&self.pages)
    }

    /// Runs until `stop` is cancelled, then drains: sockets first, then outputs, then the log. Returns the final state.
    pub async fn run(self, stop: CancellationToken) -> Status {
        let Self {
            http,
            wavefront,
            influx_tcp,
            influx_udp,
            rsocket,
            outputs,
            log,
            table,
            latest,
            telemetry,
            gate,
            memory,
            pages,
            tallies,
            sweep_interval,
        } = self;

        // Before anything can be appended, so that `/scrape` misses nothing.
        let news = log.reader(log.end());

        let mut inputs = JoinSet::new();
        inputs.spawn(ingest::serve_http(http, Arc::clone(&gate), Arc::<Pages>::clone(&pages), stop.clone()));
        if let Some(listener) = wavefront {
            inputs.spawn(ingest::serve_wavefront(listener, Arc::clone(&gate), stop.clone()));
        }
        if let Some(listener) = influx_tcp {
            inputs.spawn(ingest::serve_influx_tcp(listener, Arc::clone(&gate), stop.clone()));
        }
        if let Some(socket) = influx_udp {
            inputs.spawn(ingest::serve_influx_udp(socket, Arc::clone(&gate), stop.clone()));
        }
        inputs.spawn(ingest::serve_rsocket(rsocket, Arc::clone(&gate), stop.clone()));

        let drain = CancellationToken::new();
        let mut forwarding = JoinSet::new();
        for output in outputs {
            forwarding.spawn(output.run(Arc::clone(&log), Arc::clone(&table), drain.clone()));
        }

        let mut background = JoinSet::new();
        {
            let (latest, table, drain) = (Arc::clone(&latest), Arc::clone(&table), drain.clone());
            background.spawn(async move { latest.follow(news, &table, &drain).await });
        }
        background.spawn(sweep(Arc::clone(&table), Arc::clone(&memory), sweep_interval));
        background.spawn(async move { memory.watch().await });

        let inputs_done = CancellationToken::new();
        let keeping = tokio::spawn(tallies.keep(Arc::clone(&log), Arc::clone(&table), inputs_done.clone()));

        stop.cancelled().await;
        pages.drain();
        if tokio::time::timeout(REQUESTS_DRAIN_MAX, finished(&mut inputs)).await.is_err() {
            tracing::warn!("some requests did not finish in time");
            inputs.shutdown().await;
        }
        inputs_done.cancel();
        drain.cancel();
        if tokio::time::timeout(OUTPUTS_DRAIN_MAX, finished(&mut forwarding)).await.is_err() {
            tracing::warn!("some outputs could not send everything in time; the rest stays in the log");
            forwarding.shutdown().await;
        }
        background.shutdown().await;
        // Fails only by a panic, which was told.
        let _ = keeping.await;
        log.close().await;
        telemetry.status()
    }
}

impl Shelf for Latest {
    fn show(&self, batch: Arc<Batch>, table: &SeriesTable, appended_at: TimestampNs) {
        self.show(batch, table, appended_at);
    }
    fn keep(&self, series: &[SeriesId]) {
        self.keep(series);
    }
    fn release(&self, series: &[SeriesId]) {
        self.release(series);
    }
}

/// Waits for tasks; a panic in one is reported and does not take the others along.
async fn finished(tasks: &mut JoinSet<()>) {
    while let Some(result) = tasks.join_next().await {
        if let Err(error) = result {
            tracing::error!(%error, "a task ended by a panic");
        }
    }
}

async fn sweep(table: Arc<SeriesTable>, memory: Arc<Memory>, interval: Duration) {
    let mut interval = tokio::time::interval(interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if memory.is_tight() {
            table.hurry();
        }
        // A large table takes longer than a worker thread may be kept.
        let swept = Arc::clone(&table);
        let retired = tokio::task::spawn_blocking(move || swept.sweep()).await.unwrap_or_default();
        if retired > 0 {
            tracing::debug!(retired, "idle series left the table");
        }
    }
}

async fn tcp(key: &'static str, address: SocketAddr) -> Result<TcpListener, GatewayError> {
    TcpListener::bind(address).await.map_err(|source| GatewayError::Listen { key, address, source })
}

async fn udp(key: &'static str, address: SocketAddr) -> Result<UdpSocket, GatewayError> {
    UdpSocket::bind(address).await.map_err(|source| GatewayError::Listen { key, address, source })
}

async fn optional<S, F: Future<Output = Result<S, GatewayError>>>(
    bind: impl FnOnce(&'static str, SocketAddr) -> F,
    key: &'static str,
    address: Option<config::ListenAddress>,
) -> Result<Option<S>, GatewayError> {
    match address {
        Some(address) => bind(key, address.0).await.map(Some),
        None => Ok(None),
    }
}

/// The cursors of outputs that are not configured; warns of each.
fn abandoned(log: &Log, outputs: &[Output]) -> Result<Vec<(String, log::CursorState)>, LogError> {
    let files = log::cursors(log.dir())?.into_iter();
    let mut cursors: Vec<_> = files.filter_map(|file| Some((file.name, file.state.ok()?))).collect();
    cursors.retain(|(name, _)| name != CURSOR && outputs.iter().all(|output| output.name() != name));
    let stats = log.stats();
    for (name, cursor) in &cursors {
        if let Err(error) = log.abandon(name, cursor) {
            tracing::warn!(output = name, %error, "the cursor of an output that is not configured stays as it is");
        }
        let Abandoned { name, undelivered, held } = Abandoned::new(name, cursor, stats.first, stats.end);
        tracing::warn!(
            output = name,
            undelivered,
            held,
            "this output is not configured: what it did not deliver is abandoned, unless it comes back while the log holds it"
        );
    }
    Ok(cursors)
}

/// The machine's name, the last resort for a Wavefront source.
fn host_name() -> String {
    let name = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "sluicegate".to_owned())
}
