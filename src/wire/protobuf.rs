//! Protobuf wire format: walks the fields of a message without a schema, and writes them.
//!
//! Reading is as lenient as Prometheus's own decoder, so that no message that it takes is refused here: overlong varints
//! and bits past the 64th are fine, unknown fields and groups are skipped, and the number at a group's end is not compared
//! with the one at its beginning. What cannot be walked to its end is a [`DecodeError`].
//!
//! Specification: <https://protobuf.dev/programming-guides/encoding/>. Nothing here allocates while it reads, and nothing
//! recurses.

use std::fmt;

/// Why a protobuf message could not be walked to its end, and where; nothing of it can be trusted then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What was expected and found.
    pub fault: Fault,
    /// The byte of the message, from 0, at which the field begins that is wrong; none when it is not known.
    pub offset: Option<usize>,
    /// The series or family that it is in, from 0; none when it is in none.
    pub part: Option<(&'static str, usize)>,
}

impl std::error::Error for DecodeError {}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "protobuf: {}", self.fault)?;
        if let Some(offset) = self.offset {
            write!(f, ", at byte {offset}")?;
        }
        if let Some((part, index)) = self.part {
            write!(f, ", in {part} {index}")?;
        }
        Ok(())
    }
}

/// What is wrong with a message: what was expected, what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A field reaches beyond the end of its message.
    #[error("expected {missing} more bytes of a field, found the end of its message")]
    Truncated {
        /// How many at least, up to the largest number there is here.
        missing: u32,
    },
    /// A varint of more than ten bytes.
    #[error("expected a varint of at most {VARINT_BYTES_MAX} bytes, found a longer one")]
    VarintTooLong,
    /// Field number 0, or one that does not fit 29 bits.
    #[error("expected a field number from 1 to {FIELD_NUMBER_MAX}, found {}", if *is_zero { "0" } else { "a larger one" })]
    FieldNumber {
        /// Which of the two.
        is_zero: bool,
    },
    /// Wire types 6 and 7 do not exist.
    #[error("expected a wire type from 0 to 5, found {0}")]
    WireType(u8),
    /// A group's end without its beginning.
    #[error("expected a field, found the end of a group that never began")]
    GroupEnd,
    /// A known field in a wire type that its declaration does not allow.
    #[error("expected wire type {expected}{} for field {field}, found {found}", if *or_packed { " or 2" } else { "" })]
    WrongWireType {
        /// The field's number in its message.
        field: u32,
        /// What is declared.
        expected: u8,
        /// Whether it is repeated, and may be packed.
        or_packed: bool,
        /// What was sent.
        found: u8,
    },
    /// A symbol table longer than the gateway takes.
    #[error("expected at most {symbols_max} symbols in one request, found more")]
    TooManySymbols {
        /// The bound.
        symbols_max: u32,
    },
}

impl Fault {
    #[cold]
    pub(crate) fn truncated(missing: u64) -> Self {
        Self::Truncated { missing: u32::try_from(missing).unwrap_or(u32::MAX) }
    }

    /// The same with its place: some bytes of the message that is decoded, as they lie in memory. What that means is worked out
    /// when the message is known ([`Damage::within`]), so that walking it costs nothing for it.
    #[cold]
    pub(crate) fn at(self, place: &[u8]) -> Damage {
        Damage { fault: self, address: place.as_ptr().addr() }
    }
}

/// A fault and where in memory it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("protobuf: {fault}")]
pub(crate) struct Damage {
    pub(crate) fault: Fault,
    address: usize,
}

impl Damage {
    /// Where it is in a message, and in which of its parts.
    #[cold]
    pub(crate) fn within(self, message: &[u8], part: Option<(&'static str, usize)>) -> DecodeError {
        DecodeError { fault: self.fault, offset: self.offset(message), part }
    }

    /// Where it is in a request, whose series are that field.
    #[cold]
    pub(crate) fn within_request(self, request: &[u8], series: u32) -> DecodeError {
        let mut fields = Fields::new(request);
        let mut index = 0;
        let part = self.offset(request).and_then(|offset| {
            loop {
                let start = fields.at;
                let is_series = fields.next().ok()??.number == series;
                if start < offset && offset < fields.at {
                    return is_series.then_some(("series", index));
                }
                index += usize::from(is_series);
            }
        });
        self.within(request, part)
    }

    /// The same when a copy of that part was decoded: it is somewhere in there.
    #[cold]
    pub(crate) fn somewhere_in(self, part: &[u8]) -> Self {
        self.fault.at(part)
    }

    fn offset(self, message: &[u8]) -> Option<usize> {
        self.address.checked_sub(message.as_ptr().addr()).filter(|offset| *offset < message.len())
    }
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

impl Payload<'_> {
    const fn wire_type(self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Group => 3,
            Self::Fixed32 => 5,
        }
    }
}

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) payload: Payload<'a>,
    /// Where in memory it begins.
    address: usize,
}

impl<'a> Field<'a> {
    #[inline]
    pub(crate) fn bytes(&self) -> Result<&'a [u8], Damage> {
        match self.payload {
            Payload::Bytes(bytes) => Ok(bytes),
            _ => Err(self.wrong(2, false)),
        }
    }

    #[inline]
    pub(crate) fn varint(&self) -> Result<u64, Damage> {
        match self.payload {
            Payload::Varint(value) => Ok(value),
            _ => Err(self.wrong(0, false)),
        }
    }

    #[inline]
    pub(crate) fn double(&self) -> Result<f64, Damage> {
        match self.payload {
            Payload::Fixed64(bits) => Ok(f64::from_bits(bits)),
            _ => Err(self.wrong(1, false)),
        }
    }

    pub(crate) fn sint32(&self) -> Result<i32, Damage> {
        // A 32-bit field keeps the low half of a longer varint.
        Ok(from_zigzag(u64::from(self.varint()? as u32)) as i32)
    }

    /// A repeated varint field, packed or not.
    #[inline]
    pub(crate) fn varints(&self, mut each: impl FnMut(u64)) -> Result<(), Damage> {
        match self.payload {
            Payload::Varint(value) => each(value),
            Payload::Bytes(bytes) => {
                let mut at = 0;
                while at < bytes.len() {
                    each(read_varint(bytes, &mut at).map_err(|fault| fault.at(&bytes[at..]))?);
                }
            }
            _ => return Err(self.wrong(0, true)),
        }
        Ok(())
    }

    /// A repeated double field, packed or not.
    pub(crate) fn doubles(&self, values: &mut Vec<f64>) -> Result<(), Damage> {
        match self.payload {
            Payload::Fixed64(bits) => values.push(f64::from_bits(bits)),
            Payload::Bytes(bytes) => {
                let (chunks, rest) = bytes.as_chunks::<8>();
                if !rest.is_empty() {
                    return Err(Fault::truncated(8 - rest.len() as u64).at(rest));
                }
                values.extend(chunks.iter().map(|chunk| f64::from_le_bytes(*chunk)));
            }
            _ => return Err(self.wrong(1, true)),
        }
        Ok(())
    }

    #[cold]
    fn wrong(self, expected: u8, or_packed: bool) -> Damage {
        let (field, found) = (self.number, self.payload.wire_type());
        Damage { fault: Fault::WrongWireType { field, expected, or_packed, found }, address: self.address }
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

    /// What was not read yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Goes on behind as many bytes, which are whole fields.
    #[inline]
    pub(crate) fn skip(&mut self, len: usize) {
        self.at += len;
    }

    /// The next field; none at the end of the message.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, Damage> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let address = self.bytes.as_ptr().addr() + self.at;
        match self.field() {
            Ok((number, payload)) => Ok(Some(Field { number, payload, address })),
            Err(fault) => Err(Damage { fault, address }),
        }
    }

    #[inline]
    fn field(&mut self) -> Result<(u32, Payload<'a>), Fault> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).unwrap_or(u32::MAX);
        if number == 0 || number > FIELD_NUMBER_MAX {
            return Err(Fault::FieldNumber { is_zero: number == 0 });
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
            4 => return Err(Fault::GroupEnd),
            5 => {
                let _: [u8; 4] = self.array()?;
                Payload::Fixed32
            }
            other => return Err(Fault::WireType(other)),
        };
        Ok((number, payload))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Fault> {
        read_varint(self.bytes, &mut self.at)
    }

    #[inline]
    fn take(&mut self, length: u64) -> Result<&'a [u8], Fault> {
        let rest = &self.bytes[self.at..];
        if length > rest.len() as u64 {
            return Err(Fault::truncated(length - rest.len() as u64));
        }
        self.at += length as usize;
        Ok(&rest[..length as usize])
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let rest = &self.bytes[self.at..];
        let taken = rest.first_chunk::<N>().ok_or_else(|| Fault::truncated((N - rest.len()) as u64))?;
        self.at += N;
        Ok(*taken)
    }

    #[cold]
    fn skip_group(&mut self) -> Result<(), Fault> {
        let mut depth = 1_usize;
        while depth > 0 {
            let tag = self.varint()?;
            if tag >> 3 == 0 {
                return Err(Fault::FieldNumber { is_zero: true });
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
                other => return Err(Fault::WireType(other)),
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
pub(crate) fn read_varint(bytes: &[u8], at: &mut usize) -> Result<u64, Fault> {
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

fn read_long_varint(bytes: &[u8], at: &mut usize) -> Result<u64, Fault> {
    let mut value = 0_u64;
    for (index, byte) in bytes[*at..].iter().take(VARINT_BYTES_MAX).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            *at += index + 1;
            return Ok(value);
        }
    }
    Err(if bytes.len() - *at < VARINT_BYTES_MAX { Fault::truncated(1) } else { Fault::VarintTooLong })
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

    fn walk(bytes: &[u8]) -> Result<usize, Damage> {
        let mut fields = Fields::new(bytes);
        let mut count = 0;
        while fields.next()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    #[test]
    fn messages_are_walked_to_their_end_or_refused() {
        let truncated = |missing| Fault::Truncated { missing };
        let cases: [(&[u8], Result<usize, Fault>); 15] = [
            (b"", Ok(0)),
            (&[0x08, 0x01, 0x12, 0x02, 1, 2], Ok(2)),
            (&[0x88, 0x80, 0x00, 0x01], Ok(1)),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], Ok(1)),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], Err(Fault::VarintTooLong)),
            (&[0x08], Err(truncated(1))),
            (&[0x08, 0x80], Err(truncated(1))),
            (&[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f, 0], Err(truncated(u32::MAX - 1))),
            (&[0x09, 0, 0], Err(truncated(6))),
            (&[0x02, 0x00], Err(Fault::FieldNumber { is_zero: true })),
            (&[0x0e], Err(Fault::WireType(6))),
            (&[0x1c], Err(Fault::GroupEnd)),
            (&[0x1b, 0x08, 0x01, 0x2b, 0x2c, 0x1c, 0x08, 0x01], Ok(2)),
            (&[0x1b, 0x08, 0x01], Err(truncated(1))),
            (&[0x1b, 0x08, 0x01, 0x24], Ok(1)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(walk(bytes).map_err(|damage| damage.fault), expected, "{bytes:x?}");
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
