//! How an output takes the samples of a run at once: what its memo says of each series is asked once a run, and what is left for
//! each sample is its number and its time.
//!
//! A plan is made when a [`Run`] comes and tells, lane by lane, which phrase of the lane's encoder the run is ([`Encoding::phrase`]).
//! Where it does not hold (another value than a number, a series that changes on its way, a time that goes back), samples are
//! taken one by one, as if there were no runs.
//!
//! Plans live as long as their runs, and are forgotten when the memo forgets something ([`Memo::version`]).

use super::encoding::{Encoding, PhraseId, Plain};
use super::memo::{Memo, Sent};
use crate::model::{Batch, IdMap, Loss, LossSet, Losses, Run, TimestampNs};
use crate::wire::SampleRef;
use std::sync::{Arc, Weak};

/// Plans looked at with each new one whether their runs are still there.
const SWEPT: usize = 2;
/// The place of a sample that is not sent.
const NOWHERE: u16 = u16::MAX;

/// The samples of a run that were taken.
#[derive(Debug, Default)]
pub struct Taken {
    /// How many each lane took, by its number.
    pub by_lane: Vec<(usize, u64)>,
    /// The newest time.
    pub newest: TimestampNs,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Plans {
    /// By the number of their run.
    known: IdMap<u32, Plan>,
    /// The runs, for the sweep, and where that goes on.
    runs: Vec<(u32, Weak<Run>)>,
    swept: usize,
    /// The memo's version of which they are.
    version: u64,
    /// The samples of the run at hand, by lanes.
    read: Vec<Plain>,
}

#[derive(Debug)]
struct Plan {
    /// None where samples are taken one by one.
    parts: Option<Box<[Part]>>,
    /// Where each sample of the run stands among those that were read.
    places: Box<[u16]>,
    /// What is sent.
    sent: usize,
    /// Whether the phrases hold for samples of one time alone.
    one_time: bool,
    /// What all samples together lose by what their series are, and those that are not sent.
    losses: Box<[(Loss, u64)]>,
    dropped: Box<[(Loss, u64)]>,
}

/// What one lane gets of a run.
#[derive(Debug)]
struct Part {
    lane: usize,
    phrase: PhraseId,
    samples: usize,
}

impl Plans {
    /// Takes the samples of a run that begins at that place of a batch; none where they have to be taken one by one, as where
    /// one is older than `oldest`. `make_room` is told of a lane that gets so many samples and bytes, and tells whether it can.
    #[expect(clippy::too_many_arguments, reason = "the parts of a dispatcher, which stay its own")]
    pub fn take<E: Encoding, B: AsMut<E>>(
        &mut self,
        (batch, at, run): (&Batch, usize, &Arc<Run>),
        oldest: TimestampNs,
        memo: &mut Memo<E>,
        bodies: &mut [B],
        mut make_room: impl FnMut(usize, &mut B, u64, usize) -> bool,
        losses: &mut Losses,
        dropped: &mut Losses,
    ) -> Option<Taken> {
        if !E::SPEAKS {
            return None;
        }
        if self.version != memo.version() {
            *self = Self { version: memo.version(), ..Self::default() };
        }
        let samples = batch.samples.get(at..)?.get(..run.series().len())?;
        debug_assert!(samples.iter().zip(run.series()).all(|(sample, id)| sample.series == *id), "no run begins there");
        let first = samples.first()?.timestamp;
        let one_time = samples.iter().all(|sample| sample.timestamp == first);
        let holds = self.known.get(&run.number()).is_some_and(|plan| {
            let is_known = |part: &Part| bodies[part.lane].as_mut().phrase_len(part.phrase).is_some();
            plan.parts.as_ref().is_none_or(|parts| (one_time || !plan.one_time) && parts.iter().all(is_known))
        });
        if !holds {
            self.make(run, one_time, memo, bodies);
        }
        let plan = self.known.get(&run.number())?;
        let parts = plan.parts.as_deref()?;

        let (mut newest, mut altered) = (TimestampNs::MIN, None::<Losses>);
        self.read.clear();
        self.read.resize(plan.sent, Plain::default());
        for (sample, place) in samples.iter().zip(&plan.places) {
            let Some(read) = self.read.get_mut(usize::from(*place)) else { continue };
            let (value, mut lost) = (batch.value(sample), LossSet::NONE);
            let sample = SampleRef { timestamp: sample.timestamp, value, start: None, flags: sample.flags };
            *read = E::plain(&sample, &mut lost).filter(|_| sample.timestamp >= oldest)?;
            if !lost.is_empty() {
                altered.get_or_insert_default().count_set(lost);
            }
            newest = newest.max(sample.timestamp);
        }
        let of_parts = || {
            let mut read = self.read.as_slice();
            parts.iter().filter_map(move |part| Some((part, read.split_off(..part.samples)?)))
        };
        for (part, read) in of_parts() {
            let body = &mut bodies[part.lane];
            let bytes = body.as_mut().phrase_len(part.phrase)?;
            if !make_room(part.lane, body, read.len() as u64, bytes) || !body.as_mut().can_speak(part.phrase, read) {
                return None;
            }
        }
        let mut by_lane = Vec::with_capacity(parts.len());
        for (part, read) in of_parts() {
            bodies[part.lane].as_mut().speak(part.phrase, read);
            by_lane.push((part.lane, read.len() as u64));
        }
        plan.losses.iter().for_each(|(loss, samples)| losses.add(*loss, *samples));
        plan.dropped.iter().for_each(|(loss, samples)| dropped.add(*loss, *samples));
        if let Some(altered) = altered {
            losses.merge(&altered);
        }
        Some(Taken { by_lane, newest })
    }

    #[cold]
    fn make<E: Encoding, B: AsMut<E>>(&mut self, run: &Arc<Run>, one_time: bool, memo: &mut Memo<E>, bodies: &mut [B]) {
        let plan = Plan::new(run, one_time, memo, bodies);
        if self.known.insert(run.number(), plan).is_some() {
            return;
        }
        self.runs.push((run.number(), Arc::downgrade(run)));
        for _ in 0..SWEPT {
            self.swept = if self.swept + 1 < self.runs.len() { self.swept + 1 } else { 0 };
            if self.runs[self.swept].1.strong_count() == 0 {
                let (number, _) = self.runs.swap_remove(self.swept);
                self.known.remove(&number);
            }
        }
    }
}

impl Plan {
    fn new<E: Encoding, B: AsMut<E>>(run: &Run, one_time: bool, memo: &mut Memo<E>, bodies: &mut [B]) -> Self {
        // What each lane gets: places in the run, and series.
        let mut lanes: Vec<(Vec<_>, Vec<_>)> = bodies.iter().map(|_| <_>::default()).collect();
        let (mut losses, mut dropped, mut fits) = (Losses::default(), Losses::default(), true);
        for (at, id) in run.series().iter().enumerate() {
            match memo.slot(*id) {
                Ok(sent @ Sent { rendered, change, .. }) => {
                    fits &= change.is_none();
                    losses.count_set(E::losses(rendered));
                    let (places, series) = &mut lanes[sent.lane()];
                    places.push(at);
                    series.push(Arc::clone(rendered));
                }
                Err(loss) => dropped.count(*loss),
            }
        }
        let mut places = vec![NOWHERE; run.series().len()];
        let mut sent = 0;
        for at in lanes.iter().flat_map(|(places, _)| places) {
            places[*at] = sent;
            sent += 1;
        }
        let lanes = lanes.into_iter().enumerate().filter(|(_, (places, _))| !places.is_empty()).map(|(lane, lanes)| {
            let (samples, series) = (lanes.0.len(), lanes.1);
            Some(Part { lane, phrase: bodies[lane].as_mut().phrase(series, one_time)?, samples })
        });
        let parts = if fits { lanes.collect() } else { None };
        let (losses, dropped) = (losses.iter().collect(), dropped.iter().collect());
        Self { parts, places: places.into(), sent: usize::from(sent), one_time, losses, dropped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Format, SampleFlags, SeriesSpec, SeriesTable, Value};
    use crate::relabel;
    use crate::wire::remote_write::encode::{Encoder, Options};
    use crate::wire::remote_write::messages::WriteRequest;
    use proptest::prelude::*;
    use prost::Message as _;

    const SERIES: usize = 24;
    const LANES: usize = 3;
    const NOW: i64 = 1_700_000_000_000_000_000;

    struct Lane(Encoder);

    impl AsMut<Encoder> for Lane {
        fn as_mut(&mut self) -> &mut Encoder {
            &mut self.0
        }
    }

    /// A sample of a request: which series, how many milliseconds later than the last, what else.
    type Step = (usize, i64, u8);

    /// What each body says by series, and what was counted.
    type Said = (Vec<Vec<String>>, Vec<(Loss, u64)>, Vec<(Loss, u64)>);

    /// What an output says of requests, a body each lane for so many of them, and how many samples were taken in runs.
    fn said(requests: &[Vec<Step>], requests_a_body: usize, in_runs: bool) -> (Said, u64) {
        let table = Arc::new(SeriesTable::default().with_runs(3..=8));
        // One series in eight is dropped.
        let spec = relabel::RuleSpec {
            action: relabel::Action::Drop,
            source_labels: Some(vec!["mode".to_owned()]),
            regex: Some("3.*".to_owned()),
            ..relabel::RuleSpec::default()
        };
        let rules = vec![relabel::Rule::try_new(spec).unwrap()];
        let options = Options::default();
        let mut lanes: Vec<_> = (0..LANES).map(|_| Lane(Encoder::new(options.clone()))).collect();
        let mut memo = Memo::<Encoder>::new(options, Arc::clone(&table), Arc::default(), rules, LANES);
        let (mut plans, mut losses, mut dropped) = (Plans::default(), Losses::default(), Losses::default());
        let (mut time, mut bodies, mut taken_in_runs) = (NOW, Vec::new(), 0);
        for (number, request) in requests.iter().enumerate() {
            let mut builder = BatchBuilder::new(&table, Format::RemoteWrite, Vec::new());
            for (series, later, what) in request {
                let mode = series.to_string();
                let labels = vec![("mode".into(), mode.as_str().into())];
                let spec = SeriesSpec { measurement: "m", field: None, labels, metadata: None };
                let id = builder.define(builder.alias(mode.as_bytes()), spec).unwrap();
                time += later * 1_000_000;
                let (time, value) = match what {
                    0 => (time, Value::I64(time)),
                    1 => (time, Value::Str("none")),
                    2 => (time + 1, Value::F64(0.5)),
                    _ => (time, Value::F64(time as f64 / 3.0)),
                };
                builder.push(id, time, value, SampleFlags::NONE);
            }
            let batch = builder.finish();
            let mut runs = batch.runs.iter().peekable();
            let mut at = 0;
            while let Some(sample) = batch.samples.get(at) {
                if let Some((_, run)) = runs.next_if(|(begin, _)| *begin as usize == at)
                    && in_runs
                    && let Some(Taken { by_lane, newest }) = plans.take(
                        (&batch, at, run),
                        NOW,
                        &mut memo,
                        &mut lanes,
                        |_, _, _, _| true,
                        &mut losses,
                        &mut dropped,
                    )
                {
                    let samples = &batch.samples[at..at + run.series().len()];
                    taken_in_runs += by_lane.iter().map(|(_, samples)| samples).sum::<u64>();
                    assert!(samples.iter().all(|sample| sample.timestamp <= newest) || by_lane.len() < LANES);
                    at += samples.len();
                    continue;
                }
                at += 1;
                let sent = match memo.slot(sample.series) {
                    Ok(sent) => sent,
                    Err(loss) => {
                        dropped.count(*loss);
                        continue;
                    }
                };
                let value = batch.value(sample);
                let out = SampleRef { timestamp: sample.timestamp, value, start: None, flags: sample.flags };
                if let Err(loss) = lanes[sent.lane()].0.push(&sent.rendered, &out, &mut losses) {
                    dropped.count(loss);
                }
            }
            if (number + 1) % requests_a_body == 0 {
                bodies.extend(lanes.iter_mut().map(|lane| {
                    let body = lane.0.finish(&mut dropped);
                    let series = WriteRequest::decode(&*body.part(0, body.cuts.len())).unwrap().timeseries;
                    let mut said: Vec<_> = series
                        .iter()
                        .flat_map(|series| {
                            let sample = |sample: &crate::wire::remote_write::messages::Sample| {
                                format!("{:?} {:x}@{}", series.labels, sample.value.to_bits(), sample.timestamp)
                            };
                            series.samples.iter().map(sample).collect::<Vec<_>>()
                        })
                        .collect();
                    said.sort();
                    said
                }));
            }
        }
        ((bodies, losses.iter().collect(), dropped.iter().collect()), taken_in_runs)
    }

    #[test]
    fn a_run_is_taken_at_once_from_its_third_time_on() {
        let request: Vec<Step> = (0..SERIES).map(|series| (series, 0, 9)).collect();
        let mut requests = vec![request; 5];
        for request in &mut requests {
            request[0].1 = 1;
        }
        let sent = (0..SERIES).filter(|series| !series.to_string().starts_with('3')).count() as u64;
        assert_eq!(said(&requests, 1, true).1, 3 * sent);
    }

    /// What is inserted into a request: where, and which step.
    type Change = (usize, Step);

    fn requests() -> impl Strategy<Value = Vec<Vec<Step>>> {
        let order = Just((0..SERIES).collect::<Vec<_>>()).prop_shuffle();
        let changes = prop::collection::vec((0..SERIES, (0..SERIES, -1_i64..3, 0_u8..12)), 0..3);
        let request = (changes, 0..SERIES, 0_i64..2);
        (order, prop::collection::vec(request, 1..16)).prop_map(|(order, requests)| {
            let of = |(changes, from, later): (Vec<Change>, usize, i64)| {
                let mut request: Vec<Step> = order[from / 4..].iter().map(|series| (*series, 0, 9)).collect();
                request[0].1 = later;
                for (at, step) in changes {
                    request.insert(at.min(request.len()), step);
                }
                request
            };
            requests.into_iter().map(of).collect()
        })
    }

    proptest! {
        #[test]
        fn bodies_and_counts_are_the_same_in_runs_as_one_by_one(requests in requests(), requests_a_body in 1_usize..4) {
            prop_assert_eq!(said(&requests, requests_a_body, true).0, said(&requests, requests_a_body, false).0);
        }
    }
}
