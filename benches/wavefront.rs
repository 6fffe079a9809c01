//! Wavefront lines by stage: samples a second of series of ten tags, every series known, and as the SDKs quote them.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::model::{Batch, BatchBuilder, Format, Losses, SeriesTable};
use sluicegate::wire::SampleRef;
use sluicegate::wire::wavefront::{decode, encode};
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

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

fn decoded(table: &SeriesTable, body: &str) -> Batch {
    let mut out = BatchBuilder::new(table, Format::Wavefront, Vec::new());
    let report = decode::decode(body.as_bytes(), &decode::Options::at(1), &mut out);
    assert_eq!((report.accepted, report.refused()), (SAMPLES as u64, 0));
    out.finish()
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode/wavefront");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    for (name, body) in [("plain", body("")), ("quoted", body("\""))] {
        let table = SeriesTable::default();
        group.bench_function(name, |bencher| bencher.iter(|| decoded(&table, black_box(&body))));
    }
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let table = SeriesTable::default();
    let batch = decoded(&table, &body(""));
    let options = encode::Options::new("gateway".to_owned());
    let rendered = |series| Arc::new(encode::render(&table.series(series).unwrap(), &options).unwrap());
    let rendered: Vec<_> = batch.samples.iter().map(|sample| rendered(sample.series)).collect();
    let mut encoder = encode::Encoder::new(options);
    let mut losses = Losses::default();
    let mut group = criterion.benchmark_group("encode/wavefront");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    group.bench_function("plain", |bencher| {
        bencher.iter(|| {
            for (sample, rendered) in batch.samples.iter().zip(&rendered) {
                let (timestamp, flags) = (sample.timestamp, sample.flags);
                let sample = SampleRef { timestamp, value: batch.value(sample), start: None, flags };
                encoder.push(rendered, &sample, &mut losses).unwrap();
            }
            let encoded = encoder.finish(&mut losses);
            assert_eq!((encoded.cuts.len(), encoded.samples()), (SAMPLES, SAMPLES as u64));
            encoded
        });
    });
    group.finish();
    assert_eq!(losses.total(), 0);
}

criterion_group!(benches, decoding, encoding);
criterion_main!(benches);
