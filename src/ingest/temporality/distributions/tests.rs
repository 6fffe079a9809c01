use super::*;
use crate::ingest::temporality::Origin;
use crate::micrometer::{Mode, Profile};
use crate::model::{BatchBuilder, Format, IdMap, Loss, TableBounds};
use crate::wire::wavefront::decode::{Options, decode};
use proptest::prelude::*;
use std::sync::Arc;

/// The beginning of a minute, in seconds.
const MINUTE_BEGINS: i64 = 1_700_000_040;
/// A count, a sum, a largest value, buckets, and the one of all.
const OF_TIMER: usize = 3 + 68 + 1;

struct Gateway {
    tallies: Tallies,
    table: SeriesTable,
}

impl Gateway {
    fn new(mode: Mode) -> Self {
        let profile = Profile { mode, ..Profile::default() };
        let tallies = Tallies { makes_buckets: true, ..Tallies::new(Arc::new(profile)) };
        Self { tallies, table: SeriesTable::default() }
    }

    /// Takes lines as the intake does.
    fn report(&self, lines: &str) -> Batch {
        let (batch, without_room) = self.taken(lines);
        assert_eq!(without_room, 0);
        batch
    }

    fn taken(&self, lines: &str) -> (Batch, u64) {
        let now = (MINUTE_BEGINS + 300) * 1_000_000_000;
        let mut builder = BatchBuilder::new(&self.table, Format::Wavefront, Vec::new());
        let options = Options { centroids_max: usize::MAX, limits: None, ..Options::at(now) };
        let report = decode(lines.as_bytes(), &options, &mut builder);
        assert_eq!(report.refused(), 0, "{:?}", report.first);
        let mut batch = builder.finish();
        let without_room = self.tallies.expand(&mut batch, &self.table, self.table.account(b"sender"));
        self.tallies.restate(&mut batch, &self.table, Origin::Connected, now);
        (batch, without_room)
    }

    /// Statistics by name and bound, each with its value, the sum of it, and the second it stands at.
    fn statistics(&self, batch: &Batch) -> Vec<String> {
        let made = batch.samples.iter().enumerate().filter(|(_, sample)| sample.is_made_here());
        let show = |(index, sample): (usize, &crate::model::Sample)| {
            let series = self.table.series(sample.series).unwrap();
            let bound = series.label("le").map(|bound| format!(" {bound}")).unwrap_or_default();
            let Value::F64(value) = batch.value(sample) else { panic!("a number") };
            let restated = batch.restated.iter().find(|(at, _)| *at as usize == index);
            let sum = restated.map(|(_, restated)| format!(" of {}", restated.value)).unwrap_or_default();
            let second = sample.timestamp / 1_000_000_000 - MINUTE_BEGINS;
            let field = series.name.field_key().unwrap();
            format!("{}.{field}{bound} {value}{sum} at {second}", series.name.measurement())
        };
        made.map(show).collect()
    }

    /// The sums of counts.
    fn counts(&self, lines: &str) -> Vec<String> {
        let statistics = self.statistics(&self.report(lines));
        statistics.into_iter().filter(|text| text.contains(".count ")).collect()
    }
}

/// A line of the minute that many after the first.
fn line(minute: i64, centroids: &str, name: &str) -> String {
    format!("!M {} {centroids} {name} source=s\n", MINUTE_BEGINS + 60 * minute)
}

#[test]
fn a_timer_is_told_by_a_row_and_its_buckets() {
    let gateway = Gateway::new(Mode::Auto);
    gateway.report(&line(0, "#1 0.25", "http.client.requests"));
    let batch = gateway.report(&line(1, "#2 0.01 #1 0.5 #1 31", "http.client.requests"));
    let told = gateway.statistics(&batch);
    assert_eq!(told.len(), OF_TIMER);
    let row = [
        "http_client_requests.count 4 of 5 at 120",
        "http_client_requests.sum 31520 of 31770 at 120",
        "http_client_requests.upper 31000 at 120",
    ];
    assert_eq!(told[..3], row);
    for (bound, value) in [
        ("1 ", "0 of 0"),
        ("1.048576", "0 of 0"),
        ("9.786708", "0 of 0"),
        ("11.184809", "2 of 2"),
        ("246.065832", "2 of 2"),
        ("268.435456", "2 of 3"),
        ("536.870911", "3 of 4"),
        ("30000", "3 of 4"),
        ("+Inf", "4 of 5"),
    ] {
        let bucket = format!("http_client_requests_histogram.value {} {value} at 120", bound.trim());
        assert!(told.contains(&bucket), "{bucket}\n{}", told.join("\n"));
    }
    let dialects = [Dialect::Prometheus, Dialect::Influx, Dialect::Wavefront];
    let left_out = |at: usize| dialects.map(|of| batch.samples[at].left_out(of));
    assert_eq!(left_out(0), [Some(Loss::Distribution), Some(Loss::Distribution), None]);
    assert_eq!(left_out(1), [None, None, Some(Loss::Derived)], "a count");
    for bucket in [4, OF_TIMER] {
        assert_eq!(left_out(bucket), [None, Some(Loss::Derived), Some(Loss::Derived)]);
    }
}

#[test]
fn a_summary_has_a_row_in_its_own_unit_and_no_buckets() {
    let gateway = Gateway::new(Mode::Always);
    let told = gateway.statistics(&gateway.report(&line(0, "#1 5 #1 7.5", "body.bytes")));
    assert_eq!(
        told,
        ["body_bytes.count 2 of 2 at 60", "body_bytes.sum 12.5 of 12.5 at 60", "body_bytes.upper 7.5 at 60"]
    );
}

#[test]
fn its_tags_are_those_of_a_row() {
    let gateway = Gateway::new(Mode::Auto);
    let line = "!M 1700000040 #1 2 my.timer source=\"a b\" \"application.guid\"=\"g\" \"quoted\"=\"\\\\\"x\"\n";
    let batch = gateway.report(line);
    let series = gateway.table.series(batch.samples[1].series).unwrap();
    let labels: Vec<_> = series.labels.iter().map(|pair| format!("{}={}", pair.name, pair.value)).collect();
    assert_eq!(labels, ["application_guid=g", "metric_type=histogram", "quoted=\\\"x", "source=a b"]);
}

#[test]
fn a_distribution_that_comes_twice_or_late_counts_once() {
    let gateway = Gateway::new(Mode::Auto);
    let name = "http.client.requests";
    let count = |value: &str| vec![format!("http_client_requests.count {value}")];
    assert_eq!(gateway.counts(&line(0, "#2 1", name)), count("2 of 2 at 60"));
    assert_eq!(gateway.counts(&line(0, "#2 1", name)), count("2 of 2 at 60"), "again");
    assert_eq!(gateway.counts(&line(2, "#3 1", name)), count("3 of 5 at 180"));
    assert_eq!(gateway.counts(&line(1, "#4 1", name)), count("4 at 120"), "late: a row, and no sum");
    let twice = [line(3, "#5 1", name), line(3, "#5 1", name)].concat();
    assert_eq!(gateway.counts(&twice), [count("5 of 10 at 240"), count("5 of 10 at 240")].concat());
}

#[test]
fn sums_go_on_after_a_crash() {
    let name = "http.client.requests";
    let first = Gateway::new(Mode::Auto);
    let records: Vec<_> = [0, 1].map(|minute| first.report(&line(minute, "#2 1", name))).into();
    let second = Gateway::new(Mode::Auto);
    for record in &records {
        second.tallies.recall(record, &first.table, &mut IdMap::default());
    }
    assert_eq!(second.counts(&line(1, "#2 1", name)), ["http_client_requests.count 2 of 4 at 120"], "sent again");
    let told = second.statistics(&second.report(&line(2, "#1 1", name)));
    assert!(told.contains(&"http_client_requests.count 1 of 5 at 180".to_owned()), "{told:?}");
    assert!(told.contains(&"http_client_requests_histogram.value 1073.741824 1 of 5 at 180".to_owned()));
}

#[test]
fn what_is_not_of_micrometer_or_no_counter_can_add_stays_as_it_is() {
    let timer = "http.client.requests";
    let cases = [
        (Mode::Auto, line(0, "#1 1", "my.timer")),
        (Mode::Never, line(0, "#1 1", timer)),
        (Mode::Auto, line(0, "#1 1", "jvm.memory.used")),
        (Mode::Always, line(0, "#1 1", "~internal")),
        (Mode::Always, line(0, "#1 1", "spring.cloud.task.active")),
        (Mode::Always, line(0, "#1 1", "my.task.active")),
        (Mode::Auto, format!("!H 1700000040 #1 1 {timer} source=s\n")),
        (Mode::Auto, format!("!D 1700000040 #1 1 {timer} source=s\n")),
        (Mode::Auto, format!("!M #1 1 {timer} source=s\n")),
        (Mode::Auto, line(0, "#1 1 #1 -2", timer)),
        (Mode::Auto, line(0, "#2 1 #-1 2", timer)),
        (Mode::Auto, line(0, "#1 1e999", timer)),
        (Mode::Auto, line(0, "#2 1e308", timer)),
        (Mode::Auto, line(0, "#1 1e306", timer)),
    ];
    for (mode, line) in cases {
        let batch = Gateway::new(mode).report(&line);
        let is_expanded = batch.samples[0].flags.contains(SampleFlags::EXPANDED);
        assert_eq!((batch.samples.len(), is_expanded), (1, false), "{mode:?} {line}");
    }
}

#[test]
fn buckets_are_told_with_their_count_or_not_at_all() {
    let mut gateway = Gateway::new(Mode::Auto);
    // The distribution and a part of its statistics, and those of no further one.
    let bounds = TableBounds { series_per_source_max: OF_TIMER / 2, ..TableBounds::default() };
    gateway.table = SeriesTable::new(bounds);
    let (batch, without_room) = gateway.taken(&line(0, "#1 1", "http.client.requests"));
    assert_eq!((batch.samples.len(), without_room, gateway.table.len()), (1, 1, 1), "none of them takes room");
    assert_eq!(
        batch.samples[0].left_out(Dialect::Prometheus),
        Some(Loss::Distribution),
        "told, and not as another series"
    );
}

#[test]
fn a_request_has_so_many_distributions_told_and_the_others_are_counted() {
    let gateway = Gateway::new(Mode::Always);
    let (batch, without_room) = gateway.taken(&line(0, "#1 1", "s.bytes").repeat(DISTRIBUTIONS_MAX + 5));
    assert_eq!((batch.samples.len(), without_room), (DISTRIBUTIONS_MAX * 4 + 5, 5));
}

proptest! {
    /// Whatever a distribution says: no panic, and buckets that grow up to their count.
    #[test]
    fn buckets_are_cumulative(centroids in proptest::collection::vec((any::<i32>(), any::<f64>()), 1..2000)) {
        let centroids: Vec<_> = centroids.iter().map(|(count, mean)| format!("#{} {:e}", count.saturating_abs(), mean.abs())).collect();
        let gateway = Gateway::new(Mode::Auto);
        let batch = gateway.report(&line(0, &centroids.join(" ").replace("NaN", "1"), "http.client.requests"));
        let value = |sample: &crate::model::Sample| match batch.value(sample) { Value::F64(value) => value, _ => 0.0 };
        let values: Vec<_> = batch.samples.iter().map(value).collect();
        if values.len() > 1 {
            prop_assert_eq!(values.len(), 1 + OF_TIMER);
            prop_assert!(values[4..].is_sorted(), "{:?}", values);
            prop_assert_eq!(values[1].to_bits(), values[OF_TIMER].to_bits());
        }
    }
}
