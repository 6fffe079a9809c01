//! Texts that rendered series have in common, each kept once for as long as somebody has it: the metrics of a target have the
//! same labels, and what they share stays in the processor's cache.

use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;

/// Texts that are kept beyond those in use before they are looked through; at least, and else as many as were in use then.
const UNUSED_MIN: usize = 1024;

/// The texts of an output. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub struct SharedTexts(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    texts: HashSet<Arc<[u8]>>,
    /// How many there were in use when they were looked through.
    used: usize,
}

impl SharedTexts {
    /// That text, the one that others have.
    pub(crate) fn share(&self, text: &[u8]) -> Arc<[u8]> {
        let known = &mut *self.0.lock();
        if let Some(text) = known.texts.get(text) {
            return Arc::clone(text);
        }
        if known.texts.len() >= known.used + known.used.max(UNUSED_MIN) {
            known.texts.retain(|text| Arc::strong_count(text) > 1);
            known.used = known.texts.len();
        }
        let text = Arc::from(text);
        known.texts.insert(Arc::clone(&text));
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
        assert!(Arc::ptr_eq(&kept[7], &texts.share(&7_u32.to_le_bytes())));
        assert_eq!(texts.0.lock().texts.len(), 3000);
        for number in 3000..100_000_u32 {
            texts.share(&number.to_le_bytes());
            assert!(texts.0.lock().texts.len() <= 2 * kept.len());
        }
        assert!(Arc::ptr_eq(&kept[7], &texts.share(&7_u32.to_le_bytes())));
        drop(kept);
        for number in 0..10_000_u32 {
            texts.share(&number.to_le_bytes());
        }
        assert!(texts.0.lock().texts.len() <= UNUSED_MIN);
    }
}
