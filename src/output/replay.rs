//! Sends queued dead letters again, beside the live samples and outside the ledger.
//!
//! One task an output and a start of the gateway, with one request at a time. A letter is sent as it was encoded; what is
//! refused again goes back to the dead letters with the new answer. When all are settled, the file goes: after a crash or a
//! stop before that, all of it is sent again.

use super::dead_letters::{self, DeadLetters, Letter};
use super::destination::Destination;
use super::lane::{Lane, OlderVersion};
use crate::config;
use crate::ledger::OutputAccount;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What a replay works with.
#[derive(Debug)]
pub struct Replay {
    /// What the output speaks: a letter goes to the one of its format.
    pub destinations: Vec<Arc<Destination>>,
    /// The output's account.
    pub account: Arc<OutputAccount>,
    /// Where letters come from and go back to.
    pub dead_letters: Arc<DeadLetters>,
    /// The output's backoff.
    pub queue: config::Queue,
}

impl Replay {
    /// Sends all that is queued.
    pub async fn run(self) {
        let path = self.dead_letters.replay_path();
        if !path.exists() {
            return;
        }
        let mut letters = read_ahead(path.clone());
        let (mut delivered, mut refused) = (0, 0);
        let name = &self.account.name;
        while let Some(letter) = letters.recv().await {
            match letter {
                Ok(letter) => {
                    let samples = self.send(letter).await;
                    delivered += samples.0;
                    refused += samples.1;
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::warn!(output = name, %error, "a queued dead letter cannot be read and is skipped");
                }
                Err(error) => {
                    tracing::error!(output = name, %error, "queued dead letters cannot be read; they stay queued");
                    return;
                }
            }
        }
        match dead_letters::forget(&path) {
            Ok(()) => tracing::info!(output = name, delivered, refused, "the queued dead letters are settled"),
            Err(error) => tracing::error!(output = name, %error, "settled dead letters stay queued"),
        }
    }

    /// Sends one letter; the samples delivered and refused.
    async fn send(&self, letter: Letter) -> (u64, u64) {
        let destination = self.destinations.iter().find(|destination| Some(destination.format()) == letter.format());
        let lane = |destination: &Arc<Destination>| Lane {
            destination: Arc::clone(destination),
            account: Arc::clone(&self.account),
            dead_letters: Arc::clone(&self.dead_letters),
            queue: self.queue.clone(),
        };
        let (Some(lane), Some((purpose, body))) = (destination.map(lane), letter.body()) else {
            return self.keep(letter, "the output does not send what it is encoded in").await;
        };
        match lane.deliver_body(purpose, &body).await {
            Ok(sent) => {
                self.account.note_replayed(sent.delivered);
                lane.keep(sent.letters).await;
                (sent.delivered, sent.refused)
            }
            Err(OlderVersion) => self.keep(letter, "the destination does not speak its version").await,
        }
    }

    async fn keep(&self, letter: Letter, why: &str) -> (u64, u64) {
        let samples = letter.samples;
        tracing::warn!(
            output = self.account.name,
            samples,
            format = letter.format,
            why,
            "a dead letter cannot be sent again"
        );
        let dead_letters = Arc::clone(&self.dead_letters);
        // It fails with the runtime only.
        let _ = tokio::task::spawn_blocking(move || dead_letters.keep(&[letter])).await;
        (0, samples)
    }
}

/// Reads letters in a thread of its own, a little ahead.
fn read_ahead(path: PathBuf) -> mpsc::Receiver<io::Result<Letter>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        for letter in dead_letters::read(&path) {
            if sender.blocking_send(letter).is_err() {
                return;
            }
        }
    });
    receiver
}
