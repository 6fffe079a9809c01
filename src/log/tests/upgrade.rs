//! What each released version left on disk opens for ever. `tests/fixtures/log/<version>` is a log as that version wrote it,
//! and beside it, in words, what it holds.

use super::*;
use std::fs;

/// Two segments, several formats, every kind of value, and two cursors, one of whose names needs encoding.
fn write(dir: &Path) -> String {
    let log = Log::open(LogConfig { dir: dir.to_owned(), segment_bytes: 5000, ..config() }, table()).unwrap();
    let cursors = [log.cursor("influx").unwrap(), log.cursor("näme with/slash.json").unwrap()];
    for number in 0..8 {
        let batch = match Format::ALL.get(number as usize) {
            Some(format) => every_kind_of_value(&log, *format),
            None => batch(&log, number, number * 3),
        };
        run(log.append(batch)).unwrap();
    }
    let dropped = BTreeMap::from([("relabel".to_owned(), 4), ("string_value".to_owned(), 2)]);
    for (cursor, state) in cursors.iter().zip([
        CursorState { seq: 1, ordinal: 11, delivered: 5, dropped },
        CursorState { seq: 2, ordinal: 22, delivered: 22, dropped: BTreeMap::new() },
    ]) {
        assert!(cursor.acknowledge(state));
    }
    run(log.close());
    in_words(&log)
}

fn in_words(log: &Log) -> String {
    let mut words = String::new();
    for cursor in ["influx", "näme with/slash.json"] {
        let CursorState { seq, ordinal, delivered, dropped } = log
            .cursor(cursor)
            .map_or_else(|_| log.shared.state.lock().cursors[cursor].live().clone(), |cursor| cursor.state());
        writeln!(words, "{cursor}: {seq} {ordinal} {delivered} {dropped:?}").unwrap();
    }
    for format in Format::ALL {
        writeln!(words, "{} {}", format.as_str(), log.accepted(format)).unwrap();
    }
    run(async {
        let mut reader = log.reader(Position::default());
        while reader.position().seq < log.end().seq {
            let Entry::Record(record) = reader.next().await.unwrap() else { panic!("nothing is lost") };
            let Record { seq, ordinal, appended_at, batch } = &*record;
            writeln!(words, "\n{seq} {ordinal} {appended_at} {}", text(log, batch)).unwrap();
        }
    });
    words
}

fn open_copy(of: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["segments", "cursors"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        for file in fs::read_dir(of.join(folder)).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), dir.path().join(folder).join(file.file_name())).unwrap();
        }
    }
    in_words(&Log::open(LogConfig { dir: dir.path().to_owned(), ..config() }, table()).unwrap())
}

#[test]
fn files_of_every_release_open_and_hold_what_they_held() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log");
    let versions: Vec<_> = fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!versions.is_empty());
    for version in versions {
        assert_eq!(fs::read_dir(version.join("segments")).unwrap().count(), 2);
        assert_eq!(
            open_copy(&version),
            fs::read_to_string(version.join("holds.txt")).unwrap(),
            "{}",
            version.display()
        );
    }
}

/// With `SLUICEGATE_WRITE_FIXTURE=<folder>` the files of this version stay there, to be kept as its fixture.
#[test]
fn this_version_reads_what_it_writes_and_keeps_its_files() {
    let temporary = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("SLUICEGATE_WRITE_FIXTURE").map(PathBuf::from);
    let dir = kept.as_deref().unwrap_or(temporary.path());
    let holds = write(dir);
    assert_eq!(fs::read_dir(dir.join("segments")).unwrap().count(), 2);
    assert_eq!(open_copy(dir), holds);
    fs::write(dir.join("holds.txt"), holds).unwrap();
    fs::remove_file(dir.join("lock")).unwrap();
}
