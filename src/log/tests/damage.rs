//! Damage to any file: what it touches is lost, counted and dated; everything else is delivered, and the log starts.

use super::super::damage::Aside;
use super::super::record::{self, HEADER_BYTES, Kind};
use super::super::segment::Walk;
use super::*;

const RECORDS: u64 = 16;

/// A log in several segments, closed in order, with a cursor at its beginning and one in its middle.
struct World {
    image: Image,
    segments: Vec<PathBuf>,
    cursors: Vec<PathBuf>,
    /// Text, samples and time of each record.
    records: Vec<(String, u64, TimestampNs)>,
    end: Position,
    middle: CursorState,
}

fn small_segments() -> LogConfig {
    LogConfig { segment_bytes: 1300, ..config() }
}

fn world() -> World {
    let storage = Memory::default();
    let log = open(&storage, small_segments());
    let (_begin, middle) = (log.cursor("begin").unwrap(), log.cursor("mid/dle").unwrap());
    let mut texts = Vec::new();
    for number in 0..RECORDS {
        let batch = batch(&log, number, number % 3 + 1);
        texts.push((text(&log, &batch), number % 3 + 1));
        run(log.append(batch)).unwrap();
    }
    let dropped = BTreeMap::from([("relabel".to_owned(), 2)]);
    let state = CursorState { seq: 5, ordinal: 9, delivered: 7, dropped };
    assert!(middle.acknowledge(state.clone()));
    run(log.close());
    let times = run(async {
        let (mut reader, mut times) = (log.reader(Position::default()), Vec::new());
        while let Ok(Entry::Record(record)) = reader.next().await {
            times.push(record.appended_at);
        }
        times
    });
    let image = storage.survivors();
    let inside = |folder: &str| image.keys().filter(|path| path.starts_with(folder)).cloned().collect::<Vec<_>>();
    let world = World {
        segments: inside("/log/segments"),
        cursors: inside("/log/cursors"),
        records: texts.into_iter().zip(times).map(|((text, samples), at)| (text, samples, at)).collect(),
        end: log.end(),
        middle: state,
        image,
    };
    assert_eq!((world.segments.len(), world.cursors.len()), (4, 2));
    world
}

/// What outputs find after the damage.
struct Found {
    storage: Memory,
    log: Log,
    cursors: [Cursor; 2],
    /// Numbers of the records that the first can read.
    read: Vec<Seq>,
    gaps: Vec<(Gap, LostWhy)>,
}

impl World {
    /// Opens the damaged log, and holds that every record is either delivered as it was or lost, counted and dated.
    fn open(&self, storage: Memory, what: &str) -> Found {
        let log = Log::open_on(Arc::new(storage.clone()), small_segments(), table());
        let log = log.unwrap_or_else(|error| panic!("{what}: {error}"));
        let cursors =
            ["begin", "mid/dle"].map(|name| log.cursor(name).unwrap_or_else(|error| panic!("{what}: {error}")));
        assert!(log.end() >= self.end, "{what}: numbers are not given out twice: {:?}", log.end());
        assert_eq!(Format::ALL.map(|format| log.accepted(format)).iter().sum::<u64>(), log.end().ordinal, "{what}");
        assert!(cursors.iter().all(|cursor| cursor.state().adds_up()), "{what}");
        run(self.read(&log, &cursors[1], what));
        let (read, gaps) = run(self.read(&log, &cursors[0], what));
        for (gap, _) in &gaps {
            let shown = log.stats().damage.gaps;
            assert!(shown.iter().any(|shown| shown.first <= gap.first && gap.next <= shown.next), "{what}: {shown:?}");
        }
        Found { storage, log, cursors, read, gaps }
    }

    async fn read(&self, log: &Log, cursor: &Cursor, what: &str) -> (Vec<Seq>, Vec<(Gap, LostWhy)>) {
        let (mut read, mut gaps) = (Vec::new(), Vec::new());
        let mut reader = cursor.reader();
        while reader.position().seq < log.end().seq {
            let before = reader.position();
            match reader.next().await.unwrap_or_else(|error| panic!("{what}: {error}")) {
                Entry::Record(record) => {
                    let (expected, _, at) = &self.records[record.seq as usize];
                    assert_eq!((&text(log, &record.batch), record.appended_at), (expected, *at), "{what}");
                    assert_eq!((record.seq, record.ordinal), (before.seq, before.ordinal), "{what}");
                    read.push(record.seq);
                }
                Entry::Lost { gap, why } => {
                    assert_eq!(gap.first, before.seq, "{what}");
                    let lost = &self.records[gap.first as usize..gap.next as usize];
                    assert_eq!(gap.samples, lost.iter().map(|(_, samples, _)| samples).sum::<u64>(), "{what}: {gap}");
                    for (_, _, at) in lost {
                        let TimeRange { from, until } = gap.appended;
                        assert!(from.is_none_or(|from| from <= *at), "{what}: {gap}");
                        assert!(until.is_none_or(|until| *at <= until), "{what}: {gap}");
                    }
                    gaps.push((gap, why));
                }
            }
        }
        assert_eq!(reader.position(), log.end(), "{what}: every sample is accounted for");
        (read, gaps)
    }

    fn with(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Memory {
        let mut image = self.image.clone();
        change(image.get_mut(path).unwrap());
        Memory::from_image(&image)
    }
}

impl Found {
    fn lost(&self) -> u64 {
        self.gaps.iter().map(|(gap, _)| gap.records()).sum()
    }

    /// What is appended now is read back, also after another restart.
    fn goes_on(self, what: &str) {
        let seq = self.log.end().seq;
        let batch = batch(&self.log, 77, 2);
        let appended = text(&self.log, &batch);
        assert_eq!(run(self.log.append(batch)), Ok(seq), "{what}");
        let from = Position { seq, ordinal: self.log.end().ordinal - 2 };
        assert_eq!(drain(&self.log, from).0, [(seq, appended.clone())], "{what}");
        drop((self.log, self.cursors));
        let log = open(&Memory::from_image(&self.storage.survivors()), small_segments());
        assert_eq!(drain(&log, from).0, [(seq, appended)], "{what}");
    }
}

fn bits() -> Vec<u8> {
    if long() { (0..8).map(|bit| 1 << bit).chain([0xff]).collect() } else { vec![0x81] }
}

#[test]
fn a_flipped_byte_in_any_segment_costs_at_most_its_own_record() {
    let world = world();
    let (mut lost, mut exact, mut flips) = (0, 0, 0);
    for path in &world.segments {
        for at in 0..world.image[path].len() {
            for bits in bits() {
                let what = format!("{} byte {at} ^ {bits:x}", path.display());
                let storage = world.with(path, |bytes| bytes[at] ^= bits);
                assert!(!verify_on(&storage, Path::new("/log")).unwrap().sound(), "{what}");
                let found = world.open(storage, &what);
                assert!(found.lost() <= 1, "{what}: {:?}", found.gaps);
                assert_eq!(found.read.len() as u64 + found.lost(), RECORDS, "{what}");
                assert!(
                    found.gaps.iter().all(|(gap, why)| *why == LostWhy::Damaged && gap.appended.until.is_some()),
                    "{what}"
                );
                let dated = found.gaps.iter().filter(|(gap, _)| gap.appended.from == gap.appended.until);
                (lost, exact, flips) = (lost + found.lost(), exact + dated.count(), flips + 1);
                if at % 97 == 0 {
                    found.goes_on(&what);
                }
            }
        }
    }
    println!("{flips} flips, {lost} records lost, {exact} of them dated exactly");
    assert!(lost > 500 && exact > 200);
}

/// A batch of those series, each with labels of its own and labels that all share.
fn wide(log: &Log, series: std::ops::Range<u64>, label_bytes: usize) -> Batch {
    let metadata = Metadata { family: "f".into(), metric_type: MetricType::Gauge, help: "h".into(), unit: "s".into() };
    let mut builder = BatchBuilder::new(&log.shared.table, Format::RemoteWrite, Vec::new());
    for number in series {
        let own = format!("{number:0label_bytes$}");
        let labels =
            [("cluster", "one"), ("id", &own), ("job", "wide")].map(|(name, value)| (name.into(), value.into()));
        let metadata = number.is_multiple_of(3).then(|| Arc::new(metadata.clone()));
        let spec = SeriesSpec { measurement: "wide", field: None, labels: labels.into(), metadata };
        let id = builder.define(builder.alias(own.as_bytes()), spec).unwrap();
        builder.push(id, number as i64, Value::U64(number), SampleFlags::NONE);
    }
    builder.finish()
}

/// A log of these batches in one segment: its files, the segment's, and the texts of the batches.
fn log_of(batches: impl Iterator<Item = (std::ops::Range<u64>, usize)>) -> (Image, PathBuf, Vec<String>) {
    let storage = Memory::default();
    let log = open(&storage, LogConfig { segment_bytes: 4 << 20, ..config() });
    let append = |(series, label_bytes)| {
        let batch = wide(&log, series, label_bytes);
        let text = text(&log, &batch);
        run(log.append(batch)).unwrap();
        text
    };
    let texts = batches.map(append).collect();
    run(log.close());
    assert_eq!(log.stats().segments.len(), 1);
    (storage.survivors(), log.shared.segment_path(0), texts)
}

/// The records of a segment: where they stand, and their headers.
fn records_of(bytes: &[u8]) -> Vec<(usize, record::Header)> {
    let file = Memory::from_image(&Image::from([("/f".into(), bytes.to_vec())])).open(Path::new("/f"), false).unwrap();
    let mut walk = Walk::new(file, bytes.len() as u64);
    let mut records = Vec::new();
    while let Some((offset, header)) = walk.step().unwrap() {
        records.push((offset as usize, header));
    }
    records
}

#[test]
fn a_flipped_byte_in_definitions_costs_nothing() {
    let (image, path, texts) = log_of([0..12, 12..24, 0..24].into_iter().map(|series| (series, 9)));
    let definitions: Vec<_> =
        records_of(&image[&path]).into_iter().filter(|(_, header)| header.kind == Kind::Packed).collect();
    assert_eq!(definitions.iter().map(|(_, header)| header.count).collect::<Vec<_>>(), [12; 4]);
    for (offset, header) in definitions {
        for at in offset..offset + header.record_bytes() as usize {
            for bits in bits() {
                let mut image = image.clone();
                image.get_mut(&path).unwrap()[at] ^= bits;
                let (read, losses) = drain(&open(&Memory::from_image(&image), config()), Position::default());
                assert!(read.into_iter().map(|(_, text)| text).eq(texts.iter().cloned()), "byte {at} ^ {bits:x}");
                assert_eq!(losses, [], "byte {at} ^ {bits:x}");
            }
        }
    }
}

#[test]
fn definitions_forged_under_good_checksums_cost_no_more_than_their_batches() {
    let (image, path, texts) = log_of([0..6, 6..12, 6..12].into_iter().map(|series| (series, 3)));
    let records = records_of(&image[&path]);
    let first: Vec<_> = records.into_iter().filter(|(_, header)| header.kind == Kind::Packed).take(2).collect();
    assert_eq!(first[0].1.payload_crc, first[1].1.payload_crc, "two copies");
    let mut lost = 0;
    for at in 0..first[0].1.payload_bytes as usize {
        for byte in [0, 1, 2, 7, 0x7f, 0x80, 0xff] {
            let mut image = image.clone();
            let bytes = image.get_mut(&path).unwrap();
            for (offset, mut header) in first.iter().copied() {
                let payload = &mut bytes[offset + HEADER_BYTES..][..header.payload_bytes as usize];
                payload[at] = byte;
                header.payload_crc = crc32c::crc32c(payload);
                bytes[offset..offset + HEADER_BYTES].copy_from_slice(&header.bytes(offset as u64));
            }
            let (read, losses) = drain(&open(&Memory::from_image(&image), config()), Position::default());
            assert_eq!(read.len() + losses.len(), 3, "byte {at} = {byte}: {losses:?}");
            // Whoever forges local ids has defined others. What stands for itself is read as it was.
            if at > 0 {
                assert!(read.iter().skip(read.len() - 2).map(|(_, text)| text).eq(&texts[1..]), "byte {at} = {byte}");
            }
            lost += losses.len();
        }
    }
    assert!(lost > 50, "{lost}");
}

#[test]
fn a_block_that_is_lost_costs_no_batches_but_those_in_it() {
    const BLOCK: usize = 4 << 10;
    // Few samples of few, some or many bytes of new series, now and then none, so that copies stand at all distances.
    let sizes = [1, 0, 40, 2, 0, 1, 90, 0, 0, 7, 300, 0];
    let mut defined = 0;
    let rounds = (0..36).map(|round| {
        let new = sizes[round % sizes.len()];
        defined += new;
        (if new == 0 { 0..defined.min(60) } else { defined - new..defined }, 60)
    });
    // Then enough for whatever is to be written again, and all that there is.
    let (image, path, texts) = log_of(rounds.chain((0..40).map(|_| (0..100, 60))).chain([(0..1323, 60)]));
    let bytes = &image[&path];
    let records = records_of(bytes);
    let mut lost = 0;
    for block in (0..bytes.len()).step_by(BLOCK) {
        let hit = block..block + BLOCK;
        let mut image = image.clone();
        let end = hit.end.min(bytes.len());
        image.get_mut(&path).unwrap()[block..end].fill(0);
        let (read, losses) = drain(&open(&Memory::from_image(&image), config()), Position::default());
        for (seq, text) in &read {
            assert_eq!(*text, texts[*seq as usize], "block at {block}");
        }
        for seq in losses.iter().flat_map(|(first, next, _)| *first..*next) {
            let of_it = |(offset, header): &&(usize, record::Header)| {
                let until = offset + header.record_bytes() as usize;
                header.kind == Kind::Samples && header.position.seq == seq && *offset < hit.end && hit.start < until
            };
            assert!(records.iter().any(|record| of_it(&record)), "block at {block}: record {seq} is not in it");
            lost += 1;
        }
    }
    assert!(lost > 50, "{lost}");
}

#[test]
fn a_flipped_byte_in_any_cursor_file_costs_nothing() {
    let world = world();
    for path in &world.cursors {
        for at in 0..world.image[path].len() {
            for bits in [0x01, 0x02, 0x20, 0x80, 0xff] {
                let what = format!("{} byte {at} ^ {bits:x}", path.display());
                let storage = world.with(path, |bytes| bytes[at] ^= bits);
                assert!(!verify_on(&storage, Path::new("/log")).unwrap().sound(), "{what}");
                let found = world.open(storage.clone(), &what);
                assert_eq!(found.cursors[1].state(), world.middle, "{what}");
                assert_eq!(found.lost(), 0, "{what}");
                if at % 31 == 0 {
                    found.log.upkeep();
                    assert_eq!(storage.survivors()[path], world.image[path], "{what}: written anew");
                }
            }
        }
    }
}

#[test]
fn a_segment_cut_or_overwritten_from_any_byte_on_loses_what_was_there_and_no_more() {
    let world = world();
    for (number, path) in world.segments.iter().enumerate() {
        let whole = world.image[path].len();
        let mut lost_before = u64::MAX;
        for from in 0..=whole {
            for (how, fill) in [("cut", None), ("zeros", Some(0)), ("garbage", Some(1))] {
                if !long() && fill.is_some() && from % 7 != 0 {
                    continue;
                }
                let what = format!("{} {how} from {from}", path.display());
                let storage = world.with(path, |bytes| match fill {
                    None => bytes.truncate(from),
                    Some(seed) => fill_with(&mut bytes[from..], seed),
                });
                let found = world.open(storage, &what);
                assert_eq!(found.read.len() as u64 + found.lost(), RECORDS, "{what}");
                assert!(found.lost() <= lost_before, "{what}: the more is left, the less is lost");
                let adjacent = found.gaps.windows(2).all(|pair| pair[0].0.next == pair[1].0.first);
                assert!(adjacent, "{what}: {:?}", found.gaps);
                if fill.is_none() {
                    lost_before = found.lost();
                }
                if from % 97 == 0 {
                    found.goes_on(&what);
                }
            }
        }
        assert_eq!(lost_before, 0, "segment {number}");
    }
}

fn fill_with(bytes: &mut [u8], seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for byte in bytes {
        *byte = if seed == 0 { 0 } else { random.u8(..) };
    }
}

#[test]
fn what_is_behind_the_end_of_a_segment_costs_nothing() {
    let world = world();
    for path in &world.segments {
        for seed in 0..20 {
            let what = format!("{} seed {seed}", path.display());
            let found = world.open(
                world.with(path, |bytes| {
                    let end = bytes.len();
                    bytes.resize(end + 1 + seed as usize * 333, 0);
                    fill_with(&mut bytes[end..], seed);
                }),
                &what,
            );
            assert_eq!(found.lost(), 0, "{what}");
            found.goes_on(&what);
        }
    }
}

#[test]
fn a_missing_segment_is_counted_whichever_it_is() {
    let world = world();
    for path in &world.segments {
        let what = format!("{} missing", path.display());
        let mut image = world.image.clone();
        image.remove(path);
        let storage = Memory::from_image(&image);
        let report = verify_on(&storage, Path::new("/log")).unwrap();
        let found = world.open(storage, &what);
        assert_eq!(found.gaps.len(), 1, "{what}");
        assert_eq!(found.gaps[0].1, LostWhy::Damaged, "{what}: nothing was trimmed");
        assert!(found.lost() >= 2, "{what}");
        assert_eq!(found.read.len() as u64 + found.lost(), RECORDS, "{what}");
        let gap = found.gaps[0].0;
        assert_eq!((report.lost_records, report.lost_samples), (gap.records(), gap.samples), "{what}");
        found.goes_on(&what);
    }
    let mut image = world.image.clone();
    image.retain(|path, _| !world.segments.contains(path));
    let found = world.open(Memory::from_image(&image), "all missing");
    assert_eq!(found.lost(), RECORDS);
    found.goes_on("all missing");
}

#[test]
fn two_damaged_segments_in_a_row_leave_the_account_even() {
    let world = world();
    let count = world.segments.len();
    for first in 0..count - 1 {
        for seed in 0..2 {
            let what = format!("segments {first} and the next, seed {seed}");
            let mut image = world.image.clone();
            for path in &world.segments[first..first + 2] {
                fill_with(image.get_mut(path).unwrap(), seed);
            }
            let found = world.open(Memory::from_image(&image), &what);
            assert_eq!(found.read.len() as u64 + found.lost(), RECORDS, "{what}");
            found.goes_on(&what);
        }
    }
}

/// Makes every record of that segment one of a later version.
fn made_later(bytes: &mut [u8]) {
    let file = Memory::from_image(&Image::from([("/f".into(), bytes.to_vec())])).open(Path::new("/f"), false).unwrap();
    let mut walk = Walk::new(file, bytes.len() as u64);
    while let Some((offset, _)) = walk.step().unwrap() {
        record::make_later(bytes, offset as usize);
    }
}

#[test]
fn a_segment_of_a_later_version_is_set_aside_whole_and_its_numbers_are_respected() {
    let world = world();
    for path in &world.segments {
        for unknown_frame in [false, true] {
            let what = format!("{} later, frame unknown: {unknown_frame}", path.display());
            let storage = world.with(path, |bytes| {
                made_later(bytes);
                if unknown_frame {
                    bytes[5..].iter_mut().for_each(|byte| *byte = byte.wrapping_add(7));
                }
            });
            let later = storage.live()[path].clone();
            assert!(!verify_on(&storage, Path::new("/log")).unwrap().sound());
            let found = world.open(storage.clone(), &what);
            assert_eq!(found.gaps.len(), 1, "{what}");
            assert_eq!(found.read.len() as u64 + found.lost(), RECORDS, "{what}");
            let aside = PathBuf::from(format!("{}.newer", path.display()));
            assert_eq!(found.log.stats().damage.set_aside, std::slice::from_ref(&aside), "{what}");
            // Without a record appended in between, the numbers are as they were.
            let end = found.log.end();
            drop(found);
            let found = world.open(Memory::from_image(&storage.survivors()), &what);
            assert_eq!(found.log.end(), end, "{what}");
            let storage = found.storage.clone();
            for cursor in &found.cursors {
                move_to_end(&found.log, cursor);
            }
            found.log.upkeep();
            found.goes_on(&what);
            assert_eq!(storage.survivors()[&aside], later, "{what}: not cut, trimmed or deleted");
        }
    }
}

#[test]
fn without_cursors_a_later_segment_still_holds_its_numbers() {
    let world = world();
    let mut image = world.image.clone();
    image.retain(|path, _| !world.cursors.contains(path));
    made_later(image.get_mut(world.segments.last().unwrap()).unwrap());
    for _ in 0..2 {
        let storage = Memory::from_image(&image);
        let log = open(&storage, small_segments());
        assert_eq!(log.end(), world.end);
        run(log.close());
        image = storage.survivors();
    }
}

#[test]
fn a_record_of_a_later_version_is_lost_alone() {
    let world = world();
    for path in &world.segments {
        let bytes = &world.image[path];
        let headers = memchr::memmem::find_iter(bytes, b"SGL\xa7").filter(|at| *at > 0 && bytes[at + 5] == 3);
        for at in headers {
            let what = format!("{} record at {at}", path.display());
            let found = world.open(world.with(path, |bytes| record::make_later(bytes, at)), &what);
            assert_eq!(found.lost(), 1, "{what}");
            let appended = found.gaps[0].0.appended;
            assert_eq!(appended.from, appended.until, "{what}: its header is intact");
        }
    }
}

#[test]
fn a_cursor_file_that_cannot_be_read_is_kept_aside_and_its_output_begins_at_the_oldest_record() {
    let world = world();
    let path = &world.cursors[1];
    let newer = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace("\"version\":2", "\"version\":3");
    for (content, why) in [
        (vec![], Aside::Damaged),
        (b"{".to_vec(), Aside::Damaged),
        (br#"{"seq":1,"ordinal":2,"delivered":1,"dropped":{}}"#.to_vec(), Aside::Damaged),
        (vec![0; 400], Aside::Damaged),
        (vec![b'{'; 2 << 20], Aside::Damaged),
        (newer(&world.image[path]).into_bytes(), Aside::Newer),
    ] {
        let mut image = world.image.clone();
        // A trimmed log: what lies before its oldest record is what nobody can account for.
        image.remove(&world.segments[0]);
        image.get_mut(&world.cursors[0]).unwrap().clear();
        image.insert(path.clone(), content.clone());
        let storage = Memory::from_image(&image);
        let log = open(&storage, small_segments());
        let cursor = log.cursor("mid/dle").unwrap();
        let first = log.stats().first;
        let expected = BTreeMap::from([("cursor_damaged".to_owned(), first.ordinal)]);
        assert!(first.ordinal > 0);
        let state = cursor.state();
        assert_eq!((state.position(), state.delivered, &state.dropped), (first, 0, &expected));
        let aside = PathBuf::from(format!("{}.{}", path.display(), why.as_str()));
        assert_eq!(storage.survivors()[&aside], content);
        assert_eq!(log.stats().damage.set_aside, [aside]);
        drop((log, cursor));
        // A crash between setting aside and writing the new file must not make it a new output.
        let mut image = storage.survivors();
        image.remove(path);
        let log = open(&Memory::from_image(&image), small_segments());
        assert_eq!(log.cursor("mid/dle").unwrap().state().dropped, expected);
        assert_eq!(
            log.cursor("another").unwrap().state().dropped,
            BTreeMap::from([("before_output".to_owned(), first.ordinal)])
        );
    }
}

#[test]
fn a_cursor_damaged_twice_keeps_both_files() {
    let world = world();
    let path = &world.cursors[1];
    let storage = world.with(path, |bytes| *bytes = b"first".to_vec());
    drop(open(&storage, small_segments()).cursor("mid/dle").unwrap());
    let mut image = storage.survivors();
    image.insert(path.clone(), b"second".to_vec());
    let storage = Memory::from_image(&image);
    drop(open(&storage, small_segments()).cursor("mid/dle").unwrap());
    let kept = |suffix: &str| storage.survivors()[Path::new(&format!("{}.damaged{suffix}", path.display()))].clone();
    assert_eq!([kept(""), kept(".1")], [b"first".to_vec(), b"second".to_vec()]);
}
