//! Attacks that aim at memory, on a gateway with a limit of it: the process never has more, and a client that honours
//! `Retry-After` loses nothing.

use super::{GIVE_UP, Scene, bombs, connect, duration, free_port, gateway, request, size};
use sluicegate::clock;
use sluicegate::config::MEMORY_LIMIT_MIN;
use std::io::{Read, Write};
use std::net::TcpStream;
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
