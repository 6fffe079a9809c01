//! Line protocol by stage: samples a second, with every series known and with escapes on every line.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::model::{Batch, BatchBuilder, Format, Losses, SeriesTable};
use sluicegate::wire::SampleRef;
use sluicegate::wire::influx_line::{decode, encode};
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

const LINES: usize = 1000;
const FIELDS: usize = 4;
const SAMPLES: u64 = (LINES * FIELDS) as u64;

/// Lines of ten tags and four fields, as Telegraf writes them; `separator` stands within tag values.
fn body(separator: &str, text: &str) -> String {
    (0..LINES).fold(String::new(), |mut body, line| {
        let _ = write!(body, "cpu,host=web{separator}{line}");
        for tag in 0..9 {
            let _ = write!(body, ",tag_{tag}=value{separator}{tag}");
        }
        let (float, integer) = (line as f64 * 1.37, line * 977);
        let time = 1_700_000_000_000_000_000 + line;
        let _ = writeln!(body, " usage_idle={float},usage_user=12.5,count={integer}i,state={text} {time}");
        body
    })
}

fn decoded(table: &SeriesTable, body: &str) -> Batch {
    let mut builder = BatchBuilder::new(table, Format::InfluxLine, Vec::new());
    let report = decode::decode(body.as_bytes(), &decode::Options::default(), &mut builder);
    assert_eq!((report.accepted, report.refused()), (SAMPLES, 0));
    builder.finish()
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode/influx_line");
    group.throughput(Throughput::Elements(SAMPLES));
    for (name, body) in [("plain", body("-", "true")), ("escaped", body("\\ ", "\"a \\\"b\\\"\""))] {
        let table = SeriesTable::default();
        group.bench_function(name, |bencher| bencher.iter(|| decoded(&table, black_box(&body))));
    }
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let body = body("-", "true");
    let table = SeriesTable::default();
    let batch = decoded(&table, &body);
    let options = encode::Options::default();
    let rendered = |series| Arc::new(encode::render(&table.series(series).unwrap(), &options).unwrap());
    let rendered: Vec<_> = batch.samples.iter().map(|sample| rendered(sample.series)).collect();
    let mut encoder = encode::Encoder::new(options);
    let mut losses = Losses::default();
    let mut group = criterion.benchmark_group("encode/influx_line");
    group.throughput(Throughput::Elements(SAMPLES));
    group.bench_function("plain", |bencher| {
        bencher.iter(|| {
            for (sample, rendered) in batch.samples.iter().zip(&rendered) {
                let (timestamp, flags) = (sample.timestamp, sample.flags);
                let sample = SampleRef { timestamp, value: batch.value(sample), start: None, flags };
                encoder.push(rendered, &sample, &mut losses).unwrap();
            }
            let encoded = encoder.finish(&mut losses);
            assert_eq!((encoded.cuts.len(), encoded.samples()), (LINES, SAMPLES));
            encoded
        });
    });
    group.finish();
    assert_eq!(losses.total(), 0);
}

criterion_group!(benches, decoding, encoding);
criterion_main!(benches);
