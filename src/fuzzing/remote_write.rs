//! What must hold for any bytes taken as a remote write 1.0 message.

use crate::model::{Batch, BatchBuilder, Format, Losses, SeriesTable};
use crate::wire::SampleRef;
use crate::wire::remote_write::{decode, encode, messages};
use prost::Message;
use std::sync::Arc;

/// No panic; a body with the same content is written for what was read, and the generated decoder reads that body.
///
/// # Panics
/// When one of these does not hold.
pub fn remote_write(data: &[u8]) {
    let table = SeriesTable::default();
    let Some(first) = decoded(&table, data) else {
        assert!(!is_strict_message(data), "the generated decoder reads what this one refuses");
        return;
    };
    let (body, dropped) = encoded(&table, &first);
    assert!(messages::WriteRequest::decode(&*body).is_ok(), "the generated decoder refuses the body");
    let Some(second) = decoded(&table, &body) else { panic!("the body does not decode") };
    assert_eq!(first.samples.len() as u64, second.samples.len() as u64 + dropped.total());
    assert_eq!(first.exemplars.len(), second.exemplars.len());
    let (again, _) = encoded(&table, &second);
    assert_eq!(body, again, "a body that was written is written again as it is");
    if dropped.total() == 0 {
        assert_eq!(samples(&first), samples(&second));
    }
}

fn decoded(table: &SeriesTable, body: &[u8]) -> Option<Batch> {
    let mut builder = BatchBuilder::new(table, Format::RemoteWrite, Vec::new());
    let decoded = decode::decode(body, &decode::Options::default(), &mut builder).ok()?;
    let batch = builder.finish();
    assert_eq!(decoded.report.accepted, batch.samples.len() as u64);
    assert_eq!(decoded.written.samples + decoded.written.histograms, decoded.report.accepted);
    assert_eq!(decoded.written.exemplars, batch.exemplars.len() as u64);
    Some(batch)
}

/// Whether even a decoder that checks UTF-8 reads it.
fn is_strict_message(data: &[u8]) -> bool {
    messages::WriteRequest::decode(data).is_ok()
}

fn encoded(table: &SeriesTable, batch: &Batch) -> (Vec<u8>, Losses) {
    let options = encode::Options::default();
    let mut encoder = encode::Encoder::new(options.clone());
    let (mut losses, mut dropped) = (Losses::default(), Losses::default());
    let mut memo = std::collections::HashMap::new();
    let mut render = |id| {
        Arc::clone(memo.entry(id).or_insert_with(|| {
            let Some(series) = table.series(id) else { panic!("a series of the batch is not in the table") };
            let Ok(rendered) = encode::render(&series, &options, &|_| None) else { panic!("a series has no name") };
            Arc::new(rendered)
        }))
    };
    for sample in &batch.samples {
        let carried =
            SampleRef { timestamp: sample.timestamp, value: batch.value(sample), start: None, flags: sample.flags };
        let pushed = encoder.push(&render(sample.series), &carried, &mut losses);
        assert_eq!(pushed, Ok(()));
    }
    for exemplar in &batch.exemplars {
        encoder.exemplar(&render(exemplar.series), exemplar, &mut losses);
    }
    let body = encoder.finish(&mut dropped);
    assert_eq!(body.samples() + dropped.total(), batch.samples.len() as u64);
    (body.part(0, body.cuts.len()).into_owned(), dropped)
}

/// The samples in a form that compares NaN by its bits and does not depend on their order.
pub(super) fn samples(batch: &Batch) -> Vec<String> {
    let mut samples: Vec<_> = batch
        .samples
        .iter()
        .enumerate()
        .map(|(index, sample)| {
            let value = match batch.value(sample) {
                crate::model::Value::F64(value) => format!("{:016x}", value.to_bits()),
                other => format!("{other:?}"),
            };
            format!("{:?} {} {:?} {value}", sample.series, sample.timestamp, batch.start_of(index))
        })
        .collect();
    samples.sort();
    samples
}
