//! Numbers and texts of a record's payload, in both directions.

/// The payload ends early, or holds what no writer of this version writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Appends to a payload.
pub(super) trait Put {
    fn put_varint(&mut self, value: u64);
    fn put_signed(&mut self, value: i64);
    fn put_float(&mut self, value: f64);
    fn put_text(&mut self, text: &str);
}

impl Put for Vec<u8> {
    #[inline]
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    #[inline]
    fn put_signed(&mut self, value: i64) {
        self.put_varint((value << 1 ^ value >> 63).cast_unsigned());
    }

    #[inline]
    fn put_float(&mut self, value: f64) {
        self.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    fn put_text(&mut self, text: &str) {
        self.put_varint(text.len() as u64);
        self.extend_from_slice(text.as_bytes());
    }
}

/// Takes from the front of a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Take<'a>(pub(super) &'a [u8]);

impl<'a> Take<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(Malformed);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    #[inline]
    pub(super) fn signed(&mut self) -> Result<i64, Malformed> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A varint that fits 32 bits.
    pub(super) fn number(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.varint()?).map_err(|_| Malformed)
    }

    /// A count of things that take at least one byte each, so that a forged count allocates no more than the payload has.
    pub(super) fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.varint()?;
        if count > self.0.len() as u64 { Err(Malformed) } else { Ok(count as usize) }
    }

    #[inline]
    pub(super) fn word(&mut self) -> Result<u64, Malformed> {
        let (word, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*word))
    }

    pub(super) fn float(&mut self) -> Result<f64, Malformed> {
        self.word().map(f64::from_bits)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let len = self.count()?;
        std::str::from_utf8(self.bytes(len)?).map_err(|_| Malformed)
    }

    /// As many items as a count before them says.
    pub(super) fn list<T>(&mut self, item: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        let count = self.count()?;
        (0..count).map(|_| item(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_at_their_limits() {
        let mut payload = Vec::new();
        let numbers = [0, 1, 127, 128, u64::from(u32::MAX), u64::MAX];
        let signed = [0, -1, 63, -64, 64, i64::MIN, i64::MAX];
        for number in numbers {
            payload.put_varint(number);
        }
        for number in signed {
            payload.put_signed(number);
        }
        let mut take = Take(&payload);
        assert_eq!(numbers.map(|_| take.varint().unwrap()), numbers);
        assert_eq!(signed.map(|_| take.signed().unwrap()), signed);
        assert!(take.is_empty());
        assert_eq!(Take(&[0xff; 10]).varint(), Err(Malformed));
        assert_eq!(Take(&[0x80]).varint(), Err(Malformed));
        assert_eq!(Take(&[200, 1, 0]).text(), Err(Malformed));
    }
}
