//! The label fields of an output's series, each kept once, and bodies written as repeats of them.
//!
//! A rendered series is a list of numbers ([`Fields`]) of fields like `job="node"`. Series of one target mostly differ by name
//! alone: a series has the number of its name, and shares the list of the others ([`Kin`]). The [`Dictionary`] keeps a field
//! as long as a list has it, so it is bounded by what bounds the rendered series, and a number means the same field in all
//! lists that live at the same time.
//!
//! A [`Message`] is a `WriteRequest` written straight into a Snappy block. It is seen as a row of tokens: the head of a series
//! (its length), fields, and of a sample head, value and time. Where a field stood last is known by its number, so the copy
//! begins there and goes on for as long as the same tokens follow as did there: in a body of similar series, from one
//! differing field to the next, over the ends of samples and series.
//!
//! Tokens are remembered for [`TOKENS_MAX`] of them; then the message forgets what it has and repeats itself once.

use super::decode::NAME_LABEL;
use crate::model::LossSet;
use crate::wire::compression::Packed;
use crate::wire::protobuf::{put_varint, read_varint, varint_len};
use crate::wire::snappy::{Template, Writer};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Tokens of a body that are remembered: half a megabyte an output, some 5,000 series of ten labels.
const TOKENS_MAX: usize = 1 << 16;
/// No token follows.
const NONE: usize = usize::MAX;

/// Kinds of tokens beside numbers of fields. What is compared is always of one kind: behind the head of a sample comes a
/// value, which is its bits, and behind that a time, which is its milliseconds.
const HEAD: u64 = 1 << 63;
const SAMPLE: u64 = 1 << 62;
/// Never compared: whoever writes it ends the copy.
const OTHER: u64 = 1 << 61;

/// The label fields of an output's series. Clones are the same dictionary.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dictionary(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    numbers: HashMap<Arc<[u8]>, u32>,
    /// By number.
    fields: Vec<Field>,
    /// Numbers that nobody uses.
    free: Vec<u32>,
    kin: HashSet<Arc<Kin>>,
    row: Row,
}

#[derive(Debug)]
struct Field {
    bytes: Arc<[u8]>,
    /// How often it stands in lists.
    uses: u32,
    last: Place,
}

/// Where something was written last.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Which token it was of all that ever were; one of the row if not less than [`Row::first`], which is never 0.
    token: u32,
    offset: u32,
}

/// The tokens of the message in the making.
#[derive(Debug, Default)]
struct Row {
    tokens: Vec<u64>,
    first: u32,
    /// While a copy is open: the index of the token that followed at its source.
    source: usize,
}

impl Row {
    /// Appends a token of so many bytes, which stood at `last` or nowhere: as a part of the open copy if it followed at its
    /// source, else as a copy, else as what `put` appends.
    #[inline]
    fn push(&mut self, out: &mut Writer, token: u64, len: usize, last: Place, put: impl FnOnce(&mut Vec<u8>)) -> Place {
        let here = Place { token: self.first + self.tokens.len() as u32, offset: out.len() as u32 };
        if self.tokens.get(self.source) == Some(&token) {
            out.extend(len);
            self.source += 1;
        } else if last.token >= self.first && out.is_worth(last.offset as usize, len) {
            out.copy(last.offset as usize, len);
            self.source = (last.token - self.first) as usize + 1;
        } else {
            out.literal(put);
            self.source = NONE;
        }
        self.tokens.push(token);
        here
    }
}

impl Dictionary {
    /// The label fields in those bytes as a list, of a series whose samples lose that.
    pub(crate) fn list(&self, fields: &[u8], losses: LossSet) -> Fields {
        let known = &mut *self.0.lock();
        let own_at = split(fields).position(is_name).unwrap_or_default();
        let own = known.number(split(fields).nth(own_at).unwrap_or_default());
        let shared = split(fields).enumerate().filter(|(at, _)| *at != own_at);
        let shared = shared.map(|(_, field)| known.number(field)).collect();
        let kin = Kin { dictionary: self.clone(), shared, own_at, losses, uses: AtomicU32::new(0) };
        Fields { own, len: fields.len() as u32, kin: known.kin(kin) }
    }

    /// Begins a message, whose block is expected to take that many bytes. Until it is finished nothing else can be done with
    /// the dictionary, not even dropping lists.
    pub(crate) fn message(&self, bytes_expected: usize) -> Message<'_> {
        let mut known = self.0.lock();
        known.forget();
        Message { known, out: Writer::new(bytes_expected), last: Last::default() }
    }
}

/// Label fields, one behind the other.
fn split(mut fields: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (_tag, message) = fields.split_first()?;
        let mut at = 0;
        let len = read_varint(message, &mut at).ok()? as usize;
        let (field, behind) = fields.split_at_checked(1 + at + len)?;
        fields = behind;
        Some(field)
    })
}

/// Whether it is the field of a series' name.
fn is_name(field: &[u8]) -> bool {
    let mut at = 1;
    let behind = read_varint(field, &mut at).ok().and_then(|_| field.get(at + 2..));
    behind.is_some_and(|name| name.starts_with(NAME_LABEL.as_bytes()) && usize::from(field[at + 1]) == NAME_LABEL.len())
}

impl Known {
    fn number(&mut self, field: &[u8]) -> u32 {
        if let Some(number) = self.numbers.get(field) {
            self.fields[*number as usize].uses += 1;
            return *number;
        }
        let field = Field { bytes: field.into(), uses: 1, last: Place::default() };
        let number = self.free.pop().unwrap_or(self.fields.len() as u32);
        self.numbers.insert(Arc::clone(&field.bytes), number);
        match self.fields.get_mut(number as usize) {
            Some(free) => *free = field,
            None => self.fields.push(field),
        }
        number
    }

    /// Those kin as they are known, whose fields then are not counted again. They have one more series.
    fn kin(&mut self, kin: Kin) -> Arc<Kin> {
        let kin = match self.kin.get(&kin).cloned() {
            Some(known) => {
                kin.shared.iter().for_each(|number| self.release(*number));
                known
            }
            None => Arc::new(kin),
        };
        if kin.uses.fetch_add(1, Ordering::Relaxed) == 0 {
            self.kin.insert(Arc::clone(&kin));
        }
        kin
    }

    fn release(&mut self, number: u32) {
        let field = &mut self.fields[number as usize];
        field.uses -= 1;
        if field.uses == 0 {
            self.numbers.remove(&field.bytes);
            field.bytes = Arc::default();
            self.free.push(number);
        }
    }

    /// Begins a row without any token.
    #[cold]
    fn forget(&mut self) {
        let row = &mut self.row;
        row.first += row.tokens.len() as u32;
        row.tokens.clear();
        row.source = NONE;
        if row.first == 0 || row.first > u32::MAX / 2 {
            row.first = 1;
            self.fields.iter_mut().for_each(|field| field.last = Place::default());
        }
    }
}

/// What series share that differ by name alone.
#[derive(Debug)]
struct Kin {
    dictionary: Dictionary,
    /// Their fields but the name.
    shared: Box<[u32]>,
    /// How many of them stand before the name.
    own_at: usize,
    /// What each of their samples loses.
    losses: LossSet,
    /// Series that have them; changed under the lock of the dictionary alone.
    uses: AtomicU32,
}

impl PartialEq for Kin {
    fn eq(&self, other: &Self) -> bool {
        (&self.shared, self.own_at, self.losses) == (&other.shared, other.own_at, other.losses)
    }
}

impl Eq for Kin {}

impl Hash for Kin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.shared.hash(state);
    }
}

/// The label fields of a series, as numbers in a dictionary. Small: there are as many as series.
#[derive(Debug)]
pub(crate) struct Fields {
    kin: Arc<Kin>,
    /// The number of its name.
    own: u32,
    len: u32,
}

impl Fields {
    /// Bytes of all of them.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// What each sample of the series loses.
    pub(crate) fn losses(&self) -> LossSet {
        self.kin.losses
    }

    /// Other fields of the same dictionary, of a series whose samples lose the same.
    pub(crate) fn sibling(&self, fields: &[u8]) -> Self {
        self.kin.dictionary.list(fields, self.kin.losses)
    }

    /// All of them, one behind the other.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (mut bytes, known) = (Vec::with_capacity(self.len()), self.kin.dictionary.0.lock());
        self.numbers().for_each(|number| bytes.extend_from_slice(&known.fields[number as usize].bytes));
        bytes
    }

    #[inline]
    fn numbers(&self) -> impl Iterator<Item = u32> {
        let (before, behind) = self.kin.shared.split_at(self.kin.own_at);
        before.iter().chain([&self.own]).chain(behind).copied()
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        let known = &mut *self.kin.dictionary.0.lock();
        known.release(self.own);
        if self.kin.uses.fetch_sub(1, Ordering::Relaxed) == 1 {
            known.kin.remove(&self.kin);
            self.kin.shared.iter().for_each(|number| known.release(*number));
        }
    }
}

/// A `WriteRequest` in the making.
pub(crate) struct Message<'a> {
    known: MutexGuard<'a, Known>,
    out: Writer,
    last: Last,
}

/// The sample that was written last.
#[derive(Default)]
struct Last {
    value: u64,
    time: u64,
    /// Where its time stands.
    place: Place,
}

impl Message<'_> {
    /// Bytes of the message so far.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Appends the head of a series whose fields take that many bytes.
    #[inline]
    pub(crate) fn head(&mut self, len: usize) {
        self.make_room();
        let len = len as u64;
        self.known.row.push(&mut self.out, HEAD | len, 1 + varint_len(len), Place::default(), |out| {
            out.push(1 << 3 | 2);
            put_varint(out, len);
        });
    }

    /// Appends label fields.
    #[inline]
    pub(crate) fn fields(&mut self, list: &Fields) {
        debug_assert!(
            std::ptr::eq(Arc::as_ptr(&list.kin.dictionary.0), MutexGuard::mutex(&self.known)),
            "another dictionary's numbers"
        );
        let Known { fields, row, .. } = &mut *self.known;
        list.numbers().for_each(|number| {
            let Field { bytes, last, .. } = &mut fields[number as usize];
            *last = row.push(&mut self.out, u64::from(number), bytes.len(), *last, |out| out.extend_from_slice(bytes));
        });
    }

    /// Appends a float sample. Of a value the low bytes may be a part of the copy before it, and the high ones of that behind
    /// it: the low ones of a small integer are 0, and the high ones are sign and magnitude.
    #[inline]
    pub(crate) fn sample(&mut self, float: [u8; 8], milliseconds: i64) {
        self.make_room();
        let (row, out) = (&mut self.known.row, &mut self.out);
        let (value, time) = (u64::from_le_bytes(float), milliseconds.cast_unsigned());
        let time_len = 1 + varint_len(time);
        let head = [2 << 3 | 2, 9 + time_len as u8, 1 << 3 | 1];
        row.push(out, SAMPLE | time_len as u64, head.len(), Place::default(), |out| out.extend_from_slice(&head));

        let (low, high) = match row.tokens.get(row.source) {
            Some(source) if *source == value => (float.len(), 0),
            source => {
                let low = source.map_or(0, |source| (source ^ value).trailing_zeros() as usize / 8);
                let high =
                    if self.last.time == time { (self.last.value ^ value).leading_zeros() as usize / 8 } else { 0 };
                (low, high.min(float.len() - low))
            }
        };
        let own = &float[low..float.len() - high];
        if low > 0 {
            out.extend(low);
        }
        if low == float.len() {
            row.source += 1;
        } else {
            row.source = NONE;
            out.literal(|out| out.extend_from_slice(own));
        }
        row.tokens.push(value);

        let Place { token, offset } = if self.last.time == time { self.last.place } else { Place::default() };
        let last = Place { token, offset: offset.saturating_sub(high as u32) };
        let Place { token, offset } = row.push(out, time, high + time_len, last, |out| {
            out.extend_from_slice(&float[float.len() - high..]);
            out.push(2 << 3);
            put_varint(out, time);
        });
        self.last = Last { value, time, place: Place { token, offset: offset + high as u32 } };
    }

    /// Appends what is no repeat.
    pub(crate) fn bytes(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        self.make_room();
        self.out.literal(put);
        self.known.row.source = NONE;
        self.known.row.tokens.push(OTHER);
    }

    /// Appends a template. Returns its elements, whose holes are to be filled in.
    #[inline]
    pub(crate) fn append(&mut self, template: &Template) -> &mut [u8] {
        self.make_room();
        self.known.row.source = NONE;
        self.known.row.tokens.push(OTHER);
        self.out.append(template)
    }

    #[inline]
    fn make_room(&mut self) {
        if self.known.row.tokens.len() >= TOKENS_MAX {
            self.known.forget();
        }
    }

    /// Ends the message.
    pub(crate) fn finish(self) -> Packed {
        self.out.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Loss;
    use crate::wire::compression;
    use proptest::prelude::*;

    fn label(name: u8, value: &str) -> Vec<u8> {
        let value = value.as_bytes();
        [&[1 << 3 | 2, value.len() as u8 + 5, 10, 1, name, 18, value.len() as u8], value].concat()
    }

    #[test]
    fn a_field_is_known_as_long_as_a_list_has_it() {
        let dictionary = Dictionary::default();
        let (a, b, c) = (label(b'a', "x"), label(b'b', "x"), label(b'c', "x"));
        let known = || dictionary.0.lock().numbers.len();
        let list = |fields: &[&[u8]]| dictionary.list(&fields.concat(), LossSet::NONE);
        let (first, second) = (list(&[&a, &b]), list(&[&b, &b]));
        assert_eq!((first.bytes(), second.bytes()), ([&a[..], &b].concat(), [&b[..], &b].concat()));
        assert_eq!(known(), 2);
        drop(first);
        assert_eq!(known(), 1);
        let third = second.sibling(&c);
        assert_eq!((third.bytes(), dictionary.0.lock().fields.len()), (c, 2), "the number is given again");
        drop((second, third));
        assert_eq!((known(), dictionary.0.lock().free.len()), (0, 2));
    }

    #[test]
    fn series_that_differ_by_name_alone_share_the_rest() {
        let dictionary = Dictionary::default();
        let field = |name: &str, value: &str| {
            let (name, value) = (name.as_bytes(), value.as_bytes());
            let inner = [&[10, name.len() as u8], name, &[18, value.len() as u8], value].concat();
            [&[1 << 3 | 2, inner.len() as u8], &inner[..]].concat()
        };
        let fields = |name, job| [field("A", "1"), field("__name__", name), field("job", job)].concat();
        let lost = LossSet::of(Loss::NameSanitised);
        let told = [("a", "x", LossSet::NONE), ("b", "x", LossSet::NONE), ("a", "y", LossSet::NONE), ("a", "x", lost)];
        let lists = told.map(|(name, job, losses)| dictionary.list(&fields(name, job), losses));
        for (list, (name, job, losses)) in lists.iter().zip(told) {
            assert_eq!((list.bytes(), list.losses(), list.len()), (fields(name, job), losses, fields(name, job).len()));
        }
        assert!(Arc::ptr_eq(&lists[0].kin, &lists[1].kin));
        let kin = || dictionary.0.lock().kin.len();
        assert_eq!(kin(), 3);
        let [first, second, third, fourth] = lists;
        drop((third, fourth));
        assert_eq!(kin(), 1);
        drop(first);
        assert_eq!((kin(), second.bytes()), (1, fields("b", "x")));
        drop(second);
        assert_eq!((kin(), dictionary.0.lock().numbers.len()), (0, 0));
    }

    /// A message of series that differ in the second of three labels, and the same by hand.
    fn message(dictionary: &Dictionary, series: usize) -> (Packed, Vec<u8>) {
        let mut plain = Vec::new();
        let fields = |number: usize| {
            let job = label(b'j', &format!("checkout-service-{}", number % 7));
            [label(b'a', "common to all of them"), job, label(b'z', "so is this")].concat()
        };
        let lists: Vec<_> = (0..series).map(|number| dictionary.list(&fields(number), LossSet::NONE)).collect();
        let mut message = dictionary.message(0);
        for (number, list) in lists.iter().enumerate() {
            let (float, time) = ((number as f64).to_le_bytes(), 1_700_000_000_000 + number as i64 / 100);
            let sample = [&[18, 16, 9], &float[..], &[16]].concat();
            message.head(list.len() + 18);
            message.fields(list);
            message.sample(float, time);
            put_varint(&mut plain, 1 << 3 | 2);
            put_varint(&mut plain, list.len() as u64 + 18);
            plain.extend_from_slice(&[fields(number), sample].concat());
            put_varint(&mut plain, time as u64);
            assert_eq!(message.len(), plain.len());
        }
        (message.finish(), plain)
    }

    #[test]
    fn a_message_of_more_tokens_than_are_remembered_is_whole() {
        let dictionary = Dictionary::default();
        let (block, plain) = message(&dictionary, 30_000);
        assert!(block.plain() == plain);
        let (known, tokens) = (dictionary.0.lock(), 30_000 * 7);
        assert!(known.row.tokens.len() < TOKENS_MAX && known.row.first > tokens - TOKENS_MAX as u32);
    }

    #[test]
    fn numbers_of_tokens_begin_again_before_they_end() {
        let dictionary = Dictionary::default();
        drop(message(&dictionary, 10));
        dictionary.0.lock().row.first = u32::MAX / 2;
        for _ in 0..2 {
            let (block, plain) = message(&dictionary, 10);
            assert_eq!(block.plain(), plain);
        }
        assert!(dictionary.0.lock().row.first < 1000);
    }

    #[test]
    fn series_of_one_length_take_less_than_by_search() {
        let (block, plain) = message(&Dictionary::default(), 10_000);
        let (ours, theirs) = (block.bytes().len(), compression::snappy(&plain).len());
        assert!(ours < theirs, "{ours} bytes, by search {theirs}");
    }

    proptest! {
        #[test]
        fn a_block_is_read_as_what_plain_encoding_would_be(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            crate::fuzzing::snappy(&bytes);
        }
    }
}
