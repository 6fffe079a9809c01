//! Ids of series by a hash that stands elsewhere: an entry is four bytes, and whoever asks compares.

use super::hash::AliasHash;
use crate::model::SeriesId;
use hashbrown::HashTable;
use parking_lot::{RwLock, RwLockWriteGuard};

/// Parts that are locked, and grow, alone. Fewer in fuzz targets, which make a table for each input.
const SHARDS: usize = if cfg!(feature = "fuzzing") { 2 } else { 64 };

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Index {
    shards: [RwLock<HashTable<SeriesId>>; SHARDS],
}

impl Default for Index {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| RwLock::default()) }
    }
}

impl Index {
    /// Of the ids that may have a hash, the one that does.
    #[inline]
    pub(super) fn find(&self, hash: AliasHash, has: impl Fn(SeriesId) -> bool) -> Option<SeriesId> {
        self.shard(hash).read().find(hash.half(), |id| has(*id)).copied()
    }

    /// Locks the part in which ids of a hash are.
    pub(super) fn lock(&self, hash: AliasHash) -> Shard<'_> {
        Shard(self.shard(hash).write())
    }

    #[inline]
    fn shard(&self, hash: AliasHash) -> &RwLock<HashTable<SeriesId>> {
        // The map itself goes by the lowest and the highest bits.
        &self.shards[(hash.half() >> 40) as usize % SHARDS]
    }
}

/// A part of an index.
pub(super) struct Shard<'i>(RwLockWriteGuard<'i, HashTable<SeriesId>>);

impl Shard<'_> {
    /// Of the ids that may have a hash, the one that does.
    pub(super) fn find(&self, hash: AliasHash, has: impl Fn(SeriesId) -> bool) -> Option<SeriesId> {
        self.0.find(hash.half(), |id| has(*id)).copied()
    }

    /// Adds an id. When the part has to grow, `hash_of` is asked of all that are in it.
    pub(super) fn insert(&mut self, hash: AliasHash, id: SeriesId, hash_of: impl Fn(SeriesId) -> AliasHash) {
        self.0.insert_unique(hash.half(), id, |id| hash_of(*id).half());
    }

    /// Takes an id out.
    pub(super) fn remove(&mut self, hash: AliasHash, has: impl Fn(SeriesId) -> bool) -> Option<SeriesId> {
        Some(self.0.find_entry(hash.half(), |id| has(*id)).ok()?.remove().0)
    }
}
