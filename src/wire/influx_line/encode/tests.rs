use super::*;
use crate::model::{
    BatchBuilder, Centroid, Counts, Format, Granularity, Metadata, MetricType, ResetHint, STALE_MARKER_BITS,
    SeriesSpec, SeriesTable, Span,
};
use crate::wire::classic::CUSTOM_BOUNDS;
use std::borrow::Cow;

type Labels<'a> = &'a [(&'a str, &'a str)];

fn series(format: Format, name: &str, field: Option<&str>, labels: Labels<'_>) -> Result<Arc<Rendered>, Loss> {
    let table = SeriesTable::default();
    let builder = BatchBuilder::new(&table, format, Vec::new());
    let labels = labels.iter().map(|(name, value)| (Cow::from(*name), Cow::from(*value))).collect();
    let spec = SeriesSpec { measurement: name, field, labels, metadata: None };
    let id = builder.define(builder.alias(b"x"), spec).unwrap();
    render(&table.series(id).unwrap(), &Options::default()).map(Arc::new)
}

fn sample(value: Value<'_>, flags: SampleFlags) -> SampleRef<'_> {
    SampleRef { timestamp: 5, value, start: None, flags }
}

/// Lines and losses of one sample.
fn encoded(series: &Arc<Rendered>, value: Value<'_>, options: Options) -> Result<(String, Vec<Loss>), Loss> {
    let mut encoder = Encoder::new(options);
    let mut losses = Losses::default();
    encoder.push(series, &sample(value, SampleFlags::NONE), &mut losses)?;
    let body = encoder.finish(&mut losses);
    assert_eq!(body.samples(), 1);
    Ok((String::from_utf8(body.bytes).unwrap(), losses.iter().map(|(loss, _)| loss).collect()))
}

fn line(series: &Arc<Rendered>, value: Value<'_>) -> Result<(String, Vec<Loss>), Loss> {
    encoded(series, value, Options::default())
}

#[expect(clippy::unnecessary_wraps, reason = "to be compared with what `encoded` returns")]
fn written(line: &str, losses: &[Loss]) -> Result<(String, Vec<Loss>), Loss> {
    Ok((line.to_owned(), losses.to_vec()))
}

#[test]
fn each_dialect_is_named_by_its_rule() {
    let one = Value::F64(1.0);
    let cases = [
        (Format::RemoteWrite, "http_requests_total", "http_requests_total,le=1e+06 value=1 5\n", None),
        (Format::RemoteWrite, "a b,c=d", "a\\ b\\,c=d,le=1e+06 value=1 5\n", None),
        (Format::Wavefront, "∆hits", "∆hits,le=1e+06 value=1 5\n", Some(Loss::DeltaTemporality)),
    ];
    for (format, name, expected, loss) in cases {
        let series = series(format, name, None, &[("le", "1e+06")]).unwrap();
        assert_eq!(line(&series, one), written(expected, loss.as_slice()), "{name}");
    }
    let refused = [
        (Format::Wavefront, "~sdk.x", Loss::InternalMetric),
        (Format::Wavefront, "∆~sdk.x", Loss::InternalMetric),
        (Format::RemoteWrite, "#x", Loss::UnusableName),
        (Format::RemoteWrite, "x\\", Loss::UnusableName),
        (Format::RemoteWrite, "x\ny", Loss::UnusableName),
        (Format::RemoteWrite, "", Loss::UnusableName),
    ];
    for (format, name, loss) in refused {
        assert_eq!(series(format, name, None, &[]), Err(loss), "{name:?}");
    }
}

#[test]
fn tags_lose_what_lines_cannot_carry() {
    let cases: [(Labels<'_>, &str, &[Loss]); 5] = [
        (&[("a,=b ", "c,=d ")], "m,a\\,\\=b\\ =c\\,\\=d\\  value=1 5\n", &[]),
        (&[("a", "x\ny\t\u{1}")], "m,a=x\\ny\\t_ value=1 5\n", &[Loss::ValueSanitised]),
        (&[("a\\", "1"), ("b", "C:\\")], "m,a=1,b=C: value=1 5\n", &[Loss::LabelSanitised, Loss::ValueSanitised]),
        (&[("a", "\\")], "m value=1 5\n", &[Loss::LabelDropped]),
        (&[("a", "1"), ("a\\", "2")], "m,a=1 value=1 5\n", &[Loss::LabelSanitised, Loss::LabelDropped]),
    ];
    for (labels, expected, losses) in cases {
        let series = series(Format::RemoteWrite, "m", None, labels).unwrap();
        assert_eq!(line(&series, Value::F64(1.0)), written(expected, losses), "{labels:?}");
    }
}

#[test]
fn fields_of_a_row_share_a_line_and_a_cut() {
    let field = |key| series(Format::InfluxLine, "m", Some(key), &[("t", "v")]).unwrap();
    let other = series(Format::InfluxLine, "m", Some("a"), &[]).unwrap();
    let (first, further) = (SampleFlags::NONE, SampleFlags::ROW_CONTINUES);
    let mut encoder = Encoder::new(Options::default());
    let mut losses = Losses::default();
    for (series, value, flags) in [
        (&field("a"), Value::I64(1), first),
        (&field("b"), Value::Str("x\"\\\ny"), further),
        (&field("c"), Value::Bool(true), further),
        (&field("a"), Value::U64(2), first),
        (&other, Value::F64(3.0), further),
    ] {
        encoder.push(series, &sample(value, flags), &mut losses).unwrap();
    }
    let nan = encoder.push(&field("b"), &sample(Value::F64(f64::NAN), further), &mut losses);
    assert_eq!(nan, Err(Loss::NonFinite));
    assert_eq!(encoder.samples(), 5);
    let body = encoder.finish(&mut losses);
    let lines = "m,t=v a=1i,b=\"x\\\"\\\\\ny\",c=true 5\nm,t=v a=2u 5\nm a=3 5\n";
    assert_eq!(String::from_utf8_lossy(&body.bytes), lines);
    assert_eq!(body.cuts.iter().map(|cut| cut.samples).collect::<Vec<_>>(), [3, 1, 1]);
    assert_eq!((losses.total(), encoder.samples(), encoder.bytes()), (0, 0, 0));
}

#[test]
fn samples_of_a_meter_share_a_row_that_gets_its_mean() {
    let of = |metadata: bool, metric_type: &str, key: &str| {
        let table = SeriesTable::default();
        let builder = BatchBuilder::new(&table, Format::InfluxLine, Vec::new());
        let (family, help, unit) = ("m".into(), "".into(), "".into());
        let known = Arc::new(Metadata { family, metric_type: MetricType::Summary, help, unit });
        let labels = vec![(Cow::from("metric_type"), Cow::from(metric_type))];
        let spec = SeriesSpec { measurement: "m", field: Some(key), labels, metadata: metadata.then_some(known) };
        let id = builder.define(builder.alias(b"x"), spec).unwrap();
        Arc::new(render(&table.series(id).unwrap(), &Options::default()).unwrap())
    };
    let meter = |key| of(true, "histogram", key);
    let lines = |samples: &[(Arc<Rendered>, f64, TimestampNs)], line_bytes_max| {
        let mut encoder = Encoder::new(Options { line_bytes_max, ..Options::default() });
        let mut losses = Losses::default();
        for (series, value, timestamp) in samples {
            let sample = SampleRef { timestamp: *timestamp, ..sample(Value::F64(*value), SampleFlags::NONE) };
            encoder.push(series, &sample, &mut losses).unwrap();
        }
        let body = encoder.finish(&mut losses);
        assert_eq!((body.samples(), losses.total()), (samples.len() as u64, 0), "the mean is no sample");
        String::from_utf8(body.bytes).unwrap()
    };
    let row = [(meter("count"), 2.0, 5), (meter("sum"), 46.0, 5), (meter("upper"), 34.0, 5)];
    assert_eq!(lines(&row, 1000), "m,metric_type=histogram count=2,sum=46,upper=34,mean=23 5\n");
    assert_eq!(lines(&row, 55), "m,metric_type=histogram count=2,sum=46,upper=34 5\n", "no room for a mean");
    let apart = [(meter("sum"), 0.0, 5), (meter("count"), 0.0, 5), (meter("count"), 1.0, 6), (meter("sum"), 1.0, 7)];
    let expected = "m,metric_type=histogram sum=0,count=0,mean=0 5\n\
        m,metric_type=histogram count=1 6\n\
        m,metric_type=histogram sum=1 7\n";
    assert_eq!(lines(&apart, 1000), expected);
    let large = [(meter("sum"), f64::MAX, 5), (meter("count"), f64::MIN_POSITIVE, 5)];
    assert!(!lines(&large, 1000).contains("mean"), "not a number that a line can carry");
    let custom = [(of(true, "other", "count"), 2.0, 5), (of(true, "other", "sum"), 46.0, 5)];
    assert_eq!(lines(&custom, 1000), "m,metric_type=other count=2,sum=46 5\n");
    let came_as_lines = [(of(false, "histogram", "count"), 2.0, 5), (of(false, "histogram", "sum"), 46.0, 5)];
    let expected = "m,metric_type=histogram count=2 5\nm,metric_type=histogram sum=46 5\n";
    assert_eq!(lines(&came_as_lines, 1000), expected);
}

#[test]
fn a_body_that_is_compressed_at_its_end_has_the_pieces_of_one_that_is_not() {
    let bodies = [false, true].map(|gzip| {
        let mut encoder = Encoder::new(Options { gzip, ..Options::default() });
        let mut losses = Losses::default();
        // The second body is made in the memory of the first.
        [3, 2].map(|samples| {
            for number in 0..samples {
                let series = series(Format::InfluxLine, &format!("m{number}"), Some("f"), &[]).unwrap();
                encoder.push(&series, &sample(Value::I64(samples), SampleFlags::NONE), &mut losses).unwrap();
            }
            encoder.finish(&mut losses)
        })
    });
    for (plain, gzip) in bodies[0].iter().zip(&bodies[1]) {
        assert!(plain.packed.is_none() && gzip.packed.is_some() && gzip.bytes.is_empty());
        assert_eq!((&plain.cuts, plain.gzip()), (&gzip.cuts, gzip.gzip()));
        for from in 0..plain.cuts.len() {
            assert_eq!(plain.run(from..plain.cuts.len()), gzip.run(from..gzip.cuts.len()));
        }
    }
}

#[test]
fn long_rows_are_split_and_long_fields_dropped() {
    let field = |key| series(Format::InfluxLine, "m", Some(key), &[]).unwrap();
    let mut encoder = Encoder::new(Options { line_bytes_max: 12, ..Options::default() });
    let mut losses = Losses::default();
    for (key, flags) in [("a", SampleFlags::NONE), ("b", SampleFlags::ROW_CONTINUES), ("c", SampleFlags::ROW_CONTINUES)]
    {
        encoder.push(&field(key), &sample(Value::F64(1.0), flags), &mut losses).unwrap();
    }
    let long = encoder.push(&field("d"), &sample(Value::Str("too long"), SampleFlags::NONE), &mut losses);
    assert_eq!(long, Err(Loss::TooLong));
    assert_eq!(String::from_utf8_lossy(&encoder.finish(&mut losses).bytes), "m a=1,b=1 5\nm c=1 5\n");
}

#[test]
fn values_that_lines_cannot_carry_are_dropped_or_altered() {
    let series = series(Format::InfluxLine, "m", Some("f"), &[]).unwrap();
    let stale = f64::from_bits(STALE_MARKER_BITS);
    for (value, loss) in [(f64::INFINITY, Loss::NonFinite), (f64::NAN, Loss::NonFinite), (stale, Loss::StaleMarker)] {
        assert_eq!(line(&series, Value::F64(value)), Err(loss));
    }
    let signed = Options { unsigned: false, ..Options::default() };
    assert_eq!(encoded(&series, Value::U64(7), signed.clone()), written("m f=7i 5\n", &[Loss::FieldType]));
    let most = "m f=9223372036854775807i 5\n";
    assert_eq!(encoded(&series, Value::U64(u64::MAX), signed), written(most, &[Loss::IntegerRounded]));
}

#[test]
fn native_histograms_become_cumulative_buckets() {
    let histogram = NativeHistogram {
        schema: 0,
        zero_threshold: 0.5,
        sum: 21.5,
        counts: Counts::Integer {
            count: 11,
            zero_count: 2,
            positive_deltas: vec![1, 2, -1],
            negative_deltas: vec![1, 1],
        },
        positive_spans: vec![Span { offset: 1, length: 2 }, Span { offset: 1, length: 1 }],
        negative_spans: vec![Span { offset: 1, length: 2 }],
        custom_values: Vec::new(),
        reset_hint: ResetHint::Unknown,
    };
    let tagged = series(Format::RemoteWrite, "h", None, &[("a", "b")]).unwrap();
    let lines = "h_bucket,a=b,le=-2 value=2 5\nh_bucket,a=b,le=-1 value=3 5\nh_bucket,a=b,le=0.5 value=5 5\n\
        h_bucket,a=b,le=2 value=6 5\nh_bucket,a=b,le=4 value=9 5\nh_bucket,a=b,le=16 value=11 5\n\
        h_bucket,a=b,le=+Inf value=11 5\nh_sum,a=b value=21.5 5\nh_count,a=b value=11 5\n";
    assert_eq!(line(&tagged, Value::Histogram(&histogram)), written(lines, &[Loss::NativeHistogram]));

    let mut encoder = Encoder::new(Options::default());
    let sample = sample(Value::Histogram(&histogram), SampleFlags::NONE);
    encoder.push(&tagged, &sample, &mut Losses::default()).unwrap();
    let cuts = encoder.finish(&mut Losses::default()).cuts;
    assert_eq!((cuts.len(), cuts[0].samples, cuts[0].on_wire), (1, 1, 9), "a server counts lines");

    let custom = NativeHistogram {
        schema: CUSTOM_BOUNDS,
        sum: f64::NAN,
        counts: Counts::Float { count: 3.5, zero_count: 0.0, positive_counts: vec![1.5, 2.0], negative_counts: vec![] },
        positive_spans: vec![Span { offset: 0, length: 2 }],
        negative_spans: Vec::new(),
        custom_values: vec![0.25],
        ..histogram.clone()
    };
    let le = series(Format::RemoteWrite, "h", None, &[("le", "x"), ("z", "1")]).unwrap();
    let lines = "h_bucket,z=1,le=0.25 value=1.5 5\nh_bucket,z=1,le=+Inf value=3.5 5\nh_count,le=x,z=1 value=3.5 5\n";
    let losses = [Loss::LabelDropped, Loss::NativeHistogram];
    assert_eq!(line(&le, Value::Histogram(&custom)), written(lines, &losses));

    let stale = NativeHistogram { sum: f64::from_bits(STALE_MARKER_BITS), ..histogram.clone() };
    assert_eq!(line(&tagged, Value::Histogram(&stale)), Err(Loss::StaleMarker));
    let short = Options { line_bytes_max: 20, ..Options::default() };
    assert_eq!(encoded(&tagged, Value::Histogram(&histogram), short), Err(Loss::TooLong));
}

#[test]
fn distributions_become_count_and_sum() {
    let series = series(Format::Wavefront, "d", None, &[("source", "s")]).unwrap();
    let centroids = vec![Centroid { count: 2, mean: 1.5 }, Centroid { count: 1, mean: 4.0 }];
    let distribution = Distribution { granularity: Granularity::Minute, centroids };
    let expected = written("d,source=s count=3i,sum=7 5\n", &[Loss::Distribution]);
    assert_eq!(line(&series, Value::Distribution(&distribution)), expected);
    let endless = Distribution { centroids: vec![Centroid { count: 2, mean: f64::MAX }], ..distribution };
    assert_eq!(line(&series, Value::Distribution(&endless)), Err(Loss::NonFinite));
}

#[test]
fn metadata_and_start_timestamps_are_counted_as_lost() {
    let table = SeriesTable::default();
    let builder = BatchBuilder::new(&table, Format::RemoteWrite2, Vec::new());
    let metadata = Metadata { family: "m".into(), metric_type: MetricType::Counter, help: "".into(), unit: "".into() };
    let spec = SeriesSpec { measurement: "m", field: None, labels: Vec::new(), metadata: Some(Arc::new(metadata)) };
    let id = builder.define(builder.alias(b"x"), spec).unwrap();
    let rendered = Arc::new(render(&table.series(id).unwrap(), &Options::default()).unwrap());
    let mut losses = Losses::default();
    let sample = SampleRef { start: Some(1), ..sample(Value::F64(1.0), SampleFlags::NONE) };
    Encoder::new(Options::default()).push(&rendered, &sample, &mut losses).unwrap();
    assert_eq!(losses.iter().collect::<Vec<_>>(), [(Loss::Metadata, 1), (Loss::StartTimestamp, 1)]);
    assert_eq!(rendered.identity(), b"m value=");
}
