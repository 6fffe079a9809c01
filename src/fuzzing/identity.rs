//! A -> model -> A loses nothing: bodies are drawn in the form that sluicegate writes, translated to their own format, and
//! compared as they are (texts) or fact by fact (remote write, whose messages have no one form). All of them are valid, so
//! nothing may be refused; translated to every other format, they keep their books.

#![allow(clippy::unwrap_used, clippy::format_push_string, reason = "a broken promise shall panic, and may allocate")]

mod expositions;
mod lines;
mod messages;

use crate::cli::translate::translation;
use crate::model::Format;
use crate::wire::compression::{Encoding, decompress, snappy};
use crate::wire::remote_write::messages::WriteRequest;
use crate::wire::remote_write2::messages::Request;
use expositions::{Family, exposition, families};
use lines::{influx_line, wavefront_body};
use messages::{facts, older, older_facts, request};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use prost::Message;

/// The first byte names a format; the next 32 seed the random numbers that a body is drawn with.
///
/// # Panics
/// When something is refused, lost or altered on its way to the same format, or when a translation miscounts.
pub fn identity(data: &[u8]) {
    let Some((format, rest)) = data.split_first() else { return };
    let format = Format::ALL[usize::from(*format) % Format::COUNT];
    let mut seed = [0; 32];
    seed.iter_mut().zip(rest).for_each(|(seed, byte)| *seed = *byte);
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, random);
    let Some(body) = drawn(format, &mut runner) else { return };
    for to in 0..Format::COUNT {
        let pair = (to * Format::COUNT + format as usize) as u8;
        super::translate(&[&[pair], body.as_slice()].concat());
    }
}

/// Draws a body, looks whether it stays itself, and returns it; none where the random numbers led nowhere.
fn drawn(format: Format, runner: &mut TestRunner) -> Option<Vec<u8>> {
    fn one<T>(strategy: impl Strategy<Value = T>, runner: &mut TestRunner) -> Option<T> {
        Some(strategy.new_tree(runner).ok()?.current())
    }
    Some(match format {
        Format::PrometheusText => stays_text(one(families(), runner)?),
        Format::OpenMetrics => stays(format, exposition(&one(families(), runner)?, true)),
        Format::InfluxLine => stays(format, one(prop::collection::vec(influx_line(), 0..6), runner)?.concat()),
        Format::Wavefront => stays(format, one(wavefront_body(), runner)?),
        Format::RemoteWrite => stays_older_message(&one(request(), runner)?),
        Format::RemoteWrite2 => stays_message(&one(request(), runner)?),
    })
}

/// A number in the one spelling that is written.
fn number() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec!["NaN", "+Inf", "-Inf", "-0", "1e300", "5e-324"]);
    prop_oneof![4 => any::<i32>().prop_map(|number| (f64::from(number) / 8.0).to_string()), 1 => special.prop_map(str::to_owned)]
}

/// The input in its own format again; nothing of it is refused, dropped or altered.
fn returned(format: Format, input: &[u8]) -> Vec<u8> {
    let there = translation(format, format, input, 5).unwrap();
    assert_eq!(there.report.first, []);
    let lost: Vec<_> = there.losses.iter().chain(there.dropped.iter()).collect();
    assert_eq!(lost, []);
    there.bytes
}

fn returned_message(format: Format, message: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    decompress(Encoding::Snappy, &returned(format, &snappy(message)), 1 << 20, &mut plain).unwrap();
    plain
}

fn stays(format: Format, text: String) -> Vec<u8> {
    assert_eq!(String::from_utf8(returned(format, text.as_bytes())).unwrap(), text);
    text.into_bytes()
}

fn stays_text(families: Vec<Family>) -> Vec<u8> {
    let known = |family: &Family| !["gaugehistogram", "info", "stateset"].contains(&family.metric_type);
    let families: Vec<_> = families.into_iter().filter(known).collect();
    stays(Format::PrometheusText, exposition(&families, false))
}

fn stays_message(request: &Request) -> Vec<u8> {
    let message = request.encode_to_vec();
    let plain = returned_message(Format::RemoteWrite2, &message);
    assert_eq!(facts(&Request::decode(&*plain).unwrap()), facts(request));
    message
}

fn stays_older_message(request: &Request) -> Vec<u8> {
    let request = older(request);
    let message = request.encode_to_vec();
    let plain = returned_message(Format::RemoteWrite, &message);
    assert_eq!(older_facts(&WriteRequest::decode(&*plain).unwrap()), older_facts(&request));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_zero_is_not_zero() {
        for middle in [Format::RemoteWrite, Format::RemoteWrite2] {
            let there = translation(Format::PrometheusText, middle, b"a -0 1\n", 5).unwrap();
            let back = translation(middle, Format::PrometheusText, &there.bytes, 5).unwrap();
            assert_eq!(back.bytes, b"a -0 1\n");
        }
    }

    proptest! {
        #[test]
        fn openmetrics_keeps_type_help_unit_exemplars_starts_and_the_spelling_of_edges(families in families()) {
            stays(Format::OpenMetrics, exposition(&families, true));
        }

        #[test]
        fn text_keeps_type_help_and_the_spelling_of_edges(families in families()) {
            stays_text(families);
        }

        #[test]
        fn line_protocol_keeps_rows_order_types_and_nanoseconds(lines in prop::collection::vec(influx_line(), 0..6)) {
            stays(Format::InfluxLine, lines.concat());
        }

        #[test]
        fn wavefront_keeps_names_tags_values_milliseconds_and_distributions(body in wavefront_body()) {
            stays(Format::Wavefront, body);
        }

        #[test]
        fn remote_write2_keeps_every_fact(request in request()) {
            stays_message(&request);
        }

        #[test]
        fn remote_write_keeps_every_fact(request in request()) {
            stays_older_message(&request);
        }

        #[test]
        fn what_is_drawn_stays_itself_and_keeps_its_books_elsewhere(data in prop::collection::vec(any::<u8>(), 0..33)) {
            identity(&data);
        }
    }
}
