//! Kill -9 at random moments, full disks, damaged segments, on the built binary: what was acknowledged arrives, and the
//! ledger stays exact.

#![allow(
    clippy::float_cmp,
    clippy::format_collect,
    clippy::format_push_string,
    reason = "counts pass through unchanged, and a test may allocate"
)]

#[path = "support"]
mod support {
    #[allow(dead_code, reason = "each test program uses its part")]
    pub(crate) mod gateway;
    #[allow(dead_code, reason = "each test program uses its part")]
    pub(crate) mod http;
    #[allow(dead_code, reason = "each test program uses its part")]
    pub(crate) mod server;
    #[allow(dead_code, reason = "each test program uses its part")]
    pub(crate) mod sink;
}

use sluicegate::wire::remote_write::messages::{Label, Sample, TimeSeries, WriteRequest};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use support::gateway::{Gateway, Setup, gateway};
use support::http;
use support::server::eventually;
use support::sink::Sink;

/// How often a gateway is killed.
const KILLS: u32 = 5;
/// Samples in a request.
const PER_REQUEST: u64 = 20;
/// Clients at a time.
const CLIENTS: u64 = 4;
/// The time of sample 0.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// A client that was told to wait looks again after.
const PAUSE: Duration = Duration::from_millis(20);

/// A gateway with the sink as its InfluxDB, and that log.
fn to(sink: &Sink, log: &str) -> Setup {
    let output = format!(
        "influxdb: {{ url: \"{}\", database: x, gzip: false }}
    queue_config: {{ batch_send_deadline: 50ms, max_samples_per_send: 500, max_backoff: 200ms }}",
        sink.url()
    );
    gateway().log(log).output("sink", &output)
}

/// How a client speaks.
#[derive(Clone, Copy)]
enum Speech {
    Lines,
    RemoteWrite,
}

impl Speech {
    /// Posts the samples `from..from + PER_REQUEST` of a client; whether they were acknowledged.
    fn post(self, url: &str, client: u64, from: u64) -> bool {
        let numbers = from..from + PER_REQUEST;
        let answer = match self {
            Self::Lines => {
                let lines: String = numbers
                    .map(|number| format!("n,client={client} value={number} {}\n", (EPOCH_MS + number) * 1_000_000))
                    .collect();
                http::try_send("POST", &format!("{url}/write?db=x"), &[], lines.as_bytes())
            }
            Self::RemoteWrite => {
                let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
                let samples = numbers
                    .map(|number| Sample { value: number as f64, timestamp: (EPOCH_MS + number).cast_signed() })
                    .collect();
                let labels = vec![label("__name__", "n"), label("client", &client.to_string())];
                let series = TimeSeries { labels, samples, ..TimeSeries::default() };
                let message = WriteRequest { timeseries: vec![series], ..WriteRequest::default() };
                let body =
                    snap::raw::Encoder::new().compress_vec(&prost::Message::encode_to_vec(&message)).expect("small");
                let headers = [
                    ("Content-Type", "application/x-protobuf"),
                    ("Content-Encoding", "snappy"),
                    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
                ];
                http::try_send("POST", &format!("{url}/api/v1/write"), &headers, &body)
            }
        };
        match answer {
            Ok(answer) if answer.status == 204 => true,
            Ok(answer) if matches!(answer.status, 429 | 503) => false,
            Ok(answer) => panic!("{}: {}", answer.status, answer.text()),
            Err(_) => false,
        }
    }
}

/// What clients posted until they were told to stop.
#[derive(Default)]
struct Posted {
    acknowledged: BTreeSet<(u64, u64)>,
    /// Samples in requests that got no 204: accepted or not.
    in_doubt: u64,
}

/// Lets clients post until `scene` is over. A request that is not acknowledged is posted again.
fn posting(url: &str, scene: impl FnOnce(&AtomicU64)) -> Posted {
    let (over, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut all = Posted::default();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (over, acknowledged) = (&over, &acknowledged);
                let speech = if client % 2 == 0 { Speech::Lines } else { Speech::RemoteWrite };
                scope.spawn(move || {
                    let mut posted = Posted::default();
                    let mut from = 0;
                    while !over.load(Ordering::Relaxed) {
                        if speech.post(url, client, from) {
                            posted.acknowledged.extend((from..from + PER_REQUEST).map(|number| (client, number)));
                            acknowledged.fetch_add(PER_REQUEST, Ordering::Relaxed);
                            from += PER_REQUEST;
                        } else {
                            posted.in_doubt += PER_REQUEST;
                            thread::sleep(PAUSE);
                        }
                    }
                    posted
                })
            })
            .collect();
        scene(&acknowledged);
        over.store(true, Ordering::Relaxed);
        for client in clients {
            let posted = client.join().expect("a client");
            all.acknowledged.extend(posted.acknowledged);
            all.in_doubt += posted.in_doubt;
        }
    });
    all
}

fn accepted(gateway: &Gateway) -> u64 {
    gateway.metric("sluicegate_samples_accepted_total", &[]) as u64
}

/// The sink has everything that was acknowledged.
fn complete(sink: &Sink, posted: &Posted) {
    let arrived = sink.arrived();
    let missing: Vec<_> = posted.acknowledged.difference(&arrived).take(10).collect();
    assert!(missing.is_empty(), "acknowledged and not delivered: {missing:?} and perhaps more");
}

fn survives_kills(log: &str) {
    let sink = Sink::start();
    // Now and then the destination is busy, so that something waits whenever the gateway dies.
    sink.refuse_every(5);
    let mut running = Some(to(&sink, log).start());
    let url = running.as_ref().expect("runs").url("");
    let mut random = fastrand::Rng::new();
    let posted = posting(&url, |acknowledged| {
        for _ in 0..KILLS {
            let before = acknowledged.load(Ordering::Relaxed);
            eventually(Duration::from_secs(30), || {
                let now = acknowledged.load(Ordering::Relaxed);
                if now > before + 200 { Ok(()) } else { Err(format!("{} samples acknowledged", now - before)) }
            });
            thread::sleep(Duration::from_millis(random.u64(0..400)));
            let stopped = running.take().expect("runs").crash();
            let again = stopped.start();
            again.balanced();
            running = Some(again);
        }
    });
    let gateway = running.expect("runs");
    sink.refuse_every(u64::MAX);
    gateway.drained();
    complete(&sink, &posted);
    let (accepted, acknowledged) = (accepted(&gateway), posted.acknowledged.len() as u64);
    assert!(
        (acknowledged..=acknowledged + posted.in_doubt).contains(&accepted),
        "{accepted} accepted, {acknowledged} acknowledged, {} in doubt",
        posted.in_doubt
    );
    assert_eq!(gateway.dropped("sink"), []);
}

#[test]
fn what_was_acknowledged_arrives_however_often_the_gateway_is_killed() {
    survives_kills("max_bytes: 1GiB");
}

#[test]
fn it_does_so_with_small_segments_and_without_waiting_for_the_disk() {
    survives_kills("max_bytes: 64MiB, segment_bytes: 64KiB, memory_bytes: 1MiB, ack: memory");
}

/// Posts requests of one client until one is refused, or `most` are taken; the number acknowledged.
fn fill(url: &str, from: u64, most: u64) -> u64 {
    let taken = (0..most).take_while(|request| Speech::Lines.post(url, 0, (from + request) * PER_REQUEST)).count();
    taken as u64
}

fn fill_up(url: &str, from: u64) -> u64 {
    const MOST: u64 = 100_000;
    let taken = fill(url, from, MOST);
    assert!(taken < MOST, "it never fills up");
    taken
}

fn numbers(requests: u64) -> BTreeSet<(u64, u64)> {
    (0..requests * PER_REQUEST).map(|number| (0, number)).collect()
}

#[test]
fn a_full_log_refuses_and_goes_on_when_the_destination_is_back() {
    let sink = Sink::start();
    sink.refuse_every(1);
    let gateway = to(&sink, "max_bytes: 256KiB").start();
    let mut requests = fill_up(&gateway.url(""), 0);
    assert!(requests > 10, "{requests} taken");
    assert!(gateway.metric("sluicegate_log_bytes", &[]) <= 262_144.0);
    let gateway = gateway.crash_and_restart();
    gateway.balanced();
    assert!(accepted(&gateway) == requests * PER_REQUEST);
    sink.refuse_every(u64::MAX);
    gateway.drained();
    requests += fill(&gateway.url(""), requests, 50);
    gateway.drained();
    assert!(numbers(requests).is_subset(&sink.arrived()));
    assert_eq!(gateway.dropped("sink"), []);
}

#[test]
fn drop_oldest_counts_what_it_drops() {
    let sink = Sink::start();
    sink.refuse_every(1);
    let gateway = to(&sink, "max_bytes: 256KiB, memory_bytes: 1MiB, on_full: drop_oldest").start();
    let requests = fill(&gateway.url(""), 0, 2000);
    assert_eq!(requests, 2000, "nothing is refused");
    assert!(gateway.metric("sluicegate_log_bytes", &[]) <= 262_144.0);
    let gateway = gateway.crash_and_restart();
    gateway.balanced();
    sink.refuse_every(u64::MAX);
    gateway.drained();
    let dropped = gateway.dropped("sink");
    let [(reason, samples)] = dropped.as_slice() else { panic!("{dropped:?}") };
    assert_eq!(reason, "log_full");
    let arrived = sink.arrived();
    assert!(arrived.contains(&(0, 2000 * PER_REQUEST - 1)), "the newest is there");
    // Those read ahead before the oldest segments went may have arrived although the crash forgot about it.
    assert!(
        numbers(2000).difference(&arrived).count() as f64 <= *samples,
        "{} arrived, {samples} dropped",
        arrived.len()
    );
    assert!(*samples > 0.0);
}

/// A small file system of its own; unmounted when it goes out of scope.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::TempDir::new().expect("temporary folder");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(dir.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let Some(disk) = SmallDisk::mount() else {
        println!("a_full_disk_refuses_and_recovers: skipped, mounting a tmpfs takes root");
        return;
    };
    let sink = Sink::start();
    sink.refuse_every(1);
    let gateway = to(&sink, "max_bytes: 1GiB, segment_bytes: 256KiB").log_dir(disk.path().join("log")).start();
    let url = gateway.url("");
    let mut requests = fill_up(&url, 0);
    assert!(requests > 100, "{requests} taken");
    assert!(gateway.metric("sluicegate_log_bytes", &[]) <= f64::from(2 << 20));
    gateway.balanced();
    // Not a byte is left: not for a cursor's file either.
    fs::write(disk.path().join("rest"), vec![0; 2 << 20]).expect_err("the disk is full");
    let gateway = gateway.crash_and_restart();
    gateway.balanced();
    assert_eq!(accepted(&gateway), requests * PER_REQUEST);
    sink.refuse_every(u64::MAX);
    gateway.drained();
    eventually(Duration::from_secs(10), || match http::send("GET", &gateway.url("/-/healthy"), &[], b"") {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.text()),
    });
    let taken = fill(&url, requests, 50);
    assert_eq!(taken, 50, "delivered segments made room");
    requests += taken;
    gateway.drained();
    assert!(numbers(requests).is_subset(&sink.arrived()));
    assert_eq!(gateway.dropped("sink"), []);
    drop(gateway);
}

/// The segment files of a log, oldest first.
fn segments(log: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(log.join("segments")).expect("segments");
    let mut segments: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    segments.sort();
    segments
}

/// Flips a bit in the middle of a file.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).expect("a segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(file, bytes).expect("a segment");
}

#[test]
fn damage_costs_the_records_it_touches_and_is_counted() {
    let sink = Sink::start();
    sink.refuse_every(1);
    let gateway = to(&sink, "max_bytes: 64MiB, segment_bytes: 64KiB, memory_bytes: 1MiB").start();
    let requests = fill(&gateway.url(""), 0, 1000);
    assert_eq!(requests, 1000);
    let stopped = gateway.crash();
    let files = segments(&stopped.log_dir());
    assert!(files.len() > 3, "{files:?}");
    damage(&files[1]);
    damage(files.last().expect("the active one"));
    let verify =
        |dir: &Path| Command::new(env!("CARGO_BIN_EXE_sluicegate")).args(["log", "verify", "--dir"]).arg(dir).output();
    let verified = verify(&stopped.log_dir()).expect("it runs");
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");

    sink.refuse_every(u64::MAX);
    let gateway = stopped.start();
    gateway.drained();
    assert_eq!(accepted(&gateway), 1000 * PER_REQUEST);
    let missing = numbers(1000).difference(&sink.arrived()).count() as f64;
    assert!((1.0..=2.0 * PER_REQUEST as f64).contains(&missing), "{missing} lost: two records at most");
    assert_eq!(gateway.dropped("sink"), [("log_damaged".to_owned(), missing)]);
}
