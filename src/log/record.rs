//! The frame of a record: a header that guards itself and tells where in the log it stands.
//!
//! ```text
//!  0  magic "SGL\xa7"                  4
//!  4  format version (2; 0.1.0 wrote 1) 1
//!  5  kind                             1   1 checkpoint, 2 definitions (of version 1), 3 samples, 4 packed definitions
//!  6  input format                     1   of samples, else 0
//!  7  reserved (0)                     1
//!  8  payload length                   4   little endian, as all numbers
//! 12  count                            4   samples, or definitions
//! 16  seq                              8   } the position at this place: the record to come next,
//! 24  ordinal                          8   } and how many samples lie before it
//! 32  appended at, ns since the epoch  8
//! 40  CRC32C of the payload            4
//! 44  CRC32C of the 44 bytes above and the header's offset in the file (8 bytes)
//! 48  payload
//! ```
//!
//! * The offset is part of the checksum, so bytes that merely look like a header (a string value that a sender chose, a
//!   block that the disk put elsewhere) are not taken for one.
//! * Later versions keep this frame and change kinds and payloads only: their records cannot be read here, but they are
//!   stepped over and counted exactly, as damaged ones are.
//! * Two headers with different positions and nothing readable in between tell exactly what was lost.

use super::Position;
use crate::model::{Format, TimestampNs};

/// Size of a header.
pub(super) const HEADER_BYTES: usize = 48;
/// What a header begins with; the last byte is not UTF-8, so text does not contain it.
pub(super) const MAGIC: [u8; 4] = *b"SGL\xa7";
/// The first had definitions that were not packed.
const VERSION: u8 = 2;
const HEADER_GUARDED: usize = 44;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// The samples accepted so far, by format. Begins every segment and ends every group of records.
    Checkpoint = 1,
    /// Series that samples of the segment refer to, each written in full. Version 1 wrote these.
    Definitions = 2,
    /// A batch.
    Samples = 3,
    /// Series that samples of the segment refer to.
    Packed = 4,
}

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Whether a later version wrote it: its payload means nothing here.
    pub(super) later: bool,
    pub(super) kind: Kind,
    /// Input format of samples.
    pub(super) format: Format,
    pub(super) payload_bytes: u32,
    /// Samples, or definitions.
    pub(super) count: u32,
    pub(super) position: Position,
    pub(super) appended_at: TimestampNs,
    pub(super) payload_crc: u32,
}

impl Header {
    /// Reads a header found at that offset of its file; none when these bytes are not a header.
    pub(super) fn parse(bytes: &[u8], offset: u64) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
        if bytes[..4] != MAGIC || bytes[4] == 0 || checksum(bytes, offset) != u32_at(bytes, HEADER_GUARDED) {
            return None;
        }
        let later = bytes[4] > VERSION;
        let kind = match bytes[5] {
            1 => Kind::Checkpoint,
            3 => Kind::Samples,
            4 => Kind::Packed,
            kind if kind == 2 || later => Kind::Definitions,
            _ => return None,
        };
        let format = Format::from_index(bytes[6]);
        Some(Self {
            later,
            kind,
            format: if later { format.unwrap_or(Format::PrometheusText) } else { format? },
            payload_bytes: u32_at(bytes, 8),
            count: u32_at(bytes, 12),
            position: Position { seq: u64_at(bytes, 16), ordinal: u64_at(bytes, 24) },
            appended_at: u64_at(bytes, 32).cast_signed(),
            payload_crc: u32_at(bytes, 40),
        })
    }

    /// The header's bytes at that offset of its file.
    pub(super) fn bytes(&self, offset: u64) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.kind as u8;
        bytes[6] = self.format as u8;
        bytes[8..12].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.position.seq.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.position.ordinal.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.appended_at.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.payload_crc.to_le_bytes());
        let checksum = checksum(&bytes, offset);
        bytes[HEADER_GUARDED..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Whether these bytes, in which no header was found, are the beginning of a segment of a later version.
    pub(super) fn begins_later(bytes: &[u8]) -> bool {
        bytes.strip_prefix(&MAGIC).and_then(|rest| rest.first()).is_some_and(|version| *version > VERSION)
    }

    /// Size of the whole record.
    pub(super) fn record_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.payload_bytes)
    }

    /// The position behind this record; overflow is possible only in a forged header.
    pub(super) fn next(&self) -> Position {
        match self.kind {
            Kind::Samples => self.position.after(self.count),
            Kind::Checkpoint | Kind::Definitions | Kind::Packed => self.position,
        }
    }
}

fn checksum(bytes: &[u8; HEADER_BYTES], offset: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..HEADER_GUARDED]), &offset.to_le_bytes())
}

/// Makes the header at that offset one that the next version wrote.
#[cfg(test)]
pub(super) fn make_later(file: &mut [u8], offset: usize) {
    let header: &mut [u8; HEADER_BYTES] = file[offset..].first_chunk_mut().unwrap();
    header[4] = VERSION + 1;
    let checksum = checksum(header, offset as u64);
    header[HEADER_GUARDED..].copy_from_slice(&checksum.to_le_bytes());
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |field| u32::from_le_bytes(*field))
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |field| u64::from_le_bytes(*field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_from_its_own_offset_only() {
        let header = Header {
            later: false,
            kind: Kind::Samples,
            format: Format::Wavefront,
            payload_bytes: 7,
            count: 3,
            position: Position { seq: u64::MAX - 1, ordinal: 1 << 60 },
            appended_at: -5,
            payload_crc: 0xdead_beef,
        };
        let bytes = header.bytes(4096);
        assert_eq!(Header::parse(&bytes, 4096), Some(header));
        assert_eq!(Header::parse(&bytes, 4097), None);
        for at in 0..HEADER_BYTES {
            for bit in 0..8 {
                let mut damaged = bytes;
                damaged[at] ^= 1 << bit;
                assert_eq!(Header::parse(&damaged, 4096), None, "byte {at} bit {bit}");
            }
            assert_eq!(Header::parse(&bytes[..at], 4096), None);
        }
    }
}
