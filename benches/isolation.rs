//! What a healthy output notices of others: rounds alone, beside four broken outputs (one refuses connections, one never
//! answers, one answers 500, one closes in the middle of a body), and beside one that catches up after an outage.
//!
//! Each round first posts [`SAMPLES`] as fast as they are taken (throughput, processor time), then a steady trickle (how long
//! a sample takes from its client to the destination). The kinds of rounds alternate, so that a machine whose speed drifts
//! favours none. Printed: the median of the rounds, the range of them, and the ratio of medians.
//!
//! `cargo bench --bench isolation`; `ROUNDS=15` for more rounds than 7. Clients, gateway and destinations share the machine.
#![allow(
    clippy::float_cmp,
    clippy::format_push_string,
    clippy::needless_pass_by_value,
    clippy::print_stdout,
    reason = "a bench may allocate and print"
)]

#[path = "../tests/support"]
#[expect(dead_code, reason = "each program uses its part")]
mod support {
    pub(crate) mod counting_sink;
    pub(crate) mod destination;
    pub(crate) mod gateway;
    pub(crate) mod http;
    pub(crate) mod numbered;
    pub(crate) mod server;
    pub(crate) mod wavefront_line;
}

use sluicegate::clock;
use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};
use support::counting_sink::{CountingSink, Kind, Mode};
use support::gateway::gateway;
use support::http;
use support::numbered::request;

/// Remote write 1.0 and 2.0, line protocol: clients 0 to 2 of `support/numbered.rs`.
const CLIENTS: u64 = 3;
const REQUESTS: u64 = 400;
const PER_REQUEST: u64 = 1000;
const SAMPLES: u64 = CLIENTS * REQUESTS * PER_REQUEST;
/// Of the trickle: 100 samples every 5 ms, 20,000 a second.
const TRICKLE_REQUESTS: u64 = 600;
const TRICKLE_PER_REQUEST: u64 = 100;
const TRICKLE_PAUSE: Duration = Duration::from_millis(5);
/// Nothing waits long for more, so that what is measured is not the wait.
const KEYS: &str = "remote_timeout: 1s, queue_config: { batch_send_deadline: 10ms }";
const POLL: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    Alone,
    BesideBroken,
    BesideLate,
}

/// What one round measured.
#[derive(Default)]
struct Measured {
    samples_per_second: f64,
    processor_ns_per_sample: f64,
    latency_ms_p50: f64,
    latency_ms_p99: f64,
    catch_up_seconds: f64,
}

type Column = fn(&Measured) -> f64;
type Body = (&'static str, &'static str, Vec<u8>);

fn bodies(client: u64, from: u64, requests: u64, per_request: u64) -> Vec<Body> {
    (0..requests)
        .map(|index| {
            let first = from + index * per_request;
            request(client, first..first + per_request)
        })
        .collect()
}

fn post(url: &str, (path, content_type, body): &Body) {
    let encoding = if content_type.starts_with("application/x-protobuf") { "snappy" } else { "identity" };
    let headers = [("Content-Type", *content_type), ("Content-Encoding", encoding)];
    let answer = http::send("POST", &format!("{url}{path}"), &headers, body);
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// Waits until a timed sink has that many samples; when the last of them came.
fn last_of(sink: &CountingSink, samples: u64) -> Instant {
    let (mut arrived, mut last) = (0, None);
    while arrived < samples {
        let more = sink.arrivals();
        arrived += more.len() as u64;
        last = more.last().map(|arrival| arrival.at).or(last);
        thread::sleep(POLL);
    }
    last.expect("samples came")
}

fn measure(round: Round, load: &[Vec<Body>], trickle: &[Body]) -> Measured {
    let healthy = CountingSink::start(Kind::RemoteWrite).timed();
    let broken = [
        ("refuses", CountingSink::absent(Kind::Influx), Mode::Takes),
        ("silent", CountingSink::start(Kind::RemoteWrite), Mode::Silent),
        ("answers500", CountingSink::start(Kind::Wavefront), Mode::Answers(500)),
        ("cuts_off", CountingSink::start(Kind::Influx), Mode::CutsOff),
    ];
    let late = CountingSink::start(Kind::RemoteWrite).timed();
    let mut setup = gateway().log("max_bytes: 4GiB").output("healthy", &healthy.block_with(KEYS));
    if round == Round::BesideBroken {
        for (name, sink, mode) in &broken {
            sink.set(*mode);
            setup = setup.output(name, &sink.block_with(KEYS));
        }
    }
    if round == Round::BesideLate {
        late.set(Mode::Answers(503));
        setup = setup.output("late", &late.block_with(KEYS));
    }
    let gateway = setup.start();
    let url = gateway.url("");
    let mut measured = Measured::default();

    let (began, busy) = (clock::monotonic(), gateway.processor_seconds());
    thread::scope(|scope| {
        for bodies in load {
            scope.spawn(|| bodies.iter().for_each(|body| post(&url, body)));
        }
    });
    let seconds = (last_of(&healthy, SAMPLES) - began).as_secs_f64();
    measured.samples_per_second = SAMPLES as f64 / seconds;
    measured.processor_ns_per_sample = (gateway.processor_seconds() - busy) * 1e9 / SAMPLES as f64;

    let (caught_up, sent) = thread::scope(|scope| {
        late.set(Mode::Takes);
        let catching_up = (round == Round::BesideLate).then(|| scope.spawn(|| last_of(&late, SAMPLES)));
        let begun = clock::monotonic();
        let mut sent = Vec::new();
        for (index, body) in trickle.iter().enumerate() {
            // At its time, whatever the one before took.
            let due = begun + TRICKLE_PAUSE * index as u32;
            thread::sleep(due.saturating_duration_since(clock::monotonic()));
            sent.push(clock::monotonic());
            post(&url, body);
        }
        let caught_up = catching_up.map(|catching_up| catching_up.join().expect("it catches up"));
        measured.catch_up_seconds = caught_up.map_or(0.0, |at| (at - begun).as_secs_f64());
        (caught_up, sent)
    });
    let mut came = HashMap::new();
    while came.len() < trickle.len() * TRICKLE_PER_REQUEST as usize {
        came.extend(healthy.arrivals().into_iter().map(|arrival| (arrival.number, arrival.at)));
        thread::sleep(POLL);
    }
    let first = REQUESTS * PER_REQUEST;
    let mut latencies: Vec<f64> = came
        .iter()
        .map(|(number, at)| (sent[((number - first) / TRICKLE_PER_REQUEST) as usize], *at))
        .filter(|(sent, _)| caught_up.is_none_or(|caught_up| *sent < caught_up))
        .map(|(sent, at)| (at - sent).as_secs_f64() * 1000.0)
        .collect();
    latencies.sort_by(f64::total_cmp);
    let quantile = |q: f64| latencies[((latencies.len() - 1) as f64 * q) as usize];
    (measured.latency_ms_p50, measured.latency_ms_p99) = (quantile(0.5), quantile(0.99));
    assert_eq!(healthy.wrong(), Vec::<String>::new());
    measured
}

fn main() {
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(7);
    let load: Vec<_> = (0..CLIENTS).map(|client| bodies(client, 0, REQUESTS, PER_REQUEST)).collect();
    let trickle = bodies(0, REQUESTS * PER_REQUEST, TRICKLE_REQUESTS, TRICKLE_PER_REQUEST);
    let kinds = [Round::Alone, Round::BesideBroken, Round::BesideLate];
    let mut results: Vec<Vec<Measured>> = kinds.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        // Every kind in every place of a turn.
        for place in 0..kinds.len() {
            let kind = (place + round) % kinds.len();
            results[kind].push(measure(kinds[kind], &load, &trickle));
        }
    }
    let columns: [(&str, Column); 5] = [
        ("samples/s", |measured| measured.samples_per_second),
        ("processor ns/sample", |measured| measured.processor_ns_per_sample),
        ("latency p50 ms", |measured| measured.latency_ms_p50),
        ("latency p99 ms", |measured| measured.latency_ms_p99),
        ("catching up s", |measured| measured.catch_up_seconds),
    ];
    println!("{rounds} rounds of each kind: median (least to most), and the median against that of alone");
    for (name, column) in columns {
        let sorted: Vec<Vec<f64>> = results
            .iter()
            .map(|rounds| {
                let mut values: Vec<_> = rounds.iter().map(column).collect();
                values.sort_by(f64::total_cmp);
                values
            })
            .collect();
        for (kind, values) in kinds.iter().zip(&sorted) {
            let (median, alone) = (values[values.len() / 2], sorted[0][sorted[0].len() / 2]);
            let (least, most) = (values[0], values[values.len() - 1]);
            let ratio = if alone > 0.0 { format!("{:.2}", median / alone) } else { String::new() };
            let kind = format!("{kind:?}");
            println!("{name:20} {kind:13} {median:12.2} ({least:.2} to {most:.2}) {ratio}");
        }
    }
}
