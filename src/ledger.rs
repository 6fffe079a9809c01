//! The ledger: what became of every sample, for every input and every output, at any moment.
//!
//! For each output: accepted (all inputs, since the log was created) = delivered + dropped + pending. The three are counted
//! where they happen, never derived from each other: *pending* is what the log holds beyond the output's reading position
//! plus what the output has read and not yet finished. One lock an output, taken once a batch or request, makes a
//! [`Snapshot`] exact.

use crate::model::{Format, Loss, Losses, Refusal, TimestampNs};
use crate::wire::Report;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The accounts of a gateway.
#[derive(Debug)]
pub struct Ledger {
    rejected: [[AtomicU64; Refusal::COUNT]; Format::COUNT],
    outputs: Vec<Arc<OutputAccount>>,
}

impl Ledger {
    /// Empty accounts for those outputs.
    pub fn new(outputs: Vec<Arc<OutputAccount>>) -> Self {
        Self { rejected: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))), outputs }
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

    /// The accounts of the outputs, in the order of the configuration.
    pub fn outputs(&self) -> &[Arc<OutputAccount>] {
        &self.outputs
    }
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
}

#[derive(Clone, Debug, Default)]
struct Counts {
    /// Samples in the log before the next one to be read.
    read: u64,
    in_flight: u64,
    delivered: u64,
    dropped: BTreeMap<String, u64>,
    losses: Losses,
    requests: u64,
    retries: u64,
    oldest_pending: Option<TimestampNs>,
    last_error: Option<(TimestampNs, String)>,
}

/// The state of one output's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSnapshot {
    /// Samples acknowledged by the destination, since the log was created.
    pub delivered: u64,
    /// Samples given up, by reason, since the log was created.
    pub dropped: BTreeMap<String, u64>,
    /// Samples still to be delivered.
    pub pending: u64,
    /// Of those, samples read from the log already.
    pub in_flight: u64,
    /// Samples that arrived altered or not at all because of the destination's format, since the start of the process.
    pub losses: Losses,
    /// Requests answered by the destination.
    pub requests: u64,
    /// Requests that had to be repeated.
    pub retries: u64,
    /// When the oldest pending sample was accepted; none when nothing is pending.
    pub oldest_pending: Option<TimestampNs>,
    /// The latest failure and when it happened; none once a request succeeded again.
    pub last_error: Option<(TimestampNs, String)>,
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
        Self { name, kind, address, counts: Mutex::new(Counts { read, delivered, dropped, ..Counts::default() }) }
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

    /// A request was answered; `retry` when it has to be repeated.
    pub fn note_request(&self, retry: bool) {
        let mut counts = self.counts.lock();
        counts.requests += 1;
        counts.retries += u64::from(retry);
    }

    /// The destination works again.
    pub fn clear_error(&self) {
        self.counts.lock().last_error = None;
    }

    /// A request failed.
    pub fn note_error(&self, now: TimestampNs, error: String) {
        self.counts.lock().last_error = Some((now, error));
    }

    /// When the oldest record that is not finished was appended.
    pub fn note_oldest(&self, appended_at: Option<TimestampNs>) {
        self.counts.lock().oldest_pending = appended_at;
    }

    /// The account's state, given how many samples the log has taken. `log_end` is asked under the account's lock, so that
    /// it is never behind the reading position.
    pub fn snapshot(&self, log_end: impl FnOnce() -> u64) -> OutputSnapshot {
        let counts = self.counts.lock();
        let unread = log_end().saturating_sub(counts.read);
        OutputSnapshot {
            delivered: counts.delivered,
            dropped: counts.dropped.clone(),
            pending: unread + counts.in_flight,
            in_flight: counts.in_flight,
            losses: counts.losses.clone(),
            requests: counts.requests,
            retries: counts.retries,
            oldest_pending: counts.oldest_pending,
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
            let now = account.snapshot(|| end);
            assert_eq!(now.delivered + now.dropped.values().sum::<u64>() + now.pending, end);
            now
        };
        assert_eq!(even(&account).pending, 95);
        account.read(50);
        assert_eq!(even(&account).in_flight, 50);
        account.deliver(40);
        let mut dropped = Losses::default();
        dropped.add(Loss::NonFinite, 10);
        account.drop_samples(&dropped);
        assert_eq!(even(&account).pending, 45);
        account.lose(Loss::LogDamaged, 45);
        let last = even(&account);
        assert_eq!((last.pending, last.delivered, last.dropped["log_damaged"]), (0, 43, 45));
    }
}
