//! OpenMetrics: whatever is taken can be written, and reads back as the same exposition.

use super::prometheus_text::{rewritten, text};
use crate::model::Format;

/// A fuzz body; see the module.
///
/// # Panics
/// When the property does not hold.
pub fn openmetrics(data: &[u8]) {
    let once = rewritten(data, Format::OpenMetrics);
    assert_eq!(text(&rewritten(&once, Format::OpenMetrics)), text(&once));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    const PIECES: [&str; 47] = [
        "a",
        "a_total 1\n",
        "a_created 5\n",
        "a_bucket{le=\"1\"} 4\n",
        "a{quantile=\"1\"} 2\n",
        "{\"a.b\"} 3 9\n",
        "a_b 4\n",
        "a_total 2 # {t=\"1\"} 3\n",
        "a_total",
        "a_created",
        "a_bucket",
        "a_sum",
        "a_count",
        "b",
        "{",
        "}",
        "{}",
        "{x=\"1\"}",
        "{le=\"1\"}",
        "{le=\"+Inf\",x=\"1\"}",
        "{x=\"1\",quantile=\"0.5\"}",
        "{\"u.v\",x=\"\\n\\\\\\\"\"}",
        "=",
        "\"",
        ",",
        " ",
        " 1",
        " 2.5",
        " NaN",
        " +Inf",
        " -1e300",
        " 1700000000.123",
        " 5",
        " # {t=\"1\"} 1",
        " # {} 2 3",
        "\n",
        "\n",
        "\n",
        "# TYPE a counter\n",
        "# TYPE a histogram\n",
        "# TYPE a summary\n",
        "# TYPE b gauge\n",
        "# HELP a x\\n\\\"\n",
        "# TYPE a_total counter\n",
        "# UNIT a_s s\n",
        "# TYPE a info\n",
        "# EOF\n",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn bodies_made_of_pieces_survive(picks in prop::collection::vec(0..PIECES.len(), 0..60)) {
            let body: String = picks.into_iter().map(|pick| PIECES[pick]).collect();
            super::openmetrics(body.as_bytes());
            crate::fuzzing::prometheus_text::prometheus_text(body.as_bytes());
        }
    }
}
