//! A link and its gate, without sockets and without encryption; `tests/e2e/rsocket.rs` has the rest.

use super::cipher::Key;
use super::counts::Transport;
use super::{link, pull};
use crate::config::{Encryption, Limits, Rsocket};
use crate::ingest::temporality::Tallies;
use crate::ingest::{Applications, Gate};
use crate::ledger::Ledger;
use crate::log::{Cursor, Entry, Log, LogConfig, Position};
use crate::micrometer::Profile;
use crate::model::{Format, Refusal, SeriesTable, Value};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SETUP: &[u8] = b"\0\0\0\0\x04\0\0\x01\0\0\0\0\x4e\x20\0\x01\x5f\x90\0\0";
const SOON: Duration = Duration::from_secs(20);

/// A gate, and an application that is connected to it.
struct Fixture {
    gate: Arc<Gate>,
    app: DuplexStream,
    link: JoinHandle<()>,
    shutdown: CancellationToken,
    /// Holds everything in the log.
    _cursor: Cursor,
    _dir: TempDir,
}

impl Fixture {
    async fn start(log_bytes_max: u64) -> Self {
        Self::with(log_bytes_max, Rsocket::default()).await
    }

    async fn with(log_bytes_max: u64, settings: Rsocket) -> Self {
        static KEY: OnceLock<Arc<Key>> = OnceLock::new();
        let table = Arc::new(SeriesTable::default());
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig { bytes_max: log_bytes_max, ..LogConfig::new(dir.path()) };
        let log = Arc::new(Log::open(config, Arc::clone(&table)).unwrap());
        let cursor = log.cursor("all").unwrap();
        let settings = Rsocket { encryption: Encryption::Plaintext, ..settings };
        let applications = Arc::new(Applications::new(settings));
        applications.key.set(Arc::clone(KEY.get_or_init(|| Arc::new(Key::generate().unwrap())))).unwrap();
        let gate = Gate::new(table, log, Arc::new(Ledger::new(Vec::new())), Limits::default());
        // A step that is over at once: each sample tells what was added since the one before.
        let profile = Profile { step: Duration::from_nanos(1), ..Profile::default() };
        let gate = gate.with_applications(applications).with_tallies(Arc::new(Tallies::new(Arc::new(profile))));
        let gate = Arc::new(gate);
        let shutdown = CancellationToken::new();
        let (app, link) = connect(&gate, &shutdown).await;
        Self { gate, app, link, shutdown, _cursor: cursor, _dir: dir }
    }

    async fn ended(self) {
        drop(self.app);
        tokio::time::timeout(SOON, self.link).await.unwrap().unwrap();
        assert!(self.gate.is_free(), "memory stays charged");
        assert_eq!(self.gate.applications.counts().connected, 0);
    }

    fn pushed(&self) -> Vec<usize> {
        self.gate.applications.last_words().iter().map(|words| words.samples.len()).collect()
    }
}

/// An application dials in.
async fn connect(gate: &Arc<Gate>, shutdown: &CancellationToken) -> (DuplexStream, JoinHandle<()>) {
    let (mut app, stream) = tokio::io::duplex(1 << 20);
    let (gate, shutdown, peer) = (Arc::clone(gate), shutdown.clone(), ([192, 0, 2, 1], 7).into());
    let link = tokio::spawn(async move { link::serve(stream, Transport::Tcp, &gate, peer, &shutdown).await });
    send(&mut app, SETUP).await;
    assert_eq!(receive(&mut app).await[..6], *b"\0\0\0\x02\x14\0", "the key");
    (app, link)
}

/// Waits until the application is asked for its text, and answers where there is one.
async fn answer(app: &mut DuplexStream, text: Option<&str>) {
    let asked = loop {
        let frame = receive(app).await;
        // A key comes as well.
        if frame[4] == 0x10 {
            break frame;
        }
    };
    if let Some(text) = text {
        send(app, &plaintext(&[&asked[..4], b"\x29\x60"].concat(), text)).await;
    }
}

async fn send(app: &mut DuplexStream, frame: &[u8]) {
    app.write_all(&[&(frame.len() as u32).to_be_bytes()[1..], frame].concat()).await.unwrap();
}

async fn receive(app: &mut DuplexStream) -> Vec<u8> {
    let read = async {
        let mut length = [0; 4];
        app.read_exact(&mut length[1..]).await.unwrap();
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        app.read_exact(&mut frame).await.unwrap();
        frame
    };
    tokio::time::timeout(SOON, read).await.unwrap()
}

async fn until(is_so: impl Fn() -> bool) {
    let looking = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, looking).await.unwrap();
}

/// A payload of plain text, behind a header.
fn plaintext(header: &[u8], text: &str) -> Vec<u8> {
    [header, b"\0\0\x09plaintext", text.as_bytes()].concat()
}

#[tokio::test]
async fn a_push_that_the_log_does_not_take_is_told_and_still_shown() {
    let mut fixture = Fixture::start(64 << 10).await;
    let text = |push: usize| {
        let lines: Vec<_> = (0..200 + push).map(|at| format!("m{at}{{push=\"{push}\"}} 1\n")).collect();
        lines.concat()
    };
    let mut answers = Vec::new();
    for push in 0..50 {
        send(&mut fixture.app, &plaintext(&[0, 0, 0, 2 * push as u8 + 1, 0x11, 0], &text(push))).await;
        answers.push(receive(&mut fixture.app).await);
        if answers.last().is_some_and(|answer| answer[4] == 0x2c) {
            break;
        }
    }
    let (last, first) = answers.split_last().unwrap();
    assert!(!first.is_empty() && first.iter().all(|answer| answer[4..] == [0x28, 0x60]), "{answers:?}");
    let told = String::from_utf8_lossy(last);
    assert!(told.ends_with("the log is full: an output lags or is down"), "{told}");
    let lost = 200 + first.len();
    assert_eq!(fixture.gate.ledger.rejected(Format::PrometheusText, Refusal::Log), lost as u64);
    send(&mut fixture.app, b"\0\0\0\0\x2c\0\0\0\x01\x01disposed").await;
    until(|| fixture.gate.applications.counts().connected == 0).await;
    assert_eq!(fixture.pushed(), [lost]);
    fixture.ended().await;
}

#[tokio::test]
async fn nothing_stays_charged_for_who_leaves_amid_a_payload() {
    let mut fixture = Fixture::start(1 << 20).await;
    // A first fragment, and the beginning of a second one.
    send(&mut fixture.app, &[b"\0\0\0\x01\x10\x80".to_vec(), vec![7; 100_000]].concat()).await;
    fixture.app.write_all(&[b"\x0f\0\0\0\0\0\x01\x28\x80".to_vec(), vec![7; 100_000]].concat()).await.unwrap();
    until(|| !fixture.gate.is_free()).await;
    fixture.ended().await;
}

#[tokio::test]
async fn rounds_are_shared_and_what_is_too_late_is_not() {
    let mut fixture = Fixture::start(1 << 20).await;
    let scraping = |within| {
        let gate = Arc::clone(&fixture.gate);
        tokio::spawn(async move {
            pull::texts(&gate, within).await.iter().map(|text| text.samples.len()).collect::<Vec<_>>()
        })
    };
    let (hasty, patient, other) = (scraping(Duration::from_millis(50)), scraping(SOON), scraping(SOON));
    assert_eq!(receive(&mut fixture.app).await, b"\0\0\0\x04\x10\0plaintext");
    assert_eq!(hasty.await.unwrap(), [0; 0]);
    send(&mut fixture.app, &plaintext(b"\0\0\0\x04\x29\x60", "a 1\nb 2\n")).await;
    assert_eq!((patient.await.unwrap(), other.await.unwrap()), (vec![2], vec![2]));
    assert_eq!(fixture.gate.applications.counts().scrapes, 1);
    fixture.ended().await;
}

#[tokio::test]
async fn a_series_of_one_that_is_stuck_goes_to_one_that_answers_and_adds_what_that_counts_from_then_on() {
    // Each round goes to the log.
    let (scrape_interval, scrape_timeout) = (Duration::ZERO, Duration::from_secs(1));
    let settings = Rsocket { scrape_interval, scrape_timeout, ..Rsocket::default() };
    let mut fixture = Fixture::with(1 << 20, settings).await;
    let (mut other, _link) = connect(&fixture.gate, &fixture.shutdown).await;
    let text = |value: u32| format!("m_total{{application_guid=\"g\"}} {value}\n");
    for (round, [first, second]) in [[Some(100), Some(7)], [Some(105), Some(9)], [None, Some(20)]].iter().enumerate() {
        let gate = Arc::clone(&fixture.gate);
        let scraping = tokio::spawn(async move { pull::texts(&gate, SOON).await });
        answer(&mut fixture.app, first.map(text).as_deref()).await;
        // The first to answer has the series.
        until(|| round > 0 || fixture.gate.log.end().ordinal == 1).await;
        answer(&mut other, second.map(text).as_deref()).await;
        scraping.await.unwrap();
    }
    assert_eq!(fixture.gate.ledger.rejected(Format::PrometheusText, Refusal::DuplicateSeries), 3);
    for value in [22, 25] {
        let gate = Arc::clone(&fixture.gate);
        let scraping = tokio::spawn(async move { pull::texts(&gate, SOON).await });
        answer(&mut other, Some(&text(value))).await;
        scraping.await.unwrap();
    }
    let (mut values, mut added, mut reader) = (Vec::new(), 0.0, fixture.gate.log.reader(Position::default()));
    while reader.position() < fixture.gate.log.end() {
        let Entry::Record(record) = reader.next().await.unwrap() else { panic!("samples are missing") };
        values.extend(record.batch.samples.iter().map(|sample| match record.batch.value(sample) {
            Value::F64(value) if !value.is_nan() => value as u32,
            _ => 0,
        }));
        added += record.batch.restated.iter().map(|(_, restated)| restated.value).sum::<f64>();
    }
    assert_eq!(values, [100, 105, 0, 22, 25], "0 for its end");
    assert!((added - 108.0).abs() < 1e-9, "100, 5 and 3, and not what was left out: {added}");
}

#[tokio::test]
async fn who_is_connected_is_told_of_a_shutdown() {
    let mut fixture = Fixture::start(1 << 20).await;
    fixture.shutdown.cancel();
    assert_eq!(receive(&mut fixture.app).await, b"\0\0\0\0\x2c\0\0\0\x01\x02the gateway is shutting down");
    fixture.ended().await;
}
