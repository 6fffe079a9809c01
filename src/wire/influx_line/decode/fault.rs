//! What is wrong with a line, before anybody counts or quotes it.

use crate::model::Refusal;

/// Why a line is refused, and from where the next line is looked for.
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) resume: usize,
    pub(super) reason: Refusal,
    pub(super) expected: &'static str,
}

impl Fault {
    #[cold]
    pub(super) fn new(at: usize, reason: Refusal, expected: &'static str) -> Self {
        Self { at, resume: at, reason, expected }
    }

    /// The same, where what was read reaches further than where it went wrong.
    pub(super) fn resuming(self, resume: usize) -> Self {
        Self { resume, ..self }
    }
}
