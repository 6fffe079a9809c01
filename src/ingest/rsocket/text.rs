//! What an application sent to a batch, through the intake that all inputs share.

use super::applications::{Application, Sealed};
use super::failure::Failure;
use crate::ingest::Gate;
use crate::ingest::decoder::Decoder;
use crate::ingest::intake::{Collected, Decoded, Delivery};
use crate::ingest::temporality::Origin;
use crate::model::Format;
use crate::wire::compression::Encoding;
use std::sync::Arc;

/// The text of an application, and its size when it was a text.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) decoded: Decoded,
    pub(super) bytes: usize,
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
    let decoded = decoded.map_err(Failure::Text)?;
    let report = &decoded.taken.report;
    if let Some(first) = report.first.first().filter(|_| report.accepted == 0) {
        return Err(Failure::NoLine(format!("line {}: {}", first.line, first.message)));
    }
    application.introduce(&decoded.batch, &gate.table);
    gate.note_refused(Format::PrometheusText, report, application);
    Ok(Text { decoded, bytes })
}
