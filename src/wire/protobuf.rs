//! Protobuf wire format: walks the fields of a message without a schema, and writes them.
//!
//! Reading is as lenient as Prometheus's own decoder, so that no message that it takes is refused here: overlong varints
//! and bits past the 64th are fine, unknown fields and groups are skipped, and the number at a group's end is not compared
//! with the one at its beginning. What cannot be walked to its end is a [`DecodeError`].
//!
//! Specification: <https://protobuf.dev/programming-guides/encoding/>. Nothing here allocates while it reads, and nothing
//! recurses.

/// Why a protobuf message could not be walked to its end; nothing of it can be trusted then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field reaches beyond the end of its message.
    #[error("protobuf: the message ends inside of a field")]
    Truncated,
    /// A varint of more than ten bytes.
    #[error("protobuf: a varint has more than ten bytes")]
    VarintTooLong,
    /// Field number 0, or one that does not fit 29 bits.
    #[error("protobuf: a field number is 0 or too large")]
    FieldNumber,
    /// Wire types 6 and 7 do not exist.
    #[error("protobuf: wire type {0} does not exist")]
    WireType(u8),
    /// A group's end without its beginning.
    #[error("protobuf: a group ends that never began")]
    GroupEnd,
    /// A known field in a wire type that its declaration does not allow.
    #[error("protobuf: field {field} has the wrong wire type")]
    WrongWireType {
        /// The field's number in its message.
        field: u32,
    },
    /// A symbol table longer than the gateway takes.
    #[error("remote write: more than {symbols_max} symbols in one request")]
    TooManySymbols {
        /// The bound.
        symbols_max: usize,
    },
}

/// A field's payload, by wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
    Group,
}

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) payload: Payload<'a>,
}

impl<'a> Field<'a> {
    #[inline]
    pub(crate) fn bytes(&self) -> Result<&'a [u8], DecodeError> {
        match self.payload {
            Payload::Bytes(bytes) => Ok(bytes),
            _ => Err(self.wrong()),
        }
    }

    #[inline]
    pub(crate) fn varint(&self) -> Result<u64, DecodeError> {
        match self.payload {
            Payload::Varint(value) => Ok(value),
            _ => Err(self.wrong()),
        }
    }

    #[inline]
    pub(crate) fn double(&self) -> Result<f64, DecodeError> {
        match self.payload {
            Payload::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(self.wrong()),
        }
    }

    pub(crate) fn sint32(&self) -> Result<i32, DecodeError> {
        // A 32-bit field keeps the low half of a longer varint.
        Ok(from_zigzag(u64::from(self.varint()? as u32)) as i32)
    }

    /// A repeated varint field, packed or not.
    #[inline]
    pub(crate) fn varints(&self, mut each: impl FnMut(u64)) -> Result<(), DecodeError> {
        match self.payload {
            Payload::Varint(value) => each(value),
            Payload::Bytes(bytes) => {
                let mut at = 0;
                while at < bytes.len() {
                    each(read_varint(bytes, &mut at)?);
                }
            }
            _ => return Err(self.wrong()),
        }
        Ok(())
    }

    /// A repeated double field, packed or not.
    pub(crate) fn doubles(&self, values: &mut Vec<f64>) -> Result<(), DecodeError> {
        match self.payload {
            Payload::Fixed64(bits) => values.push(f64::from_bits(bits)),
            Payload::Bytes(bytes) => {
                let (chunks, rest) = bytes.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(DecodeError::Truncated);
                }
                values.extend(chunks.iter().map(|chunk| f64::from_le_bytes(*chunk)));
            }
            _ => return Err(self.wrong()),
        }
        Ok(())
    }

    #[cold]
    fn wrong(&self) -> DecodeError {
        DecodeError::WrongWireType { field: self.number }
    }
}

/// Walks the fields of one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { bytes: message, at: 0 }
    }

    /// The next field; none at the end of the message.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, DecodeError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).unwrap_or(0);
        if number == 0 || number > FIELD_NUMBER_MAX {
            return Err(DecodeError::FieldNumber);
        }
        let payload = match (tag & 7) as u8 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                Payload::Bytes(self.take(length)?)
            }
            3 => {
                self.skip_group()?;
                Payload::Group
            }
            4 => return Err(DecodeError::GroupEnd),
            5 => {
                let _: [u8; 4] = self.array()?;
                Payload::Fixed32
            }
            other => return Err(DecodeError::WireType(other)),
        };
        Ok(Some(Field { number, payload }))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, DecodeError> {
        read_varint(self.bytes, &mut self.at)
    }

    #[inline]
    fn take(&mut self, length: u64) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(length).map_err(|_| DecodeError::Truncated)?;
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or(DecodeError::Truncated)?;
        self.at += length;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let taken = self.bytes[self.at..].first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.at += N;
        Ok(*taken)
    }

    #[cold]
    fn skip_group(&mut self) -> Result<(), DecodeError> {
        let mut depth = 1_usize;
        while depth > 0 {
            let tag = self.varint()?;
            if tag >> 3 == 0 {
                return Err(DecodeError::FieldNumber);
            }
            match (tag & 7) as u8 {
                0 => drop(self.varint()?),
                1 => drop(self.array::<8>()?),
                2 => {
                    let length = self.varint()?;
                    self.take(length)?;
                }
                3 => depth += 1,
                4 => depth -= 1,
                5 => drop(self.array::<4>()?),
                other => return Err(DecodeError::WireType(other)),
            }
        }
        Ok(())
    }
}

const FIELD_NUMBER_MAX: u32 = (1 << 29) - 1;
/// A 64-bit varint's longest form.
const VARINT_BYTES_MAX: usize = 10;

/// Reads a varint; bits past the 64th are dropped.
#[inline]
pub(crate) fn read_varint(bytes: &[u8], at: &mut usize) -> Result<u64, DecodeError> {
    match bytes.get(*at..).unwrap_or_default() {
        [byte, ..] if *byte < 0x80 => {
            *at += 1;
            Ok(u64::from(*byte))
        }
        [low, high, ..] if *high < 0x80 => {
            *at += 2;
            Ok(u64::from(low & 0x7f) | u64::from(*high) << 7)
        }
        _ => read_long_varint(bytes, at),
    }
}

fn read_long_varint(bytes: &[u8], at: &mut usize) -> Result<u64, DecodeError> {
    let mut value = 0_u64;
    for (index, byte) in bytes[*at..].iter().take(VARINT_BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            *at += index + 1;
            return Ok(value);
        }
    }
    Err(if bytes.len() - *at < VARINT_BYTES_MAX { DecodeError::Truncated } else { DecodeError::VarintTooLong })
}

/// The signed number of a zigzag-encoded varint.
pub(crate) const fn from_zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Bytes of that varint.
#[inline]
pub(crate) const fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
pub(crate) fn put_varint_field(out: &mut Vec<u8>, field: u32, value: u64) {
    put_varint(out, u64::from(field << 3));
    put_varint(out, value);
}

pub(crate) fn put_sint_field(out: &mut Vec<u8>, field: u32, value: i64) {
    put_varint_field(out, field, to_zigzag(value));
}

pub(crate) fn put_double_field(out: &mut Vec<u8>, field: u32, value: f64) {
    put_varint(out, u64::from(field << 3 | 1));
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

#[inline]
pub(crate) fn put_bytes_field(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_varint(out, u64::from(field << 3 | 2));
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Zigzag encoding of a signed number.
pub(crate) const fn to_zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> Result<usize, DecodeError> {
        let mut fields = Fields::new(bytes);
        let mut count = 0;
        while fields.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn messages_are_walked_to_their_end_or_refused() {
        let cases: [(&[u8], Result<usize, DecodeError>); 15] = [
            (b"", Ok(0)),
            (&[0x08, 0x01, 0x12, 0x02, 1, 2], Ok(2)),
            (&[0x88, 0x80, 0x00, 0x01], Ok(1)),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], Ok(1)),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], Err(DecodeError::VarintTooLong)),
            (&[0x08], Err(DecodeError::Truncated)),
            (&[0x08, 0x80], Err(DecodeError::Truncated)),
            (&[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f, 0], Err(DecodeError::Truncated)),
            (&[0x09, 0, 0], Err(DecodeError::Truncated)),
            (&[0x02, 0x00], Err(DecodeError::FieldNumber)),
            (&[0x0e], Err(DecodeError::WireType(6))),
            (&[0x1c], Err(DecodeError::GroupEnd)),
            (&[0x1b, 0x08, 0x01, 0x2b, 0x2c, 0x1c, 0x08, 0x01], Ok(2)),
            (&[0x1b, 0x08, 0x01], Err(DecodeError::Truncated)),
            (&[0x1b, 0x08, 0x01, 0x24], Ok(1)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(walk(bytes), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn varints_are_written_in_the_length_that_was_computed() {
        let mut out = Vec::new();
        for shift in 0..64 {
            for value in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                out.clear();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
                let mut at = 0;
                assert_eq!(read_varint(&out, &mut at), Ok(value));
                assert_eq!(at, out.len());
                assert_eq!(to_zigzag(from_zigzag(value)), value);
            }
        }
    }
}
