//! More than the log can hold: clients that honour `Retry-After` lose nothing, and `drop_oldest` counts what it drops.

use crate::report::{Attack, scaled};
use crate::sinks::Sinks;
use crate::support::counting_sink::{CountingSink, Kind, Mode};
use crate::support::gateway::gateway;
use crate::support::load::under_load;
use std::time::Duration;

/// Two clients of each format.
const CLIENTS: u64 = 10;
/// Between two requests of a client: 10,000 samples a second in all, of which the smaller log holds those of two seconds.
const PAUSE: Duration = Duration::from_millis(50);

#[test]
fn clients_that_wait_as_they_are_told_lose_nothing() {
    let test = "overload::clients_that_wait_as_they_are_told_lose_nothing";
    let attack = Attack::begin(test, "log full (`on_full: reject`), 429 with Retry-After");
    let sinks = Sinks::start();
    let gateway = sinks.outputs(gateway().log("max_bytes: 256KiB")).start();
    let url = gateway.url("");
    let times = scaled(1, 20);
    let (load, ()) = under_load(&url, 0..CLIENTS, |progress| {
        for _ in 0..times {
            sinks.set(Mode::Answers(503));
            progress.await_refusals(CLIENTS);
            let bytes = gateway.metric("sluicegate_log_bytes", &[]);
            assert!(bytes <= f64::from(256 << 10), "{bytes} bytes");
            let (status, words) = gateway.health();
            assert!(status == 200 && words.contains("max_bytes"), "{status} {words}");
            sinks.set(Mode::Takes);
            progress.await_more(2000);
        }
    });
    gateway.drained();
    sinks.judge(&gateway, &load);
    assert_eq!(load.in_doubt(), 0, "every client was told");
    attack.end(load.refusals, &load, &sinks.all());
}

#[test]
fn drop_oldest_counts_for_each_output_what_it_drops() {
    let test = "overload::drop_oldest_counts_for_each_output_what_it_drops";
    let attack =
        Attack::begin(test, "log full (`on_full: drop_oldest`), two of three outputs down (all lost are counted)");
    // Of the kind that can carry everything: nothing else is dropped.
    let names = ["slow", "dead", "live"];
    let sinks = [Kind::RemoteWrite, Kind::RemoteWrite, Kind::RemoteWrite].map(CountingSink::start);
    let log = "max_bytes: 256KiB, segment_bytes: 32KiB, memory_bytes: 1MiB, on_full: drop_oldest";
    let setup =
        names.iter().zip(&sinks).fold(gateway().log(log), |setup, (name, sink)| setup.output(name, &sink.block()));
    let gateway = setup.start();
    let url = gateway.url("");
    let [slow, dead, live] = &sinks;
    let (load, ()) = under_load(&url, 0..CLIENTS, |progress| {
        // So that what the log can hold is enough for an output that keeps up.
        progress.slow_down(PAUSE);
        dead.set(Mode::Answers(503));
        for _ in 0..scaled(1, 20) {
            progress.await_more(10_000);
            slow.set(Mode::Answers(503));
            progress.await_more(40_000);
            slow.set(Mode::Takes);
        }
        dead.set(Mode::Takes);
        progress.await_more(5000);
    });
    gateway.drained();
    assert_eq!((load.refusals, load.in_doubt()), (0, 0), "nothing is refused");
    let mut counted = 0;
    for (name, sink) in names.iter().zip(&sinks) {
        let dropped = gateway.dropped(name);
        let lost = load.missing(sink).len() as f64;
        let expected = if lost > 0.0 { vec![("log_full".to_owned(), lost)] } else { vec![] };
        assert_eq!(dropped, expected, "{name}");
        assert_eq!(sink.distinct() as f64 + lost, load.acknowledged() as f64, "{name}");
        assert_eq!((sink.wrong(), sink.duplicates()), (vec![], 0), "{name}");
        counted += lost as u64;
    }
    let missing = |sink| load.missing(sink).len();
    assert!(missing(dead) > missing(slow) && missing(slow) > 0, "each has its own lag");
    assert_eq!(missing(live), 0, "who keeps up loses nothing");
    let newest = load.clients.iter().filter(|posted| !posted.acknowledged.is_empty());
    for posted in newest {
        let newest = posted.acknowledged.last().expect("one").end - 1;
        assert!(sinks.iter().all(|sink| sink.times(posted.client, newest) == 1), "the newest is everywhere");
    }
    attack.end_with(1, load.acknowledged(), counted, 0);
}
