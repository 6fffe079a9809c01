//! A disk that refuses, is full, is slow, or cannot read.

use super::super::cursor::Slot;
use super::*;

fn small_segments() -> LogConfig {
    LogConfig { segment_bytes: 1500, ..config() }
}

/// What a client was told of each append: the text of the batch, and the answer.
type Told = Vec<(String, Result<Seq, AppendError>)>;

/// Appends, begins segments, saves cursors, trims; whatever the disk does meanwhile.
fn live_through(log: &Log, cursor: &Cursor) -> Told {
    (0..30)
        .map(|number| {
            let batch = batch(log, number, number % 4 + 1);
            let text = text(log, &batch);
            let answer = run(log.append(batch));
            if number % 7 == 6 {
                move_to_end(log, cursor);
                log.upkeep();
            }
            (text, answer)
        })
        .collect()
}

/// From where the cursor stands, the log has what it acknowledged, and nothing else but what came last and got no answer.
fn holds(log: &Log, cursor: &Cursor, told: &Told, what: &str) {
    let state = cursor.state();
    assert!(state.adds_up(), "{what}");
    let acknowledged: Vec<_> =
        told.iter().filter_map(|(text, answer)| Some((*answer.as_ref().ok()?, text.clone()))).collect();
    let owed: Vec<_> = acknowledged.iter().filter(|(seq, _)| *seq >= state.seq).cloned().collect();
    let (read, losses) = drain(log, state.position());
    // A group that nobody was told to be safe may be found in part; then it is lost and counted, whole.
    let safe = acknowledged.last().map_or(0, |(seq, _)| seq + 1);
    assert!(losses.iter().all(|(first, ..)| *first >= safe), "{what}: {losses:?}");
    assert!(read.len() >= owed.len(), "{what}: {} of {}", read.len(), owed.len());
    assert_eq!(read[..owed.len()], owed, "{what}");
    for (_, text) in &read[owed.len()..] {
        assert!(told.iter().any(|(told, answer)| told == text && answer.is_err()), "{what}: invented");
    }
}

#[test]
fn one_change_refused_at_any_moment_loses_nothing_that_was_acknowledged() {
    let mut met = BTreeMap::<String, u64>::new();
    for errno in [EIO, EROFS, ENOSPC, EDQUOT] {
        for at in 0.. {
            let what = format!("change {at} refused with {errno}");
            let storage = Memory::default();
            let log = open(&storage, small_segments());
            let cursor = log.cursor("a").unwrap();
            let opened = storage.changes().len();
            storage.fail_once(at, errno);
            let told = live_through(&log, &cursor);
            let changes = storage.changes();
            let Some(refused) = changes[opened..].iter().position(|(.., done)| !done) else { break };
            let (change, path, _) = changes[opened + refused].clone();
            *met.entry(format!("{change:?}")).or_default() += 1;
            let what = format!("{what}, {change:?} {}", path.display());
            let behind = &changes[opened + refused + 1..];
            let failed = told.iter().position(|(_, answer)| matches!(answer, Err(AppendError::Failed(_))));
            if let Some(failed) = failed {
                assert!(path.starts_with("/log/segments"), "{what}");
                assert!(log.healthy().is_err(), "{what}");
                let all_fail = told[failed..].iter().all(|(_, answer)| matches!(answer, Err(AppendError::Failed(_))));
                assert!(all_fail, "{what}: acknowledged behind a failure");
                let written = |(change, path, _): &(Change, PathBuf, bool)| {
                    path.starts_with("/log/segments")
                        && matches!(change, Change::Append | Change::Sync | Change::Create)
                };
                assert!(!behind.iter().any(written), "{what}: {behind:?}");
            } else {
                log.upkeep();
                assert_eq!(log.healthy(), Ok(()), "{what}: it recovers by itself");
            }
            let full = told.iter().filter(|(_, answer)| matches!(answer, Err(AppendError::Full { .. }))).count();
            let segments = path.starts_with("/log/segments");
            match (change, errno) {
                (Change::Append | Change::Create, ENOSPC | EDQUOT) if segments => {
                    assert_eq!((failed, full), (None, 1), "{what}");
                }
                (Change::Append | Change::Create | Change::Sync, _) if segments => assert!(failed.is_some(), "{what}"),
                _ => assert_eq!(full, 0, "{what}"),
            }
            if change == Change::Sync {
                let of_file: Vec<_> = behind.iter().filter(|(_, later, _)| *later == path).collect();
                let again = of_file.iter().take_while(|(change, ..)| *change != Change::Create);
                assert_eq!(
                    again.filter(|(change, ..)| *change == Change::Sync).count(),
                    0,
                    "{what}: an fsync is tried again"
                );
            }
            holds(&log, &cursor, &told, &what);
            run(log.close());
            drop((log, cursor));
            for image in [storage.survivors(), storage.live(), storage.after_power_failure(at)] {
                let log = open(&Memory::from_image(&image), small_segments());
                let cursor = log.cursor("a").unwrap();
                holds(&log, &cursor, &told, &what);
            }
        }
    }
    println!("{met:?}");
    for change in ["Create", "Append", "Sync", "SyncDir", "Rename", "Remove"] {
        assert!(met[change] >= 4, "{change} was refused: {met:?}");
    }
}

#[test]
fn a_process_out_of_file_descriptors_is_a_full_log_and_recovers_by_itself() {
    const EMFILE: i32 = 24;
    let opens = |(change, ..): &(Change, PathBuf, bool)| matches!(change, Change::Create | Change::SyncDir);
    for on_full in [OnFull::Reject, OnFull::DropOldest] {
        let config = || LogConfig { on_full, ..small_segments() };
        let calm = Memory::default();
        let log = open(&calm, config());
        let cursor = log.cursor("a").unwrap();
        let opened = calm.changes().len();
        live_through(&log, &cursor);
        let refusals = calm.changes()[opened..].iter().enumerate().filter(|(_, change)| opens(change)).count() as u64;
        let mut full = 0;
        for at in 0..refusals {
            let what = format!("{on_full:?}, file {at} not opened");
            let storage = Memory::default();
            let log = open(&storage, config());
            let cursor = log.cursor("a").unwrap();
            storage.refuse_opening(at, EMFILE);
            let told = live_through(&log, &cursor);
            assert!(told.iter().all(|(_, answer)| matches!(answer, Ok(_) | Err(AppendError::Full { .. }))), "{what}");
            full += told.iter().filter(|(_, answer)| answer.is_err()).count();
            log.upkeep();
            assert_eq!((log.healthy(), log.full()), (Ok(()), None), "{what}");
            holds(&log, &cursor, &told, &what);
            run(log.close());
            for image in [storage.survivors(), storage.live(), storage.after_power_failure(at)] {
                let log = open(&Memory::from_image(&image), config());
                holds(&log, &log.cursor("a").unwrap(), &told, &what);
            }
        }
        assert!(full >= 4, "segments were refused: {full}");
    }
}

#[test]
fn a_full_disk_whose_refused_write_cannot_be_taken_back_is_a_failed_log() {
    let storage = Memory::default();
    let log = open(&storage, config());
    let cursor = log.cursor("a").unwrap();
    let mut told = Told::new();
    for number in 0..2 {
        let batch = batch(&log, number, 3);
        told.push((text(&log, &batch), run(log.append(batch))));
        storage.resize(Some(storage.live().values().map(Vec::len).sum()));
        storage.fail_after(1, EIO);
    }
    assert!(matches!(told[1].1, Err(AppendError::Failed(_))), "{told:?}");
    for image in [storage.live(), storage.survivors()] {
        holds(&log, &cursor, &told, "while it runs");
        let log = open(&Memory::from_image(&image), config());
        holds(&log, &log.cursor("a").unwrap(), &told, "after a restart");
    }
}

#[test]
fn a_folder_that_is_gone_for_a_while_is_waited_for() {
    let dir = tempfile::TempDir::new().unwrap();
    let log = Log::open(LogConfig { memory_bytes: 0, ..LogConfig::new(dir.path()) }, table()).unwrap();
    run(log.append(batch(&log, 0, 3))).unwrap();
    let (folder, elsewhere) = (segments_dir(dir.path()), dir.path().join("elsewhere"));
    std::fs::rename(&folder, &elsewhere).unwrap();
    let mut reader = log.reader(Position::default());
    for _ in 0..2 * reader::READ_TRIES {
        let read = run(reader.next());
        assert!(matches!(read, Err(ReadError::Storage(_))), "a disk that is not mounted is not damage: {read:?}");
    }
    std::fs::rename(&elsewhere, &folder).unwrap();
    assert!(matches!(run(reader.next()), Ok(Entry::Record(_))));
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = clock::monotonic();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn while_the_disk_is_slow_appends_gather_in_one_group_and_stay_in_order() {
    let storage = Memory::default();
    let log = Arc::new(open(&storage, config()));
    let syncs = || storage.changes().iter().filter(|(change, ..)| *change == Change::Sync).count();
    for held in [Change::Sync, Change::Append] {
        let (before, first) = (syncs(), log.end().seq);
        storage.hold(Some(held));
        let clients = |batches| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || append_all(&log, batches))
        };
        let mut batches: Vec<_> = (0..200).map(|number| batch(&log, number, 2)).collect();
        let texts: Vec<_> = batches.iter().map(|batch| text(&log, batch)).collect();
        let others = batches.split_off(1);
        let bytes: usize = others.iter().map(Batch::bytes).sum();
        let one = clients(batches);
        eventually("the first waits for the disk", || storage.is_waited_for());
        let others = clients(others);
        eventually("all others queue", || QUEUE_BYTES_MAX - log.shared.queue.available_permits() >= bytes);
        assert_eq!(log.end().seq, first, "nothing is shown before it is safe");
        storage.hold(None);
        let answers = [one, others].map(|clients| clients.join().unwrap()).concat();
        assert_eq!(answers, (first..first + 200).map(Ok).collect::<Vec<_>>());
        assert_eq!(syncs() - before, 2, "one group for the first, and one for all others");
        let read: Vec<_> =
            drain(&log, Position { seq: first, ordinal: first * 2 }).0.into_iter().map(|(_, text)| text).collect();
        assert_eq!(read, texts);
    }
}

#[test]
fn while_the_disk_stands_still_the_queue_stays_within_its_bound_and_nothing_deadlocks() {
    let storage = Memory::default();
    let log = Arc::new(open(&storage, LogConfig { segment_bytes: 64 << 20, bytes_max: 1 << 30, ..config() }));
    let long_text = "x".repeat(9 << 20);
    let large = |number: i64| {
        let mut builder = BatchBuilder::new(&log.shared.table, Format::InfluxLine, Vec::new());
        let spec = SeriesSpec { measurement: "m", field: Some("f"), labels: vec![], metadata: None };
        let alias = builder.alias(b"m");
        let id = builder.define(alias, spec).unwrap();
        builder.push(id, number, Value::Str(&long_text), SampleFlags::NONE);
        builder.finish()
    };
    storage.hold(Some(Change::Append));
    let batches: Vec<_> = (0..12).map(large).collect();
    let waiting = Arc::clone(&log);
    let clients = std::thread::spawn(move || append_all(&waiting, batches));
    eventually("the queue is full", || log.shared.queue.available_permits() < 9 << 20);
    assert_eq!(log.end().seq, 0);
    storage.hold(None);
    assert_eq!(clients.join().unwrap(), (0..12).map(Ok).collect::<Vec<_>>());
    assert_eq!(log.shared.queue.available_permits(), QUEUE_BYTES_MAX);
}

#[test]
fn a_segment_counts_until_it_is_gone() {
    let storage = Memory::default();
    let log = Arc::new(open(&storage, LogConfig { segment_bytes: 2000, ..config() }));
    let _keeps_everything = log.cursor("a").unwrap();
    while log.stats().segments.len() < 3 {
        append_all(&log, vec![batch(&log, log.end().seq, 9)]);
    }
    let before = log.stats().bytes;
    storage.hold(Some(Change::Remove));
    std::thread::scope(|scope| {
        let deleting = scope.spawn(|| log.shared.delete_oldest(&log.shared.upkeep.lock(), |_| true));
        eventually("it is being deleted", || storage.is_waited_for());
        let meanwhile = log.stats().bytes;
        storage.hold(None);
        assert!(deleting.join().unwrap());
        assert_eq!(meanwhile, before, "a deletion that fails would bring it back");
    });
    assert!(log.stats().bytes < before);
}

/// What a reader gets that tries again: numbers of the records, numbers that are lost, and errors.
fn read_patiently(log: &Log) -> (Vec<Seq>, Vec<Seq>, u32) {
    let (mut read, mut lost, mut errors) = (Vec::new(), Vec::new(), 0);
    run(async {
        let mut reader = log.reader(Position::default());
        while reader.position().seq < log.end().seq {
            match reader.next().await {
                Ok(Entry::Record(record)) => read.push(record.seq),
                Ok(Entry::Lost { gap, why }) => {
                    assert_eq!(why, LostWhy::Damaged);
                    lost.extend(gap.first..gap.next);
                }
                Err(ReadError::Storage(_)) => errors += 1,
                Err(error) => panic!("{error}"),
            }
            assert!(errors < 100, "it does not try for ever");
        }
        assert_eq!(reader.position(), log.end(), "every sample is accounted for");
    });
    (read, lost, errors)
}

#[test]
fn a_sector_that_cannot_be_read_costs_the_records_in_it_and_stops_nobody() {
    let storage = Memory::default();
    let large_segments = LogConfig { segment_bytes: 40_000, ..config() };
    let log = open(&storage, large_segments.clone());
    let _holds = log.cursor("a").unwrap();
    for number in 0..120 {
        run(log.append(batch(&log, number, 40))).unwrap();
    }
    run(log.close());
    let image = storage.survivors();
    let segments: Vec<_> = image.iter().filter(|(path, _)| path.starts_with("/log/segments")).collect();
    assert!(segments.len() >= 2);
    for (path, bytes) in segments {
        for sector in (0..bytes.len() as u64).step_by(512 * 11) {
            let what = format!("{} from {sector}", path.display());
            // It goes bad while the log is open.
            let storage = Memory::from_image(&image);
            let log = open(&storage, large_segments.clone());
            storage.spoil(path, sector..sector + 512);
            let (read, lost, errors) = read_patiently(&log);
            assert!((1..=reader::READ_TRIES).contains(&errors), "{what}: {errors}");
            assert_eq!(read.len() + lost.len(), 120, "{what}");
            assert!(lost.len() < 20, "{what}: {lost:?}");
            // It is bad when the log opens.
            let log = open(&storage, large_segments.clone());
            let (read_again, lost_again, _) = read_patiently(&log);
            assert_eq!((read_again, lost_again), (read, lost), "{what}");
            assert_eq!(storage.live()[path], *bytes, "{what}: nothing is cut");
            assert_eq!(run(log.append(batch(&log, 1, 1))), Ok(120), "{what}");
        }
        // All of it.
        let storage = Memory::from_image(&image);
        let log = open(&storage, large_segments.clone());
        storage.spoil(path, 0..u64::MAX);
        let (read, lost, errors) = read_patiently(&log);
        assert!(errors >= 1 && !lost.is_empty() && read.len() + lost.len() == 120);
        let log = open(&storage, large_segments.clone());
        let (read_again, lost_again, _) = read_patiently(&log);
        let _keeps = log.cursor("a").unwrap();
        assert_eq!((read_again, lost_again), (read, lost), "{}", path.display());
        assert!(storage.live().values().any(|kept| kept == bytes), "kept for people");
    }
    // A cursor's file.
    let storage = Memory::from_image(&image);
    storage.spoil(Path::new("/log/cursors/a.json"), 0..u64::MAX);
    let log = open(&storage, large_segments);
    assert_eq!(log.cursor("a").unwrap().state().position(), log.stats().first);
}

#[test]
fn an_output_may_be_new_while_the_disk_is_full() {
    let storage = Memory::default();
    let log = open(&storage, small_segments());
    let _old = log.cursor("old").unwrap();
    run(log.append(batch(&log, 0, 5))).unwrap();
    storage.resize(Some(0));
    let new = log.cursor("new").unwrap();
    log.upkeep();
    assert_eq!((log.healthy(), log.full()), (Ok(()), Some(DISK_FULL)), "it says that the cursor is not saved");
    storage.resize(None);
    log.upkeep();
    assert_eq!((log.healthy(), log.full()), (Ok(()), None));
    drop(new);
    let log = open(&Memory::from_image(&storage.survivors()), small_segments());
    assert_eq!(drain(&log, log.cursor("new").unwrap().state().position()).0.len(), 1);
}

#[test]
fn a_cursor_file_that_cannot_be_replaced_stops_no_other() {
    let storage = Memory::default();
    let log = open(&storage, config());
    let cursors = ["a", "b", "c"].map(|name| log.cursor(name).unwrap());
    run(log.append(batch(&log, 0, 5))).unwrap();
    let no_upkeep_meanwhile = log.shared.upkeep.lock();
    for cursor in &cursors {
        move_to_end(&log, cursor);
    }
    storage.fail_once(0, EIO);
    let failed: Vec<_> = cursor::save_moved(&log.shared).iter().map(LogError::to_string).collect();
    assert!(matches!(failed.as_slice(), [failed] if failed.contains("a.json")), "{failed:?}");
    let saved = cursor::list(&storage, Path::new("/log")).unwrap();
    let saved: Vec<_> = saved.into_iter().map(|file| file.state.unwrap().seq).collect();
    assert_eq!(saved, [0, 1, 1]);
    drop(no_upkeep_meanwhile);
}

#[test]
fn a_segment_that_cannot_be_deleted_stays_on_the_list_until_it_can() {
    let storage = Memory::default();
    let log = Arc::new(open(&storage, small_segments()));
    let cursor = log.cursor("a").unwrap();
    for number in 0..40 {
        run(log.append(batch(&log, number, 20))).unwrap();
    }
    let before = log.stats();
    let turn = log.shared.upkeep.lock();
    move_to_end(&log, &cursor);
    assert!(cursor::save_moved(&log.shared).is_empty());
    storage.fail_once(0, EIO);
    assert_eq!(log.shared.trim(&turn, Slot::saved_seq), 0, "none goes before the oldest");
    assert_eq!((log.stats().first, log.stats().bytes), (before.first, before.bytes));
    assert!(log.healthy().unwrap_err().contains("cannot delete"));
    assert!(log.shared.trim(&turn, Slot::saved_seq) > 0);
    assert_eq!(log.healthy(), Ok(()));
    assert!(log.stats().bytes < before.bytes);
}

#[test]
fn a_disk_that_is_full_is_freed_even_when_another_cursor_met_another_error_first() {
    let storage = Memory::default();
    let log = open(&storage, LogConfig { segment_bytes: 4000, ..config() });
    let cursors = ["a", "b"].map(|name| log.cursor(name).unwrap());
    storage.resize(Some(20_000));
    while run(log.append(batch(&log, 1, 10))).is_ok() {}
    let no_upkeep_meanwhile = log.shared.upkeep.lock();
    storage.resize(Some(storage.live().values().map(Vec::len).sum()));
    for cursor in &cursors {
        move_to_end(&log, cursor);
    }
    storage.fail_once(0, EIO);
    drop(no_upkeep_meanwhile);
    log.upkeep();
    assert_eq!((log.healthy(), log.full().is_some(), log.stats().segments.len()), (Ok(()), true, 1));
    run(log.append(batch(&log, 2, 10))).unwrap();
    assert_eq!(log.full(), None);
    for file in cursor::list(&storage, Path::new("/log")).unwrap() {
        assert_eq!(file.state.unwrap().seq, log.end().seq - 1, "{}", file.name);
    }
}
