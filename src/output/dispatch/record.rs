//! A record of the log into the open bodies of an output: in runs where it can be, else sample by sample.

use super::{Dispatch, OpenBody};
use crate::clock;
use crate::log::Record;
use crate::model::{Batch, Dialect, Exemplar, Loss, Losses, Restated, Run, Sample, SampleFlags, SeriesId, TimestampNs};
use crate::output::change::Restatements;
use crate::output::encoding::Encoding;
use crate::output::memo::Sent;
use crate::output::plans::Taken;
use crate::output::shipment::Shipment;
use crate::wire::SampleRef;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A record on its way into bodies.
struct Encoded<'r> {
    record: &'r Record,
    exemplars: Exemplars<'r>,
    /// Samples older than this are not wanted.
    oldest: TimestampNs,
    losses: Losses,
    dropped: Losses,
    /// The bodies that it filled, with their lanes.
    ready: Vec<(usize, Shipment)>,
}

impl<E: Encoding> Dispatch<'_, E> {
    /// Encodes a record into the open bodies. Returns the bodies it filled.
    pub(super) fn encode(&mut self, record: &Record) -> Vec<(usize, Shipment)> {
        let batch = &record.batch;
        let mut encoded = Encoded {
            record,
            exemplars: Exemplars::of(batch),
            oldest: self.parts.queue.oldest_wanted(clock::now()),
            losses: Losses::default(),
            dropped: Losses::default(),
            ready: Vec::new(),
        };
        self.parts.account.read(batch.samples.len() as u64);
        if record.seq < self.live_seq {
            self.remember_families(batch);
        }
        self.memo.refresh(batch);
        let samples = self.memo.samples(batch);
        let in_order = matches!(samples, Cow::Borrowed(_));
        let mut starts = batch.starts.iter().peekable();
        let mut restated = Restatements::of(batch, in_order);
        // What belongs to single samples is not asked of runs.
        let is_plain = in_order
            && batch.starts.is_empty()
            && batch.restated.is_empty()
            && batch.exemplars.is_empty()
            && !batch.has_distributions();
        let mut runs = if is_plain { batch.runs.iter() } else { [].iter() }.peekable();
        let mut index = 0;
        while let Some(sample) = samples.get(index) {
            if let Some((_, run)) = runs.next_if(|(at, _)| *at as usize == index)
                && self.take_run(index, run, &mut encoded)
            {
                index += run.series().len();
                continue;
            }
            let start = starts.next_if(|(at, _)| *at as usize == index).map(|(_, start)| *start);
            let restated = restated.next(index, sample);
            if let Err(loss) = self.take_sample(sample, start, restated, &mut encoded) {
                encoded.dropped.count(loss);
            }
            index += 1;
        }
        let Encoded { exemplars, mut losses, dropped, ready, .. } = encoded;
        for exemplar in exemplars.rest() {
            match self.memo.slot(exemplar.series) {
                Ok(sent) => {
                    let body = &mut self.bodies[sent.lane()];
                    body.encoder.exemplar(&sent.rendered, exemplar, &mut losses);
                    body.since.get_or_insert_with(Instant::now);
                }
                // As its series: what a rule drops is wanted, and no loss.
                Err(Loss::Relabel) => {}
                Err(_) => losses.count(Loss::Exemplar),
            }
        }
        self.learn(record);
        self.bodies.iter_mut().for_each(|body| body.note_part(record.seq));

        for (loss, samples) in dropped.iter().filter(|(loss, _)| *loss != Loss::Relabel && *loss != Loss::TooOld) {
            losses.add(loss, samples);
        }
        self.progress.begin(record.seq, record.appended_at, batch.samples.len() as u64, &dropped, &losses);
        self.parts.account.drop_samples(&dropped);
        self.parts.account.note_losses(&losses);
        ready
    }

    /// Takes the samples of a run, which begins at that place, at once; false where they have to be taken one by one.
    fn take_run(&mut self, at: usize, run: &Arc<Run>, encoded: &mut Encoded<'_>) -> bool {
        let Encoded { record, oldest, losses, dropped, ready, .. } = encoded;
        let queue = self.parts.queue;
        let (samples_max, bytes_max) = (queue.samples_per_send as u64, queue.body_bytes_max);
        let make_room = |lane: usize, body: &mut OpenBody<E>, samples: u64, bytes: usize| {
            if body.encoder.samples() + samples > samples_max || body.encoder.bytes() + bytes > bytes_max {
                ready.extend(body.close_within(record.seq).map(|shipment| (lane, shipment)));
            }
            samples <= samples_max && bytes <= bytes_max
        };
        let (run, bodies) = ((&*record.batch, at, run), &mut self.bodies);
        let taken = self.plans.take(run, *oldest, &mut self.memo, bodies, make_room, losses, dropped);
        let Some(Taken { by_lane, newest }) = taken else { return false };
        for (lane, samples) in by_lane {
            let body = &mut self.bodies[lane];
            body.taken += samples;
            body.newest = body.newest.max(newest);
        }
        true
    }

    #[inline]
    fn take_sample(
        &mut self,
        sample: &Sample,
        start: Option<TimestampNs>,
        restated: Option<Restated>,
        encoded: &mut Encoded<'_>,
    ) -> Result<(), Loss> {
        let Encoded { record, exemplars, losses, .. } = encoded;
        if let Some(loss) = sample.left_out(E::DIALECT) {
            return Err(loss);
        }
        let (Sent { rendered, change, .. }, lane) = match self.memo.slot(sample.series) {
            Ok(sent) => (sent, sent.lane()),
            Err(loss) => return Err(*loss),
        };
        if sample.timestamp < encoded.oldest {
            return Err(Loss::TooOld);
        }
        let value = record.batch.value(sample);
        let mut out = SampleRef { timestamp: sample.timestamp, value, start, flags: sample.flags };
        if !change.is_none() {
            if E::DIALECT == Dialect::Prometheus
                && change.adds_up()
                && !sample.series.is_recalled()
                && let Some(sum) = restated
                && !self.repeats.note(
                    sample.series,
                    sample.timestamp,
                    record.appended_at,
                    step_of(sample, self.parts.profile.step),
                    sum,
                )
            {
                return Err(Loss::LateDelta);
            }
            out = change.apply(out, restated, losses)?;
        }
        let body = &mut self.bodies[lane];
        let full = body.encoder.samples() >= self.parts.queue.samples_per_send as u64
            || body.encoder.bytes() >= self.parts.queue.body_bytes_max;
        // A row is not torn: its further fields follow into the body that has the first.
        if full && !body.encoder.continues(rendered, &out) {
            encoded.ready.extend(body.close_within(record.seq).map(|shipment| (lane, shipment)));
        }
        body.encoder.push(rendered, &out, losses)?;
        body.taken += 1;
        body.newest = body.newest.max(sample.timestamp);
        for exemplar in exemplars.take(sample.series) {
            body.encoder.exemplar(rendered, exemplar, losses);
        }
        Ok(())
    }
}

/// The exemplars of a record, to be placed beside the first sample of their series: a record may fill several bodies.
struct Exemplars<'a> {
    by_series: HashMap<SeriesId, Vec<&'a Exemplar>>,
}

impl<'a> Exemplars<'a> {
    fn of(batch: &'a Batch) -> Self {
        let mut by_series = HashMap::<_, Vec<_>>::new();
        for exemplar in &batch.exemplars {
            by_series.entry(exemplar.series).or_default().push(exemplar);
        }
        Self { by_series }
    }

    /// Those of a series that are not placed yet.
    #[inline]
    fn take(&mut self, series: SeriesId) -> Vec<&'a Exemplar> {
        if self.by_series.is_empty() { Vec::new() } else { self.by_series.remove(&series).unwrap_or_default() }
    }

    /// Those of series without a sample in the record.
    fn rest(self) -> impl Iterator<Item = &'a Exemplar> {
        self.by_series.into_values().flatten()
    }
}

/// How soon the next sample of a sum comes; none where a step without values is not told, as of distributions.
fn step_of(sample: &Sample, step: Duration) -> Option<Duration> {
    (!sample.flags.contains(SampleFlags::EXPANDED)).then_some(step)
}
