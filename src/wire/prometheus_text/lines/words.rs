//! A body into lines, a line into what its blanks divide.

/// Lines without their ends; no empty one behind the last end.
pub(super) struct Lines<'b> {
    /// What is left of the body.
    pub(super) rest: &'b [u8],
    /// Lines given so far: the number of the last one, from 1.
    pub(super) number: usize,
}

impl<'b> Lines<'b> {
    pub(super) fn new(body: &'b [u8]) -> Self {
        Self { rest: body, number: 0 }
    }

    /// Goes on behind a line whose length is known.
    #[inline]
    pub(super) fn pass(&mut self, length: usize) {
        self.rest = self.rest.get(length + 1..).unwrap_or_default();
        self.number += 1;
    }
}

impl<'b> Iterator for Lines<'b> {
    type Item = &'b [u8];

    #[inline]
    fn next(&mut self) -> Option<&'b [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let line = &self.rest[..memchr::memchr(b'\n', self.rest).unwrap_or(self.rest.len())];
        self.pass(line.len());
        Some(line)
    }
}

#[inline]
pub(super) fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// Up to the next blank, and the rest from it on.
#[inline]
pub(super) fn token(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(bytes.len()))
}

/// Up to the next space, and the rest from it on.
#[inline]
pub(super) fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len()))
}
