use super::*;
use crate::model::{Batch, Format, SeriesTable, TableBounds, Value};
use influxdb_line_protocol::FieldValue;

fn decoded(table: &SeriesTable, body: &[u8], precision: Precision) -> (Batch, Report) {
    let mut builder = BatchBuilder::new(table, Format::InfluxLine, Vec::new());
    let report = decode(body, &Options { precision, now: 77 }, &mut builder);
    (builder.finish(), report)
}

fn refusal(body: &str) -> String {
    let (batch, report) = decoded(&SeriesTable::default(), body.as_bytes(), Precision::Nanoseconds);
    assert!(batch.samples.is_empty(), "{body:?}");
    let [refused] = &report.first[..] else { panic!("{body:?}: {report:?}") };
    format!("{}:{} {}: {}", refused.line, refused.column, refused.reason.as_str(), refused.message)
}

#[test]
fn a_line_becomes_a_row_of_typed_samples() {
    let table = SeriesTable::default();
    let body = b"cpu,host=a\\ b idle=1.5,n=-2i,u=3u,up=T,s=\"x\\\"\\n\\r\\t\\v\\\\\" 9\r\ncpu up=f";
    let (batch, report) = decoded(&table, body, Precision::Nanoseconds);
    let values: Vec<_> =
        batch.samples.iter().map(|sample| (batch.value(sample), sample.timestamp, sample.flags)).collect();
    let (first, further) = (SampleFlags::NONE, SampleFlags::ROW_CONTINUES);
    let expected = [
        (Value::F64(1.5), 9, first),
        (Value::I64(-2), 9, further),
        (Value::U64(3), 9, further),
        (Value::Bool(true), 9, further),
        (Value::Str("x\"\n\r\t\\v\\"), 9, further),
        (Value::Bool(false), 77, SampleFlags::TIMESTAMP_IMPLICIT),
    ];
    assert_eq!(values, expected);
    assert_eq!((report.accepted, report.refused()), (6, 0));
    let series = table.series(batch.samples[0].series).unwrap();
    assert_eq!((series.name.measurement(), series.name.field_key()), ("cpu", Some("idle")));
    assert_eq!(series.label("host"), Some("a b"));
}

#[test]
fn refusals_say_where_and_why() {
    let cases = [
        ("\n\n  m,=b f=1", "3:5 invalid_label: expected a tag key after the comma, found \"=b f=1\""),
        (",a=b f=1", "1:1 missing_name: expected a measurement, found \",a=b f=1\""),
        ("m,a f=1", "1:4 invalid_label: expected '=' after the tag key, found \" f=1\""),
        ("m,a= f=1", "1:5 invalid_label: expected a tag value, found \" f=1\""),
        ("m,a=1,a=2 f=1", "1:1 duplicate_label: expected each tag key once, found \"m,a=1,a=2 f=1\""),
        ("m\u{1} f=1", "1:2 syntax: expected a comma or a space, found \"\\u{1} f=1\""),
        ("m\n", "1:2 no_value: expected a field, found the end of the line"),
        ("m f", "1:4 syntax: expected '=' after the field key, found the end of the line"),
        ("m f=1,\n", "1:7 no_value: expected a field, found the end of the line"),
        ("m =1", "1:3 syntax: expected a field key, found \"=1\""),
        ("m f=", "1:5 invalid_value: expected a number, a boolean or a quoted string, found the end of the line"),
        ("m f=1,g=nan", "1:9 invalid_value: expected a number, a boolean or a quoted string, found \"nan\""),
        ("m f=-inf", "1:5 invalid_value: expected a number in range, found \"-inf\""),
        ("m f=1e999", "1:5 invalid_value: expected a number in range, found \"1e999\""),
        ("m f=0x10", "1:5 invalid_value: expected a number in range, found \"0x10\""),
        ("m f=9223372036854775808i", "1:5 invalid_value: expected a number in range, found \"9223372036854775808i\""),
        ("m f=-1u", "1:5 invalid_value: expected a number in range, found \"-1u\""),
        ("m f=tRUE", "1:5 invalid_value: expected a boolean, found \"tRUE\""),
        ("m f=\"x\ny", "1:5 syntax: expected a closing quote, found \"\\\"x\""),
        ("m f=\"x\"y", "1:8 syntax: expected a comma or a space after the field, found \"y\""),
        ("m f=1 12x", "1:7 invalid_timestamp: expected a timestamp and the end of the line, found \"12x\""),
        (
            "m f=1 9223372036854775808",
            "1:7 invalid_timestamp: expected a timestamp within 64 bits of nanoseconds, found \"9223372036854775808\"",
        ),
        ("#\tx", "1:2 syntax: expected no control character in a comment, found \"\\tx\""),
        ("\rx", "1:1 syntax: expected a measurement, or a line feed after the carriage return, found \"\\rx\""),
    ];
    for (body, expected) in cases {
        assert_eq!(refusal(body), expected, "{body:?}");
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_wherever_it_stands() {
    for body in [&b"\xff f=1"[..], b"m,\xff=a f=1", b"m,a=\xff f=1", b"m \xff=1", b"m f=\"\xff\"", b"m f=\"\\n\xff\""] {
        let (batch, report) = decoded(&SeriesTable::default(), body, Precision::Nanoseconds);
        assert_eq!((batch.samples.len(), report.refused_for(Refusal::InvalidUtf8)), (0, 1), "{body:?}");
    }
}

#[test]
fn names_are_bounded() {
    let table = SeriesTable::default();
    let long = "x".repeat(NAME_BYTES_MAX);
    for (body, refused) in [
        (format!("{long} {long}=1"), 0),
        (format!("{long}x f=1"), 1),
        (format!("m,t={long} f=1"), 1),
        (format!("m {long}x=1"), 1),
    ] {
        let (_, report) = decoded(&table, body.as_bytes(), Precision::Nanoseconds);
        assert_eq!(report.refused_for(Refusal::TooLong), refused);
    }
}

#[test]
fn a_bad_line_costs_its_own_fields_only() {
    let body = b"m a=1,b=2 1\nm a=3,b=4,c=x 2\nm,\xff=1 a=5\nm a=\"\xff\n\" 3\nm a=6 4x\nm b=7 5\n";
    let table = SeriesTable::default();
    for _ in 0..2 {
        let (batch, report) = decoded(&table, body, Precision::Nanoseconds);
        let values: Vec<_> = batch.samples.iter().map(|sample| batch.value(sample)).collect();
        assert_eq!(values, [1.0, 2.0, 7.0].map(Value::F64));
        assert_eq!((report.accepted, report.refused()), (3, 6));
        let places: Vec<_> = report.first.iter().map(|refused| (refused.line, refused.reason.as_str())).collect();
        let expected = [(2, "invalid_value"), (3, "invalid_utf8"), (4, "invalid_utf8"), (6, "invalid_timestamp")];
        assert_eq!(places, expected);
    }
}

#[test]
fn a_row_is_found_again_by_its_line_number() {
    let body = b"a f=1\r\nb,t=\\ \" s=\"x\ny=\\\"\nz\",g=\"\n\" 5\n\nc";
    assert_eq!(line(body, 1), b"a f=1");
    assert_eq!(line(body, 2), b"b,t=\\ \" s=\"x\ny=\\\"\nz\",g=\"\n\" 5");
    assert_eq!(line(body, 6), b"");
    assert_eq!(line(body, 7), b"c");
    assert_eq!(line(body, 99), b"");
}

#[test]
fn units_are_known_by_the_names_of_each_version() {
    use Precision::{Auto, Hours, Microseconds, Milliseconds, Minutes, Nanoseconds, Seconds};
    type Parse = fn(&str) -> Option<Precision>;
    type Names = [(&'static str, Option<Precision>)];
    let cases: [(Parse, &Names); 3] = [
        (
            Precision::from_v1,
            &[
                ("n", Some(Nanoseconds)),
                ("ns", Some(Nanoseconds)),
                ("u", Some(Microseconds)),
                ("us", Some(Microseconds)),
                ("µ", Some(Microseconds)),
                ("µs", Some(Microseconds)),
                ("ms", Some(Milliseconds)),
                ("s", Some(Seconds)),
                ("m", Some(Minutes)),
                ("h", Some(Hours)),
                ("auto", None),
                ("", None),
            ],
        ),
        (Precision::from_v2, &[("us", Some(Microseconds)), ("h", None), ("n", None)]),
        (
            Precision::from_v3,
            &[
                ("nanosecond", Some(Nanoseconds)),
                ("microsecond", Some(Microseconds)),
                ("millisecond", Some(Milliseconds)),
                ("second", Some(Seconds)),
                ("auto", Some(Auto)),
                ("ms", Some(Milliseconds)),
                ("m", None),
            ],
        ),
    ];
    for (parse, names) in cases {
        for (name, expected) in names {
            assert_eq!(parse(name), *expected, "{name}");
        }
    }
}

#[test]
fn timestamps_become_nanoseconds_or_are_refused() {
    use Precision::{Auto, Hours, Minutes, Seconds};
    let cases = [
        (Hours, "2", Some(7_200_000_000_000)),
        (Minutes, "-1", Some(-60_000_000_000)),
        (Seconds, "9223372037", None),
        (Auto, "4999999999", Some(4_999_999_999_000_000_000)),
        (Auto, "5000000000", Some(5_000_000_000_000_000)),
        (Auto, "-5000000000000", Some(-5_000_000_000_000_000)),
        (Auto, "5000000000000000", Some(5_000_000_000_000_000)),
        (Auto, "-9223372036854775808", Some(i64::MIN)),
    ];
    for (precision, text, expected) in cases {
        let table = SeriesTable::default();
        let (batch, report) = decoded(&table, format!("m f=1 {text}").as_bytes(), precision);
        assert_eq!(batch.samples.first().map(|sample| sample.timestamp), expected, "{text}");
        assert_eq!(report.refused_for(Refusal::InvalidTimestamp), u64::from(expected.is_none()), "{text}");
    }
}

#[test]
fn a_full_table_refuses_the_new_fields_of_a_row_and_keeps_the_known() {
    let table = SeriesTable::new(TableBounds { bytes_max: 1, idle_sweeps: 1, ..TableBounds::default() });
    let (batch, report) = decoded(&table, b"m a=1\nm b=2,a=3,c=4 5", Precision::Nanoseconds);
    let values: Vec<_> = batch.samples.iter().map(|sample| (batch.value(sample), sample.flags)).collect();
    assert_eq!(values, [(Value::F64(1.0), SampleFlags::TIMESTAMP_IMPLICIT), (Value::F64(3.0), SampleFlags::NONE)]);
    assert_eq!((report.accepted, report.refused_for(Refusal::SeriesLimit)), (2, 2));
    assert_eq!(report.first[0].line, 2);
}

#[test]
fn agrees_with_the_crate_of_influxdb_3() {
    let lines = [
        "cpu,host=a,region=eu\\ west usage_idle=91.5,n=3i,big=18446744073709551615u,up=true 1700000000000000000",
        "disk,path=/a\\,b\\=c free=1e9,label=\"a \\\"b\\\"\" -5",
        "weather,loc=züri temp=-0.5",
    ];
    let table = SeriesTable::default();
    for text in lines {
        let (batch, _) = decoded(&table, text.as_bytes(), Precision::Nanoseconds);
        let parsed = influxdb_line_protocol::parse_lines(text).next().unwrap().unwrap();
        assert_eq!(batch.samples.len(), parsed.field_set.len());
        for (sample, (key, value)) in batch.samples.iter().zip(&parsed.field_set) {
            let series = table.series(sample.series).unwrap();
            assert_eq!(series.name.measurement(), parsed.series.measurement.as_str());
            assert_eq!(series.name.field_key(), Some(key.as_str()));
            for (key, value) in parsed.series.tag_set.iter().flatten() {
                assert_eq!(series.label(key.as_str()), Some(value.as_str()));
            }
            assert_eq!(sample.timestamp, parsed.timestamp.unwrap_or(77));
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
}
