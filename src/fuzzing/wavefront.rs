//! Wavefront lines: what was taken can be sent, and what was sent is taken whole and is sent the same again.

use crate::model::{Batch, BatchBuilder, Format, Losses, SeriesTable};
use crate::wire::SampleRef;
use crate::wire::wavefront::decode::{Form, Options, decode};
use crate::wire::wavefront::encode::{self, Encoder, render};
use crate::wire::wavefront::validate::Limits;
use std::sync::Arc;

const NOW: i64 = 1_700_000_000_000_000_000;

/// Decodes the data, encodes it, decodes that and encodes it again.
///
/// # Panics
/// When a line of ours is refused, or differs the second time.
pub fn wavefront(data: &[u8]) {
    let table = SeriesTable::default();
    let (first, _) = decoded(&table, data, Form::Auto);
    let (points, distributions) = encoded(&table, &first);
    for (body, form) in [(points, Form::Metrics), (distributions, Form::Histograms)] {
        let (again, refused) = decoded(&table, &body, form);
        assert_eq!(refused, 0, "{}", String::from_utf8_lossy(&body));
        let (points, distributions) = encoded(&table, &again);
        let same = if form == Form::Metrics { points } else { distributions };
        assert_eq!(same, body, "{}", String::from_utf8_lossy(&body));
    }
}

fn decoded(table: &SeriesTable, body: &[u8], form: Form) -> (Batch, u64) {
    let mut out = BatchBuilder::new(table, Format::Wavefront, Vec::new());
    let report = decode(body, &Options { form, ..Options::at(NOW) }, &mut out);
    let batch = out.finish();
    assert_eq!(report.accepted, batch.samples.len() as u64);
    (batch, report.refused())
}

fn encoded(table: &SeriesTable, batch: &Batch) -> (Vec<u8>, Vec<u8>) {
    let options = encode::Options { limits: Limits::SAAS, ..encode::Options::new("gateway".to_owned()) };
    let mut encoder = Encoder::new(options.clone());
    let mut losses = Losses::default();
    for sample in &batch.samples {
        let value = batch.value(sample);
        let sample_ref = SampleRef { timestamp: sample.timestamp, value, start: None, flags: sample.flags };
        let rendered = table.series(sample.series).map(|series| render(&series, &options));
        if let Some(Ok(rendered)) = rendered {
            // What cannot be sent is dropped; only what can is looked at again.
            let _ = encoder.push(&Arc::new(rendered), &sample_ref, &mut losses);
        }
    }
    let points = encoder.finish(&mut losses);
    let distributions = encoder.finish_distributions().unwrap_or_default();
    (points.bytes, distributions.bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn holds_for_lines_that_once_were_hard() {
        let bodies: &[&[u8]] = &[
            b"m 1 source=h k=v\n!M 1700000030 #2 1.5 lat source=h\n",
            b"m 1 5.007 source=h host=b tag=c",
            "∆m 1 999999999999999999 source=\"a\\\" b\" k='x\\\\'".as_bytes(),
            b"m NaN\nm 1 \xff\n\"\n'\n=\n#\n!M #\n!M #1\n@\n{",
            b"!D 1 #-1 1 x\n!D 0 #0 1 x\n",
        ];
        for body in bodies {
            super::wavefront(body);
        }
    }
}
