//! Content encodings of request bodies, bounded after decompression as well as before.

use super::deflate::{Deflater, Piece};
use bytes::Bytes;
use std::io::Read;
use std::ops::Range;
use std::sync::OnceLock;

/// A `Content-Encoding` that requests may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950 (zlib); raw RFC 1951 is understood as well, since some clients send it under this name.
    Deflate,
    /// RFC 8878.
    Zstd,
    /// Snappy block format, as remote write uses it; never the framed format.
    Snappy,
}

impl Encoding {
    /// The encoding of a `Content-Encoding` header's value; none for a name that is not known here.
    pub fn from_header(value: &str) -> Option<Self> {
        match value.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(Self::Identity),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "zstd" => Some(Self::Zstd),
            "snappy" => Some(Self::Snappy),
            _ => None,
        }
    }
}

/// Why a body could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// It would be larger than allowed.
    #[error("the body is larger than {bytes_max} bytes after decompression")]
    TooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// It is not in the encoding that was declared, or ends early.
    #[error("the body is not valid {encoding:?}: {reason}")]
    Corrupt {
        /// The declared encoding.
        encoding: Encoding,
        /// What the decompressor said.
        reason: String,
    },
}

/// Decompresses a body into `out`, in place of what that holds; never grows it beyond `bytes_max`.
pub fn decompress(encoding: Encoding, body: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
    // Snappy writes over what is there: bytes that were zeroed once need not be zeroed for every body.
    if encoding != Encoding::Snappy {
        out.clear();
    }
    match encoding {
        Encoding::Identity => {
            if body.len() > bytes_max {
                return Err(DecompressError::TooLarge { bytes_max });
            }
            out.extend_from_slice(body);
            Ok(())
        }
        Encoding::Snappy => {
            let corrupt = |error: snap::Error| DecompressError::Corrupt { encoding, reason: error.to_string() };
            // The length is only a claim: it is checked before any memory is taken for it.
            let declared = snap::raw::decompress_len(body).map_err(corrupt)?;
            // Snappy expands at most 64 bytes out of 3; a larger claim cannot be honest.
            if declared > body.len().saturating_mul(32).saturating_add(64) {
                return Err(DecompressError::Corrupt {
                    encoding,
                    reason: format!("{declared} bytes declared, {} present", body.len()),
                });
            }
            if declared > bytes_max {
                return Err(DecompressError::TooLarge { bytes_max });
            }
            out.resize(declared, 0);
            let length =
                snap::raw::Decoder::new().decompress(body, out).inspect_err(|_| out.clear()).map_err(corrupt)?;
            out.truncate(length);
            Ok(())
        }
        Encoding::Gzip => read(encoding, flate2::read::MultiGzDecoder::new(body), bytes_max, out),
        Encoding::Deflate => match read(encoding, flate2::read::ZlibDecoder::new(body), bytes_max, out) {
            Err(DecompressError::Corrupt { .. }) => {
                out.clear();
                read(encoding, flate2::read::DeflateDecoder::new(body), bytes_max, out)
            }
            result => result,
        },
        Encoding::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(body)
                .and_then(|mut decoder| decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map(|()| decoder))
                .map_err(|error| DecompressError::Corrupt { encoding, reason: error.to_string() })?;
            read(encoding, decoder, bytes_max, out)
        }
    }
}

/// Largest zstd window: 8 MiB, what the format asks every decoder to support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

fn read(encoding: Encoding, decoder: impl Read, bytes_max: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
    decoder
        .take(bytes_max as u64 + 1)
        .read_to_end(out)
        .map_err(|error| DecompressError::Corrupt { encoding, reason: error.to_string() })?;
    if out.len() > bytes_max { Err(DecompressError::TooLarge { bytes_max }) } else { Ok(()) }
}

/// Magic number, method, no flags, no time, no hint, unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A body as gzip, at the speed that suits a body sent once.
pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut gzip = Gzip { expected: body.len() / 8, ..Gzip::default() };
    gzip.piece(body, 0..body.len(), Piece::Tokens);
    gzip.finish(body, body.len())
}

/// Writes gzip of texts that grow, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Gzip {
    deflater: Deflater,
    checksum: crc32fast::Hasher,
    /// Whether the text has begun.
    begun: bool,
    /// How long the stream is expected to get: as long as the one before.
    expected: usize,
}

impl Gzip {
    /// Takes a piece of the text.
    #[inline]
    pub(crate) fn piece(&mut self, text: &[u8], piece: Range<usize>, is: Piece) {
        if !self.begun {
            self.begin();
        }
        self.deflater.piece(text, piece, is);
    }

    #[cold]
    fn begin(&mut self) {
        let mut out = Vec::with_capacity(GZIP_HEADER.len() + self.expected);
        out.extend_from_slice(&GZIP_HEADER);
        self.deflater.begin(out);
        self.begun = true;
    }

    /// Tells that these bytes in front of the text will no longer be there.
    pub(crate) fn let_go(&mut self, bytes: &[u8]) {
        self.checksum.update(bytes);
        self.deflater.forget(bytes.len());
    }

    /// Ends a text, of whose length this is left. All of it was taken.
    pub(crate) fn finish(&mut self, rest: &[u8], len: usize) -> Vec<u8> {
        if !std::mem::take(&mut self.begun) {
            self.begin();
            self.begun = false;
        }
        self.checksum.update(rest);
        let mut out = self.deflater.finish();
        out.extend_from_slice(&std::mem::take(&mut self.checksum).finalize().to_le_bytes());
        out.extend_from_slice(&(len as u32).to_le_bytes());
        self.expected = out.len() + out.len() / 8;
        // Not lines that resemble each other, or few: who looks everywhere finds more.
        if out.len() > len / 2 { gzip_of_anything(rest, &out, len) } else { out }
    }
}

/// A text of which no more is there than this, the rest of it only as gzip.
#[cold]
fn gzip_of_anything(rest: &[u8], gzip: &[u8], len: usize) -> Vec<u8> {
    use std::io::Write;
    let mut text = Vec::new();
    if rest.len() < len {
        let read = decompress(Encoding::Gzip, gzip, len, &mut text);
        debug_assert!(read.is_ok(), "it does not decompress: {read:?}");
    }
    let text = if rest.len() < len { &text } else { rest };
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(len / 2), flate2::Compression::fast());
    // Writing to memory does not fail.
    let written = encoder.write_all(text).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

/// A body that is kept compressed; decompressed once, if somebody wants to see a part of it.
#[derive(Clone, Debug)]
pub struct Packed {
    encoding: Encoding,
    bytes: Bytes,
    plain_len: usize,
    plain: OnceLock<Vec<u8>>,
}

impl Packed {
    /// A body of `plain_len` bytes in that encoding.
    pub fn new(encoding: Encoding, bytes: Bytes, plain_len: usize) -> Self {
        Self { encoding, bytes, plain_len, plain: OnceLock::new() }
    }

    /// How it is compressed.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// As it is.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// As it was.
    pub fn plain(&self) -> &[u8] {
        self.plain.get_or_init(|| {
            let mut plain = Vec::new();
            let read = decompress(self.encoding, &self.bytes, self.plain_len, &mut plain);
            debug_assert!(read.is_ok(), "it does not decompress: {read:?}");
            plain
        })
    }
}

impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        (self.encoding, &self.bytes) == (other.encoding, &other.bytes)
    }
}

impl Eq for Packed {}

/// A body as one Snappy block.
pub fn snappy(body: &[u8]) -> Vec<u8> {
    // Fails only beyond 4 GiB; bodies are bounded far below.
    snap::raw::Encoder::new().compress_vec(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn samples() -> Vec<(Encoding, Vec<u8>)> {
        let body = b"cpu usage=1\n".repeat(1000);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&body).unwrap();
        let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        raw.write_all(&body).unwrap();
        vec![
            (Encoding::Identity, body.clone()),
            (Encoding::Gzip, gzip(&body)),
            (Encoding::Deflate, zlib.finish().unwrap()),
            (Encoding::Deflate, raw.finish().unwrap()),
            (Encoding::Zstd, zstd::encode_all(&body[..], 1).unwrap()),
            (Encoding::Snappy, snappy(&body)),
        ]
    }

    #[test]
    fn every_encoding_comes_back_and_respects_the_bound() {
        let mut out = Vec::new();
        for (encoding, body) in samples() {
            decompress(encoding, &body, 12_000, &mut out).unwrap();
            assert_eq!(out.len(), 12_000, "{encoding:?}");
            let error = decompress(encoding, &body, 11_999, &mut out).unwrap_err();
            assert!(matches!(error, DecompressError::TooLarge { .. }), "{encoding:?}: {error}");
        }
    }

    #[test]
    fn a_cut_body_is_corrupt() {
        let mut out = Vec::new();
        for (encoding, body) in samples().into_iter().skip(1) {
            let error = decompress(encoding, &body[..body.len() / 2], 1 << 20, &mut out).unwrap_err();
            assert!(matches!(error, DecompressError::Corrupt { .. }), "{encoding:?}: {error}");
        }
    }

    #[test]
    fn a_claim_of_gigabytes_takes_no_memory() {
        let mut out = Vec::new();
        let claim = [0xff, 0xff, 0xff, 0x7f, 0x00];
        assert!(decompress(Encoding::Snappy, &claim, 1 << 30, &mut out).is_err());
        assert!(out.capacity() < 1 << 20);
    }
}
