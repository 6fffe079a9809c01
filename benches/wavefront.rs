//! Wavefront lines by stage: samples a second of series of ten tags, every series known, and as the SDKs quote them.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::model::{Format, SeriesTable};
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

#[path = "../tests/support/stages.rs"]
#[expect(dead_code, reason = "others use the rest")]
mod stages;

const SAMPLES: usize = 4000;

/// Lines of ten tags; `quote` stands around everything that may be quoted.
fn body(quote: &str) -> String {
    (0..SAMPLES).fold(String::new(), |mut body, line| {
        let value = line as f64 * 1.37;
        let _ = write!(body, "{quote}http.total{quote} {value} 1700000000 source={quote}web-{line}{quote}");
        for tag in 0..10 {
            let _ = write!(body, " {quote}tag_{tag}{quote}={quote}value-{tag}{quote}");
        }
        body.push('\n');
        body
    })
}

fn stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode/wavefront");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    for (name, body) in [("plain", body("")), ("quoted", body("\""))] {
        let table = SeriesTable::default();
        let decode = |body: &str| stages::decoded(&table, Format::Wavefront, body.as_bytes());
        assert_eq!(decode(&body).samples.len(), SAMPLES);
        group.bench_function(name, |bencher| bencher.iter(|| decode(black_box(&body))));
    }
    group.finish();
    let table = Arc::new(SeriesTable::default());
    let batch = stages::decoded(&table, Format::Wavefront, body("").as_bytes());
    let mut encode = stages::encoder(&table, &batch, Format::Wavefront);
    let mut group = criterion.benchmark_group("encode/wavefront");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    group.bench_function("plain", |bencher| bencher.iter(&mut encode));
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
