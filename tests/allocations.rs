//! Nothing per sample allocates: decoding known series and encoding rendered ones asks for memory only as buffers double.
//! And what the series table says that it occupies is what it asked for.

#![allow(clippy::unwrap_used)] // a test may panic
#![expect(unsafe_code, reason = "a global allocator is unsafe by its declaration; this one only counts")]

#[path = "support"]
#[expect(dead_code, reason = "benches use the rest")]
mod support {
    pub(crate) mod stages;
}

use sluicegate::model::{Format, SeriesTable};
use sluicegate::wire::Body;
use sluicegate::wire::compression::{Encoding, decompress, gzip, snappy};
use sluicegate::wire::influx_line;
use sluicegate::wire::influx_line::schema::{Schema, Style};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write;
use std::sync::Arc;
use support::stages::{self, decoded, encoder, encoder_of};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// What an allocation occupies, in units of two words with one word before it, as glibc has it.
fn hold(size: usize, sign: i64) {
    HELD.with(|held| held.set(held.get() + sign * ((size + 8).next_multiple_of(16).max(32) as i64)));
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        hold(layout.size(), 1);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(layout.size(), -1);
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        hold(layout.size(), -1);
        hold(size, 1);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const SAMPLES: usize = 4096;
/// What a request may ask for as a whole: its buffers double some ten times each.
const REQUEST_ALLOCATIONS_MAX: u64 = 64;

/// Allocations of this thread while `work` runs.
fn counted<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = ALLOCATIONS.with(Cell::get);
    let result = work();
    (result, ALLOCATIONS.with(Cell::get) - before)
}

fn repeated(line: impl Fn(&mut String, usize)) -> Vec<u8> {
    let mut body = String::new();
    (0..SAMPLES).for_each(|number| line(&mut body, number));
    body.into_bytes()
}

fn plain(bodies: &[Body]) -> Vec<u8> {
    bodies.iter().flat_map(|body| body.part(0, body.cuts.len()).into_owned()).collect()
}

/// A body of short lines. Those of `stages` have ten labels and timestamps.
fn body(table: &Arc<SeriesTable>, format: Format) -> Vec<u8> {
    let exposition = |body: &mut String, number: usize| {
        writeln!(body, "http_total{{instance=\"10.0.0.{number}\",code=\"200\",path=\"/a b\"}} {number}.25").unwrap();
    };
    match format {
        Format::PrometheusText => {
            [&b"# TYPE http_total counter\n# HELP http_total Requests.\n"[..], &repeated(exposition)].concat()
        }
        Format::OpenMetrics => [&b"# TYPE http counter\n"[..], &repeated(exposition), b"# EOF\n"].concat(),
        Format::InfluxLine => repeated(|body, number| {
            let separator = if number % 2 == 0 { "," } else { "\n" };
            let head = if number % 2 == 0 { format!("cpu,host=web{number},zone=a ") } else { String::new() };
            let time = if number % 2 == 0 { "" } else { " 1700000000000000000" };
            write!(body, "{head}field_{}={number}.5{time}{separator}", number % 2).unwrap();
        }),
        Format::Wavefront => repeated(|body, number| {
            writeln!(body, "\"http.total\" {number}.5 1700000000 source=\"web{number}\" \"zone\"=\"a\"").unwrap();
        }),
        Format::RemoteWrite | Format::RemoteWrite2 => {
            let text = decoded(table, Format::PrometheusText, &body(table, Format::PrometheusText));
            plain(&encoder(table, &text, format)())
        }
    }
}

#[test]
fn decoding_known_series_allocates_nothing_per_sample() {
    for format in Format::ALL {
        let table = Arc::new(SeriesTable::default());
        for body in [body(&table, format), stages::body(format, SAMPLES)] {
            let first = decoded(&table, format, &body);
            // The second time an order of series is learnt.
            decoded(&table, format, &body);
            let (again, allocations) = counted(|| decoded(&table, format, &body));
            assert_eq!((first.samples.len(), again.samples.len()), (SAMPLES, SAMPLES));
            assert!(first.samples.iter().zip(&again.samples).all(|(first, again)| first.series == again.series));
            println!("decode/{}: {allocations} allocations for {SAMPLES} samples", format.as_str());
            assert!(allocations <= REQUEST_ALLOCATIONS_MAX, "{}: {allocations}", format.as_str());
        }
    }
}

#[test]
fn decompressing_into_a_used_buffer_allocates_nothing_per_sample() {
    let plain = stages::body(Format::PrometheusText, SAMPLES);
    let zlib = || {
        use std::io::Write as _;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&plain).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for (encoding, body) in [
        (Encoding::Gzip, gzip(&plain)),
        (Encoding::Deflate, zlib()),
        (Encoding::Zstd, zstd),
        (Encoding::Snappy, snappy(&plain)),
    ] {
        let mut out = Vec::new();
        decompress(encoding, &body, plain.len(), &mut out).unwrap();
        let ((), allocations) = counted(|| decompress(encoding, &body, plain.len(), &mut out).unwrap());
        assert!(out == plain, "{encoding:?}");
        println!("decompress/{encoding:?}: {allocations} allocations for {SAMPLES} samples");
        // A buffer that had to grow anew would take a dozen.
        assert!(allocations <= 4, "{encoding:?}: {allocations}");
    }
}

#[test]
fn encoding_known_series_allocates_nothing_per_sample() {
    for input in [Format::InfluxLine, Format::PrometheusText, Format::Wavefront] {
        let table = Arc::new(SeriesTable::default());
        let batch = stages::familiar(&table, input, &stages::body(input, SAMPLES));
        let family = |schema| {
            let style = Style { schema, ..Style::default() };
            let options = influx_line::encode::Options { style, ..influx_line::encode::Options::default() };
            encoder_of::<influx_line::encode::Encoder>(&table, &batch, options)
        };
        let streamed = [Format::InfluxLine, Format::Wavefront, Format::RemoteWrite, Format::RemoteWrite2];
        let usual = streamed.map(|format| (format.as_str(), encoder(&table, &batch, format)));
        let styled = [("influx_line, family", family(Schema::Family)), ("influx_line, single", family(Schema::Single))];
        for (output, mut encode) in usual.into_iter().chain(styled) {
            // The first time phrases are made.
            let [first, second] = [encode(), encode()].map(|bodies| plain(&bodies));
            let (again, allocations) = counted(&mut encode);
            assert!(first == second && first == plain(&again), "{output}");
            let input = input.as_str();
            println!("encode/{output} from {input}: {allocations} allocations for {SAMPLES} samples");
            assert!(allocations <= REQUEST_ALLOCATIONS_MAX, "{output} from {input}: {allocations}");
        }
    }
}

#[test]
fn rows_with_strings_that_are_known_allocate_nothing_per_sample() {
    use sluicegate::output::strings::carried;
    use sluicegate::wire::prometheus_names::{Strings, Style};
    let table = Arc::new(SeriesTable::default());
    let body = repeated(|body, number| match number % 4 {
        0 => write!(body, "cpu,host=web{number} a={number}.5").unwrap(),
        3 => writeln!(body, ",t=\"up\" 1700000000000000000").unwrap(),
        field => write!(body, ",s{field}=\"state {}\"", number % 7).unwrap(),
    });
    let batch = decoded(&table, Format::InfluxLine, &body);
    for strings in [Strings::Label, Strings::Info] {
        let style = Style { strings, ..Style::default() };
        let first = carried(&batch, &table, &style).into_owned();
        let (again, allocations) = counted(|| carried(&batch, &table, &style));
        assert!(first.iter().zip(again.iter()).all(|(first, again)| first.series == again.series));
        println!("{strings:?}: {allocations} allocations for {SAMPLES} samples");
        assert!(allocations <= 4, "{strings:?}: {allocations}");
    }
}

#[test]
fn the_series_table_occupies_about_what_it_says() {
    let occupied = |name: fn(usize) -> String, instance: fn(usize) -> String| {
        let table = SeriesTable::default();
        let (before, said) = (HELD.with(Cell::get), table.bytes());
        for number in 0..50_000 {
            let line = format!("{}{{job=\"api\",instance=\"{}\"}} 1\n", name(number), instance(number));
            decoded(&table, Format::PrometheusText, line.as_bytes());
        }
        assert_eq!(table.len(), 50_000);
        (table.bytes() - said) as f64 / (HELD.with(Cell::get) - before) as f64
    };
    let shapes = [
        ("all is shared", occupied(|n| format!("metric_{}", n % 500), |n| format!("host-{}", n / 500))),
        ("names are shared", occupied(|n| format!("metric_{}", n % 5), |n| format!("host-{n}"))),
        ("labels are shared", occupied(|n| format!("metric_{n}"), |n| format!("host-{}", n % 5))),
        ("nothing is shared", occupied(|n| format!("metric_{n}"), |n| format!("host-{n}"))),
    ];
    println!("{shapes:?}");
    assert!(shapes.iter().all(|(_, ratio)| (0.75..1.3).contains(ratio)), "{shapes:?}");
}
