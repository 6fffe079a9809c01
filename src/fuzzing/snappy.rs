//! What must hold for remote write 1.0 bodies of any series and samples: they are written as Snappy blocks without ever
//! being there as they are.

use crate::model::{BatchBuilder, Format, Losses, SampleFlags, SeriesSpec, SeriesTable, Value};
use crate::wire::SampleRef;
use crate::wire::protobuf::{put_bytes_field, put_double_field, put_varint_field};
use crate::wire::remote_write::encode::{Encoder, Options, Rendered, render};
use crate::wire::remote_write::{PhraseId, Plain};
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Bytes are read as this, again and again: the labels of a series (each nibble a value, 0 for none), how long they are made,
/// and how its samples differ from those before. What the `snap` crate reads is what the plain encoding is, and no longer
/// than it should be; and so it is of further bodies that the same encoder writes, of the same series in the end, whose runs
/// it knows then.
///
/// # Panics
/// When one of these does not hold.
pub fn snappy(data: &[u8]) {
    let table = SeriesTable::default();
    // Not of one series, whose samples would stand apart from each other if they were several.
    let options = Options::default();
    let mut speaker = Speaker { encoder: Encoder::new(options.clone()), run: Vec::new(), phrases: HashMap::new() };
    let (first, second) = data.split_at(data.len() / 2);
    let mut known = Vec::new();
    for (body, data) in [first, second, first, first, first].into_iter().enumerate() {
        let mut plain = Vec::new();
        let (mut time, mut value) = (1_700_000_000_000_i64, 0_u64);
        let series: Vec<_> = data.as_chunks::<6>().0.iter().copied().map(Series::of).collect();
        // A series that comes twice would be written once.
        let mut met = std::collections::HashSet::new();
        for series in series.iter().filter(|series| met.insert(series.labels())) {
            // Renderings are dropped and made anew now and then, so that numbers of fields are given again.
            if series.samples == 7 {
                known.clear();
            }
            let labels = series.labels();
            let at = known.iter().position(|(of, _)| *of == labels).unwrap_or(known.len());
            if at == known.len() {
                known.push((labels.clone(), rendered(&table, &options, &labels)));
            }
            let rendered = &known[at].1;
            let mut message = Vec::new();
            for (name, value) in &labels {
                let mut label = Vec::new();
                put_bytes_field(&mut label, 1, name.as_bytes());
                put_bytes_field(&mut label, 2, value.as_bytes());
                put_bytes_field(&mut message, 1, &label);
            }
            if series.samples != 1 {
                speaker.end_run();
            }
            for number in 0..series.samples {
                // Of two samples of a series at one time, one would be written.
                time += i64::from(series.step.max(u8::from(number > 0)));
                value = value.wrapping_add(series.add);
                if series.samples == 1 {
                    speaker.run.push((Arc::clone(rendered), (value, time)));
                } else {
                    speaker.push(rendered, (value, time));
                }
                let mut sample = Vec::new();
                put_double_field(&mut sample, 1, f64::from_bits(value));
                put_varint_field(&mut sample, 2, time.cast_unsigned());
                put_bytes_field(&mut message, 2, &sample);
            }
            if series.samples > 0 {
                put_bytes_field(&mut plain, 1, &message);
            }
            if speaker.run.len() == RUN {
                speaker.end_run();
            }
        }
        let mut dropped = Losses::default();
        speaker.end_run();
        let written = speaker.encoder.finish(&mut dropped);
        let block = written.snappy();
        let Ok(read) = snap::raw::Decoder::new().decompress_vec(&block) else {
            panic!("snap does not read body {body}")
        };
        assert!(read == plain, "snap reads something else in body {body}");
        assert!(block.len() <= plain.len() + plain.len() / 60 + 5, "{} bytes of {}", block.len(), plain.len());
        assert_eq!(written.cuts.last().map_or(0, |cut| cut.end), plain.len());
        assert_eq!(dropped.total(), 0);
    }
}

/// Series of a run.
const RUN: usize = 6;

/// An encoder, and the phrases of the runs that it was given.
struct Speaker {
    encoder: Encoder,
    /// Series that came one behind the other, with one sample each.
    run: Vec<(Arc<Rendered>, Plain)>,
    phrases: HashMap<Vec<*const Rendered>, PhraseId>,
}

impl Speaker {
    fn push(&mut self, rendered: &Arc<Rendered>, (value, time): Plain) {
        let value = Value::F64(f64::from_bits(value));
        let sample = SampleRef { timestamp: time * 1_000_000, value, start: None, flags: SampleFlags::NONE };
        assert_eq!(self.encoder.push(rendered, &sample, &mut Losses::default()), Ok(()));
    }

    fn end_run(&mut self) {
        let (series, samples): (Vec<_>, Vec<_>) = std::mem::take(&mut self.run).into_iter().unzip();
        // Not of one series, whose samples would stand apart from each other if they were several.
        if series.len() < RUN {
            return series.iter().zip(samples).for_each(|(series, sample)| self.push(series, sample));
        }
        // What a phrase has is not freed, so its place is no other's.
        let phrase = self.phrases.entry(series.iter().map(Arc::as_ptr).collect());
        let one_time = samples.iter().all(|(_, time)| *time == samples[0].1);
        let phrase = match phrase {
            Entry::Occupied(phrase) if self.encoder.can_speak(*phrase.get(), &samples) => *phrase.get(),
            phrase => {
                let Some(made) = self.encoder.phrase(series.clone(), one_time) else {
                    return series.iter().zip(samples).for_each(|(series, sample)| self.push(series, sample));
                };
                *phrase.insert_entry(made).get()
            }
        };
        if self.encoder.can_speak(phrase, &samples) {
            self.encoder.speak(phrase, &samples);
        } else {
            series.iter().zip(samples).for_each(|(series, sample)| self.push(series, sample));
        }
    }
}

/// A series of a body, and how its samples go on from the last one.
struct Series {
    values: [u8; 4],
    long: bool,
    samples: u8,
    step: u8,
    add: u64,
}

impl Series {
    fn of([a, b, shape, step, add, byte]: [u8; 6]) -> Self {
        Self {
            values: [a & 15, a >> 4, b & 15, b >> 4],
            long: shape & 8 != 0,
            samples: shape & 7,
            step: step & 3,
            add: u64::from(add) << (8 * (byte & 7)),
        }
    }

    /// Sorted, with the name.
    fn labels(&self) -> Vec<(String, String)> {
        let name = ("__name__".to_owned(), format!("m{}", self.values[0]));
        let others = self.values[1..].iter().zip(["a", "job", "namespace"]).filter(|(value, _)| **value > 0);
        let length = if self.long { 1000 } else { 2 };
        let label =
            |(value, name): (&u8, &str)| (name.to_owned(), format!("{value:x}").repeat(length * usize::from(*value)));
        std::iter::once(name).chain(others.map(label)).collect()
    }
}

fn rendered(table: &SeriesTable, options: &Options, labels: &[(String, String)]) -> Arc<Rendered> {
    let builder = BatchBuilder::new(table, Format::RemoteWrite, Vec::new());
    let of = |(name, value): &(String, String)| (Cow::from(name.clone()), Cow::from(value.clone()));
    let spec = SeriesSpec {
        measurement: &labels[0].1,
        field: None,
        labels: labels[1..].iter().map(of).collect(),
        metadata: None,
    };
    let Ok(id) = builder.define(builder.alias(format!("{labels:?}").as_bytes()), spec) else { panic!("no room") };
    let Some(series) = table.series(id) else { panic!("the series is not in the table") };
    let Ok(rendered) = render(&series, options, &|_| None) else { panic!("the series has no name") };
    Arc::new(rendered)
}
