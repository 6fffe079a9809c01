//! SETUP: how a client begins.
//!
//! ```text
//! 0       2       4               8              12
//! +-------+-------+---------------+---------------+-------------------+----------+----------+---------
//! | major | minor | keepalive, ms | lifetime, ms  | token, if RESUME  | MIME     | MIME     | payload
//! | 1     | 0     |               |               | 2 bytes of length | 1 of it  | 1 of it  |
//! +-------+-------+---------------+---------------+-------------------+----------+----------+---------
//! ```

use super::Flags;
use std::time::Duration;

/// What a client says of the connection. Its MIME types and its payload are of no interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingest::rsocket) struct Setup {
    /// How often it sends KEEPALIVE.
    pub(in crate::ingest::rsocket) keepalive: Duration,
    /// After how much silence it gives the connection up.
    pub(in crate::ingest::rsocket) lifetime: Duration,
}

/// A SETUP that cannot be granted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::ingest::rsocket) enum SetupError {
    #[error("expected a SETUP of {expected} bytes and more, found {found}")]
    Short { expected: usize, found: usize },
    #[error("expected version 1 of RSocket, found {0}.{1}")]
    Version(u16, u16),
    #[error("expected a time between KEEPALIVE frames and a lifetime, found 0 ms")]
    NoTime,
    #[error("resume is not supported")]
    Resume,
    #[error("lease is not supported")]
    Lease,
}

impl Setup {
    pub(in crate::ingest::rsocket) fn load(flags: Flags, body: &[u8]) -> Result<Self, SetupError> {
        const FIXED: usize = 12;
        let found = body.len();
        let Some((fixed, mut rest)) = body.split_first_chunk::<FIXED>() else {
            return Err(SetupError::Short { expected: FIXED, found });
        };
        let [a, b, c, d, numbers @ ..] = *fixed;
        let (major, minor) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        if major != 1 {
            return Err(SetupError::Version(major, minor));
        }
        if flags.contains(Flags::RESUME) {
            return Err(SetupError::Resume);
        }
        if flags.contains(Flags::LEASE) {
            return Err(SetupError::Lease);
        }
        let milliseconds = |[a, b, c, d]: [u8; 4]| Duration::from_millis(u32::from_be_bytes([a, b, c, d]).into());
        let [k0, k1, k2, k3, l0, l1, l2, l3] = numbers;
        let (keepalive, lifetime) = (milliseconds([k0, k1, k2, k3]), milliseconds([l0, l1, l2, l3]));
        if keepalive.is_zero() || lifetime.is_zero() {
            return Err(SetupError::NoTime);
        }
        for _mime in ["metadata", "data"] {
            let length = rest.first().map_or(1, |length| 1 + usize::from(*length));
            let short = SetupError::Short { expected: found - rest.len() + length, found };
            rest = rest.get(length..).ok_or(short)?;
        }
        Ok(Self { keepalive, lifetime })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Micrometer's client writes it.
    const MICROMETER: [u8; 50] = *b"\0\x01\0\0\0\0\x4e\x20\0\x01\x5f\x90\x12application/binary\x12application/binary";

    #[test]
    fn reads_what_micrometer_writes() {
        let setup = Setup { keepalive: Duration::from_secs(20), lifetime: Duration::from_secs(90) };
        assert_eq!(Setup::load(Flags::NONE, &MICROMETER), Ok(setup));
    }

    #[test]
    fn refuses_what_cannot_be_granted() {
        let with = |at: usize, bytes: &[u8]| {
            let mut setup = MICROMETER;
            setup[at..at + bytes.len()].copy_from_slice(bytes);
            setup
        };
        let cases: [(Flags, &[u8], SetupError); 8] = [
            (Flags::NONE, b"", SetupError::Short { expected: 12, found: 0 }),
            (Flags::NONE, &MICROMETER[..12], SetupError::Short { expected: 13, found: 12 }),
            (Flags::NONE, &MICROMETER[..49], SetupError::Short { expected: 50, found: 49 }),
            (Flags::NONE, &with(0, &[0, 2]), SetupError::Version(2, 0)),
            (Flags::NONE, &with(4, &[0; 4]), SetupError::NoTime),
            (Flags::NONE, &with(8, &[0; 4]), SetupError::NoTime),
            (Flags::RESUME, &MICROMETER, SetupError::Resume),
            (Flags::LEASE, &MICROMETER, SetupError::Lease),
        ];
        for (flags, body, expected) in cases {
            assert_eq!(Setup::load(flags, body), Err(expected));
        }
    }
}
