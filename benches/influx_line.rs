//! Line protocol by stage: samples a second, with every series known and with escapes on every line.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::model::{Format, SeriesTable};
use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;

#[path = "../tests/support/stages.rs"]
#[expect(dead_code, reason = "others use the rest")]
mod stages;

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

fn stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode/influx_line");
    group.throughput(Throughput::Elements(SAMPLES));
    for (name, body) in [("plain", body("-", "true")), ("escaped", body("\\ ", "\"a \\\"b\\\"\""))] {
        let table = SeriesTable::default();
        let decode = |body: &str| stages::decoded(&table, Format::InfluxLine, body.as_bytes());
        assert_eq!(decode(&body).samples.len() as u64, SAMPLES);
        group.bench_function(name, |bencher| bencher.iter(|| decode(black_box(&body))));
    }
    group.finish();
    let table = Arc::new(SeriesTable::default());
    let batch = stages::decoded(&table, Format::InfluxLine, body("-", "true").as_bytes());
    let mut encode = stages::encoder(&table, &batch, Format::InfluxLine);
    assert_eq!(encode()[0].cuts.len(), LINES);
    let mut group = criterion.benchmark_group("encode/influx_line");
    group.throughput(Throughput::Elements(SAMPLES));
    group.bench_function("plain", |bencher| bencher.iter(&mut encode));
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
