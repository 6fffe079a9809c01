use super::*;
use crate::model::{BatchBuilder, STALE_MARKER_BITS};

const STEP: i64 = 60_000_000_000;
const SECOND: i64 = 1_000_000_000;

/// What each of those samples (second, value) says, with the second since when it counts.
fn told(temporality: Temporality, origin: Origin, samples: &[(i64, f64)]) -> Vec<Option<(f64, i64)>> {
    let mut known: Option<Tally> = None;
    let tell = |(at, value): &(i64, f64)| {
        let at = at * SECOND;
        let restated = if let Some(tally) = &mut known {
            tally.restate(*value, at, origin, STEP)
        } else {
            let (tally, restated) = Tally::begin(temporality, *value, at, None, origin, STEP)?;
            known = Some(tally);
            restated
        };
        restated.map(|Restated { value, start }| (value, start / SECOND))
    };
    samples.iter().map(tell).collect()
}

#[test]
fn deltas_add_up_and_count_once() {
    let samples = [
        (60, 3.0),
        (120, 4.0),
        (120, 4.0),
        (120, 6.0),
        (90, 5.0),
        (180, 0.0),
        (240, -1.0),
        (240, f64::NAN),
        (300, 0.5),
    ];
    let sums = told(Temporality::Delta, Origin::Scraped, &samples);
    let sum = |value| Some((value, 0));
    assert_eq!(sums, [sum(3.0), sum(7.0), sum(7.0), None, None, sum(7.0), None, None, sum(7.5)]);
}

#[test]
fn what_is_cumulative_is_told_once_a_step() {
    let samples = [(70, 100.0), (80, 101.0), (130, 105.0), (170, 106.0), (181, 106.0), (250, 4.0), (310, 4.0)];
    let of = |origin| told(Temporality::Cumulative, origin, &samples);
    let steps = [None, Some((5.0, 70)), None, Some((1.0, 130)), Some((4.0, 181)), Some((0.0, 250))];
    assert_eq!(of(Origin::Scraped), [&[None], &steps[..]].concat(), "what was before the first is not new");
    assert_eq!(of(Origin::Connected), [&[Some((100.0, 10))], &steps[..]].concat());
    let pushed = of(Origin::Pushed);
    let all: f64 = pushed.iter().flatten().map(|(value, _)| value).sum();
    assert!((all - 110.0).abs() < 1e-9, "all is told at once: {all}");
    assert!(pushed.iter().all(Option::is_some));
}

#[test]
fn a_stale_marker_tells_what_is_left() {
    let stale = f64::from_bits(STALE_MARKER_BITS);
    let samples = [(60, 1.0), (70, 3.0), (80, stale), (90, stale), (120, 5.0)];
    let told = told(Temporality::Cumulative, Origin::Connected, &samples);
    assert_eq!(told, [Some((1.0, 0)), None, Some((2.0, 60)), None, Some((2.0, 80))]);
}

#[test]
fn what_a_silent_counter_has_not_told_is_told_once() {
    use crate::model::{BatchBuilder, Format};
    use crate::wire::prometheus_text::decode::{Options, decode};
    let (tallies, table) = (Tallies::new(Arc::default()), SeriesTable::default());
    for (at, text) in [(60, "m_total{application_guid=\"g\"} 5\n"), (70, "m_total{application_guid=\"g\"} 8\n")] {
        let mut builder = BatchBuilder::new(&table, Format::PrometheusText, Vec::new());
        decode(text.as_bytes(), &Options { now: at * SECOND, timestamp: None }, &mut builder);
        tallies.restate(&mut builder.finish(), &table, Origin::Connected, at * SECOND);
    }
    assert!(tallies.untold(&table, 180 * SECOND).is_empty(), "not silent yet");
    let told = tallies.untold(&table, 200 * SECOND);
    assert_eq!(told.len(), 1);
    let (sample, restated) = (&told[0].samples[0], told[0].restated[0].1);
    assert_eq!((told[0].value(sample), sample.timestamp), (Value::F64(8.0), 70 * SECOND), "its last one again");
    assert_eq!(restated, Restated { value: 3.0, start: 60 * SECOND });
    assert!(tallies.untold(&table, 300 * SECOND).is_empty());
    tallies.take_back(&told[0]);
    assert_eq!(tallies.untold(&table, 300 * SECOND).len(), 1, "the log did not take it");
}

#[test]
fn what_an_application_counted_before_it_found_this_gateway_is_not_new() {
    use crate::model::{BatchBuilder, Format};
    use crate::wire::prometheus_text::decode::{Options, decode};
    let table = SeriesTable::default();
    let told = |tallies: &Tallies, guid: &str, uptime: u32, more: &str| {
        let tag = format!("{{application_guid=\"{guid}\"}}");
        let text = format!("m_total{tag} 5\nprocess_uptime_seconds{tag} {uptime}\n{more}");
        let mut builder = BatchBuilder::new(&table, Format::PrometheusText, Vec::new());
        decode(text.as_bytes(), &Options { now: SECOND, timestamp: None }, &mut builder);
        let mut batch = builder.finish();
        tallies.restate(&mut batch, &table, Origin::Connected, SECOND);
        batch.restated.iter().map(|(_, restated)| restated.value).collect::<Vec<_>>()
    };
    let tallies = Tallies::new(Arc::default());
    assert_eq!(told(&tallies, "young", 119, ""), [5.0]);
    assert_eq!(told(&tallies, "old", 121, ""), [0.0; 0]);
    assert_eq!(told(&tallies, "old", 131, "n_total{application_guid=\"old\"} 1\n"), [1.0], "it counts that since now");
}

#[test]
fn a_companion_goes_with_its_counters() {
    let samples = [(70, 9.0), (80, 8.0), (130, 7.0), (130, 7.0), (140, 6.0), (100, 5.0)];
    let told = told(Temporality::Companion, Origin::Scraped, &samples);
    assert_eq!(told.iter().map(Option::is_some).collect::<Vec<_>>(), [false, false, true, true, false, false]);
}

#[test]
fn what_the_log_did_not_take_is_told_with_the_next_sample() {
    let (mut tally, _) = Tally::begin(Temporality::Cumulative, 10.0, 60 * SECOND, None, Origin::Scraped, STEP).unwrap();
    let at = 120 * SECOND;
    let restated = tally.restate(13.0, at, Origin::Scraped, STEP).unwrap();
    tally.take_back(at, restated);
    let again = tally.restate(13.0, at, Origin::Scraped, STEP).unwrap();
    assert_eq!((again.value, again.start), (3.0, 60 * SECOND));
    tally.take_back(at, again);
    assert_eq!(tally.restate(14.0, 130 * SECOND, Origin::Scraped, STEP).map(|told| told.value), Some(4.0));
}

proptest::proptest! {
    /// Whatever was known when the file was written, and however far the log went on: afterwards the same is known.
    #[test]
    fn a_crash_changes_nothing(
        temporality in proptest::sample::select(vec![
            Temporality::Delta, Temporality::Cumulative, Temporality::Companion,
        ]),
        samples in proptest::collection::vec((1_i64..40, 0_u16..100), 1..30),
        saved in 0_usize..30,
        read_from in 0_usize..30,
    ) {
        let (mut live, mut file, mut records) = (None::<Tally>, None, Vec::new());
        let (mut at, mut total) = (0, 0.0);
        for (index, (pause, value)) in samples.iter().enumerate() {
            if index == saved {
                file = live;
            }
            at += pause * SECOND;
            total += f64::from(*value);
            let value = if temporality == Temporality::Delta { f64::from(*value) } else { total };
            let restated = if let Some(tally) = &mut live {
                tally.restate(value, at, Origin::Scraped, STEP)
            } else {
                let (tally, restated) = Tally::begin(temporality, value, at, None, Origin::Scraped, STEP).unwrap();
                live = Some(tally);
                restated
            };
            records.push((value, at, restated));
        }
        if saved >= samples.len() {
            file = live;
        }
        // The file holds at least what stands before the place where the log is read again.
        for (value, at, restated) in records.into_iter().skip(read_from.min(saved)) {
            match &mut file {
                Some(tally) => tally.recall(value, at, restated),
                None => file = Tally::recalled(temporality, value, at, restated),
            }
        }
        let (mut live, mut file) = (live.unwrap(), file.unwrap());
        if temporality == Temporality::Companion {
            // Between two steps nothing is kept but when it was told.
            (live.last, live.value, file.last, file.value) = (0, 0.0, 0, 0.0);
        }
        (live.seen, file.seen) = (0, 0);
        proptest::prop_assert_eq!(live, file);
    }
}

#[test]
fn counters_go_on_in_another_table_whose_ids_are_of_others() {
    use crate::model::{BatchBuilder, Format};
    use crate::wire::influx_line::decode;
    let tallies = Tallies::new(Arc::default());
    let sums = |rows: &str| {
        tallies.forget_ids();
        let table = SeriesTable::default();
        let mut builder = BatchBuilder::new(&table, Format::InfluxLine, Vec::new());
        decode::decode(rows.as_bytes(), &decode::Options::default(), &mut builder);
        let mut batch = builder.finish();
        tallies.restate(&mut batch, &table, Origin::default(), 0);
        batch.restated.iter().map(|(_, restated)| restated.value).collect::<Vec<_>>()
    };
    assert_eq!(sums("a,metric_type=counter value=1 60000000000\n"), [1.0]);
    let rows = "g,metric_type=gauge value=9 120000000000\nb,metric_type=counter value=2 120000000000\n\
        a,metric_type=counter value=4 120000000000\n";
    assert_eq!(sums(rows), [2.0, 5.0]);
    // A clock that is a day ahead, and right again.
    assert_eq!(sums("a,metric_type=counter value=8 86400000000000\n"), [0.0; 0]);
    assert_eq!(sums("a,metric_type=counter value=1 180000000000\n"), [6.0]);
}

#[test]
fn counters_in_runs_are_told_and_the_other_runs_are_passed_over() {
    use crate::wire::influx_line::decode;
    let table = SeriesTable::default().with_runs(3..=3);
    let tallies = Tallies::new(Arc::default());
    for (round, rows_of_counters) in [0, 3, 0, 3, 3, 3].into_iter().enumerate() {
        let row = |(number, kind): (usize, &str)| format!("m{number},metric_type={kind} value=1 {round}\n");
        let counters = (0..rows_of_counters).map(|number| (number, "counter"));
        let rows: String = (10..16).map(|number| (number, "gauge")).chain(counters).map(row).collect();
        let mut builder = BatchBuilder::new(&table, Format::InfluxLine, Vec::new());
        assert_eq!(decode::decode(rows.as_bytes(), &decode::Options::default(), &mut builder).refused(), 0);
        let mut batch = builder.finish();
        tallies.restate(&mut batch, &table, Origin::default(), 0);
        let indexes: Vec<_> = batch.restated.iter().map(|(index, _)| *index).collect();
        assert_eq!(indexes, (6..6 + rows_of_counters as u32).collect::<Vec<_>>(), "round {round}");
        assert_eq!(batch.runs.len(), [0, 0, 2, 2, 3, 3][round], "round {round}");
    }
    assert_eq!(tallies.counters.lock().plain.len(), 2);
}
