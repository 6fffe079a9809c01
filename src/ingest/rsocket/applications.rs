//! The applications that are connected, and the last words of those that are gone.

use super::cipher::{Key, PLAINTEXT};
use super::counts::Counts;
use super::failure::Failure;
use super::frame::Content;
use super::pull::{Pace, Round};
use crate::config::{Encryption, Rsocket};
use crate::ingest::intake::Charge;
use crate::model::{Batch, IdMap, SeriesId, SeriesTable};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// How long `/metrics/connected` shows what an application pushed before it ended: whoever scrapes every two minutes or more
/// often sees it. Its series end with it.
pub(super) const LAST_WORDS_KEPT: Duration = Duration::from_secs(120);
/// Memory of last words; the oldest make room.
const LAST_WORDS_BYTES_MAX: usize = 16 << 20;
/// Warnings about applications in [`WARNED_WITHIN`]; of the rest only debugging tells.
const WARNINGS_MAX: u32 = 20;
const WARNED_WITHIN: Duration = Duration::from_secs(10);
/// Labels by which people know an application, as far as it has them.
const TELLING_LABELS: [&str; 8] = [
    "stream_name",
    "application_name",
    "application",
    "application_guid",
    "task_name",
    "task_execution_id",
    "instance_index",
    "instance",
];
/// Characters of a label's value in a name.
const NAME_CHARS_MAX: usize = 64;

/// Everything that applications share.
#[derive(Debug)]
pub struct Applications {
    pub(super) settings: Rsocket,
    /// Made before anything connects.
    pub(super) key: OnceLock<Arc<Key>>,
    connected: Mutex<Connected>,
    left: Mutex<Left>,
    pub(super) round: Mutex<Option<Arc<Round>>>,
    pub(super) pace: Mutex<Pace>,
    /// Series of the last round that went to the log, sorted.
    pub(super) live: Mutex<Vec<SeriesId>>,
    /// Who brings them to the log.
    owners: Mutex<IdMap<SeriesId, Weak<Application>>>,
    pub(super) counts: Counts,
    warnings: Mutex<Warnings>,
}

/// Warnings since a time. An application that dials again and again, or a thousand of them, cannot fill a disk with the log.
#[derive(Debug)]
struct Warnings {
    since: Instant,
    given: u32,
}

impl Warnings {
    /// Whether another one may be given.
    fn take(&mut self, now: Instant) -> bool {
        if now >= self.since + WARNED_WITHIN {
            *self = Self { since: now, given: 0 };
        }
        self.given += 1;
        self.given <= WARNINGS_MAX
    }
}

#[derive(Debug, Default)]
struct Connected {
    by_number: BTreeMap<u64, Arc<Application>>,
    next: u64,
}

/// Last words, oldest first.
#[derive(Debug, Default)]
struct Left {
    words: VecDeque<(Instant, Arc<Batch>)>,
    bytes: usize,
}

/// A number of each kind, for the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ApplicationCounts {
    /// Applications that are connected.
    pub connected: usize,
    /// Scrapes of them that gave something, since the start.
    pub scrapes: u64,
    /// Scrapes of them that did not.
    pub scrapes_failed: u64,
    /// Pushes of applications that ended.
    pub pushes: u64,
}

/// One that is connected.
#[derive(Debug)]
pub(super) struct Application {
    pub(super) peer: SocketAddr,
    asks: mpsc::Sender<Ask>,
    /// What its series say it is.
    name: OnceLock<String>,
    /// Scrapes that failed since one did not.
    failures: AtomicU32,
    last_words: Mutex<Option<Arc<Batch>>>,
    /// Series of its last text that were another's, sorted.
    left_out: Mutex<Vec<SeriesId>>,
}

/// A wish for the text of an application.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) reply: oneshot::Sender<Result<Sealed, Failure>>,
}

/// What an application sent, and the memory that it is charged for.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) content: Content,
    pub(super) charge: Charge,
}

/// An application's place among the connected ones; its last words stay behind.
pub(super) struct Place {
    applications: Arc<Applications>,
    number: u64,
    pub(super) application: Arc<Application>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.applications.connected.lock().by_number.remove(&self.number);
        if let Some(words) = self.application.last_words.lock().take() {
            self.applications.left.lock().push(words, Instant::now());
        }
    }
}

impl Left {
    fn push(&mut self, words: Arc<Batch>, now: Instant) {
        self.bytes += words.bytes();
        self.words.push_back((now + LAST_WORDS_KEPT, words));
        self.forget(now);
    }

    fn forget(&mut self, now: Instant) {
        while self.words.front().is_some_and(|(until, _)| *until <= now || self.bytes > LAST_WORDS_BYTES_MAX) {
            self.bytes -= self.words.pop_front().map_or(0, |(_, words)| words.bytes());
        }
    }
}

impl Applications {
    /// None yet.
    pub fn new(settings: Rsocket) -> Self {
        Self {
            pace: Mutex::new(Pace::new(settings.scrape_interval, Instant::now())),
            settings,
            key: OnceLock::new(),
            connected: Mutex::default(),
            left: Mutex::default(),
            round: Mutex::default(),
            live: Mutex::default(),
            owners: Mutex::default(),
            counts: Counts::default(),
            warnings: Mutex::new(Warnings { since: Instant::now(), given: 0 }),
        }
    }

    /// How many there are, and what became of them.
    pub fn counts(&self) -> ApplicationCounts {
        let (scrapes, scrapes_failed) = self.counts.scrapes();
        ApplicationCounts {
            connected: self.connected.lock().by_number.len(),
            scrapes,
            scrapes_failed,
            pushes: self.counts.pushes(),
        }
    }

    /// Tells the log what is wrong with an application.
    pub(super) fn warn(&self, application: impl fmt::Display, why: impl fmt::Display, what: &'static str) {
        if self.warnings.lock().take(Instant::now()) {
            tracing::warn!(%application, %why, "{what}");
        } else {
            tracing::debug!(%application, %why, "{what}");
        }
    }

    /// The public key, empty until there is one.
    pub(super) fn public_key(&self) -> Bytes {
        self.key.get().map(|key| key.public().clone()).unwrap_or_default()
    }

    /// The key that an answer is asked for with.
    pub(super) fn asked_key(&self) -> Bytes {
        match self.settings.encryption {
            Encryption::Rsa => self.public_key(),
            Encryption::Plaintext => Bytes::from_static(PLAINTEXT),
        }
    }

    /// Gives an application its place, and the wishes for its text.
    pub(super) fn connect(self: &Arc<Self>, peer: SocketAddr) -> (Place, mpsc::Receiver<Ask>) {
        let (asks, asked) = mpsc::channel(1);
        let application = Arc::new(Application {
            peer,
            asks,
            name: OnceLock::new(),
            failures: AtomicU32::new(0),
            last_words: Mutex::default(),
            left_out: Mutex::default(),
        });
        let mut connected = self.connected.lock();
        let number = connected.next;
        connected.next += 1;
        connected.by_number.insert(number, Arc::clone(&application));
        (Place { applications: Arc::clone(self), number, application }, asked)
    }

    /// Those that are connected, the first to come first.
    pub(super) fn connected(&self) -> Vec<Arc<Application>> {
        self.connected.lock().by_number.values().map(Arc::clone).collect()
    }

    /// Takes out of a text what another application brings to the log that is connected still: two that no label tells apart
    /// would have one counter go up and down. How many samples that were; and the samples, by index, of series that the
    /// application has from another.
    pub(super) fn keep_own(&self, application: &Arc<Application>, batch: &mut Batch) -> (u64, Vec<u32>) {
        let mut owners = self.owners.lock();
        let (mut left_out, mut kept, mut taken_over) = (Vec::new(), 0, Vec::new());
        let mut left_out_before = application.left_out.lock();
        batch.retain(|sample| {
            let owner = owners.entry(sample.series).or_default();
            let is_own = owner.upgrade().is_none_or(|owner| Arc::ptr_eq(&owner, application));
            if is_own {
                *owner = Arc::downgrade(application);
                if left_out_before.binary_search(&sample.series).is_ok() {
                    taken_over.push(kept);
                }
                kept += 1;
            } else {
                left_out.push(sample.series);
            }
            is_own
        });
        let duplicates = left_out.len() as u64;
        left_out.sort_unstable();
        *left_out_before = left_out;
        (duplicates, taken_over)
    }

    /// Series that nobody brings any more have no owner: also those of one that did not answer, so that who does has them next.
    pub(super) fn disown(&self, live: &[SeriesId]) {
        self.owners.lock().retain(|series, _| live.binary_search(series).is_ok());
    }

    /// Last words that are to be shown, the latest first.
    pub(super) fn last_words(&self) -> Vec<Arc<Batch>> {
        let mut left = self.left.lock();
        left.forget(Instant::now());
        left.words.iter().rev().map(|(_, words)| Arc::clone(words)).collect()
    }
}

impl Application {
    /// Asks for its text.
    pub(super) async fn ask(&self, within: Duration) -> Result<Sealed, Failure> {
        let (reply, answer) = oneshot::channel();
        match self.asks.try_send(Ask { reply }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(Failure::Stuck),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(Failure::Closed),
        }
        match timeout(within, answer).await {
            Ok(answered) => answered.unwrap_or(Err(Failure::Closed)),
            Err(_) => Err(Failure::Timeout(within)),
        }
    }

    /// What it pushed; the last push counts.
    pub(super) fn says_last(&self, words: Arc<Batch>) {
        *self.last_words.lock() = Some(words);
    }

    /// Learns what it is from its series.
    pub(super) fn introduce(&self, batch: &Batch, table: &SeriesTable) {
        if self.name.get().is_some() {
            return;
        }
        let Some(series) = batch.samples.first().and_then(|sample| table.series(sample.series)) else { return };
        let telling = TELLING_LABELS.iter().filter_map(|label| Some((label, series.label(label)?)));
        let shown = telling.map(|(label, value)| {
            let value: String = value.chars().filter(|shown| !shown.is_control()).take(NAME_CHARS_MAX).collect();
            format!("{label}={value}")
        });
        let _ = self.name.set(shown.collect::<Vec<_>>().join(","));
    }

    /// Notes how a scrape of it went. Where it went wrong and the one before did not, that is worth a warning.
    pub(super) fn note(&self, failed: Option<&Failure>) -> bool {
        if let Some(why) = failed {
            // Nothing is wrong with one that left.
            return self.failures.fetch_add(1, Ordering::Relaxed) == 0 && !matches!(why, Failure::Closed);
        }
        let failures = self.failures.swap(0, Ordering::Relaxed);
        if failures > 0 {
            tracing::info!(application = %self, failures, "an application can be scraped again");
        }
        false
    }
}

impl fmt::Display for Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.peer)?;
        match self.name.get() {
            Some(name) if !name.is_empty() => write!(f, " ({name})"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Format};

    fn batch(table: &SeriesTable) -> Arc<Batch> {
        BatchBuilder::new(table, Format::PrometheusText, Vec::new()).finish().into()
    }

    #[test]
    fn last_words_stay_for_a_while_and_the_oldest_make_room() {
        let (table, start, mut left) = (SeriesTable::default(), Instant::now(), Left::default());
        left.push(batch(&table), start);
        left.push(batch(&table), start + LAST_WORDS_KEPT / 2);
        assert_eq!(left.words.len(), 2);
        left.forget(start + LAST_WORDS_KEPT);
        assert_eq!(left.words.len(), 1);
        let mut large = Batch::clone(&batch(&table));
        large.samples.reserve_exact(LAST_WORDS_BYTES_MAX / 24 / 2);
        let large = Arc::new(large);
        (0..3).for_each(|_| left.push(Arc::clone(&large), start + LAST_WORDS_KEPT));
        assert!(left.words.len() == 1 && left.bytes <= LAST_WORDS_BYTES_MAX);
        left.forget(start + LAST_WORDS_KEPT * 2);
        assert_eq!((left.words.len(), left.bytes), (0, 0));
    }

    #[test]
    fn who_leaves_is_not_asked_any_more_and_leaves_its_words() {
        let table = SeriesTable::default();
        let applications = Arc::new(Applications::new(Rsocket::default()));
        let (place, _asks) = applications.connect(([192, 0, 2, 1], 1).into());
        place.application.says_last(batch(&table));
        assert_eq!((applications.connected().len(), applications.last_words().len()), (1, 0));
        drop(place);
        assert_eq!((applications.connected().len(), applications.last_words().len()), (0, 1));
        drop(applications.connect(([192, 0, 2, 1], 2).into()));
        assert_eq!(applications.last_words().len(), 1, "who says nothing leaves nothing");
    }

    #[test]
    fn warnings_are_bounded_in_time() {
        let start = Instant::now();
        let mut warnings = Warnings { since: start, given: 0 };
        let mut given = |at: Duration| (0..100).filter(|_| warnings.take(start + at)).count();
        assert_eq!([0, 9, 10, 25].map(|seconds| given(Duration::from_secs(seconds))), [20, 0, 20, 20]);
    }

    #[test]
    fn the_first_failure_is_worth_a_warning() {
        let applications = Arc::new(Applications::new(Rsocket::default()));
        let application = applications.connect(([192, 0, 2, 1], 7).into()).0.application.clone();
        let scrapes =
            [Some(Failure::Stuck), Some(Failure::Stuck), None, Some(Failure::Stuck), None, Some(Failure::Closed)];
        let warned = scrapes.each_ref().map(|failed| application.note(failed.as_ref()));
        assert_eq!(warned, [true, false, false, true, false, false]);
    }

    #[test]
    fn an_application_is_known_by_its_address_and_its_labels() {
        use crate::wire::prometheus_text::decode::{Options, decode};
        let table = SeriesTable::default();
        let mut builder = BatchBuilder::new(&table, Format::PrometheusText, Vec::new());
        let body = b"up{application_guid=\"g\\n1\",stream_name=\"s\",x=\"y\"} 1\n";
        assert_eq!(decode(body, &Options { now: 1, timestamp: None }, &mut builder).accepted, 1);
        let applications = Arc::new(Applications::new(Rsocket::default()));
        let (place, _asks) = applications.connect(([192, 0, 2, 1], 7).into());
        assert_eq!(place.application.to_string(), "192.0.2.1:7");
        place.application.introduce(&builder.finish(), &table);
        assert_eq!(place.application.to_string(), "192.0.2.1:7 (stream_name=s,application_guid=g1)");
    }
}
