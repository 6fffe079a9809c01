//! An output that catches up after a long outage does not make live data of another wait.

use crate::report::{Attack, scaled};
use crate::support::counting_sink::{CountingSink, Kind, Mode};
use crate::support::gateway::gateway;
use crate::support::load::under_load;
use crate::support::server::eventually;
use std::time::Duration;

const CLIENTS: u64 = 5;
/// Between two requests of a client while an output catches up: 2,500 samples a second in all.
const LIVE_PAUSE: Duration = Duration::from_millis(100);
/// How far live data may lag while another output catches up, on a machine that does much else.
const LAG_MAX: f64 = 5.0;

#[test]
fn an_output_that_catches_up_does_not_delay_live_data_of_another() {
    let test = "freshness::an_output_that_catches_up_does_not_delay_live_data_of_another";
    let attack = Attack::begin(test, "outage with a backlog on disk, then catching up under load");
    let backlog = scaled(100_000, 2_000_000);
    let (live, late) = (CountingSink::start(Kind::RemoteWrite), CountingSink::start(Kind::Influx));
    late.set(Mode::Answers(503));
    let setup = gateway().log("max_bytes: 1GiB, segment_bytes: 1MiB, memory_bytes: 1MiB");
    let gateway = setup.output("live", &live.block()).output("late", &late.block()).start();
    let url = gateway.url("");
    let lag = |at: usize| gateway.status()["outputs"][at]["lag_seconds"].as_f64().expect("a lag");
    let (load, lag_max) = under_load(&url, 0..CLIENTS, |progress| {
        progress.await_more(backlog);
        // Beside clients that take all of the processor nothing can catch up.
        progress.slow_down(LIVE_PAUSE);
        let begun = lag(1);
        assert!(begun > 1.0, "{begun} s behind: it has something to catch up with: {}", gateway.status());
        late.set(Mode::Takes);
        let mut lag_max = 0.0_f64;
        // Until live data flows there, too: the oldest goes first, so that is when it has caught up.
        eventually(Duration::from_secs(scaled(60, 600)), || {
            let (live, late) = (lag(0), lag(1));
            lag_max = lag_max.max(live);
            if late < 1.0 { Ok(()) } else { Err(format!("{late} s behind")) }
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
