//! The log: whatever is done to it and whatever its disk does, it is the list of what it acknowledged.
//!
//! Each two bytes are an operation and its argument: appends of all sizes, alone and at once; two cursors that acknowledge;
//! upkeep; restarts in order, crashes of the process and power failures (anything that was not safe arrived or not); a disk
//! that refuses a change, or is full.

use crate::log::memory::{EDQUOT, EIO, ENOSPC, Memory};
use crate::log::{Ack, AppendError, Cursor, CursorState, Entry, Log, LogConfig, OnFull, Position, Seq};
use crate::model::{Batch, BatchBuilder, Format, SampleFlags, SeriesSpec, SeriesTable, Value};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// Operations of one input.
const STEPS_MAX: usize = 64;

/// What the log is expected to hold.
#[derive(Debug)]
enum Kept {
    Record {
        text: String,
        samples: u64,
    },
    /// Found damaged after a crash, before anybody was told that it is safe.
    Lost {
        samples: u64,
    },
}

impl Kept {
    fn samples(&self) -> u64 {
        match self {
            Self::Record { samples, .. } | Self::Lost { samples } => *samples,
        }
    }
}

/// What is known of a cursor.
#[derive(Debug, Default)]
struct Known {
    /// Everything that it acknowledged since the start.
    states: Vec<CursorState>,
    /// At least this one is saved.
    saved: usize,
    /// How far it had come in earlier lives of the process.
    passed: Seq,
}

struct World {
    storage: Memory,
    config: LogConfig,
    log: Arc<Log>,
    cursors: [Cursor; 2],
    known: [Known; 2],
    /// By number.
    model: Vec<Kept>,
    /// Batches that were refused since the last one that was not: after a crash, or a later one, they may be there
    /// all the same.
    refused: Vec<String>,
    appended: u64,
    /// Everything before it was deleted once; after a power failure, some of it may be back.
    deleted: Seq,
    /// Whether `on_full` ever was `drop_oldest`.
    drops: bool,
    /// `max_bytes`, or more: of what was taken back, and of what was deleted just then, a power failure may leave the bytes.
    bytes_max: u64,
}

/// Does what the bytes say, and looks whether the log is what it should be after every step.
///
/// # Panics
/// When it is not.
pub fn log(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let mut world = World::new();
        for step in data.chunks_exact(2).take(STEPS_MAX) {
            world.step(step[0], u64::from(step[1])).await;
            world.look().await;
        }
        world.storage.recover();
        world.storage.resize(None);
        world.restart(Crash::None, 0).await;
        world.look().await;
    });
}

#[derive(Clone, Copy, PartialEq)]
enum Crash {
    None,
    Process,
    Power,
}

fn open(storage: &Memory, config: &LogConfig) -> Option<(Arc<Log>, [Cursor; 2])> {
    let log = Log::open_on(Arc::new(storage.clone()), config.clone(), Arc::new(SeriesTable::default())).ok()?;
    let cursors = [log.cursor("a").ok()?, log.cursor("b/c").ok()?];
    Some((Arc::new(log), cursors))
}

impl World {
    fn new() -> Self {
        let storage = Memory::default();
        let config = LogConfig { segment_bytes: 2000, bytes_max: 16_000, memory_bytes: 0, ..LogConfig::new("/log") };
        let (log, cursors) = open(&storage, &config).expect("an empty log opens");
        let known = || Known { states: vec![CursorState::default()], saved: 0, passed: 0 };
        let (model, refused) = (Vec::new(), Vec::new());
        Self {
            storage,
            config,
            log,
            cursors,
            known: [known(), known()],
            model,
            refused,
            appended: 0,
            deleted: 0,
            drops: false,
            bytes_max: 16_000,
        }
    }

    async fn step(&mut self, operation: u8, argument: u64) {
        match operation % 16 {
            0..=3 => self.append(&[argument % 24]).await,
            4 => self.append(&[argument * 4]).await,
            5 => self.append(&vec![argument % 7; 2 + argument as usize % 5]).await,
            6 | 7 => self.acknowledge(usize::from(operation / 16 % 2), argument),
            8 => self.upkeep(),
            9 => self.restart(Crash::None, argument).await,
            10 => self.restart(Crash::Process, argument).await,
            11 | 12 => self.restart(Crash::Power, argument + u64::from(operation) * 256).await,
            13 => {
                let errno = [EIO, ENOSPC, EDQUOT][argument as usize % 3];
                self.storage.fail_once(argument / 3 % 16, errno);
            }
            14 => match argument % 4 {
                0 => self.storage.fail_after(argument / 4 % 8, EIO),
                1 => self.storage.fail_after(argument / 4 % 8, ENOSPC),
                _ => self.storage.recover(),
            },
            _ => {
                let used: usize = self.storage.live().values().map(Vec::len).sum();
                self.storage.resize((!argument.is_multiple_of(4)).then_some(used + argument as usize * 16));
            }
        }
    }

    fn batch(&mut self, samples: u64) -> (Batch, String) {
        let mut builder = BatchBuilder::new(self.log.table(), Format::InfluxLine, Vec::new());
        self.appended += 1;
        for index in 0..samples {
            let name = format!("m{}", (self.appended * 3 + index) % 13);
            let alias = builder.alias(name.as_bytes());
            let spec = SeriesSpec { measurement: &name, field: Some("f"), labels: vec![], metadata: None };
            let Ok(id) = builder.define(alias, spec) else { continue };
            let value = Value::I64((self.appended * 1000 + index) as i64);
            builder.push(id, index as i64 * 7, value, SampleFlags::NONE);
        }
        let batch = builder.finish();
        let text = self.text(&batch);
        (batch, text)
    }

    fn text(&self, batch: &Batch) -> String {
        let mut text = String::new();
        for sample in &batch.samples {
            let name = batch.series(sample.series, self.log.table()).map(|series| series.name.measurement().to_owned());
            let _ = write!(text, "{name:?} {} {:?};", sample.timestamp, batch.value(sample));
        }
        text
    }

    /// Appends batches of so many samples at once.
    async fn append(&mut self, sizes: &[u64]) {
        let mut tasks = Vec::new();
        for samples in sizes {
            let (batch, text) = self.batch(*samples);
            let log = Arc::clone(&self.log);
            tasks.push((text, batch.samples.len() as u64, tokio::spawn(async move { log.append(batch).await })));
        }
        let mut acknowledged = BTreeMap::<Seq, Kept>::new();
        let mut refused = Vec::new();
        for (text, samples, task) in tasks {
            match task.await.expect("the log does not panic") {
                Ok(seq) => assert!(acknowledged.insert(seq, Kept::Record { text, samples }).is_none(), "{seq} twice"),
                Err(AppendError::TooLarge { .. }) => {}
                Err(AppendError::Full { .. } | AppendError::Failed(_)) => refused.push(text),
                Err(error) => panic!("{error}"),
            }
        }
        if !acknowledged.is_empty() {
            self.refused.clear();
        }
        self.refused.extend(refused);
        for (seq, kept) in acknowledged {
            assert_eq!(seq, self.model.len() as u64, "numbers are consecutive");
            self.model.push(kept);
        }
    }

    fn acknowledge(&mut self, which: usize, records: u64) {
        let mut state = self.cursors[which].state();
        let until = (state.seq + records % 9).min(self.model.len() as u64);
        for kept in &self.model[state.seq as usize..until as usize] {
            let dropped = if matches!(kept, Kept::Lost { .. }) { kept.samples() } else { kept.samples() / 3 };
            if dropped > 0 {
                *state.dropped.entry("relabel".to_owned()).or_default() += dropped;
            }
            state.delivered += kept.samples() - dropped;
            state.ordinal += kept.samples();
        }
        state.seq = until;
        assert!(self.cursors[which].acknowledge(state.clone()), "{state:?}");
        self.known[which].states.push(state);
    }

    fn upkeep(&mut self) {
        self.log.upkeep();
        // Upkeep of its own may have come between: what it says then is the latest all the same.
        if self.log.cursors_saved() {
            self.known.iter_mut().for_each(|known| known.saved = known.states.len() - 1);
        }
    }

    async fn restart(&mut self, crash: Crash, seed: u64) {
        if crash == Crash::None {
            self.log.close().await;
            if self.log.cursors_saved() {
                self.known.iter_mut().for_each(|known| known.saved = known.states.len() - 1);
            }
        }
        let image = match crash {
            Crash::Power => self.storage.after_power_failure(seed),
            Crash::None | Crash::Process => self.storage.live(),
        };
        self.deleted = self.deleted.max(self.log.stats().first.seq);
        self.storage = Memory::from_image(&image);
        let ack_before = self.config.ack;
        self.config.ack = if seed % 5 == 4 { Ack::Memory } else { Ack::Durable };
        self.config.on_full = if seed % 7 == 6 { OnFull::DropOldest } else { OnFull::Reject };
        self.drops |= self.config.on_full == OnFull::DropOldest;
        self.config.memory_bytes = if seed.is_multiple_of(2) { 0 } else { 1 << 20 };
        // A disk that refuses a change while the log opens, which then fails; and a second try.
        self.storage.fail_once(seed % 4, EIO);
        let first = open(&self.storage, &self.config);
        self.storage.recover();
        let (log, cursors) = first.or_else(|| open(&self.storage, &self.config)).expect("a healthy disk opens");
        (self.log, self.cursors) = (log, cursors);
        if crash == Crash::Power {
            self.bytes_max = self.bytes_max.max(self.log.stats().bytes);
        }
        let loses_end = crash == Crash::Power && ack_before == Ack::Memory;
        self.learn(loses_end).await;
        for (cursor, known) in self.cursors.iter().zip(&mut self.known) {
            let state = cursor.state();
            assert!(known.states[known.saved..].contains(&state), "{state:?} is none of {known:?}");
            // From now on, this is where it stands; what it had passed may have been deleted already.
            known.passed = known.passed.max(known.states.iter().map(|state| state.seq).max().unwrap_or_default());
            (known.states, known.saved) = (vec![state], 0);
        }
    }

    /// After a crash: what was acknowledged is there; behind it may be what was refused, whole or lost.
    async fn learn(&mut self, loses_end: bool) {
        let end = self.log.end();
        let acknowledged = self.model.len() as u64;
        assert!(loses_end || end.seq >= acknowledged, "{} of {acknowledged}", end.seq);
        let from = if loses_end {
            self.log.stats().first
        } else {
            Position { seq: acknowledged, ordinal: self.ordinal(acknowledged) }
        };
        let old = self.model.split_off((from.seq as usize).min(self.model.len()));
        assert_eq!(self.model.len() as u64, from.seq, "the log begins where the model knows it");
        let mut reader = self.log.reader(from);
        while reader.position().seq < end.seq {
            match reader.next().await.expect("it can be read") {
                Entry::Record(record) => {
                    let text = self.text(&record.batch);
                    let before = old.get((record.seq - from.seq) as usize);
                    let known = matches!(before, Some(Kept::Record { text: known, .. }) if *known == text);
                    assert!(known || self.refused.contains(&text), "record {} is invented", record.seq);
                    self.model.push(Kept::Record { text, samples: record.batch.samples.len() as u64 });
                }
                Entry::Lost { gap, .. } => {
                    // What was acknowledged keeps its size: a cursor may stand between two lost records.
                    let mut rest = gap.samples;
                    for record in gap.first..gap.next {
                        let samples = match old.get((record - from.seq) as usize) {
                            Some(before) => before.samples(),
                            None => rest,
                        };
                        rest = rest.checked_sub(samples).expect("no more is lost than was there");
                        self.model.push(Kept::Lost { samples });
                    }
                    assert_eq!(rest, 0, "{gap}");
                }
            }
        }
    }

    fn ordinal(&self, seq: Seq) -> u64 {
        self.model[..seq as usize].iter().map(Kept::samples).sum()
    }

    /// Looks whether readers, cursors and accounts say what the model says.
    async fn look(&self) {
        let end = self.log.end();
        assert_eq!(end, Position { seq: self.model.len() as u64, ordinal: self.ordinal(self.model.len() as u64) });
        let (accepted, ordinal) = self.log.totals();
        assert_eq!((accepted.iter().sum::<u64>(), ordinal), (end.ordinal, end.ordinal));
        let stats = self.log.stats();
        assert!(stats.bytes <= self.bytes_max, "{} bytes", stats.bytes);
        for (cursor, known) in self.cursors.iter().zip(&self.known) {
            let state = cursor.state();
            assert!(state.adds_up() && state.ordinal == self.ordinal(state.seq), "{state:?}");
            let passed = known.passed.max(state.seq);
            let mut reader = cursor.reader();
            while reader.position().seq < end.seq {
                match reader.next().await.expect("it can be read") {
                    Entry::Record(record) => {
                        let Some(Kept::Record { text, .. }) = self.model.get(record.seq as usize) else {
                            panic!("record {} was lost", record.seq);
                        };
                        assert_eq!(self.text(&record.batch), *text, "record {}", record.seq);
                    }
                    Entry::Lost { gap, .. } => {
                        assert_eq!(gap.samples, self.ordinal(gap.next) - self.ordinal(gap.first), "{gap}");
                        for seq in gap.first..gap.next {
                            let known_lost = matches!(self.model[seq as usize], Kept::Lost { .. });
                            // Where the disk was full, what this cursor had passed went before its file could say so.
                            let deleted = seq < self.deleted.max(stats.first.seq) && (self.drops || seq < passed);
                            assert!(known_lost || deleted, "record {seq} is lost: {gap}");
                        }
                    }
                }
            }
            assert_eq!(reader.position(), end, "every sample is accounted for");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("SLUICEGATE_LONG").is_some() { 50_000 } else { 200 }))]
        #[test]
        fn the_log_is_a_list_whatever_happens(data in proptest::collection::vec(any::<u8>(), 0..128)) {
            super::log(&data);
        }
    }
}
