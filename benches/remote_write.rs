//! Remote write 1.0 and 2.0 by stage: 10,000 series of ten labels, one sample each, every series known. Throughput in samples.
//! What is encoded is what is sent, a Snappy block; its size is shown beside that of the same message from the `snap` crate.
//! In `shuffled` the series come in no order, so that what repeats is far apart.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::model::{Batch, BatchBuilder, Format, Label, Losses, SampleFlags, SeriesSpec, SeriesTable, Value};
use sluicegate::wire::{Body, SampleRef, compression, remote_write, remote_write2};
use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;

const SAMPLES: usize = 10_000;
/// What a sample may take in a block, its labels included.
const BYTES_A_SAMPLE_MAX: usize = 50;

/// Labels as an application with a few hundred instances has them.
fn batch(table: &SeriesTable) -> Batch {
    let mut builder = BatchBuilder::new(table, Format::RemoteWrite, Vec::new());
    for number in 0..SAMPLES {
        let (instance, route) = (number / 50, number % 50);
        let labels = [
            ("cluster", "eu-central-1-production".to_owned()),
            ("instance", format!("10.20.{}.{}:9090", instance / 250, instance % 250)),
            ("job", "checkout-service".to_owned()),
            ("method", if route % 2 == 0 { "GET" } else { "POST" }.to_owned()),
            ("namespace", "shop".to_owned()),
            ("pod", format!("checkout-service-7d9c5b6f4-{instance:05}")),
            ("region", "eu-central-1".to_owned()),
            ("route", format!("/api/v1/orders/{route}")),
            ("status", "200".to_owned()),
        ];
        let labels: Vec<Label<'_>> =
            labels.into_iter().map(|(name, value)| (Cow::from(name), Cow::from(value))).collect();
        let spec = SeriesSpec { measurement: "http_server_requests_total", field: None, labels, metadata: None };
        let alias = builder.alias(&number.to_le_bytes());
        let Ok(series) = builder.define(alias, spec) else { panic!("the table is large enough") };
        builder.push(series, 1_700_000_000_000_000_000, Value::F64(number as f64 * 1.5), SampleFlags::NONE);
    }
    builder.finish()
}

macro_rules! stages {
    ($bench:ident, $format:ident, $variant:expr) => {
        fn $bench(c: &mut Criterion) {
            let table = SeriesTable::default();
            let batch = batch(&table);
            let options = $format::encode::Options::default();
            let rendered: Vec<_> = batch
                .samples
                .iter()
                .map(|sample| {
                    let Some(series) = table.series(sample.series) else { panic!("the batch holds its series") };
                    let Ok(rendered) = $format::encode::render(&series, &options, &|_| None) else {
                        panic!("the series has a name")
                    };
                    Arc::new(rendered)
                })
                .collect();
            let mut encoder = $format::encode::Encoder::new(options);
            let mut encode = |order: &[usize]| -> Body {
                let (mut losses, mut dropped) = (Losses::default(), Losses::default());
                for (sample, rendered) in order.iter().map(|at| (&batch.samples[*at], &rendered[*at])) {
                    let (value, start) = (batch.value(sample), None);
                    let sample = SampleRef { timestamp: sample.timestamp, value, start, flags: sample.flags };
                    assert!(encoder.push(rendered, &sample, &mut losses).is_ok());
                }
                encoder.finish(&mut dropped)
            };
            let plain: Vec<usize> = (0..SAMPLES).collect();
            let mut shuffled = plain.clone();
            fastrand::Rng::with_seed(1).shuffle(&mut shuffled);
            for (name, order) in [("plain", &plain), ("shuffled", &shuffled)] {
                let body = encode(order);
                assert_eq!(body.samples(), SAMPLES as u64);
                let bytes = body.part(0, body.cuts.len());
                let (sent, by_snap) = (body.snappy().len(), compression::snappy(&bytes).len());
                let of = |bytes: usize| bytes as f64 / SAMPLES as f64;
                let format = stringify!($format);
                println!("{format}/{name}: {:.1} bytes a sample, {:.1} by snap", of(sent), of(by_snap));
                assert!(name != "plain" || sent <= SAMPLES * BYTES_A_SAMPLE_MAX);
            }
            let body = encode(&plain);
            let bytes = body.part(0, body.cuts.len());
            let decode = || -> Batch {
                let mut builder = BatchBuilder::new(&table, $variant, Vec::new());
                let decoded = $format::decode::decode(&bytes, &$format::decode::Options::default(), &mut builder);
                assert!(decoded.is_ok_and(|decoded| decoded.report.accepted == SAMPLES as u64));
                builder.finish()
            };
            let read = decode();
            let bits = |batch: &Batch| -> Vec<_> {
                let samples = batch.samples.iter();
                samples.map(|sample| (sample.series, sample.timestamp, bits_of(batch.value(sample)))).collect()
            };
            assert!(bits(&read) == bits(&batch));

            let mut decoding = c.benchmark_group("decode");
            decoding.throughput(Throughput::Elements(SAMPLES as u64));
            decoding.bench_function(concat!(stringify!($format), "/plain"), |b| b.iter(|| black_box(decode())));
            decoding.finish();
            let mut encoding = c.benchmark_group("encode");
            encoding.throughput(Throughput::Elements(SAMPLES as u64));
            for (name, order) in [("plain", &plain), ("shuffled", &shuffled)] {
                let id = format!("{}/{name}", stringify!($format));
                encoding.bench_function(id, |b| b.iter(|| black_box(encode(order).snappy())));
            }
            encoding.finish();
        }
    };
}

fn bits_of(value: Value<'_>) -> Option<u64> {
    if let Value::F64(value) = value { Some(value.to_bits()) } else { None }
}

stages!(version_1, remote_write, Format::RemoteWrite);
stages!(version_2, remote_write2, Format::RemoteWrite2);
criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50);
    targets = version_1, version_2
}
criterion_main!(benches);
