//! Dead letters: what a destination refused for good, kept with its words, to be looked at and sent again.
//!
//! ```text
//! <log.dir>/dead_letters/<output>.jsonl          one JSON object a line: a Letter; the output's name is percent-encoded
//! <log.dir>/dead_letters/<output>.old.jsonl      the generation before it
//! <log.dir>/dead_letters/<output>.replay.jsonl   letters that the next start of the gateway sends again
//! ```
//!
//! * A letter is written and fsynced before its samples are settled as dropped. After a crash in between, the same samples are
//!   sent and refused once more, and the letter is there twice.
//! * Two generations of half the bound each: a full one takes the place of the older one, whose letters are discarded and
//!   counted. So are letters that the disk does not take: the output goes on, and so does the log.
//! * A line that cannot be read, such as the torn last one after a crash, costs that letter only; commands say so.
//! * The ledger knows such samples as dropped for good, and replay does not change that: what it delivers is counted apart
//!   ([`OutputAccount::note_replayed`]).

use super::remote_write::series;
use super::search::Refusal;
use super::shipment::Purpose;
use crate::ledger::OutputAccount;
use crate::log::{Disk, LogError, Storage, decoded_name, encoded_name};
use crate::model::{Format, TimestampNs};
use crate::wire::{Body, Cut};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Characters of a destination's answer that are kept.
const WORDS_MAX: usize = 2000;
/// The longest line that is read: a body of [`crate::config::Queue::body_bytes_max`] and more, in base64.
const LINE_BYTES_MAX: u64 = 64 << 20;

const CURRENT: &str = ".jsonl";
const OLD: &str = ".old.jsonl";
const REPLAY: &str = ".replay.jsonl";
const UNFINISHED: &str = ".tmp";

/// A refused piece of a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// When it was refused, RFC 3339.
    pub time: String,
    /// The status of the answer.
    pub status: u16,
    /// What the destination said.
    pub words: String,
    /// What else is to be known: that not all of these samples were refused, or that a search was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Samples in it.
    pub samples: u64,
    /// What it is encoded in: `influx_line`, `wavefront`, `remote_write` or `remote_write2`.
    pub format: String,
    #[serde(flatten)]
    bytes: Encoded,
    /// Bytes at the beginning that every piece needs.
    #[serde(default, skip_serializing_if = "is_zero")]
    prefix: usize,
    /// Where each piece ends behind them, its samples, and how many a destination counts in it.
    cuts: Vec<(usize, u32, u32)>,
}

/// Lines as they are, protobuf in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoded {
    Text(String),
    Base64(String),
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Letter {
    /// A letter of what was refused of that body.
    pub fn new(format: Format, body: &Body, refusal: &Refusal, now: TimestampNs) -> Self {
        let own = if body.prefix.is_empty() { None } else { series::with_own_symbols(body, &refusal.pieces) };
        let (mut prefix, mut bytes, mut cuts) = (body.prefix.as_slice(), Vec::new(), Vec::new());
        for piece in refusal.pieces.iter() {
            bytes.extend_from_slice(body.run(piece..piece + 1));
            cuts.push((bytes.len(), body.cuts[piece].samples, body.cuts[piece].on_wire));
        }
        if let Some(own) = &own {
            prefix = &own.prefix;
            bytes.clone_from(&own.bytes);
            cuts = own.cuts.iter().map(|cut| (cut.end, cut.samples, cut.on_wire)).collect();
        }
        let all = [prefix, &bytes].concat();
        let is_text = matches!(format, Format::InfluxLine | Format::Wavefront);
        let bytes = match String::from_utf8(all) {
            Ok(text) if is_text => Encoded::Text(text),
            Ok(text) => Encoded::Base64(STANDARD.encode(text)),
            Err(error) => Encoded::Base64(STANDARD.encode(error.as_bytes())),
        };
        Self {
            time: rfc3339(now),
            status: refusal.status,
            words: refusal.words.chars().take(WORDS_MAX).collect(),
            note: refusal.note.clone(),
            samples: refusal.pieces.samples(body),
            format: format.as_str().to_owned(),
            bytes,
            prefix: prefix.len(),
            cuts,
        }
    }

    /// The format it is encoded in; none if it is not one that outputs write.
    pub fn format(&self) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.as_str() == self.format)
    }

    /// What it is for, and the body to be sent again. None if the letter does not fit together.
    pub fn body(&self) -> Option<(Purpose, Body)> {
        let mut prefix = match &self.bytes {
            Encoded::Text(text) => text.clone().into_bytes(),
            Encoded::Base64(text) => STANDARD.decode(text).ok()?,
        };
        if self.prefix > prefix.len() {
            return None;
        }
        let bytes = prefix.split_off(self.prefix);
        let cut = |&(end, samples, on_wire): &_| Cut { end, samples, on_wire };
        let cuts: Vec<_> = self.cuts.iter().map(cut).collect();
        let fits = cuts.is_sorted_by_key(|cut| cut.end) && cuts.last().is_some_and(|last| last.end == bytes.len());
        let is_distributions = self.format() == Some(Format::Wavefront) && bytes.starts_with(b"!");
        let purpose = if is_distributions { Purpose::Distributions } else { Purpose::Samples };
        fits.then_some((purpose, Body { prefix, bytes, cuts, ..Body::default() }))
    }

    /// As one line of a file.
    fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// RFC 3339, in UTC.
fn rfc3339(at: TimestampNs) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at)).map_or_else(|_| format!("{at}ns"), |time| time.to_string())
}

/// The dead letters of one output of a running gateway.
#[derive(Debug)]
pub struct DeadLetters {
    dir: PathBuf,
    name: String,
    generation_bytes_max: u64,
    account: Arc<OutputAccount>,
    /// Samples in the present generation and in the older one.
    kept: Mutex<[u64; 2]>,
}

impl DeadLetters {
    /// The letters of the output of that account, beside the log in `log_dir`. Reads what is there; nothing is created before
    /// the first letter. Blocking.
    pub fn new(log_dir: &Path, bytes_max: u64, account: Arc<OutputAccount>) -> Self {
        let name = account.name.clone();
        let dir = dir_in(log_dir);
        let kept = [CURRENT, OLD].map(|end| samples(&path(&dir, &name, end)));
        account.note_dead_letters(kept.iter().sum(), 0);
        Self { dir, name, generation_bytes_max: bytes_max / 2, account, kept: Mutex::new(kept) }
    }

    /// Where the letters are that are to be sent again.
    pub fn replay_path(&self) -> PathBuf {
        path(&self.dir, &self.name, REPLAY)
    }

    /// Keeps letters: when it returns they are safe, or counted as discarded. Blocking.
    pub fn keep(&self, letters: &[Letter]) {
        let mut kept = self.kept.lock();
        let mut discarded = 0;
        let mut waiting = (Vec::new(), 0);
        let mut room = self.room();
        for letter in letters {
            let line = letter.line();
            let bytes = line.len() as u64;
            if bytes > self.generation_bytes_max {
                discarded += letter.samples;
                continue;
            }
            if bytes > room {
                discarded += self.flush(&mut kept, &mut waiting);
                discarded += self.begin_generation(&mut kept);
                room = self.room();
            }
            room = room.saturating_sub(bytes);
            waiting.0.extend_from_slice(&line);
            waiting.1 += letter.samples;
        }
        discarded += self.flush(&mut kept, &mut waiting);
        self.account.note_dead_letters(kept.iter().sum(), discarded);
    }

    /// Bytes that the present generation may yet take.
    fn room(&self) -> u64 {
        let taken = fs::metadata(path(&self.dir, &self.name, CURRENT)).map_or(0, |file| file.len());
        self.generation_bytes_max.saturating_sub(taken)
    }

    /// Writes what waits; the samples that the disk did not take.
    fn flush(&self, kept: &mut [u64; 2], waiting: &mut (Vec<u8>, u64)) -> u64 {
        let (bytes, samples) = std::mem::take(waiting);
        if bytes.is_empty() {
            return 0;
        }
        match self.append(&bytes) {
            Ok(()) => {
                kept[0] += samples;
                0
            }
            Err(error) => {
                tracing::error!(output = self.name, %error, samples, "dead letters cannot be written; their content is lost");
                samples
            }
        }
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let path = path(&self.dir, &self.name, CURRENT);
        let is_new = !path.exists();
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
        let len = file.metadata()?.len();
        let written =
            end_torn_line(&mut file, len).and_then(|()| file.write_all(bytes)).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // What stays of it nonetheless is read as a torn line, or as a letter that was kept against expectation.
            let _ = file.set_len(len);
            return Err(error);
        }
        if is_new {
            Disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// Makes the present generation the older one; the samples that had been that.
    fn begin_generation(&self, kept: &mut [u64; 2]) -> u64 {
        let [current, old] = [CURRENT, OLD].map(|end| path(&self.dir, &self.name, end));
        if let Err(error) = fs::rename(current, old) {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::error!(output = self.name, %error, "dead letters cannot begin another generation");
            }
            return 0;
        }
        let [current, discarded] = *kept;
        *kept = [0, current];
        discarded
    }
}

/// Ends a last line that a crash tore, so that the next letter has a line of its own.
fn end_torn_line(file: &mut File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(len - 1))?;
    file.read_exact(&mut last)?;
    if last == [b'\n'] { Ok(()) } else { file.write_all(b"\n") }
}

fn dir_in(log_dir: &Path) -> PathBuf {
    log_dir.join("dead_letters")
}

fn path(dir: &Path, name: &str, end: &str) -> PathBuf {
    dir.join(encoded_name(name) + end)
}

/// The letters in a file; none if there is no such file. [`io::ErrorKind::InvalidData`] is a line that cannot be read, and the
/// next one follows; any other error is the end.
pub fn read(path: &Path) -> impl Iterator<Item = io::Result<Letter>> + use<> {
    let mut lines = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        file => Some(file.map(BufReader::new)),
    };
    let mut line = Vec::new();
    std::iter::from_fn(move || {
        let read = match lines.take()? {
            Ok(file) => {
                line.clear();
                let mut limited = file.take(LINE_BYTES_MAX);
                let read = limited.read_until(b'\n', &mut line);
                lines = Some(Ok(limited.into_inner()));
                read
            }
            Err(error) => Err(error),
        };
        match read {
            Ok(0) => lines = None,
            Ok(_) => return Some(serde_json::from_slice(&line).map_err(unreadable)),
            Err(error) => {
                lines = None;
                return Some(Err(error));
            }
        }
        None
    })
}

fn unreadable(error: serde_json::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Samples in the letters of a file, as far as they can be read.
fn samples(path: &Path) -> u64 {
    read(path).flatten().map(|letter| letter.samples).sum()
}

/// The dead letters of one output at a glance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Letters.
    pub letters: u64,
    /// Samples in them.
    pub samples: u64,
    /// Samples that the next start of the gateway sends again.
    pub queued: u64,
    /// Lines that cannot be read.
    pub unreadable: u64,
}

/// The dead letters beside the log in `log_dir`, by output.
pub fn list(log_dir: &Path) -> Result<BTreeMap<String, Summary>, LogError> {
    let dir = dir_in(log_dir);
    let files = match Disk.list(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        files => files.map_err(|source| LogError::Storage { path: dir.clone(), source })?,
    };
    let mut outputs = BTreeMap::<String, Summary>::new();
    for file in files {
        let Some((encoded, end)) = file.split_once('.') else { continue };
        let end = format!(".{end}");
        if ![CURRENT, OLD, REPLAY].contains(&end.as_str()) {
            continue;
        }
        let summary = outputs.entry(decoded_name(encoded)).or_default();
        for letter in read(&dir.join(&file)) {
            match letter {
                Err(_) => summary.unreadable += 1,
                Ok(letter) if end == REPLAY => summary.queued += letter.samples,
                Ok(letter) => {
                    summary.letters += 1;
                    summary.samples += letter.samples;
                }
            }
        }
    }
    Ok(outputs)
}

/// The dead letters of an output, oldest first, as [`read`] gives them.
pub fn letters(log_dir: &Path, output: &str) -> impl Iterator<Item = io::Result<Letter>> + use<> {
    let dir = dir_in(log_dir);
    [OLD, CURRENT].map(|end| path(&dir, output, end)).into_iter().flat_map(|path| read(&path))
}

/// Puts an output's dead letters where the next start of the gateway finds them to send them again, behind those that wait
/// there already. Returns the samples that wait then. Refused while another process has the log open.
pub fn queue_replay(log_dir: &Path, output: &str) -> Result<u64, LogError> {
    let dir = dir_in(log_dir);
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| LogError::Storage { path, source }
    };
    let lock = log_dir.join("lock");
    let _lock = Disk.lock(&lock).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => LogError::Locked(log_dir.to_owned()),
        _ => at(&lock)(error),
    })?;
    let [replay, old, current, unfinished] = [REPLAY, OLD, CURRENT, UNFINISHED].map(|end| path(&dir, output, end));
    queue(&dir, [&replay, &old, &current], &unfinished).map_err(at(&replay))?;
    Ok(samples(&replay))
}

/// All letters into one file that takes its name when it is whole, then the sources go: after a crash in between, letters are
/// there twice.
fn queue(dir: &Path, [replay, old, current]: [&Path; 3], unfinished: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(unfinished)?;
    for source in [replay, old, current] {
        match File::open(source).and_then(|mut source| io::copy(&mut source, &mut file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let len = file.metadata()?.len();
        end_torn_line(&mut file, len)?;
    }
    file.sync_all()?;
    fs::rename(unfinished, replay)?;
    Disk.sync_dir(dir)?;
    for source in [old, current] {
        match fs::remove_file(source) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Disk.sync_dir(dir)
}

/// Forgets the letters that were to be sent again: all are settled.
pub fn forget(replay_path: &Path) -> io::Result<()> {
    fs::remove_file(replay_path)?;
    replay_path.parent().map_or(Ok(()), |dir| Disk.sync_dir(dir))
}

#[cfg(test)]
mod tests;
