//! Who the live series come from: instances of applications, of streams and of tasks, as Spring Cloud Data Flow names them.
//!
//! A series tells by its labels, in any dialect's spelling (`stream_name`, `stream.name`); texts are kept byte by byte. What a series
//! tells is looked at once, when it is first shown; from then on a sample costs two look-ups by number, and nothing where its
//! series tells none. An instance is forgotten with the last of its series.
//!
//! Bounded: [`INSTANCES_MAX`] instances with texts of [`TEXT_BYTES_MAX`] each; series of others are shown on `/scrape` all the same,
//! and counted.

use crate::model::{Dialect, IdTable, Series, SeriesId, TimestampNs};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Instances that are known at a time.
pub const INSTANCES_MAX: usize = 10_000;
/// Bytes of a name, a type, a guid or an index.
pub const TEXT_BYTES_MAX: usize = 256;
/// A rate is over one to two of these, or since the instance was first seen.
const RATE_WINDOW: Duration = Duration::from_secs(30);

/// What an application is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// A stream.
    Stream,
    /// A task.
    Task,
}

/// What an instance is called. A text that no label told is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Names {
    /// Of what it is part.
    pub part: Part,
    /// Name of the stream or task.
    pub name: Box<str>,
    /// Execution of the task.
    pub execution: Box<str>,
    /// Name of the application.
    pub application: Box<str>,
    /// `source`, `processor`, `sink`, ...
    pub application_type: Box<str>,
    /// Number of the instance among those of its application.
    pub index: Box<str>,
    /// What tells it from all other instances.
    pub guid: Box<str>,
}

impl Names {
    /// By what they are listed; numbers by their size.
    fn order(&self) -> impl Ord + '_ {
        let Self { part, name, execution, application, application_type, index, guid } = self;
        let (execution, index) = ((execution.len(), execution), (index.len(), index));
        (part, name, execution, application, application_type, index, guid)
    }

    /// What a series tells; none when it is of no stream and of no task, or when a text is too long.
    fn of(series: &Series) -> Option<Result<Self, TooLong>> {
        let told = |names: [&str; 2]| names.into_iter().find_map(|name| series.label(name));
        let (part, name) = match told(["stream_name", "stream.name"]) {
            Some(stream) => (Part::Stream, stream),
            None => (Part::Task, told(["task_name", "task.name"])?),
        };
        let text = |text: Option<&str>| {
            let text = text.unwrap_or_default();
            if text.len() > TEXT_BYTES_MAX { Err(TooLong) } else { Ok(Box::from(text)) }
        };
        let index = || told(["application_index", "application.index"]);
        let names = || {
            Ok(Self {
                part,
                name: text(Some(name))?,
                execution: match part {
                    Part::Stream => Box::default(),
                    Part::Task => text(told(["task_execution_id", "task.execution.id"]))?,
                },
                application: text(told(["application_name", "application.name"]))?,
                application_type: text(told(["application_type", "application.type"]))?,
                index: text(told(["instance_index", "instance.index"]).or_else(index))?,
                guid: text(told(["application_guid", "application.guid"]))?,
            })
        };
        Some(names())
    }
}

/// A text is longer than [`TEXT_BYTES_MAX`].
#[derive(Debug)]
struct TooLong;

/// An instance as it is now.
#[derive(Clone, Debug)]
pub struct Instance {
    /// What it is called.
    pub names: Arc<Names>,
    /// Its live series.
    pub series: usize,
    /// Samples a second.
    pub rate: f64,
    /// How long ago the last one came.
    pub silent: Duration,
    /// In which dialects, by their numbers.
    pub dialects: Vec<Dialect>,
}

#[derive(Debug)]
struct Slot {
    names: Arc<Names>,
    series: usize,
    samples: u64,
    last: TimestampNs,
    dialects: u8,
    /// How many samples there were, and when: from the older one on the rate is told.
    marks: [(TimestampNs, u64); 2],
}

impl Slot {
    fn rate(&self, now: TimestampNs) -> f64 {
        let (since, samples) = self.marks[0];
        (self.samples - samples) as f64 / crate::clock::age(now, since).as_secs_f64().max(1.0)
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Instances {
    /// The slot of a series.
    members: IdTable<u32>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    numbers: HashMap<Arc<Names>, u32>,
    omitted: u64,
}

impl Instances {
    /// Looks at a series that is shown from now on; whether its samples are to be counted.
    pub(super) fn join(&mut self, id: SeriesId, series: &Series, now: TimestampNs) -> bool {
        let Some(names) = Names::of(series) else { return false };
        let number = names.ok().and_then(|names| self.number(names, now));
        let slot = number.and_then(|number| Some((number, self.slots.get_mut(number as usize)?.as_mut()?)));
        let Some((number, slot)) = slot else {
            self.omitted += 1;
            return false;
        };
        slot.series += 1;
        slot.dialects |= 1 << series.dialect as u8;
        self.members.insert(id, number);
        true
    }

    fn number(&mut self, names: Names, now: TimestampNs) -> Option<u32> {
        if let Some(number) = self.numbers.get(&names) {
            return Some(*number);
        }
        if self.numbers.len() >= INSTANCES_MAX {
            return None;
        }
        let names = Arc::new(names);
        let slot =
            Slot { names: Arc::clone(&names), series: 0, samples: 0, last: now, dialects: 0, marks: [(now, 0); 2] };
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[number as usize] = Some(slot);
        self.numbers.insert(names, number);
        Some(number)
    }

    /// Counts a sample of a series that joined.
    #[inline]
    pub(super) fn count(&mut self, id: SeriesId, at: TimestampNs) {
        let Some(number) = self.members.get(id) else { return };
        if let Some(slot) = &mut self.slots[*number as usize] {
            slot.samples += 1;
            slot.last = slot.last.max(at);
        }
    }

    /// Forgets a series that joined and is shown no more.
    pub(super) fn leave(&mut self, id: SeriesId) {
        let Some(number) = self.members.remove(id) else { return };
        let place = &mut self.slots[number as usize];
        let Some(slot) = place else { return };
        slot.series -= 1;
        if slot.series == 0 {
            self.numbers.remove(&slot.names);
            *place = None;
            self.free.push(number);
        }
    }

    /// Moves the times from which rates are told. To be called more often than once in a window.
    pub(super) fn mark(&mut self, now: TimestampNs) {
        for slot in self.slots.iter_mut().flatten() {
            if crate::clock::age(now, slot.marks[1].0) >= RATE_WINDOW {
                slot.marks = [slot.marks[1], (now, slot.samples)];
            }
        }
    }

    /// The instances, in the order of their names, and how many series are of none of them for want of room.
    pub(super) fn list(&self, now: TimestampNs) -> (Vec<Instance>, u64) {
        let of = |slot: &Slot| Instance {
            names: Arc::clone(&slot.names),
            series: slot.series,
            rate: slot.rate(now),
            silent: crate::clock::age(now, slot.last),
            dialects: (0..u8::BITS as u8)
                .filter(|bit| slot.dialects & 1 << bit != 0)
                .filter_map(Dialect::from_number)
                .collect(),
        };
        let mut instances: Vec<_> = self.slots.iter().flatten().map(of).collect();
        instances.sort_by(|left, right| left.names.order().cmp(&right.names.order()));
        (instances, self.omitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Format, SeriesSpec, SeriesTable};
    use std::borrow::Cow;

    const SECOND: TimestampNs = 1_000_000_000;

    fn series(format: Format, labels: &[(&str, &str)]) -> (SeriesId, Series) {
        let table = SeriesTable::default();
        let builder = BatchBuilder::new(&table, format, Vec::new());
        let labels = labels.iter().map(|(name, value)| (Cow::from(*name), Cow::from(*value))).collect();
        let spec = SeriesSpec { measurement: "m", field: None, labels, metadata: None };
        let id = builder.define(builder.alias(b"m"), spec).unwrap();
        (id, table.series(id).unwrap())
    }

    fn told(labels: &[(&str, &str)]) -> String {
        let mut instances = Instances::default();
        let (id, series) = series(Format::PrometheusText, labels);
        if !instances.join(id, &series, 0) {
            return format!("none, {} omitted", instances.omitted);
        }
        let Names { part, name, execution, application, application_type, index, guid } =
            (*instances.list(0).0[0].names).clone();
        format!("{part:?} {name} {execution}, {application} {application_type} {index} {guid}")
    }

    #[test]
    fn labels_of_any_dialect_tell_the_instance() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let cases: [(&[(&str, &str)], &str); 9] = [
            (
                &[
                    ("stream_name", "s"),
                    ("application_name", "time"),
                    ("application_type", "source"),
                    ("application_guid", "g-1"),
                    ("instance_index", "0"),
                ],
                "Stream s , time source 0 g-1",
            ),
            (
                &[
                    ("stream.name", " S\u{e4} "),
                    ("application.name", "a/b"),
                    ("application.type", "sink"),
                    ("application.guid", "g"),
                    ("application.index", "3"),
                ],
                "Stream  S\u{e4}  , a/b sink 3 g",
            ),
            (&[("stream_name", "s"), ("application_index", "1"), ("instance.index", "2")], "Stream s ,   2 "),
            (&[("task_name", "t"), ("task_execution_id", "7"), ("application_name", "ts")], "Task t 7, ts   "),
            (&[("task.name", "t"), ("task.execution.id", "8"), ("application.guid", "g")], "Task t 8,    g"),
            (&[("stream_name", "s"), ("task_name", "t"), ("task_execution_id", "7")], "Stream s ,    "),
            (&[("application_name", "time")], "none, 0 omitted"),
            (&[("stream_name", &long)], "none, 1 omitted"),
            (&[("stream_name", "s"), ("application_guid", &long)], "none, 1 omitted"),
        ];
        for (labels, expected) in cases {
            assert_eq!(told(labels), expected, "{labels:?}");
        }
    }

    #[test]
    fn an_instance_has_a_rate_and_goes_with_its_last_series() {
        let mut instances = Instances::default();
        let (_, first) = series(Format::PrometheusText, &[("stream_name", "s"), ("a", "1")]);
        let (_, second) = series(Format::InfluxLine, &[("stream_name", "s"), ("a", "2")]);
        assert!(instances.join(SeriesId(1), &first, 0) && instances.join(SeriesId(2), &second, 0));
        for at in 0..120 {
            instances.count(SeriesId(1), at * SECOND);
            instances.count(SeriesId(2), at * SECOND);
            instances.count(SeriesId(9), at * SECOND);
            instances.mark(at * SECOND);
        }
        let (list, omitted) = instances.list(121 * SECOND);
        let Instance { series, rate, silent, dialects, .. } = &list[0];
        assert_eq!((list.len(), omitted, *series, silent.as_secs()), (1, 0, 2, 2));
        assert!((1.8..=2.0).contains(rate), "{rate}");
        assert_eq!(dialects, &[Dialect::Prometheus, Dialect::Influx]);
        let later = instances.list(200 * SECOND).0[0].rate;
        assert!(later < *rate, "silence shows: {later}");
        instances.leave(SeriesId(1));
        instances.leave(SeriesId(1));
        assert_eq!(instances.list(0).0.len(), 1);
        instances.leave(SeriesId(2));
        assert_eq!((instances.list(0).0.len(), instances.numbers.len(), instances.free.len()), (0, 0, 1));
        assert!(instances.join(SeriesId(3), &first, 0));
        assert_eq!(instances.slots.len(), 1, "places are used again");
    }

    #[test]
    fn instances_are_bounded() {
        let mut instances = Instances::default();
        for number in 0..=INSTANCES_MAX {
            let (_, series) = series(Format::PrometheusText, &[("stream_name", &number.to_string())]);
            assert_eq!(instances.join(SeriesId(number as u32), &series, 0), number < INSTANCES_MAX);
        }
        assert_eq!((instances.list(0).0.len(), instances.omitted), (INSTANCES_MAX, 1));
    }
}
