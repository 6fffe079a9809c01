//! InfluxDB line protocol: `measurement,tag=value field=1,other="text" 1700000000000000000`.
//!
//! Each field of a line becomes a sample of its own series (measurement, tags, field key) with its type: float, `i`, `u`,
//! boolean or string. The first field of a line begins a row, the others carry [`SampleFlags::ROW_CONTINUES`], so a line
//! can be written back as one line.
//!
//! Grammar: <https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/>, read as the Go decoder
//! `line-protocol/v2` reads it. Where implementations differ:
//!
//! * A backslash escapes only `,`, `=` and space in names (`,` and space in measurements) and is itself otherwise, so `\\`
//!   stays two backslashes. In strings `\"`, `\\`, `\n`, `\r` and `\t` are escapes and everything else is literal, line
//!   ends included.
//! * Control characters are refused outside of strings, as are empty tag values, NaN, infinities, hexadecimal floats and
//!   numbers with `_` (the last two are read by the Go decoder, by accident of its library, and by no server).
//! * A tag key given twice refuses the line, as InfluxDB does. A field key given twice is two samples, in their order.
//! * Measurement and tags together, and a field key, are bounded by [`decode::NAME_BYTES_MAX`].
//! * Lines end in LF or CR LF. A bad line costs that line only; what follows the next LF is read again.
//!
//! What it deliberately does not do: guess types across lines, remember a line's unit, split lines by anything but the
//! grammar.
//!
//! [`SampleFlags::ROW_CONTINUES`]: crate::model::SampleFlags::ROW_CONTINUES

pub mod decode;
pub mod encode;
mod histogram;
pub mod schema;
#[cfg(test)]
mod twin;

/// Bytes that end a tag key, a tag value or a field key, when no backslash stands before them.
const fn ends_name() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 32 {
        table[byte] = true;
        byte += 1;
    }
    table[127] = true;
    table[b',' as usize] = true;
    table[b'=' as usize] = true;
    table[b' ' as usize] = true;
    table
}

/// See [`ends_name`].
static ENDS_NAME: [bool; 256] = ends_name();

/// The control characters of ASCII, which line protocol carries in strings only.
fn is_control(byte: u8) -> bool {
    byte < 32 || byte == 127
}

#[cfg(test)]
mod tests {
    use super::twin::Point;
    use super::*;
    use crate::model::{Batch, BatchBuilder, Format, Losses, SampleFlags, SeriesSpec, SeriesTable, TimestampNs, Value};
    use crate::wire::SampleRef;
    use proptest::prelude::*;
    use std::borrow::Cow;
    use std::sync::Arc;

    const NOW: TimestampNs = 77;

    fn decoded(table: &SeriesTable, body: &[u8]) -> (Batch, crate::wire::Report) {
        let mut builder = BatchBuilder::new(table, Format::InfluxLine, Vec::new());
        let options = decode::Options { now: NOW, ..decode::Options::default() };
        let report = decode::decode(body, &options, &mut builder);
        (builder.finish(), report)
    }

    fn points(table: &SeriesTable, batch: &Batch) -> Vec<Point> {
        let mut points: Vec<Point> = Vec::new();
        for sample in &batch.samples {
            let series = table.series(sample.series).unwrap();
            if !sample.flags.contains(SampleFlags::ROW_CONTINUES) {
                let implicit = sample.flags.contains(SampleFlags::TIMESTAMP_IMPLICIT);
                points.push(Point {
                    measurement: series.name.measurement().to_owned(),
                    tags: series.labels.iter().map(|pair| (pair.name.to_string(), pair.value.to_string())).collect(),
                    fields: Vec::new(),
                    timestamp: (!implicit).then_some(sample.timestamp),
                });
            }
            let key = series.name.field_key().unwrap().to_owned();
            points.last_mut().unwrap().fields.push((key, format!("{:?}", batch.value(sample))));
        }
        points
    }

    fn encoded(table: &SeriesTable, batch: &Batch) -> Vec<u8> {
        let mut encoder = encode::Encoder::new(encode::Options::default());
        let mut losses = Losses::default();
        for sample in &batch.samples {
            let series = table.series(sample.series).unwrap();
            let rendered = Arc::new(encode::render(&series, &encode::Options::default()).unwrap());
            let sample =
                SampleRef { timestamp: sample.timestamp, value: batch.value(sample), start: None, flags: sample.flags };
            encoder.push(&rendered, &sample, &mut losses).unwrap();
        }
        let body = encoder.finish(&mut losses);
        assert_eq!(losses.total(), 0);
        assert_eq!(body.samples(), batch.samples.len() as u64);
        assert_eq!(body.cuts.last().map_or(0, |cut| cut.end), body.bytes.len());
        body.bytes
    }

    /// Bodies of pieces that matter to the grammar, some of them whole lines.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let pieces: Vec<&'static [u8]> = vec![
            b"m",
            b",",
            b"=",
            b" ",
            b"\\",
            b"\"",
            b"\n",
            b"\r",
            b"#",
            b"t",
            b"1",
            b"-",
            b"i",
            b"u",
            b".",
            b"e",
            b"\xc3\xa9",
            b"\t",
            b"\x7f",
            b"\xff",
            b",a=b",
            b",a\\ =b\\,",
            b" f=1",
            b"m f=1 5\n",
            b"m,a=b f=2i,g=\"x\\\"\ny\"",
            b" -9",
            b"\r\n",
            b"m,b=c ",
            b"f=t",
            b" \xff=1\n",
            b" s=\"\\t\\r\\v\\n\"",
            b"1e9",
            b"\\n",
        ];
        prop::collection::vec(prop::sample::select(pieces), 0..24).prop_map(|pieces| pieces.concat())
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[ab,= \\\\\"\n\r\t#é\u{7f}\u{1}]{0,6}", "[a-z]{1,5}", any::<String>(),]
    }

    fn value() -> impl Strategy<Value = (u64, u8, String)> {
        (any::<u64>(), 0u8..5, text())
    }

    fn as_value((bits, kind, text): &(u64, u8, String)) -> Value<'_> {
        match kind {
            0 => Value::F64(f64::from_bits(*bits)),
            1 => Value::I64(bits.cast_signed()),
            2 => Value::U64(*bits),
            3 => Value::Bool(bits % 2 == 0),
            _ => Value::Str(text),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn decodes_like_its_twin(body in body()) {
            let table = SeriesTable::default();
            let (expected, bad) = twin::parse(&body);
            // The second time every series is recognised.
            for _ in 0..2 {
                let (batch, report) = decoded(&table, &body);
                prop_assert_eq!(points(&table, &batch), expected.clone());
                prop_assert_eq!(report.accepted, batch.samples.len() as u64);
                prop_assert_eq!(report.first.len(), bad.min(crate::wire::REPORTED_MAX));
                for refused in &report.first {
                    prop_assert!(!decode::line(&body, refused.line).is_empty());
                }
            }
        }

        #[test]
        fn a_body_cut_behind_whole_rows_decodes_to_the_same(body in body()) {
            let table = SeriesTable::default();
            let (whole, bad) = decoded(&table, &body);
            if bad.refused() > 0 {
                return Ok(());
            }
            for length in 0..body.len() {
                let (head, tail) = body.split_at(decode::whole_rows(&body[..length]));
                let [(first, _), (second, _)] = [head, tail].map(|part| decoded(&table, part));
                let pieces = [points(&table, &first), points(&table, &second)].concat();
                prop_assert_eq!(pieces, points(&table, &whole), "cut at {}", head.len());
            }
        }

        #[test]
        fn what_was_decoded_is_written_back_as_it_was(body in body()) {
            let table = SeriesTable::default();
            let (batch, _) = decoded(&table, &body);
            let lines = encoded(&table, &batch);
            let (again, report) = decoded(&table, &lines);
            let mut expected = points(&table, &batch);
            for point in &mut expected {
                point.timestamp = point.timestamp.or(Some(NOW));
            }
            prop_assert_eq!(points(&table, &again), expected);
            prop_assert_eq!(report.refused(), 0);
        }

        #[test]
        fn any_series_is_written_readable_or_not_at_all(
            format in prop::sample::select(Format::ALL.to_vec()),
            name in text(),
            field in text(),
            labels in prop::collection::btree_map(text(), text(), 0..4),
            value in value(),
            timestamp in any::<i64>(),
        ) {
            let table = SeriesTable::default();
            let builder = BatchBuilder::new(&table, format, Vec::new());
            let labels: Vec<_> = labels.iter().filter(|(key, value)| !key.is_empty() && !value.is_empty()).collect();
            let spec = SeriesSpec {
                measurement: &name,
                field: (format == Format::InfluxLine).then_some(&field),
                labels: labels.iter().map(|(key, value)| (Cow::from(*key), Cow::from(*value))).collect(),
                metadata: None,
            };
            let id = builder.define(builder.alias(b"x"), spec).unwrap();
            let Ok(rendered) = encode::render(&table.series(id).unwrap(), &encode::Options::default()) else {
                return Ok(());
            };
            let mut encoder = encode::Encoder::new(encode::Options::default());
            let mut losses = Losses::default();
            let sample = SampleRef { timestamp, value: as_value(&value), start: None, flags: SampleFlags::NONE };
            let Ok(()) = encoder.push(&Arc::new(rendered), &sample, &mut losses) else {
                return Ok(());
            };
            let body = encoder.finish(&mut Losses::default());
            let (batch, report) = decoded(&table, &body.bytes);
            prop_assert_eq!(report.first, vec![]);
            let points = points(&table, &batch);
            prop_assert_eq!(points.len(), 1);
            let key = if format == Format::InfluxLine { field } else { "value".to_owned() };
            let fields = vec![(key, format!("{:?}", sample.value))];
            prop_assert_eq!(&points[0].measurement, &name);
            prop_assert_eq!(&points[0].fields, &fields);
            prop_assert_eq!(points[0].timestamp, Some(timestamp));
            if losses.total() == losses.get(crate::model::Loss::DeltaTemporality) {
                let tags: Vec<_> = labels.iter().map(|(key, value)| ((*key).clone(), (*value).clone())).collect();
                prop_assert_eq!(&points[0].tags, &tags);
            }
        }
    }
}
