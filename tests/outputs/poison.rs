//! Bad samples among good ones: the good ones arrive, in order; the bad ones are found and kept with the server's words.

use super::*;
use std::collections::HashMap;
use std::sync::Mutex;

/// One lane, so that everything posted at once is one request.
const ONE: &str = "queue_config: { max_shards: 1, batch_send_deadline: 100ms, min_backoff: 20ms }";

/// The samples of the dead letters, as `log inspect` prints them, and its lines about the letters.
pub(super) fn dead_letters(gw: &Gateway, output: &str) -> (Vec<String>, Vec<String>) {
    let text = gw.log(&["inspect", "--dead-letters", output]);
    let (letters, samples): (Vec<_>, Vec<_>) =
        text.lines().map(str::to_owned).partition(|line| line.contains(" samples"));
    (letters, samples)
}

/// A server that stores what is good and says how many lines it dropped, as InfluxDB 1 does. Its complaint is about `v` of
/// `cpu`, a float.
fn influxdb_1(is_bad: impl Fn(&str) -> bool + Send + 'static) -> Destination {
    destination::http().rule(move |request| {
        let dropped = request.lines().iter().filter(|line| is_bad(line)).count();
        let text = format!(
            r#"{{"error":"partial write: field type conflict: input field \"v\" on measurement \"cpu\" is type float, already exists as type integer dropped={dropped}"}}"#
        );
        (dropped > 0).then(|| status(400).body(&text))
    })
}

#[test]
fn of_a_partial_write_of_influxdb_1_that_names_its_lines_only_the_others_are_sent_again() {
    let sink = influxdb_1(|line| line.contains("v=1.5") || line.contains("v=2.5"));
    let gw = gateway().to_kind("influx", "influxdb", &sink, &format!("database: d, {ONE}")).start();
    gw.post_influx(&format!(
        "cpu v=1i {T}\ncpu,a=b v=1.5,w=3i {T}\ncpu,a=c v=7i {T}\nmem v=9.5 {T}\ncpu,a=d v=2.5 {T}\n"
    ));
    gw.drained();
    assert_eq!((gw.delivered("influx"), refused(&gw, "influx")), (3.0, 3.0));
    let requests = sink.requests();
    assert_eq!(requests.len(), 3, "the words tell which lines, and are verified");
    assert_eq!(requests[1].lines().len(), 2);
    assert_eq!(requests[2].lines().len(), 3, "a reason that was not told may hide among the others");
    let (letters, samples) = dead_letters(&gw, "influx");
    let at = "2023-11-14T22:13:20Z cpu";
    assert_eq!(samples, [r#"{a="b"} v=1.5"#, r#"{a="b"} w=3i"#, r#"{a="d"} v=2.5"#].map(|rest| format!("{at}{rest}")));
    assert!(
        letters[0].contains("influx_line, 3 samples: 400") && letters[0].contains("field type conflict"),
        "{letters:?}"
    );
    assert_eq!(gw.metric("sluicegate_dead_letter_samples", &[("output", "influx")]), 3.0);
    assert_eq!(gw.status()["outputs"][0]["dead_letters"]["samples"], 3);
    assert_eq!(gw.status()["outputs"][0]["state"], "refusing");
}

#[test]
fn a_partial_write_of_influxdb_1_is_searched_among_the_lines_that_its_words_fit() {
    // Types belong to a shard: of the lines that the words fit, one is in the shard that is older.
    let sink = influxdb_1(|line| line.starts_with("cpu,host=h7 "));
    let gw = gateway().to_kind("influx", "influxdb", &sink, &format!("database: d, {ONE}")).start();
    let others: String = (0..500).map(|n| format!("mem,host=h{n} v={n} {T}\n")).collect();
    gw.post_influx(&(others + &rows(10)));
    gw.drained();
    assert_eq!((gw.delivered("influx"), refused(&gw, "influx")), (509.0, 1.0));
    let requests = sink.requests();
    assert!(requests.len() <= 9, "{}", requests.len());
    let (others, searched) = requests[1..].split_last().unwrap();
    assert!(searched.iter().flat_map(destination::Request::lines).all(|line| line.starts_with("cpu")));
    assert_eq!(others.lines().iter().filter(|line| line.starts_with("mem")).count(), 500);
    assert_eq!(dead_letters(&gw, "influx").1, [r#"2023-11-14T22:13:20Z cpu{host="h7"} v=7.0"#]);
}

#[test]
fn influxdb_2_quotes_the_line_and_the_others_arrive() {
    let sink = destination::http().rule(|request| {
        let bad = request.lines().into_iter().find(|line| line.contains("host=h3 "))?;
        let text = serde_json::json!({ "code": "invalid", "message": format!("unable to parse '{bad}': bad number") });
        Some(status(400).body(&text.to_string()))
    });
    let keys = format!("org: o, bucket: b, token: t, {ONE}");
    let gw = gateway().to_kind("influx", "influxdb", &sink, &keys).start();
    gw.post_influx(&rows(8));
    gw.drained();
    assert_eq!((gw.delivered("influx"), refused(&gw, "influx")), (7.0, 1.0));
    assert_eq!((sink.requests().len(), sink.lines().len()), (2, 7));
    let (letters, samples) = dead_letters(&gw, "influx");
    assert!(letters[0].contains("bad number"), "{letters:?}");
    assert_eq!(samples, [r#"2023-11-14T22:13:20Z cpu{host="h3"} v=3.0"#]);
}

#[test]
fn influxdb_3_numbers_the_lines_and_only_those_are_kept() {
    let sink = destination::http().rule(|request| {
        let numbers = request
            .lines()
            .iter()
            .enumerate()
            .filter(|(_, line)| line.contains('5'))
            .map(|(at, _)| at + 1)
            .collect::<Vec<_>>();
        let data: Vec<_> =
            numbers.iter().map(|at| serde_json::json!({ "error_message": "x", "line_number": at })).collect();
        let text = serde_json::json!({ "error": "partial write of line protocol occurred", "data": data }).to_string();
        (!numbers.is_empty()).then(|| status(400).body(&text))
    });
    let gw = gateway().to_kind("influx", "influxdb", &sink, &format!("version: 3, database: d, {ONE}")).start();
    gw.post_influx(&rows(20));
    gw.drained();
    assert_eq!(sink.requests().len(), 1);
    let at = "2023-11-14T22:13:20Z cpu";
    assert_eq!(dead_letters(&gw, "influx").1, [5, 15].map(|n| format!("{at}{{host=\"h{n}\"}} v={n}.0")));
}

#[test]
fn a_receiver_of_version_2_names_the_series_and_gets_nothing_twice() {
    for names in [true, false] {
        let sink = destination::remote_write().rule(move |request| {
            let lines = request.lines();
            let good = lines.iter().filter(|line| !line.contains("host=\"h7\"")).count();
            let series = if names { r#" for series {__name__="cpu_v", host="h7"}"# } else { "" };
            let text = format!("out of order sample{series}");
            (good < lines.len()).then(|| status(400).written(good).body(&text))
        });
        let gw = gateway().to_kind("prom", RW, &sink, ONE).start();
        gw.post_influx(&rows(500));
        gw.drained();
        assert_eq!((gw.delivered("prom"), refused(&gw, "prom")), (499.0, 1.0));
        assert_eq!(sink.requests().len(), 1, "what was written is not sent again");
        let (letters, samples) = dead_letters(&gw, "prom");
        if names {
            assert_eq!(samples, [r#"2023-11-14T22:13:20Z cpu_v{host="h7"} 7.0"#]);
            let file = gw.log_dir().join("dead_letters/prom.jsonl");
            assert!(file.metadata().unwrap().len() < 1000, "the symbols of the other series are left out");
        } else {
            assert_eq!(samples.len(), 500, "nobody said which");
            assert!(letters[0].contains("(1 of these 500 samples)"), "{letters:?}");
        }
    }
}

#[test]
fn a_receiver_of_version_1_that_names_the_series_is_asked_about_it_alone() {
    // The words of Mimir.
    let sink = destination::remote_write().rule(|request| {
        let bad = request.lines().iter().any(|line| line.contains("host=\"h33\""));
        let text = r#"failed pushing to ingester: the sample has been rejected (err-mimir-sample-out-of-order). The affected sample has timestamp 2023-11-14T22:13:20Z and is from series {__name__="cpu_v", host="h33"}"#;
        bad.then(|| status(400).body(text))
    });
    let gw = gateway().to_kind("prom", RW, &sink, &format!("version: 1, {ONE}")).start();
    gw.post_influx(&rows(100));
    gw.drained();
    assert_eq!((gw.delivered("prom"), refused(&gw, "prom")), (99.0, 1.0));
    assert_eq!(sink.requests().iter().map(|request| request.lines().len()).collect::<Vec<_>>(), [100, 1, 99]);
    assert_eq!(dead_letters(&gw, "prom").1, [r#"2023-11-14T22:13:20Z cpu_v{host="h33"} 33.0"#]);
}

/// A receiver that takes a request whole or not at all and refuses what is out of order, as Prometheus does with 1.0; and
/// values that end in 7.
fn strict(code: u16) -> Destination {
    let newest = Mutex::new(HashMap::<String, i64>::new());
    destination::remote_write().rule(move |request| {
        let mut newest = newest.lock().unwrap();
        let mut next = newest.clone();
        for line in request.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let at = words[2].parse().unwrap();
            let before = next.insert(words[0].to_owned(), at);
            if words[1].ends_with('7') || before.is_some_and(|before| before >= at) {
                return Some(status(code).body("out of order sample"));
            }
        }
        *newest = next;
        None
    })
}

#[test]
fn a_bad_sample_takes_no_other_of_its_series_along_and_order_stays() {
    const SERIES: usize = 5;
    const ROUNDS: i64 = 40;
    for (code, version) in [(400, 1), (409, 1), (422, 2)] {
        let sink = strict(code);
        let queue = "queue_config: { max_shards: 2, max_samples_per_send: 90, batch_send_deadline: 20ms }";
        let gw = gateway().to_kind("prom", RW, &sink, &format!("version: {version}, {queue}")).start();
        for rounds in (0..ROUNDS).collect::<Vec<_>>().chunks(10) {
            let line = |round: i64, n: usize| format!("cpu,host=h{n} v={round} {}\n", T + round * 1_000_000);
            gw.post_influx(&rounds.iter().flat_map(|round| (0..SERIES).map(|n| line(*round, n))).collect::<String>());
            gw.balanced();
        }
        gw.drained();
        let bad = SERIES as f64 * ROUNDS as f64 / 10.0;
        assert_eq!((gw.delivered("prom"), refused(&gw, "prom")), (SERIES as f64 * ROUNDS as f64 - bad, bad), "{code}");
        let mut values = BTreeMap::<String, Vec<i64>>::new();
        for line in sink.lines() {
            let words: Vec<_> = line.split(' ').collect();
            values.entry(words[0].to_owned()).or_default().push(words[1].parse().unwrap());
        }
        let good: Vec<_> = (0..ROUNDS).filter(|round| round % 10 != 7).collect();
        assert!(values.len() == SERIES && values.values().all(|values| *values == good), "{code} {values:?}");
        let (_, samples) = dead_letters(&gw, "prom");
        assert!(samples.len() == bad as usize && samples.iter().all(|line| line.ends_with("7.0")), "{samples:?}");
    }
}

#[test]
fn a_piece_that_is_too_large_alone_is_kept() {
    let sink = destination::http()
        .rule(|request| request.lines().iter().any(|line| line.contains("big")).then(|| status(413)));
    let gw = gateway().to_kind("influx", "influxdb", &sink, &format!("database: d, {ONE}")).start();
    gw.post_influx(&format!("{}big v=1 {T}\n", rows(9)));
    gw.drained();
    assert_eq!((gw.delivered("influx"), refused(&gw, "influx")), (9.0, 1.0));
    assert_eq!(dead_letters(&gw, "influx").1, ["2023-11-14T22:13:20Z big v=1.0"]);
}

#[test]
fn whatever_is_refused_is_kept() {
    // A destination that refuses every sample.
    for (kind, keys, code) in
        [(RW, "version: 1", 422), ("wavefront", "source: me", 400), ("influxdb", "database: d", 400)]
    {
        let sink =
            destination::of(kind).rule(move |request| (!request.lines().is_empty()).then(|| status(code).body("no")));
        let gw = gateway().to_kind("out", kind, &sink, &format!("{keys}, {ONE}")).start();
        gw.post_influx(&rows(500));
        gw.drained();
        assert_eq!(refused(&gw, "out"), 500.0, "{kind} {code}");
        let (letters, mut samples) = dead_letters(&gw, "out");
        samples.sort();
        samples.dedup();
        assert_eq!(samples.len(), 500, "{kind} {code}");
        assert!(letters.iter().all(|letter| letter.ends_with(&format!("{code} no"))), "{letters:?}");
        let given_up = letters.iter().any(|letter| letter.contains("the search was given up"));
        assert!(given_up, "{letters:?}");
        assert_eq!(gw.metric("sluicegate_dead_letter_samples", &[("output", "out")]), 500.0);
    }
}
