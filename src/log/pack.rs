//! Definitions of many series in one payload, in which what they share stands once.
//!
//! ```text
//! packed       first local id, definition*            local ids run on from the first
//! definition   labels, dialect 1, bits 1 (1 field, 2 metadata), name, [metadata]
//! labels       0, count, pair* | n                    those of the n-th definition before this one
//! pair         0, text, text | n                      the pair that stands n-th in the payload
//! name         pair of measurement and field; without a field, its text is empty
//! metadata     pair of family and help, type 1, unit
//! ```
//!
//! * Series that come together mostly differ by name alone: such a one takes four bytes, of some 300.
//! * A payload refers to nothing outside of it, and ends with the first definition that reaches [`PACK_BYTES`]: so much is read
//!   for one definition.
//! * A [`Pack`] finds its definitions and pairs by their offsets, 4 bytes each, and unpacks one definition at a time, into
//!   borrowed text: what it occupies is a small multiple of the payload, whatever that says. Definitions as 0.1.0 wrote them,
//!   each in full, are read in the same way.

use super::bytes::{Malformed, Put, Take};
use super::payload::decode_series;
use super::record::Kind;
use crate::model::{
    AliasHash, Dialect, IdMap, Label, LabelPair, Metadata, MetricType, Series, SeriesSpec, SeriesTable,
};
use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Size at which a payload of definitions ends.
pub(super) const PACK_BYTES: usize = 64 << 10;

pub(super) const HAS_FIELD: u8 = 1;
pub(super) const HAS_METADATA: u8 = 2;

/// Packs definitions. Between payloads it keeps nothing but room.
#[derive(Debug, Default)]
pub(super) struct Packer {
    /// Numbers of labels by their address: they are interned, and held while they are packed.
    labels: IdMap<u64, u32>,
    /// Numbers of other pairs by what they say.
    texts: IdMap<AliasHash, u32>,
    pairs: u32,
    /// Which definition has those labels.
    lists: IdMap<AliasHash, u32>,
    addresses: Vec<u8>,
}

impl Packer {
    /// Appends a payload with as many of these series as it takes, from the first on; how many.
    pub(super) fn pack(&mut self, series: &[(u32, Series)], table: &SeriesTable, out: &mut Vec<u8>) -> usize {
        let Some((first, _)) = series.first() else { return 0 };
        self.labels.clear();
        self.texts.clear();
        self.lists.clear();
        self.pairs = 0;
        let start = out.len();
        out.put_varint(u64::from(*first));
        let mut count = 0;
        for (local, series) in series {
            if u64::from(*local) != u64::from(*first) + count as u64 || out.len() - start >= PACK_BYTES {
                break;
            }
            self.put_series(count as u32, series, table, out);
            count += 1;
        }
        count
    }

    fn put_series(&mut self, index: u32, series: &Series, table: &SeriesTable, out: &mut Vec<u8>) {
        self.put_labels(index, &series.labels, table, out);
        let field = series.name.field_key();
        let bits = if field.is_some() { HAS_FIELD } else { 0 };
        out.extend_from_slice(&[series.dialect as u8, bits | if series.metadata.is_some() { HAS_METADATA } else { 0 }]);
        self.put_texts(series.name.measurement(), field.unwrap_or_default(), table, out);
        if let Some(metadata) = &series.metadata {
            self.put_texts(&metadata.family, &metadata.help, table, out);
            out.push(metadata.metric_type as u8);
            out.put_text(&metadata.unit);
        }
    }

    fn put_labels(&mut self, index: u32, labels: &[Arc<LabelPair>], table: &SeriesTable, out: &mut Vec<u8>) {
        self.addresses.clear();
        for pair in labels {
            self.addresses.extend_from_slice(&address(pair).to_le_bytes());
        }
        match self.lists.entry(table.hash(&self.addresses)) {
            Entry::Occupied(before) => return out.put_varint(u64::from(index - before.get())),
            Entry::Vacant(new) => new.insert(index),
        };
        out.push(0);
        out.put_varint(labels.len() as u64);
        for pair in labels {
            // Spread, since addresses are alike in their first and last bits.
            let key = address(pair).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
            put_pair(self.labels.entry(key), &mut self.pairs, (&pair.name, &pair.value), out);
        }
    }

    fn put_texts(&mut self, first: &str, second: &str, table: &SeriesTable, out: &mut Vec<u8>) {
        let key = table.hash(first.as_bytes()).then(table.hash(second.as_bytes()));
        put_pair(self.texts.entry(key), &mut self.pairs, (first, second), out);
    }
}

fn address(pair: &Arc<LabelPair>) -> u64 {
    Arc::as_ptr(pair).addr() as u64
}

fn put_pair<K>(number: Entry<'_, K, u32>, pairs: &mut u32, (first, second): (&str, &str), out: &mut Vec<u8>) {
    match number {
        Entry::Occupied(number) => out.put_varint(u64::from(*number.get())),
        Entry::Vacant(new) => {
            *pairs += 1;
            new.insert(*pairs);
            out.push(0);
            out.put_text(first);
            out.put_text(second);
        }
    }
}

/// A payload of definitions, unpacked as far as to find each of them.
#[derive(Debug)]
pub(super) struct Pack {
    kind: Kind,
    first: u32,
    payload: Vec<u8>,
    /// Offsets.
    definitions: Vec<u32>,
    pairs: Vec<u32>,
}

impl Pack {
    /// Of a record of that kind.
    pub(super) fn new(kind: Kind, payload: Vec<u8>) -> Result<Self, Malformed> {
        let mut take = Take(&payload);
        let first = take.number()?;
        let (mut definitions, mut pairs) = (Vec::new(), Vec::new());
        let offset = |take: Take<'_>| (payload.len() - take.0.len()) as u32;
        if kind != Kind::Packed {
            take = Take(&payload);
        }
        while !take.is_empty() {
            definitions.push(offset(take));
            if kind == Kind::Packed {
                pass_definition(&mut take, definitions.len(), &mut pairs, offset)?;
            } else {
                take.number()?;
                pass_text(&mut take)?;
            }
        }
        Ok(Self { kind, first, payload, definitions, pairs })
    }

    /// Memory it occupies.
    pub(super) fn bytes(&self) -> usize {
        let offsets = self.definitions.capacity() + self.pairs.capacity();
        size_of::<Self>() + self.payload.capacity() + offsets * size_of::<u32>()
    }

    /// The series of a local id.
    pub(super) fn series(&self, local: u32) -> Result<(Dialect, SeriesSpec<'_>), Malformed> {
        let index = local.checked_sub(self.first).ok_or(Malformed)? as usize;
        let mut take = self.definition(index)?;
        if self.kind != Kind::Packed {
            take.number()?;
            let len = take.count()?;
            return decode_series(take.bytes(len)?);
        }
        let labels = match take.varint()? as usize {
            0 => self.labels(&mut take)?,
            back => {
                let mut before = self.definition(index.checked_sub(back).ok_or(Malformed)?)?;
                if before.varint()? != 0 {
                    return Err(Malformed);
                }
                self.labels(&mut before)?
            }
        };
        let dialect = Dialect::from_number(take.byte()?).ok_or(Malformed)?;
        let bits = take.byte()?;
        let (measurement, field) = self.pair(&mut take)?;
        let field = (bits & HAS_FIELD != 0).then_some(field);
        let metadata = if bits & HAS_METADATA != 0 { Some(Arc::new(self.metadata(&mut take)?)) } else { None };
        Ok((dialect, SeriesSpec { measurement, field, labels, metadata }))
    }

    fn definition(&self, index: usize) -> Result<Take<'_>, Malformed> {
        self.definitions.get(index).map(|offset| self.at(*offset)).ok_or(Malformed)
    }

    fn at(&self, offset: u32) -> Take<'_> {
        Take(self.payload.get(offset as usize..).unwrap_or_default())
    }

    fn labels<'a>(&'a self, take: &mut Take<'a>) -> Result<Vec<Label<'a>>, Malformed> {
        take.list(|take| self.pair(take).map(|(name, value)| (Cow::from(name), Cow::from(value))))
    }

    fn metadata<'a>(&'a self, take: &mut Take<'a>) -> Result<Metadata, Malformed> {
        let (family, help) = self.pair(take)?;
        let metric_type = MetricType::from_number(i32::from(take.byte()?));
        Ok(Metadata { family: family.into(), metric_type, help: help.into(), unit: take.text()?.into() })
    }

    fn pair<'a>(&'a self, take: &mut Take<'a>) -> Result<(&'a str, &'a str), Malformed> {
        match take.varint()? as usize {
            0 => Ok((take.text()?, take.text()?)),
            number => {
                let mut take = self.pairs.get(number - 1).map(|offset| self.at(*offset)).ok_or(Malformed)?;
                Ok((take.text()?, take.text()?))
            }
        }
    }
}

/// Passes over a definition, the last of so many, and notes where its new pairs stand.
fn pass_definition<'a>(
    take: &mut Take<'a>,
    definitions: usize,
    pairs: &mut Vec<u32>,
    offset: impl Fn(Take<'a>) -> u32,
) -> Result<(), Malformed> {
    let mut pass_pair = |take: &mut Take<'a>| {
        if take.varint()? == 0 {
            pairs.push(offset(*take));
            pass_text(take)?;
            pass_text(take)?;
        }
        Ok(pairs.len())
    };
    match take.varint()? {
        0 => {
            let labels = take.count()?;
            let mut pairs = labels;
            for _ in 0..labels {
                pairs = pass_pair(take)?;
            }
            // No series has a label twice, so forged labels are no more than the pairs that are there.
            if labels > pairs {
                return Err(Malformed);
            }
        }
        back if back >= definitions as u64 => return Err(Malformed),
        _ => {}
    }
    let bits = take.bytes(2)?[1];
    pass_pair(take)?;
    if bits & HAS_METADATA != 0 {
        pass_pair(take)?;
        take.byte()?;
        pass_text(take)?;
    }
    Ok(())
}

fn pass_text(take: &mut Take<'_>) -> Result<(), Malformed> {
    let len = take.count()?;
    take.bytes(len).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Format};

    /// A table with series of two targets that share labels, in every dialect, with and without a field and metadata.
    fn series(table: &SeriesTable, count: usize) -> Vec<(u32, Series)> {
        let metadata = Metadata {
            family: "f".into(),
            metric_type: MetricType::Histogram,
            help: "What it is.".into(),
            unit: "s".into(),
        };
        let formats = [Format::RemoteWrite, Format::InfluxLine, Format::Wavefront];
        let define = |index: usize| {
            let builder = BatchBuilder::new(table, formats[index / 2 % 3], Vec::new());
            let (name, pod) = (format!("name {}", index % 4), format!("pod {}", index / 4));
            let mut labels: Vec<_> = [("cluster", "one"), ("pod", &pod), ("le", "1.0"), ("empty", "")]
                .map(|(name, value)| (Cow::from(name), Cow::from(value.to_owned())))
                .into();
            labels.truncate(index * 7 % 5);
            let field = (index / 2 % 3 == 1).then_some("field");
            let metadata = index.is_multiple_of(3).then(|| Arc::new(metadata.clone()));
            let spec = SeriesSpec { measurement: &name, field, labels, metadata };
            let id = builder.define(builder.alias(&index.to_le_bytes()), spec).unwrap();
            let pinned = table.series(id).unwrap();
            (index as u32 + 5, pinned)
        };
        (0..count).map(define).collect()
    }

    fn pack_all(table: &SeriesTable, mut series: &[(u32, Series)]) -> Vec<Vec<u8>> {
        let (mut packer, mut payloads) = (Packer::default(), Vec::new());
        while !series.is_empty() {
            let mut payload = Vec::new();
            let packed = packer.pack(series, table, &mut payload);
            series = &series[packed..];
            payloads.push(payload);
        }
        payloads
    }

    fn holds(pack: &Pack, local: u32, series: &Series) {
        let (dialect, spec) = pack.series(local).unwrap();
        assert_eq!(dialect, series.dialect);
        assert_eq!((spec.measurement, spec.field), (series.name.measurement(), series.name.field_key()));
        let labels = series.labels.iter().map(|pair| (Cow::from(&*pair.name), Cow::from(&*pair.value)));
        assert_eq!(spec.labels, labels.collect::<Vec<_>>());
        assert_eq!(spec.metadata, series.metadata);
    }

    #[test]
    fn every_series_comes_back_and_what_they_share_stands_once() {
        let table = SeriesTable::default();
        let series = series(&table, 60);
        let payloads = pack_all(&table, &series);
        assert_eq!(payloads.len(), 1);
        let occurrences = |text: &str| memchr::memmem::find_iter(&payloads[0], text.as_bytes()).count();
        assert_eq!(["cluster", "name 3", "pod 11", "What it is."].map(occurrences), [1, 2, 1, 1], "with a field apart");
        let pack = Pack::new(Kind::Packed, payloads[0].clone()).unwrap();
        for (local, series) in &series {
            holds(&pack, *local, series);
        }
        for local in [0, 4, 65, u32::MAX] {
            assert!(pack.series(local).is_err());
        }
    }

    #[test]
    fn a_payload_ends_at_its_size_and_where_local_ids_do_not_run_on() {
        let table = SeriesTable::default();
        let mut series = series(&table, 30_000);
        series.remove(10);
        let payloads = pack_all(&table, &series);
        assert!(payloads.len() > 4, "{}", payloads.len());
        assert!(payloads.iter().all(|payload| payload.len() < PACK_BYTES + 100));
        let packs: Vec<_> = payloads.into_iter().map(|payload| Pack::new(Kind::Packed, payload).unwrap()).collect();
        assert_eq!((packs[0].first, packs[0].definitions.len(), packs[1].first), (5, 10, 16));
        assert!(packs.iter().all(|pack| pack.bytes() < 5 * PACK_BYTES));
        for (local, series) in series.iter().step_by(97) {
            let pack = packs.iter().rfind(|pack| pack.first <= *local).unwrap();
            holds(pack, *local, series);
        }
    }

    #[test]
    fn whatever_a_payload_says_it_is_read_or_refused() {
        let table = SeriesTable::default();
        let payload = pack_all(&table, &series(&table, 12)).remove(0);
        let read = |payload: Vec<u8>| {
            let len = payload.len();
            let Ok(pack) = Pack::new(Kind::Packed, payload) else { return false };
            assert!(pack.definitions.len() + pack.pairs.len() <= len);
            for local in 0..40 {
                if let Ok((_, spec)) = pack.series(local) {
                    assert!(spec.labels.len() <= pack.pairs.len());
                }
            }
            true
        };
        assert!(read(payload.clone()));
        let mut refused = 0;
        for at in 0..payload.len() {
            refused += usize::from(!read(payload[..at].to_vec()));
            for byte in 0..=u8::MAX {
                let mut forged = payload.clone();
                forged[at] = byte;
                refused += usize::from(!read(forged));
            }
        }
        assert!(refused > payload.len() * 20, "{refused}");
    }

    #[test]
    fn refuses_references_to_what_is_not_there_and_more_labels_than_pairs() {
        let good = [7, 0, 1, 0, 1, b'a', 1, b'b', 0, 0, 0, 1, b'm', 0, 1, 0, 0, 2];
        let pack = Pack::new(Kind::Packed, good.to_vec()).unwrap();
        let (_, spec) = pack.series(8).unwrap();
        assert_eq!((spec.measurement, &spec.labels[..]), ("m", &[("a".into(), "b".into())][..]));
        let forged = |at: usize, byte| {
            let mut payload = good.to_vec();
            payload[at] = byte;
            Pack::new(Kind::Packed, payload)
        };
        assert!(forged(14, 2).is_err(), "the labels of a definition before the first");
        assert!(forged(17, 3).unwrap().series(8).is_err(), "a pair that is not there");
        let third = [1, 0, 0, 2].as_slice();
        let refers = Pack::new(Kind::Packed, [&good, third].concat()).unwrap();
        assert!(refers.series(9).is_err(), "labels of one that refers itself");
        let mut many = good[..8].to_vec();
        many[2] = 5;
        many.extend_from_slice(&[1, 1, 1, 1, 0, 0, 0, 1, b'm', 0]);
        assert!(Pack::new(Kind::Packed, many).is_err(), "the same label five times");
    }
}
