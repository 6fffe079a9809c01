//! Kill -9 at any moment, under full load, in all formats, to three outputs that fail now and then.

use crate::report::{Attack, random, scaled};
use crate::sinks::Sinks;
use crate::support::counting_sink::Mode;
use crate::support::gateway::{Gateway, gateway};
use crate::support::load::under_load;
use std::thread;
use std::time::Duration;

/// Two clients of each format.
const CLIENTS: u64 = 10;

/// Kills it the hard way: while it works, while it starts, or while it drains.
fn kill(running: Gateway, random: &mut fastrand::Rng) -> Gateway {
    let any = |random: &mut fastrand::Rng, below| thread::sleep(Duration::from_millis(random.u64(0..below)));
    any(random, 300);
    let stopped = match random.u8(0..4) {
        0 => {
            let mut running = running;
            running.server().ask_to_end();
            any(random, 200);
            running.crash()
        }
        1 => {
            let starting = running.crash().launch();
            any(random, 150);
            starting.crash()
        }
        _ => running.crash(),
    };
    stopped.start()
}

fn survives_kills(test: &'static str, fault: &str, log: &str) {
    let attack = Attack::begin(test, fault);
    let mut random = random(test);
    let kills = scaled(5, 60);
    let sinks = Sinks::start();
    sinks.set(Mode::FailsEvery(7));
    let gateway = sinks.outputs(gateway().log(log)).start();
    let url = gateway.url("");
    let (load, gateway) = under_load(&url, 0..CLIENTS, |progress| {
        (0..kills).fold(gateway, |running, _| {
            progress.await_more(500);
            kill(running, &mut random)
        })
    });
    sinks.set(Mode::Takes);
    gateway.drained();
    sinks.judge(&gateway, &load);
    assert!(load.looks > kills, "the ledger was read {} times", load.looks);
    attack.end(kills, &load, &sinks.all());
}

#[test]
fn what_was_acknowledged_arrives_however_often_the_gateway_is_killed() {
    survives_kills(
        "kill::what_was_acknowledged_arrives_however_often_the_gateway_is_killed",
        "kill -9 at a random moment of work, start-up or drain",
        "max_bytes: 1GiB",
    );
}

#[test]
fn it_does_so_with_small_segments() {
    survives_kills(
        "kill::it_does_so_with_small_segments",
        "kill -9 at such moments, segments of 64 KiB",
        "max_bytes: 256MiB, segment_bytes: 64KiB, memory_bytes: 1MiB",
    );
}

/// What `ack: memory` may lose, it loses to power loss, and that is shown on crash images in the log's own tests: what a
/// process has written survives its death.
#[test]
fn without_waiting_for_the_disk_it_loses_nothing_to_a_kill_either() {
    survives_kills(
        "kill::without_waiting_for_the_disk_it_loses_nothing_to_a_kill_either",
        "kill -9 at such moments, `ack: memory`",
        "max_bytes: 256MiB, segment_bytes: 256KiB, memory_bytes: 1MiB, ack: memory",
    );
}

#[test]
fn without_a_crash_nothing_comes_twice() {
    let attack = Attack::begin(
        "kill::without_a_crash_nothing_comes_twice",
        "every third request fails: 429, 500, 503, cut off, broken before the answer",
    );
    let sinks = Sinks::start();
    sinks.set(Mode::FailsEvery(3));
    let gateway = sinks.outputs(gateway()).start();
    let url = gateway.url("");
    let (load, ()) = under_load(&url, 0..CLIENTS, |progress| progress.await_more(scaled(20_000, 300_000)));
    gateway.drained();
    sinks.judge(&gateway, &load);
    assert_eq!(load.in_doubt(), 0, "every request was answered");
    for sink in sinks.all() {
        assert_eq!(sink.duplicates(), 0, "{:?}", sink.kind());
    }
    let failures = sinks.all().iter().map(|sink| sink.requests() / 3).sum();
    attack.end(failures, &load, &sinks.all());
}
