//! Wavefront data format: metric lines and histogram distributions, as the Wavefront proxy speaks them on port 2878.
//!
//! ```text
//! name value [timestamp] *(key=value)                          a point
//! !M|!H|!D [timestamp] 1*(#count mean) name *(key=value)       a distribution over a minute, hour or day
//! ```
//!
//! * [`decode`] judges every line alone and keeps the good ones; [`encode`] writes lines that every proxy takes;
//!   [`validate`] holds the proxy's rules for a point, with its `WF-4xx` codes.
//! * The point's source is the label `source`; every other tag is a label of the same name. `∆` (a delta) and `~` (internal
//!   to a sender) stay part of the name.
//!
//! Specification: "Wavefront data format" in the vendor's documentation; where that is silent, the public parser of the
//! proxy (java-lib, up to proxy 13.x). We differ from it in these points:
//!
//! * Timestamps keep their nanoseconds; the proxy cuts them to milliseconds.
//! * The age of a point is not judged (`WF-402`): a gateway also carries history.
//! * A line without source gets the sender's address even when one of its tags ends in `source`; the proxy's substring
//!   search then finds the literal `unknown`.
//! * A tag `fqdn` gives the source of a distribution as it gives that of a point; the proxy says `unknown` there.
//! * Hexadecimal floats are refused.
//! * Events, source tags, spans, span logs and log arrays are refused as unsupported: they are not metrics.

pub mod decode;
pub mod encode;
mod observed;
mod token;
pub mod validate;

#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "../../tests/support/wavefront_line.rs"]
mod twin;
