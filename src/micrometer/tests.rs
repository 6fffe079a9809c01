#![allow(clippy::format_push_string, clippy::format_collect, reason = "a test may allocate")]

use super::*;
use crate::model::{BatchBuilder, Format, Metadata, MetricType, SeriesSpec, SeriesTable};
use crate::wire::{influx_line, prometheus_text, wavefront};
use proptest::prelude::*;

/// The series of the last sample in a text of its dialect.
fn series(dialect: Dialect, text: &str) -> Series {
    let format = match dialect {
        Dialect::Prometheus => Format::PrometheusText,
        Dialect::Influx => Format::InfluxLine,
        Dialect::Wavefront => Format::Wavefront,
    };
    let table = SeriesTable::default();
    let mut out = BatchBuilder::new(&table, format, Vec::new());
    let text = format!("{text}\n");
    let report = match dialect {
        Dialect::Prometheus => {
            let options = prometheus_text::decode::Options { now: 0, timestamp: None };
            prometheus_text::decode::decode(text.as_bytes(), &options, &mut out)
        }
        Dialect::Influx => {
            let options = influx_line::decode::Options::default();
            influx_line::decode::decode(text.as_bytes(), &options, &mut out)
        }
        Dialect::Wavefront => {
            let options = wavefront::decode::Options { limits: None, ..wavefront::decode::Options::at(0) };
            wavefront::decode::decode(text.as_bytes(), &options, &mut out)
        }
    };
    assert_eq!(report.refused(), 0, "{text}: {:?}", report.first);
    let batch = out.finish();
    table.series(batch.samples.last().unwrap().series).unwrap()
}

/// Name, field and labels.
fn named(series: &Series) -> String {
    let field = series.name.field_key().map(|field| format!(".{field}")).unwrap_or_default();
    let labels: Vec<_> = series.labels.iter().map(|pair| format!("{}={}", pair.name, pair.value)).collect();
    format!("{}{field}{{{}}}", series.name.measurement(), labels.join(","))
}

/// What becomes of it: name, labels, how values change; or why nothing does.
fn told(profile: &Profile, series: &Series, to: Dialect) -> String {
    match profile.translate(series, to) {
        Ok(None) => "stays".to_owned(),
        Err(loss) => loss.as_str().to_owned(),
        Ok(Some(Translated { series, conversion, losses })) => {
            assert_eq!(series.dialect, to);
            assert!(series.labels.is_sorted_by(|left, right| left.name < right.name), "{series:?}");
            let unit = match conversion.unit {
                Unit::Same => "",
                Unit::Seconds => " s",
                Unit::Milliseconds => " ms",
            };
            let restated = if conversion.restated { " restated" } else { "" };
            let losses: String = losses.iter().map(|loss| format!(" {}", loss.as_str())).collect();
            format!("{}{unit}{restated}{losses}", named(&series))
        }
    }
}

use Dialect::{Influx, Prometheus, Wavefront};

/// Series and, below each, what they become: `;` is the end of a line, ` s` and ` ms` a change of unit.
const TABLE: &str = r#"
Timers: milliseconds and steps in line protocol.
I spring_integration_send,metric_type=histogram count=1
  P spring_integration_send_seconds_count{} restated
  W spring.integration.send.count{} restated
I spring_integration_send,metric_type=histogram sum=1
  P spring_integration_send_seconds_sum{} s restated
  W spring.integration.send.sum{} s restated
I spring_integration_send,metric_type=histogram upper=1
  P spring_integration_send_seconds_max{} s
I spring_integration_send,metric_type=histogram mean=1
  P derived
  W spring.integration.send.avg{} s
P spring_integration_send_seconds_count{application_guid="s"} 1
  I spring_integration_send.count{application_guid=s,metric_type=histogram} restated
P spring_integration_send_seconds_sum{application_guid="s"} 1
  I spring_integration_send.sum{application_guid=s,metric_type=histogram} ms restated
P spring_integration_send_seconds_max{application_guid="s"} 1
  I spring_integration_send.upper{application_guid=s,metric_type=histogram} ms restated
  W spring.integration.send.max{application.guid=s}
W "spring.integration.send.sum" 1 source="a"
  P spring_integration_send_seconds_sum{source=a}
  I spring_integration_send.sum{metric_type=histogram,source=a} ms restated
W "spring.integration.send.avg" 1 source="a"
  P derived
  I derived

Counters and gauges: base units.
I jvm_gc_memory_allocated,metric_type=counter value=1
  P jvm_gc_memory_allocated_bytes_total{} restated
I logback_events,level=warn,metric_type=counter value=1
  P logback_events_total{level=warn} restated
  W logback.events{level=warn,statistic=count} restated
I jvm_memory_used,area=heap,metric_type=gauge value=1
  P jvm_memory_used_bytes{area=heap}
I jvm_threads_live,metric_type=gauge value=1
  P jvm_threads_live_threads{}
  W jvm.threads.live{statistic=value}
I process_uptime,metric_type=gauge value=1
  P process_uptime_seconds{} s
  W process.uptime{statistic=value} s
P process_start_time_seconds{application_guid="t"} 1
  I process_start_time.value{application_guid=t,metric_type=gauge} ms
P hikaricp_connections_max{application_guid="t"} 1
  I hikaricp_connections_max.value{application_guid=t,metric_type=gauge}
P system_cpu_count{application_guid="t"} 1
  W system.cpu.count{application.guid=t,statistic=value}
P tomcat_global_request_max_seconds{application_guid="t"} 1
  W tomcat.global.request.max{application.guid=t,statistic=value}
W "jvm.threads.live" 1 source="a" "statistic"="value"
  I jvm_threads_live.value{metric_type=gauge,source=a}
W "cache.gets" 1 source="a" "statistic"="count"
  I cache_gets.value{metric_type=counter,source=a} restated
  P cache_gets_total{source=a}
W "∆hits" 1 source="a" "application.guid"="t"
  P hits_total{application_guid=t,source=a} restated
  I hits.value{application_guid=t,metric_type=counter,source=a}

Names of Kafka's counters end in total by themselves; what is new in a namespace is dotted all the same.
P kafka_consumer_records_consumed_total{application_guid="t"} 1
  I kafka_consumer_records_consumed_total.value{application_guid=t,metric_type=counter} restated
  W kafka.consumer.records.consumed.total{application.guid=t,statistic=count}
I kafka_consumer_records_consumed_total,metric_type=counter value=1
  P kafka_consumer_records_consumed_total{} restated
P kafka_producer_request_rate{client_id="1",application_guid="t"} 1
  W kafka.producer.request.rate{application.guid=t,client.id=1,statistic=value}

Summaries.
I jetty_connections_bytes_in,metric_type=histogram sum=1
  P jetty_connections_bytes_in_bytes_sum{} restated
I body_bytes,metric_type=histogram upper=1
  P body_bytes_max{}
P body_bytes_max{application_guid="t"} 1
  I body_bytes.upper{application_guid=t,metric_type=histogram} restated
P lines_max{application_guid="t"} 1
  I lines_max.value{application_guid=t,metric_type=gauge}
P lines_sum{application_guid="t"} 1
  I lines.sum{application_guid=t,metric_type=histogram} restated
P # TYPE lines_sum gauge;lines_sum{application_guid="t"} 1
  I lines_sum.value{application_guid=t,metric_type=gauge}

Long task timers.
I spring_cloud_task_active,metric_type=long_task_timer active_tasks=1
  P spring_cloud_task_active_seconds_active_count{}
  W spring.cloud.task.active.active{}
I spring_cloud_task_active,metric_type=long_task_timer duration=1
  P spring_cloud_task_active_seconds_duration_sum{} s
P my_own_seconds_active_count{application_guid="t"} 1
  I my_own.active_tasks{application_guid=t,metric_type=long_task_timer}
P my_own_active_seconds_sum{application_guid="t"} 1
  I my_own_active.duration{application_guid=t,metric_type=long_task_timer} ms
P spring_batch_job_active_seconds_max{application_guid="t"} 1
  I spring_batch_job_active.upper{application_guid=t,metric_type=long_task_timer} ms
W "spring.batch.job.active.active" 1 source="a"
  P spring_batch_job_active_seconds_active_count{source=a}
W "spring.batch.job.active.avg" 1 source="a"
  P derived
  I derived

Buckets and percentiles.
I http_server_requests_histogram,le=50,metric_type=gauge value=1
  P http_server_requests_seconds_bucket{le=0.05} restated
  W http.server.requests.histogram{le=0.05,statistic=value} restated
I http_server_requests_percentile,phi=0.95,metric_type=gauge value=1
  P http_server_requests_seconds{quantile=0.95} s
I http_server_requests_percentile,metric_type=gauge value=1
  P http_server_requests_percentile{}
I jetty_connections_bytes_in_histogram,le=1024,metric_type=gauge value=1
  P jetty_connections_bytes_in_bytes_bucket{le=1024.0} restated
P http_server_requests_seconds_bucket{application_guid="t",le="0.001048576"} 1
  I http_server_requests_histogram.value{application_guid=t,le=1.048576,metric_type=gauge} restated
P http_server_requests_seconds_bucket{application_guid="t",le="+Inf"} 1
  I derived
  W derived
P http_server_requests_seconds{application_guid="t",quantile="0.5"} 1
  I http_server_requests_percentile.value{application_guid=t,metric_type=gauge,phi=0.5} ms restated
P http_server_requests_seconds_bucket{application_guid="t",le="0.25"} 1
  W http.server.requests.histogram{application.guid=t,le=0.25,statistic=value}
P http_server_requests_seconds_bucket{application_guid="t",le="0.0010485760001"} 1
  I http_server_requests_histogram.value{application_guid=t,le=1.048576,metric_type=gauge} restated value_sanitised
W "a.percentile" 1 source="s" "phi"="0.5" "statistic"="value"
  P a_seconds{quantile=0.5,source=s}

Custom meters tell what they measure themselves.
I custom,metric_type=other total=1
  P custom_sum{statistic=TOTAL}
  W custom{statistic=total}
I custom,metric_type=unknown active=1
  P custom_active_count{statistic=ACTIVE_TASKS}
P custom_total{application_guid="t",statistic="COUNT"} 1
  I custom.count{application_guid=t,metric_type=other}
P custom{application_guid="t",statistic="COUNT"} 1
  I custom.count{application_guid=t,metric_type=other}
P custom_sum{application_guid="t",statistic="TOTAL"} 1
  I custom.total{application_guid=t,metric_type=other}
P custom_value{application_guid="t",statistic="VALUE"} 1
  I custom.value{application_guid=t,metric_type=other}
P custom_sum_total{application_guid="t",statistic="TOTAL_TIME"} 1
  W custom{application.guid=t,statistic=total}
W "custom" 1 source="a" "statistic"="duration"
  I custom.duration{metric_type=other,source=a}

Names and tags.
I m,metric_type=gauge,uri=/a\"b\",a-b=1 value=1
  P m{a_b=1,uri=/a"b"}
  W m{a-b=1,statistic=value,uri=/a\"b\"}
I m,metric_type=gauge,a-b=1,a.b=2 value=1
  P m{a_b=1} label_dropped
I 9m,metric_type=gauge value=1
  P m_9m{}
W "m" 1 source="a" "x"="q\\"" "statistic"="value"
  P m{source=a,x=q"}
P m{application_guid="s",metric_type="x"} 1
  I m.value{application_guid=s,metric_type=gauge} label_dropped
P m{application_guid="s",x="a\nb"} 1
  I m.value{application_guid=s,metric_type=gauge,x=a b} value_sanitised
P m{application_guid="s",x="a\\"} 1
  W m{application.guid=s,statistic=value,x=a_} value_sanitised
P m{application_guid="A B.c "} 1
  I m.value{application_guid=A B.c ,metric_type=gauge}
"#;

fn dialect(letter: &str) -> Option<Dialect> {
    [("P", Prometheus), ("I", Influx), ("W", Wavefront)]
        .into_iter()
        .find_map(|(known, is)| (known == letter).then_some(is))
}

#[test]
fn each_statistic_has_its_name_unit_and_temporality_in_each_dialect() {
    let mut from = None;
    for line in TABLE.lines() {
        let is_result = line.starts_with("  ");
        let Some((letter, text)) = line.trim_start().split_once(' ') else { continue };
        match (dialect(letter), is_result) {
            (Some(dialect), false) => from = Some(series(dialect, &text.replace(';', "\n"))),
            (Some(to), true) => assert_eq!(told(&Profile::default(), from.as_ref().unwrap(), to), text, "{from:?}"),
            (None, _) => {}
        }
    }
}

#[test]
fn only_meters_of_micrometer_are_touched() {
    let own = vec![Meter { name: "my.own".into(), kind: Kind::Counter, unit: "".into() }];
    let auto = Profile { meters: Arc::new(Meters::new(own)), ..Profile::default() };
    // Text, whether it is a meter by itself, and whether it is one where all are.
    let cases = [
        (Prometheus, "process_start_time_seconds{job=\"node\"} 1", false, true),
        (Prometheus, "jvm_memory_used_bytes{area=\"heap\"} 1", false, true),
        (Prometheus, "jvm_memory_used_bytes{application_guid=\"1\"} 1", true, true),
        (Prometheus, "up{task_execution_id=\"1\",task_name=\"t\"} 1", true, true),
        (Prometheus, "up{application_name=\"a\",stream_name=\"s\"} 1", true, true),
        (Prometheus, "aws_kinesis_incoming_bytes_sum{stream_name=\"orders\"} 1", false, true),
        (Prometheus, "pg_stat_activity_count{application_name=\"psql\"} 1", false, true),
        (Wavefront, "\"kinesis.bytes.sum\" 1 source=\"a\" \"stream.name\"=\"orders\"", false, true),
        (Prometheus, "my_own_total 1", true, true),
        (Influx, "cpu,host=a usage_idle=1", false, false),
        (Influx, "cpu,host=a value=1", false, true),
        (Influx, "cpu,metric_type=gauge value=1", true, true),
        (Influx, "cpu,metric_type=timing value=1", false, false),
        (Influx, "cpu,metric_type=gauge usage=1", false, false),
        (Influx, "my_own value=1", true, true),
        (Wavefront, "\"cpu.load\" 1 source=\"a\"", false, true),
        (Wavefront, "\"cpu.load\" 1 source=\"a\" \"application.guid\"=\"s\"", false, true),
        (Wavefront, "\"cpu.load.max\" 1 source=\"a\" \"application.guid\"=\"s\"", true, true),
        (Wavefront, "\"cpu.load.max\" 1 source=\"a\"", false, true),
        (Wavefront, "\"jvm.gc.pause.max\" 1 source=\"a\"", true, true),
        (Wavefront, "\"cpu.load\" 1 source=\"a\" \"statistic\"=\"value\"", true, true),
        (Wavefront, "\"cpu.load\" 1 source=\"a\" \"statistic\"=\"p99\"", false, true),
        (Wavefront, "\"~sdk.java.points\" 1 source=\"a\" \"statistic\"=\"value\"", false, false),
        (Wavefront, "\"my.own\" 1 source=\"a\"", true, true),
        (Wavefront, "\"∆hits\" 1 source=\"a\"", false, true),
        (Wavefront, "\"∆~hits\" 1 source=\"a\" \"application.guid\"=\"s\"", false, false),
    ];
    let always = Profile { mode: Mode::Always, ..auto.clone() };
    let never = Profile { mode: Mode::Never, ..auto.clone() };
    for (from, text, by_itself, where_all_are) in cases {
        let series = series(from, text);
        for to in [Prometheus, Influx, Wavefront].into_iter().filter(|to| *to != from) {
            let is_touched = |profile: &Profile| told(profile, &series, to) != "stays";
            assert_eq!([&auto, &always, &never].map(is_touched), [by_itself, where_all_are, false], "{text} to {to:?}");
        }
        assert_eq!(told(&always, &series, from), "stays");
        assert_eq!(never.temporality(&series), Temporality::Instant);
    }
}

#[test]
fn a_native_histogram_is_not_of_micrometer() {
    let (family, help, unit) = ("m".into(), "".into(), "".into());
    let metadata = Arc::new(Metadata { family, metric_type: MetricType::Histogram, help, unit });
    let series = series(Prometheus, "m{application_guid=\"t\"} 1");
    assert_ne!(told(&Profile::default(), &series, Influx), "stays");
    assert_eq!(told(&Profile::default(), &series.with_metadata(metadata), Influx), "stays");
}

#[test]
fn counters_run_as_their_dialect_tells_them() {
    use Temporality::{Companion, Cumulative, Delta, Instant};
    let cases = [
        (Influx, "m,metric_type=counter value=1", Delta),
        (Influx, "m,metric_type=histogram count=1", Delta),
        (Influx, "m,metric_type=histogram sum=1", Delta),
        (Influx, "m,metric_type=histogram upper=1", Instant),
        (Influx, "m,metric_type=histogram mean=1", Instant),
        (Influx, "m_histogram,metric_type=gauge,le=1 value=1", Delta),
        (Influx, "m_percentile,metric_type=gauge,phi=1 value=1", Instant),
        (Influx, "m,metric_type=other count=1", Instant),
        (Influx, "m count=1", Instant),
        (Prometheus, "m_total{application_guid=\"t\"} 1", Cumulative),
        (Prometheus, "m_total{application_guid=\"t\",statistic=\"COUNT\"} 1", Instant),
        (Prometheus, "m_total 1", Instant),
        (Prometheus, "m_seconds_count{application_guid=\"t\"} 1", Cumulative),
        (Prometheus, "m_seconds_active_count{application_guid=\"t\"} 1", Instant),
        (Prometheus, "m_seconds_bucket{application_guid=\"t\",le=\"1\"} 1", Cumulative),
        (Prometheus, "m_seconds_max{application_guid=\"t\"} 1", Companion),
        (Prometheus, "m_seconds{application_guid=\"t\",quantile=\"1\"} 1", Companion),
        (Wavefront, "\"m\" 1 source=\"a\" \"statistic\"=\"count\"", Cumulative),
        (Wavefront, "\"m\" 1 source=\"a\" \"statistic\"=\"value\"", Instant),
        (Wavefront, "\"m.sum\" 1 source=\"a\" \"application.guid\"=\"t\"", Cumulative),
        (Wavefront, "\"m.max\" 1 source=\"a\" \"application.guid\"=\"t\"", Companion),
        (Wavefront, "\"m.avg\" 1 source=\"a\" \"application.guid\"=\"t\"", Instant),
        (Wavefront, "\"∆m\" 1 source=\"a\" \"application.guid\"=\"t\"", Delta),
    ];
    for (from, text, expected) in cases {
        assert_eq!(Profile::default().temporality(&series(from, text)), expected, "{text}");
    }
}

#[test]
fn prometheus_is_told_the_types_of_families() {
    let cases = [
        ("m,metric_type=counter value=1", "m_total", "counter"),
        ("m,metric_type=gauge value=1", "m", "gauge"),
        ("m,metric_type=histogram count=1", "m_seconds", "summary"),
        ("m,metric_type=histogram upper=1", "m_seconds_max", "gauge"),
        ("m_histogram,metric_type=gauge,le=1 value=1", "m_seconds", "histogram"),
        ("m_percentile,metric_type=gauge,phi=1 value=1", "m_seconds", "summary"),
        ("m,metric_type=long_task_timer active_tasks=1", "m_seconds_active_count", "gauge"),
    ];
    for (text, family, metric_type) in cases {
        let translated = Profile::default().translate(&series(Influx, text), Prometheus).unwrap().unwrap();
        let metadata = translated.series.metadata.clone().unwrap();
        assert_eq!((&*metadata.family, metadata.metric_type.as_str(), &*metadata.help), (family, metric_type, ""));
        assert!(metadata.suffix_of(translated.series.name.measurement()).is_some(), "{text}");
    }
}

#[test]
fn options_choose_names_where_registries_differ() {
    let client_1 = Profile { prometheus_registry: PrometheusRegistry::Client1, ..Profile::default() };
    let rows = series(Influx, "spring_batch_job_active,metric_type=long_task_timer active_tasks=1");
    assert_eq!(told(&client_1, &rows, Prometheus), "spring_batch_job_active_seconds_count{}");
    let rows = series(Influx, "custom,metric_type=other total=1");
    assert_eq!(told(&client_1, &rows, Prometheus), "custom_sum_total{statistic=TOTAL}");
    let dotted = Profile { unknown_names: UnknownNames::Dotted, ..Profile::default() };
    let rows = series(Influx, "my_own,my_tag=1,metric_type=gauge value=1");
    assert_eq!(told(&dotted, &rows, Wavefront), "my.own{my.tag=1,statistic=value}");
    assert_eq!(told(&Profile::default(), &rows, Wavefront), "my_own{my_tag=1,statistic=value}");
}

/// A series of a meter that its names tell in full.
fn meter() -> impl Strategy<Value = Series> {
    let rows = prop_oneof![
        "(spring_integration_send|jvm_gc_pause|http_server_requests)@,metric_type=histogram (count|sum|upper)=1",
        "(cache_evictions|jetty_connections_bytes_in)@,metric_type=histogram (count|sum|upper)=1",
        "(logback_events|jvm_gc_memory_allocated|kafka_a_b_total)@,metric_type=counter value=1",
        "(jvm_memory_used|process_uptime|tomcat_sessions_alive_max|hikaricp_connections_max)@,metric_type=gauge value=1",
        "(spring_cloud_task_active|spring_batch_job_active)@,metric_type=long_task_timer (active_tasks|duration)=1",
        "(jvm_gc_pause|http_server_requests)_histogram@,le=(0|1|5|50|1000)[.](5|25|048),metric_type=gauge value=1",
        "(jvm_gc_pause|http_server_requests)_percentile@,metric_type=gauge,phi=0[.](5|95|999) value=1",
    ];
    let keys = "stream_name|application_name|task_name|name|uri|a[a-z]{1,3}";
    let tags = prop::collection::btree_map(keys, "[a-z/.\"é:{}]{1,8}", 0..4);
    (rows, tags).prop_map(|(row, tags)| {
        let tags: String = tags.iter().map(|(key, value)| format!(",{key}={}", value.replace('"', "\\\""))).collect();
        series(Influx, &row.replace('@', &format!(",application_guid=t{tags}")))
    })
}

proptest! {
    #[test]
    fn there_and_back_is_the_same_meter(rows in meter(), by in prop::sample::select(vec![Prometheus, Wavefront])) {
        let profile = Profile::default();
        let there = profile.translate(&rows, by).unwrap().unwrap();
        let back = profile.translate(&there.series, Influx).unwrap().unwrap();
        prop_assert_eq!(named(&back.series), named(&rows), "by {}", named(&there.series));
        prop_assert_eq!(there.losses | back.losses, LossSet::NONE);
        let value = 12_345.678;
        let same = back.conversion.unit.convert(there.conversion.unit.convert(value));
        prop_assert!((same - value).abs() < 1e-9, "{same}");
        let counts = profile.temporality(&rows) == Temporality::Delta;
        prop_assert_eq!(there.conversion.restated, counts);
        let beside = profile.temporality(&there.series) == Temporality::Companion;
        prop_assert_eq!(back.conversion.restated, counts || beside);
        // And through both.
        let other = if by == Prometheus { Wavefront } else { Prometheus };
        let through = profile.translate(&there.series, other).unwrap().unwrap();
        let direct = profile.translate(&rows, other).unwrap().unwrap();
        prop_assert_eq!(named(&through.series), named(&direct.series));
        prop_assert_eq!(through.conversion, Conversion::default());
    }

    #[test]
    fn no_name_is_too_strange(
        dialect in prop::sample::select(vec![Prometheus, Influx, Wavefront]),
        to in prop::sample::select(vec![Prometheus, Influx, Wavefront]),
        name in "(∆|~)?[a-z._é -]{0,3}(_seconds|[.]active)?(_bucket|_count|_sum|_max|_total|[.]histogram|[.]max|_percentile|_duration_sum)?",
        field in "value|count|sum|mean|upper|duration|[a-z]{0,3}",
        labels in prop::collection::btree_map(
            "metric_type|statistic|le|phi|quantile|application.guid|application_guid|\\PC{1,3}",
            "gauge|counter|histogram|other|long_task_timer|value|count|COUNT|\\+Inf|NaN|-?[0-9]{1,30}([.e][0-9]{0,30})?|\\PC{0,6}|.{0,3}\\\\",
            0..6,
        ),
        mode in prop::sample::select(vec![Mode::Auto, Mode::Always]),
    ) {
        let table = SeriesTable::default();
        let format = [Format::PrometheusText, Format::InfluxLine, Format::Wavefront][dialect as usize];
        let builder = BatchBuilder::new(&table, format, Vec::new());
        let labels = labels.iter().filter(|(_, value)| !value.is_empty());
        let labels = labels.map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
        let field = (dialect == Influx).then_some(&*field);
        let spec = SeriesSpec { measurement: &name, field, labels, metadata: None };
        let id = builder.define(builder.alias(b"x"), spec).unwrap();
        let series = table.series(id).unwrap();
        let profile = Profile { mode, ..Profile::default() };
        let _ = profile.temporality(&series);
        if let Ok(Some(Translated { series, .. })) = profile.translate(&series, to) {
            prop_assert!(!series.name.is_empty());
            prop_assert!(series.labels.is_sorted_by(|left, right| left.name < right.name), "{series:?}");
            let _ = profile.translate(&series, dialect);
        }
    }
}
