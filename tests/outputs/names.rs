//! An output is known by its name: it may move, change its kind and its place, and come back.

use super::*;

const ONE: &str = "queue_config: { batch_send_deadline: 5ms, max_shards: 1, min_backoff: 20ms, max_backoff: 100ms }";

fn down() -> Destination {
    destination::remote_write().rule(|_| Some(status(503)))
}

/// How often each line arrived there.
fn counted(sink: &Destination) -> BTreeMap<String, usize> {
    let mut lines = BTreeMap::new();
    for line in sink.lines() {
        *lines.entry(line).or_default() += 1;
    }
    lines
}

fn resent(gw: &Gateway) -> f64 {
    gw.metric("sluicegate_samples_resent_total", &[])
}

#[test]
fn a_new_address_a_new_order_and_a_new_output_lose_nothing_and_send_nothing_twice() {
    let (first, moved, other, late) = (
        destination::remote_write(),
        destination::remote_write(),
        destination::remote_write(),
        destination::remote_write(),
    );
    let rows_of = |round: i64| -> String {
        (0..20).map(|n| format!("cpu,host=h{n} v={round} {}\n", T + round * 1_000_000)).collect()
    };
    let gw = gateway().to_kind("a", RW, &first, ONE).to_kind("b", RW, &other, ONE).start();
    gw.post_influx(&rows_of(0));
    gw.drained();
    let gw = gw.stop_and_restart_as(gateway().to_kind("a", RW, &moved, ONE).to_kind("b", RW, &other, ONE));
    gw.post_influx(&rows_of(1));
    gw.drained();
    let gw = gw.stop_and_restart_as(gateway().to_kind("b", RW, &other, ONE).to_kind("a", RW, &moved, ONE));
    gw.post_influx(&rows_of(2));
    gw.drained();
    let all = gateway().to_kind("c", RW, &late, ONE).to_kind("b", RW, &other, ONE).to_kind("a", RW, &moved, ONE);
    let gw = gw.stop_and_restart_as(all);
    gw.post_influx(&rows_of(3));
    gw.drained();
    for (sinks, rounds) in [(&first, 1), (&moved, 3), (&other, 4)] {
        let lines = counted(sinks);
        assert!(lines.len() == 20 * rounds && lines.values().all(|times| *times == 1), "{lines:?}");
    }
    assert!(counted(&late).len() >= 20, "what the log still held, and all from then on");
    assert_eq!((gw.delivered("a"), gw.delivered("b"), resent(&gw)), (80.0, 80.0, 0.0));
}

#[test]
fn what_is_pending_goes_to_the_new_destination_whatever_its_kind() {
    let (dead, influx, other) = (down(), destination::http(), destination::remote_write());
    let gw = gateway().to_kind("a", RW, &dead, ONE).to_kind("b", RW, &other, ONE).start();
    gw.post_influx(&rows(30));
    gw.await_output("b", "sluicegate_samples_delivered_total", 30.0);
    let gw = gw
        .crash_and_restart_as(gateway().to_kind("a", "influxdb", &influx, "database: d").to_kind("b", RW, &other, ONE));
    gw.drained();
    let lines = counted(&influx);
    assert!(lines.len() == 30 && lines.values().all(|times| *times == 1), "{lines:?}");
    assert_eq!((gw.delivered("a"), gw.dropped("a")), (30.0, Vec::new()));
}

#[test]
fn a_removed_output_says_what_it_abandons_and_holds_nothing_back() {
    let (dead, good) = (down(), destination::remote_write());
    let log = "max_bytes: 1MiB, segment_bytes: 64KiB";
    let both = || gateway().log(log).to_kind("gone", RW, &dead, ONE).to_kind("b", RW, &good, ONE);
    let alone = || gateway().log(log).to_kind("b", RW, &good, ONE);
    let gw = both().start();
    gw.post_influx(&rows(25));
    gw.await_output("b", "sluicegate_samples_delivered_total", 25.0);
    assert_eq!(gw.status()["abandoned"], serde_json::json!([]));

    let gw = gw.stop_and_restart_as(alone());
    assert_eq!(gw.status()["abandoned"], serde_json::json!([{ "name": "gone", "undelivered": 25, "held": 25 }]));
    let text = gw.output();
    let warning = text.lines().find(|line| line.contains("not configured")).unwrap_or_else(|| panic!("{text}"));
    assert!(["gone", "undelivered=25", "held=25"].iter().all(|part| warning.contains(part)), "{warning}");

    // It holds nothing back: more than the log's size goes through it.
    let rounds: i64 = 60;
    for round in 0..rounds {
        for part in 0..5 {
            let hosts = part * 200..(part + 1) * 200;
            let lines: String = hosts.map(|n| format!("cpu,host=h{n} v={round} {}\n", T + round * 1_000_000)).collect();
            gw.post_influx(&lines);
        }
        gw.await_output("b", "sluicegate_samples_delivered_total", 25.0 + 1000.0 * (round + 1) as f64);
    }
    let held = |gw: &Gateway| gw.status()["abandoned"][0]["held"].as_f64().unwrap();
    eventually(SLOW, || if held(&gw) < 60_000.0 { Ok(()) } else { Err(format!("{} still held", held(&gw))) });
    let abandoned = gw.status()["abandoned"][0].clone();
    assert_eq!(abandoned["undelivered"], 25 + 1000 * rounds);

    // It comes back: what the log still holds arrives, the rest is counted.
    let back = destination::remote_write();
    let gw = gw.stop_and_restart_as(gateway().log(log).to_kind("gone", RW, &back, ONE).to_kind("b", RW, &good, ONE));
    gw.drained();
    assert_eq!(gw.status()["abandoned"], serde_json::json!([]));
    let arrived = counted(&back).len() as f64;
    assert_eq!(gw.delivered("gone"), arrived);
    let total = 25.0 + 1000.0 * rounds as f64;
    assert!(arrived > 0.0 && arrived < total, "{arrived}");
    assert_eq!(gw.dropped("gone"), [("before_output".to_owned(), total - arrived)]);
    gw.balanced();
}

#[test]
fn a_redirect_that_keeps_the_body_is_followed() {
    for code in [307, 308] {
        let there = destination::remote_write();
        let address = there.url().replace("url: ", "").replace('"', "");
        let here = destination::remote_write().rule(move |_| Some(status(code).header("Location", &address)));
        let gw = gateway().to_kind("a", RW, &here, ONE).start();
        gw.post_influx(&rows(3));
        gw.drained();
        assert_eq!((gw.delivered("a"), there.lines().len()), (3.0, 3), "{code}");
    }
}
