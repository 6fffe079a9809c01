//! Clients that post numbered samples as fast as they are taken, and one that reads the ledger all the time.

use crate::support::counting_sink::CountingSink;
use crate::support::http;
use crate::support::numbered::{Fate, post};
use crate::support::server::eventually;
use serde_json::Value;
use sluicegate::clock;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Samples in a request.
pub(crate) const PER_REQUEST: u64 = 50;
/// How long any of it may take on a busy machine.
const WITHIN: Duration = Duration::from_secs(60);
/// A client whose request broke, or that has to wait, looks again after.
const PAUSE: Duration = Duration::from_millis(10);

/// What the clients have done so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    acknowledged: AtomicU64,
    /// Samples posted, except those of refused requests.
    posted: AtomicU64,
    refusals: AtomicU64,
    looks: AtomicU64,
    pause_ms: AtomicU64,
    over: AtomicBool,
}

impl Progress {
    /// Samples acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until so many samples more are acknowledged, as long as it takes while any are.
    pub(crate) fn await_more(&self, samples: u64) {
        let end = self.acknowledged() + samples;
        let mut so_far = self.acknowledged();
        while so_far < end {
            so_far = eventually(WITHIN, || match self.acknowledged() {
                now if now > so_far => Ok(now),
                now => Err(format!("{} samples of {samples} to come and none is acknowledged", end - now)),
            });
        }
    }

    /// Waits until so many requests more were refused.
    pub(crate) fn await_refusals(&self, requests: u64) {
        let before = self.refusals.load(Ordering::SeqCst);
        eventually(WITHIN, || {
            let refusals = self.refusals.load(Ordering::SeqCst) - before;
            if refusals >= requests { Ok(()) } else { Err(format!("{refusals} of {requests} requests refused")) }
        });
    }

    /// From now on each client waits so long between two requests.
    pub(crate) fn slow_down(&self, pause: Duration) {
        self.pause_ms.store(pause.as_millis() as u64, Ordering::SeqCst);
    }

    /// How often the ledger was read.
    pub(crate) fn looks(&self) -> u64 {
        self.looks.load(Ordering::SeqCst)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn wait(&self, time: Duration) {
        let end = clock::monotonic() + time;
        while !self.is_over() && clock::monotonic() < end {
            thread::sleep(PAUSE.min(time));
        }
    }
}

/// Ends the clients, also when the scene panics: their scope waits for them.
struct Over<'a>(&'a Progress);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

/// What one client posted.
#[derive(Debug, Default)]
pub(crate) struct Posted {
    pub(crate) client: u64,
    pub(crate) acknowledged: Vec<Range<u64>>,
    /// Numbers of requests without an answer that promises anything: taken or not.
    pub(crate) in_doubt: Vec<Range<u64>>,
}

/// What all clients posted.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) clients: Vec<Posted>,
    /// Requests that were refused and posted again.
    pub(crate) refusals: u64,
    /// How often the ledger was read.
    pub(crate) looks: u64,
}

fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

impl Load {
    /// Samples acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.clients.iter().map(|posted| total(&posted.acknowledged)).sum()
    }

    /// Samples in doubt.
    pub(crate) fn in_doubt(&self) -> u64 {
        self.clients.iter().map(|posted| total(&posted.in_doubt)).sum()
    }

    /// Acknowledged samples that did not reach a sink that can carry them.
    pub(crate) fn missing(&self, sink: &CountingSink) -> Vec<(u64, u64)> {
        let mut missing = Vec::new();
        for posted in &self.clients {
            let numbers = posted.acknowledged.iter().flat_map(Clone::clone);
            let lost = numbers.filter(|number| {
                sink.kind().carries(posted.client, *number) && sink.times(posted.client, *number) == 0
            });
            missing.extend(lost.map(|number| (posted.client, number)));
        }
        missing
    }

    /// Samples that reached a sink although nobody posted them, or although it cannot carry them.
    fn invented(&self, sink: &CountingSink) -> u64 {
        sink.count(|client, number| {
            let posted = self.clients.iter().find(|posted| posted.client == client);
            let known = posted.is_some_and(|posted| {
                posted.acknowledged.iter().chain(&posted.in_doubt).any(|numbers| numbers.contains(&number))
            });
            !known || !sink.kind().carries(client, number)
        })
    }

    /// Everything acknowledged reached the sink, bit for bit, and nothing else did.
    pub(crate) fn arrived_at(&self, sink: &CountingSink) {
        let kind = sink.kind();
        assert_eq!(sink.wrong(), Vec::<String>::new(), "altered on the way to {kind:?}");
        let missing = self.missing(sink);
        let some = &missing[..missing.len().min(10)];
        assert!(missing.is_empty(), "{} acknowledged samples did not reach {kind:?}: {some:?} ..", missing.len());
        assert_eq!(self.invented(sink), 0, "samples reached {kind:?} that were not posted");
    }
}

/// Lets clients post, and reads the ledger, until `scene` is over.
pub(crate) fn under_load<T>(
    url: &str,
    clients: impl IntoIterator<Item = u64>,
    scene: impl FnOnce(&Progress) -> T,
) -> (Load, T) {
    let progress = &Progress::default();
    thread::scope(|scope| {
        let over = Over(progress);
        let watching = scope.spawn(|| watch(url, progress));
        let clients: Vec<_> =
            clients.into_iter().map(|client| scope.spawn(move || keep_posting(url, client, progress))).collect();
        let result = scene(progress);
        drop(over);
        let clients = clients.into_iter().map(|client| client.join().expect("a client")).collect();
        watching.join().expect("the ledger balances at every look");
        let (refusals, looks) = (progress.refusals.load(Ordering::SeqCst), progress.looks());
        (Load { clients, refusals, looks }, result)
    })
}

fn keep_posting(url: &str, client: u64, progress: &Progress) -> Posted {
    let mut posted = Posted { client, ..Posted::default() };
    let mut next = 0;
    while !progress.is_over() {
        let numbers = next..next + PER_REQUEST;
        progress.posted.fetch_add(PER_REQUEST, Ordering::SeqCst);
        match post(url, client, numbers.clone()) {
            Fate::Acknowledged => {
                progress.acknowledged.fetch_add(PER_REQUEST, Ordering::SeqCst);
                next = numbers.end;
                match posted.acknowledged.last_mut() {
                    Some(last) if last.end == numbers.start => last.end = numbers.end,
                    _ => posted.acknowledged.push(numbers),
                }
                progress.wait(Duration::from_millis(progress.pause_ms.load(Ordering::SeqCst)));
            }
            Fate::Refused(after) => {
                progress.posted.fetch_sub(PER_REQUEST, Ordering::SeqCst);
                progress.refusals.fetch_add(1, Ordering::SeqCst);
                progress.wait(after);
            }
            Fate::InDoubt => {
                // Never the same numbers again: what comes twice was sent twice by the gateway.
                next = numbers.end;
                posted.in_doubt.push(numbers);
                progress.wait(PAUSE);
            }
        }
    }
    posted
}

fn watch(url: &str, progress: &Progress) {
    while !progress.is_over() {
        let acknowledged = progress.acknowledged();
        if let Ok(answer) = http::try_get(&format!("{url}/api/v1/status")) {
            balances(&answer.json(), acknowledged, progress.posted.load(Ordering::SeqCst));
            progress.looks.fetch_add(1, Ordering::SeqCst);
        }
        thread::sleep(PAUSE);
    }
}

/// accepted = delivered + dropped + pending for each output of a status, and accepted is within those bounds.
pub(crate) fn balances(status: &Value, at_least: u64, at_most: u64) {
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} is a number in {status}"));
    let accepted = number(&status["ledger"]["accepted"]);
    assert!((at_least..=at_most).contains(&accepted), "{accepted} accepted, not {at_least} to {at_most}");
    let outputs = status["outputs"].as_array().expect("outputs");
    assert!(!outputs.is_empty());
    for output in outputs {
        let dropped: u64 = output["dropped"].as_object().expect("reasons").values().map(number).sum();
        let explained = number(&output["delivered"]) + dropped + number(&output["pending"]);
        assert_eq!(explained, accepted, "{output}");
    }
}
