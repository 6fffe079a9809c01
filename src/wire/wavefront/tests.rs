//! Tests of both directions together: cases, the twin, properties.

use super::decode::{Form, Options, decode};
use super::encode::{self, Encoder, Rendered, render, sanitise_name, sanitise_value_quoted};
use super::twin;
use super::validate::Limits;
use crate::model::{
    Batch, BatchBuilder, Centroid, Counts, Distribution, Format, Granularity, Loss, Losses, Metadata, MetricType,
    NativeHistogram, Refusal, ResetHint, SampleFlags, SeriesSpec, SeriesTable, Span, Value,
};
use crate::wire::{Body, Report, SampleRef};
use proptest::prelude::*;
use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

const NOW: i64 = 1_700_000_000_123_456_789;

fn decoded(table: &SeriesTable, body: &[u8], options: &Options<'_>) -> (Batch, Report) {
    let mut out = BatchBuilder::new(table, Format::Wavefront, Vec::new());
    let report = decode(body, options, &mut out);
    (out.finish(), report)
}

/// The samples, one a line: `name{label=value,...} value nanoseconds`.
fn shown(table: &SeriesTable, batch: &Batch) -> String {
    let mut text = String::new();
    for sample in &batch.samples {
        let series = table.series(sample.series).unwrap();
        let labels: Vec<_> = series.labels.iter().map(|pair| format!("{}={}", pair.name, pair.value)).collect();
        let value = match batch.value(sample) {
            Value::F64(value) => format!("{value:?}"),
            Value::Distribution(distribution) => {
                let centroids = distribution.centroids.iter().map(|c| format!("#{} {:?}", c.count, c.mean));
                format!("{:?} {}", distribution.granularity, centroids.collect::<Vec<_>>().join(" "))
            }
            other => format!("{other:?}"),
        };
        let time = match sample.flags {
            SampleFlags::TIMESTAMP_IMPLICIT => "now".to_owned(),
            _ => sample.timestamp.to_string(),
        };
        writeln!(text, "{}{{{}}} {value} {time}", series.name.measurement(), labels.join(",")).unwrap();
    }
    text
}

fn judged(body: &str, options: &Options<'_>) -> String {
    let table = SeriesTable::default();
    let (first, report) = decoded(&table, body.as_bytes(), options);
    let (second, again) = decoded(&table, body.as_bytes(), options);
    assert_eq!(report, again, "a known series is judged as at first sight: {body}");
    assert_eq!(shown(&table, &first), shown(&table, &second), "{body}");
    let mut text = shown(&table, &first);
    for refused in &report.first {
        writeln!(text, "{}: {} {}", refused.line, refused.reason.as_str(), refused.message).unwrap();
    }
    text.trim_end().to_owned()
}

#[test]
fn reads_what_the_proxy_reads() {
    let t = "1700000000000000000";
    let cases = [
        ("m 1 1700000000 source=h k=v", format!("m{{k=v,source=h}} 1.0 {t}")),
        ("\"m\"\t1\t1700000000\tsource=h", format!("m{{source=h}} 1.0 {t}")),
        ("  m  1  1700000000  source = h  k = v \r", format!("m{{k=v,source=h}} 1.0 {t}")),
        ("m 1 source=h", "m{source=h} 1.0 now".into()),
        ("m 1", "m{source=unknown} 1.0 now".into()),
        ("m 1 fqdn=f", "m{fqdn=f,source=f} 1.0 now".into()),
        ("m 1 host=a source=b tag=c", "m{_host=a,_tag=c,source=b} 1.0 now".into()),
        ("m 1 host=a", "m{source=a} 1.0 now".into()),
        ("m 1 datasource=x", "m{datasource=x,source=unknown} 1.0 now".into()),
        ("m 1 source=h k=v k=w", "m{k=w,source=h} 1.0 now".into()),
        (r#"m 1 source=h "k"="a \" b""#, r#"m{k=a " b,source=h} 1.0 now"#.into()),
        (r#"m 1 source=h k="a\\b\n""#, r"m{k=a\\b\n,source=h} 1.0 now".into()),
        (r#"m 1 source=h k="a"b=c"#, "m{b=c,k=a,source=h} 1.0 now".into()),
        (r#"m 1 source=h k=a"b" l=a#x n='a "x" b'"#, r#"m{k=a"b",l=a#x,n=a "x" b,source=h} 1.0 now"#.into()),
        ("m 1 source=h k== l=#", "m{k==,l=#,source=h} 1.0 now".into()),
        ("∆m 1 source=h", "∆m{source=h} 1.0 now".into()),
        ("∆~m 1 source=h", "∆~m{source=h} 1.0 now".into()),
        ("m NaN source=h", "m{source=h} NaN now".into()),
        ("m -Infinity source=h", "m{source=h} -inf now".into()),
        ("\u{2003}m\u{2003} 1 source=h", "m\u{2003}{source=h} 1.0 now".into()),
        (
            "!M 1700000030 #2 1.5 # 1 -3 lat source=h k=v",
            "lat{k=v,source=h} Minute #2 1.5 #1 -3.0 1699999980000000000".into(),
        ),
        ("!D #1 1 lat source=h", "lat{source=h} Day #1 1.0 now".into()),
    ];
    for (line, expected) in cases {
        // Only the grammar: the name with a wide blank is legal to the parser and not to the rules.
        let options = Options { limits: None, ..Options::at(NOW) };
        assert_eq!(judged(line, &options), expected, "{line}");
    }
}

#[test]
fn refusals_have_their_column() {
    let cases =
        [("a x", 3), ("a", 2), (" \ta 1 k v", 9), ("a 1 \"k=v", 5), ("a 1 source=s \"k\"=\"\"", 1), ("@Event", 1)];
    for (line, column) in cases {
        let (_, report) = decoded(&SeriesTable::default(), line.as_bytes(), &Options::at(NOW));
        assert_eq!(report.first.first().map(|refused| refused.column), Some(column), "{line:?}");
    }
}

#[test]
fn a_tag_without_value_can_be_left_out() {
    let options = Options { drops_blank_tags: true, default_source: Some("peer"), ..Options::at(NOW) };
    let cases = [
        ("m 1 source=h \"a\"=\"\" b=1", "m{b=1,source=h} 1.0 now"),
        ("m 1 source=h \"a\"=\" \\t\" \"b\"=\" x \"", "m{a= \\t,b= x ,source=h} 1.0 now"),
        ("m 1 source=h \"a\"=\"  \"", "m{source=h} 1.0 now"),
        ("m 1 \"host\"=\"\" k=v", "m{k=v,source=peer} 1.0 now"),
    ];
    for (line, expected) in cases {
        assert_eq!(judged(line, &options), expected, "{line}");
    }
    for (line, code) in [("m 1 source=\"\" k=v", "WF-406"), ("m 1 source=h \"a b\"=\"x\" c=\"\"", "WF-401")] {
        assert!(judged(line, &options).contains(code), "{line}: {}", judged(line, &options));
    }
}

#[test]
fn refuses_what_the_proxy_refuses() {
    let cases = [
        ("m", "no_value"),
        ("m nan source=h", "invalid_value"),
        ("m 1_000 source=h", "invalid_value"),
        ("m 1 -5 source=h", "syntax"),
        ("m 1 5x=x source=h", "invalid_timestamp"),
        ("m 1 999999999999 source=h", "invalid_timestamp"),
        ("m 1 1700000000 1700000001", "syntax"),
        ("m 1 source=h 1700000000", "syntax"),
        ("m 1 source=h k=", "syntax"),
        ("m 1 source=h k", "syntax"),
        ("m 1 source=h k=#x", "syntax"),
        ("m 1 source=h k=a=b", "syntax"),
        (r#"m 1 source=h k="a\\" z=1"#, "syntax"),
        ("m 1 source=h k=\"\"", "invalid_label"),
        ("m 1 source=h ==v", "invalid_label"),
        ("m 1 source=h \"\"=v", "syntax"),
        ("\"\" 1", "missing_name"),
        ("m:x 1", "invalid_name"),
        ("a∆m 1", "invalid_name"),
        ("m 1 source=h k:k=v", "invalid_label"),
        ("m 1 source=\" \"", "invalid_label"),
        ("∆m 0 source=h", "invalid_value"),
        ("!M #0 1 lat", "invalid_histogram"),
        ("!M 1700000000 lat", "syntax"),
        ("!M #2147483648 1 lat", "invalid_histogram"),
        ("!M #1 lat source=h", "invalid_value"),
        ("!X #1 1 lat", "invalid_value"),
        ("@Event 1 2 \"e\"", "unsupported"),
        ("@SourceTag action=add source=h a", "unsupported"),
        ("{\"traceId\":1}", "unsupported"),
        ("[{}]", "unsupported"),
    ];
    for (line, reason) in cases {
        let text = judged(line, &Options::at(NOW));
        assert!(text.starts_with(&format!("1: {reason} ")), "{line}: {text}");
    }
}

#[test]
fn the_form_decides_which_lines_are_read() {
    let body = "m 1 source=h\n!M #1 1 lat source=h\n";
    let of = |form| judged(body, &Options { form, ..Options::at(NOW) }).lines().count();
    assert_eq!(of(Form::Auto), 2);
    let metrics = judged(body, &Options { form: Form::Metrics, ..Options::at(NOW) });
    assert!(metrics.starts_with("m{source=h} 1.0 now\n2: "), "{metrics}");
    let histograms = judged(body, &Options { form: Form::Histograms, ..Options::at(NOW) });
    assert!(histograms.starts_with("lat{source=h} Minute #1 1.0 now\n1: "), "{histograms}");
}

#[test]
fn a_line_without_source_is_another_series_from_another_sender() {
    let table = SeriesTable::default();
    let from = |source| Options { default_source: Some(source), ..Options::at(NOW) };
    let body = b"m 1\nm 1 source=s\n";
    let (one, _) = decoded(&table, body, &from("10.0.0.1"));
    let (two, _) = decoded(&table, body, &from("10.0.0.2"));
    assert_eq!(shown(&table, &one), "m{source=10.0.0.1} 1.0 now\nm{source=s} 1.0 now\n");
    assert_eq!(shown(&table, &two), "m{source=10.0.0.2} 1.0 now\nm{source=s} 1.0 now\n");
}

#[test]
fn good_lines_around_a_bad_one_are_kept() {
    let table = SeriesTable::default();
    let (batch, report) = decoded(&table, b"a 1 source=h\n\nb \xff source=h\nc 1 source=\xff\n d 1", &Options::at(NOW));
    assert_eq!((batch.samples.len(), report.accepted, report.refused()), (2, 2, 2));
    assert_eq!((report.first[0].line, report.first[1].line), (3, 4));
    assert_eq!(report.refused_for(Refusal::InvalidUtf8), 1);
}

/// A sample to be encoded, told in the terms of a test.
struct Given<'a> {
    format: Format,
    name: &'a str,
    field: Option<&'a str>,
    labels: &'a [(&'a str, &'a str)],
    value: Value<'a>,
    timestamp: i64,
}

impl Default for Given<'_> {
    fn default() -> Self {
        Self {
            format: Format::PrometheusText,
            name: "m",
            field: None,
            labels: &[("source", "h")],
            value: Value::F64(1.0),
            timestamp: 1_700_000_000_000_000_000,
        }
    }
}

fn rendered(given: &Given<'_>, metadata: Option<Arc<Metadata>>) -> Result<Arc<Rendered>, Loss> {
    let table = SeriesTable::default();
    let builder = BatchBuilder::new(&table, given.format, Vec::new());
    let labels = given.labels.iter().map(|(name, value)| (Cow::from(*name), Cow::from(*value))).collect();
    let spec = SeriesSpec { measurement: given.name, field: given.field, labels, metadata };
    let id = builder.define(builder.alias(b"x"), spec).unwrap();
    render(&table.series(id).unwrap(), &encode::Options::new("gw".into())).map(Arc::new)
}

/// The line of a sample, and what it lost; or why there is none.
fn encoded(given: &Given<'_>) -> String {
    let mut encoder = Encoder::new(encode::Options::new("gw".into()));
    let mut losses = Losses::default();
    let sample = SampleRef { timestamp: given.timestamp, value: given.value, start: None, flags: SampleFlags::NONE };
    let pushed = rendered(given, None).and_then(|rendered| encoder.push(&rendered, &sample, &mut losses));
    if let Err(loss) = pushed {
        assert_eq!((encoder.samples(), encoder.bytes(), losses.total()), (0, 0, 0), "a dropped sample leaves no trace");
        return loss.as_str().to_owned();
    }
    assert_eq!(encoder.samples(), 1);
    let mut body = encoder.finish(&mut losses);
    if let Some(distributions) = encoder.finish_distributions() {
        assert!(body.bytes.is_empty());
        body = distributions;
    }
    assert_eq!((body.samples(), encoder.samples()), (1, 0));
    let lost: Vec<_> = losses.iter().map(|(loss, _)| format!(" [{}]", loss.as_str())).collect();
    String::from_utf8(body.bytes).unwrap() + &lost.concat()
}

#[test]
fn writes_the_safe_profile() {
    use Format::{InfluxLine, PrometheusText, Wavefront};
    let g = Given::default;
    let cases = [
        (g(), "\"m\" 1.0 1700000000000 source=\"h\"\n"),
        (
            Given { name: "a:b.c_d", labels: &[("le", "+Inf"), ("host", "x"), ("a b", "")], ..g() },
            "\"a-b.c_d\" 1.0 1700000000000 source=\"x\" \"le\"=\"+Inf\"\n [name_sanitised] [label_dropped]",
        ),
        (
            Given {
                format: InfluxLine,
                name: "cpu",
                field: Some("idle"),
                labels: &[("hostname", "x"), ("é", "y")],
                ..g()
            },
            "\"cpu.idle\" 1.0 1700000000000 source=\"x\" \"-\"=\"y\" \"hostname\"=\"x\"\n [label_sanitised]",
        ),
        (
            Given {
                format: InfluxLine,
                name: "cpu",
                field: Some("value"),
                labels: &[],
                value: Value::Bool(true),
                ..g()
            },
            "\"cpu\" 1.0 1700000000000 source=\"gw\"\n [field_type]",
        ),
        (
            Given { labels: &[("host", "a"), ("source", "b"), ("tag", "c")], ..g() },
            "\"m\" 1.0 1700000000000 source=\"b\" \"_tag\"=\"c\" \"host.name\"=\"a\"\n [label_sanitised]",
        ),
        (
            Given { labels: &[("source", "a\"b\n\u{7}"), ("k", "c\\\"d\\")], ..g() },
            "\"m\" 1.0 1700000000000 source=\"a\\\"b \" \"k\"=\"c\\\\\"d_\"\n [value_sanitised]",
        ),
        (
            Given { format: PrometheusText, name: "∆m", ..g() },
            "\"-m\" 1.0 1700000000000 source=\"h\"\n [name_sanitised]",
        ),
        (Given { format: Wavefront, name: "∆m", ..g() }, "\"∆m\" 1.0 1700000000000 source=\"h\"\n"),
        (Given { format: Wavefront, name: "~a/b,c", ..g() }, "\"~a/b,c\" 1.0 1700000000000 source=\"h\"\n"),
        (Given { format: Wavefront, name: "∆m", value: Value::F64(0.0), ..g() }, "delta_not_positive"),
        (Given { value: Value::I64(-3), ..g() }, "\"m\" -3.0 1700000000000 source=\"h\"\n [field_type]"),
        (
            Given { value: Value::U64(u64::MAX), ..g() },
            "\"m\" 1.8446744073709552e19 1700000000000 source=\"h\"\n [integer_rounded]",
        ),
        (
            Given { value: Value::I64(i64::MAX), ..g() },
            "\"m\" 9.223372036854776e18 1700000000000 source=\"h\"\n [integer_rounded]",
        ),
        (Given { value: Value::F64(1e-7), ..g() }, "\"m\" 1e-7 1700000000000 source=\"h\"\n"),
        (Given { value: Value::F64(f64::NAN), ..g() }, "non_finite"),
        (Given { value: Value::F64(f64::NEG_INFINITY), ..g() }, "non_finite"),
        (Given { value: Value::F64(f64::from_bits(crate::model::STALE_MARKER_BITS)), ..g() }, "stale_marker"),
        (Given { value: Value::Str("x"), ..g() }, "string_value"),
        (Given { timestamp: -1, ..g() }, "timestamp_out_of_range"),
        (Given { timestamp: 0, ..g() }, "\"m\" 1.0 0 source=\"h\"\n"),
        (Given { timestamp: 5_007_000_000, ..g() }, "\"m\" 1.0 5.007 source=\"h\"\n"),
        (Given { timestamp: NOW, ..g() }, "\"m\" 1.0 1700000000123 source=\"h\"\n [timestamp_truncated]"),
    ];
    for (index, (given, expected)) in cases.into_iter().enumerate() {
        assert_eq!(encoded(&given), expected, "case {index}");
    }
}

#[test]
fn a_distribution_is_a_line_of_its_own_kind() {
    let distribution = Distribution {
        granularity: Granularity::Hour,
        centroids: vec![Centroid { count: 20, mean: 30.0 }, Centroid { count: 10, mean: 5.1 }],
    };
    let line = encoded(&Given { value: Value::Distribution(&distribution), ..Given::default() });
    assert_eq!(line, "!H 1700000000000 #20 30.0 #10 5.1 \"m\" source=\"h\"\n");
    let empty = Distribution { granularity: Granularity::Day, centroids: vec![Centroid { count: 0, mean: 1.0 }] };
    assert_eq!(encoded(&Given { value: Value::Distribution(&empty), ..Given::default() }), "non_finite");
    let centroids = vec![Centroid { count: i32::MAX, mean: 1.0 / 3.0 }; 2000];
    let long = Distribution { granularity: Granularity::Day, centroids };
    assert_eq!(encoded(&Given { value: Value::Distribution(&long), ..Given::default() }), "too_long");
}

#[test]
fn a_native_histogram_becomes_buckets_count_and_sum() {
    let histogram = NativeHistogram {
        schema: 0,
        zero_threshold: 0.001,
        sum: 7.5,
        counts: Counts::Integer { count: 4, zero_count: 1, positive_deltas: vec![2, -1], negative_deltas: vec![] },
        positive_spans: vec![Span { offset: 0, length: 2 }],
        negative_spans: vec![],
        custom_values: vec![],
        reset_hint: ResetHint::Unknown,
    };
    let given = Given { name: "lat", value: Value::Histogram(&histogram), ..Given::default() };
    let expected = "\"lat.bucket\" 1.0 1700000000000 source=\"h\" \"le\"=\"0.001\"\n\
                    \"lat.bucket\" 3.0 1700000000000 source=\"h\" \"le\"=\"1\"\n\
                    \"lat.bucket\" 4.0 1700000000000 source=\"h\" \"le\"=\"2\"\n\
                    \"lat.bucket\" 4.0 1700000000000 source=\"h\" \"le\"=\"+Inf\"\n\
                    \"lat.count\" 4.0 1700000000000 source=\"h\"\n\
                    \"lat.sum\" 7.5 1700000000000 source=\"h\"\n [native_histogram]";
    assert_eq!(encoded(&given), expected);
    let labels: Vec<(String, String)> = (0..30).map(|n| (format!("k{n:02}"), "v".to_owned())).collect();
    let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let name = "n".repeat(300);
    let text =
        encoded(&Given { name: &name, labels: &labels, value: Value::Histogram(&histogram), ..Given::default() });
    for line in text.lines().take(6) {
        twin::read(line, &twin::SAAS, "x").unwrap();
    }
}

#[test]
fn a_native_histogram_becomes_a_distribution_of_what_is_new_where_asked_for() {
    let histogram = |first: i64| NativeHistogram {
        schema: 0,
        zero_threshold: 0.001,
        sum: 7.5,
        counts: Counts::Integer {
            count: first.unsigned_abs() + 1,
            zero_count: 0,
            positive_deltas: vec![first, 1 - first],
            negative_deltas: vec![],
        },
        positive_spans: vec![Span { offset: 1, length: 2 }],
        negative_spans: vec![],
        custom_values: vec![],
        reset_hint: ResetHint::Unknown,
    };
    let given = Given { name: "lat", ..Given::default() };
    let series = rendered(&given, None).unwrap();
    let mut options = encode::Options::new("gw".into());
    options.style.histograms = encode::Histograms::Distributions;
    let mut encoder = Encoder::new(options);
    let mut losses = Losses::default();
    for (at, first) in [2, 5, 5].into_iter().enumerate() {
        let value = histogram(first);
        let timestamp = 1_700_000_000_000_000_000 + at as i64 * 60_000_000_000;
        let sample = SampleRef { timestamp, value: Value::Histogram(&value), start: None, flags: SampleFlags::NONE };
        encoder.push(&series, &sample, &mut losses).unwrap();
    }
    assert_eq!((encoder.samples(), losses.get(Loss::NativeHistogram), losses.total()), (3, 3, 3));
    let distributions = encoder.finish_distributions().unwrap();
    let points = encoder.finish(&mut losses);
    assert_eq!((points.samples(), distributions.samples(), encoder.samples()), (3, 0, 0), "counted once");
    let line = "!M 1700000060000 #3 1.5 \"lat\" source=\"h\"\n";
    assert_eq!(String::from_utf8(distributions.bytes).unwrap(), line);
    let points = String::from_utf8(points.bytes).unwrap();
    assert!(points.starts_with("\"lat.count\" 3.0 1700000000000 source=\"h\"\n\"lat.sum\" 7.5"), "{points}");
    assert_eq!((points.lines().count(), points.contains("bucket")), (6, false), "{points}");
}

#[test]
fn counts_what_is_known_of_the_series_and_the_sample() {
    let family = Metadata { family: "m".into(), metric_type: MetricType::Counter, help: "".into(), unit: "".into() };
    let series = rendered(&Given::default(), Some(Arc::new(family))).unwrap();
    let mut encoder = Encoder::new(encode::Options::new("gw".into()));
    let mut losses = Losses::default();
    for flags in [SampleFlags::NONE, SampleFlags::ROW_CONTINUES] {
        let sample = SampleRef { timestamp: NOW, value: Value::F64(1.0), start: Some(1), flags };
        encoder.push(&series, &sample, &mut losses).unwrap();
    }
    let counted: Vec<_> = losses.iter().map(|(loss, count)| (loss.as_str(), count)).collect();
    assert_eq!(counted, [("timestamp_truncated", 2), ("metadata", 2), ("start_timestamp", 2), ("row_split", 1)]);
}

#[test]
fn two_long_values_stay_two() {
    let long = |end: &str| "é😀".repeat(90) + end;
    let lines = [long("a"), long("b")].map(|value| encoded(&Given { labels: &[("k", &value)], ..Given::default() }));
    assert_ne!(lines[0], lines[1]);
    for line in lines {
        let (line, lost) = line.split_once('\n').unwrap();
        assert_eq!(lost, " [truncated]");
        let read = twin::read(line, &twin::SAAS, "x").unwrap();
        assert!(read.tags["k"].encode_utf16().count() >= 252);
    }
}

#[test]
fn names_and_values_are_cleaned_one_character_for_one() {
    for (name, clean) in
        [("hello", "hello"), ("a b\"c", "a-b-c"), ("~x.y", "~x.y"), ("!x", "-x"), ("∆~x", "∆~x"), ("∆", "-")]
    {
        assert_eq!(sanitise_name(name), clean);
    }
    for (value, clean) in [("a'b", "\"a'b\""), ("a\"b", "\"a\\\"b\""), ("a\nb", "\"a b\""), ("a\\", "\"a_\"")] {
        assert_eq!(sanitise_value_quoted(value), clean);
    }
}

/// Everything in a batch, encoded.
fn encode_all(table: &SeriesTable, batch: &Batch, options: &encode::Options) -> (Body, Option<Body>, Losses) {
    let mut encoder = Encoder::new(options.clone());
    let mut dropped = Losses::default();
    let mut losses = Losses::default();
    for sample in &batch.samples {
        let sample_ref =
            SampleRef { timestamp: sample.timestamp, value: batch.value(sample), start: None, flags: sample.flags };
        let series = table.series(sample.series).unwrap();
        let pushed = render(&series, options).and_then(|r| encoder.push(&Arc::new(r), &sample_ref, &mut losses));
        if let Err(loss) = pushed {
            dropped.count(loss);
        }
    }
    assert_eq!(encoder.samples() + dropped.total(), batch.samples.len() as u64);
    (encoder.finish(&mut dropped), encoder.finish_distributions(), dropped)
}

/// Text that knows where the traps are.
fn trap() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z0-9_.]{1,6}",
        2 => prop::sample::select(vec!["\"", "'", "\\", "\\\"", "=", "#", " ", "\t", "\n", "\r", "\u{7f}", "∆", "Δ", "~", "😀", "\u{2003}", "\u{a0}"]).prop_map(str::to_owned),
        1 => "\\PC{0,4}",
        1 => "[x]{60,300}",
    ];
    prop::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat())
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![3 => trap(), 1 => prop::sample::select(vec!["source", "host", "tag", "_host", "_tag", "le", "host.name"]).prop_map(str::to_owned)]
}

/// A line out of the parts of which lines are made, in an order that is mostly right.
fn line() -> impl Strategy<Value = String> {
    let name = prop_oneof![4 => "(∆|~)?[a-z./]{1,4}", 1 => trap(), 1 => "\"[a-z]{1,3}\""];
    let value = prop_oneof![4 => "-?[0-9]{1,3}(\\.[0-9]{0,2})?(e-?[0-9])?", 1 => prop::sample::select(vec!["NaN", "nan", "Infinity", "1d", "+1", ".", "1_0", "\"1\""]).prop_map(str::to_owned)];
    let time = prop_oneof![
        "",
        "[0-9]{1,10}",
        "1[0-9]{12}",
        "1[0-9]{15}",
        "1[0-9]{18}",
        "1[0-9]{9}\\.[0-9]{1,12}",
        "[a-z0-9]{1,4}"
    ];
    let tag = prop_oneof![4 => "[a-z]{1,3} ?= ?[a-z0-9]{1,4}", 2 => "(source|host|tag|fqdn|\"a b\"|'c')=\"[a-z \\\\'=]{0,3}\"", 1 => trap(), 1 => "[a-z]=\"\\\\\"\""];
    let head = prop_oneof![
        3 => (name.clone(), value.clone(), time.clone()).prop_map(|(name, value, time)| format!("{name} {value} {time}")),
        1 => (time, prop::collection::vec((-2..9_i32, value), 0..4), name).prop_map(|(time, centroids, name)| {
            let centroids: Vec<_> = centroids.iter().map(|(count, mean)| format!("#{count} {mean}")).collect();
            format!("!M {time} {} {name}", centroids.join(" "))
        }),
    ];
    (head, prop::collection::vec(tag, 0..4)).prop_map(|(head, tags)| format!("{head} {}", tags.join(" ")))
}

fn same_as_twin(line: &str, limits: Limits, rules: &twin::Rules) {
    let table = SeriesTable::default();
    let options = Options { limits: Some(limits), default_source: Some("peer"), ..Options::at(NOW) };
    let (batch, report) = decoded(&table, line.as_bytes(), &options);
    let blank = line.trim_matches(|c| c <= ' ');
    if blank.is_empty() || blank.starts_with(['@', '{', '[']) {
        assert_eq!(report.accepted, 0);
        return;
    }
    let slow = twin::read(line, rules, "peer");
    let Ok(slow) = slow else {
        assert_eq!(report.accepted, 0, "{line:?}: the twin says {slow:?}");
        return;
    };
    assert_eq!(report.accepted, 1, "{line:?}: {:?}", report.first);
    let sample = &batch.samples[0];
    let series = table.series(sample.series).unwrap();
    let tags = series.labels.iter().filter(|pair| &*pair.name != "source");
    assert_eq!(series.name.measurement(), slow.name);
    assert_eq!(series.label("source"), Some(slow.source.as_str()));
    assert!(tags.map(|pair| (&*pair.name, &*pair.value)).eq(slow.tags.iter().map(|(k, v)| (k.as_str(), v.as_str()))));
    match batch.value(sample) {
        Value::F64(value) => {
            assert!(value.to_bits() == slow.value.to_bits() || value.is_nan() && slow.value.is_nan(), "{line:?}");
            let time = slow.timestamp_ms.unwrap_or(NOW / 1_000_000);
            assert_eq!(sample.timestamp.div_euclid(1_000_000), time, "{line:?}");
        }
        Value::Distribution(value) => {
            let fast: Vec<_> = value.centroids.iter().map(|c| (c.count, c.mean.to_bits())).collect();
            let slow: Vec<_> = slow.centroids.iter().map(|(count, mean)| (*count, mean.to_bits())).collect();
            assert_eq!(fast, slow, "{line:?}");
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_decoder_agrees_with_its_twin(line in line()) {
        if !line.contains('\n') {
            same_as_twin(&line, Limits::SAAS, &twin::SAAS);
            same_as_twin(&line, Limits::PROXY, &twin::PROXY);
        }
    }

    #[test]
    fn every_line_written_is_accepted_and_reads_back(
        name in trap(),
        field in prop::option::of(trap()),
        labels in prop::collection::btree_map(key(), trap(), 0..25),
        format in prop::sample::select(vec![Format::PrometheusText, Format::InfluxLine, Format::Wavefront]),
        value in prop::num::f64::NORMAL,
        timestamp in 0..i64::MAX,
    ) {
        prop_assume!(!name.is_empty());
        let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let field = field.as_deref().filter(|_| format == Format::InfluxLine);
        let given = Given { format, name: &name, field, labels: &labels, value: Value::F64(value), timestamp };
        let text = encoded(&given);
        if !text.contains('\n') {
            prop_assert_eq!(text, "delta_not_positive");
            return Ok(());
        }
        let line = text.split_inclusive('\n').next().unwrap();
        let slow = twin::read(line, &twin::SAAS, "never").unwrap();
        prop_assert_eq!(slow.value.to_bits(), value.to_bits());
        prop_assert_eq!(slow.timestamp_ms, Some(timestamp / 1_000_000));

        let table = SeriesTable::default();
        let options = Options { limits: Some(Limits::SAAS), ..Options::at(NOW) };
        let (batch, report) = decoded(&table, line.as_bytes(), &options);
        prop_assert_eq!(report.accepted, 1, "{:?}", report.first);
        let output = encode::Options::new("other".into());
        let (again, _, _) = encode_all(&table, &batch, &output);
        prop_assert_eq!(std::str::from_utf8(&again.bytes).unwrap(), line, "what is clean stays as it is");
    }

    #[test]
    fn what_was_decoded_goes_out_and_comes_back(lines in prop::collection::vec(line(), 1..5)) {
        let table = SeriesTable::default();
        let limits = Limits::SAAS;
        let options = Options { limits: Some(limits), ..Options::at(NOW) };
        let (batch, _) = decoded(&table, lines.join("\n").as_bytes(), &options);
        let output = encode::Options::new("gw".into());
        let (points, distributions, _) = encode_all(&table, &batch, &output);
        for (body, form) in [(Some(points), Form::Metrics), (distributions, Form::Histograms)] {
            let Some(body) = body else { continue };
            let (back, report) = decoded(&table, &body.bytes, &Options { form, ..options });
            prop_assert_eq!(report.refused(), 0, "{:?}", report.first);
            prop_assert_eq!(back.samples.len() as u64, body.samples());
        }
    }
}
