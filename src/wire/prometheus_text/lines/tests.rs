use super::*;
use crate::model::{Batch, Format, SeriesTable};

fn decoded(table: &SeriesTable, flavour: Flavour, body: &str) -> (Report, Batch) {
    let format = if flavour == Flavour::Text { Format::PrometheusText } else { Format::OpenMetrics };
    let mut out = BatchBuilder::new(table, format, Vec::new());
    let report = decode(body.as_bytes(), flavour, &Options { now: 7, timestamp: Some(5) }, &mut out);
    (report, out.finish())
}

/// The first refusal: line, column, reason.
fn refused(flavour: Flavour, body: &str) -> Option<(usize, usize, Refusal)> {
    let table = SeriesTable::default();
    let (report, _) = decoded(&table, flavour, body);
    report.first.first().map(|refused| (refused.line, refused.column, refused.reason))
}

#[test]
fn refusals_have_their_place_and_reason() {
    use Refusal::{
        Body, DuplicateLabel, InvalidExemplar, InvalidLabel, InvalidMetadata, InvalidName, InvalidTimestamp,
        InvalidValue, MissingName, NoValue, Syntax,
    };
    let text = [
        ("ok 1\n0a 1", 2, 1, InvalidName),
        ("a", 1, 2, NoValue),
        ("a{b=\"c\"} x", 1, 10, InvalidValue),
        ("a 1 2 3", 1, 7, Syntax),
        ("a 1 2.5", 1, 5, InvalidTimestamp),
        ("a 1 9223372036855", 1, 5, InvalidTimestamp),
        ("a{b=\"c\" d=\"e\"} 1", 1, 9, Syntax),
        ("a{,} 1", 1, 3, Syntax),
        ("a{b=c} 1", 1, 5, InvalidLabel),
        ("a{b=\"c\",b=\"d\"} 1", 1, 1, DuplicateLabel),
        ("a{__name__=\"b\"} 1", 1, 3, DuplicateLabel),
        ("{b=\"c\"} 1", 1, 1, MissingName),
        ("{\"\"} 1", 1, 2, MissingName),
        ("a{b=\"c\n\"} 1", 1, 5, Syntax),
        ("# TYPE a meh", 1, 9, InvalidMetadata),
        ("ok 1\n \t a x", 2, 6, InvalidValue),
    ];
    for (body, line, column, reason) in text {
        assert_eq!(refused(Flavour::Text, body), Some((line, column, reason)), "{body}");
    }
    let openmetrics = [
        ("a 1\n", 2, 1, Body),
        ("a 1\n# EOF\nb 1\n", 3, 1, Syntax),
        ("a 1 1 # {} 1 z\n# EOF\n", 1, 14, InvalidExemplar),
        ("a{b=\"c\", d=\"e\"} 1\n# EOF\n", 1, 9, Syntax),
        ("# comment\n# EOF\n", 1, 1, Syntax),
        ("# UNIT a s\n# EOF\n", 1, 10, InvalidMetadata),
    ];
    for (body, line, column, reason) in openmetrics {
        assert_eq!(refused(Flavour::OpenMetrics, body), Some((line, column, reason)), "{body}");
    }
}

#[test]
fn keeps_the_good_lines_and_the_time_the_request_gave() {
    let table = SeriesTable::default();
    let (report, batch) = decoded(&table, Flavour::Text, "a 1\nbad line\na 2 -3\n\n# note\na 3");
    assert_eq!((report.accepted, report.refused()), (3, 1));
    let times: Vec<_> = batch.samples.iter().map(|sample| (sample.timestamp, sample.flags.0)).collect();
    assert_eq!(times, [(5, 2), (-3_000_000, 0), (5, 2)]);
}

#[test]
fn a_changed_declaration_makes_a_new_series_and_a_known_one_does_not() {
    let table = SeriesTable::default();
    let body = "# HELP a one\n# TYPE a gauge\na 1\n# HELP b x\nb 1\n# HELP a one\na 2\n# HELP a two\na 3\nc 1\na 4\n";
    let (_, batch) = decoded(&table, Flavour::Text, body);
    let ids: Vec<_> = batch.samples.iter().map(|sample| sample.series).collect();
    assert_eq!(ids[0], ids[2]);
    assert_ne!(ids[0], ids[3]);
    assert_eq!(ids[3], ids[5]);
    let helps: Vec<_> =
        ids.iter().map(|id| table.series(*id).unwrap().metadata.clone().map(|m| m.help.clone())).collect();
    assert_eq!(helps, [Some("one"), Some("x"), Some("one"), Some("two"), None, Some("two")].map(|h| h.map(Box::from)));
    let (_, again) = decoded(&table, Flavour::Text, body);
    assert!(again.samples.iter().map(|sample| sample.series).eq(ids), "recognised");
}

#[test]
fn families_without_samples_are_handed_over() {
    let table = SeriesTable::default();
    let (_, batch) = decoded(&table, Flavour::Text, "# TYPE a gauge\n# TYPE b counter\nb 1\n# HELP c d\n");
    let families: Vec<_> = batch.metadata.iter().map(|metadata| &*metadata.family).collect();
    assert_eq!(families, ["a", "c"]);
}

#[test]
fn created_lines_with_names_in_quotes_belong_to_their_point_too() {
    const S: i64 = 1_000_000_000;
    let body = "# TYPE \"c.d\" counter\n{\"c.d_total\",a=\"1\"} 1\n{\"c.d_total\",a=\"2\"} 1\n{\"c.d_total\"} 1\n\
        {a=\"2\",\"c.d_created\"} 2\n{\"c.d_created\",a=\"1\"} 1\n{\"c.d_created\"} 3\n\
        # TYPE h histogram\nh_bucket{\"\\\"=,\"=\"x\",le=\"1\"} 1\nh_bucket{\"le\"=\"2\",\"\\\"=,\"=\"x\",} 1\nh_created{\"\\\"=,\"=\"x\"} 4\n\
        h_count 1\nh_created 5\n# EOF\n";
    let table = SeriesTable::default();
    let (report, batch) = decoded(&table, Flavour::OpenMetrics, body);
    assert_eq!(report.first, []);
    let starts: Vec<_> = (0..batch.samples.len()).map(|index| batch.start_of(index)).collect();
    assert_eq!(starts, [1, 2, 3, 4, 4, 5].map(|seconds| Some(seconds * S)));
}

#[test]
fn created_lines_become_start_timestamps_of_their_point() {
    const S: i64 = 1_000_000_000;
    let body = "# TYPE c counter\nc_total 1\nc_created 1\nc_total{a=\"b\"} 1\nc_created{a=\"b\"} 2.5\nc_total{le=\"x\"} 1\n\
        # TYPE h histogram\nh_created{x=\"y\"} 4\nh_bucket{le=\"1\",x=\"y\"} 1\nh_bucket{x=\"y\",le=\"+Inf\"} 1\n\
        # TYPE s summary\ns_count 1\ns_created 5\ns{quantile=\"0.5\"} 1\n\
        # TYPE g_created gauge\ng_created 9\n# TYPE k counter\nk_created 9\n# EOF\n";
    let table = SeriesTable::default();
    for _ in 0..2 {
        let (report, batch) = decoded(&table, Flavour::OpenMetrics, body);
        assert_eq!(report.refused(), 0);
        let starts: Vec<_> = (0..batch.samples.len()).map(|index| batch.start_of(index)).collect();
        let expected = [Some(S), Some(5 * S / 2), None, Some(4 * S), Some(4 * S), Some(5 * S), Some(5 * S), None, None];
        assert_eq!(starts, expected);
        assert_eq!(report.accepted, 9, "a `_created` without samples stays one");
    }
}
