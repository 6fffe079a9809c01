//! Line protocol: no panic; what was decoded is written back as it was; agreement with InfluxDB 3's parser where both accept.

use crate::model::{Batch, BatchBuilder, Format, Losses, SampleFlags, SeriesTable, TimestampNs, Value};
use crate::wire::influx_line::{decode, encode};
use crate::wire::{Report, SampleRef};
use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
use std::sync::Arc;

const NOW: TimestampNs = 1_700_000_000_000_000_000;

/// Decodes any bytes as line protocol and checks what comes out.
///
/// # Panics
/// When a property does not hold.
pub fn influx_line(data: &[u8]) {
    let table = SeriesTable::default();
    let (batch, report) = decoded(&table, data);
    assert_eq!(report.accepted, batch.samples.len() as u64);
    for refused in &report.first {
        assert!(!decode::line(data, refused.line).is_empty(), "line {} holds something", refused.line);
    }
    let lines = encoded(&table, &batch);
    let (again, report) = decoded(&table, &lines);
    assert!(report.first.is_empty(), "our own lines: {:?}", report.first);
    assert!(samples(&batch).eq(samples(&again)), "written back as it was");
    assert_eq!(lines, encoded(&table, &again));
    if let Ok(text) = std::str::from_utf8(data) {
        agrees_with_influxdb3(&table, text);
    }
}

fn decoded(table: &SeriesTable, data: &[u8]) -> (Batch, Report) {
    let mut builder = BatchBuilder::new(table, Format::InfluxLine, Vec::new());
    let options = decode::Options { now: NOW, ..decode::Options::default() };
    let report = decode::decode(data, &options, &mut builder);
    (builder.finish(), report)
}

fn encoded(table: &SeriesTable, batch: &Batch) -> Vec<u8> {
    let mut encoder = encode::Encoder::new(encode::Options::default());
    let mut losses = Losses::default();
    for sample in &batch.samples {
        let series = table.series(sample.series).expect("the batch keeps its series");
        let rendered = encode::render(&series, &encode::Options::default()).expect("a decoded name can be written");
        let (timestamp, flags) = (sample.timestamp, sample.flags);
        let sample = SampleRef { timestamp, value: batch.value(sample), start: None, flags };
        encoder.push(&Arc::new(rendered), &sample, &mut losses).expect("a decoded value can be written");
    }
    let body = encoder.finish(&mut losses);
    assert_eq!(losses.total(), 0);
    body.bytes
}

fn samples(batch: &Batch) -> impl Iterator<Item = (u32, TimestampNs, bool, String)> {
    batch.samples.iter().map(|sample| {
        let continues = sample.flags.contains(SampleFlags::ROW_CONTINUES);
        // As text: negative zero differs from zero.
        (sample.series.0, sample.timestamp, continues, format!("{:?}", batch.value(sample)))
    })
}

/// Compares single lines: the parsers go on differently behind a bad line, and disagree on what a backslash means.
fn agrees_with_influxdb3(table: &SeriesTable, text: &str) {
    for text in text.lines().filter(|text| !text.contains('\\')) {
        let (batch, report) = decoded(table, text.as_bytes());
        let mut parsed = parse_lines(text);
        let (Some(Ok(line)), None) = (parsed.next(), parsed.next()) else { continue };
        if report.first.is_empty() && !batch.samples.is_empty() {
            agrees(table, &batch, &line);
        }
    }
}

fn agrees(table: &SeriesTable, batch: &Batch, line: &ParsedLine<'_>) {
    assert_eq!(batch.samples.len(), line.field_set.len());
    for (sample, (key, value)) in batch.samples.iter().zip(&line.field_set) {
        let series = table.series(sample.series).expect("the batch keeps its series");
        assert_eq!(series.name.measurement(), line.series.measurement.as_str());
        assert_eq!(series.name.field_key(), Some(key.as_str()));
        let tags: Vec<_> = line.series.tag_set.iter().flatten().collect();
        assert_eq!(series.labels.len(), tags.len());
        for (key, value) in tags {
            assert_eq!(series.label(key.as_str()), Some(value.as_str()));
        }
        assert_eq!(sample.timestamp, line.timestamp.unwrap_or(NOW));
        let expected = match value {
            FieldValue::I64(value) => Value::I64(*value),
            FieldValue::U64(value) => Value::U64(*value),
            FieldValue::F64(value) => Value::F64(*value),
            FieldValue::String(text) => Value::Str(text.as_str()),
            FieldValue::Boolean(value) => Value::Bool(*value),
        };
        assert_eq!(batch.value(sample), expected);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn holds_for_bytes_that_resemble_lines(
            data in "([a-c]{1,2}|[,= \"\\\\#\n\r]|[0-9.eE+-]{1,4}[iu]?|é|[tfTF]|m,a=b c=1|\\PC){0,24}",
            end in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            super::influx_line(&[data.as_bytes(), &end].concat());
        }
    }
}
