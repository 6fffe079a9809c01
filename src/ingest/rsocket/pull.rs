//! Rounds: every connected application is asked for its text, all at the same time.
//!
//! A round serves all that want one while it goes on: scrapers of `/metrics/connected`, each up to its own deadline, and the
//! gateway itself, whose rounds go to the log ([`Pace`]). An application that does not answer in time is missing from the
//! round and costs nobody else anything. At the end of a round that goes to the log, series end that no application has any
//! more: `/metrics/connected` is to the log what it is to a Prometheus that scrapes it. A series that several applications have,
//! because no label tells them apart, is brought to the log by one of them, until that does not answer.

use super::applications::Application;
use super::ends::{ends, series_of};
use super::text;
use crate::clock;
use crate::ingest::Gate;
use crate::ingest::intake::{Decoded, IntakeError, Shared};
use crate::ingest::temporality::Origin;
use crate::model::{Batch, Format, Refusal};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// How long the text of an application may wait for a log that is full: the next one comes soon.
const APPENDED_WITHIN: Duration = Duration::from_secs(1);

/// When rounds go to the log: once an interval. A scraper that comes when it is nearly time makes the round, and one that comes
/// regularly is given a tenth of the interval to be the first.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// The last round that went to the log.
    fed: Instant,
    scraped: Option<Instant>,
}

impl Pace {
    /// The first round after an interval from now.
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, fed: now, scraped: None }
    }

    /// When the gateway makes a round itself.
    fn next(&self) -> Instant {
        let scraped = self.scraped.is_some_and(|scraped| scraped + self.interval >= self.fed);
        self.fed + self.interval + if scraped { self.interval / 10 } else { Duration::ZERO }
    }

    /// A round begins, for a scraper or for the gateway itself. Whether it goes to the log.
    fn begin(&mut self, scraper: bool, now: Instant) -> bool {
        if scraper {
            self.scraped = Some(now);
        }
        let feeds = now >= if scraper { self.fed + self.interval - self.interval / 10 } else { self.next() };
        if feeds {
            self.fed = now;
        }
        feeds
    }
}

/// One round, and what it brought so far.
#[derive(Debug)]
pub(super) struct Round {
    /// In the order of the applications.
    answers: Mutex<Vec<Option<Shared>>>,
    over: CancellationToken,
}

impl Round {
    /// Waits until it is over, or until a deadline.
    async fn over(&self, within: Duration) {
        let _ = timeout(within, self.over.cancelled()).await;
    }

    /// What it brought so far.
    fn answers(&self) -> Vec<Arc<Batch>> {
        self.answers.lock().iter().flatten().map(|text| Arc::clone(&text.batch)).collect()
    }
}

/// The texts of all applications, the first to connect first, and the last words of those that are gone: what a round has
/// within that time.
pub(super) async fn texts(gate: &Arc<Gate>, within: Duration) -> Vec<Arc<Batch>> {
    let round = join(gate, true);
    round.over(within).await;
    let mut texts = round.answers();
    texts.extend(gate.applications.last_words());
    texts
}

/// Makes a round for the log once an interval, until `shutdown`.
pub(super) async fn keep_pulling(gate: &Arc<Gate>, shutdown: &CancellationToken) {
    loop {
        let next = gate.applications.pace.lock().next();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep_until(next) => {}
        }
        // A round of a scraper's may have come in between.
        if Instant::now() >= gate.applications.pace.lock().next() {
            let round = join(gate, false);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = round.over.cancelled() => {}
            }
        }
    }
}

/// The round that goes on, or a new one.
fn join(gate: &Arc<Gate>, scraper: bool) -> Arc<Round> {
    let applications = &gate.applications;
    let mut current = applications.round.lock();
    if let Some(round) = &*current {
        return Arc::clone(round);
    }
    let feeds = applications.pace.lock().begin(scraper, Instant::now());
    let connected = applications.connected();
    let answers = Mutex::new(connected.iter().map(|_| None).collect());
    let round = Arc::new(Round { answers, over: CancellationToken::new() });
    *current = Some(Arc::clone(&round));
    let over = Over { gate: Arc::clone(gate), round: Arc::clone(&round) };
    tokio::spawn(async move { run(over, connected, feeds).await });
    round
}

/// Ends a round when it is dropped, also by a panic.
struct Over {
    gate: Arc<Gate>,
    round: Arc<Round>,
}

impl Drop for Over {
    fn drop(&mut self) {
        *self.gate.applications.round.lock() = None;
        self.round.over.cancel();
    }
}

async fn run(over: Over, connected: Vec<Arc<Application>>, feeds: bool) {
    let Over { gate, round } = &over;
    let mut pulls = JoinSet::new();
    for (number, application) in connected.into_iter().enumerate() {
        let (gate, round) = (Arc::clone(gate), Arc::clone(round));
        pulls.spawn(async move {
            if let Some(text) = pull(&gate, &application).await {
                let text = if feeds { feed(&gate, &application, text).await } else { text.share() };
                round.answers.lock()[number] = Some(text);
            }
        });
    }
    while pulls.join_next().await.is_some() {}
    if feeds {
        end_series(gate, round).await;
    }
}

/// Asks one application for its text; none, told and counted, where it does not give one.
async fn pull(gate: &Arc<Gate>, application: &Arc<Application>) -> Option<Decoded> {
    let applications = &gate.applications;
    let began = clock::monotonic();
    let text = async {
        let sealed = application.ask(applications.settings.scrape_timeout).await?;
        text::take(gate, application, sealed, Origin::Connected).await
    };
    let text = text.await;
    applications.counts.scrape(text.as_ref().map(|text| text.bytes), began.elapsed());
    let worth_a_warning = application.note(text.as_ref().err());
    match &text {
        Err(why) if worth_a_warning => applications.warn(application, why, "an application cannot be scraped"),
        Err(why) => tracing::debug!(%application, %why, "a scrape failed"),
        Ok(_) => {}
    }
    text.ok().map(|text| text.decoded)
}

async fn feed(gate: &Gate, application: &Arc<Application>, text: Decoded) -> Shared {
    let (text, appended) = append(gate, application, text, APPENDED_WITHIN).await;
    if let Err(error) = appended {
        gate.applications.warn(application, error, "what an application was scraped for is lost");
    }
    text
}

/// Gives the log what an application says of series that are not another's.
pub(super) async fn append(
    gate: &Gate,
    application: &Arc<Application>,
    mut text: Decoded,
    within: Duration,
) -> (Shared, Result<(), IntakeError>) {
    let (duplicates, taken_over) = gate.applications.keep_own(application, &mut text.batch);
    gate.ledger.reject(Format::PrometheusText, Refusal::DuplicateSeries, duplicates);
    gate.applications.counts.duplicates(duplicates);
    // What the application counted while another one had the series was left out, and is not told afterwards.
    gate.tallies.rebase(&text.batch, &taken_over);
    gate.append_shared(application.peer.ip(), text, sleep(within)).await
}

/// Ends the series that the round before had and this one has not. What the log does not take is ended with the next.
async fn end_series(gate: &Arc<Gate>, round: &Round) {
    let mut texts = round.answers();
    texts.extend(gate.applications.last_words());
    let finding = {
        let gate = Arc::clone(gate);
        // Hundreds of thousands of series are sorted here.
        tokio::task::spawn_blocking(move || {
            let now = series_of(texts.iter().map(|text| &**text));
            let before = std::mem::take(&mut *gate.applications.live.lock());
            let ends = ends(&gate.table, &before, &now, clock::now());
            (now, ends)
        })
    };
    let Ok((mut live, ends)) = finding.await else { return };
    for batch in ends {
        if let (batch, Err(_)) = gate.append_own(batch).await {
            live.extend(series_of([&*batch].into_iter()));
        }
    }
    live.sort_unstable();
    gate.applications.disown(&live);
    *gate.applications.live.lock() = live;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_gets_a_round_an_interval_whoever_makes_it() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut pace = Pace::new(Duration::from_secs(10), start);
        assert_eq!(pace.next(), at(10));
        assert!(!pace.begin(false, at(9)) && pace.begin(false, at(10)));
        assert!(!pace.begin(true, at(13)), "a scraper's own");
        assert_eq!(pace.next(), at(21), "a regular scraper may be the first");
        assert!(pace.begin(false, at(21)) && !pace.begin(true, at(23)));
        assert!(pace.begin(false, at(32)) && !pace.begin(true, at(33)));
        assert!(pace.begin(true, at(43)), "from here on it makes the rounds");
        assert!(pace.begin(true, at(53)) && pace.begin(true, at(63)));
        assert_eq!(pace.next(), at(74));
        assert!(pace.begin(false, at(74)) && pace.begin(false, at(85)), "it is gone");
    }
}
