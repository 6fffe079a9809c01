use super::*;
use crate::output::search::Pieces;
use tempfile::TempDir;

fn account() -> Arc<OutputAccount> {
    Arc::new(OutputAccount::new("a.b".into(), "influxdb", String::new(), 0, BTreeMap::new()))
}

fn body(lines: &[&str]) -> Body {
    let mut body = Body::default();
    for line in lines {
        body.bytes.extend_from_slice(line.as_bytes());
        body.cut(2);
    }
    body
}

fn letter(lines: &[&str]) -> Letter {
    let body = body(lines);
    let refusal = Refusal {
        pieces: Pieces::all(&body),
        samples: 1,
        status: 400,
        words: "no \"good\"\n".to_owned(),
        note: Some("one of these".to_owned()),
        suspect: false,
    };
    Letter::new(Format::InfluxLine, &body, &refusal, 1_700_000_000_000_000_000)
}

/// Kept, discarded.
fn counts(account: &OutputAccount) -> (u64, u64) {
    let now = account.snapshot();
    (now.dead_letter_samples, now.dead_letters_discarded)
}

fn texts(dir: &Path) -> Vec<String> {
    let text = |letter: Letter| String::from_utf8(letter.body().unwrap().1.bytes).unwrap();
    letters(dir, "a.b").flatten().map(text).collect()
}

#[test]
fn a_letter_comes_back_as_it_was_sent() {
    let dir = TempDir::new().unwrap();
    let account = account();
    let store = DeadLetters::new(dir.path(), 1 << 20, Arc::clone(&account));
    store.keep(&[letter(&["m v=\"\u{1f600}\n\\\" 1\n", "n v=2 1\n"])]);
    let kept: Vec<_> = letters(dir.path(), "a.b").map(Result::unwrap).collect();
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].time.as_str(), kept[0].status, kept[0].samples), ("2023-11-14T22:13:20Z", 400, 4));
    assert_eq!((kept[0].words.as_str(), kept[0].note.as_deref()), ("no \"good\"\n", Some("one of these")));
    let (purpose, again) = kept[0].body().unwrap();
    assert_eq!((purpose, again), (Purpose::Samples, body(&["m v=\"\u{1f600}\n\\\" 1\n", "n v=2 1\n"])));
    assert_eq!(counts(&account), (4, 0));
    assert_eq!(DeadLetters::new(dir.path(), 1 << 20, account).kept.lock()[0], 4, "counted at the next start");
}

#[test]
fn what_is_not_text_comes_back_too() {
    let body =
        Body { bytes: vec![0xff, 0, b'\n'], cuts: vec![Cut { end: 3, samples: 1, on_wire: 1 }], ..Body::default() };
    let refusal = Refusal {
        pieces: Pieces::all(&body),
        samples: 1,
        status: 422,
        words: String::new(),
        note: None,
        suspect: true,
    };
    for format in [Format::RemoteWrite, Format::InfluxLine] {
        let line = Letter::new(format, &body, &refusal, 0).line();
        let read: Letter = serde_json::from_slice(&line).unwrap();
        assert_eq!(read.body().unwrap().1, body);
        assert_eq!(read.format(), Some(format));
    }
}

#[test]
fn a_letter_that_does_not_fit_together_is_no_body() {
    let good = letter(&["a v=1 1\n", "b v=1 1\n"]);
    assert!(good.body().is_some());
    assert_eq!(Letter { prefix: 99, ..good.clone() }.body(), None);
    assert_eq!(Letter { cuts: vec![(9, 1, 1), (1, 1, 1)], ..good.clone() }.body(), None);
    assert_eq!(Letter { cuts: vec![(99, 1, 1), (16, 1, 1)], ..good.clone() }.body(), None, "not in order");
    assert_eq!(Letter { cuts: Vec::new(), ..good.clone() }.body(), None);
    assert_eq!(Letter { bytes: Encoded::Base64("?".to_owned()), ..good }.body(), None);
}

#[test]
fn a_torn_line_costs_that_line_only() {
    let dir = TempDir::new().unwrap();
    let account = account();
    let store = DeadLetters::new(dir.path(), 1 << 20, Arc::clone(&account));
    store.keep(&[letter(&["a v=1 1\n"]), letter(&["b v=1 1\n"])]);
    let file = path(&dir_in(dir.path()), "a.b", CURRENT);
    let whole = fs::read(&file).unwrap();
    let first = letter(&["a v=1 1\n"]).line().len();
    for cut in first..whole.len() - 1 {
        fs::write(&file, &whole[..cut]).unwrap();
        let store = DeadLetters::new(dir.path(), 1 << 20, Arc::clone(&account));
        assert_eq!(counts(&account).0, 2, "cut at {cut}");
        store.keep(&[letter(&["c v=1 1\n"])]);
        assert_eq!(texts(dir.path()), ["a v=1 1\n", "c v=1 1\n"], "cut at {cut}");
        assert_eq!(list(dir.path()).unwrap()["a.b"].unreadable, u64::from(cut > first), "cut at {cut}");
    }
    // Queued, it is still there for people to look at.
    queue_replay(dir.path(), "a.b").unwrap();
    assert_eq!(list(dir.path()).unwrap()["a.b"], Summary { letters: 0, samples: 0, queued: 4, unreadable: 1 });
}

#[test]
fn two_generations_hold_the_bound_and_count_what_goes() {
    let dir = TempDir::new().unwrap();
    let account = account();
    let one = letter(&["m v=1 1\n"]);
    let bound = one.line().len() as u64 * 20 + 10;
    let store = DeadLetters::new(dir.path(), bound, Arc::clone(&account));
    for group in [1, 7, 30, 5] {
        store.keep(&vec![one.clone(); group]);
        let bytes: u64 =
            fs::read_dir(dir_in(dir.path())).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes <= bound, "{bytes} of {bound}");
        let (kept, discarded) = counts(&account);
        assert_eq!(kept, letters(dir.path(), "a.b").map(|letter| letter.unwrap().samples).sum::<u64>());
        assert!(discarded % 2 == 0 && kept >= 2 * 10.min(group as u64), "{kept} {discarded}");
    }
    let (kept, discarded) = counts(&account);
    assert_eq!(kept + discarded, 2 * 43);
    let large = letter(&["m v=\"0123456789\" 1\n"; 1000]);
    store.keep(std::slice::from_ref(&large));
    assert_eq!(counts(&account), (kept, discarded + large.samples), "it goes alone");
}

#[test]
fn a_disk_that_takes_nothing_costs_the_letters_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let account = account();
    let store = DeadLetters::new(dir.path(), 1 << 20, Arc::clone(&account));
    // No space left on the device.
    fs::create_dir(dir_in(dir.path())).unwrap();
    std::os::unix::fs::symlink("/dev/full", path(&dir_in(dir.path()), "a.b", CURRENT)).unwrap();
    store.keep(&[letter(&["m v=1 1\n"])]);
    assert_eq!(counts(&account), (0, 2));
    // No folder.
    fs::remove_dir_all(dir_in(dir.path())).unwrap();
    fs::write(dir_in(dir.path()), "").unwrap();
    store.keep(&[letter(&["m v=1 1\n"])]);
    assert_eq!(counts(&account), (0, 4));
    // And it recovers.
    fs::remove_file(dir_in(dir.path())).unwrap();
    store.keep(&[letter(&["m v=1 1\n"])]);
    assert_eq!(counts(&account), (2, 4));
}

#[test]
fn replay_queues_all_generations_once_and_in_order() {
    let dir = TempDir::new().unwrap();
    let account = account();
    let line = letter(&["a0 v=1 1\n"]).line().len() as u64;
    let store = DeadLetters::new(dir.path(), line * 4 + 2, account);
    for number in 0..3 {
        store.keep(&[letter(&[&format!("a{number} v=1 1\n")])]);
    }
    assert_eq!(texts(dir.path()), ["a0 v=1 1\n", "a1 v=1 1\n", "a2 v=1 1\n"]);
    assert_eq!(queue_replay(dir.path(), "a.b").unwrap(), 6);
    store.keep(&[letter(&["a3 v=1 1\n"])]);
    assert_eq!(list(dir.path()).unwrap()["a.b"], Summary { letters: 1, samples: 2, queued: 6, unreadable: 0 });
    assert_eq!(queue_replay(dir.path(), "a.b").unwrap(), 8);
    let queued: Vec<_> = read(&store.replay_path()).map(|letter| letter.unwrap().body().unwrap().1.bytes[1]).collect();
    assert_eq!(queued, b"0123");
    assert_eq!(texts(dir.path()), [""; 0]);
    forget(&store.replay_path()).unwrap();
    assert_eq!(list(dir.path()).unwrap().len(), 0);
}

#[test]
fn distributions_go_where_distributions_go_and_long_words_are_cut() {
    let body = body(&["!M 1700000000 #1 2 lat source=a\n"]);
    let words = "\u{e9}".repeat(WORDS_MAX + 5);
    let pieces = Pieces::all(&body);
    let refusal = Refusal { pieces, samples: 1, status: 400, words, note: None, suspect: true };
    let letter = Letter::new(Format::Wavefront, &body, &refusal, 0);
    assert_eq!(letter.body(), Some((Purpose::Distributions, body.clone())));
    assert_eq!(letter.words.chars().count(), WORDS_MAX);
    assert_eq!(Letter::new(Format::InfluxLine, &body, &refusal, 0).body(), Some((Purpose::Samples, body)));
}

#[test]
fn queued_letters_are_apart_from_a_line_torn_before_them_and_a_running_gateway_keeps_its_own() {
    let dir = TempDir::new().unwrap();
    let store = DeadLetters::new(dir.path(), 1 << 20, account());
    store.keep(&[letter(&["a v=1 1\n"])]);
    let [old, current] = [OLD, CURRENT].map(|end| path(&dir_in(dir.path()), "a.b", end));
    let whole = fs::read(&current).unwrap();
    fs::write(&old, &whole[..whole.len() - 1]).unwrap();
    let running = Disk.lock(&dir.path().join("lock")).unwrap();
    assert!(matches!(queue_replay(dir.path(), "a.b"), Err(LogError::Locked(_))));
    drop(running);
    assert_eq!(queue_replay(dir.path(), "a.b").unwrap(), 4, "one that lacks its newline, and the one behind it");
}
