//! Lines of the line protocol and of Wavefront in the form in which sluicegate writes them.

use proptest::prelude::*;

pub(super) fn influx_line() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        (-99_999..99_999).prop_map(|number| (f64::from(number) + 0.5).to_string()),
        any::<i64>().prop_map(|number| format!("{number}i")),
        any::<u64>().prop_map(|number| format!("{number}u")),
        any::<bool>().prop_map(|truth| truth.to_string()),
        prop::sample::select(vec!["", "x y", "é,=", "\\\"", "\\\\", "a\nb"]).prop_map(|text| format!("\"{text}\"")),
    ];
    let keys = prop::sample::subsequence(&["value", "f", "a\\ b", "é", "x\\,y", "B"], 1..6).prop_shuffle();
    let fields = (keys, prop::collection::vec(value, 6)).prop_map(|(keys, values)| {
        let fields: Vec<_> = keys.iter().zip(values).map(|(key, value)| format!("{key}={value}")).collect();
        fields.join(",")
    });
    let measurement = prop::sample::select(vec!["m", "a\\ b", "a\\,b", "é", "a=b"]);
    let tags = prop::sample::subsequence(&[",a=1", ",b\\ c=x\\,y", ",le=0.50", ",z=é\\=\\ 1"], 0..4);
    (measurement, tags, fields, -9_000_000_000_000_000_000_i64..9_000_000_000_000_000_000).prop_map(
        |(measurement, tags, fields, timestamp)| format!("{measurement}{} {fields} {timestamp}\n", tags.concat()),
    )
}

/// Points, then distributions: they travel in requests of their own.
pub(super) fn wavefront_body() -> impl Strategy<Value = String> {
    let points = prop::collection::vec((head(), value(), tags()), 0..5);
    let deltas = prop::collection::vec((1_u32.., tags()), 0..2);
    let distributions = prop::collection::vec((granularity(), centroids(), head(), tags()), 0..3);
    (points, deltas, distributions).prop_map(|(points, deltas, distributions)| {
        let points = points.iter().map(|((name, time), value, tags)| {
            let time = time.map_or(String::new(), |time| format!(" {time}"));
            format!("\"{name}\" {value}{time} {tags}\n")
        });
        let deltas = deltas.iter().map(|(value, tags)| format!("\"∆requests\" {value}.0 {tags}\n"));
        let distributions = distributions.iter().map(|((mark, width), centroids, (name, time), tags)| {
            let time = time.map_or(String::new(), |time| format!(" {}", time / width * width));
            format!("!{mark}{time}{centroids} \"{name}\" {tags}\n")
        });
        points.chain(deltas).chain(distributions).collect()
    })
}

/// A name and a time in milliseconds.
fn head() -> impl Strategy<Value = (&'static str, Option<i64>)> {
    let names = prop::sample::select(vec!["m", "a.b_c", "~internal", "x-1/y,z"]);
    (names, prop::option::of(1_000_000_000_000_i64..9_000_000_000_000))
}

fn value() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec![-0.0, 1e300, 5e-324, 0.1]);
    let number = any::<i32>().prop_map(|number| f64::from(number) / 8.0);
    prop_oneof![4 => number, 1 => special].prop_map(|number| format!("{number:?}"))
}

fn granularity() -> impl Strategy<Value = (char, i64)> {
    prop::sample::select(vec![('M', 60_000), ('H', 3_600_000), ('D', 86_400_000)])
}

fn centroids() -> impl Strategy<Value = String> {
    let centroid = (1_u32..1000, value()).prop_map(|(count, mean)| format!(" #{count} {mean}"));
    prop::collection::vec(centroid, 1..5).prop_map(|centroids| centroids.concat())
}

fn tags() -> impl Strategy<Value = String> {
    let tags = prop::sample::subsequence(&["\"a\"=\"x y\"", "\"b.c\"=\"\\\"é\\\"\"", "\"z_1\"=\"a=b,c\""], 0..4);
    (prop::sample::select(vec!["h", "a b", "é"]), tags).prop_map(|(source, tags)| {
        let tags: String = tags.into_iter().flat_map(|tag| [" ", tag]).collect();
        format!("source=\"{source}\"{tags}")
    })
}
