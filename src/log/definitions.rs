//! The definitions of a segment being read: where each of them stands in the file, and the series in use.
//!
//! Of the records that define series, only their [`Place`] is held, 40 bytes. One is read again when a batch names a series of
//! it, and then stays at hand with others as far as [`HELD_BYTES_MAX`] goes, since batches mostly name neighbours. The series
//! is the table's, if a sender keeps it there, else it is recalled ([`Recalled`]). Where this process wrote the segment, the
//! writer tells the series of the table ([`Written`]), and no definition is read for it. What is in use grows by generations.
//! When one is full ([`SeriesTable::recalled_bytes_max`]), the reader's chunk ends and the next chunk begins another; what that
//! does not ask for is forgotten with the one after. So a reader holds two generations, and batches that are on their way to
//! its output may hold a third, whatever the segment defines; a record of very many series makes a generation of its own.

use super::bytes::{Malformed, Take};
use super::pack::{PACK_BYTES, Pack};
use super::payload::Written;
use super::record::{Header, Kind};
use super::storage::{StorageFile, is_unreadable};
use crate::model::{Epoch, IdTable, Pin, Recalled, SeriesId, SeriesTable};
use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU32;
use std::sync::{Arc, Weak};

/// Memory of unpacked records that are held beside the one read last.
const HELD_BYTES_MAX: usize = 1 << 20;

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

/// Where the definitions of some local ids stand.
#[derive(Debug)]
struct Place {
    /// Those from here,
    from: u32,
    /// until before this one.
    until: u32,
    source: Source,
    pack: Option<Box<Pack>>,
}

/// A payload of definitions in its file, or a part of one that can be read alone.
#[derive(Clone, Copy, Debug)]
struct Source {
    offset: u64,
    len: u32,
    crc: u32,
    kind: Kind,
}

/// All that is known of where definitions stand.
#[derive(Debug, Default)]
struct Places {
    /// By local id; none overlap.
    known: Vec<Place>,
    /// Those that hold what they were read for, oldest first, by their first local id.
    held: VecDeque<u32>,
    held_bytes: usize,
}

impl Places {
    /// The first place that ends behind a local id.
    fn behind(&self, local: u32) -> usize {
        self.known.partition_point(|place| place.until <= local)
    }

    /// Notes where those local ids are defined of which that is not known.
    fn note(&mut self, mut from: u32, until: u32, source: Source) {
        while from < until {
            let at = self.behind(from);
            match self.known.get(at) {
                Some(place) if place.from <= from => from = place.until,
                place => {
                    let until = place.map_or(until, |place| place.from.min(until));
                    self.known.insert(at, Place { from, until, source, pack: None });
                    from = until;
                }
            }
        }
    }

    /// The unpacked record that defines a local id.
    fn pack(&mut self, local: u32, file: &mut dyn StorageFile, lenient: bool) -> Result<&Pack, Unread> {
        let at = self.behind(local);
        let place = self.known.get_mut(at).filter(|place| place.from <= local).ok_or(Malformed)?;
        if place.pack.is_none() {
            let pack = read(place.source, file, lenient)?;
            self.held.push_back(place.from);
            self.held_bytes += pack.bytes();
            place.pack = Some(pack.into());
            self.let_go();
        }
        Ok(self.known[at].pack.as_deref().ok_or(Malformed)?)
    }

    /// Lets go what was read first, beyond [`HELD_BYTES_MAX`].
    fn let_go(&mut self) {
        while self.held_bytes > HELD_BYTES_MAX
            && self.held.len() > 1
            && let Some(first) = self.held.pop_front()
        {
            let at = self.behind(first);
            self.held_bytes -= self.known[at].pack.take().map_or(0, |pack| pack.bytes());
        }
    }
}

fn read(source: Source, file: &mut dyn StorageFile, lenient: bool) -> Result<Pack, Unread> {
    // Who opens the segment anew finds the other copy.
    let changed = || Unread::Storage(io::Error::new(io::ErrorKind::InvalidData, "it changed while it was read"));
    let mut bytes = Vec::new();
    match file.read_at(source.offset, source.len as usize, &mut bytes) {
        Err(error) if lenient && is_unreadable(&error) => return Err(changed()),
        read => read.map_err(Unread::Storage)?,
    }
    if crc32c::crc32c(&bytes) != source.crc {
        return Err(changed());
    }
    Ok(Pack::new(source.kind, bytes)?)
}

/// A definition that is in use: a series of the table unless it is recalled. Small: there are as many as series.
#[derive(Clone, Copy, Debug)]
struct Known {
    series: SeriesId,
    /// Under which pin it was found, counted: whoever holds that one need not look for it again.
    pin: NonZeroU32,
}

#[derive(Debug)]
struct Generation {
    /// By local id.
    known: IdTable<Known>,
    recalled: Arc<Recalled>,
}

impl Generation {
    fn new(table: &Arc<SeriesTable>) -> Self {
        Self { known: IdTable::default(), recalled: Recalled::new(table) }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Definitions {
    file: Box<dyn StorageFile>,
    lenient: bool,
    table: Arc<SeriesTable>,
    /// What the writer of the segment knows, if that is this process.
    written: Option<Arc<Written>>,
    places: Places,
    now: Generation,
    before: Generation,
    /// The pin of the present batch, and how many there were. It is not held: batches do that.
    pin: Weak<Epoch>,
    pins: NonZeroU32,
}

impl Definitions {
    /// None yet, of that file. With `lenient`, the walk over it takes what the disk cannot read for damage.
    pub(super) fn new(file: Box<dyn StorageFile>, lenient: bool, table: &Arc<SeriesTable>) -> Self {
        let (now, before) = (Generation::new(table), Generation::new(table));
        Self {
            file,
            lenient,
            table: Arc::clone(table),
            written: None,
            places: Places::default(),
            now,
            before,
            pin: Weak::new(),
            pins: NonZeroU32::MIN,
        }
    }

    /// The same of a segment that this process writes, or wrote a moment ago.
    pub(super) fn written(self, written: Option<Arc<Written>>) -> Self {
        Self { written, ..self }
    }

    /// Learns of a payload of definitions that stands at `offset` of its file; the second copy of one changes nothing.
    pub(super) fn learn(&mut self, header: &Header, payload: &[u8], offset: u64) -> Result<(), Malformed> {
        let source = Source { offset, len: header.payload_bytes, crc: header.payload_crc, kind: header.kind };
        let mut take = Take(payload);
        if header.kind == Kind::Packed {
            let from = take.number()?;
            let count = if header.count as usize <= payload.len() { header.count } else { return Err(Malformed) };
            self.places.note(from, from.checked_add(count).ok_or(Malformed)?, source);
            return Ok(());
        }
        // Parts of about the size of those that are packed, in which local ids run on from the first.
        while !take.is_empty() {
            let part = take.0;
            let at = payload.len() - part.len();
            let from = Take(part).number()?;
            let mut until = from;
            while !take.is_empty() && Take(take.0).number()? == until && part.len() - take.0.len() < PACK_BYTES {
                take.number()?;
                let len = take.count()?;
                take.bytes(len)?;
                until = until.checked_add(1).ok_or(Malformed)?;
            }
            let bytes = &part[..part.len() - take.0.len()];
            let (offset, len, crc) = (offset + at as u64, bytes.len() as u32, crc32c::crc32c(bytes));
            self.places.note(from, until, Source { offset, len, crc, ..source });
        }
        Ok(())
    }

    /// Whether this generation has no room for more: the next chunk should begin another.
    pub(super) fn is_full(&self) -> bool {
        self.now.recalled.bytes() + self.now.known.bytes() > self.table.recalled_bytes_max()
    }

    /// Begins another generation if this one is full.
    pub(super) fn make_room(&mut self) {
        if self.is_full() {
            self.before = std::mem::replace(&mut self.now, Generation::new(&self.table));
        }
    }

    /// The table whose series they are, but for recalled ones.
    pub(super) fn table(&self) -> &SeriesTable {
        &self.table
    }

    /// Begins a batch that holds that pin. What is returned it has to hold as well.
    pub(super) fn begin(&mut self, pin: &Pin) -> Arc<Recalled> {
        if !std::ptr::eq(self.pin.as_ptr(), Arc::as_ptr(pin)) {
            self.pin = Arc::downgrade(pin);
            // No definition is in use for so many of them that they begin again.
            self.pins = self.pins.checked_add(1).unwrap_or(NonZeroU32::MIN);
        }
        Arc::clone(&self.now.recalled)
    }

    /// The series of a local id.
    #[inline]
    pub(super) fn series(&mut self, local: u32) -> Result<SeriesId, Unread> {
        match self.now.known.get(SeriesId(local)) {
            Some(known) if known.pin == self.pins || known.series.is_recalled() => Ok(known.series),
            _ => self.look_up(local),
        }
    }

    #[cold]
    fn look_up(&mut self, local: u32) -> Result<SeriesId, Unread> {
        // An id of the table means the same series for as long as senders keep that.
        let again = self.now.known.get(SeriesId(local)).map(|known| known.series).filter(|id| self.table.is_live(*id));
        let kept = again.or_else(|| self.before.known.remove(SeriesId(local)).and_then(|before| self.keep(before)));
        let series = match kept {
            Some(kept) => kept,
            None => self.read(local)?,
        };
        self.now.known.insert(SeriesId(local), Known { series, pin: self.pins });
        Ok(series)
    }

    /// Takes along what the generation before knew; none when it left the table since.
    fn keep(&self, Known { series, .. }: Known) -> Option<SeriesId> {
        if !series.is_recalled() {
            return self.table.is_live(series).then_some(series);
        }
        let recalled = self.before.recalled.series(series)?;
        self.table.find_like(&recalled).or_else(|| self.now.recalled.keep(&recalled))
    }

    fn read(&mut self, local: u32) -> Result<SeriesId, Unread> {
        let written = self.written.as_ref().and_then(|written| written.series(local));
        if let Some(series) = written.filter(|series| self.table.is_live(*series)) {
            return Ok(series);
        }
        let pack = self.places.pack(local, &mut *self.file, self.lenient)?;
        let (dialect, mut spec) = pack.series(local)?;
        let identity = self.table.identify(dialect, &mut spec);
        let recalled = |spec| self.now.recalled.define(dialect, &identity, spec);
        self.table.find(identity.hash).or_else(|| recalled(spec)).ok_or(Unread::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::bytes::Put;
    use super::super::payload::{Locals, encode_batch};
    use super::*;
    use crate::model::{Batch, BatchBuilder, Format, SampleFlags, SeriesSpec, TableBounds, Value};

    /// A file that counts how often it is read.
    #[derive(Debug)]
    struct Counted(Vec<u8>, usize);

    impl StorageFile for Counted {
        fn append(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
        fn truncate(&mut self, _: u64) -> io::Result<()> {
            Ok(())
        }
        fn size(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }
        fn read_at(&mut self, offset: u64, len: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
            self.1 += 1;
            bytes.clear();
            bytes.extend_from_slice(&self.0[offset as usize..offset as usize + len]);
            Ok(())
        }
    }

    /// Definitions as 0.1.0 wrote them.
    fn plain(locals: impl IntoIterator<Item = u32>, name: &str) -> Vec<u8> {
        let mut payload = Vec::new();
        for local in locals {
            let mut definition = vec![0, 0];
            definition.put_text(&format!("{name} {local}"));
            definition.put_varint(0);
            payload.put_varint(u64::from(local));
            payload.put_varint(definition.len() as u64);
            payload.extend_from_slice(&definition);
        }
        payload
    }

    fn definitions(payload: &[u8]) -> Definitions {
        let file = Box::new(Counted(payload.to_vec(), 0));
        let mut definitions = Definitions::new(file, false, &Arc::new(SeriesTable::default()));
        definitions.learn(&header(payload), payload, 0).unwrap();
        definitions
    }

    fn header(payload: &[u8]) -> Header {
        Header {
            later: false,
            kind: Kind::Definitions,
            format: Format::RemoteWrite,
            payload_bytes: payload.len() as u32,
            count: 0,
            position: crate::log::Position::default(),
            appended_at: 0,
            payload_crc: crc32c::crc32c(payload),
        }
    }

    fn ranges(places: &Places) -> Vec<(u32, u32, u64)> {
        places.known.iter().map(|place| (place.from, place.until, place.source.offset)).collect()
    }

    #[test]
    fn a_definition_in_use_takes_8_bytes() {
        assert_eq!(size_of::<Option<Known>>(), 8);
    }

    #[test]
    fn what_is_known_already_is_not_learnt_again_and_gaps_are_filled() {
        let mut places = Places::default();
        let mut note = |from, until, offset| {
            places.note(from, until, Source { offset, len: 0, crc: 0, kind: Kind::Packed });
            ranges(&places)
        };
        assert_eq!(note(10, 20, 1), [(10, 20, 1)]);
        assert_eq!(note(10, 20, 2), [(10, 20, 1)]);
        assert_eq!(note(30, 40, 3), [(10, 20, 1), (30, 40, 3)]);
        assert_eq!(note(5, 45, 4), [(5, 10, 4), (10, 20, 1), (20, 30, 4), (30, 40, 3), (40, 45, 4)]);
        assert_eq!(note(7, 7, 5).len(), 5);
    }

    #[test]
    fn definitions_of_0_1_0_are_read_in_parts_as_their_local_ids_run_on() {
        let payload = [plain(3..6, "m"), plain([9, 8], "m"), plain(100..9000, "of some length")].concat();
        let mut definitions = definitions(&payload);
        let known = ranges(&definitions.places);
        assert_eq!(known[..3].iter().map(|(from, until, _)| *from..*until).collect::<Vec<_>>(), [3..6, 8..9, 9..10]);
        assert!(known.len() > 5, "{known:?}");
        let pin = definitions.table.pin();
        let recalled = definitions.begin(&pin);
        let mut name = |local| {
            let id = definitions.series(local).ok()?;
            Some(recalled.series(id)?.name.measurement().to_owned())
        };
        for local in (3..6).chain([8, 9]) {
            assert_eq!(name(local), Some(format!("m {local}")));
        }
        for local in 100..9000 {
            assert_eq!(name(local), Some(format!("of some length {local}")));
        }
        assert!([2, 6, 7, 10, 99, 9000, u32::MAX].into_iter().all(|local| name(local).is_none()));
    }

    #[test]
    fn of_a_segment_that_this_process_writes_no_definition_is_read_for_a_series_of_the_table() {
        let table = Arc::new(SeriesTable::new(TableBounds { idle_sweeps: 1, ..TableBounds::default() }));
        let builder = BatchBuilder::new(&table, Format::RemoteWrite, Vec::new());
        let ids = ["a", "b"].map(|name| {
            let spec = SeriesSpec { measurement: name, field: None, labels: Vec::new(), metadata: None };
            builder.define(builder.alias(name.as_bytes()), spec).unwrap()
        });
        let mut batch = Batch::new(Format::RemoteWrite, table.pin());
        for id in ids {
            batch.push(id, 0, Value::U64(1), SampleFlags::NONE);
        }
        let mut locals = Locals::default();
        encode_batch(&batch, &mut locals, &mut Vec::new());
        let written = Arc::clone(locals.written());
        assert_eq!(written.series(0), None, "it is not written yet");
        locals.settle();

        let empty = || definitions(&[]);
        let mut reading = Definitions { table: Arc::clone(&table), ..empty() }.written(Some(Arc::clone(&written)));
        reading.begin(&table.pin());
        assert_eq!([0, 1].map(|local| reading.series(local).ok()), ids.map(Some));
        assert!(reading.series(2).is_err(), "nobody defines it");
        for _ in 0..4 {
            table.sweep();
        }
        let mut later = Definitions { table: Arc::clone(&table), ..empty() }.written(Some(written));
        later.begin(&table.pin());
        assert!(later.series(0).is_err(), "it left the table, so its definition is wanted");
    }

    #[test]
    fn a_record_is_read_once_for_all_its_definitions_and_let_go_within_the_bound() {
        let payload = plain(0..200_000, "of some length");
        let mut places = definitions(&payload).places;
        let mut file = Counted(payload, 0);
        let records = places.known.len();
        assert!(records > 40, "{records}");
        let mut most = 0;
        for local in 0..200_000 {
            places.pack(local, &mut file, false).unwrap().series(local).unwrap();
            if local % 101 == 0 {
                let held: usize = places.known.iter().filter_map(|place| Some(place.pack.as_ref()?.bytes())).sum();
                assert_eq!(held, places.held_bytes);
                most = held.max(most);
            }
        }
        assert_eq!(file.1, records);
        assert!((HELD_BYTES_MAX / 2..=HELD_BYTES_MAX).contains(&most), "{most}");
        // Neighbours in turn: all that is held is at hand.
        for local in (190_000..200_000).chain(190_000..200_000) {
            places.pack(local, &mut file, false).unwrap();
        }
        assert_eq!(file.1, records);
        places.pack(0, &mut file, false).unwrap();
        assert_eq!(file.1, records + 1);
    }
}
