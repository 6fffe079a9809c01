//! Who holds how much of the series table.
//!
//! A source is the address a connection comes from; of IPv6, the network of 64 bits, because a host may choose the rest.
//! Addresses are hashed with the table's key into a fixed number of accounts ([`ACCOUNTS`]), as stochastic fair queueing
//! does: nothing grows with the number of sources, nothing has to be evicted, and nobody can aim at another's account.
//! Sources that share an account by chance share its allowance.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Accounts of sources: 1 MiB of memory, and one chance in as many that a source shares the account of a given other. Fewer
/// in fuzz targets, which make a table for each input.
const ACCOUNTS: usize = if cfg!(feature = "fuzzing") { 1 << 6 } else { 1 << 16 };

/// The account of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Source(pub(super) u16);

impl Source {
    /// The gateway itself, which reads series back from its log and is held to no share.
    pub const OWN: Self = Self(0);

    /// Its place among fewer accounts.
    pub(super) fn account(self, accounts: usize) -> usize {
        usize::from(self.0) % accounts
    }

    /// The account of an address, by the keyed hash of it.
    pub(super) fn of(hash: u128) -> Self {
        const SENDERS: u128 = ACCOUNTS as u128 - 1;
        Self(1 + (hash % SENDERS) as u16)
    }
}

/// What a source holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Memory of the series, labels and spellings that it was the first to send, estimated.
    pub bytes: usize,
    /// Series that it was the first to send.
    pub series: usize,
}

#[derive(Debug, Default)]
struct Account {
    bytes: AtomicUsize,
    series: AtomicUsize,
}

/// All accounts, and their sum.
#[derive(Debug)]
pub(super) struct Sources {
    accounts: Box<[Account]>,
    bytes: AtomicUsize,
}

impl Default for Sources {
    fn default() -> Self {
        Self { accounts: (0..ACCOUNTS).map(|_| Account::default()).collect(), bytes: AtomicUsize::new(0) }
    }
}

impl Sources {
    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What one holds.
    pub(super) fn holding(&self, source: Source) -> Holding {
        let account = &self.accounts[usize::from(source.0)];
        Holding { bytes: account.bytes.load(Ordering::Relaxed), series: account.series.load(Ordering::Relaxed) }
    }

    /// Charges bytes.
    pub(super) fn charge(&self, source: Source, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.accounts[usize::from(source.0)].bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives bytes back.
    pub(super) fn release(&self, source: Source, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.accounts[usize::from(source.0)].bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts a series.
    pub(super) fn add_series(&self, source: Source) {
        self.accounts[usize::from(source.0)].series.fetch_add(1, Ordering::Relaxed);
    }

    /// A series is retired.
    pub(super) fn remove_series(&self, source: Source) {
        self.accounts[usize::from(source.0)].series.fetch_sub(1, Ordering::Relaxed);
    }
}
