//! How records come into the buffer of a group: payloads are encoded in place, headers follow once it is known where they stand.

use super::pack::Packer;
use super::record::{HEADER_BYTES, Header, Kind};
use crate::model::{Series, SeriesTable};

/// How far copies of a definition stand apart: more than the largest block that disks lose as a whole.
const APART_BYTES: u64 = 8 << 10;

/// Series that are new to a segment, with their local ids.
pub(super) type Fresh = Vec<(u32, Series)>;

/// Appends a record, but for its header, for which there is room. The header that belongs there.
pub(super) fn encode_record(buffer: &mut Vec<u8>, header: Header, encode: impl FnOnce(&mut Vec<u8>)) -> Header {
    let start = buffer.len() + HEADER_BYTES;
    buffer.resize(start, 0);
    encode(buffer);
    let payload = &buffer[start..];
    Header { payload_bytes: payload.len() as u32, payload_crc: crc32c::crc32c(payload), ..header }
}

/// Appends records that define these series, likewise.
pub(super) fn encode_definitions(
    buffer: &mut Vec<u8>,
    header: Header,
    mut series: &[(u32, Series)],
    packer: &mut Packer,
    table: &SeriesTable,
) -> Vec<Header> {
    let mut headers = Vec::new();
    while !series.is_empty() {
        let mut packed = 0;
        let header = encode_record(buffer, header, |payload| packed = packer.pack(series, table, payload));
        headers.push(Header { kind: Kind::Packed, count: packed as u32, ..header });
        series = &series[packed..];
    }
    headers
}

/// Puts the headers of records that stand one behind the other from `at` on, in a buffer that will be written at the offset
/// `base` of its file.
pub(super) fn put_headers(buffer: &mut [u8], base: u64, mut at: usize, headers: &[Header]) {
    for header in headers {
        buffer[at..at + HEADER_BYTES].copy_from_slice(&header.bytes(base + at as u64));
        at += header.record_bytes() as usize;
    }
}

/// Series whose definitions stand twice with so little between the copies that a block could take both. The first group that
/// ends [`APART_BYTES`] behind them defines them a third time; so these are the series of some groups at most.
#[derive(Debug, Default)]
pub(super) struct Close {
    /// Those defined before `since`,
    ripe: Fresh,
    /// and those defined behind it.
    green: Fresh,
    since: u64,
}

impl Close {
    /// Takes note of series that were defined with so many bytes between the copies.
    pub(super) fn note(&mut self, series: &mut Fresh, apart: u64) {
        if apart <= APART_BYTES {
            self.green.append(series);
        }
    }

    /// The series to define again in a segment that has reached that size.
    pub(super) fn due(&mut self, segment_bytes: u64) -> Fresh {
        if segment_bytes < self.since + APART_BYTES {
            return Fresh::new();
        }
        self.since = segment_bytes;
        let green = std::mem::take(&mut self.green);
        std::mem::replace(&mut self.ripe, green)
    }
}
