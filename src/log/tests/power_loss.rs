//! What a power failure leaves, at any moment and in any order of what was not safe, opens as what was acknowledged.

use super::*;

/// A disk that saw the whole life of a log.
struct Life {
    /// Its moments, each with the number of records acknowledged by then.
    moments: Vec<(u64, Memory)>,
    /// What was appended, in order: text and samples.
    records: Vec<(String, u64)>,
}

const CURSORS: [&str; 2] = ["fast", "slow"];

fn small_segments(ack: Ack) -> LogConfig {
    LogConfig { ack, segment_bytes: 4000, ..config() }
}

/// Forty rounds of appends from that many clients at once; the cursors follow, one more slowly.
fn life(ack: Ack, clients: u64) -> Life {
    let storage = Memory::default();
    storage.remember_moments();
    let log = Arc::new(open(&storage, small_segments(ack)));
    let cursors = CURSORS.map(|name| log.cursor(name).unwrap());
    let mut records = Vec::new();
    for round in 0..40 {
        let numbers = round * clients..(round + 1) * clients;
        let batches: Vec<_> = numbers.map(|number| batch(&log, number, number * 7 % 30)).collect();
        records.extend(batches.iter().map(|batch| (text(&log, batch), batch.samples.len() as u64)));
        let answers = append_all(&log, batches);
        assert!(answers.iter().all(Result::is_ok));
        storage.mark(records.len() as u64);
        for (cursor, every) in cursors.iter().zip([3, 11]) {
            if round % every == every - 1 {
                move_to_end(&log, cursor);
                log.upkeep();
            }
        }
    }
    run(log.close());
    Life { moments: storage.moments(), records }
}

impl Life {
    /// Opens a picture of a moment at which so many records were acknowledged; the log must hold them, for every cursor.
    fn open(&self, acknowledged: u64, storage: &Memory, ack: Ack, what: &str) {
        let log = Log::open_on(Arc::new(storage.clone()), small_segments(ack), table());
        let log = log.unwrap_or_else(|error| panic!("{what}: {error}"));
        let end = log.end();
        assert!(end.seq <= self.records.len() as u64, "{what}: nothing is invented");
        assert_eq!(end.ordinal, self.samples(0..end.seq), "{what}");
        let (accepted, ordinal) = log.totals();
        assert_eq!((accepted.iter().sum::<u64>(), ordinal), (end.ordinal, end.ordinal), "{what}");
        for name in CURSORS {
            let Ok(cursor) = log.cursor(name) else { panic!("{what}: no cursor") };
            let state = cursor.state();
            assert!(state.adds_up() && state.seq <= end.seq, "{what}: {state:?}");
            assert_eq!(state.ordinal, self.samples(0..state.seq), "{what}: {state:?}");
            assert!(state.dropped.is_empty(), "{what}: what was not delivered was not deleted: {state:?}");
            let (read, losses) = drain(&log, state.position());
            for (seq, text) in &read {
                assert_eq!(text, &self.records[*seq as usize].0, "{what}: altered");
            }
            if ack == Ack::Durable {
                assert!(end.seq >= acknowledged && state.seq <= acknowledged, "{what}");
                // What nobody was told to be safe may be found in part; then it is lost and counted, whole.
                assert!(losses.iter().all(|(first, ..)| *first >= acknowledged), "{what}: {losses:?}");
            }
            let lost: u64 = losses.iter().map(|(first, next, _)| next - first).sum();
            assert_eq!(state.seq + read.len() as u64 + lost, end.seq, "{what}");
        }
        let batch = batch(&log, 999, 2);
        let expected = text(&log, &batch);
        assert_eq!(run(log.append(batch)), Ok(end.seq), "{what}");
        assert_eq!(drain(&log, end).0, [(end.seq, expected)], "{what}");
    }

    fn samples(&self, records: std::ops::Range<u64>) -> u64 {
        self.records[records.start as usize..records.end as usize].iter().map(|(_, samples)| samples).sum()
    }
}

fn pictures() -> u64 {
    if long() { 200 } else { 4 }
}

#[test]
fn every_power_failure_leaves_what_was_acknowledged_by_then() {
    for clients in [1, 8] {
        let life = life(Ack::Durable, clients);
        assert!(life.moments.len() > 30, "{}", life.moments.len());
        let mut different = 0;
        for (number, (acknowledged, moment)) in life.moments.iter().enumerate() {
            let strict = moment.survivors();
            life.open(
                *acknowledged,
                &Memory::from_image(&strict),
                Ack::Durable,
                &format!("moment {number}, nothing unsafe arrived"),
            );
            for seed in 0..pictures() {
                let what = format!("{clients} clients, moment {number}, seed {seed}");
                let image = moment.after_power_failure(seed);
                different += u64::from(image != strict);
                life.open(*acknowledged, &Memory::from_image(&image), Ack::Durable, &what);
            }
        }
        println!("{} moments, {different} pictures in which something else arrived", life.moments.len());
        assert!(different > life.moments.len() as u64);
    }
}

#[test]
fn a_power_failure_during_recovery_costs_nothing_more() {
    let life = life(Ack::Durable, 8);
    let every = if long() { 1 } else { 4 };
    for (number, (acknowledged, moment)) in life.moments.iter().enumerate().step_by(every) {
        let storage = Memory::from_image(&moment.after_power_failure(number as u64));
        storage.remember_moments();
        drop(open(&storage, small_segments(Ack::Durable)));
        for (again, (_, moment)) in storage.moments().into_iter().enumerate() {
            for seed in 0..3 {
                let what = format!("moment {number}, moment {again} of its recovery, seed {seed}");
                let image = moment.after_power_failure(seed);
                life.open(*acknowledged, &Memory::from_image(&image), Ack::Durable, &what);
            }
        }
        // And a disk that refuses every change of the recovery in turn: it fails, or it does not need it.
        for allowed in 0..8 {
            let storage = Memory::from_image(&moment.after_power_failure(number as u64));
            storage.fail_after(allowed, EIO);
            drop(Log::open_on(Arc::new(storage.clone()), small_segments(Ack::Durable), table()));
            let what = format!("moment {number}, recovery refused after {allowed} changes");
            life.open(*acknowledged, &Memory::from_image(&storage.live()), Ack::Durable, &what);
        }
    }
}

#[test]
fn ack_memory_loses_no_more_than_the_end_and_invents_nothing() {
    let life = life(Ack::Memory, 1);
    for (number, (acknowledged, moment)) in life.moments.iter().enumerate() {
        for seed in 0..pictures() {
            let what = format!("moment {number}, seed {seed}");
            life.open(*acknowledged, &Memory::from_image(&moment.after_power_failure(seed)), Ack::Memory, &what);
        }
        // The process alone died: nothing is lost.
        let log = open(&Memory::from_image(&moment.live()), small_segments(Ack::Memory));
        assert!(log.end().seq >= *acknowledged, "moment {number}");
    }
}

#[test]
fn what_a_log_shows_after_its_process_was_killed_survives_a_power_failure() {
    for ack in [Ack::Memory, Ack::Durable] {
        for (number, (acknowledged, moment)) in life(ack, 8).moments.into_iter().enumerate() {
            let log = open(&moment, small_segments(ack));
            assert!(log.end().seq >= acknowledged, "moment {number}");
            let after = open(&Memory::from_image(&moment.survivors()), small_segments(ack));
            let first = log.stats().first;
            assert_eq!(
                (after.end(), drain(&after, first)),
                (log.end(), drain(&log, first)),
                "{ack:?}, moment {number}"
            );
        }
    }
}

#[test]
fn the_names_of_the_logs_directories_are_safe_before_anything_is_acknowledged() {
    let storage = Memory::default();
    let deep = LogConfig { dir: "/var/lib/deep/log".into(), ..config() };
    let log = open(&storage, deep.clone());
    run(log.append(batch(&log, 1, 3))).unwrap();
    for seed in 0..20 {
        let log = open(&Memory::from_image(&storage.after_power_failure(seed)), deep.clone());
        assert_eq!(log.end(), Position { seq: 1, ordinal: 3 });
    }
}

/// A group that the disk had no room for is taken back; a power failure may undo that, behind the end of the segment.
#[test]
fn a_refused_group_that_comes_back_does_not_stand_in_for_the_next_segment() {
    let append = |image: Image, numbers: &[u64]| {
        let storage = Memory::from_image(&image);
        let log = open(&storage, small_segments(Ack::Durable));
        let _holds = log.cursor("a").unwrap();
        let texts: Vec<_> = numbers
            .iter()
            .map(|number| {
                let batch = batch(&log, *number, 3);
                let text = text(&log, &batch);
                run(log.append(batch)).unwrap();
                text
            })
            .collect();
        (storage.survivors(), texts)
    };
    let segment = PathBuf::from("/log/segments").join(segment_name(0));
    let (first, mut expected) = append(Image::new(), &[0]);
    // A restart begins a segment.
    let (mut image, more) = append(first.clone(), &[1, 2]);
    expected.extend(more);
    let (came_back, _) = append(Image::new(), &[0, 7, 8, 9]);
    assert!(!first[&segment].is_empty() && image.len() > first.len());
    let end = image[&segment].len();
    // Its own first record, as it was; then what came back.
    let tail = came_back[&segment][end..].to_vec();
    image.get_mut(&segment).unwrap().extend(tail);
    let log = open(&Memory::from_image(&image), small_segments(Ack::Durable));
    let (records, losses) = drain(&log, Position::default());
    assert_eq!(records.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), expected);
    assert_eq!(losses, []);
}
