//! Lines out of a stream of bytes, bounded.
//!
//! A line ends at `\n`. A line without an end is never given out: a value cut in half is still a value, so what stands
//! behind the last `\n` when a connection ends is refused, not guessed. A line beyond the bound is skipped to its end.

use memchr::memchr;

/// Gathers lines.
#[derive(Debug)]
pub(super) struct Lines {
    line_bytes_max: usize,
    /// Whole lines up to `complete`, behind it the beginning of the next.
    bytes: Vec<u8>,
    complete: usize,
    skipping: bool,
    too_long: u64,
}

impl Lines {
    /// No line yet.
    pub(super) fn new(line_bytes_max: usize) -> Self {
        Self { line_bytes_max, bytes: Vec::new(), complete: 0, skipping: false, too_long: 0 }
    }

    /// Takes the next bytes of the stream.
    pub(super) fn push(&mut self, mut chunk: &[u8]) {
        while let Some(end) = memchr(b'\n', chunk) {
            self.extend(&chunk[..=end]);
            if self.skipping {
                self.skipping = false;
            } else {
                self.complete = self.bytes.len();
            }
            chunk = &chunk[end + 1..];
        }
        self.extend(chunk);
    }

    /// Takes a datagram: its end is the end of its last line.
    pub(super) fn push_datagram(&mut self, datagram: &[u8]) {
        self.push(datagram);
        if self.skipping || self.bytes.len() > self.complete {
            self.push(b"\n");
        }
    }

    fn extend(&mut self, part: &[u8]) {
        if self.skipping {
            return;
        }
        if self.bytes.len() - self.complete + part.len() > self.line_bytes_max + 1 {
            self.bytes.truncate(self.complete);
            self.skipping = true;
            self.too_long += 1;
            return;
        }
        self.bytes.extend_from_slice(part);
    }

    /// Bytes of whole lines.
    pub(super) fn complete_bytes(&self) -> usize {
        self.complete
    }

    /// Whether a line has begun and not ended.
    pub(super) fn has_rest(&self) -> bool {
        self.bytes.len() > self.complete
    }

    /// The whole lines.
    pub(super) fn take_complete(&mut self) -> Vec<u8> {
        let rest = self.bytes.split_off(self.complete);
        self.complete = 0;
        std::mem::replace(&mut self.bytes, rest)
    }

    /// Lines skipped since the last call.
    pub(super) fn take_too_long(&mut self) -> u64 {
        std::mem::take(&mut self.too_long)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same without a buffer: all bytes at once.
    fn twin(bytes: &[u8], line_bytes_max: usize) -> (Vec<u8>, u64, bool) {
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        let rest = lines.pop().unwrap_or_default();
        let (short, long): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.len() <= line_bytes_max);
        let whole = short.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
        // A rest is known to be too long one byte later than a line: its end might be the next byte.
        let rest_long = rest.len() > line_bytes_max + 1;
        (whole, long.len() as u64 + u64::from(rest_long), !rest.is_empty() && !rest_long)
    }

    #[test]
    fn lines_come_out_whole_however_they_arrive() {
        let text = b"ab\n\nabcd\nabcde\nabcdefgh\r\nxyz\nabcdefghijk\nab\nabcdef";
        for cut in [&text[..], &text[..text.len() - 2], &text[..text.len() - 6], b"", b"\n", b"abcdefghi"] {
            for chunk in 1..=cut.len().max(1) {
                let mut lines = Lines::new(4);
                let mut out = Vec::new();
                for (at, part) in cut.chunks(chunk).enumerate() {
                    lines.push(part);
                    if at % 2 == 0 {
                        out.extend(lines.take_complete());
                    }
                }
                out.extend(lines.take_complete());
                assert_eq!((out, lines.take_too_long(), lines.has_rest()), twin(cut, 4), "chunks of {chunk}");
            }
        }
    }

    #[test]
    fn a_datagram_ends_its_last_line() {
        let mut lines = Lines::new(4);
        for datagram in [&b"a"[..], b"b\n", b"too long", b"c\nd", b""] {
            lines.push_datagram(datagram);
        }
        assert_eq!(lines.take_complete(), b"a\nb\nc\nd\n");
        assert_eq!(lines.take_too_long(), 1);
    }
}
