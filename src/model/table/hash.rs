//! Bytes that name a series to a key of maps, and maps that take such keys as they are.

use dashmap::DashMap;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The keyed hash of bytes that name a series, a part of one, or a context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AliasHash(pub(super) u128);

impl AliasHash {
    /// Half of it, for maps.
    #[inline]
    pub(super) const fn half(self) -> u64 {
        (self.0 >> 64) as u64 ^ self.0 as u64
    }

    /// The hash of this followed by that; the order matters.
    #[inline]
    #[must_use]
    pub const fn then(self, next: Self) -> Self {
        const ODD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        Self(self.0.rotate_left(47).wrapping_mul(ODD) ^ next.0)
    }
}

impl std::hash::Hash for AliasHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.half());
    }
}

/// Passes on what is a hash already, and spreads small numbers; only for keys that no sender chooses.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

/// A map by ids of series, or other keys of that kind.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
    #[inline]
    fn write_u32(&mut self, id: u32) {
        self.0 = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

pub(super) type ReadyMap<K, V> = DashMap<K, V, BuildHasherDefault<IdHasher>>;
