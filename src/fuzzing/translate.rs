//! Translations: every pair of formats keeps its books. A sample that was taken is written or counted as dropped; what is
//! written is taken whole by its own format, is written the same again, and has the values that went in. Within Prometheus's
//! formats every name stays as it is.

use crate::cli::translate::{Styles, Translation, translation, translation_as};
use crate::model::{Dialect, Format, Loss};
use crate::wire::compression::snappy;

const NOW: i64 = 1_700_000_000_000_000_000;
/// Bytes that one sample may add to its series' names: numbers, bounds, punctuation.
const SAMPLE_BYTES_MAX: usize = 512;

/// How the second format is written: by the defaults, by each preset, and by options that no preset has.
const STYLES: [(Option<&str>, &[&str]); 7] = [
    (None, &[]),
    (Some("telegraf_v1"), &[]),
    (Some("telegraf_v2"), &[]),
    (Some("vmagent"), &[]),
    (None, &["strings=info", "name_characters=trim"]),
    (None, &["schema=single", "native_histograms=fields"]),
    (None, &["names=dotted", "histograms=distributions"]),
];

/// The first byte names a pair of formats and a style, the rest is a body of the first.
///
/// # Panics
/// When a promise is broken.
pub fn translate(data: &[u8]) {
    let Some((pair, body)) = data.split_first() else { return };
    let format = |number: usize| Format::ALL[number % Format::COUNT];
    let (from, to) = (format(usize::from(*pair)), format(usize::from(*pair) / Format::COUNT));
    let input = match from {
        Format::RemoteWrite | Format::RemoteWrite2 => snappy(body),
        _ => body.to_vec(),
    };
    let style = usize::from(*pair) / (Format::COUNT * Format::COUNT) % STYLES.len();
    let (preset, options) = STYLES[style];
    let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
    // Where it means nothing for the format, the defaults hold.
    let styles = Styles::of(to, preset, &options).unwrap_or_default();
    let Ok(there) = translation_as(from, to, &styles, &input, NOW) else {
        assert!(matches!(from, Format::RemoteWrite | Format::RemoteWrite2), "text is refused line by line");
        return;
    };
    // A row of fields names its tags once and its series each for itself: quadratic, and no worse.
    let bytes_max = (body.len() + 64) * (body.len() * 4 + SAMPLE_BYTES_MAX);
    assert!(there.bytes.len() <= bytes_max, "{} bytes of {}", there.bytes.len(), body.len());

    let again = translated(to, to, &there.bytes);
    assert_eq!(again.report.refused(), 0, "{to:?} is read back: {:?}", again.report.first);
    assert!(there.dropped.total() <= there.report.accepted);
    let arrived = there.report.accepted - there.dropped.total();
    let joins = from == Format::InfluxLine && preset == Some("telegraf_v1");
    if one_for_one(&there, to) && !joins {
        assert_eq!(again.report.accepted, arrived, "{from:?} to {to:?}: {}", text(&there.bytes));
    } else if to != Format::OpenMetrics && !joins {
        assert!(again.report.accepted >= arrived, "{from:?} to {to:?}: {}", text(&there.bytes));
    }
    if [from, to].iter().all(|format| format.dialect() == Dialect::Prometheus) {
        let altered = [Loss::NameSanitised, Loss::LabelSanitised].map(|loss| there.losses.get(loss));
        assert_eq!(altered, [0, 0], "{from:?} to {to:?}: {}", text(&there.bytes));
    }
    if there.losses.total() + there.dropped.total() == 0 && one_for_one(&there, to) {
        let (before, after) = (values(from, &input), values(to, &there.bytes));
        if let (Some(before), Some(after)) = (before, after) {
            assert_eq!(before, after, "{from:?} to {to:?}: {}", text(&there.bytes));
        }
    }
}

fn translated(from: Format, to: Format, input: &[u8]) -> Translation {
    match translation(from, to, input, NOW) {
        Ok(translated) => translated,
        Err(error) => panic!("{from:?} does not read its own output: {error}"),
    }
}

/// Whether each sample is written as one: no histogram as its buckets, no `_created` sample as a start, no mean in a row.
fn one_for_one(translated: &Translation, to: Format) -> bool {
    let expanding = [Loss::NativeHistogram, Loss::Distribution, Loss::TemporalityConverted];
    let expanded = expanding.iter().any(|loss| translated.losses.get(*loss) > 0);
    !expanded && (to != Format::OpenMetrics || !text(&translated.bytes).contains("_created"))
}

/// The values of an input in text exposition, sorted; none when some have no place there.
fn values(from: Format, input: &[u8]) -> Option<Vec<String>> {
    let translated = translation(from, Format::PrometheusText, input, NOW).ok()?;
    if translated.dropped.total() > 0 {
        return None;
    }
    let text = text(&translated.bytes);
    let lines = text.split('\n').filter(|line| !line.starts_with('#') && !line.is_empty());
    let value = |line: &str| {
        let behind = line.rfind('}').map_or(line, |end| &line[end..]);
        behind.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let mut values: Vec<_> = lines.map(value).collect();
    values.sort();
    Some(values)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use crate::model::Format;

    /// Every body of one text format, for every pair that begins with it.
    #[test]
    fn holds_for_bodies_of_each_format() {
        let bodies: [(Format, &[u8]); 4] = [
            (Format::PrometheusText, b"# TYPE h histogram\nh_bucket{le=\"1.0\"} 1 5\nh_bucket{le=\"+Inf\"} 2 5\nh_sum NaN 5\nh_count 2 5\nx{a=\"b\"} -0 1\nx{a=\"b\"} +Inf 2\n"),
            (Format::OpenMetrics, b"# TYPE c counter\nc_total 1 1.5 # {t=\"a\"} 1\nc_created 1 1.5\n# TYPE s summary\ns{quantile=\"0.50\"} 1\n# TYPE t_seconds summary\nt_seconds_count{application_guid=\"t\"} 1\nt_seconds_sum{application_guid=\"t\"} 2\n# EOF\n"),
            (Format::InfluxLine, b"t,metric_type=histogram sum=3,count=2,mean=1.5,upper=2 1\nt_histogram,metric_type=gauge,le=50 value=1 1\nm,a=b f=1i,g=2u,h=t,i=\"x\",value=1.5 1700000000000000001\nm,a=b f=9007199254740993i 1\n"),
            (Format::Wavefront, "t.count 1 5 source=s application.guid=t\nt.sum 1 5 source=s application.guid=t\nm.n 1 5 source=s k=v\n∆d 2 source=s\n!M 1700000030 #2 1.5 lat source=h\n".as_bytes()),
        ];
        for (from, body) in bodies {
            for to in 0..Format::COUNT {
                for style in 0..super::STYLES.len() {
                    let pair = (to + style * Format::COUNT) * Format::COUNT + from as usize;
                    super::translate(&[&[pair as u8], body].concat());
                }
            }
        }
    }
}
