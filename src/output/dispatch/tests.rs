//! What a dispatcher keeps, repeats and lets go, without a destination.

use super::*;
use crate::log::LogConfig;
use crate::model::{BatchBuilder, Format, MetricType, SeriesSpec, TableBounds, Value};
use crate::wire::remote_write::encode::{Encoder, Options};
use std::collections::BTreeMap;

/// What a dispatcher is given.
struct Given {
    log: Arc<Log>,
    cursor: Cursor,
    account: Arc<OutputAccount>,
    table: Arc<SeriesTable>,
    profile: Arc<Profile>,
    queue: config::Queue,
    _dir: tempfile::TempDir,
}

impl Given {
    fn new(bounds: TableBounds, log: impl FnOnce(LogConfig) -> LogConfig) -> Self {
        let dir = tempfile::TempDir::new().unwrap();
        let table = Arc::new(SeriesTable::new(bounds));
        let log = Arc::new(Log::open(log(LogConfig::new(dir.path())), Arc::clone(&table)).unwrap());
        let cursor = log.cursor("a").unwrap();
        let account = Arc::new(OutputAccount::new("a".into(), "x", String::new(), 0, BTreeMap::new()));
        Self { log, cursor, account, table, profile: Arc::default(), queue: config::Queue::default(), _dir: dir }
    }

    fn parts(&self) -> Parts<'_> {
        let Self { log, cursor, account, table, profile, queue, .. } = self;
        Parts { log, cursor, account, table, profile, queue, relabel: &[] }
    }
}

#[tokio::test]
async fn metadata_is_sent_when_it_is_new_and_repeated_and_bounded_in_bytes() {
    let given = Given::new(TableBounds::default(), |log| log);
    let (lane, mut shipments) = mpsc::channel(8);
    let (_, events) = mpsc::unbounded_channel();
    let mut dispatch = Dispatch::<Encoder>::new(given.parts(), &Options::default(), vec![lane], events);

    let mut builder = BatchBuilder::new(&given.table, Format::RemoteWrite, Vec::new());
    builder.metadata(Metadata {
        family: "up".into(),
        metric_type: MetricType::Gauge,
        help: "whether".into(),
        unit: "".into(),
    });
    let record = Record { seq: 0, ordinal: 0, appended_at: 0, batch: builder.finish().into() };
    let mut sent = async |dispatch: &mut Dispatch<'_, Encoder>| {
        dispatch.ship_open(|_| true).await;
        let shipment = shipments.try_recv().ok()?;
        let body = &shipment.bodies[0].1;
        Some(body.part(0, body.cuts.len()).windows(7).any(|bytes| bytes == b"whether"))
    };
    dispatch.encode(&record);
    assert_eq!(sent(&mut dispatch).await, Some(true), "it is new");
    dispatch.encode(&record);
    assert_eq!(sent(&mut dispatch).await, None, "it is known");
    dispatch.repeat_metadata().await;
    assert_eq!(sent(&mut dispatch).await, Some(true), "its time has come");

    for number in 0..20 {
        let mut builder = BatchBuilder::new(&given.table, Format::RemoteWrite, Vec::new());
        builder.metadata(Metadata {
            family: format!("wordy_{number}").into(),
            metric_type: MetricType::Gauge,
            help: "w".repeat(1 << 20).into(),
            unit: "".into(),
        });
        dispatch.encode(&Record { seq: 0, ordinal: 0, appended_at: 0, batch: builder.finish().into() });
    }
    let held: usize = dispatch.families.values().map(|metadata| metadata.bytes()).sum();
    assert!(held <= FAMILIES_BYTES_MAX && dispatch.families.len() == 8, "long help is bounded in bytes: {held}");
}

#[tokio::test]
async fn a_row_of_a_meter_is_not_torn_between_two_bodies() {
    use crate::ingest::temporality::{Origin, Tallies};
    use crate::wire::{influx_line, prometheus_text};
    let mut given = Given::new(TableBounds::default(), |log| log);
    given.queue.samples_per_send = 2;
    let (lane, _) = mpsc::channel(8);
    let (_, events) = mpsc::unbounded_channel();
    let options = influx_line::encode::Options::default();
    let mut dispatch = Dispatch::<influx_line::encode::Encoder>::new(given.parts(), &options, vec![lane], events);
    let mut builder = BatchBuilder::new(&given.table, Format::PrometheusText, Vec::new());
    let body = ["a", "b"].map(|task| {
        let part = |part, value| format!("m_seconds_{part}{{application_guid=\"{task}\"}} {value} 1\n");
        [part("count", 2), part("sum", 4), part("max", 3)].concat()
    });
    let options = prometheus_text::decode::Options { now: 0, timestamp: None };
    assert_eq!(prometheus_text::decode::decode(body.concat().as_bytes(), &options, &mut builder).accepted, 6);
    let mut batch = builder.finish();
    Tallies::new(Arc::clone(&given.profile)).restate(&mut batch, &given.table, Origin::Pushed, 0);
    let ready = dispatch.encode(&Record { seq: 0, ordinal: 0, appended_at: 0, batch: batch.into() });
    let rest = dispatch.bodies[0].close().map(|shipment| (0, shipment));
    let bodies: Vec<_> = ready
        .into_iter()
        .chain(rest)
        .map(|(_, shipment)| {
            let body = &shipment.bodies[0].1;
            String::from_utf8(body.part(0, body.cuts.len()).into_owned()).unwrap()
        })
        .collect();
    let rows = ["a", "b"].map(|task| {
        format!("m,application_guid={task},metric_type=histogram count=2,sum=4000,upper=3000,mean=2000 1000000\n")
    });
    assert_eq!(bodies, rows);
}

#[tokio::test]
async fn an_output_that_stands_still_keeps_no_series_in_the_table_and_goes_on_where_it_stood() {
    const RECORDS: u64 = 100;
    let bounds = TableBounds { idle_sweeps: 1, ..TableBounds::default() };
    let mut given = Given::new(bounds, |log| LogConfig { memory_bytes: 0, ..log });
    given.queue.send_deadline = Duration::from_millis(1);
    let Given { log, cursor, table, .. } = &given;
    let (lane, mut shipments) = mpsc::channel(1);
    let (settled, events) = mpsc::unbounded_channel();
    let mut dispatch = Dispatch::<Encoder>::new(given.parts(), &Options::default(), vec![lane], events);
    dispatch.patience = Duration::from_millis(20);
    let drain = CancellationToken::new();
    let others = async {
        for number in 0..RECORDS {
            let mut builder = BatchBuilder::new(table, Format::RemoteWrite, Vec::new());
            let measurement = format!("m{number}");
            let spec = SeriesSpec { measurement: &measurement, field: None, labels: Vec::new(), metadata: None };
            let id = builder.define(builder.alias(measurement.as_bytes()), spec).unwrap();
            builder.push(id, number as i64, Value::F64(1.0), SampleFlags::NONE);
            log.append(builder.finish()).await.unwrap();
            table.sweep();
        }
        let begun = clock::monotonic();
        while !table.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{} series are kept", table.len());
            tokio::time::sleep(Duration::from_millis(5)).await;
            table.sweep();
        }
        while cursor.state().delivered < RECORDS {
            let next = tokio::time::timeout(Duration::from_millis(5), shipments.recv()).await;
            // Otherwise the last of them is being counted.
            if let Ok(Some(Shipment { parts, dropped, .. })) = next {
                let delivered = parts.iter().map(|(_, samples)| samples).sum();
                settled
                    .send(Event::Settled(Box::new(Settlement { parts, delivered, dropped, repeats: false })))
                    .unwrap();
            }
        }
    };
    tokio::select! {
        end = dispatch.run(&drain) => panic!("{end:?}"),
        () = others => {}
    }
    assert_eq!(cursor.state().position(), log.end());
}

#[tokio::test]
async fn no_body_is_larger_for_a_run_than_it_may_be() {
    let most = |samples_per_send: usize, body_bytes_max: usize| {
        let mut given = Given::new(TableBounds::default(), |log| log);
        given.queue = config::Queue { samples_per_send, body_bytes_max, ..config::Queue::default() };
        let (lane, _) = mpsc::channel(8);
        let (_, events) = mpsc::unbounded_channel();
        let mut dispatch = Dispatch::<Encoder>::new(given.parts(), &Options::default(), vec![lane], events);
        let (mut samples, mut bytes, mut in_runs) = (0, 0, 0);
        for seq in 0..6 {
            let mut builder = BatchBuilder::new(&given.table, Format::RemoteWrite, Vec::new());
            for number in 0..3000_usize {
                let labels = vec![("pod".into(), format!("{number}").repeat(20).into())];
                let spec = SeriesSpec { measurement: "m", field: None, labels, metadata: None };
                let id = builder.define(builder.alias(&number.to_le_bytes()), spec).unwrap();
                let time = (1_700_000_000_000 + seq as i64) * 1_000_000;
                builder.push(id, time, Value::F64(number as f64), SampleFlags::NONE);
            }
            let batch = builder.finish();
            in_runs += batch.runs.len();
            for (_, shipment) in
                dispatch.encode(&Record { seq, ordinal: 3000 * seq, appended_at: 0, batch: batch.into() })
            {
                let body = &shipment.bodies[0].1;
                samples = samples.max(body.samples());
                bytes = bytes.max(body.cuts.last().unwrap().end);
            }
        }
        assert!(in_runs > 0);
        (samples, bytes)
    };
    assert_eq!(most(100, usize::MAX).0, 100, "runs are longer");
    let (samples, bytes) = most(usize::MAX, 20_000);
    assert!(samples > 100 && bytes <= 20_200, "{samples} samples, {bytes} bytes");
}
