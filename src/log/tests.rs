//! The log under attack: storage that fails, pictures of crashes, cut tails, flipped bytes; a list as the model.

use super::storage::memory::{Change, EDQUOT, EIO, ENOSPC, EROFS, Image, Memory};
use super::verify::verify_on;
use super::*;
use crate::clock;
use crate::model::{
    BatchBuilder, Centroid, Counts, Distribution, Exemplar, Granularity, Metadata, MetricType, NativeHistogram,
    ResetHint, Restated, STALE_MARKER_BITS, SampleFlags, SeriesSpec, Span, TableBounds, Value,
};
use std::borrow::Cow;
use std::fmt::Write;

mod damage;
mod faults;
mod full;
mod power_loss;
mod recall;
mod upgrade;

/// Records as (seq, text), losses as (first, next, samples).
type Drained = (Vec<(Seq, String)>, Vec<(Seq, Seq, u64)>);

fn table() -> Arc<SeriesTable> {
    Arc::new(SeriesTable::default())
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 1 << 20, bytes_max: 1 << 24, memory_bytes: 0, ..LogConfig::new("/log") }
}

fn open(storage: &Memory, config: LogConfig) -> Log {
    Log::open_on(Arc::new(storage.clone()), config, table()).unwrap()
}

/// Whether the long versions of the attacks were asked for.
fn long() -> bool {
    std::env::var_os("SLUICEGATE_LONG").is_some()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Appends them from as many clients at once, in that order.
fn append_all(log: &Arc<Log>, batches: Vec<Batch>) -> Vec<Result<Seq, AppendError>> {
    run(async {
        let append = |batch| {
            let log = Arc::clone(log);
            tokio::spawn(async move { log.append(batch).await })
        };
        let appends: Vec<_> = batches.into_iter().map(append).collect();
        let mut answers = Vec::new();
        for append in appends {
            answers.push(append.await.unwrap());
        }
        answers
    })
}

/// A batch of that many samples over a few series, all different.
fn batch(log: &Log, number: u64, samples: u64) -> Batch {
    let table = &log.shared.table;
    let mut builder = BatchBuilder::new(table, Format::InfluxLine, Vec::new());
    for index in 0..samples {
        let name = format!("m{}", (number + index) % 5);
        let alias = builder.alias(name.as_bytes());
        let labels = vec![(Cow::from("host"), Cow::from("a"))];
        let spec = SeriesSpec { measurement: &name, field: Some("value"), labels, metadata: None };
        let id = builder.define(alias, spec).unwrap();
        builder.push(id, (number * 1000 + index) as i64, Value::I64((number * 7 + index) as i64), SampleFlags::NONE);
    }
    builder.finish()
}

/// A batch with every kind of value, start timestamps, exemplars and metadata.
fn every_kind_of_value(log: &Log, format: Format) -> Batch {
    let metadata =
        Metadata { family: "f".into(), metric_type: MetricType::Summary, help: "h".into(), unit: "s".into() };
    let mut builder = BatchBuilder::new(&log.shared.table, format, Vec::new());
    let spec = |field| SeriesSpec {
        measurement: "é",
        field,
        labels: vec![("le".into(), "1.0".into()), ("a".into(), "b\n".into())],
        metadata: Some(Arc::new(metadata.clone())),
    };
    let ids = [
        builder.define(builder.alias(b"1"), spec(None)).unwrap(),
        builder.define(builder.alias(b"2"), spec(Some(""))).unwrap(),
    ];
    let histogram = |counts| NativeHistogram {
        schema: -53,
        zero_threshold: 1e-9,
        sum: -0.0,
        counts,
        positive_spans: vec![Span { offset: i32::MIN, length: 1 }, Span { offset: 3, length: u32::MAX }],
        negative_spans: vec![],
        custom_values: vec![0.5, 1.0],
        reset_hint: ResetHint::Gauge,
    };
    let integer = histogram(Counts::Integer {
        count: u64::MAX,
        zero_count: 1,
        positive_deltas: vec![i64::MIN, i64::MAX],
        negative_deltas: vec![],
    });
    let float = histogram(Counts::Float {
        count: 1.5,
        zero_count: 0.0,
        positive_counts: vec![1.0],
        negative_counts: vec![2.0],
    });
    let centroids = vec![Centroid { count: -1, mean: 2.5 }, Centroid { count: i32::MAX, mean: 1e300 }];
    let distribution = Distribution { granularity: Granularity::Day, centroids };
    let values = [
        Value::F64(f64::from_bits(STALE_MARKER_BITS)),
        Value::F64(-0.0),
        Value::I64(i64::MIN),
        Value::U64(u64::MAX),
        Value::Bool(true),
        Value::Bool(false),
        Value::Str("text"),
        Value::Str(""),
        Value::Histogram(&integer),
        Value::Histogram(&float),
        Value::Distribution(&distribution),
    ];
    for (index, value) in values.into_iter().enumerate() {
        let timestamp = [i64::MIN, i64::MAX, 0][index % 3];
        builder.push(ids[index % 2], timestamp, value, SampleFlags(index as u8));
        if index % 4 == 1 {
            builder.start_timestamp([i64::MAX, i64::MIN, 5][index % 3]);
        }
    }
    for (timestamp, sample) in [(None, None), (Some(i64::MIN), None), (None, Some(0)), (Some(0), Some(1))] {
        let labels = vec![("trace".into(), "x".into())];
        builder.exemplar(Exemplar { series: ids[1], sample, labels, value: 0.25, timestamp });
    }
    builder.metadata(metadata.clone());
    let mut batch = builder.finish();
    let restated = |value, start| Restated { value, start };
    batch.restated = vec![(0, restated(-0.0, i64::MAX)), (1, restated(f64::MAX, 5)), (10, restated(2.5, i64::MIN))];
    batch
}

/// Everything a batch holds, in words.
fn text(log: &Log, batch: &Batch) -> String {
    let series = |id| {
        let series = batch.series(id, &log.shared.table).unwrap();
        format!("{:?} {:?} {:?} {:?}", series.dialect, series.name, series.labels, series.metadata)
    };
    let mut text = format!("{:?}\n", batch.format);
    for (index, sample) in batch.samples.iter().enumerate() {
        let value = match batch.value(sample) {
            Value::F64(value) => format!("bits {:x}", value.to_bits()),
            value => format!("{value:?}"),
        };
        let start = batch.start_of(index);
        writeln!(text, "{} {} {:?} {value} {start:?}", series(sample.series), sample.timestamp, sample.flags).unwrap();
    }
    for exemplar in &batch.exemplars {
        let Exemplar { sample, labels, value, timestamp, .. } = exemplar;
        let sample = sample.map_or_else(String::new, |index| format!(" of sample {index}"));
        writeln!(text, "{} {labels:?} {value} {timestamp:?}{sample}", series(exemplar.series)).unwrap();
    }
    let restated = if batch.restated.is_empty() { String::new() } else { format!(" {:?}", batch.restated) };
    text + &format!("{:?}{restated}", batch.metadata)
}

/// What a reader gets from there to the end of the log: (seq, text) and losses as (first, next, samples).
fn drain(log: &Log, from: Position) -> Drained {
    let (mut records, mut losses) = (Vec::new(), Vec::new());
    run(async {
        let mut reader = log.reader(from);
        while reader.position().seq < log.end().seq {
            let before = reader.position();
            match reader.next().await.unwrap() {
                Entry::Record(record) => {
                    assert_eq!(record.ordinal, before.ordinal);
                    records.push((record.seq, text(log, &record.batch)));
                }
                Entry::Lost { gap, .. } => {
                    assert_eq!(gap.first, before.seq);
                    losses.push((gap.first, gap.next, gap.samples));
                }
            }
        }
        assert_eq!(reader.position(), log.end(), "every sample is accounted for");
    });
    (records, losses)
}

/// A log of three batches of 1, 2 and 3 samples, written one by one.
fn small() -> (Image, Vec<(Seq, String)>, PathBuf) {
    let storage = Memory::default();
    let log = open(&storage, config());
    let expected = (0..3_u64)
        .map(|number| {
            let batch = batch(&log, number, number + 1);
            let text = text(&log, &batch);
            (run(log.append(batch)).unwrap(), text)
        })
        .collect();
    run(log.close());
    let path = log.shared.segment_path(0);
    (storage.survivors(), expected, path)
}

#[test]
fn every_kind_of_value_comes_back_alike_from_memory_and_disk() {
    let storage = Memory::default();
    let log = open(&storage, LogConfig { memory_bytes: 1 << 20, ..config() });
    let batch = every_kind_of_value(&log, Format::OpenMetrics);
    let expected = text(&log, &batch);
    run(log.append(batch)).unwrap();
    let from_memory = drain(&log, Position::default());
    log.shared.state.lock().tail.clear();
    let from_disk = drain(&log, Position::default());
    run(log.close());
    let full_table = Arc::new(SeriesTable::new(TableBounds { bytes_max: 0, idle_sweeps: 1, ..TableBounds::default() }));
    let reopened = Log::open_on(Arc::new(Memory::from_image(&storage.survivors())), config(), full_table).unwrap();
    let into_full_table = drain(&reopened, Position::default());
    for drained in [from_memory, from_disk, into_full_table] {
        assert_eq!(drained, (vec![(0, expected.clone())], vec![]));
    }
}

#[test]
fn a_tail_cut_at_any_byte_keeps_every_record_before_the_cut() {
    let (image, expected, path) = small();
    let whole = image[&path].clone();
    let mut kept_before = 0;
    for cut in 0..=whole.len() {
        let mut image = image.clone();
        image.get_mut(&path).unwrap().truncate(cut);
        let log = open(&Memory::from_image(&image), config());
        let (records, losses) = drain(&log, Position::default());
        assert_eq!(records, expected[..records.len()], "cut at {cut}");
        assert_eq!(losses, [], "cut at {cut}");
        assert!(records.len() >= kept_before, "cut at {cut}");
        kept_before = records.len();
        let samples = expected[..records.len()].len() as u64;
        assert_eq!(log.accepted(Format::InfluxLine), samples * (samples + 1) / 2);
        // What is appended now goes on from there.
        let batch = batch(&log, 9, 1);
        assert_eq!(run(log.append(batch)), Ok(records.len() as u64));
        assert_eq!(drain(&log, Position::default()).0.len(), records.len() + 1);
    }
    assert_eq!(kept_before, 3);
}

#[test]
fn any_flipped_byte_costs_at_most_its_own_record_and_is_counted() {
    let (image, expected, path) = small();
    let mut lost_most = 0;
    for at in 0..image[&path].len() {
        for bits in [0x01, 0x80, 0xff] {
            let mut image = image.clone();
            image.get_mut(&path).unwrap()[at] ^= bits;
            let storage = Memory::from_image(&image);
            let report = verify_on(&storage, Path::new("/log")).unwrap();
            assert!(!report.sound(), "byte {at}");
            let log = open(&storage, config());
            let (records, losses) = drain(&log, Position::default());
            assert_eq!(records.len() + losses.len(), 3, "byte {at} {bits:x}: {losses:?}");
            assert!(losses.len() <= 1, "byte {at}");
            for (seq, text) in &records {
                assert_eq!(text, &expected[*seq as usize].1, "byte {at}");
            }
            for (first, next, samples) in &losses {
                assert_eq!((*next, *samples), (first + 1, first + 1), "byte {at}");
            }
            assert_eq!(log.accepted(Format::InfluxLine), 6, "byte {at}");
            assert_eq!(report.segments[0].records, records.len() as u64, "byte {at}");
            lost_most = lost_most.max(losses.len());
        }
    }
    assert_eq!(lost_most, 1, "some byte matters");
}

#[test]
fn a_log_whose_disk_fails_accepts_no_more_and_keeps_what_it_acknowledged() {
    for allowed in 0..60 {
        let storage = Memory::default();
        let log = open(&storage, LogConfig { segment_bytes: 1500, ..config() });
        let cursor = log.cursor("holds").unwrap();
        storage.fail_after(allowed, EIO);
        let mut acknowledged = Vec::new();
        let mut failed = false;
        for number in 0..40 {
            let batch = batch(&log, number, 2);
            let text = text(&log, &batch);
            match run(log.append(batch)) {
                Ok(seq) => {
                    assert!(!failed, "acknowledged behind a failure");
                    acknowledged.push((seq, text));
                }
                Err(AppendError::Failed(_)) => failed = true,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(failed && log.healthy().is_err());
        assert_eq!(log.end().seq, acknowledged.len() as u64);
        assert_eq!(drain(&log, Position::default()), (acknowledged.clone(), vec![]));
        storage.recover();
        let batch = batch(&log, 0, 1);
        assert!(matches!(run(log.append(batch)), Err(AppendError::Failed(_))), "not even when the disk is well again");
        drop(cursor);
        let reopened = open(&Memory::from_image(&storage.survivors()), config());
        let (records, losses) = drain(&reopened, Position::default());
        assert_eq!(records[..acknowledged.len()], acknowledged, "after {allowed} changes");
        assert_eq!(losses, []);
    }
}

fn move_to_end(log: &Log, cursor: &Cursor) {
    let end = log.end();
    let dropped = cursor.state().dropped;
    let delivered = end.ordinal - dropped.values().sum::<u64>();
    assert!(cursor.acknowledge(CursorState { seq: end.seq, ordinal: end.ordinal, delivered, dropped }));
}

#[test]
fn a_bug_in_the_writer_is_a_failed_log_that_still_answers() {
    let storage = Memory::default();
    let log = open(&storage, config());
    run(log.append(batch(&log, 0, 2))).unwrap();
    storage.panic_next();
    assert!(run(log.append(batch(&log, 1, 2))).is_err());
    assert!(log.healthy().unwrap_err().contains("a bug"));
    assert!(matches!(run(log.append(batch(&log, 2, 2))), Err(AppendError::Failed(_))));
    assert_eq!(drain(&log, Position::default()).0.len(), 1);
    run(log.close());
    assert_eq!(log.shared.queue.available_permits(), QUEUE_BYTES_MAX, "nothing is held for ever");
    let log = open(&Memory::from_image(&storage.live()), config());
    assert_eq!(drain(&log, Position::default()).0.len(), 1);
}

#[test]
fn a_bug_in_the_upkeep_shows_until_the_next_one_succeeds() {
    let storage = Memory::default();
    let log = open(&storage, config());
    let cursor = log.cursor("a").unwrap();
    run(log.append(batch(&log, 0, 2))).unwrap();
    storage.panic_next();
    move_to_end(&log, &cursor);
    // Two rounds: the one that meets the bug, and the next.
    std::thread::sleep(UPKEEP_INTERVAL * 5);
    assert_eq!(log.healthy(), Ok(()));
    run(log.close());
    drop((log, cursor));
    let log = open(&Memory::from_image(&storage.survivors()), config());
    assert_eq!(log.cursor("a").unwrap().state().ordinal, 2, "the upkeep goes on");
}

#[test]
fn old_batches_leave_memory_and_are_read_from_disk() {
    let log = open(&Memory::default(), LogConfig { memory_bytes: 1 << 20, ..config() });
    for number in 0..5 {
        run(log.append(batch(&log, number, 3))).unwrap();
    }
    let before = drain(&log, Position::default());
    let later = clock::now() + MEMORY_AGE_MAX.as_nanos() as i64 + 1;
    let mut state = log.shared.state.lock();
    assert_eq!(state.shorten_tail(1 << 20, later - 2_000_000_000 * 60).len(), 0, "the clock went back");
    assert_eq!(state.shorten_tail(1 << 20, later).len(), 5);
    assert_eq!((state.tail_bytes, state.tail.len()), (0, 0));
    drop(state);
    assert_eq!(drain(&log, Position::default()), before);
    run(log.append(batch(&log, 5, 3))).unwrap();
    assert_eq!(drain(&log, Position::default()).0.len(), 6);
}

#[test]
fn a_batch_leaves_memory_when_all_readers_have_it() {
    let log = open(&Memory::default(), LogConfig { memory_bytes: 1 << 20, ..config() });
    let (mut one, mut other) = (log.reader(Position::default()), log.reader(Position::default()));
    for number in 0..5 {
        run(log.append(batch(&log, number, 3))).unwrap();
    }
    let left = || {
        let mut state = log.shared.state.lock();
        state.shorten_tail(1 << 20, clock::now());
        state.tail.len()
    };
    let read = |reader: &mut Reader, count: u64| {
        for _ in 0..count {
            assert!(matches!(run(reader.next()), Ok(Entry::Record(_))));
        }
    };
    read(&mut one, 5);
    assert_eq!(left(), 5, "the other has none");
    read(&mut other, 2);
    assert_eq!(left(), 3);
    drop(other);
    assert_eq!((left(), log.shared.state.lock().tail_bytes), (0, 0), "nobody waits for the rest");
    run(log.append(batch(&log, 5, 3))).unwrap();
    assert_eq!(left(), 1);
    read(&mut one, 1);
    assert_eq!(drain(&log, Position::default()).0.len(), 6);
}

#[test]
fn what_was_trimmed_in_good_order_is_no_damage_to_a_reader_that_lags() {
    let log = open(&Memory::default(), LogConfig { segment_bytes: 3000, ..config() });
    let mut reader = log.reader(Position::default());
    for number in 0..40 {
        run(log.append(batch(&log, number, 20))).unwrap();
    }
    log.upkeep();
    let Entry::Lost { gap, why } = run(reader.next()).unwrap() else { panic!("nobody waits for it") };
    assert_eq!((why, gap.next), (LostWhy::Trimmed, log.stats().first.seq));
    assert_eq!(log.stats().damage, Damage::default());
}

#[test]
fn cursors_survive_restarts_and_hold_the_log() {
    let storage = Memory::default();
    let log = open(&storage, LogConfig { segment_bytes: 2000, ..config() });
    let (fast, slow) = (log.cursor("fast/one").unwrap(), log.cursor("slow").unwrap());
    assert!(matches!(log.cursor("slow"), Err(LogError::CursorInUse(_))));
    for number in 0..50 {
        run(log.append(batch(&log, number, 3))).unwrap();
    }
    move_to_end(&log, &fast);
    let half =
        CursorState { seq: 25, ordinal: 75, delivered: 70, dropped: BTreeMap::from([("relabel".to_owned(), 5)]) };
    assert!(slow.acknowledge(half.clone()));
    assert!(!slow.acknowledge(CursorState { delivered: 71, ..half.clone() }), "does not add up");
    assert!(!slow.acknowledge(CursorState::default()), "goes back");
    run(log.close());
    let first = log.stats().first;
    assert!(first.seq > 0 && first.seq <= 25, "trimmed up to the slow one: {first:?}");
    drop((log, fast, slow));

    let log = open(&Memory::from_image(&storage.survivors()), config());
    let (slow, late) = (log.cursor("slow").unwrap(), log.cursor("late").unwrap());
    assert_eq!(slow.state(), half);
    assert_eq!(drain(&log, slow.state().position()).0.len(), 25);
    assert_eq!(late.state().dropped, BTreeMap::from([("before_output".to_owned(), first.ordinal)]));
    assert!(late.state().adds_up());
    assert_eq!(log.cursor("fast/one").unwrap().state().seq, 50);
    assert_eq!(log.accepted(Format::InfluxLine), 150);
}

#[test]
fn a_cursor_ahead_of_a_lost_tail_keeps_its_numbers_from_being_reused() {
    let (mut image, _, path) = small();
    let state = CursorState { seq: 3, ordinal: 6, delivered: 6, dropped: BTreeMap::new() };
    image.insert("/log/cursors/a.json".into(), serde_json::to_vec(&state).unwrap());
    for cut in 0..image[&path].len() {
        let mut image = image.clone();
        image.get_mut(&path).unwrap().truncate(cut);
        let log = open(&Memory::from_image(&image), config());
        assert_eq!(log.end(), Position { seq: 3, ordinal: 6 }, "cut at {cut}");
        assert_eq!(Format::ALL.iter().map(|format| log.accepted(*format)).sum::<u64>(), 6);
        assert_eq!(run(log.append(batch(&log, 7, 1))), Ok(3));
        drain(&log, Position::default());
    }
}

#[test]
fn a_second_process_is_kept_out_and_files_on_disk_do_as_those_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { dir: dir.path().to_owned(), segment_bytes: 4000, ..config() };
    let log = Log::open(config.clone(), table()).unwrap();
    let cursor = log.cursor("..").unwrap();
    assert!(matches!(Log::open(config.clone(), table()), Err(LogError::Locked(_))));
    for number in 0..100 {
        run(log.append(batch(&log, number, 3))).unwrap();
    }
    let before = drain(&log, Position::default());
    run(log.close());
    drop((log, cursor));
    assert!(verify(dir.path()).unwrap().sound());
    let log = Log::open(config, table()).unwrap();
    assert_eq!(drain(&log, Position::default()), before);
    assert_eq!(before.0.len(), 100);
}

#[test]
fn a_batch_too_large_leaves_no_trace() {
    let log = open(&Memory::default(), LogConfig { segment_bytes: 4000, ..config() });
    assert!(matches!(run(log.append(batch(&log, 0, 1000))), Err(AppendError::TooLarge { .. })));
    assert_eq!(run(log.append(batch(&log, 0, 3))), Ok(0));
    assert_eq!(drain(&log, Position::default()).0.len(), 1);
}

#[test]
fn waiting_readers_are_woken_and_told_of_the_end() {
    for ack in [Ack::Durable, Ack::Memory] {
        let log = open(&Memory::default(), LogConfig { ack, memory_bytes: 1 << 20, ..config() });
        run(async {
            let mut reader = log.reader(log.end());
            let append = async {
                tokio::task::yield_now().await;
                log.append(batch(&log, 1, 4)).await.unwrap();
                log.close().await;
            };
            let (entry, ()) = tokio::join!(reader.next(), append);
            assert!(matches!(entry, Ok(Entry::Record(record)) if record.batch.samples.len() == 4));
            assert!(matches!(reader.next().await, Err(ReadError::Closed)));
            assert_eq!(log.append(batch(&log, 1, 1)).await, Err(AppendError::Closed));
        });
    }
}
