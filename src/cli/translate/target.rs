//! Batches to bytes of one format. Each encoder is told of samples only; what it loses is in its target's [`Account`].

use super::Styles;
use super::account::{Account, Mark};
use super::decode::{Decoded, NO_SOURCE};
use crate::micrometer::Profile;
use crate::model::{
    Batch, Dialect, Format, IdMap, Loss, LossSet, Losses, Metadata, SampleFlags, Series, SeriesId, SeriesTable, Source,
};
use crate::output::change::{Change, Restatements, told};
use crate::output::encoding::Encoding;
use crate::output::memo::Memo;
use crate::wire::prometheus_names::{self, Alphabet};
use crate::wire::prometheus_text::encode::{Exposed, Options};
use crate::wire::prometheus_text::grammar::declared_name;
use crate::wire::{SampleRef, influx_line, openmetrics, prometheus_text, remote_write, remote_write2, wavefront};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;

/// Where the pieces of a translation go: whole lines, a group of an exposition, a whole message.
pub(super) type Sink<'s> = dyn FnMut(&[u8]) -> io::Result<()> + 's;

/// Samples in one of several messages, as outputs send them.
const MESSAGE_SAMPLES: u64 = 10_000;
/// Size of an only message before compression.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// Batches of that many bytes are held to be written as one exposition: 200,000 samples.
const GROUP_BYTES_MAX: usize = 5 << 20;
/// Families that a later group does not declare again.
const DECLARED_MAX: usize = 100_000;
const EOF_LINE: &[u8] = b"# EOF\n";

/// Writes one format.
pub(super) trait Target {
    /// Takes a batch and writes what is finished by it.
    fn take(&mut self, input: &Arc<Decoded>, sink: &mut Sink<'_>) -> io::Result<()>;
    /// Writes the rest.
    fn end(&mut self, sink: &mut Sink<'_>) -> io::Result<()>;
    /// What became of the samples.
    fn account(&self) -> &Account;
}

/// The pieces that a body of samples is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pieces {
    /// All that a batch brought: lines.
    Batches,
    /// Snappy blocks of [`MESSAGE_SAMPLES`] or somewhat more.
    Messages,
    /// One Snappy block.
    Message,
}

/// The target of a filter, which leaves samples without a timestamp as they came. `pieces` is how protobuf is written.
pub(super) fn filter(to: Format, styles: &Styles, pieces: Pieces) -> Box<dyn Target> {
    let profile = &styles.micrometer;
    match to {
        Format::PrometheusText | Format::OpenMetrics => Box::new(Exposition::new(to, styles)),
        Format::InfluxLine => {
            let style = styles.influx.clone();
            let options = influx_line::encode::Options { stamps: false, style, ..Default::default() };
            influx_line(options, profile)
        }
        Format::Wavefront => {
            let mut options = wavefront::encode::Options::new(NO_SOURCE.to_owned());
            options.stamps = false;
            options.style = styles.wavefront;
            Box::new(Streamed::<wavefront::encode::Encoder>::new(options, Pieces::Batches, profile))
        }
        Format::RemoteWrite => {
            let options = remote_write::encode::Options::new(styles.prometheus.clone());
            Box::new(Streamed::<remote_write::encode::Encoder>::new(options, pieces, profile))
        }
        Format::RemoteWrite2 => {
            let options = remote_write2::encode::Options { style: styles.prometheus.clone() };
            Box::new(Streamed::<remote_write2::encode::Encoder>::new(options, pieces, profile))
        }
    }
}

/// Line protocol with options of its own.
pub(super) fn influx_line(options: influx_line::encode::Options, profile: &Arc<Profile>) -> Box<dyn Target> {
    Box::new(Streamed::<influx_line::encode::Encoder>::new(options, Pieces::Batches, profile))
}

/// A format that an output's encoder writes.
struct Streamed<E: Encoding> {
    options: E::Options,
    profile: Arc<Profile>,
    pieces: Pieces,
    encoder: E,
    /// Of the series of one table.
    memo: Option<(Memo<E>, Arc<SeriesTable>)>,
    /// Metadata for the open message, and whether no series in it says so.
    families: BTreeMap<Box<str>, (Arc<Metadata>, bool)>,
    account: Account,
}

impl<E: Encoding> Streamed<E> {
    fn new(options: E::Options, pieces: Pieces, profile: &Arc<Profile>) -> Self {
        let (encoder, profile) = (E::new(&options), Arc::clone(profile));
        let (families, account) = (BTreeMap::new(), Account::default());
        Self { options, profile, pieces, encoder, memo: None, families, account }
    }

    fn encode(&mut self, input: &Decoded) {
        let (batch, table) = (&input.batch, &input.table);
        let known = self.memo.take().filter(|(_, known)| Arc::ptr_eq(known, table));
        let (memo, _) = self.memo.insert(known.unwrap_or_else(|| {
            let (options, profile) = (self.options.clone(), Arc::clone(&self.profile));
            let memo = Memo::new(options, Arc::clone(table), profile, Vec::new(), 1);
            (memo, Arc::clone(table))
        }));
        let Account { taken, dropped, altered, .. } = &mut self.account;
        *taken += batch.samples.len() as u64;
        // Else series keep their rendering: under another one they would stand twice in the open message.
        if !batch.metadata.is_empty() {
            memo.refresh(batch);
        }
        let mut starts = batch.starts.iter().peekable();
        let mut restated = Restatements::of(batch, true);
        for (index, sample) in batch.samples.iter().enumerate() {
            let start = starts.next_if(|(at, _)| *at as usize == index).map(|(_, start)| *start);
            let restated = restated.next(index, sample);
            let out = SampleRef { timestamp: sample.timestamp, value: batch.value(sample), start, flags: sample.flags };
            let pushed = match memo.slot(sample.series) {
                Ok(sent) if sent.change.is_none() => self.encoder.push(&sent.rendered, &out, altered),
                Ok(sent) => (sent.change.apply(out, restated, altered))
                    .and_then(|out| self.encoder.push(&sent.rendered, &out, altered)),
                Err(loss) => Err(*loss),
            };
            if let Err(loss) = pushed {
                dropped.count(loss);
            }
        }
        for exemplar in &batch.exemplars {
            match memo.slot(exemplar.series) {
                Ok(sent) => self.encoder.exemplar(&sent.rendered, exemplar, altered),
                Err(_) => altered.count(Loss::Exemplar),
            }
        }
        for metadata in memo.learned() {
            table.learn(Source::OWN, (*metadata).clone());
            self.families.insert(metadata.family.clone(), (metadata, false));
        }
        for metadata in &batch.metadata {
            self.families.insert(metadata.family.clone(), (Arc::clone(metadata), true));
        }
        if E::joins_families(&self.options) && !batch.metadata.is_empty() {
            let ids: HashSet<_> = batch.samples.iter().map(|sample| sample.series).collect();
            for series in ids.into_iter().filter_map(|id| table.series(id)) {
                let known = |name: &str| self.families.get(name).map(|(metadata, _)| Arc::clone(metadata));
                if let Some(joined) = series.metadata_apart(known) {
                    self.families.insert(joined.family.clone(), (joined, false));
                }
            }
        }
    }

    fn flush(&mut self, sink: &mut Sink<'_>) -> io::Result<()> {
        for (metadata, alone) in std::mem::take(&mut self.families).into_values() {
            if !self.encoder.metadata(&metadata) && alone {
                self.account.altered.count(Loss::Metadata);
            }
        }
        for (_, body) in self.encoder.finish(&mut self.account.dropped) {
            match self.pieces {
                Pieces::Batches => sink(&body.part(0, body.cuts.len()))?,
                Pieces::Messages | Pieces::Message => sink(&body.snappy())?,
            }
        }
        Ok(())
    }

    fn locate(&mut self, since: &Mark, input: &Decoded) {
        let (Some((memo, _)), options, profile) = (&mut self.memo, &self.options, &self.profile) else { return };
        self.account.locate(since, std::iter::once(input), |input, index, exemplar| {
            let sample = &input.batch.samples[index];
            if sample.flags.contains(SampleFlags::STRING_AS_LABEL) {
                return LossSet::of(Loss::FieldType);
            }
            if let Err(loss) = memo.slot(sample.series) {
                return LossSet::of(*loss);
            }
            // A rendering of its own: one in use by two encoders would stand twice in the open body.
            let series = input.table.series(sample.series).ok_or(Loss::LogDamaged);
            let (mut encoder, mut losses) = (E::new(options), Losses::default());
            let pushed = series.and_then(|series| {
                let (series, change) = told(profile, series, E::DIALECT, E::STARTS)?;
                let rendered = Arc::new(E::render(&series, options, &input.table)?);
                encoder.push(&rendered, &changed(&input.batch, index, change, &mut losses)?, &mut losses)?;
                Ok(rendered)
            });
            match (pushed, exemplar) {
                (Err(loss), _) => losses.count(loss),
                (Ok(rendered), Some(exemplar)) => encoder.exemplar(&rendered, exemplar, &mut losses),
                (Ok(_), None) => {}
            }
            set_of(&losses)
        });
    }
}

impl<E: Encoding> Target for Streamed<E> {
    fn take(&mut self, input: &Arc<Decoded>, sink: &mut Sink<'_>) -> io::Result<()> {
        let since = self.account.mark();
        self.encode(input);
        match self.pieces {
            Pieces::Batches => self.flush(sink)?,
            Pieces::Messages if self.encoder.samples() >= MESSAGE_SAMPLES => self.flush(sink)?,
            Pieces::Message if self.encoder.bytes() > MESSAGE_BYTES_MAX => {
                return Err(io::Error::other("the message would be larger than 1 GiB: `--split DIR` writes several"));
            }
            Pieces::Messages | Pieces::Message => {}
        }
        self.locate(&since, input);
        Ok(())
    }

    fn end(&mut self, sink: &mut Sink<'_>) -> io::Result<()> {
        // Nothing at all is a message, too.
        let open = self.encoder.bytes() > 0 || !self.families.is_empty();
        if self.pieces == Pieces::Message || open { self.flush(sink) } else { Ok(()) }
    }

    fn account(&self) -> &Account {
        &self.account
    }
}

/// Series in Prometheus's terms, what becomes of their samples, or why nothing does.
type Known = IdMap<SeriesId, Result<(Series, Change), Loss>>;

/// Text or OpenMetrics. Families stand together within a group of batches; up to [`GROUP_BYTES_MAX`], all is one group. A
/// family that comes again in a later group is not declared again.
struct Exposition {
    to: Format,
    style: prometheus_names::Style,
    profile: Arc<Profile>,
    group: Vec<Arc<Decoded>>,
    bytes: usize,
    declared: HashSet<Box<str>>,
    account: Account,
}

impl Exposition {
    fn new(to: Format, styles: &Styles) -> Self {
        let (style, profile) = (styles.prometheus.clone(), Arc::clone(&styles.micrometer));
        let (group, declared) = (Vec::new(), HashSet::new());
        Self { to, style, profile, group, bytes: 0, declared, account: Account::default() }
    }

    fn write(&mut self, sink: &mut Sink<'_>, last: bool) -> io::Result<()> {
        let group = std::mem::take(&mut self.group);
        self.bytes = 0;
        let since = self.account.mark();
        let mut known: Known = IdMap::default();
        let starts = self.to == Format::OpenMetrics;
        for input in &group {
            for sample in &input.batch.samples {
                known.entry(sample.series).or_insert_with(|| {
                    let series = input.table.series(sample.series).ok_or(Loss::LogDamaged)?;
                    let (series, change) = told(&self.profile, series, Dialect::Prometheus, starts)?;
                    if let Some(metadata) = &series.metadata {
                        input.table.learn(Source::OWN, (**metadata).clone());
                    }
                    Ok((series, change))
                });
            }
        }
        let mut exposed = Vec::new();
        for input in &group {
            let (exemplars, homeless) = input.batch.placed_exemplars();
            self.account.altered.add(Loss::Exemplar, homeless);
            self.account.taken += input.batch.samples.len() as u64;
            for (index, sample) in input.batch.samples.iter().enumerate() {
                let Account { altered, dropped, .. } = &mut self.account;
                let told =
                    known.get(&sample.series).map_or(Err(Loss::LogDamaged), |told| told.as_ref().map_err(|loss| *loss));
                let changed = told.and_then(|(series, change)| {
                    let sample = changed(&input.batch, index, *change, altered)?;
                    Ok(Exposed { series, sample, exemplar: exemplars.get(&index).copied() })
                });
                match changed {
                    Ok(sample) => exposed.push(sample),
                    Err(loss) => dropped.count(loss),
                }
            }
        }
        let table = group.last().map(|input| Arc::clone(&input.table));
        let mut out = Vec::new();
        let Account { altered, dropped, .. } = &mut self.account;
        encode(self.to, &self.style, &mut exposed, table.as_deref(), &mut out, altered, dropped);
        drop(exposed);
        if !last && out.ends_with(EOF_LINE) {
            out.truncate(out.len() - EOF_LINE.len());
        }
        self.declare_once(&mut out);
        sink(&out)?;
        self.locate(&since, &group, &known);
        Ok(())
    }

    /// Removes the declarations of families that an earlier group had.
    fn declare_once(&mut self, out: &mut Vec<u8>) {
        let mut fresh: HashSet<Box<str>> = HashSet::new();
        let mut kept = Vec::with_capacity(if self.declared.is_empty() { 0 } else { out.len() });
        for line in out.split_inclusive(|byte| *byte == b'\n') {
            let family = line.strip_prefix(b"# ").and_then(|words| declared_name(words.get(5..)?).ok());
            if let Some((_, family)) = family {
                if self.declared.contains(&*family) {
                    continue;
                }
                if fresh.len() + self.declared.len() < DECLARED_MAX {
                    fresh.insert(family.into());
                }
            }
            if !self.declared.is_empty() {
                kept.extend_from_slice(line);
            }
        }
        if !self.declared.is_empty() {
            *out = kept;
        }
        self.declared.extend(fresh);
    }

    fn locate(&mut self, since: &Mark, group: &[Arc<Decoded>], known: &Known) {
        let (to, style) = (self.to, &self.style);
        self.account.locate(since, group.iter().map(|input| &**input), |input, index, exemplar| {
            let (mut losses, mut dropped) = (Losses::default(), Losses::default());
            let (series, change) = match known.get(&input.batch.samples[index].series) {
                Some(Ok((series, change))) => (series, *change),
                Some(Err(loss)) => return LossSet::of(*loss),
                None => return LossSet::NONE,
            };
            let sample = match changed(&input.batch, index, change, &mut losses) {
                Ok(sample) => sample,
                Err(loss) => return LossSet::of(loss),
            };
            let mut alone = vec![Exposed { series, sample, exemplar }];
            encode(to, style, &mut alone, Some(&input.table), &mut Vec::new(), &mut losses, &mut dropped);
            losses.merge(&dropped);
            set_of(&losses)
        });
    }
}

impl Target for Exposition {
    fn take(&mut self, input: &Arc<Decoded>, sink: &mut Sink<'_>) -> io::Result<()> {
        // Ids are of one table.
        if self.group.last().is_some_and(|before| !Arc::ptr_eq(&before.table, &input.table)) {
            self.write(sink, false)?;
        }
        self.bytes += input.batch.bytes();
        self.group.push(Arc::clone(input));
        if self.bytes >= GROUP_BYTES_MAX { self.write(sink, false) } else { Ok(()) }
    }

    fn end(&mut self, sink: &mut Sink<'_>) -> io::Result<()> {
        self.write(sink, true)
    }

    fn account(&self) -> &Account {
        &self.account
    }
}

fn encode(
    to: Format,
    style: &prometheus_names::Style,
    exposed: &mut Vec<Exposed<'_>>,
    table: Option<&SeriesTable>,
    out: &mut Vec<u8>,
    altered: &mut Losses,
    dropped: &mut Losses,
) {
    let options = Options { style, alphabet: Alphabet::Utf8, families: &|family| table?.family(family) };
    match to {
        Format::OpenMetrics => openmetrics::encode::encode(exposed, &options, out, altered, dropped),
        _ => prometheus_text::encode::encode(exposed, &options, out, altered, dropped),
    }
}

/// A sample of a batch as it is written.
fn changed<'b>(batch: &'b Batch, index: usize, change: Change, losses: &mut Losses) -> Result<SampleRef<'b>, Loss> {
    let sample = &batch.samples[index];
    let start = batch.start_of(index);
    let sample = SampleRef { timestamp: sample.timestamp, value: batch.value(sample), start, flags: sample.flags };
    if change.is_none() {
        return Ok(sample);
    }
    let restated = batch.restated.binary_search_by_key(&(index as u32), |(at, _)| *at);
    change.apply(sample, restated.ok().map(|at| batch.restated[at].1), losses)
}

fn set_of(losses: &Losses) -> LossSet {
    losses.iter().fold(LossSet::NONE, |set, (loss, _)| set | LossSet::of(loss))
}
