//! Texts that rendered series have in common, each kept once for as long as somebody has it: the metrics of a target have the
//! same labels, and what they share stays in the processor's cache.

use parking_lot::Mutex;
use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Texts that are kept beyond those in use before they are looked through; at least, and else as many as were in use then.
const UNUSED_MIN: usize = 1024;

/// A text, and a number that no other text of this process has, below 2^62.
#[derive(Clone, Debug)]
pub struct SharedText(Arc<[u8]>);

const NUMBER_BYTES: usize = size_of::<u64>();

impl SharedText {
    fn new(text: &[u8]) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        Self([&number[..], text].concat().into())
    }

    /// Its number, which is not 0.
    #[inline]
    pub(crate) fn number(&self) -> u64 {
        self.0.first_chunk().map_or(0, |number| u64::from_le_bytes(*number))
    }
}

impl Deref for SharedText {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0[NUMBER_BYTES..]
    }
}

impl PartialEq for SharedText {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SharedText {}

impl Hash for SharedText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl Borrow<[u8]> for SharedText {
    fn borrow(&self) -> &[u8] {
        self
    }
}

/// The texts of an output. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct SharedTexts(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    texts: HashSet<SharedText>,
    /// How many there were in use when they were looked through.
    used: usize,
}

impl SharedTexts {
    /// That text, the one that others have.
    pub(crate) fn share(&self, text: &[u8]) -> SharedText {
        let known = &mut *self.0.lock();
        if let Some(text) = known.texts.get(text) {
            return text.clone();
        }
        if known.texts.len() >= known.used + known.used.max(UNUSED_MIN) {
            known.texts.retain(|text| Arc::strong_count(&text.0) > 1);
            known.used = known.texts.len();
        }
        let text = SharedText::new(text);
        known.texts.insert(text.clone());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_one_while_somebody_has_them_and_few_when_nobody_has() {
        let texts = SharedTexts::default();
        let kept: Vec<_> = (0..3000_u32).map(|number| texts.share(&number.to_le_bytes())).collect();
        assert_eq!(kept[7].number(), texts.share(&7_u32.to_le_bytes()).number());
        assert_eq!(texts.0.lock().texts.len(), 3000);
        for number in 3000..100_000_u32 {
            texts.share(&number.to_le_bytes());
            assert!(texts.0.lock().texts.len() <= 2 * kept.len());
        }
        assert_eq!(kept[7].number(), texts.share(&7_u32.to_le_bytes()).number());
        drop(kept);
        for number in 0..10_000_u32 {
            texts.share(&number.to_le_bytes());
        }
        assert!(texts.0.lock().texts.len() <= UNUSED_MIN);
    }
}
