//! A native histogram as rows, where a [`schema`](super::schema) says so. Timestamps are the caller's.

use super::encode::{write_float, write_integer};
use super::schema::write_bound;
use crate::model::NativeHistogram;
use crate::wire::classic::absolute_counts;

/// A histogram, and what is derived from it.
pub(super) struct Parts<'a> {
    pub(super) histogram: &'a NativeHistogram,
    pub(super) count: f64,
    /// Upper bounds and observations below, without +Inf.
    pub(super) buckets: &'a [(f64, f64)],
}

impl Parts<'_> {
    /// The row of a classic histogram.
    pub(super) fn classic(&self, out: &mut Vec<u8>, head: &[u8]) {
        out.extend_from_slice(head);
        let mut before = b' ';
        for (bound, cumulative) in self.buckets.iter().copied().chain([(f64::INFINITY, self.count)]) {
            out.push(std::mem::replace(&mut before, b','));
            write_bound(out, bound);
            out.push(b'=');
            write_float(out, cumulative);
        }
        if self.histogram.sum.is_finite() {
            out.extend_from_slice(b",sum=");
            write_float(out, self.histogram.sum);
        }
        out.extend_from_slice(b",count=");
        write_float(out, self.count);
    }

    /// Lines of the one measurement, the bound of a bucket in a tag named after the metric.
    pub(super) fn single(&self, out: &mut Vec<u8>, head: &[u8], name: &[u8], end_line: impl Fn(&mut Vec<u8>)) {
        let totals = [("_sum", self.histogram.sum), ("_count", self.count)];
        for (suffix, value) in totals.into_iter().filter(|(_, value)| value.is_finite()) {
            for piece in [head, b" ", name, suffix.as_bytes(), b"="] {
                out.extend_from_slice(piece);
            }
            write_float(out, value);
            end_line(out);
        }
        for (bound, cumulative) in self.buckets {
            for piece in [head, b",", name, b"_le="] {
                out.extend_from_slice(piece);
            }
            write_bound(out, *bound);
            for piece in [b" ", name, b"="] {
                out.extend_from_slice(piece);
            }
            write_float(out, *cumulative);
            end_line(out);
        }
    }

    /// One row from which the histogram can be put together again, in Telegraf's layout. Fields begin with the prefix, if it
    /// is not empty; `unsigned` is the mark of unsigned integers.
    pub(super) fn everything(&self, out: &mut Vec<u8>, head: &[u8], prefix: &[u8], unsigned: u8) {
        let Self { histogram, .. } = self;
        out.extend_from_slice(head);
        let mut before = b' ';
        let mut key = |out: &mut Vec<u8>, name: &dyn Fn(&mut Vec<u8>)| {
            out.push(std::mem::replace(&mut before, b','));
            if !prefix.is_empty() {
                out.extend_from_slice(prefix);
                out.push(b'_');
            }
            name(out);
            out.push(b'=');
        };
        for (bound, cumulative) in self.buckets {
            key(out, &|out| write_bound(out, *bound));
            write_float(out, *cumulative);
        }
        let (zero_count, positive, negative) = absolute_counts(histogram);
        let floats = [
            ("count", self.count),
            ("sum", histogram.sum),
            ("zero_count", zero_count),
            ("zero_threshold", histogram.zero_threshold),
        ];
        for (name, value) in floats.into_iter().filter(|(_, value)| value.is_finite()) {
            key(out, &|out| out.extend_from_slice(name.as_bytes()));
            write_float(out, value);
        }
        key(out, &|out| out.extend_from_slice(b"counter_reset_hint"));
        write_integer(out, histogram.reset_hint as u8, unsigned);
        key(out, &|out| out.extend_from_slice(b"schema"));
        write_integer(out, histogram.schema, b'i');
        let sides =
            [("positive", &histogram.positive_spans, positive), ("negative", &histogram.negative_spans, negative)];
        for (side, spans, counts) in sides {
            for (index, span) in spans.iter().enumerate() {
                key(out, &|out| out.extend_from_slice(format!("{side}_span_{index}_offset").as_bytes()));
                write_integer(out, span.offset, b'i');
                key(out, &|out| out.extend_from_slice(format!("{side}_span_{index}_length").as_bytes()));
                write_integer(out, span.length, unsigned);
            }
            for (index, count) in counts.iter().enumerate().filter(|(_, count)| count.is_finite()) {
                key(out, &|out| out.extend_from_slice(format!("{side}_bucket_{index}").as_bytes()));
                write_float(out, *count);
            }
        }
    }
}
