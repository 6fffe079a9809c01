//! Pushes on disk, so that groups outlive the process: a file a push, with the body as it came over the wire.
//!
//! ```text
//! <log.dir>/pushed/<number>.push      {"version":1,"crc32c":N,"head":{...}}\n and the body
//! ```
//!
//! * Numbers only grow. To read a group again is to decode its pushes in their order, as if they had just come: there is no
//!   second notation of series, histograms and exemplars, and the decoder is the loader.
//! * A file takes its name when it is whole and, with `log.ack: durable`, safe (temporary file, fsync, rename, fsync of the
//!   directory). It is never changed, and goes when a later push has replaced the last of its families. So a `POST` writes what it
//!   brings, however much else the group has.
//! * The checksum is over the head and the body. What cannot be read, or is of a later version, never stops the start and is
//!   never deleted: it is set aside and told as a damaged file of the log is. So is a push whose group does not fit any more.
//!
//! Two alternatives were weighed. *A file a group, with the values of its series*: every push writes all of the group, twice as
//! much code (each kind of value written and read once more), and no smaller files. *One file for all, saved every now and then*,
//! as the Pushgateway does: one fsync for any number of pushes, but all groups are written each time (10 MB for 1,000 of 50
//! series), and a crash forgets what was pushed since. A file a push costs two fsyncs: a push takes 1.2 ms where the import of the
//! same text takes 0.5 (ext4 on a virtual disk); a push comes once a minute or once a job.

use super::groups::Grouping;
use crate::log::{self, Ack, Aside, Log};
use crate::model::TimestampNs;
use crate::wire::Report;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EXTENSION: &str = ".push";
const UNFINISHED: &str = ".tmp";
const VERSION: u64 = 1;
/// A head is an address, two media types and two times.
const HEAD_BYTES_MAX: usize = 1 << 20;

/// A push as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Push {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
}

/// What was said beside the body of a push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// Labels of the address.
    pub(super) grouping: Grouping,
    /// Whether it is the whole group (`PUT`).
    pub(super) replaces: bool,
    /// `Content-Type`.
    pub(super) content_type: String,
    /// `Content-Encoding`.
    pub(super) content_encoding: String,
    /// When it came.
    pub(super) stamps: Stamps,
}

/// When a group was changed last, and when that last failed; 0 for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stamps {
    pub(super) pushed_at: TimestampNs,
    pub(super) failed_at: TimestampNs,
}

impl Stamps {
    /// When it was last touched.
    pub(super) fn latest(self) -> TimestampNs {
        self.pushed_at.max(self.failed_at)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstLine {
    version: u64,
    crc32c: u32,
    head: Head,
}

impl Push {
    /// One to that group, of nothing.
    pub(super) fn of(grouping: Grouping) -> Self {
        let (content_type, content_encoding, stamps) = (String::new(), String::new(), Stamps::default());
        let head = Head { grouping, replaces: false, content_type, content_encoding, stamps };
        Self { head, body: Vec::new() }
    }

    fn checksum(&self) -> u32 {
        let meaning = (VERSION, &self.head);
        let head = serde_json::to_vec(&meaning).map_or(0, |bytes| crc32c::crc32c(&bytes));
        crc32c::crc32c_append(head, &self.body)
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let line = FirstLine { version: VERSION, crc32c: self.checksum(), head: self.head.clone() };
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.body);
        Ok(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Aside> {
        let end = memchr::memchr(b'\n', bytes).ok_or(Aside::Damaged)?;
        let (line, body) = (&bytes[..end], &bytes[end + 1..]);
        let any: serde_json::Value = serde_json::from_slice(line).map_err(|_| Aside::Damaged)?;
        if any["version"].as_u64() > Some(VERSION) {
            return Err(Aside::Newer);
        }
        let FirstLine { crc32c, head, .. } = serde_json::from_value(any).map_err(|_| Aside::Damaged)?;
        let push = Self { head, body: body.to_vec() };
        if push.checksum() == crc32c { Ok(push) } else { Err(Aside::Damaged) }
    }

    /// What its file takes.
    pub(super) fn bytes(&self) -> usize {
        let Head { grouping, content_type, content_encoding, .. } = &self.head;
        let address: usize = grouping.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.body.len() + address + content_type.len() + content_encoding.len()
    }
}

/// The files. Everything here blocks.
#[derive(Clone, Debug)]
pub(super) struct Pushes {
    log: Arc<Log>,
    dir: PathBuf,
    file_bytes_max: usize,
}

impl Pushes {
    /// Those beside that log, none of them larger than that.
    pub(super) fn new(log: Arc<Log>, file_bytes_max: usize) -> Self {
        let dir = log.dir().join("pushed");
        Self { log, dir, file_bytes_max: file_bytes_max.saturating_add(HEAD_BYTES_MAX) }
    }

    /// Creates the directory and lists what is in it, in the order in which it came; and the last number of all, also of what
    /// was set aside: given again, it would be in the way of who gives such a file its name back. What a crash left unfinished
    /// goes.
    pub(super) fn open(&self) -> io::Result<(Vec<u64>, Option<u64>)> {
        let storage = self.log.storage();
        storage.create_dir(&self.dir)?;
        storage.sync_dir(self.log.dir())?;
        let (mut numbers, mut last) = (Vec::new(), None);
        for file in storage.list(&self.dir)? {
            let number = file.split('.').next().and_then(|number| number.parse::<u64>().ok());
            last = last.max(number);
            if file.ends_with(EXTENSION) {
                numbers.extend(number);
            } else if file.ends_with(UNFINISHED) {
                storage.remove(&self.dir.join(file))?;
            }
        }
        numbers.sort_unstable();
        Ok((numbers, last))
    }

    /// Keeps a push: when it returns, the push outlives the process, and with `log.ack: durable` a power failure.
    pub(super) fn save(&self, number: u64, push: &Push) -> io::Result<()> {
        let storage = self.log.storage();
        storage.create_dir(&self.dir)?;
        log::replace(storage, &self.path(number), &push.encode()?, self.log.ack() == Ack::Durable)
    }

    /// Removes pushes that are replaced.
    pub(super) fn remove(&self, numbers: &[u64]) -> io::Result<()> {
        numbers.iter().try_for_each(|number| log::remove(self.log.storage(), &self.path(*number)))
    }

    /// Makes what was saved and removed safe, as far as the log does so.
    pub(super) fn settle(&self) -> io::Result<()> {
        if self.log.ack() == Ack::Durable { self.log.storage().sync_dir(&self.dir) } else { Ok(()) }
    }

    /// Reads a push; none when that cannot be done, which is told.
    pub(super) fn load(&self, number: u64) -> Option<Push> {
        let path = self.path(number);
        let read = || {
            let mut file = self.log.storage().open(&path, false)?;
            let mut bytes = Vec::new();
            file.read_at(0, self.file_bytes_max.saturating_add(1), &mut bytes)?;
            Ok::<_, io::Error>(bytes)
        };
        let push = match read() {
            Ok(bytes) if bytes.len() > self.file_bytes_max => Err(Aside::Damaged),
            Ok(bytes) => Push::decode(&bytes),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "a push cannot be read");
                Err(Aside::Damaged)
            }
        };
        push.inspect_err(|why| self.set_aside(number, *why)).ok()
    }

    /// Keeps a push for people.
    pub(super) fn set_aside(&self, number: u64, why: Aside) {
        let path = self.path(number);
        if let Err(error) = self.log.set_aside(&path, why) {
            tracing::error!(path = %path.display(), %error, "a push that is not taken up again cannot be set aside either");
        }
    }

    /// Tells that part of a push is not taken any more.
    pub(super) fn tell_refused(&self, number: u64, report: &Report) {
        let (path, refused) = (self.path(number), report.refused());
        let first = report.first.first().map_or("", |refused| &refused.message);
        tracing::warn!(path = %path.display(), refused, first, "part of a push that was kept is not taken any more");
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number}{EXTENSION}"))
    }

    /// Where they are.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push() -> Push {
        let grouping = vec![("instance".to_owned(), "i/\n\"1".to_owned()), ("job".to_owned(), "j".to_owned())];
        let stamps = Stamps { pushed_at: 1_700_000_000_123_456_789, failed_at: 0 };
        let (content_type, content_encoding) = ("text/plain; version=0.0.4".to_owned(), "gzip".to_owned());
        Push {
            head: Head { grouping, replaces: true, content_type, content_encoding, stamps },
            body: b"a 1\n\n\xff".to_vec(),
        }
    }

    #[test]
    fn a_push_comes_back_as_it_was() {
        assert_eq!(Push::decode(&push().encode().unwrap()), Ok(push()));
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        let bytes = push().encode().unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let read = Push::decode(&changed);
                assert!(read.is_err() || read == Ok(push()), "byte {at}, bit {bit}: {read:?}");
            }
        }
        for end in 0..bytes.len() {
            assert_eq!(Push::decode(&bytes[..end]), Err(Aside::Damaged), "cut at {end}");
        }
    }

    #[test]
    fn a_push_of_a_later_version_is_told_from_damage() {
        let later = String::from_utf8_lossy(&push().encode().unwrap()).replacen("\"version\":1", "\"version\":2", 1);
        assert_eq!(Push::decode(later.as_bytes()), Err(Aside::Newer));
    }
}
