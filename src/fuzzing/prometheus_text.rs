//! Text exposition: whatever is taken can be written, with every name as it was, and reads back as the same exposition.

use crate::model::{Batch, BatchBuilder, Format, Loss, Losses, SampleFlags, SeriesTable};
use crate::wire::prometheus_names::{Alphabet, Style};
use crate::wire::prometheus_text::{decode, encode};
use crate::wire::{Report, SampleRef};

/// A fuzz body; see the module.
///
/// # Panics
/// When the property does not hold.
pub fn prometheus_text(data: &[u8]) {
    let once = rewritten(data, Format::PrometheusText);
    assert_eq!(text(&rewritten(&once, Format::PrometheusText)), text(&once));
}

/// Decodes, and encodes what was taken.
pub(super) fn rewritten(body: &[u8], format: Format) -> Vec<u8> {
    let table = SeriesTable::default();
    let (report, batch) = decoded(body, format, &table);
    assert_eq!(report.accepted, batch.samples.len() as u64);
    exposed(&batch, format, &table)
}

/// Encodes a batch, and reads it back.
pub(super) fn exposed(batch: &Batch, format: Format, table: &SeriesTable) -> Vec<u8> {
    let series: Vec<_> = batch.samples.iter().filter_map(|sample| table.series(sample.series)).collect();
    let (exemplars, _) = batch.placed_exemplars();
    let mut exposed: Vec<_> = (batch.samples.iter().enumerate().zip(&series))
        .map(|((index, sample), series)| encode::Exposed {
            series,
            sample: SampleRef {
                timestamp: sample.timestamp,
                value: batch.value(sample),
                start: batch.start_of(index),
                flags: sample.flags,
            },
            exemplar: exemplars.get(&index).copied(),
        })
        .collect();
    let (mut out, mut losses, mut dropped) = (Vec::new(), Losses::default(), Losses::default());
    let write = if format == Format::OpenMetrics {
        crate::wire::openmetrics::encode::encode
    } else {
        crate::wire::prometheus_text::encode::encode
    };
    let options = encode::Options { style: &Style::default(), alphabet: Alphabet::Utf8, families: &|_| None };
    write(&mut exposed, &options, &mut out, &mut losses, &mut dropped);
    for loss in [Loss::NameSanitised, Loss::LabelSanitised, Loss::LabelDropped] {
        assert_eq!(losses.get(loss), 0, "{}: {}", loss.as_str(), text(&out));
    }
    assert_eq!(dropped.get(Loss::NameCollision), 0, "{}", text(&out));
    let (again, _) = decoded(&out, format, table);
    assert_eq!(again.refused(), 0, "{:?} in {}", again.first, text(&out));
    // A native histogram becomes its buckets.
    if losses.get(Loss::NativeHistogram) == 0 {
        let taken = batch.samples.len() as u64;
        assert!(again.accepted + dropped.total() <= taken, "no sample is made up: {}", text(&out));
    }
    out
}

fn decoded(body: &[u8], format: Format, table: &SeriesTable) -> (Report, Batch) {
    let mut out = BatchBuilder::new(table, format, Vec::new());
    let options = decode::Options { now: 1, timestamp: None };
    let report = if format == Format::OpenMetrics {
        crate::wire::openmetrics::decode::decode(body, &options, &mut out)
    } else {
        decode::decode(body, &options, &mut out)
    };
    let batch = out.finish();
    let implicit = |flags: SampleFlags| flags.contains(SampleFlags::TIMESTAMP_IMPLICIT);
    assert!(batch.samples.iter().all(|sample| !implicit(sample.flags) || sample.timestamp == 1));
    (report, batch)
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
