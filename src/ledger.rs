//! The ledger: what became of every sample, for every input and every output, at any moment.
//!
//! For each output: accepted (all inputs, since the log was created) = delivered + dropped + pending. The three are counted
//! where they happen, never derived from each other: *pending* is what the log holds beyond the output's reading position
//! plus what the output has read and not yet finished. One lock an output, taken once a batch or request, makes an
//! [`OutputSnapshot`] exact; the log's end, read after all of them, makes the whole exact.

use crate::model::{Format, Loss, Losses, Refusal, TimestampNs};
use crate::wire::Report;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// The accounts of a gateway.
#[derive(Debug)]
pub struct Ledger {
    rejected: [[AtomicU64; Refusal::COUNT]; Format::COUNT],
    outputs: Vec<Arc<OutputAccount>>,
    connections: AtomicU64,
    connections_refused: AtomicU64,
    groups_forgotten: AtomicU64,
    sources: Mutex<HashMap<(IpAddr, Format), Sender>>,
}

#[derive(Clone, Copy, Debug)]
struct Sender {
    accepted: u64,
    last_seen: TimestampNs,
}

/// Senders that are remembered; beyond that the one silent for longest makes room.
const SOURCES_MAX: usize = 1000;
/// Senders that a status shows.
const SOURCES_SHOWN: usize = 100;

impl Ledger {
    /// Empty accounts for those outputs.
    pub fn new(outputs: Vec<Arc<OutputAccount>>) -> Self {
        Self {
            rejected: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            outputs,
            connections: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            groups_forgotten: AtomicU64::new(0),
            sources: Mutex::default(),
        }
    }

    /// Counts samples that an input did not take.
    pub fn reject(&self, input: Format, reason: Refusal, samples: u64) {
        self.rejected[input as usize][reason as usize].fetch_add(samples, Ordering::Relaxed);
    }

    /// Counts all that a decoder refused.
    pub fn reject_all(&self, input: Format, report: &Report) {
        for (reason, samples) in report.reasons() {
            self.reject(input, reason, samples);
        }
    }

    /// Samples that an input refused for that reason, since the start of the process.
    pub fn rejected(&self, input: Format, reason: Refusal) -> u64 {
        self.rejected[input as usize][reason as usize].load(Ordering::Relaxed)
    }

    /// A sender connected.
    pub fn connection_opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A sender's connection ended.
    pub fn connection_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection was closed at once, because its source has its share of them.
    pub fn connection_refused(&self) {
        self.connections_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections of senders: open now, and refused since the start.
    pub fn connections(&self) -> (u64, u64) {
        (self.connections.load(Ordering::Relaxed), self.connections_refused.load(Ordering::Relaxed))
    }

    /// A Pushgateway group was not remembered for want of room.
    pub fn group_forgotten(&self) {
        self.groups_forgotten.fetch_add(1, Ordering::Relaxed);
    }

    /// Pushgateway groups that were not remembered, each time, since the start.
    pub fn groups_forgotten(&self) -> u64 {
        self.groups_forgotten.load(Ordering::Relaxed)
    }

    /// Notes who sent samples that were accepted.
    pub fn note_source(&self, address: IpAddr, format: Format, samples: u64, now: TimestampNs) {
        let mut sources = self.sources.lock();
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&(address, format)) {
            let oldest = sources.iter().min_by_key(|(_, sender)| sender.last_seen).map(|(key, _)| *key);
            oldest.and_then(|key| sources.remove(&key));
        }
        let sender = sources.entry((address, format)).or_insert(Sender { accepted: 0, last_seen: now });
        sender.accepted += samples;
        sender.last_seen = now;
    }

    /// Who sent lately, most recent first.
    pub fn sources(&self, now: TimestampNs, series_of: impl Fn(IpAddr) -> usize) -> Vec<Source> {
        let mut senders: Vec<_> = self.sources.lock().iter().map(|(key, sender)| (*key, *sender)).collect();
        senders.sort_by_key(|(_, sender)| std::cmp::Reverse(sender.last_seen));
        senders.truncate(SOURCES_SHOWN);
        let shown = senders.into_iter().map(|((address, format), sender)| Source {
            address: address.to_string(),
            format: format.as_str(),
            accepted: sender.accepted,
            series: series_of(address),
            last_seen_seconds: crate::clock::age(now, sender.last_seen).as_secs_f64(),
        });
        shown.collect()
    }

    /// The accounts of the outputs, in the order of the configuration.
    pub fn outputs(&self) -> &[Arc<OutputAccount>] {
        &self.outputs
    }
}

/// One sender, as a status shows it.
#[derive(Debug, Serialize)]
pub struct Source {
    /// Its address, without port.
    pub address: String,
    /// What it sends.
    pub format: &'static str,
    /// Samples accepted from it since the start.
    pub accepted: u64,
    /// Series that its address was the first to send, in all formats.
    pub series: usize,
    /// Seconds since its last sample.
    pub last_seen_seconds: f64,
}

/// The account of one output.
#[derive(Debug)]
pub struct OutputAccount {
    /// The output's name.
    pub name: String,
    /// What kind of destination it is, by its configuration key.
    pub kind: &'static str,
    /// Where it sends to, without credentials.
    pub address: String,
    counts: Mutex<Counts>,
    warned: AtomicI64,
}

/// An output warns of its destination once in that time; the counters tell the rest.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default)]
struct Counts {
    /// Samples in the log before the next one to be read.
    read: u64,
    in_flight: u64,
    delivered: u64,
    dropped: BTreeMap<String, u64>,
    losses: Losses,
    /// Of those, the ones of records that are finished.
    losses_finished: Losses,
    requests: u64,
    retries: u64,
    taken: u64,
    /// Samples of requests that wait for their answer.
    unanswered: u64,
    resent: u64,
    repeated: u64,
    dead_letter_samples: u64,
    dead_letters_discarded: u64,
    dead_letters_replayed: u64,
    oldest_pending: Option<TimestampNs>,
    state: State,
    last_error: Option<(TimestampNs, String)>,
}

/// How an output gets on with its destination, by the answer that came last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It accepts.
    #[default]
    Ok,
    /// It fails for a passing reason, or cannot be reached.
    Retrying,
    /// It refused samples for good.
    Refusing,
    /// It does not let the output in: address, credentials or database want mending. Lasts until it answers otherwise; that it
    /// cannot be reached meanwhile changes nothing.
    Misconfigured,
    /// A task of the output failed and starts again.
    Restarting,
}

/// The state of one output's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSnapshot {
    /// Samples acknowledged by the destination, since the log was created.
    pub delivered: u64,
    /// Samples given up, by reason, since the log was created.
    pub dropped: BTreeMap<String, u64>,
    /// Samples in the log before the next one to be read.
    pub read: u64,
    /// Samples read from the log and not yet finished.
    pub in_flight: u64,
    /// Samples that arrived altered or not at all because of the destination's format, since the start of the process.
    pub losses: Losses,
    /// Requests answered by the destination.
    pub requests: u64,
    /// Requests that had to be repeated.
    pub retries: u64,
    /// Samples sent again although the destination may have them, since the start of the process.
    pub resent: u64,
    /// Sums said again while their senders were silent, beside the samples of the log, since the start of the process.
    pub repeated: u64,
    /// Samples in the dead letters.
    pub dead_letter_samples: u64,
    /// Samples that fell out of the dead letters, since the start of the process.
    pub dead_letters_discarded: u64,
    /// Samples of dead letters that were delivered by replay, since the start of the process.
    pub dead_letters_replayed: u64,
    /// When the oldest pending sample was accepted; none when nothing is pending.
    pub oldest_pending: Option<TimestampNs>,
    /// How it gets on.
    pub state: State,
    /// The latest failure and when it happened; none once a request succeeded again.
    pub last_error: Option<(TimestampNs, String)>,
}

impl OutputSnapshot {
    /// Samples still to be delivered, of a log that holds so many. Ask the log after the snapshot was taken, so that it is
    /// not behind the output.
    pub fn pending(&self, log_end: u64) -> u64 {
        log_end.saturating_sub(self.read) + self.in_flight
    }

    /// Samples given up, all reasons together.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }
}

impl OutputAccount {
    /// An account that continues from a cursor: what was delivered and dropped before the log's sample number
    /// `delivered + dropped`.
    pub fn new(
        name: String,
        kind: &'static str,
        address: String,
        delivered: u64,
        dropped: BTreeMap<String, u64>,
    ) -> Self {
        let read = delivered + dropped.values().sum::<u64>();
        let counts = Mutex::new(Counts { read, delivered, dropped, ..Counts::default() });
        Self { name, kind, address, counts, warned: AtomicI64::new(TimestampNs::MIN) }
    }

    /// Goes back to a cursor's state: what was in flight will be read again, and its losses counted again. What the destination
    /// has, or may have, of that is going to be sent again.
    pub fn restart(&self, delivered: u64, dropped: BTreeMap<String, u64>) {
        let mut counts = self.counts.lock();
        counts.resent += counts.delivered.saturating_sub(delivered) + std::mem::take(&mut counts.unanswered);
        counts.losses = counts.losses_finished.clone();
        counts.read = delivered + dropped.values().sum::<u64>();
        counts.in_flight = 0;
        counts.delivered = delivered;
        counts.dropped = dropped;
    }

    /// The output took samples from the log; they are in flight now.
    pub fn read(&self, samples: u64) {
        let mut counts = self.counts.lock();
        counts.read += samples;
        counts.in_flight += samples;
    }

    /// The log no longer had samples that the output should have read.
    pub fn lose(&self, reason: Loss, samples: u64) {
        let mut counts = self.counts.lock();
        counts.read += samples;
        *counts.dropped.entry(reason.as_str().to_owned()).or_default() += samples;
    }

    /// The destination acknowledged samples in flight.
    pub fn deliver(&self, samples: u64) {
        let mut counts = self.counts.lock();
        counts.in_flight -= samples;
        counts.delivered += samples;
    }

    /// Samples in flight were given up.
    pub fn drop_samples(&self, dropped: &Losses) {
        let mut counts = self.counts.lock();
        counts.in_flight -= dropped.total();
        for (loss, samples) in dropped.iter() {
            *counts.dropped.entry(loss.as_str().to_owned()).or_default() += samples;
        }
    }

    /// What the destination's format cost.
    pub fn note_losses(&self, losses: &Losses) {
        if losses.total() > 0 {
            self.counts.lock().losses.merge(losses);
        }
    }

    /// The losses of records up to the cursor: they will not be counted again.
    pub fn note_losses_finished(&self, losses: &Losses) {
        if losses.total() > 0 {
            self.counts.lock().losses_finished.merge(losses);
        }
    }

    /// Whether the output may write a warning to the log; it may not again for [`WARNING_INTERVAL`].
    pub fn may_warn(&self, now: TimestampNs) -> bool {
        let last = self.warned.load(Ordering::Relaxed);
        let due = last == TimestampNs::MIN || crate::clock::age(now, last) >= WARNING_INTERVAL;
        due && self.warned.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// A request of that many samples is on its way.
    pub fn begin_request(&self, samples: u64) {
        self.counts.lock().unanswered += samples;
    }

    /// The request was answered or failed; `retry` when it has to be repeated.
    pub fn end_request(&self, samples: u64, retry: bool) {
        let mut counts = self.counts.lock();
        counts.unanswered = counts.unanswered.saturating_sub(samples);
        counts.requests += 1;
        counts.retries += u64::from(retry);
    }

    /// Sums were said again, beside the samples of the log.
    pub fn note_repeated(&self, samples: u64) {
        self.counts.lock().repeated += samples;
    }

    /// Samples were sent again, and nobody knows whether the destination has them from the first time.
    pub fn note_resent(&self, samples: u64) {
        self.counts.lock().resent += samples;
    }

    /// The destination took a request: it works.
    pub fn note_taken(&self) {
        let mut counts = self.counts.lock();
        counts.taken += 1;
        counts.last_error = None;
        counts.state = State::Ok;
    }

    /// Requests that the destination took as a whole, since the start of the process.
    pub fn taken(&self) -> u64 {
        self.counts.lock().taken
    }

    /// A request failed, or a task. Returns whether the state is another one now.
    pub fn note_error(&self, now: TimestampNs, state: State, error: String) -> bool {
        let mut counts = self.counts.lock();
        counts.last_error = Some((now, error));
        let stays = counts.state == state || (counts.state, state) == (State::Misconfigured, State::Retrying);
        if !stays {
            counts.state = state;
        }
        !stays
    }

    /// So many samples are in the dead letters, and so many more fell out of them.
    pub fn note_dead_letters(&self, samples: u64, discarded: u64) {
        let mut counts = self.counts.lock();
        counts.dead_letter_samples = samples;
        counts.dead_letters_discarded += discarded;
    }

    /// Samples of dead letters were delivered after all.
    pub fn note_replayed(&self, samples: u64) {
        self.counts.lock().dead_letters_replayed += samples;
    }

    /// When the oldest record that is not finished was appended.
    pub fn note_oldest(&self, appended_at: Option<TimestampNs>) {
        self.counts.lock().oldest_pending = appended_at;
    }

    /// The account's state.
    pub fn snapshot(&self) -> OutputSnapshot {
        let counts = self.counts.lock();
        OutputSnapshot {
            delivered: counts.delivered,
            dropped: counts.dropped.clone(),
            read: counts.read,
            in_flight: counts.in_flight,
            losses: counts.losses.clone(),
            requests: counts.requests,
            retries: counts.retries,
            resent: counts.resent,
            repeated: counts.repeated,
            dead_letter_samples: counts.dead_letter_samples,
            dead_letters_discarded: counts.dead_letters_discarded,
            dead_letters_replayed: counts.dead_letters_replayed,
            oldest_pending: counts.oldest_pending,
            state: counts.state,
            last_error: counts.last_error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_even_at_every_step() {
        let before = BTreeMap::from([("string_value".to_owned(), 2)]);
        let account = OutputAccount::new("a".into(), "influxdb", String::new(), 3, before);
        let end = 100;
        let even = |account: &OutputAccount| {
            let now = account.snapshot();
            assert_eq!(now.delivered + now.dropped_total() + now.pending(end), end);
            now
        };
        assert_eq!(even(&account).pending(end), 95);
        account.read(50);
        assert_eq!(even(&account).in_flight, 50);
        account.deliver(40);
        let mut dropped = Losses::default();
        dropped.add(Loss::NonFinite, 10);
        account.drop_samples(&dropped);
        assert_eq!(even(&account).pending(end), 45);
        account.lose(Loss::LogDamaged, 45);
        let last = even(&account);
        assert_eq!((last.pending(end), last.delivered, last.dropped["log_damaged"]), (0, 43, 45));
    }

    #[test]
    fn a_restart_counts_losses_once() {
        let account = OutputAccount::new("a".into(), "influxdb", String::new(), 0, BTreeMap::new());
        let mut losses = Losses::default();
        losses.add(Loss::FieldType, 3);
        account.note_losses(&losses);
        account.note_losses_finished(&losses);
        account.note_losses(&losses);
        account.restart(0, BTreeMap::new());
        assert_eq!(account.snapshot().losses, losses, "what is read again is counted again");
    }

    #[test]
    fn a_restart_counts_what_the_destination_may_get_twice() {
        let account = OutputAccount::new("a".into(), "influxdb", String::new(), 100, BTreeMap::new());
        account.restart(100, BTreeMap::new());
        assert_eq!(account.snapshot().resent, 0, "the first start sends nothing again");
        account.read(50);
        account.begin_request(20);
        account.begin_request(10);
        account.end_request(20, false);
        account.deliver(20);
        // The cursor is behind 5 of the delivered ones; 10 are on their way; 20 were never sent.
        account.restart(105, BTreeMap::new());
        assert_eq!(account.snapshot().resent, 15 + 10);
    }

    #[test]
    fn a_mistake_of_configuration_lasts_until_the_destination_answers_otherwise() {
        let account = OutputAccount::new("a".into(), "influxdb", String::new(), 0, BTreeMap::new());
        let note = |state| account.note_error(0, state, String::new());
        assert!(note(State::Misconfigured));
        assert!(!note(State::Misconfigured), "told once");
        assert!(!note(State::Retrying), "it cannot be reached while it is mended");
        assert_eq!(account.snapshot().state, State::Misconfigured);
        account.note_taken();
        assert_eq!((account.snapshot().state, account.snapshot().last_error), (State::Ok, None));
        assert!(note(State::Retrying) && note(State::Refusing));
    }

    #[test]
    fn warnings_of_an_output_are_seldom() {
        let account = OutputAccount::new("a".into(), "influxdb", String::new(), 0, BTreeMap::new());
        let seconds = [0, 1, 9, 10, 11, 19, 21].map(|second: i64| account.may_warn(second * 1_000_000_000));
        assert_eq!(seconds, [true, false, false, true, false, false, true]);
    }
}
