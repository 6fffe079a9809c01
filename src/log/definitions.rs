//! The definitions of a segment being read: where each of them stands in the file, and the series in use.
//!
//! Of a definition only its [`Place`] is held, 16 bytes. It is read again when a batch names it: then its series is the
//! table's, if a sender keeps it there, else it is recalled ([`Recalled`]). What is in use grows by generations. When one is
//! full ([`SeriesTable::recalled_bytes_max`]), the reader's chunk ends and the next chunk begins another; what that does not
//! ask for is forgotten with the one after. So a reader holds two generations, and batches that are on their way to its
//! output may hold a third, whatever the segment defines; a record of very many series makes a generation of its own.

use super::bytes::{Malformed, Take};
use super::payload::decode_series;
use super::storage::{StorageFile, is_unreadable};
use crate::model::{AliasHash, IdMap, Recalled, SeriesId, SeriesTable};
use std::io;
use std::sync::Arc;

/// The smallest definition: local id, length, dialect, bits, an empty name, no labels.
const DEFINITION_BYTES_MIN: u64 = 6;
/// Estimated cost of remembering which series a definition is.
const KNOWN_BYTES: usize = 64;

/// Why a batch is not read.
#[derive(Debug)]
pub(super) enum Unread {
    Malformed,
    Storage(io::Error),
}

impl From<Malformed> for Unread {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Where a definition stands in its file; nowhere while it has no length.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    offset: u64,
    len: u32,
    crc: u32,
}

/// A definition that is in use: a series of the table unless it is recalled.
#[derive(Clone, Copy, Debug)]
struct Known {
    identity: AliasHash,
    recalled: Option<SeriesId>,
}

#[derive(Debug)]
struct Generation {
    known: IdMap<u32, Known>,
    recalled: Arc<Recalled>,
}

impl Generation {
    fn new(table: &Arc<SeriesTable>) -> Self {
        Self { known: IdMap::default(), recalled: Recalled::new(table) }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Definitions {
    file: Box<dyn StorageFile>,
    lenient: bool,
    table: Arc<SeriesTable>,
    /// By local id.
    places: Vec<Place>,
    now: Generation,
    before: Generation,
    bytes: Vec<u8>,
}

impl Definitions {
    /// None yet, of that file. With `lenient`, the walk over it takes what the disk cannot read for damage.
    pub(super) fn new(file: Box<dyn StorageFile>, lenient: bool, table: &Arc<SeriesTable>) -> Self {
        let (now, before) = (Generation::new(table), Generation::new(table));
        Self { file, lenient, table: Arc::clone(table), places: Vec::new(), now, before, bytes: Vec::new() }
    }

    /// Learns a payload of definitions that stands at `offset` of a file of `file_bytes`; the second copy of one changes
    /// nothing.
    pub(super) fn learn(&mut self, payload: &[u8], offset: u64, file_bytes: u64) -> Result<(), Malformed> {
        let mut take = Take(payload);
        while !take.is_empty() {
            let local = take.number()?;
            let len = take.count()?;
            let at = payload.len() - take.0.len();
            let bytes = take.bytes(len)?;
            // Local ids are dense: a segment has no room for this one.
            if u64::from(local) > file_bytes / DEFINITION_BYTES_MIN {
                return Err(Malformed);
            }
            let local = local as usize;
            if local >= self.places.len() {
                self.places.resize(local + 1, Place::default());
            }
            if self.places[local].len == 0 {
                let len = u32::try_from(len).map_err(|_| Malformed)?;
                self.places[local] = Place { offset: offset + at as u64, len, crc: crc32c::crc32c(bytes) };
            }
        }
        Ok(())
    }

    /// Whether this generation has no room for more: the next chunk should begin another.
    pub(super) fn is_full(&self) -> bool {
        self.now.recalled.bytes() + self.now.known.len() * KNOWN_BYTES > self.table.recalled_bytes_max()
    }

    /// Begins another generation if this one is full.
    pub(super) fn make_room(&mut self) {
        if self.is_full() {
            self.before = std::mem::replace(&mut self.now, Generation::new(&self.table));
        }
    }

    /// What a batch has to hold whose series are asked for until [`Definitions::make_room`]. It has to pin the table, too.
    pub(super) fn recalled(&self) -> Arc<Recalled> {
        Arc::clone(&self.now.recalled)
    }

    /// The series of a local id.
    #[inline]
    pub(super) fn series(&mut self, local: u32) -> Result<SeriesId, Unread> {
        let known = self.now.known.get(&local);
        match known.and_then(|known| known.recalled.or_else(|| self.table.find(known.identity))) {
            Some(series) => Ok(series),
            None => self.look_up(local),
        }
    }

    #[cold]
    fn look_up(&mut self, local: u32) -> Result<SeriesId, Unread> {
        let kept = self.before.known.remove(&local).and_then(|before| self.keep(before));
        let (series, identity) = match kept {
            Some(kept) => kept,
            None => self.read(local)?,
        };
        self.now.known.insert(local, Known { identity, recalled: series.is_recalled().then_some(series) });
        Ok(series)
    }

    /// Takes along what the generation before knew; none when it left the table since.
    fn keep(&self, before: Known) -> Option<(SeriesId, AliasHash)> {
        let recalled = || self.now.recalled.keep(&self.before.recalled.series(before.recalled?)?);
        let series = self.table.find(before.identity).or_else(recalled)?;
        Some((series, before.identity))
    }

    fn read(&mut self, local: u32) -> Result<(SeriesId, AliasHash), Unread> {
        let place = self.places.get(local as usize).copied().unwrap_or_default();
        if place.len == 0 {
            return Err(Unread::Malformed);
        }
        let changed = || Unread::Storage(io::Error::new(io::ErrorKind::InvalidData, "it changed while it was read"));
        match self.file.read_at(place.offset, place.len as usize, &mut self.bytes) {
            Err(error) if self.lenient && is_unreadable(&error) => return Err(changed()),
            read => read.map_err(Unread::Storage)?,
        }
        if crc32c::crc32c(&self.bytes) != place.crc {
            // Who opens the segment anew finds the other copy.
            return Err(changed());
        }
        let (dialect, mut spec) = decode_series(&self.bytes)?;
        let identity = self.table.identify(dialect, &mut spec);
        let recalled = |spec| self.now.recalled.define(dialect, &identity, spec);
        let series = self.table.find(identity.hash).or_else(|| recalled(spec)).ok_or(Unread::Malformed)?;
        Ok((series, identity.hash))
    }
}
