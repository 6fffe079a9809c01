//! Attacks that aim at memory, on a gateway with a limit of it: the process never has more, and a client that honours
//! `Retry-After` loses nothing.

use super::support::counting_sink::{CountingSink, Kind, Mode};
use super::{GIVE_UP, Scene, bombs, connect, duration, eventually, free_port, gateway, request, size};
use sluicegate::clock;
use sluicegate::config::MEMORY_LIMIT_MIN;
use sluicegate::log::{Ack, Log, LogConfig};
use sluicegate::model::{BatchBuilder, Format, SampleFlags, SeriesSpec, SeriesTable, Value};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// A request on a connection of its own, repeated as its answers ask for until it is taken or the time is over; whether
/// it was taken.
fn insist(port: u16, path: &str, body: &[u8], told_to_wait: &AtomicU64) -> bool {
    let end = clock::monotonic() + duration() + GIVE_UP * 3;
    while clock::monotonic() < end {
        let Some((status, retry_after)) = exchange(port, path, body) else { continue };
        if status < 300 {
            return true;
        }
        assert!(matches!(status, 429 | 503), "{status}");
        told_to_wait.fetch_add(1, Ordering::Relaxed);
        thread::sleep(retry_after.expect("an answer that says when to come again"));
    }
    false
}

fn exchange(port: u16, path: &str, body: &[u8]) -> Option<(u16, Option<Duration>)> {
    let mut stream = connect(port).ok()?;
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n").ok()?;
    let _ = stream.write_all(body);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok();
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let seconds = answer.lines().find_map(|line| line.strip_prefix("retry-after: ")?.trim().parse().ok());
    Some((status, seconds.map(Duration::from_secs)))
}

/// A body of the shortest lines there are: of all, they become the largest batch.
fn short_lines(bytes: usize) -> Vec<u8> {
    b"a 1\n".repeat(bytes / 4)
}

#[test]
fn senders_that_come_again_when_they_are_told_to_lose_nothing() {
    let limit = MEMORY_LIMIT_MIN;
    let scene = Scene::of(gateway().limits(&format!("memory_limit: {limit}"))).within(limit as u64);
    let (waited, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    let client = scene.endures(|gateway| {
        let body = short_lines(1 << 20);
        thread::scope(|scope| {
            for _ in 0..32 {
                scope.spawn(|| {
                    for _ in 0..size(1, 10) {
                        assert!(insist(gateway.port(), "/api/v1/import/prometheus", &body, &waited));
                        taken.fetch_add(body.len() as u64 / 4, Ordering::Relaxed);
                    }
                });
            }
        });
        let labels = [("input", "prometheus_text")];
        let accepted = gateway.metric("sluicegate_samples_accepted_total", &labels);
        assert!(accepted == taken.load(Ordering::Relaxed) as f64, "what was taken is in the log, once");
    });
    eprintln!("told to wait {waited:?} times, the client {} times", client.refused.len());
    assert!(client.refused.iter().all(|refused| refused.starts_with("503")), "{:?}", client.refused);
}

/// Everything that makes memory grow, at once.
#[test]
fn all_attacks_on_memory_at_once_stay_below_the_limit() {
    let bombs = bombs();
    for limit in [MEMORY_LIMIT_MIN, 512 << 20] {
        let (lines, wavefront) = (free_port(), free_port());
        let setup = gateway().limits(&format!("memory_limit: {limit}"));
        let scene = Scene::of(setup.listen("influx_tcp", lines).listen("wavefront", wavefront)).within(limit as u64);
        let client = scene.endures(|gateway| {
            let port = gateway.port();
            let end = clock::monotonic() + duration();
            let running = || clock::monotonic() < end;
            thread::scope(|scope| {
                for (path, encoding, bomb) in &bombs {
                    scope.spawn(move || {
                        while running() {
                            request(port, &format!("POST {path} HTTP/1.1\r\nContent-Encoding: {encoding}\r\n"), bomb);
                        }
                    });
                }
                for _ in 0..8 {
                    scope.spawn(move || {
                        let body = short_lines(900 << 10);
                        while running() {
                            request(port, "POST /api/v1/import/prometheus HTTP/1.1\r\n", &body);
                        }
                    });
                }
                scope.spawn(move || {
                    for number in 0_u64.. {
                        if !running() {
                            break;
                        }
                        let body = new_series(number * 1000..(number + 1) * 1000);
                        request(port, "POST /write?db=x HTTP/1.1\r\n", body.as_bytes());
                    }
                });
                scope.spawn(move || {
                    for number in 0_u64.. {
                        if !running() {
                            break;
                        }
                        let help = "help".repeat(10_000);
                        let family = |at| {
                            format!("# HELP f{number}_{at} {help}\n# TYPE f{number}_{at} gauge\nf{number}_{at} 1\n")
                        };
                        let body: String = (0..20).map(family).collect();
                        request(port, "POST /api/v1/import/prometheus HTTP/1.1\r\n", body.as_bytes());
                    }
                });
                // Heads and lines that are never finished.
                scope.spawn(move || {
                    let mut held: Vec<TcpStream> = Vec::new();
                    while running() {
                        for port in [port, wavefront, lines] {
                            let Ok(mut stream) = connect(port) else { continue };
                            let _ = stream.set_write_timeout(Some(Duration::from_millis(20)));
                            let _ = stream.write_all(b"GET / HTTP/1.1\r\nX-Long: ");
                            let _ = stream.write_all(&b"x".repeat(60 << 10));
                            held.push(stream);
                        }
                    }
                });
            });
        });
        eprintln!("limit {} MiB, the client was refused {} times", limit >> 20, client.refused.len());
        assert!(client.refused.iter().all(|refused| refused.starts_with("503")), "{:?}", client.refused);
        assert!(!client.acknowledged.is_empty());
    }
}

fn new_series(numbers: std::ops::Range<u64>) -> String {
    numbers.map(|number| format!("flood_{number},host=h{number},path=/rather/long/{number} value=1\n")).collect()
}

/// Writes a log of that many records, each with its own series beside some that are in all; how many samples that is.
fn write_backlog(dir: &Path, outputs: &[&str], records: u64) -> u64 {
    const OWN: u64 = 300;
    const SHARED: u64 = 100;
    let table = Arc::new(SeriesTable::default());
    let config = LogConfig { ack: Ack::Memory, memory_bytes: 0, ..LogConfig::new(dir) };
    let log = Log::open(config, Arc::clone(&table)).expect("a log");
    let cursors: Vec<_> = outputs.iter().map(|name| log.cursor(name).expect("a cursor")).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let now = clock::now();
    for record in 0..records {
        let mut batch = BatchBuilder::new(&table, Format::RemoteWrite, Vec::new());
        for number in 0..OWN + SHARED {
            let name = if number < OWN { format!("own_{record}_{number}") } else { format!("shared_{number}") };
            let alias = batch.alias(name.as_bytes());
            let known = batch.recognise(alias);
            let series = known.unwrap_or_else(|| {
                let label = |at: u64| (format!("label_{at}").into(), format!("a value of {at} and {name}").into());
                let labels = (0..6).map(label).collect();
                let spec = SeriesSpec { measurement: &name, field: None, labels, metadata: None };
                batch.define(alias, spec).expect("room")
            });
            batch.push(series, now + record as i64 * 1_000_000, Value::F64(1.5), SampleFlags::NONE);
        }
        runtime.block_on(log.append(batch.finish())).expect("appended");
    }
    runtime.block_on(log.close());
    drop((cursors, log));
    // Its threads let go of it a moment later.
    let lock = std::fs::File::open(dir.join("lock")).expect("the lock");
    eventually(GIVE_UP, || lock.try_lock().map_err(|error| error.to_string()));
    records * (OWN + SHARED)
}

/// Outputs with a backlog of many more series than the table may hold, whose destinations fail in every way.
#[test]
fn outputs_that_catch_up_or_cannot_stay_below_the_limit() {
    let names = ["healthy", "silent", "absent", "cut", "failing", "locked"];
    let kinds = [Kind::Influx, Kind::RemoteWrite, Kind::RemoteWrite, Kind::Influx, Kind::RemoteWrite, Kind::Influx];
    let modes = [Mode::Answers(204), Mode::Silent, Mode::Takes, Mode::CutsOff, Mode::Answers(500), Mode::Answers(403)];
    let dir = tempfile::TempDir::new().expect("a folder");
    let samples = write_backlog(dir.path(), &names, size(400, 4000));
    let mut setup = gateway().limits(&format!("memory_limit: {MEMORY_LIMIT_MIN}")).log_dir(dir.path().to_owned());
    let sinks: Vec<_> = kinds
        .into_iter()
        .zip(names)
        .map(|(kind, name)| match name {
            "absent" => CountingSink::absent(kind),
            _ => CountingSink::start(kind),
        })
        .collect();
    for ((name, sink), mode) in names.into_iter().zip(&sinks).zip(modes) {
        sink.set(mode);
        setup = setup.output(name, &sink.block_with("queue_config: { max_backoff: 1s }"));
    }
    let gateway = setup.start();
    let delivered = |output| gateway.metric("sluicegate_samples_delivered_total", &[("output", output)]) as u64;
    eventually(GIVE_UP * 3, || {
        gateway.balanced();
        match delivered("healthy") {
            all if all == samples => Ok(()),
            some => Err(format!("{some} of {samples} samples are delivered")),
        }
    });
    eprintln!("{} MiB resident at most while one of six delivers", gateway.resident_bytes_max() >> 20);
    // All at once: at different places, since some have had bodies on the way for long.
    for sink in &sinks {
        sink.set(Mode::Answers(204));
    }
    sinks[2].appear();
    eventually(GIVE_UP * 4, || {
        gateway.balanced();
        let late: Vec<_> = names.iter().filter(|name| delivered(name) != samples).collect();
        if late.is_empty() { Ok(()) } else { Err(format!("{late:?} have not delivered all")) }
    });
    let resident = gateway.resident_bytes_max();
    eprintln!("{} MiB resident at most in the end", resident >> 20);
    assert!(resident < MEMORY_LIMIT_MIN as u64, "{} MiB were resident", resident >> 20);
}
