//! The dead-letter log of an output: bounded, safe before its samples are settled, listed, and sent again.

use super::*;
use std::fs;
use support::gateway::Setup;

const ONE: &str = "queue_config: { max_shards: 1, batch_send_deadline: 5ms, min_backoff: 20ms, max_backoff: 200ms }";

/// An InfluxDB that refuses lines of `bad` until it is told otherwise.
fn moody() -> (Destination, Arc<AtomicBool>) {
    let refuses = Arc::new(AtomicBool::new(true));
    let now = Arc::clone(&refuses);
    let sink = destination::http().rule(move |request| {
        let bad = request.lines().iter().any(|line| line.starts_with("bad"));
        (bad && now.load(Relaxed)).then(|| status(400).body("{\"error\":\"no bad ones\"}"))
    });
    (sink, refuses)
}

fn to(sink: &Destination) -> Setup {
    gateway().to_kind("my.influx", "influxdb", sink, &format!("database: d, {ONE}"))
}

fn bad(count: usize) -> String {
    (0..count).map(|n| format!("bad,host=h{n} v={n} {T}\n")).collect()
}

fn kept(gw: &Gateway) -> f64 {
    gw.metric("sluicegate_dead_letter_samples", &[("output", "my.influx")])
}

fn replayed(gw: &Gateway) -> f64 {
    gw.metric("sluicegate_dead_letter_replayed_total", &[("output", "my.influx")])
}

fn await_settled(gw: &Gateway) {
    eventually(SLOW, || {
        let queued = gw.log_dir().join("dead_letters/my%2Einflux.replay.jsonl");
        if queued.exists() { Err("the replay is not done".to_owned()) } else { Ok(()) }
    });
}

#[test]
fn refused_samples_are_listed_and_sent_again_when_the_destination_takes_them() {
    let (sink, refuses) = moody();
    let mut gw = to(&sink).start();
    gw.post_influx(&(rows(5) + &bad(3)));
    gw.drained();
    assert_eq!((refused(&gw, "my.influx"), kept(&gw)), (3.0, 3.0));
    assert_eq!(gw.server().terminate().code(), Some(0));
    let listed = gw.log(&["ls"]);
    assert!(listed.ends_with("dead letters my.influx: 3 letters, 3 samples, 0 more queued for replay\n"), "{listed}");
    assert_eq!(
        gw.log(&["replay", "--dead-letters", "my.influx"]),
        "3 samples will be sent to my.influx when the gateway starts\n"
    );
    let listed = gw.log(&["ls"]);
    assert!(listed.ends_with("dead letters my.influx: 0 letters, 0 samples, 3 more queued for replay\n"), "{listed}");

    // Still refused: back they go, with the new answer.
    let mut gw = gw.crash_and_restart();
    await_settled(&gw);
    assert_eq!((replayed(&gw), kept(&gw)), (0.0, 3.0));

    refuses.store(false, Relaxed);
    assert_eq!(gw.server().terminate().code(), Some(0));
    gw.log(&["replay", "--dead-letters", "my.influx"]);
    let gw = gw.crash_and_restart();
    await_settled(&gw);
    assert_eq!((replayed(&gw), kept(&gw)), (3.0, 0.0));
    let lines = sink.lines();
    let arrived: Vec<_> = lines.iter().filter(|line| line.starts_with("bad")).collect();
    assert_eq!(arrived, [0, 1, 2].map(|n| format!("bad,host=h{n} v={n} {T}")).iter().collect::<Vec<_>>());
    // The ledger does not change: they were dropped.
    assert_eq!((refused(&gw, "my.influx"), gw.delivered("my.influx")), (3.0, 5.0));
    gw.balanced();
    assert_eq!(gw.status()["outputs"][0]["dead_letters"]["replayed"], 3);
}

#[test]
fn remote_write_letters_of_either_version_go_out_as_they_were() {
    for version in ["1", "2", "auto"] {
        let refuses = Arc::new(AtomicBool::new(true));
        let now = Arc::clone(&refuses);
        let sink = destination::remote_write().rule(move |request| {
            let lines = request.lines();
            let bad = lines.iter().filter(|line| line.starts_with("bad")).count();
            (bad > 0 && now.load(Relaxed)).then(|| status(400).written(if request.is_version_2() { 0 } else { 9 }))
        });
        let gw = gateway().to_kind("prom", RW, &sink, &format!("version: {version}, {ONE}")).start();
        gw.post_influx(&(rows(5) + &bad(3)));
        gw.drained();
        assert_eq!((refused(&gw, "prom"), gw.delivered("prom")), (3.0, 5.0), "{version}");
        let mut gw = gw;
        gw.server().terminate();
        gw.log(&["replay", "--dead-letters", "prom"]);
        refuses.store(false, Relaxed);
        let gw = gw.crash_and_restart();
        gw.await_output("prom", "sluicegate_dead_letter_replayed_total", 3.0);
        let lines = sink.lines();
        for n in 0..3 {
            let line = format!("bad_v{{host=\"h{n}\"}} {n} 1700000000000");
            assert_eq!(lines.iter().filter(|taken| **taken == line).count(), 1, "{version} {lines:?}");
        }
    }
}

#[test]
fn a_letter_that_the_output_cannot_send_any_more_is_kept() {
    let (sink, _) = moody();
    let mut gw = to(&sink).start();
    gw.post_influx(&bad(2));
    gw.drained();
    gw.server().terminate();
    gw.log(&["replay", "--dead-letters", "my.influx"]);
    let wavefront = destination::http();
    let gw = gw.crash_and_restart_as(gateway().to_kind("my.influx", "wavefront", &wavefront, ""));
    await_settled(&gw);
    assert_eq!((kept(&gw), replayed(&gw), wavefront.requests().len()), (2.0, 0.0, 0));
}

#[test]
fn a_replay_that_cannot_go_on_delays_no_live_sample_and_starts_over_after_a_crash() {
    let (sink, _) = moody();
    let mut gw = to(&sink).start();
    gw.post_influx(&bad(2));
    gw.drained();
    gw.server().terminate();
    gw.log(&["replay", "--dead-letters", "my.influx"]);
    // Now it does not even answer for them.
    let stuck = Arc::new(AtomicBool::new(true));
    let now = Arc::clone(&stuck);
    let sink = destination::http().rule(move |request| {
        let second = request.lines().iter().any(|line| line.starts_with("bad,host=h1"));
        (second && now.load(Relaxed)).then(|| status(503))
    });
    let gw = gw.crash_and_restart_as(to(&sink));
    eventually(SLOW, || if replayed(&gw) == 1.0 { Ok(()) } else { Err("the first letter is not there".to_owned()) });
    gw.post_influx(&rows(50));
    gw.drained();
    assert_eq!(gw.delivered("my.influx"), 50.0);
    stuck.store(false, Relaxed);
    let gw = gw.crash_and_restart();
    await_settled(&gw);
    let count = |text: &str| sink.lines().iter().filter(|line| line.starts_with(text)).count();
    assert_eq!(count("bad,host=h1"), 1);
    assert!(count("bad,host=h0") >= 1, "after a crash all of it is sent again");
}

#[test]
fn letters_are_safe_before_their_samples_count_as_dropped() {
    let (sink, _) = moody();
    let rounds = if std::env::var_os("SLUICEGATE_LONG").is_some() { 50 } else { 5 };
    let mut gw = to(&sink).start();
    for round in 1..=rounds {
        gw.post_influx(&bad(40));
        eventually(SLOW, || {
            let count = refused(&gw, "my.influx");
            if count > f64::from(round - 1) * 40.0 { Ok(()) } else { Err(format!("{count} in round {round}")) }
        });
        // At any moment: the letters hold at least what the ledger has as refused.
        let counted = refused(&gw, "my.influx");
        gw = gw.crash_and_restart();
        assert!(kept(&gw) >= counted, "{} of {counted}", kept(&gw));
        gw.drained();
        gw.balanced();
    }
    let inspected = gw.log(&["inspect", "--dead-letters", "my.influx"]);
    let samples = inspected.lines().filter(|line| line.contains(" bad{host=")).count();
    assert_eq!(samples as f64, kept(&gw));
    assert!(kept(&gw) >= refused(&gw, "my.influx"));
}

#[test]
fn the_bound_holds_and_what_it_costs_is_counted() {
    let (sink, _) = moody();
    let block = format!("influxdb: {{ {}, database: d, {ONE} }}\n    dead_letters_max_bytes: 64KiB", sink.url());
    let gw = gateway().output("my.influx", &block).start();
    for _ in 0..8 {
        gw.post_influx(&bad(60));
        gw.drained();
    }
    let discarded = gw.metric("sluicegate_dead_letter_discarded_total", &[("output", "my.influx")]);
    assert!(discarded > 0.0 && kept(&gw) > 50.0, "{discarded} {}", kept(&gw));
    assert_eq!(kept(&gw) + discarded, refused(&gw, "my.influx"));
    let files = fs::read_dir(gw.log_dir().join("dead_letters")).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= 64 << 10, "{bytes}");
}

#[test]
fn a_disk_that_takes_no_letters_holds_nothing_up() {
    let (sink, _) = moody();
    let gw = to(&sink).start();
    let dir = gw.log_dir().join("dead_letters");
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.join("my%2Einflux.jsonl")).unwrap();
    gw.post_influx(&(bad(2) + &rows(10)));
    gw.drained();
    assert_eq!((gw.delivered("my.influx"), refused(&gw, "my.influx"), kept(&gw)), (10.0, 2.0, 0.0));
    assert_eq!(gw.metric("sluicegate_dead_letter_discarded_total", &[]), 2.0);
    assert_eq!(http::get(&gw.url("/-/healthy")).status, 200);
}
