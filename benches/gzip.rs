//! Bodies of lines as gzip: 10,000 series of ten labels, one sample each. Throughput in samples; sizes are shown beside those of
//! `flate2` at its fastest. In `shuffled` the series come in no order, so that what repeats is far apart.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic, and tells sizes")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::wire::compression::gzip;
use std::hint::black_box;
use std::io::Write;

const SAMPLES: usize = 10_000;
/// What a sample of a body in order may take.
const BYTES_A_SAMPLE_MAX: usize = 40;

/// Labels as an application with a few hundred instances has them.
fn labels(number: usize) -> [(&'static str, String); 10] {
    let (instance, route) = (number / 50, number % 50);
    [
        ("cluster", "eu-central-1-production".to_owned()),
        ("instance", format!("10.20.{}.{}:9090", instance / 250, instance % 250)),
        ("job", "checkout-service".to_owned()),
        ("method", if route % 2 == 0 { "GET" } else { "POST" }.to_owned()),
        ("namespace", "shop".to_owned()),
        ("pod", format!("checkout-service-7d9c5b6f4-{instance:05}")),
        ("region", "eu-central-1".to_owned()),
        ("route", format!("/api/v1/orders/{route}")),
        ("status", "200".to_owned()),
        ("version", "v2.14.3".to_owned()),
    ]
}

fn influx_line(number: usize) -> String {
    let tags = labels(number).map(|(key, value)| format!(",{key}={value}")).concat();
    format!("http_server_requests_total{tags} value={} 1700000000000000000\n", number * number % 99_991)
}

fn wavefront(number: usize) -> String {
    let tags = labels(number).map(|(key, value)| format!(" \"{key}\"=\"{value}\"")).concat();
    let value = number * number % 99_991;
    format!("\"http_server_requests_total\" {value}.0 1700000000000 source=\"gateway\"{tags}\n")
}

fn by_flate2(body: &[u8]) -> usize {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap().len()
}

fn bodies(criterion: &mut Criterion) {
    let plain: Vec<usize> = (0..SAMPLES).collect();
    let mut shuffled = plain.clone();
    fastrand::Rng::with_seed(1).shuffle(&mut shuffled);
    for (format, line) in [("influx_line", influx_line as fn(usize) -> String), ("wavefront", wavefront)] {
        let mut group = criterion.benchmark_group(format!("gzip/{format}"));
        group.throughput(Throughput::Elements(SAMPLES as u64));
        for (name, order) in [("plain", &plain), ("shuffled", &shuffled)] {
            let body: Vec<u8> = order.iter().flat_map(|number| line(*number).into_bytes()).collect();
            let (own, other) = (gzip(&body).len(), by_flate2(&body));
            let of = |bytes: usize| bytes as f64 / SAMPLES as f64;
            println!("{format}/{name}: {:.1} bytes a sample, {:.1} by flate2", of(own), of(other));
            assert!(name != "plain" || own <= SAMPLES * BYTES_A_SAMPLE_MAX);
            group.bench_function(name, |bencher| bencher.iter(|| gzip(black_box(&body))));
        }
        group.finish();
    }
}

criterion_group!(benches, bodies);
criterion_main!(benches);
