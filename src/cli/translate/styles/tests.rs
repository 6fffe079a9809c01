//! The tables of what is written by default and by each preset: options, input, output, and what is told of losses.

use super::super::{Translation, translation_as};
use super::*;
use crate::model::Loss;
use crate::output::strings::{STRING_BYTES_MAX, STRINGS_MAX};
use Format::{InfluxLine, OpenMetrics, PrometheusText, RemoteWrite, RemoteWrite2, Wavefront};

const NOW: i64 = 1_700_000_000_000_000_000;

/// `telegraf_v1 strings=drop`: a preset, options, or both.
fn styles(to: Format, words: &str) -> Styles {
    let (options, presets): (Vec<_>, Vec<_>) =
        words.split_whitespace().map(str::to_owned).partition(|word| word.contains('='));
    Styles::of(to, presets.first().map(String::as_str), &options).unwrap()
}

fn translated(from: Format, to: Format, words: &str, input: &[u8]) -> Translation {
    translation_as(from, to, &styles(to, words), input, NOW).unwrap()
}

/// What is written, by way of remote write where that is in between, and the losses: those that dropped a sample with a `-`.
fn told(from: Format, to: Format, words: &str, input: &str) -> (String, String) {
    let Translation { bytes, losses, dropped, report } = translated(from, to, words, input.as_bytes());
    assert_eq!(report.refused(), 0, "{:?}", report.first);
    let bytes = match to {
        RemoteWrite | RemoteWrite2 => translated(to, PrometheusText, "", &bytes).bytes,
        _ => bytes,
    };
    // Rows that come apart are the subject of tests/losses.rs.
    let kept = losses.iter().filter(|(loss, _)| *loss != Loss::RowSplit);
    let mut told: Vec<_> = kept.map(|(loss, count)| format!("{} {count}", loss.as_str())).collect();
    told.extend(dropped.iter().map(|(loss, count)| format!("-{} {count}", loss.as_str())));
    (String::from_utf8(bytes).unwrap(), told.join(", "))
}

fn table(from: Format, to: Format, cases: &[(&str, &str, impl AsRef<str>, &str)]) {
    for (words, input, output, losses) in cases {
        let (got, lost) = told(from, to, words, input);
        assert_eq!((got.trim_end(), lost.as_str()), (output.as_ref(), *losses), "{words:?}: {input}");
    }
}

/// Lines to text; remote write says the same where the names are in the alphabet of both.
fn lines_to_prometheus(cases: &[(&str, &str, &str, &str)]) {
    table(InfluxLine, PrometheusText, cases);
    table(InfluxLine, RemoteWrite2, cases);
    table(InfluxLine, RemoteWrite, cases);
}

#[test]
fn lines_become_prometheus_by_the_defaults() {
    lines_to_prometheus(&[
        ("", "cpu,host=example.org time_idle=42 0", "cpu_time_idle{host=\"example.org\"} 42 0", ""),
        ("", "m value=1 0", "m 1 0", ""),
        ("", "m b=true,c=false 0", "m_b 1 0\nm_c 0 0", "field_type 2"),
        ("", "m i=7i,u=7u 0", "m_i 7 0\nm_u 7 0", "field_type 2"),
        ("", "cpu::xyzzy time_idle=42 0", "cpu::xyzzy_time_idle 42 0", ""),
        ("", "cpu time:idle=42 0", "cpu_time:idle 42 0", ""),
        ("", "cpu,host:name=a,b-c=d v=1 0", "cpu_v{b_c=\"d\",host_name=\"a\"} 1 0", "label_sanitised 1"),
        ("", "9cpu a-=1 0", "_9cpu_a_ 1 0", "name_sanitised 1"),
        ("", "a__b v=1 0", "a__b_v 1 0", ""),
        ("", "m,le=1.0,quantile=0.50 v=1 0", "m_v{le=\"1.0\",quantile=\"0.50\"} 1 0", ""),
        ("", "m,__name__=x,__y=z v=1 0", "m_v{_name=\"x\",_y=\"z\"} 1 0", "label_sanitised 1"),
        ("", "m v=1 -1", "m_v 1 -1", "timestamp_truncated 1"),
        ("", "m v=2 2000000\nm v=1 1000000", "m_v 1 1\nm_v 2 2", ""),
        ("", "m,a=1 s=\"x\",v=1 0", "m_v{a=\"1\"} 1 0", "-string_value 1"),
        ("", "prometheus,code=400 http_requests_total=3 0", "prometheus_http_requests_total{code=\"400\"} 3 0", ""),
    ]);
    // Of two in one millisecond the later is written; both are met before that is known in remote write.
    let two = "m v=1 1000001\nm v=2 1999999";
    for (to, truncated) in [(RemoteWrite, 2), (RemoteWrite2, 2), (PrometheusText, 1)] {
        let losses = format!("timestamp_truncated {truncated}, -collapsed 1");
        table(InfluxLine, to, &[("", two, "m_v 2 1", &losses)]);
    }
    for to in [RemoteWrite, RemoteWrite2] {
        table(
            InfluxLine,
            to,
            &[
                ("", "a_b value=1 0\na b=2 0", "a_b 1 0", "-name_collision 1"),
                ("", "m,a-b=1 v=1 0\nm,a.b=1 v=2 0", "m_v{a_b=\"1\"} 1 0", "label_sanitised 1, -name_collision 1"),
                ("", "m u=9007199254740993u 0", "m_u 9007199254740992 0", "integer_rounded 1"),
            ],
        );
    }
    let (text, losses) = told(InfluxLine, PrometheusText, "", "cpu value=1 0\n");
    assert!(!text.contains("TYPE") && losses.is_empty(), "the type is unknown: {text}");
}

#[test]
fn options_choose_what_becomes_of_lines() {
    lines_to_prometheus(&[
        ("value_field=keep", "m value=1 0", "m_value 1 0", ""),
        ("name_characters=trim", "9cpu,-h-=x a-=1 0", "cpu_a{h=\"x\"} 1 0", "name_sanitised 1, label_sanitised 1"),
        ("name_characters=trim", "1.5 a=1 0", "_5_a 1 0", "name_sanitised 1"),
        ("bare_measurement=cpu", "cpu a=1 0", "a 1 0", ""),
        ("bare_measurement=cpu", "cpux a=1 0", "cpux_a 1 0", ""),
        (
            "strings=label",
            "m,a=1 v=1,s=\"x\",w=2 0",
            "m_v{a=\"1\",s=\"x\"} 1 0\nm_w{a=\"1\",s=\"x\"} 2 0",
            "field_type 1",
        ),
        ("strings=label", "m s=\"x\",v=1 0", "m_v{s=\"x\"} 1 0", "field_type 1"),
        ("strings=label", "m v=1,s=\"x\",t=\"\",u=\"y\" 0", "m_v{s=\"x\",u=\"y\"} 1 0", "field_type 3"),
        ("strings=label", "m v=1,host:name=\"x\" 0", "m_v{host_name=\"x\"} 1 0", "label_sanitised 1, field_type 1"),
        ("strings=label", "m,s=tag v=1,s=\"x\" 0", "m_v{s=\"tag\"} 1 0", "-string_value 1"),
        ("strings=label", "m s=\"x\",t=\"y\" 0", "", "-string_value 2"),
        ("strings=info", "m,a=1 v=1,s=\"x\" 0", "m_s_info{a=\"1\",s=\"x\"} 1 0\nm_v{a=\"1\"} 1 0", "field_type 1"),
        ("strings=info", "m value=\"x\" 0", "m_info{value=\"x\"} 1 0", "field_type 1"),
        ("strings=info value_field=keep", "m value=\"x\" 0", "m_value_info{value=\"x\"} 1 0", "field_type 1"),
        ("strings=info", "m,s=tag s=\"x\" 0", "", "-string_value 1"),
    ]);
    let keep = "m.x,h-n=1 a/b=1 0";
    let there = translated(InfluxLine, RemoteWrite2, "name_characters=keep", keep.as_bytes());
    let back = translated(RemoteWrite2, InfluxLine, "", &there.bytes);
    assert_eq!((&*back.bytes, there.losses.total()), (&b"m.x_a/b,h-n=1 value=1 0\n"[..], 0));
    table(
        InfluxLine,
        PrometheusText,
        &[
            ("name_characters=keep", keep, "{\"m.x_a/b\",\"h-n\"=\"1\"} 1 0", ""),
            ("", keep, "m_x_a_b{h_n=\"1\"} 1 0", "name_sanitised 1, label_sanitised 1"),
        ],
    );
}

#[test]
fn strings_that_are_too_long_or_too_many_stay_strings() {
    let long = "x".repeat(STRING_BYTES_MAX + 1);
    let many: Vec<_> = (0..=STRINGS_MAX).map(|at| format!(",s{at}=\"x\"")).collect();
    let many = many.concat();
    for (line, kept) in [(format!("m v=1,s=\"{long}\" 0"), 0), (format!("m v=1{many} 0"), STRINGS_MAX)] {
        for to in [RemoteWrite, RemoteWrite2, PrometheusText] {
            let (text, losses) = told(InfluxLine, to, "strings=label", &line);
            assert_eq!(text.matches("=\"x\"").count(), kept, "{losses}");
            assert!(losses.ends_with("-string_value 1"), "{losses}");
        }
    }
}

#[test]
fn lines_become_prometheus_as_telegraf_writes_them() {
    lines_to_prometheus(&[
        // The serializers and outputs of remote write; `prometheus_client` with metric_version = 2.
        ("telegraf_v2", "cpu,host=example.org time_idle=42 0", "cpu_time_idle{host=\"example.org\"} 42 0", ""),
        ("telegraf_v2", "cpu time_idle=42,cpu=\"cpu0\" 0", "cpu_time_idle 42 0", "-string_value 1"),
        (
            "telegraf_v2 strings=label",
            "cpu time_idle=42,cpu=\"cpu0\" 0",
            "cpu_time_idle{cpu=\"cpu0\"} 42 0",
            "field_type 1",
        ),
        ("telegraf_v2", "prometheus,code=400 http_requests_total=3 0", "http_requests_total{code=\"400\"} 3 0", ""),
        ("telegraf_v2", "cpu value=1 0", "cpu_value 1 0", ""),
        ("telegraf_v2", "9cpu a-=1 0", "cpu_a 1 0", "name_sanitised 1"),
        ("telegraf_v2", "@@!! !!=1 0", "", "-unusable_name 1"),
        ("telegraf_v2", "cpu b=true,n=7i,u=7u 0", "cpu_b 1 0\ncpu_n 7 0\ncpu_u 7 0", "field_type 3"),
        // prometheus_client with metric_version = 1.
        ("telegraf_v1", "cpu value=1 0", "cpu 1 0", ""),
        ("telegraf_v1", "cpu time_idle=42,cpu=\"cpu0\" 0", "cpu_time_idle{cpu=\"cpu0\"} 42 0", "field_type 1"),
        ("telegraf_v1", "cpu a-=1 0", "cpu_a_ 1 0", "name_sanitised 1"),
    ]);
}

#[test]
fn lines_become_prometheus_as_vmagent_and_vector_write_them() {
    let cases = [
        (
            "cpu,host=A,region=west usage_system=64i,usage_user=10i 0",
            "cpu_usage_system,host=A,region=west value=64 0\ncpu_usage_user,host=A,region=west value=10 0\n",
        ),
        ("m value=1 0", "m_value value=1 0\n"),
        ("m-x/y,a.b=c d=1 0", "m-x/y_d,a.b=c value=1 0\n"),
        ("m b=true 0", "m_b value=1 0\n"),
    ];
    for preset in ["vmagent", "vector"] {
        for (line, series) in cases {
            let there = translated(InfluxLine, RemoteWrite, preset, line.as_bytes());
            let back = translated(RemoteWrite, InfluxLine, "", &there.bytes);
            assert_eq!(String::from_utf8_lossy(&back.bytes), series, "{preset}: {line}");
        }
    }
}

const LATENCIES: &str = "# TYPE latencies histogram\nlatencies_bucket{verb=\"POST\",le=\"0.10\"} 1994 1\n\
    latencies_bucket{verb=\"POST\",le=\"1e+06\"} 2005 1\nlatencies_bucket{verb=\"POST\",le=\"+Inf\"} 2025 1\n\
    latencies_sum{verb=\"POST\"} 102726334 1\nlatencies_count{verb=\"POST\"} 2025 1\n";
const DURATIONS: &str = "# TYPE durations summary\ndurations{handler=\"p\",quantile=\"0.5\"} 552048.506 1\n\
    durations{handler=\"p\",quantile=\"0.99\"} NaN 1\ndurations_sum{handler=\"p\"} 18909097.205 1\ndurations_count{handler=\"p\"} 9 1\n";
const PLAIN: &str = "# TYPE http_requests_total counter\nhttp_requests_total{code=\"200\"} 1027 1\n\
    # TYPE go_goroutines gauge\ngo_goroutines 15 1\n# TYPE foo untyped\nfoo 1 1\n# TYPE go_threads gauge\ngo_threads 8 1\n";

#[test]
fn prometheus_becomes_lines_by_the_defaults() {
    table(
        PrometheusText,
        InfluxLine,
        &[
            (
                "",
                LATENCIES,
                "latencies_bucket,le=0.10,verb=POST value=1994 1000000\n\
             latencies_bucket,le=1e+06,verb=POST value=2005 1000000\n\
             latencies_bucket,le=+Inf,verb=POST value=2025 1000000\n\
             latencies_sum,verb=POST value=1.02726334e+08 1000000\n\
             latencies_count,verb=POST value=2025 1000000",
                "metadata 5",
            ),
            ("", "up{a=\"\"} 1 0", "up value=1 0", ""),
            ("", "a NaN 1\nb +Inf 1\nc 3 1\n", "c value=3 1000000", "-non_finite 2"),
        ],
    );
    // There and back is exact.
    let there = translated(PrometheusText, InfluxLine, "", LATENCIES.as_bytes());
    let back = translated(InfluxLine, PrometheusText, "", &there.bytes);
    let samples = LATENCIES.lines().filter(|line| !line.starts_with('#')).count();
    let text = String::from_utf8(back.bytes).unwrap();
    assert_eq!((text.lines().count(), back.losses.total() + back.dropped.total()), (samples, 0), "{text}");
    assert!(text.contains("latencies_bucket{le=\"0.10\",verb=\"POST\"} 1994 1\n"), "{text}");
}

#[test]
fn prometheus_becomes_rows_of_families_as_telegraf_1_writes_them() {
    table(
        PrometheusText,
        InfluxLine,
        &[
            (
                "telegraf_v1",
                LATENCIES,
                "latencies,verb=POST 0.1=1994,1e+06=2005,+Inf=2025,sum=1.02726334e+08,count=2025 1000000",
                "metadata 5",
            ),
            (
                "telegraf_v1",
                DURATIONS,
                "durations,handler=p 0.5=552048.506,sum=1.8909097205e+07,count=9 1000000",
                "metadata 3, -non_finite 1",
            ),
            (
                "schema=family",
                PLAIN,
                "http_requests_total,code=200 counter=1027 1000000\ngo_goroutines gauge=15 1000000\nfoo value=1 1000000\ngo_threads gauge=8 1000000",
                "metadata 4",
            ),
            // Without a type there is no family.
            (
                "schema=family",
                "x_bucket{le=\"1\"} 1 1\nx_sum 2 1",
                "x_bucket,le=1 value=1 1000000\nx_sum value=2 1000000",
                "",
            ),
            // Another timestamp, other tags and a key that is there already begin another line.
            (
                "schema=family",
                "# TYPE x histogram\nx_sum 1 1\nx_count 2 2\nx_sum{a=\"b\"} 3 2\nx_count{a=\"b\"} 4 2\nx_count{a=\"b\"} 5 2\n",
                "x sum=1 1000000\nx count=2 2000000\nx,a=b sum=3,count=4 2000000\nx,a=b count=5 2000000",
                "metadata 5",
            ),
        ],
    );
    // What remote write sends apart from the samples is joined to them.
    let there = translated(PrometheusText, RemoteWrite, "", LATENCIES.as_bytes());
    let rows = translated(RemoteWrite, InfluxLine, "telegraf_v1", &there.bytes);
    assert_eq!(String::from_utf8(rows.bytes).unwrap().lines().count(), 1);
}

#[test]
fn prometheus_becomes_one_measurement_as_telegraf_2_writes_it() {
    table(
        PrometheusText,
        InfluxLine,
        &[
            (
                "telegraf_v2",
                LATENCIES,
                "prometheus,le=0.1,verb=POST latencies_bucket=1994 1000000\n\
             prometheus,le=1e+06,verb=POST latencies_bucket=2005 1000000\n\
             prometheus,le=+Inf,verb=POST latencies_bucket=2025 1000000\n\
             prometheus,verb=POST latencies_sum=1.02726334e+08,latencies_count=2025 1000000",
                "value_sanitised 1, metadata 5",
            ),
            (
                "telegraf_v2",
                DURATIONS,
                "prometheus,handler=p,quantile=0.5 durations=552048.506 1000000\n\
             prometheus,handler=p durations_sum=1.8909097205e+07,durations_count=9 1000000",
                "metadata 3, -non_finite 1",
            ),
            (
                "telegraf_v2 measurement=prometheus_remote_write",
                PLAIN,
                "prometheus_remote_write,code=200 http_requests_total=1027 1000000\n\
             prometheus_remote_write go_goroutines=15 1000000\nprometheus_remote_write foo=1 1000000\n\
             prometheus_remote_write go_threads=8 1000000",
                "metadata 4",
            ),
        ],
    );
    table(InfluxLine, InfluxLine, &[("telegraf_v2", "m,a=b v=1i,s=\"x\" 0", "m,a=b v=1i,s=\"x\" 0", "")]);
    table(Wavefront, InfluxLine, &[("telegraf_v2", "m 1 0 source=s", "m,source=s value=1 0", "")]);
}

#[test]
fn an_openmetrics_family_is_known_under_the_stem_of_its_names() {
    let body = "# TYPE jobs counter\njobs_total 17 1\n# TYPE build info\nbuild_info{v=\"1\"} 1 1\n# EOF\n";
    table(
        OpenMetrics,
        InfluxLine,
        &[
            ("telegraf_v1", body, "jobs_total counter=17 1000000000\nbuild_info,v=1 value=1 1000000000", "metadata 2"),
            (
                "telegraf_v2",
                body,
                "prometheus jobs_total=17 1000000000\nprometheus,v=1 build_info=1 1000000000",
                "metadata 2",
            ),
        ],
    );
}

#[test]
fn series_become_wavefront_points() {
    let at = "1700000000000 source=\"h\"";
    let cpu = "cpu,cpu=cpu0,host=h usage_idle=91.5 1700000000000000000";
    let idle = |name: &str| format!("\"{name}\" 91.5 {at} \"cpu\"=\"cpu0\"");
    table(
        InfluxLine,
        Wavefront,
        &[
            ("", cpu, idle("cpu.usage_idle"), ""),
            ("names=dotted", cpu, idle("cpu.usage.idle"), "name_sanitised 1"),
            ("telegraf_v1", cpu, idle("cpu.usage.idle"), "name_sanitised 1"),
            ("telegraf_v2", cpu, idle("cpu.usage.idle"), "name_sanitised 1"),
            ("telegraf_v2 names=kept", cpu, idle("cpu.usage_idle"), ""),
        ],
    );
    let line = |fields: &str| format!("m,host=h,sp&c!al=x {fields} 1700000000000000000");
    let tagged = |point: &str| format!("{point} {at} \"sp-c-al\"=\"x\"");
    for (words, fields, point, losses) in [
        ("", "value=91i", "\"m\" 91.0", "label_sanitised 1, field_type 1"),
        ("", "b=true,s=\"x\"", "\"m.b\" 1.0", "label_sanitised 1, field_type 1, -string_value 1"),
        ("", "a/b=1e-7", "\"m.a/b\" 1e-7", "label_sanitised 1"),
        ("names=dotted", "a/b=1e300", "\"m.a-b\" 1e300", "name_sanitised 1, label_sanitised 1"),
    ] {
        table(InfluxLine, Wavefront, &[(words, &line(fields), tagged(point), losses)]);
    }
    let text = "http_requests:rate_total{host=\"h\"} 3 1700000000000\nlat_bucket{host=\"h\",le=\"+Inf\"} 4 1700000000000\nx{host=\"h\"} NaN 1700000000000\n";
    let points = |rate: &str, lat: &str| format!("\"{rate}\" 3.0 {at}\n\"{lat}\" 4.0 {at} \"le\"=\"+Inf\"");
    table(
        PrometheusText,
        Wavefront,
        &[
            ("", text, points("http_requests-rate_total", "lat_bucket"), "name_sanitised 1, -non_finite 1"),
            ("names=dotted", text, points("http.requests-rate.total", "lat.bucket"), "name_sanitised 2, -non_finite 1"),
            // A source is never empty.
            ("", "m 1 1700000000000", "\"m\" 1.0 1700000000000 source=\"unknown\"".to_owned(), ""),
        ],
    );
    let own = "\"a_b\" 1.0 1700000000000 source=\"s\"";
    table(Wavefront, Wavefront, &[("names=dotted", own, own, "")]);
}

#[test]
fn prometheus_stays_as_it_is_through_remote_write_whatever_the_preset() {
    let body = "# HELP lat Latency.\n# TYPE lat histogram\nlat_bucket{le=\"0.10\"} 1 5\nlat_bucket{le=\"1.0\"} 2 5\nlat_bucket{le=\"+Inf\"} 2 5\nlat_count 2 5\nlat_sum 0.5 5\n\
        # TYPE x gauge\nx NaN 5\nx 3 6\n# TYPE y counter\ny_value 1 5\n";
    let body = body.replace("# TYPE y counter\n", "");
    for to in [RemoteWrite, RemoteWrite2] {
        for preset in ["", "telegraf_v1", "telegraf_v2", "vmagent", "vector"] {
            let expected = (body.clone(), String::new());
            assert_eq!(told(PrometheusText, to, preset, &body), expected, "{to:?} {preset}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_told() {
    let of = |to, preset, options: &[&str]| {
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        Styles::of(to, preset, &options).unwrap_err()
    };
    let cases = [
        (
            of(RemoteWrite, Some("telegraf"), &[]),
            "--preset telegraf: expected one of telegraf_v1, telegraf_v2, vmagent, vector",
        ),
        (of(InfluxLine, Some("vector"), &[]), "--preset vector: expected telegraf_v1 or telegraf_v2 here"),
        (of(Wavefront, Some("vmagent"), &[]), "--preset vmagent: expected telegraf_v1 or telegraf_v2 here"),
        (
            of(InfluxLine, None, &["strings=label"]),
            "--set strings=label: expected one of the keys schema, measurement, native_histograms",
        ),
        (of(PrometheusText, None, &["strings=labels"]), "--set strings=labels: expected one of drop, label, info"),
        (
            of(InfluxLine, None, &["measurement=#x"]),
            "--set measurement=#x: expected a measurement that line protocol can carry",
        ),
        (of(Wavefront, None, &["names"]), "--set names: expected one of kept, dotted"),
    ];
    for (got, expected) in cases {
        assert_eq!(got, expected);
    }
}

/// Schema 0, with buckets on both sides and in a gap: the histogram of the reference's example.
fn native(integer: bool) -> Vec<u8> {
    use crate::wire::compression;
    use crate::wire::remote_write::messages::{
        BucketSpan, Histogram, Label, TimeSeries, WriteRequest, histogram::Count, histogram::ZeroCount,
    };
    use prost::Message as _;
    let span = |offset, length| BucketSpan { offset, length };
    let counts = Histogram {
        count: Some(Count::CountFloat(16.0)),
        zero_count: Some(ZeroCount::ZeroCountFloat(0.0)),
        positive_counts: vec![2.0, 1.0, 3.0, 2.0, 3.0],
        negative_counts: vec![2.0, 3.0],
        ..Histogram::default()
    };
    let deltas = Histogram {
        count: Some(Count::CountInt(16)),
        zero_count: Some(ZeroCount::ZeroCountInt(0)),
        positive_deltas: vec![2, -1, 2, -1, 1],
        negative_deltas: vec![2, 1],
        ..Histogram::default()
    };
    let histogram = Histogram {
        sum: 158.63,
        schema: 0,
        zero_threshold: 0.001,
        positive_spans: vec![span(0, 4), span(2, 1)],
        negative_spans: vec![span(0, 2)],
        timestamp: 1_740_375_855,
        ..if integer { deltas } else { counts }
    };
    let labels = vec![Label { name: "__name__".to_owned(), value: "test_metric_seconds".to_owned() }];
    let series = TimeSeries { labels, histograms: vec![histogram], ..TimeSeries::default() };
    compression::snappy(&WriteRequest { timeseries: vec![series], ..WriteRequest::default() }.encode_to_vec())
}

#[test]
fn a_native_histogram_becomes_rows_by_its_option() {
    let at = "1740375855000000";
    let fields = "-1=3,-0.5=5,1=7,2=8,4=11,8=13,64=16,count=16,sum=158.63,zero_count=0,zero_threshold=0.001,\
        counter_reset_hint=0u,schema=0i,positive_span_0_offset=0i,positive_span_0_length=4u,positive_span_1_offset=2i,\
        positive_span_1_length=1u,positive_bucket_0=2,positive_bucket_1=1,positive_bucket_2=3,positive_bucket_3=2,\
        positive_bucket_4=3,negative_span_0_offset=0i,negative_span_0_length=2u,negative_bucket_0=2,negative_bucket_1=3";
    let prefixed: Vec<_> = fields.split(',').map(|field| format!("test_metric_seconds_{field}")).collect();
    let single: Vec<_> = ["-1=3", "-0.5=5", "1=7", "2=8", "4=11", "8=13", "64=16"]
        .iter()
        .filter_map(|bucket| bucket.split_once('='))
        .map(|(le, count)| {
            format!("prometheus_remote_write,test_metric_seconds_le={le} test_metric_seconds={count} {at}\n")
        })
        .collect();
    let cases = [
        ("telegraf_v1", format!("test_metric_seconds {fields} {at}\n"), ""),
        ("native_histograms=fields", format!("test_metric_seconds {fields} {at}\n"), ""),
        ("schema=single native_histograms=fields", format!("prometheus {} {at}\n", prefixed.join(",")), ""),
        (
            "telegraf_v2 measurement=prometheus_remote_write",
            format!(
                "prometheus_remote_write test_metric_seconds_sum=158.63 {at}\n\
                 prometheus_remote_write test_metric_seconds_count=16 {at}\n{}",
                single.concat()
            ),
            "native_histogram 1",
        ),
        (
            "schema=family",
            format!("test_metric_seconds -1=3,-0.5=5,1=7,2=8,4=11,8=13,64=16,+Inf=16,sum=158.63,count=16 {at}\n"),
            "native_histogram 1",
        ),
    ];
    for (words, output, losses) in cases {
        for integer in [false, true] {
            let got = translated(RemoteWrite, InfluxLine, words, &native(integer));
            assert_eq!(String::from_utf8(got.bytes).unwrap(), output, "{words}");
            let told: Vec<_> = got.losses.iter().map(|(loss, count)| format!("{} {count}", loss.as_str())).collect();
            let field_type = if integer && losses.is_empty() { "field_type 1" } else { losses };
            assert_eq!((told.join(", ").as_str(), got.dropped.total()), (field_type, 0), "{words}");
        }
    }
    let flat = translated(RemoteWrite, InfluxLine, "", &native(false));
    let flat = String::from_utf8(flat.bytes).unwrap();
    assert!(flat.starts_with(&format!("test_metric_seconds_bucket,le=-1 value=3 {at}\n")), "{flat}");
    assert!(flat.contains(&format!("test_metric_seconds_bucket,le=+Inf value=16 {at}\n")), "{flat}");
}
