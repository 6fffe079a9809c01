//! A log that is full, and a disk: who waits, what goes, and that nothing else is lost.

use super::*;

#[test]
fn a_full_disk_is_a_full_log_and_not_a_failed_one() {
    for allowed in 0..12 {
        let storage = Memory::default();
        let log = open(&storage, config());
        let _cursor = log.cursor("holds").unwrap();
        let mut acknowledged = Vec::new();
        let mut offer = |number| {
            let batch = batch(&log, number, 2);
            let text = text(&log, &batch);
            run(log.append(batch)).map(|seq| acknowledged.push((seq, text)))
        };
        offer(0).unwrap();
        // Only the write itself may be taken back: make it the first change that fails.
        storage.fail_after(allowed / 2 * 2, ENOSPC);
        let refusals: Vec<_> = (1..10).filter_map(|number| offer(number).err()).collect();
        assert_eq!(refusals[0], AppendError::Full { retry_after: RETRY_AFTER });
        storage.recover();
        offer(11).unwrap();
        assert_eq!(log.healthy(), Ok(()));
        assert_eq!(drain(&log, Position::default()), (acknowledged, vec![]));
    }
}

#[test]
fn a_full_log_refuses_until_a_cursor_moves() {
    let log = open(&Memory::default(), LogConfig { segment_bytes: 4000, bytes_max: 10_000, ..config() });
    let cursor = log.cursor("slow").unwrap();
    for round in 0..3 {
        let mut taken = 0;
        let refused = loop {
            match run(log.append(batch(&log, taken, 10))) {
                Ok(_) => taken += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused, AppendError::Full { retry_after: RETRY_AFTER });
        assert!(taken > 10 && log.stats().bytes <= 10_000, "round {round}: {taken}");
        move_to_end(&log, &cursor);
        run(log.append(batch(&log, 0, 10))).unwrap();
    }
}

#[test]
fn a_disk_too_full_for_cursor_files_is_freed_by_what_the_cursors_passed() {
    let storage = Memory::default();
    let log = open(&storage, LogConfig { segment_bytes: 4000, ..config() });
    let cursor = log.cursor("slow").unwrap();
    run(log.append(batch(&log, 0, 10))).unwrap();
    storage.resize(Some(20_000));
    for round in 0..3 {
        while run(log.append(batch(&log, 1, 10))).is_ok() {}
        // To the last byte: nothing at all can be written.
        let held: usize = storage.live().values().map(Vec::len).sum();
        storage.resize(Some(held));
        move_to_end(&log, &cursor);
        log.upkeep();
        assert_eq!(log.healthy(), Ok(()), "round {round}");
        assert_eq!(log.stats().segments.len(), 1);
        run(log.append(batch(&log, 2, 10))).unwrap();
        storage.resize(Some(20_000));
    }
    let end = log.end();
    move_to_end(&log, &cursor);
    run(log.close());
    drop((log, cursor));
    let log = open(&Memory::from_image(&storage.survivors()), config());
    assert_eq!(log.cursor("slow").unwrap().state().position(), end);
}

#[test]
fn a_full_disk_is_freed_after_a_restart_before_anything_is_appended() {
    let storage = Memory::default();
    storage.resize(Some(20_000));
    let small = LogConfig { segment_bytes: 4000, ..config() };
    let log = open(&storage, small.clone());
    let cursor = log.cursor("slow").unwrap();
    while run(log.append(batch(&log, 1, 10))).is_ok() {}
    drop((log, cursor));

    let image = storage.live();
    let storage = Memory::from_image(&image);
    storage.resize(Some(image.values().map(Vec::len).sum()));
    let log = open(&storage, small);
    let cursor = log.cursor("slow").unwrap();
    assert!(log.stats().segments.len() > 2);
    move_to_end(&log, &cursor);
    log.upkeep();
    assert_eq!(log.stats().segments.len(), 1);
    assert_eq!(log.healthy(), Ok(()));
    run(log.append(batch(&log, 2, 10))).unwrap();
}

#[test]
fn drop_oldest_tells_how_many_samples_went() {
    let full = OnFull::DropOldest;
    let log = open(&Memory::default(), LogConfig { segment_bytes: 3000, bytes_max: 8000, on_full: full, ..config() });
    let cursor = log.cursor("dead").unwrap();
    for number in 0..200 {
        run(log.append(batch(&log, number, 5))).unwrap();
        assert!(log.stats().bytes <= 8000);
    }
    let (records, losses) = drain(&log, cursor.state().position());
    let kept = records.len() as u64;
    assert!(kept > 10);
    assert_eq!(losses, [(0, 200 - kept, (200 - kept) * 5)]);
    assert_eq!(log.accepted(Format::InfluxLine), 1000);
}

#[test]
fn drop_oldest_makes_room_on_a_full_disk_too() {
    let storage = Memory::default();
    let log = open(&storage, LogConfig { segment_bytes: 3000, on_full: OnFull::DropOldest, ..config() });
    let cursor = log.cursor("dead").unwrap();
    storage.resize(Some(20_000));
    for number in 0..200 {
        assert_eq!(run(log.append(batch(&log, number, 5))), Ok(number));
    }
    assert_eq!(log.healthy(), Ok(()));
    let (records, losses) = drain(&log, cursor.state().position());
    let kept = records.len() as u64;
    assert!((10..150).contains(&kept), "{kept}");
    assert_eq!(losses, [(0, 200 - kept, (200 - kept) * 5)]);
    let after = open(&Memory::from_image(&storage.survivors()), config());
    assert_eq!(drain(&after, log.stats().first).0, records, "and it is safe");
}

#[test]
fn a_log_made_smaller_than_its_last_segment_takes_again() {
    for (on_full, delivered) in [(OnFull::Reject, true), (OnFull::DropOldest, true), (OnFull::DropOldest, false)] {
        let storage = Memory::default();
        let log = open(&storage, config());
        let cursor = log.cursor("a").unwrap();
        for number in 0..40 {
            run(log.append(batch(&log, number, 1000))).unwrap();
        }
        if delivered {
            move_to_end(&log, &cursor);
        }
        run(log.close());
        drop((cursor, log));
        let small = LogConfig { bytes_max: 200_000, segment_bytes: 50_000, on_full, ..config() };
        let log = open(&storage, small);
        let cursor = log.cursor("a").unwrap();
        assert!(log.stats().bytes > 200_000 && log.stats().segments.len() == 1);
        for number in 40..140 {
            assert_eq!(run(log.append(batch(&log, number, 100))), Ok(number), "{on_full:?}");
            if delivered {
                move_to_end(&log, &cursor);
            }
        }
        assert!(log.stats().bytes <= 200_000, "{on_full:?}: {}", log.stats().bytes);
        let (records, losses) = drain(&log, cursor.state().position());
        let lost: u64 = losses.iter().map(|(first, next, _)| next - first).sum();
        assert_eq!(cursor.state().seq + records.len() as u64 + lost, 140, "{on_full:?}");
        assert_eq!(lost > 0, !delivered, "{on_full:?}: {losses:?}");
    }
}
