//! From a body on the wire to samples in the log: the one place that owns limits, decompression, decoding, appending and
//! the counts of what was refused.
//!
//! Three steps, so that an ecosystem can look at the batch between them (the Pushgateway does):
//! [`Gate::collect`] reads a body, bounded in bytes and time; [`Gate::decode`] makes a batch of it; [`Gate::append`] gives
//! that to the log. [`Gate::take`] is all three.
//!
//! Memory is bounded three times: a body by `body_bytes_max` and `decompressed_bytes_max`; the decompressed bodies
//! together by the number of decoders that run at once; and the bodies and batches of all requests together by
//! `in_flight_bytes`, charged as bytes arrive, so that a sender that only announces a large body holds nothing.

mod body;
mod buffers;
mod error;
mod flight;

pub(super) use body::{ANNOUNCED_BYTES_MAX, discard};
pub(super) use buffers::{Buffer, Buffers};
pub(super) use error::IntakeError;
pub(super) use flight::{Charge, Flight};

use super::Gate;
use super::decoder::{Decoder, Written};
use super::temporality::Origin;
use crate::clock;
use crate::log::AppendError;
use crate::model::{Batch, BatchBuilder, Format, Metadata, Refusal, SeriesLimits, Source};
use crate::wire::Report;
use crate::wire::compression::{Encoding, decompress};
use body::read;
use flight::FLIGHT_WAIT;
use hyper::body::Incoming;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

/// Bytes of a batch for a byte of short lines.
const BATCH_BYTES_PER_BYTE: usize = 4;
/// Pause before a full log is tried again on behalf of a sender that waits.
const FULL_PAUSE: Duration = Duration::from_millis(250);
/// A body of an encoding that expands little is decoded where it was read up to this size; a larger one, on a thread that
/// may block. `spawn_blocking` rather than `block_in_place`: it costs 10 us where that costs a worker's whole queue, and
/// it works in every kind of runtime.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// The same for what is not compressed: a request of lines is as large as one in Snappy is when it is decompressed.
const INLINE_PLAIN_BYTES_MAX: usize = 1 << 20;
/// The same for gzip, deflate and zstd, which can expand a thousandfold.
const INLINE_EXPANDING_BYTES_MAX: usize = 4 << 10;
/// A whole body may take so many times `read_timeout`, which bounds the silence between two pieces of it.
const SLOWNESS_MAX: u32 = 10;

/// A buffer of decompression that grew beyond is not kept for the next.
pub(super) const SCRATCH_KEPT_BYTES_MAX: usize = 4 << 20;

/// How a body is to be taken.
#[derive(Debug)]
pub(super) struct Delivery {
    /// How it is compressed.
    pub(super) encoding: Encoding,
    /// What it is.
    pub(super) decoder: Decoder,
    /// Labels that the address adds to every series.
    pub(super) extra_labels: Vec<(String, String)>,
    /// Whether one bad line refuses all of it.
    pub(super) all_or_nothing: bool,
    /// Whether the answer quotes refused lines as they were.
    pub(super) quote: bool,
    /// How its counters came.
    pub(super) origin: Origin,
}

impl Delivery {
    /// Good lines are kept and nothing is added.
    pub(super) fn new(encoding: Encoding, decoder: Decoder) -> Self {
        let origin = Origin::default();
        Self { encoding, decoder, extra_labels: Vec::new(), all_or_nothing: false, quote: false, origin }
    }
}

/// A body as it came over the wire.
#[derive(Debug)]
pub(super) struct Collected {
    body: Buffer,
    charge: Charge,
    turn: Option<OwnedSemaphorePermit>,
}

impl Collected {
    /// No bytes.
    pub(super) fn nothing(gate: &Gate) -> Self {
        Self { body: Buffer::default(), charge: gate.flight.charge(), turn: None }
    }

    /// Lines of a sender that can be held back. Waits for its turn and for the memory that their batch is going to occupy, so that none is
    /// lost for want of it; after `give_up`, goes on without.
    pub(super) async fn lines(gate: &Gate, bytes: Vec<u8>, give_up: impl Future<Output = ()>) -> Self {
        let (mut charge, mut turn) = (gate.flight.charge(), None);
        let wanted = bytes.len() * BATCH_BYTES_PER_BYTE;
        let patience = async {
            while charge.raise(wanted).await.is_err() {}
            while turn.is_none() && gate.memory.is_tight() {
                turn = gate.turn().await.unwrap_or_default();
            }
        };
        tokio::select! {
            () = patience => {}
            () = give_up => {}
        }
        Self { body: Buffer::from(bytes), charge, turn }
    }

    /// A copy of the bytes, to be kept beside the batch.
    pub(super) async fn copy(&mut self) -> Result<Vec<u8>, IntakeError> {
        self.charge.raise(2 * self.body.bytes.len()).await?;
        Ok(self.body.bytes.clone())
    }

    /// Bytes that are charged for already.
    pub(super) fn held(bytes: Vec<u8>, charge: Charge) -> Self {
        Self { body: Buffer::from(bytes), charge, turn: None }
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.body.bytes
    }
}

/// A body that became a batch.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) batch: Batch,
    pub(super) taken: Taken,
    origin: Origin,
    charge: Charge,
}

/// A batch that others read beside the log, and the memory it is charged for.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) batch: Arc<Batch>,
    pub(super) taken: Taken,
    _charge: Charge,
}

impl Decoded {
    /// An empty batch.
    pub(super) fn nothing(gate: &Gate, format: Format) -> Self {
        let batch = Batch::new(format, gate.table.pin());
        Self { batch, taken: Taken::default(), origin: Origin::default(), charge: gate.flight.charge() }
    }

    /// The same for several readers, of which the log is none.
    pub(super) fn share(self) -> Shared {
        Shared { batch: Arc::new(self.batch), taken: self.taken, _charge: self.charge }
    }
}

/// What became of a request.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// What was taken and what was not.
    pub(super) report: Report,
    /// The counts that remote write 2.0 answers with.
    pub(super) written: Written,
    /// The refused lines of `report.first`, in the same order, when the delivery asked for them.
    pub(super) quotes: Vec<String>,
}

impl Taken {
    /// Why no series could be added, when that refused all of it: its sender should slow down and come again.
    /// Where a part was taken, coming again would write that twice and hold up what waits behind it.
    pub(super) fn series_limit(&self) -> Option<&str> {
        let refused = self.report.refused_for(Refusal::SeriesLimit);
        let whole = self.report.accepted == 0 && refused == self.report.refused();
        self.report.first.first().filter(|_| whole).map(|first| first.message.as_str())
    }
}

impl Gate {
    /// Reads a body, bounded in bytes and time.
    pub(super) async fn collect(&self, mut body: Incoming, format: Format) -> Result<Collected, IntakeError> {
        if self.memory.is_short() {
            return Err(self.refuse(body, format, IntakeError::Memory).await);
        }
        let mut charge = self.flight.charge();
        let gap_max = self.limits.read_timeout;
        let reading = read(self, &mut body, gap_max, &mut charge);
        let result = timeout(gap_max * SLOWNESS_MAX, reading).await.unwrap_or(Err(IntakeError::Slow(gap_max)));
        match result {
            Ok(body) => Ok(Collected { body, charge, turn: None }),
            Err(error) => {
                drop(charge);
                self.ledger.reject(format, error.refusal(), 1);
                if matches!(error, IntakeError::TooLarge { .. } | IntakeError::Overloaded | IntakeError::Memory) {
                    discard(body).await;
                }
                Err(error)
            }
        }
    }

    /// While memory is tight, waits for its turn; held until the batch is made.
    async fn turn(&self) -> Result<Option<OwnedSemaphorePermit>, IntakeError> {
        if !self.memory.is_tight() {
            return Ok(None);
        }
        let turn = timeout(FLIGHT_WAIT, Arc::clone(&self.turns).acquire_owned()).await;
        turn.map_err(|_| IntakeError::Memory)?.map(Some).map_err(|_| IntakeError::Closed)
    }

    /// Makes a batch of a body and counts what it refuses.
    pub(super) async fn decode(
        self: &Arc<Self>,
        peer: IpAddr,
        collected: Collected,
        delivery: Delivery,
    ) -> Result<Decoded, IntakeError> {
        let Collected { body, mut charge, turn } = collected;
        let (format, origin) = (delivery.decoder.format(), delivery.origin);
        let turn = if turn.is_some() { Ok(turn) } else { self.turn().await };
        let _turn = turn.inspect_err(|error| self.ledger.reject(format, error.refusal(), 1))?;
        let inline_max = match delivery.encoding {
            Encoding::Identity => INLINE_PLAIN_BYTES_MAX,
            Encoding::Snappy => INLINE_BYTES_MAX,
            Encoding::Gzip | Encoding::Deflate | Encoding::Zstd => INLINE_EXPANDING_BYTES_MAX,
        };
        let sender = (self.table.source(peer), self.series_limits());
        let result = if body.bytes.len() <= inline_max {
            self.decode_now(Some(peer), sender, body, delivery)
        } else {
            let Ok(slot) = Arc::clone(&self.decoding).acquire_owned().await else { return Err(IntakeError::Closed) };
            let gate = Arc::clone(self);
            let decoding = tokio::task::spawn_blocking(move || {
                let result = gate.decode_now(Some(peer), sender, body, delivery);
                drop(slot);
                result
            });
            // Fails only when the runtime ends.
            decoding.await.unwrap_or(Err(IntakeError::Closed))
        };
        let (error, samples) = match result {
            Ok((batch, taken)) => match charge.raise(batch.bytes()).await {
                Ok(()) => return Ok(Decoded { batch, taken, origin, charge }),
                Err(error) => (error, batch.samples.len() as u64),
            },
            Err(error) => (error, 1),
        };
        self.ledger.reject(format, error.refusal(), samples);
        Err(error)
    }

    /// Makes a batch of a body that was taken once, before this process began.
    pub(super) fn decode_again(&self, body: Vec<u8>, delivery: Delivery) -> Result<(Batch, Report), IntakeError> {
        let decoded = self.decode_now(None, (Source::OWN, SeriesLimits::NONE), Buffer::from(body), delivery);
        decoded.map(|(batch, taken)| (batch, taken.report))
    }

    fn decode_now(
        &self,
        peer: Option<IpAddr>,
        sender: (Source, SeriesLimits),
        body: Buffer,
        delivery: Delivery,
    ) -> Result<(Batch, Taken), IntakeError> {
        let mut scratch = self.scratch.take();
        // A bug that one body meets costs that body, not its connection or a whole socket of datagrams.
        let decoding = AssertUnwindSafe(|| self.decode_with(peer, sender, &body.bytes, &mut scratch.bytes, delivery));
        let result = catch_unwind(decoding).unwrap_or(Err(IntakeError::Bug));
        if !self.memory.is_tight() {
            self.scratch.keep(scratch);
            self.bodies.keep(body);
        }
        result
    }

    fn decode_with(
        &self,
        peer: Option<IpAddr>,
        (source, limits): (Source, SeriesLimits),
        body: &[u8],
        scratch: &mut Vec<u8>,
        delivery: Delivery,
    ) -> Result<(Batch, Taken), IntakeError> {
        #[cfg(test)]
        assert!(body != super::tests::MEETS_A_BUG, "a bug");
        let bytes_max = self.limits.decompressed_bytes_max;
        let plain = match delivery.encoding {
            // Its size was bounded when it was read.
            Encoding::Identity => body,
            encoding => {
                decompress(encoding, body, bytes_max, scratch)?;
                scratch
            }
        };
        let format = delivery.decoder.format();
        let mut builder = BatchBuilder::new(&self.table, format, delivery.extra_labels).sent_by(source, limits);
        let start = builder.mark();
        let read = delivery.decoder.decode(plain, &mut builder).map_err(IntakeError::Corrupt)?;
        let (mut report, written) = (read.report, read.written);
        self.ledger.reject_all(format, &report);
        if read.foreign > 0 {
            self.ledger.reject(format, Refusal::OtherVersion, read.foreign);
            if self.warnings.now() {
                let (input, series) = (format.as_str(), read.foreign);
                tracing::warn!(
                    ?peer,
                    input,
                    series,
                    "series of another version of remote write than the Content-Type says"
                );
            }
        }
        if delivery.all_or_nothing && report.refused() > 0 {
            builder.take_back(start);
            self.ledger.reject(format, Refusal::AllOrNothing, std::mem::take(&mut report.accepted));
        }
        let quotes = if delivery.quote { quote(plain, &report) } else { Vec::new() };
        let mut batch = builder.finish();
        let without_room = self.tallies.expand(&mut batch, &self.table, source);
        if without_room > 0 {
            self.ledger.reject(format, Refusal::SeriesLimit, without_room);
        }
        Ok((batch, Taken { report, written, quotes }))
    }

    /// Gives a batch to the log; returns once the log vouches for it.
    pub(super) async fn append(&self, peer: IpAddr, decoded: Decoded) -> Result<Taken, IntakeError> {
        self.append_until(peer, decoded, std::future::ready(())).await
    }

    /// The same; while the log is full, tries again until `give_up`.
    pub(super) async fn append_until(
        &self,
        peer: IpAddr,
        decoded: Decoded,
        give_up: impl Future<Output = ()>,
    ) -> Result<Taken, IntakeError> {
        let (shared, appended) = self.append_shared(peer, decoded, give_up).await;
        appended.map(|()| shared.taken)
    }

    /// The same for a batch that others read as well, whatever the log says.
    pub(super) async fn append_shared(
        &self,
        peer: IpAddr,
        decoded: Decoded,
        give_up: impl Future<Output = ()>,
    ) -> (Shared, Result<(), IntakeError>) {
        let Decoded { batch, taken, origin, charge } = decoded;
        let (format, samples) = (batch.format, batch.samples.len() as u64);
        let (batch, appended) = self.append_restated(self.table.source(peer), batch, origin, give_up).await;
        match appended {
            Ok(()) => self.note_source(peer, format, samples),
            Err(_) => self.ledger.reject(format, Refusal::Log, samples),
        }
        (Shared { batch, taken, _charge: charge }, appended.map_err(IntakeError::from))
    }

    /// Gives the log a batch of the gateway's own.
    pub(super) async fn append_own(&self, batch: Batch) -> (Arc<Batch>, Result<(), AppendError>) {
        self.append_restated(Source::OWN, batch, Origin::default(), std::future::ready(())).await
    }

    async fn append_restated(
        &self,
        source: Source,
        mut batch: Batch,
        origin: Origin,
        give_up: impl Future<Output = ()>,
    ) -> (Arc<Batch>, Result<(), AppendError>) {
        if batch.is_empty() {
            return (Arc::new(batch), Ok(()));
        }
        self.tallies.restate(&mut batch, &self.table, origin, clock::now());
        let batch = Arc::new(batch);
        let appended = self.append_batch_until(source, &batch, give_up).await;
        if appended.is_err() {
            self.tallies.take_back(&batch);
        }
        (batch, appended)
    }

    /// What a batch tells of families is learned once the log has it; before, a sender that repeats it would not be heard.
    async fn append_batch(&self, source: Source, batch: &Arc<Batch>) -> Result<(), AppendError> {
        self.log.append(Arc::clone(batch)).await?;
        for metadata in &batch.metadata {
            self.table.learn(source, Metadata::clone(metadata));
        }
        Ok(())
    }

    async fn append_batch_until(
        &self,
        source: Source,
        batch: &Arc<Batch>,
        give_up: impl Future<Output = ()>,
    ) -> Result<(), AppendError> {
        let mut give_up = pin!(give_up);
        loop {
            let Err(error) = self.append_batch(source, batch).await else { return Ok(()) };
            let AppendError::Full { .. } = error else { return Err(error) };
            self.tallies.hurry();
            tokio::select! {
                biased;
                () = give_up.as_mut() => return Err(error),
                () = sleep(FULL_PAUSE) => {}
            }
        }
    }

    /// All three steps.
    pub(super) async fn take(
        self: &Arc<Self>,
        peer: IpAddr,
        body: Incoming,
        delivery: Delivery,
    ) -> Result<Taken, IntakeError> {
        let collected = self.collect(body, delivery.decoder.format()).await?;
        let decoded = self.decode(peer, collected, delivery).await?;
        self.append(peer, decoded).await
    }

    fn series_limits(&self) -> SeriesLimits {
        SeriesLimits {
            labels_max: self.limits.labels_max,
            label_name_bytes_max: self.limits.label_name_bytes_max,
            label_value_bytes_max: self.limits.label_value_bytes_max,
        }
    }

    /// Notes who sent what the log took; metadata alone is not worth a line.
    fn note_source(&self, peer: IpAddr, format: Format, samples: u64) {
        if samples > 0 {
            self.ledger.note_source(peer.to_canonical(), format, samples, clock::now());
        }
    }

    /// Counts a request whose head was enough to refuse it, and lets its sender finish.
    pub(super) async fn refuse(&self, body: Incoming, format: Format, error: IntakeError) -> IntakeError {
        self.ledger.reject(format, error.refusal(), 1);
        discard(body).await;
        error
    }
}

/// The refused lines themselves, cut to a size for an answer.
fn quote(body: &[u8], report: &Report) -> Vec<String> {
    const LINE_BYTES_MAX: usize = 1024;
    let lines = report.first.iter().map(|refused| Decoder::line(body, refused.line));
    lines.map(|line| String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES_MAX)]).into_owned()).collect()
}
