//! What is sent twice is counted, and nothing is without a fault. And what waits too long is skipped where that is asked for.

use super::*;

fn resent(gw: &Gateway) -> f64 {
    gw.metric("sluicegate_samples_resent_total", &[("output", "prom")])
}

#[test]
fn nothing_is_sent_twice_without_a_fault() {
    let sink = destination::remote_write();
    let queue = "queue_config: { max_shards: 4, max_samples_per_send: 50, batch_send_deadline: 5ms }";
    let mut gw = gateway().to_kind("prom", RW, &sink, queue).start();
    for round in 0..30_i64 {
        let lines: String = (0..40).map(|n| format!("cpu,host=h{n} v={round} {}\n", T + round * 1_000_000)).collect();
        gw.post_influx(&lines);
        if round % 10 == 9 {
            // A stop is no fault.
            assert_eq!(gw.server().terminate().code(), Some(0));
            gw = gw.crash_and_restart();
            assert_eq!(resent(&gw), 0.0);
        }
    }
    gw.drained();
    let mut lines = sink.lines();
    assert_eq!(lines.len(), 1200);
    lines.sort();
    lines.dedup();
    assert_eq!((lines.len(), resent(&gw)), (1200, 0.0));
}

#[test]
fn requests_of_unknown_outcome_count_as_sent_twice() {
    // (the first answer, whether the samples may have arrived twice)
    let cases = [
        (hang_up(), true),
        (status(204).written(3).after(Duration::from_secs(3)), true),
        (status(504), true),
        (status(503), false),
        (status(429), false),
        (status(401), false),
    ];
    for (answer, doubtful) in cases {
        let text = format!("{answer:?}");
        let sink = destination::remote_write().script([answer]);
        let keys = "remote_timeout: 1s, version: 2, queue_config: { max_shards: 1, batch_send_deadline: 50ms, min_backoff: 20ms }";
        let gw = gateway().to_kind("prom", RW, &sink, keys).start();
        gw.post_influx(&rows(3));
        gw.drained();
        assert_eq!(resent(&gw), if doubtful { 3.0 } else { 0.0 }, "{text}");
        assert_eq!(gw.status()["outputs"][0]["resent"], if doubtful { 3 } else { 0 });
    }
}

#[test]
fn a_destination_that_was_never_reached_has_nothing_twice() {
    let port = free_port();
    let block = format!("{RW}: {{ url: \"http://127.0.0.1:{port}/w\", queue_config: {{ batch_send_deadline: 5ms }} }}");
    let gw = gateway().output("prom", &block).start();
    gw.post_influx(&rows(3));
    eventually(SLOW, || {
        let retries = gw.metric("sluicegate_output_retries_total", &[]);
        if retries >= 3.0 { Ok(()) } else { Err(format!("{retries} retries")) }
    });
    let sink = destination::remote_write_at(port);
    gw.drained();
    assert_eq!((sink.lines().len(), resent(&gw)), (3, 0.0));
}

#[test]
fn samples_too_old_are_skipped_after_an_outage_and_the_fresh_ones_arrive() {
    let now = || jiff::Timestamp::now().as_nanosecond() as i64;
    for key in ["max_age: 3s", "queue_config: { sample_age_limit: 3s, QUEUE }"] {
        let up = Arc::new(AtomicBool::new(false));
        let is_up = Arc::clone(&up);
        let sink = destination::remote_write().rule(move |_| (!is_up.load(Relaxed)).then(|| status(503)));
        let queue = "max_shards: 1, max_samples_per_send: 1, batch_send_deadline: 5ms, max_backoff: 50ms";
        let keys = if key.contains("QUEUE") {
            key.replace("QUEUE", queue)
        } else {
            format!("{key}\n    queue_config: {{ {queue} }}")
        };
        let gw = gateway().output("prom", &format!("{RW}: {{ {} }}\n    {keys}", sink.url())).start();
        // Hours old when it comes.
        gw.post_influx(&format!("cpu,host=ancient v=1 {T}"));
        gw.await_output("prom", "sluicegate_samples_dropped_total", 1.0);
        let old = 50;
        let began = now();
        gw.post_influx(&(0..old).map(|n| format!("cpu,host=old{n} v=1 {began}\n")).collect::<String>());
        sink.await_requests(1);
        eventually(SLOW, || if now() - began > 3_100_000_000 { Ok(()) } else { Err("not old enough".to_owned()) });
        gw.balanced();
        up.store(true, Relaxed);
        gw.post_influx(&(0..10).map(|n| format!("cpu,host=new{n} v=1 {}\n", now())).collect::<String>());
        gw.drained();
        let lines = sink.lines();
        assert_eq!(lines.iter().filter(|line| line.contains("=\"new")).count(), 10, "{key}");
        let skipped = gw.metric("sluicegate_samples_dropped_total", &[("output", "prom"), ("reason", "too_old")]);
        assert!(skipped > 40.0, "{skipped}: all but what was on its way when the outage began");
        assert_eq!(gw.delivered("prom") + skipped, f64::from(old) + 11.0, "{key}");
        assert_eq!(gw.delivered("prom"), lines.len() as f64);
    }
}
