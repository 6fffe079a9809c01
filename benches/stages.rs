//! Every stage of a sample's walk, on the bodies of `bench load`: 4,000 series of ten labels, all known. Throughput in samples.
//!
//! `decompress/<encoding>`, `decode/<format>/load`, `recognise/*` (in the order of the last time, and in another),
//! `encode/<format>/load_of_<input>` as outputs do it (what the memo knows of a series, then the body), `compress/<encoding>`.
//! The log has its own bench.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::model::{BatchBuilder, Format, SeriesTable};
use sluicegate::wire::compression::{Encoding, decompress, gzip, snappy};
use std::hint::black_box;
use std::sync::Arc;

#[path = "../tests/support/stages.rs"]
mod stages;

const SAMPLES: usize = 4000;

fn group<'c>(
    criterion: &'c mut Criterion,
    name: &str,
) -> criterion::BenchmarkGroup<'c, criterion::measurement::WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(SAMPLES as u64));
    group
}

fn compression(criterion: &mut Criterion) {
    let text = stages::body(Format::PrometheusText, SAMPLES);
    let request = stages::body(Format::RemoteWrite, SAMPLES);
    let cases = [
        (Encoding::Gzip, &text, gzip(&text)),
        (Encoding::Zstd, &text, zstd::encode_all(&text[..], 1).unwrap()),
        (Encoding::Snappy, &request, snappy(&request)),
    ];
    let mut decompressing = group(criterion, "decompress");
    let mut out = Vec::new();
    for (encoding, plain, body) in &cases {
        // Beforehand: with a filter, not every bench runs.
        decompress(*encoding, body, plain.len(), &mut out).unwrap();
        assert!(out == **plain);
        decompressing.bench_function(format!("{encoding:?}").to_lowercase(), |bencher| {
            bencher.iter(|| decompress(*encoding, black_box(body), plain.len(), &mut out).unwrap());
        });
    }
    decompressing.finish();
    let lines = stages::body(Format::InfluxLine, SAMPLES);
    let mut compressing = group(criterion, "compress");
    compressing.bench_function("gzip", |bencher| bencher.iter(|| gzip(black_box(&lines))));
    compressing.bench_function("snappy", |bencher| bencher.iter(|| snappy(black_box(&request))));
    compressing.finish();
}

fn decoding(criterion: &mut Criterion) {
    let mut group = group(criterion, "decode");
    for format in Format::ALL {
        let (table, body) = (SeriesTable::default(), stages::body(format, SAMPLES));
        assert_eq!(stages::decoded(&table, format, &body).samples.len(), SAMPLES);
        group.bench_function(format!("{}/load", format.as_str()), |bencher| {
            bencher.iter(|| stages::decoded(&table, format, black_box(&body)));
        });
    }
    group.finish();
}

/// The series table alone, asked by names of 290 bytes.
fn recognising(criterion: &mut Criterion) {
    let (table, text) = (SeriesTable::default(), stages::body(Format::PrometheusText, SAMPLES));
    let series: Vec<_> = text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| Some(&line[..=line.iter().rposition(|byte| *byte == b'}')?]))
        .collect();
    let batch = stages::decoded(&table, Format::PrometheusText, &text);
    // The aliases of text have the family in them: these are others of the same series.
    let builder = BatchBuilder::new(&table, Format::RemoteWrite, Vec::new());
    for (name, sample) in series.iter().zip(&batch.samples) {
        let known = table.series(sample.series).unwrap();
        let labels = known.labels.iter().map(|pair| (pair.name.as_ref().into(), pair.value.as_ref().into())).collect();
        let measurement = known.name.measurement();
        let spec = sluicegate::model::SeriesSpec { measurement, field: None, labels, metadata: None };
        builder.define(builder.alias(name), spec).unwrap();
    }
    let shuffled = {
        let mut series = series.clone();
        fastrand::Rng::with_seed(1).shuffle(&mut series);
        series
    };
    let mut group = group(criterion, "recognise");
    // Both orders in turn: the one behind them is new to the trail each time.
    for (name, orders) in [("expected", [&series, &series]), ("unexpected", [&series, &shuffled])] {
        let mut turn = orders.into_iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let out = BatchBuilder::new(&table, Format::RemoteWrite, Vec::new());
                let known = turn.next().into_iter().flatten().filter_map(|name| out.recognise(out.alias(name)));
                assert_eq!(known.count(), SAMPLES);
            });
        });
    }
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let mut group = group(criterion, "encode");
    for input in [Format::RemoteWrite, Format::PrometheusText, Format::InfluxLine] {
        let table = Arc::new(SeriesTable::default());
        let batch = stages::familiar(&table, input, &stages::body(input, SAMPLES));
        for format in [Format::RemoteWrite, Format::RemoteWrite2, Format::InfluxLine, Format::Wavefront] {
            let mut encode = stages::encoder(&table, &batch, format);
            let name = format!("{}/load_of_{}", format.as_str(), input.as_str());
            group.bench_function(name, |bencher| bencher.iter(&mut encode));
        }
        for format in [Format::PrometheusText, Format::OpenMetrics] {
            let mut write = stages::exposition(&table, &batch, format);
            let name = format!("{}/load_of_{}", format.as_str(), input.as_str());
            group.bench_function(name, |bencher| bencher.iter(&mut write));
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = compression, decoding, recognising, encoding
}
criterion_main!(benches);
