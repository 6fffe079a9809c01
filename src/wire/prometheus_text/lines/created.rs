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
        Some(open) => series[open + 1..].strip_suffix(b"}").unwrap_or_default(),
        None => b"",
    }
}

/// Hashes a label block without one label and without the metric's name, so that the points of one metric agree.
fn group(block: &[u8], without: &str, out: &BatchBuilder<'_>) -> AliasHash {
    let labels = Items(block).filter(|item| label_name(item).is_some_and(|name| name != without.as_bytes()));
    labels.fold(out.hash(b""), |hash, label| hash.then(out.hash(label)))
}

/// What stands between the commas of a label block: labels, and the name of the metric when that is in quotes.
struct Items<'b>(&'b [u8]);

impl<'b> Iterator for Items<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let mut at = 0;
        while self.0.get(at).is_some_and(|byte| *byte != b',') {
            at += if self.0[at] == b'"' { quoted(&self.0[at..]) } else { 1 };
        }
        let (item, rest) = self.0.split_at(at);
        self.0 = rest.get(1..).unwrap_or_default();
        Some(item)
    }
}

/// The name of a label as written; none of an item that is the name of the metric.
fn label_name(item: &[u8]) -> Option<&[u8]> {
    let end = if item.starts_with(b"\"") { quoted(item) } else { memchr::memchr(b'=', item)? };
    let name = &item[..end];
    let bare = name.strip_prefix(b"\"").and_then(|name| name.strip_suffix(b"\"")).unwrap_or(name);
    (item.get(end) == Some(&b'=')).then_some(bare)
}

/// Bytes of the string in quotes at the beginning, quotes included.
fn quoted(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}
