use super::newest::NANOSECONDS;
use super::*;
use crate::model::{
    BatchBuilder, Centroid, Distribution, Exemplar, Format, Granularity, SampleFlags, SeriesSpec, TableBounds,
};
use crate::wire::prometheus_names::Alphabet;
use crate::wire::prometheus_text::decode::{Options, decode};

/// What the log would have of a text.
fn record(table: &SeriesTable, body: &[u8]) -> Record {
    let mut builder = BatchBuilder::new(table, Format::PrometheusText, Vec::new());
    assert_eq!(decode(body, &Options { now: 1, timestamp: None }, &mut builder).refused(), 0);
    Record { seq: 0, ordinal: 0, appended_at: 0, batch: builder.finish().into() }
}

#[test]
fn names_beyond_the_legacy_alphabet_are_for_scrapers_that_read_quotes() {
    let table = SeriesTable::default();
    let latest = Latest::new(Duration::from_secs(60), 1 << 20, Arc::default());
    let body = b"# TYPE \"a.b\" gauge\n{\"a.b\",\"x.y\"=\"1\"} 3\nc 4\n";
    latest.update(&record(&table, body), &table);
    let page = |exposition| String::from_utf8(latest.expose(exposition, &table, 0)).unwrap();
    let legacy = "# TYPE a_b gauge\na_b{x_y=\"1\"} 3\nc 4\n";
    assert_eq!(page(Exposition::PrometheusText(Alphabet::Legacy)), legacy);
    assert_eq!(page(Exposition::PrometheusText(Alphabet::Utf8)).as_bytes(), body);
    let open = format!("{}# EOF\n", std::str::from_utf8(body).unwrap());
    assert_eq!(page(Exposition::OpenMetrics(Alphabet::Utf8)), open);
}

#[test]
fn meters_are_shown_under_their_names_with_what_was_added_up() {
    use crate::ingest::temporality::{Origin, Tallies};
    use crate::wire::influx_line;
    let (table, profile) = (SeriesTable::default(), Arc::<Profile>::default());
    let latest = Latest::new(Duration::from_secs(60), 1 << 20, Arc::clone(&profile));
    let tallies = Tallies::new(profile);
    let send = |body: &str| {
        let mut builder = BatchBuilder::new(&table, Format::InfluxLine, Vec::new());
        let options = influx_line::decode::Options::default();
        assert_eq!(influx_line::decode::decode(body.as_bytes(), &options, &mut builder).refused(), 0);
        let mut batch = builder.finish();
        tallies.restate(&mut batch, &table, Origin::default(), 0);
        latest.update(&Record { seq: 0, ordinal: 0, appended_at: 0, batch: batch.into() }, &table);
    };
    let page = |exposition| String::from_utf8(latest.expose(exposition, &table, 0)).unwrap();
    send("send,stream_name=s,metric_type=histogram sum=46,count=2,mean=23,upper=34 60000000000\n");
    send("send,stream_name=s,metric_type=histogram sum=4,count=1,mean=4,upper=34 120000000000\n");
    send("send,stream_name=s,metric_type=histogram sum=9,count=9,mean=1,upper=9 60000000000\n");
    send("send_histogram,stream_name=s,metric_type=gauge,le=50 value=3 120000000000\n");
    let expected = "# TYPE send_seconds histogram\n\
        send_seconds_bucket{le=\"0.05\",stream_name=\"s\"} 3 120000\n\
        send_seconds_count{stream_name=\"s\"} 3 120000\n\
        send_seconds_sum{stream_name=\"s\"} 0.05 120000\n\
        # TYPE send_seconds_max gauge\n\
        send_seconds_max{stream_name=\"s\"} 0.034 120000\n";
    assert_eq!(page(Exposition::PrometheusText(Alphabet::Legacy)), expected);
    let open = page(Exposition::OpenMetrics(Alphabet::Legacy));
    assert!(open.contains("send_seconds_created{stream_name=\"s\"} "), "{open}");
}

#[test]
fn of_a_distribution_of_a_timer_its_statistics_are_shown_and_its_sender_is_who_it_is() {
    use crate::ingest::temporality::{Origin, Tallies};
    use crate::model::{BatchBuilder, Format, Source};
    use crate::wire::wavefront::decode::{Options, decode};
    let (table, profile) = (SeriesTable::default(), Arc::<Profile>::default());
    let latest = Latest::new(Duration::from_secs(60), 1 << 20, Arc::clone(&profile));
    let mut builder = BatchBuilder::new(&table, Format::Wavefront, Vec::new());
    let tags = "source=s stream.name=s application.name=a";
    let body = format!("!M 1700000040 #2 0.5 my.timer {tags}\njvm.threads.live 7 1700000050 {tags} statistic=value\n");
    assert_eq!(decode(body.as_bytes(), &Options::at(0), &mut builder).refused(), 0);
    let (mut batch, tallies) = (builder.finish(), Tallies::new(profile));
    assert_eq!(tallies.expand(&mut batch, &table, Source::OWN), 0);
    tallies.restate(&mut batch, &table, Origin::default(), 1_700_000_100_000_000_000);
    latest.update(&Record { seq: 0, ordinal: 0, appended_at: 0, batch: batch.into() }, &table);
    let page = String::from_utf8(latest.expose(Exposition::PrometheusText(Alphabet::Legacy), &table, 0)).unwrap();
    let labels = "application_name=\"a\",source=\"s\",stream_name=\"s\"";
    for line in [
        format!("jvm_threads_live_threads{{{labels}}} 7 1700000050000\n"),
        format!("my_timer_seconds_count{{{labels}}} 2 1700000100000\n"),
        format!("my_timer_seconds_max{{{labels}}} 0.5 1700000100000\n"),
    ] {
        assert!(page.contains(&line), "{line}{page}");
    }
    assert!(!page.contains("my_timer_count") && !page.contains("my_timer{"), "{page}");
    let (instances, _) = latest.instances(0);
    assert_eq!((instances.len(), instances[0].series, &instances[0].dialects), (1, 1, &vec![Dialect::Wavefront]));
}

#[test]
fn what_was_pushed_without_an_instance_says_so() {
    let table = SeriesTable::default();
    let latest = Latest::new(Duration::from_secs(60), 1 << 20, Arc::default());
    let body = b"a{a=\"1\",job=\"j\"} 1\nb{instance=\"i\"} 2\nc 3\n";
    let batch = record(&table, body).batch;
    let ids: Vec<_> = batch.samples.iter().map(|sample| sample.series).collect();
    latest.show(batch, &table, 0);
    latest.keep(&ids[..2]);
    let page = || String::from_utf8(latest.expose(Exposition::PrometheusText(Alphabet::Legacy), &table, 0)).unwrap();
    assert_eq!(page(), "a{a=\"1\",instance=\"\",job=\"j\"} 1\nb{instance=\"i\"} 2\nc 3\n");
}

#[test]
fn a_series_that_left_the_table_is_shown_until_it_is_stale() {
    let table = SeriesTable::new(TableBounds { bytes_max: 1 << 20, idle_sweeps: 1, ..TableBounds::default() });
    let latest = Latest::new(Duration::from_secs(60), 1000, Arc::default());
    let sweep = || (0..4).map(|_| table.sweep()).sum::<usize>();
    let page = |now| {
        let page = latest.expose(Exposition::PrometheusText(Alphabet::Legacy), &table, now);
        String::from_utf8(page).unwrap()
    };
    let late = record(&table, b"late{a=\"1\"} 1\n");
    sweep();
    latest.update(&late, &table);
    drop(late);
    latest.update(&record(&table, b"m{a=\"2\"} 2\n"), &table);
    sweep();
    assert!(!table.is_empty(), "held until it was looked");
    for _ in 0..2 {
        assert_eq!(page(0), "late{a=\"1\"} 1\nm{a=\"2\"} 2\n");
        sweep();
        assert_eq!(table.len(), 0);
    }
    let long = format!("{} 3\n", "n".repeat(1000));
    latest.update(&record(&table, long.as_bytes()), &table);
    assert!(page(0).ends_with(&long));
    sweep();
    assert_eq!((page(0).lines().count(), latest.hidden()), (2, 1), "its text is not the table's any more");
    assert_eq!((page(62 * NANOSECONDS), latest.shown.lock().bytes), (String::new(), 0));
    sweep();
    assert_eq!(table.len(), 0);
}

#[test]
fn values_and_exemplars_that_grow_are_charged_and_hidden_beyond_the_bound() {
    let table = SeriesTable::default();
    let latest = Latest::new(Duration::from_secs(60), 1 << 20, Arc::default());
    let update = |timestamp: i64, centroids: usize, exemplar: usize| {
        let mut builder = BatchBuilder::new(&table, Format::Wavefront, Vec::new());
        let spec = SeriesSpec { measurement: "m", field: None, labels: Vec::new(), metadata: None };
        let id = builder.define(builder.alias(b"m"), spec).unwrap();
        let centroids = vec![Centroid { count: 1, mean: 1.0 }; centroids];
        let distribution = Distribution { granularity: Granularity::Minute, centroids };
        builder.push(id, timestamp, Value::Distribution(&distribution), SampleFlags::NONE);
        let mut batch = builder.finish();
        let labels = vec![("trace_id".into(), "x".repeat(exemplar).into())];
        batch.exemplars.push(Exemplar { series: id, sample: None, labels, value: 1.0, timestamp: None });
        latest.update(&Record { seq: 0, ordinal: 0, appended_at: 0, batch: batch.into() }, &table);
        let shown = latest.shown.lock();
        let newest = shown.series.values().next();
        let has_exemplar = |_| shown.asides.values().any(|aside| aside.exemplar.is_some());
        (newest.map(has_exemplar), shown.bytes)
    };
    let (first, small) = update(1, 1, 10);
    assert_eq!(first, Some(true));
    assert_eq!(update(2, 1001, 1010), (Some(true), small + 1000 * size_of::<Centroid>() + 1000));
    assert_eq!(update(3, 1, 10), (Some(true), small), "what shrinks gives back");
    assert_eq!(update(4, 1, 2 << 20).0, Some(false));
    assert_eq!((update(5, 1 << 20, 10), latest.hidden()), ((None, 0), 1));
    assert_eq!(update(6, 1, 10), (Some(true), small), "it comes back when it fits");
}
