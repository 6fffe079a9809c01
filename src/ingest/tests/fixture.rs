//! A gate with a listener on loopback, and HTTP spoken by hand.

use crate::config::Limits;
use crate::ingest::{Gate, Pages, serve_http};
use crate::ledger::Ledger;
use crate::log::{Cursor, CursorState, Entry, Log, LogConfig, Position, Record};
use crate::model::{Batch, Format, Refusal, Sample, SeriesTable, TableBounds, Value};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{HeaderMap, Method, Response};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(super) struct Fixture {
    pub(super) gate: Arc<Gate>,
    pub(super) address: SocketAddr,
    pub(super) shutdown: CancellationToken,
    serving: JoinHandle<()>,
    /// Holds everything in the log.
    cursor: Cursor,
    dir: TempDir,
    limits: Limits,
    table_bytes_max: usize,
}

/// A log that is full after some hundred samples.
const LOG_BYTES_MAX: u64 = 128 << 10;

/// More than the buffers of a connection.
pub(super) const LARGE_PAGE_BYTES: usize = 16 << 20;
/// Large pages that were made.
pub(super) static PAGES_MADE: AtomicUsize = AtomicUsize::new(0);

struct OnePage;

impl Pages for OnePage {
    fn page(&self, _: &Method, path: &str, _: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        match path {
            "/page" => Some(Response::new(Full::from("made by the gateway"))),
            "/scrape" => {
                PAGES_MADE.fetch_add(1, Ordering::Relaxed);
                Some(Response::new(Full::from("x".repeat(LARGE_PAGE_BYTES))))
            }
            "/large" => Some(Response::new(Full::from("x".repeat(LARGE_PAGE_BYTES)))),
            _ => None,
        }
    }
    fn is_large(&self, path: &str) -> bool {
        path == "/scrape" || path == "/large"
    }
}

impl Fixture {
    pub(super) async fn start() -> Self {
        Self::with(|_| {}, usize::MAX).await
    }

    pub(super) async fn with(adjust: impl FnOnce(&mut Limits), table_bytes_max: usize) -> Self {
        let mut limits = Limits::default();
        adjust(&mut limits);
        Self::start_in(tempfile::tempdir().unwrap(), limits, table_bytes_max).await
    }

    async fn start_in(dir: TempDir, limits: Limits, table_bytes_max: usize) -> Self {
        let table = Arc::new(SeriesTable::new(TableBounds {
            bytes_max: table_bytes_max,
            series_per_source_max: limits.series_per_source_max.unwrap_or(usize::MAX),
            ..TableBounds::default()
        }));
        let config = LogConfig { bytes_max: LOG_BYTES_MAX, ..LogConfig::new(dir.path()) };
        let log = Arc::new(Log::open(config, Arc::clone(&table)).unwrap());
        let cursor = log.cursor("all").unwrap();
        let gate = Gate::new(table, log, Arc::new(Ledger::new(Vec::new())), limits.clone());
        let gate = gate.with_databases(Arc::default()).unwrap();
        let gate = Arc::new(gate.with_pushed_groups().await.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve_http(listener, Arc::clone(&gate), Arc::new(OnePage), shutdown.clone()));
        Self { gate, address, shutdown, serving, cursor, dir, limits, table_bytes_max }
    }

    /// Another gate on the same log.
    pub(super) async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    /// The same with other limits.
    pub(super) async fn restart_with(mut self, adjust: impl FnOnce(&mut Limits)) -> Self {
        adjust(&mut self.limits);
        self.shutdown.cancel();
        self.serving.await.unwrap();
        self.gate.log.close().await;
        let Self { gate, cursor, dir, limits, table_bytes_max, .. } = self;
        drop((gate, cursor));
        Self::start_in(dir, limits, table_bytes_max).await
    }

    /// The log's directory.
    pub(super) fn log_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where pushes are kept.
    pub(super) fn pushed_dir(&self) -> PathBuf {
        self.dir.path().join("pushed")
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.serving).await.unwrap().unwrap();
    }

    async fn records(&self) -> Vec<Arc<Record>> {
        let end = self.gate.log.end();
        let mut reader = self.gate.log.reader(Position::default());
        let mut records = Vec::new();
        while reader.position() < end {
            let Entry::Record(record) = reader.next().await.unwrap() else { panic!("samples are missing") };
            records.push(record);
        }
        records
    }

    /// What the log took: series as `name{a=b}` and value.
    pub(super) async fn samples(&self) -> Vec<(String, f64)> {
        let mut samples = Vec::new();
        for record in self.records().await {
            samples.extend(record.batch.samples.iter().map(|sample| self.shown(&record.batch, sample)));
        }
        samples
    }

    /// The families that the log took apart from any series.
    pub(super) async fn families(&self) -> Vec<String> {
        let records = self.records().await;
        let metadata = records.iter().flat_map(|record| &record.batch.metadata);
        metadata.map(|metadata| metadata.family.to_string()).collect()
    }

    fn shown(&self, batch: &Batch, sample: &Sample) -> (String, f64) {
        let series = batch.series(sample.series, &self.gate.table).unwrap();
        let mut text = series.name.measurement().to_owned();
        if let Some(field) = series.name.field_key() {
            write!(text, ".{field}").unwrap();
        }
        let labels: Vec<_> = series.labels.iter().map(|pair| format!("{}={}", pair.name, pair.value)).collect();
        if !labels.is_empty() {
            write!(text, "{{{}}}", labels.join(",")).unwrap();
        }
        let value = match batch.value(sample) {
            Value::F64(value) => value,
            Value::I64(value) => value as f64,
            _ => 0.0,
        };
        (text, value)
    }

    pub(super) async fn wait_for(&self, samples: usize) {
        for _ in 0..500 {
            if self.samples().await.len() >= samples {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(self.samples().await.len(), samples);
    }

    pub(super) fn rejected(&self, format: Format, reason: Refusal) -> u64 {
        self.gate.ledger.rejected(format, reason)
    }

    /// Posts until the log refuses even the smallest batch.
    pub(super) async fn fill_log(&self) {
        let large = "cpu v=1\n".repeat(500);
        for body in [large.as_str(), "cpu v=1\n"] {
            while self.exchange("POST /write?db=d", "", body.as_bytes()).await.status == 204 {}
        }
    }

    /// Acknowledges everything, so that the log has room again.
    pub(super) fn empty_log(&self) {
        let Position { seq, ordinal } = self.gate.log.end();
        let moved = self.cursor.acknowledge(CursorState { seq, ordinal, delivered: ordinal, ..self.cursor.state() });
        assert!(moved);
    }

    pub(super) async fn close_log(&self) {
        self.gate.log.close().await;
    }

    /// Sends one request on a connection of its own.
    pub(super) async fn exchange(&self, request: &str, headers: &str, body: &[u8]) -> Exchange {
        self.exchange_open(request, &format!("Connection: close\r\n{headers}"), body).await
    }

    /// The same without asking for the connection to be closed.
    pub(super) async fn exchange_open(&self, request: &str, headers: &str, body: &[u8]) -> Exchange {
        let head = format!("{request} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        self.send(&[head.as_bytes(), body].concat()).await
    }

    /// The same as [`Fixture::exchange`], from another address of loopback.
    pub(super) async fn exchange_from(&self, from: IpAddr, request: &str, headers: &str, body: &[u8]) -> Exchange {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        let head = format!("{request} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        Exchange::read(&mut stream).await
    }

    /// Sends bytes and reads one answer.
    pub(super) async fn send(&self, bytes: &[u8]) -> Exchange {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(bytes).await;
        Exchange::read(&mut stream).await
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) status: u16,
    text: String,
}

impl Exchange {
    /// Reads one answer from a connection, to the length it tells; status 0 when the connection ends without one.
    pub(super) async fn read(stream: &mut TcpStream) -> Self {
        let read = async {
            let mut bytes = Vec::new();
            while !Self::is_whole(&bytes) {
                match stream.read_buf(&mut bytes).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
            }
            bytes
        };
        let bytes = tokio::time::timeout(Duration::from_secs(20), read).await.expect("an answer in time");
        let text = String::from_utf8(bytes).unwrap();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, text }
    }

    fn is_whole(bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        length.is_none_or(|length| body.len() >= length.parse().unwrap())
    }

    pub(super) fn contains(&self, part: &str) -> bool {
        self.text.contains(part)
    }
}
