//! A lane sends the shipments of its series one after the other, until each is delivered or refused for good.
//!
//! A request that fails for a passing reason is repeated with exponential backoff and jitter, not before the destination's
//! `Retry-After`; one that is not let in (401, 403, 404 and their like, or a destination that refuses whatever it gets) is
//! repeated seldom, and the output is misconfigured until the destination answers otherwise. What a destination refuses is
//! found by a [`Search`]; it is dropped, counted, and kept as a [`Letter`] before it is settled. All of that keeps the order
//! of the samples of a series.

use super::backoff::Backoff;
use super::dead_letters::{DeadLetters, Letter};
use super::destination::Destination;
use super::dispatch::Event;
use super::search::{Named, Pieces, Refusal, Search};
use super::shipment::{Purpose, Settlement, Shipment};
use super::transport::SendError;
use super::verdict::{Answer, Verdict};
use crate::clock;
use crate::config;
use crate::ledger::{OutputAccount, State};
use crate::model::Loss;
use crate::wire::Body;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// See the module's documentation.
#[derive(Debug)]
pub struct Lane {
    /// Where it sends.
    pub destination: Arc<Destination>,
    /// The output's account.
    pub account: Arc<OutputAccount>,
    /// Where what is refused goes.
    pub dead_letters: Arc<DeadLetters>,
    /// Its backoff.
    pub queue: config::Queue,
}

/// The destination needs an older version of the protocol.
#[derive(Debug)]
pub struct OlderVersion;

/// What became of a body.
#[derive(Debug, Default)]
pub struct Sent {
    /// Samples the destination took.
    pub delivered: u64,
    /// Samples it refused for good.
    pub refused: u64,
    /// What holds them.
    pub letters: Vec<Letter>,
}

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
        let Shipment { bodies, parts, newest, mut dropped, repeats } = shipment;
        let mut delivered = 0;
        let samples = bodies.iter().map(|(_, body)| body.samples()).sum();
        if samples > 0 && newest < self.queue.oldest_wanted(clock::now()) {
            // It grew old behind one that could not be sent.
            dropped.add(Loss::TooOld, samples);
            return Ok(Settlement { parts, delivered, dropped, repeats });
        }
        for (purpose, body) in &bodies {
            let sent = self.deliver_body(*purpose, body).await?;
            delivered += sent.delivered;
            // What is refused of repeats was refused as it came first.
            if sent.refused > 0 && !repeats {
                dropped.add(Loss::RefusedByDestination, sent.refused);
                self.report(&sent);
                self.keep(sent.letters).await;
            }
        }
        Ok(Settlement { parts, delivered, dropped, repeats })
    }

    /// Sends one body, in parts where it must be.
    pub async fn deliver_body(&self, purpose: Purpose, body: &Body) -> Result<Sent, OlderVersion> {
        let mut sent = Sent::default();
        let (delivered, refusals) = self.search(purpose, Search::new(body)).await?;
        sent.delivered = delivered;
        for refusal in refusals {
            // One bad sample does not take the others of its series along.
            let alone = refusal.pieces.iter().next().filter(|_| refusal.suspect);
            match alone.and_then(|piece| self.destination.finer(body, piece)) {
                Some(finer) => {
                    let (delivered, refusals) = self.search(purpose, Search::believing(&finer)).await?;
                    sent.delivered += delivered;
                    for refusal in &refusals {
                        self.note(&mut sent, &finer, refusal);
                    }
                }
                None => self.note(&mut sent, body, &refusal),
            }
        }
        Ok(sent)
    }

    fn note(&self, sent: &mut Sent, body: &Body, refusal: &Refusal) {
        sent.refused += refusal.samples;
        sent.letters.push(Letter::new(self.destination.format(), body, refusal, clock::now()));
    }

    /// Keeps letters; when it returns, they are on disk or counted as discarded.
    pub async fn keep(&self, letters: Vec<Letter>) {
        let dead_letters = Arc::clone(&self.dead_letters);
        if let Err(error) = tokio::task::spawn_blocking(move || dead_letters.keep(&letters)).await {
            tracing::error!(output = self.account.name, %error, "dead letters were not kept");
        }
    }

    /// Samples delivered, and what was refused. A search without a result is repeated, seldom; it is believed when the
    /// destination took something else of this output meanwhile.
    async fn search(&self, purpose: Purpose, mut search: Search<'_>) -> Result<(u64, Vec<Refusal>), OlderVersion> {
        let body = search.body();
        let mut seldom = Backoff::seldom();
        let mut attempt = 0;
        loop {
            let mut last = Answer::default();
            while let Some(pieces) = search.ask() {
                let (verdict, answer) = self.send(purpose, body, &pieces).await;
                let named = match verdict {
                    Verdict::OlderVersion => return Err(OlderVersion),
                    Verdict::Refused(_) | Verdict::Suspect => self.destination.named(body, &pieces, &answer),
                    _ => Named::default(),
                };
                search.answered(pieces, verdict, &answer, named);
                last = answer;
            }
            if let Some(found) = search.finish() {
                return Ok(found);
            }
            attempt += 1;
            let (taken, pause) = (self.account.taken(), seldom.pause(last.retry_after));
            self.note_failure(State::Misconfigured, attempt, pause, &described(last.status, &last.body));
            tokio::time::sleep(pause).await;
            search = if self.account.taken() > taken { Search::believing(body) } else { Search::new(body) };
        }
    }

    /// Tells of what one body lost; now and then in the log, always in the status.
    fn report(&self, sent: &Sent) {
        let samples = sent.refused;
        let answer = sent.letters.last().map(|letter| described(letter.status, &letter.words)).unwrap_or_default();
        let now = clock::now();
        if self.account.may_warn(now) {
            tracing::warn!(
                output = self.account.name,
                samples,
                answer,
                "the destination refused samples for good; they are in the dead letters"
            );
        }
        self.account.note_error(now, State::Refusing, format!("refused {samples} samples: {answer}"));
    }

    /// Sends one request until its fate is known. Returns it with the last answer.
    async fn send(&self, purpose: Purpose, body: &Body, pieces: &Pieces) -> (Verdict, Answer) {
        let (samples, on_wire) = (pieces.samples(body), pieces.on_wire(body));
        let mut backoff = Backoff::new(&self.queue);
        let mut seldom = Backoff::seldom();
        let request = self.destination.pack(body, pieces);
        let mut attempt = 0;
        // Whether the destination may have taken the request at an earlier attempt.
        let mut doubtful = false;
        loop {
            self.account.begin_request(samples);
            let sent = self.destination.send(purpose, attempt, request.clone()).await;
            if doubtful && sent.as_ref().map_or_else(SendError::began, |_| true) {
                self.account.note_resent(samples);
                doubtful = false;
            }
            let (state, pause, error) = match sent {
                Ok(answer) => match self.destination.verdict(on_wire, &answer) {
                    // No samples are at stake, and who refuses the empty request may do so for ever.
                    refused @ (Verdict::Retry { .. } | Verdict::Misconfigured { .. }) if pieces.is_empty() => {
                        self.account.end_request(samples, false);
                        return (refused, answer);
                    }
                    Verdict::Retry { after } => {
                        doubtful |= is_of_a_go_between(&answer);
                        (State::Retrying, backoff.pause(after), described(answer.status, &answer.body))
                    }
                    Verdict::Misconfigured { after } => {
                        let mut words = described(answer.status, &answer.body);
                        if answer.status < 300 {
                            // Who knows what it did with a message that it may not have understood.
                            doubtful = true;
                            words += " without Written headers: it does not speak remote write 2.0";
                        }
                        (State::Misconfigured, seldom.pause(after), words)
                    }
                    verdict => {
                        self.account.end_request(samples, false);
                        if verdict == Verdict::Delivered {
                            self.account.note_taken();
                        }
                        return (verdict, answer);
                    }
                },
                Err(error) => {
                    doubtful |= error.began();
                    (State::Retrying, backoff.pause(None), error.to_string())
                }
            };
            self.account.end_request(samples, true);
            attempt += 1;
            self.note_failure(state, attempt, pause, &error);
            tokio::time::sleep(pause).await;
        }
    }

    /// Tells of a request that has to be repeated; seldom in the log, always in the status.
    fn note_failure(&self, state: State, attempt: u32, pause: Duration, error: &str) {
        let now = clock::now();
        let name = &self.account.name;
        let is_news = self.account.note_error(now, state, error.to_owned());
        let may_tell = self.account.may_warn(now);
        if state == State::Misconfigured {
            if is_news || may_tell {
                tracing::error!(
                    output = name,
                    error,
                    "the destination does not let this output in: its address, credentials or database want mending; the samples wait"
                );
            }
        } else if may_tell {
            tracing::warn!(output = name, attempt, ?pause, error, "sending failed; trying again");
        }
    }
}

/// Whether a proxy answered because it lost the destination, which may have taken the request.
fn is_of_a_go_between(answer: &Answer) -> bool {
    matches!(answer.status, 502 | 504)
}

/// An answer in a line for people.
fn described(status: u16, body: &str) -> String {
    const SHOWN_MAX: usize = 300;
    let text = body.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: String = text.chars().take(SHOWN_MAX).collect();
    let more = if shown.len() < text.len() { "..." } else { "" };
    format!("{status} {shown}{more}").trim_end().to_owned()
}
