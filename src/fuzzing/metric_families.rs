//! Delimited metric families: what the generated decoder reads is read, and what was taken can be exposed.

use super::prometheus_text::exposed;
use crate::model::{BatchBuilder, Format, SeriesTable};
use crate::wire::metric_families::messages::MetricFamily;
use crate::wire::metric_families::{Options, decode};
use prost::Message;

/// A fuzz body; see the module.
///
/// # Panics
/// When one of these does not hold.
pub fn metric_families(data: &[u8]) {
    let table = SeriesTable::default();
    let mut out = BatchBuilder::new(&table, Format::PrometheusText, Vec::new());
    let decoded = decode(data, &Options { now: 1 }, &mut out);
    let batch = out.finish();
    let Ok(report) = decoded else {
        assert!(batch.samples.is_empty(), "nothing is taken of what is no message");
        assert!(!is_strict_message(data), "the generated decoder reads what this one refuses");
        return;
    };
    assert_eq!(report.accepted, batch.samples.len() as u64);
    for format in [Format::PrometheusText, Format::OpenMetrics] {
        exposed(&batch, format, &table);
    }
}

/// Whether even a decoder that checks UTF-8 reads it.
fn is_strict_message(mut data: &[u8]) -> bool {
    while !data.is_empty() {
        if MetricFamily::decode_length_delimited(&mut data).is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use crate::wire::metric_families::messages::{Bucket, Counter, Histogram, Metric, MetricFamily, MetricType};
    use prost::Message;

    #[test]
    fn holds_for_families() {
        let counter = Metric { counter: Some(Counter { value: Some(1.0), ..Counter::default() }), ..Metric::default() };
        let bucket = Bucket { cumulative_count: Some(2), upper_bound: Some(0.5), ..Bucket::default() };
        let histogram =
            Histogram { sample_count: Some(3), sample_sum: Some(1.5), bucket: vec![bucket], ..Histogram::default() };
        let histogram = Metric { histogram: Some(histogram), ..Metric::default() };
        let mut body = Vec::new();
        for (metric_type, metric) in [(MetricType::Counter, counter), (MetricType::Histogram, histogram)] {
            let name = Some(format!("{metric_type:?}"));
            let family = MetricFamily {
                name,
                r#type: Some(metric_type.into()),
                metric: vec![metric],
                ..MetricFamily::default()
            };
            body.extend(family.encode_length_delimited_to_vec());
        }
        for cut in 0..=body.len() {
            super::metric_families(&body[..cut]);
        }
    }
}
