//! Readers that catch up through more series than the table may hold, beside senders that go on.

use super::*;
use crate::model::SeriesId;

const ROUNDS: u64 = 60;
const NEW_PER_ROUND: u64 = 100;
const LIVE: u64 = 20;

/// A table in which a series is idle after two sweeps, and a log of which nothing stays in memory.
fn small_table() -> Arc<SeriesTable> {
    Arc::new(SeriesTable::new(TableBounds { bytes_max: 512 << 10, idle_sweeps: 1, ..TableBounds::default() }))
}

fn series(builder: &mut BatchBuilder<'_>, name: &str) -> SeriesId {
    let alias = builder.alias(name.as_bytes());
    let labels = ["host", "path", "zone"].map(|label| (Cow::from(label), Cow::from(format!("{label} of {name}"))));
    let spec = SeriesSpec { measurement: name, field: None, labels: labels.into(), metadata: None };
    builder.recognise(alias).unwrap_or_else(|| builder.define(alias, spec).expect("there is room"))
}

/// A batch of the live series, and of as many others as that of that round.
fn round(table: &SeriesTable, round: u64, others: u64) -> Batch {
    let mut builder = BatchBuilder::new(table, Format::RemoteWrite, Vec::new());
    for number in 0..others {
        let id = series(&mut builder, &format!("other_{round}_{number}"));
        builder.push(id, (round * 1000 + number) as i64, Value::U64(round << 32 | number), SampleFlags::NONE);
    }
    for number in 0..LIVE {
        let id = series(&mut builder, &format!("live_{number}"));
        builder.push(id, (round * 1000 + number) as i64, Value::U64(round), SampleFlags::NONE);
    }
    builder.finish()
}

/// A log of rounds with new series each, of which the table has kept only the live ones, and the texts of its batches.
fn churned(storage: &Memory, table: &Arc<SeriesTable>) -> (Log, Cursor, Vec<String>) {
    let log = Log::open_on(Arc::new(storage.clone()), config(), Arc::clone(table)).unwrap();
    let held = log.cursor("held").unwrap();
    let mut texts = Vec::new();
    for number in 0..ROUNDS {
        let batch = round(table, number, NEW_PER_ROUND);
        texts.push(text(&log, &batch));
        run(log.append(batch)).unwrap();
        log.upkeep();
        for _ in 0..3 {
            table.sweep();
            drop(round(table, number, 0));
        }
    }
    (log, held, texts)
}

#[test]
fn readers_that_catch_up_through_many_series_keep_the_table_bounded_and_senders_in_it() {
    let table = small_table();
    let (log, _held, mut texts) = churned(&Memory::default(), &table);
    let live: Vec<_> = round(&table, 0, 0).samples.iter().map(|sample| sample.series).collect();
    let defined = ROUNDS * NEW_PER_ROUND * 600;
    assert!(defined > 4 * table.bytes_max() as u64 && table.len() < 500, "{} series are left", table.len());

    // In a generation are the series of one record beyond the bound at most.
    let generation = table.recalled_bytes_max() + NEW_PER_ROUND as usize * 1000;
    let mut recalled_most = 0;
    run(async {
        let place = |seq: u64| Position { seq, ordinal: seq * (NEW_PER_ROUND + LIVE) };
        let mut readers = [0, ROUNDS / 3, ROUNDS - 7].map(|seq| (log.reader(place(seq)), VecDeque::new()));
        for number in ROUNDS.. {
            // Senders go on, bring new series, and find theirs as they left them.
            let batch = round(&table, number, 3);
            assert!(batch.samples.iter().skip(3).map(|sample| sample.series).eq(live.iter().copied()), "they stay");
            texts.push(text(&log, &batch));
            log.append(batch).await.unwrap();
            log.upkeep();
            table.sweep();
            for (reader, held) in &mut readers {
                // Twice as fast as the senders.
                for _ in 0..2 {
                    if reader.position().seq == log.end().seq {
                        break;
                    }
                    let Entry::Record(record) = reader.next().await.unwrap() else { panic!("nothing is lost") };
                    assert_eq!(text(&log, &record.batch), texts[record.seq as usize], "record {}", record.seq);
                    // What waits for an output, and what it is encoding.
                    held.push_back(record);
                    if held.len() > 2 {
                        held.pop_front();
                    }
                }
            }
            assert!(table.bytes() <= table.bytes_max(), "{} bytes are in the table", table.bytes());
            let recalled = table.recalled_bytes();
            assert!(recalled <= readers.len() * 3 * generation, "{recalled} bytes are recalled");
            recalled_most = recalled.max(recalled_most);
            if readers.iter().all(|(reader, _)| reader.position().seq + 3 >= log.end().seq) {
                break;
            }
        }
    });
    assert!(recalled_most > table.recalled_bytes_max(), "they had to recall: {recalled_most}");
    assert_eq!(table.recalled_bytes(), 0, "and let go");
    run(log.close());
}

#[test]
fn what_comes_back_to_its_senders_is_no_longer_recalled() {
    let table = small_table();
    let (log, _held, _) = churned(&Memory::default(), &table);
    let names = |batch: &Batch| {
        let ids = batch.samples.iter().map(|sample| sample.series);
        ids.filter(|id| id.is_recalled()).count()
    };
    run(async {
        let Entry::Record(record) = log.reader(Position::default()).next().await.unwrap() else { panic!("lost") };
        assert_eq!(names(&record.batch), NEW_PER_ROUND as usize, "the live ones are the table's");
        let batch = round(&table, 0, NEW_PER_ROUND);
        let Entry::Record(record) = log.reader(Position::default()).next().await.unwrap() else { panic!("lost") };
        assert_eq!(names(&record.batch), 0);
        let ids = |batch: &Batch| batch.samples.iter().map(|sample| sample.series).collect::<Vec<_>>();
        assert_eq!(ids(&record.batch), ids(&batch));
    });
    run(log.close());
}

#[test]
fn a_definition_that_the_disk_loses_while_its_segment_is_read_is_found_in_its_other_copy() {
    let (storage, table) = (Memory::default(), small_table());
    let (log, _held, texts) = churned(&storage, &table);
    let path = log.shared.segment_path(0);
    run(async {
        let mut reader = log.reader(Position::default());
        let Ok(Entry::Record(_)) = reader.next().await else { panic!("the first is there") };
        // By now the reader knows where all definitions stand, and has read those of the first record.
        let mut walk = segment::Walk::new(storage.open(&path, false).unwrap(), log.stats().segments[0].bytes);
        let mut definitions = Vec::new();
        while let Some((offset, header)) = walk.step().unwrap() {
            if header.kind == record::Kind::Packed && header.position.seq == 1 {
                definitions.push(offset + record::HEADER_BYTES as u64..offset + header.record_bytes());
            }
        }
        // The second copy of those of the first record, then the first copy of those of the second.
        // A block of it that holds nothing else, since a bad block takes all that is in it.
        let block = definitions[1].start.next_multiple_of(4 << 10);
        assert!(block + (4 << 10) <= definitions[1].end, "{definitions:?}");
        storage.spoil(&path, block..block + 1);
        let mut errors = 0;
        let record = loop {
            match reader.next().await {
                Ok(Entry::Record(record)) => break record,
                Ok(lost) => panic!("{lost:?}"),
                Err(_) => errors += 1,
            }
            assert!(errors < 10, "it goes on");
        };
        assert!(errors > 0 && record.seq == 1, "{errors} errors before record {}", record.seq);
        assert_eq!(text(&log, &record.batch), texts[1]);
    });
    run(log.close());
}

#[test]
fn what_is_read_from_disk_is_in_the_runs_in_which_it_was_sent() {
    let storage = Memory::default();
    let table = Arc::new(SeriesTable::default());
    let log = Log::open_on(Arc::new(storage.clone()), config(), Arc::clone(&table)).unwrap();
    let _held = log.cursor("held").unwrap();
    let lens = |batch: &Batch| batch.runs.iter().map(|(at, run)| (*at, run.series().len())).collect::<Vec<_>>();
    let mut sent = Vec::new();
    for _ in 0..4 {
        let batch = round(&table, 0, 1000);
        sent = lens(&batch);
        run(log.append(batch)).unwrap();
    }
    assert!(!sent.is_empty());
    let mut reader = log.reader(Position::default());
    for seq in 0..4 {
        let Ok(Entry::Record(record)) = run(reader.next()) else { panic!("no record {seq}") };
        assert_eq!(lens(&record.batch), sent, "record {seq}");
    }
    run(log.close());
    // Nobody has sent anything to the next process.
    let log = Log::open_on(Arc::new(storage), config(), small_table()).unwrap();
    let Ok(Entry::Record(record)) = run(log.reader(Position::default()).next()) else { panic!("no record") };
    assert_eq!(lens(&record.batch), []);
}
