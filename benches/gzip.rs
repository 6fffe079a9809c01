//! Bodies of lines as gzip: 10,000 series of ten labels, one sample each. Throughput in samples; sizes are shown beside those of
//! `flate2` at its fastest. In `shuffled` the series come in no order, so that what repeats is far apart.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic, and tells sizes")]

#[path = "../tests/support/stages.rs"]
#[expect(dead_code, reason = "others use the rest")]
mod stages;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::model::Format;
use sluicegate::wire::compression::gzip;
use std::hint::black_box;
use std::io::Write;

const SAMPLES: usize = 10_000;
/// What a sample of a body in order may take.
const BYTES_A_SAMPLE_MAX: usize = 40;

fn by_flate2(body: &[u8]) -> usize {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap().len()
}

fn bodies(criterion: &mut Criterion) {
    for format in [Format::InfluxLine, Format::Wavefront] {
        let plain = stages::body(format, SAMPLES);
        let mut lines: Vec<_> = plain.split_inclusive(|byte| *byte == b'\n').collect();
        fastrand::Rng::with_seed(1).shuffle(&mut lines);
        let shuffled = lines.concat();
        let mut group = criterion.benchmark_group(format!("gzip/{}", format.as_str()));
        group.throughput(Throughput::Elements(SAMPLES as u64));
        for (name, body) in [("plain", &plain), ("shuffled", &shuffled)] {
            let (own, other) = (gzip(body).len(), by_flate2(body));
            let of = |bytes: usize| bytes as f64 / SAMPLES as f64;
            println!("{}/{name}: {:.1} bytes a sample, {:.1} by flate2", format.as_str(), of(own), of(other));
            assert!(name != "plain" || own <= SAMPLES * BYTES_A_SAMPLE_MAX);
            group.bench_function(name, |bencher| bencher.iter(|| gzip(black_box(body))));
        }
        group.finish();
    }
}

criterion_group!(benches, bodies);
criterion_main!(benches);
