use super::*;
use crate::model::{
    Batch, BatchBuilder, Centroid, Counts, Distribution, Format, Granularity, NativeHistogram, ResetHint, SeriesSpec,
    SeriesTable, Span,
};
use crate::wire::prometheus_text::{decode, lines};

/// The exposition of a batch, then a comma-separated list of losses and of drops.
fn written(batch: &Batch, table: &SeriesTable, flavour: Flavour, alphabet: Alphabet) -> (String, String) {
    let series: Vec<_> = batch.samples.iter().map(|sample| table.series(sample.series).unwrap()).collect();
    let mut exposed = Vec::new();
    for (index, sample) in batch.samples.iter().enumerate() {
        let (timestamp, value, flags) = (sample.timestamp, batch.value(sample), sample.flags);
        let sample_ref = SampleRef { timestamp, value, start: batch.start_of(index), flags };
        let exemplar = batch.exemplars.iter().find(|exemplar| exemplar.series == sample.series);
        exposed.push(Exposed { series: &series[index], sample: sample_ref, exemplar });
    }
    let (mut out, mut losses, mut dropped) = (Vec::new(), Losses::default(), Losses::default());
    let options = Options { style: &Style::default(), alphabet, families: &|_| None };
    write(&mut exposed, &options, flavour, &mut out, &mut losses, &mut dropped);
    let mut lost: Vec<_> = losses.iter().map(|(loss, count)| format!("{} {count}", loss.as_str())).collect();
    lost.extend(dropped.iter().map(|(loss, count)| format!("-{} {count}", loss.as_str())));
    (String::from_utf8(out).unwrap(), lost.join(","))
}

fn rewritten(body: &str, from: Flavour, to: Flavour) -> (String, String) {
    rewritten_in(Alphabet::Utf8, body, from, to)
}

fn rewritten_in(alphabet: Alphabet, body: &str, from: Flavour, to: Flavour) -> (String, String) {
    let table = SeriesTable::default();
    let format = if from == Flavour::Text { Format::PrometheusText } else { Format::OpenMetrics };
    let mut out = BatchBuilder::new(&table, format, Vec::new());
    let report = lines::decode(body.as_bytes(), from, &decode::Options { now: 5, timestamp: None }, &mut out);
    assert_eq!(report.refused(), 0, "{:?}", report.first);
    written(&out.finish(), &table, to, alphabet)
}

#[test]
fn openmetrics_comes_back_as_it_was() {
    let body = "# HELP a help \\\"x\\\"\n# TYPE a counter\na_total{b=\"1\"} 17 1520879607.789 # {__name__=\"y\",id=\"x\"} 0.5 1.5\na_created{b=\"1\"} 1520872607.123 1520879607.789\n\
        # TYPE h_seconds histogram\n# UNIT h_seconds seconds\nh_seconds_bucket{le=\"0.5\",z=\"\\\\\"} 1 # {} 0.25\nh_seconds_bucket{le=\"10.0\",z=\"\\\\\"} 2\n\
        h_seconds_bucket{le=\"+Inf\",z=\"\\\\\"} 2\nh_seconds_count{z=\"\\\\\"} 2\nh_seconds_sum{z=\"\\\\\"} 1.5\nh_seconds_created{z=\"\\\\\"} 1.5\n\
        # TYPE i info\ni_info{v=\"1\"} 1\nplain NaN\n# TYPE s summary\ns{quantile=\"0.5\"} +Inf\ns{quantile=\"0.95\"} -Inf\ns_count 3\ns_created 9\n# EOF\n";
    assert_eq!(rewritten(body, Flavour::OpenMetrics, Flavour::OpenMetrics), (body.to_owned(), String::new()));
}

#[test]
fn what_text_lacks_is_counted() {
    let body = "# TYPE a_s counter\n# UNIT a_s s\na_s_total 17 1520879607.7891 # {id=\"x\"} 0.5\na_s_created 1\n# TYPE i info\ni_info{v=\"1\"} 1\n# EOF\n";
    let text = "# TYPE a_s_total counter\na_s_total 17 1520879607789\n# TYPE i_info gauge\ni_info{v=\"1\"} 1\n";
    let losses = "timestamp_truncated 1,metadata 2,exemplar 1,start_timestamp 1";
    assert_eq!(rewritten(body, Flavour::OpenMetrics, Flavour::Text), (text.to_owned(), losses.to_owned()));
}

#[test]
fn counters_of_text_take_the_form_of_openmetrics_where_they_can() {
    let body = "# TYPE _total counter\n_total 3\n# TYPE a_total counter\na_total 1 1500\n# TYPE b counter\nb 2\n";
    let openmetrics =
        "# TYPE _total unknown\n_total 3\n# TYPE a counter\na_total 1 1.5\n# TYPE b unknown\nb 2\n# EOF\n";
    let expected = (openmetrics.to_owned(), "metadata 2".to_owned());
    assert_eq!(rewritten(body, Flavour::Text, Flavour::OpenMetrics), expected);
}

#[test]
fn families_are_gathered_and_of_two_that_become_one_the_later_wins() {
    let body = "b{x=\"2\"} 1\na 1\nb{x=\"1\"} 2\n{\"a.b\"} 3 1\na_b 4 2\n";
    let quoted = "a 1\n{\"a.b\"} 3 1\na_b 4 2\nb{x=\"1\"} 2\nb{x=\"2\"} 1\n";
    assert_eq!(rewritten(body, Flavour::Text, Flavour::Text), (quoted.to_owned(), String::new()));
    let legacy = "a 1\na_b 4 2\nb{x=\"1\"} 2\nb{x=\"2\"} 1\n";
    let expected = (legacy.to_owned(), "-name_collision 1".to_owned());
    assert_eq!(rewritten_in(Alphabet::Legacy, body, Flavour::Text, Flavour::Text), expected);
}

#[test]
fn names_beyond_the_legacy_alphabet_stand_in_quotes() {
    let body = "# HELP \"9 \\\"\\\\\\n\" h\n# TYPE \"9 \\\"\\\\\\n\" counter\n{\"9 \\\"\\\\\\n_total\",\"a:b\"=\"1\",\"x.y\"=\"2\"} 1 # {\"é\"=\"t\"} 1\n\
        # TYPE \"a._s\" histogram\n# UNIT \"a._s\" s\n{\"a._s_bucket\",le=\"1\"} 1\n{\"a._s_bucket\",le=\"+Inf\"} 2\n{\"a._s_count\"} 2\n{\"a._s_sum\"} 2\n{\"a._s_created\"} 5\n\
        # TYPE a:b gauge\na:b{\"\"\"=\"1\"} 2\n# EOF\n".replace("\"\"\"", "\"\\\"\"");
    assert_eq!(rewritten(&body, Flavour::OpenMetrics, Flavour::OpenMetrics), (body.clone(), String::new()));
    let (legacy, losses) = rewritten_in(Alphabet::Legacy, &body, Flavour::OpenMetrics, Flavour::OpenMetrics);
    assert!(!legacy.contains("{\""), "{legacy}");
    assert_eq!(losses, "name_sanitised 5,label_sanitised 2,exemplar 1");
}

#[test]
fn every_sample_of_a_series_is_written_in_the_order_of_time() {
    let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 2 20\nh_bucket{le=\"+Inf\"} 3 20\nh_count 3 20\n\
        h_bucket{le=\"1\"} 1 10\nh_bucket{le=\"+Inf\"} 1 10\nh_count 1 10\na 2 2\na 1 1\na 0\na 3 -1\n";
    let sorted = "a 0\na 3 -1\na 1 1\na 2 2\n# TYPE h histogram\n\
        h_bucket{le=\"1\"} 1 10\nh_bucket{le=\"+Inf\"} 1 10\nh_count 1 10\n\
        h_bucket{le=\"1\"} 2 20\nh_bucket{le=\"+Inf\"} 3 20\nh_count 3 20\n";
    assert_eq!(rewritten(text, Flavour::Text, Flavour::Text), (sorted.to_owned(), String::new()));
    let body = "# TYPE c counter\nc_total 2 20.5\nc_created 1 20.5\nc_total 3 21\nc_created 1 21\n# EOF\n";
    assert_eq!(rewritten(body, Flavour::OpenMetrics, Flavour::OpenMetrics), (body.to_owned(), String::new()));
}

#[test]
fn the_last_of_two_samples_at_one_time_wins() {
    let cases = [
        (Flavour::Text, "a 1 5\na 2 5\nb 1\nb 2\n", "a 2 5\nb 2\n", "-collapsed 2"),
        (Flavour::OpenMetrics, "a 1 0.0051\na 2 0.0052\n# EOF\n", "a 2 5\n", "timestamp_truncated 1,-collapsed 1"),
    ];
    for (from, body, text, losses) in cases {
        assert_eq!(rewritten(body, from, Flavour::Text), (text.to_owned(), losses.to_owned()));
    }
}

#[test]
fn values_without_a_text_form_are_expanded_or_dropped() {
    let table = SeriesTable::default();
    let mut out = BatchBuilder::new(&table, Format::InfluxLine, Vec::new());
    let histogram = NativeHistogram {
        schema: 0,
        zero_threshold: 0.0,
        sum: 3.5,
        counts: Counts::Float {
            count: 3.0,
            zero_count: 0.0,
            positive_counts: vec![1.0, 2.0],
            negative_counts: Vec::new(),
        },
        positive_spans: vec![Span { offset: 0, length: 2 }],
        negative_spans: Vec::new(),
        custom_values: Vec::new(),
        reset_hint: ResetHint::Unknown,
    };
    let centroids = vec![Centroid { count: 2, mean: 1.5 }, Centroid { count: 1, mean: 4.0 }];
    let distribution = Distribution { granularity: Granularity::Minute, centroids };
    let stale = f64::from_bits(crate::model::STALE_MARKER_BITS);
    let values = [
        Value::Histogram(&histogram),
        Value::Distribution(&distribution),
        Value::I64(i64::MIN),
        Value::U64(u64::MAX),
        Value::Bool(true),
        Value::Str("x"),
        Value::F64(stale),
    ];
    for (name, value) in ["a", "b", "c", "d", "e", "f", "g"].into_iter().zip(values) {
        let spec = SeriesSpec { measurement: name, field: Some("value"), labels: Vec::new(), metadata: None };
        let id = out.define(out.alias(name.as_bytes()), spec).unwrap();
        out.push(id, 1_000_000, value, SampleFlags::NONE);
    }
    let text = "# TYPE a histogram\na_bucket{le=\"1.0\"} 1 1\na_bucket{le=\"2.0\"} 3 1\na_bucket{le=\"+Inf\"} 3 1\n\
        a_count 3 1\na_sum 3.5 1\n# TYPE b summary\nb_count 3 1\nb_sum 7 1\nc -9223372036854775808 1\n\
        d 18446744073709551615 1\ne 1 1\n";
    let losses = "field_type 3,native_histogram 1,distribution 1,-string_value 1,-stale_marker 1";
    assert_eq!(written(&out.finish(), &table, Flavour::Text, Alphabet::Utf8), (text.to_owned(), losses.to_owned()));
}

#[test]
fn a_created_line_starts_the_samples_of_its_time_or_of_all_times() {
    let cases = [
        (
            "a_created 5\n# TYPE a counter\na_total 1 9\na_total 2 10\n# EOF\n",
            "# TYPE a counter\na_total 1 9\na_created 5 9\na_total 2 10\na_created 5 10\n# EOF\n",
            "",
        ),
        (
            "# TYPE a counter\na_total 1 1\na_created 5 2\na_total 2 2\n# EOF\n",
            "# TYPE a counter\na_total 1 1\na_total 2 2\na_created 5 2\n# EOF\n",
            "",
        ),
        (
            "a_created 5\n# TYPE a counter\na_total 1\na_created 6\n# EOF\n",
            "# TYPE a counter\na_total 1\na_created 6\n# EOF\n",
            "-collapsed 1",
        ),
    ];
    for (body, text, losses) in cases {
        let written = rewritten(body, Flavour::OpenMetrics, Flavour::OpenMetrics);
        assert_eq!(written, (text.to_owned(), losses.to_owned()));
    }
}

#[test]
fn a_family_has_one_type_and_what_does_not_fit_stands_apart() {
    let body = "# TYPE a summary\na 1\n# TYPE a counter\na_total 2\na_bucket{le=\"1\"} 4\n# EOF\n";
    let text = "# TYPE a summary\na 1\na_bucket{le=\"1\"} 4\na_total 2\n# EOF\n";
    let (written, _) = rewritten(body, Flavour::OpenMetrics, Flavour::OpenMetrics);
    assert_eq!(written, text);
}
