//! What must hold for any bytes taken as a remote write 2.0 message.

use super::remote_write::samples;
use crate::model::{Batch, BatchBuilder, Format, Loss, Losses, SeriesTable};
use crate::wire::SampleRef;
use crate::wire::remote_write2::{decode, encode, messages};
use prost::Message;
use std::sync::Arc;

/// No panic; a body with the same content is written for what was read, and the generated decoder reads that body.
///
/// # Panics
/// When one of these does not hold.
pub fn remote_write2(data: &[u8]) {
    let table = SeriesTable::default();
    let Some(first) = decoded(&table, data) else {
        assert!(!is_strict_message(data), "the generated decoder reads what this one refuses");
        return;
    };
    let (body, dropped, losses) = encoded(&table, &first);
    assert!(messages::Request::decode(&*body).is_ok(), "the generated decoder refuses the body");
    let Some(second) = decoded(&table, &body) else { panic!("the body does not decode") };
    assert_eq!(first.samples.len() as u64, second.samples.len() as u64 + dropped.total());
    // Exemplars of a series whose samples were all refused have no TimeSeries to stand in.
    let lost = losses.get(Loss::Exemplar);
    assert_eq!(first.exemplars.len() as u64, second.exemplars.len() as u64 + lost);
    let (again, ..) = encoded(&table, &second);
    let Some(third) = decoded(&table, &again) else { panic!("the second body does not decode") };
    // Only from now on, since exemplars arrive in any order and are written by series.
    assert_eq!(again, encoded(&table, &third).0, "a body that was written is written again as it is");
    assert_eq!(samples(&second), samples(&third));
    if dropped.total() == 0 {
        assert_eq!(samples(&first), samples(&second));
    }
}

fn decoded(table: &SeriesTable, body: &[u8]) -> Option<Batch> {
    let mut builder = BatchBuilder::new(table, Format::RemoteWrite2, Vec::new());
    let decoded = decode::decode(body, &decode::Options::default(), &mut builder).ok()?;
    let batch = builder.finish();
    assert_eq!(decoded.report.accepted, batch.samples.len() as u64);
    assert_eq!(decoded.written.samples + decoded.written.histograms, decoded.report.accepted);
    assert_eq!(decoded.written.exemplars, batch.exemplars.len() as u64);
    Some(batch)
}

/// Whether even a decoder that checks UTF-8 reads it.
fn is_strict_message(data: &[u8]) -> bool {
    messages::Request::decode(data).is_ok()
}

fn encoded(table: &SeriesTable, batch: &Batch) -> (Vec<u8>, Losses, Losses) {
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
    for (index, sample) in batch.samples.iter().enumerate() {
        let (value, start) = (batch.value(sample), batch.start_of(index));
        let carried = SampleRef { timestamp: sample.timestamp, value, start, flags: sample.flags };
        let pushed = encoder.push(&render(sample.series), &carried, &mut losses);
        assert_eq!(pushed, Ok(()));
    }
    for exemplar in &batch.exemplars {
        encoder.exemplar(&render(exemplar.series), exemplar, &mut losses);
    }
    let body = encoder.finish(&mut dropped);
    assert_eq!(body.samples() + dropped.total(), batch.samples.len() as u64);
    (body.part(0, body.cuts.len()).into_owned(), dropped, losses)
}
