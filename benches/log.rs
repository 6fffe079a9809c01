//! The log in samples a second: batches of 10,000 samples, each of another series, as a scrape brings them.
//!
//! `append/no_disk` writes into nothing: what is left is the layout of the payload, checksums, and the way to the writer and
//! back. `append/memory` writes without waiting for the disk, `append/durable` waits for it, `append/durable_8` does so for
//! eight clients at a time. `read/disk` reads back what no longer is in memory.
//!
//! `append/turnover` begins a segment with 100,000 series that are new to it, ten labels each, 2,000 to a batch; what they take
//! on disk is printed. `read/turnover` reads such a segment back, each series once.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic, and says what it measured")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::bench::shape::Shape;
use sluicegate::log::{Ack, Entry, Log, LogConfig, Position, Storage, StorageFile};
use sluicegate::model::{Batch, BatchBuilder, Format, SampleFlags, SeriesSpec, SeriesTable, Value};
use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;

const SAMPLES: u64 = 10_000;
const CLIENTS: usize = 8;
const BATCHES_READ: u64 = 50;
const SERIES_TURNED: usize = 100_000;
const SERIES_A_BATCH: usize = 2_000;

/// A disk that forgets.
#[derive(Debug)]
struct Nothing;

impl Storage for Nothing {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn create(&self, _: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(Self))
    }
    fn open(&self, _: &Path, _: bool) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(Self))
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }
}

impl StorageFile for Nothing {
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
        Ok(0)
    }
    fn read_at(&mut self, _: u64, _: usize, _: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }
}

fn batch(table: &SeriesTable) -> Batch {
    let mut builder = BatchBuilder::new(table, Format::RemoteWrite, Vec::new());
    for number in 0..SAMPLES {
        let instance = format!("host-{number}");
        let alias = builder.alias(instance.as_bytes());
        let labels = [("job", "node"), ("instance", &*instance), ("mode", "idle")];
        let labels = labels.map(|(name, value)| (name.into(), value.into())).to_vec();
        let spec = SeriesSpec { measurement: "node_cpu_seconds_total", field: None, labels, metadata: None };
        let series = builder.define(alias, spec).unwrap();
        let value = Value::F64(number as f64 * 1.37);
        builder.push(series, 1_700_000_000_000_000_000 + number as i64 % 7, value, SampleFlags::NONE);
    }
    builder.finish()
}

/// Batches of new series, ten labels each, as a cluster's agents bring them.
fn batches_of_new_series(table: &SeriesTable) -> Vec<Arc<Batch>> {
    let shape = Shape::Kubernetes;
    let batch = |first: usize| {
        let mut builder = BatchBuilder::new(table, Format::RemoteWrite, Vec::new());
        for number in first..first + SERIES_A_BATCH {
            let place = shape.place(number);
            let name = shape.families()[place.family].metric_name(place.field);
            let labels = shape.labels(1, place.target, 0);
            let labels = labels.iter().map(|(name, value)| ((*name).into(), value.as_str().into())).collect();
            let spec = SeriesSpec { measurement: &name, field: None, labels, metadata: None };
            let series = builder.define(builder.alias(&number.to_le_bytes()), spec).unwrap();
            let value = Value::F64(number as f64 * 1.37);
            builder.push(series, 1_700_000_000_000_000_000 + number as i64 % 7, value, SampleFlags::NONE);
        }
        Arc::new(builder.finish())
    };
    (0..SERIES_TURNED).step_by(SERIES_A_BATCH).map(batch).collect()
}

/// A log with fixed segments, of which only the last stays.
fn config(dir: &Path, ack: Ack) -> LogConfig {
    LogConfig { ack, memory_bytes: 1 << 20, ..LogConfig::new(dir) }
}

fn appending(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let table = Arc::new(SeriesTable::default());
    let batch = batch(&table);
    let open = |ack| Log::open(config(&dir.path().join(format!("{ack:?}")), ack), Arc::clone(&table)).unwrap();
    let nothing = Log::open_on(Arc::new(Nothing), config(Path::new(""), Ack::Durable), Arc::clone(&table)).unwrap();
    let (memory, durable) = (open(Ack::Memory), Arc::new(open(Ack::Durable)));

    let mut group = criterion.benchmark_group("log/append");
    group.throughput(Throughput::Elements(SAMPLES));
    for (name, log) in [("no_disk", &nothing), ("memory", &memory), ("durable", &*durable)] {
        group.bench_function(name, |bencher| {
            let append = |batch| runtime.block_on(log.append(batch)).unwrap();
            bencher.iter_batched(|| batch.clone(), append, BatchSize::SmallInput);
        });
    }
    group.throughput(Throughput::Elements(SAMPLES * CLIENTS as u64));
    group.bench_function("durable_8", |bencher| {
        let append = |batches: Vec<Batch>| {
            runtime.block_on(async {
                let clients: Vec<_> = batches
                    .into_iter()
                    .map(|batch| {
                        let log = Arc::clone(&durable);
                        tokio::spawn(async move { log.append(batch).await.unwrap() })
                    })
                    .collect();
                for client in clients {
                    client.await.unwrap();
                }
            });
        };
        bencher.iter_batched(|| vec![batch.clone(); CLIENTS], append, BatchSize::SmallInput);
    });
    group.finish();
}

fn turning_over(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let table = Arc::new(SeriesTable::default());
    let batches = batches_of_new_series(&table);
    let append = |log: &Log| {
        for batch in &batches {
            runtime.block_on(log.append(Arc::clone(batch))).unwrap();
        }
    };
    let config = |dir| LogConfig { memory_bytes: 0, ..config(dir, Ack::Memory) };
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(SERIES_TURNED as u64));
    group.bench_function("append/turnover", |bencher| {
        let open = || Log::open_on(Arc::new(Nothing), config(Path::new("")), Arc::clone(&table)).unwrap();
        bencher.iter_batched_ref(open, |log| append(log), BatchSize::PerIteration);
    });
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(config(dir.path()), Arc::clone(&table)).unwrap();
    append(&log);
    let once = log.stats().bytes;
    append(&log);
    // The second time round, only the samples are written.
    let definitions = 2 * once - log.stats().bytes;
    println!("log/turnover: {:.1} bytes of definitions a series", definitions as f64 / SERIES_TURNED as f64);
    let read = || {
        runtime.block_on(async {
            let mut reader = log.reader(Position::default());
            let mut samples = 0;
            while samples < SERIES_TURNED {
                let Entry::Record(record) = reader.next().await.unwrap() else { panic!("lost") };
                samples += record.batch.samples.len();
            }
            samples
        })
    };
    group.bench_function("read/turnover", |bencher| bencher.iter(read));
    group.finish();
}

fn reading(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let table = Arc::new(SeriesTable::default());
    let batch = batch(&table);
    let config = LogConfig { memory_bytes: 0, ..config(dir.path(), Ack::Memory) };
    let log = Log::open(config, Arc::clone(&table)).unwrap();
    for _ in 0..BATCHES_READ {
        runtime.block_on(log.append(batch.clone())).unwrap();
    }
    let read = || {
        runtime.block_on(async {
            let mut reader = log.reader(Position::default());
            let mut samples = 0;
            while reader.position() < log.end() {
                let Entry::Record(record) = reader.next().await.unwrap() else { panic!("lost") };
                samples += record.batch.samples.len() as u64;
            }
            samples
        })
    };
    assert_eq!(read(), SAMPLES * BATCHES_READ);
    let mut group = criterion.benchmark_group("log/read");
    group.throughput(Throughput::Elements(SAMPLES * BATCHES_READ));
    group.bench_function("disk", |bencher| bencher.iter(read));
    group.finish();
}

criterion_group!(benches, appending, turning_over, reading);
criterion_main!(benches);
