//! The text formats by stage: samples a second of series of ten labels, every series known, and with escapes and exemplars.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::model::{Batch, BatchBuilder, Format, Losses, SeriesTable};
use sluicegate::wire::prometheus_names::{Alphabet, Style};
use sluicegate::wire::prometheus_text::encode::{Exposed, Options};
use sluicegate::wire::{SampleRef, openmetrics, prometheus_text};
use std::fmt::Write;
use std::hint::black_box;

const SAMPLES: usize = 4000;

/// Lines of ten labels as an application exposes them; `separator` stands within label values.
fn body(separator: &str, end: &str) -> String {
    let mut body = "# TYPE http counter\n# HELP http Requests.\n".to_owned();
    for line in 0..SAMPLES {
        let _ = write!(body, "http_total{{instance=\"web{separator}{line}\"");
        for label in 0..9 {
            let _ = write!(body, ",label_{label}=\"value{separator}{label}\"");
        }
        let _ = writeln!(body, "}} {}{end}", line as f64 * 1.37);
    }
    body + "# EOF\n"
}

fn decoded(table: &SeriesTable, format: Format, body: &str) -> Batch {
    let mut out = BatchBuilder::new(table, format, Vec::new());
    let options = prometheus_text::decode::Options { now: 1, timestamp: None };
    let report = match format {
        Format::OpenMetrics => openmetrics::decode::decode(body.as_bytes(), &options, &mut out),
        _ => prometheus_text::decode::decode(body.as_bytes(), &options, &mut out),
    };
    assert_eq!((report.accepted, report.refused()), (SAMPLES as u64, 0));
    out.finish()
}

fn decoding(criterion: &mut Criterion) {
    let cases = [
        (Format::PrometheusText, "plain", body("-", "")),
        (Format::PrometheusText, "escaped", body("\\\\", " 1700000000000")),
        (Format::OpenMetrics, "plain", body("-", "")),
        (Format::OpenMetrics, "exemplars", body("-", " # {trace=\"1\"} 1")),
    ];
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    for (format, name, body) in cases {
        let table = SeriesTable::default();
        group.bench_function(format!("{}/{name}", format.as_str()), |bencher| {
            bencher.iter(|| decoded(&table, format, black_box(&body)));
        });
    }
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let table = SeriesTable::default();
    let batch = decoded(&table, Format::PrometheusText, &body("-", ""));
    let series: Vec<_> = batch.samples.iter().map(|sample| table.series(sample.series).unwrap()).collect();
    let mut group = criterion.benchmark_group("encode/prometheus_text");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    group.bench_function("plain", |bencher| {
        bencher.iter(|| {
            let (mut out, mut losses, mut dropped) = (Vec::new(), Losses::default(), Losses::default());
            let exposed = batch.samples.iter().zip(&series).map(|(sample, series)| {
                let (timestamp, value, flags) = (sample.timestamp, batch.value(sample), sample.flags);
                let sample = SampleRef { timestamp, value, start: None, flags };
                Exposed { series, sample, exemplar: None }
            });
            let mut exposed: Vec<_> = exposed.collect();
            prometheus_text::encode::encode(
                &mut exposed,
                &Options { style: &Style::default(), alphabet: Alphabet::Utf8, families: &|_| None },
                &mut out,
                &mut losses,
                &mut dropped,
            );
            assert_eq!(dropped.total(), 0);
            out
        });
    });
    group.finish();
}

criterion_group!(benches, decoding, encoding);
criterion_main!(benches);
