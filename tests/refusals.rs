//! What a sender is told of a line or series that is not taken: where it stands, what was expected, what was found.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use prost::Message as _;
use sluicegate::model::{BatchBuilder, Format, SeriesTable};
use sluicegate::wire::remote_write::messages as v1;
use sluicegate::wire::remote_write2::messages as v2;
use sluicegate::wire::{
    Report, influx_line, metric_families, openmetrics, prometheus_text, remote_write, remote_write2, wavefront,
};

/// The first refusal: `line:column message`.
fn refusal(format: Format, body: &[u8]) -> String {
    let table = SeriesTable::default();
    let mut out = BatchBuilder::new(&table, format, Vec::new());
    let text = prometheus_text::decode::Options { now: 1, timestamp: None };
    let report: Report = match format {
        Format::PrometheusText => prometheus_text::decode::decode(body, &text, &mut out),
        Format::OpenMetrics => openmetrics::decode::decode(body, &text, &mut out),
        Format::InfluxLine => influx_line::decode::decode(body, &influx_line::decode::Options::default(), &mut out),
        Format::Wavefront => wavefront::decode::decode(body, &wavefront::decode::Options::at(1), &mut out),
        Format::RemoteWrite => {
            let options = remote_write::decode::Options::default();
            match remote_write::decode::decode(body, &options, &mut out) {
                Ok(decoded) => decoded.report,
                Err(error) => return error.to_string(),
            }
        }
        Format::RemoteWrite2 => {
            let options = remote_write2::decode::Options::default();
            match remote_write2::decode::decode(body, &options, &mut out) {
                Ok(decoded) => decoded.report,
                Err(error) => return error.to_string(),
            }
        }
    };
    let refused = report.first.first().expect("something is refused");
    format!("{}:{} {}", refused.line, refused.column, refused.message)
}

fn all_are(format: Format, cases: &[(&str, &str)]) {
    let wrong = cases.iter().filter_map(|(body, expected)| {
        let got = refusal(format, body.as_bytes());
        (got != *expected).then(|| format!("{body:?}\n  expected {expected}\n  got      {got}"))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn of_line_protocol() {
    all_are(
        Format::InfluxLine,
        &[
            ("ok f=1\nm", "2:2 expected a field, found the end of the line"),
            ("m ", "1:3 expected a field, found the end of the line"),
            ("m f", "1:4 expected '=' after the field key, found the end of the line"),
            ("m =1", "1:3 expected a field key, found \"=1\""),
            ("m f=", "1:5 expected a number, a boolean or a quoted string, found the end of the line"),
            ("m f=1.2.3", "1:5 expected a number in range, found \"1.2.3\""),
            ("m f=9223372036854775808i", "1:5 expected a number in range, found \"9223372036854775808i\""),
            ("m f=tRUE", "1:5 expected a boolean, found \"tRUE\""),
            ("m f=\"x", "1:5 expected a closing quote, found \"\\\"x\""),
            ("m f=1x", "1:5 expected a number in range, found \"1x\""),
            ("m f=\"x\"y", "1:8 expected a comma or a space after the field, found \"y\""),
            ("m f=1,", "1:7 expected a field, found the end of the line"),
            ("m f=1 5x", "1:7 expected a timestamp and the end of the line, found \"5x\""),
            (
                "m f=1 9223372036854775808",
                "1:7 expected a timestamp within 64 bits of nanoseconds, found \"9223372036854775808\"",
            ),
            (",t=1 f=1", "1:1 expected a measurement, found \",t=1 f=1\""),
            ("m, f=1", "1:3 expected a tag key after the comma, found \" f=1\""),
            ("m,t f=1", "1:4 expected '=' after the tag key, found \" f=1\""),
            ("m,t= f=1", "1:5 expected a tag value, found \" f=1\""),
            ("m,t=1,t=2 f=1", "1:1 expected each tag key once, found \"m,t=1,t=2 f=1\""),
            ("m\tx", "1:2 expected a comma or a space, found \"\\tx\""),
            ("# a\tb", "1:4 expected no control character in a comment, found \"\\tb\""),
            ("\rm f=1", "1:1 expected a measurement, or a line feed after the carriage return, found \"\\rm f=1\""),
        ],
    );
    assert_eq!(refusal(Format::InfluxLine, b"m\xff f=1"), "1:1 expected UTF-8, found \"m\u{fffd} f=1\"");
}

#[test]
fn of_text() {
    all_are(
        Format::PrometheusText,
        &[
            ("0a 1", "1:1 expected a metric name or `{`, found \"0a 1\""),
            ("ok 1\na", "2:2 expected a value, found the end of the line"),
            ("a x", "1:3 expected a number in range, NaN, +Inf or -Inf, found \"x\""),
            ("a 1 x", "1:5 expected a timestamp of the format within the years 1677 to 2262, found \"x\""),
            ("a 1 2 3", "1:7 expected the end of the line, found \"3\""),
            ("a{b=\"c\" d=\"e\"} 1", "1:9 expected a label, `,` or `}`, found \"d=\\\"e\\\"} 1\""),
            ("a{b} 1", "1:4 expected `=` behind a label name, found \"} 1\""),
            ("a{b=c} 1", "1:5 expected a label value in double quotes, found \"c} 1\""),
            ("a{b=\"c} 1", "1:5 expected a closing double quote, found \"\\\"c} 1\""),
            ("a{b=\"c\",b=\"d\"} 1", "1:1 expected each label name once, found \"a{b=\\\"c\\\",b=\\\"d\\\"} 1\""),
            ("a{\"\"=\"c\"} 1", "1:3 expected a label name that is not empty, found \"\\\"\\\"=\\\"c\\\"} 1\""),
            (
                "a{__name__=\"b\"} 1",
                "1:3 expected the metric name in front, not as a label too, found \"__name__=\\\"b\\\"} 1\"",
            ),
            ("a{\"b\"} 1", "1:3 expected `=` behind a label name, or one metric name only, found \"\\\"b\\\"} 1\""),
            ("{\"\"} 1", "1:2 expected a metric name that is not empty, found \"\\\"\\\"} 1\""),
            ("{b=\"c\"} 1", "1:1 expected a metric name, found \"{b=\\\"c\\\"} 1\""),
            ("# TYPE a meh", "1:9 expected a metric type of text 0.0.4, found \" meh\""),
            ("# TYPE 0 gauge", "1:8 expected a metric name, found \"0 gauge\""),
        ],
    );
    assert_eq!(
        refusal(Format::PrometheusText, b"a{b=\"\xff\"} 1"),
        "1:5 expected text in UTF-8, found \"\\\"\u{fffd}\\\"} 1\""
    );
}

#[test]
fn of_openmetrics() {
    all_are(
        Format::OpenMetrics,
        &[
            ("a 1\n", "2:1 expected `# EOF`, found the end of the body"),
            ("# EOF\nb 1\n", "2:1 expected the end of the body behind `# EOF`, found \"b 1\""),
            ("# comment\n# EOF\n", "1:1 expected `# HELP `, `# TYPE `, `# UNIT ` or `# EOF`, found \"# comment\""),
            ("# TYPE a\n# EOF\n", "1:9 expected a space behind the name, found the end of the line"),
            ("# TYPE a meh\n# EOF\n", "1:10 expected a metric type of OpenMetrics, found \"meh\""),
            ("# UNIT a s\n# EOF\n", "1:10 expected a unit that is the end of the family's name, found \"s\""),
            ("a  1\n# EOF\n", "1:3 expected a value, found \" 1\""),
            ("a\t1\n# EOF\n", "1:2 expected one space and a value, found \"\\t1\""),
            ("a 1 2 3\n# EOF\n", "1:6 expected the end of the line or ` # {`, found \" 3\""),
            (
                "a 1 # {t=\"x\"}\n# EOF\n",
                "1:14 expected a space, a value and at most a timestamp, found the end of the line",
            ),
            ("a 1 # {t=\"x\"} 1 2 3\n# EOF\n", "1:18 expected a space, a value and at most a timestamp, found \" 3\""),
        ],
    );
}

#[test]
fn of_wavefront() {
    all_are(
        Format::Wavefront,
        &[
            ("m", "1:2 WF-300: expected a value, found the end of the line: \"m\""),
            ("m x source=h", "1:3 WF-300: expected a number, found \"x\": \"m x source=h\""),
            (
                "m 1 5x=x source=h",
                "1:5 WF-300: expected a timestamp within the years 1970 to 2262, found \"5x\": \"m 1 5x=x source=h\"",
            ),
            (
                "m 1 source",
                "1:11 WF-300: expected = behind the tag key \"source\", found the end of the line: \"m 1 source\"",
            ),
            ("m 1 k v", "1:7 WF-300: expected = behind the tag key \"k\", found \"v\": \"m 1 k v\""),
            ("m 1 k=", "1:7 WF-300: expected a tag value, found the end of the line: \"m 1 k=\""),
            ("m 1 k=\"v", "1:7 WF-300: expected a closing quote, found the end of the line: \"m 1 k=\\\"v\""),
            ("\"\" 1", "1:1 WF-300: expected a name, found \"\": \"\\\"\\\" 1\""),
            (
                "!M 1 latency source=h",
                "1:6 WF-300: expected a centroid (#count mean), found \"latency source=h\": \"!M 1 latency source=h\"",
            ),
            ("!M #x 1 latency", "1:5 WF-300: expected a centroid's count in 32 bits, found \"x\": \"!M #x 1 latency\""),
            ("!M #1 latency", "1:7 WF-300: expected a number, found \"latency\": \"!M #1 latency\""),
            ("!M #1", "1:6 WF-300: expected a centroid's mean, found the end of the line: \"!M #1\""),
            ("@Event 1", "1:1 expected metrics, found events and source tags: \"@Event 1\""),
            (
                "a:b 1 source=h",
                "1:1 WF-400: the name has a character other than A-Z a-z 0-9 , . - _ / (or ~ ∆ in front): \"a:b 1 source=h\"",
            ),
            (
                "\u{2206}m 0 source=h",
                "1:1 WF-404: the value of a delta counter is not above zero: \"\u{2206}m 0 source=h\"",
            ),
            // Of several mistakes, the one that the proxy tells.
            (
                "\u{2206}m 0 k",
                "1:9 WF-300: expected = behind the tag key \"k\", found the end of the line: \"\u{2206}m 0 k\"",
            ),
            (
                "!M #0 1 a:b",
                "1:1 WF-400: the name has a character other than A-Z a-z 0-9 , . - _ / (or ~ \u{2206} in front): \"!M #0 1 a:b\"",
            ),
            ("!M #0 1 lat", "1:1 WF-405: the distribution has no centroid with a count above zero: \"!M #0 1 lat\""),
            ("m 1 k=\"\" source=h", "1:1 WF-414: a tag value is blank: \"m 1 k=\\\"\\\" source=h\""),
        ],
    );
    assert_eq!(refusal(Format::Wavefront, b"m\xff 1"), "1:5 expected UTF-8, found other bytes: \"m\u{fffd} 1\"");
}

#[test]
fn of_remote_write() {
    let series = |labels: &[(&str, &str)], timestamp| {
        let labels = labels.iter().map(|(name, value)| v1::Label { name: (*name).into(), value: (*value).into() });
        let samples = vec![v1::Sample { value: 1.0, timestamp }];
        let bad = v1::TimeSeries { labels: labels.collect(), samples, ..v1::TimeSeries::default() };
        let name = v1::Label { name: "__name__".into(), value: "good".into() };
        let good = v1::TimeSeries { labels: vec![name], ..v1::TimeSeries::default() };
        v1::WriteRequest { timeseries: vec![good, bad], ..v1::WriteRequest::default() }.encode_to_vec()
    };
    let metadata = v1::WriteRequest { metadata: vec![v1::MetricMetadata::default()], ..v1::WriteRequest::default() };
    let twice = [("__name__", "a"), ("b", "c"), ("b", "d")];
    let cases = [
        (series(&[], 1), "1:0 expected the label __name__, found {}"),
        (series(&[("job", "x")], 1), "1:0 expected the label __name__, found {job=\"x\"}"),
        (series(&[("__name__", "a"), ("", "x")], 1), "1:0 expected a name for every label, found one without"),
        (series(&twice, 1), "1:0 expected each label name once, found \"b\" twice"),
        (
            series(&twice[..1], i64::MAX),
            "1:0 expected a timestamp within the years 1677 to 2262, found 9223372036854775807 ms",
        ),
        (metadata.encode_to_vec(), "0:0 expected metadata with the name of a metric family, found none"),
    ];
    for (body, expected) in cases {
        assert_eq!(refusal(Format::RemoteWrite, &body), expected);
    }

    let second = |labels_refs: &[u32], samples: usize, help_ref| {
        let sample = v2::Sample { value: 1.0, timestamp: 1, start_timestamp: 0 };
        let metadata = Some(v2::Metadata { r#type: 1, help_ref, unit_ref: 0 });
        let series = v2::TimeSeries {
            labels_refs: labels_refs.to_vec(),
            samples: vec![sample; samples],
            metadata,
            ..v2::TimeSeries::default()
        };
        let symbols = ["", "__name__", "a"].map(str::to_owned).to_vec();
        v2::Request { symbols, timeseries: vec![series] }.encode_to_vec()
    };
    let cases = [
        (second(&[1, 2], 0, 0), "0:0 expected samples or histograms in the series, found neither"),
        (second(&[1, 3], 1, 0), "0:0 expected a reference into the symbol table of 3, found 3"),
        (second(&[1, 2], 1, 7), "0:0 expected a reference into the symbol table of 3, found 7"),
        (second(&[1], 1, 0), "0:0 expected references in pairs, found 1"),
    ];
    for (body, expected) in cases {
        assert_eq!(refusal(Format::RemoteWrite2, &body), expected);
    }
}

/// A field of bytes, with its tag and length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

/// What is said of messages that cannot be walked to their end: the byte stands in the decompressed message.
#[test]
fn of_damaged_messages() {
    let name = field(1, &[field(1, b"__name__"), field(2, b"a")].concat());
    let good = field(1, &name);
    let at = good.len();
    let long = [0xff; 11];
    let broken = |part: &[u8]| [good.clone(), field(1, &[&name, part].concat())].concat();
    // Where the part begins: behind the good series, tag and length of its own, and the name.
    let inside = at + 2 + name.len();
    let end = "found the end of its message";
    let cases = [
        (vec![1 << 3 | 2, 9], format!("expected 9 more bytes of a field, {end}, at byte 0")),
        ([&good[..], &[1 << 3 | 2, 9, 0]].concat(), format!("expected 8 more bytes of a field, {end}, at byte {at}")),
        ([&good[..], &[0x88]].concat(), format!("expected 1 more bytes of a field, {end}, at byte {at}")),
        ([&good[..], &[3 << 3 | 6]].concat(), format!("expected a wire type from 0 to 5, found 6, at byte {at}")),
        ([&good[..], &[0, 1]].concat(), format!("expected a field number from 1 to 536870911, found 0, at byte {at}")),
        (
            [&good[..], &[0x80, 0x80, 0x80, 0x80, 0x10, 1]].concat(),
            format!("expected a field number from 1 to 536870911, found a larger one, at byte {at}"),
        ),
        (
            [&good[..], &[9 << 3 | 4]].concat(),
            format!("expected a field, found the end of a group that never began, at byte {at}"),
        ),
        (
            [&good[..], &long].concat(),
            format!("expected a varint of at most 10 bytes, found a longer one, at byte {at}"),
        ),
        ([&good[..], &[1 << 3, 7]].concat(), format!("expected wire type 2 for field 1, found 0, at byte {at}")),
        (
            broken(&[2 << 3 | 2, 5, 1]),
            format!("expected 4 more bytes of a field, {end}, at byte {inside}, in series 1"),
        ),
        (
            broken(&field(2, &[1 << 3, 7])),
            format!("expected wire type 1 for field 1, found 0, at byte {}, in series 1", inside + 2),
        ),
        (
            broken(&field(2, &[2 << 3 | 1, 0, 0])),
            format!("expected 6 more bytes of a field, {end}, at byte {}, in series 1", inside + 2),
        ),
        (
            // Deltas of a histogram, packed.
            broken(&field(4, &field(12, &[2, 0x80]))),
            format!("expected 1 more bytes of a field, {end}, at byte {}, in series 1", inside + 5),
        ),
        (
            broken(&field(4, &field(13, &[0; 9]))),
            format!("expected 7 more bytes of a field, {end}, at byte {}, in series 1", inside + 12),
        ),
        (
            broken(&field(4, &[12 << 3 | 5, 0, 0, 0, 0])),
            format!("expected wire type 0 or 2 for field 12, found 5, at byte {}, in series 1", inside + 2),
        ),
        (
            // A label behind a sample: the series is put in order in a copy, and its beginning is what is known.
            broken(&[field(2, &[]), field(1, &[1 << 3 | 2, 7])].concat()),
            format!("expected 7 more bytes of a field, {end}, at byte {}, in series 1", at + 2),
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(refusal(Format::RemoteWrite, &body), format!("protobuf: {expected}"), "{body:x?}");
    }

    let symbols = [field(4, b""), field(4, b"__name__"), field(4, b"a")].concat();
    let good = field(5, &[field(1, &[1, 2]), field(2, &[])].concat());
    let at = symbols.len() + good.len();
    let broken = |part: &[u8]| [&symbols[..], &good, &field(5, part)].concat();
    let cases = [
        (
            [&symbols[..], &good, &[5 << 3 | 2, 9]].concat(),
            format!("expected 9 more bytes of a field, {end}, at byte {at}"),
        ),
        (
            broken(&field(1, &[1, 0x82])),
            format!("expected 1 more bytes of a field, {end}, at byte {}, in series 1", at + 5),
        ),
        (
            broken(&[field(1, &[1, 2]), field(2, &[2 << 3 | 2, 0])].concat()),
            format!("expected wire type 0 for field 2, found 2, at byte {}, in series 1", at + 8),
        ),
        (
            broken(&field(5, &[1 << 3 | 5, 0, 0, 0])),
            format!("expected 1 more bytes of a field, {end}, at byte {}, in series 1", at + 4),
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(refusal(Format::RemoteWrite2, &body), format!("protobuf: {expected}"), "{body:x?}");
    }

    let family = [&[3][..], &field(1, b"a")].concat();
    let cases = [
        ([&family[..], &[4, 1]].concat(), format!("expected 3 more bytes of a field, {end}, at byte 4, in family 1")),
        (
            [&family[..], &[2, 1 << 3, 7]].concat(),
            "expected wire type 2 for field 1, found 0, at byte 5, in family 1".to_owned(),
        ),
    ];
    for (body, expected) in cases {
        let table = SeriesTable::default();
        let mut out = BatchBuilder::new(&table, Format::PrometheusText, Vec::new());
        let error = metric_families::decode(&body, &metric_families::Options { now: 1 }, &mut out).unwrap_err();
        assert_eq!(error.to_string(), format!("protobuf: {expected}"), "{body:x?}");
    }
}
