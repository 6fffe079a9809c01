//! A body to a batch and a batch to a body, in every format: the stages that benches measure and `tests/allocations.rs` counts.

use sluicegate::bench::request::{Plan, Request};
use sluicegate::bench::shape::Shape;
use sluicegate::model::{Batch, BatchBuilder, Format, Losses, Sample, SeriesTable};
use sluicegate::output::encoding::Encoding;
use sluicegate::output::memo::{Memo, Sent};
use sluicegate::output::plans::Plans;
use sluicegate::wire::prometheus_names::{Alphabet, Style};
use sluicegate::wire::prometheus_text::encode::{Exposed, Options};
use sluicegate::wire::{
    Body, SampleRef, influx_line, openmetrics, prometheus_text, remote_write, remote_write2, wavefront,
};
use std::sync::Arc;

/// When bodies without timestamps are said to have come.
pub(crate) const NOW: i64 = 1_700_000_000_000_000_000;

/// A body as `bench load` sends it, of so many series with ten labels, without compression.
pub(crate) fn body(format: Format, samples: usize) -> Vec<u8> {
    let shape = if format == Format::InfluxLine { Shape::Telegraf } else { Shape::Kubernetes };
    let mut request = Request::new(Plan { shape, format, seed: 1 }, 0..samples);
    request.update(NOW / 1_000_000);
    match format {
        Format::RemoteWrite | Format::RemoteWrite2 => snap::raw::Decoder::new().decompress_vec(request.body()).unwrap(),
        _ => request.body().to_vec(),
    }
}

/// The batch of a body of which nothing is refused.
pub(crate) fn decoded(table: &SeriesTable, format: Format, body: &[u8]) -> Batch {
    let mut out = BatchBuilder::new(table, format, Vec::new());
    let text = prometheus_text::decode::Options { now: NOW, timestamp: None };
    let report = match format {
        Format::PrometheusText => prometheus_text::decode::decode(body, &text, &mut out),
        Format::OpenMetrics => openmetrics::decode::decode(body, &text, &mut out),
        Format::InfluxLine => influx_line::decode::decode(body, &influx_line::decode::Options::default(), &mut out),
        Format::Wavefront => wavefront::decode::decode(body, &wavefront::decode::Options::at(NOW), &mut out),
        Format::RemoteWrite => {
            remote_write::decode::decode(body, &remote_write::decode::Options::default(), &mut out).unwrap().report
        }
        Format::RemoteWrite2 => {
            remote_write2::decode::decode(body, &remote_write2::decode::Options::default(), &mut out).unwrap().report
        }
    };
    assert_eq!(report.refused(), 0, "{format:?}: {:?}", report.first);
    out.finish()
}

/// The batch of a body that came so often that its runs are known.
pub(crate) fn familiar(table: &SeriesTable, format: Format, body: &[u8]) -> Batch {
    let [.., batch] = [(); 3].map(|()| decoded(table, format, body));
    assert!(!batch.runs.is_empty(), "its order is known");
    batch
}

/// What a stage makes of the same samples at every call.
pub(crate) type Stage<'a, T> = Box<dyn FnMut() -> T + 'a>;

/// Encodes the batch as an output of that format does: what is known of each series, its sample, the end of the body.
pub(crate) fn encoder<'a>(table: &Arc<SeriesTable>, batch: &'a Batch, format: Format) -> Stage<'a, Vec<Body>> {
    match format {
        Format::InfluxLine => {
            let options = influx_line::encode::Options { gzip: true, ..influx_line::encode::Options::default() };
            encoder_of::<influx_line::encode::Encoder>(table, batch, options)
        }
        Format::Wavefront => {
            let mut options = wavefront::encode::Options::new("gateway".to_owned());
            options.gzip = true;
            encoder_of::<wavefront::encode::Encoder>(table, batch, options)
        }
        Format::RemoteWrite => {
            encoder_of::<remote_write::encode::Encoder>(table, batch, remote_write::encode::Options::default())
        }
        Format::RemoteWrite2 => {
            encoder_of::<remote_write2::encode::Encoder>(table, batch, remote_write2::encode::Options::default())
        }
        Format::PrometheusText | Format::OpenMetrics => panic!("an exposition is not streamed"),
    }
}

struct Lane<E>(E);

impl<E> AsMut<E> for Lane<E> {
    fn as_mut(&mut self) -> &mut E {
        &mut self.0
    }
}

/// The same with options other than the usual ones.
pub(crate) fn encoder_of<'a, E: Encoding + 'a>(
    table: &Arc<SeriesTable>,
    batch: &'a Batch,
    options: E::Options,
) -> Stage<'a, Vec<Body>> {
    let mut lanes = [Lane(E::new(&options))];
    let mut plans = Plans::default();
    let mut memo = Memo::<E>::new(options, Arc::clone(table), Arc::default(), Vec::new(), 1);
    Box::new(move || {
        let mut losses = Losses::default();
        memo.refresh(batch);
        let samples = memo.samples(batch);
        let mut runs = batch.runs.iter().peekable();
        let (mut at, mut dropped) = (0, Losses::default());
        while let Some(sample) = samples.get(at) {
            if let Some((_, run)) = runs.next_if(|(begin, _)| *begin as usize == at) {
                let run = (batch, at, run);
                let taken =
                    plans.take(run, i64::MIN, &mut memo, &mut lanes, |_, _, _, _| true, &mut losses, &mut dropped);
                if taken.is_some() {
                    at += run.2.series().len();
                    continue;
                }
            }
            let Ok(Sent { rendered, .. }) = memo.slot(sample.series) else { panic!("a series that is not sent") };
            assert!(lanes[0].0.push(rendered, &sample_ref(batch, sample), &mut losses).is_ok());
            at += 1;
        }
        let bodies: Vec<_> = lanes[0].0.finish(&mut losses).into_iter().map(|(_, body)| body).collect();
        assert_eq!(bodies.iter().map(Body::samples).sum::<u64>(), batch.samples.len() as u64);
        bodies
    })
}

/// Writes the batch as an exposition.
pub(crate) fn exposition<'a>(table: &'a SeriesTable, batch: &'a Batch, format: Format) -> Stage<'a, Vec<u8>> {
    let series: Vec<_> = batch.samples.iter().map(|sample| table.series(sample.series).unwrap()).collect();
    Box::new(move || {
        let (mut out, mut losses, mut dropped) = (Vec::new(), Losses::default(), Losses::default());
        let exposed = batch.samples.iter().zip(&series);
        let exposed =
            exposed.map(|(sample, series)| Exposed { series, sample: sample_ref(batch, sample), exemplar: None });
        let (mut exposed, style) = (exposed.collect(), Style::default());
        let options = Options { style: &style, alphabet: Alphabet::Utf8, families: &|_| None };
        match format {
            Format::OpenMetrics => {
                openmetrics::encode::encode(&mut exposed, &options, &mut out, &mut losses, &mut dropped);
            }
            _ => prometheus_text::encode::encode(&mut exposed, &options, &mut out, &mut losses, &mut dropped),
        }
        assert_eq!(dropped.total(), 0);
        out
    })
}

fn sample_ref<'a>(batch: &'a Batch, sample: &Sample) -> SampleRef<'a> {
    SampleRef { timestamp: sample.timestamp, value: batch.value(sample), start: None, flags: sample.flags }
}
