//! A lane sends the shipments of its series one after the other, until each is delivered or refused for good.
//!
//! A request that fails for a passing reason is repeated with exponential backoff and jitter, not before the destination's
//! `Retry-After`. A request refused because of its size or of something in it is halved: the good part arrives, and the
//! piece that stays refused is dropped and counted. Halving keeps the order of the samples.

use super::backoff::Backoff;
use super::destination::Destination;
use super::dispatch::Event;
use super::shipment::{Purpose, Settlement, Shipment};
use super::verdict::{Answer, Verdict, samples_of};
use crate::clock;
use crate::config;
use crate::ledger::OutputAccount;
use crate::model::Loss;
use crate::wire::Body;
use std::sync::Arc;
use tokio::sync::mpsc;

/// How often one body is halved in search of what a destination refuses; what is left then is given up whole.
const SEARCHES_MAX: u32 = 1024;
/// The same while nothing is delivered in between: a destination that refuses everything is not worth more.
const FRUITLESS_MAX: u32 = 64;

/// See the module's documentation.
#[derive(Debug)]
pub struct Lane {
    /// Where it sends.
    pub destination: Arc<Destination>,
    /// The output's account.
    pub account: Arc<OutputAccount>,
    /// Its backoff.
    pub queue: config::Queue,
}

/// The destination needs an older version of the protocol.
struct OlderVersion;

impl Lane {
    /// Sends what comes, until the dispatcher is gone.
    pub async fn run(self, mut shipments: mpsc::Receiver<Shipment>, events: mpsc::UnboundedSender<Event>) {
        while let Some(shipment) = shipments.recv().await {
            let event = match self.deliver(shipment).await {
                Ok(settlement) => Event::Settled(Box::new(settlement)),
                Err(OlderVersion) => Event::OlderVersion,
            };
            if events.send(event).is_err() {
                return;
            }
        }
    }

    async fn deliver(&self, shipment: Shipment) -> Result<Settlement, OlderVersion> {
        let Shipment { bodies, parts, mut dropped } = shipment;
        let mut refusals = Refusals::default();
        let mut delivered = 0;
        for (purpose, body) in &bodies {
            delivered += self.deliver_body(*purpose, body, &mut refusals).await?;
        }
        if refusals.samples > 0 {
            dropped.add(Loss::RefusedByDestination, refusals.samples);
            self.report(&refusals);
        }
        Ok(Settlement { parts, delivered, dropped })
    }

    /// Sends one body, in parts where it must be. Returns the samples delivered.
    async fn deliver_body(&self, purpose: Purpose, body: &Body, refusals: &mut Refusals) -> Result<u64, OlderVersion> {
        let mut delivered = 0;
        let (mut searches, mut fruitless) = (0, 0);
        // Ranges of pieces still to be sent, the next one last.
        let mut ranges = vec![(0, body.cuts.len())];
        while let Some((from, to)) = ranges.pop() {
            if from == to {
                continue;
            }
            let pieces = &body.cuts[from..to];
            let samples = samples_of(pieces);
            let (verdict, answer) = self.send(purpose, samples, &body.part(from, to)).await;
            let middle = from + pieces.len() / 2;
            let may_search = pieces.len() > 1 && searches < SEARCHES_MAX && fruitless < FRUITLESS_MAX;
            match verdict {
                Verdict::Delivered => {
                    delivered += samples;
                    fruitless = 0;
                }
                Verdict::PartlyRefused(refused) => match refused.samples(pieces) {
                    Some(refused) => {
                        delivered += samples - refused;
                        refusals.note(refused, answer);
                    }
                    // The lines arrived; sent again by halves, their answers add up to the exact number.
                    None if may_search => {
                        (searches, fruitless) = (searches + 1, fruitless + 1);
                        ranges.extend([(middle, to), (from, middle)]);
                    }
                    None => refusals.note(samples, answer),
                },
                Verdict::TooLarge if pieces.len() > 1 => ranges.extend([(middle, to), (from, middle)]),
                Verdict::Suspect if may_search => {
                    (searches, fruitless) = (searches + 1, fruitless + 1);
                    ranges.extend([(middle, to), (from, middle)]);
                }
                Verdict::OlderVersion => return Err(OlderVersion),
                Verdict::TooLarge | Verdict::Suspect | Verdict::Refused | Verdict::Retry { .. } => {
                    refusals.note(samples, answer);
                }
            }
        }
        Ok(delivered)
    }

    /// Tells of what one shipment lost; now and then in the log, always in the status.
    fn report(&self, refusals: &Refusals) {
        let Refusals { samples, answer } = refusals;
        let now = clock::now();
        if self.account.may_warn(now) {
            tracing::warn!(
                output = self.account.name,
                samples,
                answer,
                "the destination refused samples for good; they are dropped"
            );
        }
        self.account.note_error(now, format!("refused {samples} samples: {answer}"));
    }

    /// Sends one request until its fate is known. Returns it with a description of the last answer.
    async fn send(&self, purpose: Purpose, samples: u64, part: &[u8]) -> (Verdict, String) {
        let mut backoff = Backoff::new(&self.queue);
        let request = self.destination.pack(part);
        let mut attempt = 0;
        loop {
            let (after, error) = match self.destination.send(purpose, attempt, request.clone()).await {
                Ok(answer) => match self.destination.verdict(samples, &answer) {
                    Verdict::Retry { after } => (after, described(&answer)),
                    verdict => {
                        self.account.note_request(false);
                        if verdict == Verdict::Delivered {
                            self.account.clear_error();
                        }
                        return (verdict, described(&answer));
                    }
                },
                Err(error) => (None, error.to_string()),
            };
            self.account.note_request(true);
            attempt += 1;
            let pause = backoff.pause(after);
            let now = clock::now();
            if self.account.may_warn(now) {
                tracing::warn!(output = self.account.name, attempt, ?pause, error, "sending failed; trying again");
            }
            self.account.note_error(now, error);
            tokio::time::sleep(pause).await;
        }
    }
}

/// What a shipment lost to refusals, and the last of them in the destination's words.
#[derive(Debug, Default)]
struct Refusals {
    samples: u64,
    answer: String,
}

impl Refusals {
    fn note(&mut self, samples: u64, answer: String) {
        if samples > 0 {
            self.samples += samples;
            self.answer = answer;
        }
    }
}

/// An answer in a line for people.
fn described(answer: &Answer) -> String {
    const SHOWN_MAX: usize = 300;
    let text = answer.body.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = text.chars().take(SHOWN_MAX).collect();
    let more = if shown.len() < text.len() { "..." } else { "" };
    format!("{} {shown}{more}", answer.status).trim_end().to_owned()
}
