//! Segment files: their names, and the walk over their records that steps over damage.

use super::record::{HEADER_BYTES, Header, MAGIC};
use super::storage::{Storage, StorageFile, is_unreadable};
use super::{LogError, Position, Seq};
use crate::model::TimestampNs;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes read at once while walking.
const WINDOW_BYTES: usize = 64 << 10;
/// What a disk that cannot read is asked for at once: a page, as the operating system reads.
const BLOCK_BYTES: u64 = 4 << 10;

/// Where a log keeps its segments.
pub(super) fn segments_dir(dir: &Path) -> PathBuf {
    dir.join("segments")
}

/// The file name of the segment that begins with that record.
pub(super) fn segment_name(first: Seq) -> String {
    format!("{first:020}.log")
}

/// The record with which the segment of that file name begins; none for foreign files.
fn first_of_name(name: &str) -> Option<Seq> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// The segments of the log in that directory, oldest first.
pub(super) fn segment_names(storage: &dyn Storage, dir: &Path) -> Result<Vec<Seq>, LogError> {
    let dir = segments_dir(dir);
    let listed = storage.list(&dir).map_err(LogError::at(&dir))?;
    let mut names: Vec<_> = listed.iter().filter_map(|name| first_of_name(name)).collect();
    names.sort_unstable();
    Ok(names)
}

/// One segment as the log knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Names the file. Differs from `first.seq` only where the segment's beginning is damaged.
    pub(super) name: Seq,
    /// The position at its beginning.
    pub(super) first: Position,
    /// Bytes that readers may see.
    pub(super) bytes: u64,
    /// When it was begun, as far as is known.
    pub(super) begun: Option<TimestampNs>,
}

/// Steps from record to record. Where the bytes make no sense, it looks for the next header.
#[derive(Debug)]
pub(super) struct Walk {
    file: Box<dyn StorageFile>,
    /// Whether blocks that the disk cannot read count as damage rather than as an error.
    lenient: bool,
    /// Whether there was such a block.
    unreadable: bool,
    offset: u64,
    limit: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl Walk {
    /// A walk over the first `limit` bytes of a file.
    pub(super) fn new(file: Box<dyn StorageFile>, limit: u64) -> Self {
        Self { file, lenient: false, unreadable: false, offset: 0, limit, window: Vec::new(), window_start: 0 }
    }

    /// From now on, what the disk cannot read is damage: it reads as zeros.
    pub(super) fn lenient(mut self) -> Self {
        self.lenient = true;
        self
    }

    /// Whether there was something that the disk cannot read.
    pub(super) fn met_unreadable(&self) -> bool {
        self.unreadable
    }

    /// Where the next step begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes (back) to an offset that a step had begun at.
    pub(super) fn go_to(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Lets the walk see what was written meanwhile.
    pub(super) fn extend(&mut self, limit: u64) {
        if limit > self.limit {
            self.limit = limit;
            self.window.clear();
        }
    }

    /// The next intact header whose record lies within the limit, and its offset.
    pub(super) fn step(&mut self) -> io::Result<Option<(u64, Header)>> {
        loop {
            let (offset, limit) = (self.offset, self.limit);
            let bytes = self.slice(offset, HEADER_BYTES)?;
            if bytes.len() < HEADER_BYTES {
                return Ok(None);
            }
            match Header::parse(bytes, offset) {
                Some(header) if offset + header.record_bytes() <= limit => {
                    self.offset = offset + header.record_bytes();
                    return Ok(Some((offset, header)));
                }
                _ => self.offset = self.next_magic(offset + 1)?,
            }
        }
    }

    /// The payload of the record whose header stands at `offset`; none when it is damaged, or of a later version.
    pub(super) fn payload(&mut self, offset: u64, header: &Header) -> io::Result<Option<&[u8]>> {
        let len = header.payload_bytes as usize;
        let payload = self.slice(offset + HEADER_BYTES as u64, len)?;
        let intact = payload.len() == len && crc32c::crc32c(payload) == header.payload_crc;
        Ok((intact && !header.later).then_some(payload))
    }

    /// The first intact header. It tells which version wrote the segment, since no segment is written by two.
    pub(super) fn first(&mut self) -> io::Result<Option<Header>> {
        self.go_to(0);
        Ok(self.step()?.map(|(_, header)| header))
    }

    /// Whether a segment without an intact header looks like one of a later version.
    pub(super) fn begins_later(&mut self) -> io::Result<bool> {
        self.slice(0, HEADER_BYTES).map(Header::begins_later)
    }

    fn next_magic(&mut self, mut from: u64) -> io::Result<u64> {
        loop {
            let bytes = self.slice(from, WINDOW_BYTES)?;
            if bytes.len() < MAGIC.len() {
                return Ok(self.limit);
            }
            if let Some(at) = memchr::memmem::find(bytes, &MAGIC) {
                return Ok(from + at as u64);
            }
            // The magic may begin in the last bytes.
            from += (bytes.len() - (MAGIC.len() - 1)) as u64;
        }
    }

    /// Up to `len` bytes from `offset`, fewer at the limit.
    fn slice(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let len = len.min(usize::try_from(self.limit.saturating_sub(offset)).unwrap_or(usize::MAX));
        let held = self.window_start..self.window_start + self.window.len() as u64;
        if offset < held.start || offset + len as u64 > held.end {
            let want = len.max(WINDOW_BYTES).min((self.limit - offset.min(self.limit)) as usize);
            self.window.shrink_to(WINDOW_BYTES.max(want));
            match self.file.read_at(offset, want, &mut self.window) {
                Err(error) if self.lenient && is_unreadable(&error) => self.read_blocks(offset, want)?,
                read => read?,
            }
            self.window_start = offset;
        }
        let start = (offset - self.window_start) as usize;
        Ok(&self.window[start..(start + len).min(self.window.len())])
    }

    /// Fills the window block by block, so that a bad sector takes no more with it than its block.
    #[cold]
    fn read_blocks(&mut self, offset: u64, want: usize) -> io::Result<()> {
        let (mut window, mut block) = (Vec::with_capacity(want), Vec::new());
        let end = offset + want as u64;
        let mut at = offset;
        while at < end {
            let len = (at / BLOCK_BYTES + 1) * BLOCK_BYTES;
            let len = (len.min(end) - at) as usize;
            match self.file.read_at(at, len, &mut block) {
                Err(error) if is_unreadable(&error) => {
                    self.unreadable = true;
                    block.clear();
                }
                read => read?,
            }
            window.extend_from_slice(&block);
            at += len as u64;
            window.resize((at - offset) as usize, 0);
        }
        self.window = window;
        Ok(())
    }
}
