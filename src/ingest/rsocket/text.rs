//! What an application sent to a batch, through the intake that all inputs share.

use super::applications::{Application, Sealed};
use super::failure::Failure;
use crate::ingest::Gate;
use crate::ingest::decoder::Decoder;
use crate::ingest::intake::{Collected, Decoded, Delivery};
use crate::ingest::temporality::Origin;
use crate::model::{Batch, Format, SeriesTable, Value};
use crate::wire::compression::Encoding;
use std::sync::Arc;
use std::time::Duration;

/// The text of an application, and its size when it was a text.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) decoded: Decoded,
    pub(super) bytes: usize,
}

/// Steps after whose end an application is not a new one.
const STEPS_NEW: u32 = 2;

/// Whether an application says that it has run for longer than a new one.
fn has_run_for(batch: &Batch, table: &SeriesTable, step: Duration) -> bool {
    let uptime = batch.samples.iter().find_map(|sample| {
        let series = table.series(sample.series)?;
        match batch.value(sample) {
            Value::F64(seconds) if series.name.measurement() == "process_uptime_seconds" => Some(seconds),
            _ => None,
        }
    });
    uptime.is_some_and(|seconds| seconds > (step * STEPS_NEW).as_secs_f64())
}

/// Opens, decompresses and decodes. Good lines are kept, bad ones counted and told.
pub(super) async fn take(
    gate: &Arc<Gate>,
    application: &Application,
    sealed: Sealed,
    origin: Origin,
) -> Result<Text, Failure> {
    let Sealed { content, charge } = sealed;
    let key = Arc::clone(gate.applications.key.get().ok_or(Failure::Closed)?);
    let slot = Arc::clone(&gate.decoding).acquire_owned().await.map_err(|_| Failure::Closed)?;
    // 2 ms of arithmetic, and no more of it at a time than cores.
    let opening = tokio::task::spawn_blocking(move || {
        let opened = key.open(content);
        drop(slot);
        opened
    });
    let (body, encoding) = opening.await.map_err(|_| Failure::Bug)??;
    let bytes = match encoding {
        Encoding::Snappy => snap::raw::decompress_len(&body).unwrap_or_default(),
        _ => body.len(),
    };
    let delivery = Delivery { origin, ..Delivery::new(encoding, Decoder::PrometheusText { timestamp: None }) };
    let decoded = gate.decode(application.peer.ip(), Collected::held(body, charge), delivery).await;
    let mut decoded = decoded.map_err(Failure::Text)?;
    let report = &decoded.taken.report;
    if let Some(first) = report.first.first().filter(|_| report.accepted == 0) {
        return Err(Failure::NoLine(format!("line {}: {}", first.line, first.message)));
    }
    gate.note_refused(Format::PrometheusText, report, application);
    let is_first = application.introduce(&decoded.batch, &gate.table);
    if is_first && origin == Origin::Connected && has_run_for(&decoded.batch, &gate.table, gate.tallies.step()) {
        // It dialled again, to another gateway or after this one forgot: what it counted before is not new.
        decoded.came(Origin::Scraped);
    }
    Ok(Text { decoded, bytes })
}
