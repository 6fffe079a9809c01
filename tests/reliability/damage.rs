//! Damage to the files of a log that is down: the process starts, what the damage touched is lost and counted exactly, and
//! everything else reaches every output.

use crate::report::{Attack, random, scaled};
use crate::sinks::{NAMES, Sinks};
use crate::support::counting_sink::{Kind, Mode};
use crate::support::gateway::{Gateway, gateway};
use crate::support::load::{Load, balances, under_load};
use crate::support::numbered::is_finite;
use fastrand::Rng;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const CLIENTS: u64 = 5;
/// Samples in the log that is damaged.
const SAMPLES: u64 = 20_000;
/// What a flipped byte may cost: the samples of one request, and those of another where it hits a header.
const LOST_BY_A_BYTE: u64 = 100;
/// What a segment of 64 KiB can hold: a sample takes more than eight bytes.
const SEGMENT_SAMPLES_MAX: u64 = (64 << 10) / 8;

/// The segment files of a log, oldest first.
fn segments(log: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(log.join("segments")).expect("segments");
    let mut segments: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    segments.sort();
    segments
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).expect("it is there").len()
}

fn flip_a_byte(file: &Path, random: &mut Rng) {
    let mut bytes = fs::read(file).expect("readable");
    let at = random.usize(0..bytes.len());
    bytes[at] ^= random.u8(1..);
    fs::write(file, bytes).expect("writable");
}

fn truncate(file: &Path, random: &mut Rng) {
    let file_size = size(file);
    File::options().write(true).open(file).and_then(|file| file.set_len(random.u64(0..file_size))).expect("writable");
}

/// Damages a log that nothing was delivered of, `rounds` times anew. `inflict` says how many samples the damage can have
/// cost at most.
fn damaged(test: &'static str, fault: &str, inflict: impl Fn(&Path, &mut Rng) -> u64) {
    let attack = Attack::begin(test, fault);
    let mut random = random(test);
    let rounds = scaled(2, 30);
    let (mut acknowledged, mut lost) = (0, 0);
    for _ in 0..rounds {
        let sinks = Sinks::start();
        sinks.set(Mode::Answers(503));
        let log = "max_bytes: 64MiB, segment_bytes: 64KiB, memory_bytes: 1MiB";
        let gateway = sinks.outputs(gateway().log(log)).start();
        let url = gateway.url("");
        let (load, ()) = under_load(&url, 0..CLIENTS, |progress| progress.await_more(SAMPLES));
        let stopped = gateway.crash();
        let lost_max = inflict(&stopped.log_dir(), &mut random);
        sinks.set(Mode::Takes);
        let gateway = stopped.start();
        gateway.drained();
        acknowledged += load.acknowledged();
        lost += judge(&sinks, &gateway, &load, lost_max);
    }
    attack.end_with(rounds, acknowledged, lost, 0);
}

/// What did not arrive is what each output counted as damaged; how many samples that is.
fn judge(sinks: &Sinks, gateway: &Gateway, load: &Load, lost_max: u64) -> u64 {
    assert_eq!(load.in_doubt(), 0);
    balances(&gateway.status(), load.acknowledged(), load.acknowledged());
    let [all, ..] = sinks.all();
    let missing = load.missing(all).len() as u64;
    assert!(missing <= lost_max, "{missing} lost, {lost_max} at most");
    let non_finite = all.count(|client, number| !is_finite(client, number)) as f64;
    for (sink, name) in sinks.all().into_iter().zip(NAMES) {
        assert_eq!(sink.wrong(), Vec::<String>::new());
        assert_eq!(sink.duplicates(), 0, "{name}");
        let mut expected = Vec::new();
        if missing > 0 {
            expected.push(("log_damaged".to_owned(), missing as f64));
        }
        if sink.kind() == Kind::RemoteWrite {
            assert_eq!(sink.distinct() + missing, load.acknowledged());
        } else {
            expected.push(("non_finite".to_owned(), non_finite));
            assert_eq!(sink.distinct() as f64 + non_finite + missing as f64, load.acknowledged() as f64);
        }
        assert_eq!(gateway.dropped(name), expected, "{name}");
    }
    missing
}

/// `sluicegate log verify` sees it, too.
fn verify_finds_damage(log: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    let verified = command.args(["log", "verify", "--dir"]).arg(log).output().expect("it runs");
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
}

#[test]
fn a_flipped_byte_costs_what_it_touches() {
    let test = "damage::a_flipped_byte_costs_what_it_touches";
    damaged(test, "a random byte flipped in each segment (all lost are counted)", |log, random| {
        let files = segments(log);
        assert!(files.len() > 3, "{files:?}");
        for file in &files {
            flip_a_byte(file, random);
        }
        verify_finds_damage(log);
        LOST_BY_A_BYTE * files.len() as u64
    });
}

#[test]
fn a_truncated_segment_costs_its_end() {
    let test = "damage::a_truncated_segment_costs_its_end";
    damaged(test, "a segment but the last truncated anywhere (all lost are counted)", |log, random| {
        let files = segments(log);
        truncate(&files[random.usize(..files.len() - 1)], random);
        SEGMENT_SAMPLES_MAX
    });
}

#[test]
fn a_missing_segment_costs_what_it_held() {
    let test = "damage::a_missing_segment_costs_what_it_held";
    damaged(test, "a segment but the last removed (all lost are counted)", |log, random| {
        let files = segments(log);
        fs::remove_file(&files[random.usize(..files.len() - 1)]).expect("it was there");
        SEGMENT_SAMPLES_MAX
    });
}

#[test]
fn a_tail_of_zeros_costs_nothing() {
    let test = "damage::a_tail_of_zeros_costs_nothing";
    damaged(test, "zeros behind the last record", |log, random| {
        let files = segments(log);
        let mut last = File::options().append(true).open(files.last().expect("the active one")).expect("writable");
        last.write_all(&vec![0; random.usize(1..10_000)]).expect("writable");
        0
    });
}

/// Kills a gateway that has delivered a part, damages its cursors, and starts it again.
fn cursors_damaged(test: &'static str, fault: &str, inflict: impl Fn(&Path, &mut Rng)) -> (Sinks, Gateway, Load) {
    let attack = Attack::begin(test, fault);
    let mut random = random(test);
    let sinks = Sinks::start();
    let log = "max_bytes: 64MiB, segment_bytes: 64KiB, memory_bytes: 1MiB";
    let gateway = sinks.outputs(gateway().log(log)).start();
    let url = gateway.url("");
    let (load, stopped) = under_load(&url, 0..CLIENTS, |progress| {
        progress.await_more(SAMPLES);
        sinks.set(Mode::Answers(503));
        progress.await_more(SAMPLES);
        gateway.crash()
    });
    for entry in fs::read_dir(stopped.log_dir().join("cursors")).expect("cursors") {
        inflict(&entry.expect("an entry").path(), &mut random);
    }
    sinks.set(Mode::Takes);
    let gateway = stopped.start();
    gateway.drained();
    attack.end(NAMES.len() as u64, &load, &sinks.all());
    (sinks, gateway, load)
}

#[test]
fn a_flipped_byte_in_a_cursor_costs_nothing() {
    let test = "damage::a_flipped_byte_in_a_cursor_costs_nothing";
    let (sinks, gateway, load) =
        cursors_damaged(test, "kill -9, then a random byte flipped in each cursor", flip_a_byte);
    sinks.judge(&gateway, &load);
}

#[test]
fn a_cursor_that_cannot_be_read_is_set_aside_and_all_that_is_kept_is_sent_again() {
    let test = "damage::a_cursor_that_cannot_be_read_is_set_aside_and_all_that_is_kept_is_sent_again";
    let overwrite = |file: &Path, random: &mut Rng| {
        let length = random.usize(..500);
        let garbage: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        fs::write(file, garbage).expect("writable");
    };
    let (sinks, gateway, load) =
        cursors_damaged(test, "kill -9, then every cursor overwritten with garbage", overwrite);
    balances(&gateway.status(), load.acknowledged(), load.acknowledged() + load.in_doubt());
    for (sink, name) in sinks.all().into_iter().zip(NAMES) {
        load.arrived_at(sink);
        // What it had delivered and the log no longer holds: nobody can tell that it was delivered.
        let reasons: Vec<_> = gateway.dropped(name).into_iter().map(|(reason, _)| reason).collect();
        assert!(
            reasons.iter().all(|reason| reason == "cursor_damaged" || reason == "non_finite"),
            "{name}: {reasons:?}"
        );
    }
}
