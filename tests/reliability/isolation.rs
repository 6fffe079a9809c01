//! Five outputs of which four are broken, each in its own way: the healthy one does not notice, memory stays bounded, and
//! each of the others is complete once it recovers. How much the healthy one notices is measured by `benches/isolation.rs`.

use crate::report::{Attack, scaled};
use crate::support::counting_sink::{CountingSink, Kind, Mode};
use crate::support::gateway::gateway;
use crate::support::load::{PER_REQUEST, under_load};
use crate::support::server::eventually;
use std::time::Duration;

const CLIENTS: u64 = 5;
/// For the output whose destination is silent: it asks again, and is not so impatient that it would take a busy
/// destination for a silent one.
const IMPATIENT: &str = "remote_timeout: 3s, queue_config: { min_backoff: 10ms, max_backoff: 200ms, batch_send_deadline: 20ms, max_samples_per_send: 500 }";
/// What the process may hold: the log's memory, four lanes of four bodies an output, and the program itself.
const RESIDENT_BYTES_MAX: u64 = 160 << 20;
/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(20);
/// How far the healthy output may ever lag, on a machine that does much else.
const LAG_MAX: f64 = 5.0;

#[test]
fn four_broken_outputs_do_not_hurt_the_fifth_and_recover() {
    let test = "isolation::four_broken_outputs_do_not_hurt_the_fifth_and_recover";
    let attack = Attack::begin(test, "outputs that refuse, time out, answer 500, cut off, beside a healthy one");
    let healthy = CountingSink::start(Kind::RemoteWrite);
    let broken = [
        ("refuses", CountingSink::absent(Kind::Influx), Mode::Takes),
        ("silent", CountingSink::start(Kind::RemoteWrite), Mode::Silent),
        ("answers500", CountingSink::start(Kind::Wavefront), Mode::Answers(500)),
        ("cuts_off", CountingSink::start(Kind::Influx), Mode::CutsOff),
    ];
    let mut setup =
        gateway().log("max_bytes: 1GiB, segment_bytes: 1MiB, memory_bytes: 4MiB").output("healthy", &healthy.block());
    for (name, sink, mode) in &broken {
        sink.set(*mode);
        let block = if *mode == Mode::Silent { sink.block_with(IMPATIENT) } else { sink.block() };
        setup = setup.output(name, &block);
    }
    let gateway = setup.start();
    let url = gateway.url("");
    let (load, ()) = under_load(&url, 0..CLIENTS, |progress| {
        // What the destination, in this program, can take on a busy machine.
        progress.slow_down(PAUSE);
        let mut lag_max = 0.0_f64;
        while progress.acknowledged() < scaled(30_000, 300_000) {
            let status = gateway.status();
            lag_max = lag_max.max(status["outputs"][0]["lag_seconds"].as_f64().expect("a lag"));
            assert!(lag_max < LAG_MAX, "{lag_max} s behind: {status}");
            progress.await_more(1);
        }
        for (_, sink, mode) in &broken {
            assert!(*mode == Mode::Takes || sink.requests() > 0, "{mode:?} was asked");
            assert_eq!(sink.distinct(), 0, "{mode:?} took nothing");
        }
    });
    eventually(Duration::from_secs(30), || {
        match gateway.metric("sluicegate_samples_pending", &[("output", "healthy")]) {
            0.0 => Ok(()),
            pending => Err(format!("{pending} pending")),
        }
    });
    load.arrived_at(&healthy);
    assert!(load.acknowledged() > CLIENTS * PER_REQUEST);
    let resident = gateway.resident_bytes_max();
    assert!(resident < RESIDENT_BYTES_MAX, "{} MiB resident", resident >> 20);
    broken[0].1.appear();
    for (_, sink, _) in &broken {
        sink.set(Mode::Takes);
    }
    gateway.drained();
    for (_, sink, mode) in &broken {
        load.arrived_at(sink);
        assert_eq!(sink.duplicates(), 0, "{mode:?}: nothing crashed");
    }
    assert_eq!(healthy.duplicates(), 0);
    let resident = gateway.resident_bytes_max();
    assert!(resident < RESIDENT_BYTES_MAX, "{} MiB resident while catching up", resident >> 20);
    let sinks: Vec<_> = broken.iter().map(|(_, sink, _)| sink).chain([&healthy]).collect();
    attack.end(broken.len() as u64, &load, &sinks);
}
