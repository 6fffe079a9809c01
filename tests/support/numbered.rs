//! Samples that can be judged wherever they turn up: a client and a number tell the series, the time and every bit of the
//! value, so a sample that was altered, invented or lost shows.
//!
//! As line protocol: `n,client=<client>,series=<number % SERIES> value=<bits of both> <EPOCH_MS + number>`.

use crate::support::http::{self, Answer};
use std::ops::Range;
use std::time::Duration;

/// The time of sample 0.
pub(crate) const EPOCH_MS: u64 = 1_700_000_000_000;
/// Series of a client.
pub(crate) const SERIES: u64 = 7;
/// What Prometheus makes of the text `NaN`.
const TEXT_NAN: u64 = 0x7ff8_0000_0000_0001;

/// How a client speaks. Its number tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    RemoteWrite1,
    RemoteWrite2,
    InfluxLine,
    PrometheusText,
    Wavefront,
}

impl Speech {
    pub(crate) const ALL: [Self; 5] =
        [Self::RemoteWrite1, Self::RemoteWrite2, Self::InfluxLine, Self::PrometheusText, Self::Wavefront];

    /// What that client speaks.
    pub(crate) fn of(client: u64) -> Self {
        Self::ALL[(client % Self::ALL.len() as u64) as usize]
    }
}

/// The bits of a sample's value: all kinds of doubles that its client's format can carry. One in sixteen each is -0.0,
/// subnormal, NaN (with a payload where it is not text), infinite.
pub(crate) fn bits(client: u64, number: u64) -> u64 {
    const EXPONENT: u64 = 0x7ff << 52;
    const SIGN: u64 = 1 << 63;
    let mixed = mix(client << 40 ^ number);
    // The lowest bit of the exponent goes where all of them are set: what is left is finite.
    let finite = if mixed & EXPONENT == EXPONENT { mixed & !(1 << 52) } else { mixed };
    match (number % 16, Speech::of(client)) {
        (0, _) => SIGN,
        (1, _) => mixed & !EXPONENT,
        (2, Speech::RemoteWrite1 | Speech::RemoteWrite2) => mixed | EXPONENT | 1,
        (2, Speech::PrometheusText) => TEXT_NAN,
        (3, Speech::RemoteWrite1 | Speech::RemoteWrite2 | Speech::PrometheusText) => mixed & SIGN | EXPONENT,
        _ => finite,
    }
}

/// Whether a sample's value is neither NaN nor infinite.
pub(crate) fn is_finite(client: u64, number: u64) -> bool {
    f64::from_bits(bits(client, number)).is_finite()
}

/// The finalizer of `SplitMix64`: every bit of the result depends on every bit of the input.
fn mix(input: u64) -> u64 {
    let mut mixed = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The sample that arrived as this, or what is wrong with it.
pub(crate) fn judge(
    name: &str,
    client: &str,
    series: &str,
    timestamp_ms: i64,
    value: f64,
) -> Result<(u64, u64), String> {
    let seen = || format!("{name} client={client} series={series} {value:e} ({:#x}) {timestamp_ms}", value.to_bits());
    let number = u64::try_from(timestamp_ms).ok().and_then(|time| time.checked_sub(EPOCH_MS));
    let (Ok(client), Some(number)) = (client.parse(), number) else { return Err(seen()) };
    let right = name == "n" && series == (number % SERIES).to_string() && value.to_bits() == bits(client, number);
    if right { Ok((client, number)) } else { Err(format!("{}, posted with {:#x}", seen(), bits(client, number))) }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Acknowledged,
    /// Nothing of it was taken; the client may come again after that time.
    Refused(Duration),
    /// No answer, or one that promises nothing.
    InDoubt,
}

/// Posts samples of a client in its format.
pub(crate) fn post(url: &str, client: u64, numbers: Range<u64>) -> Fate {
    let (path, content_type, body) = request(client, numbers);
    let encoding = if content_type.starts_with("application/x-protobuf") { "snappy" } else { "identity" };
    let headers = [("Content-Type", content_type), ("Content-Encoding", encoding)];
    match http::try_send("POST", &format!("{url}{path}"), &headers, &body) {
        Ok(Answer { status: 204 | 202, .. }) => Fate::Acknowledged,
        Ok(answer) if answer.status == 429 => {
            Fate::Refused(answer.retry_after().expect("429 tells when to come again"))
        }
        // Why a Wavefront sender is told 503 where others are told 429: ingest/wavefront.rs.
        Ok(answer) if answer.status == 503 && answer.text().contains("the log is full") => {
            Fate::Refused(answer.retry_after().expect("503 tells when to come again"))
        }
        Ok(Answer { status: 503, .. }) | Err(_) => Fate::InDoubt,
        Ok(answer) => panic!("{}: {}", answer.status, answer.text()),
    }
}

/// Path, content type and body of a request with these samples.
pub(crate) fn request(client: u64, numbers: Range<u64>) -> (&'static str, &'static str, Vec<u8>) {
    let lines = |line: fn(u64, u64, f64, u64) -> String| -> Vec<u8> {
        let value = |number| f64::from_bits(bits(client, number));
        numbers
            .clone()
            .flat_map(|number| line(client, number % SERIES, value(number), EPOCH_MS + number).into_bytes())
            .collect()
    };
    match Speech::of(client) {
        Speech::InfluxLine => (
            "/write?db=x&precision=ms",
            "text/plain",
            lines(|client, series, value, time| format!("n,client={client},series={series} value={value:e} {time}\n")),
        ),
        Speech::PrometheusText => (
            "/api/v1/import/prometheus",
            "text/plain",
            lines(|client, series, value, time| {
                format!("n{{client=\"{client}\",series=\"{series}\"}} {value:e} {time}\n")
            }),
        ),
        Speech::Wavefront => (
            "/report?f=wavefront",
            "text/plain",
            lines(|client, series, value, time| {
                format!("n {value:e} {time} source=there client=\"{client}\" series={series}\n")
            }),
        ),
        Speech::RemoteWrite1 => {
            ("/api/v1/write", "application/x-protobuf", remote_write_1(client, &numbers).in_snappy())
        }
        Speech::RemoteWrite2 => {
            let content_type = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
            ("/api/v1/write", content_type, remote_write_2(client, &numbers).in_snappy())
        }
    }
}

/// The samples of each series: (series, samples). Both versions of remote write have the same message for a sample.
fn by_series(client: u64, numbers: &Range<u64>) -> impl Iterator<Item = (u64, Message)> {
    (0..SERIES).filter_map(move |series| {
        let of_series = numbers.clone().filter(|number| number % SERIES == series);
        let samples = of_series.fold(Message::default(), |samples, number| {
            let sample = Message::default().double(1, bits(client, number)).integer(2, EPOCH_MS + number);
            samples.message(2, &sample)
        });
        (!samples.0.is_empty()).then_some((series, samples))
    })
}

fn remote_write_1(client: u64, numbers: &Range<u64>) -> Message {
    let label = |name: &str, value: &str| Message::default().text(1, name).text(2, value);
    by_series(client, numbers).fold(Message::default(), |request, (series, samples)| {
        let labels = [("__name__", "n"), ("client", &client.to_string()), ("series", &series.to_string())];
        let labels =
            labels.iter().fold(Message::default(), |labels, (name, value)| labels.message(1, &label(name, value)));
        request.message(1, &labels.and(&samples))
    })
}

fn remote_write_2(client: u64, numbers: &Range<u64>) -> Message {
    let symbols = ["", "__name__", "n", "client", &client.to_string(), "series"]
        .iter()
        .fold(Message::default(), |symbols, symbol| symbols.text(4, symbol));
    let known = 6;
    let symbols = (0..SERIES).fold(symbols, |symbols, series| symbols.text(4, &series.to_string()));
    by_series(client, numbers).fold(symbols, |request, (series, samples)| {
        let references = Message([1, 2, 3, 4, 5, known + series as u8].to_vec());
        request.message(5, &Message::default().message(1, &references).and(&samples))
    })
}

/// A protobuf message as its bytes. Written here because prost leaves out a double that equals zero: -0.0 does.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn integer(self, field: u64, value: u64) -> Self {
        self.varint(field << 3).varint(value)
    }

    fn double(self, field: u64, bits: u64) -> Self {
        let mut message = self.varint(field << 3 | 1);
        message.0.extend(bits.to_le_bytes());
        message
    }

    fn text(self, field: u64, text: &str) -> Self {
        self.message(field, &Self(text.as_bytes().to_vec()))
    }

    fn message(self, field: u64, inner: &Self) -> Self {
        self.varint(field << 3 | 2).varint(inner.0.len() as u64).and(inner)
    }

    fn and(mut self, more: &Self) -> Self {
        self.0.extend(&more.0);
        self
    }

    fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn in_snappy(&self) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(&self.0).expect("small")
    }
}
