//! Files to chunks that can be decoded one after the other as if they were one body.
//!
//! * Line protocol is cut behind a whole row, Wavefront behind a line: what one read gave is handed on at once, so a filter
//!   behind a slow pipe is not late. An open quote that finds no end within [`PIECE_BYTES_MAX`] costs its line only.
//! * Expositions are cut in front of the declarations of a family. A family larger than [`PIECE_BYTES_MAX`] is cut between
//!   two lines; what it was declared as is known to the series table by then. Each chunk of OpenMetrics ends with an `# EOF`
//!   of its own, and lines behind the real one get it in front of them, so that they are refused.
//! * A message in protobuf is one chunk, bounded by [`MESSAGE_BYTES_MAX`].
//!
//! A line longer than [`PIECE_BYTES_MAX`] is handed out as its beginning, marked as too long.

use crate::model::Format;
use crate::wire::influx_line;
use indicatif::ProgressBar;
use memchr::{memchr, memchr_iter, memrchr};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What one read asks for.
const READ_BYTES: usize = 256 << 10;
/// Longest line, row or family that is kept together.
const PIECE_BYTES_MAX: usize = 8 << 20;
/// Largest protobuf message, before and after decompression.
pub(super) const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// What is kept of a line that is too long.
const BEGINNING_BYTES: usize = 1 << 10;
const EOF_LINE: &[u8] = b"# EOF\n";

/// Bytes to be decoded together.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The file, as messages name it.
    pub(super) name: Arc<str>,
    /// The number of the first line.
    pub(super) first_line: usize,
    pub(super) bytes: Vec<u8>,
    /// The bytes are the beginning of a line that is too long.
    pub(super) too_long: bool,
}

/// Reads files one after the other.
pub(super) struct Chunks {
    format: Format,
    files: VecDeque<PathBuf>,
    open: Option<Source>,
    progress: ProgressBar,
}

impl Chunks {
    /// The chunks of those files; `-` is standard input.
    pub(super) fn new(format: Format, files: Vec<PathBuf>, progress: ProgressBar) -> Self {
        Self { format, files: files.into(), open: None, progress }
    }

    /// The chunks of bytes in memory.
    pub(super) fn of(format: Format, bytes: Vec<u8>) -> Self {
        let open = Some(Source::new("-".into(), Box::new(io::Cursor::new(bytes)), ProgressBar::hidden()));
        Self { format, files: VecDeque::new(), open, progress: ProgressBar::hidden() }
    }

    /// The next chunk, none at the end of the last file. The error names its file.
    pub(super) fn next(&mut self) -> io::Result<Option<Chunk>> {
        loop {
            if let Some(source) = &mut self.open {
                match source.next(self.format) {
                    Ok(None) => {}
                    Ok(chunk) => return Ok(chunk),
                    Err(error) => return Err(io::Error::other(format!("{}: {error}", source.name))),
                }
            }
            let Some(path) = self.files.pop_front() else { return Ok(None) };
            let named = |error| io::Error::other(format!("{}: {error}", path.display()));
            let (name, reader) = open(&path).map_err(named)?;
            self.open = Some(Source::new(name, reader, self.progress.clone()));
        }
    }
}

/// Whether a path means standard input.
pub(super) fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn open(path: &Path) -> io::Result<(Arc<str>, Box<dyn Read + Send>)> {
    if is_standard_input(path) {
        return Ok(("<stdin>".into(), Box::new(io::stdin())));
    }
    Ok((path.to_string_lossy().into(), Box::new(File::open(path)?)))
}

/// A file being read.
struct Source {
    name: Arc<str>,
    reader: Box<dyn Read + Send>,
    progress: ProgressBar,
    buffer: Vec<u8>,
    /// The number of the line that the buffer begins with.
    line: usize,
    /// Everything is in the buffer.
    is_read: bool,
    /// The rest of a line that is too long is skipped.
    skipping: bool,
    families: Families,
    finished: bool,
}

impl Source {
    fn new(name: Arc<str>, reader: Box<dyn Read + Send>, progress: ProgressBar) -> Self {
        let families = Families::default();
        let (buffer, line) = (Vec::new(), 1);
        Self { name, reader, progress, buffer, line, is_read: false, skipping: false, families, finished: false }
    }

    fn next(&mut self, format: Format) -> io::Result<Option<Chunk>> {
        if matches!(format, Format::RemoteWrite | Format::RemoteWrite2) {
            return self.message();
        }
        loop {
            self.skip();
            if let Some(cut) = self.cut(format) {
                return Ok(Some(self.take(cut, format)));
            }
            if self.is_read {
                return Ok(self.last(format));
            }
            self.fill()?;
        }
    }

    fn message(&mut self) -> io::Result<Option<Chunk>> {
        if self.is_read {
            return Ok(None);
        }
        while !self.is_read {
            self.fill()?;
            if self.buffer.len() > MESSAGE_BYTES_MAX {
                return Err(io::Error::other(format!("the message is larger than {MESSAGE_BYTES_MAX} bytes")));
            }
        }
        let bytes = std::mem::take(&mut self.buffer);
        Ok(Some(Chunk { name: Arc::clone(&self.name), first_line: 1, bytes, too_long: false }))
    }

    /// Reads once.
    fn fill(&mut self) -> io::Result<()> {
        let length = self.buffer.len();
        self.buffer.resize(length + READ_BYTES, 0);
        let read = loop {
            match self.reader.read(&mut self.buffer[length..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
        let read = read?;
        self.is_read = read == 0;
        self.progress.inc(read as u64);
        Ok(())
    }

    /// Where the buffer can be cut; none when more has to be read, or nothing is left.
    fn cut(&mut self, format: Format) -> Option<usize> {
        let buffer = &self.buffer;
        let whole = match format {
            Format::InfluxLine => influx_line::decode::whole_rows(buffer),
            Format::PrometheusText | Format::OpenMetrics => self.families.cut(buffer, format),
            _ => memrchr(b'\n', buffer).map_or(0, |end| end + 1),
        };
        if whole > 0 {
            return Some(whole);
        }
        let must = buffer.len() >= PIECE_BYTES_MAX || self.is_read && !buffer.is_empty();
        must.then(|| match format {
            // What hangs together too long is cut behind its first line, or as late as possible.
            Format::InfluxLine => memchr(b'\n', buffer).map_or(buffer.len(), |end| end + 1),
            _ if self.is_read => buffer.len(),
            _ => memrchr(b'\n', buffer).map_or(buffer.len(), |end| end + 1),
        })
    }

    fn take(&mut self, cut: usize, format: Format) -> Chunk {
        let mut rest = Vec::with_capacity(self.buffer.len() - cut + READ_BYTES);
        rest.extend_from_slice(&self.buffer[cut..]);
        let mut bytes = std::mem::replace(&mut self.buffer, rest);
        bytes.truncate(cut);
        let mut first_line = self.line;
        self.line += memchr_iter(b'\n', &bytes).count();
        let too_long = cut >= PIECE_BYTES_MAX && memchr(b'\n', &bytes).is_none();
        if too_long {
            self.skipping = !self.is_read;
            bytes.truncate(BEGINNING_BYTES);
        } else if format == Format::OpenMetrics {
            if self.families.is_behind_eof() {
                bytes.splice(..0, EOF_LINE.iter().copied());
                first_line -= 1;
            } else if !(self.families.at_eof() || self.is_read && self.buffer.is_empty()) {
                bytes.extend_from_slice(EOF_LINE);
            }
        }
        self.families.begin(cut);
        self.finished = self.is_read && self.buffer.is_empty();
        Chunk { name: Arc::clone(&self.name), first_line, bytes, too_long }
    }

    /// An exposition of OpenMetrics whose end was not seen is judged even when nothing is left of it.
    fn last(&mut self, format: Format) -> Option<Chunk> {
        let judged = self.finished || format != Format::OpenMetrics || self.families.has_eof();
        self.finished = true;
        let chunk =
            || Chunk { name: Arc::clone(&self.name), first_line: self.line, bytes: Vec::new(), too_long: false };
        (!judged).then(chunk)
    }

    /// Drops the rest of a line that is too long.
    fn skip(&mut self) {
        if !self.skipping {
            return;
        }
        let end = memchr(b'\n', &self.buffer);
        self.buffer.drain(..end.map_or(self.buffer.len(), |end| end + 1));
        if end.is_some() {
            self.skipping = false;
            self.line += 1;
        }
    }
}

/// Where the families of an exposition begin, found line by line.
#[derive(Debug, Default)]
struct Families {
    /// Lines are looked at up to here.
    looked: usize,
    /// The last place to cut at.
    border: usize,
    /// The line before was a declaration.
    declares: bool,
    /// There was a declaration. Until then, any line end is a border.
    declared: bool,
    eof: Eof,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Eof {
    #[default]
    Ahead,
    /// The next cut is right behind it.
    Here,
    Behind,
}

impl Families {
    fn cut(&mut self, buffer: &[u8], format: Format) -> usize {
        while self.eof != Eof::Here
            && let Some(length) = memchr(b'\n', &buffer[self.looked..])
        {
            let start = self.looked;
            let line = &buffer[start..start + length];
            self.looked = start + length + 1;
            let declares = is_declaration(line);
            if declares && !self.declares {
                self.border = start;
            }
            self.declares = declares;
            self.declared |= declares;
            if !self.declared || self.eof == Eof::Behind {
                self.border = self.looked;
            }
            if format == Format::OpenMetrics && self.eof == Eof::Ahead && line == EOF_LINE.trim_ascii_end() {
                self.eof = Eof::Here;
                self.border = self.looked;
            }
        }
        self.border
    }

    /// The buffer was cut there.
    fn begin(&mut self, cut: usize) {
        self.looked = self.looked.saturating_sub(cut);
        self.border = 0;
        if self.eof == Eof::Here {
            self.eof = Eof::Behind;
        }
    }

    fn at_eof(&self) -> bool {
        self.eof == Eof::Here
    }

    fn is_behind_eof(&self) -> bool {
        self.eof == Eof::Behind
    }

    fn has_eof(&self) -> bool {
        self.eof != Eof::Ahead
    }
}

/// Whether a line is `# HELP`, `# TYPE` or `# UNIT`, however it is spaced.
fn is_declaration(line: &[u8]) -> bool {
    if !line.trim_ascii_start().starts_with(b"#") {
        return false;
    }
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.next() == Some(b"#") && matches!(words.next(), Some(b"HELP" | b"TYPE" | b"UNIT"))
}

#[cfg(test)]
mod tests {
    use super::super::Styles;
    use super::super::decode::Decoder;
    use super::*;
    use proptest::prelude::*;

    /// Gives a few bytes at a time.
    struct Trickle(Vec<u8>, usize);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0.drain(..length);
            Ok(length)
        }
    }

    fn chunks(format: Format, body: &[u8], step: usize) -> Vec<Chunk> {
        let reader = Box::new(Trickle(body.to_vec(), step));
        let open = Some(Source::new("x".into(), reader, ProgressBar::hidden()));
        let mut chunks = Chunks { format, files: VecDeque::new(), open, progress: ProgressBar::hidden() };
        std::iter::from_fn(|| chunks.next().unwrap()).collect()
    }

    /// Each sample with its line; the first refusal for each reason, and how many there are.
    fn meaning(format: Format, chunks: Vec<Chunk>) -> (Vec<String>, Vec<String>, u64) {
        let mut decoder = Decoder::new(format, &Styles::default());
        let (mut samples, mut refusals, mut refused) = (Vec::new(), Vec::<String>::new(), 0);
        for chunk in chunks {
            let decoded = decoder.decode(chunk, 7).unwrap();
            for (index, sample) in decoded.batch.samples.iter().enumerate() {
                let series = decoded.table.series(sample.series).unwrap();
                let labels: Vec<_> = series.labels.iter().map(|pair| (&pair.name, &pair.value)).collect();
                let (value, start) = (decoded.batch.value(sample), decoded.batch.start_of(index));
                let place = decoded.place_of(index);
                samples.push(format!("{place} {:?}{labels:?} {value:?} {} {start:?}", series.name, sample.timestamp));
            }
            for first in &decoded.report.first {
                let reason = first.reason.as_str();
                if !refusals.iter().any(|known| known.ends_with(reason)) {
                    refusals.push(format!("{} {reason}", decoded.place(first.line)));
                }
            }
            refused += decoded.report.refused();
        }
        (samples, refusals, refused)
    }

    fn means_the_same_in_pieces(format: Format, body: &[u8]) {
        let whole = meaning(format, chunks(format, body, body.len().max(1)));
        for step in 1..body.len() {
            assert_eq!(meaning(format, chunks(format, body, step)), whole, "{format:?} by {step}");
        }
    }

    #[test]
    fn chunks_mean_the_same_however_the_bytes_arrive() {
        let lines =
            b"a f=1 1\n# it's =\"not a string\n\nb s=\"x\ny\\\"z\n\",t=2i 2\r\nbad\nc\\ d,e=\"q f=3 3\nlast f=4";
        means_the_same_in_pieces(Format::InfluxLine, lines);
        means_the_same_in_pieces(Format::Wavefront, b"a 1 source=s\n\n@Event\nb 2 source=s\nlast 3");
        let text = b"z 1\n# HELP a h\n# TYPE a counter\na 1\na{b=\"#\"} 2\n# plain\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum x\n# TYPE g gauge\ng 1";
        means_the_same_in_pieces(Format::PrometheusText, text);
        let created = "# TYPE a counter\na_total 1 # {t=\"x\"} 1\na_created 5\na_total{b=\"c\"} 1\na_created{b=\"c\"} 6\n# TYPE b gauge\nb 1\n";
        for end in ["# EOF\n", "# EOF", "", "# EOF\nc 1\nd 2\n", "c"] {
            means_the_same_in_pieces(Format::OpenMetrics, format!("{created}{end}").as_bytes());
        }
        assert_eq!(meaning(Format::OpenMetrics, chunks(Format::OpenMetrics, b"", 1)).2, 1, "no `# EOF`");
        assert!(chunks(Format::InfluxLine, b"", 1).is_empty());
    }

    #[test]
    fn an_open_quote_costs_its_line_only() {
        let body = b"a s=\"open 1\nb f=1 2\nc f=2 3\n";
        let (samples, refusals, refused) = meaning(Format::InfluxLine, chunks(Format::InfluxLine, body, 9));
        assert_eq!((samples.len(), refusals, refused), (2, vec!["x:1 syntax".to_owned()], 1));
    }

    #[test]
    fn a_line_without_end_is_refused_and_skipped() {
        let long = vec![b'x'; PIECE_BYTES_MAX + READ_BYTES];
        let body = [b"a f=1 1\n", &long[..], b"\nb f=2 2\n"].concat();
        for format in [Format::InfluxLine, Format::Wavefront, Format::PrometheusText] {
            let pieces = chunks(format, &body, READ_BYTES);
            assert!(pieces.iter().all(|chunk| chunk.bytes.len() <= PIECE_BYTES_MAX + READ_BYTES), "{format:?}");
            let first: Vec<_> = pieces.iter().map(|chunk| (chunk.first_line, chunk.too_long)).collect();
            assert_eq!(first.last(), Some(&(3, false)), "{format:?}: {first:?}");
            assert_eq!(first.iter().filter(|(line, too_long)| *too_long && *line == 2).count(), 1, "{first:?}");
        }
    }

    proptest! {
        #[test]
        fn any_good_lines_mean_the_same_in_pieces(
            rows in prop::collection::vec(("[a-c]", "[a-z =,\"\\\\\n#]{0,8}", any::<bool>()), 1..8),
            step in 1_usize..40,
        ) {
            let row = |(name, text, tag): &(String, String, bool)| {
                let text = text.replace('\\', "\\\\").replace('"', "\\\"");
                format!("{name}{} s=\"{text}\",n=1i 5\n", if *tag { ",t=x\\ \"y" } else { "" })
            };
            let body: String = rows.iter().map(row).collect();
            let whole = meaning(Format::InfluxLine, chunks(Format::InfluxLine, body.as_bytes(), body.len()));
            prop_assert_eq!(whole.2, 0);
            prop_assert_eq!(meaning(Format::InfluxLine, chunks(Format::InfluxLine, body.as_bytes(), step)), whole);
        }
    }
}
