//! Destinations that refuse whatever they get: nothing they say is about samples, so none are thrown away for it.

use super::*;
use destination::Request;
use std::sync::atomic::AtomicUsize;

const WORDS: &str = "unsupported path requested: \"/api/v1/wirte\"";

/// A server that answers everything with that status until it is told otherwise.
fn wrong_place(kind: &str, code: u16) -> (Destination, Arc<AtomicBool>) {
    let wrong = Arc::new(AtomicBool::new(true));
    let is_wrong = Arc::clone(&wrong);
    (destination::of(kind).rule(move |_| is_wrong.load(Relaxed).then(|| status(code).body(WORDS))), wrong)
}

fn is_empty(request: &Request) -> bool {
    request.lines().is_empty()
}

#[test]
fn the_samples_of_a_wrong_place_wait_until_it_is_the_right_one() {
    let cases = [
        (RW, "version: 1", 400),
        (RW, "version: auto", 400),
        (RW, "version: 2", 422),
        ("influxdb", "database: d", 400),
        ("wavefront", "source: me", 400),
    ];
    std::thread::scope(|scope| {
        for (kind, keys, code) in cases {
            scope.spawn(move || {
                let (sink, wrong) = wrong_place(kind, code);
                let one = "queue_config: { max_shards: 1, batch_send_deadline: 100ms }";
                let gw = gateway().to_kind("out", kind, &sink, &format!("{keys}, {one}")).start();
                gw.post_influx(&rows(500));
                gw.await_output("out", "sluicegate_output_misconfigured", 1.0);
                assert_eq!(gw.status()["outputs"][0]["last_error"], format!("{code} {WORDS}"));
                // It is asked again, seldom: one empty request each time.
                eventually(SLOW, || match sink.requests().iter().filter(|request| is_empty(request)).count() {
                    0..3 => Err("it is not asked again".to_owned()),
                    _ => Ok(()),
                });
                let requests = sink.requests();
                assert!(requests.len() < 150, "{}", requests.len());
                let asked: Vec<_> = requests.iter().filter(|request| is_empty(request)).map(|found| found.at).collect();
                assert!(asked[1] - asked[0] >= Duration::from_secs(1) && asked[2] - asked[1] >= Duration::from_secs(2));
                assert_eq!((gw.delivered("out"), gw.dropped("out")), (0.0, Vec::new()), "{kind}");
                wrong.store(false, Relaxed);
                gw.drained();
                assert_eq!((gw.delivered("out"), gw.dropped("out")), (500.0, Vec::new()), "{kind}");
                assert_eq!(gw.metric("sluicegate_output_misconfigured", &[]), 0.0);
                assert!(!gw.log_dir().join("dead_letters").exists());
            });
        }
    });
}

#[test]
fn a_place_that_becomes_the_right_one_while_it_is_asked_loses_nothing() {
    for wrong in [1, 2, 4, 7] {
        let answered = AtomicUsize::new(0);
        let sink = destination::remote_write()
            .rule(move |_| (answered.fetch_add(1, Relaxed) < wrong).then(|| status(400).body(WORDS)));
        let one = "version: 1, queue_config: { max_shards: 1, batch_send_deadline: 5ms }";
        let gw = gateway().to_kind("out", RW, &sink, one).start();
        gw.post_influx(&rows(4));
        gw.drained();
        assert_eq!((gw.delivered("out"), gw.dropped("out")), (4.0, Vec::new()), "{wrong}");
    }
}

#[test]
fn a_place_that_becomes_wrong_loses_nothing_either() {
    let (sink, wrong) = wrong_place("influxdb", 400);
    wrong.store(false, Relaxed);
    let gw = gateway().to_kind("out", "influxdb", &sink, "database: d").start();
    gw.post_influx(&rows(50));
    gw.drained();
    wrong.store(true, Relaxed);
    gw.post_influx(&rows(70));
    gw.await_output("out", "sluicegate_output_misconfigured", 1.0);
    wrong.store(false, Relaxed);
    gw.drained();
    assert_eq!((gw.delivered("out"), gw.dropped("out")), (120.0, Vec::new()));
}

#[test]
fn a_first_body_of_nothing_but_bad_samples_does_not_hold_up_the_good_ones() {
    // Who says what is wrong with them is believed; so is who takes an empty request.
    for (words, takes_empty) in [("out of bounds", false), ("no", true)] {
        let sink = destination::remote_write().rule(move |request| {
            let bad = request.lines().iter().any(|line| line.starts_with("cpu"));
            (bad || is_empty(request) && !takes_empty).then(|| status(400).body(words))
        });
        let one = "version: 1, queue_config: { max_shards: 1, batch_send_deadline: 5ms }";
        let gw = gateway().to_kind("prom", RW, &sink, one).start();
        gw.post_influx(&rows(100));
        gw.await_output("prom", "sluicegate_dead_letter_samples", 100.0);
        gw.post_influx(&format!("good v=1 {T}\n"));
        gw.drained();
        assert_eq!((gw.delivered("prom"), refused(&gw, "prom")), (1.0, 100.0), "{words}");
    }
}

#[test]
fn whatever_the_empty_request_is_answered_it_holds_nothing_up() {
    for code in [403, 500] {
        let sink = destination::remote_write().rule(move |request| {
            let bad = request.lines().iter().any(|line| line.starts_with("bad"));
            bad.then(|| status(400).body("no")).or(is_empty(request).then(|| status(code)))
        });
        let one = "version: 1, queue_config: { max_shards: 1, batch_send_deadline: 100ms }";
        let gw = gateway().to_kind("prom", RW, &sink, one).start();
        gw.post_influx(&format!("{}bad v=1 {T}\n", rows(5)));
        gw.drained();
        assert_eq!((gw.delivered("prom"), refused(&gw, "prom")), (5.0, 1.0), "{code}");
    }
}

#[test]
fn a_lane_is_believed_when_another_gets_through() {
    // It refuses the empty request as well, and says nothing of samples.
    let sink = destination::remote_write().rule(|request| {
        let bad = request.lines().iter().any(|line| line.starts_with("bad"));
        (bad || is_empty(request)).then(|| status(400).body("no"))
    });
    let lanes = "version: 1, queue_config: { max_shards: 4, batch_send_deadline: 5ms }";
    let gw = gateway().to_kind("prom", RW, &sink, lanes).start();
    gw.post_influx(&format!("bad v=1 {T}\n"));
    gw.await_output("prom", "sluicegate_output_misconfigured", 1.0);
    let mut round = 0;
    eventually(SLOW, || {
        round += 1;
        let at = T + round * 1_000_000;
        gw.post_influx(&(0..20).map(|n| format!("good,host=h{n} v={n} {at}\n")).collect::<String>());
        if refused(&gw, "prom") == 1.0 { Ok(()) } else { Err("it waits".to_owned()) }
    });
    gw.drained();
    assert_eq!((gw.delivered("prom"), refused(&gw, "prom")), (round as f64 * 20.0, 1.0));
}

#[test]
fn a_series_of_bad_samples_alone_is_believed_bad_beside_good_ones() {
    let sink = destination::remote_write().rule(|request| {
        let bad = request.lines().iter().any(|line| line.starts_with("bad"));
        (bad || is_empty(request)).then(|| status(400).body("no"))
    });
    let one = "version: 1, queue_config: { max_shards: 1, batch_send_deadline: 100ms }";
    let gw = gateway().to_kind("prom", RW, &sink, one).start();
    gw.post_influx(&format!("{}bad v=1 {T}\nbad v=2 {}\n", rows(5), T + 1_000_000));
    gw.drained();
    assert_eq!((gw.delivered("prom"), refused(&gw, "prom")), (5.0, 2.0));
}

#[test]
fn a_distribution_of_which_the_sum_is_refused_is_counted_and_kept_whole() {
    for version in [1, 2] {
        let sink = destination::remote_write().rule(|request| {
            let lines = request.lines();
            let good = lines.iter().filter(|line| !line.starts_with("lat_sum")).count();
            let text = "out of order sample for series {__name__=\"lat_sum\", source=\"a\"}";
            let written = if request.is_version_2() { good } else { 0 };
            (good < lines.len()).then(|| status(400).written(written).body(text))
        });
        let one = "queue_config: { max_shards: 1, batch_send_deadline: 100ms }";
        let gw = gateway().to_kind("prom", RW, &sink, &format!("version: {version}, {one}")).start();
        gw.post_wavefront("m 5 1700000000 source=a\n!M 1700000000 #2 1.5 #1 3 lat source=a\n");
        gw.drained();
        assert_eq!((gw.delivered("prom"), refused(&gw, "prom")), (1.0, 1.0), "{version}");
        let (_, samples) = poison::dead_letters(&gw, "prom");
        let names: Vec<_> = samples.iter().filter_map(|line| line.split([' ', '{']).nth(1)).collect();
        assert_eq!(names, ["lat_count", "lat_sum"], "{version} {samples:?}");
        assert_eq!(gw.metric("sluicegate_dead_letter_samples", &[]), 1.0);
    }
}
