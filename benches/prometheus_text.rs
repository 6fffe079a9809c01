//! The text formats by stage: samples a second of series of ten labels, every series known, and with escapes and exemplars.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::model::{Format, SeriesTable};
use std::fmt::Write;
use std::hint::black_box;

#[path = "../tests/support/stages.rs"]
#[expect(dead_code, reason = "others use the rest")]
mod stages;

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
        let decode = |body: &str| stages::decoded(&table, format, body.as_bytes());
        assert_eq!(decode(&body).samples.len(), SAMPLES);
        group.bench_function(format!("{}/{name}", format.as_str()), |bencher| {
            bencher.iter(|| decode(black_box(&body)));
        });
    }
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let table = SeriesTable::default();
    let batch = stages::decoded(&table, Format::PrometheusText, body("-", "").as_bytes());
    let mut write = stages::exposition(&table, &batch, Format::PrometheusText);
    let mut group = criterion.benchmark_group("encode/prometheus_text");
    group.throughput(Throughput::Elements(SAMPLES as u64));
    group.bench_function("plain", |bencher| bencher.iter(&mut write));
    group.finish();
}

criterion_group!(benches, decoding, encoding);
criterion_main!(benches);
