//! An output that catches up after a long outage does not make live data of another wait.

use crate::report::{Attack, scaled};
use crate::support::counting_sink::{CountingSink, Kind, Mode};
use crate::support::gateway::gateway;
use crate::support::load::{PER_REQUEST, under_load};
use crate::support::server::eventually;
use std::time::Duration;

const CLIENTS: u64 = 5;
/// Requests of a client a second while an output catches up.
const LIVE_REQUESTS: u64 = 10;
/// Samples of a second then: so many may wait at an output that has caught up.
const LIVE: f64 = (CLIENTS * LIVE_REQUESTS * PER_REQUEST) as f64;
/// How far live data may lag while another output catches up, on a machine that does much else.
const LAG_MAX: f64 = 5.0;

#[test]
fn an_output_that_catches_up_does_not_delay_live_data_of_another() {
    let test = "freshness::an_output_that_catches_up_does_not_delay_live_data_of_another";
    let attack = Attack::begin(test, "outage with a backlog on disk, then catching up under load");
    let backlog = scaled(100_000, 1_000_000);
    let (live, late) = (CountingSink::start(Kind::RemoteWrite), CountingSink::start(Kind::Influx));
    late.set(Mode::Answers(503));
    let setup = gateway().log("max_bytes: 1GiB, segment_bytes: 1MiB, memory_bytes: 1MiB");
    let gateway = setup.output("live", &live.block()).output("late", &late.block()).start();
    let url = gateway.url("");
    let of = |at: usize, what: &str| gateway.status()["outputs"][at][what].as_f64().expect("a number");
    let (load, lag_max) = under_load(&url, 0..CLIENTS, |progress| {
        progress.await_more(backlog);
        // Beside clients that take all of the processor nothing can catch up.
        progress.slow_down(Duration::from_millis(1000 / LIVE_REQUESTS));
        caught_up(|| of(0, "pending"));
        assert!(of(1, "pending") >= backlog as f64);
        late.set(Mode::Takes);
        // The oldest goes first, so live data flows there, too, when it has caught up.
        let mut lag_max = 0.0_f64;
        caught_up(|| {
            lag_max = lag_max.max(of(0, "lag_seconds"));
            of(1, "pending")
        });
        lag_max
    });
    assert!(lag_max < LAG_MAX, "live data lagged {lag_max} s");
    gateway.drained();
    for sink in [&live, &late] {
        load.arrived_at(sink);
        assert_eq!(sink.duplicates(), 0, "nothing crashed");
    }
    attack.end(1, &load, &[&live, &late]);
}

/// Waits until no more samples are pending than live data brings: a backlog is no older than the second in which it came.
fn caught_up(mut pending: impl FnMut() -> f64) {
    eventually(Duration::from_secs(scaled(60, 600)), || match pending() {
        pending if pending < LIVE => Ok(()),
        pending => Err(format!("{pending} samples behind")),
    });
}
