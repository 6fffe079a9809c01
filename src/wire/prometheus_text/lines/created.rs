//! The `_created` lines of a family to the start timestamps of its samples.
//!
//! A sample starts where a `_created` line of its labels says: one with its timestamp, else one without any, the nearest one
//! behind the sample first.

use crate::model::{AliasHash, BatchBuilder, TimestampNs};
use std::collections::HashMap;

/// A line of the current family, until the family's start timestamps are settled.
pub(super) struct Point<'b> {
    pub(super) line: &'b [u8],
    pub(super) number: usize,
    /// Where the label block is; empty when there is none.
    pub(super) labels: &'b [u8],
    pub(super) timestamp: Option<TimestampNs>,
    pub(super) kind: PointKind,
}

#[derive(Clone, Copy)]
pub(super) enum PointKind {
    /// The index of a sample in the batch.
    Sample(usize),
    /// A `_created` line and what it says.
    Created(TimestampNs),
}

/// What the `_created` lines among points say of the others.
pub(super) struct Starts {
    /// Of each point that is a sample, where it starts.
    pub(super) starts: Vec<Option<TimestampNs>>,
    /// Of each point that is a `_created` line, whether a sample starts there.
    pub(super) used: Vec<bool>,
}

impl Starts {
    /// The samples of a metric agree in all labels but `label`, which its `_created` line has not.
    pub(super) fn of(points: &[Point<'_>], label: &str, out: &BatchBuilder<'_>) -> Self {
        let groups = points.iter().map(|point| match point.kind {
            PointKind::Sample(_) => group(point.labels, label, out),
            PointKind::Created(_) => group(point.labels, "", out),
        });
        let groups: Vec<AliasHash> = groups.collect();
        let mut found = Self { starts: vec![None; points.len()], used: vec![false; points.len()] };
        for timed in [true, false] {
            found.nearest(points, &groups, timed, (0..points.len()).rev());
            found.nearest(points, &groups, timed, 0..points.len());
        }
        found
    }

    /// Walks points in the given order and gives each sample without start the latest one seen of its group: one with the
    /// sample's timestamp, or one without any.
    fn nearest(&mut self, points: &[Point<'_>], groups: &[AliasHash], timed: bool, order: impl Iterator<Item = usize>) {
        let mut known = HashMap::new();
        for at in order {
            let timestamp = points[at].timestamp;
            match points[at].kind {
                PointKind::Created(start) => {
                    known.insert((groups[at], timestamp), (start, at));
                }
                PointKind::Sample(_) if self.starts[at].is_none() => {
                    if let Some((start, from)) = known.get(&(groups[at], timestamp.filter(|_| timed))) {
                        self.starts[at] = Some(*start);
                        self.used[*from] = true;
                    }
                }
                PointKind::Sample(_) => {}
            }
        }
    }
}

/// The inside of a series' label block, as written.
#[inline]
pub(super) fn label_block(series: &[u8]) -> &[u8] {
    match memchr::memchr(b'{', series) {
        Some(open) if open > 0 => series[open + 1..].strip_suffix(b"}").unwrap_or_default(),
        _ => b"",
    }
}

/// Hashes a label block without one label and without a trailing comma, so that the points of one metric agree.
fn group(block: &[u8], without: &str, out: &BatchBuilder<'_>) -> AliasHash {
    let (before, after) = match (without.is_empty(), label_place(block, without.as_bytes())) {
        (false, Some((start, end))) => (&block[..start], &block[end..]),
        _ => (block, &b""[..]),
    };
    let before = before.strip_suffix(b",").unwrap_or(before);
    let after = after.strip_prefix(b",").unwrap_or(after);
    let after = after.strip_suffix(b",").unwrap_or(after);
    let joint: &[u8] = if before.is_empty() || after.is_empty() { b"" } else { b"," };
    out.hash(&[before, joint, after].concat())
}

/// Where a label stands in a block.
fn label_place(block: &[u8], name: &[u8]) -> Option<(usize, usize)> {
    let mut at = 0;
    while at < block.len() {
        let start = at;
        let equal = start + memchr::memchr(b'=', &block[start..])?;
        at = equal + 2;
        while *block.get(at)? != b'"' {
            at += if block[at] == b'\\' { 2 } else { 1 };
        }
        at += 1;
        if &block[start..equal] == name {
            return Some((start, at));
        }
        at += 1;
    }
    None
}
